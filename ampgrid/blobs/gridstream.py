"""A file of the grid that is read as it is wanted: a download that waits for its reader."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ampgrid.blobs.port import MAX_PIECE_BYTES
from ampgrid.caps import ChkCap, LitCap
from ampgrid.errors import IntegrityError, InvalidBlobError, RemoteUnavailableError
from ampgrid.immutable import Downloader, Operation


class _Pipe:
    """Takes a download (`ampgrid.immutable.targets.DownloadTarget`) as fast as it is read."""

    def __init__(self) -> None:
        self.pieces: deque[bytes] = deque()
        self._taken: Deferred[None] | None = None
        self._wanted: Deferred[None] | None = None

    def open(self, size: int) -> None:
        """Do nothing: the size is known."""

    def register_canceller(self, canceller: Callable[[], None]) -> None:
        """Do nothing: the operation is known."""

    def write(self, data: bytes) -> Deferred[None]:
        """Take the next bytes; what is returned fires when they have been read."""
        self.pieces.append(data)
        self._taken = Deferred()
        self.wake()
        return self._taken

    def close(self) -> None:
        """Learn that all bytes have come."""

    def fail(self, why: Exception) -> None:
        """Do nothing: who asked for the download is told."""

    def finish(self) -> None:
        """Return nothing."""

    def wanted(self) -> Deferred[None]:
        """Return what fires when there is something to read, or the download has ended."""
        self._wanted = Deferred()
        return self._wanted

    def wake(self) -> None:
        """Let who waits for bytes look again."""
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            wanted.callback(None)

    def drained(self) -> None:
        """Let the download go on."""
        taken, self._taken = self._taken, None
        if taken is not None:
            taken.callback(None)


class GridStream:
    """The sealed bytes of a blob in the grid: an `ampgrid.blobs.port.SealedStream`.

    Nothing is fetched before the first `read`; after that the download is ahead by what it
    fetches ahead anyway, and by one segment.

    Args:
        downloader: of the file.
        cap: of the file.
        tag: of the blob.
        offset: of the first byte.
    """

    def __init__(
        self, downloader: Downloader, cap: ChkCap | LitCap, tag: bytes, offset: int
    ) -> None:
        self.size = cap.get_size()
        self.tag = tag
        self._downloader = downloader
        self._cap = cap
        self._offset = offset
        self._pipe = _Pipe()
        self._operation = Operation()
        self._downloading: Deferred[Any] | None = None
        self._ended = False
        self._error: Exception | None = None

    async def read(self) -> bytes:
        """Return the next bytes, none at the end."""
        if self._operation.cancelled:
            raise RemoteUnavailableError("The stream was closed.")
        if self._downloading is None and self._offset < self.size:
            downloading = self._downloader.download(
                self._cap, self._pipe, self._operation, self._offset
            )
            self._downloading = Deferred.fromCoroutine(downloading)
            self._downloading.addBoth(self._done)
        pieces = self._pipe.pieces
        while not pieces:
            if self._error is not None:
                raise self._error
            if self._ended or self._downloading is None:
                return b""
            self._pipe.drained()
            if not pieces and not self._ended:
                await self._pipe.wanted()
        piece = pieces.popleft()
        if len(piece) > MAX_PIECE_BYTES:
            view = memoryview(piece)
            pieces.extendleft(
                bytes(view[at : at + MAX_PIECE_BYTES])
                for at in reversed(range(MAX_PIECE_BYTES, len(piece), MAX_PIECE_BYTES))
            )
            piece = bytes(view[:MAX_PIECE_BYTES])
        return piece

    def _done(self, result: Any) -> None:
        self._ended = True
        if isinstance(result, Failure):
            error = result.value
            self._error = (
                InvalidBlobError("The shares of the blob do not hold what they should.")
                if isinstance(error, IntegrityError)
                else RemoteUnavailableError(f"The blob could not be read from the grid: {error}.")
            )
        self._pipe.wake()

    async def close(self) -> None:
        """End it."""
        if not self._operation.cancelled:
            self._operation.cancel()
            self._pipe.drained()
            self._pipe.wake()
