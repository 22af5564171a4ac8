"""Making a snapshot: a walk of local directories, each made in the grid once all in it is there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

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
from ampgrid.cli.backup_walk import Found, Reading
from ampgrid.cli.console import ProgressBar
from ampgrid.cli.pool import Pool
from ampgrid.cli.problems import Problems
from ampgrid.cli.tree_upload import UPLOADS_AT_ONCE, Meter
from ampgrid.errors import AmpgridError, FileChangedError, FileError
from ampgrid.store.backupdb import KnownDirectory, KnownFile

#: A file that changes while it is read is read so often.
_READINGS = 2


class GridSide(Protocol):
    """What a backup does in the grid."""

    async def upload(self, descriptor: int, name: str, bar: ProgressBar) -> str:
        """Upload what a descriptor reads, return its cap; messages call it ``name``."""
        ...

    async def make_directory(self, children: list[Child], label: str) -> str:
        """Make a directory with these children, linked nowhere, and return its write cap."""
        ...

    async def is_sound(self, cap: str) -> bool:
        """Tell whether what a cap names needs nothing done, after a repair if that will do."""
        ...


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
        unsound: those of them that were made, or uploaded, once more.
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
                await self._leave(opened, None)
                continue
            for found in entries:
                opened.waiting += 1
                if found.is_directory:
                    below = f"{opened.below}/{found.name}" if opened.below else found.name
                    inner.append(_Open(found, below, opened))
                elif (child := self._known(found)) is not None:
                    opened.waiting -= 1
                    opened.children.append(child)
                else:
                    await self._pool.start(lambda f=found, o=opened: self._file(f, o))  # type: ignore[misc]
            waiting += reversed(inner)
            opened.waiting -= 1
            if not opened.waiting:
                await self._pool.start(lambda opened=opened: self._close(opened))  # type: ignore[misc]

    # Directories.

    async def _leave(self, opened: _Open, child: Child | None) -> None:
        """Take a directory for done, and close what it is in if that was the last."""
        around = opened.around
        if around is None:
            self._top = child
            return
        if child is not None:
            around.children.append(child)
        around.waiting -= 1
        if not around.waiting:
            await self._close(around)

    async def _close(self, opened: _Open) -> None:
        """Make directories of which all children are done, from one on upwards."""
        current: _Open | None = opened
        while current is not None:
            cap = await self._directory(current)
            child = Child(current.found.name, cap, current.found.metadata)
            around = current.around
            if around is None:
                self._top = child
                return
            around.children.append(child)
            around.waiting -= 1
            current = None if around.waiting else around

    async def _directory(self, opened: _Open) -> str:
        """Return the read cap of a directory of the grid with these children."""
        contents = contents_hash(opened.children)
        known = self._memory.directory(contents)
        if known is not None and await self._is_good(known.cap, known.checked_at):
            self.tally.directories_reused += 1
        else:
            cap = await self._grid.make_directory(opened.children, opened.found.path)
            self.tally.directories_made += 1
            known = KnownDirectory(contents, cap, self._now())
        self._memory.add_directory(known)
        return parse_cap(known.cap).get_readonly().to_string() if known.cap else ""

    async def _is_good(self, cap: str, checked_at: float) -> bool:
        """Tell whether a cap can be used once more; most are without being checked."""
        if not self._is_due(checked_at):
            return True
        return await self._check(cap)

    def _is_due(self, checked_at: float) -> bool:
        return is_due(checked_at, self._now(), linked=self._linked, uniform=self._uniform)

    async def _check(self, cap: str) -> bool:
        self.tally.checked += 1
        good = await self._grid.is_sound(cap)
        self.tally.unsound += not good
        return good

    # Files.

    def _known(self, found: Found) -> Child | None:
        """Return the child of a file that nothing has to be asked about, None for any other."""
        if found.is_link:
            return None
        known = self._memory.file(os.fsencode(found.path))
        if known is None or known.stamp != stamp_of(found.stat) or self._is_due(known.checked_at):
            return None
        self._memory.met(known)
        self._meter.files += 1
        self._meter.bytes += found.stat.st_size
        with self._meter.file(found.stat.st_size):
            return self._reused(found, known)
