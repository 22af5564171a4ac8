"""Several transfers at once: their order, their slots, and who waits for whom."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from ampgrid.blobs import Priority
from ampgrid.errors import RemoteUnavailableError
from tests.unit.blobs.blob_world import content
from tests.unit.blobs.test_manager import ManagerCase


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
