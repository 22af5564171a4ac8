"""The rot campaign, with few files."""

from twisted.trial.unittest import SynchronousTestCase

from tests.campaigns import damage


class DamageTests(SynchronousTestCase):
    """What rots is found and made again, and nothing else is touched."""

    def test_a_few_files(self):
        told = []
        self.assertEqual(0, damage.run(20, 7, told.append), told)
        self.assertIn("one cycle of the scrub found 2", told)
