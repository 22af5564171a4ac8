"""Bringing a register back, searched; and broken judgements, each of which is found out."""

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.register import recovery
from tests.model.recovery import RecoveryModel, Wrong


def deaf_to_changes(base, holders, latest, epoch, answers):
    """Send the record whatever is held by now."""
    told = {one: answer._replace(held=None) for one, answer in answers.items()}
    return recovery.judge(base, holders, latest, epoch, told)


def content_with_one(base, holders, latest, epoch, answers):
    """Be content with whoever promised, as if they were all."""
    judged = recovery.judge(base, holders, latest, epoch, answers)
    return recovery.Go(frozenset({0, 1, 2})) if isinstance(judged, recovery.Go) else judged


class RecoveryTests(SynchronousTestCase):
    def test_one_beside_a_writer(self):
        model = RecoveryModel(1)
        self.assertEqual(model.search(), 21_203)
        self.assertEqual(
            model.seen, {"Go", "GoAbove", "Changed", "NotNeeded", "healthy", "written"}
        )

    def test_two_at_once(self):
        for lagging, states in ((0, 31_250), (1, 49_552)):
            model = RecoveryModel(writes=False, lagging=lagging, tries=0)
            self.assertEqual(model.search(), states)
            self.assertLessEqual({"Go", "GoAbove"}, model.seen)

    def test_broken_judgements_are_found(self):
        for judge in (deaf_to_changes, content_with_one):
            self.assertRaises(Wrong, RecoveryModel(tries=0, judge=judge).search)
