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

import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from attrs import frozen

from ampgrid.blobs.bounds import Bounds
from ampgrid.blobs.contents import Blob, ExternalBlob, is_whole, open_local
from ampgrid.blobs.listing import pages
from ampgrid.blobs.passing import Passing
from ampgrid.blobs.port import OrderBy, Query, Remote
from ampgrid.blobs.remotes import Account, open_remote_at
from ampgrid.blobs.retrying import Retrying
from ampgrid.blobs.slots import NameLocks, Slots
from ampgrid.blobs.sources import size_of
from ampgrid.blobs.syncing import Syncing, SyncReport
from ampgrid.blobs.taking import Taking
from ampgrid.blobs.transfers import UNSENT, Transfers, Watcher
from ampgrid.crypto.sealed import DEFAULT_COST, Cost
from ampgrid.errors import (
    BadArgumentValueError,
    BlobAlreadyExistsError,
    BlobNotFoundError,
    InvalidBlobError,
)
from ampgrid.formats.blobcipher import checked_secret
from ampgrid.formats.blobname import (
    DEFAULT_NAMESPACE,
    BlobName,
    Flag,
    checked_flags,
    checked_namespace,
    checked_user,
)
from ampgrid.ports import Clock, Entropy, Threads, WallClock
from ampgrid.store.blobopening import BlobStoreFiles
from ampgrid.store.blobopening import Opener as StoreOpener
from ampgrid.store.blobrecord import LocalBlob, Priority, SyncStatus
from ampgrid.store.localblobs import LocalBlobStore
from ampgrid.wire.threads import PoolThreads

#: Transfers that run at once, and tries of what comes no further.
TRANSFERS_AT_ONCE = 3
ATTEMPTS = 8


@frozen
class BlobDoc:
    """A blob that an application puts.

    Attributes:
        blob_fd: its content, a file opened for reading bytes; it is read from where it stands.
        blob_id: what it is called.
    """

    blob_fd: IO[bytes]
    blob_id: str


class BlobManager:
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

    def __init__(
        self,
        local_path: str | os.PathLike[str] | None,
        remote: Remote | str | None,
        key: StoreOpener | None,
        secret: bytes,
        user: str,
        token: str | None = None,
        cert_file: str | os.PathLike[str] | None = None,
        *,
        transfers: int = TRANSFERS_AT_ONCE,
        attempts: int = ATTEMPTS,
        watcher: Watcher = lambda _moved: None,
        clock: Clock | None = None,
        wall: WallClock = time.time,
        threads: Threads | None = None,
        entropy: Entropy = os.urandom,
        uniform: Callable[[float, float], float] = random.uniform,
        cost: Cost = DEFAULT_COST,
        bounds: Bounds = Bounds(),  # noqa: B008 - it cannot change
    ) -> None:
        checked_user(user)
        self._secret = checked_secret(secret)
        if local_path is not None and not key:
            raise BadArgumentValueError("A local store of blobs needs a key or a passphrase.")
        if transfers < 1 or attempts < 1:
            raise BadArgumentValueError("At least one transfer, and one attempt.")
        if isinstance(remote, str):
            account = Account(user, token, None if cert_file is None else Path(cert_file))
            remote = open_remote_at(remote, account)
        self._files = (
            None
            if local_path is None
            else BlobStoreFiles.at(Path(local_path) / f"{user}_blobs.db")
        )
        self._key = key
        self._cost = cost
        self._bounds = bounds
        self._remote_or_none = remote
        clock, self._own_threads = _surroundings(clock, threads)
        chosen = threads or self._own_threads
        assert chosen is not None
        self.threads: Threads = chosen
        self._retrying = Retrying(clock, uniform, attempts)
        self._entropy = entropy
        self._wall = wall
        self._watcher = watcher
        self._transfers_at_once = transfers
        self._slots = Slots(transfers)
        self._locks = NameLocks()
        self._store: LocalBlobStore | None = None
        self._closed = False

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

    # Flags, which only the remote has.

    async def set_flags(
        self, blob_id: str, flags: Sequence[Flag | str], namespace: str | None = None
    ) -> None:
        """Let a blob at the remote have these flags and no others.

        Raises:
            BlobNotFoundError: the remote has no such blob.
            InvalidFlagsError: one of them is no flag.
        """
        name, checked = BlobName.of(blob_id, namespace), checked_flags(flags)
        await self._retrying.run(lambda: self._remote.set_flags(name, checked))

    async def get_flags(self, blob_id: str, namespace: str | None = None) -> list[Flag] | None:
        """Return the flags of a blob at the remote, None if it has no such blob."""
        name = BlobName.of(blob_id, namespace)
        try:
            return list(await self._retrying.run(lambda: self._remote.get_flags(name)))
        except BlobNotFoundError:
            return None

    # Lists and counts.

    async def remote_list(
        self,
        namespace: str | None = None,
        order_by: OrderBy = None,
        filter_flag: Flag | str | None = None,
        *,
        deleted: bool = False,
    ) -> list[str]:
        """Return the ids of the blobs at the remote.

        Args:
            namespace: None for the default.
            order_by: ``date`` or ``+date`` for older first, ``-date`` for newer first, None for
                the order of ids.
            filter_flag: those alone that have it.
            deleted: those alone that were deleted lately.

        Raises:
            InvalidFlagsError: ``filter_flag`` is no flag.
            BadArgumentValueError: ``order_by`` is no order.
        """
        query = _query(namespace, filter_flag, deleted)
        found: list[str] = []
        async for page in pages(self._remote, self._retrying, query, order_by):
            found += page.blob_ids
        return found

    async def count(
        self, namespace: str | None = None, filter_flag: Flag | str | None = None
    ) -> dict[str, int]:
        """Return ``{"count": n}``, the number of blobs at the remote."""
        query = _query(namespace, filter_flag, deleted=False)
        return {"count": await self._retrying.run(lambda: self._remote.count(query))}

    async def local_list(self, namespace: str | None = None) -> list[str]:
        """Return the ids of the blobs that are here and can be used, in the order of coming."""
        store = await self._opened()
        return await self.threads.run(store.ids, _space(namespace))

    async def local_statuses(self, namespace: str | None = None) -> dict[str, SyncStatus]:
        """Return {id: status} of all blobs that are known here, by id."""
        store = await self._opened()
        return dict(await self.threads.run(store.between, _space(namespace), "", None))

    async def local_list_status(
        self, status: SyncStatus, namespace: str | None = None
    ) -> list[str]:
        """Return the ids of blobs that stand so to the remote."""
        store = await self._opened()
        return await self.threads.run(store.ids, _space(namespace), status)

    async def namespaces(self) -> list[str]:
        """Return the namespaces that are known here or at the remote, sorted."""
        found = set()
        if self._files is not None:
            store = await self._opened()
            found.update(await self.threads.run(store.namespaces))
        if self._remote_or_none is not None:
            found.update(await self._retrying.run(self._remote.namespaces))
        return sorted(found)

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
        spaces = await self.namespaces() if namespace is None else [_space(namespace)]
        report = SyncReport()
        for space in spaces:
            await self._syncing(store).sync(space, report)
        await self._sweep(store)
        return report

    async def send_missing(self, namespace: str | None = None) -> SyncReport:
        """Put what the remote lacks."""
        return await self._half("send_pending", namespace)

    async def fetch_missing(self, namespace: str | None = None) -> SyncReport:
        """Have what is missing here."""
        return await self._half("fetch_pending", namespace)

    async def refresh_sync_status_from_server(self, namespace: str | None = None) -> None:
        """Look what each side lacks, and note it; nothing moves."""
        store = await self._opened()
        await self._syncing(store).compare(_space(namespace))

    async def sync_progress(self, namespace: str | None = None) -> dict[str, int]:
        """Return {name of a status: number of blobs that have it}, in one namespace or in all."""
        store = await self._opened()
        space = None if namespace is None else _space(namespace)
        progress = await self.threads.run(store.progress, space)
        return {status.name: count for status, count in sorted(progress.items())}

    async def status(self, blob_id: str, namespace: str | None = None) -> SyncStatus | None:
        """Return how a blob stands to the remote, None if it is not known here."""
        blob = await self._find(blob_id, namespace)
        return None if blob is None else blob.status

    async def set_priority(
        self, blob_id: str, priority: Priority, namespace: str | None = None
    ) -> None:
        """Let a blob go earlier or later.

        Raises:
            BlobNotFoundError: it is not known here.
        """
        name = BlobName.of(blob_id, namespace)
        store = await self._opened()
        if not await self.threads.run(store.set_priority, name, priority):
            raise BlobNotFoundError(f"There is no blob {name} here.")

    async def bring_again(self, blob_id: str, namespace: str | None = None) -> None:
        """Bring a blob from the remote once more, in the place of one that is damaged here.

        One that is whole stays, and so does what is left of one that the remote has not.

        Raises:
            BlobNotFoundError: the store has none that the remote has too.
            InvalidBlobError: what came was bad several times.
            RemoteUnavailableError: the remote does not answer; the next sync brings it.
        """
        name = BlobName.of(blob_id, namespace)
        store = await self._opened()
        async with self._locks.held(name), self._slots.taken(Priority.MEDIUM):
            blob = await self.threads.run(store.find, name)
            if blob is None or blob.status is not SyncStatus.SYNCED:
                raise BlobNotFoundError(f"There is no blob {name} in sync here.")
            if await is_whole(store, self.threads, self._secret, blob):
                return
            await self._retrying.run(lambda: self._remote.stat(name))
            await self.threads.run(store.want_again, name)
            if not await self._transfers(store).fetch(name):
                raise BlobNotFoundError(f"The remote has no blob {name} any more.")

    async def ask_again(self, namespace: str | None = None) -> int:
        """Let the blobs that failed be tried again by the next sync; return how many."""
        store = await self._opened()
        return await self.threads.run(store.ask_again, _space(namespace))

    async def _half(self, which: str, namespace: str | None) -> SyncReport:
        space, report = _space(namespace), SyncReport()
        syncing = self._syncing(await self._opened())
        await syncing.take_deletions(space, report)
        await syncing.compare(space)
        await getattr(syncing, which)(space, report)
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

    # The store as a whole.

    async def rekey(self, key: StoreOpener) -> None:
        """Give the local store another key or passphrase; all of it is enciphered anew.

        Raises:
            BadArgumentValueError: it is no key, or no passphrase.
            StoreError: it could not be done; the store is as it was.
        """
        store = await self._opened()
        assert self._files is not None
        assert self._key is not None
        await self.threads.run(self._files.rekey, store, self._key, key, self._entropy, self._cost)
        self._key = key

    async def export(
        self, path: str | os.PathLike[str], key: StoreOpener, cipher_format: int | None = None
    ) -> None:
        """Write all of the local store into a new one.

        Args:
            path: of its database.
            key: what shall open it: 32 bytes, or a passphrase.
            cipher_format: of SQLCipher, 3 for ``pysqlcipher3`` or 4 for ``sqlcipher3``; None for
                that of the driver.

        Raises:
            ConfigError: something is there already.
            BadArgumentValueError: the driver does not know that format.
        """
        store = await self._opened()
        files = BlobStoreFiles.at(Path(path))
        await self.threads.run(files.export, store, key, cipher_format, self._entropy, self._cost)

    async def check(self) -> list[str]:
        """Return what is wrong with the file of the local store, nothing if all is well."""
        store = await self._opened()
        return await self.threads.run(store.check)

    async def close(self) -> None:
        """End; what is under way fails, and goes on another time."""
        if self._closed:
            return
        self._closed = True
        if self._remote_or_none is not None:
            await self._remote_or_none.close()
        if self._store is not None:
            await self.threads.run(self._store.close)
        if self._own_threads is not None:
            await self._own_threads.stop(10.0)

    # Inside.

    @property
    def _remote(self) -> Remote:
        if self._remote_or_none is None:
            raise BadArgumentValueError("There is no remote: name one.")
        return self._remote_or_none

    async def _opened(self) -> LocalBlobStore:
        """Return the local store; it is opened when it is used first."""
        files, key = self._files, self._key
        if files is None or key is None:
            raise BadArgumentValueError("There is no local store: name its directory.")
        async with self._locks.held("the local store"):
            if self._closed:
                raise BadArgumentValueError("The blobs were closed.")
            if self._store is None:
                self._store = await self.threads.run(files.open, key, self._entropy, self._cost)
            return self._store

    async def _find(self, blob_id: str, namespace: str | None) -> LocalBlob | None:
        name = BlobName.of(blob_id, namespace)
        store = await self._opened()
        return await self.threads.run(store.find, name)

    def _passing(self) -> Passing:
        return Passing(
            self._remote,
            self._secret,
            self.threads,
            self._retrying,
            self._entropy,
            self._slots,
            self._watcher,
        )

    def _transfers(self, store: LocalBlobStore) -> Transfers:
        return Transfers(
            store,
            self._remote,
            self._secret,
            self.threads,
            self._retrying,
            self._watcher,
            self._bounds,
        )

    def _syncing(self, store: LocalBlobStore) -> Syncing:
        return Syncing(
            self._transfers(store), self._slots, self._locks, self._transfers_at_once, self._wall
        )

    async def _sweep(self, store: LocalBlobStore) -> None:
        """Free what deleted blobs took, some rows at a time."""
        while not self._closed and await self.threads.run(store.sweep):
            pass


def _space(namespace: str | None) -> str:
    return checked_namespace(namespace or DEFAULT_NAMESPACE)


def _query(namespace: str | None, filter_flag: Flag | str | None, deleted: bool) -> Query:
    flag = None if filter_flag is None else checked_flags([filter_flag])[0]
    return Query(_space(namespace), flag, deleted)


def _surroundings(
    clock: Clock | None, threads: Threads | None
) -> tuple[Clock, PoolThreads | None]:
    """Return the clock, and threads of one's own where none were given."""
    if clock is not None and threads is not None:
        return clock, None
    from twisted.internet import reactor

    reactor_: Any = reactor
    return clock or reactor_, None if threads else PoolThreads(reactor_, 4, "blobs")
