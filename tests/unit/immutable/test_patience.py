"""A check, a verify and a repair with servers that take their time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import CallTimeoutError
from ampgrid.immutable import Checker, Operation, Repairer
from ampgrid.immutable.patience import GRACE_SECONDS, LEAST_BYTES_A_SECOND, PatientServer
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.shelves import Shelf
from ampgrid.wire import InlineThreads
from tests.material import make_shares, some_bytes

N = 10


class SlowShelf(Shelf):
    """Answers each read, rightly, after a while."""

    def __init__(self, server_id: bytes, shares: Any, clock: HeapClock, seconds: float) -> None:
        super().__init__(server_id, shares)
        self.clock = clock
        self.seconds = seconds
        self.asked = 0

    async def answering(self) -> None:
        self.asked += 1
        await deferLater(self.clock, self.seconds, lambda: None)

    async def advise_corrupt(self, storage_index: bytes, number: int, reason: str) -> None:
        await self.answering()
        await super().advise_corrupt(storage_index, number, reason)


class SlowServerTests(SynchronousTestCase):
    """Nobody is held up by a server for longer than its allowance."""

    def setUp(self) -> None:
        self.clock = HeapClock()
        self.cap, self.shares = make_shares(some_bytes(400_000), 3, N, 4_000)

    def honest(self) -> list[Any]:
        index = self.cap.storage_index
        return [Shelf(bytes([50 + n]) * 20, {(index, n): self.shares[n]}) for n in range(N)]

    def slow(self, seconds: float, server_id: bytes = b"slow" * 5) -> SlowShelf:
        held = {(self.cap.storage_index, n): self.shares[n] for n in range(N)}
        return SlowShelf(server_id, held, self.clock, seconds)

    def test_the_progress_says_for_whom_it_waits(self) -> None:
        for verify in (False, True):
            operation, phases = Operation(), []
            slow = self.slow(14)
            checker = Checker(
                lambda slow=slow: [slow, *self.honest()], InlineThreads(), self.clock
            )
            work = Deferred.fromCoroutine(checker.check(self.cap, operation, verify=verify))
            while not work.called:
                self.assertTrue(self.clock.step())
                phases.append(operation.phase)
            doing = "verifying" if verify else "checking"
            self.assertIn(f"{doing}, waiting for server {slow.name}", phases)
            self.assertEqual(phases[-1], doing)

    def test_one_that_answers_just_in_time_ends_within_its_allowance_and_is_named(self) -> None:
        for verify in (False, True):
            slow, began = self.slow(14), self.clock.seconds()
            servers = [slow, *self.honest()]
            checker = Checker(lambda servers=servers: servers, InlineThreads(), self.clock)
            report = self.clock.run(checker.check(self.cap, verify=verify))
            self.assertLessEqual(self.clock.seconds() - began, GRACE_SECONDS + 1)
            self.assertEqual(report.count_good, N)
            self.assertEqual(report.slow, {slow.server_id})
            self.assertEqual([slow.name in line for line in report.problems], [True])
            self.assertIn("of its shares were not looked at", report.problems[0])

    def test_many_of_them_take_no_longer_than_one(self) -> None:
        servers = [*(self.slow(14, bytes([n]) * 20) for n in range(5)), *self.honest()]
        checker = Checker(lambda: servers, InlineThreads(), self.clock)
        began = self.clock.seconds()
        report = self.clock.run(checker.check(self.cap, verify=True))
        self.assertLessEqual(self.clock.seconds() - began, GRACE_SECONDS + 1)
        self.assertEqual(len(report.slow), 5)
        self.assertTrue(all(len(holders) >= 1 for holders in report.good.values()))

    def test_a_slow_line_that_delivers_is_waited_for(self) -> None:
        """80 s for 400 kB: more than the grace, and faster than the least rate."""
        slow = self.slow(0.25)
        checker = Checker(lambda: [slow], InlineThreads(), self.clock)
        began = self.clock.seconds()
        report = self.clock.run(checker.check(self.cap, verify=True))
        self.assertGreater(self.clock.seconds() - began, GRACE_SECONDS + 1)
        self.assertEqual((report.count_good, report.slow), (N, frozenset()))

    def test_a_repair_leaves_it_out_from_then_on(self) -> None:
        slow = self.slow(14)
        servers = [slow, *self.honest()[:5], *(Shelf(bytes([90 + n]) * 20, {}) for n in range(5))]
        repairer = Repairer(lambda: servers, InlineThreads(), self.clock)
        began = self.clock.seconds()
        report = self.clock.run(repairer.repair(self.cap.get_verify_cap()))
        self.assertLessEqual(self.clock.seconds() - began, 2 * GRACE_SECONDS)
        self.assertEqual((report.after.count_good, report.after.happy), (N, N))
        self.assertIn("not asked again", report.after.problems[0])

    def test_advice_to_several_servers_goes_out_at_once(self) -> None:
        _cap, others = make_shares(some_bytes(400_000, b"o"), 3, N, 4_000)
        index = self.cap.storage_index
        liars = [self.slow(0, bytes([n]) * 20) for n in range(6)]
        for liar in liars:
            liar.contents = {(index, n): others[n] for n in range(N)}
        servers = [*liars, *self.honest()]
        checker = Checker(lambda: servers, InlineThreads(), self.clock)
        found = self.clock.run(checker.check(self.cap))
        self.assertEqual(len(found.bad), 6 * N)
        for liar in liars:
            liar.seconds = 9.0
        began = self.clock.seconds()
        repairer = Repairer(lambda: servers, InlineThreads(), self.clock)
        repairing = repairer.repair(self.cap, found=found)
        self.clock.run(repairing)
        self.assertEqual([len(liar.advised) for liar in liars], [N] * 6)
        self.assertLessEqual(self.clock.seconds() - began, 30)

    def test_cancelled_while_it_waits(self) -> None:
        operation = Operation()
        servers = [self.slow(1_000)]
        checker = Checker(lambda: servers, InlineThreads(), self.clock)
        checking = Deferred.fromCoroutine(checker.check(self.cap, operation))
        self.clock.advance(1)
        operation.cancel()
        self.clock.advance(GRACE_SECONDS)
        self.failureResultOf(checking)


class PatientServerTests(SynchronousTestCase):
    """The allowance of one server."""

    def test_only_time_in_which_it_owes_something_counts(self) -> None:
        clock = HeapClock()
        shelf = SlowShelf(b"s" * 20, {(b"i" * 16, 0): b"x" * 100}, clock, 10)
        patient = PatientServer(shelf, clock)  # type: ignore[arg-type]
        for _ in range(2):
            self.assertEqual(clock.run(patient.read(b"i" * 16, 0, 0, 100)), b"x" * 100)
            clock.advance(1_000)
        self.assertFalse(patient.slow)
        began = clock.seconds()
        with self.assertRaises(CallTimeoutError):
            clock.run(patient.read(b"i" * 16, 0, 0, 100))
        self.assertAlmostEqual(clock.seconds() - began, 5 + 200 / LEAST_BYTES_A_SECOND, 3)
        self.assertTrue(patient.slow)
        asked = shelf.asked
        with self.assertRaises(CallTimeoutError):
            clock.run(patient.read(b"i" * 16, 0, 0, 100))
        self.assertEqual(shelf.asked, asked)
        clock.advance(100)
        self.assertEqual(clock.getDelayedCalls(), [])
