"""``ampgrid backup``: a dated snapshot of a local directory, without what is there already."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen

from ampgrid.cli import console
from ampgrid.cli.gridpaths import grid_place
from ampgrid.cli.params import json_option
from ampgrid.cli.problems import Problems
from ampgrid.cli.session import Session
from ampgrid.errors import FileError, NotConnectedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ampgrid.cli.backup_patterns import Patterns
    from ampgrid.cli.backup_ports import GridSide
    from ampgrid.cli.backup_run import Tally
    from ampgrid.cli.backup_walk import Reading
    from ampgrid.cli.control import Conversation
    from ampgrid.store.backupdb import BackupDatabase
    from ampgrid.vdrive.paths import GridPath

#: Directories of earlier snapshots that are looked after at each backup.
_LOOKED_AFTER = 50


@frozen
class _Done:
    """What a backup came to; path and cap are those of the snapshot, None without one."""

    tally: Tally
    reading: Reading
    path: str | None = None
    cap: str | None = None


@frozen
class _Wish:
    """What is to be backed up, and where to."""

    source: str
    place: GridPath
    patterns: Patterns
    database: Path
    apart: tuple[int, int] | None
    uniform: Callable[[], float]

    def reading(self, problems: Problems, tell: Callable[[str], None]) -> Reading:
        """Return what reads the directories."""
        from ampgrid.cli.backup_walk import Reading

        return Reading(self.patterns, problems.add, tell, self.apart)


@click.command()
@click.argument("source", metavar="DIR")
@click.argument("path", metavar="PATH")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out what it matches.")
@click.option(
    "--exclude-from", multiple=True, metavar="FILE", help="The same for each line of FILE."
)
@click.option(
    "--exclude-vcs", is_flag=True, help="Leave out what version control systems keep: .git etc."
)
@click.option("--database", metavar="FILE", help="Where it is remembered what was uploaded.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be uploaded.")
@json_option
@click.pass_context
def backup(
    context: click.Context,
    *,
    source: str,
    path: str,
    exclude: tuple[str, ...],
    exclude_from: tuple[str, ...],
    exclude_vcs: bool,
    database: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make a dated snapshot of DIR under PATH in the grid.

    It is PATH/Archives/DATE, and PATH/Latest. What has not changed since the last backup is
    neither read nor uploaded again. What cannot be read is named, and the rest goes on; after an
    interruption the next backup goes on where it ended. 'ampgrid restore' brings it back.
    """
    from ampgrid.cli.backup_patterns import Patterns, read_patterns

    session = context.find_object(Session)
    assert session is not None
    place = grid_place(path)
    patterns = [*exclude, *(line for file in exclude_from for line in read_patterns(file))]
    session.directory.require()
    wish = _Wish(
        os.path.realpath(source),
        place,
        Patterns(patterns, vcs=exclude_vcs),
        session.directory.backup_path if database is None else Path(database),
        _device_and_inode(session.directory.path),
        random.SystemRandom().random,
    )
    began = time.monotonic()
    with console.ProgressBar() as bar:
        problems = Problems(as_json=as_json, tell=bar.note)
        notes: list[str] = []

        def tell(line: str) -> None:
            notes.append(console.one_line(line))
            if not as_json:
                bar.note(f"ampgrid: note: {line}")

        reading = wish.reading(problems, tell)
        if dry_run:
            done = _tried(wish, reading, problems)
        else:
            done = _made(session, wish, reading, problems, bar)
    seconds = time.monotonic() - began
    if as_json:
        told = to_json(done, problems, seconds, dry_run=dry_run)
        console.print_json({**told, "notes": notes})
    else:
        click.echo("\n".join(lines_of(done, len(problems.found), seconds, dry_run=dry_run)))
    context.exit(problems.status)


def _device_and_inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _opened(path: Path) -> Iterator[BackupDatabase]:
    """Give the database, which is another process's as long as that makes a backup."""
    from ampgrid.store.backupdb import BackupDatabase

    if not path.parent.is_dir():
        raise FileError(f"{path.parent} is no directory; name another --database.")
    database = BackupDatabase(path)
    try:
        yield database
    finally:
        database.close()


def _made(
    session: Session,
    wish: _Wish,
    reading: Reading,
    problems: Problems,
    bar: console.ProgressBar,
) -> _Done:
    from ampgrid.cli.control import converse

    with _opened(wish.database) as database:

        async def work(node: Conversation) -> _Done:
            return await snapshot(node, wish, database, reading, problems)

        return converse(session, work, bar=bar)


async def snapshot(
    node: Conversation,
    wish: _Wish,
    database: BackupDatabase,
    reading: Reading,
    problems: Problems,
) -> _Done:
    """Make a snapshot and link it; not before all of it is there.

    Raises:
        AmpgridError: there is none, and what was done is remembered.
    """
    from ampgrid.cli.backup_database import FORGET_FILES_SECONDS, Memory
    from ampgrid.cli.backup_grid import NodeSide, Place
    from ampgrid.cli.backup_run import Backup
    from ampgrid.cli.gridpaths import read_object
    from ampgrid.commands.control import Status

    status = read_object((await node.call(Status))["status"])
    database.claim(str(status["node_id"]))
    place = await Place.prepare(node, wish.place)
    side = NodeSide(node)
    run = Backup(
        side,
        Memory(database, time.time),
        reading,
        problems,
        node.bar,
        now=time.time,
        uniform=wish.uniform,
        linked=not place.caps.isdisjoint(database.snapshots()),
    )
    top = await run.run(wish.source)
    path = await place.link(node, top, lacks=len(problems.found), now=time.time)
    now = time.time()
    database.add_snapshot(top.cap, os.fsencode(wish.source), now)
    database.forget_files(now - FORGET_FILES_SECONDS)
    with suppress(NotConnectedError):
        # The snapshot is there, whatever becomes of the node now.
        await look_after(side, database, now)
    return _Done(run.tally, reading, str(path), top.cap)


async def look_after(side: GridSide, database: BackupDatabase, now: float) -> None:
    """Repair directories of earlier snapshots, since snapshots alone give no right to do so.

    Args:
        side: checks and repairs.
        database: knows their write caps.
        now: seconds since 1970.
    """
    from ampgrid.cli.backup_database import FORGET_DIRECTORIES_SECONDS
    from ampgrid.cli.backup_plan import CHECK_SECONDS
    from ampgrid.cli.backup_ports import Health
    from ampgrid.store.backupdb import KnownDirectory

    for known in database.directories_due(now - CHECK_SECONDS, _LOOKED_AFTER):
        if await side.health(known.cap) is not Health.LOST:
            database.record(directories=[KnownDirectory(known.contents, known.cap, now)])
    # They went with their snapshots.
    database.forget_directories(now - FORGET_DIRECTORIES_SECONDS)


def _tried(wish: _Wish, reading: Reading, problems: Problems) -> _Done:
    """Find out what a backup would do, without the node."""
    from twisted.internet.defer import Deferred

    from ampgrid.cli.backup_database import Memory, NothingKnown
    from ampgrid.cli.backup_grid import TrialSide
    from ampgrid.cli.backup_run import Backup

    def tried(known: Any) -> _Done:
        run = Backup(
            TrialSide(),
            Memory(known, time.time, keep=False),
            reading,
            problems,
            console.ProgressBar(shown=False),
            now=time.time,
            uniform=lambda: 1.0,
            linked=True,
        )
        outcome: list[Any] = []
        # Nothing in it waits for anything.
        Deferred.fromCoroutine(run.run(wish.source)).addBoth(outcome.append)
        if isinstance(getattr(outcome[0], "value", None), BaseException):
            outcome[0].raiseException()
        return _Done(run.tally, reading)

    if not wish.database.exists():
        return tried(NothingKnown())
    with _opened(wish.database) as database:
        return tried(database)


def to_json(done: _Done, problems: Problems, seconds: float, *, dry_run: bool) -> dict[str, Any]:
    """Return what a backup came to, for JSON."""
    return {
        "snapshot": done.path,
        "cap": done.cap,
        "dry_run": dry_run,
        **done.tally.to_json(),
        "excluded": done.reading.excluded,
        "skipped": done.reading.special,
        "renamed": done.reading.renamed,
        "failed": len(problems.found),
        "seconds": round(seconds, 3),
        "problems": problems.to_json(),
    }


def lines_of(done: _Done, failed: int, seconds: float, *, dry_run: bool) -> list[str]:
    """Return what a backup came to, for a reader."""
    from ampgrid.node.sizes import format_count, format_directories, format_size

    tally = done.tally
    uploaded, made = ("Would upload", "Would make") if dry_run else ("Uploaded", "Made")
    new = f"{format_count(tally.files_uploaded, 'file')}, {format_size(tally.bytes_uploaded)}"
    old = f"{format_count(tally.files_reused, 'file')}, {format_size(tally.bytes_reused)}"
    done_with = f"{tally.directories_reused} there already. It took {seconds:.1f} s."
    lines = [
        f"{uploaded} {new}; there already: {old}.",
        f"{made} {format_directories(tally.directories_made)}; {done_with}",
    ]
    if tally.unsound:
        lines.append(f"{tally.unsound} of {tally.checked} that were checked were not whole.")
    if done.reading.excluded or done.reading.special:
        excluded, special = done.reading.excluded, done.reading.special
        lines.append(f"Left out: {excluded} excluded, {special} that are no files.")
    if failed:
        lines.append(f"Missing in it, as told above: {failed} files or directories.")
    if done.path is not None:
        lines.append(console.shown(done.path))
    return lines
