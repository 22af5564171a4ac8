"""A tree of local files: what there is to copy, found before anything is copied."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from attrs import define, field, frozen

from ampgrid.errors import AmpgridError, BadArgumentValueError, BadNameError, FileError
from ampgrid.formats.names import checked_name

#: Told of what cannot be copied: its path, and why.
Tell: TypeAlias = Callable[[str, AmpgridError | OSError], None]

#: Rights that are kept with a file; the right to act as its owner is none of them.
MODE_BITS = 0o777


@frozen
class LocalFile:
    """A file, or a symbolic link that is kept as one.

    Attributes:
        path: of the file.
        name: that it gets in the grid.
        size: bytes, when it was looked at.
        target: of a link that is kept, as the file system spells it; None for a file.
    """

    path: str
    name: str
    size: int
    target: bytes | None = None


@define
class LocalDirectory:
    """A directory and what is in it.

    Attributes:
        path: of the directory; empty for one that only collects what was named together.
        name: that it gets in the grid.
        mode: its rights.
        mtime: when it changed, seconds since 1970.
        files: in it, by name.
        directories: in it, by name.
    """

    path: str
    name: str
    mode: int = 0o755
    mtime: float | None = None
    files: list[LocalFile] = field(factory=list)
    directories: list[LocalDirectory] = field(factory=list)

    @property
    def metadata(self) -> dict[str, int | float]:
        """What a directory of the grid tells of it."""
        return {} if self.mtime is None else {"mode": self.mode, "mtime": self.mtime}

    def names(self) -> list[str]:
        """Return the names of what is in it."""
        return [*(file.name for file in self.files), *(inner.name for inner in self.directories)]

    def everything(self) -> Iterator[LocalDirectory]:
        """Yield it and all directories in it, each before what is in it."""
        waiting = [self]
        while waiting:
            directory = waiting.pop()
            yield directory
            waiting += reversed(directory.directories)

    def count(self) -> tuple[int, int]:
        """Return how many files there are in it at any depth, and their size in bytes."""
        files = [file for directory in self.everything() for file in directory.files]
        return len(files), sum(file.size for file in files)


@frozen
class _Place:
    """A directory that is still to be read, and the directories around it, by inode."""

    directory: LocalDirectory
    around: frozenset[tuple[int, int]]


class LocalTree:
    """Finds what there is to copy.

    Args:
        tell: told of what cannot be copied; the search goes on.
        links: whether symbolic links are kept; else what they lead to is copied.
        left_out: says whether something is left out, by its path and its name.
    """

    def __init__(
        self,
        tell: Tell,
        *,
        links: bool = False,
        left_out: Callable[[str, str], bool] = lambda _path, _name: False,
    ) -> None:
        self._tell = tell
        self._links = links
        self._left_out = left_out
        self._waiting: list[_Place] = []

    def collect(self, named: list[tuple[str, str]], *, deep: bool) -> LocalDirectory:
        """Return a directory of all that was named, each with all that is in it.

        Args:
            named: path and name in the grid of each.
            deep: whether directories are taken, too.
        """
        top = LocalDirectory("", "")
        self._waiting = []
        names: set[str] = set()
        for path, name in named:
            self._take(top, path, name, frozenset(), names, deep=deep)
        self._read_all()
        return top

    def contents(self, path: str) -> LocalDirectory:
        """Return a directory with all that is in it.

        Raises:
            FileError: it is none, or cannot be read.
        """
        try:
            found = os.stat(path)  # noqa: PTH116 - the path as it was typed
        except OSError as error:
            raise FileError(f"{path} could not be read: {error.strerror}.") from error
        if not stat.S_ISDIR(found.st_mode):
            raise FileError(f"{path} is no directory.")
        top = _directory(path, "", found)
        self._waiting = [_Place(top, frozenset({(found.st_dev, found.st_ino)}))]
        self._read_all()
        return top

    def _read_all(self) -> None:
        while self._waiting:
            place = self._waiting.pop()
            try:
                with os.scandir(place.directory.path) as entries:
                    names = sorted(entry.name for entry in entries)
            except OSError as error:
                self._tell(place.directory.path, error)
                continue
            seen: set[str] = set()
            for name in names:
                path = os.path.join(place.directory.path, name)  # noqa: PTH118 - for speed
                if not self._left_out(path, name):
                    self._take(place.directory, path, name, place.around, seen, deep=True)

    def _take(
        self,
        into: LocalDirectory,
        path: str,
        name: str,
        around: frozenset[tuple[int, int]],
        names: set[str],
        *,
        deep: bool,
    ) -> None:
        """Add one thing to a directory, or tell why not."""
        try:
            name = checked_name(name)
            if name in names:
                raise BadNameError("another file here has the same name in the grid")
            found = os.lstat(path)
            if stat.S_ISLNK(found.st_mode) and self._links:
                target = os.readlink(os.fsencode(path))  # noqa: PTH115 - bytes
                into.files.append(LocalFile(path, name, len(target), target))
            else:
                self._add(into, path, name, around, deep=deep)
            names.add(name)
        except (AmpgridError, OSError) as error:
            self._tell(path, error)

    def _add(
        self,
        into: LocalDirectory,
        path: str,
        name: str,
        around: frozenset[tuple[int, int]],
        *,
        deep: bool,
    ) -> None:
        found = Path(path).stat()
        if stat.S_ISREG(found.st_mode):
            into.files.append(LocalFile(path, name, found.st_size))
            return
        if not stat.S_ISDIR(found.st_mode):
            raise FileError("this is neither a file nor a directory")
        if not deep:
            raise BadArgumentValueError("this is a directory; -r copies it")
        place = found.st_dev, found.st_ino
        if place in around:
            raise FileError("this link leads back to a directory that it is in")
        directory = _directory(path, name, found)
        into.directories.append(directory)
        self._waiting.append(_Place(directory, around | {place}))


def _directory(path: str, name: str, found: os.stat_result) -> LocalDirectory:
    return LocalDirectory(path, name, found.st_mode & MODE_BITS, found.st_mtime)
