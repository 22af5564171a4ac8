"""The service of a vdrive peer: replicas of other peers' directories, kept in a store.

It stands between the connections and the blocking store: it checks signatures and brings work
into threads, in groups that share a commit and in the order in which the calls came (nodes are
staged before the record that needs them, also where nobody waited for an answer). It knows the
time, and does what time brings: old nodes are swept, leases run out.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import DeferredSemaphore
from twisted.logger import Logger

from ampgrid.commands import errors as e
from ampgrid.crypto.identity import node_id_text
from ampgrid.errors import FormatError, StoreError
from ampgrid.formats.ballot import Prepare
from ampgrid.formats.pointer import Pointer
from ampgrid.formats.record import EMPTY_ROOT, Record
from ampgrid.ports import Clock, DelayedCall, Entropy, Threads, WallClock
from ampgrid.storage.background import Background
from ampgrid.storage.groups import Groups, Result, do_all
from ampgrid.storage.references import reference_of
from ampgrid.store.directories import (
    MOST_TRIES,
    Caller,
    DirectoryStore,
    Judged,
    LongWorkError,
    Shown,
)
from ampgrid.store.directory_upkeep import DirectoryCounts
from ampgrid.store.sql import Job
from ampgrid.store.timekeeping import StoreClock

T = TypeVar("T")

_log = Logger()

#: How often it looks around, seconds.
LOOK_SECONDS = 60.0
#: How often the latest time seen is written down, seconds.
KEEP_SECONDS = 900
#: How often expiry makes a pass, seconds.
PASS_SECONDS = 3600
#: Accounts that the status names.
MOST_NAMED = 10
#: The most groups of looks under way.
_LOOKS_AT_ONCE = 2
#: The most changes under way that are compared in slices; what they found is in memory.
_LONG_ONES_AT_ONCE = 4


@attrs.frozen
class VdriveSettings:
    """What a vdrive service does by itself.

    Attributes:
        expire: whether directories without a lease are dropped.
        grace_seconds: how long they have been marked before that.
    """

    expire: bool = False
    grace_seconds: int = 86_400


class VdriveService:
    """Keeps replicas of directories for peers.

    Args:
        store: where they are kept; the service closes it when it stops.
        clock: timers.
        wall: the wall clock, which is watched.
        threads: where signatures are checked and the store is called.
        entropy: makes the reference numbers of failures.
        settings: what it does by itself.
        monotonic: seconds that only grow; the clock's, if it is not given.
    """

    def __init__(
        self,
        store: DirectoryStore,
        *,
        clock: Clock,
        wall: WallClock,
        threads: Threads,
        entropy: Entropy,
        settings: VdriveSettings | None = None,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._threads = threads
        self._entropy = entropy
        self._settings = settings or VdriveSettings()
        self.time = StoreClock(store.beginning, wall, monotonic or clock.seconds)
        # Both take one after the other, so calls keep their order; while some are written, others
        # are checked, which leaves the interpreter to those.
        self._checks: Groups[Callable[[], Job[Any]]] = Groups(threads, self._spawn, do_all)
        self._changes: Groups[Callable[[], Job[Any]]] = Groups(
            threads, self._spawn, self._change_all
        )
        self._looks: Groups[Callable[[], Any]] = Groups(
            threads, self._spawn, do_all, _LOOKS_AT_ONCE
        )
        self._slices: Groups[Callable[[], bool]] = Groups(threads, self._spawn, do_all)
        self._long_ones = DeferredSemaphore(_LONG_ONES_AT_ONCE)
        self._background = Background("the vdrive service", _log)
        self._timer: DelayedCall | None = None
        self._serving = False
        self._counted = DirectoryCounts()
        self._largest: tuple[tuple[bytes, int, int], ...] = ()
        started = self.time.now()
        self._keep_at = started + KEEP_SECONDS
        # An hour at the earliest: whoever was waiting for this node to be back renews first.
        self._pass_at = started + PASS_SECONDS

    # Beginning and end.

    @property
    def store_id(self) -> bytes:
        """The id of the store, 16 bytes."""
        return self._store.me.store_id

    async def start(self) -> None:
        """Begin to serve."""
        try:
            if not self._settings.expire:
                await self._threads.run(self._store.upkeep.forget_marks)
            await self._count()
        except StoreError as error:
            # On a disk that is full, say, directories can still be read.
            _log.warn("the upkeep of directories began badly: {error}", error=error)
        self._serving = True
        self._timer = self._clock.callLater(LOOK_SECONDS, self._look_around)

    async def stop(self) -> None:
        """Finish what is under way, write the time down, close the store."""
        self._serving = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        await self._background.over()
        await self._keep_time()
        await self._threads.run(self._store.close)

    def _look_around(self) -> None:
        if self.time.look():
            _log.warn("the clock jumped: no directory expires for a while")
        self._spawn(self._do_what_is_due())
        self._timer = self._clock.callLater(LOOK_SECONDS, self._look_around)

    async def _do_what_is_due(self) -> None:
        now = self.time.now()
        try:
            if now >= self._keep_at:
                self._keep_at = now + KEEP_SECONDS
                await self._keep_time()
            await self._until_none(self._store.upkeep.walk)
            await self._until_none(self._store.upkeep.sweep, now)
            if now >= self._pass_at and not self.time.paused_seconds:
                self._pass_at = now + PASS_SECONDS
                await self._make_pass(now)
            await self._count()
        except StoreError as error:
            _log.warn("the upkeep of directories failed: {error}", error=error)

    async def _keep_time(self) -> None:
        try:
            await self._threads.run(self._store.upkeep.keep_time, self.time.now())
        except StoreError as error:
            _log.warn("the time could not be written down: {error}", error=error)

    async def _make_pass(self, now: int) -> None:
        upkeep = self._store.upkeep
        await self._until_none(upkeep.drop_outdated, now)
        if self._settings.expire:
            await self._until_none(upkeep.mark_ended, now)
            await self._until_none(upkeep.expire, now, self._settings.grace_seconds)
            await self._until_none(upkeep.drop_pointers, now)

    async def _until_none(self, do_batch: Callable[..., int], *arguments: int) -> None:
        """Do one batch after the other, each in a transaction of its own, while there are any."""
        while self._serving:
            if not await self._threads.run(do_batch, *arguments):
                return

    async def _count(self) -> None:
        self._counted = await self._threads.run(self._store.upkeep.count)
        largest = await self._threads.run(self._store.largest_accounts, MOST_NAMED)
        self._largest = tuple(largest)
        await self._threads.run(self._look_at_room)

    def _look_at_room(self) -> None:
        self._store.room(fresh=True)

    # What connections ask: changes.

    async def prepare(
        self, index: bytes, peer: bytes, prepare: bytes, slots: Sequence[bytes]
    ) -> Judged:
        """Judge a packed prepare.

        Raises:
            FormatError: it is malformed.
            IntegrityError: its signature does not hold.
            StoreError: the store has no room, or failed.
        """

        def make() -> Job[Judged]:
            checked = _checked_prepare(index, prepare)
            return self._store.preparing(index, self._caller(peer), checked, slots)

        return await self._change(make)

    async def create(self, index: bytes, peer: bytes, record: bytes) -> Judged:
        """Judge the packed first record of a directory; raises what `accept` does."""

        def make() -> Job[Judged]:
            checked = _checked_record(index, record)
            if checked.version != 1 or checked.root != EMPTY_ROOT:
                raise FormatError("this is not the first record of a directory")
            return self._store.accepting(index, self._caller(peer), checked)

        return await self._change(make)

    async def accept(
        self,
        index: bytes,
        peer: bytes,
        record: bytes,
        changes: Mapping[bytes, bytes | None] | None = None,
    ) -> Judged:
        """Judge a packed record.

        Args:
            index: of the directory, 32 bytes.
            peer: node id of who sends it.
            record: packed.
            changes: see `DirectoryStore.accepting`.

        Raises:
            FormatError: something is malformed.
            IntegrityError: a signature does not hold.
            StoreError: the store has no room, or failed.
        """

        def make() -> Job[Judged]:
            checked = _checked_record(index, record)
            return self._store.accepting(index, self._caller(peer), checked, changes)

        return await self._change(make)

    async def stage(
        self, index: bytes, peer: bytes, nodes: Sequence[bytes], shown: bytes | None
    ) -> None:
        """Keep nodes for a record to come.

        Raises:
            FormatError: a node, or what was shown, is malformed.
            IntegrityError: the signature of what was shown does not hold.
            NotStoredError: nothing is kept of the directory, and nothing was shown.
            StoreError: the store has no room, or failed.
        """

        def make() -> Job[None]:
            if shown is not None:
                _check_shown(index, shown)
            caller = self._caller(peer)
            return self._store.staging(index, caller, nodes, shown=shown is not None)

        await self._change(make)

    async def renew(self, index: bytes, peer: bytes) -> None:
        """Add or renew a peer's lease; raises `NotStoredError`, `NoRoomError`."""
        await self._change(lambda: self._store.renewing(index, self._caller(peer)))

    async def cancel(self, index: bytes, peer: bytes) -> None:
        """Remove a peer's lease; raises `NotStoredError`, `NoLeaseError`."""
        await self._change(lambda: self._store.cancelling(index, self._caller(peer)))

    async def point(self, index: bytes, peer: bytes, pointer: bytes) -> None:
        """Keep a packed pointer to a snapshot.

        Raises:
            FormatError: it is malformed.
            IntegrityError: its signature does not hold.
            StoreError: the store has no room, or failed.
        """

        def make() -> Job[None]:
            checked = Pointer.unpack(pointer)
            checked.check(index)
            return self._store.pointing(index, self._caller(peer), checked)

        await self._change(make)

    # What connections ask: looks.

    async def show(self, index: bytes, slots: Sequence[bytes]) -> Shown:
        """Return what is kept of a directory; see `DirectoryStore.show`."""
        return await self._look(lambda: self._store.show(index, slots))

    async def prove(self, index: bytes, slot: bytes, root: bytes | None) -> Shown:
        """Return the nodes on the way to a slot; see `DirectoryStore.prove`."""
        return await self._look(lambda: self._store.prove(index, slot, root))

    async def page(self, index: bytes, root: bytes | None, after: bytes | None) -> Shown:
        """Return nodes in preorder; see `DirectoryStore.page`."""
        return await self._look(lambda: self._store.page(index, root, after))

    async def nodes(self, index: bytes, hashes: Sequence[bytes]) -> Sequence[bytes]:
        """Return nodes by their hashes; see `DirectoryStore.nodes`."""
        return await self._look(lambda: self._store.nodes(index, hashes))

    async def pointer(self, index: bytes) -> bytes:
        """Return the pointer to the last snapshot; raises `NotStoredError`."""
        return await self._look(lambda: self._store.pointer(index))

    # What it tells.

    def status(self) -> dict[str, Any]:
        """Return what `status` shows, ready for JSON; sizes in bytes. Never blocks."""
        room = self._store.room(fresh=False)
        return {
            "accepts": self._serving and not self._store.broken,
            "alarm": (
                "The disk failed, and no change is accepted until a probe passes."
                if self._store.broken
                else ""
            ),
            "store_id": self.store_id.hex(),
            "directories": room.directories,
            "used": room.used,
            "live": room.live,
            "staged": room.staged,
            "replaced": room.replaced,
            "quota": room.quota,
            "reserve": room.reserve,
            "free": room.free,
            "leases": room.leases,
            "snapshots": room.pointers,
            "accounts": [
                {"node_id": node_id_text(peer), "bytes": size, "directories": count}
                for peer, size, count in self._largest
            ],
            "expiry": {
                "enabled": self._settings.expire,
                "grace_seconds": self._settings.grace_seconds,
                "paused_seconds": self.time.paused_seconds,
                "marked": self._counted.marked,
                "expired": self._counted.expired,
                "next_pass": self._pass_at,
            },
        }

    def report(self, error: StoreError) -> str:
        """Write a failure of the store to the log; return the number that it has there."""
        return reference_of(error, _log, self._entropy)

    # How it is done.

    def _caller(self, peer: bytes) -> Caller:
        return Caller(peer, self.time.now())

    async def _change(self, make: Callable[[], Job[T]]) -> T:
        try:
            return await self._change_at_once(make)
        except LongWorkError as more:
            done: T = await self._change_in_slices(more)
            return done

    async def _change_at_once(self, make: Callable[[], Job[T]]) -> T:
        if not self._serving:
            raise e.BusyError("the service is not accepting")
        changed: T
        if self._checks.idle and self._changes.idle:
            # Nobody else is there: one hop into a thread for both.
            changed = await self._changes.run(make)
        else:
            job: Job[T] = await self._checks.run(make)
            changed = await self._changes.run(lambda: job)
        return changed

    async def _change_in_slices(self, more: LongWorkError) -> Any:
        """Have done what is too long for one transaction; others come in between.

        Raises:
            FormatError: see `accept`.
            BusyError: the directory changes all the while, or the service stops.
        """
        await self._long_ones.acquire()
        try:
            for _try in range(MOST_TRIES):
                while self._serving and not await self._slices.run(
                    lambda: self._store.go_on(more)
                ):
                    pass
                if not self._serving:
                    break
                try:
                    return await self._changes.run(lambda: more.job)
                except LongWorkError:
                    continue
        finally:
            self._long_ones.release()
            self._spawn(self._walk())
        raise e.BusyError("the directory changes too fast for so large a change")

    async def _walk(self) -> None:
        """Do what is still to be done to the nodes of large directories."""
        try:
            await self._until_none(self._store.upkeep.walk)
        except StoreError as error:
            _log.warn("the nodes of a directory wait: {error}", error=error)

    def _change_all(self, makes: Sequence[Callable[[], Job[Any]]]) -> list[Result]:
        """Check what was not checked yet, and run what holds, all with one commit."""
        made = do_all(makes)
        jobs = [done.value for done in made if done.error is None]
        outcomes = iter(self._store.run_all(jobs) if jobs else ())
        return [done if done.error is not None else next(outcomes) for done in made]

    async def _look(self, look: Callable[[], T]) -> T:
        if not self._serving:
            raise e.BusyError("the service is not serving")
        found: T = await self._looks.run(look)
        return found

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._background.spawn(work)


def _checked_record(index: bytes, packed: bytes) -> Record:
    record = Record.unpack(packed)
    record.check(index)
    return record


def _checked_prepare(index: bytes, packed: bytes) -> Prepare:
    prepare = Prepare.unpack(packed)
    prepare.check(index)
    return prepare


def _check_shown(index: bytes, packed: bytes) -> None:
    """Check that something was signed with the key of a directory: a record or a prepare."""
    try:
        _checked_prepare(index, packed)
    except FormatError:
        _checked_record(index, packed)
