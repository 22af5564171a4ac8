"""What a local store of blobs says of one of them.

Source: `docs/specs/blobs.md#the-local-store`; the numbers are Soledad's.
"""

from __future__ import annotations

import enum

from attrs import frozen

from ampgrid.formats.blobname import BlobName


class SyncStatus(enum.IntEnum):
    """How a blob stands to the remote."""

    SYNCED = 1
    PENDING_UPLOAD = 2
    PENDING_DOWNLOAD = 3
    FAILED_UPLOAD = 4
    FAILED_DOWNLOAD = 5
    PENDING_DELETE = 6
    LOCAL_ONLY = 7


class Priority(enum.IntEnum):
    """Which blobs go first."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    URGENT = 4


@frozen
class LocalBlob:
    """A blob that a local store has, or is to have, or is to delete at the remote.

    Attributes:
        name: of it.
        status: how it stands to the remote.
        priority: which goes first.
        retries: how often what came of it was bad.
        added_at: when it was heard of first, seconds since 1970.
        usable: whether all of it is here and was checked.
        content: under which number its rows are, None if there are none.
        rows: number of rows that are here.
        preamble_size: of its preamble, bytes; 0 while not known.
        sealed_size: of its sealed bytes; None while not known.
        tag: the last 16 of these; None while not known.
        size: of its plaintext, bytes; None while not known, and of an external blob.
    """

    name: BlobName
    status: SyncStatus
    priority: Priority
    retries: int
    added_at: float
    usable: bool
    content: int | None
    rows: int
    preamble_size: int
    sealed_size: int | None
    tag: bytes | None
    size: int | None
