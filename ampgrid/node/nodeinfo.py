"""Files and directories as JSON, for the control Commands (``docs/reference/drive.md``)."""

from __future__ import annotations

from typing import Any

from ampgrid.caps import Cap, DirCap, DirReadCap, DirVerifierCap, LitCap
from ampgrid.formats.record import Record
from ampgrid.immutable import FileNode
from ampgrid.vdrive.deep import kind_of
from ampgrid.vdrive.dirnode import Child, DirectoryNode
from ampgrid.vdrive.maker import NodeMaker


def child_json(child: Child) -> dict[str, Any]:
    """Return a child of a directory for JSON."""
    node = child.node
    return {
        "name": child.name,
        "type": kind_of(node),
        "cap": node.get_uri(),
        "mutable": isinstance(node, DirectoryNode) and node.is_mutable(),
        "size": node.get_size() if isinstance(node, FileNode) else None,
        "metadata": dict(child.metadata),
    }


def info_json(cap: Cap, child: Child | None, record: Record | None) -> dict[str, Any]:
    """Return all that is known of a file or a directory, for JSON.

    Args:
        cap: the best that is held.
        child: what its directory tells of it, None for what was named by its cap.
        record: of a directory, its committed record.
    """
    verify = cap.get_verify_cap()
    read_only = cap.get_readonly()
    reads = read_only != verify
    return {
        "name": "" if child is None else child.name,
        "type": _kind_of(cap),
        "cap": cap.to_string(),
        "write_cap": cap.to_string() if isinstance(cap, DirCap) else None,
        "read_cap": read_only.to_string() if reads else None,
        "verify_cap": None if verify is None else verify.to_string(),
        "mutable": isinstance(cap, DirCap),
        "size": None if isinstance(cap, DirCap | DirReadCap | DirVerifierCap) else cap.get_size(),
        "children": None if record is None else record.count,
        "version": None if record is None else record.version,
        "replicas": None if record is None else len(record.replicas),
        "metadata": {} if child is None else dict(child.metadata),
    }


async def info_of(maker: NodeMaker, cap: Cap, child: Child | None) -> dict[str, Any]:
    """Return all that is known of what a cap gives; a directory's record is looked up.

    Raises:
        NotReachableError: too few replicas of the directory answered.
    """
    record = None
    if isinstance(cap, DirCap | DirReadCap | DirVerifierCap):
        record = await maker.table(cap).record()
    return info_json(cap, child, record)


def _kind_of(cap: Cap) -> str:
    if isinstance(cap, DirCap | DirReadCap | DirVerifierCap):
        return "directory"
    return "literal" if isinstance(cap, LitCap) else "file"
