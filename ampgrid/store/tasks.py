"""Jobs of the store that touch its accounts: what they promise is kept or taken back."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from ampgrid.errors import WriteConflictError
from ampgrid.store import catalog, leases
from ampgrid.store.peerrows import peer_row
from ampgrid.store.port import Allocated, Put, Request
from ampgrid.store.space import Space
from ampgrid.store.sql import Job, Sql
from ampgrid.store.uploads import FileUpload, Upload


class AllocateJob(Job[Allocated]):
    """Reserve room for shares that are not here; renew the lease of those that are.

    Args:
        request: who asks for what.
        space: where room is reserved.
        free_bytes: asks the disk; takes the time, raises `BrokenStoreError`.
        has_room: tells whether one more lease fits; notes how many there are.
        make_upload: makes the upload of a number.
    """

    def __init__(
        self,
        request: Request,
        space: Space,
        free_bytes: Callable[[int], int],
        has_room: Callable[[Sql], bool],
        make_upload: Callable[[int], Upload],
    ) -> None:
        self._request = request
        self._space = space
        self._free_bytes = free_bytes
        self._has_room = has_room
        self._make_upload = make_upload
        self._accepted: dict[int, Upload] = {}

    def run(self, sql: Sql) -> Allocated:
        """Look what is here and reserve, lowest number first, as far as it fits."""
        request = self._request
        held = catalog.sizes(sql, request.storage_index)
        if held:
            leases.add_or_renew(sql, request.storage_index, request.lease, self._has_room)
        wanted = sorted(request.numbers - held.keys())
        if wanted:
            free = self._free_bytes(request.lease.now)
            self._space.count_leases(leases.count_all(sql))
            for number in wanted:
                if self._space.promise(request.size, free, request.peer):
                    self._accepted[number] = self._make_upload(number)
        return Allocated(held, self._accepted)

    def undone(self) -> None:
        """Take the promises back."""
        for upload in self._accepted.values():
            upload.discard()


class PutJob(Job[Put]):
    """Store a small share that came whole, with its lease.

    Args:
        request: who asks for what; one number.
        space: where room is reserved.
        free_bytes: asks the disk; takes the time, raises `BrokenStoreError`.
        has_room: tells whether one more lease fits; notes how many there are.
        data: the share.
    """

    def __init__(
        self,
        request: Request,
        space: Space,
        free_bytes: Callable[[int], int],
        has_room: Callable[[Sql], bool],
        data: bytes,
    ) -> None:
        self._request = request
        self._space = space
        self._free_bytes = free_bytes
        self._has_room = has_room
        self._data = data
        self._promised = False

    def run(self, sql: Sql) -> Put:
        """Add the share, if it is not here and there is room."""
        request = self._request
        (number,) = request.numbers
        held = catalog.sizes(sql, request.storage_index)
        if (number in held or not self._add(sql, number)) and held:
            leases.add_or_renew(sql, request.storage_index, request.lease, self._has_room)
        return Put(held, self._promised)

    def _add(self, sql: Sql, number: int) -> bool:
        """Add the share with its lease if there is room; tell if so."""
        request = self._request
        index, lease = request.storage_index, request.lease
        free = self._free_bytes(lease.now)
        found = catalog.outlook(sql, index, number, request.peer)
        self._space.count_leases(found.leases)
        self._promised = self._space.promise(len(self._data), free)
        if not self._promised:
            return False
        if found.peer is None:
            found = attrs.evolve(found, peer=peer_row(sql, request.peer))
        if found.has_leases or lease.peer != request.peer or lease.peer == catalog.NOBODY:
            leases.add_or_renew(sql, index, lease)
        else:
            leases.add_first(sql, index, lease, found.peer)
        catalog.add_small(sql, index, number, lease.now, self._data, found)
        return True

    def committed(self) -> None:
        """Count the share as stored."""
        if self._promised:
            self._space.keep(len(self._data), 0)

    def undone(self) -> None:
        """Take the promise back."""
        if self._promised:
            self._space.release(len(self._data), 0)


class RecordJob(Job[bool]):
    """Record an uploaded share with its lease, unless one of its number is here; tell if so.

    Args:
        upload: the share; it must be complete.
        in_row: whether its bytes go into the row (else they are a file in its place already).
        same_file: tells whether the file of the share that is here has the bytes of this one;
            both have the same size.
    """

    def __init__(
        self, upload: Upload, *, in_row: bool, same_file: Callable[[Upload], bool]
    ) -> None:
        self._upload = upload
        self._in_row = in_row
        self._same_file = same_file
        self._recorded = False

    def run(self, sql: Sql) -> bool:
        """Add the row and the lease.

        Raises:
            IncompleteError: bytes are missing.
            WriteConflictError: the share that is here has other bytes.
        """
        upload = self._upload
        upload.check_complete()
        index, now = upload.storage_index, upload.lease.now
        row = catalog.find(sql, index, upload.number)
        if row is not None and not self._is_same(sql, row):
            raise WriteConflictError("a share of this number with other bytes is stored")
        leases.add_or_renew(sql, index, upload.lease)
        if row is None:
            contents = upload.contents() if self._in_row else None
            tail = upload.tail if isinstance(upload, FileUpload) else None
            catalog.add(sql, index, upload.number, upload.size, upload.peer, now, contents, tail)
            self._recorded = True
        return self._recorded

    def _is_same(self, sql: Sql, row: catalog.ShareRow) -> bool:
        upload = self._upload
        if row.size != upload.size:
            return False
        if row.in_file:
            # A large one was compared before, outside the transaction, and cannot have changed.
            return not self._in_row or self._same_file(upload)
        stored = catalog.data(sql, upload.storage_index, upload.number, 0, row.size)
        return (stored or b"") == upload.contents()

    def committed(self) -> None:
        """Count the share as stored, or take the promise back if it was here already."""
        if self._recorded:
            self._upload.stored()
        self._upload.discard()

    def undone(self) -> None:
        """Discard the upload."""
        self._upload.discard()
