"""The queue of what waits to be sent: order within an operation, turns between them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.wire.outbound import (
    SMALL_BYTES,
    SMALL_IN_A_ROW,
    SMALL_WITHOUT_ROOM,
    OutboundQueue,
)

LARGE = 65_000


class OutboundQueueTest(SynchronousTestCase):
    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, LARGE)), max_size=60))
    def test_nothing_is_lost_and_each_operation_keeps_its_order(
        self, pushed: list[tuple[int, int]]
    ) -> None:
        queue: OutboundQueue[tuple[int, int]] = OutboundQueue()
        for number, (operation, size) in enumerate(pushed):
            queue.push(operation, (operation, number), size)
        self.assertEqual(queue.size_bytes, sum(size for _, size in pushed))
        popped = []
        while queue:
            ahead = queue.peek()
            popped.append(queue.pop())
            self.assertEqual(ahead, popped[-1])
        self.assertEqual(queue.size_bytes, 0)
        self.assertIsNone(queue.peek())
        self.assertEqual(len(popped), len(pushed))
        for operation in range(6):
            numbers = [number for which, number in popped if which == operation]
            self.assertEqual(numbers, sorted(numbers))

    def test_small_ones_go_first(self) -> None:
        queue: OutboundQueue[str] = OutboundQueue()
        for number in range(10):
            queue.push("bulk", f"bulk {number}", LARGE)
        queue.push("ping", "ping", SMALL_BYTES)
        self.assertEqual(queue.pop(), "ping")

    def test_large_ones_do_not_starve(self) -> None:
        queue: OutboundQueue[str] = OutboundQueue()
        queue.push("bulk", "bulk", LARGE)
        before = 0
        for number in range(100):
            queue.push(number, "small", 10)
            if queue.pop() == "bulk":
                before = number
                break
        self.assertEqual(before, SMALL_IN_A_ROW)

    def test_small_ones_pass_a_large_one_without_room_for_a_while(self) -> None:
        queue: OutboundQueue[str] = OutboundQueue()
        queue.push("bulk", "bulk", LARGE)
        for number in range(1_000):
            queue.push(number, "small", 10)
        passed = 0
        while queue.peek(1_000) == "small":
            self.assertEqual(queue.pop(1_000), "small")
            passed += 1
        self.assertEqual(passed, SMALL_WITHOUT_ROOM)
        self.assertEqual(queue.pop(LARGE), "bulk")
        self.assertEqual(queue.pop(1_000), "small")

    def test_a_large_one_with_room_gets_its_turn(self) -> None:
        queue: OutboundQueue[str] = OutboundQueue()
        queue.push("bulk", "bulk", LARGE)
        for number in range(20):
            queue.push(number, "small", 10)
        popped = [queue.pop(LARGE) for _ in range(10)]
        self.assertEqual(popped.index("bulk"), SMALL_IN_A_ROW)

    def test_operations_take_turns(self) -> None:
        queue: OutboundQueue[str] = OutboundQueue()
        for operation in "abc":
            for _ in range(3):
                queue.push(operation, operation, LARGE)
        self.assertEqual("".join(queue.pop() for _ in range(9)), "abcabcabc")
