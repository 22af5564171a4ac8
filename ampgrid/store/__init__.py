"""What a node keeps on its disk: shares with their leases, and what it knows of peers and files.

* `ampgrid.store.shares`: the store of shares; `ampgrid.store.port` is what others see of it.
* `ampgrid.store.peerdb`: announcements, the node's own counter, small values.
* `ampgrid.store.keptdb`: the files that the node has put and keeps alive.
* `ampgrid.store.filesystem`: the one place where shares touch the disk.
* `ampgrid.store.sql`: SQLite with group commit.

This room does I/O and knows neither network, clock nor secrets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ampgrid.lazily import names_of

if TYPE_CHECKING:
    from ampgrid.store.filesystem import FileSystem, PosixFileSystem
    from ampgrid.store.keptdb import FilePut, KeptDatabase, KeptFile
    from ampgrid.store.leases import LEASE_SECONDS, LeaseTerms
    from ampgrid.store.peerdb import PeerDatabase
    from ampgrid.store.port import SMALL_SHARE_BYTES, Allocated, Put, Request, Store
    from ampgrid.store.shares import ShareStore
    from ampgrid.store.space import Room
else:
    __getattr__ = names_of(
        __name__,
        {
            "filesystem": ["FileSystem", "PosixFileSystem"],
            "keptdb": ["FilePut", "KeptDatabase", "KeptFile"],
            "leases": ["LEASE_SECONDS", "LeaseTerms"],
            "peerdb": ["PeerDatabase"],
            "port": ["SMALL_SHARE_BYTES", "Allocated", "Put", "Request", "Store"],
            "shares": ["ShareStore"],
            "space": ["Room"],
        },
    )

__all__ = [
    "LEASE_SECONDS",
    "SMALL_SHARE_BYTES",
    "Allocated",
    "FilePut",
    "FileSystem",
    "KeptDatabase",
    "KeptFile",
    "LeaseTerms",
    "PeerDatabase",
    "PosixFileSystem",
    "Put",
    "Request",
    "Room",
    "ShareStore",
    "Store",
]
