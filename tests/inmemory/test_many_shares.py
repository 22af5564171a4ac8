"""More shares of one file on one server than one request may name."""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.testing.grid import MemoryGrid


class ManySharesTests(SynchronousTestCase):
    def test_all_shares_on_one_server_and_put_again(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        grid = MemoryGrid(Path(folder.name), nodes=1, shares=(1, 1, 256))
        grid.start()
        self.addCleanup(grid.stop)
        for data in (b"small" * 1000, b"large" * 60_000):
            for _ in range(2):
                result = grid.put(data)
                self.assertEqual((result.shares_placed, result.servers_happy), (256, 1))
                self.assertEqual(result.problems, ())
            self.assertEqual(grid.download(result.cap.to_string()), data)
