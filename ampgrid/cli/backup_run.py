"""Making a snapshot: local directories, each made in the grid once all in it is there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import asdict, define, evolve, field

from ampgrid.caps import MAX_LIT_SIZE, LitCap, parse_cap
from ampgrid.cli.backup_database import Memory
from ampgrid.cli.backup_plan import (
    Child,
    contents_hash,
    is_due,
    is_settled,
    metadata_of,
    stamp_of,
)
from ampgrid.cli.backup_ports import GridSide, Health
from ampgrid.cli.backup_walk import Found, Reading, look_again, open_to_read
from ampgrid.cli.console import ProgressBar
from ampgrid.cli.pool import Pool
from ampgrid.cli.problems import Problems
from ampgrid.cli.tree_upload import UPLOADS_AT_ONCE, Meter
from ampgrid.commands.errors import WireError
from ampgrid.errors import AmpgridError, FileChangedError, FileError, GridError
from ampgrid.store.backupdb import KnownDirectory, KnownFile

#: A file that changes while it is read is read so often.
_READINGS = 2


@define
class Tally:
    """What a backup has done.

    Attributes:
        files_uploaded: files that were read and are in the grid now.
        files_reused: files that were known, and neither read nor uploaded.
        symlinks: symbolic links.
        directories_made: directories of the snapshot that are new.
        directories_reused: those that were there, with all in them.
        bytes_uploaded: size of the files that were uploaded, bytes.
        bytes_reused: size of the files that were not, bytes.
        checked: files and directories that were checked before they were used once more.
        unsound: those of them that were not whole; most were uploaded, or made, once more.
    """

    files_uploaded: int = 0
    files_reused: int = 0
    symlinks: int = 0
    directories_made: int = 0
    directories_reused: int = 0
    bytes_uploaded: int = 0
    bytes_reused: int = 0
    checked: int = 0
    unsound: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the counts for JSON."""
        return asdict(self)


@define(eq=False)
class _Open:
    """A directory of which something is under way.

    Attributes:
        found: what it is.
        below: its path below the one that is backed up.
        around: the one that it is in.
        children: that are done.
        waiting: how many are not; itself counts as one until all of them are known.
    """

    found: Found
    below: str
    around: _Open | None
    children: list[Child] = field(factory=list)
    waiting: int = 1


class Backup:
    """Makes the directories of a snapshot.

    Args:
        grid: does what is done in the grid.
        memory: knows what was uploaded before.
        reading: reads directories.
        problems: told of what fails; the rest goes on.
        bar: shows progress.
        now: returns seconds since 1970.
        uniform: draws between 0 and 1.
        linked: whether an earlier snapshot is linked in the grid.

    Attributes:
        tally: what was done.
    """

    def __init__(
        self,
        grid: GridSide,
        memory: Memory,
        reading: Reading,
        problems: Problems,
        bar: ProgressBar,
        *,
        now: Callable[[], float],
        uniform: Callable[[], float],
        linked: bool,
    ) -> None:
        self.tally = Tally()
        self._grid = grid
        self._memory = memory
        self._reading = reading
        self._problems = problems
        self._meter = Meter(bar)
        self._now = now
        self._uniform = uniform
        self._linked = linked
        self._pool = Pool(UPLOADS_AT_ONCE)
        self._top: Child | None = None

    async def run(self, path: str) -> Child:
        """Return the directory of the grid that holds what is in a local one.

        It is linked nowhere. What was done is remembered, so that doing it again goes on, however
        it ended.

        Args:
            path: of the local directory, absolute.

        Raises:
            FileError: it cannot be read.
            AmpgridError: a directory could not be made in the grid.
            KeyboardInterrupt: the user has ended it.
        """
        try:
            found = os.stat(path)  # noqa: PTH116 - as it was typed
            if not stat.S_ISDIR(found.st_mode):
                raise FileError(f"{path} is no directory.")
            os.listdir(path)  # noqa: PTH208 - can it be read?
        except OSError as error:
            raise FileError(f"{path} could not be read: {error.strerror}.") from error
        top = _Open(Found(path, "", found, metadata_of(found, "", "")), "", None)
        try:
            await self._walk(top)
            await self._pool.end()
        finally:
            await self._pool.abandon()
            self._memory.flush()
        assert self._top is not None
        return self._top

    async def _walk(self, top: _Open) -> None:
        waiting = [top]
        while waiting:
            opened = waiting.pop()
            inner = []
            try:
                entries = self._reading.read(opened.found.path, opened.below)
            except OSError as error:
                # Not as an empty one: who restores it should not believe that it was.
                self._problems.add(opened.found.path, error)
                if opened.around is None:
                    raise FileError(f"{opened.found.path} could not be read.") from error
                await self._done(opened.around)
                continue
            for found in entries:
                if found.is_directory:
                    below = f"{opened.below}/{found.name}" if opened.below else found.name
                    inner.append(_Open(found, below, opened))
                    opened.waiting += 1
                elif (child := self._at_once(found)) is not None:
                    opened.children.append(child)
                else:
                    opened.waiting += 1
                    await self._pool.start(lambda f=found, o=opened: self._file(f, o))  # type: ignore[misc]
            waiting += reversed(inner)
            await self._pool.start(lambda opened=opened: self._done(opened))  # type: ignore[misc]

    # Directories.

    async def _done(self, opened: _Open) -> None:
        """Take one thing in a directory for done; after the last make it, and so on upwards."""
        current = opened
        while True:
            current.waiting -= 1
            if current.waiting:
                return
            child = await self._directory(current)
            if current.around is None:
                self._top = child
                return
            current.around.children.append(child)
            current = current.around

    async def _directory(self, opened: _Open) -> Child:
        """Return a directory of which all children are done, made unless there is one."""
        contents = contents_hash(opened.children)
        known = self._memory.directory(contents)
        if known is not None and self._is_due(known.checked_at):
            health = await self._check(known.cap)
            known = None if health is Health.LOST else evolve(known, checked_at=self._now())
            if known is not None:
                self._memory.add_directory(known)
        if known is None:
            cap = await self._grid.make_directory(opened.children, opened.found.path)
            known = KnownDirectory(contents, cap, self._now())
            if cap:
                self._memory.add_directory(known)
            self.tally.directories_made += 1
        else:
            self.tally.directories_reused += 1
        # What is only tried out has no cap, and is no reason to take anything for known.
        cap = parse_cap(known.cap).get_readonly().to_string() if known.cap else ""
        return Child(opened.found.name, cap, opened.found.metadata)

    def _is_due(self, checked_at: float) -> bool:
        return is_due(checked_at, self._now(), linked=self._linked, uniform=self._uniform)

    async def _check(self, cap: str) -> Health:
        self.tally.checked += 1
        health = await self._grid.health(cap)
        self.tally.unsound += health is not Health.SOUND
        return health

    # Files.

    def _at_once(self, found: Found) -> Child | None:
        """Return the child of a file about which nobody has to be asked, None for any other."""
        if found.is_link and (child := self._short_link(found)) is not None:
            return child
        known = self._memory.file(os.fsencode(found.path))
        if known is None or known.stamp != stamp_of(found.stat) or self._is_due(known.checked_at):
            return None
        self._memory.met(known)
        self._meter.files += 1
        self._meter.bytes += known.stamp.size
        with self._meter.file(known.stamp.size):
            return self._reused(found, known)

    def _short_link(self, found: Found) -> Child | None:
        """Return the child of a link whose target fits into a cap."""
        with suppress(OSError):
            target = os.readlink(os.fsencode(found.path))  # noqa: PTH115 - bytes
            if len(target) <= MAX_LIT_SIZE:
                self.tally.symlinks += 1
                return Child(found.name, LitCap(target).to_string(), found.metadata)
        return None

    def _reused(self, found: Found, known: KnownFile) -> Child:
        if found.is_link:
            self.tally.symlinks += 1
        else:
            self.tally.files_reused += 1
            self.tally.bytes_reused += known.stamp.size
        return Child(found.name, known.cap, found.metadata)

    async def _file(self, found: Found, opened: _Open) -> None:
        """Get the child of a file, which may be uploaded for it."""
        size = found.stat.st_size
        self._meter.files += 1
        self._meter.bytes += size
        with self._meter.file(size) as bar, self._problems.of(found.path):
            opened.children.append(await self._child(found, bar))
        await self._done(opened)

    async def _child(self, found: Found, bar: ProgressBar) -> Child:
        """Return the child of a file.

        Raises:
            OSError: it cannot be read.
            FileChangedError: it changes all the time.
            AmpgridError: it could not be uploaded.
        """
        known = self._memory.file(os.fsencode(found.path))
        if known is None or known.stamp != stamp_of(found.stat):
            return await self._uploaded(found, bar)
        # It is due, or it would not be here.
        health = await self._check(known.cap)
        if health is Health.SOUND:
            now = self._now()
            self._memory.add_file(evolve(known, checked_at=now, seen_at=now))
            return self._reused(found, known)
        try:
            return await self._uploaded(found, bar)
        except (GridError, WireError):
            # As on a day on which some servers are away: what is there can be read all the same.
            if health is Health.LOST:
                raise
            return self._reused(found, known)

    async def _uploaded(self, found: Found, bar: ProgressBar) -> Child:
        """Upload a file, once more if it changes meanwhile (see `_child`)."""
        for _ in range(_READINGS):
            descriptor = open_to_read(found)
            try:
                read_at = self._now()
                before = look_again(found, descriptor)
                try:
                    cap = await self._grid.upload(descriptor, found.path, bar)
                except AmpgridError:
                    if stamp_of(look_again(found, descriptor)) == stamp_of(before):
                        raise
                    continue
                if stamp_of(look_again(found, descriptor)) != stamp_of(before):
                    continue
            finally:
                os.close(descriptor)
            return self._put(found, cap, before, read_at)
        raise FileChangedError("it changed while it was read, twice; the next backup tries again")

    def _put(self, found: Found, cap: str, stat_: os.stat_result, read_at: float) -> Child:
        """Count and remember a file that was uploaded."""
        if found.is_link:
            self.tally.symlinks += 1
        else:
            self.tally.files_uploaded += 1
            self.tally.bytes_uploaded += stat_.st_size
        stamp, now = stamp_of(stat_), self._now()
        if is_settled(stamp, read_at):
            self._memory.add_file(KnownFile(os.fsencode(found.path), stamp, cap, now, now))
        local_name = os.path.basename(found.path)  # noqa: PTH119 - Path is slow
        return Child(found.name, cap, metadata_of(stat_, local_name, found.name))
