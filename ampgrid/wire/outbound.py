"""What waits to be sent: fair between operations, small boxes first.

One operation's boxes keep their order; operations take turns; an operation whose next box is
small goes before those whose next box is large, so that a ping or an answer of a few bytes does
not wait behind a download. After `SMALL_IN_A_ROW` small boxes a large one gets its turn, and if
there is no room for it yet, after `SMALL_WITHOUT_ROOM` of them the small ones wait too, so
nothing starves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

#: A box of at most so many bytes is small.
SMALL_BYTES = 4_096
#: So many small boxes may pass a waiting large one.
SMALL_IN_A_ROW = 8
#: So many may pass one for which there is no room.
SMALL_WITHOUT_ROOM = 256

T = TypeVar("T")


class OutboundQueue(Generic[T]):
    """Items of known size, by operation."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[tuple[T, int]]] = {}
        self._small: deque[Hashable] = deque()
        self._large: deque[Hashable] = deque()
        self._run = 0
        #: The size of all that waits, bytes.
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._small) + len(self._large)

    def _ring_of(self, size: int) -> deque[Hashable]:
        return self._small if size <= SMALL_BYTES else self._large

    def _next_ring(self, room: float) -> deque[Hashable]:
        small, large = self._small, self._large
        if not large or (small and self._run < SMALL_IN_A_ROW):
            return small
        stuck = self._waiting[large[0]][0][1] > room
        return small if small and stuck and self._run < SMALL_WITHOUT_ROOM else large

    def push(self, operation: Hashable, item: T, size: int) -> None:
        """Add an item of ``size`` bytes behind the others of its operation."""
        self.size_bytes += size
        queue = self._waiting.get(operation)
        if queue is None:
            self._waiting[operation] = deque([(item, size)])
            self._ring_of(size).append(operation)
        else:
            queue.append((item, size))

    def peek(self, room: float = float("inf")) -> T | None:
        """Return the item that `pop` would give, or None when nothing waits.

        Args:
            room: bytes for which there is room; a larger item may be given nevertheless.
        """
        ring = self._next_ring(room)
        return self._waiting[ring[0]][0][0] if ring else None

    def pop(self, room: float = float("inf")) -> T:
        """Take the item whose turn it is.

        Args:
            room: as for `peek`.

        Raises:
            IndexError: nothing waits.
        """
        ring = self._next_ring(room)
        operation = ring.popleft()
        self._run = self._run + 1 if ring is self._small else 0
        queue = self._waiting[operation]
        item, size = queue.popleft()
        self.size_bytes -= size
        if queue:
            self._ring_of(queue[0][1]).append(operation)
        else:
            del self._waiting[operation]
        return item
