"""A zoo of lying and stalling storage servers, and every client operation against each.

    python tests/campaigns/zoo.py --count 20 --seed 1

For each misbehaviour and seed: a file is downloaded with the liar among the servers, once with
honest servers enough without it and once where its share would be needed; files are uploaded,
checked, verified and repaired with it. Wrong plaintext, an operation of more than 60 seconds of
the clock, an unexpected exception, or a liar that is not named, end the run with exit status 1.
"""

import argparse
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from ampgrid.errors import AmpgridError
from ampgrid.immutable import (
    Checker,
    Data,
    Downloader,
    Encoding,
    Operation,
    Repairer,
    ToData,
    Uploader,
)
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.shelves import Shelf
from ampgrid.wire import InlineThreads
from tests.campaigns.shelf_liars import BEHAVIOURS, MUTATIONS, NEEDED, TOTAL, mutated
from tests.material import make_shares, some_bytes

MOST_SECONDS = 60.0
#: An operation that cannot do without the liar may take so long to say so.
MOST_SECONDS_WITHOUT = 300.0

#: What has nothing to be named for: honest answers that are merely unhelpful, or lies that a
#: download never meets.
UNNAMED = {
    "DeniesWhatItHas",
    "RotatesForeignClaims",
    "StallsTheHashes",
    "AcceptsAndDrops",
    "AcceptsWhatWasNotAsked",
    "RefusesEverything",
    "FailsToStore",
    "AnswersMoreThanAsked",
    "a million bytes behind it",
    "any one byte",
    "the offset of the plaintext tree",
    "the offset of the crypttext tree",
    "a crypttext hash",
    "the data size",
    # They hold nobody up while others answer.
    "StallsBeforeTheFirstByte",
    "TenSecondsAnAnswer",
    "ClaimsAllAndTakesItsTime",
    "DawdlesWithOneReadAtATime",
    "WritesSlowly",
}


#: Who keeps a check, or a verify, waiting for ever: it has to be named by it.
STALLERS_OF_A_CHECK = {
    "StallsBeforeTheFirstByte",
    "StallsAfterTheFirstAnswer",
    "OneByteASecond",
    "ClaimsAllAndTakesItsTime",
    "HasAllAndTakesItsTime",
}
STALLERS_OF_A_VERIFY = {*STALLERS_OF_A_CHECK, "StallsTheHashes"}


#: Who sets the pace of an upload as long as it takes bytes at all.
SLOW_TO_TAKE = {"TenSecondsAnAnswer", "WritesSlowly"}


class ViolationError(Exception):
    """The zoo has found something."""


class Cage:
    """One misbehaviour, one seed."""

    def __init__(self, name, make_liar, seed):
        self.name = name
        self.rng = random.Random(f"{name} {seed}")
        self.clock = HeapClock()
        self.size = self.rng.choice([300, 3_000, 20_000, 120_000])
        self.data = some_bytes(self.size, b"zoo%d" % seed)
        self.cap, self.shares = make_shares(self.data, NEEDED, TOTAL, 4_000)
        self.make_liar = make_liar

    def honest(self, numbers):
        """Return an honest shelf for each number."""
        index = self.cap.storage_index
        return [Shelf(bytes([50 + n]) * 20, {(index, n): self.shares[n]}) for n in numbers]

    def liar(self, number):
        """Return the liar, with share ``number``."""
        contents = (
            {} if number is None else {(self.cap.storage_index, number): self.shares[number]}
        )
        made = self.make_liar(b"liar" * 5, contents, self.clock, self.rng)
        made.cap, made.all_shares = self.cap, self.shares
        return made

    def run(self, work, within=MOST_SECONDS):
        """Do the work within that many seconds of the clock."""
        began = self.clock.seconds()
        try:
            return self.clock.run(work, within)
        except AssertionError as error:
            spent = self.clock.seconds() - began
            raise ViolationError(f"{self.name}: not done after {spent:.0f} s: {error}") from error

    def download(self, servers, within=MOST_SECONDS):
        """Return the report of a download, or the clear error that it ended with."""
        downloader = Downloader(lambda: servers, InlineThreads(), self.clock)
        try:
            done = self.run(downloader.download(self.cap, ToData()), within)
        except AmpgridError as error:
            return error
        if done.result != self.data:
            raise ViolationError(f"{self.name}: wrong plaintext")
        return done

    def all_downloads(self):
        """Download with and without honest servers enough; returns whether the liar was named."""
        liar = self.liar(0)
        done = self.download([liar, *self.honest([1, 2, 3, 4])])
        if isinstance(done, AmpgridError):
            raise ViolationError(f"{self.name}: stood in the way of a download: {done}")
        named = any(liar.name in line for line in done.problems)
        self.download([self.liar(0), *self.honest([1, 2])], MOST_SECONDS_WITHOUT)
        self.download([self.liar(0), self.liar(1), *self.honest([2])], MOST_SECONDS_WITHOUT)
        return named

    def check(self):
        """Check and verify: what is honest is good, and who stalls is named, in time."""
        for verify in (False, True):
            liar = self.liar(0)
            servers = [liar, *self.honest([1, 2, 3])]
            checker = Checker(lambda servers=servers: servers, InlineThreads(), self.clock)
            report = self.run(checker.check(self.cap.get_verify_cap(), verify=verify))
            if not {1, 2, 3} <= report.good.keys():
                raise ViolationError(f"{self.name}: honest shares were not found good")
            stallers = STALLERS_OF_A_VERIFY if verify else STALLERS_OF_A_CHECK
            named = any(liar.name in line for line in report.problems)
            if self.name in stallers and not named:
                raise ViolationError(f"{self.name}: stalled a check and was not named by it")
            if verify and self.name in MUTATIONS and liar.server_id in report.good.get(0, ()):
                # Said to be good, every byte read: then it must give the file back.
                done = self.download([liar, *self.honest([1, 2])])
                if isinstance(done, AmpgridError):
                    raise ViolationError(f"{self.name}: a verify calls good what cannot be read")

    def upload(self):
        """Upload with the liar among seven; what was acknowledged can be had without it."""
        shelves = [Shelf(bytes([70 + n]) * 20, {}) for n in range(6)]
        uploader = Uploader(lambda: [self.liar(None), *shelves], b"c" * 32, InlineThreads(), 4_000)
        encoding = Encoding(NEEDED, 5, TOTAL)
        # A server that is slow and honest sets the pace of an upload.
        within = MOST_SECONDS_WITHOUT if self.name in SLOW_TO_TAKE else MOST_SECONDS
        uploaded = self.run(uploader.upload(Data(self.data), encoding, Operation()), within)
        if uploaded.cap != self.cap:
            raise ViolationError(f"{self.name}: another cap")
        if isinstance(self.download(shelves), AmpgridError):
            raise ViolationError(f"{self.name}: an acknowledged file is lost with one server")

    def repair(self):
        """Repair with the liar there; afterwards the honest servers alone have the file."""
        empty = [Shelf(bytes([90 + n]) * 20, {}) for n in range(4)]
        honest = self.honest([1, 2, 3])
        servers = [self.liar(0), *honest, *empty]
        repairer = Repairer(lambda: servers, InlineThreads(), self.clock)
        try:
            report = self.run(repairer.repair(self.cap.get_verify_cap(), verify=True))
        except AmpgridError as error:
            raise ViolationError(f"{self.name}: stood in the way of a repair: {error}") from error
        if self.name in MUTATIONS:
            # These keep what they have.
            after = {(n, server) for n, servers in report.after.good.items() for server in servers}
            if report.after.healthy and report.before.bad:
                raise ViolationError(f"{self.name}: called healthy while bad shares are kept")
            if after & {bad.place for bad in report.before.bad}:
                raise ViolationError(f"{self.name}: a bad share is called good after a repair")
        if isinstance(self.download(honest + empty), AmpgridError):
            raise ViolationError(f"{self.name}: repaired, and still lost")


def catalogue():
    """Return {name: what makes the liar}."""
    found = {name: mutated(mutation) for name, mutation in MUTATIONS.items()}
    return found | {cls.__name__: cls for cls in BEHAVIOURS}


def run(count, seed, tell=print):
    """Run the zoo; returns the number of violations."""
    violations = 0
    zoo = catalogue()
    for name, make in zoo.items():
        named = 0
        for one in range(seed, seed + count):
            cage = Cage(name, make, one)
            for work in (cage.all_downloads, cage.check, cage.upload, cage.repair):
                try:
                    named += bool(work())
                except Exception as error:
                    violations += 1
                    what = "" if isinstance(error, ViolationError) else f"{type(error).__name__} "
                    tell(f"VIOLATION seed {one}, {work.__name__}: {what}{error}")
        if named == 0 and count >= 10 and name not in UNNAMED:
            violations += 1
            tell(f"VIOLATION: {name}: the liar was never named")
        tell(f"{name}: {count} seeds, named in {named}")
    tell(f"{len(zoo)} misbehaviours, {count} seeds each, {violations} violations")
    return violations


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20, help="seeds for each misbehaviour")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.exit(1 if run(options.count, options.seed) else 0)
