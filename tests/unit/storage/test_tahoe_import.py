"""Taking the shares of a Tahoe-LAFS server: all of them, with their leases, again and again."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import tempfile
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.base32 import a2b, b2a
from ampgrid.crypto.hashing import lease_secret_digest
from ampgrid.errors import (
    FileError,
    IntegrityError,
    NoRoomError,
    NotStoredError,
    OperationCancelledError,
)
from ampgrid.formats.chkwriter import FileEncoder
from ampgrid.formats.tahoe_container import parse_container
from ampgrid.storage import tahoe_import
from ampgrid.storage.service import StorageService
from ampgrid.storage.share_export import export_share
from ampgrid.storage.tahoe_import import import_shares
from ampgrid.store import LEASE_SECONDS, SMALL_SHARE_BYTES, LeaseTerms, Request, ShareStore
from tests.unit.storage.service_case import SteppedThreads

VECTORS = Path(__file__).parents[2] / "vectors" / "data" / "tahoe-shares"
NOW = 1_800_000_000
RENEW, CANCEL = b"r" * 32, b"c" * 32


class Steps:
    """Progress that is remembered, and that ends the work at a step if it is told to."""

    def __init__(self, last: int | None = None) -> None:
        self.done = 0
        self.steps = 0
        self.last = last
        self.phases: list[tuple[str, int | None]] = []

    def enter(self, phase: str, total: int | None = None) -> None:
        self.phases.append((phase, total))
        self.done = 0

    def check(self) -> None:
        self.steps += 1
        if self.steps == self.last:
            raise OperationCancelledError("cancelled")


def share(size: int, salt: int = 0, number: int = 0) -> bytes:
    """Return a share of a file, 1-of-10 in segments of a megabyte."""
    plaintext = bytes([salt]) * size
    segment_size = min(size, 2**20)
    encoder = FileEncoder(bytes(16), size, 1, 10, segment_size)
    parts = [plaintext[at : at + segment_size] for at in range(0, size, segment_size)]
    segments = [encoder.encode_segment(i, part) for i, part in enumerate(parts)]
    for segment in segments:
        encoder.absorb(segment)
    blocks = [bytes(segment.blocks[number]) for segment in segments]
    return (
        encoder.layout.header() + b"".join(blocks) + encoder.share_tail(encoder.finish(), number)
    )


def contained(data: bytes, leases: list[tuple[bytes, bytes, int]], version: int = 2) -> bytes:
    def stored(secret: bytes) -> bytes:
        if version == 1:
            return secret
        return hashlib.blake2b(secret, digest_size=32).digest()

    records = [struct.pack(">L32s32sL", 0, stored(r), stored(c), end) for r, c, end in leases]
    return struct.pack(">LLL", version, len(data), len(leases)) + data + b"".join(records)


LEASE = (RENEW, CANCEL, NOW - 5)


class ImportCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.tahoe = self.root / "tahoe" / "storage"
        self.shares = self.tahoe / "shares"
        self.shares.mkdir(parents=True)
        self.store = self.opened()
        self.addCleanup(self.close)

    def close(self) -> None:
        self.store.close()

    def opened(self, **how: object) -> ShareStore:
        return ShareStore.open(self.root / "store", wall=lambda: NOW, **how)

    def reopen(self, **how: object) -> None:
        self.store.close()
        self.store = self.opened(**how)

    def put(self, index: bytes, number: int | str, container: bytes) -> Path:
        name = b2a(index)
        path = self.shares / name[:2] / name / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(container)
        return path

    def run_import(self, source: Path | None = None, progress: Steps | None = None):
        return import_shares(
            self.store, source or self.tahoe, wall=lambda: NOW, progress=progress or Steps()
        )

    def leases(self, index: bytes) -> list[tuple[bytes, bytes, int]]:
        """Return (renew, cancel, end) of the leases that the store did not make itself."""
        return self.store.database.read(
            lambda sql: sql.execute(
                "SELECT renew, cancel, expires_at FROM leases WHERE storage_index = ?"
                " AND renew != x'' ORDER BY renew",
                (index,),
            ).fetchall()
        )

    def own_end(self, index: bytes) -> int:
        (row,) = self.store.database.read(
            lambda sql: sql.execute(
                "SELECT expires_at FROM leases WHERE storage_index = ? AND renew = x''", (index,)
            ).fetchall()
        )
        return row[0]

    def assert_holds(self, index: bytes, number: int, data: bytes) -> None:
        self.assertEqual(self.store.shares(index).get(number), len(data))
        self.assertTrue(self.store.read(index, number, 0, len(data) + 1) == data)


INDEX = bytes(range(16))
#: A small share of number 0 and a large one of number 1.
SMALL = share(1000)
LARGE = share(SMALL_SHARE_BYTES + 3 * 2**20, number=1)


class TakingTests(ImportCase):
    def test_the_shares_of_a_tahoe_grid(self) -> None:
        taken = 0
        for server in sorted(VECTORS.glob("server*")):
            report = self.run_import(server)
            taken += report.taken
            self.assertEqual((report.taken, report.leases, report.problems), (2, 2, []))
        self.assertEqual(taken, 10)
        for path in VECTORS.glob("*/shares/??/*/*"):
            data = path.read_bytes()
            index = a2b(path.parent.name)
            found = parse_container(data, len(data))
            self.assert_holds(index, int(path.name), data[12 : found.lease_offset])
            _, renew, cancel, end = struct.unpack(">L32s32sL", data[-72:])
            self.assertIn((renew, cancel, end), self.leases(index))
            self.assertEqual(len(self.leases(index)), 5)

    def test_each_way_of_naming_the_directory(self) -> None:
        self.put(INDEX, 0, contained(SMALL, []))
        for source in [self.shares, self.tahoe, self.tahoe.parent]:
            report = self.run_import(source)
            self.assertEqual(report.taken + report.here_already, 1)
        for source in [self.root / "none", self.root]:
            self.assertRaises(FileError, self.run_import, source)

    def test_small_and_large_of_both_versions(self) -> None:
        for version in (1, 2):
            for number, data in enumerate([SMALL, LARGE]):
                self.put(bytes([version]) * 16, number, contained(data, [LEASE], version))
        report = self.run_import()
        self.assertEqual((report.taken, report.leases), (4, 4))
        self.assertEqual(report.taken_bytes, 2 * (len(SMALL) + len(LARGE)))
        self.reopen()
        for version in (1, 2):
            self.assert_holds(bytes([version]) * 16, 0, SMALL)
            self.assert_holds(bytes([version]) * 16, 1, LARGE)
        self.assertEqual(self.store.account(bytes(20)), (2 * (len(SMALL) + len(LARGE)), 4))

    def test_the_secret_that_a_tahoe_client_has_renews_here(self) -> None:
        for version in (1, 2):
            index = bytes([version]) * 16
            self.put(index, 0, contained(SMALL, [LEASE], version))
            self.run_import()
            self.assertEqual([row[2] for row in self.leases(index)], [NOW - 5])
            task = self.store.renewing_lease(index, lease_secret_digest(RENEW), NOW)
            self.store.run_all([task])[0].get()
            self.assertEqual([row[2] for row in self.leases(index)], [NOW + LEASE_SECONDS])
            task = self.store.renewing_lease(index, RENEW, NOW)
            self.assertRaises(NotStoredError, self.store.run_all([task])[0].get)

    def test_a_full_term_beside_whatever_leases_there_were(self) -> None:
        self.put(INDEX, 0, contained(SMALL, []))
        self.put(b"2" * 16, 1, contained(LARGE, [LEASE]))
        self.run_import()
        self.assertEqual(self.leases(INDEX), [])
        for index in (INDEX, b"2" * 16):
            self.assertEqual(self.own_end(index), NOW + LEASE_SECONDS)

    def test_leases_of_several_shares_meet(self) -> None:
        other = (b"s" * 32, b"t" * 32, NOW + 99)
        self.put(INDEX, 0, contained(SMALL, [LEASE]))
        self.put(INDEX, 7, contained(share(1000, 0, 7), [(RENEW, CANCEL, NOW + 7), other]))
        self.run_import()
        ends = {renew: end for renew, _, end in self.leases(INDEX)}
        wanted = {lease_secret_digest(RENEW): NOW + 7, lease_secret_digest(b"s" * 32): NOW + 99}
        self.assertEqual(ends, wanted)

    def test_many_small_ones_go_in_groups(self) -> None:
        for number in range(200):
            self.put(bytes([number]) * 16, 3, contained(share(100, number, 3), [LEASE]))
        before = self.store.database.commits
        self.assertEqual(self.run_import().taken, 200)
        self.assertLess(self.store.database.commits - before, 20)
        for number in range(200):
            self.assert_holds(bytes([number]) * 16, 3, share(100, number, 3))

    def test_progress(self) -> None:
        sizes = [
            self.put(bytes([salt]) * 16, number, contained(data, [])).stat().st_size
            for salt, (number, data) in enumerate([(0, SMALL), (1, LARGE), (0, SMALL)])
        ]
        progress = Steps()
        self.run_import(progress=progress)
        self.assertEqual(progress.phases, [("looking", 0), ("importing", sum(sizes))])
        self.assertEqual(progress.done, sum(sizes))

    def test_what_is_behind_the_end_of_a_share_is_left_out(self) -> None:
        for salt, more in enumerate([b"x", bytes(100), os.urandom(50_000)]):
            for number, data in enumerate([SMALL, LARGE]):
                index = bytes([salt]) * 16
                path = self.put(index, number, contained(data + more, [LEASE]))
                self.run_import()
                self.assert_holds(index, number, data)
                self.assertEqual([end for *_, end in self.leases(index)], [LEASE[2]])
                # The same without it, and what was added to the whole container.
                path.write_bytes(contained(data, [LEASE]))
                self.assertEqual(self.run_import().differing, 0)
                path.write_bytes(contained(data, [LEASE]) + os.urandom(len(more)))
                self.assertEqual(self.run_import().differing, 0)
                self.assertEqual(len(self.leases(index)), 1)

    def test_a_stored_share_with_more_behind_its_end(self) -> None:
        """It is as good as the one without, unless that is so much that nobody reads it."""
        for salt, size in enumerate([10, 10_000, 100_000]):
            index = bytes([salt]) * 16
            self.keep(index, 0, SMALL + bytes(size))
            self.put(index, 0, contained(SMALL, []))
        report = self.run_import()
        self.assertEqual((report.here_already, report.differing), (2, 1))
        self.assertIn("ampgrid scrub", report.problems[0])
        walk = self.store.upkeep.walk()
        step = walk.advance(2**30, NOW)
        self.assertEqual([found.storage_index for found in step.bad], [index])
        walk.close()
        report = self.run_import()
        self.assertEqual((report.here_already, report.taken), (2, 1))

    def keep(self, index: bytes, number: int, data: bytes) -> None:
        """Store what a peer sent."""
        asked = Request(
            index, frozenset({number}), len(data), b"p" * 20, LeaseTerms.of(RENEW, CANCEL, NOW)
        )
        task = self.store.allocating(asked, in_memory=False)
        upload = self.store.run_all([task])[0].get().accepted[number]
        upload.write([(0, data)])
        self.store.close_upload(upload)

    def accounted(self) -> object:
        """Return what the store accounts for; what the disk has left is everybody's."""
        return attrs.evolve(self.store.room(fresh=True), available=0, free=0)

    def test_a_dry_run_tells_what_a_real_one_would_do(self) -> None:
        self.put(b"1" * 16, 0, contained(SMALL, [LEASE]))
        self.put(b"2" * 16, 1, contained(LARGE, [LEASE]))
        self.run_import()
        self.put(b"1" * 16, 0, contained(share(1000, salt=1), [LEASE]))
        self.put(b"3" * 16, 0, contained(SMALL, [LEASE]))
        self.put(b"3" * 16, 1, b"junk")
        before = self.accounted()
        dry = import_shares(self.store, self.tahoe, wall=lambda: NOW, progress=Steps(), dry=True)
        self.assertEqual(
            (dry.taken, dry.here_already, dry.differing, dry.damaged, dry.leases), (1, 1, 1, 1, 2)
        )
        self.assertEqual(self.accounted(), before)
        self.assertEqual(self.leases(b"3" * 16), [])
        self.assertEqual(self.run_import(), dry)

    def test_a_dry_run_tells_of_a_full_store(self) -> None:
        self.put(INDEX, 1, contained(LARGE, []))
        self.reopen(quota=len(LARGE) // 2)
        dry = import_shares(self.store, self.tahoe, wall=lambda: NOW, progress=Steps(), dry=True)
        self.assertIn("there is room for", dry.problems[-1])

    def test_a_source_that_is_none(self) -> None:
        self.put(INDEX, 0, contained(SMALL, []))
        (self.root / "file").write_bytes(b"x")
        for name, told in [("file", "is a file"), ("gone", "No such file or directory")]:
            error = self.assertRaises(FileError, self.run_import, self.root / name)
            self.assertIn(told, str(error))

    def test_a_dry_run_needs_no_store(self) -> None:
        self.put(INDEX, 0, contained(SMALL, [LEASE]))
        self.put(INDEX, 1, b"junk")
        report = import_shares(None, self.tahoe, wall=lambda: NOW, progress=Steps())
        self.assertEqual((report.taken, report.leases, report.damaged), (1, 1, 1))
        self.assertEqual(self.store.shares(INDEX), {})


class AgainTests(ImportCase):
    def test_what_is_here_is_passed_over(self) -> None:
        self.put(INDEX, 0, contained(SMALL, [LEASE]))
        self.put(INDEX, 1, contained(LARGE, [LEASE]))
        self.run_import()
        report = self.run_import()
        self.assertEqual((report.taken, report.here_already, report.leases), (0, 2, 2))
        self.assertEqual(self.store.room(fresh=True).shares, 2)

    def test_ended_at_any_step_it_goes_on_from_there(self) -> None:
        files = [(b"1" * 16, 0, SMALL), (b"2" * 16, 1, LARGE), (b"3" * 16, 0, SMALL)]
        for index, number, data in files:
            self.put(index, number, contained(data, [LEASE]))
        for last in range(1, 100):
            try:
                self.run_import(progress=Steps(last))
            except OperationCancelledError:
                self.assertEqual(self.store.room(fresh=True).promised, 0)
                self.reopen()
                continue
            break
        # Three looks, a step a file, and one for each megabyte of the large one.
        self.assertGreaterEqual(last, 3 + 3 + 3)
        for index, number, data in files:
            self.assert_holds(index, number, data)
            self.assertEqual(len(self.leases(index)), 1)

    def test_leases_that_an_interruption_left_out_are_added(self) -> None:
        self.put(INDEX, 0, contained(SMALL, [LEASE]))
        self.run_import()
        self.store.database.call(lambda sql: sql.execute("DELETE FROM leases"))
        self.run_import()
        self.assertEqual(len(self.leases(INDEX)), 1)

    def test_a_share_of_another_size_stays_as_it_is(self) -> None:
        self.put(INDEX, 0, contained(SMALL, []))
        self.run_import()
        self.put(INDEX, 0, contained(share(5000), []))
        report = self.run_import()
        self.assertEqual((report.differing, report.here_already), (1, 0))
        self.assertIn("what is here stays", report.problems[0])
        self.assert_holds(INDEX, 0, SMALL)

    def test_another_share_of_the_same_size_is_not_taken_for_it(self) -> None:
        """A squatter's, small and large; nobody is told that his share is safe here."""
        for number, data in enumerate([SMALL, LARGE]):
            self.put(INDEX, number, contained(data, []))
        self.run_import()
        others = [share(1000, salt=1), share(SMALL_SHARE_BYTES + 3 * 2**20, salt=1, number=1)]
        for number, data in enumerate(others):
            self.put(INDEX, number, contained(data, [LEASE]))
        report = self.run_import()
        self.assertEqual((report.differing, report.here_already, report.taken), (2, 0, 0))
        self.assertIn("another share has its place here", report.problems[0])
        self.assertEqual(self.leases(INDEX), [])
        self.assert_holds(INDEX, 0, SMALL)
        self.assert_holds(INDEX, 1, LARGE)

    def test_one_that_comes_between_the_look_and_the_writing(self) -> None:
        """Another's, or the same, while the container is read."""
        for number, data in enumerate([SMALL, LARGE]):
            for salt, counts in ((0, (1, 0)), (1, (0, 1))):
                index = bytes([salt, number]) * 8
                path = self.put(index, number, contained(data, [LEASE]))
                theirs = share(len(data), salt=salt, number=number) if salt else data
                self.assertEqual(self.come_between(index, number, data, theirs), counts)
                self.assert_holds(index, number, theirs)
                path.unlink()

    def come_between(self, index: bytes, number: int, mine: bytes, theirs: bytes):
        """Import while a peer stores; returns (shares here already, differing ones)."""
        put, allocate = self.store.putting, self.store.allocating

        def store_theirs() -> None:
            terms = LeaseTerms.of(b"1" * 32, b"2" * 32, NOW)
            request = Request(index, frozenset({number}), len(theirs), b"p" * 20, terms)
            upload = self.store.run_all([allocate(request, in_memory=False)])[0].get()
            incoming = upload.accepted[number]
            self.assertEqual(incoming.write([(0, theirs)]), [None])
            self.assertTrue(self.store.close_upload(incoming))

        def before(work):
            def later(*args, **how):
                store_theirs()
                return work(*args, **how)

            return later

        self.patch(self.store, "putting", before(put))
        patched = self.patch(self.store, "allocating", before(allocate))
        report = self.run_import()
        patched.restore()
        self.store.putting = put
        self.assertEqual(report.taken, 0)
        return report.here_already, report.differing

    def test_what_is_here_is_not_hashed_again(self) -> None:
        self.put(INDEX, 1, contained(LARGE, [LEASE]))
        self.run_import()

        def never(*_args: object) -> None:
            raise AssertionError("hashed again")

        self.patch(tahoe_import, "verifying", never)
        self.assertEqual(self.run_import().here_already, 1)


class PassedOverTests(ImportCase):
    def test_mutable_shares_are_counted(self) -> None:
        head = b"Tahoe mutable container v1\n\x75\x09\x44\x03\x8e"
        self.put(INDEX, 0, head + bytes(500))
        self.put(INDEX, 1, contained(LARGE, []))
        report = self.run_import()
        self.assertEqual((report.mutable, report.taken, report.damaged), (1, 1, 0))

    def test_damaged_containers_end_nothing(self) -> None:
        good = contained(SMALL, [LEASE])
        for number, data in enumerate(
            [
                b"",
                good[:11],
                b"\0\0\0\3" + good[4:],
                good[:8] + b"\0\0\xff\xff" + good[12:],
                contained(b"no share", []),
                contained(SMALL[:-1], []),
                contained(b"\0\0\0\1" + b"\xff" * 1000, []),
                contained(SMALL[:500] + b"x" + SMALL[501:], []),
                good,  # under a number that is not its own
            ]
        ):
            self.put(INDEX, number, data)
        self.put(b"z" * 16, 0, good)
        report = self.run_import()
        self.assertEqual((report.taken, report.damaged, len(report.problems)), (1, 9, 9))
        self.assertEqual(self.store.shares(INDEX), {})
        self.assertTrue(all(b2a(INDEX) in problem for problem in report.problems))

    def test_what_is_no_share(self) -> None:
        path = self.put(INDEX, 0, contained(SMALL, []))
        for name in ["256", "00", "x", "1.tmp", "-1"]:
            self.put(INDEX, name, contained(SMALL, []))
        (path.parent / "9").symlink_to(path)
        os.mkfifo(path.parent / "8")
        (path.parent / "7").mkdir()
        (self.shares / "incoming" / "aa").mkdir(parents=True)
        (self.shares / "zz").mkdir()
        (self.shares / "zz" / b2a(INDEX)).mkdir()
        (self.shares / "zz" / "none").mkdir()
        (self.shares / "file").write_text("x")
        (self.shares / "xy").symlink_to(self.shares / b2a(INDEX)[:2])
        report = self.run_import()
        self.assertEqual(report.taken, 1)
        self.assertEqual(report.other, 5 + 3 + 2 + 2)

    def test_a_container_that_changes_while_it_is_read(self) -> None:
        for number, data in enumerate([SMALL, LARGE]):
            path = self.put(bytes([number]) * 16, number, contained(data, [LEASE]))
            real = os.pread

            def pread(descriptor: int, length: int, offset: int, path=path, real=real) -> bytes:
                got = real(descriptor, length, offset)
                if offset > 12:
                    with path.open("ab") as file:
                        file.write(b"x" * 72)
                return got

            self.patch(os, "pread", pread)
            report = self.run_import()
            self.patch(os, "pread", real)
            path.unlink()
            self.assertEqual((report.taken, report.damaged), (0, 1))
            self.assertIn("changed while it was read", report.problems[0])
        self.assertEqual(self.store.room(fresh=True).promised, 0)

    def test_problems_are_bounded_and_fit_for_a_terminal(self) -> None:
        for number in range(256):
            self.put(INDEX, number, b"")
        (self.shares / "\x1b[31m\n").write_text("x")
        report = self.run_import()
        self.assertEqual((report.damaged, len(report.problems)), (256, 100))
        self.assertTrue(all(p.isprintable() and len(p) <= 300 for p in report.problems))

    def test_too_many_leases_are_told_of(self) -> None:
        leases = [(struct.pack(">L28x", n), CANCEL, NOW + n) for n in range(1100)]
        self.put(INDEX, 0, contained(SMALL, leases))
        report = self.run_import()
        self.assertEqual((report.taken, report.leases), (1, 1000))
        self.assertIn("100 of its leases", report.problems[0])


class RoomTests(ImportCase):
    def test_the_quota_is_respected(self) -> None:
        for number in range(4):
            self.put(bytes([number]) * 16, 0, contained(share(1000, number), []))
        self.put(b"z" * 16, 1, contained(LARGE, []))
        self.reopen(quota=2 * (len(SMALL) + 1024) + 10)
        error = self.assertRaises(NoRoomError, self.run_import)
        self.assertIn("2 shares were taken", str(error))
        self.assertEqual(self.store.room(fresh=True).shares, 2)
        self.reopen(quota=4 * (len(SMALL) + 1024))
        self.assertRaises(NoRoomError, self.run_import)
        self.assertEqual(self.store.room(fresh=True).shares, 4)
        self.reopen()
        report = self.run_import()
        self.assertEqual((report.taken, report.here_already), (1, 4))


class ExportTests(ImportCase):
    def test_a_share_comes_out_as_it_went_in(self) -> None:
        for number, data in enumerate([SMALL, LARGE]):
            self.put(INDEX, number, contained(data, [LEASE]))
        self.run_import()
        out = self.root / "out"
        for number, data in enumerate([SMALL, LARGE]):
            with out.open("wb") as file:
                size = export_share(self.store, INDEX, number, file.fileno())
            self.assertEqual(size, len(data))
            self.assertTrue(out.read_bytes() == data)
        with out.open("wb") as file:
            self.assertRaises(NotStoredError, export_share, self.store, INDEX, 2, file.fileno())
        self.assertEqual(out.stat().st_size, 0)
        with out.open("rb") as file:
            self.assertRaises(FileError, export_share, self.store, INDEX, 0, file.fileno())

    def test_a_share_that_was_cut_off(self) -> None:
        self.put(INDEX, 1, contained(LARGE, []))
        self.run_import()
        os.truncate(self.store.path_of(INDEX, 1), 70_000)
        with (self.root / "out").open("wb") as file:
            self.assertRaises(IntegrityError, export_share, self.store, INDEX, 1, file.fileno())


class ServiceTests(ImportCase):
    """Through a running service."""

    def setUp(self) -> None:
        super().setUp()
        self.threads = SteppedThreads()
        self.service = StorageService(
            self.store, clock=Clock(), wall=lambda: NOW, threads=self.threads, entropy=os.urandom
        )
        self.successResultOf(Deferred.fromCoroutine(self.service.start()))

    def begun(self, coroutine) -> Deferred:
        return Deferred.fromCoroutine(coroutine)

    def end(self) -> Deferred:
        return self.begun(self.service.stop())

    def test_import_and_export(self) -> None:
        self.put(INDEX, 0, contained(SMALL, [LEASE]))
        report = self.successResultOf(self.begun(self.service.import_tahoe(self.tahoe, Steps())))
        self.assertEqual(report.taken, 1)
        with (self.root / "out").open("wb") as out:
            asked = self.begun(self.service.export_share(INDEX, 0, out.fileno()))
            self.assertEqual(self.successResultOf(asked), len(SMALL))
            failing = self.begun(self.service.export_share(INDEX, 1, out.fileno()))
            self.failureResultOf(failing, NotStoredError)
        self.successResultOf(self.end())

    def test_the_store_is_not_closed_under_an_import(self) -> None:
        self.put(INDEX, 0, contained(SMALL, [LEASE]))
        self.threads.held = True
        importing = self.begun(self.service.import_tahoe(self.tahoe, Steps()))
        stopping = self.end()
        self.assertNoResult(stopping)
        self.threads.release()
        self.assertEqual(self.successResultOf(importing).taken, 1)
        self.successResultOf(stopping)
