"""Which bytes of a file are asked for, and whether the client has them already (RFC 9110)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache

from attrs import frozen

from ampgrid.crypto.base32 import b2a
from ampgrid.web.errors import WebError

_DIGITS = re.compile(r"[0-9]{0,19}")
#: The longest date that is looked at, characters; HTTP's have 29.
_MOST_DATE = 64


@frozen
class Range:
    """Some bytes of a file.

    Attributes:
        start: of the first.
        end: behind the last.
    """

    start: int
    end: int


class RangeError(WebError):
    """No byte of the file is in the range."""

    status = 416


def read_range(header: str, size: int) -> Range | None:
    """Read the header Range; None for all of the file.

    What is malformed, of another unit, or names several ranges is ignored, as a server may.

    Args:
        header: its value.
        size: of the file, bytes.

    Raises:
        RangeError: the range begins behind the end.
    """
    # Split and not matched at one go: space that may stand in several places would be tried in
    # all of them.
    unit, equals, rest = header.partition("=")
    first, dash, last = (part.strip() for part in rest.partition("-"))
    if unit.strip().lower() != "bytes" or not equals or not dash or not (first or last):
        return None
    if not _DIGITS.fullmatch(first) or not _DIGITS.fullmatch(last):
        return None
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), size if not last else min(size, int(last) + 1)
        if last and int(last) < start:
            return None
    if start >= size or start >= end:
        raise RangeError(
            f"the file has {size} bytes; the range is behind its end",
            Content_Range=f"bytes */{size}",
            Accept_Ranges="bytes",
        )
    return Range(start, end)


def etag_of(cap: str) -> str:
    """Return the ETag of a file; it tells nothing of the cap, and changes with it."""
    return f'"{b2a(hashlib.sha256(b"ampgrid web etag v1 " + cap.encode()).digest()[:20])}"'


def http_date(moment: float) -> str:
    """Return seconds since 1970 as HTTP spells them."""
    return _date_of(int(moment))


@lru_cache(maxsize=64)
def _date_of(second: int) -> str:
    return formatdate(second, usegmt=True)


def _seconds(text: str) -> float | None:
    if not 0 < len(text) <= _MOST_DATE:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def matches(header: str, etag: str) -> bool:
    """Tell whether a list of ETags, or ``*``, holds this one."""
    told = [each.strip().removeprefix("W/") for each in header.split(",")]
    return etag in told or "*" in told


def is_unchanged(value: Callable[[str], str], etag: str, changed: float | None) -> bool:
    """Tell whether the client has the file already.

    Args:
        value: returns the value of a header, empty without it.
        etag: of the file.
        changed: when it was linked, seconds since 1970; None if that is not known.
    """
    if known := value("If-None-Match"):
        return matches(known, etag)
    since = _seconds(value("If-Modified-Since"))
    return since is not None and changed is not None and int(changed) <= since


def range_holds(value: Callable[[str], str], etag: str, changed: float | None) -> bool:
    """Tell whether a Range counts: without If-Range, or if that is of this very file."""
    condition = value("If-Range")
    if not condition or condition == etag:
        return True
    since = _seconds(condition)
    return since is not None and changed is not None and int(changed) == int(since)
