"""Taking turns: how many, how soon, who first, and how fast all together."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.peers.allowance import Allowance
from ampgrid.peers.rotation import (
    CAP_SECONDS,
    FIRST_SECONDS,
    SLOTS,
    TURN_BURST,
    TURN_SECONDS,
    Rotation,
    growing_back_off,
)


class AllowanceTests(SynchronousTestCase):
    """A bucket of turns."""

    def test_a_burst_and_then_one_now_and_then(self):
        clock = Clock()
        allowance = Allowance(3, 10.0, clock)
        self.assertEqual([True] * 3 + [False], [allowance.spend() for _ in range(4)])
        clock.advance(9)
        self.assertFalse(allowance.spend())
        self.assertAlmostEqual(1.0, allowance.seconds_to_next(), places=2)
        clock.advance(allowance.seconds_to_next())
        self.assertEqual((0.0, 1), (allowance.seconds_to_next(), allowance.left()))
        self.assertTrue(allowance.spend())
        clock.advance(1e6)
        self.assertEqual(3, allowance.left())

    def test_what_is_given_back_is_no_more_than_the_burst(self):
        allowance = Allowance(2, 1.0, Clock())
        allowance.give_back()
        self.assertEqual(2, allowance.left())
        allowance.spend()
        allowance.give_back()
        self.assertEqual(2, allowance.left())


def peer(number):
    return b"%020d" % number


class RotationTests(SynchronousTestCase):
    """One rotation under a clock; the peers are numbers."""

    def setUp(self):
        self.clock = Clock()
        self.begun = []
        self.rotation = self.new(slots=2)

    def new(self, **settings):
        return Rotation(
            self.begun.append, clock=self.clock, uniform=lambda low, high: high, **settings
        )

    def end(self, number):
        self.rotation.failed(peer(number), "nobody there")
        self.clock.advance(0)

    def add(self, *numbers):
        for number in numbers:
            self.rotation.add(peer(number))
        self.clock.advance(0)

    def test_the_back_off_grows_up_to_the_cap(self):
        longest = [growing_back_off(n, lambda low, high: high) for n in range(1, 2000)]
        shortest = [growing_back_off(n, lambda low, high: low) for n in range(1, 2000)]
        self.assertEqual([FIRST_SECONDS, 60, 240, 960, CAP_SECONDS], longest[:5])
        self.assertEqual({CAP_SECONDS}, set(longest[4:]))
        self.assertEqual([seconds / 2 for seconds in longest], shortest)

    def test_an_end_of_any_kind_frees_the_slot(self):
        self.add(1, 2, 3, 4, 5)
        self.assertEqual([peer(1), peer(2)], self.begun)
        self.end(1)
        self.assertEqual(peer(3), self.begun[-1])
        self.rotation.connected(peer(2))
        self.clock.advance(0)
        self.assertEqual(peer(4), self.begun[-1])
        self.rotation.remove(peer(3))
        self.clock.advance(0)
        self.assertEqual(peer(5), self.begun[-1])
        self.assertEqual(5, len(self.begun))

    def test_who_failed_least_often_comes_first(self):
        self.add(1, 2)
        self.end(1)
        self.end(2)
        self.add(3, 4)
        self.clock.advance(FIRST_SECONDS)
        self.add(5)
        self.end(3)
        self.assertEqual(peer(5), self.begun[-1])

    def test_a_newcomer_does_not_wait_behind_those_that_came_before(self):
        """Thousands fill the slots and use up the allowance; at worst it waits for one turn."""
        self.rotation = self.new()
        for number in range(3000):
            self.rotation.add(peer(number))
        done = 0
        for _ in range(100):
            self.clock.advance(1)
            while done < len(self.begun):
                self.rotation.failed(self.begun[done], "no")
                done += 1
        self.rotation.add(peer(5000))
        self.clock.advance(0)
        self.clock.advance(TURN_SECONDS + 0.01)
        self.assertEqual(peer(5000), self.begun[done])

    def test_an_announcement_shortens_the_wait_less_and_less(self):
        self.add(1)
        for failures, seconds in ((1, 15), (2, 30), (3, 45), (10, 150)):
            while self.rotation.failures(peer(1)) < failures:
                self.clock.advance(CAP_SECONDS)
                self.end(1)
            begun = len(self.begun)
            self.clock.advance(seconds - 1.5)
            self.add(1, 1, 1)
            self.clock.advance(1)
            self.assertEqual(begun, len(self.begun))
            self.clock.advance(0.5)
            self.assertEqual(begun + 1, len(self.begun))

    def test_the_connected_have_no_turns_until_they_are_gone(self):
        self.add(1)
        self.rotation.connected(peer(1))
        self.add(1)
        self.clock.advance(1e5)
        self.assertEqual([peer(1)], self.begun)
        self.rotation.disconnected(peer(1))
        self.clock.advance(2.9)
        self.assertEqual([peer(1)], self.begun)
        self.clock.advance(0.1)
        self.assertEqual([peer(1)] * 2, self.begun)

    def test_all_together_are_no_faster_than_the_allowance(self):
        """Thousands that fail at once; those that are reached cost nothing."""
        self.rotation = self.new()
        for number in range(3000):
            self.rotation.add(peer(number))
        seconds = 120
        done = 0
        for _ in range(seconds * 4):
            self.clock.advance(0.25)
            while done < len(self.begun):
                self.rotation.failed(self.begun[done], "no")
                done += 1
        most = TURN_BURST + seconds / TURN_SECONDS
        self.assertTrue(most - 2 <= len(self.begun) <= most, len(self.begun))
        self.assertEqual(len(self.begun), len(set(self.begun)))
        self.rotation = self.new()
        self.begun.clear()
        for number in range(3000):
            self.rotation.add(peer(number))
        done = 0
        while done < 3000:
            self.clock.advance(0)
            self.assertLessEqual(len(self.begun) - done, SLOTS)
            while done < len(self.begun):
                self.rotation.connected(self.begun[done])
                done += 1
        self.assertEqual(3000, len(self.begun))

    def test_five_hundred_of_which_half_are_dead_are_tried_in_a_minute(self):
        """Of the dead each takes 8 seconds."""
        self.rotation = self.new()
        for number in range(500):
            self.rotation.add(peer(number))
        started = {}
        for _ in range(60):
            self.clock.advance(0)
            for node_id in self.begun:
                if node_id not in started:
                    started[node_id] = self.clock.seconds()
                    if int(node_id) % 2:
                        self.clock.callLater(8, self.rotation.failed, node_id, "timeout")
                    else:
                        self.rotation.connected(node_id)
            self.clock.advance(1)
        self.assertEqual(500, len(started))

    def test_after_the_stop_nothing_is_left(self):
        self.add(*range(10))
        self.rotation.stop()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertNotIn(peer(1), self.rotation)

    @given(st.integers(0, 2**32))
    @settings(deadline=None, max_examples=50)
    def test_whatever_happens_no_slot_is_lost_or_given_twice(self, seed):
        chance = random.Random(seed)
        clock, trying = Clock(), set()

        def begin(node_id):
            self.assertNotIn(node_id, trying)
            trying.add(node_id)
            self.assertLessEqual(len(trying), 3)

        rotation = Rotation(begin, clock=clock, uniform=chance.uniform, slots=3)
        for _ in range(150):
            node_id = peer(chance.randrange(8))
            step = chance.randrange(6)
            if step == 0:
                rotation.add(node_id)
            elif step == 1:
                rotation.remove(node_id)
                trying.discard(node_id)
            elif step == 2 and node_id in trying:
                trying.discard(node_id)
                rotation.failed(node_id, "no")
            elif step == 3 and node_id in rotation:
                trying.discard(node_id)
                rotation.connected(node_id)
            elif step == 4 and node_id in rotation and node_id not in trying:
                rotation.disconnected(node_id)
            else:
                clock.advance(chance.choice([0, 1, 100]))
        for number in range(8):
            rotation.remove(peer(number))
        trying.clear()
        for number in range(8):
            rotation.add(peer(number))
        clock.advance(5000)
        self.assertEqual(3, len(trying))
