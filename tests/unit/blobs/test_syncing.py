"""Several stores around one remote that fails, lies and goes away: in the end all are equal."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.blobs import (
    BlobAlreadyExistsError,
    BlobDeletedError,
    BlobName,
    BlobNotFoundError,
    InvalidBlobError,
    Priority,
    SyncStatus,
    listing,
    looking,
)
from ampgrid.blobs.bounds import Bounds
from ampgrid.blobs.port import Page
from ampgrid.blobs.retrying import FIRST_WAIT, LEAST_PROGRESS, MOST_WAIT, Retrying
from ampgrid.errors import (
    BadArgumentValueError,
    BlobQuotaError,
    BlobRefusedError,
    NoRoomError,
    RemoteUnavailableError,
)
from ampgrid.formats.blob import MAX_SEALED_BYTES, external_preamble
from ampgrid.testing.clock import HeapClock
from tests.contract.blob_remote_contract import BytesSource
from tests.unit.blobs.blob_world import World, content
from tests.unit.blobs.test_manager import ManagerCase


class SyncTests(ManagerCase):
    def setUp(self):
        super().setUp()
        self.other = self.world.manager("b")

    def sync(self, manager=None):
        return self.run_one((manager or self.blobs).sync())

    def sync_all(self):
        for _ in range(2):
            for manager in (self.blobs, self.other):
                self.assertEqual(self.sync(manager).failed, [])

    def test_both_sides_hold_the_same(self):
        self.put("one")
        self.put("two", namespace="other")
        self.put("large", content("large", 2_500_000))
        self.world.put(self.other, "three")
        report = self.sync()
        self.assertEqual((report.sent, report.fetched), (0, 1))
        report = self.sync(self.other)
        self.assertEqual((report.sent, report.fetched), (0, 3))
        self.assertEqual(self.sync().to_json(), self.sync(self.other).to_json())
        for manager in (self.blobs, self.other):
            self.assertEqual(self.world.local(manager), ["large", "one", "three"])
            self.assertEqual(self.world.local(manager, "other"), ["two"])
            self.assertEqual(self.world.get(manager, "two", "other"), content("two"))
            self.assertEqual(self.run_one(manager.sync_progress()), {"SYNCED": 4})

    def test_one_namespace_alone(self):
        self.put("one")
        self.put("two", namespace="other")
        self.run_one(self.other.sync("other"))
        self.assertEqual(self.world.local(self.other), [])
        self.assertEqual(self.world.local(self.other, "other"), ["two"])

    def test_what_could_not_be_sent_is_sent(self):
        self.failing("put")
        self.fails(RemoteUnavailableError, self.putting("late", b"content"))
        self.assertEqual(self.status("late"), SyncStatus.PENDING_UPLOAD)
        self.restart()
        self.assertEqual(self.get("late"), b"content")
        self.assertEqual(self.run_one(self.blobs.send_missing()).sent, 1)
        self.assertEqual(self.status("late"), SyncStatus.SYNCED)
        self.assertEqual(self.run_one(self.other.fetch_missing()).fetched, 1)
        self.assertEqual(self.world.get(self.other, "late"), b"content")

    def test_a_put_after_a_crash_heals(self):
        """The seed left a blob that stood in the way of every other try."""
        self.failing("put")
        self.fails(RemoteUnavailableError, self.putting("late", b"content"))
        self.restart()
        self.fails(BlobAlreadyExistsError, self.putting("late", b"another"))
        self.fails(BlobAlreadyExistsError, self.putting("late", b"content and more"))
        self.put("late", b"content")
        self.assertEqual(self.status("late"), SyncStatus.SYNCED)

    def test_what_was_asked_for_in_vain_does_not_stand_in_the_way(self):
        self.failing("get")
        self.fails(RemoteUnavailableError, self.blobs.get("new"))
        self.assertEqual(self.status("new"), SyncStatus.PENDING_DOWNLOAD)
        self.put("new", b"content")
        self.assertEqual(self.status("new"), SyncStatus.SYNCED)
        self.assertEqual(self.world.get(self.other, "new"), b"content")

    def test_an_answer_that_was_lost_is_no_second_blob(self):
        self.restart(attempts=1)
        self.failing("put-answer")
        self.fails(RemoteUnavailableError, self.putting("once", b"content"))
        self.restart()
        self.assertEqual(self.sync().sent, 1)
        self.assertEqual(self.run_one(self.blobs.remote_list()), ["once"])
        self.assertEqual(self.sync(self.other).fetched, 1)

    def test_deletions_go_both_ways(self):
        for blob_id in ("one", "two", "three"):
            self.put(blob_id)
        self.sync_all()
        self.run_one(self.blobs.delete("one"))
        self.run_one(self.other.delete("two"))
        self.sync_all()
        for manager in (self.blobs, self.other):
            self.assertEqual(self.world.local(manager), ["three"])
            self.assertIsNone(self.world.get(manager, "one"))

    def test_deleting_wins_over_what_was_not_sent_yet(self):
        self.world.put(self.other, "gone", b"from there")
        self.failing("put")
        self.fails(RemoteUnavailableError, self.putting("gone", b"from here"))
        self.mend()
        self.run_one(self.other.delete("gone"))
        report = self.sync()
        self.assertEqual(report.deleted_here, 1)
        self.assertIsNone(self.get("gone"))
        self.assertEqual(self.run_one(self.blobs.remote_list()), [])

    def test_deleting_wins_in_the_middle_of_a_sync(self):
        """It is deleted after the deletions were looked at, and before it is sent."""
        self.failing("put")
        self.fails(RemoteUnavailableError, self.putting("gone", b"from here"))
        self.mend()
        weather, world = self.remote.weather, self.world

        async def strike(step, name, offset):
            await type(weather).__call__(weather, step, name, offset)
            if step == "put":
                remote = world.remote()
                self.remote.weather = weather
                await self.put_and_delete(remote, "gone")

        self.remote.weather = strike
        report = self.sync()
        self.assertEqual((report.deleted_here, report.failed), (1, []))
        self.assertIsNone(self.get("gone"))

    async def put_and_delete(self, remote, blob_id):
        from tests.contract.blob_remote_contract import BytesSource

        await remote.put(BlobName.of(blob_id), BytesSource(content(1)))
        await remote.delete(BlobName.of(blob_id))

    def test_what_the_remote_lost_is_sent_again(self):
        """Also after it forgot that it was deleted: rather twice than lost."""
        self.put("kept")
        self.world.server._accounts.clear()
        self.assertEqual(self.sync().sent, 1)
        self.assertEqual(self.sync(self.other).fetched, 1)

    def test_a_remote_that_lost_all_is_no_transaction_for_each(self):
        for number in range(30):
            self.put(f"b{number}")
        for number in range(20):
            self.world.put(self.other, f"wanted{number}")
        self.run_one(self.blobs.refresh_sync_status_from_server())
        self.world.server.account("alice").blobs.clear()
        before = self.blobs._store.commits
        self.run_one(self.blobs.refresh_sync_status_from_server())
        self.assertEqual(self.run_one(self.blobs.sync_progress()), {"PENDING_UPLOAD": 30})
        self.assertLessEqual(self.blobs._store.commits - before, 3)

    def test_what_is_wanted_and_gone_is_not_wanted_any_more(self):
        self.put("gone", content("gone", 500_000))
        weather = self.other._remote.weather
        weather.fails["get-piece"] = 1000
        self.fails(RemoteUnavailableError, self.other.get("gone"))
        self.assertEqual(self.run_one(self.other.status("gone")), SyncStatus.PENDING_DOWNLOAD)
        weather.fails.clear()
        self.run_one(self.blobs.delete("gone"))
        self.assertIsNone(self.world.get(self.other, "gone"))
        self.assertIsNone(self.run_one(self.other.status("gone")))

    def test_two_blobs_of_one_name(self):
        self.failing("put")
        self.fails(RemoteUnavailableError, self.putting("both", b"from here"))
        self.mend()
        self.world.put(self.other, "both", b"from there")
        report = self.sync()
        self.assertEqual([name.blob_id for name, _ in report.failed], ["both"])
        self.assertEqual(self.status("both"), SyncStatus.FAILED_UPLOAD)
        # Nothing is lost, and nothing is tried for ever.
        self.assertEqual(self.get("both"), b"from here")
        self.assertEqual(self.world.get(self.other, "both"), b"from there")
        self.assertEqual(self.sync().failed, [])

    def test_two_that_put_the_same_content(self):
        data = content("same", 200_000)
        self.failing("put")
        self.fails(RemoteUnavailableError, self.putting("same", data))
        self.mend()
        self.world.put(self.other, "same", data)
        self.assertEqual(self.sync().failed, [])
        self.assertEqual(self.status("same"), SyncStatus.SYNCED)

    def test_a_remote_that_refuses_the_user_ends_it(self):
        async def refuse(_step, _name, _offset):
            raise BlobRefusedError("who are you?")

        self.remote.weather = refuse
        self.fails(BlobRefusedError, self.blobs.sync())
        self.fails(BlobRefusedError, self.putting("x", b"content"))
        self.assertEqual(self.status("x"), SyncStatus.PENDING_UPLOAD)

    def test_many_pages(self):
        for number in range(25):
            self.put(f"b{number}")
        pages = []
        for manager in (self.blobs, self.other):
            remote = manager._remote
            page = remote.page

            async def small(query, order_by, after, _most, page=page):
                pages.append(after)
                return await page(query, order_by, after, 4)

            remote.page = small
        self.assertEqual(self.sync(self.other).fetched, 25)
        self.assertGreater(len(pages), 6)
        self.world.put(self.other, "b3-more")
        self.run_one(self.other.delete("b7"))
        self.sync_all()
        self.assertEqual(self.world.local(self.blobs), self.world.local(self.other))
        self.assertEqual(len(self.world.local(self.blobs)), 25)

    def test_status_and_progress(self):
        self.put("one")
        self.put("two", local_only=True)
        self.world.put(self.other, "three")
        self.run_one(self.blobs.refresh_sync_status_from_server())
        self.assertEqual(
            self.run_one(self.blobs.sync_progress()),
            {"SYNCED": 1, "PENDING_DOWNLOAD": 1, "LOCAL_ONLY": 1},
        )
        listed = self.run_one(self.blobs.local_list_status(SyncStatus.PENDING_DOWNLOAD))
        self.assertEqual(listed, ["three"])
        self.assertEqual(self.world.local(self.blobs), ["one", "two"])
        self.assertEqual(self.run_one(self.blobs.sync_progress("none")), {})
        self.fails(BlobNotFoundError, self.blobs.set_priority("no", Priority.HIGH))


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


class BoundsTests(ManagerCase):
    """A remote that tells of ever more, and makes blobs of other schemes: they end somewhere."""

    def setUp(self):
        super().setUp()
        self.put("mine")
        self.raw = external_preamble(2) + content("mail", 100_000)

    def external(self, blob_id, raw=None):
        self.run_one(self.world.remote().put(BlobName.of(blob_id), BytesSource(raw or self.raw)))

    def test_blobs_of_other_schemes_take_no_more_than_they_may(self):
        for number in range(4):
            self.external(f"mail-{number}")
        other = self.world.manager("b", bounds=Bounds(external_bytes=2 * len(self.raw) + 20_000))
        report = self.run_one(other.sync())
        self.assertEqual(report.fetched, 3)
        self.assertEqual(len(report.failed), 2)
        for _name, why in report.failed:
            self.assertIn("schemes", why)
        left = [name.blob_id for name, _why in report.failed]
        self.assertEqual(self.run_one(other.status(left[0])), SyncStatus.FAILED_DOWNLOAD)
        self.assertEqual(self.world.get(other, "mine"), content("mine"))
        # Asked for by name it is refused as well, and says why.
        self.assertIn("ask", self.fails(InvalidBlobError, other.get(left[0])))
        self.assertEqual(self.run_one(other.sync()).failed, [])
        # Past the local store it comes.
        blob = self.run_one(other.download(left[0]))
        self.assertEqual(self.run_one(blob.read_raw()), self.raw)
        self.run_one(blob.close())
        # Where one goes another may come.
        (gone, *_rest) = [name for name in self.world.local(other) if name != "mine"]
        self.run_one(other.delete(gone))
        self.run_one(other.ask_again())
        self.assertEqual(self.run_one(other.sync()).fetched, 1)

    def test_what_is_announced_counts(self):
        """Several that come at once do not each find the room of all."""
        for number in range(6):
            self.external(f"mail-{number}")
        bounds = Bounds(external_bytes=len(self.raw) + 10_000)
        other = self.world.manager("b", bounds=bounds, transfers=6)
        self.assertEqual(self.run_one(other.sync()).fetched, 2)

    def test_the_smallest_count_too(self):
        for number in range(5):
            self.external(f"mail-{number}", external_preamble(3) + bytes(16))
        other = self.world.manager("b", bounds=Bounds(external_bytes=3 * 5000))
        self.assertEqual(len(self.run_one(other.sync()).failed), 2)

    def test_none_at_all(self):
        self.external("mail")
        other = self.world.manager("b", bounds=Bounds(external_bytes=0))
        self.assertEqual(self.run_one(other.sync()).fetched, 1)
        self.fails(BadArgumentValueError, self.bounded(-1))

    async def bounded(self, number):
        Bounds(external_bytes=number)

    def test_one_of_our_scheme_is_not_meant(self):
        data = content("large", 300_000)
        self.put("large", data)
        other = self.world.manager("b", bounds=Bounds(external_bytes=0))
        self.assertEqual(self.world.get(other, "large"), data)

    def test_one_larger_than_a_blob_can_be_is_none(self):
        """Its rows would run into those of the next content."""
        self.external("huge")
        get = self.remote.get

        async def lying(name, offset=0):
            stream = await get(name, offset)
            stream.size = MAX_SEALED_BYTES + 1
            return stream

        self.remote.get = lying
        other = self.world.manager(
            "b", remote=self.remote, bounds=Bounds(external_bytes=2**50), attempts=1
        )
        self.assertIn("larger", self.fails(InvalidBlobError, other.get("huge")))
        self.assertIn("larger", self.fails(InvalidBlobError, other.download("huge")))

    def test_no_more_are_wanted_than_fit(self):
        for number in range(6):
            self.put(f"b{number}")
        other = self.world.manager("b", bounds=Bounds(wanted=5))
        self.assertIn("wanted", self.fails(BlobQuotaError, other.sync()))
        self.assertLessEqual(len(self.run_one(other.local_statuses())), 5)
        self.world.close()
        other = self.world.manager("b", bounds=Bounds(wanted=7))
        self.assertEqual(self.run_one(other.sync()).fetched, 7)


class SeveralAtOnceTests(ManagerCase):
    def test_a_get_and_a_sync_do_not_wait_for_each_other(self):
        """The one had the name and waited for a slot, the other the slot and waited for it."""
        self.put("large", content("large", 2_500_000))
        self.put("second")
        other = self.world.manager("b", transfers=1)
        self.run_one(other.refresh_sync_status_from_server())
        self.run_one(other.set_priority("second", Priority.HIGH))

        async def read(wait):
            over = Deferred()
            self.world.clock.callLater(wait, over.callback, None)
            await over
            blob = await other.get("large" if not wait else "second")
            return blob.size

        sizes = self.world.together(read(0), other.sync("default"), read(0.06))
        self.assertEqual((sizes[0], sizes[2]), (2_500_000, 1000))

    def watch(self, remote):
        """Return the most blobs that were put or fetched at one moment, as it grows."""
        moving, most = set(), [0]
        put = remote.put

        async def watched(name, source):
            moving.add(name)
            most[0] = max(most[0], len(moving))
            try:
                await put(name, source)
            finally:
                moving.discard(name)

        remote.put = watched
        return most

    def fill(self, count):
        self.failing("put")
        for number in range(count):
            self.fails(
                RemoteUnavailableError, self.putting(f"b{number}", content(number, 200_000))
            )
        self.mend()

    def test_transfers_run_at_once(self):
        """In the seed each waited for the one before."""
        self.fill(7)
        for transfers in (1, 3, 5):
            self.restart(transfers=transfers)
            most = self.watch(self.remote)
            if transfers == 5:
                self.world.server._accounts.clear()
                self.run_one(self.blobs.refresh_sync_status_from_server())
            self.run_one(self.blobs.sync())
            self.assertEqual(most[0], transfers if transfers != 3 else 0)

    def test_the_urgent_go_first(self):
        self.fill(5)
        self.run_one(self.blobs.set_priority("b3", Priority.URGENT))
        self.run_one(self.blobs.set_priority("b1", Priority.LOW))
        self.restart(transfers=1)
        self.run_one(self.blobs.sync())
        begun = [blob_id for step, blob_id in self.remote.weather.seen if step == "put"]
        self.assertEqual(begun, ["b3", "b0", "b2", "b4", "b1"])

    def test_what_a_user_asks_for_goes_before_the_rest(self):
        for number in range(6):
            self.put(f"b{number}", content(number, 300_000))
        remote = self.world.remote()
        other = self.world.manager("b", remote=remote, transfers=1)
        self.world.begin(other.sync())
        self.world.clock.advance(0.08)
        data = self.world.run(self.read(other, "b5"))
        self.assertEqual(data, content(5, 300_000))
        begun = [blob_id for step, blob_id in remote.weather.seen if step == "get"]
        self.assertLess(begun.index("b5"), 4, begun)
        self.world.clock.advance(100)
        self.assertEqual(len(self.world.local(other)), 6)

    async def read(self, manager, blob_id):
        blob = await manager.get(blob_id, priority=Priority.URGENT)
        return await blob.read()

    def test_two_that_want_one_blob_fetch_it_once(self):
        data = content("wanted", 500_000)
        self.put("wanted", data)
        remote = self.world.remote()
        other = self.world.manager("b", remote=remote)
        found = self.world.together(self.read(other, "wanted"), self.read(other, "wanted"))
        self.assertEqual(found, [data, data])
        self.assertLess(remote.moved, len(data) * 1.1)

    def test_a_sync_that_is_given_up_ends_as_given_up_and_goes_on_another_time(self):
        for number in range(5):
            self.put(f"b{number}", content(number, 300_000))
        other = self.world.manager("b")
        syncing = Deferred.fromCoroutine(other.sync())
        ended = []
        syncing.addBoth(ended.append)
        steps = other._remote.weather.seen
        while "get-piece" not in [step for step, _name in steps]:
            self.world.clock.advance(0.001)
        self.assertEqual(ended, [])
        syncing.cancel()
        self.world.clock.advance(1)
        self.assertEqual([each.type for each in ended], [CancelledError])
        # Nobody goes on with it behind one's back.
        before = len(steps)
        self.world.clock.advance(100)
        self.assertEqual(len(steps), before)
        self.assertEqual(self.run_one(other.sync()).failed, [])
        self.assertEqual(self.world.get(other, "b4"), content(4, 300_000))

    def test_one_who_is_cancelled_while_waiting_takes_no_slot(self):
        self.restart(transfers=1)
        self.world.begin(self.putting("a", content("a", 2_000_000)))
        self.world.clock.advance(0.02)
        waiting = Deferred.fromCoroutine(self.putting("b", b"content"))
        waiting.addErrback(lambda _failure: None)
        self.world.clock.advance(0.02)
        waiting.cancel()
        self.put("c", b"content")
        self.assertEqual(self.get("c"), b"content")


class AnythingTests(SynchronousTestCase):
    """Stores that are used, killed and synced in any order end up equal, with nothing lost."""

    def test_in_any_order(self):
        step = st.tuples(
            st.sampled_from(
                ["do_put", "do_get", "do_begin", "do_delete", "do_sync", "do_kill", "do_fail"]
            ),
            st.integers(0, 2),
            st.integers(0, 5),
        )

        @given(st.lists(step, max_size=20), st.integers(0, 100))
        @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        def check(steps, seed):
            self.play(steps, seed)

        check()

    def play(self, steps, seed):
        world = World(Path(self.mktemp()), seed=seed)
        self.managers = [world.manager(f"s{n}") for n in range(3)]
        #: What was put; what may have been deleted; what the remote had when it was deleted.
        self.put, self.doomed, self.deleted = {}, set(), set()
        for what, which, number in steps:
            getattr(self, what)(world, which, number)
        world.clock.advance(1000)
        for manager in self.managers:
            manager._remote.weather.fails.clear()
        for _ in range(3):
            for manager in self.managers:
                self.assertEqual(world.run(manager.sync()).failed, [])
        self.assert_equal(world)
        world.close()

    def assert_equal(self, world):
        there = world.run(self.managers[0].remote_list())
        self.assertEqual(set(there) | self.doomed, set(self.put) | self.doomed)
        self.assertEqual(set(there) & self.deleted, set())
        expected = {"SYNCED": len(there)} if there else {}
        for manager in self.managers:
            self.assertEqual(world.local(manager), sorted(there))
            self.assertEqual(world.run(manager.sync_progress()), expected)
            for blob_id in there:
                self.assertEqual(world.get(manager, blob_id), self.put[blob_id])

    # What a step does: with which of the stores, and with which blob or how much of it.

    def do_put(self, world, which, number):
        """Put one content a name, wherever it is put: else it would be rightly refused."""
        blob_id = f"b{number}"
        data = content(number, 700_000 * (number == 5) + 1000 * number)
        with contextlib.suppress(BlobAlreadyExistsError, BlobDeletedError, RemoteUnavailableError):
            world.put(self.managers[which], blob_id, data)
        if blob_id in world.local(self.managers[which]):
            self.put[blob_id] = data

    def do_get(self, world, which, number):
        with contextlib.suppress(RemoteUnavailableError):
            found = world.get(self.managers[which], f"b{number}")
            self.assertIn(found, (None, self.put.get(f"b{number}")))

    def do_begin(self, world, which, number):
        """Ask for one and go on with something else."""
        world.begin(self.managers[which].get(f"b{number}"))
        world.clock.advance(0.02)

    def do_delete(self, world, which, number):
        """Delete one; what the remote has at that moment does not come back.

        What no remote ever had leaves no memory there: it may be put again, or by another.
        """
        blob_id = f"b{number}"
        there = BlobName.of(blob_id) in world.server.account("alice").blobs
        with contextlib.suppress(BlobNotFoundError, RemoteUnavailableError):
            world.run(self.managers[which].delete(blob_id))
        self.doomed.add(blob_id)
        if there:
            self.deleted.add(blob_id)

    def do_sync(self, world, which, _number):
        with contextlib.suppress(RemoteUnavailableError):
            world.run(self.managers[which].sync())

    def do_kill(self, world, which, number):
        world.begin(self.managers[which].sync())
        world.clock.advance(0.01 * number)
        world.kill(self.managers[which])
        self.managers[which] = world.manager(f"s{which}")

    def do_fail(self, _world, which, number):
        steps = ("put-piece", "get-piece", "put-answer", "delete-answer", "page", "get")
        self.managers[which]._remote.weather.fails[steps[number]] = 9
