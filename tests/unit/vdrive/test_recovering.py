"""Snapshots of tables, and bringing back those that lost their replicas."""

from __future__ import annotations

import random
from typing import Any

from ampgrid.caps import ChkCap, FileCap
from ampgrid.commands import errors as e
from ampgrid.commands import vdrive as commands
from ampgrid.errors import (
    AmpgridError,
    ForkError,
    FormatError,
    IntegrityError,
    NotReachableError,
    UndecidedError,
)
from ampgrid.formats.pointer import Pointer
from ampgrid.testing.replicas import MemoryReplica
from ampgrid.vdrive.recovering import recover
from ampgrid.vdrive.snapshots import Snapshot, make_snapshot, put_pointer
from ampgrid.vdrive.surveying import survey
from tests.unit.vdrive.test_table import Case, slot_of


class Unwilling(MemoryReplica):
    """It promises nothing."""

    @commands.Prepare.responder
    def prepare(self, index: bytes, prepare: bytes, slots: Any = None) -> dict[str, Any]:
        """Refuse."""
        raise e.NoSuchDirectoryError


CAP = ChkCap(b"k" * 16, b"u" * 32, 3, 5, 1_000)


class SnapshotTests(Case):
    def test_snapshot_goes_there_and_back(self) -> None:
        for count in (0, 1, 900):
            if count:
                self.put(*range(count), size=30)
            snapshot = self.run_(make_snapshot(self.table))
            again = Snapshot.unpack(snapshot.pack(), self.table.index)
            self.assertEqual(again, snapshot)
            self.assertEqual(again.record.count, count)

    def test_no_damaged_snapshot_is_taken(self) -> None:
        self.put(*range(120), size=30)
        packed = self.run_(make_snapshot(self.table)).pack()
        chance = random.Random(1)
        for _ in range(300):
            place = chance.randrange(len(packed))
            bad = bytearray(packed)
            bad[place] ^= 1 << chance.randrange(8)
            for damaged in (bytes(bad), packed[:place], packed + bytes(bad[-place:])):
                self.assertRaises(
                    (FormatError, IntegrityError), Snapshot.unpack, damaged, self.table.index
                )

    def test_snapshot_of_another_directory_is_refused(self) -> None:
        packed = self.run_(make_snapshot(self.table)).pack()
        other = self.world.keys().fingerprint
        self.assertRaises(IntegrityError, Snapshot.unpack, packed, other)


class RecoveryTests(Case):
    replicas = 7

    def lose(self, count: int) -> None:
        """Lose so many of the replicas for good."""
        for place in range(count):
            self.world.kill(self.number_of_place(place))

    def number_of_place(self, place: int) -> int:
        record = self.writer.remembered.get(self.table.index)
        assert record is not None
        node_id = record.replicas[place].node_id
        return [replica.node_id for replica in self.world.replicas].index(node_id)

    def bring_back(self, read_file: Any = None) -> Any:
        table = self.world.client().tables.table(self.table.index, self.keys)
        found = self.run_(survey(table, self.keys, read_file))
        return found, self.run_(recover(table, self.keys, found))

    def test_one_replica_is_enough(self) -> None:
        self.put(*range(300), size=30)
        self.lose(3)
        self.assertRaises(NotReachableError, self.run_, self.reader().record())
        found, record = self.bring_back()
        self.assertIn("found at 1 of 4 replicas", found.warnings[0])
        self.assertTrue(record.recovered)
        self.assertEqual(len(self.list_(self.reader())), 300)
        self.put(301)
        self.assertEqual(len(self.list_(self.reader())), 301)

    def test_who_saw_the_old_directory_goes_on_in_the_new(self) -> None:
        self.put(1)
        reader = self.reader()
        self.run_(reader.get(slot_of(1)))
        self.lose(3)
        self.bring_back()
        self.put(2)
        self.assertEqual(self.run_(reader.get(slot_of(2))), b"2" * 20)

    def test_snapshot_brings_back_what_no_replica_has(self) -> None:
        self.put(*range(50))
        packed = self.run_(make_snapshot(self.table)).pack()
        record = self.run_(self.table.record())
        pointer = Pointer.make(self.keys, epoch=record.epoch, version=record.version, cap=CAP)
        self.assertEqual(self.run_(put_pointer(self.table, pointer)), 7)
        self.put(50)
        self.lose(4)

        async def read_file(cap: FileCap) -> bytes:
            self.assertEqual(cap, CAP)
            return packed

        found, record = self.bring_back(read_file)
        self.assertTrue(found.from_file)
        self.assertEqual(record.count, 50)
        self.assertEqual(len(self.list_(self.reader())), 50)

    def test_what_may_be_lost_is_told(self) -> None:
        self.put(*range(5))
        alone = self.number_of_place(3)
        self.world.kill(alone)
        self.put(5)
        self.lose(3)
        self.world.revive(alone)
        table = self.writer.tables.table(self.table.index, self.keys)
        found = self.run_(survey(table, self.keys))
        self.assertEqual(len(found.warnings), 2)
        self.assertIn("Version 3 was seen from here before", found.warnings[1])
        self.run_(recover(table, self.keys, found))
        self.assertEqual(len(self.list_(self.reader())), 5)

    def test_nothing_left_is_told(self) -> None:
        self.put(1)
        self.lose(4)

        async def read_file(_cap: FileCap) -> bytes:
            raise AmpgridError("gone")

        table = self.world.client().tables.table(self.table.index, self.keys)
        work = survey(table, self.keys, read_file)
        self.assertRaises(NotReachableError, self.run_, work)

    def test_damaged_snapshot_is_told_and_not_used(self) -> None:
        self.put(1)
        packed = self.run_(make_snapshot(self.table)).pack()
        pointer = Pointer.make(self.keys, epoch=0, version=2, cap=CAP)
        self.run_(put_pointer(self.table, pointer))
        self.lose(3)

        async def read_file(_cap: FileCap) -> bytes:
            return packed[:-1]

        found, record = self.bring_back(read_file)
        self.assertFalse(found.from_file)
        self.assertIn("could not be read", found.warnings[-1])
        self.assertEqual(record.count, 1)

    def test_healthy_directory_is_not_recovered(self) -> None:
        self.put(1, 2)
        found = self.run_(survey(self.table, self.keys))
        self.assertEqual((found.warnings, found.healthy), ((), True))
        self.assertRaises(UndecidedError, self.run_, recover(self.table, self.keys, found))
        self.assertEqual(self.run_(self.reader().record()).epoch, 0)

    def test_a_fork_is_left_behind(self) -> None:
        one, other = self.put(1), self.put(2)
        self.writer.remembered.put_fork(one, other)
        self.assertRaises(ForkError, self.put, 3)
        found = self.run_(survey(self.table, self.keys))
        self.assertFalse(found.healthy)
        self.assertIn("contradict each other", found.warnings[0])
        self.run_(recover(self.table, self.keys, found))
        self.assertFalse(self.table.is_forked)
        self.put(3)
        self.assertEqual(len(self.list_(self.reader())), 3)

    def test_another_client_leaves_the_fork_behind_too(self) -> None:
        one, other = self.put(1), self.put(2)
        second = self.world.client()
        for client in (self.writer, second):
            client.remembered.put_fork(one, other)
        self.run_(recover(self.table, self.keys, self.run_(survey(self.table, self.keys))))
        table = second.tables.table(self.table.index, self.keys)
        self.assertTrue(table.is_forked)
        self.run_(table.record())
        self.put(3, table=table)
        self.assertEqual(len(self.list_(table)), 3)


class RacingTests(Case):
    """What happens between the survey and the recovery; four peers, all of them replicas."""

    def stale(self) -> Any:
        """Survey with two of four replicas, which then are there again."""
        self.put(1)
        self.world.kill(0)
        self.world.kill(1)
        found = self.run_(survey(self.table, self.keys))
        self.world.revive(0)
        self.world.revive(1)
        self.assertFalse(found.healthy)
        return found

    def epochs(self) -> list[int]:
        kept = [replica.kept[self.table.index] for replica in self.world.replicas]
        return [one.state.accepted.epoch for one in kept]

    def test_what_was_acknowledged_since_the_survey_stays(self) -> None:
        found = self.stale()
        other = self.world.client().tables.table(self.table.index, self.keys)
        self.put(2, table=other)
        self.assertRaises(UndecidedError, self.run_, recover(self.table, self.keys, found))
        self.assertEqual(self.epochs(), [0] * 4)
        self.assertEqual(len(self.list_(self.reader())), 2)
        self.put(3)
        self.assertEqual(len(self.list_(self.reader())), 3)

    def test_replicas_that_came_back_are_enough(self) -> None:
        found = self.stale()
        self.assertRaises(UndecidedError, self.run_, recover(self.table, self.keys, found))
        self.assertEqual(self.epochs(), [0] * 4)
        self.put(2)
        self.assertEqual(len(self.list_(self.reader())), 2)

    def test_nothing_is_sent_without_a_quorum_of_promises(self) -> None:
        for deaf in ((0, 1), (1, 2, 3)):
            self.setUp()
            found = self.stale()
            for number in deaf:
                self.world.replicas[number].__class__ = Unwilling
            work = recover(self.table, self.keys, found)
            self.assertRaises(NotReachableError, self.run_, work)
            for number in deaf:
                self.world.replicas[number].__class__ = MemoryReplica
            self.assertEqual(self.epochs(), [0] * 4)
            self.put(2)
            self.put(3)
            self.assertEqual(len(self.list_(self.reader())), 3)

    def test_a_peer_that_leaves_during_the_survey_is_no_mistake(self) -> None:
        self.put(1)
        self.world.freeze(3)
        self.world.clock.callLater(1.0, lambda: self.world.kill(1))
        table = self.world.client().tables.table(self.table.index, self.keys)
        self.assertEqual(self.run_(survey(table, self.keys)).snapshot.record.count, 1)
