"""The virtual drive: everything that can be reached from the roots that a node knows.

Seed 001's IVirtualDrive. A path is given in one of three forms. A text is that of the seed:
``~/a/b`` begins in the private root, ``/a/b`` and ``a/b`` in the public one. A list of names is
the same, split. A `GridPath` is what a command line takes, and also reaches aliases and caps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from ampgrid.caps import Cap
from ampgrid.errors import (
    BadArgumentValueError,
    ChildExistsError,
    NoRootError,
    NoSuchChildError,
    NotDirectoryError,
)
from ampgrid.immutable import FileNode
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.vdrive.maker import NodeMaker
from ampgrid.vdrive.paths import PRIVATE, PUBLIC, GridPath, split_names
from ampgrid.vdrive.ports import Roots

#: A place in the grid, in one of the forms that `VirtualDrive` takes.
DrivePath: TypeAlias = str | Sequence[str] | GridPath

Node: TypeAlias = FileNode | DirectoryNode


class VirtualDrive:
    """The directories and files of the grid, by path and by cap.

    Args:
        maker: makes nodes.
        roots: tells where named directories begin.
    """

    def __init__(self, maker: NodeMaker, roots: Roots) -> None:
        self._maker = maker
        self._roots = roots

    # Roots.

    def have_public_root(self) -> bool:
        """Tell whether the grid's public root is known."""
        return self._roots.get(PUBLIC) is not None

    async def get_public_root(self) -> DirectoryNode:
        """Return the grid's public root.

        Raises:
            NoRootError: the grid has none, or this node was not told of it yet.
        """
        return self._root(PUBLIC)

    def have_private_root(self) -> bool:
        """Tell whether this node has a private root."""
        return self._roots.get(PRIVATE) is not None

    async def get_private_root(self) -> DirectoryNode:
        """Return this node's private root.

        Raises:
            NoRootError: it was not made yet.
        """
        return self._root(PRIVATE)

    def _root(self, name: str) -> DirectoryNode:
        cap = self._roots.get(name)
        if cap is not None:
            return self._maker.node(cap)
        if name == PUBLIC:
            raise NoRootError("this grid has no public root, or has not told of it yet")
        if name == PRIVATE:
            raise NoRootError("this node has no private root yet")
        raise NoRootError(f"this node knows no alias {name!r}")

    # Finding.

    async def get_node(self, uri: str | Cap) -> Node:
        """Return the node of a cap; the grid is not asked for it.

        Raises:
            BadCapError: it is no cap, or one that can only verify.
        """
        return self._maker.node(uri)

    async def get_node_at_path(self, path: DrivePath) -> Node:
        """Return the node at a path.

        Raises:
            NoRootError: it begins in a root that is not known.
            NoSuchChildError: there is none on the way or at the end of it (it is an
                IndexError).
            NotDirectoryError: it leads through a file.
            BadNameError: one of its names cannot be a child's.
        """
        chain = await self._chain(_parsed(path))
        return chain[-1]

    async def get_directory_at_path(self, path: DrivePath) -> DirectoryNode:
        """Return the directory at a path (see `get_node_at_path`).

        Raises:
            NotDirectoryError: a file is there.
        """
        node = await self.get_node_at_path(path)
        if not isinstance(node, DirectoryNode):
            raise NotDirectoryError("a file is at the end of this path, not a directory")
        return node

    async def get_parent(self, path: DrivePath) -> tuple[DirectoryNode, str]:
        """Return the directory in which the end of a path is, or could be, and its name there.

        Raises:
            BadArgumentValueError: the path names a root, which is in no directory.
        """
        place = _parsed(path)
        return await self.get_directory_at_path(place.parent), place.name

    async def _chain(self, place: GridPath) -> list[Node]:
        """Return all nodes on the way, the first being the root."""
        root = place.root
        chain: list[Node] = [self._root(root) if isinstance(root, str) else self._maker.node(root)]
        before = ""
        for name in place.names:
            node = chain[-1]
            if not isinstance(node, DirectoryNode):
                raise NotDirectoryError(
                    f"{before!r} is a file and has no children"
                    if before
                    else "this is the cap of a file, which has no children"
                )
            chain.append(await node.get(name))
            before = name
        return chain

    # Making and moving.

    async def create_directory(self) -> DirectoryNode:
        """Make an empty directory that is linked nowhere: whoever has its cap has to keep it.

        Raises:
            NotEnoughPeersError: no peer keeps directories.
        """
        return await self._maker.create_directory()

    async def make_directories(self, path: DrivePath) -> DirectoryNode:
        """Return the directory at a path; those that are missing on the way are made.

        Of several who do it at once one makes each directory, and the others go on in it.

        Raises:
            NotDirectoryError: a file is in the way.
            NotMutableError: something is missing in a directory that can only be read.
        """
        place = _parsed(path)
        (node,) = await self._chain(GridPath(place.root))
        for name in place.names:
            if not isinstance(node, DirectoryNode):
                break
            node = await self._entered(node, name)
        if not isinstance(node, DirectoryNode):
            raise NotDirectoryError("a file is in the way on this path")
        return node

    async def _entered(self, parent: DirectoryNode, name: str) -> Node:
        try:
            return await parent.get(name)
        except NoSuchChildError:
            pass
        try:
            return await parent.create_empty_directory(name, overwrite=False)
        except ChildExistsError:
            # Another was faster, and the directory that was made for nothing is dropped.
            return await parent.get(name)

    async def move(self, source: DrivePath, target: DrivePath, *, overwrite: bool = True) -> None:
        """Move what is at a path to another path (see `DirectoryNode.move_child_to`).

        Args:
            source: what is moved.
            target: where it is to be, its new name at the end.
            overwrite: False to refuse where something is there.

        Raises:
            BadArgumentValueError: a root would be moved, or a directory into itself.
            NoSuchChildError: nothing is at the source, or the target's directory is missing.
            NotDirectoryError: the target is below a file.
            ChildExistsError: something is at the target, and it was not to be replaced.
        """
        here, there = _parsed(source), _parsed(target)
        old_parent, old_name = await self.get_parent(here)
        way = await self._chain(there.parent)
        new_parent = way[-1]
        if not isinstance(new_parent, DirectoryNode):
            raise NotDirectoryError("the target is in a file, not in a directory")
        moved = await old_parent.get(old_name)
        if isinstance(moved, DirectoryNode) and any(
            isinstance(node, DirectoryNode) and node.index == moved.index for node in way
        ):
            # It would be reachable from within itself alone.
            raise BadArgumentValueError(f"{old_name!r} cannot be moved into itself")
        await old_parent.move_child_to(old_name, new_parent, there.name, overwrite=overwrite)


def _parsed(path: DrivePath) -> GridPath:
    if isinstance(path, GridPath):
        return path
    parts = path.split("/") if isinstance(path, str) else list(path)
    if parts and parts[0] == "~":
        return GridPath(PRIVATE, split_names(parts[1:]))
    return GridPath(PUBLIC, split_names(parts))
