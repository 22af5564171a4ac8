"""Working on a stream of things, several at a time, results as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ampgrid.immutable import Operation

S = TypeVar("S")
T = TypeVar("T")


async def as_done(
    source: AsyncIterator[S],
    work: Callable[[S], Awaitable[T]],
    operation: Operation,
    at_once: int,
) -> AsyncIterator[T]:
    """Yield what ``work`` makes of each thing of a stream, in the order in which it is done.

    Nothing more is begun while ``at_once`` results wait to be taken. The first error ends it.

    Args:
        source: the things.
        work: is done on several at a time.
        operation: whose cancelling ends the waiting.
        at_once: how many are worked on at once.

    Raises:
        OperationCancelledError: somebody has cancelled.
    """
    works = _Works(source, work, at_once)
    operation.on_cancel(works.wake)
    while True:
        works.begin()
        while works.done:
            outcome = works.done.popleft()
            if isinstance(outcome, Failure):
                outcome.raiseException()
            yield outcome
            works.begin()
        if works.ended:
            return
        operation.check()
        await works.wait()
        operation.check()


class _Works(Generic[S, T]):
    """What is under way."""

    def __init__(
        self, source: AsyncIterator[S], work: Callable[[S], Awaitable[T]], at_once: int
    ) -> None:
        self.done: deque[T | Failure] = deque()
        self._source = source
        self._work = work
        self._at_once = at_once
        self._running = 0
        self._pulling = False
        self._exhausted = False
        self._rung = False
        self._waiting: Deferred[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing comes any more."""
        return self._exhausted and not self._running and not self.done

    def begin(self) -> None:
        """Take the next thing of the source, if there is room for it."""
        if not (
            self._pulling
            or self._exhausted
            or self._running >= self._at_once
            or len(self.done) >= self._at_once
        ):
            self._pulling = True
            Deferred.fromCoroutine(self._pull()).addErrback(self._fail)

    async def _pull(self) -> None:
        # A loop, not a chain of calls: of a source that never waits thousands come in a row.
        while self._running < self._at_once and len(self.done) < self._at_once:
            try:
                thing = await anext(self._source)
            except StopAsyncIteration:
                self._exhausted = True
                break
            self._running += 1
            Deferred.fromCoroutine(self._do(thing)).addBoth(self._finish)
        self._pulling = False
        self.wake()

    async def _do(self, thing: S) -> T:
        return await self._work(thing)

    def _finish(self, outcome: T | Failure) -> None:
        self._running -= 1
        self.done.append(outcome)
        self.wake()

    def _fail(self, failure: Failure) -> None:
        self._exhausted = True
        self._pulling = False
        self.done.append(failure)
        self.wake()

    async def wait(self) -> None:
        """Wait until something has changed."""
        if not self._rung:
            self._waiting = Deferred()
            await self._waiting
        self._rung = False

    def wake(self, _result: Any = None) -> None:
        """Let who waits look again."""
        self._rung = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
