"""The node's side of the virtual drive: its vdrive peers, its roots and aliases, and the drive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from twisted.logger import Logger

from ampgrid.caps import DirCap
from ampgrid.errors import AmpgridError, NotEnoughPeersError
from ampgrid.node.aliases import Aliases
from ampgrid.node.directory import NodeDirectory
from ampgrid.node.public_root import PublicRoot, PublicRootMaker
from ampgrid.node.roots import Root, RootCap, RootFile
from ampgrid.node.sizes import format_count, format_directories
from ampgrid.peers import PeerConnection
from ampgrid.ports import Clock, Connection, Entropy, Threads
from ampgrid.vdrive.paths import PRIVATE, PUBLIC, GridPath, parse_grid_path
from ampgrid.vdrive.replica import Replica

if TYPE_CHECKING:
    from ampgrid.immutable import FileNode
    from ampgrid.vdrive.dirnode import Child, DirectoryNode
    from ampgrid.vdrive.drive import VirtualDrive
    from ampgrid.vdrive.maker import NodeMaker

_log = Logger()

VDRIVE_SERVICE = "vdrive"
#: So many replicas a directory has; with fewer vdrive peers lies are not survived.
WANTED_REPLICAS = 4

#: Returns the replicas that a node has at hand, {node id: replica}.
AtHand = Callable[[], Mapping[bytes, Replica]]


@attrs.frozen
class DriveFiles:
    """Where a node keeps what it knows of its roots.

    Attributes:
        root: the cap of the private root.
        mark: says that there is one.
        public_root: the cap of the public root.
        aliases: the aliases.
    """

    root: Path
    mark: Path
    public_root: Path
    aliases: Path

    @classmethod
    def of(cls, directory: NodeDirectory) -> DriveFiles:
        """Return those of a node directory."""
        return cls(
            directory.root_path,
            directory.root_mark_path,
            directory.public_root_path,
            directory.aliases_path,
        )


class KnownRoots:
    """The roots and aliases of a node, by name (`ampgrid.vdrive.ports.Roots`).

    Args:
        private: the node's own root.
        public: the grid's.
        aliases: names of other directories.
    """

    def __init__(self, private: Root, public: Root, aliases: Aliases) -> None:
        self._private = private
        self._public = public
        self._aliases = aliases

    def get(self, name: str) -> RootCap | None:
        """Return the cap of a root or an alias, None if there is none.

        Raises:
            ConfigError: the file in which it is kept cannot be used.
        """
        if name in (PRIVATE, PUBLIC):
            root = self._private if name == PRIVATE else self._public
            root.check()
            return root.cap
        return self._aliases.get(name)


class NodeDrive:
    """The drive of one node.

    Args:
        files: where roots and aliases are kept; None to keep them in memory.
        make_maker: makes what makes nodes, over the peers that are connected; called when the
            drive is used first, so that a node which only keeps directories for others need not
            load it.
        may_write: refuses for a node that writes nothing to the grid of its own.
        clock: time and timers.
        entropy: for keys and nonces.
        order: where files are read and written.
        public_known: called with the text of the public root's cap as soon as it is known.
        makes_public_root: whether this node makes it (an introducer).

    Attributes:
        private, public: the roots.
        public_root: what is known of the public one.
        aliases: names of other directories.
    """

    def __init__(
        self,
        files: DriveFiles | None,
        make_maker: Callable[[AtHand], NodeMaker],
        *,
        may_write: Callable[[], None],
        clock: Clock,
        entropy: Entropy,
        order: Threads,
        public_known: Callable[[str], None] = lambda _: None,
        makes_public_root: bool = False,
    ) -> None:
        self._replicas: dict[bytes, Replica] = {}
        self._make_maker = make_maker
        self._clock = clock
        self._may_write = may_write
        private = RootFile(files.root, files.mark) if files else None
        public = RootFile(files.public_root) if files else None
        self.private = Root(private, order, entropy)
        self.public = Root(public, order, entropy)
        self.public_root = PublicRoot(self.public, public_known)
        self.aliases = Aliases(files.aliases if files else None, order)
        self._public_maker = None
        if makes_public_root:
            self._public_maker = PublicRootMaker(
                self.public_root,
                self._create,
                self._exists,
                lambda: len(self.replicas()),
                clock,
            )

    @cached_property
    def maker(self) -> NodeMaker:
        """Makes nodes of caps."""
        return self._make_maker(self.replicas)

    @cached_property
    def virtual(self) -> VirtualDrive:
        """The drive (seed 001's IVirtualDrive)."""
        from ampgrid.vdrive.drive import VirtualDrive

        roots = KnownRoots(self.private, self.public, self.aliases)
        return VirtualDrive(self.maker, roots)

    async def start(self) -> None:
        """Read roots and aliases, and begin to make the public root if that is wanted."""
        for each in (self.private, self.public, self.aliases):
            await each.start()
        self.public_root.announce()
        if self._public_maker is not None:
            self._public_maker.start()

    def stop(self) -> None:
        """Make nothing any more."""
        if self._public_maker is not None:
            self._public_maker.stop()

    # Peers.

    def connected(self, connection: PeerConnection) -> None:
        """A peer is connected: it may keep directories."""
        if VDRIVE_SERVICE in connection.peer_services:
            self.add(connection)

    def add(self, connection: Connection) -> None:
        """Take this peer, or this node itself, for one that keeps directories."""
        self._replicas[connection.peer_id] = Replica(connection, self._clock)

    def disconnected(self, connection: Connection) -> None:
        """A peer is gone."""
        replica = self._replicas.get(connection.peer_id)
        if replica is not None and replica.connection is connection:
            del self._replicas[connection.peer_id]

    def replicas(self) -> dict[bytes, Replica]:
        """Return the peers that keep directories and are connected, {node id: replica}."""
        return {n: each for n, each in self._replicas.items() if each.connection.connected}

    def may_be_reached(self) -> bool:
        """Tell whether directories can be read and changed with the peers connected now.

        So it is if a quorum of the replicas of each root that is known is connected; before
        there is one, a peer that could keep it will do.
        """
        roots = [cap for cap in (self.private.cap, self.public.cap) if cap is not None]
        return bool(self.replicas()) and all(
            self.maker.table(cap).may_be_reached() for cap in roots
        )

    def status(self, keeper: Mapping[str, Any]) -> dict[str, Any]:
        """Return how directories can be kept, for JSON (``docs/reference/status.md``).

        Args:
            keeper: how their keeper fares.
        """
        count = len(self.replicas())
        return {
            "vdrive_peers": count,
            "private_root": self.private.cap is not None,
            "public_root": self.public.cap is not None,
            "public_root_refused": self.public_root.refused,
            "aliases": len(self.aliases),
            "problem": self._problem(count, keeper["last_walk"] or {}),
            "keeper": dict(keeper),
        }

    def _problem(self, count: int, walked: Mapping[str, Any]) -> str:
        """Return what is wrong, in a sentence; empty if nothing is."""
        if error := self.roots_problem():
            return error
        if self.public_root.refused:
            return "an introducer told another public root than the known one; it was refused"
        if count < WANTED_REPLICAS:
            return (
                f"only {format_count(count, 'peer')} for directories connected; with fewer than "
                f"{WANTED_REPLICAS} a directory does not survive a peer that lies"
            )
        if few := walked.get("few_replicas"):
            return (
                f"{format_directories(few)} with fewer than {WANTED_REPLICAS} replicas; "
                "more are made when there are peers for them"
            )
        return ""

    # Finding.

    async def private_root(self) -> RootCap:
        """Return the cap of the node's own root, which is made at its first use.

        Raises:
            BadArgumentValueError: this is an introducer, which has none.
            ConfigError: its file cannot be used.
            NotEnoughPeersError: no peer keeps directories.
        """
        if self.private.cap is None:
            self._may_write()
        return await self.private.made(self._create, self._exists)

    async def _create(self, cap: DirCap) -> DirectoryNode:
        return await self.maker.create_directory(cap)

    async def _exists(self, cap: DirCap) -> bool:
        """Tell whether a directory can be found; if not, nothing is known of it.

        Raises:
            NotEnoughPeersError: there is nobody who could be asked.
        """
        if not self.replicas():
            raise NotEnoughPeersError("no peer that keeps directories is connected")
        try:
            await self.maker.table(cap).record()
        except AmpgridError as error:
            _log.info("a root that was begun is not found: {error}", error=str(error))
            return False
        return True

    async def place(self, path: str | GridPath) -> GridPath:
        """Read a grid path; the private root is made if it begins there.

        Raises:
            BadArgumentValueError: it is no grid path.
            BadCapError: it begins with a cap that is none.
            BadNameError: one of its names cannot be a child's.
        """
        place = parse_grid_path(path) if isinstance(path, str) else path
        if place.root == PRIVATE:
            await self.private_root()
        return place

    async def node(self, path: str | GridPath) -> FileNode | DirectoryNode:
        """Return what is at a grid path, or what a cap gives.

        Raises:
            NoRootError: it begins in a root that is not known.
            NoSuchChildError: nothing is there.
            NotDirectoryError: it leads through a file.
        """
        return await self.virtual.get_node_at_path(await self.place(path))

    async def directory(self, path: str | GridPath) -> DirectoryNode:
        """Return the directory at a grid path (see `node`).

        Raises:
            NotDirectoryError: a file is there.
        """
        return await self.virtual.get_directory_at_path(await self.place(path))

    async def parent(
        self, path: str | GridPath, *, make: bool = False
    ) -> tuple[DirectoryNode, str]:
        """Return the directory in which the end of a path is, or could be, and its name there.

        Args:
            path: the grid path.
            make: whether missing directories on the way are made.

        Raises:
            BadArgumentValueError: the path names a root, which is in no directory.
        """
        place = await self.place(path)
        if make:
            return await self.virtual.make_directories(place.parent), place.name
        return await self.virtual.get_parent(place)

    async def found(self, path: str | GridPath) -> tuple[FileNode | DirectoryNode, Child | None]:
        """Return what is at a path, and what its directory tells of it (None of a root).

        Raises:
            AmpgridError: as `node` does.
        """
        place = await self.place(path)
        if not place.names:
            return await self.virtual.get_node_at_path(place), None
        parent = await self.virtual.get_directory_at_path(place.parent)
        child = await parent.get_child(place.name)
        return child.node, child

    # Aliases.

    async def add_alias(self, name: str, text: str | None) -> RootCap:
        """Name a directory; an empty one that is made if ``text`` is None.

        Raises:
            ChildExistsError: the name stands for another directory.
        """
        known = self.aliases.get(name)
        if text is None and known is not None:
            # Only to say so: nothing is made in vain.
            await self.aliases.add(name, DirCap.create(self.maker.entropy))
        node = await self._new() if text is None else await self.directory(text)
        await self.aliases.add(name, node.cap)
        return node.cap

    async def _new(self) -> DirectoryNode:
        self._may_write()
        return await self.virtual.create_directory()

    def roots_problem(self) -> str:
        """Return why roots or aliases may be missing from `walked_roots`; empty if none is."""
        errors = (self.private.error, self.public.error, self.aliases.error)
        return next(filter(None, errors), "")

    def walked_roots(self) -> list[tuple[str, RootCap]]:
        """Return (name, cap) of all that this node keeps alive, each directory once.

        What cannot be read of its files is left out (see `roots_problem`).
        """
        named = [(PRIVATE, self.private.cap), (PUBLIC, self.public.cap), *self.aliases.sound()]
        found: dict[bytes, tuple[str, RootCap]] = {}
        for name, cap in named:
            if cap is None:
                continue
            before = found.get(cap.index)
            # What opens more goes first: below a read cap nothing can be repaired wholly.
            if before is None or (before[1].is_readonly() and not cap.is_readonly()):
                found[cap.index] = (name, cap)
        return list(found.values())
