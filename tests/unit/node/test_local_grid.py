"""A local grid before it starts: how many nodes, which shares, whose directory."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import BadArgumentValueError, ConfigError
from ampgrid.node.config import EncodingParameters
from ampgrid.node.creation import create_introducer
from ampgrid.node.local_grid import LocalGrid, fitting_shares


class LocalGridTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)

    def grid(self, count: int | None = None, shares: str | None = None) -> LocalGrid:
        encoding = EncodingParameters.parse(shares) if shares else None
        return LocalGrid(Clock(), self.root / "g", count, encoding, self.fail)

    def kept(self, count: int, shares: str) -> None:
        create_introducer(self.root / "g" / "introducer", shares=EncodingParameters.parse(shares))
        for number in range(1, count + 1):
            (self.root / "g" / f"node{number}").mkdir()

    def test_a_new_one(self) -> None:
        grid = self.grid()
        self.assertEqual((grid.count, str(grid.shares)), (5, "3/5/5"))
        self.assertEqual([node.path.name for node in grid.nodes][-1], "node5")
        self.assertFalse((self.root / "g").exists())

    def test_shares_fit_any_count(self) -> None:
        for count in range(1, 300):
            shares = fitting_shares(count)
            self.assertEqual(EncodingParameters.parse(str(shares)), shares)
            self.assertLessEqual(shares.happy, count)

    def test_happiness_that_the_nodes_can_never_give(self) -> None:
        for count, shares in [(2, "2/3/3"), (None, "3/7/10")]:
            error = self.assertRaises(BadArgumentValueError, self.grid, count, shares)
            self.assertIn("storage nodes", str(error))
        self.assertEqual(str(self.grid(3, "2/3/10").shares), "2/3/10")

    def test_what_is_there_is_kept(self) -> None:
        self.kept(4, "2/3/4")
        grid = self.grid()
        self.assertEqual((grid.count, str(grid.shares)), (4, "2/3/4"))
        self.assertEqual(self.grid(6).count, 6)
        self.assertIn("4 storage nodes", str(self.assertRaises(ConfigError, self.grid, 3)))
        error = self.assertRaises(ConfigError, self.grid, 4, "1/1/1")
        self.assertIn("2/3/4", str(error))

    def test_a_directory_of_something_else(self) -> None:
        (self.root / "g").mkdir()
        (self.root / "g" / "thesis.tex").write_text("")
        self.assertIn("not empty", str(self.assertRaises(ConfigError, self.grid)))
        shutil.rmtree(self.root / "g")
        (self.root / "g").write_text("")
        self.assertIn("no directory", str(self.assertRaises(ConfigError, self.grid)))
