"""Capabilities: the strings that name files and directories and give rights to them.

* `ChkCap`: a file in the grid, to read. ``URI:CHK:<key>:<UEB hash>:<k>:<n>:<size>``
* `ChkVerifierCap`: the same, only to check and repair. ``URI:CHK-Verifier:<storage index>:...``
* `LitCap`: a file of at most 1,024 bytes that is its own cap. ``URI:LIT:<data>``
* `DirCap`: a directory, to read and to change. ``URI:DIR:<write key>:<fingerprint>``
* `DirReadCap`: the same, only to read. ``URI:DIR-RO:<read key>:<fingerprint>``
* `DirVerifierCap`: the same, only to check and repair. ``URI:DIR-Verifier:<fingerprint>``

Neither ``repr`` nor an error message ever shows a key or data. Of what the cap of a file says,
the key (or the storage index) and the UEB hash bind; k, n and size are only claims that are
checked against the URI extension block.

Source: Tahoe-LAFS 1.20 ``uri.py`` (formats of files); `docs/specs/caps.md`.
"""

from __future__ import annotations

import hmac
import os
import re
from functools import cached_property, lru_cache
from typing import TypeAlias

from attrs import field, frozen

from ampgrid.crypto.base32 import a2b, b2a
from ampgrid.crypto.directory_keys import FINGERPRINT_SIZE, ReadKeys, WriteKeys
from ampgrid.crypto.hashing import HASH_SIZE, KEY_SIZE, storage_index_hash
from ampgrid.errors import BadCapError, FormatError
from ampgrid.ports import Entropy

#: Files of at most so many bytes are always held by their cap itself.
MAX_LIT_SIZE = 55
#: What is put into a directory is held by its entry there, as a LIT cap, up to so many bytes: in
#: four replicas it takes at most a third more space than as five shares, and one round of writes
#: instead of two (``docs/specs/directories.md#small-files``).
MAX_INLINE_SIZE = 1024
#: The most shares that a file can have; GF(2**8) has no more.
MAX_SHARES = 256
#: The largest file that a cap can name, bytes: every size and offset of its shares fits 63 bits.
MAX_FILE_SIZE = 2**60

_CHK = re.compile(
    r"URI:(CHK|CHK-Verifier):([a-z2-7]{26}):([a-z2-7]{52})"
    r":([1-9][0-9]{0,2}):([1-9][0-9]{0,2}):([1-9][0-9]{0,18})"
)
_LIT = re.compile(r"URI:LIT:([a-z2-7]*)")
_DIR = re.compile(r"URI:DIR(-RO)?:([a-z2-7]{26}):([a-z2-7]{52})")
_DIR_VERIFIER = re.compile(r"URI:DIR-Verifier:([a-z2-7]{52})")
_KNOWN_STARTS = (
    "URI:CHK:",
    "URI:CHK-Verifier:",
    "URI:LIT:",
    "URI:DIR:",
    "URI:DIR-RO:",
    "URI:DIR-Verifier:",
)
#: No cap is longer, so nothing longer is looked at: a LIT cap of 1,024 bytes.
MAX_CAP_CHARACTERS = len("URI:LIT:") + -(-MAX_INLINE_SIZE * 8 // 5)
#: No other cap is longer, those of directories among them (seed 001 bounds a URI at 300 too).
MAX_KEY_CAP_CHARACTERS = 300
#: So many caps of directories are kept with their keys.
_CAPS_KEPT = 64


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
        data: all of the file, at most 1,024 bytes. Secret.
    """

    data: bytes

    def __attrs_post_init__(self) -> None:
        if len(self.data) > MAX_INLINE_SIZE:
            raise BadCapError(f"A LIT cap holds at most {MAX_INLINE_SIZE} bytes.")

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


def _check_directory(fingerprint: bytes, key: bytes = bytes(KEY_SIZE)) -> None:
    if len(key) != KEY_SIZE:
        raise BadCapError("The key in the cap of a directory is not of 16 bytes.")
    if len(fingerprint) != FINGERPRINT_SIZE:
        raise BadCapError("The fingerprint in the cap of a directory is not of 32 bytes.")


@frozen(repr=False)
class DirVerifierCap:
    """The right to check and repair a directory, without reading it.

    Attributes:
        fingerprint: hash of the directory's verifying key, 32 bytes.
    """

    fingerprint: bytes

    def __attrs_post_init__(self) -> None:
        _check_directory(self.fingerprint)

    @property
    def index(self) -> bytes:
        """Where the directory is, 32 bytes: its fingerprint."""
        return self.fingerprint

    def to_string(self) -> str:
        """Spell the cap."""
        return f"URI:DIR-Verifier:{b2a(self.fingerprint)}"

    def is_readonly(self) -> bool:
        """Tell whether the cap lacks the right to change the object."""
        return True

    def is_mutable(self) -> bool:
        """Tell whether the object can change."""
        return True

    def get_readonly(self) -> DirVerifierCap:
        """Return the cap without the right to write: itself."""
        return self

    def get_verify_cap(self) -> DirVerifierCap:
        """Return the cap that only checks: itself."""
        return self

    def __repr__(self) -> str:
        return f"<DirVerifierCap {b2a(self.fingerprint)[:8]}>"


# These two have a __dict__, for the keys that are derived once.
@frozen(repr=False, slots=False)
class DirReadCap:
    """The right to read a directory, and so all that is below it.

    Attributes:
        read_key: 16 bytes. Secret.
        fingerprint: hash of the directory's verifying key, 32 bytes.
    """

    read_key: bytes
    fingerprint: bytes

    def __attrs_post_init__(self) -> None:
        _check_directory(self.fingerprint, self.read_key)

    @property
    def index(self) -> bytes:
        """Where the directory is, 32 bytes: its fingerprint."""
        return self.fingerprint

    @cached_property
    def keys(self) -> ReadKeys:
        """What reads the directory. That the two parts belong together shows at its entries."""
        return ReadKeys(self.read_key)

    def to_string(self) -> str:
        """Spell the cap. Whoever has the result can read the directory."""
        return f"URI:DIR-RO:{b2a(self.read_key)}:{b2a(self.fingerprint)}"

    def is_readonly(self) -> bool:
        """Tell whether the cap lacks the right to change the object."""
        return True

    def is_mutable(self) -> bool:
        """Tell whether the object can change."""
        return True

    def get_readonly(self) -> DirReadCap:
        """Return the cap without the right to write: itself."""
        return self

    def get_verify_cap(self) -> DirVerifierCap:
        """Return the cap that only checks and repairs."""
        return DirVerifierCap(self.fingerprint)

    def __repr__(self) -> str:
        return f"<DirReadCap {b2a(self.fingerprint)[:8]}>"


@frozen(repr=False, slots=False)
class DirCap:
    """The right to read and to change a directory, and all that is below it.

    Attributes:
        write_key: 16 bytes. Secret.
        fingerprint: hash of the directory's verifying key, 32 bytes. That it is the one of this
            write key is checked when ``keys`` is first asked for.
    """

    write_key: bytes
    fingerprint: bytes

    def __attrs_post_init__(self) -> None:
        _check_directory(self.fingerprint, self.write_key)

    @classmethod
    def create(cls, entropy: Entropy = os.urandom) -> DirCap:
        """Make the cap of a new directory from 16 bytes of ``entropy``."""
        keys = WriteKeys(entropy(KEY_SIZE))
        return cls(keys.write_key, keys.fingerprint)

    @property
    def index(self) -> bytes:
        """Where the directory is, 32 bytes: its fingerprint."""
        return self.fingerprint

    @cached_property
    def keys(self) -> WriteKeys:
        """What changes the directory.

        Raises:
            BadCapError: the write key and the fingerprint are not of one directory.
        """
        keys = WriteKeys(self.write_key)
        if not hmac.compare_digest(keys.fingerprint, self.fingerprint):
            raise BadCapError("The two parts of the cap do not belong together; copy it again.")
        return keys

    def to_string(self) -> str:
        """Spell the cap. Whoever has the result can change the directory."""
        return f"URI:DIR:{b2a(self.write_key)}:{b2a(self.fingerprint)}"

    def is_readonly(self) -> bool:
        """Tell whether the cap lacks the right to change the object."""
        return False

    def is_mutable(self) -> bool:
        """Tell whether the object can change."""
        return True

    def get_readonly(self) -> DirReadCap:
        """Return the cap without the right to write.

        Raises:
            BadCapError: the write key and the fingerprint are not of one directory.
        """
        return DirReadCap(self.keys.read.read_key, self.fingerprint)

    def get_verify_cap(self) -> DirVerifierCap:
        """Return the cap that only checks and repairs."""
        return DirVerifierCap(self.fingerprint)

    def __repr__(self) -> str:
        return f"<DirCap {b2a(self.fingerprint)[:8]}>"


FileCap: TypeAlias = ChkCap | ChkVerifierCap | LitCap
DirectoryCap: TypeAlias = DirCap | DirReadCap | DirVerifierCap
Cap: TypeAlias = FileCap | DirectoryCap


def parse_cap(text: str) -> Cap:
    """Read a cap; white space around it is ignored, nothing else is forgiven.

    Raises:
        BadCapError: the text is no cap. The message does not repeat it.
    """
    text = text.strip()
    longest = MAX_CAP_CHARACTERS if text.startswith("URI:LIT:") else MAX_KEY_CAP_CHARACTERS
    if len(text) > longest:
        raise BadCapError("The text is too long for a cap.")
    try:
        cap = _parse_directory_cap(text) if text.startswith("URI:DIR") else _parse_file_cap(text)
    except FormatError:
        raise BadCapError("The cap is damaged; copy it again, all of it.") from None
    if cap is not None:
        return cap
    if text.startswith(_KNOWN_STARTS):
        raise BadCapError("The cap is cut short or damaged; copy it again, all of it.")
    if text.startswith("URI:"):
        raise BadCapError("The text is a cap of a kind that ampgrid does not know.")
    raise BadCapError("The text is no cap; caps begin with URI:CHK:, URI:LIT: or URI:DIR.")


def parse_file_cap(text: str) -> FileCap:
    """Read the cap of a file, as `parse_cap` does.

    Raises:
        BadCapError: the text is no cap, or the cap of a directory.
    """
    cap = parse_cap(text)
    if isinstance(cap, DirCap | DirReadCap | DirVerifierCap):
        raise BadCapError(
            "This is the cap of a directory; give the cap of a file, which begins with URI:CHK:"
            " or URI:LIT:."
        )
    return cap


def _parse_file_cap(text: str) -> FileCap | None:
    if match := _CHK.fullmatch(text):
        kind, first, ueb_hash = match.group(1, 2, 3)
        numbers = [int(digits) for digits in match.group(4, 5, 6)]
        made = ChkCap if kind == "CHK" else ChkVerifierCap
        return made(a2b(first, KEY_SIZE), a2b(ueb_hash, HASH_SIZE), *numbers)
    if match := _LIT.fullmatch(text):
        return LitCap(a2b(match.group(1)))
    return None


# Who works in a directory names it again and again, and its keys are derived from the cap.
@lru_cache(_CAPS_KEPT)
def _parse_directory_cap(text: str) -> DirectoryCap | None:
    if match := _DIR.fullmatch(text):
        readonly, key, fingerprint = match.groups()
        made = DirReadCap if readonly else DirCap
        return made(a2b(key, KEY_SIZE), a2b(fingerprint, FINGERPRINT_SIZE))
    if match := _DIR_VERIFIER.fullmatch(text):
        return DirVerifierCap(a2b(match.group(1), FINGERPRINT_SIZE))
    return None
