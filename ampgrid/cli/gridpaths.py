"""Grid paths as arguments, and what the node tells of the places that they name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from ampgrid.cli import exits
from ampgrid.cli.params import argument_lines
from ampgrid.errors import (
    AmpgridError,
    BadArgumentValueError,
    BadCapError,
    ChildExistsError,
    FormatError,
)

if TYPE_CHECKING:
    from ampgrid.cli.control import Conversation
    from ampgrid.vdrive.paths import AnyPath, GridPath

#: Errors that are about a place, and become clear by its name.
_OF_A_PLACE = (exits.PATH, exits.DIRECTORY_UNREACHABLE, exits.READ_ONLY, exits.DAMAGED)


def given(text: str, what: str = "a cap or a grid path") -> str:
    """Return a grid path or a cap as it was given, or read for ``-`` from the standard input.

    Args:
        text: the argument.
        what: how it is asked for on a terminal.

    Raises:
        BadArgumentValueError: the standard input holds none.
        FileError: it cannot be read.
    """
    if text != "-":
        stripped = text.strip()
        return stripped if stripped.upper().startswith("URI:") else text
    lines = argument_lines(text, what)
    joined = "".join("".join(lines).split())
    # A mail breaks a long cap over lines; names however may hold spaces.
    if joined.upper().startswith("URI:") and "/" not in joined:
        return joined
    if len(lines) > 1:
        raise BadArgumentValueError("The standard input holds several lines, not one grid path.")
    return lines[0]


def grid_place(text: str) -> GridPath:
    """Read an argument that is a grid path, or ``-``.

    Raises:
        BadArgumentValueError: it is the path of a local file; the message has a hint.
        BadCapError: it begins with a cap that is none.
        BadNameError: one of its names cannot be a child's.
    """
    from ampgrid.vdrive.paths import parse_grid_path

    return parse_grid_path(given(text))


def any_place(text: str) -> AnyPath:
    """Read an argument that is a grid path or a local file (see `grid_place`).

    Raises:
        BadArgumentValueError: it is empty.
        BadCapError: it begins with a cap that is none.
        BadNameError: one of its names cannot be a child's.
    """
    from ampgrid.vdrive.paths import parse_path

    if not text:
        raise BadArgumentValueError("A path is empty.")
    return parse_path(given(text))


def cap_or_place(text: str) -> GridPath:
    """Read an argument that is a cap in the first place, or a grid path, or ``-``.

    Raises:
        BadCapError: it is neither; the message does not repeat it, it may be a secret.
        BadNameError: one of its names cannot be a child's.
    """
    from ampgrid.vdrive.paths import parse_grid_path

    found = given(text, "a cap")
    try:
        return parse_grid_path(found)
    except BadArgumentValueError:
        raise BadCapError(
            "This is neither a cap (URI:...) nor a grid path, which has a colon, as in "
            "private:photos; a local file is none."
        ) from None


@contextmanager
def about(place: object) -> Iterator[None]:
    """Let what the node says of a place, which need not name all of it, name it.

    A cap alone is left without a name: it is a secret, and was given just now.
    """
    if str(place) == "URI:":
        yield
        return
    try:
        yield
    except AmpgridError as error:
        if exits.exit_of(error) not in _OF_A_PLACE:
            raise
        from ampgrid.cli.console import describe, said_of

        told = describe(error)
        if told.startswith(said_of(place, "")):
            raise
        raise type(error)(said_of(place, told)) from None


@contextmanager
def offering_parents(*, made: bool) -> Iterator[None]:
    """Let an error about a directory that is missing say how it is made.

    Args:
        made: whether missing directories are made already.
    """
    from ampgrid.commands.errors import NoSuchChildWireError

    try:
        yield
    except NoSuchChildWireError as error:
        if made:
            raise
        raise NoSuchChildWireError(f"{error}; -p makes the directories that are missing") from None


def read_object(text: str) -> dict[str, Any]:
    """Read a JSON object of the node.

    Raises:
        FormatError: it is none.
    """
    found = _read(text)
    if not isinstance(found, dict):
        raise FormatError("The node's answer cannot be read; is it of another version?")
    return found


def read_list(text: str) -> list[dict[str, Any]]:
    """Read a JSON list of the node (see `read_object`)."""
    found = _read(text)
    if not isinstance(found, list):
        raise FormatError("The node's answer cannot be read; is it of another version?")
    return found


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


async def info_of(node: Conversation, place: GridPath) -> dict[str, Any]:
    """Return what is at a place (``GetNodeInfo`` in ``docs/reference/drive.md``).

    Raises:
        NoSuchChildWireError: nothing is there.
        NotDirectoryWireError: the way leads through a file, or a file is there and the path
            ends in a slash.
    """
    from ampgrid.commands.drive import GetNodeInfo
    from ampgrid.commands.errors import NotDirectoryWireError

    with about(place):
        answer = await node.call(GetNodeInfo, path=place.to_string())
        info = read_object(answer["info"])
        if place.as_directory and info["type"] != "directory":
            raise NotDirectoryWireError("this is a file, not a directory")
    return info


async def info_if_there(node: Conversation, place: GridPath) -> dict[str, Any] | None:
    """Return what is at a place, None if its directory has no such child.

    Raises:
        NoSuchChildWireError: its directory is missing too.
    """
    from ampgrid.commands.errors import NoSuchChildWireError

    try:
        return await info_of(node, place)
    except NoSuchChildWireError:
        if len(place.names) > 1:
            # That it is missing is an answer only if what it should be in is there.
            await info_of(node, place.parent)
        return None


@frozen
class Listing:
    """What is in a directory.

    Attributes:
        children: as `ListDirectory` tells of them, in the order of names.
        problems: a line for each entry that could not be read.
    """

    children: list[dict[str, Any]]
    problems: list[str] = field(factory=list)


async def listing_of(node: Conversation, path: str) -> Listing:
    """Return what is in the directory at a path."""
    from ampgrid.commands.drive import ListDirectory

    children: list[dict[str, Any]] = []
    problems: list[str] = []
    following: dict[str, int] = {}
    while True:
        answer = await node.call(ListDirectory, path=path, **following)
        children += read_list(answer["children"])
        problems += answer["problems"].splitlines()
        if not answer["next"]:
            return Listing(sorted(children, key=lambda child: str(child["name"])), problems)
        following = {"start": answer["next"]}


async def target_of(
    node: Conversation, place: GridPath, name: str, *, what: str = "it"
) -> GridPath:
    """Return where something goes that is put at a place: into it, if it is a directory.

    Args:
        node: whom to ask.
        place: as it was given.
        name: that it gets in a directory; empty if it has none of its own.
        what: how a message calls it.

    Raises:
        BadArgumentValueError: it goes into a directory and has no name.
        ChildExistsError: a directory is where it would be.
    """
    inside = not place.names or place.as_directory
    if not inside:
        info = await info_if_there(node, place)
        if info is None or info["type"] != "directory":
            return place
    if not name:
        raise BadArgumentValueError(
            f"{place} is a directory, and {what} has no name: put one behind the path"
        )
    target = place.child(name)
    info = await info_if_there(node, target)
    if info is not None and info["type"] == "directory":
        raise ChildExistsError(f"{target} is a directory, and is not replaced")
    return target
