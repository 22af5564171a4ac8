"""Renewal against expiry, with few seeds."""

from twisted.trial.unittest import SynchronousTestCase

from tests.campaigns import leases


class LeasesTests(SynchronousTestCase):
    """No live lease is lost, and what was dropped is freed."""

    def test_a_few_schedules(self):
        told = []
        failed, counts = leases.run(40, 7, told.append)
        self.assertEqual(failed, 0, told)
        for what in ("races", "jumps of the clock", "files expired", "renewals too late"):
            self.assertGreater(counts[what], 10, what)
