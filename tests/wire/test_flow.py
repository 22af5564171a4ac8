"""Credits, fairness and the bounds on what a peer can make this end hold."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands.session import Ping
from ampgrid.errors import NotConnectedError
from ampgrid.testing import pipes
from ampgrid.wire import Connection, Limits, boxes
from ampgrid.wire.network import Roles, SessionResponder
from tests.wire.kit import Bare, Echo, Hold, Pair, ask_box


class TogetherTest(SynchronousTestCase):
    """What came together is answered together."""

    def test_small_answers_are_one_write(self) -> None:
        bare = Bare()
        came: list[int] = []
        bare.raw.dataReceived = lambda data: came.append(len(data))  # type: ignore[method-assign]
        calls = b"".join(ask_box(b"Echo", tag=b"%d" % n, data=b"x") for n in range(20))
        bare.send(calls)
        bare.clock.advance(1)
        self.assertEqual(len(bare.recorder.calls), 20)
        self.assertEqual(len(came), 1)

    def test_all_are_answered_in_order_whatever_their_size(self) -> None:
        bare = Bare()
        sizes = [1, 5_000, 1, 1, 60_000, 4_096, 1, 3_000, 3_000, 3_000, 1]
        calls = b"".join(
            ask_box(b"Echo", tag=b"%d" % n, data=bytes(size)) for n, size in enumerate(sizes)
        )
        bare.send(calls)
        bare.clock.advance(1)
        answered = {box[boxes.ANSWER]: len(box[b"data"]) for box in bare.raw.boxes()}
        self.assertEqual(answered, {b"%d" % n: size for n, size in enumerate(sizes)})


class CreditTest(SynchronousTestCase):
    """A caller never exceeds what the other end has announced."""

    def test_calls_in_flight(self) -> None:
        pair = Pair(right_limits=Limits(calls=4))
        asked = [pair.ask(Hold, number=number) for number in range(50)]
        served = 0
        while served < 50:
            pair.clock.advance(1)
            held = sorted(pair.right_recorder.held)
            self.assertEqual(len(held), min(4, 50 - served))
            pair.right_recorder.let_go(held[0])
            served += 1
        pair.clock.run(gatherResults(asked))

    def test_bytes_in_flight(self) -> None:
        pair = Pair(right_limits=Limits(bytes=200_000))
        for number in range(50):
            pair.ask(Hold, number=number, data=bytes(60_000))
        pair.clock.advance(1)
        self.assertEqual(len(pair.right_recorder.calls), 3)
        pair.right_recorder.let_go(0)
        pair.clock.advance(1)
        self.assertEqual(len(pair.right_recorder.calls), 4)
        self.assertTrue(pair.right.connected)

    def test_small_calls_go_on_while_there_is_no_credit_for_large_ones(self) -> None:
        pair = Pair(right_limits=Limits(bytes=200_000))
        for number in range(10):
            pair.ask(Hold, number=number, data=bytes(60_000), operation="bulk")
        for _ in range(20):
            asking = pair.ask(Echo, data=b"small")
            self.assertEqual(pair.clock.run(asking), {"data": b"small"})
        self.assertEqual(len(pair.right_recorder.held), 3)

    def test_a_small_call_waits_its_turn_for_credit_only(self) -> None:
        """Credit for calls that are given back lets small and large ones go on in turn."""
        pair = Pair(right_limits=Limits(calls=2))
        for number in range(6):
            pair.ask(Hold, number=number, data=bytes(60_000), operation="bulk")
        pinging = pair.ask(Echo, data=b"")
        pair.clock.advance(1)
        pair.right_recorder.let_go(0)
        self.assertEqual(pair.clock.run(pinging), {"data": b""})

    @settings(deadline=None, max_examples=60)
    @given(
        st.integers(1, 8),
        st.integers(72 * 1024, 300_000),
        st.lists(
            st.tuples(st.booleans(), st.sampled_from([0, 100, 5_000, 65_000]), st.integers(0, 3)),
            max_size=60,
        ),
        st.data(),
    )
    def test_never_more_than_announced(
        self, calls: int, size: int, work: list[tuple[bool, int, int]], data: st.DataObject
    ) -> None:
        """The receiving end aborts an excess, so a connection that stays shows that none was."""
        pair = Pair(Limits(calls=calls, bytes=size), Limits(calls=calls, bytes=size))
        recorders = {True: pair.right_recorder, False: pair.left_recorder}
        done: list[Any] = []
        for number, (to_right, length, operation) in enumerate(work):
            end = pair.left if to_right else pair.right
            asking = Deferred.fromCoroutine(
                end.call(Hold, number=number, data=bytes(length), operation=operation)
            )
            asking.addCallback(done.append)
        while len(done) < len(work):
            pair.clock.advance(0.01)
            for end in (pair.left, pair.right):
                self.assertTrue(end.connected)
                self.assertLessEqual(end._serving.flying_calls, calls)
                self.assertLessEqual(end._serving.flying_bytes, size)
            held = [(side, n) for side, each in recorders.items() for n in each.held]
            if held:
                side, number = data.draw(st.sampled_from(held))
                recorders[side].let_go(number, bytes(100))
        for end in (pair.left, pair.right):
            self.assertEqual((end._calls.flying_calls, end._calls.flying_bytes), (0, 0))
            self.assertEqual((end._serving.flying_calls, end._serving.flying_bytes), (0, 0))


class ExcessTest(SynchronousTestCase):
    """A peer that asks more than it may is aborted."""

    def test_one_call_too_many(self) -> None:
        bare = Bare(Limits(calls=3))
        calls = [ask_box(b"Hold", tag=b"%d" % n, number=b"%d" % n) for n in range(4)]
        bare.send(*calls[:3])
        self.assertTrue(bare.connection.connected)
        bare.send(calls[3])
        self.assertEqual(bare.aborts, ["more calls in flight than this end takes"])
        self.assertEqual(len(bare.recorder.calls), 3)

    def test_one_byte_too_many(self) -> None:
        call = ask_box(b"Hold", number=b"1", data=bytes(60_000))
        for over in (0, 1):
            bare = Bare(Limits(bytes=3 * len(call) - over))
            bare.send(call, call, call)
            self.assertEqual(bare.connection.connected, not over)

    def test_unknown_commands_count_as_well(self) -> None:
        bare = Bare(Limits(calls=3))
        bare.pipe.stopped = True
        filling = ask_box(b"Echo", data=bytes(65_000))
        bare.send(filling, filling)
        bare.send(*[ask_box(b"Unknown")] * 4)
        self.assertEqual(len(bare.aborts), 1)

    def test_answers_that_are_not_read_use_the_credit_up(self) -> None:
        """A hundred thousand calls without reading one answer."""
        bare = Bare()
        bare.pipe.stopped = True
        call = ask_box(b"Echo", data=bytes(1_000))
        most = sent = 0
        while sent < 100_000:
            sent += 1
            bare.send(call)
            most = max(most, bare.pipe.queued_bytes + bare.connection._serving.flying_bytes)
            if not bare.connection.connected:
                break
        self.assertLess(sent, 200)
        self.assertLess(most, pipes.HIGH_WATER + 2**20)

    def test_large_answers_that_are_not_read(self) -> None:
        """What waits is bounded by the number of calls, a box each."""
        bare = Bare()
        bare.pipe.stopped = True
        for number in range(100):
            bare.send(ask_box(b"Hold", number=b"%d" % number))
            if number in bare.recorder.held:
                bare.recorder.let_go(number, bytes(65_000))
        self.assertFalse(bare.connection.connected)
        self.assertLessEqual(len(bare.recorder.calls), 32 + 2)

    def test_after_the_abort_nothing_is_held(self) -> None:
        bare = Bare()
        bare.pipe.stopped = True
        bare.send(*[ask_box(b"Echo", data=bytes(30_000))] * 40)
        self.assertFalse(bare.connection.connected)
        self.assertEqual(len(bare.connection._serving._answers), 0)
        self.assertEqual(bare.connection._serving._answers.size_bytes, 0)


class FairnessTest(SynchronousTestCase):
    """One operation cannot keep the others from their turn."""

    #: Boxes that may be ahead of a small one: what the transport holds already, and one turn.
    ahead = pipes.HIGH_WATER // 65_000 + 3

    def setUp(self) -> None:
        self.pair = Pair(latency=0.005)
        self.clock = self.pair.clock
        for end in (self.pair.left, self.pair.right):
            recorder = self.pair.left_recorder if end is self.pair.left else None
            end.serve(Roles(SessionResponder(), recorder or self.pair.right_recorder))

    def transfer(self, end: Connection) -> list[Deferred[Any]]:
        """Ten megabytes from one end, as one operation."""
        return [
            Deferred.fromCoroutine(end.call(Echo, data=bytes(65_000), operation="bulk"))
            for _ in range(160)
        ]

    def bulk_during(self, pinging: Deferred[Any]) -> int:
        """How many bulk boxes are served until a ping is answered."""
        calls = self.pair.left_recorder.calls, self.pair.right_recorder.calls
        before = sum(map(len, calls))
        self.clock.run(pinging)
        return sum(map(len, calls)) - before

    def test_a_ping_behind_a_transfer(self) -> None:
        bulk = self.transfer(self.pair.left)
        self.clock.advance(0.05)
        for end in (self.pair.left, self.pair.right):
            ahead = self.bulk_during(Deferred.fromCoroutine(end.call(Ping)))
            self.assertLessEqual(ahead, 2 * self.ahead)
        self.assertTrue(any(not each.called for each in bulk), "the transfer was over too soon")
        self.clock.run(gatherResults(bulk))

    def test_a_ping_while_both_ends_transfer(self) -> None:
        bulk = self.transfer(self.pair.left) + self.transfer(self.pair.right)
        self.clock.advance(0.05)
        for _ in range(3):
            ahead = self.bulk_during(self.pair.ask(Ping))
            self.assertLessEqual(ahead, 4 * self.ahead)
        self.assertTrue(any(not each.called for each in bulk))
        self.clock.run(gatherResults(bulk))

    def sent_after_a_stop(self, bare: Bare) -> list[dict[bytes, bytes]]:
        bare.pipe.let_go()
        bare.clock.advance(1)
        return bare.raw.boxes()

    def test_a_small_call_among_large_answers(self) -> None:
        bare = Bare()
        bare.pipe.stopped = True
        bare.send(*[ask_box(b"Echo", tag=b"%d" % n, data=bytes(60_000)) for n in range(15)])
        Deferred.fromCoroutine(bare.connection.call(Ping))
        sent = self.sent_after_a_stop(bare)
        self.assertEqual(len(sent), 16)
        place = [box.get(boxes.COMMAND) for box in sent].index(b"Ping")
        self.assertLessEqual(place, self.ahead)

    def test_a_small_answer_among_large_calls(self) -> None:
        bare = Bare()
        bare.pipe.stopped = True
        for _ in range(15):
            Deferred.fromCoroutine(bare.connection.call(Echo, data=bytes(60_000)))
        bare.send(ask_box(b"Echo", data=b"x"))
        sent = self.sent_after_a_stop(bare)
        self.assertEqual(len(sent), 16)
        place = [box.get(boxes.ANSWER) for box in sent].index(b"1")
        self.assertLessEqual(place, self.ahead)

    def test_two_transfers_share(self) -> None:
        for number in range(40):
            for operation in ("a", "b"):
                data = operation.encode() * 65_000
                self.pair.ask(Echo, data=data, operation=operation)
                if not number:
                    continue
        self.clock.advance(0.2)
        served = [data[:1] for _name, data in self.pair.right_recorder.calls]
        self.assertGreater(len(served), 20)
        self.assertLessEqual(abs(served.count(b"a") - served.count(b"b")), 1)

    def test_both_ends_full_of_calls_do_not_wait_for_each_other(self) -> None:
        """Reading never pauses, so two ends that both send all they can still finish."""
        work = self.transfer(self.pair.left) + self.transfer(self.pair.right)
        self.clock.run(gatherResults(work), within=600)
        self.assertTrue(self.pair.left.connected)


class PartialBoxTest(SynchronousTestCase):
    def test_an_endless_box_of_an_unknown_command_is_not_kept(self) -> None:
        bare = Bare()
        start = b"\0\4_ask\0\0011\0\x08_command\0\1?"
        bare.send(start + b"\0\1a\xff\xff")
        for _ in range(6):
            bare.send(bytes(10_000))
            self.assertLess(bare.connection._parser.buffered_bytes, 70_000)
            self.assertEqual(len(bare.connection._parser._buffer), 0)

    def test_endless_keys(self) -> None:
        bare = Bare()
        bare.send(b"\0\4_ask\0\0011\0\x08_command\0\4Echo")
        for number in range(20):
            bare.send(b"\0\3k%02d\0\0" % number)
        self.assertEqual(bare.aborts, ["a box has a key twice, or too many keys"])

    def test_an_endless_box(self) -> None:
        bare = Bare()
        bare.send(b"\0\4_ask\0\0011\0\x08_command\0\4Echo\0\1a\xff\xff" + bytes(65_535))
        bare.send(b"\0\1b\xff\xff")
        self.assertEqual(bare.aborts, ["a box is larger than allowed"])
        self.assertLess(bare.connection._parser.buffered_bytes, boxes.MAX_BOX_BYTES)


class LossTest(SynchronousTestCase):
    def test_what_waits_for_credit_fails_with_the_connection(self) -> None:
        pair = Pair(right_limits=Limits(calls=1))
        asked = [pair.ask(Hold, number=number) for number in range(5)]
        pair.clock.advance(1)
        pair.right.abort("enough")
        pair.clock.advance(1)
        for each in asked:
            self.failureResultOf(each, NotConnectedError)
