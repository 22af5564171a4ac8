"""What copies and restores take from the grid: directories, files, and targets of links."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from ampgrid.cli.files import naming
from ampgrid.cli.gridpaths import listing_of
from ampgrid.cli.problems import Problems
from ampgrid.errors import BadArgumentValueError, IntegrityError

if TYPE_CHECKING:
    from ampgrid.cli.console import ProgressBar
    from ampgrid.cli.control import Conversation

#: Files that are downloaded at once.
DOWNLOADS_AT_ONCE = 8
#: The longest target of a symbolic link, bytes.
_MOST_TARGET_BYTES = 4_096


@frozen
class Place:
    """Something of the grid, and where it goes.

    Attributes:
        child: as the node tells of it.
        label: what messages call it.
        out: where it goes.
        around: verify caps of the directories around it.
    """

    child: dict[str, Any] = field(repr=False)
    label: str
    out: Path
    around: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return bool(self.child["type"] == "directory")

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link, kept as a file."""
        return self.metadata.get("symlink") is True

    @property
    def metadata(self) -> dict[str, Any]:
        """What is told of it."""
        found: dict[str, Any] = self.child["metadata"]
        return found

    @property
    def size(self) -> int:
        """Of the file, bytes; 0 of a directory."""
        return self.child["size"] or 0


class GridSource:
    """Gives what is to be written here.

    Args:
        node: to speak with.
        problems: told of what fails; the rest goes on.

    Attributes:
        notes: what the node tells of the files that came, each once.
    """

    def __init__(self, node: Conversation, problems: Problems) -> None:
        self.notes: list[str] = []
        self._node = node
        self._problems = problems

    async def inside(self, place: Place) -> list[Place]:
        """Return what is in a directory, each to go below where that goes, by its name.

        Raises:
            BadArgumentValueError: it leads back into itself.
        """
        from ampgrid.caps import parse_cap

        verify_cap = parse_cap(place.child["cap"]).get_verify_cap()
        assert verify_cap is not None  # only the literal cap of a file has none
        own = verify_cap.to_string()
        if own in place.around:
            raise BadArgumentValueError("this directory leads back into itself; not entered again")
        listing = await listing_of(self._node, place.child["cap"])
        for problem in listing.problems:
            self._problems.add(place.label, IntegrityError(problem))
        around = place.around | {own}
        label = place.label if place.label.endswith((":", "/")) else f"{place.label}/"
        return [
            Place(child, label + child["name"], place.out / child["name"], around)
            for child in listing.children
        ]

    async def fetch(self, place: Place, descriptor: int, bar: ProgressBar) -> None:
        """Write a file into a descriptor."""
        from ampgrid.commands.control import Download

        with naming(str(place.out), "output"):
            answer = await self._node.watched(
                Download, bar=bar, cap=place.child["cap"], descriptor=descriptor
            )
        told = answer["problems"].splitlines()
        self.notes += [note for note in told if note not in self.notes]

    async def target(self, place: Place, bar: ProgressBar) -> bytes:
        """Return the target of a symbolic link.

        Raises:
            BadArgumentValueError: it can be none.
        """
        from ampgrid.caps import LitCap, parse_cap

        cap = parse_cap(place.child["cap"])
        if isinstance(cap, LitCap):
            target = cap.data
        elif place.size > _MOST_TARGET_BYTES:
            raise BadArgumentValueError("the target of this symbolic link is too long")
        else:
            held = os.memfd_create("link")
            try:
                await self.fetch(place, held, bar)
                target = os.pread(held, _MOST_TARGET_BYTES, 0)
            finally:
                os.close(held)
        if not target or b"\0" in target:
            raise BadArgumentValueError("the target of this symbolic link is no path")
        return target
