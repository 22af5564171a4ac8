"""Threads for blocking work: a pool, and a stand-in that runs at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

P = ParamSpec("P")
T = TypeVar("T")

#: A function, its arguments, and what fires with its result in the reactor's thread.
_Work = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Deferred[Any]]


class PoolThreads:
    """A `ampgrid.ports.Threads` over threads of its own, which begin when they are needed.

    Twisted's pool carries a context of its own into each call and passes it through a
    coordinator; here a hop is one queue there and one call into the reactor's thread back. Of
    what a small request costs in processor time, hops are a good part.

    Args:
        reactor: where results are delivered; `run` is called in its thread only.
        most: the largest number of threads.
        name: for debuggers.
    """

    def __init__(self, reactor: Any, most: int, name: str) -> None:
        self._reactor = reactor
        self._most = most
        self._name = name
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._under_way = 0
        self._stopped = False

    def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run ``function`` in a thread of the pool; nothing comes of it after `stop`."""
        result: Deferred[T] = Deferred()
        if self._stopped:
            return result
        if len(self._threads) < min(self._under_way + 1, self._most):
            self._start_thread()
        self._under_way += 1
        self._queue.put((function, args, kwargs, result))
        return result

    def _start_thread(self) -> None:
        # A thread that never comes back must not hold up the end of the process.
        name = f"{self._name} {len(self._threads)}"
        thread = Thread(target=self._work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The system gives no more of them. Those that there are will do it, in their time.
            if not self._threads:
                raise
            return
        self._threads.append(thread)

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            function, args, kwargs, result = work
            outcome: Any
            try:
                outcome = function(*args, **kwargs)
            except BaseException:  # noqa: BLE001 - told to whoever waits
                outcome = Failure()
            self._reactor.callFromThread(self._deliver, result, outcome)
            # Nothing of it is held while this thread waits for more.
            del work, function, args, kwargs, result, outcome

    def _deliver(self, result: Deferred[Any], outcome: Any) -> None:
        self._under_way -= 1
        result.callback(outcome)

    def stop(self, seconds: float) -> Deferred[bool]:
        """End the threads once what runs in them is done; the reactor goes on meanwhile.

        Args:
            seconds: how long to wait for that; then they are left to themselves.

        Returns:
            Whether all of them have ended.
        """
        ended: Deferred[bool] = Deferred()
        self._stopped = True
        for _ in self._threads:
            self._queue.put(None)

        def tell(all_ended: bool) -> None:
            if timer.active():
                timer.cancel()
            if not ended.called:
                ended.callback(all_ended)

        def wait() -> None:
            for thread in self._threads:
                thread.join()
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
