"""What an application gets when it asks for a blob: its content, read in pieces.

Nothing is given out before its chunk's tag was checked. A blob of another scheme is an
`ExternalBlob`: it has no ``read``, so that nobody takes it for one that was checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Protocol

from ampgrid.blobs.port import Remote, SealedStream
from ampgrid.blobs.retrying import Retrying
from ampgrid.errors import (
    BadArgumentValueError,
    InvalidBlobError,
    RemoteUnavailableError,
)
from ampgrid.formats.blob import CHUNK_BYTES, ExternalPreamble, Preamble, parse_preamble
from ampgrid.formats.blobcipher import BlobCipher
from ampgrid.formats.blobname import BlobName
from ampgrid.formats.blobrows import Opener
from ampgrid.ports import Threads
from ampgrid.store.blobrecord import LocalBlob
from ampgrid.store.localblobs import LocalBlobStore

#: Rows that are read from the local store at once.
_ROWS_AT_ONCE = 16

#: Told of bytes that have come.
Progress = Callable[[int], None]


class Rows(Protocol):
    """Rows of a blob in their order, checked: plaintext, or the bytes of an external blob."""

    preamble: Preamble | ExternalPreamble

    async def next(self) -> bytes:
        """Return the next rows, one at least; none at the end."""
        ...

    async def skip_to(self, chunk: int) -> None:
        """Go on with a chunk, counted from 0."""
        ...

    async def close(self) -> None:
        """End it."""
        ...


class Blob:
    """A blob, read as a file is, in coroutines; by one reader at a time.

    Attributes:
        name: of the blob.
        size: of its content, bytes.
    """

    def __init__(self, name: BlobName, size: int, rows: Rows) -> None:
        self.name = name
        self.size = size
        self._rows = rows
        self._buffer = b""
        self._offset = 0
        self._next_chunk = 0

    async def read(self, length: int = -1) -> bytes:
        """Return the next bytes.

        Args:
            length: how many; -1 for all that is left.

        Returns:
            As many, and fewer at the end alone.

        Raises:
            InvalidBlobError: the blob is damaged; what came before was not.
            BlobNotFoundError: it was deleted meanwhile.
            RemoteUnavailableError: it comes from the remote, which does not answer.
        """
        left = self.size - self._offset
        wanted = left if length < 0 else min(length, left)
        parts = []
        while wanted:
            if not self._buffer:
                await self._fill()
            part = self._buffer[:wanted]
            self._buffer = self._buffer[len(part) :]
            parts.append(part)
            wanted -= len(part)
            self._offset += len(part)
        if self._offset == self.size:
            await self._check_end()
        return b"".join(parts)

    async def seek(self, offset: int) -> None:
        """Go on reading at an offset, 0 to `size`.

        Raises:
            BadArgumentValueError: it is outside.
        """
        if not 0 <= offset <= self.size:
            raise BadArgumentValueError("That is outside of the blob.")
        self._offset = offset
        self._buffer = b""
        self._next_chunk = min(offset // CHUNK_BYTES, max(0, self.size - 1) // CHUNK_BYTES)
        await self._rows.skip_to(self._next_chunk)

    async def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes from an offset on; see `seek` and `read`."""
        await self.seek(offset)
        return await self.read(length)

    async def save(self, file: IO[bytes], threads: Threads) -> int:
        """Write all that is left into a file; return the number of bytes.

        Args:
            file: opened for writing.
            threads: where it is written.
        """
        total = 0
        while piece := await self.read(_ROWS_AT_ONCE * CHUNK_BYTES):
            await threads.run(file.write, piece)
            total += len(piece)
        return total

    async def close(self) -> None:
        """Let go of what it holds; again does nothing."""
        await self._rows.close()

    async def _fill(self) -> None:
        piece = await self._rows.next()
        if not piece:
            raise InvalidBlobError(f"The blob {self.name} is cut short.")
        begin = self._next_chunk * CHUNK_BYTES
        self._next_chunk += -(-len(piece) // CHUNK_BYTES)
        self._buffer = piece[self._offset - begin :]

    async def _check_end(self) -> None:
        """See that nothing follows, and of an empty blob that it is one."""
        was_all_read = self._next_chunk * CHUNK_BYTES >= self.size
        if was_all_read and not self._buffer and await self._rows.next():
            raise InvalidBlobError(f"The blob {self.name} is longer than it says.")


class ExternalBlob:
    """A blob of a scheme that is not ours, as it is: nothing of it was checked.

    Attributes:
        name: of the blob.
        scheme: what its preamble says, 0 to 65,535 but not 1.
        preamble: all of that.
        size: of its sealed bytes, with the preamble.
    """

    def __init__(self, name: BlobName, size: int, rows: Rows) -> None:
        assert isinstance(rows.preamble, ExternalPreamble)
        self.name = name
        self.scheme = rows.preamble.scheme
        self.preamble = rows.preamble.data
        self.size = size
        self._rows = rows
        self._buffer = self.preamble

    async def read_raw(self, length: int = -1) -> bytes:
        """Return the next of its sealed bytes, from the preamble on; none at the end."""
        parts: list[bytes] = []
        had = 0
        while length < 0 or had < length:
            if not self._buffer:
                self._buffer = await self._rows.next()
                if not self._buffer:
                    break
            part = self._buffer if length < 0 else self._buffer[: length - had]
            self._buffer = self._buffer[len(part) :]
            parts.append(part)
            had += len(part)
        return b"".join(parts)

    async def save_raw(self, file: IO[bytes], threads: Threads) -> int:
        """Write all that is left of its sealed bytes into a file; return their number."""
        total = 0
        while piece := await self.read_raw(_ROWS_AT_ONCE * CHUNK_BYTES):
            await threads.run(file.write, piece)
            total += len(piece)
        return total

    async def close(self) -> None:
        """Let go of what it holds; again does nothing."""
        await self._rows.close()


class LocalRows:
    """Rows of a blob in the local store. Made by `open_local`."""

    def __init__(
        self,
        store: LocalBlobStore,
        threads: Threads,
        blob: LocalBlob,
        preamble: Preamble | ExternalPreamble,
        cipher: BlobCipher | None,
    ) -> None:
        self.preamble = preamble
        self._store = store
        self._threads = threads
        self._blob = blob
        self._cipher = cipher
        self._next = 0

    async def next(self) -> bytes:
        """Return the next rows, opened."""
        piece: bytes = await self._threads.run(self._read)
        return piece

    async def skip_to(self, chunk: int) -> None:
        """Go on with a chunk."""
        self._next = chunk

    async def close(self) -> None:
        """Nothing is held."""

    def _read(self) -> bytes:
        first = self._next
        count = min(_ROWS_AT_ONCE, self._blob.rows - 1 - first)
        if count <= 0:
            return b""
        rows = self._store.rows(self._blob, first + 1, count)
        self._next = first + count
        if self._cipher is None:
            return b"".join(rows)
        return b"".join(self._cipher.open(first + n, row) for n, row in enumerate(rows))


async def open_local(
    store: LocalBlobStore, threads: Threads, secret: bytes, blob: LocalBlob
) -> Blob | ExternalBlob:
    """Return the content of a usable blob of the local store.

    Raises:
        InvalidBlobError: it is damaged, or was sealed with another secret.
        BlobNotFoundError: it was deleted meanwhile.
    """

    def begin() -> tuple[Preamble | ExternalPreamble, BlobCipher | None]:
        preamble = parse_preamble(store.rows(blob, 0, 1)[0])
        if isinstance(preamble, ExternalPreamble):
            return preamble, None
        return preamble, BlobCipher.opening(secret, blob.name, preamble)

    preamble, cipher = await threads.run(begin)
    rows = LocalRows(store, threads, blob, preamble, cipher)
    return _content_of(blob.name, blob.sealed_size or 0, rows)


async def is_whole(
    store: LocalBlobStore, threads: Threads, secret: bytes, blob: LocalBlob
) -> bool:
    """Tell whether all of a usable blob can be read; of an external one nobody can.

    Raises:
        BlobNotFoundError: it was deleted meanwhile.
    """
    try:
        content = await open_local(store, threads, secret, blob)
        if isinstance(content, Blob):
            while await content.read(_ROWS_AT_ONCE * CHUNK_BYTES):
                pass
    except InvalidBlobError:
        return False
    return isinstance(content, Blob)


class RemoteRows:
    """Rows of a blob as they come from the remote, without a local store.

    When the remote breaks off it is asked again for the rest, which must be that of the same
    blob. Made by `open_remote`.
    """

    preamble: Preamble | ExternalPreamble

    def __init__(
        self, remote: Remote, secret: bytes, name: BlobName, retrying: Retrying, told: Progress
    ) -> None:
        self._remote = remote
        self._secret = secret
        self._name = name
        self._retrying = retrying
        self._told = told
        self._stream: SealedStream | None = None
        self._opener: Opener | None = None
        self._expected: tuple[int, bytes] | None = None
        self._ready: list[bytes] = []

    @property
    def size(self) -> int:
        """Number of sealed bytes."""
        return 0 if self._expected is None else self._expected[0]

    async def begin(self) -> None:
        """Read as far as the preamble.

        Raises:
            BlobNotFoundError: there is no such blob.
            InvalidBlobError: its bytes are not those of the blob.
        """
        while self._opener is None or self._opener.preamble is None:
            await self._take()
        self.preamble = self._opener.preamble

    async def next(self) -> bytes:
        """Return the next rows, opened."""
        assert self._opener is not None
        while not self._ready and self._opener.offset < self.size:
            await self._take()
        ready = b"".join(self._ready)
        self._ready.clear()
        return ready

    async def skip_to(self, chunk: int) -> None:
        """Go on with a chunk: ask for the blob from there on."""
        await self.close()
        opener = Opener(self._secret, self._name, self.size)
        opener.skip_to(self.preamble.data, chunk + 1)
        self._opener = opener
        self._ready.clear()

    async def close(self) -> None:
        """End the stream."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def _take(self) -> None:
        await self._retrying.run(
            self._take_once, lambda: 0 if self._opener is None else self._opener.offset
        )

    async def _take_once(self) -> None:
        try:
            stream = self._stream or await self._open_stream()
            piece = await stream.read()
        except RemoteUnavailableError:
            await self._forget_part()
            raise
        opener = self._opener
        assert opener is not None
        if not piece:
            opener.end()
            return
        self._told(len(piece))
        first = opener.rows
        for number, row in enumerate(opener.feed(piece), first):
            # The preamble is no row of the content; an empty blob has one with nothing in it.
            if number:
                self._ready.append(row.sealed if opener.cipher is None else row.plain)

    async def _open_stream(self) -> SealedStream:
        offset = 0 if self._opener is None else self._opener.offset
        stream = await self._remote.get(self._name, offset)
        self._stream = stream
        if self._expected is None:
            self._expected = (stream.size, stream.tag)
        if (stream.size, stream.tag) != self._expected:
            raise InvalidBlobError(f"The blob {self._name} changed while it was read.")
        if self._opener is None:
            self._opener = Opener(self._secret, self._name, stream.size)
        return stream

    async def _forget_part(self) -> None:
        """Begin again with the row of which only a part had come."""
        await self.close()
        was = self._opener
        if was is None or was.preamble is None:
            self._opener = None
            return
        self._opener = Opener(self._secret, self._name, self.size)
        self._opener.skip_to(was.preamble.data, was.rows)


async def open_remote(
    remote: Remote,
    secret: bytes,
    name: BlobName,
    retrying: Retrying,
    told: Progress = lambda _count: None,
) -> Blob | ExternalBlob:
    """Return the content of a blob, straight from the remote.

    Raises:
        BlobNotFoundError: there is none.
        InvalidBlobError: its bytes are not those of the blob.
        RemoteUnavailableError: the remote does not answer.
    """
    rows = RemoteRows(remote, secret, name, retrying, told)
    try:
        await rows.begin()
    except BaseException:
        await rows.close()
        raise
    return _content_of(name, rows.size, rows)


def _content_of(name: BlobName, sealed_size: int, rows: Rows) -> Blob | ExternalBlob:
    if isinstance(rows.preamble, Preamble):
        return Blob(name, rows.preamble.size, rows)
    return ExternalBlob(name, sealed_size, rows)
