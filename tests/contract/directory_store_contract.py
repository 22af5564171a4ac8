"""What every store of directories must do; `open_store` says which one."""

from __future__ import annotations

from ampgrid.caps import LitCap
from ampgrid.errors import FormatError, MissingNodesError, NotStoredError
from ampgrid.formats import trie
from ampgrid.formats.ballot import Ballot
from ampgrid.formats.pointer import Pointer
from ampgrid.formats.record import Record
from ampgrid.store.directories import (
    Caller,
    NoLeaseError,
    SnapshotLostError,
    Verdict,
)
from ampgrid.store.leases import LEASE_SECONDS
from tests.contract.directory_owner import ELSEWHERE, Owner, entry_of, slot_of

NOW = 1_800_000_000
PEER = b"p" * 20
OTHER = b"q" * 20
HOUR = 3600


class DirectoryStoreContract:
    """The suite. A subclass is a test case with `open_store`."""

    def setUp(self):
        self.now = NOW
        self.store = self.open_store()
        self.owner = Owner(1, self.store.me)

    def tearDown(self):
        self.store.close()

    def open_store(self, **how):
        """Open the store: the same one each time."""
        raise NotImplementedError

    def reopen(self):
        """Close the store and open it again."""
        self.store.close()
        self.store = self.open_store()

    def caller(self, peer=PEER):
        return Caller(peer, self.now)

    def prepare(self, prepare, slots=(), owner=None):
        index = (owner or self.owner).index
        return self.store.run(self.store.preparing(index, self.caller(), prepare, slots))

    def accept(self, record, changes=None, peer=PEER):
        job = self.store.accepting(record.index, self.caller(peer), record, changes)
        return self.store.run(job)

    def stage(self, owner, nodes, shown=False, peer=PEER):
        self.store.run(self.store.staging(owner.index, self.caller(peer), nodes, shown=shown))

    def make(self, entries=0, owner=None):
        """Create a directory with entries; returns its record."""
        owner = owner or self.owner
        record = owner.first()
        self.assertEqual(self.accept(record).verdict, Verdict.DONE)
        for number in range(entries):
            record = self.put(record, {slot_of(number): entry_of(number)}, owner)
        return record

    def put(self, record, changes, owner=None):
        """Change a directory; returns its new record."""
        record = (owner or self.owner).change(record, changes)
        self.assertEqual(self.accept(record, changes=changes).verdict, Verdict.DONE)
        return record

    def held(self, owner=None):
        shown = self.store.show((owner or self.owner).index)
        return None if shown.held is None else Record.unpack(shown.held)

    def listed(self, root=None):
        """Read the whole trie in pages, as a client does."""
        nodes, after = {}, None
        root = root or self.held().root
        while True:
            page = self.store.page(self.owner.index, root, after).nodes
            known = len(nodes)
            nodes.update({trie.node_hash(node): node for node in page})
            if not trie.wanted(root, nodes.get):
                return dict(trie.entries(root, nodes.get))
            self.assertGreater(len(nodes), known, "no progress")
            after = max(pair[0] for pair in self.known_entries(root, nodes))

    @staticmethod
    def known_entries(root, nodes):
        """Yield the entries that come before the first node that lacks."""
        try:
            yield from trie.entries(root, nodes.get)
        except MissingNodesError:
            return

    # Nothing is here.

    def test_nothing(self):
        index = self.owner.index
        for ask in (
            lambda: self.store.show(index),
            lambda: self.store.prove(index, slot_of(1), None),
            lambda: self.store.page(index, None, None),
            lambda: self.store.nodes(index, [slot_of(1)]),
            lambda: self.store.pointer(index),
            lambda: self.store.run(self.store.renewing(index, self.caller())),
            lambda: self.store.run(self.store.cancelling(index, self.caller())),
            lambda: self.stage(self.owner, [], shown=False),
        ):
            self.assertRaises(NotStoredError, ask)

    # Promises.

    def test_promise_and_refuse(self):
        low, high = self.owner.prepare(), self.owner.prepare()
        self.assertEqual(self.prepare(high).verdict, Verdict.DONE)
        again = self.prepare(high)
        self.assertEqual((again.verdict, again.held), (Verdict.DONE, None))
        refused = self.prepare(low)
        self.assertEqual((refused.verdict, refused.prepared), (Verdict.REFUSED, high.pack()))
        self.reopen()
        self.assertEqual(self.prepare(low).prepared, high.pack())
        self.assertEqual(self.store.show(self.owner.index).prepared, high.pack())
        judged = self.accept(self.owner.first(low.ballot))
        self.assertEqual((judged.verdict, judged.prepared), (Verdict.REFUSED, high.pack()))

    def test_promise_shows_the_base_with_nodes(self):
        record = self.make(40)
        judged = self.prepare(self.owner.prepare(), [slot_of(3), slot_of(99)])
        self.assertEqual((judged.verdict, judged.held), (Verdict.DONE, record.pack()))
        found = {trie.node_hash(node): node for node in judged.nodes}
        self.assertEqual(trie.find(record.root, slot_of(3), found.get), entry_of(3))
        self.assertIs(trie.find(record.root, slot_of(99), found.get), None)

    # Records.

    def test_create_twice(self):
        record = self.make()
        self.assertEqual(self.accept(record).verdict, Verdict.DONE)
        other = self.owner.first(Ballot(0, 0, b"otherone"))
        judged = self.accept(other)
        self.assertEqual((judged.verdict, judged.held), (Verdict.REFUSED, record.pack()))
        self.assertEqual(self.store.room(fresh=True).directories, 1)

    def test_conflict_is_told(self):
        record = self.make(1)
        other = self.owner.change(record, {slot_of(7): entry_of(7)}, record.ballot)
        judged = self.accept(other, changes={slot_of(7): entry_of(7)})
        self.assertEqual((judged.verdict, judged.held), (Verdict.CONFLICT, record.pack()))

    def test_stranger(self):
        for owner in (
            Owner(2, ELSEWHERE),
            Owner(3, ELSEWHERE, type(ELSEWHERE)(self.store.me.node_id, b"lost" * 4)),
        ):
            self.assertEqual(self.accept(owner.first()).verdict, Verdict.STRANGER)
            self.assertRaises(NotStoredError, self.store.show, owner.index)

    def test_the_following_ballot_is_promised_with_a_change(self):
        record = self.make()
        changes = {slot_of(1): b"x"}
        self.owner.names_following = True
        new = self.owner.change(record, changes, self.owner.ballot(10))
        self.assertEqual(self.accept(new, changes).verdict, Verdict.DONE)
        for _ in range(2):
            # What stands in the way is the record, also after a start anew.
            shown = self.store.show(self.owner.index)
            self.assertEqual((shown.held, shown.prepared), (new.pack(), None))
            refused = self.prepare(self.owner.prepare(self.owner.ballot(10)))
            self.assertEqual((refused.verdict, refused.held), (Verdict.REFUSED, new.pack()))
            self.reopen()
        following = self.owner.prepare(self.owner.ballot(11))
        self.assertEqual(self.prepare(following).verdict, Verdict.DONE)
        later = self.owner.prepare(self.owner.ballot(20))
        self.assertEqual(self.prepare(later).verdict, Verdict.DONE)
        # The same record again is accepted, and takes nothing of that back.
        self.assertEqual(self.accept(new, changes).verdict, Verdict.DONE)
        self.assertEqual(self.prepare(following).prepared, later.pack())

    def test_a_record_whose_nodes_lack_promises_nothing(self):
        record = self.make(5)
        changes = {slot_of(9): entry_of(9)}
        self.owner.names_following = True
        new = self.owner.change(record, changes, self.owner.ballot(10))
        self.assertEqual(self.accept(new).verdict, Verdict.MISSING)
        low = self.owner.prepare(self.owner.ballot(9))
        self.assertEqual(self.prepare(low).verdict, Verdict.DONE)

    def test_the_following_ballot_outlives_its_record(self):
        self.owner.names_following = True
        record = self.owner.first(self.owner.ballot(10))
        self.assertEqual(self.accept(record).verdict, Verdict.DONE)
        self.now += LEASE_SECONDS + 1
        self.expire()
        self.now += 2 * HOUR
        self.assertEqual(self.expire(), 1)
        self.assertRaises(NotStoredError, self.store.show, self.owner.index)
        between = self.owner.first(Ballot(0, 10, b"writer99"))
        self.assertLess(between.ballot, record.following)
        self.assertEqual(self.accept(between).verdict, Verdict.REFUSED)
        later = self.owner.first(self.owner.ballot(11))
        self.assertEqual(self.accept(later).verdict, Verdict.DONE)

    def test_every_kind_of_change(self):
        record = self.make()
        expected = {}
        for changes in (
            {slot_of(n): entry_of(n) for n in range(60)},
            {slot_of(3): entry_of(300)},
            {slot_of(n): None for n in range(50)},
            {slot_of(77): None},
            {slot_of(1): b"big" * 2700, slot_of(2): b"big" * 2700},
            {slot_of(n): None for n in range(60)},
        ):
            record = self.put(record, changes)
            for slot, entry in changes.items():
                expected.pop(slot, None)
                if entry is not None:
                    expected[slot] = entry
            self.assertEqual(self.listed(), expected)
            self.reopen()
            self.assertEqual(self.held(), record)
            self.assertEqual(self.listed(), expected)
        self.assertEqual(self.store.room(fresh=True).live, 0)

    def test_change_of_another_base_lacks_nodes(self):
        record = self.make(3)
        skipped = self.owner.change(record, {slot_of(8): entry_of(8)})
        new = self.owner.change(skipped, {slot_of(9): entry_of(9)})
        judged = self.accept(new, changes={slot_of(9): entry_of(9)})
        self.assertEqual((judged.verdict, judged.held), (Verdict.MISSING, record.pack()))
        self.assertEqual(judged.missing, (new.root,))
        self.assertEqual(self.held(), record)
        # The nodes of its trie help, in any number of boxes.
        for node in self.owner.nodes_of(new):
            self.stage(self.owner, [node])
        self.assertEqual(self.accept(new, changes={slot_of(9): entry_of(9)}).verdict, Verdict.DONE)
        self.assertEqual(self.listed(), self.owner.entries_of(new))

    def test_missing_nodes_are_named_level_by_level(self):
        record = self.make()
        new = self.owner.change(record, {slot_of(n): entry_of(n) for n in range(500)})
        have = {}
        rounds = 0
        while (judged := self.accept(new)).verdict is Verdict.MISSING:
            rounds += 1
            self.assertLessEqual(len(judged.missing), 1024)
            self.assertFalse(set(judged.missing) & have.keys())
            have.update({digest: self.owner.nodes[digest] for digest in judged.missing})
            self.stage(self.owner, [self.owner.nodes[digest] for digest in judged.missing])
        self.assertLess(rounds, 5)
        self.assertEqual(self.listed(), self.owner.entries_of(new))
        room = self.store.room(fresh=True)
        self.assertEqual(room.staged, 0)
        self.assertGreater(room.live, 500 * 120)

    def test_staged_nodes_need_a_proof_of_ownership(self):
        owner = Owner(2, self.store.me)
        record = owner.first()
        new = owner.change(record, {slot_of(1): entry_of(1)})
        nodes = owner.nodes_of(new)
        self.assertRaises(NotStoredError, self.stage, owner, nodes)
        self.stage(owner, nodes, shown=True)
        # What is only staged is not there yet.
        self.assertRaises(NotStoredError, self.store.show, owner.index)
        self.assertEqual(self.accept(new).verdict, Verdict.DONE)
        self.assertEqual(self.held(owner), new)

    def test_a_malformed_node_is_refused(self):
        self.make()
        for node in (b"", b"\x01", b"\x07" + bytes(60), b"\x02\x00\x00", bytes(9000)):
            self.assertRaises(FormatError, self.stage, self.owner, [node])

    # Reading an older root.

    def test_replaced_nodes_stay_for_an_hour(self):
        old = self.make(60)
        entries = self.owner.entries_of(old)
        new = self.put(old, {slot_of(n): None for n in range(40)})
        self.now += HOUR - 1
        while self.store.upkeep.sweep(self.now):
            pass
        self.assertEqual(self.listed(old.root), entries)
        self.now += 2
        while self.store.upkeep.sweep(self.now):
            pass
        for ask in (
            lambda: self.store.page(self.owner.index, old.root, None),
            lambda: self.store.prove(self.owner.index, slot_of(1), old.root),
            lambda: self.store.nodes(self.owner.index, [old.root]),
        ):
            self.assertRaises(SnapshotLostError, ask)
        self.assertEqual(self.listed(), self.owner.entries_of(new))
        self.assertEqual(self.store.room(fresh=True).replaced, 0)

    def test_what_comes_back_is_kept(self):
        old = self.make(30)
        gone = self.put(old, {slot_of(29): None})
        back = self.put(gone, {slot_of(29): entry_of(29)})
        self.assertEqual(back.root, old.root)
        self.now += 2 * HOUR
        while self.store.upkeep.sweep(self.now):
            pass
        self.assertEqual(self.listed(), self.owner.entries_of(old))

    def test_staged_nodes_go_after_an_hour(self):
        record = self.make()
        new = self.owner.change(record, {slot_of(1): entry_of(1)})
        self.stage(self.owner, self.owner.nodes_of(new))
        self.assertGreater(self.store.room(fresh=True).staged, 0)
        self.now += HOUR + 1
        self.assertEqual(self.store.upkeep.sweep(self.now), 1)
        self.assertEqual(self.store.room(fresh=True).staged, 0)
        self.assertEqual(self.accept(new).missing, (new.root,))

    # Answers.

    def test_proofs(self):
        record = self.make(80)
        for number in (0, 40, 99):
            shown = self.store.prove(self.owner.index, slot_of(number), None)
            self.assertEqual(shown.held, record.pack())
            entry = trie.prove(record.root, slot_of(number), shown.nodes)
            self.assertEqual(entry, entry_of(number) if number < 80 else None)

    def test_answers_are_bounded(self):
        record = self.make()
        record = self.put(record, {slot_of(n): entry_of(n, 8000) for n in range(30)})
        slots = [slot_of(n) for n in range(30)]
        for nodes in (
            self.store.page(self.owner.index, None, None).nodes,
            self.store.show(self.owner.index, slots).nodes,
            self.prepare(self.owner.prepare(), slots).nodes,
            self.store.nodes(
                self.owner.index, [trie.node_hash(node) for node in self.owner.nodes_of(record)]
            ),
        ):
            self.assertLessEqual(sum(len(node) + 2 for node in nodes), 56_000)
            self.assertGreater(len(nodes), 4)
        self.assertEqual(self.listed(), self.owner.entries_of(record))

    def test_nodes_end_before_the_first_that_lacks(self):
        record = self.make(40)
        known = [trie.node_hash(node) for node in self.owner.nodes_of(record)][:3]
        asked = [*known[:2], b"?" * 32, known[2]]
        found = self.store.nodes(self.owner.index, asked)
        self.assertEqual([trie.node_hash(node) for node in found], known[:2])

    # Membership.

    def leave(self, record):
        """Let the store leave the set; returns the record that releases it."""
        moved = self.owner.move(record, ELSEWHERE)
        self.assertEqual(self.accept(moved).verdict, Verdict.DONE)
        released = self.owner.release(moved)
        self.assertEqual(self.accept(released).verdict, Verdict.STRANGER)
        return released

    def sweep_all(self):
        while self.store.upkeep.walk():
            pass
        while self.store.upkeep.sweep(self.now):
            pass

    def test_who_leaves_the_set_keeps_everything_until_it_is_released(self):
        record = self.make(30)
        other = self.owner.change(record, {slot_of(31): entry_of(31)})
        moved = self.owner.move(record, ELSEWHERE)
        self.assertEqual(self.accept(moved).verdict, Verdict.DONE)
        live = self.store.room(fresh=True).live
        # None of these says that the change of the set was committed.
        elsewhere = Owner(1, ELSEWHERE)
        recovered = record.new_epoch(
            self.owner.keys, self.owner.ballot(epoch=9), (ELSEWHERE,), recovered=True
        )
        for said in (moved, other, record, elsewhere.first(), recovered):
            self.accept(said)
        self.reopen()
        self.now += 200 * 24 * HOUR
        self.assertEqual(self.store.upkeep.drop_outdated(self.now), 0)
        self.sweep_all()
        self.assertEqual(self.held(), moved)
        self.assertEqual(self.listed(), self.owner.entries_of(record))
        self.assertEqual(self.store.room(fresh=True).live, live)
        judged = self.prepare(self.owner.prepare(self.owner.ballot(epoch=2)), [slot_of(3)])
        self.assertEqual((judged.verdict, judged.held), (Verdict.DONE, moved.pack()))
        self.assertGreater(len(judged.nodes), 0)
        # The change that was given up is gone over, by one who has a base without it.
        later = self.owner.change(record, {slot_of(31): entry_of(31)}, self.owner.ballot(epoch=3))
        judged = self.accept(later, changes={slot_of(31): entry_of(31)})
        self.assertEqual(judged.verdict, Verdict.DONE)
        self.assertEqual(self.listed(), self.owner.entries_of(later))

    def test_who_leaves_the_set_shows_where_it_went(self):
        record = self.make(30)
        released = self.leave(record)
        self.assertEqual(self.held(), released)
        self.assertRaises(SnapshotLostError, self.store.page, self.owner.index, None, None)
        # Who is on the way of reading finds the nodes for a while.
        self.now += 23 * HOUR
        self.sweep_all()
        self.reopen()
        self.assertEqual(self.listed(record.root), self.owner.entries_of(record))
        self.assertEqual(self.accept(released).verdict, Verdict.STRANGER)
        self.now += 2 * HOUR
        self.sweep_all()
        self.assertEqual(self.store.room(fresh=True).live, 0)
        self.assertEqual(self.store.room(fresh=True).replaced, 0)
        self.assertEqual(self.store.upkeep.drop_outdated(self.now), 0)
        self.assertEqual(self.held(), released)
        self.now += 90 * 24 * HOUR
        self.assertEqual(self.store.upkeep.drop_outdated(self.now), 1)
        self.assertRaises(NotStoredError, self.store.show, self.owner.index)
        # What was accepted once never comes back.
        self.reopen()
        self.assertEqual(self.accept(record).verdict, Verdict.REFUSED)
        self.assertEqual(self.prepare(self.owner.prepare()).verdict, Verdict.REFUSED)

    def test_who_was_away_when_it_was_replaced_shows_where_it_went(self):
        record = self.make(30)
        promise = self.owner.prepare(self.owner.ballot(1_000, epoch=9))
        self.assertEqual(self.prepare(promise).verdict, Verdict.DONE)
        released = self.owner.release(self.owner.move(record, ELSEWHERE))
        # A change of the set by itself shows nothing, and neither does a recovery.
        recovered = record.new_epoch(
            self.owner.keys, self.owner.ballot(epoch=3), (ELSEWHERE,), recovered=True
        )
        self.accept(recovered)
        self.assertEqual(self.held(), record)
        self.assertEqual(self.accept(released).verdict, Verdict.STRANGER)
        self.reopen()
        self.assertEqual(self.held(), released)
        self.assertEqual(self.store.show(self.owner.index).prepared, promise.pack())
        self.assertEqual(self.accept(record).verdict, Verdict.REFUSED)
        self.assertEqual(self.listed(record.root), self.owner.entries_of(record))
        # What was made of a recovered one shows it.
        other = Owner(5, self.store.me)
        base = other.first()
        self.accept(base)
        recovered = base.new_epoch(other.keys, other.ballot(epoch=3), (ELSEWHERE,), recovered=True)
        later = other.release(recovered)
        self.assertEqual(self.accept(later).verdict, Verdict.STRANGER)
        self.assertEqual(self.held(other), later)

    def test_who_comes_back_into_the_set_needs_all_nodes(self):
        record = self.make(30)
        released = self.leave(record)
        self.now += 25 * HOUR
        self.sweep_all()
        back = self.owner.move(released, ELSEWHERE, self.store.me)
        self.assertEqual(self.accept(back).missing, (back.root,))
        self.stage(self.owner, self.owner.nodes_of(back))
        self.assertEqual(self.accept(back).verdict, Verdict.DONE)
        self.assertEqual(self.listed(), self.owner.entries_of(record))
        self.now += 91 * 24 * HOUR
        self.assertEqual(self.store.upkeep.drop_outdated(self.now), 0)

    # Leases.

    def expire(self, grace=HOUR):
        """Let a service with expiry make a pass; returns how many were dropped."""
        while self.store.upkeep.mark_ended(self.now):
            pass
        dropped = 0
        while batch := self.store.upkeep.expire(self.now, grace):
            dropped += batch
        return dropped

    def test_a_directory_goes_a_grace_after_its_last_lease(self):
        older = self.make(29)
        record = self.put(older, {slot_of(29): entry_of(29)})
        self.now += LEASE_SECONDS - 1
        self.assertEqual(self.expire(), 0)
        self.store.run(self.store.renewing(self.owner.index, self.caller(OTHER)))
        self.now += LEASE_SECONDS - 1
        self.assertEqual(self.expire(), 0)
        self.now += 2
        self.assertEqual(self.expire(), 0)
        self.assertEqual(self.store.upkeep.count().marked, 1)
        self.now += HOUR + 1
        self.assertEqual(self.expire(), 1)
        self.sweep_all()
        room = self.store.room(fresh=True)
        self.assertEqual((room.used, room.replaced, room.directories, room.leases), (0, 0, 0, 0))
        self.assertEqual(self.store.upkeep.count().expired, 1)
        # Old words do not bring it back; its owner can, with a new record.
        self.assertEqual(self.accept(older).verdict, Verdict.REFUSED)
        self.assertEqual(self.prepare(self.owner.prepare()).verdict, Verdict.REFUSED)
        new = self.owner.change(record, {slot_of(1): None})
        self.stage(self.owner, self.owner.nodes_of(new), shown=True)
        self.assertEqual(self.accept(new).verdict, Verdict.DONE)
        self.reopen()
        self.assertEqual(self.listed(), self.owner.entries_of(new))
        self.assertEqual(self.prepare(self.owner.prepare()).verdict, Verdict.DONE)

    def test_a_renewal_takes_the_mark_away(self):
        self.make()
        self.now += LEASE_SECONDS + 1
        self.assertEqual(self.expire(), 0)
        self.store.run(self.store.renewing(self.owner.index, self.caller()))
        self.now += HOUR + 1
        self.assertEqual(self.expire(), 0)
        self.assertEqual(self.store.upkeep.count().marked, 0)

    def test_cancel_takes_the_own_lease_alone(self):
        self.make()
        self.assertRaises(
            NoLeaseError,
            self.store.run,
            self.store.cancelling(self.owner.index, self.caller(OTHER)),
        )
        self.store.run(self.store.cancelling(self.owner.index, self.caller()))
        self.assertEqual(self.store.room(fresh=True).leases, 0)
        self.assertEqual(self.expire(), 0)
        self.now += HOUR + 1
        self.assertEqual(self.expire(), 1)

    def test_forgotten_marks_begin_anew(self):
        self.make()
        self.now += LEASE_SECONDS + 1
        self.assertEqual(self.expire(), 0)
        self.store.upkeep.forget_marks()
        self.now += HOUR + 1
        self.assertEqual(self.expire(), 0)

    # Pointers.

    def pointer(self, epoch, version):
        return Pointer.make(self.owner.keys, epoch=epoch, version=version, cap=LitCap(b"x"))

    def test_the_latest_pointer_stays(self):
        index = self.owner.index
        for epoch, version, stays in (
            (0, 5, True),
            (0, 4, False),
            (0, 5, True),
            (1, 2, True),
            (0, 2**64 - 1, False),
            (1, 2**64 - 1, True),
            (1, 2**63, False),
        ):
            pointer = self.pointer(epoch, version)
            self.store.run(self.store.pointing(index, self.caller(), pointer))
            self.assertEqual(self.store.pointer(index) == pointer.pack(), stays)
        self.assertEqual(self.store.room(fresh=True).pointers, 1)
        self.now += 366 * 24 * HOUR
        self.assertEqual(self.store.upkeep.drop_pointers(self.now), 1)
        self.assertRaises(NotStoredError, self.store.pointer, index)

    # Many at once.

    def test_changes_of_one_group_see_each_other(self):
        record = self.make()
        jobs = []
        for number in range(20):
            changes = {slot_of(number): entry_of(number)}
            record = self.owner.change(record, changes)
            jobs.append(self.store.accepting(self.owner.index, self.caller(), record, changes))
        outcomes = self.store.run_all(jobs)
        self.assertEqual({outcome.get().verdict for outcome in outcomes}, {Verdict.DONE})
        self.assertEqual(self.held(), record)
        self.assertEqual(self.listed(), self.owner.entries_of(record))

    def test_time_is_written_down(self):
        self.store.upkeep.keep_time(NOW + 77)
        self.store.upkeep.keep_time(NOW + 5)
        self.reopen()
        self.assertEqual(self.store.beginning.now, NOW + 77)
