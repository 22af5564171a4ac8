"""The bound on the memory of all transfers."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import OperationCancelledError
from ampgrid.immutable.budget import Budget


class BudgetTests(SynchronousTestCase):
    """Never more is held than there is, and everybody gets a turn, in order."""

    @given(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 99)), max_size=20))
    def test_any_sizes_in_any_order(self, drawn):
        sizes, picks = [size for size, _ in drawn], [pick for _, pick in drawn]
        budget = Budget(10)
        held, began, ends = [], [], {}

        async def hold(number, size):
            async with budget.take(size, lambda: None):
                began.append(number)
                held.append(min(size, 10))
                self.assertLessEqual(sum(held), 10)
                ends[number] = Deferred()
                await ends[number]
                held.remove(min(size, 10))

        works = [Deferred.fromCoroutine(hold(n, size)) for n, size in enumerate(sizes)]
        while ends:
            numbers = sorted(ends)
            ends.pop(numbers[picks.pop() % len(numbers)]).callback(None)
        for work in works:
            self.successResultOf(work)
        self.assertEqual(list(range(len(sizes))), began)

    def test_who_is_cancelled_while_waiting_holds_nothing(self):
        budget = Budget(10)

        def refuse():
            raise OperationCancelledError("cancelled")

        async def hold(check, until):
            async with budget.take(10, check):
                await until

        first, last = Deferred(), Deferred()
        holding = Deferred.fromCoroutine(hold(lambda: None, first))
        cancelled = Deferred.fromCoroutine(hold(refuse, Deferred()))
        behind = Deferred.fromCoroutine(hold(lambda: None, last))
        first.callback(None)
        self.successResultOf(holding)
        self.failureResultOf(cancelled, OperationCancelledError)
        self.assertNoResult(behind)
        last.callback(None)
        self.successResultOf(behind)
