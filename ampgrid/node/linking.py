"""Files and directories by grid path, for the Commands that also take a cap."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from ampgrid.caps import Cap, FileCap, parse_cap, parse_file_cap
from ampgrid.errors import (
    BadArgumentValueError,
    ChildExistsError,
    NotDirectoryError,
    NotMutableError,
)
from ampgrid.immutable import FileNode
from ampgrid.node.drive import NodeDrive
from ampgrid.vdrive.metadata import Metadata, checked


def is_grid_path(text: str) -> bool:
    """Tell whether a text is meant for a grid path and not for a cap alone."""
    head, colon, _ = text.strip().partition(":")
    if head.upper() == "URI":
        return "/" in text
    return bool(colon)


async def file_at(drive: NodeDrive, path: str) -> FileCap:
    """Return the cap of the file at a grid path.

    Raises:
        NotDirectoryError: a directory is there.
    """
    node = await drive.node(path)
    if not isinstance(node, FileNode):
        raise NotDirectoryError("a directory is at the end of this path, not a file")
    return parse_file_cap(node.get_uri())


async def cap_of(drive: NodeDrive, text: str) -> Cap:
    """Return the cap of what is at a grid path, or that is spelt.

    Raises:
        BadCapError: it is no cap.
    """
    if not is_grid_path(text):
        return parse_cap(text)
    return parse_cap((await drive.node(text)).get_uri())


def read_metadata(text: str | None) -> Metadata | None:
    """Read the metadata of a child.

    Raises:
        BadArgumentValueError: it is no JSON object of texts, numbers and truth values.
    """
    if text is None:
        return None
    return metadata_of(read_json(text, "the metadata"))


def metadata_of(value: object) -> Metadata:
    """Return metadata that were read as JSON (see `read_metadata`)."""
    if not isinstance(value, dict):
        raise BadArgumentValueError("the metadata are no JSON object")
    return checked(value)


def read_json(text: str, name: str) -> Any:
    """Read JSON.

    Raises:
        BadArgumentValueError: it is none; the message calls it ``name``.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadArgumentValueError(f"{name} cannot be read as JSON") from None


async def linking(
    drive: NodeDrive, path: str, metadata: str | None, *, overwrite: bool, make: bool
) -> Callable[[Cap], Awaitable[None]]:
    """Return what links a cap at a path; what can be refused before is refused now.

    Args:
        drive: of the node.
        path: where it is linked.
        metadata: what to say of it, JSON.
        overwrite: False to refuse where something is.
        make: whether missing directories on the way are made.

    Raises:
        NotMutableError: the directory can only be read.
        ChildExistsError: something is there, and it was not to be replaced.
    """
    said = read_metadata(metadata)
    parent, name = await drive.parent(path, make=make)
    if not parent.is_mutable():
        raise NotMutableError("this directory is read-only through the cap that was given")
    if not overwrite and await parent.has_child(name):
        raise ChildExistsError(f"there is a {name!r} in this directory already")

    async def link(cap: Cap) -> None:
        await parent.set_uri(name, cap, said, overwrite=overwrite)

    return link
