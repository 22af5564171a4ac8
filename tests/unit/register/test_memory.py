"""What a client remembers, the order of records, and quorums."""

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import ForkError, RolledBackError
from ampgrid.register.membership import check_follows, is_between_sets, replaced
from ampgrid.register.memory import remember
from ampgrid.register.words import is_quorum, quorum_of, sets_of
from tests.model.abstract import Rec, Records


class RememberTests(SynchronousTestCase):
    def setUp(self):
        records = Records()
        self.record = lambda ballot, *content, epoch=0: records.record(
            ballot, content, epoch, (0, 1, 2)
        )

    def test_the_highest_stays(self):
        low, high = self.record(1, "a"), self.record(2, "a", "b")
        self.assertIs(remember(None, None, low), low)
        self.assertIs(remember(low, low, high), high)
        self.assertIs(remember(low, low, low), low)

    def test_another_read_may_have_been_faster(self):
        low, high = self.record(1, "a"), self.record(2, "a", "b")
        self.assertIs(remember(low, high, low), high)
        self.assertIs(remember(None, high, low), high)

    def test_nothing_goes_back(self):
        low, high = self.record(1, "a"), self.record(2, "a", "b")
        self.assertRaises(RolledBackError, remember, high, high, low)

    def test_the_same_proposed_again_is_no_fork(self):
        again = self.record(3, "a")
        self.assertIs(remember(self.record(1, "a"), self.record(1, "a"), again), again)

    def test_forks(self):
        known = self.record(3, "a", "b")
        for other in (
            self.record(3, "a", "c"),
            self.record(4, "a", "c"),
            self.record(2, "a", "c"),
            self.record(4, "a", "c", "d"),
            self.record(2, "x"),
            self.record(5, "a"),
        ):
            self.assertRaises(ForkError, remember, known, known, other)
            self.assertRaises(ForkError, remember, None, known, other)

    def test_what_lies_further_apart_cannot_be_compared(self):
        known, other = self.record(3, "a"), self.record(4, "x", "y", "z")
        self.assertIs(remember(known, known, other), other)

    def test_a_recovered_directory_goes_on_from_an_older_version(self):
        known, other = self.record(3, "a", "b", "c"), self.record(9, "a", "x", epoch=1)
        self.assertIs(remember(known, known, other), other)
        first, second = self.record(8, "a", "y", epoch=1), other
        for recovered in (first, second):
            recovered.recovered = True
            self.assertIs(remember(first, first, second), second)
            recovered.recovered = False
        self.assertRaises(ForkError, remember, first, first, second)


class QuorumTests(SynchronousTestCase):
    def test_more_than_half(self):
        self.assertEqual([quorum_of(size) for size in range(1, 8)], [1, 2, 2, 3, 3, 4, 4])

    def test_any_two_quorums_of_four_share_two(self):
        self.assertTrue(is_quorum([(0, 1, 2, 3)], {0, 1, 3, "stranger"}))
        self.assertFalse(is_quorum([(0, 1, 2, 3)], {0, 1, "stranger"}))
        self.assertFalse(is_quorum([(0, 1, 2), (1, 2, 3)], {0, 1}))
        self.assertTrue(is_quorum([(0, 1, 2), (1, 2, 3)], {1, 2}))

    def test_a_recovered_record_does_without_the_set_before(self):
        record = Rec(0, 1, ("m",), 1, (0, 1), (0, 2))
        self.assertEqual(sets_of(record), ((0, 1), (0, 2)))
        self.assertTrue(is_between_sets(record))
        record.recovered = True
        self.assertEqual(sets_of(record), ((0, 1),))
        self.assertFalse(is_between_sets(record))


class MembershipTests(SynchronousTestCase):
    def test_replaced(self):
        self.assertEqual(replaced((1, 2, 3), 2, 9), (1, 9, 3))
        self.assertEqual(replaced((1, 2, 3), old=2), (1, 3))
        self.assertEqual(replaced((1, 2, 3), new=4), (1, 2, 3, 4))
        for wrong in ((None, None), (9, 4), (1, 2), (None, 3)):
            self.assertRaises(ValueError, replaced, (1, 2, 3), *wrong)

    def test_the_first_record(self):
        check_follows(None, Rec(0, 0, (), 0, (1, 2), ()))
        for wrong in (Rec(0, 0, ("a",), 0, (1, 2), ()), Rec(0, 0, (), 0, (1, 2), (1, 3))):
            self.assertRaises(ValueError, check_follows, None, wrong)

    def test_one_replica_at_a_time(self):
        base = Rec(0, 0, (), 3, (1, 2, 3), ())
        for after in ((1, 2, 4), (1, 2), (1, 2, 3, 4)):
            check_follows(base, Rec(0, 1, ("m",), 4, after, (3, 2, 1)))
        for after, epoch, before in (
            ((1, 4, 5), 4, (1, 2, 3)),
            ((1, 2, 4), 3, (1, 2, 3)),
            ((1, 2, 4), 4, (1, 2)),
            ((1, 2, 4), 4, ()),
            ((1,), 4, (1, 2, 3)),
        ):
            record = Rec(0, 1, ("m",), epoch, after, before)
            self.assertRaises(ValueError, check_follows, base, record)

    def test_a_recovered_record_may_name_any_set(self):
        base, record = Rec(0, 0, (), 3, (1, 2, 3), ()), Rec(0, 1, ("r",), 4, (7, 8), ())
        record.recovered = True
        check_follows(base, record)
