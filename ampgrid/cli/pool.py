"""Several things at once, but not too many."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


class Pool:
    """Runs coroutines, at most so many at once; the first that fails ends it.

    Args:
        at_once: how many.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._running = 0
        self._failure: Failure | None = None
        self._waiting: list[Deferred[None]] = []

    async def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start ``work`` as soon as there is room for it.

        Raises:
            BaseException: what one that was started before has failed with.
        """
        while self._running >= self._at_once:
            await self._change()
        self._raise()
        self._running += 1
        Deferred.fromCoroutine(work()).addBoth(self._ended)

    async def end(self) -> None:
        """Wait until all that was started has ended.

        Raises:
            BaseException: what the first that failed has failed with.
        """
        while self._running:
            await self._change()
        self._raise()

    async def abandon(self) -> None:
        """Wait until all that was started has ended, however it ends."""
        while self._running:
            await self._change()

    def _ended(self, result: Any) -> None:
        self._running -= 1
        if isinstance(result, Failure) and self._failure is None:
            self._failure = result
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)

    async def _change(self) -> None:
        deferred: Deferred[None] = Deferred()
        self._waiting.append(deferred)
        await deferred

    def _raise(self) -> None:
        if self._failure is not None:
            self._failure.raiseException()


async def run_each(works: list[Callable[[], Coroutine[Any, Any, None]]], at_once: int) -> None:
    """Run all of ``works``, at most so many at once; after a failure no further one begins.

    Raises:
        BaseException: what the first that failed has failed with.
    """
    pool = Pool(at_once)
    try:
        for work in works:
            await pool.start(work)
    finally:
        await pool.abandon()
    await pool.end()
