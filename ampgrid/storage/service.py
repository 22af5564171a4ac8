"""The storage service: shares of other peers, kept in a store of shares.

It stands between the connections and the blocking store: it brings work into threads, in groups
where that saves a commit, and bounds what one connection, and all of them, can hold open. It
knows the time and the secrets of leases, of which the store sees digests. What it does by
itself is in `ampgrid.storage.upkeep`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ampgrid.commands import errors as e
from ampgrid.errors import StoreError
from ampgrid.ports import Clock, DelayedCall, Entropy, Threads, WallClock
from ampgrid.storage.allowance import Allowance
from ampgrid.storage.background import Background
from ampgrid.storage.buckets import ConnectionBuckets
from ampgrid.storage.groups import Groups, do_all
from ampgrid.storage.promptness import Promptness
from ampgrid.storage.references import reference_of
from ampgrid.storage.scrub import Watched
from ampgrid.storage.upkeep import Upkeep, UpkeepSettings
from ampgrid.store import Allocated, LeaseTerms, Put, Request, Room, Store
from ampgrid.store.catalog import NOBODY
from ampgrid.store.port import Incoming, Task

if TYPE_CHECKING:
    from ampgrid.storage.tahoe_files import Report
    from ampgrid.storage.tahoe_import import Progress

P = ParamSpec("P")
T = TypeVar("T")

_log = Logger()

#: The most open buckets of all connections.
MOST_OPEN_BUCKETS = 8192
#: The most bytes of all connections that were answered before they are in a file.
MOST_AHEAD_BYTES = 32 * 2**20
#: How often overdue buckets are looked for, seconds.
LOOK_SECONDS = 60.0
#: The most groups of reads under way.
_READS_AT_ONCE = 4


class StorageService:
    """Keeps shares for peers.

    Args:
        store: where they are kept; the service closes it when it stops.
        clock: monotonic time, for overdue buckets.
        wall: the wall clock.
        threads: where the store is called.
        entropy: makes the reference numbers of failures.
        settings: what it does by itself; nothing, if they are not given.
        monotonic: seconds that only grow; the clock's, if it is not given. A reactor's clock is
            no such thing: it is set with the wall clock.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        wall: WallClock,
        threads: Threads,
        entropy: Entropy,
        settings: UpkeepSettings | None = None,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._threads = threads
        self._entropy = entropy
        self._connections: set[ConnectionBuckets] = set()
        self._tasks: Groups[Task[Any]] = Groups(threads, self.spawn, store.run_all)
        self._looks: Groups[Callable[[], Any]] = Groups(
            threads, self.spawn, do_all, _READS_AT_ONCE
        )
        self._prompt = Promptness(monotonic or clock.seconds)
        self._background = Background("the storage service", _log)
        self._timer: DelayedCall | None = None
        self._serving = False
        self._open_buckets = 0
        self.ahead = Allowance(MOST_AHEAD_BYTES)
        self._changed = False
        self.upkeep = Upkeep(
            store,
            settings or UpkeepSettings(),
            clock=clock,
            wall=wall,
            monotonic=monotonic or clock.seconds,
            in_thread=threads.run,
            spawn=self.spawn,
        )

    # Beginning and end.

    async def start(self) -> None:
        """Begin to serve."""
        await self.upkeep.start()
        report = attrs.asdict(self._store.recovery)
        if any(report.values()):
            _log.warn("the store was not closed in order: {report}", report=report)
        self._serving = True
        self._timer = self._clock.callLater(LOOK_SECONDS, self._look_around)

    async def stop(self) -> None:
        """Throw unfinished shares away, finish what is under way, close the store."""
        self._serving = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for buckets in list(self._connections):
            self.forget(buckets)
        await self.upkeep.stop()
        await self._background.over()
        await self.in_thread(self._store.close)

    def _look_around(self) -> None:
        for buckets in list(self._connections):
            buckets.look_around()
        self.upkeep.tick()
        if self._changed:
            self._changed = False
            self.spawn(self.look_again())
        self._timer = self._clock.callLater(LOOK_SECONDS, self._look_around)

    async def look_again(self) -> None:
        """Look into the store for what `status` shows."""
        await self.upkeep.count(quick=True)
        await self.in_thread(partial(self._store.room, fresh=True))

    async def run_scrub(self, operation: Watched) -> dict[str, Any]:
        """Look at every share now, and return the report for JSON.

        Raises:
            BusyError: this is under way already, or the service is ending.
            OperationCancelledError: it was cancelled.
            StoreError: a bad share could not be set aside.
        """
        self._check_serving()
        return await self.upkeep.run_scrub(operation)

    def status(self) -> dict[str, Any]:
        """Return what `status` shows, ready for JSON; sizes in bytes. Never blocks.

        What takes a look into the store is as it was at the last one (`look_again`).
        """
        room = self._store.room(fresh=False)
        return {
            "accepts": room.accepts and self._serving,
            "available": room.available,
            "used": room.used,
            "overhead": room.overhead,
            "promised": room.promised,
            "shares": room.shares,
            "quota": room.quota,
            "reserve": room.reserve,
            "free": room.free,
            "open_buckets": self._open_buckets,
            "recovery": attrs.asdict(self._store.recovery),
            **self.upkeep.status(),
        }

    # What connections ask.

    def buckets(self, peer: bytes) -> ConnectionBuckets:
        """Return the buckets of a new connection; `forget` them when it goes."""
        buckets = ConnectionBuckets(self, self._clock, peer)
        self._connections.add(buckets)
        return buckets

    def forget(self, buckets: ConnectionBuckets) -> None:
        """Throw away what a connection has not closed."""
        self._connections.discard(buckets)
        buckets.lost()

    def lease(self, renew_secret: bytes, cancel_secret: bytes, peer: bytes = NOBODY) -> LeaseTerms:
        """Return the terms of a lease from now on, for a peer."""
        return LeaseTerms.of(renew_secret, cancel_secret, self.upkeep.time.now(), peer)

    async def look(
        self, storage_index: bytes, wanted: frozenset[int], head: int, most: int
    ) -> tuple[dict[int, int], dict[int, bytes]]:
        """Return ({number: size} of the shares of a file, first bytes of the wanted)."""
        asked = (storage_index, wanted, head, most)
        # Behind others that wait for the disk this one waits too.
        if self._looks.idle:
            heads = self._prompt.attempt(partial(self._store.heads_at_once, *asked))
            if heads is not None:
                return heads
        found: tuple[dict[int, int], dict[int, bytes]] = await self._looks.run(
            partial(self._store.heads, *asked)
        )
        return found

    async def read(self, storage_index: bytes, number: int, offset: int, length: int) -> bytes:
        """Return bytes of a share, clamped to it; raises `NotStoredError`."""
        data = self._store.read_at_once(storage_index, number, offset, length)
        if data is None:
            data = await self.in_thread(self._store.read, storage_index, number, offset, length)
        return data

    async def add_lease(self, storage_index: bytes, lease: LeaseTerms) -> None:
        """Add or renew a lease; raises `NotStoredError`, `NoRoomError`."""
        await self._tasks.run(self._store.adding_lease(storage_index, lease))

    async def renew_lease(self, storage_index: bytes, renew: bytes) -> None:
        """Renew the lease with this digest; raises `NotStoredError`."""
        now = self.upkeep.time.now()
        await self._tasks.run(self._store.renewing_lease(storage_index, renew, now))

    async def cancel_lease(self, storage_index: bytes, cancel: bytes) -> None:
        """Remove the lease with this digest, and no share; raises `NotStoredError`."""
        await self._tasks.run(self._store.cancelling_lease(storage_index, cancel))

    async def advise(self, storage_index: bytes, number: int, peer: bytes, reason: str) -> None:
        """Note that a peer calls a share bad, and look; raises `NotStoredError`.

        Returns when the share was looked at (and is gone, if it was bad indeed), or after some
        seconds if that takes longer.
        """
        now = self.upkeep.time.now()
        await self._tasks.run(self._store.advising(storage_index, number, peer, reason, now))
        shares = await self.in_thread(self._store.shares, storage_index)
        if number in shares:
            await self.upkeep.advice.consider((storage_index, number), shares[number], peer)
            self._changed = True

    async def space(self, peer: bytes) -> tuple[Room, int]:
        """Return the accounts of the store, and the bytes that a peer put here."""
        return await self.in_thread(self._space, peer)

    def _space(self, peer: bytes) -> tuple[Room, int]:
        return self._store.room(fresh=True), self._store.account(peer)[0]

    def report(self, error: StoreError) -> str:
        """Write a failure of the store to the log; return the number that it has there."""
        return reference_of(error, _log, self._entropy)

    # What buckets need (`ampgrid.storage.ports.Work`).

    async def allocate(self, request: Request, *, in_memory: bool) -> Allocated:
        """Reserve room.

        Raises:
            BusyError: too many buckets are open, or the service is ending.
            StoreError: the store failed.
        """
        if self._open_buckets > MOST_OPEN_BUCKETS:
            raise e.BusyError("too many buckets are open")
        self._check_serving()
        task = self._store.allocating(request, in_memory=in_memory)
        allocated: Allocated = await self._tasks.run(task)
        return allocated

    async def put(self, request: Request, data: bytes) -> Put:
        """Store a small share that came whole, in one hop."""
        self._check_serving()
        put: Put = await self._tasks.run(self._store.putting(request, data))
        self._changed = True
        return put

    async def store_upload(self, upload: Incoming) -> None:
        """Store a share for good; returns after it, or the same from elsewhere, is durable.

        Raises:
            WriteConflictError: a share of its number with other bytes was stored meanwhile.
            StoreError: it is not complete, or the store failed.
        """
        if upload.in_memory:
            await self._tasks.run(self._store.closing(upload))
        else:
            await self.in_thread(self._store.close_upload, upload)
        self._changed = True

    # What the operator asks.

    async def import_tahoe(self, source: Path, progress: Progress, *, dry: bool = False) -> Report:
        """Take the shares of a Tahoe-LAFS storage directory; see `import_shares`.

        Raises:
            FileError: there is no such directory.
            BusyError: the service is ending.
            StoreError: there is no room, or the store failed.
        """
        from ampgrid.storage.tahoe_import import import_shares

        self._check_serving()
        self._changed = True
        now = self.upkeep.time.now
        work = partial(import_shares, self._store, source, wall=now, progress=progress, dry=dry)
        report: Report = await self._finished_before_end(work)
        return report

    async def export_share(self, storage_index: bytes, number: int, descriptor: int) -> int:
        """Write the bytes of a share to a descriptor, and return how many; see `export_share`.

        Raises:
            FileError: it cannot be written to.
            BusyError: the service is ending.
            NotStoredError: there is no such share.
        """
        from ampgrid.storage.share_export import export_share

        self._check_serving()
        work = partial(export_share, self._store, storage_index, number, descriptor)
        size: int = await self._finished_before_end(work)
        return size

    async def _finished_before_end(self, work: Callable[[], Any]) -> Any:
        """Run long work in a thread; the store is not closed before its end."""
        outcome: Deferred[Any] = Deferred()

        async def run() -> None:
            try:
                outcome.callback(await self.in_thread(work))
            except Exception as error:  # noqa: BLE001 - told to whoever waits
                outcome.errback(error)

        self.spawn(run())
        return await outcome

    def in_thread(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[T]:
        """Run a function in a thread."""
        return self._threads.run(function, *args, **kwargs)

    def count_buckets(self, change: int) -> None:
        """Note that so many buckets more are open, or fewer."""
        self._open_buckets += change

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on its own; `stop` waits for it."""
        self._background.spawn(work)

    def _check_serving(self) -> None:
        if not self._serving:
            raise e.BusyError("the service is not accepting")
