"""A disk that fails: nothing is acknowledged that is not kept, and the store says no."""

from __future__ import annotations

import errno

from ampgrid.errors import (
    BrokenStoreError,
    IncompleteError,
    NoRoomError,
    NotStoredError,
    StoreError,
)
from ampgrid.store import readers, uploads
from ampgrid.store.health import PROBE_SECONDS
from tests.contract.share_store_contract import NOW, lease, pattern, request
from tests.unit.store.disks import WRITING, FaultyFileSystem
from tests.unit.store.test_recovery import INDEX, LARGE, StoreCase


class FaultyCase(StoreCase):
    def setUp(self):
        self.disk = FaultyFileSystem(WRITING)
        super().setUp()

    def open(self, **how):
        return super().open(files=self.disk, **how)

    def put(self, now=NOW, number=0):
        task = self.store.putting(request((number,), 5, terms=lease(1, now)), b"small")
        return self.store.run_all([task])[0].get()


class NthFaultTests(FaultyCase):
    """Every call that writes fails, once or for good, while a large share is stored."""

    def exhaust(self, error, *, lasting, size=LARGE, in_memory=True):
        at = 0
        while True:
            self.tried = getattr(self, "tried", 0) + 1
            index = self.tried.to_bytes(16, "big")
            self.disk.plan(at, error=error, lasting=lasting)
            acknowledged = False
            try:
                asked = request((0,), size, index=index)
                task = self.store.allocating(asked, in_memory=in_memory)
                (upload,) = self.store.run_all([task])[0].get().accepted.values()
                data = pattern(size)
                half = size // 2
                for outcome in upload.write([(0, data[:half])]) + upload.write(
                    [(half, data[half:])]
                ):
                    if outcome is not None:
                        upload.discard()
                        raise outcome
                acknowledged = self.store.close_upload(upload)
            except StoreError:
                pass
            failed = self.disk.failed
            self.disk.heal()
            self.check_after(index, acknowledged, size)
            self.open()
            self.check_after(index, acknowledged, size)
            if failed is None:
                self.assertTrue(acknowledged)
                return at
            at += 1

    def check_after(self, index, acknowledged, size):
        self.assertEqual(self.store.room(fresh=True).promised, 0)
        self.check_accounts()
        held = self.store.shares(index)
        if acknowledged:
            self.assertEqual(held, {0: size})
        if held:
            self.assertEqual(self.store.read(index, 0, 0, size), pattern(size))

    def test_large(self):
        for error in (errno.EIO, errno.ENOSPC, errno.EMFILE):
            for lasting in (False, True):
                self.assertGreater(self.exhaust(error, lasting=lasting), 8)

    def test_small_through_a_file(self):
        for error in (errno.EIO, errno.ENOSPC):
            for lasting in (False, True):
                at_least = self.exhaust(error, lasting=lasting, size=500, in_memory=False)
                self.assertGreater(at_least, 3)


class OrderTests(FaultyCase):
    def test_a_large_share_is_synchronised_before_and_after_its_name(self):
        """Write, fsync, rename, then every directory that is new or changed, then the row."""
        self.disk.plan(None)
        self.keep()
        self.assertEqual(
            self.disk.calls,
            [
                "open_new",
                "write_at",
                "fsync",
                "close",
                "make_directory",
                "fsync_directory",
                "make_directory",
                "rename",
                "fsync_directory",
                "fsync_directory",
            ],
        )

    def test_contiguous_writes_are_one_call(self):
        upload = self.allocate()
        self.disk.plan(None)
        data = pattern(LARGE)
        upload.write([(at, data[at : at + 1000]) for at in range(0, LARGE, 1000)])
        self.assertEqual(self.disk.calls, ["open_new", "write_at"])
        upload.discard()


class BrokenStoreTests(FaultyCase):
    def break_fsync(self):
        """Let the fsync of a share fail, so that the store is broken."""
        upload = self.allocate(7)
        upload.write([(0, pattern(LARGE))])
        self.disk.plan(0)
        with self.assertRaises(BrokenStoreError):
            self.store.close_upload(upload)
        self.assertEqual(self.disk.failed, "fsync")

    def test_after_a_failed_fsync_nothing_is_accepted_until_a_probe_passes(self):
        self.put()
        self.break_fsync()
        self.disk.plan(0, lasting=True, only={"fsync"})
        self.assertFalse(self.store.room(fresh=True).accepts)
        self.assertEqual(self.store.room(fresh=True).available, 0)
        with self.assertRaises(BrokenStoreError):
            self.put(NOW, 1)
        probes = self.disk.calls.count("fsync")
        self.assertEqual(probes, 1)
        self.disk.heal()
        # Healed, but the next probe is not due.
        with self.assertRaises(BrokenStoreError):
            self.put(NOW + PROBE_SECONDS - 1, 1)
        self.assertEqual(self.disk.calls, [])
        self.assertTrue(self.put(NOW + PROBE_SECONDS, 1).stored)
        self.assertTrue(self.store.room(fresh=True).accepts)
        self.assertEqual(self.store.shares(INDEX), {0: 5, 1: 5})

    def test_a_clock_that_was_set_back_does_not_keep_it_broken(self):
        self.break_fsync()
        self.disk.plan(0, lasting=True, only={"fsync"})
        with self.assertRaises(BrokenStoreError):
            self.put(NOW)
        self.disk.heal()
        self.assertTrue(self.put(NOW - 10**8).stored)

    def test_a_broken_store_reads_and_renews(self):
        self.put()
        self.break_fsync()
        self.disk.plan(0, lasting=True)
        self.assertEqual(self.store.read(INDEX, 0, 0, 9), b"small")
        answer = self.store.run_all(
            [self.store.allocating(request((0,), 5, terms=lease(2)), in_memory=True)]
        )[0].get()
        self.assertEqual((answer.held, answer.accepted), ({0: 5}, {}))
        self.assertEqual(len(self.store.lease_expiries(INDEX)), 2)
        self.disk.heal()

    def test_a_broken_store_is_looked_through_at_its_next_start(self):
        self.keep()
        self.break_fsync()
        self.disk.heal()
        self.store.close()
        self.path().unlink()
        self.assertEqual(self.open().lost, 1)

    def test_a_full_disk_breaks_nothing(self):
        upload = self.allocate()
        self.disk.plan(1, error=errno.ENOSPC)
        (outcome,) = upload.write([(0, pattern(LARGE))])
        self.assertIsInstance(outcome, NoRoomError)
        self.assertTrue(self.store.room(fresh=True).accepts)
        # What the disk took of it is unknown, so the share is over.
        self.disk.heal()
        self.assertIsInstance(upload.write([(0, pattern(LARGE))])[0], NoRoomError)
        with self.assertRaises(NoRoomError):
            self.store.close_upload(upload)
        self.assertEqual(self.files(), [])
        self.keep()

    def test_no_room_for_the_name_of_a_share_breaks_nothing(self):
        upload = self.allocate()
        upload.write([(0, pattern(LARGE))])
        self.disk.plan(0, error=errno.ENOSPC, only={"rename"})
        with self.assertRaises(NoRoomError):
            self.store.close_upload(upload)
        self.assertEqual(self.disk.failed, "rename")
        self.assertTrue(self.store.room(fresh=True).accepts)
        self.assertEqual((self.files(), self.store.room(fresh=True).promised), ([], 0))
        self.disk.heal()
        self.keep()

    def test_a_file_that_went_is_told_and_no_other_harmed(self):
        self.keep()
        self.put(number=1)
        self.path().unlink()
        with self.assertRaises(NotStoredError):
            self.store.read(INDEX, 0, 0, 10)
        self.assertEqual(self.store.shares(INDEX).keys(), {1})
        self.assertTrue(self.store.room(fresh=True).accepts)

    def test_a_file_that_went_while_it_was_open_is_told(self):
        wanted = frozenset({0, 1})
        self.keep(number=1)
        for looked_at_first in (True, False):
            self.keep()
            for number in (0, 1):
                self.store.read(INDEX, number, 0, 10)
            self.path().unlink()
            if looked_at_first:
                sizes, heads = self.store.heads(INDEX, wanted, 10, 1000)
                self.assertEqual((sizes, heads.keys()), ({1: LARGE}, {1}))
            self.assertIsNone(self.store.read_at_once(INDEX, 0, 0, 10))
            with self.assertRaises(NotStoredError):
                self.store.read(INDEX, 0, 0, 10)
            self.assertEqual(self.store.shares(INDEX), {1: LARGE})
            self.assertEqual(self.store.upkeep.findings(1)[0].reason, "Its file is missing.")

    def test_a_file_that_was_replaced_while_it_was_open_is_read_anew(self):
        self.keep()
        self.store.read(INDEX, 0, 0, 10)
        new = self.directory / "new"
        new.write_bytes(b"x" * LARGE)
        new.rename(self.path())
        self.assertEqual(self.store.read(INDEX, 0, 0, 10), b"x" * 10)

    def test_of_a_file_that_shrank_the_rest_is_read(self):
        self.keep()
        self.path().write_bytes(b"short")
        self.assertEqual(self.store.read(INDEX, 0, 0, 10), b"short")
        self.assertEqual(self.store.read(INDEX, 0, 100, 10), b"")
        self.assertEqual(
            self.store.heads(INDEX, frozenset({0}), 10, 1000), ({0: LARGE}, {0: b"short"})
        )

    def test_a_closed_store_says_so(self):
        self.store.close()
        for call in (
            lambda: self.store.shares(INDEX),
            lambda: self.store.read(INDEX, 0, 0, 1),
            self.put,
        ):
            with self.assertRaises(BrokenStoreError):
                call()
        self.assertFalse(self.store.room(fresh=False).accepts)


class ParkingTests(FaultyCase):
    """Only so many files are open; an upload whose file was closed goes on."""

    def test_many_uploads(self):
        self.patch(uploads, "MOST_OPEN_FILES", 4)
        many = [self.allocate(number) for number in range(12)]
        half = LARGE // 2
        for number, upload in enumerate(many):
            upload.write([(0, pattern(LARGE, number)[:half])])
            self.assertLessEqual(len(self.store._open_uploads), 4)
        for number, upload in enumerate(many):
            upload.write([(half, pattern(LARGE, number)[half:])])
            self.assertLessEqual(len(self.store._open_uploads), 4)
        for number, upload in enumerate(many):
            self.assertTrue(self.store.close_upload(upload))
            self.assertEqual(self.store.read(INDEX, number, 0, LARGE), pattern(LARGE, number))
        self.assertEqual(len(self.store._open_uploads), 0)

    def test_a_failure_while_parking_is_the_shares(self):
        upload = self.allocate()
        upload.write([(0, b"some")])
        self.disk.plan(0)
        upload.park()
        self.assertEqual(self.disk.failed, "fsync")
        self.disk.heal()
        self.assertIsInstance(upload.write([(4, b"more")])[0], BrokenStoreError)
        with self.assertRaises(BrokenStoreError):
            self.store.close_upload(upload)


class ReaderTests(StoreCase):
    def test_descriptors_are_bounded_and_reused(self):
        self.patch(readers, "MOST_READERS", 3)
        for number in range(6):
            self.keep(number)
        for _ in range(2):
            for number in range(6):
                self.assertEqual(
                    self.store.read(INDEX, number, 5, 9), pattern(LARGE, number)[5:14]
                )
                self.assertLessEqual(len(self.store._readers), 3)
        self.assertIsNone(self.store.read_at_once(INDEX, 0, 0, 10))
        self.assertIn(self.store.read_at_once(INDEX, 5, 0, 10), (None, pattern(LARGE, 5)[:10]))

    def test_a_borrowed_reader_stays_open(self):
        self.keep()
        cache = self.store._readers
        with cache.open((INDEX, 0), self.path(), LARGE) as reader:
            cache.forget((INDEX, 0))
            self.assertEqual(len(cache), 0)
            data = self.store._files.read_at(reader.descriptor, 0, 10)
            self.assertEqual(data, pattern(LARGE)[:10])
        with self.assertRaises(OSError):
            self.store._files.read_at(reader.descriptor, 0, 10)


class UnusedTests(FaultyCase):
    def test_an_upload_without_a_write_made_no_file(self):
        upload = self.allocate()
        self.disk.plan(None)
        with self.assertRaises(IncompleteError):
            self.store.close_upload(upload)
        self.assertNotIn("open_new", self.disk.calls)
        with self.assertRaises(NotStoredError):
            self.store.read(INDEX, 0, 0, 1)
