"""Reports as JSON that fit into one value of a box, whatever servers had to say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ampgrid.caps import MAX_CAP_CHARACTERS
from ampgrid.node.sizes import format_size

#: The largest report, bytes; a value of a box holds 62,000 and more.
MOST_REPORT_BYTES = 60_000
#: The largest page of a list, bytes.
MOST_PAGE_BYTES = 50_000
#: The longest text in a report that is no cap, characters.
_MOST_CHARACTERS = 300
#: Lists are cut to half of this, to a quarter and so on, until the whole fits.
_LONGEST_LIST = 4096


def why_full(storage: Mapping[str, Any]) -> str:
    """Return why a store that accepts shares has room for none, empty if it has.

    Args:
        storage: the status of the storage service (``docs/reference/status.md``).
    """
    if not storage["accepts"] or storage["available"] > 0:
        return ""
    free, reserve, quota = storage["free"], storage["reserve"], storage["quota"]
    if free <= reserve:
        return (
            f"its disk has {format_size(free)} free for shares, and {format_size(reserve)} must "
            "stay free ('reserve' in node.toml)"
        )
    if quota is not None:
        return f"the quota of {format_size(quota)} is used up"
    return "the disk is full"


def _spell(value: object) -> str:
    # All but ASCII and control characters are escaped already; boxes take no DEL either.
    return json.dumps(value).replace("\x7f", "\\u007f")


def json_text(value: object, most: int) -> str:
    """Return a value as JSON in ASCII: whole if that is short enough, else as `report_text`."""
    text = _spell(value)
    if len(text) <= most or not isinstance(value, Mapping):
        return text
    return report_text(value, most)


def _cut(value: Any, most: int) -> tuple[Any, int]:
    """Return a value with no list longer than ``most``, and how many items were left out."""
    if isinstance(value, str):
        # A cap that is cut short gives nothing, or something else.
        longest = MAX_CAP_CHARACTERS if value.startswith("URI:") else _MOST_CHARACTERS
        return value[:longest], 0
    if isinstance(value, list):
        pairs = [_cut(inner, most) for inner in value[:most]]
        left_out = max(0, len(value) - most) + sum(count for _, count in pairs)
        return [inner for inner, _ in pairs], left_out
    if isinstance(value, dict):
        found = {key: _cut(inner, most) for key, inner in value.items()}
        return {key: inner for key, (inner, _) in found.items()}, sum(
            count for _, count in found.values()
        )
    return value, 0


def report_text(report: Mapping[str, Any], most: int = MOST_REPORT_BYTES) -> str:
    """Return a report as JSON in ASCII, its lists cut where the whole would be too long.

    Args:
        report: an object for JSON, whose objects have few keys.
        most: the longest text wanted, bytes.

    Returns:
        The object with one key more, ``left_out``: how many items of lists are not told, and
        objects (which are null then).
    """
    told = dict(report)
    longest = _LONGEST_LIST
    dropped = 0
    while True:
        cut, left_out = _cut(told, longest)
        text = _spell(cut | {"left_out": left_out + dropped})
        if len(text) <= most:
            return text
        if longest:
            longest //= 2
            continue
        sizes = {key: len(_spell(value)) for key, value in cut.items() if value is not None}
        if not sizes:
            return text
        # Objects of many keys, against the promise: what is largest is not told at all.
        told[max(sizes, key=sizes.__getitem__)] = None
        dropped += 1


def page_text(items: Iterable[object], most: int = MOST_PAGE_BYTES) -> tuple[str, int]:
    """Return items as a JSON list, and how many of them are in it.

    Args:
        items: the first of them is in it, however long it is.
        most: bytes after which no item is added.
    """
    page: list[str] = []
    size = 0
    for item in items:
        text = _spell(item)
        size += len(text) + 2
        if page and size > most:
            break
        page.append(text)
    return f"[{', '.join(page)}]", len(page)
