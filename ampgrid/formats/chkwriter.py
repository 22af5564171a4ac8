"""Makes the shares of a file, segment by segment.

Pure computation without input or output: `FileEncoder.encode_segment` does the heavy part and may
run for several segments at once, in as many threads; `FileEncoder.absorb` takes the results in
order; `FileEncoder.finish` gives everything that only the end can know.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from ampgrid.caps import ChkCap
from ampgrid.crypto.cipher import encrypt_at
from ampgrid.crypto.hashing import (
    HASH_SIZE,
    Buffer,
    block_hash,
    crypttext_hasher,
    crypttext_segment_hash,
    uri_extension_hash,
)
from ampgrid.erasure import Codec, Engine
from ampgrid.formats.hashtree import Chain, build_tree, chain_for, split_hashes
from ampgrid.formats.segments import padded_tail_size, segment_length
from ampgrid.formats.share import ShareLayout, pack_share_hashes
from ampgrid.formats.ueb import UriExtension


@frozen(eq=False)
class EncodedSegment:
    """One segment, enciphered, coded and hashed.

    Attributes:
        index: which segment.
        blocks: one block for each share.
        block_hashes: their hashes.
        crypttext: the segment enciphered, without padding.
        crypttext_segment_hash: its hash.
    """

    index: int
    blocks: Sequence[Buffer]
    block_hashes: Sequence[bytes]
    crypttext: Buffer
    crypttext_segment_hash: bytes

    def __repr__(self) -> str:
        return f"<EncodedSegment {self.index}, {len(self.crypttext)} bytes>"


@frozen(eq=False)
class FileTail:
    """What is known once all segments have been absorbed.

    Attributes:
        ueb: the URI extension block.
        ueb_bytes: the same, packed.
        ueb_hash: the hash of that.
        crypttext_tree: the tree over the crypttext segments.
        block_trees: for each share the tree over its blocks.
        share_hash_chains: for each share the chain from its root to the root of all shares.
        cap: the cap of the file.
    """

    ueb: UriExtension
    ueb_bytes: bytes
    ueb_hash: bytes
    crypttext_tree: bytes
    block_trees: Sequence[bytes]
    share_hash_chains: Sequence[Chain]
    cap: ChkCap

    def __repr__(self) -> str:
        return f"<FileTail of {self.cap!r}>"


class FileEncoder:
    """Makes the shares of one file.

    A share is `ShareLayout.header`, its block of every segment, and then `share_tail`.

    Args:
        key: of the file, 16 bytes.
        size: of the file, bytes, at least 1.
        needed: number of shares needed (k).
        total: number of shares made (n).
        segment_size: bytes a segment, a multiple of ``needed``.
        engine: what does the arithmetic; the best one that is there by default.

    Attributes:
        layout: how large everything is.
        segments_absorbed: how many segments have been taken so far.
    """

    def __init__(
        self,
        key: bytes,
        size: int,
        needed: int,
        total: int,
        segment_size: int,
        *,
        engine: Engine | None = None,
    ) -> None:
        self.layout = ShareLayout(size, needed, segment_size, total)
        self.segments_absorbed = 0
        self._key = key
        self._codec = Codec(segment_size, needed, total, engine)
        self._tail_codec = Codec(
            padded_tail_size(size, segment_size, needed), needed, total, engine
        )
        self._crypttext_hasher = crypttext_hasher()
        # Rows of hashes in bytearrays, not lists: a third of the memory, and files are large.
        self._segment_hashes = bytearray()
        self._block_hashes = [bytearray() for _ in range(total)]

    def encode_segment(self, index: int, plaintext: Buffer) -> EncodedSegment:
        """Encipher, code and hash one segment; stateless, so any thread may call it any time.

        Args:
            index: which segment.
            plaintext: all of it, and nothing more.

        Raises:
            ValueError: there is no such segment, or it has another length.
        """
        layout = self.layout
        if not 0 <= index < layout.num_segments:
            raise ValueError("there is no such segment")
        if len(plaintext) != segment_length(index, layout.size, layout.segment_size):
            raise ValueError("the segment has another length")
        crypttext = encrypt_at(self._key, index * layout.segment_size, plaintext)
        last = index == layout.num_segments - 1
        codec = self._tail_codec if last else self._codec
        padding = codec.segment_size - len(crypttext)
        blocks = codec.encode(crypttext + bytes(padding) if padding else crypttext)
        return EncodedSegment(
            index,
            blocks,
            [block_hash(block) for block in blocks],
            crypttext,
            crypttext_segment_hash(crypttext),
        )

    def absorb(self, encoded: EncodedSegment) -> None:
        """Take the hashes of the next segment; hashes its crypttext once more on the way.

        Raises:
            ValueError: it is not the next one.
        """
        if encoded.index != self.segments_absorbed:
            raise ValueError("segments must be absorbed in their order")
        self._crypttext_hasher.update(encoded.crypttext)
        self._segment_hashes += encoded.crypttext_segment_hash
        for row, value in zip(self._block_hashes, encoded.block_hashes, strict=True):
            row.extend(value)
        self.segments_absorbed += 1

    def finish(self) -> FileTail:
        """Build the trees, the URI extension block and the cap.

        Raises:
            ValueError: not all segments have been absorbed.
        """
        layout = self.layout
        if self.segments_absorbed != layout.num_segments:
            raise ValueError("not all segments have been absorbed")
        crypttext_tree = build_tree(split_hashes(self._segment_hashes))
        block_trees = [build_tree(split_hashes(row)) for row in self._block_hashes]
        share_tree = build_tree([tree[:HASH_SIZE] for tree in block_trees])
        ueb = UriExtension.derive(
            size=layout.size,
            needed=layout.needed,
            total=layout.total,
            segment_size=layout.segment_size,
            crypttext_hash=self._crypttext_hasher.digest(),
            crypttext_root_hash=crypttext_tree[:HASH_SIZE],
            share_root_hash=share_tree[:HASH_SIZE],
        )
        ueb_bytes = ueb.pack()
        ueb_hash = uri_extension_hash(ueb_bytes)
        return FileTail(
            ueb,
            ueb_bytes,
            ueb_hash,
            crypttext_tree,
            block_trees,
            [chain_for(share_tree, i, layout.total) for i in range(layout.total)],
            ChkCap(self._key, ueb_hash, layout.needed, layout.total, layout.size),
        )

    def share_tail(self, tail: FileTail, share_number: int) -> bytes:
        """Return everything of a share that stands behind its blocks.

        Args:
            tail: what `finish` returned.
            share_number: from 0 to n - 1.
        """
        return share_tail(
            self.layout,
            tail.crypttext_tree,
            tail.block_trees[share_number],
            tail.share_hash_chains[share_number],
            tail.ueb_bytes,
        )


def share_tail(
    layout: ShareLayout, crypttext_tree: bytes, block_tree: bytes, chain: Chain, ueb: bytes
) -> bytes:
    """Return everything of a share that stands behind its blocks.

    Args:
        layout: of the file's shares.
        crypttext_tree: the tree over the crypttext segments.
        block_tree: the tree over this share's blocks.
        chain: from this share's root to the root of all shares.
        ueb: the URI extension block.
    """
    return b"".join(
        (
            bytes(layout.tree_size),
            crypttext_tree,
            block_tree,
            pack_share_hashes(chain),
            layout.pack_ueb(ueb),
        )
    )
