"""What is streamed to a client: no faster than it reads, and not for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from ampgrid.errors import OperationCancelledError
from ampgrid.immutable import Operation
from ampgrid.ports import Clock, DelayedCall

if TYPE_CHECKING:
    from ampgrid.web.request import GatewayRequest

#: A client that takes no byte for so long is cut off, seconds: what it holds up others wait for.
STALL_SECONDS = 300.0


@implementer(IPushProducer)
class Outflow:
    """The body of one answer.

    Args:
        request: whose head is set already.
        clock: of the deadline.
        operation: cancelled when the client is gone.
    """

    def __init__(self, request: GatewayRequest, clock: Clock, operation: Operation) -> None:
        self._request = request
        self._clock = clock
        self._operation = operation
        self._room: Deferred[None] | None = None
        self._deadline: DelayedCall | None = None
        self._ended = False
        request.cancels(operation)
        operation.on_cancel(self._wake)
        if not request.gone:
            request.channel.give_much()
            request.registerProducer(self, True)

    def write(self, data: bytes) -> Deferred[None] | None:
        """Send bytes; what is returned fires when there is room for more.

        Raises:
            OperationCancelledError: the client is gone.
        """
        if self._request.gone:
            raise OperationCancelledError("the client is gone")
        self._request.write(data)
        return self._room

    async def send(self, data: bytes) -> None:
        """Send bytes and wait until there is room for more.

        Raises:
            OperationCancelledError: the client is gone.
        """
        room = self.write(data)
        if room is not None:
            await room
            self._operation.check()

    def end(self) -> None:
        """All was sent."""
        self.leave()
        if not self._request.gone:
            self._request.finish()

    def leave(self) -> None:
        """Send no more."""
        if not self._ended:
            self._ended = True
            self._wake()
            if not self._request.gone:
                self._request.unregisterProducer()

    # What the connection tells.

    def pauseProducing(self) -> None:  # noqa: N802
        """The client does not read as fast as it is sent to."""
        if self._room is None:
            self._room = Deferred()
            self._deadline = self._clock.callLater(STALL_SECONDS, self._stalled)

    def resumeProducing(self) -> None:  # noqa: N802
        """There is room again."""
        self._wake()

    def stopProducing(self) -> None:  # noqa: N802
        """The connection is gone."""
        self._operation.cancel()

    def _stalled(self) -> None:
        self._deadline = None
        self._operation.cancel()
        if not self._request.gone:
            self._request.channel.transport.abortConnection()

    def _wake(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()
        room, self._room = self._room, None
        if room is not None:
            room.callback(None)


class ToClient:
    """Takes a download and sends it to a client (a `DownloadTarget`).

    The head goes out with the first bytes, so what fails before them gets a status of its own.

    Args:
        begin: sets the head and returns the `Outflow`.
    """

    def __init__(self, begin: Callable[[], Outflow]) -> None:
        self._begin = begin
        self._out: Outflow | None = None

    def open(self, size: int) -> None:
        """Do nothing: the head tells the size."""

    def register_canceller(self, canceller: Callable[[], None]) -> None:
        """Do nothing: the operation is known already."""

    def write(self, data: bytes) -> Deferred[None] | None:
        """Send bytes."""
        if self._out is None:
            self._out = self._begin()
        return self._out.write(data)

    def close(self) -> None:
        """All was sent."""
        if self._out is None:
            self._out = self._begin()
        self._out.end()

    def fail(self, why: Exception) -> None:  # noqa: ARG002
        """Send no more; the client sees that the answer is too short."""
        if self._out is not None:
            self._out.leave()

    def finish(self) -> Any:
        """Return nothing."""
        return None
