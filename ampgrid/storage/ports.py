"""What the buckets of a connection need of the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar

from ampgrid.storage.allowance import Allowance
from ampgrid.store import Allocated, Put, Request
from ampgrid.store.port import Incoming

P = ParamSpec("P")
T = TypeVar("T")


class Work(Protocol):
    """What needs the store or a thread. Errors are those of the store.

    Attributes:
        ahead: what all connections together may have answered before it is in a file.
    """

    ahead: Allowance

    async def allocate(self, request: Request, *, in_memory: bool) -> Allocated:
        """Reserve room; see `ampgrid.store.port.Store.allocating`.

        Raises:
            BusyError: the service has too many open buckets, or it is ending.
        """
        ...

    async def put(self, request: Request, data: bytes) -> Put:
        """Store a small share that came whole."""
        ...

    async def store_upload(self, upload: Incoming) -> None:
        """Store a share for good; returns after it is durable."""
        ...

    def in_thread(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[T]:
        """Run a function in a thread."""
        ...

    def count_buckets(self, change: int) -> None:
        """Note that so many buckets more are open, or fewer."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on its own; the service ends after it."""
        ...
