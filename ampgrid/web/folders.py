"""Directories of this machine, opened step by step so that no link leads elsewhere.

Whether a path is allowed is looked at before it is opened, and others may put a link into it in
between. So it is opened from the root on, name by name, and no link is followed; what is done in
a directory is done by its descriptor, and stays in it whatever becomes of its path. All of it
blocks: call it in a thread.

Source: openat(2), O_NOFOLLOW.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from ampgrid.errors import AmpgridError, FileError
from ampgrid.formats.names import checked_name
from ampgrid.immutable import OpenFile, ToFile
from ampgrid.ports import Entropy, Threads
from ampgrid.web.errors import BadRequestError, ForbiddenError

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@frozen
class Entries:
    """What is in a local directory.

    Attributes:
        files: their names here, by the one that they have in a directory of the grid.
        directories: the same of directories.
        left_out: (what people are shown, why) of the rest.
    """

    files: Mapping[str, str]
    directories: Mapping[str, str]
    left_out: tuple[tuple[str, str], ...]


class Folder:
    """A directory of this machine that is open until `close`.

    Args:
        descriptor: of the directory.
        shown: its path, for people.
    """

    def __init__(self, descriptor: int, shown: Path) -> None:
        self._descriptor = descriptor
        self.shown = shown

    @classmethod
    def at(cls, path: Path) -> Folder:
        """Open the directory at an absolute path that holds no links.

        Raises:
            FileError: it cannot be opened, or a link is in the way.
        """
        with _opening():
            root = cls(os.open("/", _STEP), Path("/"))
        with root:
            return root.below(*path.parts[1:])

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def below(self, *names: str) -> Folder:
        """Open a directory below this one; this one itself without names.

        Raises:
            FileError: it cannot be opened, or a link is in the way.
        """
        here = Folder(os.dup(self._descriptor), self.shown)
        for name in names:
            with here, _opening():
                here = Folder(os.open(name, _STEP, dir_fd=here._descriptor), here.shown / name)
        return here

    def made(self, *names: str) -> Folder:
        """Open a directory below this one; the last of the names is made if it is missing.

        Raises:
            FileError: it cannot be made or opened, or a link is in the way.
        """
        with self.below(*names[:-1]) as above:
            try:
                os.mkdir(names[-1], dir_fd=above._descriptor)  # noqa: SLF001 - by descriptor
            except FileExistsError:
                pass
            except OSError as error:
                why = f"a local directory cannot be made: {error.strerror}"
                raise FileError(why) from error
            return above.below(names[-1])

    def _kind(self, name: str, what: str) -> int:
        try:
            mode = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False).st_mode
        except OSError as error:
            raise FileError(f"the local {what} cannot be read: {error.strerror}") from error
        if stat.S_ISLNK(mode):
            raise ForbiddenError("this path is a symbolic link")
        return mode

    def require_directory(self, name: str) -> None:
        """Check that a directory has a name.

        Raises:
            ForbiddenError: a link has it.
            BadRequestError: a file has it.
            FileError: nothing has it, or it cannot be looked at.
        """
        if not stat.S_ISDIR(self._kind(name, "directory")):
            raise BadRequestError("localdir= is of directories; for a file give localfile=")

    def require_file(self, name: str) -> None:
        """Check that a file has a name.

        Raises:
            ForbiddenError: a link has it.
            BadRequestError: a directory has it.
            FileError: nothing has it, or it cannot be looked at.
        """
        if stat.S_ISDIR(self._kind(name, "file")):
            raise BadRequestError("localfile= is of files; for a directory give localdir=")

    def reading(self, name: str) -> OpenFile:
        """Open a regular file that is to be read; the caller closes it.

        Raises:
            FileError: it cannot be opened, or is a link or no regular file.
        """
        return OpenFile.at(Path(name), follow=False, folder=self._descriptor)

    def writing(self, name: str, threads: Threads, entropy: Entropy) -> ToFile:
        """Return what writes a file, which stays in this very directory.

        Raises:
            FileError: nothing can be written there.
        """
        return ToFile(Path(name), threads, entropy, self._descriptor)

    def entries(self) -> Entries:
        """Return what is in it; links are left out.

        Raises:
            FileError: it cannot be read.
        """
        with _opening():
            listed = os.open(".", _LIST, dir_fd=self._descriptor)
        try:
            with _opening(), os.scandir(listed) as found:
                return self._sorted(found)
        finally:
            os.close(listed)

    def _sorted(self, found: Iterator[os.DirEntry[str]]) -> Entries:
        kinds: dict[str, dict[str, str]] = {"file": {}, "directory": {}}
        left_out: list[tuple[str, str]] = []
        taken: set[str] = set()
        for entry in sorted(found, key=lambda each: each.name):
            shown = str(self.shown / entry.name)
            try:
                name = checked_name(entry.name)
            except AmpgridError as error:
                left_out.append((ascii(shown), str(error)))
                continue
            kind = _kind_of(entry)
            if kind not in kinds:
                left_out.append((shown, "neither a file nor a directory"))
            elif name in taken:
                left_out.append((ascii(shown), "another one has this name, spelled otherwise"))
            else:
                taken.add(name)
                kinds[kind][name] = entry.name
        return Entries(kinds["file"], kinds["directory"], tuple(left_out))


def _kind_of(entry: os.DirEntry[str]) -> str:
    if entry.is_dir(follow_symlinks=False):
        return "directory"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


@contextmanager
def _opening() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError(f"a local directory cannot be opened: {error.strerror}") from error
