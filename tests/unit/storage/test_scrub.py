"""The scrub as the service does it: its pace, its place after a restart, its reports."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from ampgrid.commands import errors as e
from ampgrid.errors import OperationCancelledError
from ampgrid.storage.scrub import STRETCH_SECONDS
from ampgrid.storage.upkeep import ALARMING, UpkeepSettings
from ampgrid.store.scrubbing import COST_OF_A_SHARE
from tests.material import make_shares, some_bytes
from tests.unit.storage.service_case import ServiceCase
from tests.unit.store.disks import FaultyFileSystem

DAY = 86_400
RATE = 1_000_000


class Watching:
    """An operation, as far as the scrub sees it."""

    def __init__(self):
        self.done = 0
        self.total = 0
        self.cancelled = False

    def enter(self, phase, total=None):
        self.phase, self.total, self.done = phase, total, 0

    def check(self):
        if self.cancelled:
            raise OperationCancelledError("cancelled")


class ScrubCase(ServiceCase):
    settings = UpkeepSettings(scrub_seconds=10 * DAY, scrub_rate=RATE)

    def start(self, **how):
        super().start(**how)
        # Months of commits: what a power cut leaves is tested elsewhere.
        self.store.database._sql.execute("PRAGMA synchronous=OFF")

    def store_files(self, count, size=6_000):
        """Store one share of each of so many files; return their storage indexes."""
        indexes = []
        for number in range(count):
            cap, shares = make_shares(some_bytes(size, b"%d" % number), 1, 2)
            share = shares[0]
            bucket = 100 + number
            self.successResultOf(self.client.allocate((0,), len(share), bucket, cap.storage_index))
            for at in range(0, len(share), 60_000):
                self.successResultOf(self.client.write(at, share[at : at + 60_000], 0, bucket))
            self.successResultOf(self.client.close(0, bucket))
            indexes.append(cap.storage_index)
        self.share_size = len(share)
        return indexes

    def damage(self, index):
        path = self.store.path_of(index, 0)
        if path.exists():
            data = bytearray(path.read_bytes())
            data[200] ^= 4
            path.write_bytes(data)
            return
        self.store.database.call(
            lambda sql: sql.execute(
                "UPDATE shares SET data = zeroblob(size) WHERE storage_index = ?", (index,)
            )
        )

    def pass_time(self, seconds, step=60):
        self.clock.pump([step] * int(seconds // step))

    def scrub(self):
        return self.service.status()["scrub"]

    def run_now(self, operation=None):
        return Deferred.fromCoroutine(self.service.run_scrub(operation or Watching()))


class CycleTests(ScrubCase):
    def test_a_small_store_is_done_at_once_and_again_after_half_the_period(self):
        self.store_files(5)
        self.pass_time(STRETCH_SECONDS)
        found = self.scrub()
        self.assertEqual((found["cycles"], found["cycle_shares"], found["cycle_bad"]), (1, 5, 0))
        self.assertEqual(found["cycle_bytes"], self.client.space()["used"])
        self.assertEqual(found["next_cycle"], found["cycle_started"] + 5 * DAY)
        self.pass_time(5 * DAY - STRETCH_SECONDS, 600)
        self.assertEqual(self.scrub()["cycles"], 1)
        self.pass_time(2 * STRETCH_SECONDS)
        self.assertEqual(self.scrub()["cycles"], 2)

    def test_a_large_store_is_spread_over_half_the_period(self):
        """As if there were much more: the allowance follows what is left and the time left."""
        scrub = self.service.upkeep.scrub
        self.store_files(2)
        self.pass_time(STRETCH_SECONDS)
        self.store._space.load(2**40, 10)
        scrub._begin_cycle(scrub._time.now())
        total = 2**40 + 10 * COST_OF_A_SHARE
        expected = total * STRETCH_SECONDS / (5 * DAY)
        self.assertGreater(expected, RATE * STRETCH_SECONDS)
        self.assertEqual(scrub.allowance(), RATE * STRETCH_SECONDS)
        self.store._space.load(2**34, 10)
        expected = (2**34 + 10 * COST_OF_A_SHARE) * STRETCH_SECONDS / (5 * DAY)
        self.assertLess(abs(scrub.allowance() - expected), 2)
        self.clock.advance(5 * DAY - STRETCH_SECONDS)
        self.assertEqual(scrub.allowance(), RATE * STRETCH_SECONDS)

    def test_within_the_rate(self):
        self.store_files(20, 300_000)
        total = self.client.space()["used"]
        self.clock.advance(STRETCH_SECONDS)
        started = self.clock.seconds()
        while not self.scrub()["cycles"]:
            self.clock.advance(0.25)
            spent = self.scrub()["cycle_bytes"]
            elapsed = self.clock.seconds() - started
            self.assertLessEqual(spent, (elapsed + 2.5) * RATE)
            self.assertLess(elapsed, 2 * total / RATE + STRETCH_SECONDS)
        self.assertGreater(self.clock.seconds() - started, total / RATE * 0.5)

    def test_it_goes_on_after_a_restart(self):
        self.store_files(20, 300_000)
        self.clock.advance(STRETCH_SECONDS)
        self.pass_time(3, 1)
        before = self.scrub()
        self.assertTrue(0 < before["cycle_shares"] < 20)
        self.assertTrue(before["running"])
        self.start()
        after = self.scrub()
        self.assertGreaterEqual(after["cycle_shares"], before["cycle_shares"])
        self.assertGreater(after["position"], 0)
        self.pass_time(2 * STRETCH_SECONDS, 1)
        found = self.scrub()
        self.assertEqual((found["cycles"], found["cycle_shares"]), (1, 20))

    def test_bad_ones_are_set_aside_and_told(self):
        indexes = self.store_files(6)
        large = self.store_files(1, 100_000)[0]
        for index in (indexes[1], large):
            self.damage(index)
        self.pass_time(STRETCH_SECONDS)
        found = self.scrub()
        self.assertEqual((found["cycle_bad"], found["bad_ever"]), (2, 2))
        status = self.service.status()
        self.assertEqual(status["quarantine"]["files"], 2)
        self.assertEqual(status["alarm"], "")
        self.assertEqual(self.client.sizes(indexes[1]), {})
        self.assertEqual(set(self.client.sizes(indexes[0])), {0})

    def test_a_look_that_ends_badly_costs_no_cycle(self):
        self.store_files(6)
        upkeep = self.store.upkeep
        walk_over = upkeep.walk

        def badly(*args):
            walk = walk_over(*args)
            walk.close = failing
            return walk

        def failing():
            raise OSError(5, "the disk is gone")

        self.patch(upkeep, "walk", badly)
        self.pass_time(STRETCH_SECONDS)
        self.assertEqual((self.scrub()["cycles"], upkeep.load_scrub().cycles), (1, 1))
        report = self.successResultOf(Deferred.fromCoroutine(self.service.run_scrub(Watching())))
        self.assertEqual(report["shares"], 6)
        self.assertEqual(upkeep.load_scrub().cycles, 2)

    def test_several_bad_ones_are_an_alarm(self):
        indexes = self.store_files(6)
        for index in indexes[:ALARMING]:
            self.damage(index)
        self.pass_time(STRETCH_SECONDS)
        self.successResultOf(Deferred.fromCoroutine(self.service.look_again()))
        self.assertIn("whole disk", self.service.status()["alarm"])
        named = {bad["share"] for bad in self.scrub()["recent_bad"]}
        self.assertEqual(named, {0})
        self.pass_time(11 * DAY, 3600)
        self.assertEqual(self.service.status()["alarm"], "")

    def test_never_if_it_is_not_asked_for(self):
        self.settings = UpkeepSettings()
        self.start()
        self.damage(self.store_files(1)[0])
        self.pass_time(60 * DAY, 3600)
        self.assertEqual(self.scrub()["cycles"], 0)
        self.assertFalse(self.scrub()["enabled"])

    def test_a_disk_that_fails_is_told_and_tried_again(self):
        disk = FaultyFileSystem({"rename"})
        self.start(files=disk)
        index = self.store_files(1, 100_000)[0]
        self.damage(index)
        disk.plan(0)
        self.pass_time(STRETCH_SECONDS)
        self.assertNotEqual(self.scrub()["error"], "")
        self.assertEqual(self.scrub()["cycles"], 0)
        disk.heal()
        self.pass_time(STRETCH_SECONDS)
        self.assertEqual((self.scrub()["error"], self.scrub()["cycle_bad"]), ("", 1))


class RunNowTests(ScrubCase):
    def test_the_report(self):
        indexes = self.store_files(10)
        self.damage(indexes[3])
        operation = Watching()
        report = self.successResultOf(self.run_now(operation))
        self.assertEqual((report["shares"], report["bad"], report["skipped"]), (10, 1, 0))
        self.assertEqual(report["quarantine"]["files"], 1)
        self.assertEqual(report["missing"], 0)
        (bad,) = report["bad_shares"]
        self.assertEqual((bad["share"], bad["size"]), (0, self.share_size))
        self.assertEqual(report["alarm"], "")
        self.assertEqual(operation.total, 10 * (self.share_size + COST_OF_A_SHARE))
        self.assertGreaterEqual(operation.done, operation.total - self.share_size)
        found = self.scrub()
        self.assertEqual((found["cycles"], found["running"]), (1, False))
        self.pass_time(5 * DAY - STRETCH_SECONDS, 600)
        self.assertEqual(self.scrub()["cycles"], 1)

    def test_only_one_at_a_time(self):
        self.store_files(20, 300_000)
        first = self.run_now()
        self.assertNoResult(first)
        self.failureResultOf(self.run_now(), e.BusyError)
        self.pass_time(30, 1)
        self.assertEqual(self.successResultOf(first)["shares"], 20)

    def test_it_takes_the_turn_of_a_cycle_under_way(self):
        self.store_files(20, 300_000)
        self.clock.advance(STRETCH_SECONDS)
        self.assertTrue(self.scrub()["running"])
        asked = self.run_now()
        self.pass_time(30, 1)
        self.assertEqual(self.successResultOf(asked)["shares"], 20)
        self.assertEqual(self.scrub()["cycles"], 1)
        self.pass_time(2 * STRETCH_SECONDS)
        self.assertEqual(self.scrub()["cycles"], 1)

    def test_cancelled_the_cycle_goes_on_where_it_was(self):
        indexes = self.store_files(20, 300_000)
        self.damage(indexes[0])
        self.clock.advance(STRETCH_SECONDS)
        self.pass_time(2, 1)
        operation = Watching()
        asked = self.run_now(operation)
        self.pass_time(2, 1)
        before = self.scrub()["bad_ever"]
        operation.cancelled = True
        self.pass_time(2, 1)
        self.failureResultOf(asked, OperationCancelledError)
        self.assertEqual(self.scrub()["bad_ever"], before)
        self.assertEqual(self.scrub()["cycles"], 0)
        self.pass_time(2 * STRETCH_SECONDS, 1)
        self.assertEqual((self.scrub()["cycles"], self.scrub()["cycle_shares"]), (1, 20))

    def test_stopping_ends_it(self):
        self.store_files(20, 300_000)
        asked = self.run_now()
        self.start()
        self.failureResultOf(asked, OperationCancelledError)
        self.service._serving = False
        self.failureResultOf(self.run_now(), e.BusyError)
        self.service._serving = True
