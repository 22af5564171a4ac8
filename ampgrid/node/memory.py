"""How much memory this process takes, as the kernel tells it."""

from __future__ import annotations

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
