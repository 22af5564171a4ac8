"""Blobs on their way into the store of a peer: their order, their bounds, their end.

Writes of one blob are done in the order of their arrival; those that wait together are done in
one hop into a thread. A small blob is collected in memory and stored as a whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from ampgrid.commands import errors as e
from ampgrid.errors import BadArgumentValueError, InvalidBlobError, RemoteUnavailableError
from ampgrid.formats.blobname import BlobName
from ampgrid.ports import Clock
from ampgrid.store.servedblobs import IncomingFile, ServedBlobStore

#: A put of which nothing was heard for so long gives way to another one, seconds.
STALE_SECONDS = 30.0
#: A put of which nothing was heard for so long is ended, seconds.
IDLE_SECONDS = 30 * 60.0

BlobKey = tuple[str, BlobName]


class Work(Protocol):
    """What needs the store or a thread."""

    @property
    def store(self) -> ServedBlobStore:
        """The store."""
        ...

    def now(self) -> int:
        """Return the store's time."""
        ...

    def in_thread(self, function: Callable[..., Any], /, *args: Any) -> Awaitable[Any]:
        """Run a function in a thread."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on its own; the service ends after it."""
        ...

    async def put_whole(self, account: str, name: BlobName, data: bytes) -> None:
        """Store a small blob."""
        ...

    async def complete(self, incoming: IncomingFile) -> bool:
        """Let a blob be here whose bytes are on the disk; False if it was dropped meanwhile."""
        ...

    async def drop(self, incoming: IncomingFile) -> None:
        """Forget what came of a blob."""
        ...

    def ended(self, receiving: Receiving) -> None:
        """Forget a put; called by it."""
        ...


class Receiving:
    """One blob on its way in.

    Attributes:
        key: the account and the name.
        size: of the whole blob, bytes.
        tag: its last 16 bytes, as announced.
        incoming: its file; None of a small blob.
        have: bytes that came, those that wait to be written among them.
    """

    def __init__(
        self,
        work: Work,
        clock: Clock,
        key: BlobKey,
        size: int,
        tag: bytes,
        incoming: IncomingFile | None,
    ) -> None:
        self.key = key
        self.size = size
        self.tag = tag
        self.incoming = incoming
        self.have = 0 if incoming is None else incoming.written
        self._work = work
        self._clock = clock
        self._heard_at = clock.seconds()
        self._small = bytearray()
        self._waiting: deque[tuple[bytes, Deferred[None]]] = deque()
        self._idle: Deferred[None] | None = None
        self._running = False
        self._ended = False
        self._error: Exception | None = None

    @property
    def silent_seconds(self) -> float:
        """For how long nothing was heard of it; 0 while the store is at work, or at its end."""
        busy = self._running or self._ended
        return 0.0 if busy else self._clock.seconds() - self._heard_at

    async def write(self, offset: int, data: bytes) -> None:
        """Write the next bytes.

        Raises:
            BadArgumentValueError: they are not the next, or more than announced.
            NoSuchPutError: the put has ended.
            StoreError: the store failed; the put has ended.
        """
        self._check()
        if offset != self.have or offset + len(data) > self.size:
            raise BadArgumentValueError("These are not the next bytes of the blob.")
        self._heard_at = self._clock.seconds()
        self.have += len(data)
        if self.incoming is None:
            self._small += data
            return
        done: Deferred[None] = Deferred()
        self._waiting.append((data, done))
        if not self._running:
            self._running = True
            self._work.spawn(self._run(self.incoming))
        await done

    def _check(self) -> None:
        if self._ended:
            raise e.NoSuchPutError("the put has ended")

    async def _run(self, incoming: IncomingFile) -> None:
        try:
            while self._waiting:
                group = list(self._waiting)
                self._waiting.clear()
                await self._write_all(incoming, group)
        finally:
            self._running = False
            self._heard_at = self._clock.seconds()
            idle, self._idle = self._idle, None
            if idle is not None:
                idle.callback(None)

    async def _write_all(
        self, incoming: IncomingFile, group: list[tuple[bytes, Deferred[None]]]
    ) -> None:
        work, pieces = self._work, [data for data, _done in group]
        try:
            if self._error is not None:
                raise self._error
            await work.in_thread(work.store.write, incoming, pieces, work.now())
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            # What comes after bytes that were not written must not be.
            self._error = error
            for _data, done in group:
                done.errback(error)
        else:
            for _data, done in group:
                done.callback(None)

    async def _until_idle(self) -> None:
        if self._running:
            if self._idle is None:
                self._idle = Deferred()
            waiting: Deferred[None] = Deferred()
            self._idle.chainDeferred(waiting)
            await waiting

    async def finish(self) -> None:
        """Store the blob for good; returns after it is durable. The put has ended then.

        Raises:
            InvalidBlobError: bytes are missing, or its end is not as announced; it is dropped.
            NoSuchPutError: the put had ended.
            RemoteUnavailableError: the blob was deleted meanwhile.
            BlobError: a small blob cannot be put.
            StoreError: the store failed.
        """
        self._check()
        self._ended = True
        try:
            await self._until_idle()
            if self._error is not None:
                raise self._error
            if self.incoming is None:
                await self._finish_small()
            else:
                await self._finish_large(self.incoming)
        finally:
            self._close()

    async def _finish_small(self) -> None:
        data = bytes(self._small)
        if len(data) != self.size or data[-len(self.tag) :] != self.tag:
            raise InvalidBlobError("The blob does not end as it was announced.")
        await self._work.put_whole(*self.key, data)

    async def _finish_large(self, incoming: IncomingFile) -> None:
        work = self._work
        try:
            await work.in_thread(work.store.finish, incoming)
        except InvalidBlobError:
            await work.drop(incoming)
            raise
        if not await work.complete(incoming):
            raise RemoteUnavailableError("The blob was deleted while it was being put.")

    async def leave(self, *, keep: bool) -> None:
        """End it here. With ``keep``, what came can be gone on with; a small blob is forgotten.

        Raises:
            StoreError: the store failed.
        """
        if self._ended:
            return
        self._ended = True
        try:
            await self._until_idle()
            incoming = self.incoming
            if incoming is not None and keep:
                work = self._work
                await work.in_thread(work.store.keep, incoming, work.now())
            elif incoming is not None:
                await self._work.drop(incoming)
        finally:
            self._close()

    def _close(self) -> None:
        if self.incoming is not None:
            self.incoming.close()
        self._small.clear()
        self._work.ended(self)
