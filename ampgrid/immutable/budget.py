"""A bound on the memory that all uploads and downloads of a node take together.

Each asks for what it may come to hold and waits its turn; one that would need more than there is
gets all of it, alone. So a thousand uploads begun at once take no more memory than a few.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from twisted.internet.defer import Deferred

#: What all transfers of a node may hold, bytes.
BUDGET_BYTES = 96 * 1024 * 1024


class Budget:
    """Bytes of memory, given out in the order of asking.

    Args:
        total: how many there are.
    """

    def __init__(self, total: int = BUDGET_BYTES) -> None:
        self._total = total
        self._free = total
        self._waiting: deque[tuple[int, Deferred[None]]] = deque()

    @asynccontextmanager
    async def take(self, size: int, check: Callable[[], None]) -> AsyncIterator[None]:
        """Hold ``size`` bytes for a while, after waiting for them.

        Args:
            size: bytes; what is more than the total counts as the total.
            check: called when the turn has come; raises to hold nothing after all.
        """
        size = min(size, self._total)
        if self._waiting or size > self._free:
            turn: Deferred[None] = Deferred()
            self._waiting.append((size, turn))
            await turn
        else:
            self._free -= size
        try:
            check()
            yield
        finally:
            self._free += size
            self._give()

    def _give(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, turn = self._waiting.popleft()
            self._free -= size
            turn.callback(None)
