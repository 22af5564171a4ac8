"""Silence and progress: pings at sixty seconds, dead at ninety, stuck at sixty."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands.session import Ping
from ampgrid.errors import CallTimeoutError, NotConnectedError
from ampgrid.wire import Limits
from ampgrid.wire.network import SessionResponder
from tests.wire.kit import Bare, Echo, Hold, Pair, ask_box


class SilenceTest(SynchronousTestCase):
    def test_a_ping_after_a_minute_of_silence_and_not_before(self) -> None:
        bare = Bare()
        bare.clock.advance(59.9)
        self.assertEqual(bare.raw.received, b"")
        bare.clock.advance(0.2)
        (ping,) = bare.raw.boxes()
        self.assertEqual(ping[b"_command"], b"Ping")

    def test_one_ping_at_a_time(self) -> None:
        bare = Bare()
        bare.clock.advance(89.9)
        self.assertEqual(len(bare.raw.boxes()), 1)

    def test_dead_after_ninety_seconds_and_not_before(self) -> None:
        bare = Bare()
        bare.send(b"\0")
        bare.clock.advance(89.9)
        self.assertTrue(bare.connection.connected)
        bare.clock.advance(0.2)
        self.assertEqual(bare.aborts, ["no byte came for too long"])
        bare.clock.advance(1)
        self.assertIsNotNone(bare.raw.lost)

    def test_any_byte_is_a_sign_of_life(self) -> None:
        """A slow box of another call counts, though no ping is answered."""
        bare = Bare()
        for byte in ask_box(b"Echo", data=b"slow"):
            bare.clock.advance(80)
            bare.send(bytes([byte]))
            self.assertTrue(bare.connection.connected)
        self.assertEqual(bare.recorder.calls, [("echo", b"slow")])

    def test_a_ping_that_is_answered_keeps_it_up_for_a_day(self) -> None:
        pair = Pair()
        for end in (pair.left, pair.right):
            end.serve(SessionResponder())
        pair.clock.advance(86_400)
        self.assertTrue(pair.left.connected)
        self.assertTrue(pair.right.connected)

    def test_a_ping_that_is_unhandled_is_answered_too(self) -> None:
        pair = Pair()
        pair.clock.advance(3_600)
        self.assertTrue(pair.left.connected)

    def test_an_end_that_only_reads_is_not_taken_for_dead(self) -> None:
        """It hears bytes all the time, and says something once a minute nevertheless."""
        bare = Bare()
        for _ in range(299):
            bare.send(ask_box(b"Unknown")[:1])
            bare.clock.advance(1)
            bare.connection._parser._buffer.clear()
        self.assertEqual([box[b"_command"] for box in bare.raw.boxes()], [b"Ping"] * 4)

    def test_no_ping_before_hello(self) -> None:
        bare = Bare()
        bare.connection._open = False
        bare.clock.advance(89)
        self.assertEqual(bare.raw.received, b"")

    def test_a_silent_peer_that_holds_all_credits_is_found_dead_as_well(self) -> None:
        bare = Bare(Limits(calls=2))
        asked = [
            Deferred.fromCoroutine(bare.connection.call(Hold, number=n, deadline=None))
            for n in range(5)
        ]
        bare.clock.advance(91)
        for each in asked:
            self.failureResultOf(each, NotConnectedError)

    def test_a_black_hole_is_found(self) -> None:
        """Nothing passes any more, either way, and nobody is told."""
        pair = Pair()
        for end in (pair.left, pair.right):
            end.serve(SessionResponder())
        pair.clock.advance(1_000)
        pair.left_pipe.stopped = pair.right_pipe.stopped = True
        pair.clock.advance(91)
        self.assertFalse(pair.left.connected)
        self.assertFalse(pair.right.connected)


class StuckTest(SynchronousTestCase):
    def test_stuck_after_a_minute_without_progress(self) -> None:
        """The peer lives, and sends, but takes nothing of what is queued for it."""
        bare = Bare()
        bare.pipe.stopped = True
        bare.send(*[ask_box(b"Echo", tag=b"%d" % n, data=bytes(60_000)) for n in range(4)])
        for _ in range(59):
            bare.clock.advance(1)
            bare.send(b"")
        bare.raw_pipe.write(ask_box(b"Unknown"))
        bare.clock.advance(0.9)
        self.assertTrue(bare.connection.connected)
        bare.clock.advance(0.2)
        self.assertEqual(bare.aborts, ["the peer takes nothing of what is queued"])

    def test_stuck_even_when_the_transport_has_all_of_it(self) -> None:
        bare = Bare()
        bare.pipe.stopped = True
        bare.send(*[ask_box(b"Echo", tag=b"%d" % n, data=bytes(60_000)) for n in range(2)])
        self.assertFalse(bare.connection._serving.can_send())
        bare.clock.advance(61)
        self.assertEqual(bare.aborts, ["the peer takes nothing of what is queued"])

    def test_slow_progress_is_progress(self) -> None:
        pair = Pair()
        pair.right_pipe.stopped = True
        asked = [pair.ask(Echo, data=bytes(60_000), deadline=None) for _ in range(10)]
        while not all(each.called for each in asked):
            pair.clock.advance(50)
            self.assertTrue(pair.right.connected)
            pair.right_pipe.stopped = False
            pair.right_pipe._move()  # one segment
            pair.right_pipe.stopped = True
        self.assertGreater(pair.clock.seconds(), 1_000_000 + 400)
        self.assertTrue(pair.right.connected)
        for each in asked:
            self.assertEqual(len(self.successResultOf(each)["data"]), 60_000)


class DeadlineTest(SynchronousTestCase):
    def test_a_deadline_is_kept_to_the_second(self) -> None:
        pair = Pair()
        asking = pair.ask(Hold, number=1, deadline=7)
        pair.clock.advance(6.9)
        self.assertNoResult(asking)
        pair.clock.advance(0.2)
        self.failureResultOf(asking, CallTimeoutError)
        self.assertTrue(pair.left.connected)

    def test_the_default_is_a_minute(self) -> None:
        pair = Pair()
        asking = pair.ask(Hold, number=1)
        pair.clock.advance(60.1)
        self.failureResultOf(asking, CallTimeoutError)

    def test_without_one_a_call_waits(self) -> None:
        pair = Pair()
        for end in (pair.left, pair.right):
            self.assertEqual(end.limits.dead_seconds, 90)
        asking = pair.ask(Hold, number=1, deadline=None)
        pair.clock.advance(10_000)
        pair.right_recorder.let_go(1)
        self.assertEqual(pair.clock.run(asking)["number"], 1)

    def test_pings_do_not_keep_a_call_alive(self) -> None:
        pair = Pair()
        asking = pair.ask(Hold, number=1, deadline=70)
        pair.clock.advance(60.5)
        Deferred.fromCoroutine(pair.right.call(Ping)).addErrback(lambda _: None)
        pair.clock.advance(10)
        self.failureResultOf(asking, CallTimeoutError)
