"""What the remote over HTTP makes of servers that lie, break off, stall or answer nonsense."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import Agent
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from ampgrid.blobs.http import STALL_SECONDS, HttpRemote
from ampgrid.blobs.httpagent import open_http_remote
from ampgrid.blobs.httpbody import LEAST_BYTES, MOST_AHEAD_BYTES
from ampgrid.blobs.port import Query
from ampgrid.crypto.identity import Identity
from ampgrid.errors import (
    BadArgumentValueError,
    BlobAlreadyExistsError,
    BlobDeletedError,
    BlobNotFoundError,
    BlobQuotaError,
    BlobRefusedError,
    FileError,
    InvalidBlobError,
    RemoteUnavailableError,
)
from ampgrid.formats.blobname import BlobName, Flag
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.pipes import MemoryNet
from tests.contract.blob_remote_contract import BytesSource
from tests.unit.blobs.serving import sealed

NAME = BlobName.of("blob")
TAG = b"t" * 16
TAG_TEXT = urlsafe_b64encode(TAG).decode()


def reply(status=200, body=b"", **headers):
    """Return an answer as bytes."""
    told = {"Content-Length": str(len(body))}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} Told", *(f"{k}: {v}" for k, v in told.items() if v is not None)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Scripted(Protocol):
    """Answers every request with what the script says, whatever the request is."""

    def __init__(self, server):
        self.server = server
        self.received = b""

    def dataReceived(self, data):
        self.received += data
        self.server.taken += len(data)
        while b"\r\n\r\n" in self.received and self.server.answers:
            head, _, rest = self.received.partition(b"\r\n\r\n")
            length = 0
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            if len(rest) < length:
                return
            self.received = rest[length:]
            self.server.heads.append(head.decode())
            answer, *more = self.server.answers
            if more:
                self.server.answers = more
            self.transport.write(answer)
            if self.server.hangs_up:
                self.transport.loseConnection()


@implementer(IStreamClientEndpoint, IAgentEndpointFactory)
class Server(Factory):
    """A server in memory.

    Attributes:
        answers: bytes of the next answers; the last one is given on and on.
        heads: of the requests.
        taken: bytes that came in all.
        hangs_up: whether it closes after an answer.
    """

    noisy = False

    def __init__(self, clock):
        self.answers = []
        self.heads = []
        self.taken = 0
        self.hangs_up = False
        self.net = MemoryNet(clock, 0.001)
        self.net.listen("server", 80, self)

    def buildProtocol(self, addr):
        return Scripted(self)

    def endpointForURI(self, uri):
        return self

    def connect(self, protocol_factory):
        return Deferred.fromCoroutine(self.net.connect("server", 80, protocol_factory))


class HttpCase(SynchronousTestCase):
    def setUp(self):
        self.clock = HeapClock()
        self.server = Server(self.clock)
        self.remote = self.make()

    def make(self, url="https://server/blobs", **how):
        agent = Agent.usingEndpointFactory(self.clock, self.server)
        return HttpRemote(url, "alice", "secret", agent=agent, clock=self.clock, **how)

    def answers(self, *answers):
        self.server.answers = list(answers)
        self.server.heads = []

    def outcome(self, work):
        try:
            self.clock.run(work)
        except Exception as error:
            return type(error)
        return None

    def read_all(self, offset=0):
        async def read():
            stream = await self.remote.get(NAME, offset)
            data = b""
            while piece := await stream.read():
                data += piece
            await stream.close()
            return data

        return read()


class LyingServerTests(HttpCase):
    def test_bytes_of_a_blob(self):
        body = bytes(184) + TAG
        for answer, offset, expected in (
            (reply(200, body, Tag=TAG_TEXT), 0, None),
            (reply(200, body), 0, InvalidBlobError),
            (reply(200, body, Tag="short"), 0, InvalidBlobError),
            (reply(200, body, Tag="\u00e4" * 24), 0, InvalidBlobError),
            (reply(200, body[:15], Tag=TAG_TEXT), 0, InvalidBlobError),
            (reply(200, body, Tag=TAG_TEXT, Content_Length=None), 0, RemoteUnavailableError),
            # A server that knows no ranges sends it all.
            (reply(200, body, Tag=TAG_TEXT), 100, None),
            (reply(200, body, Tag=TAG_TEXT), 201, BadArgumentValueError),
            (reply(206, body[100:], Tag=TAG_TEXT, Content_Range="bytes 100-199/200"), 100, None),
            # The seed's is off by one.
            (
                reply(206, body[100:], Tag=TAG_TEXT, Content_Range="bytes 100-200/200"),
                100,
                InvalidBlobError,
            ),
            (reply(206, body[100:], Tag=TAG_TEXT), 100, InvalidBlobError),
            (
                reply(206, body[:50], Tag=TAG_TEXT, Content_Range="bytes 100-199/200"),
                100,
                InvalidBlobError,
            ),
            (reply(416, b"", Tag=TAG_TEXT, Content_Range="bytes */100"), 100, None),
            (
                reply(416, b"", Tag=TAG_TEXT, Content_Range="bytes */99"),
                100,
                BadArgumentValueError,
            ),
            (
                reply(416, b"", Tag=TAG_TEXT, Content_Range="bytes */101"),
                100,
                RemoteUnavailableError,
            ),
            (reply(416, b""), 100, RemoteUnavailableError),
            (reply(404), 0, BlobNotFoundError),
            (reply(422), 0, InvalidBlobError),
            (reply(401), 0, BlobRefusedError),
            (reply(403), 0, BlobRefusedError),
            (reply(500), 0, RemoteUnavailableError),
            (reply(302, b"", Location="https://elsewhere/"), 0, RemoteUnavailableError),
            (b"nonsense\r\n\r\n", 0, RemoteUnavailableError),
        ):
            self.answers(answer)
            self.server.hangs_up = b"Content-Length" not in answer
            self.assertIs(self.outcome(self.read_all(offset)), expected, answer)
            self.assertEqual(len([h for h in self.server.heads if "elsewhere" in h]), 0)

    def test_a_blob_that_is_cut_short(self):
        self.answers(reply(200, bytes(100), Tag=TAG_TEXT, Content_Length="200"))
        self.server.hangs_up = True
        self.assertIs(self.outcome(self.read_all()), RemoteUnavailableError)

    def test_what_is_known_of_a_blob(self):
        for headers, expected in (
            ({"Tag": TAG_TEXT, "Content_Length": "100", "Flags": "", "Stored_At": "5.5"}, None),
            ({"Tag": TAG_TEXT, "Content_Length": "100", "Flags": "OTHER"}, RemoteUnavailableError),
            ({"Tag": TAG_TEXT, "Content_Length": "15", "Flags": ""}, RemoteUnavailableError),
            ({"Tag": TAG_TEXT, "Content_Length": "9" * 20, "Flags": ""}, RemoteUnavailableError),
            ({"Content_Length": "100", "Flags": ""}, InvalidBlobError),
        ):
            self.answers(reply(200, **headers))
            self.assertIs(self.outcome(self.remote.stat(NAME)), expected, headers)

    def test_listings(self):
        for body, headers, expected in (
            (["a", "b"], {}, None),
            (["a"], {"Next": "a"}, None),
            ([], {"Next": "a"}, RemoteUnavailableError),
            (["a"], {"Next": "x" * 301}, RemoteUnavailableError),
            (["a"], {"Next": "\u00e4"}, RemoteUnavailableError),
            (["a/b"], {}, RemoteUnavailableError),
            ([""], {}, RemoteUnavailableError),
            ([1], {}, RemoteUnavailableError),
            ([None], {}, RemoteUnavailableError),
            ({"a": 1}, {}, RemoteUnavailableError),
            ("a", {}, RemoteUnavailableError),
        ):
            self.answers(reply(200, json.dumps(body).encode(), **headers))
            self.assertIs(self.outcome(self.remote.page(Query())), expected, (body, headers))
        for raw in (b"", b"no", b"[" * 100_000, b"\xff"):
            self.answers(reply(200, raw))
            self.assertIs(self.outcome(self.remote.page(Query())), RemoteUnavailableError)
            self.assertIs(self.outcome(self.remote.get_flags(NAME)), RemoteUnavailableError)
            self.assertIs(self.outcome(self.remote.namespaces()), RemoteUnavailableError)
        for told in (3, {}, {"count": -1}, {"count": "1"}, {"count": True}, {"count": 1.5}):
            self.answers(reply(200, json.dumps(told).encode()))
            self.assertIs(self.outcome(self.remote.count(Query())), RemoteUnavailableError)
        for told in (["a/b"], [1], {}, ["a"] * 1001):
            self.answers(reply(200, json.dumps(told).encode()))
            self.assertIs(self.outcome(self.remote.namespaces()), RemoteUnavailableError)

    def test_an_answer_without_end_is_left(self):
        self.answers(reply(200, b" " * 200_000))
        self.assertIs(self.outcome(self.remote.count(Query())), RemoteUnavailableError)

    def test_a_server_that_tells_ids_in_any_order_is_put_in_order(self):
        names = [f"blob-{number * 7919 % 25:02}" for number in range(25)]
        self.answers(reply(200, json.dumps(names).encode()))
        found, after = [], None
        while not found or after is not None:
            page = self.clock.run(self.remote.page(Query(), None, after, 10))
            found += page.blob_ids
            after = page.after
        self.assertEqual(found, sorted(names))

    def test_a_server_without_pages_is_paged_here(self):
        ids = [f"b{number}" for number in range(25)]
        self.answers(reply(200, json.dumps(ids).encode()))
        found, after = [], None
        while True:
            page = self.clock.run(self.remote.page(Query(), "date", after, 10))
            found += page.blob_ids
            after = page.after
            if after is None:
                break
            self.assertLessEqual(len(page.blob_ids), 10)
        self.assertEqual(found, ids)


class SlowServerTests(HttpCase):
    """Servers that send a few bytes now and then: a slot is not theirs for ever."""

    def reading(self, size):
        """Begin to read a blob; return where its bytes are and what becomes of it."""
        self.answers(reply(200, b"", Tag=TAG_TEXT, Content_Length=str(size)))
        reading = Deferred.fromCoroutine(self.read_all())
        outcomes = []
        reading.addBoth(outcomes.append)
        self.clock.advance(0.1)
        ((_dialling, accepted),) = self.server.net.pipes
        return accepted, outcomes

    def drip(self, count, size, every):
        """Send so many times some bytes; return how often it took to be left."""
        accepted, outcomes = self.reading(1_000_000)
        for number in range(count):
            if outcomes:
                self.assertIs(outcomes[0].type, RemoteUnavailableError)
                return number
            accepted.write(bytes(size))
            self.clock.advance(every)
        return None

    def test_a_byte_now_and_then_is_left(self):
        self.assertLessEqual(self.drip(100, 1, STALL_SECONDS / 3), 4)

    def test_what_is_only_slow_is_read(self):
        self.assertIsNone(self.drip(60, LEAST_BYTES // 4, STALL_SECONDS / 5))


class PutTests(HttpCase):
    def put(self, size=1000, **how):
        source = BytesSource(sealed("put", size), **how)
        return source, self.outcome(self.remote.put(NAME, source))

    def test_statuses(self):
        other = reply(200, b"", Tag=TAG_TEXT, Content_Length="1000", Flags="")
        for answers, expected in (
            ([reply(200)], None),
            ([reply(409), other], BlobAlreadyExistsError),
            ([reply(409), reply(404)], RemoteUnavailableError),
            ([reply(410)], BlobDeletedError),
            ([reply(507)], BlobQuotaError),
            ([reply(413)], BlobQuotaError),
            ([reply(422)], InvalidBlobError),
            ([reply(400)], BadArgumentValueError),
            ([reply(401)], BlobRefusedError),
            ([reply(404)], BlobRefusedError),
            ([reply(503)], RemoteUnavailableError),
            ([reply(202)], RemoteUnavailableError),
            ([reply(204)], RemoteUnavailableError),
        ):
            self.answers(*answers)
            self.assertIs(self.put()[1], expected, answers[0])
        tag = urlsafe_b64encode(sealed("put", 1000)[-16:]).decode()
        self.answers(reply(409), reply(200, b"", Tag=tag, Content_Length="1000", Flags=""))
        self.assertIs(self.put()[1], None)

    def test_parts_that_come_to_no_end(self):
        self.remote = self.make(part_bytes=1000)
        missing = reply(404, Accept_Parts="bytes")
        for said in ("0 0", "3000", "-1", "x", "None", "0 1000 1000", "0 1000 999"):
            self.answers(missing, *(reply(202, Upload_Offset=offset) for offset in said.split()))
            self.assertIs(self.put(3000)[1], RemoteUnavailableError, said)
        # It may take less than it was given; the rest comes again.
        told = [reply(202, Upload_Offset=offset) for offset in ("0", "500", "1500", "2500")]
        self.answers(missing, *told, reply(200))
        self.assertIs(self.put(3000)[1], None)
        places = [h.partition("Content-Range: ")[2].split("\r")[0] for h in self.server.heads[1:]]
        wanted = ("*", "0-999", "500-1499", "1500-2499", "2500-2999")
        self.assertEqual(places, [f"bytes {place}/3000" for place in wanted])
        self.answers(missing, reply(202, Upload_Offset="0"), reply(416))
        self.assertIs(self.put(3000)[1], RemoteUnavailableError)

    def test_a_server_that_knows_no_parts_gets_it_whole(self):
        self.remote = self.make(part_bytes=1000)
        self.answers(reply(404), reply(200))
        self.assertIs(self.put(3000)[1], None)
        self.assertEqual([head.split()[0] for head in self.server.heads], ["HEAD", "PUT"])
        self.assertNotIn("Content-Range", self.server.heads[1])

    def test_no_more_is_sent_than_the_server_takes(self):
        source = BytesSource(sealed("slow", 20_000_000))
        putting = Deferred.fromCoroutine(self.remote.put(NAME, source))
        outcomes = []
        putting.addBoth(outcomes.append)
        self.clock.advance(0.01)
        ((dialling, _accepted),) = self.server.net.pipes
        dialling.stopped = True
        before = source.given
        self.clock.advance(STALL_SECONDS / 2)
        self.assertLess(source.given - before, 1_000_000)
        self.assertEqual(outcomes, [])
        self.clock.advance(STALL_SECONDS * 2)
        self.assertEqual([outcome.type for outcome in outcomes], [RemoteUnavailableError])


class PatienceTests(HttpCase):
    def test_a_server_that_says_nothing_is_given_up(self):
        before = self.clock.seconds()
        self.assertIs(self.outcome(self.remote.stat(NAME)), RemoteUnavailableError)
        self.assertLess(self.clock.seconds() - before, 2 * STALL_SECONDS)

    def test_a_blob_that_stops_coming_is_given_up(self):
        self.answers(reply(200, bytes(1000), Tag=TAG_TEXT, Content_Length="2000"))
        self.assertIs(self.outcome(self.read_all()), RemoteUnavailableError)

    def test_nobody_there(self):
        self.server.net.silence("server", 80)
        self.assertIs(self.outcome(self.remote.stat(NAME)), RemoteUnavailableError)

    def test_close_ends_what_is_under_way(self):
        asking = Deferred.fromCoroutine(self.remote.stat(NAME))
        self.clock.advance(1)
        self.clock.run(self.remote.close())
        self.failureResultOf(asking, RemoteUnavailableError)
        self.assertIs(self.outcome(self.remote.count(Query())), RemoteUnavailableError)
        self.assertIs(
            self.outcome(self.remote.put(NAME, BytesSource(bytes(100)))), RemoteUnavailableError
        )

    def test_what_is_not_read_is_not_fetched(self):
        size = 5_000_000
        self.answers(reply(200, bytes(size - 16) + TAG, Tag=TAG_TEXT))

        async def begin():
            stream = await self.remote.get(NAME)
            await stream.read()
            return stream

        stream = self.clock.run(begin())
        self.clock.advance(10)
        self.assertLess(stream._body._ahead, MOST_AHEAD_BYTES + 200_000)
        self.clock.run(stream.close())


class AddressTests(HttpCase):
    def test_the_token_goes_over_tls_or_stays_here(self):
        for url in (
            "https://host/blobs",
            "https://host:1/",
            "http://localhost:9000/",
            "http://127.0.0.1/blobs/",
            "http://[::1]:8011/blobs/",
        ):
            self.make(url)
        for url in (
            "http://host/",
            "ftp://host/",
            "host",
            "",
            "https://",
            "https://alice:secret@host/",
            "https://host/?a=b",
            "https://host/#a",
            "https://host:x/",
            "http://127.0.0.1.example.org/",
        ):
            self.assertRaises(BadArgumentValueError, self.make, url)
        self.make("http://host/", over_network=True)

    def test_the_token_is_in_its_header_alone(self):
        self.answers(reply(200, b"[]"))
        self.clock.run(self.remote.get_flags(NAME))
        self.clock.run(self.remote.set_flags(NAME, [Flag.FAILED]))
        for head in self.server.heads:
            said = urlsafe_b64encode(b"alice:secret").decode()
            self.assertEqual(head.count(said), 1)
            self.assertIn(f"Authorization: Token {said}", head)
            self.assertNotIn("secret", head)
            self.assertIn("/blobs/alice/blob?", head.splitlines()[0])

    def test_the_reasons_of_a_server_of_ones_own_are_shown_and_no_others(self):
        for explains, body, expected in (
            (False, b"because", "no blobs for this user"),
            (True, b"grid: is no path\n", "grid: is no path"),
            (True, b"\x1b[2J\xff" + b"x" * 100_000, "x" * 100),
            (True, b"", "no blobs for this user"),
        ):
            self.remote = remote = self.make(explains=explains)
            without = reply(403, b"", Content_Length=str(len(body)))
            for work, answers in (
                (remote.count, [reply(403, body)]),
                (remote.delete, [reply(403, body)]),
                (remote.stat, [without, reply(403, body)]),
            ):
                self.answers(*answers)
                with self.assertRaises(BlobRefusedError) as caught:
                    self.clock.run(work(Query() if work == remote.count else NAME))
                self.assertIn(expected, str(caught.exception))
                self.assertLess(len(str(caught.exception)), 1100)


class CertificateTests(SynchronousTestCase):
    def setUp(self):
        self.path = Path(self.mktemp())

    def open(self):
        return open_http_remote(MemoryReactorClock(), "https://host/", "alice", "x", self.path)

    def test_a_file_of_certificates(self):
        self.assertRaises(FileError, self.open)
        pem = Identity.create().certificate.public_bytes(Encoding.PEM)
        for data in (b"", b"no PEM", pem[:100], pem.replace(b"A", b"B")):
            self.path.write_bytes(data)
            self.assertRaises(BadArgumentValueError, self.open)
        self.path.write_bytes(b"for us\n" + pem + b"\n" + pem)
        remote = self.open()
        self.successResultOf(Deferred.fromCoroutine(remote.close()))
