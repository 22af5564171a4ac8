"""The local store of blobs, over both drivers: putting, fetching, statuses."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import BlobAlreadyExistsError, BlobNotFoundError, InvalidBlobError
from ampgrid.formats.blobname import BlobName
from ampgrid.store import blobwriting
from ampgrid.store.blobrecord import Priority, SyncStatus
from ampgrid.store.blobwriting import Incoming
from ampgrid.store.localblobs import SWEEP_ROWS
from tests.drivers import OtherDriver
from tests.unit.store.localblob_case import NAME, NOW, StoreCase, rows_of


class PuttingTests(StoreCase, SynchronousTestCase):
    def test_what_was_put_is_there_and_stays(self):
        rows = rows_of(1, 5)
        self.put(NAME, rows)
        for _ in range(2):
            blob = self.store.find(NAME)
            self.assertTrue(blob.usable)
            self.assertEqual(
                (blob.status, blob.priority, blob.rows, blob.preamble_size, blob.size),
                (SyncStatus.PENDING_UPLOAD, Priority.MEDIUM, 5, len(rows[0]), 7),
            )
            self.assertEqual((blob.sealed_size, blob.tag), (sum(map(len, rows)), rows[-1][-16:]))
            self.assertEqual(self.rows(NAME), rows)
            self.assertEqual(blob.added_at, NOW)
            for first in range(5):
                for count in range(1, 7):
                    self.assertEqual(
                        self.store.rows(blob, first, count), rows[first : first + count]
                    )
            self.reopen()

    def test_a_small_blob_is_one_transaction(self):
        before = self.store.commits
        self.put(NAME, rows_of(1, 2))
        self.assertEqual(self.store.commits, before + 1)

    def test_a_large_one_is_several_and_is_of_no_use_before_the_last(self):
        self.patch(blobwriting, "BATCH_BYTES", 250)
        rows = rows_of(1, 20)
        incoming = Incoming.putting(
            self.store,
            NAME,
            status=SyncStatus.PENDING_UPLOAD,
            priority=Priority.HIGH,
            now=NOW,
        )
        before = self.store.commits
        for row in rows:
            incoming.add([row])
            blob = self.store.find(NAME)
            self.assertTrue(blob is None or not blob.usable)
            self.assertEqual(self.store.ids("default"), [])
        self.assertGreater(self.store.commits - before, 5)
        incoming.finish(sum(map(len, rows)), 1)
        self.assertEqual(self.store.ids("default"), ["blob"])
        self.assertEqual(self.rows(NAME), rows)

    def test_one_that_was_cut_short_is_forgotten(self):
        for status in (SyncStatus.PENDING_UPLOAD, SyncStatus.LOCAL_ONLY):
            incoming = Incoming.putting(
                self.store, NAME, status=status, priority=Priority.LOW, now=NOW
            )
            incoming.add(rows_of(1, 5))
            incoming.flush()
            self.assertFalse(self.store.find(NAME).usable)
            self.reopen()
            self.assertIsNone(self.store.find(NAME))
            self.sweep_all()
            self.assertEqual(self.kept_rows(), 0)
        self.put(NAME, rows_of(2, 2))
        self.assertEqual(self.rows(NAME), rows_of(2, 2))

    def test_one_that_is_given_up_is_forgotten(self):
        for flushed in (True, False):
            incoming = Incoming.putting(
                self.store,
                NAME,
                status=SyncStatus.PENDING_UPLOAD,
                priority=Priority.LOW,
                now=NOW,
            )
            incoming.add(rows_of(1, 5))
            if flushed:
                incoming.flush()
            incoming.discard()
            self.assertIsNone(self.store.find(NAME))
        self.sweep_all()
        self.assertEqual(self.kept_rows(), 0)

    def test_a_name_is_taken_once(self):
        self.put(NAME, rows_of(1, 2))
        with self.assertRaises(BlobAlreadyExistsError):
            self.put(NAME, rows_of(2, 2))
        self.assertEqual(self.rows(NAME), rows_of(1, 2))

    def test_of_two_at_once_one_is_refused(self):
        first, second = (
            Incoming.putting(
                self.store,
                NAME,
                status=SyncStatus.PENDING_UPLOAD,
                priority=Priority.LOW,
                now=NOW,
            )
            for _ in range(2)
        )
        first.add(rows_of(1, 3))
        second.add(rows_of(2, 3))
        second.flush()
        with self.assertRaises(BlobAlreadyExistsError):
            first.finish(306, 1)
        first.discard()
        second.finish(306, 1)
        self.assertEqual(self.rows(NAME), rows_of(2, 3))

    def test_the_same_id_in_two_namespaces_is_two_blobs(self):
        here, there = BlobName.of("same"), BlobName.of("same", "there")
        self.put(here, rows_of("here", 2))
        self.put(there, rows_of("there", 3), status=SyncStatus.LOCAL_ONLY, priority=Priority.LOW)
        self.assertEqual(self.rows(here), rows_of("here", 2))
        self.assertEqual(self.rows(there), rows_of("there", 3))
        self.store.set_priority(here, Priority.URGENT)
        self.assertEqual(self.store.find(there).priority, Priority.LOW)
        self.assertEqual(self.store.namespaces(), ["default", "there"])
        self.assertEqual(self.store.progress("there"), {SyncStatus.LOCAL_ONLY: 1})
        self.assertTrue(self.store.drop(here))
        self.assertIsNone(self.store.find(here))
        self.assertEqual(self.rows(there), rows_of("there", 3))

    def test_names_are_no_sql(self):
        """The seed built its statements of strings; what it would do with these is lost here."""
        for text in ("a' OR '1'='1", 'x"; DROP TABLE blobs;--', "%", "_"):
            try:
                name = BlobName.of(text)
            except Exception:
                # Not even a name; the columns would not mind.
                object.__setattr__(name := BlobName.of("x"), "blob_id", text)
            self.put(name, rows_of(text, 1))
            row = self.store.change(
                lambda sql, text=text: sql.execute(
                    "SELECT count(*) FROM blobs WHERE blob_id = ?", (text,)
                ).fetchone()
            )
            self.assertEqual(row[0], 1)
        self.assertEqual(len(self.store.ids("default")), 4)
        self.assertEqual(self.store.ids("default' OR '1'='1"), [])

    def test_nothing_of_it_is_in_the_file_in_clear(self):
        name = BlobName.of("a-name-that-nobody-is-to-see", "space-unseen")
        rows = [b"row that nobody is to see" * 10]
        self.put(name, rows)
        for closed in (False, True):
            if closed:
                self.store.close()
            for path in self.path.parent.glob(self.path.name + "*"):
                content = path.read_bytes()
                for secret in (b"a-name-that", b"space-unseen", b"nobody is to", b"CREATE TABLE"):
                    self.assertNotIn(secret, content, path.name)
                self.assertNotIn(b"SQLite format 3", content)


class FetchingTests(StoreCase, SynchronousTestCase):
    def test_what_is_wanted_is_known_and_of_no_use(self):
        self.assertEqual(self.want(NAME, BlobName.of("two")), 2)
        self.assertEqual(self.want(NAME), 0)
        self.assertEqual(self.store.ids("default"), [])
        self.assertEqual(self.store.ids("default", SyncStatus.PENDING_DOWNLOAD), ["blob", "two"])
        self.assertFalse(self.store.find(NAME).usable)

    def test_it_comes_in_parts_across_restarts(self):
        rows = rows_of(1, 9)
        self.want(NAME)
        for upto in range(1, 9):
            self.assertEqual(self.fetch(NAME, rows, upto, finish=False), upto - 1)
            self.assertFalse(self.store.find(NAME).usable)
            self.reopen()
        self.assertEqual(self.fetch(NAME, rows), 8)
        self.assertEqual(self.rows(NAME), rows)
        self.assertEqual(self.status(NAME), SyncStatus.SYNCED)
        self.assertTrue(self.store.find(NAME).usable)

    def test_all_had_come_and_the_end_alone_was_missing(self):
        rows = rows_of(1, 3)
        self.want(NAME)
        self.fetch(NAME, rows, finish=False)
        self.reopen()
        self.assertEqual(self.fetch(NAME, rows), 3)
        self.assertEqual(self.rows(NAME), rows)
        self.assertEqual(self.status(NAME), SyncStatus.SYNCED)

    def test_the_end_is_the_one_that_was_announced(self):
        rows = rows_of(1, 3)
        self.want(NAME)
        for upto in (2, 3):
            incoming = Incoming.fetching(self.store, NAME, 303, b"t" * 16)
            incoming.add(rows[incoming.rows : upto])
            with self.assertRaises(InvalidBlobError):
                incoming.finish(303, None)
            incoming.flush()
            self.assertFalse(self.store.find(NAME).usable)

    def test_parts_of_another_blob_are_not_gone_on_with(self):
        self.want(NAME)
        self.fetch(NAME, rows_of(1, 9), 5, finish=False)
        other = rows_of(2, 9)
        self.assertEqual(self.fetch(NAME, other), 0)
        self.assertEqual(self.rows(NAME), other)
        self.sweep_all()
        self.assertEqual(self.kept_rows(), 9)

    def test_what_is_not_wanted_is_refused(self):
        with self.assertRaises(BlobNotFoundError):
            self.fetch(NAME, rows_of(1, 2))
        self.put(NAME, rows_of(1, 2))
        with self.assertRaises(BlobNotFoundError):
            self.fetch(NAME, rows_of(2, 2))
        self.assertEqual(self.rows(NAME), rows_of(1, 2))

    def test_one_that_is_deleted_on_the_way_does_not_come_back(self):
        rows = rows_of(1, 4)
        for delete in (self.store.drop, self.store.mark_deleted):
            self.want(NAME)
            incoming = Incoming.fetching(self.store, NAME, sum(map(len, rows)), rows[-1][-16:])
            incoming.add(rows[:2])
            incoming.flush()
            delete(NAME)
            with self.assertRaises(BlobNotFoundError):
                incoming.add(rows[2:])
                incoming.finish(sum(map(len, rows)), None)
            self.assertEqual(self.store.ids("default"), [])
            self.store.drop(NAME)
        self.sweep_all()
        self.assertEqual(self.kept_rows(), 0)

    def test_the_third_bad_one_is_the_last(self):
        self.want(NAME)
        for number in (1, 2, 3):
            self.assertEqual(self.status(NAME), SyncStatus.PENDING_DOWNLOAD)
            self.fetch(NAME, rows_of(1, 9), 5, finish=False)
            self.assertEqual(self.store.note_bad(NAME), number)
            self.assertEqual(self.store.find(NAME).rows, 0)
        self.assertEqual(self.status(NAME), SyncStatus.FAILED_DOWNLOAD)
        with self.assertRaises(BlobNotFoundError):
            self.fetch(NAME, rows_of(1, 2))
        self.assertEqual(self.store.ask_again("default"), 1)
        self.fetch(NAME, rows_of(1, 2))
        self.assertEqual(self.store.find(NAME).retries, 0)
        self.assertEqual(self.store.note_bad(BlobName.of("unknown")), 0)

    def test_what_was_deleted_while_bad_bytes_came_is_still_to_be_deleted(self):
        self.want(NAME)
        for _ in range(2):
            self.store.note_bad(NAME)
        self.assertTrue(self.store.mark_deleted(NAME))
        self.assertEqual(self.store.note_bad(NAME), 0)
        self.assertEqual(self.status(NAME), SyncStatus.PENDING_DELETE)


class StatusTests(StoreCase, SynchronousTestCase):
    def test_deleting_takes_the_content_and_leaves_a_note(self):
        self.put(NAME, rows_of(1, 3))
        blob = self.store.find(NAME)
        self.assertTrue(self.store.mark_deleted(NAME))
        for _ in range(2):
            self.assertEqual(self.status(NAME), SyncStatus.PENDING_DELETE)
            self.assertEqual(self.store.ids("default"), [])
            with self.assertRaises(BlobNotFoundError):
                self.store.rows(blob, 0, 1)
            self.reopen()
        self.sweep_all()
        self.assertEqual(self.kept_rows(), 0)
        self.assertTrue(self.store.mark_deleted(NAME))
        self.assertTrue(self.store.drop(NAME))
        self.assertFalse(self.store.drop(NAME))

    def test_a_local_only_blob_is_just_gone(self):
        self.put(NAME, rows_of(1, 3), status=SyncStatus.LOCAL_ONLY)
        self.assertFalse(self.store.mark_deleted(NAME))
        self.assertIsNone(self.store.find(NAME))
        self.assertFalse(self.store.mark_deleted(NAME))

    def test_status_changes_only_from_where_it_is_said(self):
        self.put(NAME, rows_of(1, 3))
        self.assertFalse(
            self.store.set_status(NAME, SyncStatus.SYNCED, [SyncStatus.PENDING_DELETE])
        )
        self.assertFalse(self.store.drop(NAME, [SyncStatus.SYNCED]))
        self.assertTrue(
            self.store.set_status(NAME, SyncStatus.SYNCED, [SyncStatus.PENDING_UPLOAD])
        )
        self.assertEqual(self.status(NAME), SyncStatus.SYNCED)
        self.assertFalse(self.store.set_status(BlobName.of("no"), SyncStatus.SYNCED))

    def test_the_pending_come_by_priority_and_then_by_age(self):
        given = [Priority.MEDIUM, Priority.LOW, Priority.URGENT, Priority.MEDIUM, Priority.HIGH]
        for number, priority in enumerate(given):
            self.put(BlobName.of(f"b{number}"), rows_of(number, 1), priority=priority)
        pending = self.store.pending("default", SyncStatus.PENDING_UPLOAD)
        self.assertEqual([blob_id for blob_id, _ in pending], ["b2", "b4", "b0", "b3", "b1"])
        self.assertTrue(self.store.set_priority(BlobName.of("b1"), Priority.URGENT))
        pending = self.store.pending("default", SyncStatus.PENDING_UPLOAD)
        self.assertEqual([blob_id for blob_id, _ in pending], ["b1", "b2", "b4", "b0", "b3"])
        self.assertFalse(self.store.set_priority(BlobName.of("no"), Priority.LOW))
        self.assertEqual(self.store.pending("other", SyncStatus.PENDING_UPLOAD), [])

    def test_counts_and_ranges(self):
        for number in range(6):
            self.put(BlobName.of(f"b{number}"), rows_of(number, 1))
        self.store.set_status(BlobName.of("b3"), SyncStatus.SYNCED)
        self.want(BlobName.of("w", "other"))
        expected = {SyncStatus.PENDING_UPLOAD: 5, SyncStatus.SYNCED: 1}
        self.assertEqual(self.store.progress("default"), expected)
        self.assertEqual(self.store.progress(), {**expected, SyncStatus.PENDING_DOWNLOAD: 1})
        self.assertEqual(sorted(self.store.between("default", "b1", "b4")), ["b2", "b3", "b4"])
        self.assertEqual(sorted(self.store.between("default", "b3", None)), ["b4", "b5"])
        self.assertEqual(len(self.store.between("default", "", None)), 6)

    def test_sweeping_is_done_in_small_steps(self):
        count = 2 * SWEEP_ROWS + 10
        self.put(NAME, rows_of(1, count, 10))
        self.put(BlobName.of("stays"), rows_of(2, 3))
        self.store.drop(NAME)
        self.assertEqual(self.kept_rows(), count + 3)
        self.assertTrue(self.store.sweep())
        self.assertEqual(self.kept_rows(), count + 3 - SWEEP_ROWS)
        self.reopen()
        self.assertEqual(self.sweep_all(), 2)
        self.assertEqual(self.rows(BlobName.of("stays")), rows_of(2, 3))
        self.assertEqual(self.kept_rows(), 3)

    def test_any_calls_in_any_order(self):
        """Whatever was done: usable blobs are whole, and nothing is left of the others."""
        step = st.tuples(
            st.sampled_from(["put", "want", "part", "fetch", "delete", "drop", "bad", "open"]),
            st.sampled_from("abc"),
        )

        @given(st.lists(step, max_size=25))
        @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        def check(steps):
            self.run_steps(steps)

        check()

    def run_steps(self, steps):
        for blob_id in "abc":
            self.store.drop(BlobName.of(blob_id))
        expected = {}
        for what, blob_id in steps:
            name, rows = BlobName.of(blob_id), rows_of(blob_id, 4, 20)
            known = self.store.find(name)
            if what == "put" and known is None:
                self.put(name, rows)
                expected[blob_id] = rows
            elif what == "want":
                self.want(name)
            elif what in ("part", "fetch") and self.status(name) is SyncStatus.PENDING_DOWNLOAD:
                self.fetch(name, rows, 2 if what == "part" else None, finish=what == "fetch")
                if what == "fetch":
                    expected[blob_id] = rows
            elif what in ("delete", "drop", "bad"):
                method = {"delete": "mark_deleted", "drop": "drop", "bad": "note_bad"}[what]
                getattr(self.store, method)(name)
                if what != "bad":
                    # One that is here stays, whatever comes of its name.
                    expected.pop(blob_id, None)
            elif what == "open":
                self.reopen()
            self.assertEqual(sorted(self.store.ids("default")), sorted(expected))
        for blob_id, rows in expected.items():
            self.assertEqual(self.rows(BlobName.of(blob_id)), rows)
        for blob_id in "abc":
            self.store.drop(BlobName.of(blob_id))
        self.sweep_all()
        self.assertEqual(self.kept_rows(), 0)


class OtherDriverPuttingTests(OtherDriver, PuttingTests):
    """The same over pysqlcipher3."""


class OtherDriverFetchingTests(OtherDriver, FetchingTests):
    """The same over pysqlcipher3."""


class OtherDriverStatusTests(OtherDriver, StatusTests):
    """The same over pysqlcipher3."""
