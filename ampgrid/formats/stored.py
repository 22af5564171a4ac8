"""Checking a share against itself, as the server can that keeps it.

A share carries what proves most of it: the URI extension block holds the root over all shares,
the share hash chain leads there from this share's number and the root of its block tree, and
that tree from every block; the crypttext tree leads to a root of its own. So whoever keeps the
share finds nearly every changed byte without any cap: not the hash of the whole crypttext in the
URI extension block, which takes the file to check, and not bytes between and behind the
sections, which nobody reads. Whether the share is one of the file that it is kept under, only a
cap can tell.

The work is done in pieces, so that it can be paced and broken off, and takes a few hundred KiB
of memory whatever the size of the share.

Source: `docs/specs/share.md`; Tahoe-LAFS 1.20 ``immutable/layout.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ampgrid.crypto.hashing import (
    HASH_SIZE,
    TAG_BLOCK,
    TAG_MERKLE_EMPTY_LEAF,
    TAG_MERKLE_NODE,
    TaggedHasher,
    tagged_hash,
    tagged_pair_hash,
)
from ampgrid.errors import FormatError, IntegrityError
from ampgrid.formats.hashtree import leaf_from_chain, padded_count, root_from_chain, tree_size
from ampgrid.formats.segments import block_length
from ampgrid.formats.share import (
    MAX_HEADER_SIZE,
    MAX_TAIL_BYTES,
    ShareHeader,
    ShareLayout,
    parse_header,
    unpack_share_hashes,
)
from ampgrid.formats.ueb import MAX_UEB_BYTES, UriExtension

#: Returns so many bytes of a share from an offset, fewer only at its end.
Read = Callable[[int, int], bytes]

#: The most bytes that are read at once.
PIECE_BYTES = 128 * 1024
#: The longest share hash chain that is read, bytes.
_MOST_CHAIN_BYTES = 16_384


class _Row:
    """Hashes that stand one after the other, read in pieces.

    Attributes:
        fresh: bytes that were read since somebody set it to 0.
    """

    def __init__(self, read: Read, offset: int, count: int) -> None:
        self._read = read
        self._offset = offset
        self._left = count * HASH_SIZE
        self._piece = b""
        self._at = 0
        self.fresh = 0

    def take(self) -> bytes:
        """Return the next hash."""
        if self._at == len(self._piece):
            length = min(PIECE_BYTES, self._left)
            self._piece = _exactly(self._read, self._offset, length)
            self._offset += length
            self._left -= length
            self._at = 0
            self.fresh += length
        start, self._at = self._at, self._at + HASH_SIZE
        return self._piece[start : self._at]


def verifying(read: Read, size: int, number: int) -> Iterator[int]:
    """Check a share against its own hashes, a piece at a time.

    Args:
        read: reads the share.
        size: of the share, bytes.
        number: under which it is kept; its chain must be that of this number.

    Yields:
        How many bytes were read since the last time, `PIECE_BYTES` or few more each.

    Raises:
        IntegrityError, FormatError: it is not the share that was made.
    """
    header = parse_header(_exactly(read, 0, min(MAX_HEADER_SIZE, size)), size)
    extension = _extension(read, header, size)
    layout = ShareLayout(
        extension.size, extension.needed_shares, extension.segment_size, extension.total_shares
    )
    header.check(layout)
    if number >= extension.total_shares:
        raise IntegrityError("The share has a number that its file does not have.")
    chain_size = header.share_hashes_size
    if chain_size > _MOST_CHAIN_BYTES:
        raise FormatError("The share has an impossible share hash chain.")
    if size - header.offset_share_hashes > MAX_TAIL_BYTES:
        raise FormatError("The share has too much behind its end.")
    chain = unpack_share_hashes(_exactly(read, header.offset_share_hashes, chain_size))
    if root_from_chain(chain, number, extension.total_shares) != extension.share_root_hash:
        raise IntegrityError("The share hashes do not lead to the root: it is of another number.")
    block_root = leaf_from_chain(chain, number, extension.total_shares)
    yield MAX_HEADER_SIZE + MAX_UEB_BYTES + chain_size

    count = extension.num_segments
    yield from _tree(read, header.offset_block_hashes, count, block_root)
    yield from _tree(read, header.offset_crypttext_tree, count, extension.crypttext_root_hash)
    yield from _unused(read, header, count)
    yield from _blocks(read, header, extension)


def length_of(read: Read, size: int) -> int:
    """Return how long a share is by its own layout; what comes behind is read by nobody.

    Args:
        read: reads the share.
        size: of the share with whatever is behind it, bytes.

    Raises:
        IntegrityError, FormatError: it is no share.
    """
    header = parse_header(_exactly(read, 0, min(MAX_HEADER_SIZE, size)), size)
    left = size - header.offset_ueb
    length = header.ueb_length(_exactly(read, header.offset_ueb, min(header.length_size, left)))
    return min(size, header.offset_ueb + header.length_size + length)


def _exactly(read: Read, offset: int, length: int) -> bytes:
    data = read(offset, length)
    if len(data) != length:
        raise IntegrityError("The share is shorter than it was.")
    return data


def _extension(read: Read, header: ShareHeader, size: int) -> UriExtension:
    most = header.length_size + MAX_UEB_BYTES
    section = _exactly(read, header.offset_ueb, min(most, size - header.offset_ueb))
    length = header.ueb_length(section[: header.length_size])
    packed = section[header.length_size : header.length_size + length]
    if len(packed) != length:
        raise FormatError("The share ends inside its URI extension block.")
    extension = UriExtension.unpack(packed)
    extension.check(extension.needed_shares, extension.total_shares, extension.size)
    return extension


def _tree(read: Read, offset: int, count: int, root: bytes | None) -> Iterator[int]:
    """Check every node of a tree over ``count`` leaves; a root of None is that of the tree."""
    padded = padded_count(count)
    parents = _Row(read, offset, 2 * padded - 1)
    children = _Row(read, offset, 2 * padded - 1)
    top = children.take()
    if root is not None and top != root:
        raise IntegrityError("A hash tree of the share does not lead to its root.")
    for node in range(padded - 1):
        left, right = children.take(), children.take()
        if tagged_pair_hash(TAG_MERKLE_NODE, left, right) != parents.take():
            raise IntegrityError("A hash tree of the share does not hold together.")
        first = 2 * node + 1 - (padded - 1)  # which leaf ``left`` is, negative for an inner node
        for leaf, value in ((first, left), (first + 1, right)):
            if leaf >= count and value != tagged_hash(TAG_MERKLE_EMPTY_LEAF, b"%d" % leaf):
                raise IntegrityError("A hash tree of the share is padded wrongly.")
        if children.fresh:
            yield children.fresh + parents.fresh
            children.fresh = parents.fresh = 0


def _unused(read: Read, header: ShareHeader, count: int) -> Iterator[int]:
    """Check the room of the plaintext hash tree: zeros, or what old programs wrote there."""
    start, end = header.offset_plaintext_tree, header.offset_crypttext_tree
    if end - start < tree_size(count):
        raise FormatError("The share is not laid out as its file must be.")
    for offset in range(start, end, PIECE_BYTES):
        data = _exactly(read, offset, min(PIECE_BYTES, end - offset))
        yield len(data)
        if data.count(0) != len(data):
            break
    else:
        return
    yield from _tree(read, start, count, None)


def _blocks(read: Read, header: ShareHeader, extension: UriExtension) -> Iterator[int]:
    count = extension.num_segments
    first_leaf = header.offset_block_hashes + (padded_count(count) - 1) * HASH_SIZE
    leaves = _Row(read, first_leaf, count)
    position = header.offset_data
    unreported = 0
    for index in range(count):
        left = block_length(index, extension.size, extension.segment_size, extension.needed_shares)
        hasher = TaggedHasher(TAG_BLOCK)
        while left:
            data = _exactly(read, position, min(PIECE_BYTES, left))
            hasher.update(data)
            position += len(data)
            left -= len(data)
            unreported += len(data)
            if unreported >= PIECE_BYTES:
                yield unreported
                unreported = 0
        if hasher.digest() != leaves.take():
            raise IntegrityError("A block of the share does not match its hash.")
    yield unreported + leaves.fresh
