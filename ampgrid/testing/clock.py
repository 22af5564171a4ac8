"""A clock of the test's own: time moves only when the test says so.

Twisted's ``task.Clock`` sorts its whole list at every call; a grid in memory schedules one call a
segment of bytes, so this one is a heap.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class TestedCall:
    """A call that a `HeapClock` will make (Twisted's IDelayedCall)."""

    __test__ = False

    def __init__(
        self, clock: HeapClock, time: float, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        self.time = time
        self.function: Callable[..., Any] | None = function
        self.args = args
        self._clock = clock

    def active(self) -> bool:
        """Tell whether it is still to happen."""
        return self.function is not None

    def cancel(self) -> None:
        """Make it not happen."""
        self.function = None

    def reset(self, seconds: float) -> None:
        """Let it happen in ``seconds`` from now instead."""
        self.time = self._clock.seconds() + seconds
        self._clock.schedule(self)

    def getTime(self) -> float:  # noqa: N802
        """Return when it will happen."""
        return self.time


class HeapClock:
    """Monotonic time, timers and wall-clock time that stand still until moved.

    Args:
        start: seconds to begin at.
    """

    def __init__(self, start: float = 1_000_000.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._heap: list[tuple[float, int, TestedCall]] = []

    def seconds(self) -> float:
        """Return the time."""
        return self._now

    def callLater(  # noqa: N802
        self, delay: float, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> TestedCall:
        """Call ``function`` in ``delay`` seconds of this clock."""
        if kwargs:
            inner = function

            def function(*args: Any) -> Any:
                return inner(*args, **kwargs)

        call = TestedCall(self, self._now + delay, function, args)
        self.schedule(call)
        return call

    def schedule(self, call: TestedCall) -> None:
        """Put a call into the queue at its time; where it stood before, it is passed over."""
        heapq.heappush(self._heap, (call.time, next(self._order), call))

    def step(self) -> bool:
        """Move to the next call and make it; False when there is none."""
        while self._heap:
            time, _order, call = heapq.heappop(self._heap)
            if time != call.time:
                continue
            function, call.function = call.function, None
            if function is not None:
                self._now = max(self._now, time)
                function(*call.args)
                return True
        return False

    def advance(self, seconds: float) -> None:
        """Move time on, making every call that falls due."""
        end = self._now + seconds
        while self._heap and self._heap[0][0] <= end:
            self.step()
        self._now = end

    def getDelayedCalls(self) -> list[TestedCall]:  # noqa: N802
        """Return the calls that are still to happen."""
        return list({call: None for _time, _order, call in self._heap if call.active()})

    def run(self, work: Coroutine[Any, Any, T] | Deferred[T], within: float = 100_000.0) -> T:
        """Move time on until ``work`` is done and return its result.

        Raises:
            AssertionError: nothing is scheduled any more, or ``within`` seconds of this clock
                have passed, and the work is not done.
        """
        deferred = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
        outcome: list[Any] = []
        deferred.addBoth(outcome.append)
        end = self._now + within
        while not outcome:
            if not self._heap or self._heap[0][0] > end or not self.step():
                raise AssertionError("the work is stuck: nothing is scheduled that could end it")
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        result: T = outcome[0]
        return result
