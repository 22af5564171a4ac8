"""Hello in TLS, attacked from both sides, in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.protocols import amp

from ampgrid.errors import HandshakeError
from ampgrid.wire import boxes
from ampgrid.wire.gate import HANDSHAKE_SECONDS
from ampgrid.wire.hello import (
    LISTENER,
    MOST_BYTES_USED,
    MOST_CALLS_USED,
    Session,
)
from tests.wire.kit import (
    SECRET,
    Hold,
    InMemory,
    RawPeer,
    ask_box,
    context,
    identity,
)


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
