"""Sealed bytes that are to be put: of a blob in the local store, or of one that is spooled."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import IO

from ampgrid.blobs.port import MAX_PIECE_BYTES
from ampgrid.errors import BadArgumentValueError, InvalidBlobError
from ampgrid.formats.blob import TAG_SIZE
from ampgrid.formats.blobcipher import BlobCipher
from ampgrid.formats.blobrows import Sealer, row_of, row_offset
from ampgrid.ports import Threads
from ampgrid.store.blobrecord import LocalBlob
from ampgrid.store.localblobs import LocalBlobStore

#: Plaintext that is read and sealed in one go, bytes.
STEP_BYTES = 1024 * 1024
#: Rows that are read from the store ahead.
_ROWS_AT_ONCE = 8
#: Sealed bytes that are kept in memory before they go into a file.
_SPOOL_BYTES = 1024 * 1024

#: Told up to which offset bytes were given out.
Given = Callable[[int], None]


class LocalSource:
    """The sealed bytes of a usable blob of the local store (`ampgrid.blobs.port.SealedSource`).

    Args:
        store: where it is.
        threads: where that is read.
        blob: as it was found.
        given: told of what was given out.
    """

    def __init__(
        self, store: LocalBlobStore, threads: Threads, blob: LocalBlob, given: Given
    ) -> None:
        assert blob.sealed_size is not None
        assert blob.tag is not None
        self.size = blob.sealed_size
        self.tag = blob.tag
        self._store = store
        self._threads = threads
        self._blob = blob
        self._given = given
        self._cached: tuple[int, bytes] = (0, b"")

    async def read(self, offset: int, length: int) -> bytes:
        """Return bytes (see `ampgrid.blobs.port.SealedSource`)."""
        begin, cached = self._cached
        if not begin <= offset <= offset + length <= begin + len(cached):
            begin, cached = self._cached = await self._threads.run(self._read, offset)
        piece = cached[offset - begin : offset - begin + length]
        if len(piece) < min(length, self.size - offset):
            raise InvalidBlobError(f"The blob {self._blob.name} is damaged in the local store.")
        self._given(offset + len(piece))
        return piece

    def _read(self, offset: int) -> tuple[int, bytes]:
        first = row_of(self._blob.preamble_size, offset)
        rows = self._store.rows(self._blob, first, _ROWS_AT_ONCE)
        return row_offset(self._blob.preamble_size, first), b"".join(rows)


class Spool:
    """A blob sealed into a temporary file: what goes past the local store.

    The file has no name and holds nothing but sealed bytes; they are the same however often a
    put begins anew, whatever becomes of what they were made of. It is a
    `ampgrid.blobs.port.SealedSource`, made by `filled`.
    """

    def __init__(self, file: IO[bytes], size: int, tag: bytes, threads: Threads) -> None:
        self.size = size
        self.tag = tag
        self._file = file
        self._threads = threads
        self._given: Given = lambda _offset: None

    @classmethod
    async def filled(cls, cipher: BlobCipher, plain: IO[bytes], threads: Threads) -> Spool:
        """Seal all of a file.

        Args:
            cipher: of the blob.
            plain: its plaintext, from where it stands to its end.
            threads: where it is read and sealed.

        Raises:
            BadArgumentValueError: it has another size than was said.
        """
        # Its owner is the spool, which outlives this function.
        file: IO[bytes] = tempfile.SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115
        try:
            file.write(cipher.preamble.data)
            sealing = Sealing(cipher, plain)
            while not sealing.ended:
                rows = await threads.run(sealing.step)
                await threads.run(file.writelines, rows)
        except BaseException:
            file.close()
            raise
        return cls(file, cipher.preamble.sealed_size, sealing.last[-TAG_SIZE:], threads)

    def tell(self, given: Given) -> None:
        """Name who is told of what is given out."""
        self._given = given

    async def read(self, offset: int, length: int) -> bytes:
        """Return bytes (see `ampgrid.blobs.port.SealedSource`)."""
        piece: bytes = await self._threads.run(self._read, offset, min(length, MAX_PIECE_BYTES))
        self._given(offset + len(piece))
        return piece

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)


class Sealing:
    """Seals a file step by step; one thread at a time.

    Args:
        cipher: of the blob.
        plain: its plaintext, from where it stands to its end.

    Attributes:
        ended: whether all of it is sealed.
        last: the last chunk, once it is.
    """

    def __init__(self, cipher: BlobCipher, plain: IO[bytes]) -> None:
        self.ended = False
        self.last = b""
        self._sealer = Sealer(cipher)
        self._plain = plain

    def step(self) -> list[bytes]:
        """Read some, and return the chunks that are sealed with it.

        Raises:
            BadArgumentValueError: there is more or less than was said.
        """
        piece = self._plain.read(STEP_BYTES)
        if not isinstance(piece, bytes):
            raise BadArgumentValueError("The content of a blob is read as bytes: open it so.")
        if piece:
            return self._sealer.feed(piece)
        rows = self._sealer.end()
        self.ended = True
        self.last = rows[-1]
        return rows


def size_of(plain: IO[bytes], size: int | None) -> int:
    """Return how many bytes a file has from where it stands on, or what was said of it.

    Raises:
        BadArgumentValueError: nothing was said, and it cannot be found out.
    """
    if size is not None:
        return size
    try:
        begin = plain.tell()
        end = plain.seek(0, 2)
        plain.seek(begin)
    except OSError:
        raise BadArgumentValueError(
            "How large the blob is cannot be found out from this file: say its size."
        ) from None
    return end - begin
