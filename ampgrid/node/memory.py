"""How much memory this process takes, as the kernel tells it, and what keeps that low."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

_KEYS = ("VmPeak", "VmSize", "VmData", "VmHWM", "VmRSS")


def memory_usage(status: Path = Path("/proc/self/status")) -> dict[str, int]:
    """Return VmPeak, VmSize, VmData, VmHWM and VmRSS in bytes; 0 where the kernel does not say."""
    found = dict.fromkeys(_KEYS, 0)
    try:
        text = status.read_text("ascii", "replace")
    except OSError:
        return found
    for line in text.splitlines():
        key, _colon, value = line.partition(":")
        words = value.split()
        if key in found and len(words) == 2 and words[1] == "kB" and words[0].isdigit():
            found[key] = int(words[0]) * 1024
    return found


#: Of ``malloc.h`` of glibc: the parameter of `mallopt` for the most arenas.
_M_ARENA_MAX = -8


def share_one_heap() -> None:
    """Let all threads allocate from one heap; to be called before there are threads.

    glibc gives each of the first threads a heap of its own, of which little is ever used here:
    threads hold Python's lock while they allocate.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def settle_memory() -> None:
    """Take what is there for what stays, and give the rest back to the system.

    That is for a process that has started: no collection need look at its modules again.
    """
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
