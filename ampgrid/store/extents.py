"""Which bytes of a share have been written: a set of ranges."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Extents:
    """Disjoint ranges of offsets, in order, neighbours joined.

    Attributes:
        total: number of bytes covered.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.total = 0

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, start: int, end: int) -> None:
        """Cover the bytes from ``start`` up to ``end``, which is not covered itself."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            self.total -= sum(
                b - a
                for a, b in zip(self._starts[first:last], self._ends[first:last], strict=True)
            )
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]
        self.total += end - start

    def overlaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the covered ranges between ``start`` and ``end``, cut to these."""
        if start >= end:
            return []
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        return [
            (max(start, self._starts[index]), min(end, self._ends[index]))
            for index in range(first, last)
        ]

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the ranges between ``start`` and ``end`` that are not covered."""
        found = []
        for covered_start, covered_end in self.overlaps(start, end):
            if start < covered_start:
                found.append((start, covered_start))
            start = covered_end
        if start < end:
            found.append((start, end))
        return found
