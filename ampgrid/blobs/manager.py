"""The blobs of one user: a local store, a remote, and what goes on between them (seed 000).

::

    blobs = BlobManager("blobs", remote, key, secret, "alice")
    await blobs.put(BlobDoc(open("photo.jpg", "rb"), "photo-1"))
    blob = await blobs.get("photo-1")           # here, or from the remote
    await blobs.sync()
    await blobs.close()

Every method is a coroutine. Database work, reading and sealing happen in threads; several
transfers run at once, and what breaks off goes on later, also in another process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import IO

from attrs import frozen

from ampgrid.blobs.contents import Blob, ExternalBlob, open_local
from ampgrid.blobs.keeping import BlobKeeping
from ampgrid.blobs.looking import BlobLooks
from ampgrid.blobs.managing import space_of
from ampgrid.blobs.sources import size_of
from ampgrid.blobs.syncing import Syncing, SyncReport
from ampgrid.blobs.taking import Taking
from ampgrid.blobs.transfers import UNSENT
from ampgrid.errors import (
    BadArgumentValueError,
    BlobAlreadyExistsError,
    BlobNotFoundError,
    InvalidBlobError,
)
from ampgrid.formats.blobname import BlobName
from ampgrid.store.blobrecord import LocalBlob, Priority, SyncStatus


@frozen
class BlobDoc:
    """A blob that an application puts.

    Attributes:
        blob_fd: its content, a file opened for reading bytes; it is read from where it stands.
        blob_id: what it is called.
    """

    blob_fd: IO[bytes]
    blob_id: str


class BlobManager(BlobLooks, BlobKeeping):
    """The blobs of one user.

    Args:
        local_path: directory of the local store, or None to have none.
        remote: a remote or the address of one, or None to have none.
        key: of the local store, 32 bytes, or a passphrase; None without a local store.
        secret: of the user, at least 32 random bytes, the same in all stores of that user.
        user: name of the user at the remote; the local store is called by it.
        token: what proves it, where ``remote`` is an address.
        cert_file: certificates for that address, None for those of the system.
        transfers: how many transfers run at once.
        attempts: how often something is tried that comes no further.
        watcher: told of every piece that moves (`ampgrid.blobs.transfers.Moved`).
        clock: for waits; the reactor if None.
        wall: tells the time, seconds since 1970.
        threads: where blocking work goes; a pool of its own if None.
        entropy: for salts.
        uniform: draws between two bounds, for waits.
        cost: of a guess at the passphrase of a new local store.
        bounds: of what the local store takes in that nobody of its user's has sealed.

    Attributes:
        threads: where blocking work goes.

    Raises:
        BadArgumentValueError: the secret is too short, or an argument cannot be.
    """

    # What an application does with a blob.

    async def put(
        self,
        doc: BlobDoc,
        size: int | None = None,
        namespace: str | None = None,
        *,
        local_only: bool = False,
        priority: Priority = Priority.MEDIUM,
    ) -> None:
        """Put a blob into the local store, and from there to the remote.

        If the same content is in the store already and only the remote lacks it, as after a
        crash, it is sent.

        Args:
            doc: what it is called, and its content.
            size: of the content, bytes; None to find out from the file.
            namespace: None for the default.
            local_only: the remote never hears of it.
            priority: which goes first when several wait.

        Raises:
            BlobAlreadyExistsError: there is another blob of that name, here or there; the store
                is as it was.
            BlobDeletedError: one of that name was deleted lately; the store is as it was.
            BlobQuotaError: the remote has no room; the blob is in the store.
            RemoteUnavailableError: the remote does not answer; the blob is in the store, and the
                next sync sends it.
            BadArgumentValueError: the content has another size than was said.
        """
        name = BlobName.of(doc.blob_id, namespace)
        size = size_of(doc.blob_fd, size)
        if self._files is None:
            if local_only:
                raise BadArgumentValueError("A blob cannot be local only without a local store.")
            await self._passing().upload(name, doc.blob_fd, size, priority)
            return
        store = await self._opened()
        status = SyncStatus.LOCAL_ONLY if local_only else SyncStatus.PENDING_UPLOAD
        async with self._locks.held(name):
            taking = Taking(store, self.threads, self._secret, self._entropy, self._wall)
            new = await taking.bring(name, doc.blob_fd, size, status, priority)
            if local_only or self._remote_or_none is None:
                return
            async with self._slots.taken(priority):
                try:
                    await self._transfers(store).send(name)
                except BlobAlreadyExistsError:
                    if new:
                        await self.threads.run(store.drop, name, UNSENT)
                    raise

    async def get(
        self,
        blob_id: str,
        namespace: str | None = None,
        priority: Priority = Priority.MEDIUM,
    ) -> Blob | ExternalBlob | None:
        """Return a blob from the local store, where it is brought from the remote if need be.

        Args:
            blob_id: what it is called.
            namespace: None for the default.
            priority: which goes first when several wait.

        Returns:
            Its content; an `ExternalBlob` if it was not sealed by ampgrid; None if there is none.

        Raises:
            InvalidBlobError: it is damaged (see `bring_again`), or what came was three times.
            RemoteUnavailableError: the remote does not answer.
        """
        name = BlobName.of(blob_id, namespace)
        if self._files is None:
            return await self.download(blob_id, namespace, priority)
        store = await self._opened()
        async with self._locks.held(name):
            blob = await self.threads.run(store.find, name)
            if self._is_missing(blob, name):
                async with self._slots.taken(priority):
                    await self.threads.run(store.want, [name], self._wall())
                    await self._transfers(store).fetch(name)
                blob = await self.threads.run(store.find, name)
        if blob is None or not blob.usable:
            return None
        return await open_local(store, self.threads, self._secret, blob)

    def _is_missing(self, blob: LocalBlob | None, name: BlobName) -> bool:
        """Tell whether a blob is to be asked for at the remote."""
        if blob is not None and blob.status is SyncStatus.FAILED_DOWNLOAD:
            raise InvalidBlobError(
                f"The blob {name} could not be had before: what came was bad several times, or "
                "of another scheme and too much. Look at the remote, then ask for it again."
            )
        if self._remote_or_none is None:
            return False
        return blob is None or blob.status is SyncStatus.PENDING_DOWNLOAD

    async def delete(self, blob_id: str, namespace: str | None = None) -> None:
        """Delete a blob, here and at the remote, and with the next sync in all other stores.

        Raises:
            BlobNotFoundError: there is none, here or there.
            RemoteUnavailableError: it is gone here, and the next sync deletes it there.
        """
        name = BlobName.of(blob_id, namespace)
        if self._files is None:
            await self._retrying.run(lambda: self._remote.delete(name))
            return
        store = await self._opened()
        known = await self.threads.run(store.find, name) is not None
        now = self._wall() if self._remote_or_none is not None else None
        asks = await self.threads.run(store.mark_deleted, name, now)
        was_there = False
        if asks and self._remote_or_none is not None:
            async with self._locks.held(name):
                was_there = await self._syncing(store).delete(name)
        await self._sweep(store)
        if not known and not was_there:
            raise BlobNotFoundError(f"There is no blob {name}.")

    # Syncing.

    async def sync(self, namespace: str | None = None) -> SyncReport:
        """Make both sides hold the same blobs, deletions first.

        Args:
            namespace: this one alone; None for all that one side knows.

        Returns:
            What was done, also of single blobs that failed.

        Raises:
            RemoteUnavailableError: the remote went away; the next sync goes on.
            BlobRefusedError: it does not accept the user.
        """
        store = await self._opened()
        spaces = await self.namespaces() if namespace is None else [space_of(namespace)]
        report = SyncReport()
        for space in spaces:
            await self._syncing(store).sync(space, report)
        await self._sweep(store)
        return report

    async def send_missing(self, namespace: str | None = None) -> SyncReport:
        """Put what the remote lacks; returns what came of it.

        Args:
            namespace: of which blobs; None for the default.
        """
        return await self._half(Syncing.send_pending, namespace)

    async def fetch_missing(self, namespace: str | None = None) -> SyncReport:
        """Bring what is missing here; returns what came of it.

        Args:
            namespace: of which blobs; None for the default.
        """
        return await self._half(Syncing.fetch_pending, namespace)

    async def refresh_sync_status_from_server(self, namespace: str | None = None) -> None:
        """Look what each side lacks, and note it; nothing moves."""
        store = await self._opened()
        await self._syncing(store).compare(space_of(namespace))

    async def _half(
        self,
        move: Callable[[Syncing, str, SyncReport], Awaitable[None]],
        namespace: str | None,
    ) -> SyncReport:
        space, report = space_of(namespace), SyncReport()
        syncing = self._syncing(await self._opened())
        await syncing.take_deletions(space, report)
        await syncing.compare(space)
        await move(syncing, space, report)
        return report

    # Past the local store.

    async def upload(
        self,
        doc: BlobDoc,
        size: int | None = None,
        namespace: str | None = None,
        priority: Priority = Priority.MEDIUM,
    ) -> None:
        """Put a blob to the remote alone; errors are those of `put`."""
        name = BlobName.of(doc.blob_id, namespace)
        await self._passing().upload(name, doc.blob_fd, size_of(doc.blob_fd, size), priority)

    async def download(
        self,
        blob_id: str,
        namespace: str | None = None,
        priority: Priority = Priority.MEDIUM,
    ) -> Blob | ExternalBlob | None:
        """Return a blob as it comes from the remote, None if it has none; close it after."""
        return await self._passing().download(BlobName.of(blob_id, namespace), priority)
