"""Files without a lease: marked, given a grace, looked at again, gone; and what keeps them."""

from __future__ import annotations

import errno
import shutil

from ampgrid.errors import BrokenStoreError, ConfigError, NotStoredError, StoreError
from ampgrid.store import LEASE_SECONDS, PosixFileSystem, ShareStore
from ampgrid.store.expiry import FILES_A_BATCH, LEASES_A_BATCH, Expired, LeaseCounts
from ampgrid.store.recovery import Recovery
from ampgrid.store.schema import _SINCE_2, _SINCE_3, _SINCE_4, SHARES_SCHEMA
from ampgrid.store.space import LEASE_OVERHEAD, SHARE_OVERHEAD
from tests.contract.share_store_contract import NOW, OTHER, PEER, lease, pattern, request
from tests.unit.store.disks import FaultyFileSystem
from tests.unit.store.test_recovery import INDEX, LARGE, StoreCase

DAY = 86_400
END = NOW + LEASE_SECONDS


class ExpiryCase(StoreCase):
    def run_one(self, task):
        return self.store.run_all([task])[0].get()

    def put(self, data=b"small", number=0, index=INDEX, terms=None, peer=PEER):
        asked = request((number,), len(data), index=index, terms=terms, peer=peer)
        return self.run_one(self.store.putting(asked, data)).stored

    def add_lease(self, number=1, now=NOW, index=INDEX):
        self.run_one(self.store.adding_lease(index, lease(number, now)))

    def mark(self, now):
        """Mark all that has ended; return how many files were."""
        marked, after = 0, None
        while True:
            marking = self.store.upkeep.mark_ended(now, after)
            marked += marking.marked
            after = marking.last
            if after is None:
                return marked

    def expire(self, now, grace=DAY):
        """Delete what is due; return the sums."""
        files = shares = size = 0
        while (expired := self.store.upkeep.expire(now, grace)).looked_at:
            files += expired.files
            shares += expired.shares
            size += expired.size
        while self.store.upkeep.remove_files():
            pass
        return files, shares, size

    def counts(self):
        return self.store.upkeep.count_leases()


class LifeTests(ExpiryCase):
    def test_marked_then_gone_after_the_grace(self):
        self.keep(0)
        self.put(b"12345", 1)
        folder = self.path().parent
        self.assertEqual(self.mark(END - 1), 0)
        self.assertEqual(self.mark(END), 1)
        self.assertEqual(self.mark(END + 5), 0)
        self.assertEqual(self.counts(), LeaseCounts(leases=1, marked=1))
        self.assertEqual(self.expire(END + DAY - 1), (0, 0, 0))
        self.assertEqual(self.store.read(INDEX, 0, 0, LARGE), pattern(LARGE))
        self.assertEqual(self.expire(END + DAY), (1, 2, LARGE + 5))
        self.assertEqual(self.store.shares(INDEX), {})
        for number in (0, 1):
            self.assertIsNone(self.store.read_at_once(INDEX, number, 0, 1))
            with self.assertRaises(NotStoredError):
                self.store.read(INDEX, number, 0, 1)
        self.assertEqual(self.files(), [])
        self.assertFalse(folder.exists())
        self.check_accounts()
        self.assertEqual(self.store.room(fresh=True).used, 0)
        self.assertEqual(
            self.counts(),
            LeaseCounts(expired_files=1, expired_shares=2, expired_bytes=LARGE + 5),
        )
        with self.assertRaises(NotStoredError):
            self.run_one(self.store.renewing_lease(INDEX, lease().renew, END))
        self.assertEqual(self.open(), Recovery())

    def test_the_last_lease_counts(self):
        self.put()
        self.add_lease(2, NOW + 10 * DAY)
        self.assertEqual(self.mark(END), 0)
        self.assertEqual(self.mark(END + 10 * DAY), 1)

    def test_any_word_on_a_lease_takes_the_mark_away(self):
        self.put()
        words = (
            lambda: self.run_one(self.store.renewing_lease(INDEX, lease().renew, END)),
            lambda: self.add_lease(1, END),
            lambda: self.add_lease(7, END),
            lambda: self.put(b"more", 5, terms=lease(8, END)),
            lambda: self.run_one(
                self.store.allocating(request((0,), 5, terms=lease(9, END)), in_memory=True)
            ),
            lambda: self.keep_large(END),
        )
        now = END
        for word in words:
            self.assertEqual(self.mark(now + 2 * LEASE_SECONDS), 1)
            word()
            self.assertEqual(self.counts().marked, 0)
        self.assertEqual(self.expire(END + LEASE_SECONDS - 1), (0, 0, 0))

    def keep_large(self, now):
        task = self.store.allocating(request((9,), LARGE, terms=lease(3, now)), in_memory=True)
        upload = self.run_one(task).accepted[9]
        self.mark(now + 2 * LEASE_SECONDS)
        upload.write([(0, pattern(LARGE))])
        self.store.close_upload(upload)

    def test_looked_at_again_though_still_marked(self):
        """Were a mark ever left on a file that has a lease, the lease would count."""
        self.put()
        self.mark(END)
        self.add_lease(2, END)
        self.store.database.call(
            lambda sql: sql.execute("INSERT INTO marked VALUES (?, ?)", (INDEX, END))
        )
        self.assertEqual(self.expire(END + 2 * DAY), (0, 0, 0))
        self.assertEqual(self.counts().marked, 0)
        self.assertEqual(self.store.read(INDEX, 0, 0, 9), b"small")

    def test_renewal_against_deletion_in_one_transaction(self):
        """Before it, the renewal wins; after it, the renewal is told that there is nothing."""
        for first in ("renewal", "deletion"):
            index = first.ljust(16).encode()
            self.put(index=index)
            self.mark(END)
            now = END + DAY
            renewal = self.store.renewing_lease(index, lease().renew, now)
            deletion = self.expire_job(now)
            jobs = [renewal, deletion] if first == "renewal" else [deletion, renewal]
            outcomes = dict(zip(jobs, self.store.run_all(jobs), strict=True))
            if first == "renewal":
                outcomes[renewal].get()
                self.assertEqual(outcomes[deletion].get(), Expired(0, 0, 0, 0))
                self.assertEqual(self.store.read(index, 0, 0, 9), b"small")
            else:
                with self.assertRaises(NotStoredError):
                    outcomes[renewal].get()
                self.assertEqual(outcomes[deletion].get(), Expired(1, 1, 1, 5))

    def expire_job(self, now):
        from ampgrid.store.expiry import ExpireJob

        return ExpireJob(now, DAY, self.store._space, self.store._readers)

    def test_cancelled_is_marked_at_once_and_has_its_grace(self):
        self.put()
        self.add_lease(2)
        for number in (1, 2):
            self.assertEqual(self.mark(NOW + 5), 0)
            self.run_one(self.store.cancelling_lease(INDEX, lease(number).cancel))
        self.assertEqual(self.store.lease_expiries(INDEX), [])
        self.assertEqual(self.mark(NOW + 5), 1)
        self.assertEqual(self.expire(NOW + 5 + DAY - 1), (0, 0, 0))
        self.assertEqual(self.expire(NOW + 5 + DAY), (1, 1, 5))

    def test_many_in_batches(self):
        count = LEASES_A_BATCH + 7
        tasks = [
            self.store.putting(request((0,), 3, index=n.to_bytes(16, "big")), b"abc")
            for n in range(count)
        ]
        self.store.run_all(tasks)
        self.add_lease(2, NOW + DAY, (5).to_bytes(16, "big"))
        self.assertEqual(self.mark(END), count - 1)
        batch = self.store.upkeep.expire(END + DAY, DAY)
        self.assertEqual(batch.looked_at, FILES_A_BATCH)
        files, _shares, _size = self.expire(END + DAY)
        self.assertEqual(files + batch.files, count - 1)
        self.assertEqual(self.store.room(fresh=True).used, 3)
        self.check_accounts()

    def test_leases_are_found_by_their_end(self):
        """Marking costs what has ended, however many leases there are."""
        plan = self.store.database.read(
            lambda sql: sql.execute(
                "EXPLAIN QUERY PLAN SELECT expires_at, storage_index FROM leases"
                " WHERE (expires_at, storage_index) > (1, x'') AND expires_at <= 5"
                " ORDER BY expires_at, storage_index LIMIT 9"
            ).fetchall()
        )
        self.assertEqual(len(plan), 1)
        self.assertIn("SEARCH leases USING COVERING INDEX leases_by_end", plan[0][3])

    def test_forgotten_marks_begin_anew(self):
        self.put()
        self.mark(END)
        self.store.upkeep.forget_marks()
        self.assertEqual(self.expire(END + 9 * DAY), (0, 0, 0))
        self.assertEqual(self.mark(END + 9 * DAY), 1)
        self.assertEqual(self.expire(END + 10 * DAY - 1), (0, 0, 0))

    def test_a_number_that_expired_is_free(self):
        for round_ in range(3):
            self.keep(0)
            self.put(b"again", 1)
            when = END + round_ * 2 * LEASE_SECONDS
            self.mark(when)
            self.assertEqual(self.expire(when + DAY)[:2], (1, 2))
            self.assertEqual(self.store.account(PEER), (0, 0))

    def test_other_peers_shares_of_the_file_go_with_it(self):
        self.put(b"mine", 0)
        self.put(b"theirs", 1, peer=OTHER)
        self.mark(END)
        self.assertEqual(self.expire(END + DAY), (1, 2, 10))
        self.assertEqual(self.store.accounts(), 0)


class ReadersTests(ExpiryCase):
    def test_an_open_file_is_not_read_from_once_it_expired(self):
        self.keep(0)
        self.store.read(INDEX, 0, 0, 9)
        self.mark(END)
        self.expire(END + DAY)
        self.assertEqual(len(self.store._readers), 0)

    def test_what_was_looked_up_before_it_expired_is_not_kept_open(self):
        """Another share may have the name by the time at which the file is opened."""
        self.keep(0)
        readers = self.store._readers
        changes = readers.changes
        readers.forget((INDEX, 1))
        with readers.open((INDEX, 0), self.path(), LARGE, changes) as reader:
            data = self.store._files.read_at(reader.descriptor, 0, 5)
            self.assertEqual(data, pattern(LARGE)[:5])
        self.assertEqual(len(readers), 0)

    def test_a_read_that_comes_too_late_finds_no_share(self):
        self.keep(0)
        case = self

        class ExpiringFirst(PosixFileSystem):
            def open_read(self, path):
                case.mark(END)
                case.expire(END + DAY)
                return super().open_read(path)

        self.store._readers._files = ExpiringFirst()
        with self.assertRaises(NotStoredError):
            self.store.read(INDEX, 0, 0, 9)


class AdoptedTests(ExpiryCase):
    def lose_database(self):
        self.store.close()
        for path in self.directory.glob("store.db*"):
            path.unlink()

    def test_adopted_files_have_a_full_term(self):
        self.keep(0)
        self.keep(1)
        self.lose_database()
        self.open()
        self.assertEqual(self.mark(END - 1), 0)
        self.assertEqual(self.mark(END), 1)
        self.assertEqual(self.expire(END + DAY), (1, 2, 2 * LARGE))
        self.assertEqual(self.files(), [])

    def test_nobody_renews_or_cancels_the_store_s_own_lease(self):
        self.keep(0)
        self.lose_database()
        self.open()
        for task in (
            self.store.renewing_lease(INDEX, lease().renew, NOW),
            self.store.cancelling_lease(INDEX, lease().cancel),
        ):
            with self.assertRaises(NotStoredError):
                self.run_one(task)
        self.add_lease()
        self.run_one(self.store.cancelling_lease(INDEX, lease().cancel))
        self.assertEqual(self.mark(END - 1), 0)

    def test_a_share_that_comes_back_keeps_its_leases(self):
        self.keep(0)
        path = self.path()
        away = self.directory / "away"
        path.rename(away)
        self.open()
        away.rename(path)
        self.assertEqual(self.open(), Recovery(restored=1))
        self.assertEqual(len(self.store.lease_expiries(INDEX)), 1)
        self.assertEqual(self.mark(END), 1)

    def test_a_lost_share_is_forgotten_with_its_file(self):
        self.keep(0)
        self.path().unlink()
        self.open()
        self.mark(END)
        self.assertEqual(self.expire(END + DAY), (1, 0, 0))
        lost = self.store.database.read(lambda s: s.execute("SELECT * FROM lost").fetchall())
        self.assertEqual(lost, [])


class CrashTests(ExpiryCase):
    """Between the rows and the files: nothing comes back, and nothing new is taken for old."""

    def expire_rows(self):
        self.mark(END)
        self.assertEqual(self.store.upkeep.expire(END + DAY, DAY).files, 1)

    def test_the_next_start_removes_the_files(self):
        for number in range(3):
            self.keep(number)
        self.expire_rows()
        self.assertEqual(len(self.files()), 3)
        self.assertEqual(self.open(), Recovery(removed=3))
        self.assertEqual(self.files(), [])
        self.assertEqual(self.store.shares(INDEX), {})
        self.check_accounts()
        self.assertEqual(self.open(), Recovery())

    def test_also_after_an_orderly_end(self):
        self.keep()
        self.expire_rows()
        self.store.close()
        self.assertEqual(self.open(), Recovery(removed=1))
        self.assertEqual(self.files(), [])

    def test_a_new_share_of_the_name_is_not_removed(self):
        self.keep(0)
        self.expire_rows()
        self.keep(0, peer=OTHER)
        self.assertEqual(self.store.upkeep.remove_files(), 0)
        self.assertEqual(self.open(), Recovery())
        self.assertEqual(self.store.read(INDEX, 0, 0, LARGE), pattern(LARGE))

    def test_a_new_file_that_came_while_old_ones_are_removed_stays(self):
        """The list of what to remove may be older than the file: its row says that it is new."""
        self.keep(0)
        self.store.upkeep._remover._remove(INDEX, 0)
        self.assertEqual(self.store.read(INDEX, 0, 0, LARGE), pattern(LARGE))
        self.assertTrue(self.path().exists())

    def test_a_new_small_share_of_the_name_leaves_no_old_file(self):
        self.keep(0)
        self.expire_rows()
        self.put(b"new", 0)
        self.assertEqual(self.store.upkeep.remove_files(), 1)
        self.assertEqual(self.files(), [])
        self.assertEqual(self.open(), Recovery())
        self.assertEqual(self.store.read(INDEX, 0, 0, 9), b"new")

    def test_every_call_of_the_removal_may_fail(self):
        """Whatever fails, the next start ends it, and no share of a peer is touched."""
        for lasting in (False, True):
            at = 0
            while True:
                disk = FaultyFileSystem({"unlink", "remove_directory", "fsync_directory"})
                shutil.rmtree(self.directory)
                self.store._database = None
                self.store = ShareStore.open(self.directory, wall=lambda: NOW, files=disk)
                for number in range(2):
                    self.keep(number)
                self.put(b"kept", 0, b"k" * 16, lease(1, NOW + 9 * DAY))
                self.expire_rows()
                disk.plan(at, error=errno.EIO, lasting=lasting)
                try:
                    while self.store.upkeep.remove_files():
                        pass
                except StoreError as error:
                    self.assertIsInstance(error, BrokenStoreError)
                failed = disk.failed
                disk.heal()
                self.open()
                self.assertEqual(self.files(), [])
                self.assertEqual(self.store.shares(INDEX), {})
                self.assertEqual(self.store.read(b"k" * 16, 0, 0, 9), b"kept")
                self.check_accounts()
                if failed is None:
                    break
                at += 1
            self.assertGreater(at, 3)

    def test_a_start_that_cannot_remove_says_so(self):
        self.keep(0)
        self.expire_rows()
        self.crash()
        disk = FaultyFileSystem({"unlink"})
        disk.plan(0)
        with self.assertRaises(ConfigError):
            ShareStore.open(self.directory, wall=lambda: NOW, files=disk)
        self.store = ShareStore.open(self.directory, wall=lambda: NOW)
        self.assertEqual(self.files(), [])


class TimeTests(ExpiryCase):
    def open_at(self, wall):
        self.crash()
        self.store = ShareStore.open(self.directory, wall=lambda: wall)
        return self.store.upkeep.beginning

    def test_the_latest_time_seen_is_where_it_goes_on(self):
        self.store.upkeep.keep_time(NOW + 5000)
        self.store.upkeep.keep_time(NOW + 4000)
        for wall in (NOW, NOW + 5000, NOW + 10**9):
            self.assertEqual(self.open_at(wall).now, NOW + 5000)

    def test_adopted_in_the_store_s_time(self):
        self.keep(0)
        self.store.database.call(lambda sql: sql.execute("DELETE FROM shares"))
        self.store.database.call(lambda sql: sql.execute("DELETE FROM leases"))
        self.open_at(NOW + 10 * LEASE_SECONDS)
        self.assertEqual(self.mark(END - 1), 0)
        self.assertEqual(self.mark(END), 1)


class UpgradeTests(ExpiryCase):
    """A store that the older version left behind."""

    def make_old(self):
        """Take everything away that later versions added."""
        self.keep(0)
        self.put(b"leased", 0, b"b" * 16)
        self.put(b"cancelled", 0, b"c" * 16)
        added = (*_SINCE_2, *_SINCE_3, *_SINCE_4)
        self.assertEqual(SHARES_SCHEMA.statements[-len(added) :], added)

        def downgrade(sql):
            for kind, name in (
                ("TRIGGER", "aside_added"),
                ("TRIGGER", "aside_gone"),
                ("TABLE", "aside"),
                ("TRIGGER", "lease_counted"),
                ("TRIGGER", "lease_uncounted"),
                ("TRIGGER", "lease_added"),
                ("TRIGGER", "lease_renewed"),
                ("TABLE", "marked"),
                ("TABLE", "doomed"),
                ("TABLE", "findings"),
                ("INDEX", "leases_by_end"),
            ):
                sql.execute(f"DROP {kind} {name}")
            sql.execute("ALTER TABLE shares DROP COLUMN tail")
            sql.execute("ALTER TABLE leases DROP COLUMN peer")
            sql.execute("ALTER TABLE peers DROP COLUMN aside")
            sql.execute("DELETE FROM marks WHERE name = 'last_row'")
            sql.execute("DELETE FROM leases WHERE storage_index = ?", (b"c" * 16,))
            sql.execute("DELETE FROM marks WHERE name IN ('latest', 'leases')")
            sql.execute("PRAGMA user_version=1")

        self.store.database.call(downgrade)

    def test_everything_is_kept_and_has_a_term(self):
        self.make_old()
        # The wall clock is wrong at the very first start of the new version.
        self.crash()
        self.store = ShareStore.open(self.directory, wall=lambda: NOW + 10**8)
        self.assertEqual(self.store.upkeep.beginning.now, NOW)
        self.assertEqual(self.store.read(INDEX, 0, 0, LARGE), pattern(LARGE))
        self.assertEqual(self.store.read(b"b" * 16, 0, 0, 9), b"leased")
        self.assertEqual(self.store.read(b"c" * 16, 0, 0, 9), b"cancelled")
        overhead = 3 * SHARE_OVERHEAD + 3 * LEASE_OVERHEAD
        self.assertEqual(self.store.room(fresh=True).overhead, overhead)
        self.assertEqual(self.mark(END - 1), 0)
        self.assertEqual(self.mark(END), 3)
        self.check_accounts()
