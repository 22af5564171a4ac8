"""What a peer's blobs and its accounts of them are after a crash."""

from __future__ import annotations

import os
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from ampgrid.blobs.port import TOMBSTONE_SECONDS
from ampgrid.commands import blobs as commands
from ampgrid.commands import errors as e
from ampgrid.formats.blobname import Flag
from ampgrid.formats.blobuser import account_of_node
from ampgrid.store import servedblob_rows
from ampgrid.store.servedblob_schema import ROW_BYTES
from ampgrid.store.servedblobs import SMALL_BYTES, SYNC_BYTES, Selection
from tests.unit.blobs.serving import LARGE, Caller, ServiceCase, sealed


class Explained:
    """A connection that writes down how each statement is done.

    Args:
        sql: the connection.
        told: where that goes.
    """

    def __init__(self, sql, told):
        self._sql = sql
        self._told = told

    def execute(self, statement, values=()):
        plan = self._sql.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
        self._told += [row[3] for row in plan]
        return self._sql.execute(statement, values)


class CrashTests(ServiceCase):
    def test_it_goes_on_from_what_was_on_the_disk(self):
        data = sealed("crash", SYNC_BYTES + 200_000)
        self.stop()
        self.start(account_quota=10**9)
        self.caller = Caller(self)
        put, _have, _done = self.caller.begin(data)
        self.caller.write(put, data, 0, SYNC_BYTES + 100_000)
        self.crash_with_quota()
        have = self.caller.put(data)
        self.assertGreaterEqual(have, SYNC_BYTES)
        self.assertLess(have, SYNC_BYTES + 65_000)
        self.assertEqual(
            self.caller.read(offset=SYNC_BYTES - 10), data[SYNC_BYTES - 10 :][:65_000]
        )

    def crash_with_quota(self):
        self.quota = 10**9
        self.crash()

    def test_what_was_lost_of_a_file_comes_again(self):
        data = sealed("lost", LARGE)
        put, _have, _done = self.caller.begin(data)
        self.caller.write(put, data, 0, 130_000)
        self.caller.ask(commands.LeaveBlob, put=put, keep=True)
        os.truncate(self.large_files()[0], 1000)
        self.assertEqual(self.caller.put(data), 0)
        self.assertEqual(self.caller.read(offset=100_000), data[100_000:])

    def test_files_that_no_row_speaks_of_go_at_the_start(self):
        self.caller.put(sealed("stays", LARGE), "stays")
        (kept,) = self.large_files()
        for number in (300, 12345):
            stray = kept.parent.parent / f"{number % 256:02x}" / str(number)
            stray.parent.mkdir(exist_ok=True)
            stray.write_bytes(b"stray")
        self.crash()
        self.assertEqual(self.large_files(), [kept])
        self.assertEqual(self.caller.read("stays"), sealed("stays", LARGE)[:65_000])

    def test_a_blob_whose_file_is_gone_says_so(self):
        self.caller.put(sealed("gone", LARGE))
        os.unlink(self.large_files()[0])
        error = self.caller.fails(
            e.StoreFailedError, commands.ReadBlob, **self.caller.name(), offset=0, length=9
        )
        self.assertTrue(re.fullmatch(r"the store failed, [0-9a-f]{8}", str(error)), error)
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def test_accounts_add_up_whatever_happened(self):
        steps = st.lists(
            st.tuples(
                st.sampled_from(["put", "begin", "at once", "delete", "leave", "sweep", "crash"]),
                st.sampled_from(["a", "b"]),
                st.sampled_from([100, LARGE]),
            ),
            max_size=10,
        )

        @given(steps)
        @settings(max_examples=15, deadline=None)
        def check(steps):
            for what, blob_id, size in steps:
                data = sealed("x", size)
                try:
                    if what == "put":
                        self.caller.put(data, blob_id)
                    elif what == "begin":
                        put, have, done = self.caller.begin(data, blob_id)
                        if not done:
                            self.caller.write(put, data, have, max(have, 70))
                    elif what == "at once" and size == 100:
                        self.caller.put_at_once(data, blob_id)
                    elif what == "delete":
                        self.caller.delete(blob_id)
                    elif what == "leave":
                        self.caller.connection.abort("gone")
                        self.caller = Caller(self)
                    elif what == "sweep":
                        self.ahead += TOMBSTONE_SECONDS
                        self.clock.run(self.service.sweep())
                    else:
                        self.crash()
                except e.WireError:
                    pass
                self.assert_adds_up()

        check()

    def assert_adds_up(self):
        read = self.store.database.read
        rows = read(lambda sql: sql.execute("SELECT id, state, size FROM blobs").fetchall())
        used = sum(size + ROW_BYTES for _id, _state, size in rows)
        self.assertEqual(self.store.room().used, used)
        here = {i for i, state, size in rows if state == 1 and size > SMALL_BYTES}
        coming = {i for i, state, _size in rows if state == 0}
        files = {int(path.name) for path in self.large_files()}
        self.assertLessEqual(here, files)
        self.assertLessEqual(files, here | coming)
        small = {i for i, state, size in rows if state == 1 and size <= SMALL_BYTES}
        contents = read(lambda sql: sql.execute("SELECT id FROM contents").fetchall())
        self.assertEqual({i for (i,) in contents}, small)
        self.assert_counts()

    def assert_counts(self):
        """The tallies are what one gets by looking at every row."""
        read = self.store.database.read
        columns = "account, namespace, state, flags"
        counted = f"SELECT {columns}, count(*) FROM blobs GROUP BY {columns} ORDER BY {columns}"
        told = f"SELECT {columns}, count FROM tallies ORDER BY {columns}"
        self.assertEqual(
            read(lambda sql: sql.execute(told).fetchall()),
            read(lambda sql: sql.execute(counted).fetchall()),
        )

    def test_a_count_looks_at_no_blob(self):
        """Else a user with a million of them holds all others up as often as it asks."""
        for number in range(3):
            self.caller.put_at_once(sealed(number, 100), f"b{number}")
        self.caller.delete("b0")
        self.caller.ask(commands.SetBlobFlags, **self.caller.name("b1"), flags=9)
        self.assert_counts()
        account = account_of_node(b"p" * 20)
        for chosen, expected in (
            (Selection("default"), 2),
            (Selection("default", Flag.FAILED), 1),
            (Selection("default", Flag.PROCESSED), 0),
            (Selection("default", deleted=True), 1),
        ):
            self.assertEqual(self.store.count(account, chosen, self.service.now()), expected)
        looked = []

        def look(sql):
            return servedblob_rows.count(Explained(sql, looked), 1, Selection("default"), 0)

        self.store.database.read(look)
        self.assertEqual([line for line in looked if "blobs" in line], [])
        self.assertTrue(any("SEARCH tallies" in line for line in looked), looked)

    def test_a_store_of_the_first_version_counts_what_it_has(self):
        for number in range(3):
            self.caller.put_at_once(sealed(number, 100), f"b{number}")
        self.caller.delete("b0")

        def back(sql):
            for trigger in ("tally_added", "tally_gone", "tally_moved"):
                sql.execute(f"DROP TRIGGER {trigger}")
            sql.execute("DROP TABLE tallies")
            sql.execute("PRAGMA user_version=1")

        self.store.database.call(back)
        self.crash()
        self.assert_counts()
        self.caller.put_at_once(sealed("more", 100), "more")
        self.assert_counts()
        self.assertEqual(self.store.room().blobs, 3)
