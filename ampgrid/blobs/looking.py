"""What there is of a user's blobs: flags, lists, counts and status, here and at the remote."""

from __future__ import annotations

from collections.abc import Sequence

from ampgrid.blobs.listing import pages
from ampgrid.blobs.managing import ManagedBlobs, space_of
from ampgrid.blobs.port import OrderBy, Query
from ampgrid.errors import BlobNotFoundError, RemoteUnavailableError
from ampgrid.formats.blobname import BlobName, Flag, checked_flags
from ampgrid.store.blobrecord import SyncStatus

#: What the ids of one listing may take in memory, bytes, and what one takes beside its letters.
MOST_LISTED_BYTES = 256 * 2**20
_ID_BYTES = 64


class BlobLooks(ManagedBlobs):
    """What a `ampgrid.blobs.manager.BlobManager` tells of its blobs."""

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
            RemoteUnavailableError: it does not answer, or lists more than is held in memory.
            BadArgumentValueError: ``order_by`` is no order.
        """
        query = _query(namespace, filter_flag, deleted)
        found: list[str] = []
        size = 0
        async for page in pages(self._remote, self._retrying, query, order_by):
            found += page.blob_ids
            size += sum(_ID_BYTES + len(blob_id) for blob_id in page.blob_ids)
            if size > MOST_LISTED_BYTES:
                raise RemoteUnavailableError("The remote lists more than is held in memory.")
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
        return await self.threads.run(store.ids, space_of(namespace))

    async def local_statuses(self, namespace: str | None = None) -> dict[str, SyncStatus]:
        """Return {id: status} of all blobs that are known here, by id."""
        store = await self._opened()
        return dict(await self.threads.run(store.between, space_of(namespace), "", None))

    async def local_list_status(
        self, status: SyncStatus, namespace: str | None = None
    ) -> list[str]:
        """Return the ids of blobs that stand so to the remote."""
        store = await self._opened()
        return await self.threads.run(store.ids, space_of(namespace), status)

    async def namespaces(self) -> list[str]:
        """Return the namespaces that are known here or at the remote, sorted."""
        found = set()
        if self._files is not None:
            store = await self._opened()
            found.update(await self.threads.run(store.namespaces))
        if self._remote_or_none is not None:
            found.update(await self._retrying.run(self._remote.namespaces))
        return sorted(found)

    # How they stand to the remote.

    async def sync_progress(self, namespace: str | None = None) -> dict[str, int]:
        """Return {name of a status: number of blobs that have it}, in one namespace or in all."""
        store = await self._opened()
        space = None if namespace is None else space_of(namespace)
        progress = await self.threads.run(store.progress, space)
        return {status.name: count for status, count in sorted(progress.items())}

    async def status(self, blob_id: str, namespace: str | None = None) -> SyncStatus | None:
        """Return how a blob stands to the remote, None if it is not known here."""
        blob = await self._find(blob_id, namespace)
        return None if blob is None else blob.status


def _query(namespace: str | None, filter_flag: Flag | str | None, deleted: bool) -> Query:
    flag = None if filter_flag is None else checked_flags([filter_flag])[0]
    return Query(space_of(namespace), flag, deleted)
