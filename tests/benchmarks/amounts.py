"""What was measured of one part: how fast, and at what cost in processor time.

Speeds in time depend on what else the machine does; processor seconds much less. Both are kept.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import attrs

#: Bytes of what is called ``MB``.
MB = 1e6


@attrs.frozen
class Amount:
    """One part.

    Attributes:
        rate: how much of it a second, in ``unit``.
        unit: ``MB`` (a million bytes) or what was counted, such as ``calls``.
        cpu: processor seconds for one ``unit``, user and system, over all processes that took
            part.
        here: the part of ``cpu`` that the process spent which began it; with ``there`` for the
            other end. Both 0 where there is one process.
        there: see ``here``.
    """

    rate: float
    unit: str
    cpu: float
    here: float = 0.0
    there: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        return attrs.asdict(self)


def median_of(amounts: Sequence[Amount]) -> Amount:
    """Return the amount whose every number is the median of those of ``amounts``."""

    def middle(name: str) -> float:
        return statistics.median(getattr(amount, name) for amount in amounts)

    unit = amounts[0].unit
    return Amount(middle("rate"), unit, middle("cpu"), middle("here"), middle("there"))


def timed(work: Callable[[], object], amount: float, unit: str, seconds: float) -> Amount:
    """Do some work again and again for about so many seconds, in this process.

    Args:
        work: called once to warm up, and at least twice after that.
        amount: what one call does, in ``unit``.
        unit: see `Amount`.
        seconds: how long.
    """
    work()
    times, began, cpu = 0, time.perf_counter(), time.process_time()
    while times < 2 or time.perf_counter() - began < seconds:
        work()
        times += 1
    took, spent = time.perf_counter() - began, time.process_time() - cpu
    return Amount(times * amount / took, unit, spent / (times * amount))
