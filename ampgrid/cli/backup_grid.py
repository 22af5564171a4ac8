"""What a backup does in the grid: uploads, directories, checks, and the links of a snapshot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from attrs import define, frozen

from ampgrid.cli.backup_plan import (
    ARCHIVES,
    LATEST,
    SNAPSHOT_LACKS,
    SNAPSHOT_MARK,
    Child,
    snapshot_name,
)
from ampgrid.cli.backup_ports import Health
from ampgrid.cli.console import ProgressBar
from ampgrid.cli.files import naming
from ampgrid.cli.filling import Filling
from ampgrid.cli.gridpaths import about, listing_of, read_object
from ampgrid.cli.uploading import upload_one
from ampgrid.errors import AmpgridError, ChildExistsError, NotConnectedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ampgrid.cli.control import Conversation
    from ampgrid.vdrive.paths import GridPath

#: A snapshot gets another name if somebody makes one in the same second, so often.
_NAMES = 5


@define
class NodeSide:
    """Does it through the node.

    Args:
        node: to speak with.
    """

    _node: Conversation

    async def upload(self, descriptor: int, name: str, bar: ProgressBar) -> str:
        """Upload what a descriptor reads and return its cap."""
        with naming(name, "input"):
            return await upload_one(self._node, descriptor, bar)

    async def make_directory(self, children: list[Child], label: str) -> str:
        """Make a directory with these children, linked nowhere, and return its write cap."""
        from ampgrid.commands.drive import MakeDirectory

        with about(label):
            cap = str((await self._node.call(MakeDirectory))["cap"])
        filling = Filling(self._node, cap, label, {})
        for child in children:
            await filling.add(child.name, child.cap, child.metadata)
        await filling.flush()
        return cap

    async def health(self, cap: str) -> Health:
        """Tell how what a cap names fares.

        Of a directory missing replicas are made again at once. A file that is weak is to be
        uploaded again, which adds what is missing.
        """
        from ampgrid.caps import DirCap, LitCap, parse_cap
        from ampgrid.commands.control import Check
        from ampgrid.commands.drive import CheckDirectory, RepairDirectory

        parsed = parse_cap(cap)
        if isinstance(parsed, LitCap):
            return Health.SOUND
        try:
            if not isinstance(parsed, DirCap):
                bar = ProgressBar(shown=False)
                answer = await self._node.watched(Check, bar=bar, cap=cap)
                report = read_object(answer["report"])
                if report["healthy"]:
                    return Health.SOUND
                return Health.WEAK if report["recoverable"] else Health.LOST
            report = read_object((await self._node.call(CheckDirectory, path=cap))["report"])
            if not report["healthy"]:
                answer = await self._node.call(RepairDirectory, path=cap)
                report = read_object(answer["report"])
            # With fewer than are wanted it may be as well as it can be here.
            return Health.SOUND if report["good"] >= report["quorum"] else Health.LOST
        except NotConnectedError:
            raise
        except AmpgridError:
            # Whatever it is: making it again comes to the same trouble, or cures it.
            return Health.LOST


class TrialSide:
    """Does nothing, for ``--dry-run``."""

    async def upload(self, descriptor: int, name: str, bar: ProgressBar) -> str:  # noqa: ARG002
        """Upload nothing."""
        return ""

    async def make_directory(self, children: list[Child], label: str) -> str:  # noqa: ARG002
        """Make nothing."""
        return ""

    async def health(self, cap: str) -> Health:  # noqa: ARG002
        """Ask nobody."""
        return Health.SOUND


@frozen
class Place:
    """The directory of the grid that snapshots are under.

    Attributes:
        path: of it.
        names: of the snapshots that are there.
        caps: their read caps.
    """

    path: GridPath
    names: frozenset[str]
    caps: frozenset[str]

    @classmethod
    async def prepare(cls, node: Conversation, path: GridPath) -> Place:
        """Make the directory where it is missing, and look what is in it.

        Raises:
            ChildExistsError: something else has the name of the last snapshot.
            NotMutableError: it is read-only.
        """
        from ampgrid.commands.drive import MakeDirectory

        archives = path.child(ARCHIVES)
        with about(path):
            answer = await node.call(MakeDirectory, path=archives.to_string(), parents=True)
        with about(path):
            # Not asked for alone: the snapshot itself may be out of reach.
            around = (await listing_of(node, path.to_string())).children
            children = (await listing_of(node, answer["cap"])).children
        for child in around:
            if child["name"] == LATEST and child["metadata"].get(SNAPSHOT_MARK) is not True:
                raise ChildExistsError(
                    f"{path.child(LATEST)} is there, and is no snapshot; move it, or name"
                    " another PATH"
                )
        return cls(
            path,
            frozenset(child["name"] for child in children),
            frozenset(child["cap"] for child in children),
        )

    async def link(
        self, node: Conversation, snapshot: Child, *, lacks: int, now: Callable[[], float]
    ) -> GridPath:
        """Link a snapshot, by its read cap, under its date and as the last one.

        Args:
            node: to speak with.
            snapshot: its directory; its name is left aside.
            lacks: how many files and directories should be in it and are not.
            now: returns seconds since 1970.

        Returns:
            Where it is under its date.
        """
        from ampgrid.commands.drive import LinkChild
        from ampgrid.commands.errors import ChildExistsWireError

        metadata = {**snapshot.metadata, SNAPSHOT_MARK: True}
        if lacks:
            metadata[SNAPSHOT_LACKS] = lacks
        told = {"cap": snapshot.cap, "metadata": json.dumps(metadata)}
        taken = set(self.names)
        for number in range(_NAMES):
            name = snapshot_name(now(), taken)
            place = self.path.child(ARCHIVES, name)
            try:
                with about(place):
                    await node.call(LinkChild, path=place.to_string(), overwrite=False, **told)
                break
            except (ChildExistsError, ChildExistsWireError):
                if number == _NAMES - 1:
                    raise
                taken.add(name)
        latest = self.path.child(LATEST)
        with about(latest):
            await node.call(LinkChild, path=latest.to_string(), overwrite=True, **told)
        return place
