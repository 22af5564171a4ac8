"""Sealed blobs as rows: the preamble first, then a row for each chunk.

Rows are what a store keeps and what is checked as one. `Sealer` makes them of plaintext and
`Opener` of sealed bytes as they come in; both hold one row at a time.

Source: `docs/specs/blobs.md#sealed-bytes`.
"""

from __future__ import annotations

from attrs import frozen

from ampgrid.crypto.hashing import Buffer
from ampgrid.errors import BadArgumentValueError, InvalidBlobError
from ampgrid.formats.blob import (
    CHUNK_BYTES,
    HEAD_SIZE,
    MAX_SEALED_BYTES,
    SEALED_CHUNK_BYTES,
    TAG_SIZE,
    ExternalPreamble,
    Preamble,
    parse_preamble,
    preamble_length,
)
from ampgrid.formats.blobcipher import BlobCipher
from ampgrid.formats.blobname import BlobName


@frozen
class Row:
    """One row of a sealed blob.

    Attributes:
        sealed: its bytes as they are stored.
        plain: what is in it, checked; empty for the preamble and for rows of external blobs.
    """

    sealed: bytes
    plain: bytes = b""


def row_offset(preamble_size: int, number: int) -> int:
    """Return where a row begins in the sealed blob; row 0 is the preamble."""
    return 0 if number == 0 else preamble_size + (number - 1) * SEALED_CHUNK_BYTES


def row_of(preamble_size: int, offset: int) -> int:
    """Return the number of the row in which an offset of the sealed blob lies."""
    return 0 if offset < preamble_size else 1 + (offset - preamble_size) // SEALED_CHUNK_BYTES


class Sealer:
    """Makes rows of plaintext, as it comes.

    Args:
        cipher: of the blob.
    """

    def __init__(self, cipher: BlobCipher) -> None:
        self._cipher = cipher
        self._pending = bytearray()
        self._next = 0

    def feed(self, piece: Buffer) -> list[bytes]:
        """Take plaintext; return the sealed chunks that are whole now.

        Raises:
            BadArgumentValueError: it is more than the blob's size.
        """
        self._pending += piece
        sealed = []
        chunks = self._cipher.preamble.chunks
        # The last chunk waits for the end, which tells whether it is the last.
        while len(self._pending) >= CHUNK_BYTES and self._next < chunks - 1:
            sealed.append(self._seal(bytes(self._pending[:CHUNK_BYTES])))
            del self._pending[:CHUNK_BYTES]
        if len(self._pending) > CHUNK_BYTES:
            raise BadArgumentValueError("The content of the blob is longer than was said.")
        return sealed

    def end(self) -> list[bytes]:
        """Return the last chunk, when all plaintext has come.

        Raises:
            BadArgumentValueError: it was more or less than the blob's size.
        """
        if self._next != self._cipher.preamble.chunks - 1:
            raise BadArgumentValueError("The content of the blob is shorter than was said.")
        return [self._seal(bytes(self._pending))]

    def _seal(self, plain: bytes) -> bytes:
        sealed = self._cipher.seal(self._next, plain)
        self._next += 1
        return sealed


class Opener:
    """Makes rows of sealed bytes, as they come, and checks each before it is given out.

    Args:
        secret: the user's.
        name: of the blob that was asked for.
        sealed_size: number of bytes that will come in all.

    Attributes:
        preamble: once it has come, else None.
        cipher: for a blob of our scheme, once its preamble has come.
        offset: where the first byte stands that is in no row yet that was given out.
        rows: number of rows that were given out.
    """

    def __init__(self, secret: bytes, name: BlobName, sealed_size: int) -> None:
        self.preamble: Preamble | ExternalPreamble | None = None
        self.cipher: BlobCipher | None = None
        self.offset = 0
        self.rows = 0
        self._secret = secret
        self._name = name
        self._size = sealed_size
        self._pending = bytearray()

    def skip_to(self, preamble: bytes, rows: int) -> None:
        """Go on behind rows that were given out to an earlier one.

        Args:
            preamble: the first of them.
            rows: their number.

        Raises:
            InvalidBlobError: the preamble does not fit.
        """
        self._begin(parse_preamble(preamble))
        self.rows = rows
        self.offset = min(row_offset(len(preamble), rows), self._size)

    def feed(self, piece: Buffer) -> list[Row]:
        """Take sealed bytes; return the rows that are whole now.

        Raises:
            InvalidBlobError: they are not those of the blob. Nothing more is to be fed.
        """
        if self.offset + len(self._pending) + len(piece) > self._size:
            raise InvalidBlobError(f"The blob {self._name} is longer than was said.")
        self._pending += piece
        rows = []
        if self.preamble is None:
            preamble = self._take_preamble()
            if preamble is None:
                return []
            rows.append(self._given(Row(preamble)))
        while len(self._pending) >= SEALED_CHUNK_BYTES:
            rows.append(self._take(SEALED_CHUNK_BYTES))
        if self._pending and self.offset + len(self._pending) == self._size:
            rows.append(self._take(len(self._pending)))
        return rows

    def end(self) -> None:
        """Note that no more bytes come.

        Raises:
            InvalidBlobError: some are missing.
        """
        if self.preamble is None or self.offset != self._size:
            raise InvalidBlobError(f"The blob {self._name} is cut short.")

    def _take_preamble(self) -> bytes | None:
        if len(self._pending) < HEAD_SIZE:
            return None
        length = preamble_length(bytes(self._pending[:HEAD_SIZE]))
        if len(self._pending) < length:
            return None
        data = bytes(self._pending[:length])
        del self._pending[:length]
        self._begin(parse_preamble(data))
        return data

    def _begin(self, preamble: Preamble | ExternalPreamble) -> None:
        if self._size > MAX_SEALED_BYTES:
            raise InvalidBlobError(f"The blob {self._name} is larger than a blob can be.")
        if isinstance(preamble, Preamble):
            self.cipher = BlobCipher.opening(self._secret, self._name, preamble)
            if preamble.sealed_size != self._size:
                raise InvalidBlobError(f"The blob {self._name} has another size than it says.")
        elif self._size < len(preamble.data) + TAG_SIZE:
            raise InvalidBlobError(f"The blob {self._name} is cut short.")
        self.preamble = preamble

    def _take(self, length: int) -> Row:
        sealed = bytes(self._pending[:length])
        plain = b"" if self.cipher is None else self.cipher.open(self.rows - 1, sealed)
        del self._pending[:length]
        return self._given(Row(sealed, plain))

    def _given(self, row: Row) -> Row:
        self.offset += len(row.sealed)
        self.rows += 1
        return row
