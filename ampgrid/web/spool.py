"""Where bodies wait: in memory if they are small, else sealed in the node's ``spool/``.

The key of a spooled body is in memory only, so nothing that is left behind can be read. Bytes go
to the disk in a thread; while it is behind, the client is not read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ampgrid.crypto.hashing import Buffer
from ampgrid.errors import FileError
from ampgrid.immutable import Data, EarlyKey, Spool, Uploadable
from ampgrid.node.streams import leave_free, let_go
from ampgrid.ports import Entropy, Threads
from ampgrid.web.errors import NoSpaceError, TooLargeError

#: Bodies up to this size stay in memory, bytes.
MEMORY_BYTES = 128 * 1024
#: So much goes to the disk at once, and so much more waits before the client is paused, bytes.
PIECE_BYTES = 512 * 1024


class SpoolRoom:
    """The room for bodies of one gateway.

    Args:
        folder: the node's ``spool`` directory.
        entropy: for keys.
        threads: where the disk is written.
        reserve: bytes of the disk that stay free.
        most: bytes that all bodies on the disk may take together; None: what the disk has.
    """

    def __init__(
        self,
        folder: Path,
        entropy: Entropy,
        threads: Threads,
        reserve: int,
        most: int | None = None,
    ) -> None:
        self._folder = folder
        self._entropy = entropy
        self._reserve = reserve
        self._most = most
        self.threads = threads
        #: Bytes that bodies take on the disk now.
        self.used = 0

    def check(self, more: int) -> None:
        """Refuse so many more bytes, if there is no room for them.

        Raises:
            NoSpaceError: there is none; the message says why.
        """
        if self._most is not None and self.used + more > self._most:
            raise NoSpaceError("too many uploads are waiting; try again when they are done")
        try:
            leave_free(self._folder, self._reserve + more)
        except FileError as error:
            raise NoSpaceError(str(error)) from error

    def make(self, early_key: EarlyKey | None = None) -> Spool:
        """Return a new file (blocking), which finds its key as it comes in if that is given."""
        return Spool(self._folder, self._entropy, early_key=early_key)


class Slice:
    """Some of the bytes of what can be uploaded, which stays open: a file of a form.

    Args:
        whole: what they are taken from.
        start: offset of the first, bytes.
        size: bytes.
    """

    def __init__(self, whole: Uploadable, start: int, size: int) -> None:
        self._whole = whole
        self._start = start
        self._size = size

    def get_size(self) -> int:
        """Return the number of bytes."""
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes; none of what stands behind them."""
        return self._whole.read_at(self._start + offset, min(length, self._size - offset))

    def is_steady(self) -> bool:
        """Tell whether the whole always gives the same bytes."""
        return self._whole.is_steady()

    def check_unchanged(self) -> None:
        """Look whether the whole is still what it was."""
        self._whole.check_unchanged()

    def close(self) -> None:
        """Do nothing: others read the whole too."""


class Keeping:
    """One stream of bytes that is being kept.

    Args:
        room: where.
        pause: called when no more can be taken for now.
        resume: called when more can.
        fail: called with what went wrong, as soon as it did.
        most: bytes taken at most; None for no bound.
        early_key: finds the key of the file that they are, if they are one.
    """

    def __init__(
        self,
        room: SpoolRoom,
        pause: Callable[[], None],
        resume: Callable[[], None],
        fail: Callable[[Exception], None],
        most: int | None = None,
        early_key: EarlyKey | None = None,
    ) -> None:
        self._room = room
        self._early_key = early_key
        self._pause = pause
        self._resume = resume
        self._fail = fail
        self._most = most
        #: What is not on the disk: one stretch, however small the pieces are that it came in.
        self._waiting = bytearray()
        self._spool: Spool | None = None
        self._counted = 0
        self._writing = False
        self._paused = False
        #: Whether no more will come.
        self._ended = False
        self._closed = False
        self._error: Exception | None = None
        self._idle: Deferred[None] | None = None
        #: Bytes taken.
        self.size = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            TooLargeError: these are more than are taken.
        """
        if self._error is not None or self._closed:
            return
        if self._most is not None and self.size + len(data) > self._most:
            raise TooLargeError(f"this takes {self._most} bytes at most")
        self.size += len(data)
        self._waiting += data
        if self.size <= MEMORY_BYTES or len(self._waiting) < PIECE_BYTES:
            return
        if not self._writing:
            self._write()
        elif not self._paused:
            self._paused = True
            self._pause()

    def _write(self) -> None:
        self._writing = True
        Deferred.fromCoroutine(self._write_all()).addBoth(self._wrote)

    async def _write_all(self) -> None:
        """Write what waits, in whole pieces until no more will come."""
        room = self._room
        while len(self._waiting) >= (1 if self._ended else PIECE_BYTES) and not self._closed:
            data, self._waiting = self._waiting, bytearray()
            self._go_on()
            await room.threads.run(self._write_some, data)
            self._counted += len(data)
            room.used += len(data)

    def _go_on(self) -> None:
        if self._paused:
            self._paused = False
            self._resume()

    def _write_some(self, data: Buffer) -> None:
        """Write bytes (in a thread)."""
        if self._spool is None:
            self._spool = self._room.make(self._early_key)
        self._room.check(len(data))
        self._spool.add(data)

    def _wrote(self, result: Failure | None) -> None:
        self._writing = False
        if isinstance(result, Failure):
            error = result.value
            self._error = error if isinstance(error, Exception) else FileError("interrupted")
            self._waiting = bytearray()
            self._fail(self._error)
        self._go_on()
        if self._closed:
            self._drop()
        if self._idle is not None:
            idle, self._idle = self._idle, None
            idle.callback(None)

    async def whole(self) -> Uploadable:
        """Return all that was taken, once it is kept; the caller closes this `Keeping`.

        Raises:
            NoSpaceError: the disk has no room for it.
            FileError: the disk failed.
        """
        self._ended = True
        while self._writing or (self._waiting and self.size > MEMORY_BYTES):
            if not self._writing:
                self._write()
                continue
            self._idle = Deferred()
            await self._idle
        if self._error is not None:
            raise self._error
        if self._spool is not None:
            self._spool.end()
            return self._spool
        return Data(bytes(self._waiting))

    def close(self) -> None:
        """Let go of it all."""
        self._closed = True
        self._waiting = bytearray()
        if not self._writing:
            self._drop()

    def _drop(self) -> None:
        spool, self._spool = self._spool, None
        if spool is not None:
            # A write that failed may have left more on the disk than was counted.
            self._room.used -= self._counted
            let_go(self._room.threads, spool)
