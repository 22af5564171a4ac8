"""The introducer's change log: at which position each node's announcement changed last.

Positions rise for ever. Who knows everything up to a position is told what stands behind it,
each node once, whatever happened to it in between.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping


class ChangeLog:
    """Positions of changes, newest last. In memory; its owner keeps it elsewhere too."""

    def __init__(self) -> None:
        self._latest: dict[bytes, int] = {}
        # In order of position; a pair whose node has a later position is passed over.
        self._entries: list[tuple[int, bytes]] = []
        self._cursor = 0

    @property
    def cursor(self) -> int:
        """The highest position given so far."""
        return self._cursor

    def restore(self, positions: dict[bytes, int], cursor: int) -> None:
        """Begin with what was kept: {node id: position} and the highest position ever given."""
        self._latest = dict(positions)
        self._entries = sorted((at, node_id) for node_id, at in positions.items())
        self._cursor = max([cursor, *positions.values()])

    def note(self, node_id: bytes) -> int:
        """Note that a node's announcement changed; returns its position."""
        self._cursor += 1
        self._latest[node_id] = self._cursor
        self._entries.append((self._cursor, node_id))
        if len(self._entries) > 2 * len(self._latest) + 64:
            self._entries = [e for e in self._entries if self._latest.get(e[1]) == e[0]]
        return self._cursor

    def forget(self, node_id: bytes) -> None:
        """Drop a node."""
        self._latest.pop(node_id, None)

    @property
    def positions(self) -> Mapping[bytes, int]:
        """{node id: its latest position}."""
        return self._latest

    def after(self, cursor: int, most: int) -> list[tuple[int, bytes]]:
        """Return what changed after a position: at most ``most`` (position, node id), in order."""
        found: list[tuple[int, bytes]] = []
        start = bisect_right(self._entries, (cursor, b"\xff" * 64))
        for index in range(start, len(self._entries)):
            position, node_id = self._entries[index]
            if self._latest.get(node_id) == position:
                found.append((position, node_id))
                if len(found) == most:
                    break
        return found
