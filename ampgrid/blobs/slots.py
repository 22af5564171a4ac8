"""Who goes next: so many transfers at once, those of high priority first, and one a blob."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from twisted.internet.defer import Deferred, DeferredLock

from ampgrid.store.blobrecord import Priority


class Slots:
    """Lets so many in at once. Who waits goes in by priority, and then in the order of coming.

    Args:
        count: how many, at least one.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: list[tuple[int, int, Deferred[None]]] = []
        self._order = itertools.count()

    @asynccontextmanager
    async def taken(self, priority: Priority) -> AsyncIterator[None]:
        """Wait for a slot, and have it inside of ``async with``."""
        await self._enter(priority)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, priority: Priority) -> None:
        if self._free:
            self._free -= 1
            return
        turn: Deferred[None] = Deferred()
        heapq.heappush(self._waiting, (-int(priority), next(self._order), turn))
        await turn

    def _leave(self) -> None:
        while self._waiting:
            _priority, _order, turn = heapq.heappop(self._waiting)
            # Who was cancelled while waiting does not come any more.
            if not turn.called:
                turn.callback(None)
                return
        self._free += 1


class NameLocks:
    """One at a time for each name; others do not wait."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, tuple[DeferredLock, int]] = {}

    @asynccontextmanager
    async def held(self, name: Hashable) -> AsyncIterator[None]:
        """Wait until nobody has the name, and have it inside of ``async with``."""
        lock, users = self._locks.get(name, (DeferredLock(), 0))
        self._locks[name] = (lock, users + 1)
        try:
            await lock.acquire()
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, users = self._locks[name]
            if users == 1:
                del self._locks[name]
            else:
                self._locks[name] = (lock, users - 1)
