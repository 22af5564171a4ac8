"""TLS that sends a lone small write at once, and joins those that follow closely.

Twisted's own keeps every small write back until the next turn of the reactor, and the socket's
readiness costs another one; whoever asks one thing after the other pays for both with each call.
Here the first write after a pause goes to the socket itself, which the reactor need not watch for
that, and what comes right behind it waits for the next turn and goes together, as many answers to
one batch do. And of exactly one record of TLS what is in it is taken in one step: that there is
no more need not be asked of OpenSSL, which tells it with an exception.
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
#: Length of the header of a record, and the most bytes that one holds.
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
        if not self._is_behind and len(data) < SMALL_BYTES and _is_open(socket):
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
        self._header = b""
        self._missing = 0

    def is_one(self, data: bytes) -> bool:
        """Take the next bytes; tell whether they are exactly one record."""
        if not (self._header or self._missing) and len(data) == _record_size(data):
            return True
        at = 0
        while at < len(data):
            if not self._missing:
                header = data[at : at + _HEADER_SIZE - len(self._header)]
                self._header += header
                at += len(header)
                if len(self._header) < _HEADER_SIZE:
                    break
                self._missing = _record_size(self._header) - _HEADER_SIZE
                self._header = b""
            step = min(self._missing, len(data) - at)
            self._missing -= step
            at += step
        return False


def _record_size(data: bytes) -> int:
    return _HEADER_SIZE + int.from_bytes(data[_HEADER_SIZE - 2 : _HEADER_SIZE], "big")


class PromptTls(TLSMemoryBIOProtocol):
    """TLS between a socket and a protocol; made by a factory of `prompt`."""

    transport: Any

    def __init__(self, factory: Any, wrapped: Any, _connect_wrapped: bool = True) -> None:
        super().__init__(factory, wrapped, _connect_wrapped)
        self._clock = factory.clock
        self._borders = RecordBorders()
        self._is_one_record = False
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
        self._is_one_record = self._borders.is_one(data)
        super().dataReceived(data)

    def _flushReceiveBIO(self) -> None:  # noqa: N802 - Twisted's; it takes what OpenSSL has
        if self._is_one_record and not self._lostTLSConnection:
            self._is_one_record = False
            try:
                data = self._tlsConnection.recv(_RECORD_BYTES)
            except SSL.Error:
                # A record of another kind: OpenSSL says it again below, and may have an answer.
                pass
            else:
                if not self._aborted:
                    ProtocolWrapper.dataReceived(self, data)
                return
        super()._flushReceiveBIO()

    def write(self, data: bytes) -> None:
        """Send bytes, now or with the next turn of the reactor."""
        now = self._clock.seconds()
        soon = now - self._wrote_at < CLOSE_SECONDS
        self._wrote_at = now
        if self._held or (soon and len(data) <= SMALL_BYTES):
            if not self._held:
                self._clock.callLater(0, self._flush)
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes > SMALL_BYTES:
                self._flush()
            return
        super().write(data)

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
