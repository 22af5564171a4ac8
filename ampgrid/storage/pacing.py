"""Work in the background that keeps within a rate, and can be ended at once."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from ampgrid.ports import Clock, DelayedCall

#: Shorter naps are saved up.
_LEAST_NAP_SECONDS = 0.05


class Naps:
    """Waits that can all be ended together.

    Args:
        clock: time.

    Attributes:
        over: whether they have been, for good.
    """

    def __init__(self, clock: Clock) -> None:
        self.over = False
        self._clock = clock
        self._waiting: dict[Deferred[None], DelayedCall] = {}

    async def nap(self, seconds: float) -> None:
        """Wait; not at all once all is over."""
        if self.over:
            return
        done: Deferred[None] = Deferred()
        self._waiting[done] = self._clock.callLater(seconds, self._wake, done)
        await done

    def _wake(self, done: Deferred[None]) -> None:
        del self._waiting[done]
        done.callback(None)

    def end(self) -> None:
        """Let nobody wait any more."""
        self.over = True
        waiting, self._waiting = self._waiting, {}
        for done, call in waiting.items():
            call.cancel()
            done.callback(None)


class Pace:
    """Keeps work within a rate, by naps.

    Args:
        clock: time.
        naps: where it waits.
        rate: bytes a second.
    """

    def __init__(self, clock: Clock, naps: Naps, rate: int) -> None:
        self._clock = clock
        self._naps = naps
        self._rate = rate
        self._free_at = 0.0

    async def spend(self, size: int) -> None:
        """Note that so many bytes were read, and wait until more may be."""
        now = self._clock.seconds()
        self._free_at = max(self._free_at, now) + size / self._rate
        if self._free_at - now >= _LEAST_NAP_SECONDS:
            await self._naps.nap(self._free_at - now)
