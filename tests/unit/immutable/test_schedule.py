"""The schedule of the keeper, and what it concludes from a check."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from attrs import evolve
from hypothesis import assume, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import ChkVerifierCap
from ampgrid.immutable.checker import BadShare, CheckReport
from ampgrid.immutable.schedule import (
    DAY,
    HOUR,
    MOST_SKIPS,
    Schedule,
    Verdict,
    falls_short,
    judge,
    least_shares,
)
from ampgrid.store.keptdb import KeptFile

CAP = ChkVerifierCap(b"i" * 16, b"u" * 32, 3, 10, 1000)
FILE = KeptFile(1, CAP, 7, 0.0, 0.0)
NOW = 1_000_000.0

seeds = st.integers(0, 2**32)
times = st.floats(0, 4e9)
periods = st.integers(1, 14).map(lambda days: days * DAY)


def schedule(period: float, seed: int) -> Schedule:
    return Schedule(period, Random(seed).uniform)


def report(good: dict[int, int], *, answered: int = 10, bad: int = 0) -> CheckReport:
    """A report of shares, each on the one server of that number."""
    return CheckReport(
        CAP.storage_index,
        CAP.needed,
        CAP.total,
        {number: (bytes([server]) * 20,) for number, server in good.items()},
        bad=tuple(BadShare(n, b"b" * 20, "rotten") for n in range(bad)),
        servers_asked=10,
        servers_answered=answered,
    )


class ScheduleTests(SynchronousTestCase):
    @given(periods, seeds, times, st.integers(1, 10_000))
    def test_every_moment_is_ahead_and_within_a_period(
        self, period: float, seed: int, now: float, failures: int
    ) -> None:
        plan = schedule(period, seed)
        for moment in (
            plan.first(now),
            plan.regular(now),
            plan.second_look(now),
            plan.again(now, failures),
        ):
            self.assertTrue(now < moment <= now + period)
            file = evolve(FILE, next_at=moment)
            self.assertFalse(plan.is_due(file, now))
            self.assertTrue(plan.is_due(file, moment))

    @given(periods, seeds, times)
    def test_a_second_look_is_an_hour_later_at_least(
        self, period: float, seed: int, now: float
    ) -> None:
        moment = schedule(period, seed).second_look(now)
        file = evolve(FILE, suspected_at=now)
        found = judge(file, report({0: 0, 1: 1, 2: 2}), None, moment, at_once=False)
        self.assertIs(found, Verdict.REPAIR)

    @given(periods, seeds, times)
    def test_the_more_failures_the_longer_the_wait(
        self, period: float, seed: int, now: float
    ) -> None:
        plan = schedule(period, seed)
        waits = [plan.again(now, n) - now for n in range(1, 12)]
        self.assertLessEqual(waits[0], HOUR + 0.01)
        for shorter, longer in pairwise(waits):
            self.assertGreaterEqual(longer, min(shorter, 0.75 * period) - 0.01)
        self.assertGreaterEqual(waits[-1], 0.7 * period)

    @given(periods, seeds, st.integers(1, 30), st.floats(-1e9, 1e9))
    def test_whatever_the_clock_does_a_file_is_due_within_a_period(
        self, period: float, seed: int, looks: int, jump: float
    ) -> None:
        """Also after the clock was ahead or behind, and after the period was shortened."""
        plan = schedule(period, seed)
        now = 2e9
        file = evolve(FILE, next_at=plan.first(now))
        for _ in range(looks):
            now = file.next_at
            file = evolve(file, next_at=plan.regular(now))
        now += jump
        shorter = schedule(DAY, seed)
        for each in (plan, shorter):
            self.assertTrue(
                each.is_due(file, now) or each.is_due(file, now + each.period + HOUR + 1)
            )

    @given(periods, seeds)
    def test_the_work_is_spread_over_the_period(self, period: float, seed: int) -> None:
        """A thousand files that were put at once: no tenth of a period gets the fifth of them."""
        plan = schedule(period, seed)
        moments = [plan.first(0.0) for _ in range(1000)]
        tenths = [int(moment / period * 10) for moment in moments]
        self.assertLess(max(tenths.count(n) for n in range(10)), 200)

    @given(periods, seeds)
    def test_a_year_of_looks(self, period: float, seed: int) -> None:
        """Restarts lose nothing, looks are a period apart at most, and not much less."""
        plan = schedule(period, seed)
        now, looks = 0.0, 0
        next_at = plan.first(now)
        while next_at < 365 * DAY:
            self.assertLessEqual(next_at - now, period)
            now, next_at = next_at, plan.regular(next_at)
            looks += 1
        self.assertLessEqual(looks, 365 * DAY / period / 0.85 + 1)

    def test_when_every_byte_is_read(self) -> None:
        plan = schedule(7 * DAY, 1)
        file = evolve(FILE, next_at=NOW)
        asked = [plan.wants_verify(evolve(file, unverified=n), NOW) for n in range(5)]
        self.assertEqual(asked, [False, False, False, True, True])
        late = NOW + 2 * DAY
        self.assertFalse(plan.wants_verify(evolve(file, unverified=3), late))
        rotten = evolve(file, bad=1, failures=1)
        self.assertTrue(plan.wants_verify(rotten, NOW))
        self.assertFalse(plan.wants_verify(evolve(rotten, failures=0), NOW))

    def test_when_leases_are_renewed(self) -> None:
        plan = schedule(7 * DAY, 1)
        for renewed_at, wanted in [
            (None, True),
            (NOW, False),
            (NOW - 3 * DAY, False),
            (NOW - 4 * DAY, True),
            (NOW + DAY, True),
        ]:
            file = evolve(FILE, renewed_at=renewed_at)
            self.assertEqual(plan.wants_renewal(file, NOW), wanted, renewed_at)


class VerdictTests(SynchronousTestCase):
    def judge(
        self,
        found: CheckReport,
        *,
        file: KeptFile = FILE,
        repair_below: int | None = None,
        at_once: bool = False,
    ) -> Verdict:
        return judge(file, found, repair_below, NOW, at_once=at_once)

    def spread(self, count: int, **more: int) -> CheckReport:
        return report({n: n for n in range(count)}, **more)

    def test_happiness_decides(self) -> None:
        self.assertIs(self.judge(self.spread(10)), Verdict.WELL)
        self.assertIs(self.judge(self.spread(7)), Verdict.WELL)
        self.assertIs(self.judge(self.spread(6)), Verdict.SECOND_LOOK)
        clumped = report({n: n % 6 for n in range(10)})
        self.assertIs(self.judge(clumped), Verdict.SECOND_LOOK)

    def test_repair_below_outranks_it(self) -> None:
        self.assertIs(self.judge(self.spread(9), repair_below=10), Verdict.SECOND_LOOK)
        self.assertIs(self.judge(self.spread(10), repair_below=200), Verdict.WELL)
        self.assertIs(self.judge(self.spread(6), repair_below=3), Verdict.WELL)

    def test_half_of_what_is_beyond_need_is_too_few(self) -> None:
        self.assertEqual(least_shares(FILE), 6)
        self.assertIs(self.judge(self.spread(5), repair_below=1), Verdict.SECOND_LOOK)
        for needed, total, least in [(1, 1, 1), (2, 3, 2), (3, 5, 4), (25, 100, 62)]:
            file = evolve(FILE, cap=evolve(CAP, needed=needed, total=total))
            self.assertEqual(least_shares(file), least)

    def test_the_second_look_may_repair(self) -> None:
        for suspected_at, verdict in [
            (NOW, Verdict.SECOND_LOOK),
            (NOW - HOUR + 1, Verdict.SECOND_LOOK),
            (NOW - HOUR, Verdict.REPAIR),
            (NOW - 9 * DAY, Verdict.REPAIR),
            (NOW + 9 * DAY, Verdict.SECOND_LOOK),
        ]:
            file = evolve(FILE, suspected_at=suspected_at)
            self.assertIs(self.judge(self.spread(4), file=file), verdict, suspected_at)

    def test_told_to_it_needs_no_second_look(self) -> None:
        self.assertIs(self.judge(self.spread(4), at_once=True), Verdict.REPAIR)
        self.assertIs(self.judge(self.spread(8), at_once=True), Verdict.WELL)

    def test_absence_is_no_loss(self) -> None:
        for at_once in (False, True):
            found = self.spread(4, answered=6)
            self.assertIs(self.judge(found, at_once=at_once), Verdict.TOO_FEW_SERVERS)
            self.assertIs(
                self.judge(self.spread(2, answered=6), at_once=at_once), Verdict.TOO_FEW_SERVERS
            )
        self.assertIs(self.judge(self.spread(7, answered=6)), Verdict.WELL)

    def test_absence_for_long_is_loss(self) -> None:
        gone = evolve(FILE, skips=MOST_SKIPS)
        few = self.spread(4, answered=6)
        self.assertIs(
            self.judge(few, file=evolve(gone, skips=MOST_SKIPS - 1)), Verdict.TOO_FEW_SERVERS
        )
        self.assertIs(self.judge(few, file=gone), Verdict.REPAIR)
        self.assertIs(self.judge(self.spread(2, answered=6), file=gone), Verdict.LOST)
        # Once they are back, what is missing has its second look.
        self.assertIs(self.judge(self.spread(4, answered=7), file=gone), Verdict.SECOND_LOOK)

    def test_long_is_more_than_some_days(self) -> None:
        for seed in range(20):
            plan = schedule(7 * DAY, seed)
            waits = [plan.again(0.0, times) for times in range(1, MOST_SKIPS + 1)]
            self.assertGreater(sum(waits), 7 * DAY)
            self.assertLess(sum(waits), 12 * DAY)

    def test_lost(self) -> None:
        self.assertIs(self.judge(self.spread(2, answered=7)), Verdict.LOST)

    def test_damage_is_a_fact(self) -> None:
        self.assertIs(self.judge(self.spread(9, bad=1)), Verdict.REPAIR)
        self.assertIs(self.judge(self.spread(2, bad=1)), Verdict.LOST)
        self.assertIs(self.judge(self.spread(9, bad=1, answered=6)), Verdict.WELL)

    @given(
        st.dictionaries(st.integers(0, 9), st.integers(0, 11)),
        st.integers(0, 12),
        st.integers(0, 3),
        st.none() | st.integers(1, 256),
        st.none() | st.floats(0, 2e6),
        st.booleans(),
    )
    def test_what_always_holds(
        self,
        good: dict[int, int],
        answered: int,
        bad: int,
        repair_below: int | None,
        suspected_at: float | None,
        at_once: bool,
    ) -> None:
        assume(len(set(good.values())) <= answered)
        found = report(good, answered=answered, bad=bad)
        file = evolve(FILE, suspected_at=suspected_at)
        verdict = self.judge(found, file=file, repair_below=repair_below, at_once=at_once)
        if verdict is Verdict.REPAIR:
            self.assertGreaterEqual(answered, FILE.happy)
            self.assertTrue(found.recoverable)
            self.assertTrue(bad or falls_short(file, found, repair_below))
            self.assertTrue(bad or at_once or suspected_at is not None)
        if verdict is Verdict.WELL and not bad:
            self.assertFalse(falls_short(file, found, repair_below))
        if verdict is Verdict.SECOND_LOOK:
            self.assertFalse(at_once)
