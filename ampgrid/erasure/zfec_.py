"""The reference: zfec."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import zfec

from ampgrid.crypto.hashing import Buffer


@functools.lru_cache(maxsize=64)
def generator_matrix(needed: int, total: int) -> tuple[bytes, ...]:
    """Return the matrix of the code: one row of ``needed`` coefficients for each block.

    Block j is the sum of row j's coefficients times the primary blocks, so encoding the unit
    vectors spells the matrix out.
    """
    units = [bytes(i == j for j in range(needed)) for i in range(needed)]
    return tuple(bytes(row) for row in zfec.Encoder(needed, total).encode(units))


@functools.lru_cache(maxsize=64)
def _encoder(needed: int, total: int) -> zfec.Encoder:
    return zfec.Encoder(needed, total)


@functools.lru_cache(maxsize=64)
def _decoder(needed: int, total: int) -> zfec.Decoder:
    return zfec.Decoder(needed, total)


class ZfecEngine:
    """zfec as an `ampgrid.erasure.engines.Engine`."""

    name = "zfec"

    def encode(
        self, needed: int, total: int, segment: Buffer, wanted: tuple[int, ...]
    ) -> list[bytes]:
        """Compute secondary blocks."""
        if not wanted:
            return []
        whole = memoryview(segment)
        size = len(whole) // needed
        primary = [whole[i * size : (i + 1) * size] for i in range(needed)]
        return list(_encoder(needed, total).encode(primary, wanted))

    def rebuild(
        self,
        needed: int,
        total: int,
        blocks: Sequence[Buffer],
        numbers: tuple[int, ...],
        missing: tuple[int, ...],
    ) -> list[bytes]:
        """Compute primary blocks from others."""
        primary = _decoder(needed, total).decode(list(blocks), list(numbers))
        return [primary[number] for number in missing]


#: There is no more than one: it has no state of its own.
ZFEC = ZfecEngine()
