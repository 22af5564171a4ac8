"""Bringing a directory of the grid back as a local one, with modes, times and links.

What is in the grid may be another's work, and is not believed where it could lead out of the
directory that is written to: every name is that of a child and no path, nothing is written
through a symbolic link, and links are made when all else is there.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve

from ampgrid.cli.backup_plan import local_name
from ampgrid.cli.files import replacing
from ampgrid.cli.grid_source import DOWNLOADS_AT_ONCE, GridSource, Place
from ampgrid.cli.pool import Pool
from ampgrid.cli.problems import Problems
from ampgrid.cli.restore_plan import Restored, is_time, mode_of, times_of
from ampgrid.cli.tree_upload import Meter
from ampgrid.errors import FileError

if TYPE_CHECKING:
    from ampgrid.cli.console import ProgressBar
    from ampgrid.cli.control import Conversation

#: What a restore that was cut short leaves of a file.
_PART = re.compile(r"\.ampgrid-[0-9a-f]{12}\.part")


class Restoring:
    """Brings one directory back.

    Args:
        node: to speak with.
        problems: told of what fails; the rest goes on.
        overwrite: whether files that are there and differ are replaced.
        dry_run: whether it is only found out what there is to do.
    """

    def __init__(
        self,
        node: Conversation,
        problems: Problems,
        *,
        overwrite: bool = False,
        dry_run: bool = False,
    ) -> None:
        self.restored = Restored()
        self._source = GridSource(node, problems)
        self._problems = problems
        self._overwrite = overwrite
        self._dry_run = dry_run
        self._pool = Pool(DOWNLOADS_AT_ONCE)
        self._meter = Meter(node.bar)
        self._links: list[Place] = []
        self._entered: list[Place] = []

    @property
    def notes(self) -> list[str]:
        """What the node tells of the files that came, each once."""
        return self._source.notes

    async def run(self, child: dict[str, Any], label: str, out: Path) -> Restored:
        """Bring a directory back as ``out``, which is made if it is missing.

        Args:
            child: the directory, as the node tells of it.
            label: what messages call it.
            out: where what is in it goes.

        Raises:
            FileError: ``out`` is no directory, or cannot be made.
            KeyboardInterrupt: the user has ended it.
            NotConnectedError: the node is gone.
        """
        waiting = [Place(child, label, out)]
        try:
            while waiting:
                place = waiting.pop()
                inner: list[Place] = []
                with self._problems.of(place.label):
                    inner = await self._enter(place)
                for each in inner:
                    if each.is_directory:
                        waiting.append(each)
                    elif each.is_link:
                        self._links.append(each)
                    else:
                        await self._start(each)
            await self._pool.end()
            for link in self._links:
                await self._start(link)
            await self._pool.end()
        finally:
            await self._pool.abandon()
            # Last, since a directory's time changes with what is put in, and its rights forbid it.
            self._finish()
        return self.restored

    async def _start(self, place: Place) -> None:
        self._meter.files += 1
        self._meter.bytes += place.size
        await self._pool.start(lambda: self._bring(place))

    async def _enter(self, place: Place) -> list[Place]:
        """Make a directory, and return what is to be in it.

        Raises:
            BadArgumentValueError: it leads back into itself.
            FileError: something else is in its place.
        """
        found = await self._source.inside(place)
        with _naming_path(place.out):
            self.restored.directories += self._make(place.out, is_top=not place.around)
        self._entered.append(place)
        inner = []
        for each in found:
            with self._problems.of(each.label):
                name = local_name(each.child["name"], each.metadata)
                inner.append(evolve(each, out=place.out / name))
        return inner

    def _make(self, out: Path, *, is_top: bool) -> bool:
        """Make a directory, open it to ourselves; returns whether it was missing.

        Raises:
            FileError: something else is there.
        """
        try:
            # A link to a directory will do for what the user has named, and for nothing else.
            found = out.stat() if is_top else out.lstat()
        except FileNotFoundError:
            if not self._dry_run:
                out.mkdir(mode=0o700, parents=is_top)
            return True
        if not stat.S_ISDIR(found.st_mode):
            raise FileError(f"{out} is there, and is no directory")
        if not self._dry_run:
            if found.st_uid == os.geteuid() and found.st_mode & 0o700 != 0o700:
                out.chmod(stat.S_IMODE(found.st_mode) | 0o700)
            _clear(out)
        return False

    def _finish(self) -> None:
        """Give the directories their times and rights, the innermost first."""
        if self._dry_run:
            return
        for place in reversed(self._entered):
            with self._problems.of(place.label), _naming_path(place.out):
                if (times := times_of(place.metadata)) is not None:
                    os.utime(place.out, ns=times)
                if (mode := mode_of(place.metadata)) is not None:
                    place.out.chmod(mode)

    # Files and links.

    async def _bring(self, place: Place) -> None:
        told, named = self._problems.of(place.label), _naming_path(place.out)
        with self._meter.file(place.size) as bar, told, named:
            if place.is_link:
                await self._link(place, bar)
            elif self._is_wanted(place):
                if not self._dry_run:
                    await self._file(place, bar)
                self.restored.files += 1
                self.restored.bytes += place.size

    def _is_wanted(self, place: Place) -> bool:
        """Tell whether a file has to be written.

        Raises:
            FileError: another one is there, and it was not to be replaced.
        """
        try:
            found = place.out.lstat()
        except FileNotFoundError:
            return True
        is_size = stat.S_ISREG(found.st_mode) and found.st_size == place.child["size"]
        if is_size and is_time(found, place.metadata):
            self.restored.unchanged += 1
            return False
        self._may_replace(place.out, found)
        return True

    def _may_replace(self, out: Path, found: os.stat_result) -> None:
        """Refuse to replace what is there.

        Raises:
            FileError: it is not to be replaced.
        """
        if stat.S_ISDIR(found.st_mode):
            raise FileError(f"{out}: a directory is there, and is not replaced")
        if not self._overwrite:
            raise FileError(f"{out}: another one is there; --overwrite replaces it")

    async def _file(self, place: Place, bar: ProgressBar) -> None:
        # A disk that loses power loses a copy, no more.
        with replacing(place.out, durable=False) as descriptor:
            # Nobody else's business before it has its own rights.
            os.fchmod(descriptor, 0o600)
            await self._source.fetch(place, descriptor, bar)
            mode = mode_of(place.metadata)
            os.fchmod(descriptor, 0o600 if mode is None else mode)
            if (times := times_of(place.metadata)) is not None:
                os.utime(descriptor, ns=times)

    async def _link(self, place: Place, bar: ProgressBar) -> None:
        """Make a symbolic link, whatever it leads to."""
        target = await self._source.target(place, bar)
        out = os.fsencode(place.out)
        try:
            found = place.out.lstat()
        except FileNotFoundError:
            pass
        else:
            if stat.S_ISLNK(found.st_mode) and os.readlink(out) == target:  # noqa: PTH115
                self.restored.unchanged += 1
                return
            self._may_replace(place.out, found)
        self.restored.symlinks += 1
        if self._dry_run:
            return
        part = os.path.join(os.path.dirname(out), f".ampgrid-{secrets.token_hex(6)}.part".encode())  # noqa: PTH118, PTH120
        os.symlink(target, part)  # noqa: PTH211 - bytes
        try:
            if (times := times_of(place.metadata)) is not None:
                os.utime(part, ns=times, follow_symlinks=False)
            os.replace(part, out)  # noqa: PTH105
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(part)  # noqa: PTH108
            raise


@contextmanager
def _naming_path(out: Path) -> Iterator[None]:
    """Let an error of the system name the path."""
    try:
        yield
    except OSError as error:
        raise FileError(f"{out}: {error.strerror}") from error


def _clear(out: Path) -> None:
    """Remove what an earlier restore that was cut short has left of files in a directory."""
    with os.scandir(out) as entries:
        parts = [each.path for each in entries if _PART.fullmatch(each.name)]
    for part in parts:
        if not stat.S_ISDIR(os.lstat(part).st_mode):
            os.unlink(part)  # noqa: PTH108
