"""Several things at once: never too many, and the first failure ends it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.cli.pool import Pool, run_each


class PoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.began: list[int] = []
        self.open: dict[int, Deferred[None]] = {}

    def work(self, number: int) -> Callable[[], Coroutine[Any, Any, None]]:
        async def run() -> None:
            self.began.append(number)
            self.open[number] = Deferred()
            await self.open[number]
            del self.open[number]

        return run

    @given(st.integers(0, 20), st.integers(1, 5), st.lists(st.integers(0, 9), max_size=20))
    def test_all_are_run_in_order_and_never_too_many(
        self, count: int, at_once: int, picks: list[int]
    ) -> None:
        self.setUp()
        works = [self.work(number) for number in range(count)]
        running = Deferred.fromCoroutine(run_each(works, at_once))
        while self.open:
            self.assertLessEqual(len(self.open), at_once)
            several = sorted(self.open)
            self.open[several[(picks.pop() if picks else 0) % len(several)]].callback(None)
        self.successResultOf(running)
        self.assertEqual(self.began, list(range(count)))

    def test_after_a_failure_nothing_begins_and_what_runs_is_waited_for(self) -> None:
        running = Deferred.fromCoroutine(run_each([self.work(n) for n in range(5)], 2))
        self.open[0].errback(ZeroDivisionError())
        self.assertNoResult(running)
        self.open[1].callback(None)
        self.failureResultOf(running, ZeroDivisionError)
        self.assertEqual(self.began, [0, 1])

    def test_more_can_be_started_while_others_run(self) -> None:
        pool = Pool(1)
        self.successResultOf(Deferred.fromCoroutine(pool.start(self.work(0))))
        second = Deferred.fromCoroutine(pool.start(self.work(1)))
        self.assertNoResult(second)
        self.open[0].callback(None)
        self.successResultOf(second)
        ending = Deferred.fromCoroutine(pool.end())
        self.assertNoResult(ending)
        self.open[1].callback(None)
        self.successResultOf(ending)
