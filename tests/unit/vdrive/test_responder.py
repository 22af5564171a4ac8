"""The vdrive service over its responder: every Command, asked rightly and asked badly."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, DeferredList
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import LitCap
from ampgrid.commands import errors as e
from ampgrid.commands import vdrive as commands
from ampgrid.commands.base import GridCommand
from ampgrid.formats import trie
from ampgrid.formats.pointer import Pointer
from ampgrid.formats.record import Record
from ampgrid.store import directory_changes, directory_leases
from ampgrid.store.directories import DirectoryStore, Verdict
from ampgrid.store.directory_accounts import DIRECTORY_OVERHEAD
from ampgrid.testing.clock import HeapClock
from ampgrid.vdrive.responder import VdriveResponder
from ampgrid.vdrive.service import PASS_SECONDS, VdriveService, VdriveSettings
from ampgrid.wire import InlineThreads, LoopbackConnection
from tests.campaigns.directory_bench import check_accounts
from tests.contract.directory_owner import ELSEWHERE, Owner, entry_of, slot_of

NOW = 1_800_000_000
PEER = b"p" * 20
KEY = b"k" * 32
ALL = [
    command
    for command in vars(commands).values()
    if isinstance(command, type)
    and issubclass(command, GridCommand)
    and command is not GridCommand
]
ANSWERED = [command for command in ALL if command is not commands.GetPublicRoot]


class ServiceCase(SynchronousTestCase):
    settings = VdriveSettings()
    quota = None

    def setUp(self):
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        self.path = folder / "directories.sqlite"
        self.clock = HeapClock()
        self.open()

    def open(self):
        self.store = DirectoryStore.open(
            self.path,
            KEY,
            b"n" * 20,
            wall=self.wall,
            entropy=os.urandom,
            quota=self.quota,
        )
        self.service = VdriveService(
            self.store,
            clock=self.clock,
            wall=self.wall,
            threads=self.threads(),
            entropy=os.urandom,
            settings=self.settings,
        )
        self.clock.run(self.service.start())
        self.peer = self.connect(PEER)
        self.owner = Owner(1, self.store.me)

    def threads(self):
        return InlineThreads()

    def wall(self):
        return NOW + self.clock.seconds()

    def tearDown(self):
        self.clock.run(self.service.stop())

    def connect(self, peer):
        connection = LoopbackConnection(peer, self.clock)
        connection.serve(VdriveResponder(self.service, connection))
        return connection

    def ask(self, command, connection=None, **arguments):
        return self.clock.run((connection or self.peer).call(command, **arguments))

    def make(self, entries=0):
        record = self.owner.first()
        answer = self.ask(commands.CreateDirectory, index=self.owner.index, record=record.pack())
        self.assertEqual(answer["verdict"], commands.DONE)
        if entries:
            record = self.change(record, {slot_of(n): entry_of(n) for n in range(entries)})
        return record

    def change(self, record, changes):
        new = self.owner.change(record, changes)
        answer = self.ask(
            commands.SetChildren,
            index=new.index,
            record=new.pack(),
            slots=list(changes),
            entries=[entry or b"" for entry in changes.values()],
        )
        self.assertEqual(answer["verdict"], commands.DONE)
        return new


class SlowThreads(InlineThreads):
    """Work takes time, so that other work comes meanwhile."""

    def __init__(self, clock):
        self.clock = clock

    def run(self, function, /, *args):
        result = super().run(function, *args)
        self.clock.callLater(0.001, result.unpause)
        result.pause()
        return result


class LargeChangeTests(ServiceCase):
    def threads(self):
        return SlowThreads(self.clock)

    def test_a_large_change_lets_others_come_in_between(self):
        for name, most in (("MOST_AT_ONCE", 8), ("PLACES_A_SLICE", 4)):
            self.patch(directory_changes, name, most)
        record = self.make()
        other = Owner(2, self.store.me)
        new = self.owner.change(record, {slot_of(n): entry_of(n) for n in range(1000)})
        for node in self.owner.nodes_of(new):
            self.ask(commands.StageNodes, index=new.index, nodes=[node])
        ended = []

        async def send():
            large = self.service.accept(new.index, PEER, new.pack())
            calls = [Deferred.fromCoroutine(large)]
            small = self.service.create(other.index, PEER, other.first().pack())
            calls.append(Deferred.fromCoroutine(small))
            for name, call in zip(("large", "small"), calls, strict=True):
                call.addCallback(lambda judged, name=name: ended.append((name, judged.verdict)))
            await DeferredList(calls)

        self.clock.run(send())
        self.assertEqual(ended, [("small", "done"), ("large", "done")])
        # What is left of it is done without being asked for.
        self.clock.advance(1.0)
        self.assertEqual(self.store.room(fresh=True).staged, 0)
        self.assertEqual(list(check_accounts(self.store)), [])

    def test_a_service_that_stops_leaves_it(self):
        for name, most in (("MOST_AT_ONCE", 8), ("PLACES_A_SLICE", 4)):
            self.patch(directory_changes, name, most)
        record = self.make()
        new = self.owner.change(record, {slot_of(n): entry_of(n) for n in range(1000)})
        for node in self.owner.nodes_of(new):
            self.ask(commands.StageNodes, index=new.index, nodes=[node])
        large = Deferred.fromCoroutine(self.service.accept(new.index, PEER, new.pack()))
        self.clock.advance(0.02)
        self.clock.run(self.service.stop())
        self.failureResultOf(large, e.BusyError)
        self.open()
        self.assertEqual(self.store.show(new.index).held, record.pack())


class AnswerTests(ServiceCase):
    def test_verdicts_are_the_words_of_the_wire(self):
        words = {
            commands.DONE,
            commands.REFUSED,
            commands.MISSING,
            commands.CONFLICT,
            commands.STRANGER,
        }
        self.assertEqual({str(verdict) for verdict in Verdict}, words)

    def test_every_command_is_answered(self):
        responder = VdriveResponder(self.service, self.peer)
        for command in ANSWERED:
            self.assertIsNotNone(responder.locateResponder(command.commandName), command)

    def test_the_life_of_a_directory(self):
        index = self.owner.index
        self.assertEqual(self.ask(commands.GetReplica), {"store": self.store.me.store_id})
        with self.assertRaises(e.NoSuchDirectoryError):
            self.ask(commands.GetRecord, index=index)
        prepare = self.owner.prepare()
        answer = self.ask(commands.Prepare, index=index, prepare=prepare.pack())
        self.assertEqual((answer["verdict"], answer["nodes"]), (commands.DONE, []))
        record = self.make()
        new = self.owner.change(record, {slot_of(1): entry_of(1)})
        answer = self.ask(
            commands.SetChild,
            index=index,
            record=new.pack(),
            slot=slot_of(1),
            entry=entry_of(1),
        )
        self.assertEqual(answer["verdict"], commands.DONE)
        later = self.owner.prepare()
        answer = self.ask(commands.Prepare, index=index, prepare=later.pack())
        self.assertEqual((answer["verdict"], answer["held"]), (commands.DONE, new.pack()))
        answer = self.ask(commands.GetChild, index=index, slot=slot_of(1))
        self.assertEqual((answer["held"], answer["prepared"]), (new.pack(), later.pack()))
        self.assertEqual(trie.prove(new.root, slot_of(1), answer["nodes"]), entry_of(1))
        self.assertEqual(
            self.ask(commands.GetRecord, index=index, slots=[slot_of(1)])["nodes"], answer["nodes"]
        )
        self.assertEqual(self.ask(commands.ListChildren, index=index)["nodes"], answer["nodes"])
        self.assertEqual(
            self.ask(commands.GetNodes, index=index, hashes=[new.root])["nodes"], answer["nodes"]
        )
        gone = self.owner.change(new, {slot_of(1): None}, later.ballot)
        answer = self.ask(commands.DeleteChild, index=index, record=gone.pack(), slot=slot_of(1))
        self.assertEqual(answer["verdict"], commands.DONE)
        self.assertEqual(self.ask(commands.ListChildren, index=index)["nodes"], [])
        self.ask(commands.RenewDirectory, index=index)
        self.ask(commands.CancelDirectory, index=index)
        with self.assertRaises(e.NoSuchLeaseError):
            self.ask(commands.CancelDirectory, index=index)
        with self.assertRaises(e.SnapshotGoneWireError):
            self.ask(commands.GetNodes, index=index, hashes=[b"?" * 32])

    def test_nodes_and_their_record_without_waiting(self):
        """What one connection sends is done in the order in which it was sent."""
        record = self.make()
        new = self.owner.change(record, {slot_of(n): entry_of(n) for n in range(100)})
        nodes = self.owner.nodes_of(new)
        index = self.owner.index

        async def send():
            calls = [
                self.peer.call(commands.StageNodes, index=index, nodes=nodes[start : start + 3])
                for start in range(0, len(nodes), 3)
            ]
            calls.append(self.peer.call(commands.Accept, index=index, record=new.pack()))
            return [await call for call in calls][-1]

        self.assertEqual(self.clock.run(send())["verdict"], commands.DONE)

    def test_a_failure_hits_nobody_else(self):
        """Calls that are served together fail one by one."""
        record = self.make()

        async def send():
            good = self.service.renew(record.index, PEER)
            bad = self.service.prepare(record.index, PEER, None, ())
            results = DeferredList(
                [Deferred.fromCoroutine(bad), Deferred.fromCoroutine(good)], consumeErrors=True
            )
            return [done for done, _ in await results]

        self.assertEqual(self.clock.run(send()), [False, True])

    def test_a_snapshot(self):
        pointer = Pointer.make(self.owner.keys, epoch=0, version=3, cap=LitCap(b"x"))
        index = self.owner.index
        with self.assertRaises(e.NoSuchDirectoryError):
            self.ask(commands.GetSnapshot, index=index)
        self.ask(commands.PutSnapshot, index=index, pointer=pointer.pack())
        self.assertEqual(self.ask(commands.GetSnapshot, index=index), {"pointer": pointer.pack()})
        for bad in (b"", pointer.pack()[:-1] + b"?", os.urandom(300)):
            with self.assertRaises(e.BadRecordError):
                self.ask(commands.PutSnapshot, index=index, pointer=bad)
        with self.assertRaises(e.BadRecordError):
            self.ask(commands.PutSnapshot, index=b"o" * 32, pointer=pointer.pack())

    def test_the_status(self):
        self.make(entries=20)
        self.clock.advance(61)
        status = self.service.status()
        self.assertEqual((status["directories"], status["leases"]), (1, 1))
        self.assertEqual(status["accounts"][0]["bytes"], status["live"])
        self.assertTrue(status["accepts"])


class HostileTests(ServiceCase):
    """What is wrong is refused by a declared error, and changes nothing."""

    def refused(self, command, **arguments):
        before = self.store.room(fresh=True)
        with self.assertRaises((e.BadRecordError, e.BadArgumentError)):
            self.ask(command, **arguments)
        after = self.store.room(fresh=True)
        self.assertEqual((before.used, before.directories), (after.used, after.directories))

    def test_signatures_are_checked(self):
        record = self.make(entries=5)
        new = self.owner.change(record, {slot_of(9): b"x"})
        prepare = self.owner.prepare()
        other = Owner(2, self.store.me)
        index = self.owner.index
        for packed in (
            new.pack()[:-1] + bytes([new.pack()[-1] ^ 1]),
            new.pack()[:100] + bytes([new.pack()[100] ^ 1]) + new.pack()[101:],
            new.pack() + b"x",
            other.first().pack(),
            prepare.pack(),
            b"",
        ):
            self.refused(commands.Accept, index=index, record=packed)
            self.refused(commands.CreateDirectory, index=index, record=packed)
            self.refused(
                commands.SetChild, index=index, record=packed, slot=slot_of(9), entry=b"x"
            )
            self.refused(commands.DeleteChild, index=index, record=packed, slot=slot_of(9))
        for packed in (
            prepare.pack()[:-1] + bytes([prepare.pack()[-1] ^ 1]),
            other.prepare().pack(),
            new.pack()[:150],
            b"",
        ):
            self.refused(commands.Prepare, index=index, prepare=packed)
            self.refused(
                commands.StageNodes,
                index=b"i" * 32,
                nodes=self.owner.nodes_of(new),
                record=packed,
            )
        self.assertEqual(self.store.show(index).held, record.pack())
        self.assertIsNone(self.store.show(index).prepared)

    def test_create_takes_a_first_record_alone(self):
        new = self.owner.change(self.owner.first(), {slot_of(9): b"x"})
        self.refused(commands.CreateDirectory, index=new.index, record=new.pack())

    def test_slots_and_entries_go_together(self):
        record = self.make()
        new = self.owner.change(record, {slot_of(1): b"x", slot_of(2): b"y"})
        for slots, entries in (
            ([slot_of(1)], [b"x", b"y"]),
            ([slot_of(1), slot_of(1)], [b"x", b"y"]),
            ([slot_of(1), b"short"], [b"x", b"y"]),
        ):
            self.refused(
                commands.SetChildren,
                index=new.index,
                record=new.pack(),
                slots=slots,
                entries=entries,
            )
        self.refused(commands.GetRecord, index=new.index, slots=[b"short"])
        self.refused(commands.GetNodes, index=new.index, hashes=[b"short"])
        self.refused(commands.Prepare, index=new.index, prepare=b"", slots=[b"short"])

    def test_a_root_that_lies_is_not_accepted(self):
        record = self.make(entries=5)
        for root in (b"r" * 32, record.root[:-1] + b"?"):
            lie = record.successor(
                self.owner.keys,
                ballot=self.owner.ballot(),
                root=root,
                count=3,
                operation=b"operatio",
            )
            answer = self.ask(
                commands.SetChild, index=lie.index, record=lie.pack(), slot=slot_of(1), entry=b"x"
            )
            self.assertEqual((answer["verdict"], answer["missing"]), (commands.MISSING, [root]))
        self.assertEqual(self.store.show(record.index).held, record.pack())

    def test_a_trie_that_is_not_the_one_of_its_entries(self):
        """A branch over what fits into one leaf is refused, also by who owns the directory."""
        record = self.make()
        leaves = {}
        children = {}
        for number in (1, 2):
            slot = bytes([number << 4]) + bytes(31)
            made = trie.apply(trie.EMPTY_ROOT, {slot: b"entry"}, {}.get)
            leaves.update(made.added)
            children[number] = made.root
        branch = b"\x02" + (1 << 1 | 1 << 2).to_bytes(2, "big") + b"".join(children.values())
        lie = record.successor(
            self.owner.keys,
            ballot=self.owner.ballot(),
            root=trie.node_hash(branch),
            count=2,
            operation=b"operatio",
        )
        self.ask(commands.StageNodes, index=lie.index, nodes=[branch, *leaves.values()])
        with self.assertRaises(e.BadRecordError):
            self.ask(commands.Accept, index=lie.index, record=lie.pack())
        self.assertEqual(self.store.show(record.index).held, record.pack())

    def test_nodes_are_taken_for_known_directories_alone(self):
        new = self.owner.change(self.owner.first(), {slot_of(1): b"x"})
        nodes = self.owner.nodes_of(new)
        with self.assertRaises(e.NoSuchDirectoryError):
            self.ask(commands.StageNodes, index=new.index, nodes=nodes)
        for shown in (new.pack(), self.owner.prepare().pack()):
            self.ask(commands.StageNodes, index=new.index, nodes=nodes, record=shown)
        self.make()
        self.refused(commands.StageNodes, index=new.index, nodes=[b"\x01" + bytes(40)])

    def test_another_set_is_a_stranger(self):
        owner = Owner(3, ELSEWHERE)
        answer = self.ask(commands.CreateDirectory, index=owner.index, record=owner.first().pack())
        self.assertEqual(answer["verdict"], commands.STRANGER)

    @settings(
        max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.data())
    def test_any_arguments_get_a_declared_answer(self, data):
        if not self.store.room(fresh=False).directories:
            self.record = self.make(entries=3)
        command = data.draw(st.sampled_from(ANSWERED))
        good = {
            "index": st.sampled_from([self.owner.index, b"i" * 32]),
            "record": st.sampled_from([self.record.pack(), self.owner.prepare().pack()]),
            "prepare": st.just(self.owner.prepare().pack()),
        }
        arguments = {}
        for name, argument in command.arguments:
            key = name.decode()
            if argument.optional and data.draw(st.booleans()):
                continue
            arguments[key] = data.draw(st.one_of(good.get(key, st.nothing()), any_value(key)))
        try:
            self.ask(command, **arguments)
        except e.InternalWireError:
            raise
        except e.WireError as error:
            self.assertIn(type(error), {*command.errors, e.BadArgumentError}, command)
        except ValueError:
            return  # it cannot be sent
        held = Record.unpack(self.store.show(self.owner.index).held)
        self.assertEqual(held, self.record)

    def test_any_bytes_get_a_declared_answer(self):
        """Below the types: boxes of any bytes, as a peer may send them."""
        self.make(entries=3)
        rng = random.Random(1)
        responder = VdriveResponder(self.service, self.peer)
        for command in ANSWERED:
            respond = responder.locateResponder(command.commandName)
            for _ in range(10):
                box = {
                    name: rng.randbytes(rng.choice((0, 1, 16, 32, 152, 700)))
                    for name, _ in command.arguments
                }
                try:
                    answer = respond(box)
                except ValueError:
                    continue
                failures = []
                answer.addErrback(failures.append)
                for failure in failures:
                    code = failure.value.errorCode
                    self.assertIn(code, {c.code for c in [*command.errors, e.BadArgumentError]})


def any_value(key):
    """Return values of about the right kind."""
    if key in {"slots", "hashes", "entries", "nodes"}:
        return st.lists(st.binary(max_size=40) | st.just(slot_of(1)), max_size=4)
    if key in {"index", "slot", "root", "after"}:
        return st.binary(min_size=32, max_size=32)
    return st.binary(max_size=400)


class FullTests(ServiceCase):
    quota = 2 * DIRECTORY_OVERHEAD

    def test_no_space_is_told(self):
        record = self.make()
        changes = {slot_of(n): entry_of(n, 500) for n in range(20)}
        new = self.owner.change(record, changes)
        arguments = {"index": new.index, "record": new.pack()}
        with self.assertRaises(e.NoSpaceError):
            self.ask(
                commands.SetChildren,
                slots=list(changes),
                entries=list(changes.values()),
                **arguments,
            )
        with self.assertRaises(e.NoSpaceError):
            self.ask(commands.StageNodes, index=new.index, nodes=self.owner.nodes_of(new))
        other = Owner(2, self.store.me)
        with self.assertRaises(e.NoSpaceError):
            self.ask(commands.Prepare, index=other.index, prepare=other.prepare().pack())
        with self.assertRaises(e.NoSpaceError):
            self.ask(commands.CreateDirectory, index=other.index, record=other.first().pack())
        self.ask(commands.RenewDirectory, index=new.index)
        self.assertEqual(self.ask(commands.GetRecord, index=new.index)["held"], record.pack())
        self.assertEqual(list(check_accounts(self.store)), [])


#: Leases as short as this, so that minutes of their time are not too many to live through.
SHORT_LEASE = 12 * 3600


class UpkeepTests(ServiceCase):
    settings = VdriveSettings(expire=True, grace_seconds=2 * 3600)

    def setUp(self):
        self.patch(directory_leases, "LEASE_SECONDS", SHORT_LEASE)
        super().setUp()

    def test_a_directory_goes_when_nobody_renews_it(self):
        record = self.make(entries=30)
        self.clock.advance(SHORT_LEASE - 10)
        self.ask(commands.RenewDirectory, index=record.index)
        self.clock.advance(SHORT_LEASE - 10)
        self.assertEqual(self.ask(commands.GetRecord, index=record.index)["held"], record.pack())
        self.clock.advance(PASS_SECONDS + 70)
        self.assertEqual(self.service.status()["expiry"]["marked"], 1)
        self.clock.advance(2 * 3600 + 2 * PASS_SECONDS)
        with self.assertRaises(e.NoSuchDirectoryError):
            self.ask(commands.GetRecord, index=record.index)
        status = self.service.status()
        self.assertEqual((status["directories"], status["expiry"]["expired"]), (0, 1))
        self.assertEqual((status["used"], status["replaced"]), (0, 0))

    def test_time_when_it_is_off_does_not_count(self):
        record = self.make()
        self.clock.advance(SHORT_LEASE - 3 * 3600)
        self.clock.run(self.service.stop())
        self.clock.advance(SHORT_LEASE)
        self.open()
        self.clock.advance(PASS_SECONDS + 130)
        # By the wall clock the lease is long over; for the store an hour is left of it.
        self.assertEqual(self.service.status()["expiry"]["marked"], 0)
        self.ask(commands.RenewDirectory, index=record.index)
        self.clock.advance(2 * 3600 + 3 * PASS_SECONDS)
        self.assertEqual(self.ask(commands.GetRecord, index=record.index)["held"], record.pack())

    def test_a_service_that_has_stopped_answers_busy(self):
        self.clock.run(self.service.stop())
        with self.assertRaises(e.BusyError):
            self.ask(commands.GetRecord, index=hashlib.sha256(b"x").digest())
        self.open()
