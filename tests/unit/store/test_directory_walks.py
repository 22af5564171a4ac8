"""Large changes of directories: no transaction is long, and nothing is lost on the way."""

from __future__ import annotations

from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from ampgrid.errors import FormatError, NoRoomError, StoreError
from ampgrid.formats import trie
from ampgrid.formats.trienode import is_branch, pack_branch, parse_node
from ampgrid.store import (
    directory_changes,
    directory_nodes,
    directory_upkeep,
    directory_walks,
)
from ampgrid.store.directories import Caller, LongWorkError, Verdict
from ampgrid.store.leases import LEASE_SECONDS
from ampgrid.store.sql import Job
from tests.campaigns.directory_bench import check_accounts
from tests.contract.directory_owner import ELSEWHERE, Owner, entry_of, slot_of
from tests.unit.store.test_directories import PEER, StoreCase, StoreMachine

HOUR = 3600


class Meter:
    """Counts what SQLite does in each transaction, in steps of its virtual machine.

    Every row that is read or written takes some, so it is no matter of time.
    """

    _EACH = 20

    def __init__(self, store):
        sql = store.database._sql
        self.transactions = []
        sql.set_progress_handler(self._tick, self._EACH)
        sql.set_trace_callback(self._trace)

    def _tick(self):
        if self.transactions:
            self.transactions[-1] += self._EACH
        return 0

    def _trace(self, statement):
        if statement.startswith("BEGIN"):
            self.transactions.append(0)


class Small:
    """Makes everything that is done at once small, for as long as a test is long."""

    def __init__(self, *, at_once=32, places=16, nodes=16):
        self.patches = [
            mock.patch.object(directory_changes, "MOST_AT_ONCE", at_once),
            mock.patch.object(directory_changes, "PLACES_A_SLICE", places),
            mock.patch.object(directory_walks, "NODES_A_SLICE", nodes),
            mock.patch.object(directory_nodes, "NODES_A_SWEEP", nodes),
        ]

    def start(self):
        for patch in self.patches:
            patch.start()

    def stop(self):
        for patch in self.patches:
            patch.stop()


class DiskIsFull(Job):
    """Has SQLite give up a transaction as it does when the disk is full."""

    def run(self, sql):
        sql.execute("ROLLBACK")
        raise NoRoomError("the disk is full")


def pending(store):
    """Return the oldest walk that is to be done."""
    return store.database.read(directory_walks.pending)


class LargeCase(StoreCase):
    def setUp(self):
        super().setUp()
        small = Small()
        small.start()
        self.addCleanup(small.stop)

    def stage(self, owner, record):
        nodes = owner.nodes_of(record)
        for start in range(0, len(nodes), 8):
            job = self.store.staging(
                owner.index, self.caller(), nodes[start : start + 8], shown=False
            )
            self.store.run(job)

    def two_tries(self, count):
        """Return an owner, and functions that turn a directory into one of two that share nothing.

        Each is given the record before, and returns the one that it was turned into.
        """
        owner, _ = self.make()
        first = {slot_of(n): entry_of(n, 900) for n in range(count)}
        second = {slot_of(n): entry_of(n + count, 900) for n in range(count)}

        def turn(record, entries):
            new = owner.change(record, entries)
            self.stage(owner, new)
            self.assertEqual(self.accept(new).verdict, Verdict.DONE)
            return new

        return owner, lambda record: turn(record, first), lambda record: turn(record, second)

    def entries(self, root, owner):
        nodes = {}
        while wanted := trie.wanted(root, nodes.get):
            found = self.store.nodes(owner.index, wanted[:1024])
            nodes.update(zip(wanted, found, strict=False))
        return dict(trie.entries(root, nodes.get))

    def sweep_all(self):
        while self.store.upkeep.walk() or self.store.upkeep.sweep(self.now):
            pass


class BoundedWorkTests(LargeCase):
    def work(self, count):
        """Flip between two tries, leave the set, be dropped; return the work of each commit."""
        self.path = self.folder / f"{count}.sqlite"
        self.open()
        meter = Meter(self.store)
        owner, to_first, to_second = self.two_tries(count)
        record = owner.first()
        for turn in (to_first, to_second) * 2:
            record = turn(record)
        self.now += 2 * HOUR
        self.sweep_all()
        moved = owner.move(record, ELSEWHERE)
        self.assertEqual(self.accept(moved).verdict, Verdict.DONE)
        self.assertEqual(self.accept(owner.release(moved)).verdict, Verdict.STRANGER)
        other = Owner(7, self.store.me)
        base = other.first()
        self.accept(base)
        grown = other.change(base, {slot_of(n): entry_of(n, 900) for n in range(count)})
        self.stage(other, grown)
        self.accept(grown)
        self.now += LEASE_SECONDS + 1
        while self.store.upkeep.mark_ended(self.now):
            pass
        self.now += HOUR
        self.assertEqual(self.store.upkeep.expire(self.now, HOUR), 1)
        self.sweep_all()
        self.assertEqual(self.store.room(fresh=True).replaced, 0)
        self.assertEqual(list(check_accounts(self.store)), [])
        self.close()
        return meter.transactions

    def test_no_transaction_grows_with_the_directory(self):
        small, large = self.work(100), self.work(1200)
        # What is done grows, and so does the number of transactions; none of them does.
        self.assertGreater(sum(large), 8 * sum(small))
        self.assertGreater(len(large), 4 * len(small))
        self.assertGreater(max(small), 1_000)
        self.assertLess(max(large), 2 * max(small))

    def test_the_meter_sees_what_is_long(self):
        self.open()
        meter = Meter(self.store)
        with mock.patch.object(directory_changes, "MOST_AT_ONCE", 10**6):
            sizes = []
            for number, count in ((1, 60), (2, 600)):
                owner, record = self.make(number)
                new = owner.change(record, {slot_of(n): entry_of(n, 900) for n in range(count)})
                self.stage(owner, new)
                self.assertEqual(self.accept(new).verdict, Verdict.DONE)
                sizes.append(meter.transactions[-1])
        self.assertGreater(sizes[1], 5 * sizes[0])


class WalkTests(LargeCase):
    def test_the_old_root_stays_for_an_hour(self):
        self.open()
        owner, to_first, to_second = self.two_tries(150)
        old = to_first(owner.first())
        self.now += 10
        while self.store.upkeep.walk():
            pass
        new = to_second(old)
        for seconds in (0, HOUR - 1):
            self.now += seconds
            self.sweep_all()
            self.assertEqual(self.entries(old.root, owner), owner.entries_of(old))
        self.now += 2
        self.sweep_all()
        self.assertEqual(self.entries(new.root, owner), owner.entries_of(new))
        self.assertRaises(StoreError, self.entries, old.root, owner)
        self.assertEqual(list(check_accounts(self.store)), [])

    def test_what_was_accepted_is_not_swept_before_it_was_walked(self):
        self.open()
        owner, to_first, _ = self.two_tries(150)
        record = to_first(owner.first())
        # Its nodes are noted as staged still, and their hour is over.
        self.now += 2 * HOUR
        while self.store.upkeep.sweep(self.now):
            pass
        self.assertEqual(self.entries(record.root, owner), owner.entries_of(record))
        self.assertEqual(self.store.room(fresh=True).staged, 0)
        self.assertEqual(list(check_accounts(self.store)), [])

    def test_what_is_replaced_before_it_was_walked_has_its_hour(self):
        self.open()
        owner, to_first, _ = self.two_tries(150)
        old = to_first(owner.first())
        entries = owner.entries_of(old)
        self.now += HOUR - 600
        changes = {slot_of(n): None for n in range(4)}
        self.assertEqual(self.accept(owner.change(old, changes), changes).verdict, Verdict.DONE)
        self.now += HOUR - 600
        while self.store.upkeep.sweep(self.now):
            pass
        self.assertEqual(self.entries(old.root, owner), entries)
        self.now += HOUR
        self.sweep_all()
        self.assertRaises(StoreError, self.entries, old.root, owner)
        self.assertEqual(list(check_accounts(self.store)), [])

    def test_one_large_change_waits_for_what_is_left_of_others(self):
        self.open()
        owner, to_first, to_second = self.two_tries(150)
        old = to_first(owner.first())
        large = owner.change(
            old, {slot_of(n): entry_of(n, 901) for n in range(150)}, owner.ballot(10**6)
        )
        self.stage(owner, large)
        job = self.store.accepting(owner.index, self.caller(), large)
        error = self.failureResultOf_(lambda: self.store.database.run(job))
        while not self.store.go_on(error):
            pass
        # There and back again: the root is what it was, and its nodes are not yet in order.
        self.assertEqual(to_first(to_second(old)).root, old.root)
        self.assertTrue(self.failureResultOf_(lambda: self.store.database.run(job)))
        self.assertEqual(self.store.run(job).verdict, Verdict.DONE)
        self.assertEqual(self.entries(large.root, owner), owner.entries_of(large))
        self.assertEqual(list(check_accounts(self.store)), [])

    def test_a_change_that_came_to_nothing_moves_no_walk(self):
        """The disk is full: of a transaction only the walk is done again, without the change."""
        for kind in ("walk", "sweep"):
            with self.subTest(kind):
                self.path = self.folder / f"{kind}.sqlite"
                self.open()
                owner, to_first, _ = self.two_tries(150)
                old = to_first(owner.first())
                if kind == "walk":
                    self.sweep_all()
                    large = {slot_of(n): entry_of(n, 901) for n in range(60)}
                    record = owner.change(old, large)
                    self.stage(owner, record)
                    self.assertEqual(self.accept(record).verdict, Verdict.DONE)
                    while pending(self.store).kind != directory_walks.REPLACE:
                        self.store.upkeep.walk()
                    vital = directory_upkeep._WalkJob(self.store._inside, self.now)
                else:
                    # Its nodes are noted as staged still, and their hour is over.
                    record = old
                    self.now += 2 * HOUR
                    vital = directory_upkeep._SweepJob(self.store._inside, self.now)
                changes = {slot_of(n): None for n in range(100, 104)}
                small = self.store.accepting(
                    owner.index, self.caller(), owner.change(record, changes), changes
                )
                first, second, _ = self.store.run_all([small, vital, DiskIsFull()])
                self.assertIsInstance(first.error, NoRoomError)
                self.assertIsNone(second.error)
                self.now += 2 * HOUR
                self.sweep_all()
                self.assertEqual(self.entries(record.root, owner), owner.entries_of(record))
                self.assertEqual(list(check_accounts(self.store)), [])
                self.close()

    def test_nothing_is_lost_sight_of_that_is_swept_while_it_is_walked(self):
        """Each slice is followed by a sweep, long after the trie was replaced."""
        self.open()
        owner, to_first, to_second = self.two_tries(150)
        record = to_second(to_first(owner.first()))
        self.now += 2 * HOUR
        while self.store.upkeep.walk():
            while self.store.upkeep.sweep(self.now):
                pass
        self.sweep_all()
        self.assertEqual(list(check_accounts(self.store)), [])
        self.assertEqual(self.store.room(fresh=True).replaced, 0)
        self.assertEqual(self.entries(record.root, owner), owner.entries_of(record))

    def test_what_is_staged_again_while_it_is_walked_has_its_hour(self):
        self.open()
        owner, to_first, to_second = self.two_tries(150)
        old = to_first(owner.first())
        entries = owner.entries_of(old)
        record = to_second(old)
        self.now += 2 * HOUR
        again = owner.change(record, {slot_of(n): entries[slot_of(n)] for n in range(150)})
        self.stage(owner, again)
        self.sweep_all()
        self.assertEqual(self.accept(again).verdict, Verdict.DONE)
        self.assertEqual(self.entries(again.root, owner), entries)
        self.assertEqual(list(check_accounts(self.store)), [])

    def test_it_goes_on_after_a_restart(self):
        self.open()
        owner, to_first, to_second = self.two_tries(150)
        record = to_second(to_first(owner.first()))
        walked = 0
        while self.store.upkeep.walk():
            walked += 1
            self.close()
            self.open()
        self.assertGreater(walked, 5)
        self.assertEqual(self.entries(record.root, owner), owner.entries_of(record))
        self.assertEqual(list(check_accounts(self.store)), [])

    def test_the_directory_changes_while_it_is_compared(self):
        self.open()
        owner, to_first, _ = self.two_tries(150)
        old = to_first(owner.first())
        large = owner.change(old, {slot_of(n): entry_of(n, 901) for n in range(150)})
        self.stage(owner, large)
        job = self.store.accepting(owner.index, self.caller(), large)
        error = self.failureResultOf_(lambda: self.store.database.run(job))
        for _ in range(3):
            self.store.go_on(error)
        # Another is quicker, with a ballot that is above; what was compared is worth nothing.
        changes = {slot_of(1): None}
        quick = owner.change(old, changes)
        self.assertEqual(self.accept(quick, changes).verdict, Verdict.DONE)
        while not self.store.go_on(error):
            pass
        self.assertEqual(self.store.run(job).verdict, Verdict.REFUSED)
        # Under a ballot above it is compared anew.
        again = owner.change(quick, {slot_of(n): entry_of(n, 901) for n in range(150)})
        self.stage(owner, again)
        job = self.store.accepting(owner.index, self.caller(), again)
        error = self.failureResultOf_(lambda: self.store.database.run(job))
        low = owner.change(quick, {slot_of(2): None}, owner.ballot(again.ballot.counter - 1))
        while not self.store.go_on(error):
            pass
        lower = self.store.accepting(owner.index, self.caller(), low, {slot_of(2): None})
        self.store.run(lower)
        self.assertEqual(self.store.run(job).verdict, Verdict.DONE)
        self.assertEqual(self.entries(again.root, owner), owner.entries_of(again))
        self.assertEqual(list(check_accounts(self.store)), [])

    def failureResultOf_(self, work):
        with self.assertRaises(LongWorkError) as caught:
            work()
        return caught.exception

    def test_nodes_that_go_while_it_is_compared_are_missed(self):
        self.open()
        owner, to_first, _ = self.two_tries(150)
        old = to_first(owner.first())
        while self.store.upkeep.walk():
            pass
        large = owner.change(old, {slot_of(n): entry_of(n, 901) for n in range(150)})
        self.stage(owner, large)
        self.now += HOUR + 1
        job = self.store.accepting(owner.index, self.caller(), large)
        error = self.failureResultOf_(lambda: self.store.database.run(job))
        while not self.store.go_on(error):
            pass
        self.sweep_all()
        self.assertEqual(self.store.run(job).missing, (large.root,))
        self.assertEqual(self.entries(old.root, owner), owner.entries_of(old))

    def test_a_malformed_trie_is_found_in_any_slice(self):
        self.open()
        owner, to_first, _ = self.two_tries(150)
        old = to_first(owner.first())
        large = owner.change(old, {slot_of(n): entry_of(n, 901) for n in range(150)})
        leaves = [node for node in owner.nodes_of(large) if not is_branch(node)]
        last, first = trie.node_hash(leaves[-1]), trie.node_hash(leaves[0])
        nodes = list(owner.nodes_of(large))

        def spoilt(digest):
            """Put the first leaf in the place of the last one; return the root of that."""
            node = parse_node(owner.nodes[digest])
            if isinstance(node, list):
                return first if digest == last else digest
            made = pack_branch({nibble: spoilt(child) for nibble, child in node.items()})
            nodes.append(made)
            return trie.node_hash(made)

        root = spoilt(large.root)
        for node in nodes:
            self.store.run(self.store.staging(owner.index, self.caller(), [node], shown=False))
        forged = old.successor(
            owner.keys, ballot=owner.ballot(), root=root, count=150, operation=b"12345678"
        )
        self.assertRaises(FormatError, self.accept, forged)
        self.assertEqual(self.entries(old.root, owner), owner.entries_of(old))


class SlicedMachine(StoreMachine):
    """The store against plain dicts, where nearly every change is a large one."""

    def __init__(self):
        super().__init__()
        self.small = Small(at_once=2, places=2, nodes=2)
        self.small.start()

    def teardown(self):
        try:
            if self.store is not None:
                assert list(check_accounts(self.store)) == []
        finally:
            super().teardown()
            self.small.stop()

    def run(self, job):
        for _try in range(50):
            try:
                return self.store.database.run(job)
            except LongWorkError as more:
                while not self.store.go_on(more):
                    self.store.upkeep.sweep(self.now)
        raise AssertionError("no end")

    @rule(slices=st.integers(1, 5))
    def walk(self, slices):
        for _ in range(slices):
            self.store.upkeep.walk()

    @rule(number=st.integers(1, 3), back=st.integers(1, 3))
    def turn_back(self, number, back):
        """Make a directory what it was before."""
        one = self.directories.get(number)
        if one is None or len(one.older) < back:
            return
        wanted = one.older[-back][2]
        changes = {slot: wanted.get(slot) for slot in {*one.entries, *wanted}}
        if not changes:
            return
        record = one.owner.change(one.record, changes)
        caller = Caller(PEER, self.now)
        nodes = one.owner.nodes_of(record)
        self.run(self.store.staging(one.owner.index, caller, nodes, shown=False))
        judged = self.run(self.store.accepting(one.owner.index, caller, record))
        assert judged.verdict is Verdict.DONE
        one.older.append((self.now, one.record.root, dict(one.entries)))
        one.record, one.entries = record, dict(wanted)

    @rule(
        number=st.integers(1, 3),
        slot=st.integers(0, 60),
        size=st.none() | st.integers(1, 2500),
        order=st.permutations(["change", "walk", "sweep", "renew"]),
        is_full=st.booleans(),
    )
    def together(self, number, slot, size, order, is_full):
        """Do several things in one transaction, of which only vital ones find room at times."""
        one = self.directories.get(number)
        if one is None:
            return
        caller = Caller(PEER, self.now)
        changes = {slot_of(slot): None if size is None else entry_of(slot, size)}
        record = one.owner.change(one.record, changes)
        inside = self.store._inside
        jobs = {
            "change": self.store.accepting(one.owner.index, caller, record, changes),
            "walk": directory_upkeep._WalkJob(inside, self.now),
            "sweep": directory_upkeep._SweepJob(inside, self.now),
            "renew": self.store.renewing(one.owner.index, caller),
        }
        group = [jobs[what] for what in order] + [DiskIsFull()] * is_full
        outcomes = dict(zip(order, self.store.run_all(group), strict=False))
        failed = {what for what, outcome in outcomes.items() if outcome.error is not None}
        assert failed == ({"change"} if is_full else set())
        if not is_full:
            one.older.append((self.now, one.record.root, dict(one.entries)))
            one.record, one.entries = record, one.owner.entries_of(record)

    @invariant()
    def is_as_it_should_be(self):
        if self.store is None:
            return
        for one in self.directories.values():
            assert self.read(one, one.record.root) == one.entries
            for replaced_at, root, entries in one.older[-3:]:
                if self.now < replaced_at + 3600:
                    assert self.read(one, root) == entries


SlicedMachine.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
SlicedMachineTests = SlicedMachine.TestCase
