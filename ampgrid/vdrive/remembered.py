"""What a client remembers of directories: the floor below which it believes no replica.

For each directory the highest record that is known to be committed, and, if two such records
contradict each other, both of them. Records are signed and tell nothing but hashes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ampgrid.errors import FormatError, IntegrityError, StoreError
from ampgrid.formats.record import Record
from ampgrid.ports import Clock, DelayedCall, Threads

#: Seconds from a change until its record is durable here.
WRITE_SECONDS = 3.0
#: The most directories that `MemoryRemembered` knows, and that are at hand of lasting ones.
_MOST = 100_000
_MOST_AT_HAND = 1_000
#: The most directories whose record waits to be written, if the disk takes none.
_MOST_UNWRITTEN = 10_000

_log = Logger()


class Remembered(Protocol):
    """Where it is kept. The calls block for no longer than a small file does."""

    def get(self, index: bytes) -> Record | None:
        """Return the highest committed record that was seen of a directory."""
        ...

    def put(self, record: Record) -> None:
        """Remember a committed record in the place of the older one."""
        ...

    def fork(self, index: bytes) -> tuple[Record, Record] | None:
        """Return two committed records of a directory that contradict each other."""
        ...

    def put_fork(self, one: Record, other: Record) -> None:
        """Remember two records that contradict each other; the first such pair stays."""
        ...

    def drop_fork(self, index: bytes) -> None:
        """Forget such records of a directory, which was recovered from one of them."""
        ...


class MemoryRemembered:
    """It is kept as long as the process lives.

    Args:
        most: directories; beyond it what was used least is forgotten.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._records: OrderedDict[bytes, Record] = OrderedDict()
        self._forks: dict[bytes, tuple[Record, Record]] = {}

    def get(self, index: bytes) -> Record | None:
        """See `Remembered`."""
        record = self._records.get(index)
        if record is not None:
            self._records.move_to_end(index)
        return record

    def put(self, record: Record) -> None:
        """See `Remembered`."""
        self._records[record.index] = record
        self._records.move_to_end(record.index)
        if len(self._records) > self._most:
            self._records.popitem(last=False)

    def fork(self, index: bytes) -> tuple[Record, Record] | None:
        """See `Remembered`."""
        return self._forks.get(index)

    def put_fork(self, one: Record, other: Record) -> None:
        """See `Remembered`."""
        self._forks.setdefault(one.index, (one, other))

    def drop_fork(self, index: bytes) -> None:
        """See `Remembered`."""
        self._forks.pop(index, None)


class RecordStore(Protocol):
    """Where packed records are durable (`ampgrid.store.rememberdb`). Every call blocks."""

    def record(self, directory: bytes, /) -> bytes | None:
        """Return the packed record of a directory."""
        ...

    def put_records(self, records: Mapping[bytes, bytes], /) -> None:
        """Remember packed records, {index: record}."""
        ...

    def fork(self, directory: bytes, /) -> tuple[bytes, bytes] | None:
        """Return two packed records that contradict each other."""
        ...

    def put_fork(self, directory: bytes, one: bytes, other: bytes, /) -> None:
        """Remember two packed records that contradict each other."""
        ...

    def drop_fork(self, directory: bytes, /) -> None:
        """Forget two such records."""
        ...


class LastingRemembered:
    """It outlives the process. A record is durable a few seconds after it was put.

    A change a few milliseconds after the other must not wait for the disk each time; a floor
    that is seconds old after a power failure still keeps a directory from being rolled back
    further. Forks are written at once.

    Args:
        store: where it is kept.
        clock: time and timers.
        threads: where the writing happens.
    """

    def __init__(self, store: RecordStore, clock: Clock, threads: Threads) -> None:
        self._store = store
        self._clock = clock
        self._threads = threads
        self._known = MemoryRemembered(_MOST_AT_HAND)
        #: Directories of which the file, that nobody else writes, is known to have no fork.
        self._unforked: set[bytes] = set()
        self._unwritten: dict[bytes, Record] = {}
        self._timer: DelayedCall | None = None
        self._writing: Deferred[None] | None = None
        self._stopped = False

    def get(self, index: bytes) -> Record | None:
        """See `Remembered`."""
        record = self._unwritten.get(index) or self._known.get(index)
        if record is None and (packed := self._store.record(index)) is not None:
            record = _sound(index, packed)
            if record is not None:
                self._known.put(record)
        return record

    def put(self, record: Record) -> None:
        """See `Remembered`."""
        self._known.put(record)
        self._unwritten.pop(record.index, None)
        self._unwritten[record.index] = record
        if len(self._unwritten) > _MOST_UNWRITTEN:
            self._unwritten.pop(next(iter(self._unwritten)))
        self._write_soon()

    def fork(self, index: bytes) -> tuple[Record, Record] | None:
        """See `Remembered`."""
        if index in self._unforked:
            return None
        known = self._known.fork(index)
        if known is not None:
            return known
        packed = self._store.fork(index)
        if packed is None:
            if len(self._unforked) >= _MOST_AT_HAND:
                self._unforked.clear()
            self._unforked.add(index)
            return None
        one, other = _sound(index, packed[0]), _sound(index, packed[1])
        return (one, other) if one is not None and other is not None else None

    def put_fork(self, one: Record, other: Record) -> None:
        """See `Remembered`."""
        self._unforked.discard(one.index)
        # It holds as long as this process lives, also where the disk does not take it.
        self._known.put_fork(one, other)
        self._store.put_fork(one.index, one.pack(), other.pack())

    def drop_fork(self, index: bytes) -> None:
        """See `Remembered`."""
        self._store.drop_fork(index)
        self._known.drop_fork(index)

    def _write_soon(self) -> None:
        if self._timer is None and not self._stopped:
            self._timer = self._clock.callLater(WRITE_SECONDS, self._write)

    def _write(self) -> None:
        self._timer = None
        if self._writing is not None and not self._writing.called:
            self._write_soon()
            return
        self._writing = Deferred.fromCoroutine(self._write_all())

    async def _write_all(self) -> None:
        records = dict(self._unwritten)
        packed = {index: record.pack() for index, record in records.items()}
        try:
            await self._threads.run(self._store.put_records, packed)
        except StoreError as error:
            _log.warn("what is known of directories could not be written: {why}", why=str(error))
            self._write_soon()
            return
        # Until here they are known from memory: the file had older ones.
        for index, record in records.items():
            if self._unwritten.get(index) is record:
                del self._unwritten[index]

    async def stop(self) -> None:
        """Write what is left."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None:
            await self._writing
        if self._unwritten:
            await self._write_all()


def _sound(index: bytes, packed: bytes) -> Record | None:
    """Return a record that was kept; None where the file does not hold what was written."""
    try:
        record = Record.unpack(packed)
        record.check(index)
    except (FormatError, IntegrityError):
        _log.warn("a remembered record of a directory is damaged; it is left out")
        return None
    return record
