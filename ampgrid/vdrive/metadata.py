"""What a directory tells of a child beside its cap.

Kept for every child: ``created`` and ``changed`` (seconds since 1970), of a file also ``size``
(bytes) and, where its name tells, ``type`` (content type). Whatever else a caller gives stands
beside these. The bounds of a packed entry are those of `ampgrid.formats.entry`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from mimetypes import MimeTypes
from types import MappingProxyType
from typing import TypeAlias

from ampgrid.errors import BadArgumentValueError

Value: TypeAlias = str | int | float | bool
Metadata: TypeAlias = Mapping[str, Value]

#: What a child has that tells nothing.
NOTHING: Metadata = MappingProxyType({})

#: Taken anew from what is linked, unless the caller gives it.
_OF_THE_CHILD = ("size", "changed", "type")

# The table that Python comes with alone: a name means the same on every machine.
_TYPES = MimeTypes(filenames=())
_PACKED = {
    "br": "application/x-brotli",
    "bzip2": "application/x-bzip2",
    "compress": "application/x-compress",
    "gzip": "application/gzip",
    "xz": "application/x-xz",
}


def guess_type(name: str) -> str | None:
    """Return the content type that a file's name tells, None if it tells none.

    >>> guess_type("notes.txt"), guess_type("photos.tar.gz"), guess_type("README")
    ('text/plain', 'application/gzip', None)
    """
    # What stands before a colon would be taken for the scheme of a URL.
    found, packed = _TYPES.guess_type("./" + name)
    return found if packed is None else _PACKED.get(packed)


def checked(given: Mapping[str, Value]) -> dict[str, Value]:
    """Return a copy of metadata that a caller gave.

    Raises:
        BadArgumentValueError: a key is no text or empty, or a value is no text, number or
            truth value.
    """
    for key, value in given.items():
        if not isinstance(key, str) or not key:
            raise BadArgumentValueError("the keys of metadata are texts, not empty")
        if not isinstance(value, str | int | float):
            raise BadArgumentValueError(f"the metadata {key!r} is no text, number or truth value")
        if isinstance(value, float) and not math.isfinite(value):
            raise BadArgumentValueError(f"the metadata {key!r} is no finite number")
    return dict(given)


def of_child(
    name: str,
    *,
    size: int | None,
    now: float,
    given: Metadata | None = None,
    before: Metadata | None = None,
) -> dict[str, Value]:
    """Return the metadata of a child that is linked now.

    Args:
        name: of the child.
        size: of a file, bytes; None for a directory.
        now: seconds since 1970.
        given: what the caller says of it; without, what was said of its predecessor stays.
        before: the metadata of the child of this name that it replaces.
    """
    kept = given
    if kept is None:
        kept = {k: v for k, v in (before or NOTHING).items() if k not in _OF_THE_CHILD}
    made: dict[str, Value] = {"created": (before or NOTHING).get("created", now), "changed": now}
    if size is not None and (guessed := guess_type(name)) is not None:
        made["type"] = guessed
    made.update(kept)
    if size is not None:
        made["size"] = size
    return made


def renamed(metadata: Metadata, old: str, new: str) -> dict[str, Value]:
    """Return the metadata of a child under a new name: a type that was guessed is guessed anew."""
    moved = dict(metadata)
    if moved.get("type") == guess_type(old) and "size" in moved:
        moved.pop("type", None)
        if (guessed := guess_type(new)) is not None:
            moved["type"] = guessed
    return moved
