"""Coroutines that a service runs on its own, and waits for when it stops."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure


class Background:
    """The work that nobody waits for.

    Args:
        whose: what the log calls its service.
        log: where it is told that one failed.
    """

    def __init__(self, whose: str, log: Logger) -> None:
        self._whose = whose
        self._log = log
        self._running: set[Deferred[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine; what it fails with is logged."""
        done = Deferred.fromCoroutine(work)
        if not done.called:
            self._running.add(done)
        done.addBoth(self._ended, done)

    def _ended(self, result: Failure | None, done: Deferred[None]) -> None:
        self._running.discard(done)
        if isinstance(result, Failure):
            self._log.failure("work of {whose} failed", failure=result, whose=self._whose)

    async def over(self) -> None:
        """Wait until nothing runs any more."""
        while self._running:
            await DeferredList(list(self._running))
