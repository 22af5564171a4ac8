"""Waiting for one of several things, or for time to pass."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from ampgrid.ports import Clock


class Bell:
    """Rung whenever something has happened; one coroutine waits for it.

    Args:
        clock: time and timers.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = False
        self._waiting: Deferred[None] | None = None

    def ring(self, _result: Any = None) -> None:
        """Wake who waits, or let the next wait return at once."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            self._rung = True
        else:
            waiting.callback(None)

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait for a ring; False if ``seconds`` passed without one."""
        if self._rung:
            self._rung = False
            return True
        assert self._waiting is None, "one coroutine waits for a bell"
        waiting = self._waiting = Deferred()
        if seconds is None:
            await waiting
            return True
        timer = self._clock.callLater(seconds, self.ring)
        await waiting
        in_time: bool = timer.active()
        if in_time:
            timer.cancel()
        return in_time
