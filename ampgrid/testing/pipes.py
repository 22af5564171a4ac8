"""Transports in memory: what one end writes, the other end reads, when the clock says so.

They behave as TCP does where it matters: bytes arrive in pieces, in order; a writer whose bytes
are not taken is paused; an abort is seen by the other end. Real TLS runs over them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from ampgrid.testing.clock import HeapClock

#: Bytes on their way beyond which a writer is paused.
HIGH_WATER = 64 * 1024
#: The most bytes delivered at once.
PIECE = 64 * 1024


@implementer(ITransport, IConsumer, IPushProducer)
class MemoryTransport:
    """One end of a pipe.

    Attributes:
        stopped: while True, nothing that this end sends arrives, not even the end of the
            connection; `let_go` delivers what was held back.
        sent_bytes: bytes that this end has written.
    """

    def __init__(self, clock: HeapClock, latency: float) -> None:
        self.stopped = False
        self.sent_bytes = 0
        self.protocol: Any = None
        self.other: MemoryTransport | None = None
        self.disconnecting = False
        self._clock = clock
        self._latency = latency
        # What is on its way: (when it arrives, bytes). An end follows the bytes, as on TCP.
        self._queue: deque[tuple[float, bytes]] = deque()
        self._queued = 0
        self._closes_at: float | None = None
        self._aborted = False
        self._moving = False
        self._producer: Any = None
        self._paused = False
        self._lost = False
        self._reading = True

    @property
    def lost(self) -> bool:
        """Whether this end's connection is over."""
        return self._lost

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self._lost or self._aborted or self._closes_at is not None or not data:
            return
        self.sent_bytes += len(data)
        self._queue.append((self._clock.seconds() + self._latency, bytes(data)))
        self._queued += len(data)
        if self._queued > HIGH_WATER and self._producer is not None and not self._paused:
            self._paused = True
            self._producer.pauseProducing()
        self._move_later()

    def writeSequence(self, data: Iterable[bytes]) -> None:  # noqa: N802
        """Send bytes."""
        self.write(b"".join(data))

    @property
    def queued_bytes(self) -> int:
        """Bytes written and not yet delivered."""
        return self._queued

    def _move_later(self) -> None:
        """Look again when the next thing arrives."""
        if self._moving or self._lost:
            return
        if self._queue:
            due = self._queue[0][0]
        elif self._closes_at is not None:
            due = self._closes_at
        else:
            return
        self._moving = True
        self._clock.callLater(max(0.0, due - self._clock.seconds()), self._move)

    def _move(self) -> None:
        self._moving = False
        other = self.other
        if self._lost or self.stopped or other is None:
            return
        if self._queue:
            if not other._reading:
                return
            piece = self._take_piece()
            if not other._lost:
                other.protocol.dataReceived(piece)
            self._resume_producer()
        elif self._closes_at is not None:
            self._end(ConnectionDone())
            other._end(ConnectionDone())
        self._move_later()

    def _take_piece(self) -> bytes:
        """Take the bytes that have arrived together, as far as they go into one segment."""
        now = self._clock.seconds()
        parts: list[bytes] = []
        room = PIECE
        while self._queue and self._queue[0][0] <= now and room:
            due, data = self._queue.popleft()
            if len(data) > room:
                self._queue.appendleft((due, data[room:]))
                data = data[:room]
            parts.append(data)
            room -= len(data)
        piece = b"".join(parts)
        self._queued -= len(piece)
        return piece

    def _resume_producer(self) -> None:
        if self._paused and self._queued <= HIGH_WATER:
            self._paused = False
            if self._producer is not None:
                self._producer.resumeProducing()

    def let_go(self) -> None:
        """Deliver again what `stopped` held back."""
        self.stopped = False
        self._move_later()

    def loseConnection(self) -> None:  # noqa: N802
        """Close once everything is sent; nothing is read any more."""
        self.disconnecting = True
        if not self._lost and not self._aborted and self._closes_at is None:
            self._reading = False
            self._closes_at = self._clock.seconds() + self._latency
            self._move_later()

    def abortConnection(self) -> None:  # noqa: N802
        """Close now; the other end sees a lost connection."""
        self.disconnecting = True
        if self._lost or self._aborted:
            return
        self._aborted = True
        self._reading = False
        self._closes_at = None
        self._queue.clear()
        self._queued = 0
        self._clock.callLater(0, self._end, ConnectionLost())
        self._clock.callLater(self._latency, self._abort_other)

    def _abort_other(self) -> None:
        # What is held back includes the news of the end; the other end may never hear of it.
        if not self.stopped and self.other is not None:
            self.other._end(ConnectionLost())

    def _end(self, reason: Exception) -> None:
        if not self._lost:
            self._lost = True
            self._queue.clear()
            self._queued = 0
            self.protocol.connectionLost(Failure(reason))

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: ARG002, N802
        """Remember who is to be paused.

        Raises:
            RuntimeError: there is one already.
        """
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if self._lost:
            producer.stopProducing()
        else:
            self._producer = producer

    def unregisterProducer(self) -> None:  # noqa: N802
        """Forget who is to be paused."""
        self._producer = None

    def pauseProducing(self) -> None:  # noqa: N802
        """Take nothing from the other end for now."""
        self._reading = False

    def resumeProducing(self) -> None:  # noqa: N802
        """Take bytes again."""
        if not self.disconnecting:
            self._reading = True
            if self.other is not None:
                self.other._move_later()

    def stopProducing(self) -> None:  # noqa: N802
        """Close."""
        self.loseConnection()

    def getPeer(self) -> IPv4Address:  # noqa: N802
        """Return a made-up address."""
        return IPv4Address("TCP", "127.0.0.1", 1)

    def getHost(self) -> IPv4Address:  # noqa: N802
        """Return a made-up address."""
        return IPv4Address("TCP", "127.0.0.1", 2)

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: N802
        """Do nothing."""

    def setTcpKeepAlive(self, enabled: bool) -> None:  # noqa: N802
        """Do nothing."""


def join(
    clock: HeapClock, one: Any, two: Any, latency: float = 0.0
) -> tuple[MemoryTransport, MemoryTransport]:
    """Join two protocols by a pipe; ``two`` is connected first, as a listener is.

    Args:
        clock: what moves the bytes.
        one: the protocol of the end that dialled.
        two: the protocol of the end that listened.
        latency: seconds that a piece is on its way.
    """
    left, right = MemoryTransport(clock, latency), MemoryTransport(clock, latency)
    left.other, right.other = right, left
    left.protocol, right.protocol = one, two
    two.makeConnection(right)
    one.makeConnection(left)
    return left, right


class MemoryNet:
    """A network in memory: factories listen at (host, port), connectors dial them.

    Args:
        clock: what moves the bytes.
        latency: seconds that a piece is on its way.
    """

    def __init__(self, clock: HeapClock, latency: float = 0.0) -> None:
        self.clock = clock
        self.latency = latency
        self.pipes: list[tuple[MemoryTransport, MemoryTransport]] = []
        self._listening: dict[tuple[str, int], Callable[[], Any]] = {}

    def listen(self, host: str, port: int, factory: Factory) -> None:
        """Let ``factory`` accept what is dialled at (host, port)."""
        self._listening[host, port] = lambda: factory.buildProtocol(None)

    def silence(self, host: str, port: int) -> None:
        """Let nobody answer at (host, port) any more."""
        self._listening.pop((host, port), None)

    async def connect(self, host: str, port: int, factory: Factory) -> Any:
        """Dial (a `ampgrid.wire.network.Connector`)."""
        build = self._listening.get((host, port))
        listening = build() if build is not None else None
        if listening is None:
            raise ConnectionRefusedError("connection refused")
        dialling = factory.buildProtocol(None)
        self.pipes = [pipe for pipe in self.pipes if not (pipe[0].lost and pipe[1].lost)]
        self.pipes.append(join(self.clock, dialling, listening, self.latency))
        return dialling
