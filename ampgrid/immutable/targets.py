"""Where a download goes (seed 001's IDownloadTarget): memory, a descriptor, a file.

A target is told the size, then given the bytes in order, then closed and finished; or told that
it failed. `write` may return something to wait for: nothing more comes before that is done.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from ampgrid.errors import FileError
from ampgrid.ports import Entropy, Threads


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
        """Note the size."""

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


class ToDescriptor(_Target):
    """Writes to an open descriptor, from a worker thread, as fast as its reader takes it.

    Args:
        descriptor: open for writing; closed in the end.
        threads: where the blocking writes happen.
    """

    def __init__(self, descriptor: int, threads: Threads) -> None:
        self._descriptor = descriptor
        self._threads = threads

    def write(self, data: bytes) -> Awaitable[None]:
        """Write the bytes."""
        return self._threads.run(self._write_all, data)

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            raise FileError(f"cannot write the output: {error.strerror}") from error

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

    Raises:
        FileError: nothing can be written there.
    """

    def __init__(self, path: Path, threads: Threads, entropy: Entropy) -> None:
        self._path = path
        if path.is_dir():
            raise FileError("the output is a directory; name the file in it")
        self._part = path.with_name(f".ampgrid-{entropy(6).hex()}.part")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(self._part, flags, 0o666)
        except OSError as error:
            raise FileError(f"cannot write the output: {error.strerror}") from error
        super().__init__(descriptor, threads)

    def close(self) -> Awaitable[None]:
        """Make the file durable and put it into its place."""
        return self._threads.run(self._put_in_place)

    def _put_in_place(self) -> None:
        try:
            os.fsync(self._descriptor)
            self._let_go()
            self._part.replace(self._path)
        except OSError as error:
            raise FileError(f"cannot write the output: {error.strerror}") from error

    def fail(self, why: Exception) -> None:
        """Remove what was written."""
        super().fail(why)
        with contextlib.suppress(OSError):
            self._part.unlink()

    def finish(self) -> Path:
        """Return the path."""
        return self._path
