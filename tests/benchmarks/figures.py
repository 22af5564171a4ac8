"""What was measured of one part: how fast, and at what cost in processor time.

Speeds in time depend on what else the machine does; processor seconds much less. Both are kept.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs

MB = 1e6


@attrs.frozen
class Figure:
    """One part.

    Attributes:
        amount: done a second, in ``unit``.
        unit: ``MB`` (a million bytes) or what was counted, such as ``calls``.
        cpu: processor seconds for one ``unit``, user and system, over all processes that took
            part.
        here: the part of ``cpu`` that the process spent which began it; with ``there`` for the
            other end. Both 0 where there is one process.
        there: see ``here``.
    """

    amount: float
    unit: str
    cpu: float
    here: float = 0.0
    there: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        return attrs.asdict(self)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the processor time that processes have used so far, user and system."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def peak_memory(pid: int) -> int:
    """Return the most memory that a process has had since it began, bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def median_of(figures: Sequence[Figure]) -> Figure:
    """Return the figure whose every number is the median of those of ``figures``."""
    first = figures[0]

    def middle(name: str) -> float:
        return statistics.median(getattr(figure, name) for figure in figures)

    return Figure(middle("amount"), first.unit, middle("cpu"), middle("here"), middle("there"))


def timed(work: Callable[[], object], amount: float, unit: str, seconds: float) -> Figure:
    """Do some work again and again for about so many seconds, in this process.

    Args:
        work: called at least once to warm up, and at least twice after that.
        amount: what one call does, in ``unit``.
        unit: see `Figure`.
        seconds: how long.
    """
    work()
    times, began, cpu = 0, time.perf_counter(), time.process_time()
    while times < 2 or time.perf_counter() - began < seconds:
        work()
        times += 1
    took, spent = time.perf_counter() - began, time.process_time() - cpu
    return Figure(times * amount / took, unit, spent / (times * amount))
