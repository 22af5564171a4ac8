"""Shares on their way in: bytes at any offset, in any order, until all of them are here.

A write may repeat bytes that are here already but not contradict them. A small share is
collected in memory, a larger one (or one of somebody who has used up what he may have in
memory) in a file under ``incoming/``. Nothing here is durable or visible: `ShareStore` makes it
so at the end.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from ampgrid.errors import (
    BrokenStoreError,
    IncompleteError,
    NoRoomError,
    OutOfRangeError,
    StoreError,
    WriteConflictError,
)
from ampgrid.store.catalog import TAIL_BYTES, tail_of
from ampgrid.store.extents import Extents
from ampgrid.store.filesystem import FileSystem
from ampgrid.store.health import Health
from ampgrid.store.leases import LeaseTerms
from ampgrid.store.space import Space

#: The most separate pieces of one share; who writes in order has one.
MOST_PIECES = 1024

#: The most files that are kept open for writing.
MOST_OPEN_FILES = 256

#: After so many bytes the system is asked to begin to bring them to the disk.
START_SYNC_BYTES = 4 * 2**20

#: An offset and the bytes that belong there.
Write = tuple[int, bytes]


class Upload:
    """A share on its way in. Writes are serialised by a lock, so any thread may bring them.

    Attributes:
        storage_index: of its file, 16 bytes.
        number: of the share.
        size: what was allocated, bytes; reserved until `discard` or until the share is stored.
        peer: node id of who sends it, 20 bytes.
        lease: what is added when it is stored.
        in_memory: whether it needs no disk before its end.
    """

    in_memory = True

    def __init__(
        self,
        storage_index: bytes,
        number: int,
        size: int,
        peer: bytes,
        lease: LeaseTerms,
        space: Space,
    ) -> None:
        self.storage_index = storage_index
        self.number = number
        self.size = size
        self.peer = peer
        self.lease = lease
        self._space = space
        self._extents = Extents()
        self._lock = threading.RLock()
        self._failure: StoreError | None = None
        self._settled = False

    def write(self, writes: Sequence[Write]) -> list[StoreError | None]:
        """Take bytes, in order; return for each write why it was refused, None if it was not.

        The errors: `OutOfRangeError`, `WriteConflictError`, `NoRoomError` (the disk is full, or
        the share is in too many pieces), `BrokenStoreError`. After a failure of the disk the
        share can only be discarded. A refused write changed nothing.
        """
        outcomes: list[StoreError | None] = []
        with self._lock:
            while len(outcomes) < len(writes):
                count = self._count_fresh(writes, len(outcomes))
                if count:
                    run = writes[len(outcomes) : len(outcomes) + count]
                    error = self._attempt(run[0][0], [data for _, data in run])
                    outcomes += [error] * count
                else:
                    outcomes.append(self._write_over(*writes[len(outcomes)]))
        return outcomes

    @property
    def covered(self) -> int:
        """How many of its bytes have come, each counted once; never waits."""
        return self._extents.total

    def check_complete(self) -> None:
        """Return if every byte is here and no write failed.

        Raises:
            IncompleteError: bytes are missing.
            StoreError: the disk failed under this share, or it is gone already.
        """
        with self._lock:
            self._check_usable()
            if self._extents.total != self.size:
                missing = self.size - self._extents.total
                raise IncompleteError(f"{missing} bytes of the share were never written")

    def contents(self) -> bytes:
        """Return all bytes of a complete small share."""
        return self.piece(0, self.size)

    def piece(self, offset: int, length: int) -> bytes:
        """Return bytes of a complete share.

        Raises:
            BrokenStoreError: they could not be read.
        """
        with self._lock:
            return self._get(offset, length)

    def stored(self) -> None:
        """Count the share as stored; for `ShareStore`, after its commit."""
        with self._lock:
            if not self._settled:
                self._settled = True
                self._space.keep(self.size, self._on_disk(), self.peer)

    def discard(self) -> None:
        """Forget the bytes and free what was reserved for them; again does nothing."""
        with self._lock:
            if not self._settled:
                self._settled = True
                self._space.release(self.size, self._on_disk(), self.peer)
            self._drop()

    # Writing, under the lock.

    def _count_fresh(self, writes: Sequence[Write], first: int) -> int:
        """Count the writes from ``first`` on that continue each other over unwritten bytes."""
        position = start = writes[first][0]
        count = 0
        for offset, data in writes[first:]:
            if offset != position or not data:
                break
            position += len(data)
            count += 1
        if not count or position > self.size or self._extents.overlaps(start, position):
            return 0
        return count

    def _write_over(self, offset: int, data: bytes) -> StoreError | None:
        end = offset + len(data)
        if end > self.size:
            return OutOfRangeError("a write reaches outside the allocated size")
        try:
            self._check_usable()
            view = memoryview(data)
            for start, stop in self._extents.overlaps(offset, end):
                if self._get(start, stop - start) != view[start - offset : stop - offset]:
                    return WriteConflictError("a write contradicts bytes written before")
        except StoreError as error:
            return error
        for start, stop in self._extents.gaps(offset, end):
            failure = self._attempt(start, [data[start - offset : stop - offset]])
            if failure is not None:
                return failure
        return None

    def _attempt(self, offset: int, buffers: Sequence[bytes]) -> StoreError | None:
        length = sum(map(len, buffers))
        try:
            self._check_usable()
            if len(self._extents) >= MOST_PIECES and not self._touches(offset, length):
                return NoRoomError("the share is in too many pieces: write it in order")
            self._put(offset, buffers)
        except StoreError as error:
            self._failure = error
            return error
        self._extents.add(offset, offset + length)
        return None

    def _touches(self, offset: int, length: int) -> bool:
        return bool(self._extents.overlaps(max(0, offset - 1), offset + length + 1))

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._settled:
            raise BrokenStoreError("the share is no longer being written")

    # Where the bytes are.

    def _put(self, offset: int, buffers: Sequence[bytes]) -> None:
        raise NotImplementedError

    def _get(self, offset: int, length: int) -> bytes:
        raise NotImplementedError

    def _on_disk(self) -> int:
        return 0

    def _drop(self) -> None:
        raise NotImplementedError


class MemoryUpload(Upload):
    """A small share, collected in memory."""

    _buffer: bytearray | None = None

    def _put(self, offset: int, buffers: Sequence[bytes]) -> None:
        if self._buffer is None:
            self._buffer = bytearray(self.size)
        for data in buffers:
            self._buffer[offset : offset + len(data)] = data
            offset += len(data)

    def _get(self, offset: int, length: int) -> bytes:
        return bytes((self._buffer or bytearray())[offset : offset + length])

    def _drop(self) -> None:
        self._buffer = None


class OpenUploads:
    """The uploads whose file is open, bounded: the least recently opened is closed again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[FileUpload, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, upload: FileUpload) -> None:
        """Note that one was opened, and close another if there are too many."""
        with self._lock:
            self._open[upload] = None
            surplus = list(self._open)[: max(0, len(self._open) - MOST_OPEN_FILES)]
        for other in surplus:
            other.park()

    def remove(self, upload: FileUpload) -> None:
        """Note that one was closed."""
        with self._lock:
            self._open.pop(upload, None)


class FileUpload(Upload):
    """A share that is collected in a file.

    Attributes:
        path: of the file, which the first write makes.
        tail: `ampgrid.store.catalog.tail_of` the share, once it is finished.
    """

    in_memory = False

    def __init__(
        self,
        storage_index: bytes,
        number: int,
        size: int,
        peer: bytes,
        lease: LeaseTerms,
        space: Space,
        *,
        path: Path,
        files: FileSystem,
        health: Health,
        others: OpenUploads,
    ) -> None:
        super().__init__(storage_index, number, size, peer, lease, space)
        self.path = path
        self.tail: bytes | None = None
        self._files = files
        self._health = health
        self._others = others
        self._descriptor: int | None = None
        self._made = False
        #: Bytes since the system was last asked to begin to write.
        self._unasked = 0

    def finish(self) -> None:
        """Bring every byte of a complete share to the disk and close the file.

        Raises:
            BrokenStoreError: the disk failed; the share can only be discarded.
        """
        with self._lock:
            length = min(TAIL_BYTES, self.size)
            last = self._get(self.size - length, length)
            if len(last) != length:
                raise BrokenStoreError("the disk gave fewer bytes than it was given")
            self.tail = tail_of(last)
            self.synchronise()

    def synchronise(self) -> None:
        """Bring every byte to the disk and close the file.

        Raises:
            BrokenStoreError: the disk failed; the share can only be discarded.
        """
        with self._lock:
            try:
                descriptor = self._open()
                with self._health.synchronising():
                    self._files.fsync(descriptor)
            except StoreError as error:
                self._failure = error
                raise
            finally:
                self._close()

    def park(self) -> None:
        """Close the file for now, if nobody is at it; the next write opens it again.

        What was written is synchronised first: an error that the system finds later, with no
        descriptor open, might be told to nobody.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._descriptor is not None:
                self.synchronise()
        except StoreError:
            pass  # remembered in the upload, which its next write or its end answers
        finally:
            self._lock.release()

    def moved(self) -> None:
        """Note that the file has become the share; nothing is left to remove."""
        with self._lock:
            self._made = False

    def _open(self) -> int:
        if self._descriptor is None:
            with self._health.writing():
                if self._made:
                    self._descriptor = self._files.open_again(self.path)
                else:
                    self._descriptor = self._files.open_new(self.path)
                    self._made = True
            self._others.add(self)
        return self._descriptor

    def _close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            self._others.remove(self)
            with self._health.synchronising():
                self._files.close(descriptor)

    def _put(self, offset: int, buffers: Sequence[bytes]) -> None:
        descriptor = self._open()
        with self._health.writing():
            self._files.write_at(descriptor, offset, buffers)
        length = sum(map(len, buffers))
        self._space.wrote(length)
        self._unasked += length
        if self._unasked >= START_SYNC_BYTES:
            # So that the end need not wait for the disk to take all of it.
            self._unasked = 0
            self._files.start_sync(descriptor)

    def _get(self, offset: int, length: int) -> bytes:
        if not length:
            return b""
        descriptor = self._open()
        with self._health.reading():
            data = self._files.read_at(descriptor, offset, length)
        if len(data) != length:
            raise BrokenStoreError("the disk gave fewer bytes than were written")
        return data

    def _on_disk(self) -> int:
        return self._extents.total

    def _drop(self) -> None:
        try:
            self._close()
            if self._made:
                self._made = False
                with self._health.synchronising():
                    self._files.unlink(self.path)
        except BrokenStoreError:
            pass  # the store is marked; what is left is swept at the next start
