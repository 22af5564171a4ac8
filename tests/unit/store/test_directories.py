"""The store of directories on its disk: enciphered, bounded, and against a plain dict."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import attrs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import LitCap
from ampgrid.errors import BrokenStoreError, ConfigError, FormatError, NoRoomError
from ampgrid.formats import trie
from ampgrid.formats.pointer import Pointer
from ampgrid.formats.record import Record
from ampgrid.store import (
    directory_accounts,
    directory_changes,
    directory_leases,
)
from ampgrid.store.directories import Caller, DirectoryStore, SnapshotLostError, Verdict
from ampgrid.store.directory_accounts import DIRECTORY_OVERHEAD, POINTER_OVERHEAD
from ampgrid.store.directory_schema import DIRECTORY_SCHEMA
from ampgrid.store.filesystem import PosixFileSystem
from ampgrid.store.health import PROBE_SECONDS
from ampgrid.store.leases import LEASE_SECONDS
from ampgrid.testing.faults import EIO, ENOSPC, FailingTap, FaultPlan
from ampgrid.testing.sqliteio import SqliteShim
from tests.campaigns.bench import workplace
from tests.campaigns.directory_bench import check_accounts
from tests.contract.directory_owner import Owner, entry_of, slot_of

NOW = 1_800_000_000
PEER = b"p" * 20
KEY = b"k" * 32


class StoreCase(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.path = self.folder / "directories.sqlite"
        self.now = NOW
        self.store = None

    def tearDown(self):
        if self.store is not None:
            self.store.close()

    def open(self, key=KEY, **how):
        self.store = DirectoryStore.open(
            self.path, key, b"n" * 20, wall=lambda: NOW, entropy=os.urandom, **how
        )
        return self.store

    def close(self):
        self.store.close()
        self.store = None

    def caller(self, peer=PEER):
        return Caller(peer, self.now)

    def accept(self, record, changes=None, peer=PEER):
        job = self.store.accepting(record.index, self.caller(peer), record, changes)
        return self.store.run(job)

    def make(self, number=1, entries=0, peer=PEER):
        owner = Owner(number, self.store.me)
        record = owner.first()
        self.assertEqual(self.accept(record, peer=peer).verdict, Verdict.DONE)
        if entries:
            changes = {slot_of(n): entry_of(n) for n in range(entries)}
            record = owner.change(record, changes)
            self.assertEqual(self.accept(record, changes).verdict, Verdict.DONE)
        return owner, record


class HostileTrieTests(StoreCase):
    """What a writer signs as the root of a directory takes no more than a bounded time."""

    def staged(self, owner, record, nodes, count):
        self.store.run(self.store.staging(owner.index, self.caller(), nodes, shown=True))
        return record.successor(
            owner.keys,
            ballot=owner.ballot(),
            root=trie.node_hash(nodes[-1]),
            count=count,
            operation=b"%08d" % 9,
        )

    def test_one_node_at_many_places(self):
        self.open()
        owner, record = self.make(entries=5)
        digest, nodes = b"h" * 32, []
        for _ in range(12):
            nodes += [b"\2\0\1" + digest, b"\2\0\2" + digest]
            parts = b"".join(map(trie.node_hash, nodes[-2:]))
            nodes.append(b"\2\0\3" + parts)
            digest = trie.node_hash(nodes[-1])
        hostile = self.staged(owner, record, nodes, 1)
        self.assertRaises(FormatError, self.accept, hostile)
        alike = b"\2\0\3" + b"h" * 64
        self.assertRaises(
            FormatError, self.store.staging, owner.index, self.caller(), [alike], shown=True
        )
        # The directory goes on as it was.
        changes = {slot_of(9): entry_of(9)}
        self.assertEqual(self.accept(owner.change(record, changes), changes).verdict, Verdict.DONE)

    def test_more_nodes_than_one_acceptance_looks_at(self):
        self.open()
        owner, record = self.make()
        other = Owner(1, self.store.me)
        grown = other.change(record, {slot_of(n): entry_of(n) for n in range(200)}, owner.ballot())
        nodes = other.nodes_of(grown)
        self.store.run(self.store.staging(owner.index, self.caller(), nodes, shown=True))
        self.patch(directory_changes, "MOST_COMPARED", len(nodes) - 1)
        self.assertRaises(FormatError, self.accept, grown)
        self.patch(directory_changes, "MOST_COMPARED", len(nodes))
        self.assertEqual(self.accept(grown).verdict, Verdict.DONE)


class FileTests(StoreCase):
    def test_nothing_is_in_clear(self):
        self.open()
        owner, record = self.make(entries=50)
        self.store.run(self.store.pointing(owner.index, self.caller(), self.pointer(owner)))
        parts = [owner.index, PEER, record.root, b"CREATE TABLE", b"directories"]
        parts += [entry_of(n)[:16] for n in range(50)] + [slot_of(n)[:16] for n in range(50)]
        # The log as well, before it goes into the file.
        for _ in range(2):
            files = {path.name: path.read_bytes() for path in self.folder.iterdir()}
            self.assertFalse(files["directories.sqlite"].startswith(b"SQLite format 3"))
            self.assertGreater(sum(map(len, files.values())), 10_000)
            for name, data in files.items():
                for part in parts:
                    self.assertNotIn(part, data, name)
            if self.store is not None:
                self.assertIn("directories.sqlite-wal", files)
                self.close()

    def pointer(self, owner, version=1):
        return Pointer.make(owner.keys, epoch=0, version=version, cap=LitCap(b"x"))

    def test_another_key_is_named(self):
        self.open()
        self.make()
        self.close()
        with self.assertRaisesRegex(FormatError, "damaged, or was made with another key"):
            self.open(key=b"K" * 32)
        self.open()
        self.assertEqual(self.store.room(fresh=True).directories, 1)

    def test_no_database_is_named(self):
        for data in (b"no database" * 1000, b"SQLite format 3\0" + bytes(5000)):
            self.path.write_bytes(data)
            self.assertRaises(FormatError, self.open)
            self.assertEqual(self.path.read_bytes(), data)

    def test_a_later_version_is_named(self):
        self.open()
        self.store.database.read(lambda sql: sql.execute("PRAGMA user_version = 4"))
        self.close()
        with self.assertRaisesRegex(FormatError, "version 4, and this ampgrid knows 3"):
            self.open()

    def test_an_earlier_version_is_named(self):
        self.open()
        self.store.database.read(lambda sql: sql.execute("PRAGMA user_version = 2"))
        self.close()
        with self.assertRaisesRegex(FormatError, "version 2, and this ampgrid knows 3"):
            self.open()

    def test_two_processes_are_refused(self):
        first = self.open()
        self.assertRaises(ConfigError, self.open)
        self.store = first

    def test_a_lost_disk_makes_a_stranger(self):
        before = self.open().me
        self.make()
        self.close()
        self.assertEqual(self.open().me, before)
        wal = self.path.with_name("directories.sqlite-wal")
        log = wal.read_bytes() if wal.exists() else b""
        self.close()
        self.path.unlink()
        # A log that was left behind brings nothing back.
        wal.write_bytes(log)
        after = self.open().me
        self.assertNotEqual(after.store_id, before.store_id)
        self.assertEqual(self.store.room(fresh=True).directories, 0)
        owner = Owner(1, before)
        self.assertEqual(self.accept(owner.first()).verdict, Verdict.STRANGER)

    def test_the_file_is_the_users_alone(self):
        self.open()
        self.make()
        for path in self.folder.iterdir():
            self.assertEqual(path.stat().st_mode & 0o077, 0, path.name)

    def test_every_table_has_a_version(self):
        made = range(DIRECTORY_SCHEMA.oldest, DIRECTORY_SCHEMA.version)
        self.assertEqual(sorted(DIRECTORY_SCHEMA.upgrades), [*made])


class RoomTests(StoreCase):
    def test_the_quota_refuses_growth_alone(self):
        self.open(quota=3 * DIRECTORY_OVERHEAD + 40_000)
        owner, record = self.make(entries=200)
        changes = {slot_of(n): entry_of(n) for n in range(300, 400)}
        more = owner.change(record, changes)
        self.assertRaises(NoRoomError, self.accept, more, changes)
        self.assertEqual(self.store.show(owner.index).held, record.pack())
        self.assertEqual(list(check_accounts(self.store)), [])
        # What makes it smaller goes on, and a renewal, and a look.
        fewer = {slot_of(n): None for n in range(100)}
        smaller = owner.change(record, fewer)
        self.assertEqual(self.accept(smaller, fewer).verdict, Verdict.DONE)
        self.store.run(self.store.renewing(owner.index, self.caller()))
        self.assertTrue(self.store.page(owner.index, None, None).nodes)
        new = owner.change(smaller, {slot_of(300): entry_of(1)})
        self.assertEqual(self.accept(new, {slot_of(300): entry_of(1)}).verdict, Verdict.DONE)

    def test_replaced_nodes_make_room(self):
        self.open(quota=3 * DIRECTORY_OVERHEAD + 60_000)
        owner, record = self.make(entries=150)
        first = record
        for number in range(200):
            changes = {slot_of(number % 150): entry_of(number + 1000)}
            record = owner.change(record, changes)
            self.assertEqual(self.accept(record, changes).verdict, Verdict.DONE)
        room = self.store.room(fresh=True)
        self.assertLessEqual(room.used + room.replaced, room.quota)
        self.assertGreater(room.replaced, 1000)
        self.assertRaises(SnapshotLostError, self.store.page, owner.index, first.root, None)
        self.assertEqual(list(check_accounts(self.store)), [])

    def test_the_reserve_is_kept(self):
        free = [10**12]

        class Disk(PosixFileSystem):
            def free_bytes(self, path):
                return free[0]

        self.open(reserve=10**9, files=Disk())
        owner, record = self.make(entries=10)
        free[0] = 10**9 - 1
        changes = {slot_of(50): entry_of(50)}
        new = owner.change(record, changes)
        self.assertRaises(NoRoomError, self.accept, new, changes)
        self.assertRaises(NoRoomError, self.make, 2)
        self.store.run(self.store.renewing(owner.index, self.caller()))
        free[0] = 10**12
        self.assertEqual(self.accept(new, changes).verdict, Verdict.DONE)

    def test_staging_is_bounded_for_each_peer(self):
        self.patch(directory_accounts, "FREELY_STAGED_BYTES", 30_000)
        self.open(quota=150_000)
        owner, record = self.make()
        new = owner.change(record, {slot_of(n): entry_of(n, 3000) for n in range(40)})
        nodes = owner.nodes_of(new)

        def stage(peer):
            taken = 0
            for node in nodes:
                job = self.store.staging(owner.index, self.caller(peer), [node], shown=False)
                try:
                    self.store.run(job)
                except NoRoomError:
                    break
                taken += 1
            return taken

        first = stage(b"a" * 20)
        self.assertGreater(first, 3)
        self.assertLess(first, len(nodes))
        # What one peer has brought the next does not bring again.
        self.assertGreater(stage(b"b" * 20), first)
        self.now += 3601
        self.assertGreater(self.store.upkeep.sweep(self.now), 0)
        self.assertEqual(self.store.room(fresh=True).staged, 0)
        self.assertEqual(list(check_accounts(self.store)), [])

    def test_promises_pointers_and_leases_are_bounded(self):
        self.patch(directory_accounts, "FREELY_POINTED_BYTES", 3 * POINTER_OVERHEAD)
        self.patch(directory_changes, "MOST_PROMISES_A_PEER", 3)
        self.patch(directory_leases, "MOST_LEASES", 3)
        # What is left above three pointers is for others too.
        self.open(quota=11 * POINTER_OVERHEAD + 3 * (4096 + 128))
        owners = [Owner(number, self.store.me) for number in range(5)]

        def prepare(owner):
            job = self.store.preparing(owner.index, self.caller(), owner.prepare())
            return self.store.run(job)

        def point(owner):
            pointer = Pointer.make(owner.keys, epoch=0, version=1, cap=LitCap(b"x"))
            return self.store.run(self.store.pointing(owner.index, self.caller(), pointer))

        def renew(peer):
            job = self.store.renewing(owners[0].index, self.caller(bytes([peer]) * 20))
            return self.store.run(job)

        for ask in (prepare, point):
            for owner in owners[:3]:
                ask(owner)
            self.assertRaises(NoRoomError, ask, owners[3])
            ask(owners[0])
        for peer in (1, 2):
            renew(peer)
        self.assertRaises(NoRoomError, renew, 3)
        # Those that have run out make room.
        self.now += LEASE_SECONDS + 1
        renew(3)
        self.assertEqual(self.store.room(fresh=True).leases, 3)
        # A record makes a promise a directory.
        self.accept(owners[0].first())
        prepare(owners[3])
        self.assertEqual(list(check_accounts(self.store)), [])

    def test_a_small_grid_has_room_for_the_pointers_of_many_directories(self):
        """Each of a few peers gets one for every directory of each of the others."""
        self.open()
        keys = Owner(0).keys
        for start in range(0, 5_000, 1_000):
            jobs = []
            for number in range(start, start + 1_000):
                # Who signed it was looked at before, so one key does for all.
                pointer = Pointer.make(keys, epoch=0, version=1, cap=LitCap(b"x"))
                jobs.append(self.store.pointing(slot_of(number), self.caller(), pointer))
            for outcome in self.store.run_all(jobs):
                outcome.get()
        self.assertEqual(self.store.room(fresh=True).pointers, 5_000)
        # They count in the account of who put them.
        self.assertEqual(self.store.account(PEER), (5_000 * POINTER_OVERHEAD, 0))
        self.assertEqual(self.store.largest_accounts(3), [(PEER, 5_000 * POINTER_OVERHEAD, 0)])

    def test_accounts_are_the_makers(self):
        self.open()
        self.make(1, entries=20, peer=b"a" * 20)
        self.make(2, entries=5, peer=b"b" * 20)
        self.make(3, peer=b"b" * 20)
        for _ in range(2):
            accounts = self.store.largest_accounts(10)
            self.assertEqual(
                [(peer[:1], count) for peer, _, count in accounts], [(b"a", 1), (b"b", 2)]
            )
            self.assertEqual(self.store.account(b"b" * 20), accounts[1][1:])
            self.assertEqual(
                sum(size for _, size, _ in accounts), self.store.room(fresh=True).live
            )
            self.close()
            self.open()
        self.assertEqual(self.store.account(b"z" * 20), (0, 0))


class FailingDiskTests(SynchronousTestCase):
    """With `SqliteShim`: SQLite's own calls fail."""

    def run_with_disk(self, test):
        with workplace("directories") as work, SqliteShim.installed() as shim:
            plan = FaultPlan()
            shim.tap = FailingTap(plan, work)
            store = DirectoryStore.open(
                work / "directories.sqlite", KEY, b"n" * 20, wall=lambda: NOW, entropy=os.urandom
            )
            try:
                test(store, plan)
            finally:
                plan.heal()
                store.close()
            self.assertEqual(shim.errors, [])

    def accept(self, store, record, changes=None, now=NOW):
        job = store.accepting(record.index, Caller(PEER, now), record, changes)
        return store.run(job)

    def test_a_failed_disk_stops_changes_until_a_probe_passes(self):
        def test(store, plan):
            owner = Owner(1, store.me)
            record = owner.first()
            self.accept(store, record)
            changes = {slot_of(1): entry_of(1)}
            new = owner.change(record, changes)
            plan.set(0, EIO, lasting=True)
            self.assertRaises(BrokenStoreError, self.accept, store, new, changes)
            self.assertTrue(store.broken)
            plan.heal()
            # Not at once again: the first probe waits for its time.
            self.assertEqual(store.show(owner.index).held, record.pack())
            later = NOW + PROBE_SECONDS
            self.assertEqual(self.accept(store, new, changes, later).verdict, Verdict.DONE)
            self.assertFalse(store.broken)
            self.assertEqual(list(check_accounts(store)), [])

        self.run_with_disk(test)

    def test_a_full_disk_lets_renewals_and_looks_go_on(self):
        def test(store, plan):
            owner = Owner(1, store.me)
            record = owner.first()
            self.accept(store, record)
            changes = {slot_of(n): entry_of(n) for n in range(100)}
            new = owner.change(record, changes)
            plan.set(0, ENOSPC, lasting=True)
            self.assertRaises(NoRoomError, self.accept, store, new, changes)
            self.assertFalse(store.broken)
            self.assertEqual(store.show(owner.index).held, record.pack())
            # The ballast makes room for what is vital: here, the disk is well once it is gone.
            plan.set(0, ENOSPC)
            store.run(store.renewing(owner.index, Caller(PEER, NOW + 9)))
            plan.heal()
            self.assertEqual(self.accept(store, new, changes).verdict, Verdict.DONE)
            self.assertEqual(list(check_accounts(store)), [])

        self.run_with_disk(test)


class ThreadTests(StoreCase):
    def test_many_writers_at_once(self):
        self.open()
        outcomes = []

        def write(number):
            owner = Owner(number, self.store.me)
            record = owner.first()
            self.accept(record)
            for each in range(20):
                changes = {slot_of(each): entry_of(each)}
                record = owner.change(record, changes)
                outcomes.append(self.accept(record, changes).verdict)
                self.store.prove(owner.index, slot_of(each), None)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(outcomes, [Verdict.DONE] * 80)
        self.assertEqual(list(check_accounts(self.store)), [])


@attrs.define
class Directory:
    """What a directory should be."""

    owner: Owner
    record: Record
    entries: dict
    older: list


class StoreMachine(RuleBasedStateMachine):
    """A store against a plain dict of entries for each directory."""

    def __init__(self):
        super().__init__()
        self.place = workplace("machine")
        self.folder = self.place.__enter__()
        self.now = NOW
        self.store = None
        self.directories = {}

    def teardown(self):
        if self.store is not None:
            self.store.close()
        self.place.__exit__(None, None, None)

    @initialize()
    def open(self):
        self.store = DirectoryStore.open(
            self.folder / "d.sqlite",
            KEY,
            b"n" * 20,
            wall=lambda: NOW,
            entropy=lambda size: b"s" * size,
        )

    @rule()
    def reopen(self):
        self.store.close()
        self.open()

    def run(self, job):
        return self.store.run(job)

    @rule(number=st.integers(1, 3))
    def create(self, number):
        if number in self.directories:
            return
        owner = Owner(number, self.store.me)
        record = owner.first()
        caller = Caller(PEER, self.now)
        judged = self.run(self.store.accepting(owner.index, caller, record))
        assert judged.verdict is Verdict.DONE
        self.directories[number] = Directory(owner, record, {}, [])

    @rule(
        number=st.integers(1, 3),
        changes=st.dictionaries(
            st.integers(0, 60), st.none() | st.integers(1, 2500), min_size=1, max_size=30
        ),
        staged=st.booleans(),
    )
    def change(self, number, changes, staged):
        one = self.directories.get(number)
        if one is None:
            return
        # Slots that share their beginnings, for deep tries.
        packed = {
            (b"\x11" * (n % 7) + hashlib.sha256(b"%d" % n).digest())[:32]: (
                None if size is None else entry_of(n, size)
            )
            for n, size in changes.items()
        }
        record = one.owner.change(one.record, packed)
        caller = Caller(PEER, self.now)
        if staged:
            nodes = one.owner.nodes_of(record)
            self.run(self.store.staging(one.owner.index, caller, nodes, shown=False))
        sent = None if staged else packed
        job = self.store.accepting(one.owner.index, caller, record, sent)
        judged = self.run(job)
        assert judged.verdict is Verdict.DONE
        one.older.append((self.now, one.record.root, dict(one.entries)))
        one.record = record
        for slot, entry in packed.items():
            one.entries.pop(slot, None)
            if entry is not None:
                one.entries[slot] = entry

    @rule(seconds=st.integers(1, 4000))
    def wait(self, seconds):
        self.now += seconds
        while self.store.upkeep.sweep(self.now):
            pass

    @invariant()
    def is_as_it_should_be(self):
        if self.store is None:
            return
        assert list(check_accounts(self.store)) == []
        for one in self.directories.values():
            assert self.store.show(one.owner.index).held == one.record.pack()
            assert self.read(one, one.record.root) == one.entries
            for replaced_at, root, entries in one.older[-3:]:
                if self.now < replaced_at + 3600:
                    assert self.read(one, root) == entries

    def read(self, one, root):
        """Read a whole trie by its hashes."""
        nodes = {}
        while wanted := trie.wanted(root, nodes.get):
            found = self.store.nodes(one.owner.index, wanted[:1024])
            nodes.update(zip(wanted, found, strict=False))
        return dict(trie.entries(root, nodes.get))


StoreMachine.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
StoreMachineTests = StoreMachine.TestCase
