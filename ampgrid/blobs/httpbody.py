"""Bodies of HTTP for blobs: a source on its way out, and an answer that is read as it is wanted.

Both keep to a bounded number of bytes in memory, and give up when nothing moves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from ampgrid.blobs.adapting import read_source
from ampgrid.blobs.port import MAX_PIECE_BYTES, SealedSource
from ampgrid.errors import RemoteUnavailableError
from ampgrid.ports import Clock, DelayedCall

#: An answer is not read further ahead than this, bytes.
MOST_AHEAD_BYTES = 8 * MAX_PIECE_BYTES
#: So much has to come in the time in which something has to, bytes, or the answer its end.
LEAST_BYTES = 16 * 1024
#: So much of an answer that nobody wants is read, bytes.
MOST_DRAINED_BYTES = MAX_PIECE_BYTES
#: The longest reason of a refusal that is shown, characters.
MOST_LINE = 1000


class Stall:
    """Calls a function when nothing has moved for too long.

    Args:
        clock: of the time.
        seconds: without a `moved`.
        function: what is called then, once.
    """

    def __init__(self, clock: Clock, seconds: float, function: Callable[[], None]) -> None:
        self._seconds = seconds
        self._timer: DelayedCall = clock.callLater(seconds, function)

    def moved(self) -> None:
        """Begin to count anew."""
        if self._timer.active():
            self._timer.reset(self._seconds)

    def stop(self) -> None:
        """Call nothing any more."""
        if self._timer.active():
            self._timer.cancel()


@implementer(IBodyProducer)
class BytesBody:
    """A few bytes as the body of a request.

    Args:
        data: all of them.

    Attributes:
        length: how many.
    """

    def __init__(self, data: bytes) -> None:
        self.length = len(data)
        self._data = data

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:  # noqa: N802
        """Hand them over."""
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:  # noqa: N802
        """Do nothing: all is written."""

    def resumeProducing(self) -> None:  # noqa: N802
        """Do nothing: all is written."""

    def stopProducing(self) -> None:  # noqa: N802
        """Do nothing: all is written."""


class _StoppedError(Exception):
    """Nobody wants more of a body."""


@implementer(IBodyProducer)
class SourceBody:
    """Some bytes of a source as the body of a request.

    Args:
        source: whose.
        start: where they begin.
        length: how many.
        moved: called whenever some are handed over.

    Attributes:
        length: as above, for Twisted.
        error: what the source failed with.
    """

    def __init__(
        self, source: SealedSource, start: int, length: int, moved: Callable[[], None]
    ) -> None:
        self.length = length
        self.error: Exception | None = None
        self._source = source
        self._offset = start
        self._end = start + length
        self._moved = moved
        self._paused: Deferred[None] | None = None
        self._stopped = False

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:  # noqa: N802
        """Begin to hand bytes over."""
        return Deferred.fromCoroutine(self._produce(consumer))

    async def _produce(self, consumer: IConsumer) -> None:
        try:
            while self._offset < self._end:
                piece = await self._next()
                if self._paused is not None:
                    await self._paused
                self._check()
                self._offset += len(piece)
                self._moved()
                consumer.write(piece)
        except _StoppedError:
            await Deferred()
        except Exception as error:
            self.error = error
            raise

    def _check(self) -> None:
        """Raise if it was stopped: then Twisted must not be told of an end."""
        if self._stopped:
            raise _StoppedError

    async def _next(self) -> bytes:
        length = min(MAX_PIECE_BYTES, self._end - self._offset)
        return await read_source(self._source, self._offset, length)

    def pauseProducing(self) -> None:  # noqa: N802
        """Wait: the connection is full."""
        if self._paused is None:
            self._paused = Deferred()

    def resumeProducing(self) -> None:  # noqa: N802
        """Go on."""
        paused, self._paused = self._paused, None
        if paused is not None:
            paused.callback(None)

    def stopProducing(self) -> None:  # noqa: N802
        """End: the connection is gone, or the answer came before."""
        self._stopped = True
        self.resumeProducing()


class AnswerBody(Protocol):
    """The body of an answer, read piece by piece.

    Args:
        clock: of the deadline.
        seconds: of waiting in which `LEAST_BYTES` have to come.
    """

    transport: Any

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._pieces: deque[bytes] = deque()
        self._ahead = 0
        self._waited = 0.0
        self._came = 0
        self._paused = False
        self._waiting: Deferred[None] | None = None
        self._ended = False
        self._error: RemoteUnavailableError | None = None

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Take bytes."""
        if self._ended:
            return
        self._pieces.append(data)
        self._came += len(data)
        self._ahead += len(data)
        if self._ahead >= MOST_AHEAD_BYTES and not self._paused:
            self._paused = True
            self.transport.pauseProducing()
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Learn that no more comes."""
        if not reason.check(ResponseDone, PotentialDataLoss):
            self._fail("The server broke off in the middle of its answer.")
        self._ended = True
        self._wake()

    def _fail(self, why: str) -> None:
        if self._error is None and not self._ended:
            self._error = RemoteUnavailableError(why)

    async def read(self) -> bytes:
        """Return the next bytes, at most `MAX_PIECE_BYTES`; none at the end.

        Raises:
            RemoteUnavailableError: the connection was lost, or too little came.
        """
        while not self._pieces and not self._ended and self._error is None:
            await self._wait()
        if not self._pieces:
            if self._error is not None:
                raise self._error
            return b""
        piece = self._pieces.popleft()
        if len(piece) > MAX_PIECE_BYTES:
            self._pieces.appendleft(piece[MAX_PIECE_BYTES:])
            piece = piece[:MAX_PIECE_BYTES]
        self._ahead -= len(piece)
        if self._paused and self._ahead < MOST_AHEAD_BYTES // 2:
            self._paused = False
            self.transport.resumeProducing()
        return piece

    async def _wait(self) -> None:
        """Wait for bytes, as long as that may take yet: a byte now and then is not enough."""
        if self._came >= LEAST_BYTES:
            self._came, self._waited = 0, 0.0
        began = self._clock.seconds()
        self._waiting = Deferred()
        stall = Stall(self._clock, max(0.0, self._seconds - self._waited), self._stalled)
        try:
            await self._waiting
        finally:
            stall.stop()
            self._waited += self._clock.seconds() - began

    async def drain(self) -> None:
        """Throw the rest away, so that the connection can be used again; or close, if it is long.

        It raises nothing, but where it is cancelled.
        """
        taken = 0
        try:
            with suppress(RemoteUnavailableError):
                while taken < MOST_DRAINED_BYTES and (piece := await self.read()):
                    taken += len(piece)
        finally:
            self.close()

    def _stalled(self) -> None:
        self._fail("The server sent too little for too long.")
        self.close()
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def close(self) -> None:
        """Read no more of it."""
        self._pieces.clear()
        if not self._ended:
            self._fail("The answer was left.")
            self._ended = True
            if self.transport is not None:
                self.transport.loseConnection()


async def first_line(body: AnswerBody) -> str:
    """Return the first printable line of an answer, at most `MOST_LINE` characters of it.

    Raises:
        RemoteUnavailableError: the connection was lost, or nothing came.
    """
    data = b""
    try:
        while len(data) < MOST_LINE and (piece := await body.read()):
            data += piece
    finally:
        body.close()
    text = data[:MOST_LINE].decode("utf-8", "replace").strip().partition("\n")[0]
    return "".join(each for each in text if each.isprintable())
