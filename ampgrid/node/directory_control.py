"""What a node answers on its Unix socket about directories (``ampgrid.commands.drive``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.protocols import amp

from ampgrid.caps import Cap, DirCap, DirReadCap, DirVerifierCap, parse_cap
from ampgrid.commands import drive as commands
from ampgrid.errors import (
    BadArgumentValueError,
    BadCapError,
    ChildExistsError,
    NotDirectoryError,
    NotMutableError,
)
from ampgrid.immutable import Operation
from ampgrid.node.answering import OwnOperations, as_wire_errors
from ampgrid.node.deep import DeepRuns
from ampgrid.node.drive import NodeDrive
from ampgrid.node.linking import (
    cap_of,
    is_grid_path,
    linking,
    metadata_of,
    read_json,
)
from ampgrid.node.listings import Listings
from ampgrid.node.nodeinfo import child_json, info_of
from ampgrid.node.operations import Operations
from ampgrid.node.reports import json_text, page_text, report_text
from ampgrid.node.snapshots import recover_directory
from ampgrid.ports import Clock
from ampgrid.vdrive.children import Link
from ampgrid.vdrive.deep import Examiner, Wishes
from ampgrid.vdrive.dirnode import Child
from ampgrid.vdrive.ports import Table
from ampgrid.wire import Connection

#: The most children that one `LinkChildren` links.
_MOST_LINKS = 10_000
_ALIASES_PER_PAGE = 200
_MOST_INFO_BYTES = 30_000


class Driven(Protocol):
    """What the directory Commands need of a node."""

    drive: NodeDrive
    operations: Operations

    @property
    def examiner(self) -> Examiner:
        """Checks, repairs and renews all that a directory leads to."""
        ...

    @property
    def clock(self) -> Clock:
        """Time and timers."""
        ...

    def require_uploads(self) -> None:
        """Refuse to write to the grid where the node is one that does not."""
        ...

    async def settle_directories(self, check: Callable[[], None]) -> None:
        """On a node that has just started, wait until it has met those who keep directories."""
        ...


class DirectoryResponder(amp.CommandLocator):
    """Answers the Commands on directories of one connection to the socket.

    Args:
        node: whose drive it is.
        connection: whose loss cancels what was begun over it.
    """

    def __init__(self, node: Driven, connection: Connection) -> None:
        super().__init__()
        self._node = node
        self._drive = node.drive
        self._operation = OwnOperations(node.operations, connection).under_way
        self._listings = Listings(node.clock, connection)
        self._runs = DeepRuns(node.examiner, node.operations, node.clock, connection)

    async def _settled(self) -> NodeDrive:
        """Return the drive, once the peers that keep directories were met."""
        await self._node.settle_directories(lambda: None)
        return self._drive

    # Looking.

    @commands.GetNodeInfo.responder
    async def get_node_info(self, path: str) -> dict[str, Any]:
        """Tell what is at a path."""
        with as_wire_errors():
            drive = await self._settled()
            if not is_grid_path(path):
                cap = parse_cap(path)
                return {"info": json_text(await self._info(cap, None), _MOST_INFO_BYTES)}
            node, child = await drive.found(path)
            info = await self._info(parse_cap(node.get_uri()), child)
        return {"info": json_text(info, _MOST_INFO_BYTES)}

    async def _info(self, cap: Cap, child: Child | None) -> dict[str, Any]:
        return await info_of(self._drive.maker, cap, child)

    @commands.ListDirectory.responder
    async def list_directory(
        self, path: str, start: int | None, most: int | None
    ) -> dict[str, Any]:
        """Tell a page of the children of a directory."""
        with as_wire_errors():
            if start:
                number = start
            else:
                drive = await self._settled()
                number = self._listings.begin(await drive.directory(path))
            return await self._listings.page(number, most, child_json)

    # Changing.

    @commands.MakeDirectory.responder
    async def make_directory(self, path: str | None, parents: bool | None) -> dict[str, Any]:
        """Make an empty directory."""
        with as_wire_errors():
            self._node.require_uploads()
            drive = await self._settled()
            if path is None:
                return {"cap": (await drive.virtual.create_directory()).get_uri()}
            place = await drive.place(path)
            if parents:
                return {"cap": (await drive.virtual.make_directories(place)).get_uri()}
            if not place.names:
                await drive.virtual.get_directory_at_path(place)
                raise ChildExistsError("the path names a root, which is there already")
            parent, name = await drive.virtual.get_parent(place)
            made = await parent.create_empty_directory(name, overwrite=False)
        return {"cap": made.get_uri()}

    @commands.LinkChild.responder
    async def link_child(
        self, path: str, cap: str, overwrite: bool | None, metadata: str | None
    ) -> dict[str, Any]:
        """Link a cap under a name."""
        with as_wire_errors():
            drive = await self._settled()
            what = await cap_of(drive, cap)
            replace = overwrite is not False
            link = await linking(drive, path, metadata, overwrite=replace, make=False)
            await link(what)
        return {}

    @commands.LinkChildren.responder
    async def link_children(
        self, path: str, children: str, overwrite: bool | None
    ) -> dict[str, Any]:
        """Link several caps, all or none."""
        with as_wire_errors():
            links = _read_links(children)
            drive = await self._settled()
            directory = await drive.directory(path)
            await directory.set_children(links, overwrite=overwrite is not False)
        return {}

    @commands.UnlinkChild.responder
    async def unlink_child(self, path: str) -> dict[str, Any]:
        """Take a name out of its directory."""
        with as_wire_errors():
            drive = await self._settled()
            parent, name = await drive.parent(path)
            child = await parent.delete(name)
        return {"cap": "" if child is None else child.node.get_uri()}

    @commands.MoveChild.responder
    async def move_child(self, source: str, target: str, overwrite: bool | None) -> dict[str, Any]:
        """Move a child to another path."""
        with as_wire_errors():
            drive = await self._settled()
            here, there = await drive.place(source), await drive.place(target)
            await drive.virtual.move(here, there, overwrite=overwrite is not False)
        return {}

    # All that is below a directory.

    @commands.StartDeep.responder
    async def start_deep(
        self,
        path: str,
        what: str,
        verify: bool | None,
        repair: bool | None,
        renew: bool | None,
        operation: int,
    ) -> dict[str, Any]:
        """Begin to walk a directory and all that it leads to."""
        with as_wire_errors():
            if repair or renew or what == "renew":
                self._node.require_uploads()
            drive = await self._settled()
            wishes = Wishes(verify=bool(verify), repair=bool(repair), renew=bool(renew))
            self._runs.begin(operation, await drive.directory(path), what, wishes)
        return {}

    @commands.NextResults.responder
    async def next_results(self, operation: int) -> dict[str, Any]:
        """Tell what a walk found since the last call."""
        with as_wire_errors():
            return await self._runs.results(operation)

    # The replicas of one directory.

    @commands.CheckDirectory.responder
    async def check_directory(self, path: str, operation: int | None) -> dict[str, Any]:
        """Tell how the replicas of a directory fare."""
        with as_wire_errors(), self._operation(operation) as progress:
            table = await self._table(path, progress)
            report = await table.check()
        return {"report": report_text({**report.to_json(), "healthy": report.healthy})}

    @commands.RepairDirectory.responder
    async def repair_directory(self, path: str, operation: int | None) -> dict[str, Any]:
        """Bring the replicas of a directory up to date."""
        with as_wire_errors(), self._operation(operation) as progress:
            self._node.require_uploads()
            table = await self._table(path, progress)
            report = await table.repair()
        return {"report": report_text({**report.to_json(), "healthy": report.healthy})}

    async def _table(self, path: str, operation: Operation) -> Table:
        """Return the table of the directory at a path, or of a cap that may only verify."""
        await self._node.settle_directories(operation.check)
        cap = await cap_of(self._drive, path)
        if not isinstance(cap, DirCap | DirReadCap | DirVerifierCap):
            raise NotDirectoryError("a file is there, not a directory")
        return self._drive.maker.table(cap)

    @commands.RecoverDirectory.responder
    async def recover_directory(
        self, path: str, dry_run: bool | None, confirmed: str | None, operation: int | None
    ) -> dict[str, Any]:
        """Bring a directory back of which too few replicas are left."""
        with as_wire_errors(), self._operation(operation) as progress:
            self._node.require_uploads()
            await self._node.settle_directories(progress.check)
            cap = await self._to_recover(path)
            report = await recover_directory(
                self._drive.maker, cap, progress, dry_run=bool(dry_run), confirmed=confirmed
            )
        return {"report": report_text(report)}

    async def _to_recover(self, path: str) -> DirCap:
        # A root is not read for it: it may be what is to be recovered.
        cap = await cap_of(self._drive, path)
        if isinstance(cap, DirReadCap | DirVerifierCap):
            raise NotMutableError("to recover a directory its write cap is needed")
        if not isinstance(cap, DirCap):
            raise BadCapError(
                "this is the cap of a file; repair files with: ampgrid check --repair"
            )
        return cap

    # Roots and aliases.

    @commands.GetRoots.responder
    async def get_roots(self, make: bool | None) -> dict[str, Any]:
        """Tell the caps of the roots."""
        with as_wire_errors():
            if make:
                self._node.require_uploads()
                await (await self._settled()).private_root()
            self._drive.private.check()
        private, public = self._drive.private.cap, self._drive.public.cap
        return {
            "private": "" if private is None else private.to_string(),
            "public": "" if public is None else public.to_string(),
        }

    @commands.AddAlias.responder
    async def add_alias(self, name: str, cap: str | None) -> dict[str, Any]:
        """Name a directory."""
        with as_wire_errors():
            drive = await self._settled() if cap is None or is_grid_path(cap) else self._drive
            return {"cap": (await drive.add_alias(name, cap)).to_string()}

    @commands.ListAliases.responder
    async def list_aliases(self, start: int) -> dict[str, Any]:
        """Tell a page of the aliases."""
        with as_wire_errors():
            aliases = self._drive.aliases.all()
        told = [
            {"name": name, "cap": cap.to_string()}
            for name, cap in aliases[start : start + _ALIASES_PER_PAGE]
        ]
        text, count = page_text(told)
        end = start + count
        return {"aliases": text, "next": end if count and end < len(aliases) else 0}

    @commands.RemoveAlias.responder
    async def remove_alias(self, name: str) -> dict[str, Any]:
        """Forget an alias."""
        with as_wire_errors():
            return {"cap": (await self._drive.aliases.remove(name)).to_string()}


def _read_links(text: str) -> dict[str, Link]:
    """Read what `LinkChildren` is to link.

    Raises:
        BadArgumentValueError: it is not what the Command takes.
    """
    children = read_json(text, "the list of children")
    if not isinstance(children, list) or len(children) > _MOST_LINKS:
        raise BadArgumentValueError("the children are no JSON list, or too many")
    links: dict[str, Link] = {}
    for child in children:
        if not isinstance(child, dict) or not {"name", "cap"} <= child.keys():
            raise BadArgumentValueError("each child is a JSON object with name and cap")
        name, cap, said = child["name"], child["cap"], child.get("metadata")
        if not isinstance(name, str) or not isinstance(cap, str):
            raise BadArgumentValueError("the name and the cap of a child are texts")
        if name in links:
            raise BadArgumentValueError(f"two children have one name, {name[:40]!r}")
        links[name] = Link(cap, None if said is None else metadata_of(said))
    return links
