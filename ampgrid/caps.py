"""Capabilities: the strings that name files and give the right to read or to check them.

* `ChkCap`: a file in the grid, to read. ``URI:CHK:<key>:<UEB hash>:<k>:<n>:<size>``
* `ChkVerifierCap`: the same, only to check and repair. ``URI:CHK-Verifier:<storage index>:...``
* `LitCap`: a file of at most 55 bytes that is its own cap. ``URI:LIT:<data>``

Neither ``repr`` nor an error message ever shows a key or data. Of what a cap says, the key (or
the storage index) and the UEB hash bind; k, n and size are only claims that are checked against
the URI extension block.

Source: Tahoe-LAFS 1.20 ``uri.py`` (formats); `docs/specs/caps.md`.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from attrs import field, frozen

from ampgrid.crypto.base32 import a2b, b2a
from ampgrid.crypto.hashing import HASH_SIZE, KEY_SIZE, storage_index_hash
from ampgrid.errors import BadCapError, FormatError

#: Files of at most so many bytes are held by their cap itself.
MAX_LIT_SIZE = 55
#: The most shares that a file can have; GF(2**8) has no more.
MAX_SHARES = 256
#: The largest file that a cap can name, bytes: every size and offset of its shares fits 63 bits.
MAX_FILE_SIZE = 2**60

_CHK = re.compile(
    r"URI:(CHK|CHK-Verifier):([a-z2-7]{26}):([a-z2-7]{52})"
    r":([1-9][0-9]{0,2}):([1-9][0-9]{0,2}):([1-9][0-9]{0,18})"
)
_LIT = re.compile(r"URI:LIT:([a-z2-7]*)")
#: No cap is longer, so nothing longer is looked at (seed 001 bounds a URI at 300 too).
_MAX_CAP_CHARACTERS = 300


def _check_numbers(ueb_hash: bytes, needed: int, total: int, size: int) -> None:
    if len(ueb_hash) != HASH_SIZE:
        raise BadCapError("The hash in the cap is not of 32 bytes.")
    if not 1 <= needed <= total <= MAX_SHARES:
        raise BadCapError(
            "The cap asks for an impossible number of shares: 1 <= needed <= total <= 256."
        )
    if not 1 <= size <= MAX_FILE_SIZE:
        raise BadCapError("The cap claims an impossible file size.")


@frozen(repr=False)
class ChkVerifierCap:
    """The right to check and repair a file, without reading it.

    Attributes:
        storage_index: where its shares are, 16 bytes.
        ueb_hash: hash of its URI extension block, 32 bytes.
        needed: number of shares that give it back (k).
        total: number of shares that were made (n).
        size: its size, bytes.
    """

    storage_index: bytes
    ueb_hash: bytes
    needed: int
    total: int
    size: int

    def __attrs_post_init__(self) -> None:
        if len(self.storage_index) != KEY_SIZE:
            raise BadCapError("The storage index in the cap is not of 16 bytes.")
        _check_numbers(self.ueb_hash, self.needed, self.total, self.size)

    def to_string(self) -> str:
        """Spell the cap."""
        return (
            f"URI:CHK-Verifier:{b2a(self.storage_index)}:{b2a(self.ueb_hash)}"
            f":{self.needed}:{self.total}:{self.size}"
        )

    def get_size(self) -> int:
        """Return the size of the file, bytes."""
        return self.size

    def is_readonly(self) -> bool:
        """Tell whether the cap lacks the right to change the object."""
        return True

    def is_mutable(self) -> bool:
        """Tell whether the object can change."""
        return False

    def get_readonly(self) -> ChkVerifierCap:
        """Return the cap without the right to write: itself."""
        return self

    def get_verify_cap(self) -> ChkVerifierCap:
        """Return the cap that only checks: itself."""
        return self

    def __repr__(self) -> str:
        return f"<ChkVerifierCap {self.needed}-of-{self.total}, {self.size} bytes>"


@frozen(repr=False)
class ChkCap:
    """The right to read a file.

    Attributes:
        key: its encryption key, 16 bytes. Secret.
        ueb_hash: hash of its URI extension block, 32 bytes.
        needed: number of shares that give it back (k).
        total: number of shares that were made (n).
        size: its size, bytes.
        storage_index: where its shares are, 16 bytes; derived from the key.
    """

    key: bytes
    ueb_hash: bytes
    needed: int
    total: int
    size: int
    storage_index: bytes = field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if len(self.key) != KEY_SIZE:
            raise BadCapError("The key in the cap is not of 16 bytes.")
        _check_numbers(self.ueb_hash, self.needed, self.total, self.size)
        object.__setattr__(self, "storage_index", storage_index_hash(self.key))

    def to_string(self) -> str:
        """Spell the cap. Whoever has the result can read the file."""
        return (
            f"URI:CHK:{b2a(self.key)}:{b2a(self.ueb_hash)}:{self.needed}:{self.total}:{self.size}"
        )

    def get_size(self) -> int:
        """Return the size of the file, bytes."""
        return self.size

    def is_readonly(self) -> bool:
        """Tell whether the cap lacks the right to change the object."""
        return True

    def is_mutable(self) -> bool:
        """Tell whether the object can change."""
        return False

    def get_readonly(self) -> ChkCap:
        """Return the cap without the right to write: itself."""
        return self

    def get_verify_cap(self) -> ChkVerifierCap:
        """Return the cap that only checks and repairs."""
        return ChkVerifierCap(
            self.storage_index, self.ueb_hash, self.needed, self.total, self.size
        )

    def __repr__(self) -> str:
        return f"<ChkCap {self.needed}-of-{self.total}, {self.size} bytes>"


@frozen(repr=False)
class LitCap:
    """A small file that is its own cap.

    Attributes:
        data: all of the file, at most 55 bytes. Secret.
    """

    data: bytes

    def __attrs_post_init__(self) -> None:
        if len(self.data) > MAX_LIT_SIZE:
            raise BadCapError(f"A LIT cap holds at most {MAX_LIT_SIZE} bytes.")

    def to_string(self) -> str:
        """Spell the cap. Whoever has the result has the file."""
        return f"URI:LIT:{b2a(self.data)}"

    def get_size(self) -> int:
        """Return the size of the file, bytes."""
        return len(self.data)

    def is_readonly(self) -> bool:
        """Tell whether the cap lacks the right to change the object."""
        return True

    def is_mutable(self) -> bool:
        """Tell whether the object can change."""
        return False

    def get_readonly(self) -> LitCap:
        """Return the cap without the right to write: itself."""
        return self

    def get_verify_cap(self) -> None:
        """Return None: there is nothing in the grid to check."""

    def __repr__(self) -> str:
        return f"<LitCap {len(self.data)} bytes>"


Cap: TypeAlias = ChkCap | ChkVerifierCap | LitCap


def parse_cap(text: str) -> Cap:
    """Read a cap; white space around it is ignored, nothing else is forgiven.

    Raises:
        BadCapError: the text is no cap. The message does not repeat it.
    """
    text = text.strip()
    if len(text) > _MAX_CAP_CHARACTERS:
        raise BadCapError("The text is too long for a cap.")
    try:
        if match := _CHK.fullmatch(text):
            kind, first, ueb_hash = match.group(1, 2, 3)
            numbers = [int(digits) for digits in match.group(4, 5, 6)]
            made = ChkCap if kind == "CHK" else ChkVerifierCap
            return made(a2b(first, KEY_SIZE), a2b(ueb_hash, HASH_SIZE), *numbers)
        if match := _LIT.fullmatch(text):
            return LitCap(a2b(match.group(1)))
    except FormatError:
        raise BadCapError("The cap is damaged; copy it again, all of it.") from None
    if text.startswith(("URI:CHK:", "URI:CHK-Verifier:", "URI:LIT:")):
        raise BadCapError("The cap is cut short or damaged; copy it again, all of it.")
    if text.startswith("URI:"):
        raise BadCapError("The text is a cap of a kind that ampgrid does not know.")
    raise BadCapError("The text is no cap; caps of files begin with URI:CHK: or URI:LIT:.")
