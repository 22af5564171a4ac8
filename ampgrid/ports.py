"""The ports: what the upper rooms need of the world, as typing protocols.

Time, randomness and threads are passed in through these, so that a whole grid runs in memory
under a clock of the test's. Nothing here imports anything but the standard library.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: Returns that many unpredictable bytes (``os.urandom``, or seeded in a simulation).
Entropy = Callable[[int], bytes]

#: Returns the wall-clock time in seconds since 1970 (``time.time``, or a test's own).
WallClock = Callable[[], float]


class DelayedCall(Protocol):
    """A call that a clock will make later."""

    def cancel(self) -> None:
        """Make it not happen."""
        ...

    def active(self) -> bool:
        """Tell whether it is still to happen."""
        ...

    def reset(self, seconds: float) -> None:
        """Let it happen in ``seconds`` from now instead."""
        ...


class Clock(Protocol):
    """Monotonic time and timers: a reactor, or Twisted's ``task.Clock``."""

    def seconds(self) -> float:
        """Return seconds since some fixed moment."""
        ...

    def callLater(self, delay: float, function: Callable[..., Any], /, *args: Any) -> Any:  # noqa: N802
        """Call ``function`` in ``delay`` seconds; returns a `DelayedCall`."""
        ...


class Threads(Protocol):
    """Where blocking or long work goes: a thread pool, or at once in a test."""

    def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run ``function`` off the reactor thread and return its result or its error."""
        ...


class Patience:
    """A deadline for calls that belong together: so long without any answer to any of them.

    On a slow line the last of many calls waits for all before it; what tells a slow peer from
    a stuck one is whether answers come at all.

    Args:
        seconds: without an answer, after which the calls are given up.
        most: seconds that any one of them may take, whatever comes of the others.

    Attributes:
        began_at: when the first of the calls was asked.
        answered_at: when the last answer came.
        took: how long the last answered call took, seconds.
    """

    def __init__(self, seconds: float, most: float = 120.0) -> None:
        self.seconds = seconds
        self.most = most
        self.began_at: float | None = None
        self.answered_at = float("-inf")
        self.took = 0.0


class Connection(Protocol):
    """An authenticated AMP connection to one peer, as the services see it."""

    @property
    def peer_id(self) -> bytes:
        """The node id of the peer, 20 bytes."""
        ...

    @property
    def connected(self) -> bool:
        """True from the answered Hello to the loss of the connection."""
        ...

    async def call(
        self,
        command: Any,
        /,
        *,
        operation: object = None,
        deadline: float | Patience | None = 60.0,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Send one Command and return its answer.

        Args:
            command: a class of `ampgrid.commands`.
            operation: calls with the same token keep their order and share one turn with others.
            deadline: seconds after which `CallTimeoutError` is raised, or a `Patience` shared
                with other calls, or None for none; the connection stays.
            arguments: the Command's arguments.

        Raises:
            NotConnectedError: the connection is gone or went while waiting.
            CallTimeoutError: no answer in time.
            WireError: the peer answered one of the Command's errors.
        """
        ...

    def when_lost(self, function: Callable[[], None]) -> None:
        """Call ``function`` once the connection is lost (at once if it already is)."""
        ...

    def abort(self, reason: str) -> None:
        """End the connection now; ``reason`` goes to the log, never to the peer."""
        ...
