"""Linking at a place of the grid: what may be replaced, and whether something was."""

from __future__ import annotations

from typing import Literal

from attrs import evolve, frozen

from ampgrid.caps import Cap
from ampgrid.errors import ChildExistsError, NoSuchChildError, NotMutableError
from ampgrid.immutable import FileNode
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.vdrive.paths import GridPath
from ampgrid.web.call import Call
from ampgrid.web.errors import BadRequestError, PreconditionError
from ampgrid.web.ranges import etag_of, matches

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
        etag: of the file that has that name now; empty if no file has it.
    """

    parent: DirectoryNode
    name: str
    replaces: bool
    overwrite: bool
    etag: str = ""

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
    linking = await linking_in(parent, name, replace)
    return _as_known(call, linking)


def _as_known(call: Call, linking: Linking) -> Linking:
    """Check the headers If-Match and If-None-Match against what is there.

    That nothing may be there is looked at again when it is linked; that it is this very file may
    change until then.

    Raises:
        PreconditionError: they do not hold.
    """
    etag = linking.etag
    known = call.request.getHeader("If-Match")
    if known is not None and not (linking.replaces and matches(known, etag)):
        raise PreconditionError("what is there is not what If-Match says")
    unknown = call.request.getHeader("If-None-Match")
    if unknown is None:
        return linking
    if linking.replaces and matches(unknown, etag):
        raise PreconditionError("what is there is what If-None-Match says")
    return evolve(linking, overwrite=linking.overwrite and linking.replaces)


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
    etag = etag_of(before.get_uri()) if isinstance(before, FileNode) else ""
    return Linking(parent, name, replaces=True, overwrite=True, etag=etag)
