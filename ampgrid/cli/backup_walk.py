"""Reading local directories and files for a backup: what can be kept of them, and what cannot."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from attrs import define, field, frozen

from ampgrid.cli.backup_patterns import Patterns
from ampgrid.cli.backup_plan import LOCAL_NAME, Metadata, grid_name, metadata_of
from ampgrid.errors import AmpgridError, BadNameError, FileError

#: What is neither file, directory nor link, for a reader.
_SPECIAL = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@frozen
class Found:
    """Something that a directory holds.

    Attributes:
        path: where it is.
        name: that it gets in the grid.
        stat: what was found of it, not of what a link leads to.
        metadata: what the snapshot tells of it.
    """

    path: str
    name: str
    stat: os.stat_result
    metadata: Metadata

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.stat.st_mode)


@define
class Reading:
    """Reads directories, one after the other.

    Args:
        patterns: say what is left out.
        fail: told of what should be in the snapshot and cannot be: its path, and why.
        tell: told in a line of what the user may want to know besides.
        apart: device and inode of a directory that is left out wherever it is, None for none:
            that of the node itself.

    Attributes:
        excluded: what the patterns, or ``apart``, left out.
        special: what is neither a file nor a directory nor a link.
        renamed: what gets another spelling of its name.
    """

    _patterns: Patterns
    _fail: Callable[[str, AmpgridError | OSError], None]
    _tell: Callable[[str], None]
    _apart: tuple[int, int] | None = None
    excluded: int = field(default=0, init=False)
    special: int = field(default=0, init=False)
    renamed: int = field(default=0, init=False)

    def read(self, path: str, below: str) -> list[Found]:
        """Return what a directory holds, in the order of names.

        Args:
            path: of the directory.
            below: its path below the one that is backed up; empty for that itself.

        Raises:
            OSError: it cannot be read.
        """
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in entries)
        found: dict[str, Found] = {}
        for name in names:
            inner = os.path.join(path, name)  # noqa: PTH118 - for speed
            try:
                self._take(inner, f"{below}/{name}" if below else name, found)
            except (AmpgridError, OSError) as error:
                self._fail(inner, error)
        return list(found.values())

    def _take(self, path: str, below: str, found: dict[str, Found]) -> None:
        """Add one thing to what was found.

        Raises:
            BadNameError: it cannot have a name in the grid, or another one has it.
            OSError: it cannot be looked at.
        """
        known = os.lstat(path)
        mode = known.st_mode
        if self._patterns.leaves_out(below, is_directory=stat.S_ISDIR(mode)):
            self.excluded += 1
            return
        if (known.st_dev, known.st_ino) == self._apart:
            self.excluded += 1
            self._tell(f"{path}: left out, as it is the directory of the node itself")
            return
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            self.special += 1
            kind = _SPECIAL.get(stat.S_IFMT(mode), "no file")
            self._tell(f"{path}: left out, as it is {kind}")
            return
        local_name = below.rpartition("/")[2]
        name = grid_name(local_name)
        if name in found:
            raise BadNameError("another file here has the same name in the grid")
        metadata = metadata_of(known, local_name, name)
        if LOCAL_NAME in metadata:
            self.renamed += 1
            self._tell(f"{path}: its name is kept in another spelling (NFC) beside its own")
        found[name] = Found(path, name, known, metadata)


def open_to_read(found: Found) -> int:
    """Return a descriptor to read a file, or the target of a link, from.

    Raises:
        OSError: it cannot be opened.
        FileError: it is no file any more.
    """
    if found.is_link:
        target = os.readlink(os.fsencode(found.path))  # noqa: PTH115 - bytes
        descriptor = os.memfd_create("link")
        os.write(descriptor, target)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor
    # Not what has meanwhile become a pipe, which nobody may ever write to.
    descriptor = os.open(found.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileError("it is no file any more")
    return descriptor


def look_again(found: Found, descriptor: int) -> os.stat_result:
    """Return what is known of a file now; of a link by its path, for it has no descriptor."""
    return os.lstat(found.path) if found.is_link else os.fstat(descriptor)
