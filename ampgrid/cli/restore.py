"""``ampgrid restore``: a snapshot, or any directory of the grid, as a local directory again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ampgrid.cli import console
from ampgrid.cli.gridpaths import grid_place, info_of, listing_of
from ampgrid.cli.params import json_option
from ampgrid.cli.problems import Problems
from ampgrid.cli.session import Session
from ampgrid.errors import BadArgumentValueError, NoSuchChildError, NotDirectoryError

if TYPE_CHECKING:
    from ampgrid.cli.control import Conversation
    from ampgrid.cli.restore_plan import Restored
    from ampgrid.vdrive.paths import GridPath

#: So many snapshots are named where the one that was asked for is not there.
_NAMED = 5


async def source_of(
    node: Conversation, place: GridPath, version: str | None
) -> tuple[GridPath, dict[str, Any]]:
    """Return what is to be brought back: its place, and what is told of it.

    Args:
        node: whom to ask.
        place: a snapshot, a directory with snapshots, or any other.
        version: the date of a snapshot.

    Raises:
        NotDirectoryError: it is a file.
        NoSuchChildError: there is no such snapshot.
        BadArgumentValueError: there are no snapshots, and a date was given.
    """
    from ampgrid.cli.backup_plan import ARCHIVES, LATEST, SNAPSHOT_MARK, matching_snapshot

    info = await info_of(node, place)
    if info["type"] != "directory":
        raise NotDirectoryError(f"{place} is a file; ampgrid get brings it back")
    there = {child["name"]: child for child in (await listing_of(node, info["cap"])).children}
    if version is None:
        if LATEST not in there or there[LATEST]["metadata"].get(SNAPSHOT_MARK) is not True:
            return place, info
        return place.child(LATEST), there[LATEST]
    if ARCHIVES not in there or there[ARCHIVES]["type"] != "directory":
        raise BadArgumentValueError(f"{place} has no snapshots, so --version names none")
    archives = place.child(ARCHIVES)
    names = [child["name"] for child in (await listing_of(node, archives.to_string())).children]
    name = matching_snapshot(names, version)
    if name is None:
        last = ", ".join(sorted(names)[-_NAMED:]) or "none"
        raise NoSuchChildError(f"{archives} has no snapshot of {version}; the last are {last}")
    place = archives.child(name)
    return place, await info_of(node, place)


@click.command()
@click.argument("path", metavar="PATH")
@click.argument("target", metavar="DIR")
@click.option("--version", "date", metavar="DATE", help="The last snapshot of that date (UTC).")
@click.option("--overwrite", is_flag=True, help="Replace files that are there and differ.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be written.")
@json_option
@click.pass_context
def restore(
    context: click.Context,
    *,
    path: str,
    target: str,
    date: str | None,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Bring a snapshot, or any directory of the grid, back.

    PATH is that of a backup, whose last snapshot is taken, a snapshot, or any directory. What is
    in it goes into DIR. Files that are there with the same size and time are left alone, so it
    goes on where it was interrupted; others are refused.
    """
    from ampgrid.cli.backup_plan import SNAPSHOT_LACKS
    from ampgrid.cli.control import converse
    from ampgrid.cli.restore_run import Restoring

    session = context.find_object(Session)
    assert session is not None
    place = grid_place(path)
    began = time.monotonic()
    notes: list[str] = []
    with console.ProgressBar() as bar:
        problems = Problems(as_json=as_json, tell=bar.note)

        async def work(node: Conversation) -> tuple[GridPath, Restored]:
            source, info = await source_of(node, place, date)
            if lacks := info["metadata"].get(SNAPSHOT_LACKS):
                notes.append(f"{source} lacks {lacks} that could not be read when it was made")
            restoring = Restoring(node, problems, overwrite=overwrite, dry_run=dry_run)
            restored = await restoring.run(info, str(source), Path(target))
            notes.extend(restoring.notes)
            return source, restored

        source, restored = converse(session, work, bar=bar)
    seconds = time.monotonic() - began
    if as_json:
        told = {"source": str(source), "dry_run": dry_run, **restored.to_json()}
        more = {"failed": len(problems.found), "seconds": round(seconds, 3)}
        console.print_json({**told, **more, "notes": notes, "problems": problems.to_json()})
    else:
        for note in notes[:100]:
            console.note(f"ampgrid: note: {note}")
        click.echo(line_of(str(source), restored, seconds, dry_run=dry_run))
    context.exit(problems.status)


def line_of(source: str, restored: Restored, seconds: float, *, dry_run: bool) -> str:
    """Return what was brought back, for a reader."""
    from ampgrid.node.sizes import format_count, format_directories, format_size

    wrote = "Would write" if dry_run else "Wrote"
    line = f"{wrote} {format_count(restored.files, 'file')}, {format_size(restored.bytes)}"
    if restored.symlinks:
        line += f", {format_count(restored.symlinks, 'symbolic link')}"
    if restored.directories:
        line += f", {format_directories(restored.directories)}"
    if restored.unchanged:
        line += f"; there already: {restored.unchanged}"
    return f"{line}. It took {seconds:.1f} s. From {console.shown(source)}"
