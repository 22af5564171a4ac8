"""The shipped clock and pipes behave as a reactor and TCP do."""

from __future__ import annotations

import os
from threading import Thread, current_thread
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import AlreadyCalled, AlreadyCancelled, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.testing import pipes
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.pipes import MemoryNet, MemoryTransport, join
from ampgrid.wire import InlineThreads, PoolThreads
from tests.patience import PATIENCE
from tests.wire.kit import Loop, RawEnd, on_loop


class ClockTest(SynchronousTestCase):
    """Whatever Twisted's own clock does, this one does."""

    operations = st.lists(
        st.tuples(st.sampled_from(["call", "cancel", "reset", "advance"]), st.integers(0, 9)),
        max_size=40,
    )

    @given(operations)
    def test_as_twisteds_clock(self, operations: list[tuple[str, int]]) -> None:
        traces = []
        for clock in (Clock(), HeapClock(0.0)):
            trace: list[Any] = []
            calls: list[Any] = []
            for operation, number in operations:
                if operation == "call":
                    # No two at one time: of those Twisted says nothing. Fractions are of powers of
                    # two, so that sums come out the same in whatever order they are made.
                    delay = number + len(calls) / 1_024
                    calls.append(clock.callLater(delay, trace.append, (len(calls), "called")))
                elif operation == "advance":
                    clock.advance(number)
                    trace.append(clock.seconds())
                elif calls:
                    which = number % len(calls)
                    call = calls[which]
                    try:
                        if operation == "cancel":
                            call.cancel()
                        else:
                            call.reset(number + 2**-11 + which / 2**20)
                    except (AlreadyCalled, AlreadyCancelled) as error:
                        trace.append(type(error))
                    trace.append([each.active() for each in calls])
            trace.append(sorted(call.getTime() for call in clock.getDelayedCalls()))
            traces.append(trace)
        self.assertEqual(*traces)

    def test_time_never_goes_beyond_what_was_asked(self) -> None:
        """Also when the next entry of the queue was cancelled."""
        clock = HeapClock(0.0)
        called: list[float] = []
        clock.callLater(1, called.append, 1).cancel()
        clock.callLater(5, called.append, 5)
        clock.advance(2)
        self.assertEqual((clock.seconds(), called), (2, []))
        clock.advance(3)
        self.assertEqual(called, [5])

    def test_the_past_is_refused(self) -> None:
        for delay in (-1, float("nan")):
            with self.assertRaises(ValueError):
                HeapClock().callLater(delay, lambda: None)

    def test_cancelled_calls_are_swept_out(self) -> None:
        clock = HeapClock()
        clock.callLater(1_000, lambda: None)
        for _ in range(10_000):
            clock.callLater(60, lambda: None).cancel()
        self.assertLess(len(clock._heap), 300)
        self.assertEqual(len(clock.getDelayedCalls()), 1)

    def test_run(self) -> None:
        clock = HeapClock()
        self.assertEqual(clock.run(deferLater(clock, 5, lambda: "done")), "done")  # type: ignore[arg-type]

        async def fail() -> None:
            raise KeyError("x")

        with self.assertRaises(KeyError):
            clock.run(fail())

    def test_work_that_is_stuck(self) -> None:
        clock = HeapClock()
        with self.assertRaises(AssertionError):
            clock.run(Deferred())
        clock.callLater(10, lambda: None).cancel()
        with self.assertRaises(AssertionError):
            clock.run(Deferred())
        clock.callLater(10, lambda: None)
        with self.assertRaises(AssertionError):
            clock.run(Deferred(), within=5)


class Paused:
    """A producer that remembers."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def pauseProducing(self) -> None:
        self.events.append("pause")

    def resumeProducing(self) -> None:
        self.events.append("resume")

    def stopProducing(self) -> None:
        self.events.append("stop")


class PipeTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = HeapClock(0.0)
        self.left, self.right = RawEnd(), RawEnd()
        self.left_pipe, self.right_pipe = join(self.clock, self.left, self.right, 0.1)

    def check_lost(self, end: RawEnd, kind: type[Exception]) -> None:
        assert isinstance(end.lost, Failure)
        end.lost.trap(kind)

    @given(st.lists(st.binary(max_size=9), max_size=20), st.sampled_from([0.0, 0.1]))
    def test_bytes_arrive_in_order(self, pieces: list[bytes], latency: float) -> None:
        clock = HeapClock(0.0)
        left, right = RawEnd(), RawEnd()
        pipe, _ = join(clock, left, right, latency)
        for piece in pieces:
            pipe.write(piece)
        clock.advance(latency)
        self.assertEqual(right.received, b"".join(pieces))

    def test_latency_is_no_bandwidth(self) -> None:
        """A hundred pieces that are sent together arrive together."""
        for _ in range(100):
            self.left_pipe.write(b"x" * 300)
        self.clock.advance(0.09)
        self.assertEqual(self.right.received, b"")
        self.clock.advance(0.02)
        self.assertEqual(len(self.right.received), 30_000)

    def test_a_writer_is_paused_and_resumed(self) -> None:
        producer = Paused()
        self.left_pipe.registerProducer(producer, True)
        self.left_pipe.write(bytes(pipes.HIGH_WATER))
        self.assertEqual(producer.events, [])
        self.left_pipe.write(b"x")
        self.left_pipe.write(b"x")
        self.assertEqual(producer.events, ["pause"])
        self.clock.advance(1)
        self.assertEqual(producer.events, ["pause", "resume"])

    def test_one_producer_at_a_time(self) -> None:
        self.left_pipe.registerProducer(Paused(), True)
        with self.assertRaises(RuntimeError):
            self.left_pipe.registerProducer(Paused(), True)
        self.left_pipe.unregisterProducer()
        self.left_pipe.registerProducer(Paused(), True)

    def test_a_producer_comes_too_late(self) -> None:
        self.left_pipe.abortConnection()
        self.clock.advance(1)
        producer = Paused()
        self.left_pipe.registerProducer(producer, True)
        self.assertEqual(producer.events, ["stop"])

    def test_close_comes_after_the_bytes(self) -> None:
        self.left_pipe.write(bytes(200_000))
        self.left_pipe.loseConnection()
        self.left_pipe.write(b"too late")
        self.clock.advance(0.05)
        self.assertIsNone(self.right.lost)
        self.clock.advance(0.1)
        self.assertEqual(self.right.received, bytes(200_000))
        self.check_lost(self.right, ConnectionDone)
        self.check_lost(self.left, ConnectionDone)

    def test_abort_comes_before_the_bytes(self) -> None:
        self.left_pipe.write(b"lost")
        self.right_pipe.write(b"unread")
        self.left_pipe.abortConnection()
        self.left_pipe.abortConnection()
        self.clock.advance(0)
        self.check_lost(self.left, ConnectionLost)
        self.assertIsNone(self.right.lost)
        self.clock.advance(0.2)
        self.check_lost(self.right, ConnectionLost)
        self.assertEqual((self.left.received, self.right.received), (b"", b""))
        self.assertTrue(self.left_pipe.lost)

    def test_stopped_holds_everything_back(self) -> None:
        self.left_pipe.stopped = True
        self.left_pipe.write(b"x")
        self.clock.advance(1)
        self.assertEqual((self.right.received, self.left_pipe.queued_bytes), (b"", 1))
        self.left_pipe.let_go()
        self.clock.advance(1)
        self.assertEqual(self.right.received, b"x")
        self.left_pipe.stopped = True
        self.left_pipe.abortConnection()
        self.clock.advance(1_000)
        self.assertIsNone(self.right.lost)
        self.assertIsNotNone(self.left.lost)

    def test_reading_can_be_paused(self) -> None:
        self.right_pipe.pauseProducing()
        self.left_pipe.write(b"x")
        self.clock.advance(1)
        self.assertEqual(self.right.received, b"")
        self.right_pipe.resumeProducing()
        self.clock.advance(1)
        self.assertEqual(self.right.received, b"x")

    def test_pieces_are_no_larger_than_a_segment(self) -> None:
        sizes: list[int] = []
        self.right.dataReceived = lambda data: sizes.append(len(data))  # type: ignore[method-assign]
        self.left_pipe.write(bytes(3 * pipes.PIECE + 1))
        self.clock.advance(1)
        self.assertEqual(sizes, [pipes.PIECE] * 3 + [1])


class NetTest(SynchronousTestCase):
    def test_listening_and_silence(self) -> None:
        net = MemoryNet(HeapClock())
        made: list[RawEnd] = []

        class Making:
            def buildProtocol(self, _address: object) -> RawEnd:
                made.append(RawEnd())
                return made[-1]

        factory: Any = Making()
        with self.assertRaises(ConnectionRefusedError):
            net.clock.run(net.connect("here", 1, factory))
        net.listen("here", 1, factory)
        for _ in range(3):
            dialled = net.clock.run(net.connect("here", 1, factory))
            self.assertIsInstance(dialled.transport, MemoryTransport)
            self.assertEqual(len(net.pipes), 1)
            dialled.transport.abortConnection()
            net.clock.advance(1)
        net.silence("here", 1)
        with self.assertRaises(ConnectionRefusedError):
            net.clock.run(net.connect("here", 1, factory))


class LoopTest(SynchronousTestCase):
    def test_a_thread_that_comes_late(self) -> None:
        loop = Loop()
        loop.close()
        loop.reactor.callFromThread(self.fail, "nobody turns it any more")


class ThreadsTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.loop = Loop()
        self.addCleanup(self.loop.close)

    @on_loop
    async def test_a_pool(self) -> None:
        threads = PoolThreads(self.loop.reactor, 2, "test")
        self.addCleanup(lambda: self.loop.run(threads.stop(PATIENCE)))
        self.assertEqual(await threads.run(pow, 2, 10), 1024)
        with self.assertRaises(ZeroDivisionError):
            await threads.run(divmod, 1, 0)

    @on_loop
    async def test_a_pool_that_stops_finishes_its_work(self) -> None:
        threads = PoolThreads(self.loop.reactor, 1, "test")
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        work = [threads.run(os.read, reading, 1), threads.run(pow, 2, 10)]
        stopping = threads.stop(PATIENCE)
        os.write(writing, b"x")
        os.close(writing)
        self.assertTrue(await stopping)
        self.assertEqual([await each for each in work], [b"x", 1024])

    @on_loop
    async def test_a_pool_does_what_waits_in_order_with_so_many_threads(self) -> None:
        for most in (1, 2, 3):
            threads = PoolThreads(self.loop.reactor, most, "test")
            names, done = set(), []

            def work(number: int, names: set[str] = names, done: list[int] = done) -> int:
                names.add(current_thread().name)
                done.append(number)
                return number

            results = [threads.run(work, number) for number in range(50)]
            self.assertEqual([await each for each in results], list(range(50)))
            self.assertLessEqual(len(names), most)
            if most == 1:
                self.assertEqual(done, list(range(50)))
            # Those that came before the end are done, those after it are not.
            last = [threads.run(work, number) for number in range(50)]
            stopping = threads.stop(PATIENCE)
            late = threads.run(work, 51)
            self.assertTrue(await stopping)
            self.assertEqual([await each for each in last], list(range(50)))
            self.assertNotIn(51, done)
            self.assertFalse(late.called)

    @on_loop
    async def test_a_pool_does_with_the_threads_that_it_gets(self) -> None:
        threads = PoolThreads(self.loop.reactor, 3, "test")
        self.addCleanup(lambda: self.loop.run(threads.stop(PATIENCE)))
        refuse = mock.patch.object(Thread, "start", side_effect=RuntimeError("no more threads"))
        with refuse, self.assertRaises(RuntimeError):
            threads.run(pow, 2, 1)
        self.assertEqual(await threads.run(pow, 2, 2), 4)
        with refuse:
            work = [threads.run(pow, 2, number) for number in range(9)]
        self.assertEqual([await each for each in work], [2**number for number in range(9)])

    @on_loop
    async def test_a_pool_waits_for_no_thread_for_ever(self) -> None:
        threads = PoolThreads(self.loop.reactor, 1, "test")
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        work = threads.run(os.read, reading, 1)
        turned = deferLater(self.loop.reactor, 0.01)
        self.assertFalse(await threads.stop(0.1))
        self.assertTrue(turned.called)
        os.close(writing)
        self.assertEqual(await work, b"")

    @on_loop
    async def test_inline(self) -> None:
        threads = InlineThreads()
        self.assertEqual(await threads.run(pow, 2, 10), 1024)
        with self.assertRaises(ZeroDivisionError):
            await threads.run(divmod, 1, 0)
