"""The campaigns on replicated tables, with few seeds."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.testing.liars import ZOO
from tests.campaigns import directory_writers, replica_zoo


class LiarTests(SynchronousTestCase):
    def test_every_liar_is_survived_and_named(self) -> None:
        self.assertGreaterEqual(len(ZOO), 12)
        for liar in ZOO:
            self.assertEqual(replica_zoo.run(liar, 11), [], liar)


class WriterTests(SynchronousTestCase):
    def test_no_acknowledged_change_is_lost(self) -> None:
        for seed in range(101, 107):
            wrong, _told = directory_writers.run(seed, names=3)
            self.assertEqual(wrong, [], f"seed {seed}")
