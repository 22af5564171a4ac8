"""Work in the reactor's thread: how much of its time that can take."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.storage.promptness import QUICK_SECONDS, REST, Promptness


class PromptnessTests(SynchronousTestCase):
    def setUp(self):
        self.now = 0.0
        self.prompt = Promptness(lambda: self.now)

    def work(self, seconds):
        self.now += seconds
        return "done"

    def attempt(self, seconds):
        return self.prompt.attempt(lambda: self.work(seconds))

    def test_quick_work_is_done_again_and_again(self):
        self.assertEqual({self.attempt(QUICK_SECONDS / 2) for _ in range(100)}, {"done"})

    def test_slow_work_is_done_and_then_none_for_a_while(self):
        self.assertEqual(self.attempt(0.25), "done")
        self.assertIsNone(self.attempt(0))
        self.now = 0.25 + 0.25 * REST - 0.125
        self.assertIsNone(self.attempt(0))
        self.now += 0.25
        self.assertEqual(self.attempt(0), "done")

    def test_work_that_fails_slowly_counts_too(self):
        def fail():
            self.now += 1
            raise ValueError

        with self.assertRaises(ValueError):
            self.prompt.attempt(fail)
        self.assertIsNone(self.attempt(0))

    def test_slow_work_takes_no_more_than_its_part(self):
        @given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), max_size=50))
        def check(steps):
            self.setUp()
            slow = last = 0.0
            for pause, seconds in steps:
                self.now += pause
                if self.attempt(seconds) and seconds > QUICK_SECONDS:
                    slow, last = slow + seconds, seconds
            self.assertLessEqual((slow - last) * REST, self.now + 1e-6)

        check()
