"""What the tests of the wire share: nodes in memory, raw peers, Commands of their own."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import time
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.selectreactor import SelectReactor
from twisted.protocols import amp
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands import errors as e
from ampgrid.commands.arguments import Count, Octets, Text
from ampgrid.commands.base import GridCommand, error_map
from ampgrid.commands.session import Hello
from ampgrid.crypto.identity import Identity
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.pipes import MemoryNet, MemoryTransport, join
from ampgrid.wire import Connection, Facts, Limits, Network, boxes
from ampgrid.wire.gate import ANSWER, REQUEST
from ampgrid.wire.hello import DIALLER, LISTENER, Session, say
from ampgrid.wire.tls import EXPORTER_LABEL
from tests.patience import PATIENCE

SECRET = b"the secret of the grid"


def identity(number: int) -> Identity:
    """The same key for the same number."""
    return Identity.create(lambda size: hashlib.sha256(b"test %d" % number).digest()[:size])


# A reactor for tests with real sockets.


class _TurnedReactor(SelectReactor):
    """One that other threads may still wake while it is closed, and afterwards.

    A thread hands its result over first and wakes the reactor then. When the reactor comes by in
    between, the test can be done and the descriptor closed, or be another's by then.
    """

    def __init__(self) -> None:
        self._waking = Lock()
        self._closed = False
        super().__init__()

    def wakeUp(self) -> None:
        with self._waking:
            if not self._closed:
                super().wakeUp()

    def close(self) -> None:
        """Close what it keeps open for itself, and everything that was forgotten."""
        with self._waking:
            self._closed = True
        self.disconnectAll()
        for reader in list(self._internalReaders):
            self.removeReader(reader)
            reader.connectionLost(None)


class Loop:
    """A reactor of the test's own, turned only while the test waits.

    The one that Twisted shares can be run once in a process, and other tests do that.
    """

    def __init__(self) -> None:
        self.reactor = _TurnedReactor()

    def run(self, work: Any) -> Any:
        """Turn it until a coroutine or a Deferred is done, and return its result."""
        deferred = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
        outcome: list[Any] = []
        deferred.addBoth(outcome.append)
        self.until(lambda: bool(outcome))
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return outcome[0]

    def until(self, condition: Callable[[], bool]) -> None:
        """Turn it until a condition holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise AssertionError("it takes too long")
            self.reactor.iterate(0.02)

    def close(self) -> None:
        """Close the reactor with everything that was forgotten; threads may still wake it."""
        self.reactor.close()


def on_loop(method: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Make a test of a coroutine method: it runs on the ``loop`` of its class."""

    @functools.wraps(method)
    def run(self: Any) -> None:
        self.loop.run(method(self))

    return run


# Commands and a locator that remembers what it was asked.


class Echo(GridCommand):
    """Answer what was sent."""

    arguments = [(b"data", Octets())]
    response = [(b"data", Octets())]


class Hold(GridCommand):
    """Answer when the test says so."""

    arguments = [(b"number", Count()), (b"data", Octets(optional=True))]
    response = [(b"number", Count()), (b"data", Octets(optional=True))]


class Break(GridCommand):
    """Fail in a way that is not declared, or is."""

    arguments = [(b"how", Text(20))]
    response = [(b"number", Count(9))]
    errors = error_map(e.NoSpaceError)


class Recorder(amp.CommandLocator):
    """Answers the Commands above and remembers every call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, Any]] = []
        self.held: dict[int, Deferred[dict[str, Any]]] = {}

    @Echo.responder
    async def echo(self, data: bytes) -> dict[str, Any]:
        self.calls.append(("echo", data))
        return {"data": data}

    @Hold.responder
    async def hold(self, number: int, data: bytes | None) -> dict[str, Any]:
        self.calls.append(("hold", number))
        self.held[number] = Deferred()
        return await self.held[number]

    def let_go(self, number: int, data: bytes | None = None) -> None:
        self.held.pop(number).callback({"number": number, "data": data})

    @Break.responder
    async def break_(self, how: str) -> dict[str, Any]:
        self.calls.append(("break", how))
        if how == "declared":
            raise e.NoSpaceError("full")
        if how == "response":
            return {"number": 10}
        raise RuntimeError("a secret of the responder")


class CountingLocator(Recorder):
    """Remembers each name that a responder was wanted for."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[bytes] = []

    def locateResponder(self, name: bytes) -> Any:
        self.wanted.append(name)
        return super().locateResponder(name)


# Two connections in memory, without TLS.


class Pair:
    """Two `Connection`s joined by a pipe: ``left`` dialled."""

    def __init__(
        self,
        left_limits: Limits | None = None,
        right_limits: Limits | None = None,
        latency: float = 0.0,
    ) -> None:
        self.clock = HeapClock()
        self.left_recorder, self.right_recorder = Recorder(), Recorder()
        self.left = Connection(self.clock, self.left_recorder, left_limits)
        self.right = Connection(self.clock, self.right_recorder, right_limits)
        self.left_pipe, self.right_pipe = join(self.clock, self.left, self.right, latency)
        mine, theirs = self.left.limits, self.right.limits
        self.left.opened(theirs.calls, theirs.bytes)
        self.right.opened(mine.calls, mine.bytes)

    def ask(self, command: Any, **arguments: Any) -> Deferred[Any]:
        """Call from left to right."""
        return Deferred.fromCoroutine(self.left.call(command, **arguments))


class RawEnd(Protocol):
    """The other end of a connection under test, byte for byte."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.lost = reason

    def boxes(self) -> list[dict[bytes, bytes]]:
        """What has come, as stock AMP reads it."""
        return [dict(box) for box in amp.parseString(self.received)]


class Bare:
    """One `Connection` whose other end is raw."""

    def __init__(self, limits: Limits | None = None, latency: float = 0.0) -> None:
        self.clock = HeapClock()
        self.recorder = Recorder()
        self.connection = Connection(self.clock, self.recorder, limits)
        self.aborts: list[str] = []
        self.connection.on_abort = self.aborts.append
        self.raw = RawEnd()
        self.raw_pipe, self.pipe = join(self.clock, self.raw, self.connection, latency)
        self.connection.opened(self.connection.limits.calls, self.connection.limits.bytes)

    def send(self, *data: bytes) -> None:
        for piece in data:
            self.raw_pipe.write(piece)
        self.clock.advance(0)


def ask_box(command: bytes, tag: bytes = b"1", **arguments: bytes) -> bytes:
    """A call as stock AMP would write it."""
    named = {name.encode(): value for name, value in arguments.items()}
    return amp.Box({boxes.ASK: tag, boxes.COMMAND: command, **named}).serialize()


# TLS in the hands of the test.


def context(
    who: Identity | None,
    *,
    rsa_key: bool = False,
    most_version: int = SSL.TLS1_3_VERSION,
    extra_extension: int = 0,
) -> SSL.Context:
    """A TLS context that checks nothing and shows what the test wants.

    Args:
        who: whose certificate; None for no certificate.
        rsa_key: show a certificate of an RSA key instead.
        most_version: the newest version of TLS offered.
        extra_extension: bytes to blow the certificate up by.
    """
    made = SSL.Context(SSL.TLS_METHOD)
    made.set_max_proto_version(most_version)
    if rsa_key:
        key = rsa.generate_private_key(65537, 2048)
        made.use_certificate(certificate(key, hashes.SHA256(), 0))
        made.use_privatekey(key)
    elif who is not None and extra_extension:
        made.use_certificate(certificate(who.private_key, None, extra_extension))
        made.use_privatekey(who.private_key)
    elif who is not None:
        made.use_certificate(who.certificate)
        made.use_privatekey(who.private_key)
    return made


def certificate(key: Any, algorithm: Any, extra: int) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(dt.datetime(2000, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2001, 1, 1, tzinfo=dt.UTC))
    )
    if extra:
        oid = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
        unknown = x509.UnrecognizedExtension(oid, b"\x04\x82" + bytes(extra))
        builder = builder.add_extension(unknown, critical=False)
    return builder.sign(key, algorithm)


class Tls:
    """One end of a TLS session as bytes in and bytes out."""

    def __init__(self, made: SSL.Context, *, client: bool, session: Any = None) -> None:
        self.connection = SSL.Connection(made, None)
        if session is not None:
            self.connection.set_session(session)
        if client:
            self.connection.set_connect_state()
        else:
            self.connection.set_accept_state()
        self.done = False
        self.failed = False
        self.closed = False
        self.plain = b""

    def start(self) -> bytes:
        """Begin the handshake, and return what is to be sent."""
        return self.feed(b"")

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the other end, and return what is to be sent."""
        if data:
            self.connection.bio_write(data)
        try:
            if not self.done:
                self.connection.do_handshake()
                self.done = True
            while True:
                self.plain += self.connection.recv(65536)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.closed = True
        except SSL.Error:
            self.failed = True
        return self.drain()

    def drain(self) -> bytes:
        sent = b""
        while True:
            try:
                sent += self.connection.bio_read(65536)
            except SSL.WantReadError:
                return sent

    def send(self, data: bytes) -> bytes:
        """Encipher, and return what is to be sent."""
        view = memoryview(data)
        sent = b""
        while view:
            done = self.connection.send(bytes(view[:16384]))
            view = view[done:]
            sent += self.drain()
        return sent

    def resumed(self) -> bool:
        """Whether the handshake went on where another session ended."""
        return bool(SSL._lib.SSL_session_reused(self.connection._ssl))

    def exported(self) -> bytes:
        return self.connection.export_keying_material(EXPORTER_LABEL, 32)

    def hello(
        self, mine: Identity, theirs: Identity, secret: bytes = SECRET, **changes: Any
    ) -> bytes:
        """The Hello call of a dialler, as a box."""
        session = Session(mine.spki, theirs.spki, self.exported())
        said = {**say(Facts(), session.proof(secret, DIALLER)), **changes}
        box = Hello.makeArguments(said, None)
        return amp.Box({**box, boxes.ASK: b"1", boxes.COMMAND: b"Hello"}).serialize()

    def hello_answer(
        self, mine: Identity, theirs: Identity, secret: bytes = SECRET, **changes: Any
    ) -> bytes:
        """The answer of a listener to the Hello of tag 1, as a box."""
        session = Session(theirs.spki, mine.spki, self.exported())
        said = {**say(Facts(), session.proof(secret, LISTENER)), **changes}
        return amp.Box({**Hello.makeResponse(said, None), boxes.ANSWER: b"1"}).serialize()


class RawPeer(RawEnd):
    """A raw peer that can speak TLS when the test wants it."""

    def __init__(
        self, made: SSL.Context | None = None, *, client: bool = True, session: Any = None
    ) -> None:
        super().__init__()
        self.tls: Tls | None = None
        self._session = session
        self._context = made
        self._client = client

    @property
    def awaited(self) -> bytes:
        return ANSWER if self._client else REQUEST

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self.tls is not None:
            self.transport.write(self.tls.feed(data))
        elif self._context is not None and self.received == self.awaited:
            self.tls = Tls(self._context, client=self._client, session=self._session)
            if not self._client:
                self.transport.write(ANSWER)
            self.transport.write(self.tls.start())

    def connectionMade(self) -> None:
        if self._context is not None and self._client:
            self.transport.write(REQUEST)

    def send_secret(self, data: bytes) -> None:
        assert self.tls is not None
        self.transport.write(self.tls.send(data))

    def plain_boxes(self) -> list[dict[bytes, bytes]]:
        assert self.tls is not None
        return [dict(box) for box in amp.parseString(self.tls.plain)]


# Whole nodes in memory.


class Host:
    """A node's `Network` on a `MemoryNet`, listening at (name, 1)."""

    def __init__(
        self,
        net: MemoryNet,
        number: int,
        *,
        secret: bytes = SECRET,
        admit: Callable[[bytes], None] | None = None,
        roles: Callable[[Connection], Sequence[amp.CommandLocator]] | None = None,
        facts: Facts | None = None,
    ) -> None:
        self.net = net
        self.identity = identity(number)
        self.name = f"host{number}"
        self.locator = CountingLocator()
        self.connected: list[Connection] = []
        self.network = Network(
            identity=self.identity,
            secret=secret,
            facts=lambda: facts or Facts(frozenset({"test"}), self.name, "kit/1"),
            clock=net.clock,
            roles=roles or (lambda _: [self.locator]),
            admit=admit or (lambda _: None),
            connected=self.connected.append,
            connector=net.connect,
        )
        net.listen(self.name, 1, self.network.listening_factory())

    def dial(self, other: Host, node_id: bytes | None = None) -> Deferred[Connection]:
        wanted = node_id if node_id is not None else other.identity.node_id
        return Deferred.fromCoroutine(self.network.dial(wanted, [(other.name, 1)]))

    def attacked_by(self, raw: RawEnd) -> MemoryTransport:
        """Let a raw peer dial this node; returns the raw end's transport."""
        gate = self.network.listening_factory().buildProtocol(None)
        assert gate is not None
        return join(self.net.clock, raw, gate, self.net.latency)[0]

    def counters(self) -> tuple[int, int]:
        """(strangers, accepted connections)."""
        return len(self.network._strangers), self.network._accepted


class InMemory(SynchronousTestCase):
    """Two nodes on a network in memory."""

    latency = 0.01

    def setUp(self) -> None:
        self.clock = HeapClock()
        self.net = MemoryNet(self.clock, self.latency)
        self.one = Host(self.net, 1)
        self.two = Host(self.net, 2)


class Serving(amp.CommandLocator):
    """Knows the names of some Commands, and notes each call of one."""

    def __init__(self, commands: Sequence[type[Any]]) -> None:
        super().__init__()
        self.names = {command.commandName for command in commands}
        self.served: list[bytes] = []

    def locateResponder(self, name: bytes) -> Any:
        if name not in self.names:
            return None

        def respond(box: dict[bytes, bytes]) -> Deferred[dict[bytes, bytes]]:
            self.served.append(name)
            answer: Deferred[dict[bytes, bytes]] = Deferred()
            answer.callback({})
            return answer

        return respond


def commands_in(*modules: Any) -> list[type[Any]]:
    """Every Command that is defined in a module."""
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, amp.Command)
        and value.__module__ == module.__name__
    ]
