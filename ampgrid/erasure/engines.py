"""Which library does the arithmetic of erasure coding.

zfec defines the code: a systematic Reed-Solomon code over GF(2**8). Intel's ISA-L, given the
same matrix, gives the same bytes many times faster; it is used where it is installed and after
it has agreed with zfec here and now.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from ampgrid.crypto.hashing import Buffer
from ampgrid.errors import ConfigError

#: Names the engine to use, ``zfec`` or ``isal``, instead of the best one.
ENGINE_VARIABLE = "AMPGRID_ERASURE"


class Engine(Protocol):
    """The arithmetic. Both methods may be called from any thread, and trust their arguments."""

    @property
    def name(self) -> str:
        """What it is called: ``zfec`` or ``isal``."""
        ...

    def encode(
        self, needed: int, total: int, segment: Buffer, wanted: tuple[int, ...]
    ) -> list[bytes]:
        """Compute secondary blocks.

        Args:
            needed: number of primary blocks (k).
            total: number of all blocks (n).
            segment: the ``needed`` primary blocks, one after the other.
            wanted: numbers of the blocks to compute, each from ``needed`` to ``total`` - 1.

        Returns:
            The wanted blocks in that order.
        """
        ...

    def rebuild(
        self,
        needed: int,
        total: int,
        blocks: Sequence[Buffer],
        numbers: tuple[int, ...],
        missing: tuple[int, ...],
    ) -> list[bytes]:
        """Compute primary blocks from others.

        Args:
            needed: number of primary blocks (k).
            total: number of all blocks (n).
            blocks: ``needed`` blocks of equal length.
            numbers: their numbers, all different.
            missing: numbers of the primary blocks to compute, none of them in ``numbers``.

        Returns:
            The missing blocks in that order.
        """
        ...


def zfec_engine() -> Engine:
    """Return the engine that is always there."""
    from ampgrid.erasure.zfec_ import ZFEC

    return ZFEC


def isal_engine() -> Engine | None:
    """Return the fast engine, or None where ISA-L is absent or does not agree with zfec."""
    from ampgrid.erasure.isal import load

    return load()


def best_engine() -> Engine:
    """Return the engine to use: what ``AMPGRID_ERASURE`` names, else ISA-L, else zfec.

    Raises:
        ConfigError: the variable names an engine that is unknown or not here.
    """
    return _engine_named(os.environ.get(ENGINE_VARIABLE, ""))


@lru_cache(maxsize=4)
def _engine_named(asked: str) -> Engine:
    if asked not in {"", "zfec", "isal"}:
        raise ConfigError(f"{ENGINE_VARIABLE} must be zfec or isal, or not be set.")
    fast = None if asked == "zfec" else isal_engine()
    if asked == "isal" and fast is None:
        raise ConfigError(
            f"{ENGINE_VARIABLE}=isal, but libisal was not found; install libisal2 or"
            " ampgrid[fast], or unset the variable."
        )
    return fast or zfec_engine()
