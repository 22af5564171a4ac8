"""Listings of large directories, told page by page over one connection."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from itertools import islice
from typing import Any

from attrs import define, field
from twisted.internet.defer import DeferredLock

from ampgrid.errors import BadArgumentValueError, SnapshotGoneError
from ampgrid.node.reports import page_text
from ampgrid.ports import Clock, Connection, DelayedCall
from ampgrid.vdrive.dirnode import Child, DirectoryNode, Listing

#: Listings that one connection may have begun and not ended.
MOST_LISTINGS = 32
#: One that is not asked for more is dropped, seconds.
IDLE_SECONDS = 600.0
#: Children on one page at most.
_MOST_CHILDREN = 200
#: Bytes of problems on one page; more are told on the next.
_MOST_PROBLEM_BYTES = 5_000


@define(eq=False)
class _Open:
    pages: AsyncIterator[Listing]
    timer: DelayedCall
    #: Read and not told yet.
    waiting: deque[Child] = field(factory=deque)
    problems: deque[str] = field(factory=deque)
    turn: DeferredLock = field(factory=DeferredLock)
    ended: bool = False


class Listings:
    """The listings under way over one connection.

    Args:
        clock: drops those that nobody asks for.
        connection: whose loss drops all.
    """

    def __init__(self, clock: Clock, connection: Connection) -> None:
        self._clock = clock
        self._open: dict[int, _Open] = {}
        self._next = 0
        connection.when_lost(self._drop_all)

    def _drop_all(self) -> None:
        for number in list(self._open):
            self._drop(number)

    def _drop(self, number: int) -> None:
        listing = self._open.pop(number, None)
        if listing is not None and listing.timer.active():
            listing.timer.cancel()

    def begin(self, directory: DirectoryNode) -> int:
        """Begin to list a directory; returns the number of the listing.

        Raises:
            BadArgumentValueError: too many are under way.
        """
        if len(self._open) >= MOST_LISTINGS:
            raise BadArgumentValueError("too many listings are under way over this connection")
        self._next += 1
        number = self._next
        timer = self._clock.callLater(IDLE_SECONDS, self._drop, number)
        self._open[number] = _Open(directory.pages(), timer)
        return number

    async def page(
        self, number: int, most: int | None, spell: Callable[[Child], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the answer of `ListDirectory`: the next page.

        Raises:
            SnapshotGoneError: there is no such listing any more.
        """
        listing = self._open.get(number)
        if listing is None:
            raise SnapshotGoneError("this listing is gone; begin again")
        listing.timer.reset(IDLE_SECONDS)
        await listing.turn.acquire()
        try:
            wanted = min(most or _MOST_CHILDREN, _MOST_CHILDREN)
            await self._read(listing, wanted)
            # Spelled as they are taken: what fits on no page more would be spelled in vain.
            text, count = page_text(map(spell, islice(listing.waiting, wanted)))
        except BaseException:
            self._drop(number)
            raise
        finally:
            listing.turn.release()
        for _ in range(count):
            listing.waiting.popleft()
        problems = _taken(listing.problems)
        ended = listing.ended and not listing.waiting and not listing.problems
        if ended:
            self._drop(number)
        return {"children": text, "problems": problems, "next": 0 if ended else number}

    async def _read(self, listing: _Open, wanted: int) -> None:
        """Have so many children at hand, if there are as many."""
        while not listing.ended and len(listing.waiting) < wanted:
            try:
                found = await anext(listing.pages)
            except StopAsyncIteration:
                listing.ended = True
            else:
                listing.waiting.extend(found.children.values())
                listing.problems.extend(found.problems)


def _taken(problems: deque[str]) -> str:
    """Take as many lines as one page has room for."""
    lines: list[str] = []
    room = _MOST_PROBLEM_BYTES
    while problems and room > 0:
        line = problems.popleft().encode("ascii", "backslashreplace")[:300].decode("ascii")
        lines.append(line)
        room -= len(line) + 1
    return "\n".join(lines)
