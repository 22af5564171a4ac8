"""Rows of a blob on their way into the local store.

Rows gather in memory, at most `BATCH_BYTES` of them, and go into the database in one transaction;
a small blob is there in one. The blob can be used after `Incoming.finish` alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from ampgrid.errors import BlobNotFoundError, InvalidBlobError
from ampgrid.formats.blob import TAG_SIZE
from ampgrid.formats.blobname import BlobName
from ampgrid.store.blobrecord import LocalBlob, Priority, SyncStatus
from ampgrid.store.localblobs import (
    LocalBlobStore,
    add_blob,
    add_rows,
    check_external_room,
    delete_blob,
    drop_content,
    find_blob,
    new_content,
    update_blob,
)
from ampgrid.store.sql import Sql

#: Rows that go into the database together, bytes.
BATCH_BYTES = 2 * 1024 * 1024


class Incoming:
    """A blob on its way into a store; one thread at a time. Made by `putting` and `fetching`."""

    def __init__(
        self,
        store: LocalBlobStore,
        name: BlobName,
        new: tuple[SyncStatus, Priority, float] | None,
        found: LocalBlob | None = None,
    ) -> None:
        self._store = store
        self._name = name
        self._new = new
        self._content = None if found is None else found.content
        self._stored = 0 if found is None else found.rows
        self._gathered: list[bytes] = []
        self._waiting = 0
        self._preamble_size = 0 if found is None else found.preamble_size
        self._expected: tuple[int, bytes] | None = None
        self._pending_content = self._content
        self._last = b""
        self._external_most: int | None = None

    @classmethod
    def putting(
        cls,
        store: LocalBlobStore,
        name: BlobName,
        *,
        status: SyncStatus,
        priority: Priority,
        now: float,
    ) -> Incoming:
        """Return what takes a new blob.

        Args:
            store: where to.
            name: of the blob.
            status: that it gets.
            priority: that it gets.
            now: seconds since 1970.
        """
        return cls(store, name, (status, priority, now))

    @classmethod
    def fetching(
        cls, store: LocalBlobStore, name: BlobName, sealed_size: int, tag: bytes
    ) -> Incoming:
        """Return what takes a blob from the remote, with what is here of the very same already.

        Args:
            store: where to.
            name: of a blob that the store wants.
            sealed_size: as the remote says.
            tag: as the remote says.

        Raises:
            BlobNotFoundError: the store does not want it, or no more.
        """
        found = store.find(name)
        if found is None or not _is_wanted(found):
            raise BlobNotFoundError(f"The blob {name} is not wanted any more.")
        if found.content is None or (found.sealed_size, found.tag) != (sealed_size, tag):
            found = None
        incoming = cls(store, name, None, found)
        incoming._expected = (sealed_size, tag)
        return incoming

    @property
    def rows(self) -> int:
        """Number of rows that are here, gathered ones too."""
        return self._stored + len(self._gathered)

    def preamble(self) -> bytes:
        """Return row 0, which must be here.

        Raises:
            BlobNotFoundError: the blob was deleted meanwhile.
        """
        if self._gathered and not self._stored:
            return self._gathered[0]
        blob = self._store.find(self._name)
        if blob is None or blob.content != self._content:
            raise BlobNotFoundError(f"The blob {self._name} was deleted.")
        return self._store.rows(blob, 0, 1)[0]

    def is_external(self, most: int) -> None:
        """Note that it is of another scheme; all of these together may take so many bytes.

        What stores its first rows then raises `BlobQuotaError` if there is no room for it.
        """
        self._external_most = most

    def add(self, rows: Sequence[bytes]) -> None:
        """Take rows that were checked.

        Raises:
            BlobAlreadyExistsError: there is a blob of that name.
            BlobNotFoundError: it was deleted meanwhile.
            StoreError: they could not be stored.
        """
        for row in rows:
            if not self.rows:
                self._preamble_size = len(row)
            self._gathered.append(row)
            self._waiting += len(row)
            self._last = row
            if self._waiting >= BATCH_BYTES:
                self.flush()

    def flush(self) -> None:
        """Store what has gathered."""
        if self._gathered:
            self._store.change(self._write)
            self._written()

    def finish(self, sealed_size: int, size: int | None) -> None:
        """Store the rest, and let the blob be used; a fetched one is in sync then.

        Args:
            sealed_size: of all rows together.
            size: of the plaintext; None for an external blob.

        Raises:
            InvalidBlobError: it does not end as was announced.
            BlobAlreadyExistsError: there is a blob of that name.
            BlobNotFoundError: it was deleted meanwhile.
            StoreError: it could not be stored.
        """
        tag = (self._last or self._last_stored())[-TAG_SIZE:]
        if self._expected not in (None, (sealed_size, tag)):
            raise InvalidBlobError(f"The blob {self._name} does not end as the remote says.")

        def write(sql: Sql) -> None:
            self._write(sql)
            update_blob(
                sql, self._name, usable=1, sealed_size=sealed_size, tag=tag, size=size, retries=0
            )
            if self._new is None:
                update_blob(sql, self._name, status=int(SyncStatus.SYNCED))

        self._store.change(write)
        self._written()

    def discard(self) -> None:
        """Forget a new blob that did not come to its end; of a fetched one, what has gathered."""
        self._gathered.clear()
        self._waiting = 0
        if self._new is None or self._content is None:
            return

        def forget(sql: Sql) -> None:
            blob = find_blob(sql, self._name)
            if blob is not None and blob.content == self._content:
                drop_content(sql, blob)
                delete_blob(sql, self._name)

        self._store.change(forget)

    def _last_stored(self) -> bytes:
        """Return the last row, when all of them had come before."""
        blob = self._store.find(self._name)
        if blob is None or blob.content != self._content or not blob.rows:
            raise BlobNotFoundError(f"The blob {self._name} was deleted meanwhile.")
        return self._store.rows(blob, blob.rows - 1, 1)[0]

    # In a transaction.

    def _write(self, sql: Sql) -> None:
        content = self._content
        if content is None:
            content = self._begin(sql)
        else:
            blob = find_blob(sql, self._name)
            if blob is None or blob.content != content or blob.usable:
                raise BlobNotFoundError(f"The blob {self._name} was deleted meanwhile.")
        add_rows(sql, content, self._stored, self._gathered)
        update_blob(
            sql,
            self._name,
            row_count=self._stored + len(self._gathered),
            preamble_size=self._preamble_size,
        )
        self._pending_content = content

    def _begin(self, sql: Sql) -> int:
        """Make the content that the rows belong to; what there was of another blob is dropped."""
        content = new_content(sql)
        if self._new is not None:
            add_blob(sql, self._name, *self._new)
            update_blob(sql, self._name, content=content)
            return content
        blob = find_blob(sql, self._name)
        if blob is None or not _is_wanted(blob):
            raise BlobNotFoundError(f"The blob {self._name} was deleted meanwhile.")
        assert self._expected is not None
        sealed_size, tag = self._expected
        drop_content(sql, blob)
        is_external = self._external_most is not None
        if self._external_most is not None:
            check_external_room(sql, sealed_size, self._external_most)
        update_blob(
            sql,
            self._name,
            content=content,
            sealed_size=sealed_size,
            tag=tag,
            external=int(is_external),
        )
        return content

    def _written(self) -> None:
        self._content = self._pending_content
        self._stored += len(self._gathered)
        self._gathered.clear()
        self._waiting = 0


def _is_wanted(blob: LocalBlob) -> bool:
    return blob.status is SyncStatus.PENDING_DOWNLOAD and not blob.usable
