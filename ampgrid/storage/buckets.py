"""The shares that one connection is sending: their order, their bounds, their end.

A bucket is a share on its way in, named by the number that the caller chose for an allocation
and the number of the share. What names one bucket is done in the order of its arrival, also
before the answer to the allocation is known: a step waits in the bucket's queue until those
before it are done. Buckets do not wait for each other. Writes that wait together are done in
one hop into a thread; those of a small share, which is collected in memory, at once.

A hop costs as much as several writes. So a write that goes on where the share ended so far is
answered once its bytes are here, *ahead*, and brought to the file with others. It can contradict
nothing, so only the disk can refuse it, and then the next write and the close answer that. What
is ahead has a bound for each connection and one for all; beyond it a write is answered when it
is in the file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal, Protocol

import attrs
from twisted.internet.defer import Deferred

from ampgrid.commands import errors as e
from ampgrid.commands.storage import MAX_CHUNK_BYTES
from ampgrid.ports import Clock
from ampgrid.storage.allowance import Allowance
from ampgrid.storage.ports import Work
from ampgrid.store import SMALL_SHARE_BYTES, LeaseTerms, Request
from ampgrid.store.port import Incoming
from ampgrid.store.uploads import Write

#: The most open buckets of one connection.
MOST_BUCKETS = 512
#: The most bytes of small shares that one connection has collected in memory.
MOST_MEMORY_BYTES = 2**20
#: So many bytes of a share that are ahead are brought to its file together.
STEP_BYTES = 8 * MAX_CHUNK_BYTES
#: The most bytes of one connection that are ahead: a step on its way, and one that is gathered.
MOST_AHEAD_BYTES = 2**20
#: So many bytes are counted of a write that is ahead beside its own: what is remembered of it.
WRITE_BYTES = 256
#: How long a bucket may be without a new byte before it is dropped, seconds.
IDLE_SECONDS = 30 * 60.0
#: How slowly a share may come, bytes a second; its bucket lives `IDLE_SECONDS` longer than that.
SLOWEST = 4096

BucketKey = tuple[int, int]


@attrs.define(eq=False)
class _Write:
    """Bytes to be written.

    Attributes:
        offset: of the first of them, bytes from the beginning of the share.
        data: the bytes.
        done: fires when they are in the file; None if nobody waits for that.
        ahead: what it counts of what may be ahead, bytes; 0 if it is not.
    """

    offset: int
    data: bytes
    done: Deferred[None] | None = None
    ahead: int = 0

    def tell(self, error: Exception | None) -> None:
        """Tell whoever waits what has become of it."""
        if self.done is None:
            return
        if error is None:
            self.done.callback(None)
        else:
            self.done.errback(error)


@attrs.define(eq=False)
class _End:
    how: Literal["close", "abort"]
    done: Deferred[None] = attrs.field(factory=Deferred)


def _no_bucket() -> e.NoBucketError:
    return e.NoBucketError("no open bucket of this connection has this number")


class _Owner(Protocol):
    #: What the connection may have ahead.
    ahead: Allowance

    def ended(self, bucket: Bucket) -> None: ...

    def write_out(self) -> None: ...


class Bucket:
    """One share on its way in, and what is still to be done to it.

    Attributes:
        key: what the caller calls it: the number of the allocation, and of the share.
        memory_bytes: what it counts of its connection's memory, bytes.
    """

    def __init__(
        self, key: BucketKey, owner: _Owner, work: Work, clock: Clock, memory_bytes: int
    ) -> None:
        self.key = key
        self.memory_bytes = memory_bytes
        self._owner = owner
        self._work = work
        self._clock = clock
        self._upload: Incoming | None = None
        self._steps: deque[_Write | _End] = deque()
        #: Whether somebody waits for a step, or there are enough of them.
        self._due = False
        self._running = False
        self._closing = False
        self._ended = False
        self._opened_at = self._grown_at = clock.seconds()
        self._covered = 0
        #: Where what was asked to be written ends, and what its steps count as ahead.
        self._end = 0
        self._ahead = 0
        #: Why something that was answered ahead could not be written.
        self._failure: Exception | None = None

    # What the caller asks.

    async def write(self, offset: int, data: bytes) -> None:
        """Write bytes after what was asked before; raises `StoreError`, `NoBucketError`."""
        upload = self._upload
        if upload is not None and upload.in_memory and not (self._steps or self._running):
            error = upload.write([(offset, data)])[0]
            self._look_whether_grown(upload)
            if error is not None:
                raise error
            return
        if upload is not None and self._take_ahead(upload, offset, data):
            return
        done: Deferred[None] = Deferred()
        self._queue(_Write(offset, data, done))
        self._end = max(self._end, offset + len(data))
        await done

    def _take_ahead(self, upload: Incoming, offset: int, data: bytes) -> bool:
        """Take bytes that need no answer from the disk, if they are such."""
        end = offset + len(data)
        if self._ended or self._failure is not None or upload.in_memory:
            return False
        if offset != self._end or not offset < end <= upload.size:
            return False
        ahead = len(data) + WRITE_BYTES
        if not self._owner.ahead.take(ahead):
            # What other buckets gather must not hold up this one for long.
            self._owner.write_out()
            return False
        self._end = end
        self._ahead += ahead
        # Nothing of it was there before.
        self._covered += len(data)
        self._grown_at = self._clock.seconds()
        self._steps.append(_Write(offset, data, ahead=ahead))
        if self._ahead >= STEP_BYTES:
            self.write_out()
        return True

    def write_later(self, offset: int, data: bytes) -> None:
        """Queue a write whose failure shows in the bucket's end."""
        self._queue(_Write(offset, data))
        self._end = max(self._end, offset + len(data))

    def write_out(self) -> None:
        """Bring what is ahead to the file, if it is not on its way there."""
        self._due = True
        self._start()

    async def end(self, how: Literal["close", "abort"]) -> None:
        """Store the share, or throw it away, after what was asked before."""
        step = _End(how)
        self._queue(step)
        await step.done

    # What happens to it.

    def opened(self, upload: Incoming) -> None:
        """Begin: there is room for it."""
        self._upload = upload
        self._opened_at = self._grown_at = self._clock.seconds()
        self._start()

    def drop(self) -> None:
        """End it: refused, or its connection went, or it took too long."""
        if not self._ended:
            self._finish()
            if self._upload is not None and not self._running:
                self._work.spawn(self._discard(self._upload))

    def is_overdue(self, now: float) -> bool:
        """Tell whether nothing new came for too long, or the whole share takes too long.

        Bytes that were there already, or were refused, are nothing new.
        """
        if self._upload is None or self._closing:
            return False
        if now - self._opened_at >= IDLE_SECONDS + self._upload.size / SLOWEST:
            return True
        # A disk that is slow is no fault of the sender.
        return not self._running and now - self._grown_at >= IDLE_SECONDS

    def _look_whether_grown(self, upload: Incoming) -> None:
        if upload.covered > self._covered:
            self._covered = upload.covered
            self._grown_at = self._clock.seconds()

    def _queue(self, step: _Write | _End) -> None:
        if self._ended:
            raise _no_bucket()
        self._steps.append(step)
        self.write_out()

    def _start(self) -> None:
        if self._upload is not None and self._steps and self._due and not self._running:
            self._running = True
            self._work.spawn(self._run(self._upload))

    async def _run(self, upload: Incoming) -> None:
        try:
            while self._steps and self._due:
                step = self._steps.popleft()
                if isinstance(step, _Write):
                    await self._run_writes(upload, step)
                elif await self._run_end(upload, step):
                    return
                if self._ended:
                    # Dropped meanwhile, or not stored.
                    await self._discard(upload)
                    return
        finally:
            self._running = False

    async def _run_writes(self, upload: Incoming, first: _Write) -> None:
        steps = [first]
        while self._steps and isinstance(self._steps[0], _Write):
            steps.append(self._steps.popleft())  # type: ignore[arg-type]
        self._due = bool(self._steps)
        ahead = sum(step.ahead for step in steps)
        self._ahead -= ahead
        try:
            outcomes = await self._write(upload, [(step.offset, step.data) for step in steps])
        finally:
            self._owner.ahead.give_back(ahead)
        self._look_whether_grown(upload)
        for step, outcome in zip(steps, outcomes, strict=True):
            if outcome is not None and step.done is None and self._failure is None:
                self._failure = outcome
            step.tell(outcome)

    async def _write(self, upload: Incoming, writes: list[Write]) -> Sequence[Exception | None]:
        """Return for each write why it was not done, None if it was."""
        try:
            if self._failure is not None:
                raise self._failure
            if upload.in_memory:
                return upload.write(writes)
            return await self._work.in_thread(upload.write, writes)
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            return [error] * len(writes)

    async def _run_end(self, upload: Incoming, step: _End) -> bool:
        """Store the share or throw it away; tell whether that was done."""
        try:
            if step.how == "close":
                self._closing = True
                await self._store(upload)
            else:
                await self._discard(upload)
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            self._finish()
            step.done.errback(error)
            return False
        self._finish()
        step.done.callback(None)
        return True

    async def _store(self, upload: Incoming) -> None:
        if self._failure is not None:
            raise self._failure
        await self._work.store_upload(upload)

    async def _discard(self, upload: Incoming) -> None:
        if upload.in_memory:
            upload.discard()
        else:
            await self._work.in_thread(upload.discard)

    def _finish(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._owner.ended(self)
        steps, self._steps = self._steps, deque()
        for step in steps:
            if isinstance(step, _Write):
                self._owner.ahead.give_back(step.ahead)
                step.tell(_no_bucket())
            elif step.how == "abort":
                step.done.callback(None)
            else:
                step.done.errback(_no_bucket())


@attrs.frozen
class Ask:
    """What `AllocateBuckets` asks.

    Attributes:
        storage_index: 16 bytes.
        lease: the lease to add.
        numbers: of the shares.
        size: of each share, bytes.
        bucket: the caller's number for this allocation.
        data: the first bytes of the only share, or None.
        close: whether they are all of it.
    """

    storage_index: bytes
    lease: LeaseTerms
    numbers: frozenset[int]
    size: int
    bucket: int
    data: bytes | None = None
    close: bool = False


class ConnectionBuckets:
    """The open buckets of one connection.

    Args:
        work: does what needs the store.
        clock: time.
        peer: node id of the other end, 20 bytes.
    """

    def __init__(self, work: Work, clock: Clock, peer: bytes) -> None:
        self._work = work
        self._clock = clock
        self._peer = peer
        self._buckets: dict[BucketKey, Bucket] = {}
        self._memory_bytes = 0
        self.ahead = Allowance(MOST_AHEAD_BYTES, work.ahead)
        self._lost = False

    def __len__(self) -> int:
        return len(self._buckets)

    @property
    def memory_bytes(self) -> int:
        """Bytes of small shares that are, or may be, collected in memory."""
        return self._memory_bytes

    async def allocate(self, ask: Ask) -> tuple[frozenset[int], frozenset[int]]:
        """Ask for room; return (numbers held already, numbers accepted).

        Raises:
            BadArgumentError: the arguments contradict each other, or the bucket is open.
            BusyError: there are too many open buckets.
            StoreError: the store failed.
        """
        self._check(ask)
        request = Request(ask.storage_index, ask.numbers, ask.size, self._peer, ask.lease)
        if ask.close and ask.data is not None:
            put = await self._work.put(request, ask.data)
            return frozenset(put.held), ask.numbers if put.stored else frozenset()
        made, in_memory = self._make_buckets(ask)
        try:
            allocated = await self._work.allocate(request, in_memory=in_memory)
        except BaseException:
            for bucket in made:
                bucket.drop()
            raise
        for bucket in made:
            upload = allocated.accepted.get(bucket.key[1])
            if upload is None:
                bucket.drop()
            elif self._lost:
                self._work.spawn(self._discard(upload))
            else:
                bucket.opened(upload)
        return frozenset(allocated.held), frozenset(allocated.accepted)

    def _check(self, ask: Ask) -> None:
        if self._lost:
            raise e.BusyError("the service is ending")
        if not ask.size:
            raise e.BadArgumentError("a share has at least one byte")
        if ask.data is None:
            if ask.close:
                raise e.BadArgumentError("close asks for data")
        elif len(ask.numbers) != 1:
            raise e.BadArgumentError("data comes with exactly one share")
        elif len(ask.data) > ask.size or (ask.close and len(ask.data) != ask.size):
            raise e.BadArgumentError("data does not fit the allocated size")

    def _make_buckets(self, ask: Ask) -> tuple[list[Bucket], bool]:
        """Return the buckets that wait for room, and whether they may collect in memory."""
        keys = [(ask.bucket, number) for number in sorted(ask.numbers)]
        if any(key in self._buckets for key in keys):
            raise e.BadArgumentError("a bucket of this number is open")
        if len(self._buckets) + len(keys) > MOST_BUCKETS:
            raise e.BusyError("too many buckets are open")
        total = ask.size * len(keys)
        in_memory = (
            ask.size <= SMALL_SHARE_BYTES and self._memory_bytes + total <= MOST_MEMORY_BYTES
        )
        each = ask.size if in_memory else 0
        made = [Bucket(key, self, self._work, self._clock, each) for key in keys]
        for bucket in made:
            self._buckets[bucket.key] = bucket
            self._memory_bytes += bucket.memory_bytes
        self._work.count_buckets(len(made))
        if ask.data is not None:
            made[0].write_later(0, ask.data)
        return made, in_memory

    async def write(self, key: BucketKey, offset: int, data: bytes) -> None:
        """Write bytes of a share.

        Raises:
            NoBucketError: there is no such bucket, or it ended.
            StoreError: the write was refused, or the store failed.
        """
        await self._find(key).write(offset, data)

    async def close(self, key: BucketKey) -> None:
        """Store a share for good.

        Raises:
            NoBucketError: there is no such bucket, or it ended.
            StoreError: it is not complete, or the store failed; the bucket is gone.
        """
        await self._find(key).end("close")

    async def abort(self, key: BucketKey) -> None:
        """Throw a share away; one that is not there is thrown away already."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            await bucket.end("abort")

    def lost(self) -> None:
        """Throw everything away that is not closed: the connection is gone."""
        self._lost = True
        for bucket in list(self._buckets.values()):
            bucket.drop()

    def look_around(self) -> None:
        """Throw away what takes too long, and hold nothing ahead for long."""
        now = self._clock.seconds()
        for bucket in list(self._buckets.values()):
            if bucket.is_overdue(now):
                bucket.drop()
        self.write_out()

    def write_out(self) -> None:
        """Bring what is ahead to the files."""
        for bucket in list(self._buckets.values()):
            bucket.write_out()

    def ended(self, bucket: Bucket) -> None:
        """Forget a bucket; called by it."""
        del self._buckets[bucket.key]
        self._work.count_buckets(-1)
        self._memory_bytes -= bucket.memory_bytes

    def _find(self, key: BucketKey) -> Bucket:
        try:
            return self._buckets[key]
        except KeyError:
            raise _no_bucket() from None

    async def _discard(self, upload: Incoming) -> None:
        await self._work.in_thread(upload.discard)
