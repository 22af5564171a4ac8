"""Copying what is in the grid into local files."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from ampgrid.cli.files import naming, replacing
from ampgrid.cli.gridpaths import listing_of
from ampgrid.cli.local_tree import MODE_BITS
from ampgrid.cli.pool import Pool, run_each
from ampgrid.cli.problems import Problems
from ampgrid.cli.tree_upload import Copied, Meter
from ampgrid.errors import BadArgumentValueError, FileError, IntegrityError

if TYPE_CHECKING:
    from ampgrid.cli.console import ProgressBar
    from ampgrid.cli.control import Conversation

#: Files that are downloaded, and directories that are listed, at once.
DOWNLOADS_AT_ONCE = 8
_LISTED_AT_ONCE = 8
#: The longest target of a symbolic link, bytes.
_MOST_TARGET_BYTES = 4_096


@frozen
class Wanted:
    """Something of the grid that is to be copied.

    Attributes:
        child: as the node tells of it.
        label: what messages call it.
        out: where it goes.
        around: verify caps of the directories around it.
    """

    child: dict[str, Any]
    label: str
    out: Path
    around: frozenset[str] = frozenset()

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return bool(self.child["type"] == "directory")


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
        self.notes: list[str] = []
        self._node = node
        self._problems = problems
        self._links = links
        self._pool = Pool(DOWNLOADS_AT_ONCE)
        self._meter = Meter(node.bar)
        self._entered: list[Wanted] = []

    async def run(self, wanted: list[Wanted]) -> Copied:
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
                _finish(directory.out, directory.child["metadata"])
        return self.copied

    async def _look(self, several: list[Wanted]) -> list[list[Wanted]]:
        """Begin to copy files, and return what is in directories."""
        found: dict[int, list[Wanted]] = {}

        async def enter(number: int, wanted: Wanted) -> None:
            with self._problems.of(wanted.label):
                found[number] = await self._enter(wanted)

        directories = [each for each in enumerate(several) if each[1].is_directory]
        await run_each([lambda each=each: enter(*each) for each in directories], _LISTED_AT_ONCE)  # type: ignore[misc]
        for wanted in several:
            if not wanted.is_directory:
                self._meter.files += 1
                self._meter.bytes += wanted.child["size"] or 0
                await self._pool.start(lambda wanted=wanted: self._download(wanted))  # type: ignore[misc]
        return [found[number] for number in sorted(found)]

    async def _enter(self, wanted: Wanted) -> list[Wanted]:
        """Make a directory, and return what is to be in it."""
        from ampgrid.caps import parse_cap

        verify_cap = parse_cap(wanted.child["cap"]).get_verify_cap()
        assert verify_cap is not None
        own = verify_cap.to_string()
        if own in wanted.around:
            raise BadArgumentValueError("this directory leads back into itself; not copied again")
        listing = await listing_of(self._node, wanted.child["cap"])
        for problem in listing.problems:
            self._problems.add(wanted.label, IntegrityError(problem))
        self.copied.directories += _make(wanted.out, follow=not wanted.around)
        self._entered.append(wanted)
        around = wanted.around | {own}
        label = wanted.label if wanted.label.endswith((":", "/")) else f"{wanted.label}/"
        return [
            Wanted(child, label + child["name"], wanted.out / child["name"], around)
            for child in listing.children
        ]

    async def _download(self, wanted: Wanted) -> None:
        child = wanted.child
        with self._meter.file(child["size"] or 0) as bar, self._problems.of(wanted.label):
            try:
                if child["metadata"].get("symlink") is True:
                    await self._link(wanted, bar)
                else:
                    await self._file(wanted, bar)
            except OSError as error:
                raise FileError(f"{wanted.out}: {error.strerror}.") from error
            self.copied.files += 1
            self.copied.bytes += child["size"] or 0

    async def _file(self, wanted: Wanted, bar: ProgressBar) -> None:
        out, metadata = wanted.out, wanted.child["metadata"]
        if out.is_dir() and not out.is_symlink():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        # A disk that loses power loses a copy, no more.
        with replacing(out, durable=False) as descriptor:
            await self._fetch(wanted, descriptor, bar)
            _set_mode(descriptor, metadata)
        _set_time(out, metadata)

    async def _link(self, wanted: Wanted, bar: ProgressBar) -> None:
        if not self._links:
            raise BadArgumentValueError("this is a symbolic link; --links makes it")
        if (wanted.child["size"] or 0) > _MOST_TARGET_BYTES:
            raise BadArgumentValueError("the target of this symbolic link is too long")
        held = os.memfd_create("link")
        try:
            await self._fetch(wanted, held, bar)
            target = os.pread(held, _MOST_TARGET_BYTES, 0)
        finally:
            os.close(held)
        if not target or b"\0" in target:
            raise BadArgumentValueError("the target of this symbolic link is no path")
        part = wanted.out.with_name(f".ampgrid-{secrets.token_hex(6)}.part")
        os.symlink(target, os.fsencode(part))  # noqa: PTH211 - bytes
        try:
            part.replace(wanted.out)
        except BaseException:
            part.unlink()
            raise

    async def _fetch(self, wanted: Wanted, descriptor: int, bar: ProgressBar) -> None:
        from ampgrid.commands.control import Download

        with naming(str(wanted.out), "output"):
            answer = await self._node.watched(
                Download, bar=bar, cap=wanted.child["cap"], descriptor=descriptor
            )
        self.notes += [note for note in answer["problems"].splitlines() if note not in self.notes]


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
