"""How the key of a local store of blobs comes of what its user gives.

Layout of the key file, integers big-endian::

    0   8   magic "AMPBKEY1"
    8   1   format of SQLCipher in which the store was written, 3 or 4
    9   1   number of slots, 1; 2 while the store is being given another key
    10      slots, 58 bytes each:
            1   0 for a key as it is, 1 for a passphrase through Argon2id (version 0x13)
            1   lanes      4   passes      4   memory, KiB      all 0 for a key as it is
            16  salt, zeros for a key as it is
            32  check: HMAC-SHA-256 over "ampgrid blob store 1" under the key of the store

The file holds nothing secret; without it a passphrase opens nothing.

Source: `docs/specs/blobs.md#the-local-store`; RFC 9106.
"""

from __future__ import annotations

import hmac
import struct
from hashlib import sha256

from attrs import field, frozen

from ampgrid.crypto.sealed import DEFAULT_COST, SALT_SIZE, Cost, is_within_bounds, stretch
from ampgrid.errors import BadArgumentValueError, FormatError
from ampgrid.ports import Entropy

#: The largest key file, bytes.
MAX_KEY_FILE_BYTES = 256
#: Length of the key of a store, bytes.
KEY_SIZE = 32

_MAGIC = b"AMPBKEY1"
_HEAD = struct.Struct(">8sBB")
_SLOT = struct.Struct(f">BBLL{SALT_SIZE}s32s")
_NO_COST = Cost(0, 0, 0)
_FORMATS = (3, 4)


@frozen
class Slot:
    """One way to the key.

    Attributes:
        cost: of a guess at the passphrase; None for a key as it is.
        salt: 16 bytes; zeros for a key as it is.
        check: 32 bytes that tell the right key from others.
    """

    cost: Cost | None
    salt: bytes
    check: bytes = field(repr=False)


@frozen
class KeyFile:
    """A key file.

    Attributes:
        cipher_format: of SQLCipher, 3 or 4.
        slots: one or two.
    """

    cipher_format: int
    slots: tuple[Slot, ...]

    def pack(self) -> bytes:
        """Spell it."""
        parts = [_HEAD.pack(_MAGIC, self.cipher_format, len(self.slots))]
        for slot in self.slots:
            cost = slot.cost or _NO_COST
            kind = slot.cost is not None
            parts.append(
                _SLOT.pack(kind, cost.lanes, cost.passes, cost.memory_kib, slot.salt, slot.check)
            )
        return b"".join(parts)

    @classmethod
    def unpack(cls, data: bytes) -> KeyFile:
        """Read what `pack` wrote.

        Raises:
            FormatError: it is malformed, of an unknown version, or asks for too much.
        """
        error = FormatError("The key file of the store of blobs is damaged, or of another kind.")
        if len(data) < _HEAD.size:
            raise error
        magic, cipher_format, count = _HEAD.unpack_from(data)
        if magic != _MAGIC or cipher_format not in _FORMATS or count not in (1, 2):
            raise error
        if len(data) != _HEAD.size + count * _SLOT.size:
            raise error
        slots = []
        for number in range(count):
            kind, lanes, passes, memory, salt, check = _SLOT.unpack_from(
                data, _HEAD.size + number * _SLOT.size
            )
            cost = Cost(passes, memory, lanes)
            if kind == 0 and cost == _NO_COST and salt == bytes(SALT_SIZE):
                slots.append(Slot(None, salt, check))
            elif kind == 1 and is_within_bounds(cost):
                slots.append(Slot(cost, salt, check))
            else:
                raise error
        return cls(cipher_format, tuple(slots))


def new_slot(
    opener: bytes | str, entropy: Entropy, cost: Cost = DEFAULT_COST
) -> tuple[Slot, bytes]:
    """Make a slot for what a user gives; return it and the key.

    Args:
        opener: a key of 32 bytes, or a passphrase.
        entropy: where the salt comes from.
        cost: of a guess at the passphrase.

    Raises:
        BadArgumentValueError: it is no key, or no passphrase.
    """
    if isinstance(opener, str):
        salt = entropy(SALT_SIZE)
        key = stretch(opener, salt, cost)
        return Slot(cost, salt, _check_of(key)), key
    key = _checked_key(opener)
    return Slot(None, bytes(SALT_SIZE), _check_of(key)), key


def key_of(slot: Slot, opener: bytes | str) -> bytes | None:
    """Return the key of the store, None if ``opener`` is not what the slot was made for."""
    if isinstance(opener, str) != (slot.cost is not None):
        return None
    if isinstance(opener, str):
        assert slot.cost is not None
        key = stretch(opener, slot.salt, slot.cost)
    else:
        key = _checked_key(opener)
    return key if hmac.compare_digest(_check_of(key), slot.check) else None


def _checked_key(key: bytes) -> bytes:
    if len(key) != KEY_SIZE:
        raise BadArgumentValueError(f"The key of a store of blobs has {KEY_SIZE} bytes.")
    return key


def _check_of(key: bytes) -> bytes:
    return hmac.digest(key, b"ampgrid blob store 1", sha256)
