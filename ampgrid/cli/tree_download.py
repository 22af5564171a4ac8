"""Copying what is in the grid into local files."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampgrid.cli.files import replacing
from ampgrid.cli.grid_source import DOWNLOADS_AT_ONCE, GridSource, Place
from ampgrid.cli.local_tree import MODE_BITS
from ampgrid.cli.pool import Pool, run_each
from ampgrid.cli.problems import Problems
from ampgrid.cli.tree_upload import Copied, Meter
from ampgrid.errors import BadArgumentValueError, FileError

if TYPE_CHECKING:
    from ampgrid.cli.console import ProgressBar
    from ampgrid.cli.control import Conversation

#: Directories that are listed at once.
_LISTED_AT_ONCE = 8


class TreeDownload:
    """Copies trees of the grid into local directories, several files at once.

    Nothing is written through a symbolic link that is found where a file or a directory should
    be: whoever can change the directory in the grid could name any file of this machine so.

    Args:
        node: to speak with.
        problems: told of what fails; the rest goes on.
        links: whether symbolic links are made.
    """

    def __init__(self, node: Conversation, problems: Problems, *, links: bool = False) -> None:
        self.copied = Copied()
        self._source = GridSource(node, problems)
        self._problems = problems
        self._links = links
        self._pool = Pool(DOWNLOADS_AT_ONCE)
        self._meter = Meter(node.bar)
        self._entered: list[Place] = []

    @property
    def notes(self) -> list[str]:
        """What the node tells of the files that came, each once."""
        return self._source.notes

    async def run(self, wanted: list[Place]) -> Copied:
        """Copy all that is wanted; returns what was done.

        Raises:
            KeyboardInterrupt: the user has ended it.
            NotConnectedError: the node is gone.
        """
        waiting = list(reversed(wanted))
        try:
            while waiting:
                several = [waiting.pop() for _ in range(min(_LISTED_AT_ONCE, len(waiting)))]
                for inner in await self._look(several):
                    waiting += reversed(inner)
        finally:
            await self._pool.abandon()
        await self._pool.end()
        # Last, since a directory's time changes with what is put in, and its rights forbid it.
        for directory in reversed(self._entered):
            with self._problems.of(directory.label):
                _finish(directory.out, directory.metadata)
        return self.copied

    async def _look(self, several: list[Place]) -> list[list[Place]]:
        """Begin to copy files, and return what is in directories."""
        found: dict[int, list[Place]] = {}

        async def enter(number: int, wanted: Place) -> None:
            with self._problems.of(wanted.label):
                found[number] = await self._enter(wanted)

        directories = [each for each in enumerate(several) if each[1].is_directory]
        await run_each([lambda each=each: enter(*each) for each in directories], _LISTED_AT_ONCE)  # type: ignore[misc]
        for wanted in several:
            if not wanted.is_directory:
                self._meter.files += 1
                self._meter.bytes += wanted.size
                await self._pool.start(lambda wanted=wanted: self._download(wanted))  # type: ignore[misc]
        return [found[number] for number in sorted(found)]

    async def _enter(self, wanted: Place) -> list[Place]:
        """Make a directory, and return what is to be in it."""
        inner = await self._source.inside(wanted)
        self.copied.directories += _make(wanted.out, follow=not wanted.around)
        self._entered.append(wanted)
        return inner

    async def _download(self, wanted: Place) -> None:
        with self._meter.file(wanted.size) as bar, self._problems.of(wanted.label):
            try:
                if wanted.is_link:
                    await self._link(wanted, bar)
                else:
                    await self._file(wanted, bar)
            except OSError as error:
                raise FileError(f"{wanted.out}: {error.strerror}.") from error
            self.copied.files += 1
            self.copied.bytes += wanted.size

    async def _file(self, wanted: Place, bar: ProgressBar) -> None:
        out, metadata = wanted.out, wanted.metadata
        if out.is_dir() and not out.is_symlink():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        # A disk that loses power loses a copy, no more.
        with replacing(out, durable=False) as descriptor:
            await self._source.fetch(wanted, descriptor, bar)
            _set_mode(descriptor, metadata)
        _set_time(out, metadata)

    async def _link(self, wanted: Place, bar: ProgressBar) -> None:
        if not self._links:
            raise BadArgumentValueError("this is a symbolic link; --links makes it")
        target = await self._source.target(wanted, bar)
        part = wanted.out.with_name(f".ampgrid-{secrets.token_hex(6)}.part")
        os.symlink(target, os.fsencode(part))  # noqa: PTH211 - bytes
        try:
            part.replace(wanted.out)
        except BaseException:
            part.unlink()
            raise


def _make(out: Path, *, follow: bool) -> bool:
    """Make a directory; returns whether it was missing.

    Args:
        out: where.
        follow: whether a link to a directory will do: for what the user has named.

    Raises:
        FileError: something else is there.
    """
    try:
        out.mkdir()
        return True
    except FileExistsError:
        found = out.stat() if follow else out.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise FileError(f"{out} is there, and is no directory.") from None
        return False


def _finish(out: Path, metadata: dict[str, Any]) -> None:
    """Give a directory its time and its rights."""
    _set_time(out, metadata)
    mode = metadata.get("mode")
    if isinstance(mode, int) and not isinstance(mode, bool):
        out.chmod(mode & MODE_BITS)


def _set_mode(descriptor: int, metadata: dict[str, Any]) -> None:
    mode = metadata.get("mode")
    if isinstance(mode, int) and not isinstance(mode, bool):
        os.fchmod(descriptor, mode & MODE_BITS)


def _set_time(out: Path, metadata: dict[str, Any]) -> None:
    moment = metadata.get("mtime")
    # What no file system can keep is nobody's loss.
    if isinstance(moment, int | float) and 0 <= moment < 2**33:
        os.utime(out, (moment, moment), follow_symlinks=False)
