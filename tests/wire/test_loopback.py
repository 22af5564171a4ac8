"""A node's connection to itself: the same errors, deadlines and end as on the wire."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands import errors, storage
from ampgrid.errors import CallTimeoutError, NotConnectedError
from ampgrid.testing.clock import HeapClock
from ampgrid.wire import LoopbackConnection
from tests.wire.kit import Break, Echo, Hold, Recorder


class LoopbackTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = HeapClock()
        self.connection = LoopbackConnection(b"n" * 20, self.clock)
        self.recorder = Recorder()
        self.connection.serve(self.recorder)

    def ask(self, command: Any, **arguments: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.connection.call(command, **arguments))

    def test_a_call_is_answered(self) -> None:
        self.assertEqual(self.successResultOf(self.ask(Echo, data=b"x")), {"data": b"x"})

    def test_errors_are_those_of_the_wire(self) -> None:
        self.failureResultOf(self.ask(Break, how="declared"), errors.NoSpaceError)
        self.failureResultOf(self.ask(Break, how="undeclared"), errors.InternalWireError)
        self.failureResultOf(self.ask(Break, how="response"), errors.InternalWireError)
        self.failureResultOf(self.ask(storage.GetSpace), errors.NotAllowedError)
        self.assertEqual(len(self.flushLoggedErrors()), 2)

    def test_what_would_be_refused_on_the_wire_is_refused(self) -> None:
        self.failureResultOf(self.ask(Break, how="x" * 21), ValueError)

    def test_a_deadline(self) -> None:
        asking = self.ask(Hold, number=1, deadline=5)
        self.clock.advance(4.9)
        self.assertNoResult(asking)
        self.clock.advance(0.2)
        self.failureResultOf(asking, CallTimeoutError)
        self.recorder.let_go(1)

    def test_an_error_after_the_deadline_is_logged(self) -> None:
        asking = self.ask(Hold, number=1, deadline=5)
        self.clock.advance(6)
        self.failureResultOf(asking, CallTimeoutError)
        self.recorder.held.pop(1).errback(RuntimeError("late"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_no_timer_is_left(self) -> None:
        self.ask(Hold, number=1)
        self.recorder.let_go(1)
        self.successResultOf(self.ask(Echo, data=b""))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_end(self) -> None:
        gone: list[int] = []
        self.connection.when_lost(lambda: gone.append(1))
        asking = self.ask(Hold, number=1)
        self.connection.abort("stopping")
        self.failureResultOf(asking, NotConnectedError)
        self.failureResultOf(self.ask(Echo, data=b""), NotConnectedError)
        self.connection.when_lost(lambda: gone.append(2))
        self.assertEqual(gone, [1, 2])
        self.recorder.let_go(1)
        self.assertFalse(self.connection.connected)

    def test_without_a_clock_it_waits(self) -> None:
        self.connection = LoopbackConnection(b"n" * 20)
        self.connection.serve(self.recorder)
        asking = self.ask(Hold, number=1, deadline=0.0)
        self.assertNoResult(asking)
        self.recorder.let_go(1)
        self.assertEqual(self.successResultOf(asking)["number"], 1)
