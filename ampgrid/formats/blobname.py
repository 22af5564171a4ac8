"""What blobs are called, and the words that may stand beside one.

A blob is named by a namespace and an id. Both consist of letters, digits, ``-`` and ``_`` of
ASCII, so that a name is the same in a path, an address, a file name and a column.

Source: `docs/specs/blobs.md#names`; the alphabet is that of Soledad's blobs server.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable

from attrs import frozen

from ampgrid.errors import BadArgumentValueError, InvalidFlagsError

#: The namespace of blobs that are given none.
DEFAULT_NAMESPACE = "default"
#: The longest namespace and the longest id, characters.
MAX_NAMESPACE = 64
MAX_BLOB_ID = 255

_WORD = re.compile(r"[A-Za-z0-9_-]+")


class Flag(enum.StrEnum):
    """How far an application is with a blob; it says nothing to ampgrid."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    PROCESSED = "PROCESSED"
    FAILED = "FAILED"


@frozen(order=True)
class BlobName:
    """The name of a blob, checked when it is made.

    Attributes:
        namespace: 1 to 64 characters.
        blob_id: 1 to 255 characters.

    Raises:
        BadArgumentValueError: a part is empty, too long or has a character that it must not.
    """

    namespace: str
    blob_id: str

    def __attrs_post_init__(self) -> None:
        checked_namespace(self.namespace)
        _check("The id of a blob", self.blob_id, MAX_BLOB_ID)

    @classmethod
    def of(cls, blob_id: str, namespace: str | None = None) -> BlobName:
        """Return the name of a blob; no namespace, or an empty one, means the default."""
        return cls(namespace or DEFAULT_NAMESPACE, blob_id)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.blob_id}"


def checked_namespace(text: str) -> str:
    """Return a namespace.

    Raises:
        BadArgumentValueError: it is empty, too long, or has a character that it must not.
    """
    return _check("A namespace of blobs", text, MAX_NAMESPACE)


def checked_flags(flags: Iterable[object]) -> tuple[Flag, ...]:
    """Return flags as they are kept: each once, in the order of `Flag`.

    Args:
        flags: their names, or `Flag` themselves.

    Raises:
        InvalidFlagsError: one of them is none.
    """
    if isinstance(flags, str):
        raise InvalidFlagsError("The flags of a blob are a list of names, not one text.")
    wanted = set()
    for flag in flags:
        if not isinstance(flag, str) or flag not in Flag.__members__:
            raise InvalidFlagsError(f"A flag of a blob is one of {', '.join(Flag)}.")
        wanted.add(Flag(flag))
    return tuple(flag for flag in Flag if flag in wanted)


def _check(what: str, text: str, most: int) -> str:
    if not 1 <= len(text) <= most or not _WORD.fullmatch(text):
        raise BadArgumentValueError(
            f"{what} has 1 to {most} characters, letters, digits, - and _ of ASCII."
        )
    return text


def flag_bits(flags: Iterable[Flag]) -> int:
    """Return flags as a sum: 1 PENDING, 2 PROCESSING, 4 PROCESSED, 8 FAILED."""
    wanted = set(flags)
    return sum(1 << place for place, flag in enumerate(Flag) if flag in wanted)


def flags_of_bits(bits: int) -> tuple[Flag, ...]:
    """Return the flags of a sum, 0 to 15, in the order of `Flag`."""
    return tuple(flag for place, flag in enumerate(Flag) if bits >> place & 1)
