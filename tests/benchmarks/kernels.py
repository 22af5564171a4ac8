"""What a processor does to the bytes of a file: hashing, ciphering, coding.

One thread, on segments of the size that files have, with the functions that ampgrid calls. A
million bytes of coding are a million bytes of the file, whatever number of blocks come of them.
Decoding is the dearest there is: the last k of the n blocks, of which as few as may be are
primary ones.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from ampgrid.crypto.cipher import encrypt_at
from ampgrid.crypto.sameness import Mark
from ampgrid.erasure import Codec, Engine
from ampgrid.erasure.engines import isal_engine, zfec_engine
from tests.benchmarks.amounts import MB, Amount, timed

SEGMENT_BYTES = 1024 * 1024
#: k of n.
CODES = ((2, 3), (3, 5), (3, 10), (25, 100))


def code_name(what: str, engine: str, needed: int, total: int) -> str:
    """Return the name of a figure: ``encode 3-of-5, zfec``."""
    return f"{what} {needed}-of-{total}, {engine}"


def engines() -> dict[str, Engine]:
    """Return the engines that are here, by name."""
    fast = isal_engine()
    return {"zfec": zfec_engine(), **({"isal": fast} if fast is not None else {})}


def _codings(engine: Engine, needed: int, total: int) -> dict[str, Callable[[], object]]:
    size = SEGMENT_BYTES - SEGMENT_BYTES % needed
    codec, segment = Codec(size, needed, total, engine), os.urandom(size)
    numbers = list(range(total - needed, total))
    blocks = [bytes(block) for block in codec.encode(segment, numbers)]
    return {
        "encode": lambda: codec.encode(segment),
        "decode": lambda: codec.decode(blocks, numbers),
    }


def measure(seconds: float) -> dict[str, Amount]:
    """Measure each for about so many seconds."""
    segment, key = os.urandom(SEGMENT_BYTES), os.urandom(16)
    amount, mark = SEGMENT_BYTES / MB, Mark(key)
    found = {
        "SHA-256": timed(lambda: hashlib.sha256(segment).digest(), amount, "MB", seconds),
        "AES-128-CTR": timed(lambda: encrypt_at(key, 0, segment), amount, "MB", seconds),
        "AES-128-GMAC": timed(lambda: mark.update(segment), amount, "MB", seconds),
    }
    for name, engine in engines().items():
        for needed, total in CODES:
            for what, work in _codings(engine, needed, total).items():
                figure = code_name(what, name, needed, total)
                found[figure] = timed(work, amount, "MB", seconds)
    return found
