"""The acceptor's rules one by one; the model in tests/model tries all of them together."""

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.register import acceptor
from ampgrid.register.acceptor import (
    AcceptorState,
    Conflict,
    NotMine,
    PromiseMade,
    RecordAccepted,
    RefusedBy,
)
from tests.model.abstract import Records

SET = (0, 1, 2, 3)


class Case(SynchronousTestCase):
    def setUp(self):
        records = Records()
        self.prepare = records.prepare
        self.record = lambda ballot, *content, following=None: records.record(
            ballot, content, 0, SET, following=following
        )
        self.moved = lambda ballot: records.record(ballot, ("moved",), 1, (0, 1, 2, 4), SET)


class PrepareTests(Case):
    def test_shows_what_it_holds(self):
        state = AcceptorState(3, None, self.record(3, "a"))
        after, answer = acceptor.prepare(state, self.prepare(4))
        self.assertEqual(answer, PromiseMade(self.record(3, "a")))
        self.assertEqual(after, AcceptorState(4, self.prepare(4), self.record(3, "a")))

    def test_says_the_same_again_until_it_accepts(self):
        state, answer = acceptor.prepare(AcceptorState(), self.prepare(4))
        self.assertEqual(acceptor.prepare(state, self.prepare(4)), (state, answer))
        state, _ = acceptor.accept(state, self.record(4, "a"), 0)
        after, answer = acceptor.prepare(state, self.prepare(4))
        self.assertEqual((after, answer), (state, RefusedBy(None, self.record(4, "a"))))

    def test_shows_the_prepare_that_stands_in_the_way(self):
        state, _ = acceptor.prepare(AcceptorState(), self.prepare(4))
        after, answer = acceptor.prepare(state, self.prepare(3))
        self.assertEqual((after, answer), (state, RefusedBy(self.prepare(4), None)))


class AcceptTests(Case):
    def test_only_at_or_above_its_promise(self):
        state, _ = acceptor.prepare(AcceptorState(), self.prepare(4))
        for ballot, accepted in ((3, False), (4, True), (5, True)):
            after, answer = acceptor.accept(state, self.record(ballot, "a"), 0)
            self.assertEqual(isinstance(answer, RecordAccepted), accepted)
            self.assertEqual(after.promised, max(ballot, 4))

    def test_the_same_again_even_below_a_later_promise(self):
        state, _ = acceptor.accept(AcceptorState(), self.record(3, "a"), 0)
        state, _ = acceptor.prepare(state, self.prepare(9))
        after, answer = acceptor.accept(state, self.record(3, "a"), 0)
        self.assertEqual((after, answer), (state, RecordAccepted()))

    def test_another_record_of_the_same_ballot_is_a_conflict(self):
        state, _ = acceptor.accept(AcceptorState(), self.record(3, "a"), 0)
        after, answer = acceptor.accept(state, self.record(3, "b"), 0)
        self.assertEqual((after, answer), (state, Conflict(self.record(3, "a"))))

    def test_a_stranger_votes_nothing(self):
        after, answer = acceptor.accept(AcceptorState(), self.record(3, "a"), 7)
        self.assertEqual((after, answer), (AcceptorState(), NotMine()))

    def test_a_change_of_the_set_is_for_both_sets(self):
        for me in (0, 3, 4):
            _, answer = acceptor.accept(AcceptorState(), self.moved(3), me)
            self.assertIsInstance(answer, RecordAccepted)

    def test_the_following_ballot_is_promised_with_the_record(self):
        record = self.record(3, "a", following=5)
        state, answer = acceptor.accept(AcceptorState(), record, 0)
        self.assertEqual((state, answer), (AcceptorState(5, None, record), RecordAccepted()))
        self.assertEqual(acceptor.accept(state, record, 0), (state, answer))
        self.assertEqual(acceptor.prepare(state, self.prepare(5)), (state, PromiseMade(record)))
        after, answer = acceptor.accept(state, self.record(5, "a", "b"), 0)
        self.assertEqual(after.promised, 5)

    def test_the_record_shows_that_its_following_ballot_stands_in_the_way(self):
        record = self.record(3, "a", following=5)
        state, _ = acceptor.accept(AcceptorState(), record, 0)
        refused = (state, RefusedBy(None, record))
        self.assertEqual(acceptor.accept(state, self.record(4, "b"), 0), refused)
        self.assertEqual(acceptor.prepare(state, self.prepare(4)), refused)

    def test_a_record_that_is_refused_promises_nothing(self):
        state, _ = acceptor.prepare(AcceptorState(), self.prepare(4))
        after, answer = acceptor.accept(state, self.record(3, "a", following=5), 0)
        self.assertEqual((after, answer), (state, RefusedBy(self.prepare(4), None)))

    def test_a_record_again_promises_nothing_anew(self):
        record = self.record(3, "a", following=5)
        state, _ = acceptor.accept(AcceptorState(), record, 0)
        state, _ = acceptor.prepare(state, self.prepare(9))
        self.assertEqual(acceptor.accept(state, record, 0), (state, RecordAccepted()))

    def test_of_two_first_records_the_one_with_the_higher_following_ballot_is_held(self):
        low, high = self.record(0, following=2), self.record(0, following=3)
        for first in (low, high):
            state, _ = acceptor.accept(AcceptorState(), first, 0)
            for record in (low, high):
                state, answer = acceptor.accept(state, record, 0)
                self.assertEqual(answer, RecordAccepted())
            self.assertEqual((state.promised, state.accepted), (3, high))


class ForgetTests(Case):
    def test_keeps_the_ballot_for_ever(self):
        state, _ = acceptor.accept(AcceptorState(), self.record(3, "a"), 0)
        state = acceptor.forget(state)
        self.assertEqual(state, AcceptorState(3, None, None, forgotten=True))
        for ballot in (2, 3):
            _, answer = acceptor.prepare(state, self.prepare(ballot))
            self.assertEqual(answer, RefusedBy(None, None))
        _, answer = acceptor.accept(state, self.record(2, "old"), 0)
        self.assertEqual(answer, RefusedBy(None, None))

    def test_votes_again_once_it_holds_a_record(self):
        state = acceptor.forget(AcceptorState(3, None, self.record(3, "a")))
        _, answer = acceptor.prepare(state, self.prepare(9))
        self.assertEqual(answer, RefusedBy(None, None))
        state, answer = acceptor.accept(state, self.record(3, "a"), 0)
        self.assertIsInstance(answer, RecordAccepted)
        _, answer = acceptor.prepare(state, self.prepare(9))
        self.assertEqual(answer, PromiseMade(self.record(3, "a")))

    def test_the_following_ballot_is_kept_too(self):
        state, _ = acceptor.accept(AcceptorState(), self.record(3, "a", following=5), 0)
        self.assertEqual(acceptor.forget(state).promised, 5)

    def test_a_promise_alone_is_kept_too(self):
        state = acceptor.forget(AcceptorState(5, self.prepare(5), self.record(3, "a")))
        self.assertEqual(state.promised, 5)
        self.assertEqual(acceptor.forget(AcceptorState()), AcceptorState())
