"""Threads for blocking work: a pool of Twisted's, and a stand-in that runs at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from threading import Thread
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")


class PoolThreads:
    """A `ampgrid.ports.Threads` over a thread pool of its own.

    Args:
        reactor: where results are delivered.
        most: the largest number of threads.
        name: for debuggers.
    """

    def __init__(self, reactor: Any, most: int, name: str) -> None:
        self._reactor = reactor
        self._name = name
        self._pool = ThreadPool(0, most, name)
        # A thread that never comes back must not hold up the end of the process.
        self._pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]
        self._pool.start()

    def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run ``function`` in a thread of the pool."""
        result: Deferred[T] = deferToThreadPool(
            self._reactor, self._pool, function, *args, **kwargs
        )
        return result

    def stop(self, seconds: float) -> Deferred[bool]:
        """End the threads once what runs in them is done; the reactor goes on meanwhile.

        Args:
            seconds: how long to wait for that; then they are left to themselves.

        Returns:
            Whether all of them have ended.
        """
        ended: Deferred[bool] = Deferred()

        def tell(all_ended: bool) -> None:
            if timer.active():
                timer.cancel()
            if not ended.called:
                ended.callback(all_ended)

        def wait() -> None:
            self._pool.stop()
            # After the time is up nobody listens, and the reactor may be gone by now.
            if not ended.called:
                self._reactor.callFromThread(tell, True)

        timer = self._reactor.callLater(seconds, tell, False)
        Thread(target=wait, name=f"{self._name} end", daemon=True).start()
        return ended


class InlineThreads:
    """A `ampgrid.ports.Threads` that runs everything at once, for determinism."""

    def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run ``function`` now."""
        result: Deferred[T] = maybeDeferred(function, *args, **kwargs)
        return result
