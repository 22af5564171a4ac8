"""Blobs: a local store in SQLCipher, its encrypted sync with a remote (seed 000), and remotes.

* `ampgrid.blobs.manager`: what an application uses.
* `ampgrid.blobs.contents`: what an application reads.
* `ampgrid.blobs.taking`, `ampgrid.blobs.transfers`, `ampgrid.blobs.passing`: one blob on its way.
* `ampgrid.blobs.syncing`: all of them.
* `ampgrid.blobs.port`: what a remote is; `ampgrid.blobs.remotes`: which one an address means.
* `ampgrid.blobs.peer`, `ampgrid.blobs.grid`, `ampgrid.blobs.http`: the remotes that there are.
* `ampgrid.blobs.service`, `ampgrid.blobs.responder`: keeping blobs for others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ampgrid.errors import (
    BlobAlreadyExistsError,
    BlobDeletedError,
    BlobNotFoundError,
    InvalidBlobError,
    InvalidFlagsError,
)
from ampgrid.formats.blobname import BlobName, Flag
from ampgrid.lazily import names_of
from ampgrid.store.blobrecord import Priority, SyncStatus

if TYPE_CHECKING:
    from ampgrid.blobs.contents import Blob, ExternalBlob
    from ampgrid.blobs.manager import BlobDoc, BlobManager
    from ampgrid.blobs.port import Page, Query, Remote, SealedSource, SealedStream, Stat
    from ampgrid.blobs.syncing import SyncReport
    from ampgrid.blobs.transfers import Moved
else:
    __getattr__ = names_of(
        __name__,
        {
            "contents": ["Blob", "ExternalBlob"],
            "manager": ["BlobDoc", "BlobManager"],
            "port": ["Page", "Query", "Remote", "SealedSource", "SealedStream", "Stat"],
            "syncing": ["SyncReport"],
            "transfers": ["Moved"],
        },
    )

__all__ = [
    "Blob",
    "BlobAlreadyExistsError",
    "BlobDeletedError",
    "BlobDoc",
    "BlobManager",
    "BlobName",
    "BlobNotFoundError",
    "ExternalBlob",
    "Flag",
    "InvalidBlobError",
    "InvalidFlagsError",
    "Moved",
    "Page",
    "Priority",
    "Query",
    "Remote",
    "SealedSource",
    "SealedStream",
    "Stat",
    "SyncReport",
    "SyncStatus",
]
