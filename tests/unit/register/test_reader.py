"""What a reader does with what it hears; the model in tests/model tries every order of it."""

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.register import reader
from ampgrid.register.reader import Committed, Undecided, Widen
from ampgrid.register.words import (
    Answer,
    Forked,
    Refused,
    SendAccept,
    SendAsk,
    TooFew,
    Unreachable,
    Withheld,
)
from tests.model.abstract import Records

SET = (0, 1, 2, 3)


class ReaderTests(SynchronousTestCase):
    def setUp(self):
        self.records = Records()
        self.old, self.new = self.record(1, "a"), self.record(2, "a", "b")

    def record(self, ballot, *content, epoch=0, replicas=SET, previous=()):
        return self.records.record(ballot, content, epoch, replicas, previous)

    def read(self, *events, thorough=False):
        state, outputs = reader.begin(SET, thorough=thorough)
        self.assertEqual(outputs, (SendAsk(frozenset(SET)),))
        return self.hear(state, *events)

    def hear(self, state, *events):
        outputs = []
        for event in events:
            state, more = reader.step(state, event)
            outputs += more
        return state, outputs

    def test_what_a_quorum_holds(self):
        state, outputs = self.read(*(Answer(i, self.old) for i in range(3)))
        self.assertEqual(outputs, [Committed(self.old)])
        self.assertTrue(state.ended)

    def test_a_change_under_way_is_completed(self):
        state, outputs = self.read(Answer(0, self.old), Answer(1, self.new), Answer(2, None))
        self.assertEqual(outputs, [SendAccept(self.new, frozenset({0, 2, 3}))])
        _, outputs = self.hear(state, Answer(0, self.new), Answer(2, self.new))
        self.assertEqual(outputs, [Committed(self.new)])

    def test_what_a_quorum_holds_is_returned_though_more_is_under_way(self):
        state, outputs = self.read(Answer(0, self.new), Answer(1, self.old), Answer(2, self.old))
        _, outputs = self.hear(state, Answer(3, self.old))
        self.assertEqual(outputs, [Committed(self.old)])

    def test_a_refusal_that_shows_more_is_followed(self):
        state, _ = self.read(Answer(0, self.old), Answer(1, self.old), Answer(2, None))
        newer = self.record(3, "a", "b", "c")
        state, outputs = self.hear(state, Refused(2, None, newer))
        self.assertEqual(outputs, [SendAccept(newer, frozenset({0, 1, 3}))])

    def test_undecided(self):
        state, _ = self.read(Answer(0, self.old), Answer(1, self.old), Answer(2, self.new))
        _, outputs = self.hear(state, Refused(0, 7, self.old), Refused(1, 8, self.old))
        self.assertEqual(outputs, [Undecided(self.new, 8)])

    def test_too_few(self):
        state, outputs = self.read(Answer(0, self.old), Unreachable(1), Unreachable(2))
        self.assertEqual(outputs, [])
        _, outputs = self.hear(state, Answer(3, None))
        self.assertEqual(outputs, [TooFew(1, 4)])
        _, outputs = self.read(*(Answer(i, None) for i in SET))
        self.assertEqual(outputs, [TooFew(0, 4)])
        state, _ = self.read(Answer(0, self.old), Answer(1, self.new), Answer(2, None))
        _, outputs = self.hear(state, Unreachable(0), Unreachable(2))
        self.assertEqual(outputs, [TooFew(1, 4)])

    def test_who_answers_last_may_know_of_a_later_set(self):
        """Two of the set are gone, one shows what was, and one where the directory is now."""
        state, _ = self.read(Answer(0, self.old), Unreachable(1), Unreachable(2))
        moved = self.record(9, "a", "b", epoch=1, replicas=(3, 4, 5, 6))
        state, outputs = self.hear(state, Answer(3, moved))
        self.assertEqual(outputs[0], SendAsk(frozenset({4, 5, 6})))
        _, outputs = self.hear(state, Answer(4, moved), Answer(5, moved))
        self.assertEqual(outputs, [Committed(moved)])

    def test_who_withholds_is_left_out(self):
        state, _ = self.read(Answer(0, self.new), Answer(1, self.old), Answer(2, self.old))
        state, outputs = self.hear(state, Withheld(0))
        self.assertEqual(outputs, [])
        state, outputs = self.hear(state, Answer(3, None), Answer(0, self.new))
        self.assertEqual(outputs, [SendAccept(self.old, frozenset({3}))])

    def test_a_fork(self):
        _, outputs = self.read(Answer(0, self.old), Answer(1, self.record(1, "x")))
        self.assertEqual(outputs, [Forked(self.old, self.record(1, "x"))])

    def test_a_later_set_is_found_from_an_old_one(self):
        later = self.record(5, "moved", "c", epoch=1, replicas=(4, 5, 6, 0))
        state, outputs = self.read(Answer(0, later), Answer(1, self.old), Answer(2, self.old))
        self.assertEqual(outputs, [SendAsk(frozenset({4, 5, 6}))])
        _, outputs = self.hear(state, Answer(4, later), Answer(5, later))
        self.assertEqual(outputs, [Committed(later)])

    def test_a_move_needs_both_sets(self):
        move = self.record(5, "moved", epoch=1, replicas=(0, 1, 2, 7), previous=SET)
        state, outputs = self.read(Answer(0, move), Answer(7, move), Answer(1, move))
        state, outputs = self.hear(state, Answer(7, move))
        self.assertEqual(outputs, [])
        _, outputs = self.hear(state, Answer(3, move))
        self.assertEqual(outputs, [Committed(move)])

    def test_a_seeker_widens(self):
        state, _ = reader.begin([8])
        state, outputs = self.hear(state, Widen(frozenset({8, 0})), Answer(0, self.old))
        self.assertEqual(outputs, [SendAsk(frozenset({0})), SendAsk(frozenset({1, 2, 3}))])
        _, outputs = self.hear(state, Answer(1, self.old), Answer(2, self.old))
        self.assertEqual(outputs, [Committed(self.old)])

    def test_strangers_do_not_count(self):
        _, outputs = self.read(
            Answer(0, self.old), Answer(1, self.old), Answer(("stranger", 2), self.old)
        )
        self.assertEqual(outputs, [])

    def test_the_thorough_bring_all_up_to_date(self):
        state, outputs = self.read(*(Answer(i, self.new) for i in range(3)), thorough=True)
        self.assertEqual(outputs, [Committed(self.new)])
        self.assertFalse(state.ended)
        state, outputs = self.hear(state, Answer(3, self.old))
        self.assertEqual(outputs, [SendAccept(self.new, frozenset({3}))])
        state, outputs = self.hear(state, Answer(3, self.new))
        self.assertTrue(state.ended)

    def test_the_thorough_end_with_whom_they_cannot_help(self):
        for event in (Unreachable(3), Refused(3, 9), Withheld(3), Answer(3, self.record(9, "z"))):
            state, _ = self.read(*(Answer(i, self.new) for i in range(3)), thorough=True)
            state, _ = self.hear(state, event)
            self.assertTrue(state.ended, event)

    def test_what_comes_after_the_end_does_nothing(self):
        state, _ = self.read(*(Answer(i, self.old) for i in range(3)))
        self.assertEqual(reader.step(state, Answer(3, self.new)), (state, ()))
