"""The shares of a Tahoe-LAFS grid, in five real nodes, give the files back by their caps."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.base32 import b2a
from tests.integration.processes import Grid, Outcome, again, ampgrid
from tests.vectors import tahoe

SERVERS = sorted((tahoe.DATA / "tahoe-shares").glob("server*"))


class TahoeSharesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.files = tahoe.stored_files()

    def start(self, *words: object) -> Grid:
        grid = Grid(self.root / "grid", *words)
        self.addCleanup(grid.end)
        return grid

    def node(self, number: int) -> Path:
        return self.root / "grid" / f"node{number + 1}"

    def take(self, number: int, *words: object) -> Outcome:
        return ampgrid("-d", self.node(number), "import-tahoe", SERVERS[number], *words)

    def assert_took(self, number: int, taken: int, here: int) -> None:
        outcome = self.take(number, "--json")
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        report = outcome.json()
        self.assertEqual((report["taken"], report["here_already"]), (taken, here))
        self.assertEqual((report["leases"], report["problems"]), (2, []))

    def assert_given_out(self, number: int) -> None:
        """Every share of the node comes out as the container has it."""
        for file in self.files:
            (path,) = SERVERS[number].glob(f"shares/??/{b2a(file['storage_index'])}/*")
            out = self.root / "share"
            words = ["export-share", path.parent.name, path.name, out]
            outcome = ampgrid("-d", self.node(number), *words)
            self.assertEqual((outcome.status, outcome.out, outcome.err), (0, b"", ""))
            self.assertTrue(out.read_bytes() == file["shares"][int(path.name)])

    def test_taken_while_running_and_while_stopped_and_got_by_cap(self) -> None:
        grid = self.start("--nodes", 5, "--shares", "3/5/5")
        for number in (0, 1):
            self.assert_took(number, 2, 0)
        self.assertEqual(self.take(0).text.splitlines()[0][:14], "Took 0 shares ")
        self.assert_given_out(1)
        outcome = grid.client("get", self.files[1]["cap"])
        self.assertEqual(outcome.status, 5, outcome.err)
        refused = ampgrid("-d", self.node(0), "export-share", "a" * 26, 0, self.root / "x")
        self.assertEqual(refused.status, 5, refused.err)
        missing = ampgrid("-d", self.node(0), "import-tahoe", self.root / "none")
        self.assertEqual(missing.status, 8, missing.err)
        self.assertEqual(grid.end().status, 0)

        for number in (2, 3, 4):
            self.assert_took(number, 2, 0)
        self.assert_took(2, 0, 2)
        self.assert_given_out(3)
        refused = ampgrid("-d", self.node(2), "export-share", "a" * 26, 0, self.root / "x")
        self.assertEqual(refused.status, 5, refused.err)
        self.assertFalse((self.root / "x").exists())

        grid = again(grid)
        self.addCleanup(grid.end)
        for file in self.files:
            out = self.root / "out"
            outcome = grid.client("get", file["cap"], out)
            self.assertEqual((outcome.status, outcome.err), (0, ""))
            self.assertTrue(out.read_bytes() == file["plaintext"])

    def test_a_node_without_a_store(self) -> None:
        ampgrid("create-node", self.root / "n", "--no-storage")
        outcome = ampgrid("-d", self.root / "n", "import-tahoe", SERVERS[0])
        self.assertEqual(outcome.status, 2)
        dry = ampgrid("-d", self.root / "n", "import-tahoe", SERVERS[0], "--dry-run", "--json")
        self.assertEqual((dry.json()["dry_run"], dry.json()["taken"]), (True, 2))
