"""What a client remembers of directories."""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.errors import ForkError
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
        from twisted.internet.defer import Deferred

        remembered = self.open()
        remembered.put(record_of(1))
        self.successResultOf(Deferred.fromCoroutine(remembered.stop()))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.database.close()
        self.assertEqual(self.open().get(record_of(1).index), record_of(1))
        self.database.close()

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
