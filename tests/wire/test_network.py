"""Dialling, listening and Hello, between real ends and against raw ones, in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands import errors, storage
from ampgrid.commands.session import Hello, Ping
from ampgrid.errors import HandshakeError, NotConnectedError
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.pipes import MemoryNet
from ampgrid.wire import Connection, Facts, boxes
from ampgrid.wire import network as network_module
from ampgrid.wire.gate import HANDSHAKE_SECONDS
from ampgrid.wire.hello import (
    LISTENER,
    MAX_BYTES,
    MAX_CALLS,
    MOST_BYTES_USED,
    MOST_CALLS_USED,
    Session,
    say,
)
from ampgrid.wire.lines import Lines
from ampgrid.wire.strangers import Strangers, neighbourhood
from tests.wire.kit import (
    SECRET,
    Echo,
    Hold,
    Host,
    RawPeer,
    ask_box,
    context,
    identity,
)


class InMemory(SynchronousTestCase):
    latency = 0.01

    def setUp(self) -> None:
        self.clock = HeapClock()
        self.net = MemoryNet(self.clock, self.latency)
        self.one = Host(self.net, 1)
        self.two = Host(self.net, 2)


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
        self.assertIn("turned this node away", text)
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
        self.assertGreaterEqual(steps, 8)

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
        self.assertGreaterEqual(steps, 8)

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


class HelloAttackedTest(InMemory):
    """A raw dialler, with a certificate of its own, says the wrong things in TLS."""

    latency = 0.0

    def met(self, number: int = 7) -> RawPeer:
        raw = RawPeer(context(identity(number)))
        self.two.attacked_by(raw)
        self.clock.advance(0)
        assert raw.tls is not None
        self.assertTrue(raw.tls.done)
        return raw

    def hello(self, raw: RawPeer, number: int = 7, **changes: Any) -> bytes:
        assert raw.tls is not None
        return raw.tls.hello(identity(number), self.two.identity, **changes)

    def check_turned_away(self, raw: RawPeer, code: bytes) -> None:
        self.clock.advance(0)
        self.assertEqual(raw.plain_boxes()[0][boxes.ERROR_CODE], code)
        self.clock.advance(HANDSHAKE_SECONDS)
        self.assertIsNotNone(raw.lost)
        self.assertEqual(self.two.connected, [])
        self.assertEqual(self.two.locator.wanted, [])
        self.assertEqual(self.two.counters(), (0, 0))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_the_raw_dialler_can_be_right(self) -> None:
        """So that what follows fails for the reason that it gives."""
        raw = self.met()
        raw.send_secret(self.hello(raw))
        self.clock.advance(0)
        (answer,) = raw.plain_boxes()
        self.assertEqual(answer[boxes.ANSWER], b"1")
        self.assertEqual(len(self.two.connected), 1)
        raw.send_secret(ask_box(b"Echo", tag=b"2", data=b"x"))
        self.clock.advance(0)
        self.assertEqual(raw.plain_boxes()[1], {boxes.ANSWER: b"2", b"data": b"x"})

    def test_the_wrong_secret(self) -> None:
        for secret in (b"", b"another", SECRET[:-1]):
            raw = self.met()
            raw.send_secret(self.hello(raw, secret=secret))
            self.check_turned_away(raw, b"WRONG_GRID")

    def test_the_proof_of_the_other_role(self) -> None:
        raw = self.met()
        assert raw.tls is not None
        mine, theirs = identity(7), self.two.identity
        for session in (
            Session(mine.spki, theirs.spki, raw.tls.exported()),
            Session(theirs.spki, mine.spki, raw.tls.exported()),
        ):
            raw = self.met()
            raw.send_secret(self.hello(raw, proof=session.proof(SECRET, LISTENER)))
            self.check_turned_away(raw, b"WRONG_GRID")

    def test_the_proof_of_another_session(self) -> None:
        """As one who sits in the middle would have to pass on."""
        earlier = self.met()
        recorded = self.hello(earlier)
        raw = self.met()
        raw.send_secret(recorded)
        self.check_turned_away(raw, b"WRONG_GRID")

    def test_the_proof_of_another_key(self) -> None:
        raw = self.met(7)
        raw.send_secret(self.hello(raw, number=8))
        self.check_turned_away(raw, b"WRONG_GRID")

    def test_versions_that_do_not_meet(self) -> None:
        for changes in ({"version": 0, "oldest": 0}, {"version": 9, "oldest": 2}):
            raw = self.met()
            raw.send_secret(self.hello(raw, **changes))
            self.check_turned_away(raw, b"VERSION_MISMATCH")

    def test_a_later_version_that_still_speaks_ours(self) -> None:
        raw = self.met()
        raw.send_secret(self.hello(raw, version=9, oldest=1))
        self.clock.advance(0)
        self.assertEqual(len(self.two.connected), 1)

    def test_credits_too_small_to_talk(self) -> None:
        for changes in ({"max_calls": 0}, {"max_bytes": 1_000}):
            raw = self.met()
            raw.send_secret(self.hello(raw, **changes))
            self.check_turned_away(raw, b"VERSION_MISMATCH")

    def test_credits_without_end_are_not_used_up(self) -> None:
        """What is on its way costs memory on our side."""
        raw = self.met()
        raw.send_secret(self.hello(raw, max_calls=65_535, max_bytes=2**31))
        self.clock.advance(0)
        (connection,) = self.two.connected
        for size in (60_000, 0):
            for number in range(300):
                calling = connection.call(Hold, number=number, data=bytes(size))
                Deferred.fromCoroutine(calling).addErrback(lambda _: None)
            self.clock.advance(1)
            self.assertLessEqual(connection._calls.flying_calls, MOST_CALLS_USED)
            self.assertLessEqual(connection._calls.flying_bytes, MOST_BYTES_USED)
        self.assertEqual(connection._calls.flying_calls, MOST_CALLS_USED)
        connection.abort("enough")

    def test_malformed_hellos(self) -> None:
        raw = self.met()
        good = amp.parseString(self.hello(raw))[0]
        for name, value in (
            (b"proof", b"short"),
            (b"version", b"01"),
            (b"version", b"65536"),
            (b"services", b"\xff"),
            (b"nickname", b"\x1b[2J"),
            (b"max_calls", b"-1"),
        ):
            raw = self.met()
            raw.send_secret(amp.Box({**good, name: value}).serialize())
            self.check_turned_away(raw, b"BAD_ARGUMENT")

    def test_commands_before_hello(self) -> None:
        raw = self.met()
        for tag, name in enumerate((b"Echo", b"Ping", b"StartTLS", b"AllocateBuckets")):
            raw.send_secret(ask_box(name, tag=b"%d" % tag, data=b"x"))
        self.check_turned_away(raw, amp.UNHANDLED_ERROR_CODE)
        self.assertEqual(len(raw.plain_boxes()), 4)

    def test_a_command_right_behind_hello(self) -> None:
        """It comes before the connection is up, so nobody serves it."""
        raw = self.met()
        raw.send_secret(self.hello(raw) + ask_box(b"Echo", tag=b"2", data=b"early"))
        self.clock.advance(0)
        answer, refusal = raw.plain_boxes()
        self.assertEqual(answer[boxes.ANSWER], b"1")
        self.assertEqual(refusal[boxes.ERROR_CODE], amp.UNHANDLED_ERROR_CODE)
        self.assertEqual(self.two.locator.calls, [])

    def test_a_command_begun_before_hello_and_ended_after_it(self) -> None:
        raw = self.met()
        early = ask_box(b"Echo", tag=b"2", data=b"early")
        raw.send_secret(self.hello(raw) + early[:-8])
        self.clock.advance(1)
        self.assertEqual(len(self.two.connected), 1)
        raw.send_secret(early[-8:])
        self.clock.advance(0)
        self.assertEqual(raw.plain_boxes()[1][boxes.ERROR_CODE], amp.UNHANDLED_ERROR_CODE)
        self.assertEqual(self.two.locator.calls, [])

    def test_hello_twice(self) -> None:
        raw = self.met()
        hello = self.hello(raw)
        raw.send_secret(hello + hello)
        self.clock.advance(0)
        self.assertEqual(
            [box.get(boxes.ERROR_CODE) for box in raw.plain_boxes()],
            [None, amp.UNHANDLED_ERROR_CODE],
        )
        raw.send_secret(hello)
        self.clock.advance(0)
        self.assertEqual(raw.plain_boxes()[2][boxes.ERROR_CODE], amp.UNHANDLED_ERROR_CODE)
        self.assertEqual(len(self.two.connected), 1)

    def test_a_second_try_after_a_wrong_one(self) -> None:
        raw = self.met()
        raw.send_secret(self.hello(raw, secret=b"guess") + self.hello(raw))
        self.check_turned_away(raw, b"WRONG_GRID")

    def test_boxes_larger_than_a_hello(self) -> None:
        raw = self.met()
        raw.send_secret(ask_box(b"Hello", tag=b"1", nickname=bytes(2_048)))
        self.clock.advance(0)
        self.assertIsNotNone(raw.lost)
        self.assertEqual(raw.plain_boxes(), [])

    def test_answers_before_hello(self) -> None:
        raw = self.met()
        raw.send_secret(amp.Box({boxes.ANSWER: b"1"}).serialize())
        self.clock.advance(0)
        self.assertIsNotNone(raw.lost)

    def test_the_nodes_own_key(self) -> None:
        """One who has stolen the key, or a node that dials itself through another address."""
        raw = RawPeer(context(self.two.identity))
        self.two.attacked_by(raw)
        self.clock.advance(0)
        assert raw.tls is not None
        raw.send_secret(raw.tls.hello(self.two.identity, self.two.identity))
        self.check_turned_away(raw, b"NOT_ALLOWED")

    def test_it_goes_right_after_hello(self) -> None:
        for gone in ("loseConnection", "abortConnection"):
            raw = self.met()
            raw.send_secret(self.hello(raw))
            self.clock.step()
            getattr(raw.transport, gone)()
            self.clock.advance(1)
            self.assertEqual(self.two.counters(), (0, 0))
            self.assertEqual(self.two.network.connections(), [])


class ListenerLiesTest(InMemory):
    """A raw listener, with the right key or a stolen address, lies in Hello."""

    latency = 0.0

    def dialled(self, number: int = 7) -> RawPeer:
        raw = RawPeer(context(identity(number)), client=False)

        class Listening:
            def buildProtocol(self, _address: object) -> RawPeer:
                return raw

        self.net.listen("raw", 1, Listening())  # type: ignore[arg-type]
        self.dialling = Deferred.fromCoroutine(
            self.one.network.dial(identity(number).node_id, [("raw", 1)])
        )
        self.clock.advance(0)
        assert raw.tls is not None
        (self.said,) = raw.plain_boxes()
        self.assertEqual(self.said[boxes.COMMAND], b"Hello")
        return raw

    def fails(self, raw: RawPeer, answer: bytes) -> str:
        raw.send_secret(answer)
        self.clock.advance(0.1)
        failure = self.failureResultOf(self.dialling, HandshakeError)
        self.assertIsNotNone(raw.lost)
        self.assertEqual(self.one.connected, [])
        self.assertEqual(self.one.locator.wanted, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return str(failure.value)

    def test_the_raw_listener_can_be_right(self) -> None:
        raw = self.dialled()
        assert raw.tls is not None
        raw.send_secret(raw.tls.hello_answer(identity(7), self.one.identity))
        self.clock.advance(0)
        self.assertTrue(self.successResultOf(self.dialling).connected)

    def test_the_wrong_secret(self) -> None:
        raw = self.dialled()
        assert raw.tls is not None
        answer = raw.tls.hello_answer(identity(7), self.one.identity, secret=b"guess")
        self.fails(raw, answer)

    def test_the_diallers_own_proof_sent_back(self) -> None:
        raw = self.dialled()
        assert raw.tls is not None
        answer = raw.tls.hello_answer(
            identity(7), self.one.identity, secret=b"", proof=self.said[b"proof"]
        )
        self.fails(raw, answer)

    def test_the_proof_of_another_session(self) -> None:
        earlier = self.dialled()
        assert earlier.tls is not None
        recorded = earlier.tls.hello_answer(identity(7), self.one.identity)
        self.dialling.addErrback(lambda _: None)
        earlier.transport.abortConnection()
        self.clock.advance(1)
        self.fails(self.dialled(), recorded)

    def test_versions_that_do_not_meet(self) -> None:
        raw = self.dialled()
        assert raw.tls is not None
        answer = raw.tls.hello_answer(identity(7), self.one.identity, version=0, oldest=0)
        self.fails(raw, answer)

    def test_malformed_answers(self) -> None:
        raw = self.dialled()
        assert raw.tls is not None
        good = raw.tls.hello_answer(identity(7), self.one.identity)
        box = amp.parseString(good)[0]
        for wrong in (
            amp.Box({boxes.ANSWER: b"1"}).serialize(),
            amp.Box({**box, b"proof": b""}).serialize(),
            amp.Box({**box, boxes.ANSWER: b"2"}).serialize(),
            amp.Box({**box, b"nickname": bytes(2_100)}).serialize(),
            b"\0\0",
        ):
            self.fails(raw, wrong)
            raw = self.dialled()
        raw.transport.abortConnection()
        self.clock.advance(1)
        self.failureResultOf(self.dialling, HandshakeError)

    def test_errors_in_plain_words(self) -> None:
        raw = self.dialled()
        text = self.fails(
            raw,
            amp.Box(
                {
                    boxes.ERROR: b"1",
                    boxes.ERROR_CODE: b"WRONG_GRID",
                    boxes.ERROR_DESCRIPTION: b"go\r\nERROR forged line \x1b[2J",
                }
            ).serialize(),
        )
        self.assertTrue(text.isprintable())

    def test_calls_before_the_answer(self) -> None:
        raw = self.dialled()
        assert raw.tls is not None
        raw.send_secret(ask_box(b"Echo", tag=b"9", data=b"early"))
        self.clock.advance(0)
        self.assertEqual(raw.plain_boxes()[1][boxes.ERROR_CODE], amp.UNHANDLED_ERROR_CODE)
        self.assertEqual(self.one.locator.wanted, [])
        raw.send_secret(raw.tls.hello_answer(identity(7), self.one.identity))
        self.clock.advance(0)
        self.successResultOf(self.dialling)

    def test_a_large_call_right_behind_the_answer(self) -> None:
        """The dialler is up as soon as it has read the answer, also in the same segment."""
        raw = self.dialled()
        assert raw.tls is not None
        call = ask_box(b"Echo", tag=b"9", data=bytes(60_000))
        raw.send_secret(raw.tls.hello_answer(identity(7), self.one.identity) + call)
        self.clock.advance(0)
        self.assertTrue(self.successResultOf(self.dialling).connected)
        self.assertEqual(self.one.locator.calls, [("echo", bytes(60_000))])

    def test_what_comes_from_the_wrong_node_is_not_heard(self) -> None:
        raw = RawPeer(context(identity(8)), client=False)

        class Listening:
            def buildProtocol(self, _address: object) -> RawPeer:
                return raw

        self.net.listen("raw", 1, Listening())  # type: ignore[arg-type]
        dialling = Deferred.fromCoroutine(self.one.network.dial(identity(7).node_id, [("raw", 1)]))
        self.clock.advance(0)
        self.failureResultOf(dialling, HandshakeError)
        assert raw.tls is not None
        self.assertEqual(raw.tls.plain, b"", "it was told Hello, and so a proof")
        self.assertEqual(self.one.locator.wanted, [])


class FloodTest(InMemory):
    latency = 0.0

    def test_strangers_are_bounded_and_make_room(self) -> None:
        """A thousand that say nothing keep an honest node out at no time."""
        raws = []
        for number in range(1_000):
            raw = RawPeer()
            self.two.attacked_by(raw)
            raws.append(raw)
            self.clock.advance(0)
            self.assertLessEqual(self.two.counters()[0], network_module.MOST_STRANGERS)
            self.assertLessEqual(self.two.counters()[1], network_module.MOST_STRANGERS + 1)
            if number % 250 == 249:
                self.assertTrue(self.clock.run(self.one.dial(self.two)).connected)
                self.clock.advance(0)
                self.one.connected.pop().abort("next time again")
                self.clock.advance(0)
        left = sum(raw.lost is None for raw in raws)
        self.assertIn(left, range(network_module.MOST_STRANGERS - 4, 257))
        self.clock.advance(HANDSHAKE_SECONDS)
        self.assertTrue(all(raw.lost is not None for raw in raws))
        self.assertEqual(self.two.counters(), (0, 0))

    def test_those_who_have_proved_themselves_are_not_pushed_out(self) -> None:
        connection = self.clock.run(self.one.dial(self.two))
        for _ in range(2 * network_module.MOST_STRANGERS):
            self.two.attacked_by(RawPeer())
            self.clock.advance(0)
        self.assertTrue(connection.connected)

    def test_all_connections_are_bounded(self) -> None:
        self.patch(network_module, "MOST_ACCEPTED", 3)
        for _ in range(3):
            self.two.attacked_by(RawPeer())
        factory = self.two.network.listening_factory()
        self.assertIsNone(factory.buildProtocol(None))  # type: ignore[arg-type]
        self.clock.advance(HANDSHAKE_SECONDS + 1)
        self.assertEqual(self.two.counters(), (0, 0))

    def test_at_most_one_line_a_second_is_logged_about_strangers(self) -> None:
        lines: list[str] = []
        self.patch(self.two.network, "_lines", _Counting(self.clock, lines))
        for _ in range(300):
            raw = RawPeer()
            self.two.attacked_by(raw).write(b"GET / HTTP/1.1\r\nX: \x1b[2J\r\n")
            self.clock.advance(0.01)
        self.assertLessEqual(len(lines), 4)
        self.assertTrue(all(line.isprintable() for line in lines))


class _Counting(Lines):
    def __init__(self, clock: HeapClock, lines: list[str]) -> None:
        super().__init__(clock)
        self._out = lines

    def write(self, subject: bytes, event: str, reason: str) -> None:
        before = dict(self._written)
        super().write(subject, event, reason)
        if self._written != before:
            self._out.append(f"{event}: {reason}")


class StrangersTest(SynchronousTestCase):
    def test_the_oldest_of_the_most_crowded_place_goes(self) -> None:
        strangers: Strangers[str] = Strangers(4)
        for name, place in (("a1", "a"), ("b1", "b"), ("b2", "b"), ("c1", "c")):
            self.assertIsNone(strangers.add(name, place))
        self.assertEqual(strangers.add("d1", "d"), "b1")
        self.assertEqual(strangers.add("d2", "d"), "d1")
        self.assertEqual(len(strangers), 4)

    def test_where_all_places_have_one_the_oldest_goes(self) -> None:
        strangers: Strangers[int] = Strangers(4)
        gone = [strangers.add(number, str(number)) for number in range(8)]
        self.assertEqual(gone, [None] * 4 + [0, 1, 2, 3])

    def test_removing_is_exact(self) -> None:
        strangers: Strangers[str] = Strangers(2)
        strangers.add("a", "x")
        strangers.remove("b", "x")
        strangers.remove("a", "y")
        self.assertEqual(len(strangers), 1)
        strangers.remove("a", "x")
        strangers.remove("a", "x")
        self.assertEqual(len(strangers), 0)

    def test_neighbourhoods(self) -> None:
        def v6(host: str) -> str:
            return neighbourhood(IPv6Address("TCP", host, 1))

        v4 = neighbourhood(IPv4Address("TCP", "192.0.2.1", 1))
        self.assertNotEqual(v4, neighbourhood(IPv4Address("TCP", "192.0.2.2", 1)))
        self.assertEqual(v6("::ffff:192.0.2.1"), v4)
        self.assertEqual(v6("2001:db8::1"), v6("2001:db8::ffff:1"))
        self.assertNotEqual(v6("2001:db8::1"), v6("2001:db8:0:1::1"))
        self.assertEqual(v6("fe80::1%eth0"), v6("fe80::2%eth0"))
        self.assertEqual(neighbourhood(None), "")


class LinesTest(SynchronousTestCase):
    def test_one_a_second_a_subject_and_so_many_in_all(self) -> None:
        clock = HeapClock()
        written: list[str] = []
        lines = _Counting(clock, written)
        for _ in range(10):
            lines.write(b"a", "x", "y")
            lines.write(b"b", "x", "y")
        self.assertEqual(len(written), 2)
        for number in range(5_000):
            lines.write(b"%d" % number, "x", "y")
        self.assertEqual(len(written), 1_024)
        self.assertEqual(len(lines._written), 1_024)
        clock.advance(1.1)
        lines.write(b"new", "x", "y")
        self.assertEqual(len(written), 1_025)


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
