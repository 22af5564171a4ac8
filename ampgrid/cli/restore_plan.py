"""What the metadata of a file in the grid say of its mode and its times, and what was done."""

from __future__ import annotations

import os
from typing import Any

from attrs import asdict, define

from ampgrid.cli.local_tree import MODE_BITS

_SECOND = 10**9
#: Times that were told as a float are the same if they are as near, nanoseconds.
_FLOAT_NS = 1_000


@define
class Restored:
    """What was brought back.

    Attributes:
        files: that were written.
        bytes: their size, bytes.
        unchanged: files and links that were there already as they are.
        symlinks: symbolic links that were made.
        directories: that were made.
    """

    files: int = 0
    bytes: int = 0
    unchanged: int = 0
    symlinks: int = 0
    directories: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the counts for JSON."""
        return asdict(self)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def mode_of(metadata: dict[str, Any]) -> int | None:
    """Return the permission bits that are told of a file, None if none are."""
    mode = _number(metadata.get("mode"))
    return None if mode is None else mode & MODE_BITS


def times_of(metadata: dict[str, Any]) -> tuple[int, int] | None:
    """Return access and change time to set, nanoseconds since 1970; None if none is told."""
    exact = _number(metadata.get("mtime_ns"))
    if exact is None:
        moment = metadata.get("mtime")
        if not isinstance(moment, int | float) or isinstance(moment, bool):
            return None
        exact = int(max(-1.0, min(moment, 2.0**34)) * _SECOND)
    # What no file system can keep is nobody's loss.
    return (exact, exact) if 0 <= exact < 2**33 * _SECOND else None


def is_time(found: os.stat_result, metadata: dict[str, Any]) -> bool:
    """Tell whether a file has the time that is told of it."""
    times = times_of(metadata)
    if times is None:
        return False
    tolerated = 0 if _number(metadata.get("mtime_ns")) is not None else _FLOAT_NS
    return abs(found.st_mtime_ns - times[1]) <= tolerated
