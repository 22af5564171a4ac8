"""Listing a large table: its nodes in the order of the slots, many requests in flight.

Only a window of nodes is held at a time: as pages are taken, the next nodes are fetched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator

import attrs
from twisted.internet.defer import Deferred

from ampgrid.errors import FormatError
from ampgrid.formats.record import EMPTY_ROOT
from ampgrid.formats.trienode import NIBBLES, parse_node
from ampgrid.vdrive.nodes import Desk, FetchNodes

#: Nodes that are fetched at a time, and the most entries in one page.
WINDOW = 192
PAGE_ENTRIES = 500

Pairs = list[tuple[bytes, bytes]]


@attrs.define(eq=False)
class _Part:
    """A part of the trie that was not yielded yet: below one node."""

    digest: bytes
    prefix: str


class Listing:
    """The entries under one root.

    Args:
        root: of the trie, 32 bytes.
        count: of its entries, as the record says.
        desk: nodes that are at hand.
        fetch: returns {hash: node} of others.
    """

    def __init__(self, root: bytes, count: int, desk: Desk, fetch: FetchNodes) -> None:
        self._count = count
        self._desk = desk
        self._fetch = fetch
        self._parts: deque[_Part] = deque()
        if root != EMPTY_ROOT:
            self._parts.append(_Part(root, ""))
        self._coming: Deferred[dict[bytes, bytes]] | None = None

    async def pages(self) -> AsyncIterator[Pairs]:
        """Yield the entries in pages, in the order of their slots.

        Raises:
            SnapshotGoneError: the rest is on no replica any more.
            FormatError: the trie is malformed, or does not hold as many entries as it should.
        """
        page: Pairs = []
        seen = 0
        try:
            while self._parts:
                ready = self._ready()
                if ready is None:
                    await self._more()
                    continue
                page += ready
                seen += len(ready)
                if seen > self._count:
                    raise FormatError("The directory holds more entries than its record says.")
                if len(page) >= PAGE_ENTRIES:
                    yield page
                    page = []
        finally:
            self._drop()
        if seen != self._count:
            raise FormatError("The directory does not hold the entries that its record says.")
        if page:
            yield page

    def _ready(self) -> Pairs | None:
        """Return the next entries; None if the node that has them is not at hand."""
        part = self._parts[0]
        data = self._desk.read(part.digest)
        if data is None:
            return None
        self._parts.popleft()
        self._desk.drop(part.digest)
        node = parse_node(data, part.prefix)
        if isinstance(node, list):
            return node
        below = [_Part(child, part.prefix + NIBBLES[nibble]) for nibble, child in node.items()]
        self._parts.extendleft(reversed(below))
        return []

    async def _more(self) -> None:
        """Wait for the next nodes, and ask for those behind them."""
        if self._coming is None:
            self._ask()
        assert self._coming is not None
        coming, self._coming = self._coming, None
        self._desk.add(await coming)
        self._open_branches()
        self._ask()

    def _ask(self) -> None:
        wanted: list[bytes] = []
        for part in self._parts:
            if len(wanted) >= WINDOW:
                break
            if self._desk.read(part.digest) is None:
                wanted.append(part.digest)
        if wanted:
            self._coming = self._fetch(wanted)

    def _open_branches(self) -> None:
        """Put the children of branches that are at hand in their place, to be asked for next."""
        opened: deque[_Part] = deque()
        looked = 0
        while self._parts and looked < 2 * WINDOW:
            looked += 1
            part = self._parts.popleft()
            data = self._desk.read(part.digest)
            node = None if data is None else parse_node(data, part.prefix)
            if isinstance(node, dict):
                self._desk.drop(part.digest)
                opened.extend(
                    _Part(child, part.prefix + NIBBLES[nibble]) for nibble, child in node.items()
                )
            else:
                opened.append(part)
        opened.extend(self._parts)
        self._parts = opened

    def _drop(self) -> None:
        if self._coming is not None:
            self._coming.addErrback(lambda _failure: None)
            self._coming = None
