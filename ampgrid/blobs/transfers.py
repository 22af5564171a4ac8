"""One blob on its way: into the local store, to the remote, or from there.

Every step leaves a store that goes on from there, whenever the process ends: a blob is pending
until the remote is known to have it, and what came of one stays until it is whole.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from attrs import define, field, frozen

from ampgrid.blobs.bounds import Bounds
from ampgrid.blobs.contents import Blob, open_local, open_remote
from ampgrid.blobs.port import Remote, SealedStream
from ampgrid.blobs.retrying import Retrying
from ampgrid.blobs.sources import LocalSource
from ampgrid.errors import (
    BadArgumentValueError,
    BlobAlreadyExistsError,
    BlobDeletedError,
    BlobNotFoundError,
    BlobQuotaError,
    InvalidBlobError,
    RemoteUnavailableError,
)
from ampgrid.formats.blob import ExternalPreamble, Preamble
from ampgrid.formats.blobname import BlobName
from ampgrid.formats.blobrows import Opener, row_offset
from ampgrid.ports import Threads
from ampgrid.store.blobrecord import LocalBlob, SyncStatus
from ampgrid.store.blobwriting import Incoming
from ampgrid.store.localblobs import MAX_RETRIES, LocalBlobStore

#: Sealed bytes that are checked and stored in one go.
_STEP_BYTES = 1024 * 1024

#: From which status a blob is in sync once the remote has it.
UNSENT = (SyncStatus.PENDING_UPLOAD, SyncStatus.FAILED_UPLOAD)


@frozen
class Moved:
    """Bytes of a blob that moved.

    Attributes:
        name: of the blob.
        sending: to the remote; else from there.
        done: sealed bytes that have come so far.
        total: all of them.
    """

    name: BlobName
    sending: bool
    done: int
    total: int


#: Told of every piece that moved.
Watcher = Callable[[Moved], None]


@define
class Transfers:
    """What moves blobs between a local store and a remote.

    Attributes:
        store: the local store.
        remote: the remote.
        secret: of the user.
        threads: where the store is used and blobs are sealed.
        retrying: how a failing remote is treated.
        watcher: told of what moves.
        bounds: of what the store takes in.
    """

    store: LocalBlobStore
    remote: Remote
    secret: bytes = field(repr=False)
    threads: Threads
    retrying: Retrying
    watcher: Watcher = lambda _moved: None
    bounds: Bounds = field(factory=Bounds)

    async def send(self, name: BlobName) -> bool:
        """Put a blob of the local store to the remote; return whether there was one to put.

        Raises:
            BlobAlreadyExistsError: the remote has another one; this one stays, as failed.
            BlobDeletedError: it was deleted lately, and is gone here now.
            BlobQuotaError: there is no room for it; it stays, as failed.
            RemoteUnavailableError: it stays pending.
        """
        blob = await self.threads.run(self.store.find, name)
        if blob is None or not blob.usable or blob.status not in UNSENT:
            return False
        try:
            await self._put(blob)
        except BlobDeletedError:
            await self.threads.run(self.store.drop, name, UNSENT)
            raise
        except (BlobAlreadyExistsError, BlobQuotaError) as error:
            same = isinstance(error, BlobAlreadyExistsError) and await self._is_there(blob)
            if not same:
                failed = SyncStatus.FAILED_UPLOAD
                await self.threads.run(self.store.set_status, name, failed, UNSENT)
                raise
        except BlobNotFoundError:
            # Deleted here while it was being sent.
            return False
        await self.threads.run(self.store.set_status, name, SyncStatus.SYNCED, UNSENT)
        return True

    async def _put(self, blob: LocalBlob) -> None:
        total = blob.sealed_size or 0
        reached = _Furthest()

        def given(offset: int) -> None:
            reached.note(offset)
            self.watcher(Moved(blob.name, sending=True, done=offset, total=total))

        source = LocalSource(self.store, self.threads, blob, given)
        await self.retrying.run(lambda: self.remote.put(blob.name, source), reached.get)

    async def _is_there(self, blob: LocalBlob) -> bool:
        """Tell whether the remote has the same content under that name, sealed by another."""
        try:
            there = await open_remote(self.remote, self.secret, blob.name, self.retrying)
        except (BlobNotFoundError, InvalidBlobError):
            return False
        try:
            here = await open_local(self.store, self.threads, self.secret, blob)
            if not isinstance(there, Blob) or not isinstance(here, Blob):
                return False
            if there.size != here.size:
                return False
            while piece := await here.read(_STEP_BYTES):
                if piece != await there.read(len(piece)):
                    return False
            return await there.read(1) == b""
        except (BlobNotFoundError, InvalidBlobError):
            return False
        finally:
            await there.close()

    async def fetch(self, name: BlobName) -> bool:
        """Have a blob from the remote that the local store wants; return whether it is here now.

        Raises:
            InvalidBlobError: what came was bad `MAX_RETRIES` times; it is not asked for again.
            BlobQuotaError: it is of another scheme, and there is no room for it; so it is.
            RemoteUnavailableError: it stays wanted, with what came of it.
        """
        reached = _Furthest()
        while True:
            try:
                return await self.retrying.run(
                    lambda: self._fetch_once(name, reached), reached.get
                )
            except BlobQuotaError:
                failed, wanted = SyncStatus.FAILED_DOWNLOAD, [SyncStatus.PENDING_DOWNLOAD]
                await self.threads.run(self.store.set_status, name, failed, wanted)
                raise
            except InvalidBlobError:
                retries = await self.threads.run(self.store.note_bad, name)
                if not 0 < retries < MAX_RETRIES:
                    raise
                await self.retrying.wait(retries)

    async def _fetch_once(self, name: BlobName, reached: _Furthest) -> bool:
        blob = await self.threads.run(self.store.find, name)
        if blob is None or blob.status is not SyncStatus.PENDING_DOWNLOAD:
            return blob is not None and blob.usable
        try:
            stream, offset = await self._rest_of(blob)
        except BlobNotFoundError:
            await self.threads.run(self.store.drop, name, [SyncStatus.PENDING_DOWNLOAD])
            return False
        try:
            await _Receiving(self, name, stream, offset, reached).run()
        except BlobNotFoundError:
            # Deleted here or there on its way: the next look will tell.
            return False
        finally:
            await stream.close()
        return True

    async def _rest_of(self, blob: LocalBlob) -> tuple[SealedStream, int]:
        """Ask for what is missing of a blob, or for all of it if the remote has another now.

        Returns:
            The stream, and the offset at which it begins.
        """
        if blob.rows:
            offset = min(row_offset(blob.preamble_size, blob.rows), blob.sealed_size or 0)
            with suppress(BadArgumentValueError):
                stream = await self.remote.get(blob.name, offset)
                if (stream.size, stream.tag) == (blob.sealed_size, blob.tag):
                    return stream, offset
                await stream.close()
        return await self.remote.get(blob.name), 0


@define
class _Furthest:
    """How far the bytes of a blob have come at best."""

    _offset: int = 0

    def note(self, offset: int) -> None:
        """Note where they are now."""
        self._offset = max(self._offset, offset)

    def get(self) -> int:
        """Return how far they have come."""
        return self._offset


class _Receiving:
    """A stream on its way into the local store."""

    def __init__(
        self,
        transfers: Transfers,
        name: BlobName,
        stream: SealedStream,
        offset: int,
        reached: _Furthest,
    ) -> None:
        self._transfers = transfers
        self._name = name
        self._stream = stream
        self._offset = offset
        self._reached = reached
        self._incoming: Incoming | None = None
        self._opener = Opener(transfers.secret, name, stream.size)
        self._passed_over = 0

    async def run(self) -> None:
        """Take all of it."""
        threads = self._transfers.threads
        ended = False
        while not ended:
            begun_at = self._offset
            pieces, ended = await self._gather()
            await threads.run(self._store, begun_at, pieces, ended)
            done, total = self._opener.offset, self._stream.size
            self._transfers.watcher(Moved(self._name, sending=False, done=done, total=total))

    async def _gather(self) -> tuple[list[bytes], bool]:
        """Return the next pieces, and whether they are the last ones."""
        pieces: list[bytes] = []
        size = 0
        while size < _STEP_BYTES:
            try:
                piece = await self._stream.read()
            except RemoteUnavailableError:
                # What came is kept, so that the rest alone is asked for.
                begun_at = self._offset - size
                await self._transfers.threads.run(self._keep, begun_at, pieces)
                raise
            if not piece:
                return pieces, True
            pieces.append(piece)
            size += len(piece)
            self._offset += len(piece)
            self._reached.note(self._offset)
        return pieces, False

    def _keep(self, begun_at: int, pieces: list[bytes]) -> None:
        self._store(begun_at, pieces, ended=False)
        if self._incoming is not None:
            self._incoming.flush()

    def _store(self, begun_at: int, pieces: list[bytes], ended: bool) -> None:
        """Check pieces and store their rows; in a thread."""
        if self._incoming is None:
            self._begin(begun_at)
        incoming, opener = self._incoming, self._opener
        assert incoming is not None
        for piece in pieces:
            fresh = piece[self._passed_over :]
            self._passed_over -= len(piece) - len(fresh)
            rows = opener.feed(fresh)
            if isinstance(opener.preamble, ExternalPreamble):
                incoming.is_external(self._transfers.bounds.external_bytes)
            incoming.add([row.sealed for row in rows])
        if ended:
            opener.end()
            preamble = opener.preamble
            size = preamble.size if isinstance(preamble, Preamble) else None
            incoming.finish(self._stream.size, size)

    def _begin(self, begun_at: int) -> None:
        stream = self._stream
        store = self._transfers.store
        incoming = Incoming.fetching(store, self._name, stream.size, stream.tag)
        if incoming.rows:
            self._opener.skip_to(incoming.preamble(), incoming.rows)
            # The remote gave all of it again, though it was asked for the rest.
            self._passed_over = self._opener.offset - begun_at
        self._incoming = incoming
