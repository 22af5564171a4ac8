"""Files and directories as seed 004 spells them in JSON, with what directories tell of them.

``["filenode", {...}]`` and ``["dirnode", {...}]``: ``ro_uri`` always, ``rw_uri`` if and only if
the directory can be changed, ``size`` of a file, ``children`` of the directory that was asked for
and not of those in it. Added to the seed: ``verify_uri`` and ``metadata``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ampgrid.immutable import FileNode
from ampgrid.vdrive.dirnode import Child, DirectoryNode
from ampgrid.vdrive.metadata import NOTHING, Metadata
from ampgrid.web.answers import spelled


def node_json(node: FileNode | DirectoryNode, metadata: Metadata = NOTHING) -> list[Any]:
    """Return what is told of a file, or of a directory without its children."""
    told: dict[str, Any] = {}
    if isinstance(node, FileNode):
        kind = "filenode"
        told["ro_uri"] = node.get_uri()
        told["size"] = node.get_size()
    else:
        kind = "dirnode"
        told["ro_uri"] = node.get_immutable_uri()
        if node.is_mutable():
            told["rw_uri"] = node.get_uri()
    if (verify := node.get_refresh_capability()) is not None:
        told["verify_uri"] = verify
    if metadata:
        told["metadata"] = dict(metadata)
    return [kind, told]


async def directory_json(node: DirectoryNode, child: Child | None) -> AsyncIterator[str]:
    """Yield the JSON of a directory with its children, in pieces.

    The first piece comes when the first children are there, so what fails before fails early.

    Args:
        node: the directory.
        child: what its own directory tells of it; None if it was named by its cap.
    """
    kind, told = node_json(node, child.metadata if child is not None else NOTHING)
    head = spelled(told)[:-1]
    piece = f'["{kind}", {head}, "children": {{'
    problems: list[str] = []
    comma = ""
    async for page in node.pages():
        for name, each in page.children.items():
            piece += f"{comma}{spelled(name)}: {spelled(node_json(each.node, each.metadata))}"
            comma = ", "
        problems += page.problems
        yield piece
        piece = ""
    end = f', "problems": {spelled(problems)}' if problems else ""
    yield f"{piece}}}{end}}}]\n"
