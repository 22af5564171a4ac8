"""The hashes of the file format: SHA-256d under a tag for each use, as Tahoe-LAFS has them.

``H`` is SHA-256 of SHA-256. A tagged hash is ``H(netstring(tag) + value)``; a tagged pair hash
is ``H(netstring(tag) + netstring(a) + netstring(b))``. All functions take any bytes-like object
without copying it, and hashlib releases the interpreter lock over long ones.

Source: `docs/specs/share.md`; the tags are those of Tahoe-LAFS 1.20.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from hashlib import _Hash

Buffer: TypeAlias = bytes | bytearray | memoryview

#: Length of a whole hash, bytes.
HASH_SIZE = 32
#: Length of an encryption key and of a storage index, bytes.
KEY_SIZE = 16

TAG_BLOCK = b"allmydata_encoded_subshare_v1"
TAG_CRYPTTEXT = b"allmydata_crypttext_v1"
TAG_CRYPTTEXT_SEGMENT = b"allmydata_crypttext_segment_v1"
TAG_URI_EXTENSION = b"allmydata_uri_extension_v1"
TAG_STORAGE_INDEX = b"allmydata_immutable_key_to_storage_index_v1"
TAG_CONVERGENT_KEY = b"allmydata_immutable_content_to_key_with_added_secret_v1+"
TAG_CLIENT_RENEWAL = b"allmydata_client_renewal_secret_v1"
TAG_CLIENT_CANCEL = b"allmydata_client_cancel_secret_v1"
TAG_FILE_RENEWAL = b"allmydata_file_renewal_secret_v1"
TAG_FILE_CANCEL = b"allmydata_file_cancel_secret_v1"
TAG_BUCKET_RENEWAL = b"allmydata_bucket_renewal_secret_v1"
TAG_BUCKET_CANCEL = b"allmydata_bucket_cancel_secret_v1"
TAG_MERKLE_NODE = b"Merkle tree internal node"
TAG_MERKLE_EMPTY_LEAF = b"Merkle tree empty leaf"

_sha256 = hashlib.sha256


def netstring(data: bytes) -> bytes:
    """Frame ``data``: its length in decimal, a colon, the bytes, a comma."""
    return b"%d:%b," % (len(data), data)


class TaggedHasher:
    """SHA-256d over a tag and then whatever is fed to it.

    Args:
        tag: what the hash is for.
        length: how many bytes of the digest are kept.
    """

    __slots__ = ("_hash", "_length")

    def __init__(self, tag: bytes, length: int = HASH_SIZE) -> None:
        self._hash = _sha256(netstring(tag))
        self._length = length

    def update(self, data: Buffer) -> None:
        """Feed more."""
        self._hash.update(data)

    def digest(self) -> bytes:
        """Return the hash of all that was fed so far."""
        return _sha256(self._hash.digest()).digest()[: self._length]


def tagged_hash(tag: bytes, value: Buffer, length: int = HASH_SIZE) -> bytes:
    """Return the first ``length`` bytes of ``H(netstring(tag) + value)``."""
    hasher = _sha256(b"%d:%b," % (len(tag), tag))
    hasher.update(value)
    return _sha256(hasher.digest()).digest()[:length]


def tagged_pair_hash(tag: bytes, a: bytes, b: bytes, length: int = HASH_SIZE) -> bytes:
    """Return the first ``length`` bytes of ``H(netstring(tag) + netstring(a) + netstring(b))``."""
    framed = b"%d:%b,%d:%b,%d:%b," % (len(tag), tag, len(a), a, len(b), b)
    inner = _sha256(framed).digest()
    return _sha256(inner).digest()[:length]


def _hash_under(tag: bytes) -> Callable[[Buffer], bytes]:
    """Return the hash function of one tag, which starts from a state that has the tag in it."""
    start: _Hash = _sha256(netstring(tag))

    def hash_(data: Buffer) -> bytes:
        hasher = start.copy()
        hasher.update(data)
        return _sha256(hasher.digest()).digest()

    return hash_


#: Hash of one block of one share, as stored (the block of the last segment with its padding).
block_hash = _hash_under(TAG_BLOCK)
#: Hash of one segment of crypttext, without padding.
crypttext_segment_hash = _hash_under(TAG_CRYPTTEXT_SEGMENT)
#: Hash of the URI extension block; what a cap holds.
uri_extension_hash = _hash_under(TAG_URI_EXTENSION)


def crypttext_hasher() -> TaggedHasher:
    """Return a hasher for the whole crypttext of a file."""
    return TaggedHasher(TAG_CRYPTTEXT)


def storage_index_hash(key: bytes) -> bytes:
    """Return the storage index, 16 bytes, of the file enciphered with ``key``, 16 bytes."""
    return tagged_hash(TAG_STORAGE_INDEX, key, KEY_SIZE)


class ConvergentKey(TaggedHasher):
    """Makes the key of a file from its plaintext, so that one file always has one cap.

    The secret keeps strangers from confirming guesses about the content; the encoding
    parameters keep differently coded shares of one file under different storage indexes.

    Args:
        secret: the node's convergence secret (32 bytes as a rule, any length is valid).
        k: number of shares needed.
        n: number of shares made.
        segment_size: bytes a segment, after it was made a multiple of ``k``.
    """

    __slots__ = ()

    def __init__(self, secret: bytes, k: int, n: int, segment_size: int) -> None:
        parameters = netstring(b"%d,%d,%d" % (k, n, segment_size))
        super().__init__(TAG_CONVERGENT_KEY + netstring(secret) + parameters, KEY_SIZE)


def my_renewal_secret(node_secret: bytes) -> bytes:
    """Return what all renewal secrets of a node come from (the node secret is the tag here)."""
    return tagged_hash(node_secret, TAG_CLIENT_RENEWAL)


def my_cancel_secret(node_secret: bytes) -> bytes:
    """Return what all cancel secrets of a node come from (the node secret is the tag here)."""
    return tagged_hash(node_secret, TAG_CLIENT_CANCEL)


def file_renewal_secret(client_secret: bytes, storage_index: bytes) -> bytes:
    """Return the renewal secret of one file, from `my_renewal_secret`."""
    return tagged_pair_hash(TAG_FILE_RENEWAL, client_secret, storage_index)


def file_cancel_secret(client_secret: bytes, storage_index: bytes) -> bytes:
    """Return the cancel secret of one file, from `my_cancel_secret`."""
    return tagged_pair_hash(TAG_FILE_CANCEL, client_secret, storage_index)


def bucket_renewal_secret(file_secret: bytes, peer_id: bytes) -> bytes:
    """Return the renewal secret of one file on one server, given by its node id, 20 bytes."""
    return tagged_pair_hash(TAG_BUCKET_RENEWAL, file_secret, peer_id)


def bucket_cancel_secret(file_secret: bytes, peer_id: bytes) -> bytes:
    """Return the cancel secret of one file on one server, given by its node id, 20 bytes."""
    return tagged_pair_hash(TAG_BUCKET_CANCEL, file_secret, peer_id)


def lease_secret_digest(secret: bytes) -> bytes:
    """Return what a server keeps of a lease secret: its BLAKE2b hash of 32 bytes.

    Source: lease records of version 2 of Tahoe-LAFS, so that a stolen disk renews nothing.
    """
    return hashlib.blake2b(secret, digest_size=32).digest()
