"""Every operation of the store, failing at its Nth call to the system, for every N.

    python tests/campaigns/nth_failure.py

For each operation (`tests.campaigns.scenarios`), each kind of failure, once and for good: the
1st, 2nd, 3rd ... call to the file system or of SQLite to the system fails, until none is left to
fail. Each time the outcome must be success or an error of ampgrid's, and each time the store
must be what the ledger says: as a power cut leaves it at that moment, as it goes on once the
disk is well, after something new was stored, and as the next process finds it, whether this one
is closed in order or killed. What was
acknowledged is there and right, nothing partial is served, the accounts are exact.

Then faults meet faults: an operation fails at its Nth call, the process dies, and its start
fails at its Mth.

Exit status 1 if anything was wrong. ``--count`` bounds N, for a short run.
"""

import argparse
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from ampgrid.errors import AmpgridError
from ampgrid.store.health import PROBE_SECONDS
from ampgrid.testing.faults import EIO, FAULTS, LATE, Fault
from ampgrid.testing.sqliteio import SqliteShim
from ampgrid.testing.writelog import WriteLog
from tests.campaigns.bench import NOW, SMALL, Bench, contents, index_of, workplace
from tests.campaigns.scenarios import SCENARIOS, Scenario, small_ballast

#: What meets a second fault at the start after it: those that leave most behind.
COMPOUND = ("store a large share", "put a group of small shares", "start after a crash")


class Trial:
    """One operation, prepared once and done again and again on a copy."""

    def __init__(self, work: Path, shim: SqliteShim, scenario: Scenario) -> None:
        self.scenario = scenario
        self.shim = shim
        self.work = work
        self.template = work / "template"
        shutil.rmtree(self.template, ignore_errors=True)
        bench = self.bench()
        bench.open()
        scenario.prepare(bench)
        if scenario.ends_in_order:
            bench.close()
        else:
            bench.crash()
        bench.directory.rename(self.template)
        self.ledger = bench.ledger

    def bench(self) -> Bench:
        """Return a bench in a directory of its own."""
        bench = Bench(self.work, self.shim)
        shutil.rmtree(bench.directory, ignore_errors=True)
        return bench

    def set_up(self) -> Bench:
        """Return a bench with the store as prepared, open unless the act opens it."""
        bench = self.bench()
        if self.scenario.name != "start for the first time":
            shutil.copytree(self.template, bench.directory)
        bench.ledger = self.ledger.copy()
        if not self.scenario.is_start:
            bench.open()
        return bench

    def run(self, fault: Fault, at: int, *, lasting: bool) -> tuple[str | None, list[str]]:
        """Do it with one failure; return the call that failed, and what was wrong."""
        bench = self.set_up()
        problems = []
        with bench.recording(WriteLog(bench.disk)):
            self._act(bench, fault, at, lasting, problems)
        problems += [f"power cut: {p}" for p in bench.check_power_cut()]
        failed = bench.plan.failed
        if bench.is_open:
            problems += [f"going on: {p}" for p in bench.check()]
            problems += [f"going on: {p}" for p in self._go_on(bench)]
            killed = bench.photograph()
            bench.close()
            problems += [f"closed, next start: {p}" for p in bench.check_next_start()]
            bench.replace(killed)
        if bench.directory.exists():
            problems += [f"next start: {p}" for p in bench.check_next_start()]
        problems += [f"SQLite: {error!r}" for error in self.shim.errors]
        self.shim.errors.clear()
        return failed, problems

    def _act(self, bench, fault, at, lasting, problems) -> None:
        bench.plan.set(at, fault, lasting=lasting)
        try:
            self.scenario.act(bench)
        except Exception as error:
            problems.append(f"{type(error).__name__}: {error}")
        bench.plan.heal()

    def _go_on(self, bench: Bench) -> list[str]:
        """Let the store, its disk well again, take something new once its probe is due."""
        bench.now = NOW + PROBE_SECONDS
        for number, put in ((30, bench.put), (31, bench.keep)):
            if not put(index_of(99), number, contents(SMALL, number)):
                return [f"share {number} is refused by a store whose disk is well"]
        return bench.check()

    def run_compound(self, first: Fault, at: int, second: Fault, then: int) -> tuple[bool, list]:
        """Fail, die, and fail at the start; tell if that failure came, and what was wrong."""
        bench = self.set_up()
        problems = []
        self._act(bench, first, at, False, problems)
        if bench.plan.failed is None:
            return False, problems
        if bench.is_open:
            bench.crash()
        bench.plan.set(then, second)
        try:
            bench.open()
        except AmpgridError:
            pass
        except Exception as error:
            problems.append(f"{type(error).__name__}: {error}")
        failed = bench.plan.failed is not None
        bench.plan.heal()
        if bench.is_open:
            bench.crash()
        return failed, problems + bench.check_next_start()


def run(count=None, tell=print, names=None):
    """Run the campaign; returns the number of violations.

    Args:
        count: the most failures of one kind of one operation, None for all there are.
        tell: called with each line of the report.
        names: the operations, all if not given.
    """
    violations = runs = 0
    began = time.monotonic()
    with workplace("nth") as work, SqliteShim.installed() as shim, small_ballast():
        for name in names or SCENARIOS:
            trial = Trial(work, shim, SCENARIOS[name])
            for fault in FAULTS:
                for lasting in (False, True):
                    made, wrong = exhaust(trial, fault, lasting, count, tell)
                    runs += made
                    violations += wrong
        for name in COMPOUND if names is None else ():
            made, wrong = exhaust_compound(Trial(work, shim, SCENARIOS[name]), count, tell)
            runs += made
            violations += wrong
    took = time.monotonic() - began
    tell(f"{runs} failures injected in {took:.0f} s, {violations} violations")
    return violations


def exhaust(trial, fault, lasting, count, tell):
    """Fail every call of one operation; returns (number of failures, of violations)."""
    calls = Counter()
    wrong = at = 0
    mode = "for good" if lasting else "once"
    while count is None or at < count:
        failed, problems = trial.run(fault, at, lasting=lasting)
        for problem in problems:
            tell(f"VIOLATION: {trial.scenario.name}, {fault.name} {mode}, N={at + 1}: {problem}")
        wrong += len(problems)
        if failed is None:
            break
        calls[failed] += 1
        at += 1
    what = ", ".join(f"{n} {name}" for name, n in sorted(calls.items()))
    tell(f"{trial.scenario.name}; {fault.name} {mode}; N=1..{at}: {what or 'nothing to fail'}")
    return at, wrong


def exhaust_compound(trial, count, tell):
    """Fail every call of one operation, and then every call of the start after it."""
    wrong = runs = 0
    for first in (EIO, LATE):
        at = 0
        while count is None or at < count:
            then = 0
            came = True
            while came and (count is None or then < count):
                came, problems = trial.run_compound(first, at, EIO, then)
                for problem in problems:
                    tell(
                        f"VIOLATION: {trial.scenario.name}, {first.name} at N={at + 1}, "
                        f"EIO at the start at M={then + 1}: {problem}"
                    )
                wrong += len(problems)
                runs += came
                then += 1
            if then == 1:
                break
            at += 1
        tell(f"{trial.scenario.name}; {first.name} at N=1..{at}, then EIO at the start")
    return runs, wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--count", type=int, help="the most failures of one kind; all if not given"
    )
    parser.add_argument("--only", nargs="*", help="names of operations")
    options = parser.parse_args()
    sys.exit(1 if run(options.count, names=options.only) else 0)
