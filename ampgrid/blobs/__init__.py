"""Blobs: a local store in SQLCipher, and its encrypted sync with a remote (seed 000).

* `ampgrid.blobs.port`: what a remote is.
"""

from ampgrid.blobs.port import Page, Query, Remote, SealedSource, SealedStream, Stat
from ampgrid.formats.blobname import BlobName, Flag

__all__ = [
    "BlobName",
    "Flag",
    "Page",
    "Query",
    "Remote",
    "SealedSource",
    "SealedStream",
    "Stat",
]
