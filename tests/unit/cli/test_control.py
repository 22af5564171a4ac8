"""A long Command over the socket: watched, cancelled by Ctrl-C, its errors handed on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.cli.console import ProgressBar
from ampgrid.cli.control import call_watched
from ampgrid.cli.reactor import Stop, first_of
from ampgrid.commands import control
from ampgrid.commands.errors import NoSuchOperationError, NotHappyEnoughError


class Node:
    """A recorder in the shape of a connection to a node: one answer to give later."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, dict[str, Any]]] = []
        self.upload: Deferred[dict[str, Any]] = Deferred()
        self.answers: dict[Any, Callable[[], dict[str, Any]]] = {}

    async def call(
        self, command: Any, /, *, deadline: float = 60.0, **arguments: Any
    ) -> dict[str, Any]:
        self.asked.append((command, arguments))
        if command is control.Upload:
            return await self.upload
        return self.answers[command]()

    def commands(self) -> list[Any]:
        return [command for command, _ in self.asked]

    def numbers(self) -> set[int]:
        return {v for _, given in self.asked for k, v in given.items() if k.startswith("oper")}


class Bar(ProgressBar):
    """A progress bar that notes what it is shown."""

    def __init__(self, *, shown: bool) -> None:
        super().__init__()
        self.shown = shown
        self.seen: list[tuple[str, int, int]] = []

    def show(self, phase: str, done: int, total: int) -> None:
        self.seen.append((phase, done, total))


class WatchedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.node = Node()
        self.stop = Stop()

    def begin(self, bar: Bar) -> Deferred[dict[str, Any]]:
        call: Coroutine[Any, Any, dict[str, Any]] = call_watched(
            self.clock,  # type: ignore[arg-type]
            self.node,  # type: ignore[arg-type]
            self.stop,
            bar,
            control.Upload,
            path="/f",
        )
        return Deferred.fromCoroutine(call)

    def test_the_answer_comes_back(self) -> None:
        work = self.begin(Bar(shown=False))
        self.assertNoResult(work)
        self.node.upload.callback({"cap": "x"})
        self.assertEqual(self.successResultOf(work), {"cap": "x"})
        self.assertEqual(self.node.commands(), [control.Upload])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_its_error_comes_back(self) -> None:
        work = self.begin(Bar(shown=False))
        self.node.upload.errback(NotHappyEnoughError("2 of 3"))
        self.failureResultOf(work, NotHappyEnoughError)

    def test_progress_is_asked_five_times_a_second_by_its_number(self) -> None:
        steps = iter(range(1, 100))
        self.node.answers[control.Progress] = lambda: {
            "phase": "sending",
            "done": next(steps),
            "total": 9,
        }
        bar = Bar(shown=True)
        work = self.begin(bar)
        self.clock.pump([0.25] * 5)
        self.assertEqual(bar.seen, [("sending", done, 9) for done in range(1, 6)])
        self.assertEqual(len(self.node.numbers()), 1)
        self.node.upload.callback({})
        self.successResultOf(work)
        self.clock.advance(10)
        self.assertEqual(len(bar.seen), 5)

    def test_progress_that_is_not_known_yet_does_no_harm(self) -> None:
        def unknown() -> dict[str, Any]:
            raise NoSuchOperationError

        self.node.answers[control.Progress] = unknown
        work = self.begin(Bar(shown=True))
        self.clock.pump([0.25] * 5)
        self.node.upload.callback({})
        self.successResultOf(work)

    def interrupt(self) -> Deferred[dict[str, Any]]:
        self.node.answers[control.Cancel] = dict
        work = self.begin(Bar(shown=False))
        self.stop.came(signal.SIGINT)
        self.assertEqual(self.node.commands(), [control.Upload, control.Cancel])
        self.assertEqual(len(self.node.numbers()), 1)
        return work

    def test_ctrl_c_cancels_and_waits_for_the_end(self) -> None:
        work = self.interrupt()
        self.assertNoResult(work)
        self.node.upload.errback(NotHappyEnoughError())
        self.failureResultOf(work, KeyboardInterrupt)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_ctrl_c_waits_only_so_long(self) -> None:
        work = self.interrupt()
        self.clock.advance(6)
        self.failureResultOf(work, KeyboardInterrupt)

    def test_ctrl_c_when_the_node_knows_the_operation_no_more(self) -> None:
        def unknown() -> dict[str, Any]:
            raise NoSuchOperationError

        self.node.answers[control.Cancel] = unknown
        work = self.begin(Bar(shown=False))
        self.stop.came(signal.SIGINT)
        self.failureResultOf(work, KeyboardInterrupt)


class StopTests(SynchronousTestCase):
    def test_all_that_wait_are_told_and_later_ones_at_once(self) -> None:
        stop = Stop()
        early = [stop.wait(), stop.wait()]
        early[1].addErrback(lambda _: None)
        early[1].cancel()
        stop.came(signal.SIGTERM)
        stop.came(signal.SIGINT)
        self.successResultOf(early[0])
        self.successResultOf(stop.wait())
        self.assertEqual(stop.signal, signal.SIGTERM)
        stop.raise_if_interrupted()

    def test_only_ctrl_c_is_an_interruption(self) -> None:
        stop = Stop()
        stop.raise_if_interrupted()
        stop.came(signal.SIGINT)
        self.assertRaises(KeyboardInterrupt, stop.raise_if_interrupted)

    def test_the_first_of_two(self) -> None:
        work: Deferred[int] = Deferred()
        other: Deferred[None] = Deferred()
        waiting = Deferred.fromCoroutine(first_of(work, other))
        self.assertNoResult(waiting)
        work.callback(7)
        other.callback(None)
        self.assertEqual(self.successResultOf(waiting), [7])

    def test_the_first_of_two_fails(self) -> None:
        work: Deferred[int] = Deferred()
        waiting = Deferred.fromCoroutine(first_of(work, Deferred()))
        work.errback(NotHappyEnoughError())
        self.failureResultOf(waiting, NotHappyEnoughError)

    def test_the_other_comes_first(self) -> None:
        work: Deferred[int] = Deferred()
        other: Deferred[None] = Deferred()
        waiting = Deferred.fromCoroutine(first_of(work, other))
        other.callback(None)
        self.assertEqual(self.successResultOf(waiting), [])
        work.errback(NotHappyEnoughError())
        self.assertIsNone(self.successResultOf(work))
