"""Sealed entries: a child's name, caps and metadata, as replicas keep them.

Layout, integers big-endian::

    1   version: 1
    2   length of the read part, bytes
        read part: for who can read the directory
        write part: for who can change it; empty if the child has no write cap

Each part is a nonce of 12 random bytes, the ciphertext of AES-256-GCM and its tag of 16 bytes. The
parts have keys of their own, and each is bound to the directory, to the slot and to being what it
is, so that no replica can put it anywhere else. In the read part is::

    2   length of the name, bytes; then the name in UTF-8
    2   length of the read cap, bytes; then the cap
    2   length of the metadata, bytes; then the metadata as canonical JSON

and in the write part the write cap. A read cap gives read caps only: what stands in the read part
is cut down to one when it is opened, and a write cap that does not belong to it is ignored.

Source: `docs/specs/directories.md#entry`; NIST SP 800-38D.
"""

from __future__ import annotations

import hmac
import json
import os
import struct
from collections.abc import Mapping
from typing import TypeAlias

from attrs import field, frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ampgrid.caps import Cap, DirCap, DirReadCap, parse_cap
from ampgrid.crypto.directory_keys import ReadKeys, WriteKeys
from ampgrid.errors import (
    BadArgumentValueError,
    BadCapError,
    BadNameError,
    FormatError,
    IntegrityError,
)
from ampgrid.formats.names import checked_name
from ampgrid.ports import Entropy

MetadataValue: TypeAlias = str | int | float | bool
Metadata: TypeAlias = Mapping[str, MetadataValue]

#: The largest sealed entry that a replica takes, bytes; `seal` makes none of more than 6,800.
MAX_ENTRY_BYTES = 8_192
#: The largest metadata, bytes of JSON.
MAX_METADATA_BYTES = 4_096

_VERSION = 1
_HEAD = struct.Struct(">BH")
_LENGTH = struct.Struct(">H")
_NONCE_SIZE = 12
_PART_OVERHEAD = _NONCE_SIZE + 16
_DOMAIN = b"ampgrid directory entry 1"
_METADATA_TYPES = frozenset({str, int, float, bool})
_decode_json = json.JSONDecoder().raw_decode
_encode_json = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
).encode


@frozen
class Entry:
    """A child of a directory.

    Attributes:
        name: in its one spelling.
        read: the cap to read it, which gives no right to change it. Secret.
        write: the cap to change it; empty if there is none, or if only the read cap of the
            directory was at hand. Secret.
        metadata: whatever goes with the child, at most 4,096 bytes of JSON.
        suspect: whether something in the sealed entry tried to give more than it may; it was
            left out.
    """

    name: str = field(repr=False)
    read: str = field(repr=False)
    write: str = field(default="", repr=False)
    metadata: Metadata = field(factory=dict, repr=False)
    suspect: bool = field(default=False, kw_only=True)


def pack_metadata(metadata: Metadata) -> bytes:
    """Return metadata as canonical JSON: keys sorted, no white space, UTF-8.

    Raises:
        BadArgumentValueError: it holds anything but texts, numbers and truth values under texts,
            or is longer than 4,096 bytes.
    """
    for key, value in metadata.items():
        if type(key) is not str or type(value) not in _METADATA_TYPES:
            raise BadArgumentValueError("Metadata hold texts, numbers, true and false only.")
    try:
        packed = _encode_json(metadata).encode("utf-8")
    except ValueError:
        raise BadArgumentValueError("The metadata hold what JSON cannot express.") from None
    if len(packed) > MAX_METADATA_BYTES:
        raise BadArgumentValueError(f"Metadata have at most {MAX_METADATA_BYTES} bytes.")
    return packed


def _unpack_metadata(packed: bytes) -> Metadata:
    if packed == b"{}":
        return {}
    try:
        metadata: Metadata = _decode_json(packed.decode("utf-8"))[0]
        # A second spelling of the same thing is refused, and with it every trap of JSON.
        if isinstance(metadata, dict) and pack_metadata(metadata) == packed:
            return metadata
    except (ValueError, RecursionError, BadArgumentValueError):
        pass
    raise FormatError("The metadata of the entry are malformed.")


def seal(
    entry: Entry,
    read_keys: ReadKeys,
    write_keys: WriteKeys | None,
    index: bytes,
    entropy: Entropy = os.urandom,
) -> bytes:
    """Seal an entry of the directory ``index``, for the slot of its name.

    Args:
        entry: the child.
        read_keys: of the directory.
        write_keys: of the directory; needed if the child has a write cap.
        index: of the directory, 32 bytes.
        entropy: where the nonces come from.

    Returns:
        At most 6,800 bytes.

    Raises:
        BadNameError: the name is none.
        BadCapError: a cap is none, the read cap can write, or the write cap does not belong to it.
        BadArgumentValueError: the metadata are too large or malformed.
    """
    name = checked_name(entry.name)
    read = parse_cap(entry.read)
    if not read.is_readonly():
        raise BadCapError("What stands as the read cap of a child could change it.")
    parts = (name.encode("utf-8"), read.to_string().encode(), pack_metadata(entry.metadata))
    bound = _DOMAIN + index + read_keys.slot_of(name)
    plain = b"".join(_LENGTH.pack(len(part)) + part for part in parts)
    read_part = _seal_part(read_keys.read_cipher, plain, bound + b"read", entropy)
    write_part = b""
    if entry.write:
        write = parse_cap(entry.write)
        if write_keys is None or not _belongs(write, read):
            raise BadCapError("The write cap of the child does not belong to its read cap.")
        plain = write.to_string().encode()
        write_part = _seal_part(write_keys.write_cipher, plain, bound + b"write", entropy)
    return _HEAD.pack(_VERSION, len(read_part)) + read_part + write_part


def open_entry(
    sealed: bytes,
    slot: bytes,
    read_keys: ReadKeys,
    index: bytes,
    write_keys: WriteKeys | None = None,
) -> Entry:
    """Open a sealed entry.

    Args:
        sealed: what `seal` made, or anything.
        slot: where it stood in the trie, 32 bytes.
        read_keys: of the directory.
        index: of the directory, 32 bytes.
        write_keys: of the directory, if the write cap of the child is wanted too.

    Raises:
        IntegrityError: it was not sealed for this slot of this directory by somebody who can.
        FormatError: it was, but what is in it is malformed.
    """
    if not _HEAD.size <= len(sealed) <= MAX_ENTRY_BYTES:
        raise FormatError("The entry is too short or too long.")
    version, length = _HEAD.unpack_from(sealed)
    if version != _VERSION:
        raise FormatError("The entry is of an unknown version.")
    end = _HEAD.size + length
    if length <= _PART_OVERHEAD or not (end == len(sealed) or end + _PART_OVERHEAD < len(sealed)):
        raise FormatError("The entry is cut short.")
    bound = _DOMAIN + index + slot
    plain = _open_part(read_keys.read_cipher, sealed[_HEAD.size : end], bound + b"read")
    spelled, packed_read, metadata = _split(plain)
    name = _name_for(spelled, slot, read_keys)
    read, read_text = _cap(packed_read)
    suspect = not read.is_readonly()
    if suspect:
        read, read_text = _readonly(read)
    write_text = ""
    if write_keys is not None and end < len(sealed):
        plain = _open_part(write_keys.write_cipher, sealed[end:], bound + b"write")
        write, text = _cap(plain)
        if _belongs(write, read):
            write_text = text
        else:
            suspect = True
    return Entry(name, read_text, write_text, _unpack_metadata(metadata), suspect=suspect)


def _seal_part(cipher: AESGCM, plain: bytes, bound: bytes, entropy: Entropy) -> bytes:
    nonce = entropy(_NONCE_SIZE)
    return nonce + cipher.encrypt(nonce, plain, bound)


def _open_part(cipher: AESGCM, part: bytes, bound: bytes) -> bytes:
    try:
        return cipher.decrypt(part[:_NONCE_SIZE], part[_NONCE_SIZE:], bound)
    except InvalidTag:
        raise IntegrityError("An entry of the directory is not what its writer sealed.") from None


def _split(plain: bytes) -> list[bytes]:
    """Take the three parts of a read part."""
    parts = []
    position = 0
    for _ in range(3):
        start = position + _LENGTH.size
        if start > len(plain):
            raise FormatError("The entry is cut short inside.")
        position = start + _LENGTH.unpack_from(plain, position)[0]
        parts.append(plain[start:position])
    if position != len(plain):
        raise FormatError("The lengths in the entry do not add up.")
    return parts


def _name_for(spelled: bytes, slot: bytes, read_keys: ReadKeys) -> str:
    try:
        name = spelled.decode("utf-8")
        if checked_name(name) != name:
            raise FormatError("The name in the entry is not in its one spelling.")
    except (UnicodeDecodeError, BadNameError):
        raise FormatError("The name in the entry is none.") from None
    if not hmac.compare_digest(read_keys.slot_of(name), slot):
        raise IntegrityError("An entry of the directory stands at the slot of another name.")
    return name


def _cap(packed: bytes) -> tuple[Cap, str]:
    """Read a cap that must be in its one spelling; returns it and its text."""
    try:
        text = packed.decode("ascii")
        cap = parse_cap(text)
    except (UnicodeDecodeError, BadCapError):
        raise FormatError("A cap in the entry is malformed, or of an unknown kind.") from None
    if text != text.strip():
        raise FormatError("A cap in the entry has white space around it.")
    return cap, text


def _readonly(cap: Cap) -> tuple[Cap, str]:
    try:
        reduced = cap.get_readonly()
    except BadCapError:
        raise FormatError("A cap in the entry contradicts itself.") from None
    return reduced, reduced.to_string()


def _belongs(write: Cap, read: Cap) -> bool:
    """Tell whether ``read`` is what is left of ``write`` without the right to change."""
    if not isinstance(write, DirCap) or not isinstance(read, DirReadCap):
        return False
    # Not by get_readonly, which makes the signing key first, and that takes longer than all else.
    read_key = WriteKeys(write.write_key).read.read_key
    return hmac.compare_digest(write.fingerprint, read.fingerprint) and hmac.compare_digest(
        read_key, read.read_key
    )
