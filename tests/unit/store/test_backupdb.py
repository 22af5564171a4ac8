"""The database of backups: what a restart finds, whose it is, and disks that fail."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import ConfigError, FormatError, StoreError
from ampgrid.store.backupdb import BackupDatabase, KnownDirectory, KnownFile, Stamp
from ampgrid.store.peerdb import PeerDatabase
from ampgrid.testing.faults import FAULTS, SQLITE, FailingTap, FaultPlan
from ampgrid.testing.sqliteio import SqliteShim
from tests.campaigns.bench import workplace

FILE = KnownFile(b"/caf\xe9", Stamp(3, -5, 10**18, 2**64 - 1), "URI:LIT:aaaa", 5.0, 6.0)
DIRECTORY = KnownDirectory(b"c" * 32, "URI:DIR:...", 7.0)


class BackupDatabaseTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "backup.sqlite"
        self.database = BackupDatabase(self.path)
        self.addCleanup(self.close)

    def close(self) -> None:
        self.database.close()

    def again(self) -> None:
        self.database.close()
        self.database = BackupDatabase(self.path)

    def test_what_was_recorded_is_there_after_a_restart(self) -> None:
        self.assertIsNone(self.database.file(FILE.path))
        self.assertIsNone(self.database.directory(DIRECTORY.contents))
        self.database.record([FILE], [DIRECTORY])
        self.again()
        self.assertEqual(self.database.file(FILE.path), FILE)
        self.assertEqual(self.database.directory(DIRECTORY.contents), DIRECTORY)

    def test_the_last_word_counts(self) -> None:
        self.database.record([FILE], [DIRECTORY])
        new = evolve(FILE, cap="URI:LIT:bbbb", checked_at=9.0)
        self.database.record([new], [evolve(DIRECTORY, cap="x")])
        self.assertEqual(self.database.file(FILE.path), new)
        self.assertEqual(self.database.directory(DIRECTORY.contents), evolve(DIRECTORY, cap="x"))

    def test_it_is_for_its_owner_alone(self) -> None:
        self.database.record([FILE])
        for path in self.path.parent.iterdir():
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600, path)

    def test_caps_stand_in_no_repr(self) -> None:
        self.assertNotIn("URI", repr(FILE) + repr(DIRECTORY))

    def test_another_node_is_refused(self) -> None:
        self.database.claim("one")
        self.again()
        self.database.claim("one")
        self.assertIn("--database", str(self.assertRaises(ConfigError, self.database.claim, "b")))
        self.database.claim("one")

    def test_two_at_once_are_refused(self) -> None:
        self.assertIn("in use", str(self.assertRaises(ConfigError, BackupDatabase, self.path)))

    def test_another_kind_of_database_is_refused(self) -> None:
        other = self.path.with_name("peers")
        PeerDatabase(other).close()
        self.assertRaises(FormatError, BackupDatabase, other)

    def test_what_was_not_seen_for_long_is_forgotten(self) -> None:
        files = [evolve(FILE, path=b"%d" % n, seen_at=float(n)) for n in range(10)]
        directories = [KnownDirectory(bytes([n]) * 32, "x", float(n)) for n in range(10)]
        self.database.record(files, directories)
        self.assertEqual(self.database.forget_files(4.0), 4)
        left = [self.database.file(file.path) is not None for file in files]
        self.assertEqual(left, [False] * 4 + [True] * 6)
        due = self.database.directories_due(7.0, 100)
        self.assertEqual(sorted(each.checked_at for each in due), list(map(float, range(7))))
        self.assertEqual(len(self.database.directories_due(7.0, 3)), 3)
        self.assertEqual(self.database.forget_directories(7.0), 7)
        self.assertEqual(self.database.directories_due(7.0, 100), [])

    def test_snapshots(self) -> None:
        self.assertEqual(self.database.snapshots(), frozenset())
        for cap in ("a", "b", "a"):
            self.database.add_snapshot(cap, b"/x", 1.0)
        self.again()
        self.assertEqual(self.database.snapshots(), {"a", "b"})


class FailingDiskTests(SynchronousTestCase):
    def test_a_record_is_there_as_a_whole_or_not_at_all(self) -> None:
        """Whatever call of SQLite's fails first, and however; also after it was opened anew."""
        tried = 0
        with SqliteShim.installed() as shim:
            for fault in FAULTS:
                at = 0
                while self.recorded_with(shim, fault, at):
                    at += 1
                tried += at
        self.assertGreater(tried, 5)

    def recorded_with(self, shim: SqliteShim, fault: object, at: int) -> bool:
        """Record with one fault; returns whether it struck."""
        with workplace("backup") as work:
            plan = FaultPlan(only=SQLITE)
            shim.tap = FailingTap(plan, work)
            path = work / "backup.sqlite"
            database = BackupDatabase(path)
            database.record([FILE])
            new = evolve(FILE, cap="new")
            plan.set(at, fault)  # type: ignore[arg-type]
            said = True
            try:
                database.record([new], [DIRECTORY])
            except StoreError:
                said = False
            struck = plan.failed is not None
            plan.heal()
            database.close()
            database = BackupDatabase(path)
            there = database.file(FILE.path), database.directory(DIRECTORY.contents)
            database.close()
        self.assertIn(there, [(FILE, None), (new, DIRECTORY)])
        if said:
            self.assertEqual(there, (new, DIRECTORY))
        return struck
