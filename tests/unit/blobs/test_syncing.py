"""Several stores around one remote that fails and goes away: in the end all are equal."""

from __future__ import annotations

import contextlib
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.blobs import (
    BlobAlreadyExistsError,
    BlobDeletedError,
    BlobName,
    BlobNotFoundError,
    Priority,
    SyncStatus,
)
from ampgrid.errors import BlobRefusedError, RemoteUnavailableError
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
