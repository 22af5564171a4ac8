"""Where a download goes (seed 001's IDownloadTarget): memory, a descriptor, a file.

A target is told the size, then given the bytes in order, then closed and finished; or told that
it failed. `write` may return something to wait for: nothing more comes before that is done.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from ampgrid.errors import FileError
from ampgrid.ports import Entropy, Threads

#: The longest wait for a reader before a look at whether to go on, milliseconds.
_LOOK_MILLISECONDS = 250
#: The most that one write takes, bytes.
_MOST_AT_ONCE = 1024 * 1024
#: A file of at most so many bytes is written and put into its place in one hop.
_IN_ONE_HOP_BYTES = 64 * 1024


class DownloadTarget(Protocol):
    """What takes a download."""

    def open(self, size: int) -> None:
        """Learn how many bytes will come; called once, before any `write`."""
        ...

    def write(self, data: bytes) -> Awaitable[None] | None:
        """Take the next bytes."""
        ...

    def close(self) -> Awaitable[None] | None:
        """Learn that all bytes have come."""
        ...

    def fail(self, why: Exception) -> None:
        """Learn that the download failed; nothing more follows."""
        ...

    def register_canceller(self, canceller: Callable[[], None]) -> None:
        """Take a function that ends the download early."""
        ...

    def finish(self) -> Any:
        """Return what the caller of the download shall get."""
        ...


class _Target:
    """What the targets here have in common."""

    canceller: Callable[[], None] | None = None

    def open(self, size: int) -> None:
        """Do nothing."""

    def register_canceller(self, canceller: Callable[[], None]) -> None:
        """Keep the canceller for whoever holds the target."""
        self.canceller = canceller

    def fail(self, why: Exception) -> None:
        """Do nothing: whoever asked for the download gets the error."""

    def close(self) -> Awaitable[None] | None:
        """Do nothing."""
        return None

    def finish(self) -> Any:
        """Return nothing."""
        return None


class ToData(_Target):
    """Gathers the bytes in memory; `finish` returns them.

    Args:
        most: the largest file taken, bytes.
    """

    def __init__(self, most: int = 2**63 - 1) -> None:
        self._most = most
        self._pieces: list[bytes] = []

    def open(self, size: int) -> None:
        """Refuse what is too large for memory."""
        if size > self._most:
            raise FileError("the file is too large to be held in memory")

    def write(self, data: bytes) -> None:
        """Keep the bytes."""
        self._pieces.append(data)

    def finish(self) -> bytes:
        """Return all bytes."""
        return b"".join(self._pieces)


def _go_on() -> None:
    """Let a write go on: nobody can end it early."""


class ToDescriptor(_Target):
    """Writes to an open descriptor, from a worker thread, as fast as its reader takes it.

    A reader may stop reading for good. So no write waits in the kernel: the thread waits for
    room, and asks every now and then whether it shall go on.

    Args:
        descriptor: open for writing; closed in the end. Its flags, which others may share with
            us, are left as they are.
        threads: where the writes happen.
        check: called in the thread; raises to end the write.
    """

    def __init__(
        self, descriptor: int, threads: Threads, check: Callable[[], None] = _go_on
    ) -> None:
        self._descriptor = descriptor
        self._threads = threads
        self._check = check
        self._put: Callable[[memoryview], int] | None = None

    def write(self, data: bytes) -> Awaitable[None] | None:
        """Write the bytes."""
        return self._threads.run(self._write_all, data)

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            if self._put is None:
                self._put = self._way_to_write()
            while rest:
                self._check()
                try:
                    rest = rest[self._put(rest) :]
                except BlockingIOError:
                    self._room(_LOOK_MILLISECONDS)
        except OSError as error:
            raise FileError(f"cannot write the output: {error.strerror}") from error

    def _way_to_write(self) -> Callable[[memoryview], int]:
        """Return what writes some of the bytes at once, or raises `BlockingIOError`."""
        kind = os.fstat(self._descriptor).st_mode
        if stat.S_ISREG(kind):
            return lambda data: os.write(self._descriptor, data[:_MOST_AT_ONCE])
        if stat.S_ISSOCK(kind):
            return self._send
        if self._open_again():
            return lambda data: os.write(self._descriptor, data)
        return self._write_little

    def _open_again(self) -> bool:
        """Swap a pipe or a terminal for a description of our own that never blocks (Linux)."""
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            again = os.open(f"/proc/self/fd/{self._descriptor}", flags)
        except OSError:
            # Another user's, or a pipe whose reader has gone: the write will tell.
            return False
        os.close(self._descriptor)
        self._descriptor = again
        return True

    def _send(self, data: memoryview) -> int:
        connection = socket.socket(fileno=self._descriptor)
        try:
            return connection.send(data[:_MOST_AT_ONCE], socket.MSG_DONTWAIT)
        finally:
            connection.detach()

    def _write_little(self, data: memoryview) -> int:
        """Write what a pipe takes without waiting, if it takes any."""
        if not self._room(0):
            raise BlockingIOError
        return os.write(self._descriptor, data[: select.PIPE_BUF])

    def _room(self, milliseconds: int) -> bool:
        """Wait until there is room for a write, or none will ever be needed."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(milliseconds))

    def close(self) -> Awaitable[None] | None:
        """Close the descriptor."""
        self._let_go()
        return None

    def fail(self, why: Exception) -> None:  # noqa: ARG002
        """Close the descriptor."""
        self._let_go()

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class ToFile(ToDescriptor):
    """Writes a file beside its final place and puts it there when it is complete.

    Whoever looks at the path sees the old file or all of the new one.

    Args:
        path: where the file shall be; an existing file is replaced.
        threads: where the blocking writes happen.
        entropy: for the name of the unfinished file.
        folder: descriptor of the directory from which the path leads, in which the file is put
            whatever becomes of the directory's own path; None for where we are.

    Raises:
        FileError: nothing can be written there.
    """

    def __init__(
        self, path: Path, threads: Threads, entropy: Entropy, folder: int | None = None
    ) -> None:
        self._path = path
        self._folder = None if folder is None else os.dup(folder)
        self._is_small = False
        self._held: list[bytes] = []
        self._part = path.with_name(f".ampgrid-{entropy(6).hex()}.part")
        try:
            descriptor = self._made()
        except BaseException:
            self._let_go_of_folder()
            raise
        super().__init__(descriptor, threads)

    def _made(self) -> int:
        """Make the unfinished file, and return its descriptor."""
        try:
            if self._is_directory():
                raise FileError("the output is a directory; name the file in it")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            return os.open(self._part, flags, 0o666, dir_fd=self._folder)
        except OSError as error:
            raise FileError(f"cannot write the output: {error.strerror}") from error

    def _is_directory(self) -> bool:
        try:
            return stat.S_ISDIR(os.stat(self._path, dir_fd=self._folder).st_mode)
        except OSError:
            return False

    def _let_go_of_folder(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            os.close(folder)

    def open(self, size: int) -> None:
        """Note whether it is small."""
        self._is_small = size <= _IN_ONE_HOP_BYTES

    def write(self, data: bytes) -> Awaitable[None] | None:
        """Write the bytes; those of a small file when it is closed."""
        if self._is_small:
            self._held.append(data)
            return None
        return super().write(data)

    def close(self) -> Awaitable[None]:
        """Make the file durable and put it into its place."""
        return self._threads.run(self._put_in_place)

    def _put_in_place(self) -> None:
        folder = self._folder
        if self._held:
            self._write_all(b"".join(self._held))
        try:
            os.fsync(self._descriptor)
            self._let_go()
            os.replace(self._part, self._path, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            raise FileError(f"cannot write the output: {error.strerror}") from error
        self._let_go_of_folder()

    def fail(self, why: Exception) -> None:
        """Remove what was written."""
        super().fail(why)
        with contextlib.suppress(OSError):
            os.unlink(self._part, dir_fd=self._folder)
        self._let_go_of_folder()

    def finish(self) -> Path:
        """Return the path."""
        return self._path
