"""One connection: HTTP/1.1 of Twisted, with deadlines and bounds of what a client may send.

A client has a deadline for the head of its next request, must send a body at some least rate, and
is answered before its body is there if that is refused anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocolNegotiationFactory
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from zope.interface import implementer

from ampgrid.ports import DelayedCall
from ampgrid.web.request import GatewayRequest

if TYPE_CHECKING:
    from ampgrid.web.gateway import Gateway

_log = Logger()

#: Seconds from the connection, or the last answer, until a whole head is there.
HEAD_SECONDS = 60.0
#: Seconds without any byte of a body that is awaited.
IDLE_SECONDS = 60
#: A body comes at so many bytes a second at least, looked at each so many seconds.
LEAST_RATE = 512
RATE_SECONDS = 60.0
#: Connections at once; what comes beyond is closed.
MOST_CONNECTIONS = 256
#: Seconds in which a client that was refused may still read the answer.
LINGER_SECONDS = 5.0
#: Seconds in which the client reads what is left of the last answer of a connection.
LAST_SECONDS = 300.0
#: Bytes that are read at once, and so many of a body that goes to the disk: each read is a turn
#: of the reactor, and above some 256 KiB the memory that it takes costs more than the turns.
READ_BYTES = 64 * 1024
BODY_READ_BYTES = 256 * 1024
#: Bytes of a long answer that are given to the system at once, as far as it takes them.
SEND_BYTES = 1024 * 1024
MOST_HEADERS = 100
#: A length of more digits is none of any body.
_MOST_DIGITS = 30


class GatewayChannel(HTTPChannel):
    """One connection of a client."""

    requestFactory = GatewayRequest  # type: ignore[assignment]  # noqa: N815
    maxHeaders = MOST_HEADERS  # noqa: N815
    timeOut = IDLE_SECONDS  # noqa: N815
    factory: GatewayFactory
    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self._deadline: DelayedCall | None = None
        self._refused = False
        self._received = 0
        self._held = False
        self._host: IAddress | None = None

    @property
    def gateway(self) -> Gateway:
        """What the request works for."""
        return self.factory.gateway

    def connectionMade(self) -> None:  # noqa: N802
        """Await the first head."""
        super().connectionMade()
        self._await_head()

    def _await_head(self) -> None:
        self._set_deadline(HEAD_SECONDS, self._too_slow)

    def _set_deadline(self, seconds: float, function: Any, *args: Any) -> None:
        self._drop_deadline()
        self._deadline = self.factory.clock.callLater(seconds, function, *args)

    def _drop_deadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()

    def _too_slow(self) -> None:
        self._deadline = None
        self.forceAbortClient()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Take bytes; none of a client that was refused."""
        if self._refused:
            return
        self._received += len(data)
        super().dataReceived(data)

    def getHost(self) -> IAddress:  # noqa: N802
        """Return the address that the client has connected to; the system is asked once."""
        if self._host is None:
            self._host = super().getHost()
        return self._host

    def head(self) -> tuple[bytes, bytes]:
        """Return method and URI of the request whose head is there."""
        return self._command, self._path

    def headerReceived(self, line: bytes) -> bool:  # noqa: N802
        """Take a line of the head; False if it is refused."""
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and len(value.strip()) > _MOST_DIGITS:
            # Python reads no number of thousands of digits, which Twisted does not expect.
            self._respondToBadRequestAndDisconnect()
            return False
        return bool(super().headerReceived(line))

    def allHeadersReceived(self) -> None:  # noqa: N802
        """Begin with the request: it is refused, or its body is awaited."""
        self._set_deadline(RATE_SECONDS, self._look_at_rate, self._received)
        super().allHeadersReceived()

    def _send100Continue(self) -> None:  # noqa: N802
        if not self._refused:
            super()._send100Continue()

    def _look_at_rate(self, before: int) -> None:
        if not self._held and self._received - before < LEAST_RATE * RATE_SECONDS:
            self._too_slow()
            return
        self._set_deadline(RATE_SECONDS, self._look_at_rate, self._received)

    def allContentReceived(self) -> None:  # noqa: N802
        """All of the request is here."""
        if self._refused:
            # It was answered, and its time to read that runs.
            return
        self._drop_deadline()
        self.transport.bufferSize = READ_BYTES
        super().allContentReceived()

    def expect_much(self) -> None:
        """Read more at once: a large body comes."""
        self.transport.bufferSize = BODY_READ_BYTES

    def requestDone(self, request: GatewayRequest) -> None:  # noqa: N802
        """Await the next head, or that the client reads the rest of the last answer."""
        super().requestDone(request)
        self._send_now()
        if self._deadline is not None:
            return
        if self.persistent:
            self._await_head()
        elif self in self.factory:
            self._set_deadline(LAST_SECONDS, self._too_slow)

    def _send_now(self) -> None:
        """Send what there is now, and not with the reactor's next turn, which costs more.

        Left to the reactor is what goes over TLS, comes before the end of the connection, or
        waits for the client; and so is an error, which it meets again.
        """
        transport = self.transport
        if not isinstance(transport, Connection) or not self.persistent:
            return
        if transport.connected and not (transport.disconnecting or transport.producerPaused):
            transport.doWrite()

    def give_much(self) -> None:
        """Send more at once: a long answer goes out."""
        self.transport.SEND_LIMIT = SEND_BYTES

    def hold(self) -> None:
        """Read no more from the client for now."""
        self._held = True
        self.setTimeout(None)
        self.transport.pauseProducing()

    def release(self) -> None:
        """Read from the client again."""
        if self._held:
            self._held = False
            if self._transferDecoder is not None:
                self.setTimeout(self.timeOut)
            self.transport.resumeProducing()

    def answer_at_once(self, answer: bytes, when: Deferred[None] | None = None) -> None:
        """Send an answer before the body is there, take no more of it, and close.

        Args:
            answer: all of it.
            when: fires when it may go out; None for now.
        """
        self._refused = True
        if when is None:
            self._refuse_with(answer)
            return
        self._drop_deadline()
        self.hold()
        when.addCallback(lambda _: self._refuse_with(answer))

    def _refuse_with(self, answer: bytes) -> None:
        if self not in self.factory:
            return
        self.release()
        self.setTimeout(None)
        self.transport.write(answer)
        # The client may not read before it has sent all: it is given time, and then cut off.
        self._set_deadline(LINGER_SECONDS, self._too_slow)
        half_close = getattr(self.transport, "loseWriteConnection", None)
        if half_close is not None:
            half_close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Let go of everything."""
        self._drop_deadline()
        self.factory.lost(self)
        super().connectionLost(reason)

    def timeoutConnection(self) -> None:  # noqa: N802
        """Close: Twisted would log whose connection it was."""
        self.forceAbortClient()

    def forceAbortClient(self) -> None:  # noqa: N802
        """Close now, whatever is still to be sent."""
        self._abortingCall = None
        self.transport.abortConnection()


@implementer(IProtocolNegotiationFactory)
class GatewayFactory(ServerFactory):
    """Accepts connections.

    Args:
        gateway: what they work for.
        clock: of the deadlines.
    """

    noisy = False

    def __init__(self, gateway: Gateway, clock: Any) -> None:
        self.gateway = gateway
        self.clock = clock
        self._channels: set[GatewayChannel] = set()

    def buildProtocol(self, addr: IAddress | None) -> GatewayChannel | None:  # type: ignore[override]  # noqa: ARG002, N802
        """Return the protocol of a connection, None if there are too many."""
        if len(self._channels) >= MOST_CONNECTIONS:
            _log.warn("a connection to the web gateway was refused: there are too many")
            return None
        channel = GatewayChannel()
        channel.factory = self
        # Twisted's own timeouts follow the same clock.
        channel.callLater = self.clock.callLater  # type: ignore[method-assign]
        self._channels.add(channel)
        return channel

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802
        """Return what is spoken over TLS: browsers offer HTTP/2 too."""
        return [b"http/1.1"]

    def __contains__(self, channel: GatewayChannel) -> bool:
        """Tell whether a connection is open."""
        return channel in self._channels

    def lost(self, channel: GatewayChannel) -> None:
        """Forget a connection."""
        self._channels.discard(channel)

    def log(self, request: GatewayRequest) -> None:
        """Log no request: its path may hold a cap."""

    def close(self) -> None:
        """Close every connection."""
        for channel in list(self._channels):
            if channel.transport is not None:
                channel.transport.abortConnection()
