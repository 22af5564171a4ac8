"""The sealed bytes of a blob: a preamble that says what it is, and chunks.

Layout of the preamble, integers big-endian::

    0   8   magic "AMPBLOB1"
    8   2   scheme: 1 is ours, any other an external blob
    10  2   length of the preamble, 16 to 4096
    12  4   check: the first bytes of SHA-256 over the preamble with zeros here
    16      of scheme 1:
    16  8   size of the plaintext
    24  32  salt
    56  32  commitment to the key
    88      1 byte length and the namespace, 1 byte length and the id

Behind it stand, in scheme 1, the chunks: 65,536 bytes of crypttext and a tag of 16, the last with
fewer. What opens them is `ampgrid.formats.blobcipher`.

Source: `docs/specs/blobs.md#sealed-bytes`.
"""

from __future__ import annotations

import hashlib
import struct

from attrs import field, frozen

from ampgrid.errors import BadArgumentValueError, InvalidBlobError
from ampgrid.formats.blobname import MAX_BLOB_ID, MAX_NAMESPACE, BlobName

#: The scheme of this module.
SCHEME = 1
#: Plaintext in one chunk, bytes; the last one has what is left.
CHUNK_BYTES = 64 * 1024
TAG_SIZE = 16
#: A chunk as it is stored, bytes.
SEALED_CHUNK_BYTES = CHUNK_BYTES + TAG_SIZE
#: The largest blob, bytes of plaintext.
MAX_BLOB_BYTES = 2**40
#: The largest sealed blob, bytes: below it no content has more than 2**25 rows.
MAX_SEALED_BYTES = 4096 + MAX_BLOB_BYTES + TAG_SIZE * (MAX_BLOB_BYTES // CHUNK_BYTES)
#: Bytes of which the length of the preamble is known.
HEAD_SIZE = 16
MAX_PREAMBLE_BYTES = 4096
SALT_SIZE = 32
COMMITMENT_SIZE = 32

_MAGIC = b"AMPBLOB1"
_HEAD = struct.Struct(">8sHH4s")
_BODY = struct.Struct(f">Q{SALT_SIZE}s{COMMITMENT_SIZE}s")
_CHECK = slice(12, 16)


@frozen
class ExternalPreamble:
    """The preamble of a blob that was not sealed by ampgrid.

    Attributes:
        scheme: any but 1, 0 to 65,535.
        data: the whole preamble, 16 to 4,096 bytes.
    """

    scheme: int
    data: bytes = field(repr=False)


@frozen
class Preamble:
    """The preamble of a blob of scheme 1.

    Attributes:
        name: of the blob.
        size: of the plaintext, bytes.
        salt: 32 bytes.
        commitment: 32 bytes.
        data: the whole preamble, as it stands.
    """

    name: BlobName
    size: int
    salt: bytes = field(repr=False)
    commitment: bytes = field(repr=False)
    data: bytes = field(repr=False)

    @property
    def chunks(self) -> int:
        """Number of chunks, at least one."""
        return chunks_of(self.size)

    @property
    def sealed_size(self) -> int:
        """Number of bytes of the sealed blob."""
        return len(self.data) + self.size + TAG_SIZE * self.chunks

    def plain_size_of(self, index: int) -> int:
        """Return the bytes of plaintext in a chunk."""
        return min(CHUNK_BYTES, self.size - index * CHUNK_BYTES)


def chunks_of(size: int) -> int:
    """Return the number of chunks of so many bytes of plaintext."""
    return max(1, -(-size // CHUNK_BYTES))


def make_preamble(name: BlobName, size: int, salt: bytes, commitment: bytes) -> Preamble:
    """Make the preamble of a blob.

    Args:
        name: of the blob.
        size: of its plaintext, bytes.
        salt: 32 bytes.
        commitment: 32 bytes.

    Raises:
        BadArgumentValueError: the size is out of bounds.
    """
    if not 0 <= size <= MAX_BLOB_BYTES:
        raise BadArgumentValueError(f"A blob has 0 to {MAX_BLOB_BYTES} bytes.")
    body = _BODY.pack(size, salt, commitment) + framed_name(name)
    return Preamble(name, size, salt, commitment, _with_head(SCHEME, body))


def external_preamble(scheme: int, body: bytes = b"") -> bytes:
    """Return the preamble of an external blob: what is put in front of bytes of another scheme.

    Args:
        scheme: which, 0 to 65,535 but for 1.
        body: what the scheme has in its preamble, at most 4,080 bytes.

    Raises:
        BadArgumentValueError: one of them is out of bounds.
    """
    if scheme == SCHEME or not 0 <= scheme < 2**16:
        raise BadArgumentValueError("The scheme of an external blob is 0 to 65535, and not 1.")
    if len(body) > MAX_PREAMBLE_BYTES - HEAD_SIZE:
        raise BadArgumentValueError("The preamble of an external blob is too long.")
    return _with_head(scheme, body)


def preamble_length(head: bytes) -> int:
    """Return the length of a preamble.

    Args:
        head: its first bytes, at least `HEAD_SIZE`.

    Raises:
        InvalidBlobError: it is none.
    """
    if len(head) < HEAD_SIZE:
        raise InvalidBlobError("The blob is cut short.")
    magic, _scheme, length, _check = _HEAD.unpack_from(head)
    if magic != _MAGIC or not HEAD_SIZE <= length <= MAX_PREAMBLE_BYTES:
        raise InvalidBlobError("The bytes are those of no blob.")
    return int(length)


def parse_preamble(data: bytes) -> Preamble | ExternalPreamble:
    """Read a preamble.

    Args:
        data: all of it and nothing else.

    Raises:
        InvalidBlobError: it is none.
    """
    if preamble_length(data) != len(data):
        raise InvalidBlobError("The preamble of the blob has another length than it says.")
    if data[_CHECK] != _check_of(data):
        raise InvalidBlobError("The preamble of the blob is damaged.")
    scheme = int.from_bytes(data[8:10], "big")
    if scheme != SCHEME:
        return ExternalPreamble(scheme, data)
    if len(data) < HEAD_SIZE + _BODY.size + 2:
        raise InvalidBlobError("The preamble of the blob is too short.")
    size, salt, commitment = _BODY.unpack_from(data, HEAD_SIZE)
    if size > MAX_BLOB_BYTES:
        raise InvalidBlobError("The blob says that it is larger than a blob can be.")
    name = _parse_name(data[HEAD_SIZE + _BODY.size :])
    return Preamble(name, size, salt, commitment, data)


def framed_name(name: BlobName) -> bytes:
    """Return a name as it stands in a preamble: each part behind its length, one byte."""
    parts = (name.namespace.encode("ascii"), name.blob_id.encode("ascii"))
    return b"".join(bytes([len(part)]) + part for part in parts)


def _parse_name(framed: bytes) -> BlobName:
    parts = []
    for most in (MAX_NAMESPACE, MAX_BLOB_ID):
        length, rest = framed[:1], framed[1:]
        if not length or length[0] > min(most, len(rest)):
            raise InvalidBlobError("The name in the blob is malformed.")
        parts.append(rest[: length[0]].decode("ascii", "replace"))
        framed = rest[length[0] :]
    if framed:
        raise InvalidBlobError("The name in the blob is malformed.")
    try:
        return BlobName(*parts)
    except BadArgumentValueError:
        raise InvalidBlobError("The name in the blob cannot be one.") from None


def _with_head(scheme: int, body: bytes) -> bytes:
    data = _HEAD.pack(_MAGIC, scheme, HEAD_SIZE + len(body), bytes(4)) + body
    return data[: _CHECK.start] + _check_of(data) + body


def _check_of(data: bytes) -> bytes:
    hasher = hashlib.sha256(data[: _CHECK.start])
    hasher.update(bytes(4))
    hasher.update(data[_CHECK.stop :])
    return hasher.digest()[:4]
