"""What a client remembers of directories."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.errors import ForkError, StoreError
from ampgrid.formats.ballot import Ballot
from ampgrid.formats.record import Record, ReplicaId
from ampgrid.store.rememberdb import RememberDatabase
from ampgrid.vdrive.remembered import WRITE_SECONDS, LastingRemembered, MemoryRemembered
from ampgrid.wire import InlineThreads
from tests.unit.vdrive.test_table import Case, setting, slot_of


def record_of(seed: int, counter: int = 0) -> Record:
    chance = random.Random(seed)
    keys = WriteKeys(chance.randbytes(16))
    replica = ReplicaId(b"n" * 20, b"s" * 16)
    return Record.sign(keys, epoch=0, replicas=(replica,), ballot=Ballot(0, counter, bytes(8)))


class MemoryRememberedTests(SynchronousTestCase):
    def test_what_was_used_longest_ago_is_forgotten(self) -> None:
        remembered = MemoryRemembered(most=2)
        one, two, three = record_of(1), record_of(2), record_of(3)
        remembered.put(one)
        remembered.put(two)
        remembered.get(one.index)
        remembered.put(three)
        self.assertIsNone(remembered.get(two.index))
        self.assertEqual(remembered.get(one.index), one)

    def test_the_first_fork_stays(self) -> None:
        remembered = MemoryRemembered()
        one, two = record_of(1), record_of(1, 1)
        remembered.put_fork(one, two)
        remembered.put_fork(two, one)
        self.assertEqual(remembered.fork(one.index), (one, two))
        remembered.drop_fork(one.index)
        self.assertIsNone(remembered.fork(one.index))


class RefusingStore:
    """Records in memory, on a disk that may be full."""

    def __init__(self) -> None:
        self.refuses = True
        self.records: dict[bytes, bytes] = {}
        self.forks: dict[bytes, tuple[bytes, bytes]] = {}

    def _check(self) -> None:
        if self.refuses:
            raise StoreError("the disk is full")

    def record(self, directory: bytes) -> bytes | None:
        return self.records.get(directory)

    def put_records(self, records: Mapping[bytes, bytes]) -> None:
        self._check()
        self.records.update(records)

    def fork(self, directory: bytes) -> tuple[bytes, bytes] | None:
        return self.forks.get(directory)

    def put_fork(self, directory: bytes, one: bytes, other: bytes) -> None:
        self._check()
        self.forks.setdefault(directory, (one, other))

    def drop_fork(self, directory: bytes) -> None:
        self._check()
        self.forks.pop(directory, None)


class SlowThreads:
    """Runs what it was given when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def run(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        result: Deferred[Any] = Deferred()
        self.waiting.append((result, partial(function, *args, **kwargs)))
        return result

    def go_on(self) -> None:
        waiting, self.waiting = self.waiting, []
        for result, work in waiting:
            result.callback(work())


class LastingRememberedTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "remembered.sqlite"
        self.clock = Clock()

    def open(self) -> LastingRemembered:
        self.database = RememberDatabase(self.path)
        return LastingRemembered(self.database, self.clock, InlineThreads())

    def test_it_outlives_the_process(self) -> None:
        remembered = self.open()
        one, two, later = record_of(1), record_of(2), record_of(1, 5)
        remembered.put(one)
        remembered.put(two)
        remembered.put(later)
        self.clock.advance(WRITE_SECONDS)
        remembered.put_fork(one, later)
        self.database.close()
        remembered = self.open()
        self.assertEqual(remembered.get(one.index), later)
        self.assertEqual(remembered.get(two.index), two)
        self.assertIsNone(remembered.get(record_of(3).index))
        self.assertEqual(remembered.fork(one.index), (one, later))
        self.assertIsNone(remembered.fork(two.index))
        remembered.drop_fork(one.index)
        self.assertIsNone(remembered.fork(one.index))
        self.database.close()

    def test_stop_writes_what_is_left(self) -> None:
        remembered = self.open()
        remembered.put(record_of(1))
        self.successResultOf(Deferred.fromCoroutine(remembered.stop()))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.database.close()
        self.assertEqual(self.open().get(record_of(1).index), record_of(1))
        self.database.close()

    def test_what_the_disk_did_not_take_is_known_all_the_same(self) -> None:
        disk = RefusingStore()
        remembered = LastingRemembered(disk, self.clock, InlineThreads())
        disk.refuses = False
        many = [record_of(number) for number in range(1_100)]
        for record in many:
            remembered.put(record)
        self.clock.advance(WRITE_SECONDS)
        disk.refuses = True
        later = [record_of(number, 5) for number in range(1_100)]
        for record in later:
            remembered.put(record)
        self.clock.advance(WRITE_SECONDS)
        self.assertEqual([remembered.get(record.index) for record in later], later)
        one, other = record_of(1), record_of(1, 1)
        self.assertIsNone(remembered.fork(one.index))
        self.assertRaises(StoreError, remembered.put_fork, one, other)
        self.assertEqual(remembered.fork(one.index), (one, other))
        # It is tried again, as long as the node runs.
        disk.refuses = False
        self.clock.advance(WRITE_SECONDS)
        self.assertEqual(disk.records, {record.index: record.pack() for record in later})
        self.assertEqual(self.clock.getDelayedCalls(), [])
        remembered.drop_fork(one.index)
        self.assertIsNone(remembered.fork(one.index))

    def test_a_slow_disk_does_not_set_the_floor_back(self) -> None:
        """What is being written is in no file yet, and may be at hand no more."""
        disk, threads = RefusingStore(), SlowThreads()
        remembered = LastingRemembered(disk, self.clock, threads)
        disk.refuses = False
        records = [record_of(number) for number in range(1_100)]
        for record in records:
            remembered.put(record)
        self.clock.advance(WRITE_SECONDS)
        self.assertEqual(remembered.get(records[0].index), records[0])
        newer = record_of(0, 7)
        remembered.put(newer)
        # One write at a time, or an older one might be the last.
        self.clock.advance(WRITE_SECONDS)
        self.assertEqual(len(threads.waiting), 1)
        threads.go_on()
        self.assertEqual(remembered.get(newer.index), newer)
        self.clock.advance(WRITE_SECONDS)
        threads.go_on()
        self.assertEqual(disk.records[newer.index], newer.pack())

    def test_damaged_row_is_left_out(self) -> None:
        remembered = self.open()
        index = record_of(1).index
        self.database.put_records({index: record_of(1).pack()[:-1] + b"?"})
        self.assertIsNone(remembered.get(index))
        self.database.close()

    def test_those_seen_longest_ago_are_forgotten(self) -> None:
        database = RememberDatabase(self.path, most=3)
        for number in range(5):
            database.put_records({bytes([number]) * 32: b"r"})
        kept = [number for number in range(5) if database.record(bytes([number]) * 32)]
        self.assertEqual(kept, [2, 3, 4])
        database.close()


class ForkTests(Case):
    def test_fork_makes_the_directory_read_only_here(self) -> None:
        """A holder of the keys signs two histories; who saw one meets the other."""
        self.put(1)
        before = self.run_(self.table.record())
        self.put(2)
        for replica in self.world.replicas:
            kept = replica.kept[self.keys.fingerprint]
            ballot = Ballot(0, 50, b"forkfork")
            other = before.successor(
                self.keys,
                ballot=ballot,
                root=before.root,
                count=before.count,
                operation=b"8bytes!!",
            )
            kept.state = kept.state._replace(accepted=other, promised=ballot, prepare=None)
        self.assertRaises(ForkError, self.run_, self.table.record())
        one, other = self.writer.remembered.fork(self.keys.fingerprint) or (None, None)
        self.assertEqual({one and one.version, other and other.version}, {3})
        work = self.table.change(setting({slot_of(9): b"x"}))
        self.assertRaises(ForkError, self.run_, work)
        self.assertEqual(self.run_(self.reader().get(slot_of(1))), b"1" * 20)
