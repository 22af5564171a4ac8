"""What ``ampgrid check`` tells of a directory: how its replicas fare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ampgrid.cli import console, exits
from ampgrid.cli.gridpaths import about, read_object

if TYPE_CHECKING:
    from ampgrid.cli.control import Conversation
    from ampgrid.vdrive.paths import GridPath


async def look_at(node: Conversation, place: GridPath, *, repair: bool) -> dict[str, Any]:
    """Return the report on the directory at a place (``docs/reference/drive.md``)."""
    from ampgrid.commands.drive import CheckDirectory, RepairDirectory

    command = RepairDirectory if repair else CheckDirectory
    with about(place):
        answer = await node.watched(command, path=place.to_string())
    return read_object(answer["report"])


def end_of(report: dict[str, Any]) -> exits.Exit:
    """Return how the command ends that shows the report on one directory."""
    return exits.DONE if report["healthy"] else exits.UNHEALTHY


def lines_of(report: dict[str, Any], nicknames: dict[str, str]) -> list[str]:
    """Return the report on a directory for a reader.

    Args:
        report: of the node.
        nicknames: {node id: nickname}, as far as they are known.
    """
    from ampgrid.node.sizes import format_count

    state = "Healthy" if report["healthy"] else "Unhealthy"
    replicas = report["replicas"]
    good = f"{report['good']} of {len(replicas)} replicas up to date"
    children = format_count(report["entries"], "child", "children")
    lines = [
        f"{state}: {good}; {report['quorum']} are needed, {report['wanted']} wanted.",
        f"Version {report['version']}, {children}.",
    ]
    for replica in replicas:
        name = nicknames.get(replica["node_id"], "")
        line = replica["node_id"] + (f" ({name})" if name else "") + f": {replica['state']}"
        if replica["lag"] and replica["version"] is not None:
            line += f", {format_count(replica['lag'], 'version')} behind"
        if replica["trouble"]:
            line += f", {replica['trouble']}"
        lines.append("  " + console.one_line(line))
    lines += [f"  repaired: {console.one_line(done)}" for done in report["repaired"]]
    lines += [f"  problem: {console.one_line(problem)}" for problem in report["problems"]]
    return lines
