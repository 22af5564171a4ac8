"""Threads for blocking work: a pool of Twisted's, and a stand-in that runs at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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
        self._pool = ThreadPool(0, most, name)
        self._pool.start()

    def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run ``function`` in a thread of the pool."""
        result: Deferred[T] = deferToThreadPool(
            self._reactor, self._pool, function, *args, **kwargs
        )
        return result

    def stop(self) -> None:
        """Wait for what runs and end the threads."""
        self._pool.stop()


class InlineThreads:
    """A `ampgrid.ports.Threads` that runs everything at once, for determinism."""

    def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run ``function`` now."""
        result: Deferred[T] = maybeDeferred(function, *args, **kwargs)
        return result
