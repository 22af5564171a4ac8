"""A store on a disk that fails and remembers, and somebody who uses it and keeps a ledger.

What the campaigns on one store share: `Bench` opens a store whose files and whose SQLite pass
through a `FaultPlan` and into a `WriteLog`, and offers every operation of the store as a method
that notes in a ledger what was asked and what was acknowledged. A method returns whether the
store did what it was asked; an error that is not one of ampgrid's passes through, and is a bug.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ampgrid.crypto.base32 import b2a
from ampgrid.errors import AmpgridError, NotStoredError
from ampgrid.storage.tahoe_import import import_shares
from ampgrid.store import SMALL_SHARE_BYTES, LeaseTerms, Request, ShareStore
from ampgrid.store.upkeep import ScrubProgress
from ampgrid.testing.diskstates import Disk, Tree, oldest, write_tree
from ampgrid.testing.faults import FailingFileSystem, FailingTap, FaultPlan
from ampgrid.testing.sqliteio import SqliteShim
from ampgrid.testing.storecheck import Ledger, check_open_store, check_store
from ampgrid.testing.writelog import RecordingFileSystem, RecordingTap, WriteLog

NOW = 1_800_000_000
PEER = b"p" * 20
OTHER = b"q" * 20
SMALL = 1200
LARGE = SMALL_SHARE_BYTES + 5000


def index_of(number: int) -> bytes:
    """Return a storage index; no two share a directory."""
    return hashlib.blake2b(b"%d" % number, digest_size=16).digest()


def contents(size: int, salt: int) -> bytes:
    """Return bytes that differ from place to place, and for every salt."""
    return ((b"%08d" % salt + bytes(range(251))) * (size // 259 + 1))[:size]


def terms(number: int = 1, now: int = NOW) -> LeaseTerms:
    """Return the terms of the lease of a client."""
    return LeaseTerms.of(bytes([number]) * 32, bytes([number + 100]) * 32, now)


class WrongAnswerError(Exception):
    """The store answered something that is not so."""


@contextmanager
def workplace(name: str, place: str | None = None) -> Iterator[Path]:
    """Make a directory to work in: in memory where that is possible, as nothing is cut there."""
    if place is None and os.access("/dev/shm", os.W_OK):
        place = "/dev/shm"
    path = Path(tempfile.mkdtemp(prefix=f"ampgrid-{name}-", dir=place))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class _NoProgress:
    """Whom nobody tells anything."""

    done = 0

    def enter(self, phase: str, total: int | None = None) -> None:
        pass

    def check(self) -> None:
        pass


class Bench:
    """One store, in the directory ``disk/store`` of a workplace.

    Args:
        work: the workplace.
        shim: through which SQLite goes.

    Attributes:
        plan: what fails.
        store: the store, while it is open.
        ledger: what was asked and acknowledged.
        log: what was written, while that is recorded.
        now: the time.
    """

    def __init__(self, work: Path, shim: SqliteShim) -> None:
        self.work = work
        self.disk = work / "disk"
        self.disk.mkdir(exist_ok=True)
        self.directory = self.disk / "store"
        self.plan = FaultPlan()
        self.now = NOW
        self.ledger = Ledger()
        self.log: WriteLog | None = None
        self.store: ShareStore
        self.is_open = False
        self.shim = shim
        self._files = RecordingFileSystem(FailingFileSystem(self.plan))
        self._tap = RecordingTap(FailingTap(self.plan, self.directory))
        shim.tap = self._tap

    # The life of the store.

    def open(self, **how: object) -> None:
        """Open the store."""
        self.store = ShareStore.open(
            self.directory, wall=lambda: self.now, files=self._files, **how
        )
        self.is_open = True

    def start(self) -> bool:
        """Open the store, where that may fail."""
        return self._attempt(self.open)

    def crash(self) -> None:
        """End the store as a killed process does: nothing is written."""
        self.is_open = False
        killed = self.photograph()
        database, self.store._database = self.store._database, None
        self.store._readers.close()
        if database is not None:
            database.close()
        self.replace(killed)

    def photograph(self) -> Path:
        """Return a copy of the store as a process that is killed now leaves it."""
        killed = self.work / "killed"
        shutil.rmtree(killed, ignore_errors=True)
        shutil.copytree(self.directory, killed)
        return killed

    def replace(self, other: Path) -> None:
        """Put another directory in the place of the store's; it is not open."""
        shutil.rmtree(self.directory)
        other.rename(self.directory)

    def close(self) -> bool:
        """Close the store in order."""
        self.is_open = False
        return self._attempt(self.store.close)

    @contextmanager
    def recording(self, log: WriteLog) -> Iterator[None]:
        """Record what is written, and what the ledger is told."""
        self._files.log = self._tap.log = self.log = log
        try:
            yield
        finally:
            self._files.log = self._tap.log = None

    def tell(self, word: str, *arguments: object) -> None:
        """Tell the ledger, and the log when."""
        getattr(self.ledger, word)(*arguments)
        if self.log is not None:
            self.log.note((word, arguments))

    # Checks.

    def check(self) -> list[str]:
        """Check the open store."""
        return check_open_store(self.store, self.directory, self.ledger, tidy=False)

    def check_next_start(self) -> list[str]:
        """Check what a new process finds."""
        self.shim.tap = None
        problems = check_store(self.directory, self.ledger, now=self.now)
        self.shim.tap = self._tap
        return problems

    def check_power_cut(self) -> list[str]:
        """Check what is left if all is lost that was not synchronised."""
        assert self.log is not None
        disk = Disk()
        for state, _ in self.log.disks():
            disk = state
        return self.check_tree(disk.tree(oldest), self.ledger)

    def check_tree(self, tree: Tree, ledger: Ledger) -> list[str]:
        """Check a state of the disk."""
        self.shim.tap = None
        place = self.work / "cut"
        write_tree(tree, place)
        problems = check_store(place / "store", ledger, now=self.now)
        shutil.rmtree(place)
        self.shim.tap = self._tap
        return problems

    # What a client asks.

    def _attempt(self, work: object, *arguments: object) -> bool:
        assert callable(work)
        try:
            work(*arguments)
        except AmpgridError:
            return False
        return True

    def request(
        self, numbers: Sequence[int], size: int, index: bytes, lease: LeaseTerms | None = None
    ) -> Request:
        """Return a request for room."""
        return Request(index, frozenset(numbers), size, PEER, lease or terms(now=self.now))

    def put_all(self, shares: Sequence[tuple[bytes, int, bytes]]) -> list[bool]:
        """Put small shares, (storage index, number, contents), in one group."""
        tasks = []
        for index, number, data in shares:
            self.tell("offer", index, number, data)
            tasks.append(self.store.putting(self.request((number,), len(data), index), data))
        done = []
        results = self.store.run_all(tasks)
        for (index, number, _), result in zip(shares, results, strict=True):
            try:
                put = result.get()
            except AmpgridError:
                done.append(False)
                continue
            if put.stored and number in put.held:
                raise WrongAnswerError("stored what was held")
            for held in put.held:
                if (index, held) not in self.ledger.offered:
                    raise WrongAnswerError("holds what nobody offered")
                self.tell("acknowledge", index, held)
            if put.stored:
                self.tell("acknowledge", index, number)
            if put.stored or put.held:
                self.tell("lease", index, terms(now=self.now))
            done.append(put.stored)
        return done

    def put(self, index: bytes, number: int, data: bytes) -> bool:
        """Put one small share."""
        return self.put_all([(index, number, data)])[0]

    def keep(
        self, index: bytes, number: int, data: bytes, *, in_memory: bool = True, pieces: int = 2
    ) -> bool:
        """Store a share the long way: allocate, write, close."""
        self.tell("offer", index, number, data)
        asked = self.request((number,), len(data), index)
        try:
            allocated = self.store.run_all([self.store.allocating(asked, in_memory=in_memory)])[
                0
            ].get()
            for held in allocated.held:
                self.tell("acknowledge", index, held)
            if number not in allocated.accepted:
                return False
            upload = allocated.accepted[number]
            length = -(-len(data) // pieces)
            for start in range(0, len(data), length):
                for outcome in upload.write([(start, data[start : start + length])]):
                    if outcome is not None:
                        upload.discard()
                        raise outcome
            if upload.in_memory:
                self.store.run_all([self.store.closing(upload)])[0].get()
            else:
                self.store.close_upload(upload)
        except AmpgridError:
            return False
        self.tell("acknowledge", index, number)
        self.tell("lease", index, asked.lease)
        return True

    def keep_together(self, shares: Sequence[tuple[bytes, int, bytes]]) -> None:
        """Store large shares of one file, all of them under way at once."""
        lease = terms(now=self.now)
        sent = []
        for index, number, data in shares:
            self.tell("offer", index, number, data)
            asked = self.request((number,), len(data), index, lease)
            try:
                task = self.store.allocating(asked, in_memory=False)
                allocated = self.store.run_all([task])[0].get()
            except AmpgridError:
                continue
            sent += [(index, data, upload) for upload in allocated.accepted.values()]
        for start in range(0, LARGE, LARGE // 2 + 1):
            for _, data, upload in sent:
                upload.write([(start, data[start : start + LARGE // 2 + 1])])
        for index, _, upload in sent:
            if self._attempt(self.store.close_upload, upload):
                self.tell("acknowledge", index, upload.number)
                self.tell("lease", index, lease)

    def begin(self, index: bytes, number: int, data: bytes, *, in_memory: bool = True) -> bool:
        """Allocate, write half of a share, and think better of it."""
        self.tell("offer", index, number, data)
        asked = self.request((number,), len(data), index)
        try:
            allocated = self.store.run_all([self.store.allocating(asked, in_memory=in_memory)])[
                0
            ].get()
            for upload in allocated.accepted.values():
                upload.write([(0, data[: len(data) // 2])])
                upload.discard()
        except AmpgridError:
            return False
        return True

    def race(self, asked: Request, first: bytes, second: bytes) -> None:
        """Bring two uploads of one share to an end: one of them stays."""
        (number,) = asked.numbers
        try:
            uploads = []
            for data in (first, second):
                self.tell("offer", asked.storage_index, number, data)
                task = self.store.allocating(asked, in_memory=False)
                (upload,) = self.store.run_all([task])[0].get().accepted.values()
                uploads.append(upload)
                upload.write([(0, data)])
        except AmpgridError:
            for upload in uploads:
                upload.discard()
            return
        for upload in uploads:
            if self._attempt(self.store.close_upload, upload):
                self.tell("acknowledge", asked.storage_index, number)
                self.tell("lease", asked.storage_index, asked.lease)

    def read(self, index: bytes, number: int, offset: int = 0, length: int = 2**20) -> bool:
        """Read a share; what comes must be right."""
        try:
            data = self.store.read(index, number, offset, length)
        except NotStoredError:
            if (index, number) in self.ledger.kept:
                raise WrongAnswerError("says that a share is not there") from None
            return False
        except AmpgridError:
            return False
        offers = self.ledger.offered.get((index, number), [])
        if data not in [offer[offset : offset + length] for offer in offers]:
            raise WrongAnswerError("a read gave bytes that were never written")
        return True

    def look(self, index: bytes) -> bool:
        """Ask which shares are there, and for their first bytes."""
        try:
            sizes, heads = self.store.heads(index, frozenset(range(20)), 100, 10_000)
        except AmpgridError:
            return False
        for number, head in heads.items():
            if head not in [data[:100] for data in self.ledger.offered[index, number]]:
                raise WrongAnswerError("a head has bytes that were never written")
        if {number for at, number in self.ledger.kept if at == index} - sizes.keys():
            raise WrongAnswerError("a share that is kept is not named")
        return True

    def add_lease(self, index: bytes, lease: LeaseTerms) -> bool:
        """Add a lease."""
        if self._task(self.store.adding_lease(index, lease)):
            self.tell("lease", index, lease)
            return True
        return False

    def renew_lease(self, index: bytes, lease: LeaseTerms) -> bool:
        """Renew a lease."""
        if self._task(self.store.renewing_lease(index, lease.renew, lease.now)):
            self.tell("lease", index, lease)
            return True
        return False

    def cancel_lease(self, index: bytes, lease: LeaseTerms) -> bool:
        """Cancel a lease."""
        self.tell("release_lease", index, lease.renew)
        return self._task(self.store.cancelling_lease(index, lease.cancel))

    def advise(self, index: bytes, number: int) -> bool:
        """Call a share bad that is not."""
        return self._task(self.store.advising(index, number, OTHER, "a test says so", self.now))

    def ask_room(self) -> bool:
        """Ask for the accounts."""
        return self._attempt(lambda: (self.store.room(fresh=True), self.store.account(PEER)))

    def expire(self, now: int, grace: int) -> bool:
        """Mark what has run out, delete what was marked long enough ago, remove its files."""
        lasting = {index for (index, _), until in self.ledger.leases.items() if until > now}
        due = [share for share in sorted(self.ledger.kept) if share[0] not in lasting]
        for index, number in due:
            self.tell("release", index, number)
            self.tell("release_leases", index)
        upkeep = self.store.upkeep
        done = self._attempt(lambda: upkeep.mark_ended(now))
        try:
            expired = upkeep.expire(now + grace, grace)
        except AmpgridError:
            return False
        if expired.shares not in (0, len(due)):
            raise WrongAnswerError("a part of what is due has expired")
        for index, number in due if expired.shares else ():
            self.tell("drop", index, number)
        done &= self._attempt(upkeep.remove_files)
        return done & self._attempt(lambda: upkeep.keep_time(now + grace))

    def scrub(self, bad: Sequence[tuple[bytes, int]] = ()) -> None:
        """Look at every share, of which some are bad."""
        doubtful = list(bad)
        if self.plan.lasts("read_at") or self.plan.lasts("sqlite read"):
            # Nobody can tell a bad share from one that the disk never hands over again.
            doubtful = sorted(self.ledger.kept)
        for index, number in doubtful:
            self.tell("release", index, number)
        upkeep = self.store.upkeep
        walk = upkeep.walk()
        for _ in range(100):
            try:
                step = walk.advance(2**20, self.now)
            except AmpgridError:
                continue
            for found in step.bad:
                if (found.storage_index, found.number) not in doubtful:
                    raise WrongAnswerError(f"a good share was called bad: {found.reason}")
                if found.reason != "Its file is missing.":
                    self.tell("drop", found.storage_index, found.number)
            self._attempt(
                lambda step=step: upkeep.save_scrub(ScrubProgress(position=step.position))
            )
            if step.ended:
                break
        walk.close()

    def import_from_tahoe(self, shares: Sequence[tuple[bytes, int, bytes]]) -> bool:
        """Take shares out of a directory of Tahoe-LAFS, each with a lease."""
        source = self.work / "tahoe"
        until = self.now + 5 * 24 * 3600
        lease = LeaseTerms(b"r" * 32, b"c" * 32, self.now, until)
        record = struct.pack(">L32s32sL", 0, lease.renew, lease.cancel, until)
        for index, number, data in shares:
            name = b2a(index)
            path = source / "shares" / name[:2] / name / str(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(struct.pack(">LLL", 2, len(data), 1) + data + record)
            self.tell("offer", index, number, data)
        try:
            report = import_shares(
                self.store, source, wall=lambda: self.now, progress=_NoProgress()
            )
        except AmpgridError:
            return False
        finally:
            shutil.rmtree(source)
        if report.taken + report.here_already + report.differing != len(shares):
            raise WrongAnswerError(f"an import left shares out: {report}")
        for index, number, _ in shares:
            self.tell("acknowledge", index, number)
        if report.leases == len(shares):
            for index, _, _ in shares:
                self.tell("lease", index, lease)
        return True

    def _task(self, task: object) -> bool:
        return self._attempt(lambda: self._run_one(task))

    def _run_one(self, task: object) -> object:
        return self.store.run_all([task])[0].get()  # type: ignore[list-item]
