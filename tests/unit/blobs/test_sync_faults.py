"""Stores around a remote that breaks off, lies and damages: what a sync and a get make of it."""

from __future__ import annotations

import random

from twisted.internet.defer import Deferred

from ampgrid.blobs import (
    BlobName,
    BlobNotFoundError,
    InvalidBlobError,
    SyncStatus,
    listing,
    looking,
)
from ampgrid.blobs.port import Page
from ampgrid.blobs.retrying import FIRST_WAIT, LEAST_PROGRESS, MOST_WAIT, Retrying
from ampgrid.errors import BadArgumentValueError, NoRoomError, RemoteUnavailableError
from ampgrid.testing.clock import HeapClock
from tests.unit.blobs.blob_world import content
from tests.unit.blobs.test_manager import ManagerCase


class FaultTests(ManagerCase):
    def other(self, **how):
        remote = self.world.remote()
        return remote, self.world.manager("b", remote=remote, **how)

    def test_a_broken_transfer_goes_on_where_it_was(self):
        data = content("large", 5_000_000)
        self.failing("put-piece", times=4)
        self.put("large", data)
        self.assertLess(self.remote.moved, len(data) * 1.1)
        remote, other = self.other()
        remote.weather.fails["get-piece"] = 4
        self.assertEqual(self.world.get(other, "large"), data)
        self.assertLess(remote.moved, len(data) * 1.2)

    def test_it_goes_on_after_a_restart(self):
        data = content("large", 8_000_000)
        self.put("large", data)
        for seconds in (0.3, 0.5, 0.2, 0.4):
            remote, other = self.other()
            self.world.begin(other.get("large"))
            self.world.clock.advance(seconds)
            self.world.kill(other)
        remote, other = self.other()
        self.assertEqual(self.world.get(other, "large"), data)
        self.assertLess(remote.moved, len(data) * 0.6)

    def test_a_send_goes_on_after_a_restart(self):
        data = content("large", 8_000_000)
        for seconds in (0.1, 0.2, 0.05, 0.1):
            self.world.begin(self.putting("large", data))
            self.world.clock.advance(seconds)
            self.world.kill(self.blobs)
            self.remote = self.world.remote()
            self.blobs = self.world.manager(remote=self.remote)
        self.assertEqual(self.run_one(self.blobs.sync()).sent, 1)
        self.assertLess(self.remote.moved, len(data) * 0.6)
        _remote, other = self.other()
        self.assertEqual(self.world.get(other, "large"), data)

    def test_a_stream_without_a_local_store_goes_on_too(self):
        data = content("large", 3_000_000)
        self.put("large", data)
        remote = self.world.remote()
        manager = self.world.manager(remote=remote, local=False)
        remote.weather.fails["get-piece"] = 3
        self.assertEqual(self.world.get(manager, "large"), data)
        self.assertLess(remote.moved, len(data) * 1.2)

    def test_a_remote_that_is_away_is_not_asked_for_ever(self):
        self.failing("put")
        before = self.world.clock.seconds()
        self.fails(RemoteUnavailableError, self.putting("x", b"content"))
        tried = [step for step, _ in self.remote.weather.seen].count("put")
        self.assertEqual(tried, 8)
        self.assertLess(self.world.clock.seconds() - before, 8 * MOST_WAIT)

    def test_a_remote_that_takes_all_and_fails_at_the_end_is_not_asked_for_ever(self):
        self.failing("put-end", times=10**6)
        self.fails(RemoteUnavailableError, self.putting("x", content("x", 300_000)))

    def test_waits_are_random_and_grow(self):
        clock, waits = HeapClock(), []

        def uniform(low, high):
            waits.append((low, high))
            return high

        async def fail():
            raise RemoteUnavailableError("no")

        retrying = Retrying(clock, uniform, 10)
        with self.assertRaises(RemoteUnavailableError):
            clock.run(retrying.run(fail))
        self.assertEqual([low for low, _ in waits], [0.0] * 9)
        highs = [high for _, high in waits]
        self.assertEqual(highs[0], FIRST_WAIT)
        self.assertEqual(highs, sorted(highs))
        self.assertEqual(highs[-1], MOST_WAIT)

    def test_one_who_is_cancelled_while_waiting_leaves_nothing_behind(self):
        clock = HeapClock()

        async def fail():
            raise RemoteUnavailableError("no")

        waiting = Deferred.fromCoroutine(Retrying(clock, lambda _low, high: high, 5).run(fail))
        waiting.addErrback(lambda _failure: None)
        waiting.cancel()
        self.assertEqual([call for call in clock.getDelayedCalls() if call.active()], [])

    def test_progress_is_told(self):
        told = []
        self.restart(watcher=told.append)
        data = content("watched", 3_000_000)
        self.put("watched", data)
        self.assertEqual({moved.sending for moved in told}, {True})
        self.assertEqual(told[-1].done, told[-1].total)
        self.assertGreater(told[-1].total, len(data))
        self.assertEqual([m.done for m in told], sorted(m.done for m in told))
        told.clear()
        other = self.world.manager("b", watcher=told.append)
        self.world.get(other, "watched")
        self.assertEqual({moved.sending for moved in told}, {False})
        self.assertEqual((told[-1].done, told[-1].name.blob_id), (told[-1].total, "watched"))

    def crawl(self, step):
        """Come to an end in fifty attempts, each of which gets further by some bytes."""
        clock = HeapClock()
        come = []

        async def crawl():
            come.append(step)
            if len(come) < 50:
                raise RemoteUnavailableError("no")
            return "there"

        retrying = Retrying(clock, random.Random(1).uniform, 3)
        try:
            return clock.run(retrying.run(crawl, lambda: sum(come)))
        except RemoteUnavailableError:
            return len(come)

    def test_an_attempt_that_got_further_does_not_count(self):
        self.assertEqual(self.crawl(LEAST_PROGRESS), "there")

    def test_a_remote_that_gives_a_byte_an_attempt_is_not_asked_for_ever(self):
        self.assertEqual(self.crawl(1), 3)
        # Several small steps are a large one in the end.
        self.assertEqual(self.crawl(LEAST_PROGRESS // 2), "there")

    def test_three_bad_blobs_are_enough(self):
        data = content("bad", 200_000)
        self.put("bad", data)
        remote, other = self.other()
        asked = []

        def spoil(name, sealed):
            asked.append(name)
            return sealed[:-100] + bytes([sealed[-100] ^ 1]) + sealed[-99:]

        remote.spoil = spoil
        self.fails(InvalidBlobError, other.get("bad"))
        self.assertEqual(len(asked), 3)
        self.assertEqual(self.run_one(other.status("bad")), SyncStatus.FAILED_DOWNLOAD)
        for work in (other.sync, other.fetch_missing):
            self.assertEqual(self.run_one(work()).failed, [])
        self.fails(InvalidBlobError, other.get("bad"))
        self.assertEqual(len(asked), 3)
        remote.spoil = lambda _name, sealed: sealed
        self.assertEqual(self.run_one(other.ask_again()), 1)
        self.assertEqual(self.world.get(other, "bad"), data)

    def test_a_full_disk_ends_a_sync_with_its_own_error(self):
        for blob_id in ("a", "b", "c", "d"):
            self.put(blob_id)
        _remote, other = self.other()
        self.run_one(other.refresh_sync_status_from_server())

        def change(_function):
            raise NoRoomError("the disk is full")

        self.patch(other._store, "change", change)
        self.fails(NoRoomError, other.sync())

    def test_a_blob_that_the_remote_does_not_take_does_not_stop_the_others(self):
        self.failing("put")
        for blob_id in ("a", "odd"):
            self.fails(RemoteUnavailableError, self.putting(blob_id, content(blob_id)))
        self.mend()
        put = self.remote.put

        async def picky(name, source):
            if name.blob_id == "odd":
                raise BadArgumentValueError("The server refused an argument.")
            await put(name, source)

        self.remote.put = picky
        report = self.run_one(self.blobs.sync())
        self.assertEqual([name.blob_id for name, _why in report.failed], ["odd"])
        self.assertEqual(report.sent, 1)
        # It waits, and goes once the remote takes it.
        self.remote.put = put
        self.assertEqual(self.run_one(self.blobs.sync()).sent, 1)

    def test_a_bad_blob_does_not_stop_the_others(self):
        for blob_id in ("a", "bad", "c"):
            self.put(blob_id)
        remote, other = self.other()
        remote.spoil = lambda name, data: data[::-1] if name.blob_id == "bad" else data
        report = self.run_one(other.sync())
        self.assertEqual([name.blob_id for name, _why in report.failed], ["bad"])
        self.assertEqual(self.world.local(other), ["a", "c"])

    def test_one_that_was_bad_once_comes_the_second_time(self):
        data = content("bad", 200_000)
        self.put("bad", data)
        remote, other = self.other()
        spoilt = []

        def spoil(name, sealed):
            if not spoilt:
                spoilt.append(name)
                return sealed[:100_000] + b"x" + sealed[100_001:]
            return sealed

        remote.spoil = spoil
        self.assertEqual(self.world.get(other, "bad"), data)
        self.assertEqual(self.run_one(other.status("bad")), SyncStatus.SYNCED)

    def test_the_store_is_full_of_what_moved_alone(self):
        """After failures and restarts nothing is left of what did not come to its end."""
        self.put("bad", content("bad", 3_000_000))
        remote, other = self.other()
        remote.spoil = lambda _name, data: data[:-1] + b"x"
        self.fails(InvalidBlobError, other.get("bad"))
        self.run_one(other.sync())
        store = other._store
        rows = store.change(lambda sql: sql.execute("SELECT count(*) FROM chunks").fetchone()[0])
        self.assertEqual(rows, 0)


class DamageTests(ManagerCase):
    """Everything that may be done to the bytes of a blob on the way, and at rest."""

    def setUp(self):
        super().setUp()
        self.data = content("damaged", 100)
        self.put("blob", self.data)
        self.put("other", content("other", 100))
        self.made = 0

    def assert_refused(self, spoil):
        """Assert that neither a store nor a stream gives out what was spoilt."""
        self.made += 1
        for local in (True, False):
            remote = self.world.remote()
            remote.weather.calm = 0.0
            remote.spoil = spoil
            manager = self.world.manager(f"d{self.made}", remote=remote, local=local)
            with self.assertRaises(InvalidBlobError):
                self.world.get(manager, "blob")
            self.run_one(manager.close())
            self.world.managers.remove(manager)

    def test_bytes_flipped(self):
        """All of them in the tests of the cipher; here some on the whole way."""
        total = len(self.run_one(self.raw("blob")))
        for at in range(0, total, 11):
            self.assert_refused(
                lambda _name, data, at=at: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            )

    async def raw(self, blob_id):
        stream = await self.world.remote().get(BlobName.of(blob_id))
        return await stream.read()

    def test_cut_and_extended(self):
        for change in (
            lambda d: d[:-1],
            lambda d: d[:-16],
            lambda d: d[:50],
            lambda d: d[:16],
            lambda d: d + b"\0",
            lambda d: d + d,
            lambda d: d[:-16] + bytes(16),
        ):
            self.assert_refused(lambda _name, data, change=change: change(data))

    def test_another_blob(self):
        other = self.run_one(self.raw("other"))
        self.assert_refused(lambda _name, _data: other)

    def test_bytes_flipped_in_the_local_store(self):
        """As SQLCipher would give them if its own check had been passed."""
        rows = self.run_one(self.blobs.get("blob"))
        self.run_one(rows.close())
        store = self.blobs._store
        blob = store.find(BlobName.of("blob"))
        for number, row in enumerate(store.rows(blob, 0, 2)):
            place = store.change(
                lambda sql, row=row: sql.execute(
                    "SELECT place FROM chunks WHERE data = ?", (row,)
                ).fetchone()[0]
            )
            for at in range(len(row)):
                flipped = row[:at] + bytes([row[at] ^ 1]) + row[at + 1 :]
                self.write(place, flipped)
                with self.assertRaises(InvalidBlobError, msg=(number, at)):
                    self.get("blob")
            for changed in (row[:-1], row + b"\0", b"", row[::-1]):
                self.write(place, changed)
                with self.assertRaises(InvalidBlobError):
                    self.get("blob")
            self.write(place, row)
        self.assertEqual(self.get("blob"), self.data)

    def test_what_is_damaged_here_comes_again(self):
        store = self.blobs._store
        [row] = store.rows(store.find(BlobName.of("blob")), 1, 1)
        store.change(
            lambda sql: sql.execute(
                "UPDATE chunks SET data = ? WHERE data = ?",
                (b"rubbish", row),
            )
        )
        with self.assertRaises(InvalidBlobError):
            self.get("blob")
        self.run_one(self.blobs.bring_again("blob"))
        self.assertEqual(self.get("blob"), self.data)
        self.fails(BlobNotFoundError, self.blobs.bring_again("none"))
        self.put("mine", b"content", local_only=True)
        self.fails(BlobNotFoundError, self.blobs.bring_again("mine"))

    def test_one_that_is_whole_stays_whatever_the_remote_says(self):
        self.world.server.account("alice").blobs.clear()
        self.run_one(self.blobs.bring_again("blob"))
        self.assertEqual(self.get("blob"), self.data)

    def test_what_is_left_stays_if_the_remote_has_none(self):
        name = BlobName.of("blob")
        store = self.blobs._store
        [row] = store.rows(store.find(name), 1, 1)
        change = "UPDATE chunks SET data = ? WHERE data = ?"
        store.change(lambda sql: sql.execute(change, (b"rubbish", row)))
        self.world.server.account("alice").blobs.clear()
        self.fails(BlobNotFoundError, self.blobs.bring_again("blob"))
        self.assertEqual(self.status("blob"), SyncStatus.SYNCED)
        self.assertEqual(store.rows(store.find(name), 1, 1), [b"rubbish"])

    def write(self, place, data):
        self.blobs._store.change(
            lambda sql: sql.execute("UPDATE chunks SET data = ? WHERE place = ?", (data, place))
        )


class ListingTests(ManagerCase):
    """A remote whose listings are none: the sync says so, and ends."""

    def listed(self, *told):
        answers, last = iter(told), told[-1]
        asked = [0]

        async def page(_query, _order_by=None, _after=None, _most=1000):
            asked[0] += 1
            self.assertLess(asked[0], 1000, "it asks for ever")
            return next(answers, last)

        self.remote.page = page

    def test_without_end(self):
        for ids in ((), ("a",), ("a", "b")):
            self.listed(Page(ids, "1"), Page(ids, "2"))
            self.fails(RemoteUnavailableError, self.blobs.remote_list())
            self.fails(RemoteUnavailableError, self.blobs.sync("default"))

    def test_in_no_order(self):
        for pages in ([Page(("b", "a"))], [Page(("a", "a"))], [Page(("b",), "1"), Page(("a",))]):
            self.listed(*pages)
            self.fails(RemoteUnavailableError, self.blobs.remote_list())

    def test_by_date_with_an_empty_page_before_the_end(self):
        for pages in ([Page((), "1")], [Page(("a",), "1"), Page((), "2"), Page(("b",))]):
            self.listed(*pages)
            self.fails(RemoteUnavailableError, self.blobs.remote_list(order_by="-date"))

    def test_by_date_in_a_circle(self):
        self.listed(Page(("a",), "1"), Page(("b",), "1"), Page(("c",)))
        self.fails(RemoteUnavailableError, self.blobs.remote_list(order_by="date"))

    def test_more_than_fits_into_memory(self):
        self.patch(looking, "MOST_LISTED_BYTES", 10_000)
        self.listed(*(Page((f"{number:0250}",), str(number)) for number in range(200)))
        for order_by in (None, "date"):
            told = self.fails(RemoteUnavailableError, self.blobs.remote_list(order_by=order_by))
            self.assertIn("memory", told)

    def test_by_date_without_end(self):
        self.patch(listing, "MOST_IDS", 100)
        self.listed(*(Page((f"b{number}",), str(number)) for number in range(200)))
        self.fails(RemoteUnavailableError, self.blobs.remote_list(order_by="date"))
