"""What a writer does with what it hears; the model in tests/model tries every order of it."""

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.register import acceptor, writer
from ampgrid.register.acceptor import AcceptorState
from ampgrid.register.words import (
    MOST_OPERATIONS,
    Accepted,
    Forked,
    Promised,
    Refused,
    SendAccept,
    SendPrepare,
    TooFew,
    Unreachable,
    Withheld,
)
from ampgrid.register.writer import (
    Again,
    Completed,
    Declined,
    Done,
    NeedChange,
    NeedSame,
    Proposed,
    Settled,
    Uncertain,
)
from tests.model.abstract import Records

SET = (0, 1, 2, 3)
ALL = frozenset(SET)


class Case(SynchronousTestCase):
    def setUp(self):
        self.records = Records()

    def record(self, ballot, *content, epoch=0, replicas=SET, previous=(), following=None):
        return self.records.record(ballot, content, epoch, replicas, previous, following=following)

    def hear(self, state, *events):
        """Take several events; returns the state and all that came out."""
        outputs = []
        for event in events:
            state, more = writer.step(state, event)
            outputs += more
        return state, outputs

    def begun(self, *operations, ballot=5, held=(), **more):
        """Begin, and hear a promise of a quorum that shows the ``held`` records."""
        state, outputs = writer.begin(ballot, SET, operations, **more)
        self.assertEqual(outputs, (SendPrepare(ballot, ALL),))
        return self.hear(state, *(Promised(i, record) for i, record in enumerate(held)))


class LoneWriterTests(Case):
    """Two round trips for the first change, one for each that follows."""

    def test_round_trips(self):
        kept = dict.fromkeys(SET, AcceptorState(0, None, self.record(0)))
        after, trips = None, []
        for number in range(1, 6):
            state, outputs = writer.begin(2 * number, SET, [number], after=after)
            count = 0
            todo = list(outputs)
            while todo:
                output = todo.pop(0)
                events = []
                if isinstance(output, SendPrepare):
                    count += 1
                    asked = self.records.prepare(output.ballot)
                    for i in output.to:
                        kept[i], answer = acceptor.prepare(kept[i], asked)
                        events.append(Promised(i, answer.accepted))
                elif isinstance(output, SendAccept):
                    count += 1
                    for i in output.to:
                        kept[i], answer = acceptor.accept(kept[i], output.record, i)
                        self.assertEqual(answer, acceptor.RecordAccepted())
                        events.append(Accepted(i))
                elif isinstance(output, NeedChange):
                    content, following = (*output.base.content, number), output.ballot + 2
                    record = self.record(output.ballot, *content, following=following)
                    events.append(Proposed(record))
                else:
                    self.assertIsInstance(output, Done)
                state, more = self.hear(state, *events)
                todo += more
            after = state
            self.assertTrue(state.committed)
            trips.append(count)
        self.assertEqual(trips, [2, 1, 1, 1, 1])
        self.assertEqual({record.accepted.content for record in kept.values()}, {(1, 2, 3, 4, 5)})


class PreparingTests(Case):
    def test_the_base_is_the_highest(self):
        low, high = self.record(1, "a"), self.record(2, "a", "b")
        _, outputs = self.begun("c", held=[low, high, low])
        self.assertEqual(outputs, [NeedChange(high, 5, frozenset())])

    def test_nothing_is_chosen_below_a_quorum(self):
        state, outputs = self.begun("c", held=[self.record(1)] * 2)
        self.assertEqual(outputs, [])
        state, outputs = self.hear(
            state, Promised(1, self.record(1)), Promised(("stranger", 2), self.record(1))
        )
        self.assertEqual(outputs, [])

    def test_a_promise_that_shows_a_higher_record_is_none(self):
        state, outputs = self.begun("c", held=[self.record(1), self.record(1)])
        state, outputs = self.hear(state, Promised(2, self.record(9, "x")))
        self.assertEqual((outputs, state.above), ([], 9))
        _, outputs = self.hear(state, Promised(3, self.record(1)))
        self.assertEqual(outputs, [NeedChange(self.record(1), 5, frozenset())])

    def test_a_promise_that_shows_a_higher_following_ballot_is_none(self):
        state, _ = self.begun("c", held=[self.record(1), self.record(1)])
        state, outputs = self.hear(state, Promised(2, self.record(3, "x", following=9)))
        self.assertEqual((outputs, state.above), ([], 9))

    def test_a_promise_of_the_following_ballot_that_is_shown_counts(self):
        held = self.record(1, following=5)
        _, outputs = self.begun("c", held=[held] * 3)
        self.assertEqual(outputs, [NeedChange(held, 5, frozenset())])

    def test_refused_by_too_many(self):
        state, outputs = self.begun("c")
        _, outputs = self.hear(state, Refused(0, 7), Refused(1, None, self.record(8)))
        self.assertEqual(outputs, [Again(8)])

    def test_the_following_ballot_of_what_stands_in_the_way_is_gone_above(self):
        state, outputs = self.begun("c")
        shown = self.record(8, following=12)
        _, outputs = self.hear(state, Refused(0, 7), Refused(1, None, shown))
        self.assertEqual(outputs, [Again(12)])

    def test_too_few(self):
        state, outputs = self.begun("c", held=[self.record(1)])
        state, outputs = self.hear(state, Unreachable(2), Unreachable(3))
        # The last one may know of a later set.
        self.assertEqual(outputs, [])
        _, outputs = self.hear(state, Promised(1, None))
        self.assertEqual(outputs, [TooFew(2, 4)])

    def test_nobody_holds_anything(self):
        state, outputs = self.begun("c", held=[None, None, None])
        self.assertEqual(outputs, [])
        _, outputs = self.hear(state, Promised(3, None))
        self.assertEqual(outputs, [TooFew(4, 4)])

    def test_withheld_nodes_leave_the_replica_out(self):
        low, high = self.record(1, "a"), self.record(2, "a", "b")
        state, outputs = self.begun("c", held=[low, high, low])
        state, outputs = self.hear(state, Withheld(1))
        self.assertEqual(outputs, [])
        _, outputs = self.hear(state, Promised(3, low))
        self.assertEqual(outputs, [NeedChange(low, 5, frozenset())])

    def test_one_ballot_for_two_records(self):
        _, outputs = self.begun("c", held=[self.record(1, "a"), self.record(1, "b")])
        self.assertEqual(outputs, [Forked(self.record(1, "a"), self.record(1, "b"))])

    def test_replicas_of_a_later_set_are_asked_too(self):
        state, outputs = self.begun("c", held=[self.record(1)])
        later = self.record(4, "moved", "a", epoch=1, replicas=(0, 1, 2, 7))
        state, outputs = self.hear(state, Promised(1, later))
        self.assertEqual(outputs, [SendPrepare(5, frozenset({7}))])
        _, outputs = self.hear(state, Promised(3, self.record(1)), Promised(7, later))
        self.assertEqual(outputs, [NeedChange(later, 5, frozenset())])


class ChoosingTests(Case):
    def test_a_condition_that_fails_on_a_committed_base_is_settled(self):
        state, _ = self.begun("c", held=[self.record(1)] * 3)
        _, outputs = self.hear(state, Declined())
        self.assertEqual(outputs, [Settled(self.record(1), already=False)])

    def test_a_condition_that_fails_on_an_uncommitted_base_is_not(self):
        base = self.record(2, "a")
        state, _ = self.begun("c", held=[self.record(1), base, base])
        state, outputs = self.hear(state, Declined())
        self.assertEqual(outputs, [NeedSame(base, 5)])
        same = self.record(5, "a")
        state, outputs = self.hear(state, Proposed(same), *(Accepted(i) for i in range(3)))
        self.assertEqual(outputs, [SendAccept(same, ALL), Settled(same, already=False)])

    def test_nor_is_it_after_an_attempt_that_may_yet_be_completed(self):
        state, _ = self.begun("c", held=[self.record(1)] * 3, tried=True)
        _, outputs = self.hear(state, Declined())
        self.assertEqual(outputs, [NeedSame(self.record(1), 5)])

    def test_an_operation_that_is_there_is_not_made_again(self):
        base = self.record(1, "c", "d")
        _, outputs = self.begun("c", held=[base] * 3)
        self.assertEqual(outputs, [Settled(base, already=True)])
        _, outputs = self.begun("c", held=[base, base, self.record(0)])
        self.assertEqual(outputs, [NeedSame(base, 5)])

    def test_of_several_operations_those_that_are_there_are_named(self):
        base = self.record(1, "c", "d")
        _, outputs = self.begun("c", "e", held=[base] * 3)
        self.assertEqual(outputs, [NeedChange(base, 5, frozenset("c"))])

    def test_what_was_forgotten_is_uncertain(self):
        full = self.record(1, *range(MOST_OPERATIONS))
        _, outputs = self.begun("c", held=[full] * 3, tried=True, marker="long ago")
        self.assertEqual(outputs, [Uncertain(full)])
        for marker, tried in ((0, True), ("long ago", False)):
            _, outputs = self.begun("c", held=[full] * 3, tried=tried, marker=marker)
            self.assertEqual(outputs, [NeedChange(full, 5, frozenset())])

    def test_the_marker_is_the_last_operation_of_the_first_base(self):
        state, _ = self.begun("c", held=[self.record(1, "a", "b")] * 3)
        self.assertEqual(state.marker, "b")
        state, _ = self.hear(
            state,
            Proposed(self.record(5, "a", "b", "c")),
            *(Refused(i, 9) for i in range(2)),
        )
        state, _ = writer.again(state, 10)
        state, _ = self.hear(state, *(Promised(i, self.record(8, "a", "b", "x")) for i in SET))
        self.assertEqual((state.marker, state.tried), ("b", True))

    def test_a_change_of_the_set_under_way_is_completed_first(self):
        move = self.record(4, "moved", epoch=1, replicas=(0, 1, 2, 7), previous=SET)
        state, _ = self.begun("c", held=[move])
        state, outputs = self.hear(state, *(Promised(i, self.record(1)) for i in (1, 2)))
        self.assertEqual(outputs, [NeedSame(move, 5)])
        same = self.record(5, "moved", epoch=1, replicas=(0, 1, 2, 7), previous=SET, following=6)
        state, outputs = self.hear(state, Proposed(same), Accepted(0), Accepted(7))
        self.assertEqual(outputs, [SendAccept(same, ALL | {7})])
        state, outputs = self.hear(state, Accepted(3), Accepted(1))
        self.assertEqual(outputs, [Completed(same)])
        state, outputs = writer.again(state, 6)
        self.assertEqual(outputs, (NeedChange(same, 6, frozenset()),))

    def test_proposals_are_checked(self):
        base = self.record(1, "a")
        state, _ = self.begun("c", held=[base] * 3)
        for wrong in (
            self.record(6, "a", "c"),
            self.record(5, "c"),
            self.record(5, "b", "c"),
            self.record(5, "a", "x"),
            self.record(5, "a", "c", epoch=1),
            self.record(5, "a", "c", replicas=(0, 1, 2, 7)),
            self.record(5, "a", "c", epoch=1, replicas=(0, 1, 7, 8), previous=SET),
        ):
            self.assertRaises(ValueError, writer.step, state, Proposed(wrong))
        for following in (4, 5):
            record = self.record(5, "a", "c", following=following)
            self.assertRaises(ValueError, writer.step, state, Proposed(record))
        self.assertRaises(ValueError, writer.step, writer.begin(5, SET)[0], Declined())


class ProposingTests(Case):
    def proposing(self):
        state, _ = self.begun("c", held=[self.record(1)] * 3)
        state, _ = self.hear(state, Proposed(self.proposal()))
        return state

    def proposal(self):
        return self.record(5, "c", following=6)

    def test_done_with_a_quorum(self):
        state, outputs = self.hear(self.proposing(), Accepted(0), Accepted(1), Accepted(1))
        self.assertEqual(outputs, [])
        state, outputs = self.hear(state, Accepted(2))
        self.assertEqual(outputs, [Done(self.proposal())])

    def test_under_another_ballot_than_the_following_the_next_change_is_prepared(self):
        state, _ = self.hear(self.proposing(), Accepted(0), Accepted(1))
        _, outputs = writer.begin(6, SET, "d", after=state)
        self.assertEqual(outputs, (SendPrepare(6, ALL),))
        state, _ = self.hear(state, Accepted(3))
        _, outputs = writer.begin(6, SET, "d", after=state)
        self.assertEqual(outputs, (NeedChange(self.proposal(), 6, frozenset()),))
        _, outputs = writer.begin(7, SET, "d", after=state)
        self.assertEqual(outputs, (SendPrepare(7, ALL),))

    def test_refused(self):
        state, outputs = self.hear(self.proposing(), Refused(0, 8), Unreachable(1))
        self.assertEqual(outputs, [Again(8)])
        state, outputs = writer.again(state, 9)
        self.assertEqual(outputs, (SendPrepare(9, ALL),))
        self.assertTrue(state.tried)

    def test_silence_leaves_it_uncertain(self):
        _, outputs = self.hear(self.proposing(), Unreachable(0), Unreachable(1))
        self.assertEqual(outputs, [TooFew(2, 4, uncertain=True)])

    def test_conflict_is_a_fork(self):
        other = self.record(5, "other")
        _, outputs = self.hear(self.proposing(), Refused(0, None, other))
        self.assertEqual(outputs, [Forked(self.proposal(), other)])


class CreationTests(Case):
    def test_needs_no_promise(self):
        state, outputs = writer.create(0, SET)
        self.assertEqual(outputs, (NeedChange(None, 0, frozenset()),))
        first = self.record(0, following=2)
        state, outputs = self.hear(state, Proposed(first), *(Accepted(i) for i in SET))
        self.assertEqual(outputs, [SendAccept(first, ALL), Done(first)])
        _, outputs = writer.begin(2, SET, "a", after=state)
        self.assertEqual(outputs, (NeedChange(first, 2, frozenset()),))
