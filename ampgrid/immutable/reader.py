"""Reading one share of one file from one server (seed 001's IStorageBucketReader).

Nothing that a share says is used before a hash says that it belongs to the file: the URI
extension against the cap, the chain of share hashes and the block hashes against the URI
extension, each block against its hash.
"""

from __future__ import annotations

from functools import lru_cache

from ampgrid.caps import ChkCap, ChkVerifierCap
from ampgrid.crypto import hashing
from ampgrid.errors import FormatError, IntegrityError
from ampgrid.formats import hashtree
from ampgrid.formats.hashtree import Chain
from ampgrid.formats.segments import block_length
from ampgrid.formats.share import (
    MAX_HEADER_SIZE,
    MAX_TAIL_BYTES,
    ShareHeader,
    parse_header,
    unpack_share_hashes,
)
from ampgrid.formats.ueb import UriExtension
from ampgrid.ports import Threads
from ampgrid.storage.client import StorageServer

#: A tree of block hashes of at most this size is read together with the end of the share.
_SMALL_TREE_BYTES = 48 * 1024


class ShareReader:
    """One share.

    Args:
        server: who holds it.
        cap: of the file.
        number: of the share.
        size: of the share, as the server says, bytes.
        head: its first bytes, as the server sent them.
        threads: where long hashing happens.

    Attributes:
        found_order: how many shares were found before this one; smaller is faster.
        slow: whether it kept a download waiting.
        root: of the tree over its blocks, checked; empty before `prepare`.
    """

    def __init__(
        self,
        server: StorageServer,
        cap: ChkCap | ChkVerifierCap,
        number: int,
        size: int,
        head: bytes,
        threads: Threads,
    ) -> None:
        self.server = server
        self.number = number
        self.found_order = 0
        self.slow = False
        self.root = b""
        self._cap = cap
        self._size = size
        self._head = head
        self._threads = threads
        self._header: ShareHeader | None = None
        self._block_hashes: list[bytes] = []
        self._extension: UriExtension | None = None

    def __str__(self) -> str:
        return f"share {self.number} on server {self.server.name}"

    async def read(self, offset: int, length: int) -> bytes:
        """Return exactly so many bytes of the share.

        Raises:
            PeerError: the server does not hand them over.
            IntegrityError: it handed over fewer.
        """
        if offset + length <= len(self._head):
            return self._head[offset : offset + length]
        data = await self.server.read(self._cap.storage_index, self.number, offset, length)
        if len(data) != length:
            raise IntegrityError("the share is shorter than it should be")
        return data

    async def header(self) -> ShareHeader:
        """Return the header.

        Raises:
            FormatError: it is none.
            PeerError, IntegrityError: as `read`.
        """
        if self._header is None:
            head = await self.read(0, min(MAX_HEADER_SIZE, self._size))
            self._header = parse_header(head, self._size)
        return self._header

    async def prepare(self) -> UriExtension:
        """Read and check everything but the blocks; after it, blocks can be read.

        Returns:
            The file's URI extension.

        Raises:
            FormatError, IntegrityError: the share is not one of this file.
            PeerError: the server does not hand it over.
        """
        header = await self.header()
        start, end = header.offset_share_hashes, self._size
        if end - start > MAX_TAIL_BYTES:
            raise FormatError("the share has too much behind its hashes")
        trees = header.offset_block_hashes
        # A small tree comes along; a large one is asked for once the file says that it is large.
        first = trees if start - trees <= _SMALL_TREE_BYTES else start
        tail = await self.read(first, end - first)
        extension = self._check_extension(header, tail[header.offset_ueb - first :])
        if start - trees != hashtree.tree_size(extension.num_segments):
            raise IntegrityError("the share is not laid out as a share of this file")
        flat = tail[: start - first] if first < start else await self.read(trees, start - trees)
        chain = unpack_share_hashes(tail[start - first : header.offset_ueb - first])
        if extension.num_segments == 1:
            # One leaf and a short chain take less than the way into a thread.
            checked = self._check_blocks(extension, chain, flat)
        else:
            checked = await self._threads.run(self._check_blocks, extension, chain, flat)
        self._extension, (self.root, self._block_hashes) = extension, checked
        return extension

    def _check_extension(self, header: ShareHeader, section: bytes) -> UriExtension:
        cap = self._cap
        packed = packed_extension(header, section)
        extension = _checked(packed, cap.ueb_hash, cap.needed, cap.total, cap.size)
        if header.block_size * extension.needed_shares != extension.segment_size:
            raise IntegrityError("the share's block size is not the file's")
        return extension

    def _check_blocks(
        self, extension: UriExtension, chain: Chain, flat: bytes
    ) -> tuple[bytes, list[bytes]]:
        """Return the root over the blocks and their hashes, which lead to the file's root."""
        total = extension.total_shares
        if hashtree.root_from_chain(chain, self.number, total) != extension.share_root_hash:
            raise IntegrityError("the share's hashes do not lead to the file's root")
        leaf = hashtree.leaf_from_chain(chain, self.number, total)
        return leaf, hashtree.check_tree(flat, extension.num_segments, leaf)

    async def crypttext_hashes(self, extension: UriExtension) -> list[bytes]:
        """Read and check the hashes of the crypttext segments.

        Raises:
            FormatError, IntegrityError: they do not lead to the root in the URI extension.
            PeerError: the server does not hand them over.
        """
        header = await self.header()
        length = hashtree.tree_size(extension.num_segments)
        flat = await self.read(header.offset_crypttext_tree, length)

        return await self._threads.run(
            hashtree.check_tree, flat, extension.num_segments, extension.crypttext_root_hash
        )

    def _block_place(self, index: int) -> tuple[int, int]:
        """Return (offset, length) of the block of one segment."""
        header, extension = self._header, self._extension
        assert header is not None, "prepare comes first"
        assert extension is not None
        length = block_length(
            index, extension.size, extension.segment_size, extension.needed_shares
        )
        return header.offset_data + index * header.block_size, length

    def block_at_hand(self, index: int) -> bytes | None:
        """Return what `block` would if that came with the first bytes of the share, else None."""
        offset, length = self._block_place(index)
        end = offset + length
        return self._head[offset:end] if end <= len(self._head) else None

    async def block(self, index: int) -> bytes:
        """Return the block of one segment, not checked yet (see `check_block`)."""
        return await self.read(*self._block_place(index))

    def check_block(self, index: int, block: bytes) -> bool:
        """Tell whether a block is the one that the file has there."""
        return hashing.block_hash(block) == self._block_hashes[index]


@lru_cache(maxsize=16)
def _checked(packed: bytes, ueb_hash: bytes, needed: int, total: int, size: int) -> UriExtension:
    """Return a file's URI extension, which every share of it holds; checked once for all.

    Raises:
        FormatError, IntegrityError: it is not what a cap with these parts speaks of.
    """
    if hashing.uri_extension_hash(packed) != ueb_hash:
        raise IntegrityError("the share belongs to another file")
    extension = UriExtension.unpack(packed)
    extension.check(needed, total, size)
    return extension


def packed_extension(header: ShareHeader, section: bytes) -> bytes:
    """Return the URI extension block out of the last section of a share.

    Args:
        header: of the share.
        section: the share from ``header.offset_ueb`` on.

    Raises:
        FormatError: there is none.
    """
    length = header.ueb_length(section[: header.length_size])
    packed = section[header.length_size : header.length_size + length]
    if len(packed) != length:
        raise FormatError("the share ends inside its URI extension block")
    return packed
