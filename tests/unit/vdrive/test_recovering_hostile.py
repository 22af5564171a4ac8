"""Bringing a directory back while others change it, come back, lie, or do the same."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ampgrid.commands import errors as e
from ampgrid.commands import vdrive as commands
from ampgrid.errors import AmpgridError, UncertainChangeError, UndecidedError
from ampgrid.formats.ballot import MAX_COUNTER, MAX_EPOCH, Ballot, Prepare
from ampgrid.formats.pointer import Pointer
from ampgrid.formats.record import Record
from ampgrid.register import acceptor
from ampgrid.testing.liars import ZOO, Liar
from ampgrid.testing.replicas import Kept
from ampgrid.testing.replicaworld import Client, ReplicaWorld
from ampgrid.vdrive.recovering import recover
from ampgrid.vdrive.snapshots import make_snapshot, put_pointer
from ampgrid.vdrive.surveying import survey
from ampgrid.vdrive.table import Table
from tests.unit.vdrive.test_recovering import CAP
from tests.unit.vdrive.test_table import Case


def known(failure: Failure) -> AmpgridError:
    """Return an error that may come of it."""
    failure.trap(AmpgridError)
    error: AmpgridError = failure.value
    return error


class Recovery(Case):
    """Nine peers; the table has four of them."""

    replicas = 9

    def place(self, place: int) -> int:
        """The number of the peer at a place of the first set."""
        record = self.writer.remembered.get(self.table.index)
        assert record is not None
        node_id = record.replicas[place].node_id
        return [replica.node_id for replica in self.world.replicas].index(node_id)

    def fresh(self, client: Client | None = None) -> Table:
        """The table for a client that remembers nothing."""
        return (client or self.world.client()).tables.table(self.table.index, self.keys)

    async def bring_back(self, table: Table, read_file: Any = None) -> Record:
        return await recover(table, self.keys, await survey(table, self.keys, read_file))

    def count(self) -> int:
        """How many entries a client finds that remembers nothing."""
        return len(self.list_(self.fresh()))


class ReturningTests(Recovery):
    def test_old_replicas_that_come_back_are_told(self) -> None:
        """Three of four come back, which were a quorum."""
        self.put(*range(40))
        places = [self.place(n) for n in range(4)]
        for number in places[1:]:
            self.world.kill(number)
        self.run_(self.bring_back(self.fresh()))
        table = self.fresh()
        self.put(100, table=table)
        for number in places[1:]:
            self.world.revive(number)
        self.run_(table.repair())
        self.world.clock.advance(1.0)
        shown = [self.world.replicas[n].kept[table.index].state.accepted for n in places]
        self.assertEqual({record.epoch for record in shown if record}, {1})
        # The one that knew of the recovery is gone now; nobody takes what is old for true.
        self.world.kill(places[0])
        self.assertEqual(self.count(), 41)
        self.put(101, table=self.fresh())
        self.assertEqual(self.count(), 42)

    def test_old_replicas_that_were_asked_take_no_old_change(self) -> None:
        """Two of four are there while it is brought back; the others come back later."""
        self.put(*range(10))
        old = self.fresh()
        self.run_(old.record())
        for place in (2, 3):
            self.world.kill(self.place(place))
        found = self.run_(survey(self.fresh(), self.keys))
        self.run_(recover(self.fresh(), self.keys, found))
        for place in (2, 3):
            self.world.revive(self.place(place))
        # A writer who knows only the old set finds the new one.
        record = self.put(11, table=old)
        self.assertEqual(record.epoch, 1)
        self.assertEqual(self.count(), 11)


class RacingTests(Recovery):
    def race(self, seed: int) -> tuple[list[Record], ReplicaWorld]:
        """Let two bring a directory back at once; return what came through."""
        self.world = ReplicaWorld(self.replicas, seed)
        self.world.weather.most = 0.2
        self.keys = self.world.keys()
        self.writer = self.world.client()
        self.table = self.run_(self.writer.tables.create(self.keys))
        self.put(*range(20))
        for place in self.world.chance.sample(range(4), 2 + seed % 2):
            self.world.kill(self.place(place))
        through: list[Record] = []
        ended: list[Deferred[Any]] = []
        for _ in range(2):
            table = self.fresh()
            ended.append(Deferred.fromCoroutine(self.bring_back(table)))
            ended[-1].addCallbacks(through.append, known)
            self.world.clock.advance(self.world.chance.random() * 0.6)
        for one in ended:
            self.run_(one)
        return through, self.world

    def test_of_two_who_bring_it_back_one_comes_through(self) -> None:
        both = none = 0
        for seed in range(60):
            through, _world = self.race(seed)
            both += len(through) == 2
            none += not through
            if len(through) == 2:
                # The second found what the first had made.
                one, other = sorted(through, key=lambda record: record.version)
                self.assertEqual(other.previous, one.content)
            if not through:
                self.run_(self.bring_back(self.fresh()))
            self.assertEqual(self.count(), 20, seed)
            self.put(50, table=self.fresh())
            self.put(51, table=self.fresh())
            self.assertEqual(self.count(), 22, seed)
        # All of it happens: the searched seeds are no easy ones.
        self.assertLess(both, 30)
        self.assertGreater(none, 0)

    def test_a_writer_goes_on_while_it_is_brought_back(self) -> None:
        """The old quorum is there for the writer; who brings it back reaches two replicas."""
        for seed in range(25):
            self.world = ReplicaWorld(self.replicas, seed)
            self.world.weather.most = 0.2
            self.keys = self.world.keys()
            self.writer = self.world.client()
            self.table = self.run_(self.writer.tables.create(self.keys))
            self.put(*range(5))
            other = self.world.client()
            other.part([self.place(0), self.place(1)])
            recovering = Deferred.fromCoroutine(self.bring_back(self.fresh(other)))
            self.world.clock.advance(self.world.chance.random() * 0.6)
            acknowledged = 5
            for number in range(5, 9):
                try:
                    self.put(number)
                except AmpgridError:
                    continue
                acknowledged += 1
            recovering.addErrback(known)
            record = self.run_(recovering)
            found = self.run_(self.fresh().record())
            if not isinstance(record, Record):
                # Given up: then nothing is lost.
                self.assertGreaterEqual(found.count, acknowledged, seed)
            self.put(99, table=self.fresh())
            self.put(98, table=self.fresh())


class LeftAsideTests(Recovery):
    def test_peers_that_were_left_aside_take_it(self) -> None:
        self.put(*range(20))
        for place in (2, 3):
            self.world.kill(self.place(place))
        table = self.fresh()
        for replica in self.world.replicas:
            table.ground.means.patience.lose(replica.me)
        self.assertEqual(self.run_(self.bring_back(table)).count, 20)
        self.assertEqual(self.count(), 20)


class UnwillingTests(Recovery):
    def test_others_take_the_place_of_those_who_promise_nothing(self) -> None:
        """Two dropped it when nobody kept it any more, one is dead: the last one has it."""
        self.put(*range(20))
        for place in (0, 1):
            kept = self.world.replicas[self.place(place)].kept[self.table.index]
            kept.state = acceptor.forget(kept.state)
            kept.nodes.clear()
        self.world.kill(self.place(2))
        record = self.run_(self.bring_back(self.fresh()))
        self.assertEqual(record.count, 20)
        self.assertEqual(self.count(), 20)
        self.put(99, table=self.fresh())
        self.assertEqual(self.count(), 21)


class CutShortTests(Recovery):
    def test_it_is_begun_again_wherever_it_was_cut_short(self) -> None:
        """Who brings it back is cut off after each box in turn, and another does it again."""
        outcomes = set()
        for boxes in range(1, 200):
            self.setUp()
            self.put(*range(30))
            for place in (0, 1, 2):
                self.world.kill(self.place(place))
            first = self.world.client()
            work = Deferred.fromCoroutine(self.bring_back(self.fresh(first)))
            work.addErrback(known)
            while not work.called and sum(c.boxes for c in first.connections.values()) < boxes:
                self.world.clock.advance(0.0005)
            first.part(range(self.replicas))
            outcome = self.run_(work)
            if isinstance(outcome, Record):
                break
            outcomes.add(type(outcome))
            table = self.fresh()
            found = self.run_(survey(table, self.keys))
            if not found.healthy:
                self.run_(recover(table, self.keys, found))
            self.assertEqual(self.count(), 30, boxes)
            self.put(31, table=self.fresh())
            self.assertEqual(self.count(), 31, boxes)
        else:
            self.fail("it never came through")
        self.assertIn(UncertainChangeError, outcomes)

    def test_peers_crash_while_it_is_brought_back(self) -> None:
        """One or two of the new set die after so many milliseconds, and come back later."""
        for after in range(1, 14):
            for dying in (1, 2):
                self.setUp()
                self.put(*range(30))
                for place in (0, 1, 2):
                    self.world.kill(self.place(place))
                alive = [
                    number
                    for number, replica in enumerate(self.world.replicas)
                    if replica.node_id not in self.world.down and number != self.place(3)
                ]
                work = Deferred.fromCoroutine(self.bring_back(self.fresh()))
                work.addErrback(known)
                self.world.clock.advance(after / 1000)
                for number in alive[:dying]:
                    self.world.kill(number)
                self.run_(work)
                for number in alive[:dying]:
                    self.world.revive(number)
                found = self.run_(survey(self.fresh(), self.keys))
                if not found.healthy:
                    self.run_(recover(self.fresh(), self.keys, found))
                self.assertEqual(self.count(), 30)
                self.put(31, table=self.fresh())
                self.assertEqual(self.count(), 31)


class SetChangeTests(Recovery):
    def test_a_change_of_the_set_was_under_way(self) -> None:
        """It ends after any number of boxes, and then all old replicas but one are lost."""
        epochs = set()
        for boxes in range(1, 200):
            self.setUp()
            self.put(*range(20))
            members = [self.place(n) for n in range(4)]
            self.world.kill(members[0])
            mover = self.world.client()
            self.run_(self.fresh(mover).record())
            start = sum(c.boxes for c in mover.connections.values())
            work = Deferred.fromCoroutine(self.fresh(mover).repair())
            work.addErrback(known)
            while not work.called and (
                sum(c.boxes for c in mover.connections.values()) < start + boxes
            ):
                self.world.clock.advance(0.0005)
            done = work.called
            mover.part(range(self.replicas))
            self.run_(work)
            for number in members[1:3]:
                self.world.kill(number)
            table = self.fresh()
            found = self.run_(survey(table, self.keys))
            self.assertEqual(found.snapshot.record.count, 20, boxes)
            if not found.healthy:
                record = self.run_(recover(table, self.keys, found))
                epochs.add(record.epoch)
                self.assertEqual(record.previous_replicas, ())
            self.assertEqual(self.count(), 20, boxes)
            self.put(31, table=self.fresh())
            self.assertEqual(self.count(), 21, boxes)
            if done:
                break
        else:
            self.fail("the set was never changed")
        self.assertLessEqual({1, 2}, epochs)


class ShowsMoreLater(Liar):
    """It shows what it has to nobody but who prepares."""

    preparing = False

    def shown(self, kept: Kept, nodes: Sequence[bytes] = ()) -> dict[str, Any]:
        answer = super().shown(kept, nodes)
        return (
            answer if self.preparing or not self.lying else {**answer, "held": None, "nodes": []}
        )

    @commands.Prepare.responder
    def prepare(
        self, index: bytes, prepare: bytes, slots: Sequence[bytes] | None = None
    ) -> dict[str, Any]:
        self.preparing = True
        try:
            return super().prepare(index, prepare, slots)
        finally:
            self.preparing = False

    @commands.GetNodes.responder
    def get_nodes(self, index: bytes, hashes: Sequence[bytes]) -> dict[str, Any]:
        raise e.SnapshotGoneWireError("gone")


class LyingTests(Recovery):
    def begin(self, make: dict[int, Any]) -> None:
        """Begin anew, in the same world but for who lies."""
        self.world = ReplicaWorld(self.replicas, 5, make)
        self.keys = self.world.keys()
        self.writer = self.world.client()
        self.table = self.run_(self.writer.tables.create(self.keys))

    def test_what_an_honest_replica_has_comes_back_in_spite_of_any_liar(self) -> None:
        """Two of the old set are left, one of which lies; it takes part in the new set, too."""
        for liar in ZOO:
            for honest in (1, 2, 3):
                self.begin({})
                liar_number = self.place(0)
                self.begin({liar_number: liar})
                self.assertEqual(self.place(0), liar_number)
                for start in range(0, 20, 4):
                    self.put(*range(start, start + 4))
                for place in {1, 2, 3} - {honest}:
                    self.world.kill(self.place(place))
                lying: Any = self.world.replicas[liar_number]
                lying.begin()
                record = self.run_(self.bring_back(self.fresh()))
                self.assertEqual(record.count, 20, liar)
                self.assertEqual(self.count(), 20, liar)
                self.put(99, table=self.fresh())
                self.assertEqual(self.count(), 21, liar)

    def give_more(self, replica: Any) -> None:
        """Let a replica have a version that no other has."""
        held = replica.kept[self.table.index].state.accepted
        record = held.successor(
            self.keys,
            ballot=Ballot(0, 10**6, bytes(8)),
            root=held.root,
            count=held.count,
            operation=b"nobodys!",
        )
        self.assertEqual(
            replica.judge(self.table.index, record.pack(), None)["verdict"], commands.DONE
        )

    def test_who_shows_more_when_it_matters_is_believed_once(self) -> None:
        """It hides what it has from who looks, and shows it to who goes on."""
        for left, hides_newer in ((2, True), (2, False), (1, True)):
            self.begin({})
            number = self.place(0)
            self.begin({number: ShowsMoreLater})
            self.put(*range(20))
            liar: Any = self.world.replicas[number]
            liar.begin()
            if hides_newer:
                self.give_more(liar)
            for place in range(1, 4 - left):
                self.world.kill(self.place(place))
            table = self.fresh()
            with contextlib.suppress(UndecidedError):
                self.run_(self.bring_back(table))
            record = self.run_(self.bring_back(table))
            self.assertEqual(record.count, 20)
            self.assertEqual(self.count(), 20)


class SnapshotTests(Recovery):
    def test_a_snapshot_newer_than_what_replicas_have(self) -> None:
        self.put(*range(10))
        behind = self.place(3)
        self.world.kill(behind)
        self.put(*range(10, 30))
        packed = self.run_(make_snapshot(self.table)).pack()
        record = self.run_(self.table.record())
        pointer = Pointer.make(self.keys, epoch=record.epoch, version=record.version, cap=CAP)
        self.run_(put_pointer(self.table, pointer))
        self.put(30)
        for place in range(3):
            self.world.kill(self.place(place))
        self.world.revive(behind)

        async def read_file(_cap: object) -> bytes:
            return packed

        table = self.fresh()
        found = self.run_(survey(table, self.keys, read_file))
        self.assertTrue(found.from_file)
        self.assertEqual((found.snapshot.record.count, found.holders), (30, ()))
        self.assertIn("found at 0 of 4 replicas; 3 did not answer", found.warnings[0])
        self.run_(recover(table, self.keys, found))
        self.assertEqual(self.count(), 30)
        # The replica that lags is no reason for anything, whoever asks it.
        self.put(31, table=self.fresh())
        self.assertEqual(self.count(), 31)


class LastBallotTests(Recovery):
    """Somebody with the write key takes the last ballot there is."""

    def plant(self, ballot: Ballot, numbers: Any = None) -> None:
        client = self.world.client()
        prepare = Prepare.make(self.keys, ballot)
        for number in range(self.replicas) if numbers is None else numbers:
            replica = client.peers()[self.world.replicas[number].node_id]
            self.run_(replica.prepare(self.table.index, prepare))

    def test_the_last_counter_is_a_clear_error_and_a_recovery_gets_out(self) -> None:
        self.put(1)
        self.plant(Ballot(0, MAX_COUNTER, b"\xff" * 8))
        for _ in range(2):
            with self.assertRaisesRegex(UndecidedError, "recover-directory"):
                self.put(2)
        table = self.fresh()
        found = self.run_(survey(table, self.keys))
        record = self.run_(recover(table, self.keys, found))
        self.assertEqual((record.epoch, record.ballot.counter), (1, 1))
        # Also for who met that ballot.
        for number in range(2, 6):
            self.put(number)
            self.put(number + 10, table=self.fresh())
        self.assertEqual(self.count(), 9)

    def test_the_last_epoch_promised_by_others_is_passed_by(self) -> None:
        self.put(1)
        members = {self.place(n) for n in range(4)}
        others = sorted({*range(self.replicas)} - members)
        self.plant(Ballot(MAX_EPOCH, MAX_COUNTER, b"\xff" * 8), others[:2])
        for place in (0, 1):
            self.world.kill(self.place(place))
        record = self.run_(self.bring_back(self.fresh()))
        self.assertEqual(record.epoch, 1)
        self.assertEqual(self.count(), 1)
        self.put(2, table=self.fresh())

    def test_the_last_epoch_in_a_record_is_the_end_and_says_so(self) -> None:
        record = self.put(1)
        ballot = Ballot(MAX_EPOCH, 7, b"\xff" * 8)
        last = record.successor(
            self.keys, ballot=ballot, root=record.root, count=record.count, operation=b"malice.."
        )
        client = self.world.client()
        for place in range(4):
            replica = client.peers()[self.world.replicas[self.place(place)].node_id]
            self.run_(replica.accept(self.table.index, last))
        self.world.kill(self.place(0))
        self.world.kill(self.place(1))
        with self.assertRaisesRegex(UndecidedError, "copy what is in it"):
            self.run_(self.bring_back(self.fresh()))
        self.world.revive(self.place(0))
        self.assertEqual(self.count(), 1)
