"""Finding what a URL names, for the actions of ``/uri`` and ``/vdrive``."""

from __future__ import annotations

from attrs import frozen

from ampgrid.caps import ChkVerifierCap, DirCap, DirReadCap, DirVerifierCap
from ampgrid.errors import NotDirectoryError
from ampgrid.immutable import FileNode, Operation
from ampgrid.vdrive.dirnode import Child, DirectoryNode
from ampgrid.vdrive.paths import GridPath
from ampgrid.web.call import Call
from ampgrid.web.errors import BadRequestError, NotFoundError
from ampgrid.web.places import place_of


@frozen
class Found:
    """What is at a URL.

    Attributes:
        place: that the URL names.
        node: the file or the directory.
        child: what its directory tells of it; None of a root.
    """

    place: GridPath
    node: FileNode | DirectoryNode
    child: Child | None


async def settle(call: Call, place: GridPath) -> None:
    """On a node that has just started, wait until it can look into directories, if it has to."""
    if place.names or isinstance(place.root, str | DirCap | DirReadCap | DirVerifierCap):
        waiting = Operation()
        call.request.cancels(waiting)
        await call.gateway.core.settle_directories(waiting.check)


async def found(call: Call) -> Found:
    """Return what the URL of a request names.

    Raises:
        NotFoundError: the path leads through a file.
        AmpgridError: whatever else keeps it from being found.
    """
    place = place_of(call.target.names)
    await settle(call, place)
    try:
        node, child = await call.gateway.core.drive.found(place)
    except NotDirectoryError as error:
        raise NotFoundError(str(error)) from error
    return Found(place, node, child)


def may_only_verify(place: GridPath) -> bool:
    """Tell whether a place is what a cap gives that may be checked and not be read."""
    return not place.names and isinstance(place.root, ChkVerifierCap | DirVerifierCap)


async def found_directory(call: Call) -> DirectoryNode:
    """Return the directory that the URL of a request names.

    Raises:
        BadRequestError: a file is there.
    """
    node = (await found(call)).node
    if not isinstance(node, DirectoryNode):
        raise BadRequestError("this works on directories, and a file is there")
    return node


def child_place(call: Call) -> GridPath:
    """Return the place of a URL that has to name something in a directory.

    Raises:
        BadRequestError: it names a root, a drive or a cap.
    """
    place = place_of(call.target.names)
    if not place.names:
        raise BadRequestError("the URL has to end with the name of something in a directory")
    return place
