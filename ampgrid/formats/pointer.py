"""Pointers: where the last sealed snapshot of a directory lies, signed with its key.

Layout, integers big-endian::

    4    magic "AGS1"
    32   index of the directory
    32   its verifying key
    4    epoch of the record in the snapshot
    8    version of that record
    2    length of the sealed cap, bytes
         the sealed cap: a nonce of 12 random bytes, the ciphertext of AES-256-GCM, its tag
    64   signature over all before it

Who keeps a pointer keeps the later one of two: later by epoch, then by version. Only who can read
the directory learns where the snapshot is.

Source: `docs/specs/directories.md#pointer`.
"""

from __future__ import annotations

import os
import struct

from attrs import field, frozen
from cryptography.exceptions import InvalidTag

from ampgrid.caps import FileCap, parse_file_cap
from ampgrid.crypto.directory_keys import (
    FINGERPRINT_SIZE,
    VERIFYING_KEY_SIZE,
    ReadKeys,
    WriteKeys,
    check_signature,
)
from ampgrid.crypto.identity import SIGNATURE_SIZE
from ampgrid.errors import BadCapError, FormatError, IntegrityError
from ampgrid.formats.ballot import MAX_EPOCH, check_ownership
from ampgrid.ports import Entropy

#: The longest sealed cap, bytes.
MAX_SEALED_BYTES = 600

_DOMAIN = b"directory pointer"
_MAGIC = b"AGS1"
_HEAD = struct.Struct(f">4s{FINGERPRINT_SIZE}s{VERIFYING_KEY_SIZE}sLQH")
_BOUND = struct.Struct(">LQ")
_SEAL_DOMAIN = b"ampgrid directory pointer 1"
_NONCE_SIZE = 12
_SEAL_OVERHEAD = _NONCE_SIZE + 16
_MAX_VERSION = 2**64 - 1
#: The longest pointer, bytes.
MAX_POINTER_BYTES = _HEAD.size + MAX_SEALED_BYTES + SIGNATURE_SIZE


@frozen
class Pointer:
    """Where a snapshot of a directory lies.

    Attributes:
        index: of the directory, 32 bytes.
        verifying_key: of the directory, 32 bytes.
        epoch: of the record in the snapshot.
        version: of the record in the snapshot.
        sealed: the snapshot file's cap, under a key that readers of the directory have.
        signature: 64 bytes; nothing is known of it before `check`.
    """

    index: bytes = field(repr=lambda index: index.hex()[:8])
    verifying_key: bytes = field(repr=False)
    epoch: int
    version: int
    sealed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def __attrs_post_init__(self) -> None:
        if not (
            len(self.index) == FINGERPRINT_SIZE
            and len(self.verifying_key) == VERIFYING_KEY_SIZE
            and len(self.signature) == SIGNATURE_SIZE
            and _SEAL_OVERHEAD < len(self.sealed) <= MAX_SEALED_BYTES
        ):
            raise FormatError("A part of the pointer is of another length than it must be.")
        if not (0 <= self.epoch <= MAX_EPOCH and 1 <= self.version <= _MAX_VERSION):
            raise FormatError("The epoch or the version of the pointer is out of bounds.")

    @property
    def order(self) -> tuple[int, int]:
        """By which the later one of two pointers is told: epoch and version."""
        return self.epoch, self.version

    @classmethod
    def make(
        cls,
        keys: WriteKeys,
        *,
        epoch: int,
        version: int,
        cap: FileCap,
        entropy: Entropy = os.urandom,
    ) -> Pointer:
        """Point to the file ``cap``, which holds the record ``version`` of ``epoch``."""
        nonce = entropy(_NONCE_SIZE)
        bound = _bound(keys.fingerprint, epoch, version)
        plain = cap.to_string().encode("ascii")
        sealed = nonce + keys.read.pointer_cipher.encrypt(nonce, plain, bound)
        body = _body(keys.fingerprint, keys.verifying_key, epoch, version, sealed)
        signature = keys.sign(_DOMAIN, body)
        return cls(keys.fingerprint, keys.verifying_key, epoch, version, sealed, signature)

    def open(self, keys: ReadKeys) -> FileCap:
        """Return the cap of the snapshot file.

        Raises:
            IntegrityError: it was not sealed for this directory by who can read it.
            FormatError: it was, but is no cap of a file.
        """
        nonce, ciphertext = self.sealed[:_NONCE_SIZE], self.sealed[_NONCE_SIZE:]
        bound = _bound(self.index, self.epoch, self.version)
        try:
            plain = keys.pointer_cipher.decrypt(nonce, ciphertext, bound)
            return parse_file_cap(plain.decode("ascii"))
        except InvalidTag:
            raise IntegrityError("The pointer to the snapshot cannot be opened.") from None
        except (UnicodeDecodeError, BadCapError):
            raise FormatError("The pointer to the snapshot holds no cap of a file.") from None

    def pack(self) -> bytes:
        """Return what `unpack` reads, at most `MAX_POINTER_BYTES` bytes."""
        return self._signed_bytes + self.signature

    @classmethod
    def unpack(cls, packed: bytes) -> Pointer:
        """Read a pointer, without checking its signature.

        Raises:
            FormatError: it is malformed.
        """
        if not _HEAD.size + SIGNATURE_SIZE <= len(packed) <= MAX_POINTER_BYTES:
            raise FormatError("The pointer is too short or too long.")
        magic, index, verifying_key, epoch, version, length = _HEAD.unpack_from(packed)
        end = _HEAD.size + length
        if magic != _MAGIC:
            raise FormatError("The pointer is of an unknown form.")
        if end + SIGNATURE_SIZE != len(packed):
            raise FormatError("The lengths in the pointer do not add up.")
        return cls(index, verifying_key, epoch, version, packed[_HEAD.size : end], packed[end:])

    def check(self, index: bytes) -> None:
        """Check that who holds the write key of the directory ``index`` signed this.

        Raises:
            IntegrityError: it is of another directory, or the signature does not hold.
        """
        check_ownership(self.index, self.verifying_key, index)
        check_signature(self.verifying_key, _DOMAIN, self._signed_bytes, self.signature)

    @property
    def _signed_bytes(self) -> bytes:
        return _body(self.index, self.verifying_key, self.epoch, self.version, self.sealed)


def _body(index: bytes, verifying_key: bytes, epoch: int, version: int, sealed: bytes) -> bytes:
    return _HEAD.pack(_MAGIC, index, verifying_key, epoch, version, len(sealed)) + sealed


def _bound(index: bytes, epoch: int, version: int) -> bytes:
    return _SEAL_DOMAIN + index + _BOUND.pack(epoch, version)
