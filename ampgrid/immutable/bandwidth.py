"""Keeping within a bandwidth: bytes a second, on average, with no more than a second ahead."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from ampgrid.immutable.operation import Operation
from ampgrid.ports import Clock


class Bandwidth:
    """A bucket of tokens, a token a byte, that holds what a second brings.

    More may be taken at once than it holds; whoever comes next waits until that is paid back.

    Args:
        rate: bytes a second, above 0.
        clock: time and timers.

    Attributes:
        rate: as given.
        clock: as given.
    """

    def __init__(self, rate: float, clock: Clock) -> None:
        if rate <= 0:
            raise ValueError("the rate must be above 0")
        self.rate = rate
        self.clock = clock
        #: When all that was taken is paid back.
        self._paid_at = clock.seconds() - 1.0
        self._waiting: set[Deferred[None]] = set()

    async def take(self, size: int, operation: Operation) -> None:
        """Wait until ``size`` bytes may be moved.

        Raises:
            OperationCancelledError: the operation was cancelled, before or meanwhile.
        """
        now = self.clock.seconds()
        start = max(now - 1.0, self._paid_at)
        self._paid_at = start + size / self.rate
        while (wait := start - self.clock.seconds()) > 0:
            operation.check()
            await self._sleep(wait)
        operation.check()

    async def _sleep(self, seconds: float) -> None:
        waking: Deferred[None] = Deferred()
        self._waiting.add(waking)
        timer = self.clock.callLater(seconds, self._wake, waking)
        try:
            await waking
        finally:
            if timer.active():
                timer.cancel()

    def _wake(self, waking: Deferred[None]) -> None:
        if waking in self._waiting:
            self._waiting.discard(waking)
            waking.callback(None)

    def look_up(self) -> None:
        """Let all who wait see whether they were cancelled."""
        for waking in list(self._waiting):
            self._wake(waking)
