"""A replicated table over replicas in memory: reading, changing, listing, and what it costs."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import (
    ConditionFailedError,
    NotEnoughPeersError,
    NotMutableError,
    NotReachableError,
    RolledBackError,
    UncertainChangeError,
)
from ampgrid.formats.ballot import Prepare
from ampgrid.formats.record import Record
from ampgrid.register import words
from ampgrid.register.membership import releases
from ampgrid.testing.liars import StoresNothing
from ampgrid.testing.replicaworld import Client, ReplicaWorld
from ampgrid.vdrive.membership import BEHIND, CURRENT, STRANGER, UNREACHABLE
from ampgrid.vdrive.nodes import NodeCache
from ampgrid.vdrive.table import Table

Lookup = Callable[[Sequence[bytes]], Awaitable[dict[bytes, bytes | None]]]


def slot_of(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def setting(changes: dict[bytes, bytes | None]) -> Any:
    async def plan(_lookup: Lookup) -> dict[bytes, bytes | None]:
        return changes

    return plan


class ForgetfulListener(StoresNothing):
    """It says that it accepts, keeps nothing, and notes what it was sent."""

    def __init__(self, *ids: bytes) -> None:
        super().__init__(*ids)
        self.sent: list[Record] = []

    def judge(self, index: bytes, record: bytes, changes: Any) -> dict[str, Any]:
        """Note it."""
        self.sent.append(Record.unpack(record))
        return super().judge(index, record, changes)


class Case(SynchronousTestCase):
    """A world with one table in it, and its first writer."""

    replicas = 4

    def setUp(self) -> None:
        self.world = ReplicaWorld(self.replicas, 7)
        self.keys = self.world.keys()
        self.writer = self.world.client()
        self.table: Table = self.run_(self.writer.tables.create(self.keys))

    def run_(self, work: Any) -> Any:
        return self.world.run(work)

    def put(self, *numbers: int, table: Table | None = None, size: int = 20) -> Any:
        changes: dict[bytes, bytes | None] = {slot_of(n): b"%d" % n * size for n in numbers}
        return self.run_((table or self.table).change(setting(changes), list(changes)))

    def reader(self, **settings: Any) -> Table:
        client: Client = self.world.client(**settings)
        return client.tables.table(self.keys.fingerprint, None)

    def list_(self, table: Table) -> dict[bytes, bytes]:
        async def collect() -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = {}
            async for page in table.entries():
                found.update(page)
            return found

        found: dict[bytes, bytes] = self.run_(collect())
        return found

    def calls(self, *names: str) -> int:
        return sum(replica.calls.get(name, 0) for replica in self.world.replicas for name in names)

    def number_of(self, place: int) -> int:
        """The number of the replica at a place of the set."""
        record = self.run_(self.table.record())
        node_id = record.replicas[place].node_id
        return [replica.node_id for replica in self.world.replicas].index(node_id)


class TableTests(Case):
    def test_new_table_is_empty(self) -> None:
        record = self.run_(self.table.record())
        self.assertEqual((record.version, record.count, len(record.replicas)), (1, 0, 4))
        self.assertIsNone(self.run_(self.table.get(slot_of(1))))
        self.assertEqual(self.list_(self.reader()), {})

    def test_what_was_set_is_read_by_others(self) -> None:
        record = self.put(1)
        self.assertEqual((record.version, record.count), (2, 1))
        reader = self.reader()
        self.assertEqual(self.run_(reader.get(slot_of(1))), b"1" * 20)
        self.assertIsNone(self.run_(reader.get(slot_of(2))))

    def test_deleting_and_setting_at_once(self) -> None:
        self.put(1, 2)
        self.run_(self.table.change(setting({slot_of(1): None, slot_of(3): b"c"})))
        self.assertEqual(self.list_(self.reader()), {slot_of(2): b"2" * 20, slot_of(3): b"c"})

    def test_large_change_goes_by_its_nodes(self) -> None:
        self.put(*range(700), size=60)
        self.assertGreater(self.calls("StageNodes"), 0)
        self.assertEqual(len(self.list_(self.reader())), 700)
        report = self.run_(self.table.check())
        self.assertTrue(report.healthy)

    def test_empty_plan_changes_nothing(self) -> None:
        before = self.put(1)
        after = self.run_(self.table.change(setting({})))
        self.assertEqual(after.content, before.content)

    def test_read_only_table_is_not_changed(self) -> None:
        work = self.reader().change(setting({slot_of(1): b"x"}))
        self.assertRaises(NotMutableError, self.run_, work)

    def test_condition_is_judged_on_what_is_committed(self) -> None:
        self.put(1)

        async def plan(lookup: Lookup) -> dict[bytes, bytes | None]:
            if (await lookup([slot_of(1)]))[slot_of(1)] is not None:
                raise ConditionFailedError("there is one")
            return {slot_of(1): b"mine"}

        work = self.table.change(plan, [slot_of(1)])
        self.assertRaises(ConditionFailedError, self.run_, work)
        self.assertEqual(self.run_(self.table.get(slot_of(1))), b"1" * 20)

    def test_no_peer_no_table(self) -> None:
        world = ReplicaWorld(0)
        work = world.client().tables.create(world.keys())
        self.assertRaises(NotEnoughPeersError, world.run, work)

    def test_few_peers_make_a_small_set(self) -> None:
        for count in (1, 2, 3):
            world = ReplicaWorld(count, count)
            keys = world.keys()
            table = world.run(world.client().tables.create(keys))
            world.run(table.change(setting({slot_of(1): b"x"})))
            record = world.run(world.client().tables.table(keys.fingerprint, None).record())
            self.assertEqual((len(record.replicas), record.version), (count, 2))


class CostTests(Case):
    def test_lone_writer_pays_one_round_trip_a_change(self) -> None:
        began = self.world.clock.seconds()
        for number in range(20):
            self.put(number)
        self.assertAlmostEqual(self.world.clock.seconds() - began, 20 * 0.002, places=3)
        # Who made the directory goes on without a prepare.
        self.assertEqual(self.calls("Prepare"), 0)

    def test_another_writer_prepares_its_first_alone(self) -> None:
        self.put(0)
        table = self.world.client().tables.table(self.keys.fingerprint, self.keys)
        for number in range(1, 21):
            self.run_(table.change(setting({slot_of(number): b"x"})))
        self.assertEqual(self.calls("Prepare"), 4)

    def test_get_is_one_round_trip(self) -> None:
        self.put(*range(300))
        reader = self.reader()
        self.run_(reader.get(slot_of(1)))
        began = self.world.clock.seconds()
        self.assertEqual(self.run_(reader.get(slot_of(2))), b"2" * 20)
        self.assertAlmostEqual(self.world.clock.seconds() - began, 0.002, places=4)

    def test_waiting_changes_go_together(self) -> None:
        before = self.put(0).version
        work = [
            Deferred.fromCoroutine(self.table.change(setting({slot_of(n): b"x"})))
            for n in range(1, 41)
        ]
        records = self.run_(gatherResults(work))
        self.assertLessEqual(max(record.version for record in records), before + 2)
        self.assertEqual(len(self.list_(self.reader())), 41)

    def test_each_change_sees_those_before_it(self) -> None:
        async def plan(lookup: Lookup) -> dict[bytes, bytes | None]:
            now = (await lookup([slot_of(0)]))[slot_of(0)]
            return {slot_of(0): b"%d" % (int(now or b"0") + 1)}

        work = [Deferred.fromCoroutine(self.table.change(plan)) for _ in range(30)]
        self.run_(gatherResults(work))
        self.assertEqual(self.run_(self.table.get(slot_of(0))), b"30")

    def test_change_of_a_large_table_is_small_on_the_wire(self) -> None:
        self.put(*range(3_000), size=40)
        self.put(3_000)
        before = sum(each.bytes for each in self.writer.connections.values())
        self.put(3_001)
        spent = sum(each.bytes for each in self.writer.connections.values()) - before
        self.assertLess(spent, 8 * 1024)


class LossTests(Case):
    def test_one_gone_is_survived_and_caught_up(self) -> None:
        self.put(*range(50))
        gone = self.number_of(1)
        self.world.kill(gone)
        for number in range(50, 80):
            self.put(number)
        self.assertEqual(len(self.list_(self.reader())), 80)
        states = [one.state for one in self.run_(self.table.check()).replicas]
        self.assertEqual(sorted(states), sorted([CURRENT] * 3 + [UNREACHABLE]))
        self.world.revive(gone)
        states = [one.state for one in self.run_(self.table.check()).replicas]
        self.assertEqual(sorted(states), sorted([CURRENT] * 3 + [BEHIND]))
        self.assertTrue(self.run_(self.table.repair()).healthy)

    def test_returning_replica_is_caught_up_by_the_next_change(self) -> None:
        self.put(*range(50))
        gone = self.number_of(2)
        self.world.kill(gone)
        self.put(50)
        self.world.revive(gone)
        self.put(51)
        self.world.clock.advance(1)
        self.assertTrue(self.run_(self.table.check()).healthy)

    def test_two_gone_is_a_clear_error(self) -> None:
        self.put(1)
        for place in (0, 1):
            self.world.kill(self.number_of(place))
        for work in (
            self.table.record(),
            self.reader().get(slot_of(1)),
            self.table.change(setting({slot_of(2): b"x"})),
        ):
            error = self.assertRaises(NotReachableError, self.run_, work)
            self.assertIn("not reachable: 2 of 4 replicas found", str(error))

    def test_unknown_directory_is_not_reachable_rather_than_absent(self) -> None:
        table = self.writer.tables.table(self.world.keys().fingerprint, None)
        error = self.assertRaises(NotReachableError, self.run_, table.record())
        self.assertIn("not reachable: 0 of 4", str(error))

    def test_replicas_that_stand_still_cost_no_change(self) -> None:
        self.put(1)
        still = self.number_of(0)
        self.world.freeze(still)
        began = self.world.clock.seconds()
        for number in range(2, 60):
            self.put(number)
        self.assertLess(self.world.clock.seconds() - began, 0.2)
        self.world.freeze(still, frozen=False)
        self.world.clock.advance(20)
        self.put(60)
        self.world.clock.advance(1)
        self.assertTrue(self.run_(self.table.check()).healthy)

    def test_empty_disk_loses_nothing_and_votes_nothing(self) -> None:
        self.put(*range(30))
        wiped = self.number_of(0)
        self.world.wipe(wiped)
        self.put(30)
        self.assertEqual(self.world.replicas[wiped].kept, {})
        report = self.run_(self.table.check())
        self.assertEqual([one.state for one in report.replicas].count(STRANGER), 1)
        self.world.kill(self.number_of(1))
        work = self.table.change(setting({slot_of(31): b"x"}))
        self.assertRaises((NotReachableError, UncertainChangeError), self.run_, work)
        self.world.revive(self.number_of_id(report.replicas[1].replica_id.node_id))
        self.assertIn(len(self.list_(self.reader())), (31, 32))

    def number_of_id(self, node_id: bytes) -> int:
        return [replica.node_id for replica in self.world.replicas].index(node_id)

    def test_half_made_change_is_finished_by_a_reader(self) -> None:
        """The writer reaches one replica only and dies; a reader without keys settles it."""
        self.put(*range(10))
        members = [one.node_id for one in self.run_(self.table.record()).replicas]
        for node_id in members[1:]:
            self.writer.connections[node_id].frozen = True
        Deferred.fromCoroutine(self.table.change(setting({slot_of(99): b"half"}))).addErrback(
            lambda _failure: None
        )
        self.world.clock.advance(0.5)
        reader = self.reader()
        outcome = self.run_(reader.get(slot_of(99)))
        self.assertEqual(self.run_(self.reader().get(slot_of(99))), outcome)

    def test_old_state_of_all_replicas_is_found_out(self) -> None:
        self.put(1)
        kept = [
            (replica, replica.kept[self.keys.fingerprint].state) for replica in self.world.replicas
        ]
        for number in range(2, 6):
            self.put(number)
        for replica, state in kept:
            replica.kept[self.keys.fingerprint].state = state
        table = self.world.client(remembered=self.writer.remembered).tables.table(
            self.keys.fingerprint, None
        )
        self.assertRaises(RolledBackError, self.run_, table.record())


class MembershipTests(Case):
    replicas = 7

    def test_stranger_is_admitted_again(self) -> None:
        self.put(*range(40))
        self.world.wipe(self.number_of(1))
        report = self.run_(self.table.repair())
        self.assertTrue(report.healthy, report)
        self.assertEqual(report.record.epoch, 1)
        self.assertEqual(report.record.previous_replicas, ())
        self.assertEqual(len(self.list_(self.reader())), 40)
        # That it was a stranger is told until it is one no more.
        self.assertIn("a replica again, with its new store", " ".join(report.repaired))
        self.assertEqual(self.run_(self.table.check()).problems, ())

    def test_all_replicas_are_replaced_one_by_one(self) -> None:
        self.put(*range(40))
        old_reader = self.reader()
        self.run_(old_reader.record())
        before = self.run_(self.table.record()).replicas
        for _turn in range(3):
            record = self.run_(self.table.record())
            survivors = [one for one in before if one in record.replicas]
            gone = self.number_of(record.replicas.index(survivors[0]))
            self.world.kill(gone)
            self.assertTrue(self.run_(self.table.repair()).healthy)
        now = self.run_(self.table.record())
        self.assertGreaterEqual(now.epoch, 3)
        self.assertEqual(len(set(now.replicas) & set(before)), 1)
        self.put(41)
        self.assertEqual(len(self.list_(old_reader)), 41)
        self.assertEqual(len(self.list_(self.reader())), 41)

    def test_who_is_away_for_a_while_keeps_its_place(self) -> None:
        self.put(1)
        away = self.number_of(2)
        self.world.kill(away)
        report = self.run_(self.table.repair(gone=()))
        self.assertEqual((report.healthy, report.repaired), (False, ()))
        gone = {self.world.replicas[away].node_id}
        report = self.run_(self.table.repair(gone=gone))
        self.assertTrue(report.healthy)
        self.assertEqual(len(report.repaired), 1)
        self.assertEqual(report.to_json()["good"], 4)

    def test_liar_is_replaced(self) -> None:
        world = ReplicaWorld(6, 3, dict.fromkeys(range(6), ForgetfulListener))
        keys = world.keys()
        table = world.run(world.client().tables.create(keys))
        world.run(table.change(setting({slot_of(1): b"x"})))
        members = world.run(table.record()).replicas
        liar: Any = next(one for one in world.replicas if one.me == members[1])
        liar.begin()
        world.run(table.change(setting({slot_of(2): b"y"})))
        report = world.run(table.repair())
        self.assertTrue(report.healthy, report)
        self.assertNotIn(members[1], report.record.replicas)
        # It is told that the change was committed, so that it need not keep its nodes.
        world.clock.advance(1.0)
        moved = next(one for one in liar.sent if one.previous_replicas)
        self.assertTrue(releases(moved, liar.sent[-1], liar.me))

    def test_other_writer_follows_to_the_new_set(self) -> None:
        self.put(1)
        other = self.world.client().tables.table(self.keys.fingerprint, self.keys)
        self.put(2, table=other)
        self.world.kill(self.number_of(0))
        self.assertTrue(self.run_(self.table.repair()).healthy)
        self.put(3, table=other)
        self.assertEqual(len(self.list_(self.reader())), 3)

    def test_abandoned_change_of_the_set_does_not_block_others(self) -> None:
        """A writer prepares the next epoch everywhere and dies."""
        self.put(1)
        record = self.run_(self.table.record())
        dead = self.world.client().tables.table(self.keys.fingerprint, self.keys)
        self.run_(dead.record())
        changer = dead._changer
        assert changer is not None
        ballot = changer.ballots.above(record.ballot, epoch=record.epoch + 1)
        for replica in dead.ground.connected(record.replicas):
            self.run_(replica.prepare(dead.index, Prepare.make(self.keys, ballot)))
        self.put(2)
        self.put(3)
        record = self.run_(self.table.record())
        self.assertEqual((record.epoch, record.count), (0, 3))
        self.assertTrue(words.is_quorum([record.replicas], record.replicas))

    def test_small_set_grows(self) -> None:
        world = ReplicaWorld(2, 3)
        keys = world.keys()
        client = world.client()
        table = world.run(client.tables.create(keys))
        world.run(table.change(setting({slot_of(1): b"x"})))
        more = ReplicaWorld(3, 9).replicas
        world.replicas += more
        report = world.run(table.repair())
        self.assertTrue(report.healthy, report)
        self.assertEqual(len(report.record.replicas), 4)

    def test_leases_are_renewed_and_cancelled(self) -> None:
        self.assertEqual(self.run_(self.table.renew()), 4)
        self.assertEqual(self.run_(self.table.cancel()), 4)
        self.world.kill(self.number_of(0))
        self.assertEqual(self.run_(self.table.renew()), 3)


class ListingTests(Case):
    def test_listing_stays_with_its_version(self) -> None:
        self.put(*range(3_000), size=60)
        reader = self.reader(cache=NodeCache(0))

        async def collect() -> int:
            count = 0
            async for page in reader.entries():
                if not count:
                    await self.table.change(setting({slot_of(5_000): b"late"}))
                count += len(page)
            return count

        self.assertEqual(self.run_(collect()), 3_000)

    def test_listing_is_in_the_order_of_slots(self) -> None:
        self.put(*range(1_500), size=60)

        async def collect() -> list[bytes]:
            return [slot async for page in self.reader().entries() for slot, _entry in page]

        slots = self.run_(collect())
        self.assertEqual(slots, sorted(map(slot_of, range(1_500))))

    def test_listing_is_spread_over_replicas(self) -> None:
        self.put(*range(3_000), size=60)
        before = [replica.calls.get("GetNodes", 0) for replica in self.world.replicas]
        self.list_(self.reader(cache=NodeCache(0)))
        asked = [
            replica.calls.get("GetNodes", 0) - old
            for replica, old in zip(self.world.replicas, before, strict=True)
        ]
        self.assertGreaterEqual(sum(count > 0 for count in asked), 3, asked)
