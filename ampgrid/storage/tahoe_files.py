"""What lies in a storage directory of Tahoe-LAFS, and what is told about it.

Shares are ``shares/<first two characters>/<storage index>/<number>``, the index in base32 of 26
characters; ``shares/incoming`` holds what was never finished.

Source: Tahoe-LAFS 1.20 ``storage/server.py``.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from ampgrid.crypto.base32 import a2b
from ampgrid.errors import FileError, FormatError

#: The most problems that are named one by one.
MOST_PROBLEMS = 100

_NUMBER = re.compile(r"0|[1-9][0-9]{0,2}")


@attrs.define
class Report:
    """What an import did.

    Attributes:
        taken: shares that were stored (in a dry run: that are there to be taken).
        taken_bytes: their sizes together, without containers.
        here_already: shares that were here before.
        leases: leases that were taken over or found to be here.
        mutable: mutable shares, which are passed over.
        damaged: containers that cannot be read.
        differing: shares that are here already with other bytes; what is here stays.
        other: files and directories that are no shares.
        problems: what to tell about single files, one line each, the first `MOST_PROBLEMS`.
    """

    taken: int = 0
    taken_bytes: int = 0
    here_already: int = 0
    leases: int = 0
    mutable: int = 0
    damaged: int = 0
    differing: int = 0
    other: int = 0
    problems: list[str] = attrs.field(factory=list)

    def tell(self, path: Path, why: str) -> None:
        """Note a problem with a file."""
        if len(self.problems) < MOST_PROBLEMS:
            # As much of the path as names a share; and nothing that a terminal would obey.
            name = "/".join(path.parts[-3:])
            name = "".join(c if c.isascii() and c.isprintable() else "?" for c in name)
            self.problems.append(f"{name[:120]}: {why}"[:300])

    def to_json(self) -> dict[str, Any]:
        """Return the attributes, for JSON."""
        return attrs.asdict(self)


@attrs.frozen
class ShareFile:
    """A file that is named as a share is.

    Attributes:
        path: where it is.
        storage_index: 16 bytes.
        number: of the share.
        size: of the container when it was found, bytes.
    """

    path: Path
    storage_index: bytes
    number: int
    size: int


def shares_directory(source: Path) -> Path:
    """Return the directory of shares: ``source``, or the one in it.

    Args:
        source: a Tahoe node directory, its ``storage``, or ``storage/shares``.

    Raises:
        FileError: there is none.
    """
    try:
        if not stat.S_ISDIR(source.stat().st_mode):
            raise FileError(f"{source} is a file; name the storage directory of Tahoe-LAFS.")
    except OSError as error:
        raise FileError(f"{source}: {error.strerror}.") from error
    for inner in ("storage/shares", "shares", "."):
        found = source / inner
        if found.is_dir() and (inner != "." or source.name == "shares"):
            return found
    raise FileError(f"{source} is no storage directory of Tahoe-LAFS: there is no 'shares' in it.")


def share_files(root: Path, report: Report) -> Iterator[ShareFile]:
    """Yield the share files under a directory of shares, in order; count what else is there.

    Symbolic links below ``root`` are not followed.

    Raises:
        FileError: ``root`` itself cannot be read.
    """
    try:
        prefixes = _entries(root)
    except OSError as error:
        raise FileError(f"{root} could not be read: {error.strerror}.") from error
    for prefix in prefixes:
        if prefix.name == "incoming":
            continue
        if not prefix.is_dir(follow_symlinks=False) or len(prefix.name) != 2:
            _stray(prefix, report)
            continue
        for bucket in _entries_or_told(prefix, report):
            try:
                storage_index = a2b(bucket.name, 16)
            except FormatError:
                _stray(bucket, report)
                continue
            if bucket.name[:2] != prefix.name or not bucket.is_dir(follow_symlinks=False):
                _stray(bucket, report)
                continue
            for entry in _entries_or_told(bucket, report):
                found = _share_file(entry, storage_index)
                if found is None:
                    _stray(entry, report)
                else:
                    yield found


def _entries(path: os.PathLike[str]) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _entries_or_told(path: os.DirEntry[str], report: Report) -> list[os.DirEntry[str]]:
    try:
        return _entries(path)
    except OSError as error:
        report.tell(Path(path.path), f"could not be read: {error.strerror}")
        return []


def _stray(entry: os.DirEntry[str], report: Report) -> None:
    report.other += 1
    report.tell(Path(entry.path), "is no share and was passed over")


def _share_file(entry: os.DirEntry[str], storage_index: bytes) -> ShareFile | None:
    if not _NUMBER.fullmatch(entry.name) or int(entry.name) > 255:
        return None
    try:
        if not entry.is_file(follow_symlinks=False):
            return None
        size = entry.stat(follow_symlinks=False).st_size
    except OSError:
        return None
    return ShareFile(Path(entry.path), storage_index, int(entry.name), size)
