"""How long commands take from start to end, warm: ``ampgrid --version`` and ``ampgrid ls``."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.amounts import Amount
from tests.benchmarks.measuring import environment

ROOT = Path(__file__).resolve().parents[2]
#: Runs that count, and those before.
RUNS, WARM_RUNS = 10, 2


def program() -> list[str]:
    """Return what runs ``ampgrid``: the script of this Python's environment, if there is one."""
    script = Path(sys.executable).with_name("ampgrid")
    return [str(script)] if script.exists() else [sys.executable, "-m", "ampgrid"]


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(words: Sequence[str], runs: int = RUNS) -> Amount:
    """Run a command again and again; the medians count.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    took, cpu = [], []
    for run in range(WARM_RUNS + runs):
        before, began = _spent(), time.perf_counter()
        subprocess.run(
            [*program(), *words], check=True, capture_output=True, cwd=ROOT, env=environment()
        )
        if run >= WARM_RUNS:
            took.append(time.perf_counter() - began)
            cpu.append(_spent() - before)
    return Amount(1 / statistics.median(took), "runs", statistics.median(cpu))
