"""Dialling and listening between real ends, in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands import errors, storage
from ampgrid.commands.session import Hello, Ping
from ampgrid.errors import HandshakeError, NotConnectedError
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.pipes import MemoryNet
from ampgrid.wire import Connection, Facts, boxes
from ampgrid.wire.gate import HANDSHAKE_SECONDS
from ampgrid.wire.hello import (
    MAX_BYTES,
    MAX_CALLS,
    say,
)
from tests.wire.kit import (
    SECRET,
    Echo,
    Host,
    InMemory,
    identity,
)


class MeetingTest(InMemory):
    def test_both_ends_know_each_other(self) -> None:
        connection = self.clock.run(self.one.dial(self.two))
        self.clock.advance(1)
        (accepted,) = self.two.connected
        self.assertEqual(self.one.connected, [connection])
        self.assertEqual(connection.peer_id, self.two.identity.node_id)
        self.assertEqual(accepted.peer_id, self.one.identity.node_id)
        self.assertEqual((connection.dialled, accepted.dialled), (True, False))
        for end, name in ((connection, "host2"), (accepted, "host1")):
            self.assertTrue(end.connected)
            self.assertEqual(end.peer_nickname, name)
            self.assertEqual(end.peer_software, "kit/1")
            self.assertEqual(end.peer_services, frozenset({"test"}))
        self.assertEqual(self.two.counters(), (0, 1))
        self.assertEqual(self.two.network.connections(), [accepted])

    def test_either_end_calls(self) -> None:
        connection = self.clock.run(self.one.dial(self.two))
        data = bytes(range(256)) * 250
        self.assertEqual(self.clock.run(connection.call(Echo, data=data)), {"data": data})
        (accepted,) = self.two.connected
        self.assertEqual(self.clock.run(accepted.call(Echo, data=data)), {"data": data})
        self.assertEqual(self.clock.run(accepted.call(Ping)), {})

    def test_calls_at_once_from_both_ends_as_soon_as_each_is_up(self) -> None:
        """Nothing overtakes the answer to Hello, and nothing after it meets a deaf end."""
        for latency in (0.0, 0.001, 0.1):
            net = MemoryNet(HeapClock(), latency)
            answers: list[Any] = []

            def call_at_once(connection: Connection, into: list[Any] = answers) -> None:
                calling = connection.call(Echo, data=bytes(60_000))
                Deferred.fromCoroutine(calling).addBoth(into.append)

            one, two = Host(net, 1), Host(net, 2)
            one.network._connected = two.network._connected = call_at_once
            net.clock.run(one.dial(two))
            net.clock.advance(5)
            self.assertEqual([len(answer["data"]) for answer in answers], [60_000] * 2)

    def test_hello_is_not_answered_afterwards(self) -> None:
        connection = self.clock.run(self.one.dial(self.two))
        said = say(Facts(), bytes(32))
        with self.assertRaises(errors.NotAllowedError):
            self.clock.run(connection.call(Hello, **said))
        with self.assertRaises(errors.NotAllowedError):
            self.clock.run(self.two.connected[0].call(Hello, **said))

    def test_a_lost_connection_is_forgotten(self) -> None:
        for ending in ("abort", "close", "cut"):
            connection = self.clock.run(self.one.dial(self.two))
            if ending == "abort":
                connection.abort("enough")
            elif ending == "close":
                connection.close()
            else:
                self.net.pipes[-1][0].abortConnection()
            self.clock.advance(10)
            for host in (self.one, self.two):
                self.assertEqual(host.network.connections(), [])
                self.assertEqual(host.counters(), (0, 0))
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_open_grid(self) -> None:
        three, four = Host(self.net, 3, secret=b""), Host(self.net, 4, secret=b"")
        self.clock.run(three.dial(four))
        with self.assertRaises(HandshakeError):
            self.clock.run(three.dial(self.one))

    def test_ten_connections_at_once(self) -> None:
        hosts = [Host(self.net, number) for number in range(10, 20)]
        dialling = [host.dial(self.one) for host in hosts]
        for each in dialling:
            self.clock.run(each)
        self.clock.advance(1)
        self.assertEqual(self.one.counters(), (0, 10))
        self.assertEqual(len(self.one.network.connections()), 10)

    def test_control_and_peer_commands_of_others_are_unhandled(self) -> None:
        connection = self.clock.run(self.one.dial(self.two))
        with self.assertRaises(errors.NotAllowedError):
            self.clock.run(connection.call(storage.GetSpace))


class DialTest(InMemory):
    def fails(self, dialling: Deferred[Connection]) -> str:
        with self.assertRaises(HandshakeError) as caught:
            self.clock.run(dialling)
        self.clock.advance(20)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.one.connected, [])
        return str(caught.exception)

    def test_nobody_listens(self) -> None:
        self.net.silence("host2", 1)
        self.assertIn("host2:1 cannot be reached", self.fails(self.one.dial(self.two)))

    def test_no_address(self) -> None:
        dialling = Deferred.fromCoroutine(self.one.network.dial(bytes(20), []))
        self.assertIn("no address", self.fails(dialling))

    def test_oneself(self) -> None:
        self.assertIn("itself", self.fails(self.one.dial(self.one)))

    def test_another_node_than_expected(self) -> None:
        wanted = identity(3).node_id
        self.assertIn("another node", self.fails(self.one.dial(self.two, wanted)))
        self.assertEqual(self.two.connected, [])

    def test_the_next_address_is_tried(self) -> None:
        wanted = self.two.identity.node_id
        three = Host(self.net, 3)
        hints = [("nowhere", 1), (three.name, 1), (self.two.name, 1)]
        connection = self.clock.run(self.one.network.dial(wanted, hints))
        self.assertEqual(connection.peer_id, wanted)
        self.clock.advance(1)
        self.assertEqual(three.counters(), (0, 0))

    def test_another_secret(self) -> None:
        three = Host(self.net, 3, secret=b"another grid")
        text = self.fails(self.one.dial(three))
        self.assertIn("does not accept this node", text)
        self.assertNotIn(SECRET.decode(), text)
        self.assertEqual(three.connected, [])
        self.assertEqual(three.counters(), (0, 0))

    def test_turned_away(self) -> None:
        def admit(_node_id: bytes) -> None:
            raise errors.AlreadyConnectedError("another connection stands")

        three = Host(self.net, 3, admit=admit)
        self.assertIn("another connection stands", self.fails(self.one.dial(three)))
        self.assertEqual(three.connected, [])
        self.assertEqual(three.counters(), (0, 0))

    def test_the_first_of_several_reasons_does_not_hide_the_last(self) -> None:
        wanted = identity(3).node_id
        hints = [("nowhere", 1), (self.two.name, 1)]
        dialling = Deferred.fromCoroutine(self.one.network.dial(wanted, hints))
        self.assertIn("another node", self.fails(dialling))

    def test_giving_up(self) -> None:
        """At any moment: nothing is left, no other address is tried, nobody is connected."""
        for steps in range(40):
            dialling = Deferred.fromCoroutine(
                self.one.network.dial(
                    self.two.identity.node_id, [(self.two.name, 1), (self.two.name, 1)]
                )
            )
            for _ in range(steps):
                if not dialling.called:
                    self.clock.step()
            if dialling.called:
                break
            dialling.cancel()
            self.failureResultOf(dialling, CancelledError)
            self.clock.advance(20)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.assertEqual(self.one.connected, [])
            self.assertEqual(self.two.counters(), (0, 0))
        self.assertGreaterEqual(steps, 7)

    def test_a_connector_that_fails_late(self) -> None:
        """It built the gate, connected it, and failed nevertheless."""

        async def connect(host: str, port: int, factory: Any) -> Any:
            await self.net.connect(host, port, factory)
            raise OSError("failed")

        self.one.network._connector = connect
        self.assertIn("cannot be reached", self.fails(self.one.dial(self.two)))
        self.assertEqual(self.two.counters(), (0, 0))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_every_cut_on_the_way_is_a_handshake_error(self) -> None:
        for steps in range(60):
            dialling = self.one.dial(self.two)
            pipe = self.net.pipes[-1][1]
            for _ in range(steps):
                if not dialling.called:
                    self.clock.step()
            if dialling.called:
                break
            pipe.abortConnection()
            with self.assertRaises(HandshakeError):
                self.clock.run(dialling)
            self.clock.advance(20)
            self.assertEqual(self.two.counters(), (0, 0))
            self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertGreaterEqual(steps, 7)

    def test_upper_rooms_that_fail_leave_nothing_half_open(self) -> None:
        def fail(_connection: Connection) -> list[amp.CommandLocator]:
            raise RuntimeError("a bug above")

        for breaking in (self.one, self.two):
            before = breaking.network._roles
            breaking.network._roles = fail
            dialling = self.one.dial(self.two)
            with self.assertRaises(HandshakeError):
                self.clock.run(dialling)
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
            self.clock.advance(20)
            self.assertEqual(self.two.counters(), (0, 0))
            self.assertEqual(self.clock.getDelayedCalls(), [])
            breaking.network._roles = before


class ConstantsTest(SynchronousTestCase):
    def test_the_numbers_of_the_design(self) -> None:
        self.assertEqual((MAX_CALLS, MAX_BYTES), (32, 2**20))
        self.assertEqual(HANDSHAKE_SECONDS, 10)
        self.assertEqual((boxes.MAX_KEYS, boxes.MAX_BOX_BYTES), (16, 72 * 1024))

    def test_no_call_after_the_end(self) -> None:
        net = MemoryNet(HeapClock())
        one, two = Host(net, 1), Host(net, 2)
        connection = net.clock.run(one.dial(two))
        connection.close()
        with self.assertRaises(NotConnectedError):
            net.clock.run(connection.call(Ping))
