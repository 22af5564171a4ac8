"""The layout of a share, versions 1 and 2.

::

    v1  v2
    4   4   version
    4   8   block size
    4   8   size of the data
    4   8   offset of the data (0x24 or 0x44: right behind this header)
    4   8   offset of the plaintext hash tree (room of a tree, all zeros: plaintext hashes leak)
    4   8   offset of the crypttext hash tree
    4   8   offset of the block hash tree
    4   8   offset of the share hash chain, 34 bytes a hash: >H number of the node, 32 hash
    4   8   offset of the length of the URI extension block
            the sections in that order; of the last, 4 or 8 bytes are its length

All integers are big-endian; the trees are those of `ampgrid.formats.hashtree`. Version 1 serves
as long as data and offsets stay below 4 GiB.

Source: `docs/specs/share.md`; Tahoe-LAFS 1.20 ``immutable/layout.py``.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable

from attrs import field, frozen

from ampgrid.crypto.hashing import HASH_SIZE
from ampgrid.errors import FormatError
from ampgrid.formats.hashtree import Chain, chain_nodes, tree_size
from ampgrid.formats.segments import num_segments, share_data_size
from ampgrid.formats.ueb import MAX_UEB_BYTES, ueb_size

_V1 = struct.Struct(">9L")
_V2 = struct.Struct(">L8Q")
_HEADERS = {1: _V1, 2: _V2}
_LENGTHS = {1: struct.Struct(">L"), 2: struct.Struct(">Q")}
_VERSION = struct.Struct(">L")
_CHAIN_LINK = struct.Struct(f">H{HASH_SIZE}s")
#: So many first bytes hold the header of either version.
MAX_HEADER_SIZE = _V2.size
#: The most bytes that a reader takes from the share hash chain to the end of a share: the chain,
#: the URI extension block, and slack behind them.
MAX_TAIL_BYTES = 16_384


@frozen
class ShareHeader:
    """Where the sections of a share are. Sizes and offsets in bytes.

    Attributes:
        version: 1 or 2.
        block_size: of all blocks but the last.
        data_size: of all blocks together.
        offset_data: where the blocks begin, one after the other.
        offset_plaintext_tree: of a room that is not used.
        offset_crypttext_tree: of the tree over the crypttext segments.
        offset_block_hashes: of the tree over this share's blocks.
        offset_share_hashes: of the chain that leads from this share to the root of all shares.
        offset_ueb: of the length of the URI extension block, which follows it.
    """

    version: int
    block_size: int
    data_size: int
    offset_data: int
    offset_plaintext_tree: int
    offset_crypttext_tree: int
    offset_block_hashes: int
    offset_share_hashes: int
    offset_ueb: int

    @property
    def length_size(self) -> int:
        """Size of the length before the URI extension block, bytes."""
        return _LENGTHS[self.version].size

    @property
    def share_hashes_size(self) -> int:
        """Size of the share hash chain, bytes."""
        return self.offset_ueb - self.offset_share_hashes

    def pack(self) -> bytes:
        """Spell the header."""
        return _HEADERS[self.version].pack(
            self.version,
            self.block_size,
            self.data_size,
            self.offset_data,
            self.offset_plaintext_tree,
            self.offset_crypttext_tree,
            self.offset_block_hashes,
            self.offset_share_hashes,
            self.offset_ueb,
        )

    def ueb_length(self, length_bytes: bytes) -> int:
        """Read the length of the URI extension block from the bytes at ``offset_ueb``.

        Args:
            length_bytes: at least `length_size` bytes.

        Raises:
            FormatError: there are fewer, or no such block can be.
        """
        if len(length_bytes) < self.length_size:
            raise FormatError("The share ends before its URI extension block.")
        (length,) = _LENGTHS[self.version].unpack_from(length_bytes)
        if not 1 <= length <= MAX_UEB_BYTES:
            raise FormatError("The URI extension block of the share has an impossible length.")
        return int(length)

    def check(self, layout: ShareLayout) -> None:
        """Check that the sections have room for what a file of that layout must have there.

        Raises:
            FormatError: the share is of another file, or damaged.
        """
        tree = layout.tree_size
        room = (
            self.data_size == layout.data_size
            and self.block_size == layout.block_size
            and self.offset_block_hashes - self.offset_crypttext_tree >= tree
            and self.offset_share_hashes - self.offset_block_hashes >= tree
        )
        if not room:
            raise FormatError("The share is not laid out as its file must be.")


def parse_header(head: bytes | memoryview, share_size: int) -> ShareHeader:
    """Read the header of a share.

    Args:
        head: the first bytes of it; `MAX_HEADER_SIZE` are enough for both versions.
        share_size: size of the whole share, bytes; more than is used is tolerated.

    Raises:
        FormatError: the version is unknown, or the sections are out of order or outside the share.
    """
    if len(head) < _VERSION.size:
        raise FormatError("The share is too short for its header.")
    (version,) = _VERSION.unpack_from(head)
    form = _HEADERS.get(version)
    if form is None:
        raise FormatError("The share is of an unknown version.")
    if len(head) < form.size:
        raise FormatError("The share is too short for its header.")
    header = ShareHeader(*form.unpack_from(head))
    borders = (
        form.size,
        header.offset_data,
        header.offset_data + header.data_size,
        header.offset_plaintext_tree,
        header.offset_crypttext_tree,
        header.offset_block_hashes,
        header.offset_share_hashes,
        header.offset_ueb,
        header.offset_ueb + header.length_size,
        share_size,
    )
    if any(a > b for a, b in itertools.pairwise(borders)):
        raise FormatError("The sections of the share are out of order or outside of it.")
    if not header.block_size >= 1 or not header.data_size >= 1:
        raise FormatError("The share claims to be empty.")
    return header


@frozen
class ShareLayout:
    """How large everything is in the shares of a file. Sizes and offsets in bytes.

    Args:
        size: of the file.
        needed: number of shares needed (k).
        segment_size: bytes a segment, a multiple of ``needed``.
        total: number of shares (n).

    Attributes:
        size: as given.
        needed: as given.
        segment_size: as given.
        total: as given.
        block_size: of all blocks but the last of a share.
        data_size: of all blocks of one share.
        num_segments: number of segments, which is that of blocks a share.
        tree_size: of one hash tree over the segments.
        ueb_size: of the URI extension block.
        share_size: of a whole share; all shares of a file are of one size.
        version: 1, or 2 where version 1 has not digits enough.
    """

    size: int
    needed: int
    segment_size: int
    total: int
    block_size: int = field(init=False)
    data_size: int = field(init=False)
    num_segments: int = field(init=False)
    tree_size: int = field(init=False)
    ueb_size: int = field(init=False)
    _header: ShareHeader = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.needed <= self.total or self.size < 1:
            raise ValueError("no file has such a layout")
        if self.segment_size < 1 or self.segment_size % self.needed:
            raise ValueError("the segment size is not a multiple of the number of shares needed")
        segments = num_segments(self.size, self.segment_size)
        ueb = ueb_size(
            size=self.size, needed=self.needed, total=self.total, segment_size=self.segment_size
        )
        for name, value in (
            ("block_size", self.segment_size // self.needed),
            ("data_size", share_data_size(self.size, self.needed)),
            ("num_segments", segments),
            ("tree_size", tree_size(segments)),
            ("ueb_size", ueb),
        ):
            object.__setattr__(self, name, value)
        header = self._laid_out(1)
        if max(header.block_size, header.data_size, header.offset_ueb) >= 2**32:
            header = self._laid_out(2)
        object.__setattr__(self, "_header", header)

    def _laid_out(self, version: int) -> ShareHeader:
        data = _HEADERS[version].size
        plaintext_tree = data + self.data_size
        crypttext_tree = plaintext_tree + self.tree_size
        block_hashes = crypttext_tree + self.tree_size
        share_hashes = block_hashes + self.tree_size
        return ShareHeader(
            version=version,
            block_size=self.block_size,
            data_size=self.data_size,
            offset_data=data,
            offset_plaintext_tree=plaintext_tree,
            offset_crypttext_tree=crypttext_tree,
            offset_block_hashes=block_hashes,
            offset_share_hashes=share_hashes,
            offset_ueb=share_hashes + self.chain_length * _CHAIN_LINK.size,
        )

    @property
    def chain_length(self) -> int:
        """Number of hashes in a share hash chain."""
        return len(chain_nodes(0, self.total))

    @property
    def version(self) -> int:
        """Version of the share: 1 or 2."""
        return self._header.version

    @property
    def offsets(self) -> ShareHeader:
        """Where the sections are."""
        return self._header

    @property
    def offset_data(self) -> int:
        """Where the blocks begin."""
        return self._header.offset_data

    @property
    def offset_plaintext_tree(self) -> int:
        """Where the data ends and everything else begins."""
        return self._header.offset_plaintext_tree

    @property
    def offset_crypttext_tree(self) -> int:
        """Where the tree over the crypttext segments begins."""
        return self._header.offset_crypttext_tree

    @property
    def offset_block_hashes(self) -> int:
        """Where the tree over the blocks begins."""
        return self._header.offset_block_hashes

    @property
    def offset_share_hashes(self) -> int:
        """Where the share hash chain begins."""
        return self._header.offset_share_hashes

    @property
    def offset_ueb(self) -> int:
        """Where the length of the URI extension block is."""
        return self._header.offset_ueb

    @property
    def share_size(self) -> int:
        """Size of a whole share."""
        return self.share_size_with(self.ueb_size)

    def share_size_with(self, ueb_length: int) -> int:
        """Return the size of a whole share with a URI extension block of that length."""
        return self.offset_ueb + self._header.length_size + ueb_length

    def header(self) -> bytes:
        """Spell the header of a share."""
        return self._header.pack()

    def pack_ueb(self, ueb: bytes) -> bytes:
        """Spell the last section of a share: the length and the URI extension block."""
        return _LENGTHS[self.version].pack(len(ueb)) + ueb


def pack_share_hashes(chain: Iterable[tuple[int, bytes]]) -> bytes:
    """Spell a share hash chain, in the order given."""
    return b"".join(_CHAIN_LINK.pack(node, value) for node, value in chain)


def unpack_share_hashes(data: bytes | memoryview) -> Chain:
    """Read a share hash chain.

    Returns:
        (number of the node, hash of 32 bytes) each, in the order of the share.

    Raises:
        FormatError: the length is no multiple of 34.
    """
    if len(data) % _CHAIN_LINK.size:
        raise FormatError("The share hash chain is cut short.")
    return [(node, value) for node, value in _CHAIN_LINK.iter_unpack(data)]
