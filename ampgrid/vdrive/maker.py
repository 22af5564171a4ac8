"""Makes nodes of caps, and new directories; what all nodes of one client share."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

from ampgrid.caps import Cap, ChkCap, DirCap, DirReadCap, DirVerifierCap, LitCap, parse_cap
from ampgrid.errors import BadCapError
from ampgrid.immutable import Downloader, Encoding, FileNode, Uploader
from ampgrid.ports import Entropy, Threads, WallClock
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.vdrive.ports import Table, Tables


class NodeMaker:
    """Makes nodes.

    Args:
        tables: where directories are kept.
        downloader: of the files.
        uploader: of the files.
        encoding: returns k, happiness and n for uploads that name none.
        wall: wall-clock time, for the times of children.
        entropy: for keys and nonces.
        threads: where much is sealed or opened.
    """

    def __init__(
        self,
        tables: Tables,
        *,
        downloader: Downloader,
        uploader: Uploader,
        encoding: Callable[[], Encoding],
        wall: WallClock,
        entropy: Entropy,
        threads: Threads,
    ) -> None:
        self.tables = tables
        self.downloader = downloader
        self.uploader = uploader
        self.encoding = encoding
        self.wall = wall
        self.entropy = entropy
        self.threads = threads

    @overload
    def node(self, cap: DirCap | DirReadCap) -> DirectoryNode: ...

    @overload
    def node(self, cap: ChkCap | LitCap) -> FileNode: ...

    @overload
    def node(self, cap: Cap | str) -> FileNode | DirectoryNode: ...

    def node(self, cap: Cap | str) -> FileNode | DirectoryNode:
        """Return the node of a cap, or of its text.

        Raises:
            BadCapError: it is no cap, or one that can only verify.
        """
        if isinstance(cap, str):
            cap = parse_cap(cap)
        if isinstance(cap, DirCap | DirReadCap):
            return DirectoryNode(cap, self)
        if isinstance(cap, ChkCap | LitCap):
            return FileNode(cap, self.downloader)
        raise BadCapError("this cap can verify but not read")

    def table(self, cap: DirCap | DirReadCap | DirVerifierCap) -> Table:
        """Return the table of a directory; a cap that only verifies will do to look after it.

        Raises:
            BadCapError: the keys of a write cap contradict each other.
        """
        return self.tables.table(cap.index, cap.keys if isinstance(cap, DirCap) else None)

    async def create_directory(self, cap: DirCap | None = None) -> DirectoryNode:
        """Make an empty directory that is linked nowhere: whoever has its cap has to keep it.

        Args:
            cap: that it is to have, and that none was made with before; a new one if left out.

        Raises:
            NotEnoughPeersError: no peer keeps directories.
        """
        cap = cap or DirCap.create(self.entropy)
        await self.tables.create(cap.keys)
        return DirectoryNode(cap, self)
