"""The zoo of liars, with few seeds."""

from twisted.trial.unittest import SynchronousTestCase

from tests.campaigns import zoo


class ZooTests(SynchronousTestCase):
    """No liar gets anything past a client."""

    def test_a_few_seeds(self):
        told = []
        violations = zoo.run(10, 1, told.append)
        self.assertEqual(0, violations, [line for line in told if "VIOLATION" in line])
        self.assertGreaterEqual(len(zoo.catalogue()), 30)
