"""Several things at once: every outcome by its number, and one end for all."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.immutable.several import each


class EachTest(SynchronousTestCase):
    def started(self, *work):
        return Deferred.fromCoroutine(each({n: lambda one=one: one for n, one in enumerate(work)}))

    def test_nothing_at_all(self) -> None:
        self.assertEqual(self.successResultOf(self.started()), {})

    def test_outcomes_stand_in_the_order_of_the_work(self) -> None:
        late = Deferred()
        error = KeyError("no")
        doing = self.started(late, succeed("now"), fail(error))
        self.assertNoResult(doing)
        late.callback("late")
        outcomes = self.successResultOf(doing)
        self.assertEqual(list(outcomes.items()), [(0, "late"), (1, "now"), (2, error)])

    def test_what_is_no_exception_ends_it_at_once(self) -> None:
        late, later = Deferred(), Deferred()
        doing = self.started(late, later)
        late.errback(KeyboardInterrupt())
        self.failureResultOf(doing, KeyboardInterrupt)
        later.errback(SystemExit())

    def test_cancelling_cancels_all(self) -> None:
        work = [Deferred(), Deferred()]
        doing = self.started(*work)
        doing.cancel()
        self.assertTrue(all(one.called for one in work))
        outcomes = self.successResultOf(doing)
        self.assertEqual({type(one) for one in outcomes.values()}, {CancelledError})
