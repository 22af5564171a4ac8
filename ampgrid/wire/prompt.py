"""TLS that sends a lone small write at once, joins small ones, and passes large ones on whole.

Twisted's own keeps every small write back until the next turn of the reactor, and the socket's
readiness costs another one; whoever asks one thing after the other pays for both with each call.
Here the first write after a pause goes to the socket itself, which the reactor need not watch for
that, and what comes right behind it waits for the next turn and goes together, as many answers to
one batch do.

A box of a share is several records of TLS. Twisted's own enciphers and sends them one by one, and
hands them over one by one at the other end; each time that costs as much as a small call. Here
OpenSSL is given all of a write, and what came together is handed over together. How many records
there are is counted from their headers: that there is no more need not be asked of OpenSSL, which
tells it with an exception.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

#: A write that comes so soon after the one before waits for others, seconds.
CLOSE_SECONDS = 0.0005
#: Length of the header of a record, and the most bytes of a write that one holds.
_HEADER_SIZE = 5
_RECORD_BYTES = 2**14
#: Writes of at most so many bytes are joined, or go to the socket at once.
SMALL_BYTES = 16_384


class SocketAtOnce:
    """The transport of a socket, which takes small writes itself while it has room for them.

    Args:
        transport: of the reactor; it gets what is large, and whatever comes while it still has
            something to send.
    """

    def __init__(self, transport: Any) -> None:
        directlyProvides(self, providedBy(transport))
        self._transport = transport
        #: Whether the transport may have something to send. What came before may be there still.
        self._is_behind = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send bytes, behind all that came before."""
        socket = self._transport
        if self._is_behind:
            self._is_behind = socket in socket.reactor.getWriters()
        if not self._is_behind and _is_open(socket):
            sent = socket.writeSomeData(data)
            # An error is one that the reactor meets too, with the bytes given back to it.
            if sent == len(data):
                return
            data = data[sent:] if isinstance(sent, int) else data
        self._is_behind = True
        socket.write(data)


def _is_open(socket: Any) -> bool:
    return bool(socket.connected and not socket.disconnecting)


class RecordBorders:
    """Follows the records of TLS in a stream of bytes (RFC 8446 section 5.1)."""

    def __init__(self) -> None:
        #: Of a header that has come in part; or else the bytes that miss of the record begun.
        self._header = b""
        self._missing = 0
        self._begun = False

    def count(self, data: bytes) -> int:
        """Take the next bytes; return how many records end in them."""
        size = len(data)
        at = self._missing
        if self._header:
            at = _HEADER_SIZE - len(self._header)
            self._header += data[:at]
            if len(self._header) < _HEADER_SIZE:
                return 0
            at += int.from_bytes(self._header[_HEADER_SIZE - 2 :], "big")
            self._header = b""
        records = 0
        # `at` is where a record ends, or where the stream's first one begins.
        while at < size:
            records += self._begun
            self._begun = True
            if at + _HEADER_SIZE > size:
                self._header, self._missing = data[at:], 0
                return records
            at += _HEADER_SIZE + ((data[at + 3] << 8) | data[at + 4])
        self._missing = at - size
        if not self._missing:
            records += self._begun
            self._begun = False
        return records


def _most_framing(size: int) -> int:
    """Return a bound of what TLS adds to so many bytes, and of what else it has to say."""
    return 64 * (size // _RECORD_BYTES + 1) + 1024


class PromptTls(TLSMemoryBIOProtocol):
    """TLS between a socket and a protocol; made by a factory of `prompt`."""

    transport: Any

    def __init__(self, factory: Any, wrapped: Any, _connect_wrapped: bool = True) -> None:
        super().__init__(factory, wrapped, _connect_wrapped)
        self._clock = factory.clock
        self._borders = RecordBorders()
        self._records = 0
        self._delivering = False
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._wrote_at = float("-inf")

    def makeConnection(self, transport: Any) -> None:  # noqa: N802
        """Begin over a transport."""
        if IReadWriteDescriptor.providedBy(transport):
            transport = SocketAtOnce(transport)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Take bytes from the socket."""
        self._records = self._borders.count(data)
        super().dataReceived(data)

    def _flushReceiveBIO(self) -> None:  # noqa: N802 - Twisted's; it takes what OpenSSL has
        records, self._records = self._records, 0
        if self._lostTLSConnection:
            return
        pieces: list[bytes] = []
        more = not records
        try:
            while len(pieces) < records:
                pieces.append(self._tlsConnection.recv(_RECORD_BYTES))
        except SSL.Error:
            # A record of another kind, or none: OpenSSL says it again, and may have an answer.
            more = True
        if pieces and not self._aborted:
            self._deliver(pieces)
        if more:
            super()._flushReceiveBIO()

    def _deliver(self, pieces: list[bytes]) -> None:
        """Hand over what came; small answers to a stretch of it go together, at its end.

        The first of them does not wait: who sends a stream has a window, and goes on with it.
        """
        if len(pieces) == 1:
            ProtocolWrapper.dataReceived(self, pieces[0])
            return
        self._delivering = True
        try:
            ProtocolWrapper.dataReceived(self, b"".join(pieces))
        finally:
            self._delivering = False
            self._flush()

    def write(self, data: bytes) -> None:
        """Send bytes, now or with the next turn of the reactor."""
        now = self._clock.seconds()
        soon = now - self._wrote_at < CLOSE_SECONDS
        self._wrote_at = now
        if self._held or (soon and len(data) <= SMALL_BYTES):
            if not (self._held or self._delivering):
                self._clock.callLater(0, self._flush)
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes > SMALL_BYTES:
                self._flush()
            return
        super().write(data)

    def _write(self, data: bytes) -> None:  # Twisted's, which enciphers and sends
        if len(data) <= _RECORD_BYTES or self._lostTLSConnection or self._appSendBuffer:
            super()._write(data)
            return
        view, sent, done = memoryview(data), 0, True
        try:
            while sent < len(data):
                # OpenSSL takes one record at a time.
                sent += self._tlsConnection.send(view[sent:])
        except SSL.Error:
            # The handshake is not done, or all is over: Twisted's own deals with both.
            done = False
        if sent:
            self.transport.write(self._tlsConnection.bio_read(sent + _most_framing(sent)))
        if not done:
            super()._write(data[sent:])

    def _flush(self) -> None:
        if self._held:
            data = b"".join(self._held)
            self._held.clear()
            self._held_bytes = 0
            super().write(data)

    def writeSequence(self, iovec: Any) -> None:  # noqa: N802
        """Send bytes in pieces."""
        self.write(b"".join(iovec))

    def unregisterProducer(self) -> None:  # noqa: N802
        """Send what waits: without a producer nothing may be sent once the end has begun."""
        self._flush()
        super().unregisterProducer()

    def loseConnection(self) -> None:  # noqa: N802
        """Send what waits, and end."""
        self._flush()
        super().loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """End; what waits is lost."""
        self._held.clear()
        super().connectionLost(reason)


def prompt(factory: TLSMemoryBIOFactory, clock: Any) -> TLSMemoryBIOFactory:
    """Let a factory of TLS make such connections."""
    made: Any = factory
    made.protocol = PromptTls
    made.clock = clock
    return factory
