"""Both ends of a connection attacked by raw sockets, over real ones."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import tempfile
import time
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.identity import Identity
from ampgrid.wire import boxes
from ampgrid.wire.gate import ANSWER, REQUEST
from tests.patience import PATIENCE
from tests.wire.kit import SECRET, Tls, ask_box, certificate, context, identity
from tests.wire.node_process import HANDSHAKE_SECONDS, NodeProcess

#: The most that a node does before it answers somebody honest, whatever others do, seconds.
MOST_WORK_SECONDS = 2.0
MIB = 2**20
ECHO = ask_box(b"Echo", tag=b"2", data=b"injected")
FORGED = amp.Box({boxes.ANSWER: b"2", b"data": b"forged"}).serialize()


class RawSocket:
    """A blocking socket to a node, in the clear at first."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tls: Tls | None = None

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise ConnectionError("closed")
            data += more
        return data

    def rest(self) -> bytes:
        """All that comes until the node closes; a time-out if it does not."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while more := self.socket.recv(65_536):
                data += more
        return data

    def start_tls(self, made: SSL.Context) -> None:
        self.send(REQUEST)
        assert self.exactly(len(ANSWER)) == ANSWER
        self.tls = Tls(made, client=True)
        self.send(self.tls.start())
        while not self.tls.done:
            self.read_some()

    def read_some(self) -> None:
        assert self.tls is not None
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionError("closed")
        self.send(self.tls.feed(data))

    def send_secret(self, data: bytes) -> None:
        assert self.tls is not None
        self.send(self.tls.send(data))

    def boxes(self, count: int) -> list[dict[bytes, bytes]]:
        """The first boxes that come inside TLS."""
        assert self.tls is not None
        while True:
            with contextlib.suppress(ValueError, IndexError):
                found = [dict(box) for box in amp.parseString(self.tls.plain)]
                if len(found) >= count:
                    return found
            self.read_some()

    def become_member(self, node: NodeProcess, number: int) -> None:
        """Handshake and Hello, as an honest dialler."""
        self.start_tls(context(identity(number)))
        assert self.tls is not None
        self.send_secret(self.tls.hello(identity(number), node.identity))
        assert self.boxes(1)[0][boxes.ANSWER] == b"1"
        self.tls.plain = b""

    def echo(self, data: bytes) -> None:
        """One honest call and its answer."""
        assert self.tls is not None
        self.tls.plain = b""
        self.send_secret(ask_box(b"Echo", tag=b"e", data=data))
        assert self.boxes(1) == [{boxes.ANSWER: b"e", b"data": data}]


class WithNode(SynchronousTestCase):
    """One node for all tests of a class, and an honest peer that goes on through all of them."""

    node: NodeProcess

    @classmethod
    def setUpClass(cls) -> None:
        cls.node = NodeProcess(1)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.node.stop()

    def setUp(self) -> None:
        self.before = self.node.ask("state")

    def dial(self) -> RawSocket:
        raw = RawSocket(self.node.port)
        self.addCleanup(raw.close)
        return raw

    def member(self, number: int = 50) -> RawSocket:
        raw = self.dial()
        raw.become_member(self.node, number)
        return raw

    def check_nothing_dispatched(self) -> None:
        state = self.node.ask("state")
        self.assertEqual(state["wanted"], self.before["wanted"])
        self.assertEqual(state["calls"], self.before["calls"])
        self.assertEqual(state["open"], self.before["open"])

    def check_all_gone(self) -> None:
        end = time.monotonic() + PATIENCE
        while (state := self.node.ask("state"))["accepted"] and time.monotonic() < end:
            pass
        self.assertEqual((state["strangers"], state["accepted"], state["open"]), (0, 0, 0))


class StrangerTest(WithNode):
    """The node listens; somebody who is nobody dials."""

    def refused(self, *segments: bytes) -> None:
        raw = self.dial()
        with contextlib.suppress(ConnectionError):
            for segment in segments:
                raw.send(segment)
        self.assertNotIn(b"injected", raw.rest())
        raw.close()

    def test_a_second_box_in_the_same_segment(self) -> None:
        for second in (ECHO, REQUEST, FORGED, b"\0"):
            self.refused(REQUEST + second)
        self.check_nothing_dispatched()
        self.check_all_gone()

    def test_a_second_box_split_anywhere(self) -> None:
        whole = REQUEST + ECHO
        for at in range(1, len(whole)):
            self.refused(whole[:at], whole[at:])
        self.check_nothing_dispatched()

    def test_a_second_box_byte_for_byte(self) -> None:
        self.refused(*(bytes([byte]) for byte in REQUEST + ECHO))
        self.check_nothing_dispatched()

    def test_other_protocols(self) -> None:
        for first in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01",
            ECHO,
            bytes(100_000),
        ):
            self.refused(first)
        self.check_nothing_dispatched()

    def stock_tls(self, made: ssl.SSLContext, alert: str) -> None:
        """Python's own TLS, which shares nothing with ours, is refused with an alert."""
        with self.assertRaises(ssl.SSLError) as caught:
            self.answer_to(made, b"")
        # The alert is the node's; a connection that is only closed at the deadline gives none.
        self.assertEqual(caught.exception.reason, alert)
        # One who does not wait for it is not served before it is sent.
        with contextlib.suppress(OSError):
            self.assertEqual(self.answer_to(made, ECHO), b"")
        self.check_nothing_dispatched()

    def answer_to(self, made: ssl.SSLContext, data: bytes) -> bytes:
        """Return what the node answers inside TLS."""
        raw = self.dial()
        raw.send(REQUEST)
        self.assertEqual(raw.exactly(len(ANSWER)), ANSWER)
        with made.wrap_socket(raw.socket) as inside:
            inside.sendall(data)
            return inside.recv(1_000)

    def stock_context(self, who: Identity | None, *, rsa_key: bool = False) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
        if rsa_key:
            key = rsa.generate_private_key(65537, 2048)
            pem = key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            self.show(made, pem, certificate(key, hashes.SHA256(), 0))
        elif who is not None:
            self.show(made, who.to_pem(), who.certificate)
        return made

    def show(self, made: ssl.SSLContext, key: bytes, shown: x509.Certificate) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(key + shown.public_bytes(serialization.Encoding.PEM))
            file.flush()
            made.load_cert_chain(file.name)

    def test_no_certificate(self) -> None:
        self.stock_tls(self.stock_context(None), "TLSV13_ALERT_CERTIFICATE_REQUIRED")

    def test_tls_1_2(self) -> None:
        made = self.stock_context(identity(2))
        made.maximum_version = ssl.TLSVersion.TLSv1_2
        self.stock_tls(made, "TLSV1_ALERT_PROTOCOL_VERSION")

    def test_a_certificate_of_an_rsa_key(self) -> None:
        self.stock_tls(self.stock_context(None, rsa_key=True), "TLSV1_ALERT_UNKNOWN_CA")

    def test_an_identity_is_not_refused(self) -> None:
        """The above were refused for what they had, and not for what they were."""
        answer = self.answer_to(self.stock_context(identity(2)), ask_box(b"Unknown"))
        self.assertIn(amp.UNHANDLED_ERROR_CODE, answer)

    def test_resumption_is_not_granted(self) -> None:
        made = self.stock_context(identity(2))
        session = None
        for _ in range(2):
            raw = self.dial()
            raw.send(REQUEST)
            raw.exactly(len(ANSWER))
            with made.wrap_socket(raw.socket, session=session) as inside:
                inside.sendall(ask_box(b"Unknown"))
                inside.recv(1_000)
                self.assertFalse(inside.session_reused)
                session = inside.session

    def test_the_wrong_secret(self) -> None:
        raw = self.dial()
        raw.start_tls(context(identity(2)))
        assert raw.tls is not None
        raw.send_secret(raw.tls.hello(identity(2), self.node.identity, secret=b"guess"))
        self.assertEqual(raw.boxes(1)[0][boxes.ERROR_CODE], b"WRONG_GRID")
        raw.close()
        self.check_all_gone()
        self.check_nothing_dispatched()

    def test_commands_before_hello(self) -> None:
        raw = self.dial()
        raw.start_tls(context(identity(2)))
        raw.send_secret(ECHO)
        self.assertEqual(raw.boxes(1)[0][boxes.ERROR_CODE], amp.UNHANDLED_ERROR_CODE)
        self.check_nothing_dispatched()

    def test_no_more_than_64_kib(self) -> None:
        raw = self.dial()
        raw.start_tls(context(identity(2)))
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 10 * MIB:
                raw.send_secret(ask_box(b"Unknown") * 20)
                sent += 20 * len(ask_box(b"Unknown"))
        # The node reads 64 KiB and no more; the rest is on its way when it closes.
        self.assertLess(sent, 6 * MIB)
        self.check_nothing_dispatched()

    def test_a_flood_of_strangers_keeps_nobody_out(self) -> None:
        strangers = [self.dial() for _ in range(600)]
        before = self.node.cpu_seconds()
        honest = self.member()
        honest.echo(b"x")
        self.assertLess(self.node.cpu_seconds() - before, MOST_WORK_SECONDS)
        self.assertLessEqual(self.node.ask("state")["strangers"], 256)
        honest.echo(b"y" * 60_000)
        for each in strangers:
            each.close()
        honest.close()
        self.check_all_gone()


class StallTest(WithNode):
    """Whoever stalls is gone when the handshake's time is over, and not before."""

    def test_stalled_at_every_stage(self) -> None:
        honest = self.member()
        stalled = []
        for at in (0, 1, len(REQUEST) - 1, len(REQUEST)):
            raw = self.dial()
            raw.send(REQUEST[:at])
            stalled.append(raw)
        hello = self.dial()
        hello.send(REQUEST)
        hello.exactly(len(ANSWER))
        hello.send(Tls(context(identity(2)), client=True).start()[:100])
        shaken = self.dial()
        shaken.start_tls(context(identity(2)))
        # Half of the time is left, whatever this test took.
        self.node.ask("skip", seconds=HANDSHAKE_SECONDS / 2)
        self.assertEqual(self.node.ask("state")["strangers"], 6)
        self.node.ask("skip", seconds=HANDSHAKE_SECONDS / 2)
        for raw in (*stalled, hello, shaken):
            raw.rest()
        honest.echo(b"x")
        honest.close()
        self.check_all_gone()

    def test_the_dialler_does_not_wait_longer(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(PATIENCE)
            port = server.getsockname()[1]
            self.node.begin("dial", port=port, node=identity(2).node_id.hex())
            with server.accept()[0] as raw:
                # The gate asks for TLS as its time begins.
                self.assertEqual(raw.recv(len(REQUEST), socket.MSG_WAITALL), REQUEST)
                self.assertEqual(self.node.ask("skip", seconds=HANDSHAKE_SECONDS), {})
                answer = self.node.finish()
            self.assertFalse(answer["ok"])
            self.assertIn("too long", answer["error"])


class DiallerTest(WithNode):
    """The node dials; somebody who is nobody listens."""

    def setUp(self) -> None:
        super().setUp()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.server.close)
        self.server.settimeout(PATIENCE)

    def accept(self, wanted: int = 2) -> RawSocket:
        port = self.server.getsockname()[1]
        self.node.begin("dial", port=port, node=identity(wanted).node_id.hex())
        raw = RawSocket.__new__(RawSocket)
        raw.socket, _address = self.server.accept()
        raw.socket.settimeout(PATIENCE)
        raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.tls = None
        self.addCleanup(raw.close)
        self.assertEqual(raw.exactly(len(REQUEST)), REQUEST)
        return raw

    def refused(self, *segments: bytes) -> str:
        raw = self.accept()
        with contextlib.suppress(ConnectionError):
            for segment in segments:
                raw.send(segment)
        self.assertEqual(raw.rest()[:1] in (b"", b"\x16"), True, "nothing but TLS may follow")
        return self.dial_failed()

    def dial_failed(self) -> str:
        answer = self.node.finish()
        self.assertEqual((answer["ok"], answer.get("kind")), (False, "HandshakeError"))
        return str(answer["error"])

    def serve_tls(self, made: SSL.Context, wanted: int = 2) -> RawSocket:
        raw = self.accept(wanted)
        raw.send(ANSWER)
        raw.tls = Tls(made, client=False)
        with contextlib.suppress(ConnectionError):
            while not raw.tls.failed and not raw.tls.plain:
                raw.read_some()
        return raw

    def test_forged_answers_in_the_same_segment_and_split_anywhere(self) -> None:
        whole = ANSWER + FORGED
        for at in range(1, len(whole)):
            self.refused(whole[:at], whole[at:])
        self.refused(whole)
        self.check_nothing_dispatched()

    def test_starttls_refused_and_stripped(self) -> None:
        error = {boxes.ERROR: b"1", boxes.ERROR_CODE: b"UNHANDLED"}
        for instead in (amp.Box(error).serialize(), ECHO, ANSWER + ECHO):
            self.refused(instead)
        self.check_nothing_dispatched()

    def test_closed(self) -> None:
        for at in (0, 5, len(ANSWER)):
            raw = self.accept()
            raw.send(ANSWER[:at])
            raw.close()
            self.dial_failed()

    def test_the_wrong_key(self) -> None:
        raw = self.serve_tls(context(identity(3)))
        self.assertIn("another node", self.dial_failed())
        assert raw.tls is not None
        self.assertEqual(raw.tls.plain, b"")

    def test_tls_1_2_no_certificate_and_rsa(self) -> None:
        for made in (
            context(identity(2), most_version=SSL.TLS1_2_VERSION),
            context(None),
            context(None, rsa_key=True),
        ):
            raw = self.serve_tls(made)
            told = self.dial_failed()
            self.assertIn("handshake", told)
            # At once, and not when its time was over.
            self.assertNotIn("too long", told)
            assert raw.tls is not None
            self.assertEqual(raw.tls.plain, b"")

    def test_the_wrong_secret(self) -> None:
        raw = self.serve_tls(context(identity(2)))
        assert raw.tls is not None
        answer = raw.tls.hello_answer(identity(2), self.node.identity, secret=b"guess")
        raw.send_secret(answer)
        self.dial_failed()
        self.check_nothing_dispatched()

    def test_all_is_well_in_the_end(self) -> None:
        """The raw listener can be right too, so the above failed for the reasons given."""
        raw = self.serve_tls(context(identity(2)))
        assert raw.tls is not None
        raw.send_secret(raw.tls.hello_answer(identity(2), self.node.identity))
        self.assertEqual(self.node.finish(), {"ok": True, "error": ""})
        raw.tls.plain = b""
        raw.echo(b"x" * 60_000)
        raw.close()

    def test_two_nodes_meet(self) -> None:
        other = NodeProcess(2)
        self.addCleanup(other.stop)
        answer = self.node.ask("dial", port=other.port, node=other.identity.node_id.hex())
        self.assertEqual(answer, {"ok": True, "error": ""})
        answer = other.ask("dial", port=self.node.port, node=self.node.identity.node_id.hex())
        self.assertEqual(answer, {"ok": True, "error": ""})


class HostileMemberTest(WithNode):
    """Somebody with a key and the secret does his worst: bounded, cut off, others go on."""

    #: Peers at once, so that what one costs is more than the noise.
    peers = 6

    def worst(self, attack: Any) -> None:
        """Run an attack from several peers at once, and look at what it costs."""
        honest = self.member(49)
        honest.echo(b"before")
        # Once before it counts, so that what is only ever allocated once is not counted.
        with contextlib.closing(self.member(60)) as first:
            attack(first, self.node)
        base = self.node.rss_bytes()
        hostile = [self.member(61 + number) for number in range(self.peers)]
        most = 0
        for raw in hostile:
            attack(raw, self.node)
            most = max(most, self.node.rss_bytes() - base)
            before = self.node.cpu_seconds()
            honest.echo(b"x" * 10_000)
            self.assertLess(self.node.cpu_seconds() - before, MOST_WORK_SECONDS)
        self.assertLessEqual(most / self.peers, 4 * MIB)
        for raw in hostile:
            raw.close()
        honest.echo(b"after")
        honest.close()
        self.check_all_gone()

    def flood(self, raw: RawSocket, data: bytes, most: int) -> int:
        """Send without reading until the node cuts us off; returns how much went out."""
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < most:
                raw.send_secret(data)
                sent += len(data)
        return sent

    def test_endless_keys(self) -> None:
        def attack(raw: RawSocket, _node: NodeProcess) -> None:
            start = b"\0\4_ask\0\0011\0\x08_command\0\4Echo"
            keys = b"".join(b"\0\6k%05d\0\0" % number for number in range(100_000))
            raw.send_secret(start)
            self.assertLess(self.flood(raw, keys, 30 * len(keys)), 20 * len(keys))

        self.worst(attack)

    def test_an_endless_box(self) -> None:
        def attack(raw: RawSocket, _node: NodeProcess) -> None:
            raw.send_secret(b"\0\4_ask\0\0011\0\x08_command\0\4Echo")
            values = b"".join(b"\0\1%c\xff\xff" % n + bytes(65_535) for n in b"abcdefghijkl")
            self.assertLess(self.flood(raw, values, 60 * MIB), 50 * MIB)

        self.worst(attack)

    def test_a_box_that_is_never_finished(self) -> None:
        """All that is allowed, and then silence: this is borne, at its price."""

        def attack(raw: RawSocket, _node: NodeProcess) -> None:
            raw.send_secret(ask_box(b"Echo", data=bytes(65_000))[:-2])

        self.worst(attack)

    def test_a_hundred_thousand_calls_and_not_one_answer_read(self) -> None:
        calls = ask_box(b"Echo", data=bytes(1_000)) * 50

        def attack(raw: RawSocket, _node: NodeProcess) -> None:
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            self.assertLess(self.flood(raw, calls, 2_000 * len(calls)), 2_000 * len(calls))

        self.worst(attack)

    def test_the_most_that_may_be_asked_and_is_not_read(self) -> None:
        """All credits used on the largest boxes, the answers left lying."""

        def attack(raw: RawSocket, _node: NodeProcess) -> None:
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            call = ask_box(b"Echo", data=bytes(65_000))
            with contextlib.suppress(ConnectionError, TimeoutError):
                for _ in range(200):
                    raw.send_secret(call)
                    select.select([raw.socket], [], [], 0)

        self.worst(attack)

    def test_calls_that_are_never_answered_here(self) -> None:
        """Held by the responder: as many as announced, and not one more."""

        def attack(raw: RawSocket, _node: NodeProcess) -> None:
            hold = ask_box(b"Hold", number=b"1", data=bytes(20_000))
            self.assertLess(self.flood(raw, hold, 60 * MIB), 50 * MIB)

        self.worst(attack)

    def test_answers_that_nobody_asked_for(self) -> None:
        def attack(raw: RawSocket, _node: NodeProcess) -> None:
            self.assertLess(self.flood(raw, FORGED * 1_000, 60 * MIB), 50 * MIB)

        self.worst(attack)

    def test_unknown_commands_of_the_largest_size(self) -> None:
        """Not a breach: they are drained and answered, and read by nobody."""

        def attack(raw: RawSocket, _node: NodeProcess) -> None:
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            self.flood(raw, ask_box(b"Unknown", data=bytes(65_000)), 4 * MIB)

        self.worst(attack)

    def test_the_secret_is_not_in_any_answer(self) -> None:
        raw = self.member()
        raw.send_secret(ask_box(b"Break", tag=b"b", how=b"undeclared"))
        (box,) = raw.boxes(1)
        self.assertEqual(box[boxes.ERROR_CODE], b"INTERNAL")
        self.assertNotIn(SECRET, b"".join(box.values()))
        self.assertNotIn(b"responder", box[boxes.ERROR_DESCRIPTION])
        raw.echo(b"still up")
