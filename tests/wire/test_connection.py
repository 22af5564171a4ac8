"""A connection: calls, answers, errors, and its two ways to end."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import globalLogPublisher
from twisted.protocols import amp
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands import control, errors, storage
from ampgrid.commands.session import Ping
from ampgrid.errors import CallTimeoutError, NotConnectedError, RemoteProtocolError
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.pipes import join
from ampgrid.wire import Connection, Limits, boxes
from tests.wire.kit import Bare, Break, Echo, Hold, Pair, Recorder, ask_box


class LogCatching(SynchronousTestCase):
    """Keeps what is logged in a test."""

    def setUp(self) -> None:
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def logged(self, words: str) -> list[dict[str, Any]]:
        return [event for event in self.events if words in str(event.get("log_format"))]


class CallTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.pair = Pair()
        self.clock = self.pair.clock

    def test_a_call_is_answered(self) -> None:
        answer = self.clock.run(self.pair.left.call(Echo, data=b"abc"))
        self.assertEqual(answer, {"data": b"abc"})

    def test_either_end_may_call(self) -> None:
        answer = self.clock.run(self.pair.right.call(Echo, data=b"abc"))
        self.assertEqual(answer, {"data": b"abc"})

    def test_the_shape_of_stock_amp(self) -> None:
        answering = self.pair.left.callRemote(Echo, data=b"abc")
        self.assertEqual(self.clock.run(answering), {"data": b"abc"})

    def test_answers_come_in_any_order(self) -> None:
        first, second = (self.pair.ask(Hold, number=number) for number in (1, 2))
        self.clock.advance(1)
        self.pair.right_recorder.let_go(2)
        self.assertEqual(self.clock.run(second)["number"], 2)
        self.assertNoResult(first)
        self.pair.right_recorder.let_go(1)
        self.assertEqual(self.clock.run(first)["number"], 1)

    def test_no_call_before_there_is_a_connection_and_after(self) -> None:
        lonely = Connection(self.clock)
        with self.assertRaises(NotConnectedError):
            self.clock.run(lonely.call(Ping))
        self.pair.left.abort("enough")
        with self.assertRaises(NotConnectedError):
            self.clock.run(self.pair.left.call(Ping))

    def test_a_call_that_does_not_fit_into_a_box_harms_nobody(self) -> None:
        big = self.pair.ask(Hold, number=1, data=bytes(65_535))
        with self.assertRaises(ValueError):
            self.clock.run(self.pair.left.call(Echo, data=bytes(65_536)))
        self.clock.advance(1)
        self.pair.right_recorder.let_go(1)
        self.assertEqual(self.clock.run(big)["number"], 1)

    def test_an_argument_called_operation_is_sent(self) -> None:
        """It names an operation here, and orders the calls of it as well."""
        bare = Bare()
        Deferred.fromCoroutine(bare.connection.call(control.Progress, operation=77))
        Deferred.fromCoroutine(bare.connection.call(Ping, operation="mine"))
        bare.clock.advance(1)
        progress, ping = bare.raw.boxes()
        self.assertEqual(progress[b"operation"], b"77")
        self.assertNotIn(b"operation", ping)

    def test_calls_are_begun_in_the_order_of_arrival(self) -> None:
        for number in range(30):
            self.pair.ask(Hold, number=number, operation="one", data=bytes(number * 1_000))
        self.clock.advance(1)
        self.assertEqual(self.pair.right_recorder.calls, [("hold", n) for n in range(30)])


class ErrorTest(LogCatching):
    def setUp(self) -> None:
        super().setUp()
        self.pair = Pair()
        self.clock = self.pair.clock

    def fails(self, kind: type[Exception], command: Any, **arguments: Any) -> str:
        with self.assertRaises(kind) as caught:
            self.clock.run(self.pair.left.call(command, **arguments))
        return str(caught.exception)

    def assert_still_up(self) -> None:
        self.assertEqual(self.clock.run(self.pair.left.call(Echo, data=b"up")), {"data": b"up"})

    def test_a_declared_error_arrives_as_itself(self) -> None:
        self.assertEqual(self.fails(errors.NoSpaceError, Break, how="declared"), "full")

    def test_an_undeclared_error_is_answered_with_a_reference(self) -> None:
        other = self.pair.ask(Hold, number=1)
        text = self.fails(errors.InternalWireError, Break, how="undeclared")
        self.assertRegex(text, r"\Areference [0-9a-f]{8}\Z")
        (event,) = self.logged("a responder of")
        self.assertEqual(event["reference"], text.removeprefix("reference "))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertNoResult(other)
        self.pair.right_recorder.let_go(1)
        self.clock.run(other)
        self.assert_still_up()

    def test_the_same_failure_is_logged_once_a_second(self) -> None:
        texts = {self.fails(errors.InternalWireError, Break, how="") for _ in range(20)}
        self.assertEqual(len(texts), 1)
        self.clock.advance(1.5)
        texts.add(self.fails(errors.InternalWireError, Break, how=""))
        self.assertEqual(len(texts), 2)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_an_answer_that_cannot_be_written_is_internal_and_not_in_the_log(self) -> None:
        self.fails(errors.InternalWireError, Break, how="response")
        (failure,) = self.flushLoggedErrors(ValueError)
        self.assertNotIn("returned", failure.getErrorMessage())
        self.assert_still_up()

    def test_an_answer_larger_than_a_box_is_internal(self) -> None:
        answering = self.pair.ask(Hold, number=1)
        self.clock.advance(1)
        self.pair.right_recorder.let_go(1, bytes(65_536))
        with self.assertRaises(errors.InternalWireError):
            self.clock.run(answering)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assert_still_up()

    def test_an_unknown_command_is_unhandled(self) -> None:
        self.fails(errors.NotAllowedError, storage.GetSpace)
        self.assert_still_up()

    def test_an_unknown_code_of_an_error(self) -> None:
        bare = Bare()
        asking = Deferred.fromCoroutine(bare.connection.call(Ping))
        bare.clock.advance(1)
        bare.send(amp.Box({boxes.ERROR: b"1", boxes.ERROR_CODE: b"NEW"}).serialize())
        self.failureResultOf(asking, errors.InternalWireError)

    def test_an_error_without_code_and_text(self) -> None:
        bare = Bare()
        asking = Deferred.fromCoroutine(bare.connection.call(Ping))
        bare.clock.advance(1)
        bare.send(amp.Box({boxes.ERROR: b"1"}).serialize())
        self.failureResultOf(asking, errors.InternalWireError)

    def test_the_text_of_an_error_is_one_plain_line(self) -> None:
        bare = Bare()
        asking = Deferred.fromCoroutine(bare.connection.call(Break, how=""))
        bare.clock.advance(1)
        text = b"full\r\n\x1b[2J\xe2\x80\xae\xff" + b"x" * 5_000
        bare.send(
            amp.Box(
                {boxes.ERROR: b"1", boxes.ERROR_CODE: b"NO_SPACE", boxes.ERROR_DESCRIPTION: text}
            ).serialize()
        )
        shown = str(self.failureResultOf(asking, errors.NoSpaceError).value)
        self.assertTrue(shown.startswith("full"))
        self.assertTrue(shown.isprintable())
        self.assertLessEqual(len(shown), 1_000)


class MalformedTest(LogCatching):
    """What a peer may send in place of arguments and answers."""

    def answers(self, *calls: bytes) -> list[dict[bytes, bytes]]:
        bare = Bare()
        bare.send(*calls)
        self.assertTrue(bare.connection.connected, bare.aborts)
        return bare.raw.boxes()

    def test_malformed_arguments_are_answered(self) -> None:
        for arguments in ({}, {"number": b"01"}, {"number": b"x"}, {"number": b"1", "data": b""}):
            box = self.answers(ask_box(b"Hold", **arguments))
            if "data" not in arguments:
                self.assertEqual(box[0][boxes.ERROR_CODE], b"BAD_ARGUMENT")
            else:
                self.assertEqual(box, [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_unknown_arguments_are_ignored(self) -> None:
        (box,) = self.answers(ask_box(b"Echo", data=b"x", later_version=b"y"))
        self.assertEqual(box, {boxes.ANSWER: b"1", b"data": b"x"})

    def test_unknown_commands_are_answered_without_their_name(self) -> None:
        (box,) = self.answers(ask_box(b"Wonder" * 40, data=bytes(60_000)))
        self.assertEqual(box[boxes.ERROR_CODE], amp.UNHANDLED_ERROR_CODE)
        self.assertNotIn(b"Wonder", box[boxes.ERROR_DESCRIPTION])

    def test_names_that_are_no_text(self) -> None:
        for name in (b"\xff\xfe", b"\0", "ü".encode()):
            (box,) = self.answers(ask_box(name))
            self.assertEqual(box[boxes.ERROR_CODE], amp.UNHANDLED_ERROR_CODE)

    def test_a_malformed_answer_ends_the_connection(self) -> None:
        for answer in ({}, {b"number": b"01"}, {b"number": b"-1"}):
            bare = Bare()
            asking = Deferred.fromCoroutine(bare.connection.call(Hold, number=1))
            bare.clock.advance(1)
            bare.send(amp.Box({boxes.ANSWER: b"1", **answer}).serialize())
            self.failureResultOf(asking, RemoteProtocolError)
            bare.clock.advance(1)
            self.assertIsNotNone(bare.raw.lost)

    def test_an_answer_never_asked_for_ends_the_connection(self) -> None:
        for key in (boxes.ANSWER, boxes.ERROR):
            bare = Bare()
            bare.send(amp.Box({key: b"1"}).serialize())
            self.assertEqual(bare.aborts, ["an answer that was never asked for"])

    def test_an_answer_to_a_call_not_yet_sent_ends_the_connection(self) -> None:
        """Tags are a counter, so the next one can be guessed."""
        bare = Bare(Limits(calls=1))
        waiting = [
            Deferred.fromCoroutine(bare.connection.call(Hold, number=number)) for number in (1, 2)
        ]
        bare.clock.advance(1)
        self.assertEqual(len(bare.raw.boxes()), 1)
        bare.send(amp.Box({boxes.ANSWER: b"2", b"number": b"2"}).serialize())
        self.assertFalse(bare.connection.connected)
        for each in waiting:
            self.failureResultOf(each, NotConnectedError)

    def test_a_second_answer_ends_the_connection(self) -> None:
        bare = Bare()
        asking = Deferred.fromCoroutine(bare.connection.call(Ping))
        bare.clock.advance(1)
        bare.send(amp.Box({boxes.ANSWER: b"1"}).serialize() * 2)
        self.assertEqual(self.successResultOf(asking), {})
        self.assertFalse(bare.connection.connected)

    @settings(deadline=None, max_examples=150)
    @given(st.lists(st.one_of(st.binary(max_size=40), st.just(ask_box(b"Echo", data=b"1")))))
    def test_arbitrary_bytes_end_in_an_abort_at_worst(self, pieces: list[bytes]) -> None:
        bare = Bare()
        bare.send(*pieces)
        self.assertEqual(bare.connection.connected, not bare.aborts)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_nothing_is_served_behind_a_breach(self) -> None:
        bare = Bare()
        bare.send(ask_box(b"Echo", data=b"1") + b"\0\0" + ask_box(b"Echo", data=b"2"))
        bare.send(ask_box(b"Echo", data=b"3"))
        self.assertEqual(bare.recorder.calls, [("echo", b"1")])


class GivingUpTest(SynchronousTestCase):
    """Deadlines, cancelled calls, and answers that come too late."""

    def setUp(self) -> None:
        self.pair = Pair(right_limits=Limits(calls=2))
        self.clock = self.pair.clock

    def test_a_late_answer_is_dropped_and_gives_its_credit_back(self) -> None:
        late = [self.pair.ask(Hold, number=number, deadline=5) for number in range(2)]
        waiting = self.pair.ask(Echo, data=b"next")
        self.clock.advance(6)
        for each in late:
            self.failureResultOf(each, CallTimeoutError)
        self.assertNoResult(waiting)
        self.pair.right_recorder.let_go(0)
        self.assertEqual(self.clock.run(waiting), {"data": b"next"})
        self.pair.right_recorder.let_go(1)
        self.clock.advance(30)
        self.assertTrue(self.pair.left.connected)
        self.assertEqual(self.pair.left._calls.flying_calls, 0)
        self.assertEqual(self.pair.left._calls.flying_bytes, 0)

    def test_a_call_given_up_before_it_was_sent_is_never_sent(self) -> None:
        held = [self.pair.ask(Hold, number=number) for number in range(2)]
        given_up = self.pair.ask(Echo, data=b"timed out", deadline=1)
        cancelled = self.pair.ask(Echo, data=b"cancelled")
        cancelled.cancel()
        self.clock.advance(2)
        self.failureResultOf(given_up, CallTimeoutError)
        self.failureResultOf(cancelled, CancelledError)
        for number, each in enumerate(held):
            self.pair.right_recorder.let_go(number)
            self.clock.run(each)
        self.assertEqual(self.clock.run(self.pair.left.call(Echo, data=b"x")), {"data": b"x"})
        self.assertNotIn(("echo", b"timed out"), self.pair.right_recorder.calls)
        self.assertNotIn(("echo", b"cancelled"), self.pair.right_recorder.calls)
        self.assertEqual(self.pair.left._calls._calls, {})

    def test_a_cancelled_call_is_answered_to_nobody(self) -> None:
        asking = self.pair.ask(Hold, number=1)
        self.clock.advance(1)
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.pair.right_recorder.let_go(1)
        self.clock.advance(1)
        self.assertTrue(self.pair.left.connected)
        self.assertEqual(self.pair.left._calls.flying_calls, 0)

    def test_a_thousand_calls_given_up_leave_nothing_behind(self) -> None:
        for _ in range(1_000):
            asking = self.pair.ask(Echo, data=b"x", deadline=1)
            self.clock.run(asking)
        timers = [call for call in self.clock.getDelayedCalls() if call.active()]
        # One at each end that looks around, and one for the first deadline.
        self.assertLessEqual(len(timers), 3)
        self.assertEqual(self.pair.left._calls._calls, {})

    def test_cancelling_others_when_one_fails(self) -> None:
        """As whoever gathers several calls does, in the middle of the loss."""
        asked = [self.pair.ask(Hold, number=number) for number in range(4)]

        def cancel_all(failure: Failure) -> None:
            for each in asked:
                each.cancel()
            failure.trap(NotConnectedError)

        asked[0].addErrback(cancel_all)
        self.clock.advance(1)
        self.pair.left.abort("enough")
        self.clock.advance(1)
        self.successResultOf(asked[0])
        for each in asked[1:]:
            self.failureResultOf(each, CancelledError, NotConnectedError)

    def test_an_answer_owed_for_a_minute_beyond_the_deadline_ends_the_connection(self) -> None:
        asking = self.pair.ask(Hold, number=1, deadline=5)
        pinging = self.pair.ask(Hold, number=2, deadline=None)
        for _ in range(64):
            self.clock.advance(1)
            self.clock.run(self.pair.right.call(Echo, data=b""))  # alive, and yet no answer
        self.failureResultOf(asking, CallTimeoutError)
        self.assertTrue(self.pair.left.connected)
        self.clock.advance(1.5)
        self.failureResultOf(pinging, NotConnectedError)


class EndTest(LogCatching):
    def setUp(self) -> None:
        super().setUp()
        self.pair = Pair()
        self.clock = self.pair.clock
        self.gone: list[str] = []
        self.pair.left.when_lost(lambda: self.gone.append("left"))
        self.pair.right.when_lost(lambda: self.gone.append("right"))

    def test_abort_ends_both_sides_and_fails_what_waits(self) -> None:
        mine = self.pair.ask(Hold, number=1)
        theirs = Deferred.fromCoroutine(self.pair.right.call(Hold, number=2))
        self.clock.advance(1)
        self.pair.left.abort("for a secret reason")
        self.assertFalse(self.pair.left.connected)
        self.clock.advance(1)
        self.failureResultOf(mine, NotConnectedError)
        failure = self.failureResultOf(theirs, NotConnectedError)
        self.assertNotIn("secret", failure.getErrorMessage())
        self.assertEqual(sorted(self.gone), ["left", "right"])

    def test_aborting_twice_logs_once(self) -> None:
        self.pair.left.abort("one")
        self.pair.left.abort("two")
        self.clock.advance(1)
        self.assertEqual([e["reason"] for e in self.logged("connection aborted")], ["one"])

    def test_when_lost_afterwards_is_at_once(self) -> None:
        self.pair.left.abort("enough")
        self.clock.advance(1)
        self.pair.left.when_lost(lambda: self.gone.append("late"))
        self.assertEqual(self.gone[-1], "late")
        self.assertEqual(len(self.gone), 3)

    def test_a_callback_that_fails_is_alone(self) -> None:
        self.pair.left.when_lost(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
        self.pair.left.when_lost(lambda: self.gone.append("after"))
        self.pair.left.abort("enough")
        self.clock.advance(1)
        self.assertIn("after", self.gone)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_no_timer_is_left(self) -> None:
        self.pair.left.abort("enough")
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_sends_what_is_queued(self) -> None:
        asking = [self.pair.ask(Hold, number=number, data=bytes(50_000)) for number in range(15)]
        self.pair.left.close()
        with self.assertRaises(NotConnectedError):
            self.clock.run(self.pair.left.call(Ping))
        self.clock.advance(1)
        self.assertEqual(len(self.pair.right_recorder.calls), 15)
        self.assertEqual(sorted(self.gone), ["left", "right"])
        self.assertEqual(self.logged("connection aborted"), [])
        for each in asking:
            self.failureResultOf(each, NotConnectedError)

    def test_close_of_a_peer_that_does_not_read_is_an_abort(self) -> None:
        self.pair.left_pipe.stopped = True
        asking = self.pair.ask(Echo, data=bytes(60_000))
        more = self.pair.ask(Echo, data=bytes(60_000))
        self.pair.left.close()
        self.clock.advance(4.9)
        self.assertNotIn("left", self.gone)
        self.clock.advance(0.2)
        self.assertIn("left", self.gone)
        for each in (asking, more):
            self.failureResultOf(each, NotConnectedError)

    def test_nothing_is_served_once_closing(self) -> None:
        bare = Bare()
        bare.pipe.stopped = True
        bare.send(*[ask_box(b"Echo", tag=b"%d" % n, data=bytes(60_000)) for n in range(3)])
        bare.connection.close()
        bare.send(ask_box(b"Echo", data=b"late"))
        self.assertEqual(len(bare.recorder.calls), 3)
        bare.pipe.let_go()
        bare.clock.advance(1)
        self.assertEqual(len(bare.raw.boxes()), 3)
        self.assertIsNotNone(bare.raw.lost)

    def test_a_responder_that_ends_after_the_connection_harms_nothing(self) -> None:
        recorder = self.pair.right_recorder
        for number in range(2):
            self.pair.ask(Hold, number=number).addErrback(lambda _: None)
        self.clock.advance(1)
        self.pair.left.abort("enough")
        self.clock.advance(1)
        recorder.let_go(0, b"data")
        recorder.held.pop(1).errback(RuntimeError("late"))
        self.clock.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(len(self.pair.right._serving._answers), 0)


class StockAmpTest(SynchronousTestCase):
    """Twisted's own AMP understands us, and we it."""

    def setUp(self) -> None:
        self.clock = HeapClock()
        self.recorder = Recorder()
        self.connection = Connection(self.clock, self.recorder)
        self.stock = amp.AMP(locator=self.recorder)
        join(self.clock, self.stock, self.connection)
        self.connection.opened(32, 2**20)

    def test_stock_amp_calls(self) -> None:
        answer = self.clock.run(self.stock.callRemote(Echo, data=b"x" * 60_000))
        self.assertEqual(answer, {"data": b"x" * 60_000})
        with self.assertRaises(errors.NoSpaceError):
            self.clock.run(self.stock.callRemote(Break, how="declared"))
        with self.assertRaises(amp.UnhandledCommand):
            self.clock.run(self.stock.callRemote(storage.GetSpace))

    def test_stock_amp_answers(self) -> None:
        answer = self.clock.run(self.connection.call(Echo, data=b"x" * 60_000))
        self.assertEqual(answer, {"data": b"x" * 60_000})
        with self.assertRaises(errors.NoSpaceError):
            self.clock.run(self.connection.call(Break, how="declared"))
        with self.assertRaises(errors.NotAllowedError):
            self.clock.run(self.connection.call(storage.GetSpace))

    def test_stock_amp_survives_our_ping(self) -> None:
        self.clock.advance(3_600)
        self.assertTrue(self.connection.connected)


class HalfClosedTest(SynchronousTestCase):
    def test_a_peer_that_goes_in_the_middle_of_a_box(self) -> None:
        bare = Bare()
        bare.send(ask_box(b"Echo", data=b"12345")[:-3])
        bare.raw_pipe.loseConnection()
        bare.clock.advance(1)
        self.assertFalse(bare.connection.connected)
        self.assertEqual(bare.recorder.calls, [])
