"""Making a local store and a remote hold the same blobs.

Deleting comes first and wins: what was deleted here is deleted there, and what was deleted there
within the time that the remote remembers it is deleted here. Then both lists are compared, and
what one side lacks moves to it, several blobs at once, those of high priority first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from attrs import define, field
from twisted.internet.defer import Deferred, FirstError, gatherResults

from ampgrid.blobs.listing import pages
from ampgrid.blobs.port import Query
from ampgrid.blobs.slots import NameLocks, Slots
from ampgrid.blobs.transfers import Transfers
from ampgrid.errors import (
    AmpgridError,
    BadArgumentValueError,
    BlobDeletedError,
    BlobError,
    BlobNotFoundError,
    BlobQuotaError,
    BlobRefusedError,
    RemoteUnavailableError,
)
from ampgrid.formats.blobname import BlobName
from ampgrid.ports import WallClock
from ampgrid.store.blobrecord import Priority, SyncStatus

#: Everything that the remote may know of.
_SHARED = (
    SyncStatus.SYNCED,
    SyncStatus.PENDING_UPLOAD,
    SyncStatus.PENDING_DOWNLOAD,
    SyncStatus.FAILED_UPLOAD,
    SyncStatus.FAILED_DOWNLOAD,
)


@define
class SyncReport:
    """What a sync did.

    Attributes:
        sent: number of blobs that the remote got.
        fetched: number of blobs that came from it.
        deleted_there: number that were deleted at the remote.
        deleted_here: number that were deleted here, since they were deleted there.
        failed: (name, why) of each blob that could not be moved.
    """

    sent: int = 0
    fetched: int = 0
    deleted_there: int = 0
    deleted_here: int = 0
    failed: list[tuple[BlobName, str]] = field(factory=list)

    def to_json(self) -> dict[str, object]:
        """Return it for JSON."""
        return {
            "sent": self.sent,
            "fetched": self.fetched,
            "deleted_there": self.deleted_there,
            "deleted_here": self.deleted_here,
            "failed": [
                {"namespace": name.namespace, "blob_id": name.blob_id, "why": why}
                for name, why in self.failed
            ],
        }


@define
class Syncing:
    """One store and one remote.

    Attributes:
        transfers: what moves blobs.
        slots: how many move at once.
        locks: of the blobs.
        at_once: how many are taken up at once.
        wall: tells the time.
    """

    transfers: Transfers
    slots: Slots
    locks: NameLocks
    at_once: int
    wall: WallClock
    _wanted: int = field(init=False, default=0)

    async def sync(self, namespace: str, report: SyncReport) -> None:
        """Do all of it for one namespace; what was done goes into ``report``.

        Raises:
            RemoteUnavailableError: the remote went away; what is left is pending.
            BlobRefusedError: it does not accept the user.
        """
        await self.send_deletions(namespace, report)
        await self.take_deletions(namespace, report)
        await self.compare(namespace)
        await self.fetch_pending(namespace, report)
        await self.send_pending(namespace, report)

    async def send_deletions(self, namespace: str, report: SyncReport) -> None:
        """Delete at the remote what was deleted here."""
        pending = await self._pending(namespace, SyncStatus.PENDING_DELETE)

        async def delete(name: BlobName) -> None:
            was_there = await self.delete(name)
            report.deleted_there += was_there

        await self._all(pending, delete, report)

    async def delete(self, name: BlobName) -> bool:
        """Delete a blob at the remote that is to be; return whether it was there.

        Raises:
            RemoteUnavailableError: it is still to be deleted.
        """
        t = self.transfers
        was_there = True
        try:
            await t.retrying.run(lambda: t.remote.delete(name))
        except BlobNotFoundError:
            was_there = False
        await t.threads.run(t.store.drop, name, [SyncStatus.PENDING_DELETE])
        return was_there

    async def take_deletions(self, namespace: str, report: SyncReport) -> None:
        """Delete here what was deleted at the remote."""
        t = self.transfers
        query = Query(namespace, deleted=True)
        async for page in pages(t.remote, t.retrying, query):
            names = [BlobName(namespace, blob_id) for blob_id in page.blob_ids]
            dropped = await t.threads.run(t.store.drop_all, names, _SHARED)
            report.deleted_here += dropped

    async def compare(self, namespace: str) -> None:
        """Look what each side lacks, and note it in the local store.

        Raises:
            BlobQuotaError: the remote lists more than is taken in.
        """
        t = self.transfers
        after = ""
        self._wanted = await t.threads.run(t.store.wanted)
        async for page in pages(t.remote, t.retrying, Query(namespace)):
            ids = page.blob_ids
            if ids or page.after is None:
                until = None if page.after is None else ids[-1]
                await t.threads.run(self._compare_page, namespace, after, ids, until)
                after = until or ""

    def _compare_page(
        self, namespace: str, after: str, ids: Sequence[str], until: str | None
    ) -> None:
        """Compare a stretch of the names, from ``after`` to ``until``; in a thread."""
        t = self.transfers
        here = t.store.between(namespace, after, until)
        there = set(ids)
        missing = [BlobName(namespace, blob_id) for blob_id in ids if blob_id not in here]
        self._wanted += len(missing)
        if self._wanted > t.bounds.wanted:
            raise BlobQuotaError(
                f"The remote lists more blobs than are wanted here: {t.bounds.wanted} that have "
                "not come yet. Allow more, or ask what it lists."
            )
        if missing:
            t.store.want(missing, self.wall())
        absent = [BlobName(namespace, blob_id) for blob_id in here if blob_id not in there]
        if absent:
            # The remote lost them, or forgot long ago that they were deleted: nothing is lost.
            t.store.set_all(absent, SyncStatus.PENDING_UPLOAD, [SyncStatus.SYNCED])
            t.store.drop_all(absent, [SyncStatus.PENDING_DOWNLOAD, SyncStatus.FAILED_DOWNLOAD])

    async def fetch_pending(self, namespace: str, report: SyncReport) -> None:
        """Have all that is wanted."""
        pending = await self._pending(namespace, SyncStatus.PENDING_DOWNLOAD)

        async def fetch(name: BlobName) -> None:
            is_here = await self.transfers.fetch(name)
            report.fetched += is_here

        await self._all(pending, fetch, report)

    async def send_pending(self, namespace: str, report: SyncReport) -> None:
        """Put all that the remote is to get."""
        pending = await self._pending(namespace, SyncStatus.PENDING_UPLOAD)

        async def send(name: BlobName) -> None:
            try:
                was_sent = await self.transfers.send(name)
                report.sent += was_sent
            except BlobDeletedError:
                report.deleted_here += 1

        await self._all(pending, send, report)

    async def _pending(
        self, namespace: str, status: SyncStatus
    ) -> list[tuple[BlobName, Priority]]:
        t = self.transfers
        found = await t.threads.run(t.store.pending, namespace, status)
        return [(BlobName(namespace, blob_id), priority) for blob_id, priority in found]

    async def _all(
        self,
        pending: Sequence[tuple[BlobName, Priority]],
        work: Callable[[BlobName], Awaitable[None]],
        report: SyncReport,
    ) -> None:
        """Do work for many blobs, several at once.

        One that fails does not stop the others, but for a remote that is gone.
        """
        queue = deque(pending)
        gone: list[Exception] = []

        async def worker() -> None:
            while queue and not gone:
                name, priority = queue.popleft()
                try:
                    # The name first, as in a put and a get: who has it may wait for a slot.
                    async with self.locks.held(name), self.slots.taken(priority):
                        await work(name)
                except (RemoteUnavailableError, BlobRefusedError) as error:
                    gone.append(error)
                except (BlobError, BadArgumentValueError) as error:
                    # This one, or how it is asked for; the others may do better.
                    report.failed.append((name, str(error)))
                except (AmpgridError, OSError) as error:
                    # The local store, or its disk: the others would fare no better.
                    gone.append(error)

        workers = [Deferred.fromCoroutine(worker()) for _ in range(min(self.at_once, len(queue)))]
        try:
            await gatherResults(workers, consumeErrors=True)
        except FirstError as error:
            # Who gave the sync up, or a fault of ours, as it is.
            queue.clear()
            error.subFailure.raiseException()
        if gone:
            raise gone[0]
