"""Reading a directory: the half of `ampgrid.vdrive.dirnode.DirectoryNode` that changes nothing.

A node keeps nothing of what is in the directory: every question goes to the table, so nodes are
cheap and never stale.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, cast

from attrs import field, frozen

from ampgrid.caps import DirCap, DirReadCap
from ampgrid.errors import (
    AmpgridError,
    NoSuchChildError,
    NotDirectoryError,
    SnapshotGoneError,
)
from ampgrid.formats.names import checked_name
from ampgrid.formats.record import Record
from ampgrid.immutable import FileNode
from ampgrid.vdrive.children import FoundChild, Sealer
from ampgrid.vdrive.metadata import Metadata
from ampgrid.vdrive.paths import split_names
from ampgrid.vdrive.ports import Table, TableReport
from ampgrid.vdrive.walking import refresh_capabilities

if TYPE_CHECKING:
    from ampgrid.vdrive.dirnode import DirectoryNode
    from ampgrid.vdrive.maker import NodeMaker

#: A listing is begun again so often when the version that was being read is gone.
_LIST_TRIES = 3


@frozen
class Child:
    """A child of a directory.

    Attributes:
        name: in its directory.
        node: the file or the directory.
        metadata: what the directory tells of it (`ampgrid.vdrive.metadata`).
    """

    name: str
    node: FileNode | DirectoryNode
    metadata: Metadata


@frozen
class Listing:
    """All of a directory at one moment.

    Attributes:
        children: by name, in the order of names.
        problems: a line for each entry that could not be opened, and is not among them.
        root: what stands for all that is in the directory, 32 bytes (`DirectoryReader.root`);
            empty in a page of it.
    """

    children: dict[str, Child] = field(repr=False)
    problems: tuple[str, ...] = ()
    root: bytes = b""


class DirectoryReader:
    """What every directory node can do.

    Args:
        cap: what gives it; whether it can be changed is decided by it.
        maker: makes the nodes of its children.
    """

    def __init__(self, cap: DirCap | DirReadCap, maker: NodeMaker) -> None:
        self._cap = cap
        self._maker = maker

    # What the cap tells.

    @property
    def cap(self) -> DirCap | DirReadCap:
        """Its cap."""
        return self._cap

    @property
    def index(self) -> bytes:
        """Where its replicas keep it, 32 bytes."""
        return self._cap.index

    def is_mutable(self) -> bool:
        """Tell whether it can be changed through this node."""
        return not self._cap.is_readonly()

    def get_uri(self) -> str:
        """Return the text of the cap: of the write cap, if this node can change it."""
        return self._cap.to_string()

    def get_immutable_uri(self) -> str:
        """Return the text of the cap that only reads."""
        return self._cap.get_readonly().to_string()

    def get_refresh_capability(self) -> str:
        """Return the text of the verify cap, with which leases can be renewed."""
        return self._cap.get_verify_cap().to_string()

    def __repr__(self) -> str:
        return f"<DirectoryNode {'' if self.is_mutable() else 'read-only '}{self._cap!r}>"

    @cached_property
    def _table(self) -> Table:
        return self._maker.table(self._cap)

    @cached_property
    def _sealer(self) -> Sealer:
        cap = self._cap
        if isinstance(cap, DirCap):
            return Sealer(cap.index, cap.keys.read, cap.keys, self._maker.entropy)
        return Sealer(cap.index, cap.keys, None, self._maker.entropy)

    # Reading.

    async def list(self) -> dict[str, FileNode | DirectoryNode]:
        """Return the nodes of all children by name, in the order of names.

        Raises:
            NotReachableError: too few replicas answered; so with everything below that asks.
        """
        listing = await self.read()
        return {name: child.node for name, child in listing.children.items()}

    async def list_with_metadata(self) -> dict[str, Child]:
        """Return all children by name with what the directory tells of them."""
        return (await self.read()).children

    async def read(self) -> Listing:
        """Return all children, and what was wrong with the entries of others."""
        for attempt in range(1, _LIST_TRIES + 1):
            children: dict[str, Child] = {}
            problems: tuple[str, ...] = ()
            roots: list[bytes] = []
            try:
                async for page in self.pages(roots.append):
                    children.update(page.children)
                    problems += page.problems
            except SnapshotGoneError:
                if attempt == _LIST_TRIES:
                    raise
            else:
                return Listing(dict(sorted(children.items())), problems, roots[-1])
        raise AssertionError("the last attempt raises")

    async def pages(self, begun: Callable[[bytes], None] | None = None) -> AsyncIterator[Listing]:
        """Yield the children in pages, all of one version, in no particular order.

        Args:
            begun: told the `root` of that version; the last one that it is told counts.

        Raises:
            SnapshotGoneError: reading took so long that the rest of that version is gone.
        """

        def tell(record: Record) -> None:
            if begun is not None:
                begun(record.root)

        async for entries in self._table.entries(tell):
            # A page is hundreds of decryptions: the reactor has turns meanwhile.
            found, problems = await self._maker.threads.run(self._sealer.open_all, entries)
            children = {child.name: self._child(child) for child in found}
            yield Listing(children, tuple(problems))

    async def has_child(self, name: str) -> bool:
        """Tell whether there is a child of that name.

        Raises:
            BadNameError: no child can have that name; so with everything that takes one.
        """
        return await self._table.get(self._sealer.slot_of(checked_name(name))) is not None

    async def get(self, name: str) -> FileNode | DirectoryNode:
        """Return the node of a child.

        Raises:
            NoSuchChildError: there is none of that name (it is an IndexError).
        """
        return (await self.get_child(name)).node

    async def get_child(self, name: str) -> Child:
        """Return a child with what the directory tells of it (see `get`)."""
        name = checked_name(name)
        slot = self._sealer.slot_of(name)
        sealed = await self._table.get(slot)
        if sealed is None:
            raise no_such(name)
        return self._child(self._sealer.open(slot, sealed))

    async def get_child_at_path(self, path: str | Sequence[str]) -> FileNode | DirectoryNode:
        """Return the node at a path: names with slashes between, or a list of names.

        Raises:
            NoSuchChildError: there is none on the way or at the end of it.
            NotDirectoryError: the path leads through a file.
        """
        node: FileNode | DirectoryNode = cast("DirectoryNode", self)
        before = ""
        for name in split_names(path):
            if not isinstance(node, DirectoryReader):
                raise NotDirectoryError(f"{before!r} is a file and has no children")
            node, before = await node.get(name), name
        return node

    def _child(self, found: FoundChild) -> Child:
        return Child(found.name, self._maker.node(found.cap), found.metadata)

    # All that it leads to, and its replicas.

    async def build_manifest(self) -> set[str]:
        """Return the refresh capabilities of all that can be reached from here, and its own.

        Files whose cap holds their data have none. `ampgrid.vdrive.deep` streams them.

        Raises:
            AmpgridError: a directory on the way could not be read; without it the set would
                silently be too small.
        """
        return await refresh_capabilities(cast("DirectoryNode", self))

    async def check(self) -> TableReport:
        """Look at every replica of this directory."""
        return await self._table.check()

    async def repair(self) -> TableReport:
        """Bring its replicas up to date; with a write cap, replace those that are gone."""
        return await self._table.repair()

    async def renew(self) -> int:
        """Renew this node's leases on it; return at how many replicas that was done."""
        return await self._table.renew()

    async def abandon(self) -> None:
        """Give up this node's leases on it, as far as replicas can be reached."""
        with suppress(AmpgridError):
            await self._table.cancel()

    async def root(self) -> bytes:
        """Return what stands for all that is in it now, 32 bytes: it changes with any of it."""
        return (await self._table.record()).root

    async def count(self) -> int:
        """Return how many children it has."""
        return (await self._table.record()).count


def no_such(name: str) -> NoSuchChildError:
    """Return the error for a name that is not there."""
    return NoSuchChildError(f"there is no {name!r} in this directory")
