"""The store's own time: never ahead of what has passed, never backwards, whatever clocks say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.store.timekeeping import CALM_SECONDS, TOLERANCE_SECONDS, StoreClock, begin

NOW = 1_800_000_000
YEAR = 365 * 86_400


class Clocks:
    def __init__(self, wall=NOW):
        self.wall_now = float(wall)
        self.monotonic_now = 500.0

    def wall(self):
        return self.wall_now

    def monotonic(self):
        return self.monotonic_now

    def pass_(self, seconds):
        self.wall_now += seconds
        self.monotonic_now += seconds


class BeginTests(SynchronousTestCase):
    def test_a_new_store_takes_the_wall_clock(self):
        beginning = begin(None, NOW + 0.9)
        self.assertEqual((beginning.now, beginning.surprised), (NOW, False))

    def test_time_between_does_not_count_and_much_of_it_is_a_surprise(self):
        for gap in (0, 5, TOLERANCE_SECONDS, TOLERANCE_SECONDS + 1, 10 * YEAR):
            for sign in (1, -1):
                beginning = begin(NOW, NOW + sign * gap)
                self.assertEqual(beginning.now, NOW)
                self.assertEqual(beginning.surprised, gap > TOLERANCE_SECONDS)


class StoreClockTests(SynchronousTestCase):
    def start(self, latest=NOW):
        self.clocks = Clocks()
        self.time = StoreClock(
            begin(latest, self.clocks.wall()), self.clocks.wall, self.clocks.monotonic
        )

    def test_it_goes_on_with_the_monotonic_clock(self):
        self.start()
        self.clocks.pass_(1234.5)
        self.assertEqual(self.time.now(), NOW + 1234)
        self.assertEqual(self.time.behind_seconds, 0)

    def test_a_jump_moves_nothing_and_pauses(self):
        for jump in (TOLERANCE_SECONDS + 1, -TOLERANCE_SECONDS - 1, 10 * YEAR, -10 * YEAR):
            self.start()
            self.clocks.pass_(60)
            self.clocks.wall_now += jump
            self.assertTrue(self.time.look())
            self.assertEqual(self.time.now(), NOW + 60)
            self.assertEqual(self.time.paused_seconds, CALM_SECONDS)
            self.assertEqual((self.time.jumps, self.time.behind_seconds), (1, jump))
            self.clocks.pass_(CALM_SECONDS - 1)
            self.assertFalse(self.time.look())
            self.assertEqual(self.time.paused_seconds, 1)
            self.clocks.pass_(1)
            self.assertEqual(self.time.paused_seconds, 0)

    def test_jumping_back_is_a_jump_too(self):
        self.start()
        self.clocks.wall_now += YEAR
        self.time.look()
        self.clocks.pass_(CALM_SECONDS - 10)
        self.clocks.wall_now -= YEAR
        self.assertTrue(self.time.look())
        self.assertEqual(self.time.paused_seconds, CALM_SECONDS)

    def test_small_corrections_are_no_jumps(self):
        self.start()
        for _ in range(100):
            self.clocks.pass_(60)
            self.clocks.wall_now += TOLERANCE_SECONDS / 2
            self.assertFalse(self.time.look())
        self.assertEqual(self.time.now(), NOW + 6000)

    def test_a_surprise_at_the_start_pauses(self):
        self.start(latest=NOW - YEAR)
        self.assertEqual(self.time.paused_seconds, CALM_SECONDS)
        self.assertEqual(self.time.now(), NOW - YEAR)
        self.assertEqual(self.time.behind_seconds, YEAR)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["run", "jump", "restart"]), st.floats(0, YEAR), st.booleans()
            )
        )
    )
    def test_never_ahead_of_what_has_passed_and_never_back(self, steps):
        clocks = Clocks()
        passed = 0.0
        time = StoreClock(begin(None, clocks.wall()), clocks.wall, clocks.monotonic)
        before = time.now()
        for what, seconds, negative in steps:
            if what == "run":
                clocks.pass_(seconds)
                passed += seconds
            elif what == "jump":
                clocks.wall_now += -seconds if negative else seconds
                time.look()
            else:
                # Off for a while; what it had seen last was written down a little before.
                latest = time.now()
                clocks.wall_now += seconds
                passed += seconds
                clocks.monotonic_now = 3.0
                time = StoreClock(begin(latest, clocks.wall()), clocks.wall, clocks.monotonic)
            self.assertGreaterEqual(time.now(), before)
            before = time.now()
            self.assertLessEqual(time.now(), NOW + passed)
