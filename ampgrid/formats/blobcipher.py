"""What seals and opens blobs: AES-256-GCM in chunks, under a key of each blob's own.

The key and the commitment come from the user's secret, the blob's name and its salt through
HKDF-SHA-256. A chunk's nonce is its number and whether it is the last, and the preamble is
authenticated with every chunk, so that chunks cannot be changed, cut off, added, repeated,
swapped or carried into another blob. Nothing of a chunk is given out before its tag was checked.

Source: `docs/specs/blobs.md#scheme-1`; the construction is STREAM (Hoang, Reyhanitabar, Rogaway,
Vizár 2015) as age uses it.
"""

from __future__ import annotations

import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ampgrid.crypto.hashing import Buffer
from ampgrid.errors import BadArgumentValueError, InvalidBlobError
from ampgrid.formats.blob import (
    COMMITMENT_SIZE,
    SALT_SIZE,
    TAG_SIZE,
    Preamble,
    framed_name,
    make_preamble,
)
from ampgrid.formats.blobname import BlobName
from ampgrid.ports import Entropy

#: Bounds of a user's secret, bytes.
MIN_SECRET_BYTES = 32
MAX_SECRET_BYTES = 4096

_KEY_SIZE = 32
_INFO = b"ampgrid blob 1:"


def checked_secret(secret: bytes) -> bytes:
    """Return a secret that can be used.

    Raises:
        BadArgumentValueError: it is too short to be one, or too long.
    """
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise BadArgumentValueError(
            f"The secret of blobs has {len(secret)} bytes; at least {MIN_SECRET_BYTES} random "
            f"ones are needed, and at most {MAX_SECRET_BYTES}."
        )
    return secret


class BlobCipher:
    """Seals and opens the chunks of one blob, in any order. It may be used in any thread.

    Made by `sealing` or `opening`.

    Attributes:
        preamble: of the blob.
    """

    __slots__ = ("_aead", "preamble")

    def __init__(self, preamble: Preamble, key: bytes) -> None:
        self.preamble = preamble
        self._aead = AESGCM(key)

    @classmethod
    def sealing(cls, secret: bytes, name: BlobName, size: int, entropy: Entropy) -> BlobCipher:
        """Return what seals a new blob.

        Args:
            secret: the user's, at least 32 bytes.
            name: of the blob.
            size: of its plaintext, bytes.
            entropy: where the salt comes from.

        Raises:
            BadArgumentValueError: the secret or the size is out of bounds.
        """
        salt = entropy(SALT_SIZE)
        key, commitment = _derive(checked_secret(secret), name, salt)
        return cls(make_preamble(name, size, salt, commitment), key)

    @classmethod
    def opening(cls, secret: bytes, name: BlobName, preamble: Preamble) -> BlobCipher:
        """Return what opens a blob.

        Args:
            secret: the user's, at least 32 bytes.
            name: of the blob that was asked for.
            preamble: as it came.

        Raises:
            BadArgumentValueError: the secret is out of bounds.
            InvalidBlobError: it is another blob, or was sealed under another secret.
        """
        if preamble.name != name:
            raise InvalidBlobError(f"The bytes of {name} are those of another blob.")
        key, commitment = _derive(checked_secret(secret), name, preamble.salt)
        if not hmac.compare_digest(commitment, preamble.commitment):
            raise InvalidBlobError(
                f"The blob {name} is damaged, or was sealed with another secret."
            )
        return cls(preamble, key)

    def seal(self, index: int, plain: Buffer) -> bytes:
        """Return a chunk sealed: 16 bytes more than ``plain``.

        Args:
            index: number of the chunk, from 0.
            plain: its plaintext; all of it.

        Raises:
            BadArgumentValueError: the chunk has another size.
        """
        if not self._has(index) or len(plain) != self.preamble.plain_size_of(index):
            raise BadArgumentValueError("The content of the blob has another size than was said.")
        return self._aead.encrypt(self._nonce(index), plain, self.preamble.data)

    def open(self, index: int, sealed: Buffer) -> bytes:
        """Return the plaintext of a chunk.

        Args:
            index: number of the chunk, from 0.
            sealed: its bytes and its tag; all of them.

        Raises:
            InvalidBlobError: it is not the chunk that was sealed.
        """
        try:
            if self._has(index) and len(sealed) == self.preamble.plain_size_of(index) + TAG_SIZE:
                return self._aead.decrypt(self._nonce(index), sealed, self.preamble.data)
        except InvalidTag:
            pass
        raise InvalidBlobError(f"The blob {self.preamble.name} is damaged at chunk {index}.")

    def _has(self, index: int) -> bool:
        return 0 <= index < self.preamble.chunks

    def _nonce(self, index: int) -> bytes:
        return index.to_bytes(11, "big") + bytes([index == self.preamble.chunks - 1])


def _derive(secret: bytes, name: BlobName, salt: bytes) -> tuple[bytes, bytes]:
    """Return the key and the commitment, 32 bytes each."""
    made = HKDF(SHA256(), _KEY_SIZE + COMMITMENT_SIZE, salt, _INFO + framed_name(name))
    both = made.derive(secret)
    return both[:_KEY_SIZE], both[_KEY_SIZE:]
