"""The register of directories, all states of it within bounds that are wider than the suite's.

    python tests/campaigns/register_model.py --level 1 --count 3000000
    python tests/campaigns/register_model.py --level 1 --only "liar and retry" "move on"

Searches every state that the acceptors, writers, readers and the network can reach within each
of the bounds in ``tests/model/configurations.py``, and checks in each what must never be wrong
(``docs/specs/register.md#invariants``). Nothing is left to chance, so there is no seed.

Level 0 is what the suite runs, with a writer left alone in every state that differs; level 1 goes
further; level 2 shows that each of the mutants is found. ``--count`` is the most states for each
of the bounds; a search that comes to it says so, and was not exhaustive. 100,000 states take
about ten seconds and 100 MB. Prints the states and steps of each, and the shortest way to
whatever is wrong; exits with 1 then.
"""

import argparse
import gc
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.model.configurations import LARGE, SMALL
from tests.model.explore import explore
from tests.model.liveness import Alone
from tests.model.mutants import MUTANTS


def search(table, most, alone, tell):
    """Search within each of the bounds; returns how many of them are wrong, and how many cut."""
    wrong = cut = 0
    for name, (bounds, _) in table.items():
        each = Alone() if alone and not (bounds.absent or bounds.full) else None
        found = explore(bounds, most=most, each=each)
        whole = "all" if found.whole else "cut short"
        tell(
            f"{name:28} {found.states:>9,} states {found.steps:>10,} steps"
            f" {found.seconds:6.1f} s  {whole}"
        )
        if found.wrong:
            wrong += 1
            tell(f"  WRONG: {found.wrong}")
            for step in found.way:
                tell(f"    {step}")
        elif not found.whole:
            cut += 1
    return wrong, cut


def hunt(names, tell):
    """Find each mutant; returns how many were not found."""
    missed = 0
    for mutant in MUTANTS:
        if names and mutant.name not in names:
            continue
        with mutant.alive():
            each = mutant.each() if mutant.each else None
            found = explore(mutant.bounds, each=each, traced=True)
        tell(f"{mutant.name:42} {found.states:>9,} states {len(found.way):>3} steps to it")
        if not found.wrong:
            missed += 1
            tell("  MISSED")
    return missed


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--level", type=int, choices=(0, 1, 2), default=0)
    parser.add_argument("--count", type=int, default=3_000_000, help="most states of each")
    parser.add_argument("--only", nargs="*", default=(), help="names of bounds, or of mutants")
    options = parser.parse_args(arguments)
    # Nothing is thrown away, so there is nothing to collect.
    gc.disable()
    tell = partial(print, flush=True)
    if options.level == 2:
        return 1 if hunt(options.only, tell) else 0
    table = LARGE if options.level else SMALL
    if options.only:
        table = {name: table[name] for name in options.only}
    wrong, cut = search(table, options.count, options.level == 0, tell)
    tell(f"{len(table)} bounds, {wrong} wrong, {cut} cut short")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
