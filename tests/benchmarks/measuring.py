"""What the measuring programs share: random files, and what Linux tells of a process."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def write_random(path: Path, size: int) -> None:
    """Write ``size`` random bytes."""
    with path.open("wb") as file:
        while size:
            piece = os.urandom(min(size, 1 << 20))
            file.write(piece)
            size -= len(piece)


def environment(**more: str) -> dict[str, str]:
    """Return an environment in which modules are kept compiled.

    That is how they are after an installation; a checkout in which nothing may be written would
    be compiled again at every start.
    """
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return kept | more


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time that processes have used so far, user and system together."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _field(path: Path, name: str) -> int:
    """Return a field of a file of /proc that tells kB, in bytes."""
    for line in path.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"{path} has no field {name}")


def peak_memory(pid: int) -> int:
    """Return the most memory that a process has had since its start or `forget_peak`, bytes."""
    return _field(Path(f"/proc/{pid}/status"), "VmHWM")


def forget_peak(pid: int) -> None:
    """Let the peak of a process's memory begin anew, at what it has now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def resident_memory(pid: int) -> tuple[int, int]:
    """Return what a process has in memory, and what of it no other process shares, bytes."""
    rollup = Path(f"/proc/{pid}/smaps_rollup")
    private = _field(rollup, "Private_Clean") + _field(rollup, "Private_Dirty")
    return _field(rollup, "Rss"), private
