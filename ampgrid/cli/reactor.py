"""Running one coroutine under the reactor, and what Ctrl-C means meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ampgrid.cli.exits import INTERRUPTED

T = TypeVar("T")


class Stop:
    """The wish to stop: a signal that came.

    Attributes:
        signal: the first signal that came, 0 for none yet.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._waiting: list[Deferred[None]] = []

    def wait(self) -> Deferred[None]:
        """Return what fires once a signal has come."""
        deferred: Deferred[None] = Deferred(self._waiting.remove)
        if self.signal:
            deferred.callback(None)
        else:
            self._waiting.append(deferred)
        return deferred

    def came(self, number: int) -> None:
        """Note a signal; only the first one counts."""
        if not self.signal:
            self.signal = number
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)

    def raise_if_interrupted(self) -> None:
        """Raise `KeyboardInterrupt` if it was Ctrl-C; any other signal is an ordinary end."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt


async def first_of(work: Deferred[T], other: Deferred[Any]) -> list[T]:
    """Wait until one of the two has an outcome, which is taken from it; cancel neither.

    Returns:
        The one result of ``work``, or an empty list if ``other`` came first.

    Raises:
        BaseException: what ``work`` failed with, if that came first.
    """
    first: Deferred[list[T]] = Deferred()

    def finished(result: T | Failure) -> None:
        # What comes second is nobody's business any more.
        if not first.called:
            if isinstance(result, Failure):
                first.errback(result)
            else:
                first.callback([result])

    def overtaken(_: Any) -> None:
        if not first.called:
            first.callback([])

    work.addBoth(finished)
    other.addBoth(overtaken)
    return await first


def run_with_reactor(function: Callable[[Any, Stop], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end under the reactor, which then stops for good.

    The first SIGINT, SIGTERM or SIGHUP (unless that is ignored, as under ``nohup``) only sets
    ``stop``, so that the coroutine ends in its own way; a second one ends the process at once.

    Args:
        function: called with the reactor and the `Stop`; returns the coroutine.

    Returns:
        What the coroutine returns.

    Raises:
        BaseException: what the coroutine raises.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    stop = Stop()
    outcome: list[T | Failure] = []

    def on_signal(number: int, _frame: object) -> None:
        if stop.signal:
            # The cursor, which a progress bar hides, comes back.
            cursor = b"\r\x1b[2K\x1b[?25h" if os.isatty(2) else b""
            with contextlib.suppress(OSError):
                os.write(2, cursor + b"ampgrid: Interrupted.\n")
            os._exit(INTERRUPTED.status)
        reactor.callFromThread(stop.came, number)

    def start() -> None:
        # The reactor's own handlers stop it under the coroutine's feet.
        signal.signal(signal.SIGINT, on_signal)
        signal.signal(signal.SIGTERM, on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, on_signal)
        deferred = Deferred.fromCoroutine(function(reactor, stop))
        deferred.addBoth(outcome.append)
        deferred.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()
    if not outcome:
        raise KeyboardInterrupt
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    return outcome[0]
