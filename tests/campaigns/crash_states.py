"""Power cuts: every state of the disk that one may leave, restarted and checked.

    python tests/campaigns/crash_states.py --count 20000 --seed 1

Each operation of the store (`tests.campaigns.scenarios`) is done once, and every change that it
makes to the disk is recorded, those of SQLite as well. A power cut may come before each record.
What it may leave is enumerated, and beyond a bound sampled by the seed: each write since the
last fsync done, not done or torn, each name in a directory that was not synchronised old or new
(`ampgrid.testing.diskstates`). A store is opened on each state. It must serve what had been
acknowledged by then, right and whole, and nothing that is not whole; leases and accounts must
hold. From some of the states the start itself is recorded, and cut off in the same way.

Exit status 1 if anything was wrong.
"""

import argparse
import itertools
import math
import random
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from ampgrid.errors import AmpgridError
from ampgrid.testing.diskstates import Note, digest, newest, oldest, write_tree
from ampgrid.testing.sqliteio import SqliteShim
from ampgrid.testing.writelog import WriteLog
from tests.campaigns.bench import Bench, workplace
from tests.campaigns.scenarios import SCENARIOS, small_ballast

#: The most states of one moment; beyond it they are sampled.
MOST_A_MOMENT = 64
#: One in so many states is that of which the start is cut off as well.
STARTS_CUT = 20
#: So many states of each of those starts are looked at.
STATES_A_START = 6


class Recorded:
    """One operation with its log.

    Attributes:
        name: of the operation.
        log: what it wrote.
        ledger: what had been acknowledged before it.
    """

    def __init__(self, work, shim, scenario):
        bench = Bench(work, shim)
        shutil.rmtree(bench.disk)
        bench.disk.mkdir()
        bench.open()
        scenario.prepare(bench)
        if scenario.name == "start for the first time":
            bench.close()
            shutil.rmtree(bench.directory)
        elif scenario.ends_in_order:
            bench.close()
        elif scenario.is_start:
            bench.crash()
        self.name = scenario.name
        self.ledger = bench.ledger.copy()
        self.log = WriteLog(bench.disk)
        with bench.recording(self.log):
            scenario.act(bench)
        if bench.is_open:
            bench.crash()
        self.bench = bench

    def moments(self):
        """Yield (number, disk, ledger) at the start and after each change."""
        ledger = self.ledger.copy()
        for number, (disk, record) in enumerate(self.log.disks()):
            if isinstance(record, Note):
                word, arguments = record.what
                getattr(ledger, word)(*arguments)
            yield number, disk, ledger


class Slots:
    """Finds out what there is to pick, by picking the newest of everything."""

    def __init__(self, disk, block):
        self.counts = {}
        disk.tree(self._pick, block)

    def _pick(self, key, count):
        self.counts[key] = count
        return count - 1

    @property
    def product(self):
        """How many ways there are to pick."""
        return math.prod(self.counts.values())


def states_of(disk, rng, most):
    """Yield states that a power cut may leave of a disk: all of them, or ``most`` and more."""
    yield disk.tree(oldest)
    yield disk.tree(newest)
    whole = Slots(disk, 0)
    if whole.product <= most:
        for picked in itertools.product(*map(range, whole.counts.values())):
            choice = dict(zip(whole.counts, picked, strict=True))
            yield disk.tree(lambda key, count, choice=choice: choice.get(key, count - 1))
    else:
        for key, count in whole.counts.items():
            # One thing alone done, and one thing alone not done.
            last, first = count - 1, 0
            yield disk.tree(lambda k, c, key=key, last=last: last if k == key else 0)
            yield disk.tree(lambda k, c, key=key, first=first: first if k == key else c - 1)
    if not whole.counts:
        return
    for _ in range(most):
        yield random_state(disk, rng)


def random_state(disk, rng):
    """Return a random state: torn in sectors, in pages, or not at all."""
    block = rng.choice((0, 512, 4096))
    likely = rng.choice((0.1, 0.5, 0.9))

    def pick(_key, count):
        return (
            rng.randrange(count) if rng.random() < 0.5 else (count - 1) * (rng.random() < likely)
        )

    return disk.tree(pick, block)


class Campaign:
    """Counts states, and checks those that are new."""

    def __init__(self, seed, most, tell):
        self.rng = random.Random(seed)
        self.most = most
        self.tell = tell
        self.seen = set()
        self.starts = 0
        self.violations = 0

    def look_at(self, recorded, chosen):
        """Check the states of the chosen moments of one operation; returns how many are new."""
        before = len(self.seen)
        for number, disk, ledger in recorded.moments():
            if number not in chosen:
                continue
            found = 0
            for tree in states_of(disk, self.rng, self.most):
                found += self.check(recorded, number, tree, ledger)
                if found >= self.most:
                    break
        return len(self.seen) - before

    def check(self, recorded, number, tree, ledger, where=""):
        """Check a state; tell whether it is a new one."""
        # What was acknowledged differs, so the same bytes may be right at one moment only.
        key = (recorded.name, where, digest(tree), len(ledger.kept), sum(ledger.leases.values()))
        if key in self.seen:
            return False
        self.seen.add(key)
        try:
            problems = recorded.bench.check_tree(tree, ledger)
        except Exception as error:
            problems = [f"{type(error).__name__}: {error}"]
            shutil.rmtree(recorded.bench.work / "cut", ignore_errors=True)
        for problem in problems:
            self.violations += 1
            record = recorded.log.records[number - 1] if number else "the start"
            self.tell(
                f"VIOLATION: {recorded.name}{where}, after record {number} "
                f"({str(record)[:70]}): {problem}"
            )
        if not where and len(self.seen) % STARTS_CUT == 0:
            self.cut_start(recorded, number, tree, ledger)
        return True

    def cut_start(self, recorded, number, tree, ledger):
        """Record the start from a state, and cut that off, too."""
        bench = recorded.bench
        shutil.rmtree(bench.disk)
        write_tree(tree, bench.disk)
        log = WriteLog(bench.disk)
        with bench.recording(log):
            try:
                bench.open()
            except AmpgridError:
                return  # already told
        bench.crash()
        self.starts += 1
        moments = set(self.rng.choices(range(len(log.records) + 1), k=STATES_A_START))
        for moment, (disk, _) in enumerate(log.disks()):
            if moment in moments:
                state = random_state(disk, self.rng)
                self.check(recorded, number, state, ledger, f", start cut off at {moment}")


def run(count=None, seed=1, tell=print, names=None):
    """Run the campaign; returns the number of violations.

    Args:
        count: about how many states to look at; None for `MOST_A_MOMENT` of every moment.
        seed: of the sampling.
        tell: called with each line of the report.
        names: the operations, all if not given.
    """
    began = time.monotonic()
    with workplace("states") as work, SqliteShim.installed() as shim, small_ballast():
        all_recorded = [
            Recorded(work / str(place), shim, SCENARIOS[name])
            for place, name in enumerate(names or SCENARIOS)
            if not (work / str(place)).mkdir()
        ]
        moments = sum(len(recorded.log.records) + 1 for recorded in all_recorded)
        most = MOST_A_MOMENT if count is None else max(2, math.ceil(count / moments))
        campaign = Campaign(seed, most, tell)
        share = 1.0 if count is None else min(1.0, count / moments)
        for recorded in all_recorded:
            numbers = range(len(recorded.log.records) + 1)
            chosen = {number for number in numbers if campaign.rng.random() <= share}
            shim.tap = None
            new = campaign.look_at(recorded, chosen)
            tell(f"{recorded.name}: {len(numbers)} moments, {len(chosen)} cut, {new} states")
        took = time.monotonic() - began
        tell(
            f"{len(campaign.seen)} distinct states of {moments} moments, {campaign.starts} starts "
            f"cut off as well, seed {seed}, {took:.0f} s, {campaign.violations} violations"
        )
    return campaign.violations


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, help="about how many states; all that are in bounds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="names of operations")
    options = parser.parse_args()
    sys.exit(1 if run(options.count, options.seed, names=options.only) else 0)
