"""The files of large blobs that are kept for others: written in order, read anywhere.

A file is called by the number of its row, so nothing that a peer says ever becomes part of a
path. Whether its bytes are a blob is said by the row alone: a file without a row is left over
from a crash, and goes at the next start.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ampgrid.errors import BrokenStoreError, InvalidBlobError
from ampgrid.store.ballast import Ballast
from ampgrid.store.filesystem import FileSystem
from ampgrid.store.health import Health
from ampgrid.store.readers import Readers

TAG_SIZE = 16
#: Files in one directory are those whose numbers leave the same rest.
_DIRECTORIES = 256


class IncomingFile:
    """A large blob on its way in; one thread at a time.

    Attributes:
        id: of its row.
        size: of the whole blob, bytes.
        tag: its last 16 bytes, as announced.
        written: bytes that are in the file, from its beginning.
        durable: how many of them are on the disk for certain.
    """

    def __init__(
        self, number: int, size: int, tag: bytes, durable: int, path: Path, files: FileSystem
    ) -> None:
        self.id = number
        self.size = size
        self.tag = tag
        self.written = self.durable = durable
        self._path = path
        self._files = files
        self._descriptor: int | None = None
        self._spoilt = False

    def open(self) -> bool:
        """Open the file, a new one if nothing came yet; tell if what came is lost.

        Raises:
            OSError: it cannot be opened.
        """
        if self._descriptor is not None:
            return False
        lost = (self._files.size_of(self._path) or 0) < self.durable
        if lost:
            self.written = self.durable = 0
        if self.written:
            self._descriptor = self._files.open_again(self._path)
        else:
            self._files.make_directory(self._path.parent)
            self._files.unlink(self._path)
            self._descriptor = self._files.open_new(self._path)
        return lost

    def write(self, pieces: Sequence[bytes]) -> None:
        """Write the next bytes; raises `OSError`."""
        assert self._descriptor is not None, "it is not open"
        self._files.write_at(self._descriptor, self.written, pieces)
        self.written += sum(map(len, pieces))

    def sync(self) -> None:
        """Return when all that was written is on the disk, with the file's name.

        Raises:
            OSError: it is not, now or the last time: the system forgets what it could not write,
                and would call a second try a success. What was durable before still is.
        """
        if self._descriptor is None or self.durable == self.written:
            return
        if self._spoilt:
            raise OSError(errno.EIO, "an earlier synchronisation failed")
        self._spoilt = True
        self._files.fsync(self._descriptor)
        if not self.durable:
            self._files.fsync_directory(self._path.parent)
            self._files.fsync_directory(self._path.parent.parent)
        self.durable = self.written
        self._spoilt = False

    def check(self) -> None:
        """Raise `InvalidBlobError` unless it is complete and ends as announced."""
        if self.written != self.size:
            raise InvalidBlobError("Bytes of the blob are missing.")
        assert self._descriptor is not None, "it is not open"
        end = self._files.read_at(self._descriptor, self.size - TAG_SIZE, TAG_SIZE)
        if end != self.tag:
            raise InvalidBlobError("The blob does not end as it was announced.")

    def close(self) -> None:
        """Let go of the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                self._files.close(descriptor)


class BlobDisk:
    """The room of the disk on which a store is. Whatever is full, deleting goes on.

    Args:
        folder: of the store.
        files: the file system.
        reserve: the bytes that the disk must keep free.
    """

    def __init__(self, folder: Path, files: FileSystem, reserve: int) -> None:
        self._folder = folder
        self._files = files
        self._ballast = Ballast(files, folder / "ballast", reserve)

    def settle(self) -> None:
        """Hold room back from the start on; raises `OSError`."""
        self._ballast.settle(self._files.free_bytes(self._folder))

    def hold_back(self) -> None:
        """Hold room back again, if there is any."""
        with suppress(OSError):
            self._ballast.make(self._files.free_bytes(self._folder))

    def make_way(self) -> bool:
        """Give up what is held back; tell if there was anything."""
        return self._ballast.drop()

    def free_bytes(self) -> int:
        """Return how many bytes blobs may take, the reserve among them.

        Raises:
            BrokenStoreError: the disk gives no answer.
        """
        try:
            return self._ballast.usable(self._files.free_bytes(self._folder))
        except OSError as error:
            raise BrokenStoreError(f"the disk gives no answer: {error.strerror}") from error


class BlobFiles:
    """The files of a store.

    Args:
        folder: where they are.
        files: the file system.
        health: turns its errors into the store's.
    """

    def __init__(self, folder: Path, files: FileSystem, health: Health) -> None:
        self._folder = folder
        self._files = files
        self._health = health
        self._readers = Readers(files)

    def path(self, number: int) -> Path:
        """Return the path of the file of a row."""
        return self._folder / f"{number % _DIRECTORIES:02x}" / str(number)

    def incoming(self, number: int, size: int, tag: bytes, durable: int) -> IncomingFile:
        """Return the file of a blob that is coming, not open yet."""
        return IncomingFile(number, size, tag, durable, self.path(number), self._files)

    def read(self, number: int, size: int, offset: int, length: int) -> bytes:
        """Return bytes of a file.

        Raises:
            BrokenStoreError: it cannot be read, or is shorter than it should be.
        """
        key = (b"", number)
        borrowing = self._readers.open(key, self.path(number), size)
        with self._health.reading(), borrowing as reader:
            data = self._files.read_at(reader.descriptor, offset, length)
        if len(data) != length:
            raise BrokenStoreError("a blob is shorter on the disk than it should be")
        return data

    def remove(self, numbers: Iterable[int]) -> None:
        """Remove files; what cannot be removed now goes at the next start."""
        for number in numbers:
            self._readers.forget((b"", number))
            with suppress(OSError):
                self._files.unlink(self.path(number))

    def numbers(self) -> set[int]:
        """Return the numbers of all files."""
        found = set()
        for directory in self._files.names(self._folder):
            for name in self._files.names(self._folder / directory):
                if name.isdecimal() and self.path(int(name)).parent.name == directory:
                    found.add(int(name))
        return found

    def close(self) -> None:
        """Close what is open for reading."""
        self._readers.close()
