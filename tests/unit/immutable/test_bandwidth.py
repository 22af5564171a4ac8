"""The bandwidth of the keeper: never more than its rate and what one second brings ahead."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import OperationCancelledError
from ampgrid.immutable.bandwidth import Bandwidth
from ampgrid.immutable.operation import Operation
from ampgrid.testing.clock import HeapClock


class BandwidthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = HeapClock()
        self.bandwidth = Bandwidth(1000, self.clock)

    def take(self, size: int, operation: Operation | None = None) -> Deferred[None]:
        return Deferred.fromCoroutine(self.bandwidth.take(size, operation or Operation()))

    def test_a_second_ahead_and_no_more(self) -> None:
        self.successResultOf(self.take(400))
        self.successResultOf(self.take(600))
        self.successResultOf(self.take(5000))
        waiting = self.take(1)
        self.clock.advance(4.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.2)
        self.successResultOf(waiting)

    def test_what_was_not_used_is_not_saved_up(self) -> None:
        self.clock.advance(1_000_000)
        self.successResultOf(self.take(3000))
        self.assertNoResult(self.take(1))

    def test_cancelled_while_it_waits(self) -> None:
        operation = Operation()
        operation.on_cancel(self.bandwidth.look_up)
        self.successResultOf(self.take(100_000))
        mine, other = self.take(1, operation), self.take(1)
        operation.cancel()
        self.failureResultOf(mine, OperationCancelledError)
        self.assertNoResult(other)
        self.failureResultOf(self.take(1, operation), OperationCancelledError)
        self.clock.advance(101)
        self.successResultOf(other)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_rate_of_nothing_is_refused(self) -> None:
        self.assertRaises(ValueError, Bandwidth, 0, self.clock)

    @given(
        st.integers(1, 10**7),
        st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 10)), max_size=40),
    )
    def test_never_faster(self, rate: int, steps: list[tuple[int, float]]) -> None:
        """Over any stretch: its rate, one second's worth, and the last piece on top."""
        clock = HeapClock()
        bandwidth = Bandwidth(rate, clock)
        taken: list[tuple[float, int]] = []
        for size, pause in steps:
            clock.run(bandwidth.take(size, Operation()), 1e9)
            taken.append((clock.seconds(), size))
            clock.advance(pause)
        for first in range(len(taken)):
            moved = 0
            for moment, size in taken[first:]:
                seconds = moment - taken[first][0]
                self.assertLessEqual(moved, rate * (seconds + 1.001) + 1)
                moved += size

    @given(st.lists(st.integers(1, 10**6), min_size=1, max_size=40))
    def test_and_never_idle_for_long(self, sizes: list[int]) -> None:
        clock = HeapClock()
        bandwidth, start = Bandwidth(1000, clock), clock.seconds()
        for size in sizes:
            clock.run(bandwidth.take(size, Operation()), 1e9)
        self.assertLessEqual(clock.seconds() - start, sum(sizes) / 1000 + 0.001)
