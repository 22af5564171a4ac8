"""Work that waits is done together: one hop into a thread, and there one commit, for many."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, Protocol, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred

from ampgrid.ports import Threads

T = TypeVar("T")
W = TypeVar("W")

#: The most pieces of work in one hop.
MOST_A_HOP = 128


class Result(Protocol):
    """What became of one piece of work."""

    def get(self) -> Any:
        """Return the result, or raise the error."""
        ...


@frozen
class Done:
    """What became of one call.

    Attributes:
        value: what it returned.
        error: what it raised, None if nothing.
    """

    value: Any = None
    error: Exception | None = None

    def get(self) -> Any:
        """Return the result, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value


def do_all(works: Sequence[Callable[[], Any]]) -> list[Done]:
    """Call functions, one after the other; return what became of each."""
    results = []
    for work in works:
        try:
            results.append(Done(work()))
        except Exception as error:  # noqa: BLE001 - told to who asked, and to nobody else
            results.append(Done(error=error))
    return results


class Groups(Generic[W]):
    """Takes work one by one and has it done in groups.

    While a group is being done, what comes waits, and is the next group.

    Args:
        threads: where it is done.
        spawn: runs a coroutine on its own.
        do_all: does a group, in a thread; one result for each, in order.
        at_once: how many groups may be under way.
    """

    def __init__(
        self,
        threads: Threads,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        do_all: Callable[[Sequence[W]], Sequence[Result]],
        at_once: int = 1,
    ) -> None:
        self._threads = threads
        self._spawn = spawn
        self._do_all = do_all
        self._at_once = self._free = at_once
        self._waiting: deque[tuple[W, Deferred[Any]]] = deque()

    @property
    def idle(self) -> bool:
        """Whether nothing waits or is being done."""
        return self._free == self._at_once and not self._waiting

    async def run(self, work: W) -> Any:
        """Have it done and return its result, or raise its error."""
        answer: Deferred[Result] = Deferred()
        self._waiting.append((work, answer))
        if self._free:
            self._free -= 1
            self._spawn(self._pump())
        return (await answer).get()

    async def _pump(self) -> None:
        try:
            while self._waiting:
                count = min(len(self._waiting), MOST_A_HOP)
                group = [self._waiting.popleft() for _ in range(count)]
                try:
                    results = await self._threads.run(self._do_all, [work for work, _ in group])
                except Exception as error:  # noqa: BLE001 - told to whoever waits
                    for _, answer in group:
                        answer.errback(error)
                else:
                    for (_, answer), result in zip(group, results, strict=True):
                        answer.callback(result)
        finally:
            self._free += 1
