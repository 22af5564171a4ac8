"""TLS that sends a lone small write at once, and joins those that follow closely.

Twisted's own keeps every small write back until the next turn of the reactor, and the socket's
readiness costs another one; whoever asks one thing after the other pays for both with each call.
Here the first write after a pause goes to the socket itself, which the reactor need not watch for
that, and what comes right behind it waits for the next turn and goes together, as many answers to
one batch do.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

#: A write that comes so soon after the one before waits for others, seconds.
CLOSE_SECONDS = 0.0005
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


class PromptTls(TLSMemoryBIOProtocol):
    """TLS between a socket and a protocol; made by a factory of `prompt`."""

    transport: Any

    def __init__(self, factory: Any, wrapped: Any, _connect_wrapped: bool = True) -> None:
        super().__init__(factory, wrapped, _connect_wrapped)
        self._clock = factory.clock
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._wrote_at = float("-inf")

    def makeConnection(self, transport: Any) -> None:  # noqa: N802
        """Begin over a transport."""
        if IReadWriteDescriptor.providedBy(transport):
            transport = SocketAtOnce(transport)
        super().makeConnection(transport)

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
