"""A clock of the test's own: time moves only when the test says so.

Twisted's ``task.Clock`` sorts its whole list at every call; a grid in memory schedules one call a
segment of bytes, so this one is a heap. Otherwise it behaves as a reactor's clock does, down to
what a second cancel raises; but an exception in a call comes out where the test moves time.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.python.failure import Failure

T = TypeVar("T")

#: Cancelled calls are swept out of the heap when there are so many, and half of it.
_SWEEP = 64


class TestedCall:
    """A call that a `HeapClock` will make (Twisted's IDelayedCall)."""

    __test__ = False

    def __init__(
        self, clock: HeapClock, time: float, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        self.time = time
        self.function: Callable[..., Any] | None = function
        self.args = args
        self.cancelled = False
        #: Which of its entries in the clock's queue counts: a reset makes another one.
        self.place = -1
        self._clock = clock

    def active(self) -> bool:
        """Tell whether it is still to happen."""
        return self.function is not None

    def _check_active(self) -> None:
        if self.cancelled:
            raise AlreadyCancelled
        if self.function is None:
            raise AlreadyCalled

    def cancel(self) -> None:
        """Make it not happen.

        Raises:
            AlreadyCalled: it has happened.
            AlreadyCancelled: it was cancelled before.
        """
        self._check_active()
        self.cancelled = True
        self.function = None
        self.args = ()
        self._clock.note_cancelled()

    def reset(self, seconds: float) -> None:
        """Let it happen in ``seconds`` from now instead.

        Raises:
            AlreadyCalled: it has happened.
            AlreadyCancelled: it was cancelled.
        """
        self._check_active()
        self.time = self._clock.seconds() + seconds
        self._clock.schedule(self)

    def getTime(self) -> float:  # noqa: N802
        """Return when it will happen."""
        return self.time


class HeapClock:
    """Monotonic time and timers that stand still until moved.

    Args:
        start: seconds to begin at.
    """

    def __init__(self, start: float = 1_000_000.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._heap: list[tuple[float, int, TestedCall]] = []
        self._cancelled = 0

    def seconds(self) -> float:
        """Return the time."""
        return self._now

    def callLater(  # noqa: N802
        self, delay: float, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> TestedCall:
        """Call ``function`` in ``delay`` seconds of this clock.

        Raises:
            ValueError: the delay is negative.
        """
        if not delay >= 0:
            raise ValueError("time does not go backwards")
        if kwargs:
            inner = function

            def function(*args: Any) -> Any:
                return inner(*args, **kwargs)

        call = TestedCall(self, self._now + delay, function, args)
        self.schedule(call)
        return call

    def schedule(self, call: TestedCall) -> None:
        """Put a call into the queue at its time; where it stood before, it is passed over."""
        call.place = next(self._order)
        heapq.heappush(self._heap, (call.time, call.place, call))

    def note_cancelled(self) -> None:
        """Count a cancelled call, and sweep them out now and then."""
        self._cancelled += 1
        if self._cancelled > _SWEEP and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if _is_due(entry)]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_time(self) -> float | None:
        """Return when the next call will happen, or None when there is none."""
        while self._heap:
            if _is_due(self._heap[0]):
                return self._heap[0][0]
            heapq.heappop(self._heap)
        return None

    def step(self) -> bool:
        """Move to the next call and make it; False when there is none."""
        time = self.next_time()
        if time is None:
            return False
        call = heapq.heappop(self._heap)[2]
        function, call.function = call.function, None
        assert function is not None
        self._now = max(self._now, time)
        function(*call.args)
        return True

    def advance(self, seconds: float) -> None:
        """Move time on, making every call that falls due."""
        end = self._now + seconds
        while (time := self.next_time()) is not None and time <= end:
            self.step()
        self._now = end

    def getDelayedCalls(self) -> list[TestedCall]:  # noqa: N802
        """Return the calls that are still to happen."""
        return [entry[2] for entry in self._heap if _is_due(entry)]

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
            time = self.next_time()
            if time is None or time > end:
                raise AssertionError("the work is stuck: nothing is scheduled that could end it")
            self.step()
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        result: T = outcome[0]
        return result


def _is_due(entry: tuple[float, int, TestedCall]) -> bool:
    """Tell whether an entry of the heap is still to happen, and was not replaced by a reset."""
    _time, place, call = entry
    return call.function is not None and place == call.place
