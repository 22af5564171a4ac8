"""What a backup decides, apart from what it does: no file is opened here and nobody is asked."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from attrs import field, frozen

from ampgrid.cli.local_tree import MODE_BITS
from ampgrid.crypto.hashing import tagged_hash
from ampgrid.errors import BadNameError
from ampgrid.formats.names import checked_name
from ampgrid.store.backupdb import Stamp

#: In the directory of a backup: where its snapshots are, and the last one.
ARCHIVES = "Archives"
LATEST = "Latest"
#: Metadata that mark the link of a snapshot, and count what it lacks.
SNAPSHOT_MARK = "snapshot"
SNAPSHOT_LACKS = "lacks"
#: Metadata of a child: the name that its file has on disk, where that is no NFC.
LOCAL_NAME = "name"

#: What was neither uploaded nor checked for so long is checked before it is used, seconds.
CHECK_SECONDS = 31 * 86_400.0
#: The same where no earlier snapshot is linked, so that nobody has renewed any leases.
UNLINKED_SECONDS = 86_400.0
#: The share of all others that is checked at each backup.
CHECKED_SHARE = 0.01
#: A file that changed so shortly before it was read may change again without a trace, seconds:
#: more than a tick of the kernel's clock, and more than two seconds where times are coarse.
_TICK_SECONDS = 0.05
_COARSE_SECONDS = 2.5

_CONTENTS_TAG = b"ampgrid_backup_contents_v1"
_SECOND = 10**9
_DATE = re.compile(r"\d{4}(-(\d{2}(-(\d{2}([T ](\d{2}([-:](\d{2}([-:](\d{2}Z?)?)?)?)?)?)?)?)?)?)?")

Metadata: TypeAlias = dict[str, "str | int | float | bool"]


@frozen
class Child:
    """What is to stand in a directory of a snapshot.

    Attributes:
        name: in the grid.
        cap: to read it.
        metadata: what is told of it.
    """

    name: str
    cap: str = field(repr=False)
    metadata: Metadata


def stamp_of(found: os.stat_result) -> Stamp:
    """Return by what a file is known again."""
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def is_settled(stamp: Stamp, read_at: float) -> bool:
    """Tell whether a change after a file was read would change its stamp.

    Args:
        stamp: of the file.
        read_at: when reading it began, seconds since 1970.
    """
    is_coarse = not stamp.ctime_ns % _SECOND
    patience = _COARSE_SECONDS if is_coarse else _TICK_SECONDS
    return stamp.ctime_ns < (read_at - patience) * _SECOND


def metadata_of(found: os.stat_result, local_name: str, name: str) -> Metadata:
    """Return what a snapshot tells of a file, a directory or a symbolic link.

    Args:
        found: of the file.
        local_name: that it has on disk.
        name: that it gets in the grid.
    """
    metadata: Metadata = {
        "mtime": found.st_mtime,
        # A float has no room for nanoseconds.
        "mtime_ns": found.st_mtime_ns,
        "uid": found.st_uid,
        "gid": found.st_gid,
    }
    if stat.S_ISLNK(found.st_mode):
        metadata["symlink"] = True
    else:
        metadata["mode"] = found.st_mode & MODE_BITS
    if local_name != name:
        metadata[LOCAL_NAME] = local_name
    return metadata


def grid_name(local_name: str) -> str:
    """Return the name that a file gets in the grid.

    Raises:
        BadNameError: it can have none there.
    """
    try:
        local_name.encode("utf-8")
    except UnicodeEncodeError:
        raise BadNameError("its name is no UTF-8, and has no place in the grid") from None
    return checked_name(local_name)


def local_name(name: str, metadata: Metadata) -> str:
    """Return the name that a child of a snapshot has on disk.

    That is another one than in the grid only if both are spellings of the same name.

    Raises:
        BadNameError: it can be the name of no file.
    """
    told = metadata.get(LOCAL_NAME)
    if checked_name(name) != name:
        raise BadNameError("its name is not spelt as names in the grid are")
    try:
        if isinstance(told, str) and checked_name(told) == name:
            return told
    except BadNameError:
        pass
    return name


def contents_hash(children: Iterable[Child]) -> bytes:
    """Return what a directory with just these children is known by, 32 bytes."""
    told = sorted((child.name, child.cap, sorted(child.metadata.items())) for child in children)
    return tagged_hash(_CONTENTS_TAG, json.dumps(told).encode("ascii"))


def is_due(checked_at: float, now: float, *, linked: bool, uniform: Callable[[], float]) -> bool:
    """Tell whether something is to be checked before its cap is used once more.

    Args:
        checked_at: when it was uploaded or checked, seconds since 1970.
        now: seconds since 1970.
        linked: whether an earlier snapshot is linked in the grid, and so looked after.
        uniform: draws between 0 and 1.
    """
    age = now - checked_at
    # A clock that was set back is no reason to trust for long.
    if age < -UNLINKED_SECONDS or age >= CHECK_SECONDS:
        return True
    return (not linked and age >= UNLINKED_SECONDS) or uniform() < CHECKED_SHARE


def snapshot_name(now: float, taken: Collection[str]) -> str:
    """Return the name of a snapshot: the time in UTC, or the next second that is free.

    >>> snapshot_name(1795256100.5, ["2026-11-21T10-15-00Z"])
    '2026-11-21T10-15-01Z'
    """
    moment = datetime.fromtimestamp(int(now), UTC)
    while (name := moment.strftime("%Y-%m-%dT%H-%M-%SZ")) in taken:
        moment += timedelta(seconds=1)
    return name


def matching_snapshot(names: Iterable[str], date: str) -> str | None:
    """Return the last snapshot of a date, None if there is none.

    Args:
        names: of the snapshots.
        date: a year, a month, a day, or a time up to the second, in UTC, as far as it is wanted.
    """
    if not _DATE.fullmatch(date):
        return date if date in names else None
    wanted = date.replace(" ", "T").replace(":", "-")
    return max((name for name in names if name.startswith(wanted)), default=None)
