"""Linking at a place of the grid: what may be replaced, and whether something was."""

from __future__ import annotations

from typing import Literal

from attrs import define, field

from ampgrid.caps import Cap
from ampgrid.errors import ChildExistsError, NoSuchChildError, NotMutableError
from ampgrid.immutable import FileNode
from ampgrid.vdrive.dirnode import Child, DirectoryNode
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


@define
class Linking:
    """A name in a directory under which something is going to be linked.

    Whether that may be is decided by the change of the directory itself, so nothing that others
    put there meanwhile is lost.

    Attributes:
        parent: the directory.
        name: in it.
        replace: what of what has the name may be replaced.
        known: the header If-Match, of a file that has to have the name.
        unknown: the header If-None-Match, of one that must not have it.
        replaced: whether something was replaced.
    """

    parent: DirectoryNode
    name: str
    replace: Replace
    known: str | None = None
    unknown: str | None = None
    replaced: bool = field(default=False, init=False)

    async def look(self) -> None:
        """Refuse now what would be refused when it is linked, before an upload in vain.

        Raises:
            ChildExistsError: what has the name may not be replaced.
            PreconditionError: it is not what the client knows.
        """
        try:
            before = await self.parent.get_child(self.name)
        except NoSuchChildError:
            self._allow(None)
        else:
            self._allow(before)

    async def link(self, cap: Cap) -> None:
        """Link a cap.

        Raises:
            ChildExistsError, PreconditionError: see `look`.
        """
        self.replaced = await self.parent.replace_child(self.name, cap, self._allow)

    @property
    def status(self) -> int:
        """Of HTTP, when it is linked: 201 for what is new, 200 for what was replaced."""
        return 200 if self.replaced else 201

    def _allow(self, before: Child | None) -> None:
        node = None if before is None else before.node
        if node is not None and self.replace == "none":
            raise ChildExistsError(f"there is a {self.name!r} in this directory already")
        if isinstance(node, DirectoryNode) and self.replace == "only-files":
            raise ChildExistsError(
                f"{self.name!r} is a directory; give overwrite=true to put a file in its place"
            )
        etag = etag_of(node.get_uri()) if isinstance(node, FileNode) else ""
        if self.known is not None and (node is None or not matches(self.known, etag)):
            raise PreconditionError("what is there is not what If-Match says")
        if self.unknown is not None and node is not None and matches(self.unknown, etag):
            raise PreconditionError("what is there is what If-None-Match says")


async def linking_at(call: Call, place: GridPath, replace: Replace) -> Linking:
    """Return how to link at a place; directories that are missing on the way are made.

    The headers If-Match and If-None-Match say what may have its name.

    Raises:
        NotDirectoryError: a file is in the way.
        NotMutableError: the directory can only be read.
    """
    parent, name = await call.gateway.core.drive.parent(place, make=True)
    linking = linking_in(parent, name, replace)
    linking.known = call.request.getHeader("If-Match")
    linking.unknown = call.request.getHeader("If-None-Match")
    return linking


def linking_in(parent: DirectoryNode, name: str, replace: Replace) -> Linking:
    """Return how to link under a name in a directory.

    Raises:
        NotMutableError: the directory can only be read.
    """
    if not parent.is_mutable():
        raise NotMutableError("this directory is read-only through the cap that was given")
    return Linking(parent, name, replace)
