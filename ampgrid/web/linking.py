"""Linking at a place of the grid: what may be replaced, and whether something was."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from ampgrid.caps import Cap
from ampgrid.errors import ChildExistsError, NoSuchChildError, NotMutableError
from ampgrid.immutable import FileNode
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.vdrive.paths import GridPath
from ampgrid.web.call import Call
from ampgrid.web.errors import BadRequestError

#: What may be replaced: anything, files alone, nothing.
Replace = Literal["all", "only-files", "none"]


def replacing(call: Call, default: Replace) -> Replace:
    """Return what ``overwrite=``, or its synonym ``replace=``, lets be replaced.

    Raises:
        BadRequestError: it is neither true, nor false, nor only-files; or the two differ.
    """
    told = []
    for name in ("overwrite", "replace"):
        said = (call.arg(name) or "").strip().lower()
        if said == "only-files":
            told.append("only-files")
        elif said:
            told.append("all" if call.flag(name, default=True) else "none")
    if len(set(told)) > 1:
        raise BadRequestError("overwrite= and replace= contradict each other")
    return told[0] if told else default  # type: ignore[return-value]


@frozen
class Linking:
    """A name in a directory under which something is going to be linked.

    Attributes:
        parent: the directory.
        name: in it.
        replaces: whether something has that name now.
        overwrite: whether that may be replaced.
    """

    parent: DirectoryNode
    name: str
    replaces: bool
    overwrite: bool

    async def link(self, cap: Cap) -> None:
        """Link a cap.

        Raises:
            ChildExistsError: something has the name by now, and may not be replaced.
        """
        await self.parent.set_uri(self.name, cap, overwrite=self.overwrite)

    @property
    def status(self) -> int:
        """Of HTTP, when it is linked: 201 for what is new, 200 for what was replaced."""
        return 200 if self.replaces else 201


async def linking_at(call: Call, place: GridPath, replace: Replace) -> Linking:
    """Return how to link at a place; directories that are missing on the way are made.

    Whatever can be refused is refused now, before anything is uploaded.

    Raises:
        NotDirectoryError: a file is in the way.
    """
    drive = call.gateway.core.drive
    parent, name = await drive.parent(place, make=True)
    return await linking_in(parent, name, replace)


async def linking_in(parent: DirectoryNode, name: str, replace: Replace) -> Linking:
    """Return how to link under a name in a directory.

    Raises:
        NotMutableError: the directory can only be read.
        ChildExistsError: something has the name, and may not be replaced.
    """
    if not parent.is_mutable():
        raise NotMutableError("this directory is read-only through the cap that was given")
    try:
        before = await parent.get(name)
    except NoSuchChildError:
        return Linking(parent, name, replaces=False, overwrite=replace != "none")
    if replace == "none":
        raise ChildExistsError(f"there is a {name!r} in this directory already")
    if replace == "only-files" and not isinstance(before, FileNode):
        raise ChildExistsError(
            f"{name!r} is a directory; give overwrite=true to put a file in its place"
        )
    return Linking(parent, name, replaces=True, overwrite=True)
