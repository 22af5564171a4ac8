"""Trying again what a remote could not do just now, after a random wait that grows.

Source of the waits ("full jitter"): AWS Architecture Blog, "Exponential Backoff And Jitter".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from attrs import define
from twisted.internet.defer import Deferred

from ampgrid.errors import RemoteUnavailableError
from ampgrid.ports import Clock

T = TypeVar("T")

#: An attempt that got less far than this is one that came no further, bytes.
LEAST_PROGRESS = 64 * 1024
#: Bounds of the waits: the first is at most the one, all are at most the other, seconds.
FIRST_WAIT = 1.0
MOST_WAIT = 60.0


@define
class Retrying:
    """How a failing remote is treated.

    Attributes:
        clock: for the waits.
        uniform: draws between two bounds.
        attempts: how often something is tried that comes no further, at least once.
    """

    clock: Clock
    uniform: Callable[[float, float], float]
    attempts: int = 8

    async def run(
        self, work: Callable[[], Awaitable[T]], moved: Callable[[], int] = lambda: 0
    ) -> T:
        """Return what ``work`` comes to.

        Args:
            work: called again when it failed with `RemoteUnavailableError`.
            moved: how far it has come, bytes; attempts that got further by `LEAST_PROGRESS` are
                not counted.

        Raises:
            RemoteUnavailableError: it failed too often.
        """
        failures, before = 0, moved()
        while True:
            try:
                return await work()
            except RemoteUnavailableError:
                now = moved()
                if now - before >= LEAST_PROGRESS:
                    failures, before = 0, now
                failures += 1
                if failures >= self.attempts:
                    raise
            await self.wait(failures)

    async def wait(self, failures: int) -> None:
        """Wait as one does after so many failures in a row."""
        bound = min(MOST_WAIT, FIRST_WAIT * 2.0 ** min(failures - 1, 30))
        over: Deferred[None] = Deferred(lambda _over: call.cancel())
        call = self.clock.callLater(self.uniform(0.0, bound), over.callback, None)
        await over
