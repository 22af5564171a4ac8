"""Renewal against expiry: no file with a live lease is ever lost, and what was dropped is freed.

    python tests/campaigns/leases.py --count 10000 --seed 1

Each schedule is a storage service over a real store, with expiry on, and some files of some
owners. Seeded at random, its days hold renewals (early, at the edge, in the grace, too late),
new leases, cancellations, new uploads of the same shares, passes of the expiry that are caught in
the middle by any of these, jumps of the wall clock by hours to ten years either way, stops for
hours or weeks with or without an orderly end, and runs for hours or weeks. Threads are stepped
one call at a time in a random order.

A model knows how much time has really passed. A schedule fails if a file is gone, or any byte of
it differs, though a lease on it was acknowledged less than 31 days ago; or if in the end, after
the leases and the grace have run out in peace, anything is left: rows, files, or used room.
Prints every schedule that fails and, at the end, what all of them did; exits with 1 on failure.
"""

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from ampgrid.errors import NoRoomError, NotStoredError
from ampgrid.storage.service import StorageService
from ampgrid.storage.upkeep import UpkeepSettings
from ampgrid.store import LEASE_SECONDS, SMALL_SHARE_BYTES, LeaseTerms, Request, ShareStore

HOUR, DAY = 3600, 86_400
YEAR = 365 * DAY
START = 1_800_000_000
GRACE = DAY
FILES = 4
OWNERS = 2
PEER = b"p" * 20
LARGE = SMALL_SHARE_BYTES + 1


class ShuffledThreads:
    """Threads whose calls are made one by one, in an order that a seed decides."""

    def __init__(self, rng):
        self._rng = rng
        self.waiting = []

    def run(self, function, /, *arguments, **keywords):
        done = Deferred()
        self.waiting.append((done, function, arguments, keywords))
        return done

    def step(self):
        """Make one of the waiting calls."""
        at = self._rng.randrange(len(self.waiting))
        done, function, arguments, keywords = self.waiting.pop(at)
        maybeDeferred(function, *arguments, **keywords).chainDeferred(done)


class File:
    """What a schedule knows of one file.

    Attributes:
        index: its storage index.
        data: its one share.
        owned: {owner: when his lease was last acknowledged, in time that has really passed}.
        stored: whether it was acknowledged as stored, and not known to be gone.
    """

    def __init__(self, number):
        self.index = bytes([number + 1]) * 16
        size = LARGE if number == 0 else 100 + number
        self.data = (b"file %d " % number * (size // 7 + 1))[:size]
        self.owned = {}
        self.stored = False

    def alive(self, passed):
        """Tell whether somebody's lease has not run out."""
        return any(passed - at < LEASE_SECONDS for at in self.owned.values())


class Schedule:
    """One schedule.

    Args:
        seed: decides all of it.
        folder: where its store is; must not exist.
        counts: what was done is counted here.
    """

    def __init__(self, seed, folder, counts):
        self.rng = random.Random(seed)
        self.folder = folder
        self.counts = counts
        self.problems = []
        self.passed = 0.0
        self.wall_off = 0.0
        self.files = [File(number) for number in range(FILES)]
        self.log = []
        self.start()

    # The machine.

    def wall(self):
        return START + self.passed + self.wall_off

    def start(self):
        self.clock = Clock()
        self.threads = ShuffledThreads(self.rng)
        self.store = ShareStore.open(self.folder, wall=self.wall)
        # Thousands of commits; what a power cut leaves of them is another campaign.
        self.store.database._sql.execute("PRAGMA synchronous=OFF")
        self.service = StorageService(
            self.store,
            clock=self.clock,
            wall=self.wall,
            threads=self.threads,
            entropy=bytes,
            settings=UpkeepSettings(expire=True, grace_seconds=GRACE),
        )
        self.finish(self.service.start())

    def finish(self, work):
        """Step threads until a coroutine is done; return its result or raise its error."""
        done = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
        outcome = []
        done.addBoth(outcome.append)
        while not outcome and self.threads.waiting:
            self.threads.step()
        assert outcome, "the work is stuck"
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]

    def settle(self):
        while self.threads.waiting:
            self.threads.step()

    def crash(self):
        """End without a word: what was under way is lost."""
        self.threads.waiting = []
        for call in self.clock.getDelayedCalls():
            call.cancel()
        database, self.store._database = self.store._database, None
        self.store._readers.close()
        database.close()

    def run_for(self, seconds):
        """Let the node run; now and then it is only half done with what it began."""
        end = self.passed + seconds
        while self.passed < end:
            step = min(end - self.passed, self.rng.choice((HOUR, HOUR, 6 * HOUR)))
            self.passed += step
            self.clock.advance(step)
            self.settle()

    # What happens.

    def check(self, when):
        """Look whether everything is there that must be."""
        for file in self.files:
            try:
                data = self.store.read(file.index, 0, 0, LARGE + 1)
            except NotStoredError:
                data = None
            if data is not None and data != file.data:
                self.problems.append(f"{when}: other bytes")
            if data is None and file.stored and file.alive(self.passed):
                self.problems.append(f"{when}: a file with a live lease is gone")
            if data is None:
                if file.stored:
                    self.counts["files expired"] += 1
                file.stored = False
                file.owned = {}

    def terms(self, file, owner):
        del file
        return self.service.lease(bytes([owner]) * 32, bytes([owner + 100]) * 32)

    async def put(self, file, owner):
        request = Request(
            file.index, frozenset({0}), len(file.data), PEER, self.terms(file, owner)
        )
        at = self.passed
        if len(file.data) <= SMALL_SHARE_BYTES:
            put = await self.service.put(request, file.data)
            acknowledged = put.stored or 0 in put.held
        else:
            allocated = await self.service.allocate(request, in_memory=True)
            acknowledged = 0 in allocated.held
            for upload in allocated.accepted.values():
                upload.write([(0, file.data)])
                await self.service.store_upload(upload)
                acknowledged = True
        if acknowledged:
            file.stored = True
            file.owned[owner] = at
            self.counts["puts"] += 1

    async def add(self, file, owner):
        terms = self.terms(file, owner)
        at = self.passed
        with contextlib.suppress(NotStoredError):
            await self.service.add_lease(file.index, terms)
            file.owned[owner] = at
            self.counts["leases added or renewed"] += 1

    async def renew(self, file, owner):
        renew = LeaseTerms.of(bytes([owner]) * 32, b"", 0).renew
        at = self.passed
        try:
            await self.service.renew_lease(file.index, renew)
        except NotStoredError:
            self.counts["renewals too late"] += 1
        else:
            file.owned[owner] = at
            self.counts["leases added or renewed"] += 1

    async def cancel(self, file, owner):
        cancel = LeaseTerms.of(b"", bytes([owner + 100]) * 32, 0).cancel
        # From here on nobody may count on it.
        file.owned.pop(owner, None)
        with contextlib.suppress(NotStoredError):
            await self.service.cancel_lease(file.index, cancel)
            self.counts["leases cancelled"] += 1

    def race(self):
        """Some clients at once, in the middle of a pass of the expiry."""
        self.counts["races"] += 1
        works = []
        if self.rng.random() < 0.8:
            works.append(self.service.upkeep.expiry.run_pass())
        for _ in range(self.rng.randint(1, 4)):
            file, owner = self.rng.choice(self.files), self.rng.randrange(OWNERS)
            acts = [self.renew, self.renew, self.add, self.put]
            works.append(self.rng.choice(acts)(file, owner))
        self.rng.shuffle(works)
        pending = []
        for work in works:
            pending.append(Deferred.fromCoroutine(work))
            for _ in range(self.rng.randint(0, 3)):
                if self.threads.waiting:
                    self.threads.step()
        for done in pending:
            with contextlib.suppress(NoRoomError):
                self.finish(done)
        self.settle()

    def edge(self):
        """Run to just before or after the end of a lease, or of the grace behind it."""
        ends = [
            at + LEASE_SECONDS - self.passed + more
            for file in self.files
            for at in file.owned.values()
            for more in (-HOUR, -1, 0, 1, HOUR, 2 * HOUR, GRACE, GRACE + HOUR)
        ]
        ends = [end for end in ends if end > 0]
        if ends:
            self.run_for(self.rng.choice(ends))

    def jump(self):
        self.counts["jumps of the clock"] += 1
        size = self.rng.choice((2 * HOUR, DAY, 40 * DAY, YEAR, 10 * YEAR))
        if self.wall_off and self.rng.random() < 0.4:
            self.wall_off = 0.0
        else:
            self.wall_off += self.rng.choice((-1, 1)) * size
        self.clock.advance(60 if self.rng.random() < 0.5 else 0)
        self.settle()

    def restart(self):
        if self.rng.random() < 0.5:
            self.counts["orderly restarts"] += 1
            self.finish(self.service.stop())
        else:
            self.counts["crashes"] += 1
            self.crash()
        self.passed += self.rng.choice((0, 60, HOUR, DAY, 40 * DAY))
        if self.rng.random() < 0.3:
            self.jump_while_off()
        self.start()

    def jump_while_off(self):
        self.counts["jumps of the clock"] += 1
        self.wall_off += self.rng.choice((-1, 1)) * self.rng.choice((2 * HOUR, YEAR, 10 * YEAR))

    def pass_caught_by_crash(self):
        """A pass that is cut off somewhere."""
        self.counts["crashes"] += 1
        Deferred.fromCoroutine(self.service.upkeep.expiry.run_pass())
        for _ in range(self.rng.randint(0, 8)):
            if self.threads.waiting:
                self.threads.step()
        self.crash()
        self.start()

    def run(self):
        """Do it all; return what went wrong."""
        for file in self.files:
            self.finish(self.put(file, self.rng.randrange(OWNERS)))
        events = [
            self.race,
            self.race,
            self.edge,
            self.edge,
            lambda: self.run_for(self.rng.choice((HOUR, 7 * HOUR, 3 * DAY, 10 * DAY))),
            self.jump,
            self.restart,
            self.pass_caught_by_crash,
            lambda: self.finish(
                self.cancel(self.rng.choice(self.files), self.rng.randrange(OWNERS))
            ),
        ]
        for number in range(self.rng.randint(6, 14)):
            event = self.rng.choice(events)
            event()
            self.check(f"after event {number}, {getattr(event, '__name__', 'call')}")
        self.end_in_peace()
        return self.problems

    def end_in_peace(self):
        """Let all leases and the grace run out, and look whether all is freed."""
        self.clock.advance(60)
        self.settle()
        # A crash may have taken the store's time back by as long as it was not looked around.
        peace = LEASE_SECONDS + 12 * HOUR
        self.passed += peace
        self.clock.advance(peace)
        self.settle()
        for _ in range(GRACE // HOUR + 3):
            self.run_for(HOUR)
        self.check("at the end")
        room = self.store.room(fresh=True)
        left = [path for path in (self.folder / "shares").rglob("*") if path.is_file()]
        counts = self.store.upkeep.count_leases()
        if room.used or room.shares or left or counts.leases or counts.marked:
            self.problems.append(
                f"at the end: {room.used} bytes used, {len(left)} files, {counts.leases} leases"
            )
        self.finish(self.service.stop())


def run(count, seed, tell):
    """Run ``count`` schedules; return (how many failed, what all of them did)."""
    counts = Counter()
    failed = 0
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=base) as place:
        for number in range(count):
            folder = Path(place) / "store"
            problems = Schedule(seed * 1_000_003 + number, folder, counts).run()
            shutil.rmtree(folder)
            if problems:
                failed += 1
                tell(f"schedule {number} of seed {seed} FAILED: {'; '.join(problems)}")
            if number % 1000 == 999:
                tell(f"{number + 1} schedules, {failed} failed")
    return failed, counts


def main():
    """Run the campaign and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    started = time.monotonic()
    failed, counts = run(asked.count, asked.seed, lambda line: print(line, flush=True))
    for what, many in sorted(counts.items()):
        print(f"{many:9} {what}")
    print(f"{asked.count} schedules of seed {asked.seed}, {failed} failed,", end=" ")
    print(f"{time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
