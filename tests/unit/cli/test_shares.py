"""``import-tahoe`` and ``export-share`` on a node that does not run."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from ampgrid.cli import shares
from ampgrid.crypto.base32 import b2a
from ampgrid.node.directory import NodeDirectory
from ampgrid.store import LEASE_SECONDS
from ampgrid.store.shares import ShareStore
from tests.unit.cli.command_line import CommandLineCase, run
from tests.unit.storage.test_tahoe_import import INDEX, SMALL, contained, share

NOW = 1_800_000_000
YEAR = 365 * 86_400


class OfflineTests(CommandLineCase):
    def setUp(self) -> None:
        super().setUp()
        self.done("create-node", self.root / "n")
        self.node = NodeDirectory.at(self.root / "n")
        self.tahoe = self.root / "tahoe"
        self.put(0, contained(SMALL, []))
        self.now = float(NOW)
        self.patch(shares.time, "time", lambda: self.now)

    def put(self, number: int, container: bytes) -> Path:
        path = self.tahoe / "shares" / b2a(INDEX)[:2] / b2a(INDEX) / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(container)
        return path

    def words(self, *more: object) -> list[object]:
        return ["-d", self.node.path, "import-tahoe", self.tahoe, *more]

    def test_a_store_that_is_not_mounted_is_missed(self) -> None:
        """After an import alone, without the node ever having run."""
        self.done(*self.words())
        self.node.storage.rename(self.root / "unmounted")
        for make in (lambda: None, self.node.storage.mkdir):
            make()
            self.assertIn("the store is missing", self.refused(3, *self.words()))
            out = ["-d", self.node.path, "export-share", b2a(INDEX), 0, self.root / "out"]
            self.assertIn("the store is missing", self.refused(3, *out))
        self.assertEqual(list(self.node.storage.iterdir()), [])
        self.node.storage.rmdir()
        (self.root / "unmounted").rename(self.node.storage)
        self.done(*self.words())
        self.done("-d", self.node.path, "export-share", b2a(INDEX), 0, self.root / "out")
        self.assertEqual((self.root / "out").read_bytes(), SMALL)

    def test_a_clock_that_is_behind_shortens_no_lease(self) -> None:
        """The store's time is what the leases run by, not this machine's at the moment."""
        self.node.make_rooms()
        ShareStore.open(self.node.storage, wall=lambda: NOW).close()
        self.now = NOW - 10.0 * YEAR
        self.done(*self.words())
        store = ShareStore.open(self.node.storage, wall=lambda: NOW)
        self.addCleanup(store.close)
        (end,) = store.database.read(
            lambda sql: sql.execute("SELECT max(expires_at) FROM leases").fetchone()
        )
        self.assertGreaterEqual(end, store.upkeep.beginning.now + LEASE_SECONDS)

    def test_what_was_not_taken_is_a_status(self) -> None:
        path = self.put(1, b"junk")
        for more in (["--dry-run"], []):
            outcome = run([str(word) for word in self.words("--json", *more)])
            self.assertEqual((outcome.status, outcome.json()["damaged"]), (10, 1))
        path.unlink()
        self.done(*self.words())
        self.put(0, contained(share(1000, salt=1), []))
        outcome = run([str(word) for word in self.words()])
        self.assertEqual(outcome.status, 10)
        self.assertIn("ampgrid scrub", outcome.err)
        shutil.rmtree(self.tahoe / "shares" / b2a(INDEX)[:2])
        self.done(*self.words())

    def test_a_dry_run_knows_what_is_here(self) -> None:
        dry = self.words("--dry-run")
        self.assertIn("Would take 1 share (", self.done(*dry).out)
        # Nothing was made for it.
        self.assertEqual(list(self.node.path.glob("storage/store.db*")), [])
        self.done(*self.words())
        told = self.done(*dry).out
        self.assertIn("Would take 0 shares (0 B)", told)
        self.assertIn("1 share was here already", told)

    def test_a_share_to_the_standard_output(self) -> None:
        self.done(*self.words())
        words = ["-d", self.node.path, "export-share", b2a(INDEX), 0]
        status = os.system(
            shlex.join([sys.executable, "-m", "ampgrid", *map(str, words), "-"])
            + f" > {self.root / 'out'}"
        )
        self.assertEqual(status, 0)
        self.assertEqual((self.root / "out").read_bytes(), SMALL)
        self.assertIn("not both", self.refused(2, *words, "-", "--json"))
        self.refused(5, "-d", self.node.path, "export-share", b2a(INDEX), 1, self.root / "x")
        self.assertFalse((self.root / "x").exists())
