"""Sizes as people write them: ``500MB``, ``1GiB``, ``10G``."""

from __future__ import annotations

import re

from ampgrid.errors import BadArgumentValueError

_LETTERS = "KMGTPE"
_UNITS: dict[str, int] = {
    "": 1,
    "B": 1,
    **{letter: pow(1000, power) for power, letter in enumerate(_LETTERS, 1)},
    **{letter + "B": 1000**power for power, letter in enumerate(_LETTERS, 1)},
    **{letter + "IB": 1024**power for power, letter in enumerate(_LETTERS, 1)},
}
_SIZE = re.compile(r"([0-9]{1,19})(?:\.([0-9]{1,9}))? ?([A-Za-z]{0,3})", re.ASCII)

#: The largest size taken, bytes.
MAX_SIZE = 2**63 - 1


def parse_size(text: str) -> int:
    """Read a size in bytes.

    Args:
        text: digits, a fraction if need be, and a unit: none or ``B`` for bytes, ``K``, ``M``,
            ``G``, ``T``, ``P``, ``E`` (with or without ``B``) for powers of 1000, ``KiB`` and so
            on for powers of 1024; upper and lower case alike.

    Raises:
        BadArgumentValueError: the text is no size, or above 2**63 - 1 bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[3].upper()) if match else None
    if match is None or unit is None or (match[2] and unit == 1):
        raise BadArgumentValueError(f"{text[:40]!r} is no size; write it as 500MB, 10G or 1GiB.")
    fraction = int(match[2]) * unit // 10 ** len(match[2]) if match[2] else 0
    size = int(match[1]) * unit + fraction
    if size > MAX_SIZE:
        raise BadArgumentValueError(f"{text[:40]!r} is more than any disk holds.")
    return size


def format_size(size: int) -> str:
    """Return ``size`` in bytes for a reader: ``1.5 GB``, powers of 1000, one decimal at most."""
    if size < 1000:
        return f"{size} B"
    power = 1
    while size / 1000**power >= 999.95 and power < len(_LETTERS):
        power += 1
    return f"{size / 1000**power:.1f}".removesuffix(".0") + f" {_LETTERS[power - 1]}B"


def format_count(count: int, what: str, several: str | None = None) -> str:
    """Return ``1 share`` or ``2 shares``.

    Args:
        count: how many.
        what: one of them.
        several: more of them, where that is not the word with an ``s``.

    >>> format_count(1, "directory", "directories"), format_count(0, "file")
    ('1 directory', '0 files')
    """
    if count == 1:
        return f"1 {what}"
    return f"{count} {several or what + 's'}"


def format_directories(count: int) -> str:
    """Return ``1 directory`` or ``2 directories``."""
    return format_count(count, "directory", "directories")
