"""The start of a store: what is swept, adopted, missed and set aside, again and again."""

from __future__ import annotations

import shutil
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import ConfigError, NotStoredError, WriteConflictError
from ampgrid.store import LEASE_SECONDS, SMALL_SHARE_BYTES, ShareStore
from ampgrid.store.recovery import Recovery
from tests.contract.share_store_contract import NOW, OTHER, PEER, lease, pattern, request
from tests.unit.store.disks import FaultyFileSystem

INDEX = b"i" * 16
LARGE = SMALL_SHARE_BYTES + 5


class StoreCase(SynchronousTestCase):
    def setUp(self):
        self.directory = Path(self.mktemp())
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        self.store = None
        self.open()

    def tearDown(self):
        self.store.close()

    def open(self, **how):
        if self.store is not None:
            self.crash()
        self.store = ShareStore.open(self.directory, wall=lambda: NOW, **how)
        return self.store.recovery

    def crash(self):
        """End without the mark of an orderly end."""
        database, self.store._database = self.store._database, None
        self.store._readers.close()
        if database is not None:
            database.close()

    def keep(self, number=0, size=LARGE, peer=PEER):
        upload = self.allocate(number, size, peer)
        upload.write([(0, pattern(size, number))])
        self.store.close_upload(upload)

    def allocate(self, number=0, size=LARGE, peer=PEER):
        task = self.store.allocating(request((number,), size, peer=peer), in_memory=True)
        return self.store.run_all([task])[0].get().accepted[number]

    def path(self, number=0):
        return self.store.path_of(INDEX, number)

    def files(self):
        return sorted(
            str(path.relative_to(self.directory))
            for path in self.directory.rglob("*")
            if path.is_file() and not path.name.startswith(("store.db", "ballast"))
        )

    def check_accounts(self):
        """The accounts are what the shares are, to the byte."""
        rows = self.store.database.read(
            lambda sql: sql.execute(
                "SELECT node_id, size, data, number, storage_index"
                " FROM shares JOIN peers ON peers.id = shares.peer"
            ).fetchall()
        )
        for _, size, data, number, index in rows:
            held = len(data) if data is not None else self.size(bytes(index), number)
            self.assertEqual(held, size)
        room = self.store.room(fresh=True)
        self.assertEqual((room.used, room.shares), (sum(row[1] for row in rows), len(rows)))
        for peer in {row[0] for row in rows}:
            mine = [row[1] for row in rows if row[0] == peer]
            self.assertEqual(self.store.account(bytes(peer)), (sum(mine), len(mine)))

    def size(self, index, number):
        return self.store.path_of(index, number).stat().st_size


class RecoveryTests(StoreCase):
    def test_unfinished_uploads_are_swept(self):
        for number, size in enumerate((LARGE, LARGE)):
            self.allocate(number, size).write([(0, b"some")])
        self.assertEqual(len(self.files()), 2)
        self.assertEqual(self.open(), Recovery(swept=2))
        self.assertEqual(self.files(), [])
        self.assertEqual(self.store.room(fresh=True).promised, 0)

    def test_a_file_without_a_row_is_adopted(self):
        self.keep()
        self.crash()
        elsewhere = self.directory.with_name("copy")
        shutil.copytree(self.directory / "shares", elsewhere)
        shutil.rmtree(self.directory)
        self.open()
        self.crash()
        shutil.rmtree(self.directory / "shares")
        shutil.copytree(elsewhere, self.directory / "shares")
        self.assertEqual(self.open(), Recovery(adopted=1))
        self.assertEqual(self.store.shares(INDEX), {0: LARGE})
        self.assertEqual(self.store.read(INDEX, 0, 0, LARGE), pattern(LARGE))
        self.assertEqual(self.store.account(bytes(20)), (LARGE, 1))
        self.assertEqual(self.store.lease_expiries(INDEX), [])
        self.check_accounts()
        self.assertEqual(self.open(), Recovery())

    def test_a_lost_database_is_made_anew_from_the_files(self):
        for number in range(3):
            self.keep(number)
        self.store.close()
        for path in self.directory.glob("store.db*"):
            path.unlink()
        self.assertEqual(self.open(), Recovery(adopted=3))
        self.assertEqual(self.store.shares(INDEX), dict.fromkeys(range(3), LARGE))
        self.check_accounts()

    def test_a_small_file_that_was_adopted_is_compared_as_any_share(self):
        self.keep(0)
        self.path().with_name("1").write_bytes(b"something")
        self.assertEqual(self.open(), Recovery(adopted=1))
        # As if both had been promised before it was there.
        self.store.database.call(lambda sql: sql.execute("UPDATE shares SET number = number + 2"))
        same, other = self.allocate(1, 9), self.allocate(1, 9)
        self.store.database.call(lambda sql: sql.execute("UPDATE shares SET number = number - 2"))
        same.write([(0, b"something")])
        other.write([(0, b"some?hing")])
        self.assertRaises(WriteConflictError, self.store.close_upload, other)
        self.assertFalse(self.store.close_upload(same))
        self.assertEqual(self.store.read(INDEX, 1, 0, 9), b"something")
        self.check_accounts()

    def test_a_missing_file_is_not_claimed_and_comes_back(self):
        self.keep(0, peer=OTHER)
        self.keep(1)
        path = self.path()
        away = self.directory / "away"
        path.rename(away)
        self.assertEqual(self.open(), Recovery(lost=1))
        self.assertEqual(self.store.shares(INDEX), {1: LARGE})
        self.check_accounts()
        away.rename(path)
        self.assertEqual(self.open(), Recovery(restored=1))
        self.assertEqual(self.store.account(OTHER), (LARGE, 1))
        self.assertEqual(self.store.read(INDEX, 0, 0, LARGE), pattern(LARGE))
        self.assertEqual(len(self.store.lease_expiries(INDEX)), 1)
        self.check_accounts()
        self.assertEqual(self.open(), Recovery())

    def test_what_comes_back_has_a_full_term_from_then(self):
        """Its leases may be about to end: while it was away they could not be renewed here."""
        self.keep()
        path, away = self.path(), self.directory / "away"
        path.rename(away)
        self.assertEqual(self.open(), Recovery(lost=1))
        with self.assertRaises(NotStoredError):
            self.store.run_all([self.store.adding_lease(INDEX, lease(1, NOW + 100))])[0].get()
        later = NOW + LEASE_SECONDS - 5
        self.store.upkeep.keep_time(later)
        away.rename(path)
        self.assertEqual(self.open(), Recovery(restored=1))
        self.assertEqual(self.store.upkeep.mark_ended(later + 3600).marked, 0)
        self.assertEqual(self.store.upkeep.mark_ended(later + LEASE_SECONDS - 1).marked, 0)
        self.assertEqual(self.store.upkeep.mark_ended(later + LEASE_SECONDS).marked, 1)

    def test_a_file_of_a_wrong_size_is_set_aside(self):
        self.keep()
        with self.path().open("ab") as file:
            file.truncate(LARGE - 1)
        self.assertEqual(self.open(), Recovery(lost=1, set_aside=1))
        self.assertEqual(self.store.shares(INDEX), {})
        (name,) = self.files()
        self.assertTrue(name.startswith("quarantine/"))
        with self.assertRaises(NotStoredError):
            self.store.read(INDEX, 0, 0, 1)
        self.check_accounts()
        self.keep()
        self.assertEqual(self.open(), Recovery())
        self.assertEqual(self.store.read(INDEX, 0, 0, LARGE), pattern(LARGE))

    def test_strange_names_are_left_alone(self):
        self.keep()
        folder = self.path().parent
        strange = [
            folder / "007",
            folder / "256",
            folder / "1x",
            folder / "-1",
            self.directory / "shares" / "zz" / folder.name / "1",
            self.directory / "shares" / "ab" / "notbase32" / "1",
            self.directory / "shares" / "readme",
        ]
        for path in strange:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        self.assertEqual(self.open(), Recovery())
        self.assertTrue(all(path.exists() for path in strange))
        self.assertEqual(self.store.shares(INDEX), {0: LARGE})

    def test_after_an_orderly_end_nothing_is_looked_for(self):
        self.keep()
        self.store.close()
        self.path().unlink()
        self.assertEqual(self.open(), Recovery())

    def test_small_shares_need_no_files(self):
        self.keep(size=100)
        self.assertEqual(self.open(), Recovery())
        self.assertEqual(self.store.read(INDEX, 0, 0, 100), pattern(100))
        self.assertEqual(self.files(), [])

    def test_two_stores_on_one_directory(self):
        with self.assertRaises(ConfigError):
            ShareStore.open(self.directory, wall=lambda: NOW)

    def test_a_start_may_fail_anywhere_and_be_repeated(self):
        """Every call of the start fails once; the next start finds everything in order."""
        disk = FaultyFileSystem()
        failures = 0
        while True:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.store._database = None
            self.store = ShareStore.open(self.directory, wall=lambda: NOW)
            for number in range(4):
                self.keep(number)
            self.allocate(9).write([(0, b"unfinished")])
            self.path(1).unlink()
            self.path(2).write_bytes(b"short")
            self.path(3).with_name("8").write_bytes(b"adopt me")
            self.crash()
            disk.plan(failures)
            try:
                self.store = ShareStore.open(self.directory, wall=lambda: NOW, files=disk)
                self.crash()
            except ConfigError:
                pass
            if disk.failed is None:
                break
            failures += 1
            disk.heal()
            self.store = ShareStore.open(self.directory, wall=lambda: NOW, files=disk)
            self.assertEqual(self.store.shares(INDEX), {0: LARGE, 3: LARGE, 8: 8})
            self.assertEqual(len([n for n in self.files() if "quarantine" in n]), 1)
            self.assertEqual(len(self.files()), 4)
            self.check_accounts()
            self.crash()
        self.assertGreater(failures, 20)
        self.store = ShareStore.open(self.directory, wall=lambda: NOW)

    def test_where_no_store_can_be(self):
        with self.assertRaises(ConfigError):
            ShareStore.open(self.directory / "no" / "where", wall=lambda: NOW)
        disk = FaultyFileSystem()
        self.store.close()
        disk.plan(0)
        with self.assertRaises(ConfigError):
            ShareStore.open(self.directory, wall=lambda: NOW, files=disk)


class LeaseTimeTests(StoreCase):
    """Leases last 31 days from the last word on them."""

    def test_times(self):
        self.keep(size=10)
        month = 31 * 24 * 60 * 60
        self.assertEqual(self.store.lease_expiries(INDEX), [NOW + month])
        renew = lease().renew
        for now, expected in ((NOW + 50, NOW + 50), (NOW - 99999, NOW + 50)):
            self.store.run_all([self.store.renewing_lease(INDEX, renew, now)])[0].get()
            self.assertEqual(self.store.lease_expiries(INDEX), [expected + month])

    def test_secrets_are_not_on_the_disk(self):
        self.keep(size=10)
        self.crash()
        stored = b"".join(path.read_bytes() for path in self.directory.glob("store.db*"))
        self.assertIn(lease().renew, stored)
        self.assertNotIn(bytes([1]) * 32, stored)
        self.assertNotIn(bytes([101]) * 32, stored)
        self.open()
