"""The URI extension block (UEB): what binds a cap to its shares.

Keys in order, each ``key:`` and then its value as a netstring, numbers in decimal. The cap holds
the hash of the whole; every hash that a download checks hangs from it.

Source: `docs/specs/share.md`; Tahoe-LAFS 1.20 ``uri.py`` (pack_extension) and ``encode.py``.
"""

from __future__ import annotations

import re

from attrs import fields, frozen

from ampgrid.caps import MAX_FILE_SIZE, MAX_SHARES
from ampgrid.crypto.hashing import HASH_SIZE
from ampgrid.errors import FormatError, IntegrityError
from ampgrid.formats.segments import (
    MAX_SEGMENT_SIZE,
    MAX_SEGMENTS,
    num_segments,
    padded_tail_size,
)

#: The only codec: zfec.
CODEC_NAME = "crs"
#: The largest block that is read, bytes. Ours have 312 to 337, Tahoe's oldest reserved 1000.
MAX_UEB_BYTES = 4096

_KEY = re.compile(rb"[a-zA-Z_-]{1,100}:(0|[1-9][0-9]{0,3}):")
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,18}")
_TEXT = re.compile(rb"[a-z0-9-]{1,100}")


def codec_params(segment_size: int, needed: int, total: int) -> str:
    """Return the parameters of a codec as the UEB has them: ``segsize-k-n``."""
    return f"{segment_size}-{needed}-{total}"


@frozen
class UriExtension:
    """The eleven fields, typed.

    Attributes:
        codec_name: ``crs``.
        codec_params: segment size, k and n joined by hyphens.
        crypttext_hash: hash of the whole crypttext, 32 bytes.
        crypttext_root_hash: root of the tree over the crypttext segments, 32 bytes.
        needed_shares: k.
        num_segments: number of segments.
        segment_size: bytes a segment, a multiple of k.
        share_root_hash: root of the tree over the roots of the shares' block trees, 32 bytes.
        size: of the file, bytes.
        tail_codec_params: as ``codec_params``, of the last segment padded to a multiple of k.
        total_shares: n.
    """

    # In the order of their names, which is the order of their bytes.
    codec_name: str
    codec_params: str
    crypttext_hash: bytes
    crypttext_root_hash: bytes
    needed_shares: int
    num_segments: int
    segment_size: int
    share_root_hash: bytes
    size: int
    tail_codec_params: str
    total_shares: int

    @classmethod
    def derive(
        cls,
        *,
        size: int,
        needed: int,
        total: int,
        segment_size: int,
        crypttext_hash: bytes = bytes(HASH_SIZE),
        crypttext_root_hash: bytes = bytes(HASH_SIZE),
        share_root_hash: bytes = bytes(HASH_SIZE),
    ) -> UriExtension:
        """Make one, with every number that follows from the others.

        Without hashes it serves to know the length of the packed block beforehand.
        """
        tail = padded_tail_size(size, segment_size, needed)
        return cls(
            codec_name=CODEC_NAME,
            codec_params=codec_params(segment_size, needed, total),
            crypttext_hash=crypttext_hash,
            crypttext_root_hash=crypttext_root_hash,
            needed_shares=needed,
            num_segments=num_segments(size, segment_size),
            segment_size=segment_size,
            share_root_hash=share_root_hash,
            size=size,
            tail_codec_params=codec_params(tail, needed, total),
            total_shares=total,
        )

    def pack(self) -> bytes:
        """Spell the block."""
        parts = []
        for name, key in _KEYS:
            value = getattr(self, name)
            data = value if isinstance(value, bytes) else str(value).encode("ascii")
            parts.append(b"%b:%d:%b," % (key, len(data), data))
        return b"".join(parts)

    @classmethod
    def unpack(cls, data: bytes) -> UriExtension:
        """Read a block; unknown keys, as older programs wrote them, are passed over.

        Raises:
            FormatError: it is malformed, or one of the eleven fields is missing.
        """
        found = _split(data)
        values: dict[str, str | int | bytes] = {}
        for name, kind in _FIELDS.items():
            if name not in found:
                raise FormatError(f"The URI extension block lacks the field {name}.")
            values[name] = _typed(name, kind, found[name])
        return cls(**values)  # type: ignore[arg-type]

    def check(self, needed: int, total: int, size: int) -> None:
        """Check the numbers against a cap and against each other.

        Args:
            needed: k of the cap.
            total: n of the cap.
            size: of the file according to the cap, bytes.

        Raises:
            IntegrityError: the cap says otherwise.
            FormatError: the block contradicts itself, or is out of bounds.
        """
        if (self.needed_shares, self.total_shares, self.size) != (needed, total, size):
            raise IntegrityError("The URI extension block is of another file than the cap says.")
        if not 1 <= needed <= total <= MAX_SHARES or not 1 <= size <= MAX_FILE_SIZE:
            raise FormatError("The URI extension block holds numbers that are out of bounds.")
        # Rounding up to a multiple of k may pass the limit a little.
        if not 1 <= self.segment_size < MAX_SEGMENT_SIZE + needed:
            raise FormatError("The segments of the file are larger than is supported.")
        if self.num_segments > MAX_SEGMENTS:
            raise FormatError("The file has more segments than are supported.")
        if self.segment_size % needed:
            raise FormatError("The segment size is not a multiple of the number of shares needed.")
        expected = UriExtension.derive(
            size=size,
            needed=needed,
            total=total,
            segment_size=self.segment_size,
            crypttext_hash=self.crypttext_hash,
            crypttext_root_hash=self.crypttext_root_hash,
            share_root_hash=self.share_root_hash,
        )
        if expected != self:
            raise FormatError("The URI extension block contradicts itself.")


_FIELDS: dict[str, str] = {
    attribute.name: str(attribute.type) for attribute in fields(UriExtension)
}
_KEYS = tuple((name, name.encode("ascii")) for name in _FIELDS)


def _split(data: bytes) -> dict[str, bytes]:
    """Read the keys and their netstrings."""
    if len(data) > MAX_UEB_BYTES:
        raise FormatError("The URI extension block is too long.")
    found: dict[str, bytes] = {}
    position = 0
    while position < len(data):
        match = _KEY.match(data, position)
        if match is None:
            raise FormatError("The URI extension block is malformed.")
        end = match.end() + int(match.group(1))
        if data[end : end + 1] != b",":
            raise FormatError("The URI extension block is malformed.")
        name = data[position : data.index(b":", position)].decode("ascii")
        if name in found:
            raise FormatError("The URI extension block has one field twice.")
        found[name] = data[match.end() : end]
        position = end + 1
    return found


def _typed(name: str, kind: str, value: bytes) -> str | int | bytes:
    if kind == "bytes":
        if len(value) == HASH_SIZE:
            return value
    elif kind == "int":
        if _NUMBER.fullmatch(value):
            return int(value)
    elif _TEXT.fullmatch(value):
        return value.decode("ascii")
    raise FormatError(f"The field {name} of the URI extension block is malformed.")


def ueb_size(*, size: int, needed: int, total: int, segment_size: int) -> int:
    """Return the length in bytes of a file's URI extension block, before it is known."""
    made = UriExtension.derive(size=size, needed=needed, total=total, segment_size=segment_size)
    return len(made.pack())
