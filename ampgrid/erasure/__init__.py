"""Erasure coding: any k of n blocks give a segment back.

* `Codec`: one code for segments of one size.
* `best_engine`, `isal_engine`, `zfec_engine`: what does the arithmetic.
"""

from ampgrid.erasure.codec import MAX_BLOCKS, Codec
from ampgrid.erasure.engines import (
    ENGINE_VARIABLE,
    Engine,
    best_engine,
    isal_engine,
    zfec_engine,
)

__all__ = [
    "ENGINE_VARIABLE",
    "MAX_BLOCKS",
    "Codec",
    "Engine",
    "best_engine",
    "isal_engine",
    "zfec_engine",
]
