"""Bytes sealed under a passphrase: Argon2id, a key commitment, AES-256-GCM.

Layout, integers big-endian::

    0   8   magic "AMPSEAL1"
    8   1   key derivation: 1 is Argon2id, version 0x13
    9   1   lanes
    10  4   passes
    14  4   memory, KiB
    18  16  salt
    34  8   length of what is sealed, bytes
    42  32  commitment to the key
    74      what is sealed, enciphered, and the tag of 16 bytes

Argon2id gives 32 bytes from the passphrase and the salt; HKDF-SHA-256 makes of them the key and
the commitment, under the purpose of what is sealed, so that nothing opens in the place of
something else. The salt, and with it the key, is fresh each time, so the nonce is zero. All 74
bytes before the ciphertext are authenticated with it. The commitment is compared first, in
constant time: without it one file could open under two passphrases (AES-GCM commits to no key).

Source: `docs/specs/recovery.md`; RFC 9106, RFC 5869, NIST SP 800-38D.
"""

from __future__ import annotations

import hmac
import os
import struct
import unicodedata

from argon2.exceptions import HashingError
from argon2.low_level import Type, hash_secret_raw
from attrs import frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ampgrid.errors import BadArgumentValueError, IntegrityError
from ampgrid.ports import Entropy

#: The most that can be sealed, bytes; it is held in memory several times over.
MAX_SEALED_BYTES = 256 * 1024 * 1024
#: Length of a salt, bytes.
SALT_SIZE = 16
#: The longest passphrase, bytes of UTF-8.
MAX_PASSPHRASE_BYTES = 1024
#: How everything sealed begins.
MAGIC = b"AMPSEAL1"

_ARGON2ID = 1
_ARGON2_VERSION = 0x13
_KEY_SIZE = 32
_TAG_SIZE = 16
_HEADER = struct.Struct(f">8sBBLL{SALT_SIZE}sQ")
_NONCE = bytes(12)

#: Length of everything before the ciphertext, bytes.
HEADER_SIZE = _HEADER.size + _KEY_SIZE
#: What a sealed file is longer than what is in it, bytes.
OVERHEAD = HEADER_SIZE + _TAG_SIZE

#: The one thing that is told of whatever cannot be opened: more would be an oracle.
_CANNOT_OPEN = (
    "It cannot be opened: the passphrase is wrong, or the file is damaged or of another kind."
)


@frozen
class Cost:
    """What a guess at the passphrase costs.

    Attributes:
        passes: over the memory (t).
        memory_kib: memory, KiB (m); at least 8 a lane.
        lanes: that can run at once (p).
    """

    passes: int = 3
    memory_kib: int = 64 * 1024
    lanes: int = 4


#: The second recommended choice of RFC 9106.
DEFAULT_COST = Cost()
#: What a file may ask of who opens it: 2 GiB is the first recommended choice.
MOST_COST = Cost(passes=16, memory_kib=2 * 1024 * 1024, lanes=16)


def seal(
    data: bytes,
    passphrase: str,
    purpose: bytes,
    *,
    entropy: Entropy = os.urandom,
    cost: Cost = DEFAULT_COST,
) -> bytes:
    """Seal ``data`` under a passphrase.

    Args:
        data: at most `MAX_SEALED_BYTES` bytes.
        passphrase: any text but none; it is normalised (NFC), so that it opens from any keyboard.
        purpose: what kind of thing is sealed; `open_sealed` must name the same.
        entropy: where the salt comes from.
        cost: of a guess, within `MOST_COST`.

    Returns:
        `OVERHEAD` bytes more than ``data`` has.

    Raises:
        BadArgumentValueError: the passphrase is empty or too long, or there is too much data.
    """
    if len(data) > MAX_SEALED_BYTES:
        raise BadArgumentValueError(f"More than {MAX_SEALED_BYTES} bytes cannot be sealed.")
    if not is_within_bounds(cost):
        raise BadArgumentValueError("The cost of the passphrase is out of bounds.")
    secret = _spelled(passphrase)
    salt = entropy(SALT_SIZE)
    head = _HEADER.pack(
        MAGIC, _ARGON2ID, cost.lanes, cost.passes, cost.memory_kib, salt, len(data)
    )
    key, commitment = _derive(secret, salt, cost, purpose)
    header = head + commitment
    return header + AESGCM(key).encrypt(_NONCE, data, header)


def open_sealed(sealed: bytes, passphrase: str, purpose: bytes) -> bytes:
    """Return what `seal` sealed.

    Args:
        sealed: all bytes.
        passphrase: the same text.
        purpose: the same purpose.

    Raises:
        IntegrityError: it does not open; always the same, whatever the reason.
    """
    error = IntegrityError(_CANNOT_OPEN)
    if not OVERHEAD <= len(sealed) <= OVERHEAD + MAX_SEALED_BYTES:
        raise error
    magic, kind, lanes, passes, memory_kib, salt, length = _HEADER.unpack_from(sealed)
    cost = Cost(passes, memory_kib, lanes)
    if magic != MAGIC or kind != _ARGON2ID or not is_within_bounds(cost):
        raise error
    if length != len(sealed) - OVERHEAD:
        raise error
    header, ciphertext = sealed[:HEADER_SIZE], memoryview(sealed)[HEADER_SIZE:]
    try:
        key, commitment = _derive(_spelled(passphrase), salt, cost, purpose)
        if not hmac.compare_digest(commitment, header[_HEADER.size :]):
            raise error
        return AESGCM(key).decrypt(_NONCE, ciphertext, header)
    except (InvalidTag, HashingError, BadArgumentValueError):
        raise error from None


def stretch(passphrase: str, salt: bytes, cost: Cost) -> bytes:
    """Return 32 bytes that come of a passphrase, at a cost to who guesses (Argon2id).

    Args:
        passphrase: any text but none; it is normalised (NFC).
        salt: `SALT_SIZE` bytes.
        cost: within `MOST_COST`.

    Raises:
        BadArgumentValueError: the passphrase is empty or too long, or the cost out of bounds.
    """
    if not is_within_bounds(cost):
        raise BadArgumentValueError("The cost of the passphrase is out of bounds.")
    return _stretch(_spelled(passphrase), salt, cost)


def is_within_bounds(cost: Cost) -> bool:
    """Tell whether a cost can be paid."""
    return (
        1 <= cost.passes <= MOST_COST.passes
        and 1 <= cost.lanes <= MOST_COST.lanes
        and 8 * cost.lanes <= cost.memory_kib <= MOST_COST.memory_kib
    )


def _spelled(passphrase: str) -> bytes:
    """Return the bytes of a passphrase.

    Raises:
        BadArgumentValueError: it is empty, too long or no text.
    """
    try:
        spelled = unicodedata.normalize("NFC", passphrase).encode("utf-8")
    except UnicodeEncodeError:
        raise BadArgumentValueError("The passphrase is no text that UTF-8 can hold.") from None
    if not 1 <= len(spelled) <= MAX_PASSPHRASE_BYTES:
        raise BadArgumentValueError(f"A passphrase has 1 to {MAX_PASSPHRASE_BYTES} bytes.")
    return spelled


def _derive(secret: bytes, salt: bytes, cost: Cost, purpose: bytes) -> tuple[bytes, bytes]:
    """Return the key and the commitment to it, 32 bytes each."""
    stretched = _stretch(secret, salt, cost)
    made = HKDF(SHA256(), 2 * _KEY_SIZE, salt=None, info=b"ampgrid sealed 1: " + purpose)
    both = made.derive(stretched)
    return both[:_KEY_SIZE], both[_KEY_SIZE:]


def _stretch(secret: bytes, salt: bytes, cost: Cost) -> bytes:
    return hash_secret_raw(
        secret,
        salt,
        time_cost=cost.passes,
        memory_cost=cost.memory_kib,
        parallelism=cost.lanes,
        hash_len=_KEY_SIZE,
        type=Type.ID,
        version=_ARGON2_VERSION,
    )
