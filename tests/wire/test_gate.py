"""The part in clear text, attacked from both sides: nothing passes it but one exact box."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import HandshakeError
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.pipes import MemoryNet
from ampgrid.wire import Connection, boxes
from ampgrid.wire.gate import ANSWER, HANDSHAKE_SECONDS, MOST_STRANGER_BYTES, REQUEST
from tests.wire.kit import Host, RawPeer, Tls, ask_box, context, identity

ECHO = ask_box(b"Echo", tag=b"2", data=b"injected")
FORGED = amp.Box({boxes.ANSWER: b"2", b"data": b"forged"}).serialize()


def certificate_of_size(size: int) -> SSL.Context:
    """A context that shows a certificate of about that size."""
    return context(identity(9), extra_extension=size)


class AttackTest(SynchronousTestCase):
    """A node in memory, and a raw peer at the other end."""

    def setUp(self) -> None:
        self.clock = HeapClock()
        self.net = MemoryNet(self.clock)
        self.host = Host(self.net, 1)

    def check_nothing_happened(self) -> None:
        """No Command was so much as looked for, no error of ours was logged, nothing is left."""
        self.assertEqual(self.host.locator.wanted, [])
        self.assertEqual(self.host.connected, [])
        self.assertEqual(self.host.counters(), (0, 0))
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ListenerAttackedTest(AttackTest):
    """Somebody dials and does not what a dialler does."""

    def attack(self, *segments: bytes, made: SSL.Context | None = None) -> RawPeer:
        raw = RawPeer(made)
        pipe = self.host.attacked_by(raw)
        for segment in segments:
            pipe.write(segment)
            self.clock.advance(0)
        self.clock.advance(0)
        return raw

    def refused(self, *segments: bytes) -> None:
        raw = self.attack(*segments)
        self.assertIsNotNone(raw.lost, segments)
        self.assertNotIn(b"injected", raw.received)
        self.check_nothing_happened()

    def test_a_second_box_in_the_same_segment(self) -> None:
        for second in (ECHO, REQUEST, FORGED, b"\0", b"\x16\x03\x01"):
            self.refused(REQUEST + second)

    def test_a_second_box_split_anywhere(self) -> None:
        whole = REQUEST + ECHO
        for at in range(1, len(whole)):
            self.refused(whole[:at], whole[at:])

    def test_a_second_box_byte_for_byte(self) -> None:
        self.refused(*(bytes([byte]) for byte in REQUEST + ECHO))

    def test_a_second_box_in_three_segments(self) -> None:
        whole = REQUEST + ECHO
        for one in range(1, len(whole), 3):
            for two in range(one + 1, len(whole), 5):
                self.refused(whole[:one], whole[one:two], whole[two:])

    def test_anything_but_starttls_first(self) -> None:
        for first in (
            ECHO,
            FORGED,
            ask_box(b"Hello"),
            ask_box(b"StartTLS", tag=b"2"),
            ask_box(b"StartTLS", extra=b""),
            ask_box(b"starttls"),
            amp.Box({boxes.ERROR: b"1", boxes.ERROR_CODE: b"X"}).serialize(),
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01",
            b"\0\0",
            bytes(100_000),
        ):
            self.refused(first)

    def test_every_single_byte_of_the_request_counts(self) -> None:
        for at in range(len(REQUEST)):
            self.refused(REQUEST[:at] + bytes([REQUEST[at] ^ 1]) + REQUEST[at + 1 :])

    def test_the_request_in_any_two_pieces_is_answered(self) -> None:
        for at in range(1, len(REQUEST)):
            raw = self.attack(REQUEST[:at], REQUEST[at:])
            self.assertEqual(raw.received, ANSWER)
            self.assertIsNone(raw.lost)

    def test_a_request_that_stalls_anywhere(self) -> None:
        for at in range(len(REQUEST) + 1):
            raw = self.attack(REQUEST[:at])
            self.clock.advance(HANDSHAKE_SECONDS - 0.1)
            self.assertIsNone(raw.lost)
            self.clock.advance(0.2)
            self.assertIsNotNone(raw.lost)
            self.check_nothing_happened()

    def test_a_handshake_that_stalls(self) -> None:
        for made in (None, context(identity(2))):
            raw = RawPeer(made)
            pipe = self.host.attacked_by(raw)
            pipe.write(REQUEST if made is None else b"")
            self.clock.advance(0)
            if made is None:
                pipe.write(b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc")  # the start of a ClientHello
            else:
                assert raw.tls is not None
                self.assertTrue(raw.tls.done)
            self.clock.advance(HANDSHAKE_SECONDS - 0.1)
            self.assertIsNone(raw.lost)
            self.clock.advance(0.2)
            self.assertIsNotNone(raw.lost)
            self.check_nothing_happened()

    def test_one_byte_a_second_buys_no_time(self) -> None:
        raw = RawPeer()
        pipe = self.host.attacked_by(raw)
        for byte in REQUEST[:12]:
            pipe.write(bytes([byte]))
            self.clock.advance(1)
        self.assertIsNotNone(raw.lost)
        self.check_nothing_happened()

    def test_a_peer_that_goes_at_every_stage(self) -> None:
        for at in range(len(REQUEST) + 1):
            raw = RawPeer()
            pipe = self.host.attacked_by(raw)
            pipe.write(REQUEST[:at])
            pipe.loseConnection()
            self.clock.advance(0)
            self.check_nothing_happened()

    def handshake_fails(self, made: SSL.Context) -> RawPeer:
        raw = self.attack(made=made)
        self.clock.advance(0.1)
        self.assertIsNotNone(raw.lost)
        self.check_nothing_happened()
        return raw

    def test_no_certificate(self) -> None:
        self.handshake_fails(context(None))

    def test_a_certificate_of_an_rsa_key(self) -> None:
        self.handshake_fails(context(None, rsa_key=True))

    def test_tls_of_an_older_version(self) -> None:
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_1_VERSION):
            self.handshake_fails(context(identity(2), most_version=version))

    def test_a_certificate_that_is_too_large(self) -> None:
        self.handshake_fails(certificate_of_size(65_000))

    def test_a_large_certificate_is_no_matter(self) -> None:
        raw = self.attack(made=certificate_of_size(20_000))
        assert raw.tls is not None
        self.assertTrue(raw.tls.done)
        self.assertIsNone(raw.lost)

    def test_an_expired_certificate_is_no_matter(self) -> None:
        """`certificate_of_size` makes one that ended in 2001."""
        raw = self.attack(made=certificate_of_size(10))
        assert raw.tls is not None
        raw.send_secret(raw.tls.hello(identity(9), self.host.identity))
        self.clock.advance(1)
        self.assertEqual([each.peer_id for each in self.host.connected], [identity(9).node_id])

    def test_a_failing_verification_callback_ends_the_handshake(self) -> None:
        made = context(self.host.identity)

        def fail(*_arguments: Any) -> bool:
            raise RuntimeError("not foreseen")

        made.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, fail)
        self.host.network._credentials._context = made
        self.handshake_fails(context(identity(2)))

    def test_bytes_in_the_clear_after_the_handshake(self) -> None:
        raw = self.attack(made=context(identity(2)))
        self.clock.advance(0)
        raw.transport.write(ECHO)
        self.clock.advance(0)
        self.assertIsNotNone(raw.lost)
        self.check_nothing_happened()

    def test_no_more_than_64_kib_from_a_stranger(self) -> None:
        raw = self.attack(made=context(identity(2)))
        self.clock.advance(0)
        pipe = raw.transport
        while raw.lost is None and pipe.sent_bytes < 10 * MOST_STRANGER_BYTES:
            raw.send_secret(ask_box(b"Unknown"))
            self.clock.advance(0)
        self.assertLess(pipe.sent_bytes, MOST_STRANGER_BYTES + 100)
        self.assertGreater(pipe.sent_bytes, MOST_STRANGER_BYTES - 100)
        self.check_nothing_happened()

    def test_records_of_handshakes_without_end(self) -> None:
        record = b"\x16\x03\x01\x40\x00" + b"\x01\x00\xff\xff" + bytes(0x4000 - 4)
        raw = self.attack(REQUEST)
        for _ in range(8):
            raw.transport.write(record)
            self.clock.advance(0)
        self.assertIsNotNone(raw.lost)
        self.check_nothing_happened()

    def after_a_handshake(self, client: Tls, made: SSL.Context) -> Any:
        server = Tls(made, client=False)
        data = client.start()
        while data:
            data = client.feed(server.feed(data))
        self.assertTrue(client.done)
        return client.connection.get_session()

    def test_resumption_is_never_granted(self) -> None:
        """Whatever tickets OpenSSL sends, the next handshake is a whole one."""
        made = context(identity(2))
        # The way of asking works: a server that grants it is found out.
        granting = context(identity(3))
        granting.set_session_id(b"test")
        before = Tls(made, client=True)  # kept: OpenSSL spoils the session of one thrown away
        session = self.after_a_handshake(before, granting)
        again = Tls(made, client=True, session=session)
        self.after_a_handshake(again, granting)
        self.assertTrue(again.resumed())

        first = self.attack(made=made)
        assert first.tls is not None
        session = first.tls.connection.get_session()
        raw = RawPeer(made, session=session)
        self.host.attacked_by(raw)
        self.clock.advance(0)
        assert raw.tls is not None
        self.assertTrue(raw.tls.done)
        self.assertFalse(raw.tls.resumed())


class DiallerAttackedTest(AttackTest):
    """Somebody listens and does not what a listener does."""

    def dialled(self, *segments: bytes, made: SSL.Context | None = None) -> RawPeer:
        """Let the node dial a raw listener, which sends ``segments`` when it is asked."""
        raw = RawPeer(made, client=False)
        listening = self

        class Listening:
            def buildProtocol(self, _address: object) -> RawPeer:
                return raw

        self.net.listen("raw", 1, Listening())  # type: ignore[arg-type]
        listening.dialling = Deferred.fromCoroutine(
            self.host.network.dial(identity(2).node_id, [("raw", 1)])
        )
        for segment in segments:
            raw.transport.write(segment)
            self.clock.advance(0)
        return raw

    dialling: Deferred[Connection]

    def refused(self, *segments: bytes, made: SSL.Context | None = None) -> str:
        raw = self.dialled(*segments, made=made)
        self.clock.advance(0.1)
        failure = self.failureResultOf(self.dialling, HandshakeError)
        self.clock.advance(0.1)
        self.assertIsNotNone(raw.lost)
        self.check_nothing_happened()
        return str(failure.value)

    def test_an_answer_with_more_in_the_same_segment(self) -> None:
        for more in (FORGED, ECHO, ANSWER, b"\0", b"\x16\x03\x03"):
            self.refused(ANSWER + more)

    def test_forged_answers_split_anywhere(self) -> None:
        whole = ANSWER + FORGED
        for at in range(1, len(whole)):
            self.refused(whole[:at], whole[at:])

    def test_forged_answers_byte_for_byte(self) -> None:
        self.refused(*(bytes([byte]) for byte in ANSWER + FORGED))

    def test_starttls_refused(self) -> None:
        box = {boxes.ERROR: b"1", boxes.ERROR_CODE: b"UNHANDLED", boxes.ERROR_DESCRIPTION: b"no"}
        self.refused(amp.Box(box).serialize())

    def test_starttls_stripped(self) -> None:
        """The listener goes on in clear text, as if there were no TLS."""
        for instead in (ECHO, REQUEST, amp.Box({boxes.ANSWER: b"1", b"x": b""}).serialize()):
            self.refused(instead)

    def test_nothing_is_ever_sent_in_the_clear_but_the_request(self) -> None:
        raw = self.dialled(FORGED)
        self.clock.advance(20)
        self.assertEqual(raw.received, REQUEST)
        self.failureResultOf(self.dialling, HandshakeError)

    def test_stalled_anywhere(self) -> None:
        for at in range(len(ANSWER) + 1):
            raw = self.dialled(ANSWER[:at])
            self.clock.advance(HANDSHAKE_SECONDS - 0.1)
            self.assertNoResult(self.dialling)
            self.clock.advance(0.2)
            text = str(self.failureResultOf(self.dialling, HandshakeError).value)
            self.assertIn("too long", text)
            self.assertIsNotNone(raw.lost)
            self.check_nothing_happened()

    def test_a_handshake_that_stalls_after_tls(self) -> None:
        raw = self.dialled(made=context(identity(2)))
        self.clock.advance(1)
        assert raw.tls is not None
        self.assertTrue(raw.tls.done)
        self.assertNoResult(self.dialling)
        self.clock.advance(HANDSHAKE_SECONDS)
        self.failureResultOf(self.dialling, HandshakeError)
        self.assertIsNotNone(raw.lost)
        self.check_nothing_happened()

    def test_a_listener_that_goes(self) -> None:
        for at in range(len(ANSWER) + 1):
            raw = self.dialled(ANSWER[:at])
            raw.transport.loseConnection()
            self.clock.advance(0.1)
            self.failureResultOf(self.dialling, HandshakeError)
            self.check_nothing_happened()

    def test_the_wrong_key(self) -> None:
        self.assertIn("another node", self.refused(made=context(identity(3))))

    def test_a_certificate_of_an_rsa_key(self) -> None:
        self.assertIn("handshake", self.refused(made=context(None, rsa_key=True)))

    def test_no_certificate(self) -> None:
        self.assertIn("handshake", self.refused(made=context(None)))

    def test_tls_of_an_older_version(self) -> None:
        made = context(identity(2), most_version=SSL.TLS1_2_VERSION)
        self.assertIn("handshake", self.refused(made=made))

    def test_a_failing_verification_callback(self) -> None:
        made = context(self.host.identity)

        def fail(*_arguments: Any) -> bool:
            raise RuntimeError("not foreseen")

        made.set_verify(SSL.VERIFY_PEER, fail)
        self.host.network._credentials._context = made
        self.refused(made=context(identity(2)))

    def test_too_many_bytes_before_hello(self) -> None:
        made = context(identity(2), extra_extension=65_000)
        self.assertIn("too many bytes", self.refused(made=made))
