"""The keys of a directory: to write, to read, and what is derived from both.

::

    write key (16, random) ─┬─> signing seed (32) ─> Ed25519 key ─> index = fingerprint (32)
                            ├─> write slot key (32)
                            └─> read key (16) ─┬─> read slot key (32)
                                               ├─> name key (32)
                                               └─> pointer key (32)

Every arrow but the signing key's own is `ampgrid.crypto.hashing.tagged_hash`, so nothing on the
right gives anything on its left. What is derived is derived when first asked for, and kept.

Source: `docs/specs/directories.md#keys`.
"""

from __future__ import annotations

import hmac
import unicodedata
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ampgrid.crypto.hashing import KEY_SIZE, tagged_hash
from ampgrid.crypto.identity import RAW_KEY_SIZE, check_signature, framed
from ampgrid.errors import BadNameError

__all__ = ["ReadKeys", "WriteKeys", "check_signature", "fingerprint_of"]

#: Length of a fingerprint and index, and of a slot, bytes.
FINGERPRINT_SIZE = 32
SLOT_SIZE = 32
#: Length of a verifying key, bytes.
VERIFYING_KEY_SIZE = RAW_KEY_SIZE

TAG_SIGNING_SEED = b"ampgrid_directory_signing_seed_v1"
TAG_READ_KEY = b"ampgrid_directory_read_key_v1"
TAG_WRITE_SLOT_KEY = b"ampgrid_directory_write_slot_key_v1"
TAG_READ_SLOT_KEY = b"ampgrid_directory_read_slot_key_v1"
TAG_NAME_KEY = b"ampgrid_directory_name_key_v1"
TAG_POINTER_KEY = b"ampgrid_directory_pointer_key_v1"
TAG_INDEX = b"ampgrid_directory_index_v1"


def fingerprint_of(verifying_key: bytes) -> bytes:
    """Return the index, 32 bytes, of the directory that ``verifying_key``, 32 bytes, signs for."""
    return tagged_hash(TAG_INDEX, verifying_key)


class ReadKeys:
    """What reads a directory.

    Args:
        read_key: 16 bytes. Secret.
    """

    def __init__(self, read_key: bytes) -> None:
        if len(read_key) != KEY_SIZE:
            raise ValueError("the read key of a directory has 16 bytes")
        self.read_key = read_key

    @cached_property
    def read_slot_key(self) -> bytes:
        """The key of every entry's read part, 32 bytes."""
        return tagged_hash(TAG_READ_SLOT_KEY, self.read_key)

    @cached_property
    def name_key(self) -> bytes:
        """The key that turns names into slots, 32 bytes."""
        return tagged_hash(TAG_NAME_KEY, self.read_key)

    @cached_property
    def read_cipher(self) -> AESGCM:
        """The cipher of every entry's read part."""
        return AESGCM(self.read_slot_key)

    @cached_property
    def pointer_cipher(self) -> AESGCM:
        """The cipher of the pointer to the directory's snapshot."""
        return AESGCM(tagged_hash(TAG_POINTER_KEY, self.read_key))

    def slot_of(self, name: str) -> bytes:
        """Return the slot, 32 bytes, at which a child of that name stands.

        Raises:
            BadNameError: the name is no text that UTF-8 can hold.
        """
        try:
            spelled = unicodedata.normalize("NFC", name).encode("utf-8")
        except UnicodeEncodeError:
            raise BadNameError("The name is no text that UTF-8 can hold.") from None
        return hmac.digest(self.name_key, spelled, "sha256")

    def __repr__(self) -> str:
        return "<ReadKeys>"


class WriteKeys:
    """What changes a directory.

    Args:
        write_key: 16 bytes. Secret.
    """

    def __init__(self, write_key: bytes) -> None:
        if len(write_key) != KEY_SIZE:
            raise ValueError("the write key of a directory has 16 bytes")
        self.write_key = write_key

    @cached_property
    def _signing_key(self) -> Ed25519PrivateKey:
        seed = tagged_hash(TAG_SIGNING_SEED, self.write_key)
        return Ed25519PrivateKey.from_private_bytes(seed)

    @cached_property
    def verifying_key(self) -> bytes:
        """The public key against which its records are checked, 32 bytes."""
        return self._signing_key.public_key().public_bytes_raw()

    @cached_property
    def fingerprint(self) -> bytes:
        """The index under which replicas keep the directory, 32 bytes."""
        return fingerprint_of(self.verifying_key)

    @cached_property
    def read(self) -> ReadKeys:
        """What reads the directory."""
        return ReadKeys(tagged_hash(TAG_READ_KEY, self.write_key, KEY_SIZE))

    @cached_property
    def write_slot_key(self) -> bytes:
        """The key of every entry's write part, 32 bytes."""
        return tagged_hash(TAG_WRITE_SLOT_KEY, self.write_key)

    @cached_property
    def write_cipher(self) -> AESGCM:
        """The cipher of every entry's write part."""
        return AESGCM(self.write_slot_key)

    def sign(self, domain: bytes, message: bytes) -> bytes:
        """Sign a statement of the kind ``domain``; returns 64 bytes for `check_signature`."""
        return self._signing_key.sign(framed(domain, message))

    def __repr__(self) -> str:
        return "<WriteKeys>"
