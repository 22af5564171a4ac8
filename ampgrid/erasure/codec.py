"""One erasure code applied to segments of one size.

Source: the codec "crs" of Tahoe-LAFS, that is zfec: systematic Reed-Solomon over GF(2**8); block
i of ``needed`` is the i-th part of the segment, the others are computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ampgrid.crypto.hashing import Buffer
from ampgrid.erasure.engines import Engine, best_engine
from ampgrid.errors import FormatError

#: The most blocks that GF(2**8) allows.
MAX_BLOCKS = 256
#: Lengths are ints of C in ISA-L.
_MAX_BLOCK_SIZE = 2**31


class Codec:
    """Cuts segments into blocks of which any ``needed`` give the segment back.

    This is both ends of seed 001's codec, ICodecEncoder and ICodecDecoder. It keeps no state
    between calls and may be used by several threads at once.

    Args:
        segment_size: bytes a segment, a multiple of ``needed``.
        needed: number of blocks that give a segment back (k).
        total: number of blocks that are made (n).
        engine: what does the arithmetic; the best one that is there by default.

    Attributes:
        segment_size: as given.
        needed: as given.
        total: as given.
        block_size: bytes a block.

    Raises:
        FormatError: the numbers make no code.
    """

    __slots__ = ("_engine", "block_size", "needed", "segment_size", "total")

    def __init__(
        self, segment_size: int, needed: int, total: int, engine: Engine | None = None
    ) -> None:
        if not 1 <= needed <= total <= MAX_BLOCKS:
            raise FormatError("The code is impossible: 1 <= needed <= total <= 256.")
        if segment_size < 1 or segment_size % needed:
            raise FormatError("The segment size is not a multiple of the number of blocks needed.")
        if segment_size // needed >= _MAX_BLOCK_SIZE:
            raise FormatError("The segments are larger than the codec supports.")
        self.segment_size = segment_size
        self.needed = needed
        self.total = total
        self.block_size = segment_size // needed
        self._engine = engine or best_engine()

    def params(self) -> bytes:
        """Return the parameters as the URI extension block has them: ``segsize-k-n``."""
        return b"%d-%d-%d" % (self.segment_size, self.needed, self.total)

    def encode(self, segment: Buffer, wanted: Iterable[int] | None = None) -> list[Buffer]:
        """Cut one segment into blocks.

        Args:
            segment: exactly ``segment_size`` bytes. It must not change while the result lives:
                the first ``needed`` blocks are views of it.
            wanted: the numbers of the blocks to make, all different; all of them by default.

        Returns:
            The wanted blocks in that order, each of ``block_size`` bytes.

        Raises:
            ValueError: the segment has another length, or a number is out of range or there twice.
        """
        if len(segment) != self.segment_size:
            raise ValueError("the segment is not of the codec's size")
        numbers = tuple(range(self.total) if wanted is None else wanted)
        if not all(0 <= number < self.total for number in numbers):
            raise ValueError("a wanted block is out of range")
        # zfec has no room for more results than there are blocks, and does not look.
        if len(set(numbers)) != len(numbers):
            raise ValueError("one block is wanted twice")
        secondary = tuple(number for number in numbers if number >= self.needed)
        made = iter(self._engine.encode(self.needed, self.total, segment, secondary))
        view = memoryview(segment).toreadonly()
        size = self.block_size
        return [
            view[number * size : (number + 1) * size] if number < self.needed else next(made)
            for number in numbers
        ]

    def decode(self, blocks: Sequence[Buffer], numbers: Sequence[int]) -> bytes:
        """Give a segment back.

        The code cannot notice a wrong block: check the hashes of blocks, or that of the result.

        Args:
            blocks: ``needed`` blocks of ``block_size`` bytes.
            numbers: which they are, all different.

        Returns:
            The segment, ``segment_size`` bytes.

        Raises:
            FormatError: there are not exactly ``needed`` blocks, or a number or a length is wrong.
        """
        if len(blocks) != self.needed or len(numbers) != self.needed:
            raise FormatError(f"Exactly {self.needed} blocks give a segment back.")
        if len(set(numbers)) != self.needed:
            raise FormatError("One block is given twice.")
        if not all(0 <= number < self.total for number in numbers):
            raise FormatError("The number of a block is out of range.")
        if any(len(block) != self.block_size for block in blocks):
            raise FormatError("A block is not of the size that the segment asks.")
        primary = dict(zip(numbers, blocks, strict=True))
        missing = tuple(i for i in range(self.needed) if i not in primary)
        if missing:
            made = self._engine.rebuild(self.needed, self.total, blocks, tuple(numbers), missing)
            primary.update(zip(missing, made, strict=True))
        return b"".join([primary[i] for i in range(self.needed)])
