"""Databases: group commit, failures, versions, and the dialect of SQLite 3.15."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import ampgrid.store
from ampgrid.errors import BrokenStoreError, ConfigError, FormatError, NoRoomError
from ampgrid.store import PeerDatabase, ShareStore
from ampgrid.store.filesystem import HastyFileSystem
from ampgrid.store.sql import MOST_JOBS_A_GROUP, Call, Database, Job, Schema, find_driver
from tests.patience import PATIENCE

SCHEMA = Schema(
    name="a test's database",
    application_id=77,
    version=1,
    statements=(
        "CREATE TABLE numbers (value INTEGER UNIQUE)",
        """CREATE TABLE children (
            parent INTEGER REFERENCES numbers (value) DEFERRABLE INITIALLY DEFERRED
        )""",
    ),
)


class Insert(Job):
    def __init__(self, value, fail=False):
        self.value = value
        self.fail = fail
        self.ends = []

    def run(self, sql):
        sql.execute("INSERT INTO numbers VALUES (?)", (self.value,))
        if self.fail:
            raise KeyError(self.value)
        return self.value

    def committed(self):
        self.ends.append("committed")

    def undone(self):
        self.ends.append("undone")


class DatabaseCase(SynchronousTestCase):
    def setUp(self):
        self.path = Path(self.mktemp())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.broken = []
        self.database = self.open()

    def open(self, schema=SCHEMA):
        database = Database(self.path, schema, lambda: self.broken.append(True))
        self.addCleanup(database.close)
        return database

    def values(self):
        return self.database.read(
            lambda sql: [row[0] for row in sql.execute("SELECT value FROM numbers")]
        )


class GroupCommitTests(DatabaseCase):
    def test_many_jobs_are_one_commit(self):
        before = self.database.commits
        jobs = [Insert(n) for n in range(16)]
        outcomes = self.database.run_all(jobs)
        self.assertEqual([outcome.get() for outcome in outcomes], list(range(16)))
        self.assertEqual(self.database.commits, before + 1)
        self.assertEqual({tuple(job.ends) for job in jobs}, {("committed",)})

    def test_a_failing_job_undoes_itself_alone(self):
        jobs = [Insert(1), Insert(2, fail=True), Insert(1), Insert(3)]
        outcomes = self.database.run_all(jobs)
        self.assertEqual(outcomes[0].get(), 1)
        self.assertIsInstance(outcomes[1].error, KeyError)
        self.assertIsInstance(outcomes[2].error, BrokenStoreError)
        self.assertEqual(self.values(), [1, 3])
        ends = [job.ends for job in jobs]
        self.assertEqual(ends, [["committed"], ["undone"], ["undone"], ["committed"]])

    def test_jobs_of_other_threads_ride_along(self):
        """While one thread holds the connection the jobs of 16 others gather: two commits."""
        before = self.database.commits
        entered, leave = threading.Event(), threading.Event()

        def slow(sql):
            sql.execute("INSERT INTO numbers VALUES (-1)")
            entered.set()
            leave.wait(PATIENCE)

        threads = [threading.Thread(target=self.database.call, args=(slow,))]
        threads[0].start()
        self.assertTrue(entered.wait(PATIENCE))
        threads += [
            threading.Thread(target=self.database.run, args=(Insert(n),)) for n in range(16)
        ]
        for thread in threads[1:]:
            thread.start()
        while len(self.database._queue) < 16:
            threading.Event().wait(0.001)
        leave.set()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(self.values()), list(range(-1, 16)))
        self.assertEqual(self.database.commits, before + 2)

    def test_reading_if_free_waits_for_nobody(self):
        self.database.run(Insert(1))

        def read(sql):
            return [row[0] for row in sql.execute("SELECT value FROM numbers")]

        def meanwhile(sql):
            sql.execute("INSERT INTO numbers VALUES (2)")
            return self.database.read_if_free(read)

        self.assertEqual(self.database.read_if_free(read), [1])
        self.assertIsNone(self.database.call(meanwhile))
        self.assertEqual(self.database.read_if_free(read), [1, 2])

    def test_more_jobs_than_a_group_takes(self):
        count = MOST_JOBS_A_GROUP * 2 + 1
        outcomes = self.database.run_all([Insert(n) for n in range(count)])
        self.assertEqual([outcome.get() for outcome in outcomes], list(range(count)))

    def test_looking_is_no_commit(self):
        before = self.database.commits
        self.database.call(lambda sql: sql.execute("SELECT * FROM numbers").fetchall())
        self.assertEqual(self.database.commits, before)

    def test_a_failing_commit_undoes_all_and_is_told_to_all(self):
        self.database.read(lambda sql: sql.execute("PRAGMA foreign_keys=ON"))
        orphan = Call(lambda sql: sql.execute("INSERT INTO children VALUES (99)"))
        jobs = [Insert(1), orphan, Insert(2)]
        for outcome in self.database.run_all(jobs):
            self.assertIsInstance(outcome.error, BrokenStoreError)
        self.assertEqual((jobs[0].ends, jobs[2].ends), (["undone"], ["undone"]))
        self.assertEqual(self.values(), [])
        self.assertTrue(self.broken)
        self.assertEqual(self.database.run(Insert(3)), 3)

    def test_a_full_disk_is_no_broken_one(self):
        self.database.read(lambda sql: sql.execute("PRAGMA max_page_count=8").fetchone())

        def fill(sql):
            sql.execute("CREATE TABLE big (data BLOB)")
            sql.execute("INSERT INTO big VALUES (zeroblob(1000000))")

        small, large = Insert(1), Call(fill)
        outcomes = self.database.run_all([small, large])
        self.assertIsInstance(outcomes[1].error, NoRoomError)
        self.assertEqual(self.broken, [])
        self.assertEqual(self.values(), [1] if outcomes[0].error is None else [])

    def test_a_closed_database_says_so(self):
        self.database.close()
        job = Insert(1)
        with self.assertRaises(BrokenStoreError):
            self.database.run(job)
        with self.assertRaises(BrokenStoreError):
            self.values()
        self.assertEqual(job.ends, ["undone"])

    def test_commits_are_synchronised(self):
        def settings(sql):
            return [
                sql.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("synchronous", "journal_mode", "locking_mode")
            ]

        self.assertEqual(self.database.read(settings), [2, "wal", "exclusive"])
        self.database.close()
        hasty = Database(self.path, SCHEMA, files=HastyFileSystem())
        self.addCleanup(hasty.close)
        # The log is still synchronised before it is copied: the file stays whole.
        self.assertEqual(hasty.read(settings), [1, "wal", "exclusive"])


class VersionTests(DatabaseCase):
    def set_pragma(self, name, value):
        self.database.read(lambda sql: sql.execute(f"PRAGMA {name}={value}").fetchall())
        self.database.close()

    def test_what_was_kept_is_there_again(self):
        self.database.run(Insert(5))
        self.database.close()
        self.database = self.open()
        self.assertEqual(self.values(), [5])

    def test_an_unknown_version_is_refused_and_left_alone(self):
        self.database.run(Insert(5))
        for version in (2, 99, -1):
            self.set_pragma("user_version", version)
            content = self.path.read_bytes()
            with self.assertRaises(FormatError) as caught:
                self.open()
            self.assertIn(str(version), str(caught.exception))
            self.assertEqual(self.path.read_bytes(), content)
            connection = find_driver().connect(str(self.path), isolation_level=None)
            connection.execute("PRAGMA user_version=1")
            connection.close()
            self.database = self.open()

    def test_another_kind_is_refused(self):
        self.set_pragma("application_id", 78)
        with self.assertRaises(FormatError):
            self.open()

    def test_no_database_is_refused(self):
        self.database.close()
        self.path.write_bytes(b"this is no database, but long enough to be one" * 100)
        with self.assertRaises(FormatError):
            self.open()

    def test_an_older_version_is_upgraded_once(self):
        self.database.run(Insert(5))
        self.database.close()
        newer = Schema(
            SCHEMA.name, 77, 3, (), {1: ("CREATE TABLE two (a)",), 2: ("CREATE TABLE three (a)",)}
        )
        for _ in range(2):
            self.database = self.open(newer)
            self.assertEqual(self.values(), [5])
            self.database.call(lambda sql: sql.execute("INSERT INTO three VALUES (1)"))
            self.database.close()

    def test_a_second_process_is_kept_out(self):
        program = (
            "import sys; from pathlib import Path\n"
            "from tests.unit.store.test_sql import Database, SCHEMA\n"
            "try: Database(Path(sys.argv[1]), SCHEMA)\n"
            "except Exception as error: print(type(error).__name__, error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(self.path.absolute())],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(ampgrid.store.__file__).parents[2],
        )
        self.assertIn("ConfigError", done.stdout)
        self.assertIn("in use", done.stdout)

    def test_where_it_cannot_be_made(self):
        with self.assertRaises(ConfigError):
            Database(self.path.parent / "no" / "such" / "place", SCHEMA)

    def test_the_file_is_private(self):
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)


class DriverTests(SynchronousTestCase):
    def test_the_environment_names_the_driver(self):
        self.patch(os, "environ", {"AMPGRID_SQLCIPHER": "sqlcipher3"})
        self.assertEqual(find_driver().__name__, "sqlcipher3.dbapi2")
        os.environ["AMPGRID_SQLCIPHER"] = "mysql"
        with self.assertRaises(ConfigError):
            find_driver()


class DialectTests(SynchronousTestCase):
    """Every SQL text of the room is one that SQLite 3.15 understands."""

    newer = re.compile(
        r"\bON\s+CONFLICT\b|\bRETURNING\b|\bOVER\s*\(|\bDROP\s+COLUMN\b|\bRENAME\s+COLUMN\b"
        r"|\bNULLS\s+(FIRST|LAST)\b|\bIIF\s*\(|\bSTRICT\b|\bGENERATED\b|\bMATERIALIZED\b"
        r"|\bFILTER\s*\(|\b(TRUE|FALSE)\b|->|\bRIGHT\s+JOIN\b|\bFULL\s+JOIN\b|\bUNIXEPOCH\b",
        re.IGNORECASE,
    )
    statement = re.compile(r"^\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|WITH|REPLACE)\s")

    def statements(self):
        for path in sorted(Path(ampgrid.store.__file__).parent.glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                text = node.value if isinstance(node, ast.Constant) else None
                if isinstance(text, str) and self.statement.match(text):
                    yield path.name, text

    def test_statements_are_old_enough(self):
        found = list(self.statements())
        self.assertGreater(len(found), 30)
        for name, text in found:
            self.assertIsNone(self.newer.search(text), f"{name}: {text}")

    def test_the_pattern_finds_what_it_must(self):
        for text in (
            "INSERT INTO a VALUES (1) ON CONFLICT (b) DO NOTHING",
            "DELETE FROM a RETURNING b",
            "SELECT row_number() OVER (ORDER BY b) FROM a",
        ):
            self.assertIsNotNone(self.newer.search(text))


class UnknownStoreTests(SynchronousTestCase):
    """Both kinds of database refuse a version they do not know, and touch nothing."""

    def test_refused(self):
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        openers = {
            folder / "shares" / "store.db": lambda: ShareStore.open(
                folder / "shares", wall=lambda: 1
            ),
            folder / "peers.db": lambda: PeerDatabase(folder / "peers.db"),
        }
        for path, opener in openers.items():
            opener().close()
            driver = find_driver()
            connection = driver.connect(str(path), isolation_level=None)
            connection.execute("PRAGMA user_version=7")
            connection.close()
            incoming = folder / "shares" / "incoming" / "x"
            incoming.write_bytes(b"")
            with self.assertRaises(FormatError):
                opener()
            self.assertTrue(incoming.exists())
