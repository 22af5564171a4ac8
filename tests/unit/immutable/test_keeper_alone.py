"""The keeper left to itself, for a week or a year."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from ampgrid.errors import BrokenStoreError
from ampgrid.immutable import Encoding
from ampgrid.immutable.patience import GRACE_SECONDS
from ampgrid.immutable.renewal import LEASE_SECONDS
from tests.material import some_bytes
from tests.unit.immutable.keeping import DATA, DAY, KeeperCase, World, failing


class AloneTests(KeeperCase):
    """By itself, with nobody telling it anything."""

    def test_it_renews_every_lease_within_every_week(self) -> None:
        world = self.make()
        world.restart(enabled=True)
        caps = [world.put(some_bytes(500, b"%d" % n)) for n in range(8)]
        began = world.wall()
        world.clock.advance(70 * DAY)
        for cap in caps:
            [[shelf]] = [s for n, s in world.holders(cap).items() if n == 0]
            moments = [began, *shelf.leases[cap.storage_index], world.wall()]
            gaps = [b - a for a, b in pairwise(moments)]
            self.assertLess(max(gaps), 7.1 * DAY)
            self.assertGreater(len(moments), 10)
            self.assertLess(len(moments), 16)

    def test_a_restart_goes_on_where_it_was(self) -> None:
        world = self.make()
        world.restart(enabled=True)
        cap = world.put(DATA)
        for _ in range(200):
            world.clock.advance(0.4 * DAY)
            world.restart(enabled=True)
        renewed = world.holders(cap)[0][0].leases[cap.storage_index]
        self.assertTrue(10 <= len(renewed) <= 15, len(renewed))

    def test_disabled_it_does_nothing(self) -> None:
        world = self.make()
        world.put(DATA)
        world.clock.advance(40 * DAY)
        self.assertEqual({}, {i: t for shelf in world.shelves for i, t in shelf.leases.items()})
        status = world.keeper.status()
        self.assertEqual((status["enabled"], status["next_run"]), (False, None))

    def test_when_nobody_is_connected_it_waits(self) -> None:
        world = self.make()
        cap = world.put(DATA)
        world.restart(enabled=True)
        for shelf in world.shelves:
            shelf.connection.connected = False
        world.clock.advance(30 * DAY)
        self.assertEqual(world.file().failures, 0)
        for shelf in world.shelves:
            shelf.connection.connected = True
        world.clock.advance(3600)
        self.assertEqual(len(world.holders(cap)[0][0].leases[cap.storage_index]), 1)

    def test_a_list_that_cannot_be_read_for_a_while(self) -> None:
        world = self.make()
        cap = world.put(DATA)
        world.restart(enabled=True)
        breaking = self.patch(world.database, "due", failing(BrokenStoreError("broken")))
        world.clock.advance(8 * DAY)
        breaking.restore()
        breaking = self.patch(world.database, "due", failing(ZeroDivisionError()))
        world.clock.advance(DAY)
        breaking.restore()
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))
        world.clock.advance(2 * 3600)
        self.assertEqual(len(world.holders(cap)[0][0].leases[cap.storage_index]), 1)

    def test_stopped_in_the_middle_of_a_look(self) -> None:
        world = self.make()
        world.put(DATA)
        world.restart(enabled=True)

        async def never() -> None:
            await Deferred()

        world.shelves[0].before = never
        while not world.keeper.status()["running"]:
            world.clock.step()
        before = world.file()
        stopping = Deferred.fromCoroutine(world.keeper.stop())
        # Until the connection of that server goes, or it has used up its allowance.
        self.assertNoResult(stopping)
        world.clock.advance(LEASE_SECONDS + GRACE_SECONDS)
        self.successResultOf(stopping)
        self.assertEqual(world.file(), before)
        world.keeper._ended = None

    def test_stopped_while_it_sleeps(self) -> None:
        world = self.make()
        world.restart(enabled=True)
        world.clock.advance(DAY)
        self.successResultOf(Deferred.fromCoroutine(world.keeper.stop()))
        self.assertEqual(world.clock.getDelayedCalls(), [])

    def test_what_it_tells_of_itself(self) -> None:
        world = self.make()
        world.restart(enabled=True)
        cap = world.put(DATA)
        status = world.keeper.status()
        self.assertEqual((status["enabled"], status["every_days"]), (True, 7.0))
        self.assertEqual((status["kept"], status["failing"]), (1, 0))
        self.assertIsNone(status["this_period"])
        world.lose(cap, 0, 1)
        world.clock.advance(7 * DAY)
        status = world.keeper.status()
        period = status["this_period"]
        self.assertEqual((period["walked"], period["waiting"], period["repaired"]), (2, 1, 1))
        self.assertLessEqual(world.wall(), status["next_run"])
        self.assertLess(status["next_run"], world.wall() + 3601)
        self.assertEqual(status["last_run"]["repaired"], 1)
        world.restart(enabled=True)
        again = world.keeper.status()
        for key in ("this_period", "last_period", "last_run", "kept"):
            self.assertEqual(again[key], status[key])
        world.clock.advance(30 * DAY)
        self.assertIsNotNone(world.keeper.status()["last_period"])
        json.dumps(world.keeper.status())

    def test_marks_of_another_version_are_begun_anew(self) -> None:
        world = self.make()
        for mark in ("", "[]", "{}", "x", '{"walked": 1}'):
            world.database.set_marks({"this_period": mark, "last_run": mark})
            world.restart()
            self.assertIsNone(world.keeper.status()["this_period"])


class YearTests(KeeperCase):
    """A year, in which one server a month is replaced by an empty one."""

    def year(self, seed: int) -> None:
        world = self.make(shelves=7)
        world.random.seed(seed)
        world.restart(enabled=True)
        caps = [world.put(some_bytes(200 + 4_000 * n, b"%d" % n)) for n in range(4)]
        dropped = world.put(some_bytes(500, b"dropped"))
        world.clock.advance(20 * DAY)
        self.assertTrue(world.clock.run(world.kept.drop(dropped)))
        moment = world.wall()
        worst = 5
        for _month in range(12):
            gone = world.random.choice(world.shelves)
            world.shelves.remove(gone)
            world.add_shelves(1)
            for _day in range(30):
                world.clock.advance(DAY)
                worst = min([worst, *(len(world.holders(cap)) for cap in caps)])
                for cap in caps:
                    self.assertLeases(world, cap)
        self.assertGreaterEqual(worst, 3)
        for cap in caps:
            report = world.file(cap)
            self.assertGreaterEqual(report.servers_happy, 4)
            self.assertEqual(report.failures, 0)
        self.assertLess(
            max(max(s.leases.get(dropped.storage_index, [0.0])) for s in world.shelves), moment
        )
        self.assertEqual(world.keeper.status()["failing"], 0)

    def assertLeases(self, world: World, cap: Any) -> None:
        """Every share that is held was put or renewed within the last eight days."""
        for shelves in world.holders(cap).values():
            for shelf in shelves:
                # A share that a repair wrote has its lease from the allocation.
                renewed = shelf.leases.get(cap.storage_index)
                if renewed:
                    self.assertLess(world.wall() - renewed[-1], 8 * DAY)

    def test_files_stay(self) -> None:
        for seed in range(2):
            self.year(seed)

    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.floats(0.05, 20), min_size=1, max_size=12), st.integers(0, 99))
    def test_whenever_the_node_runs(self, stretches: list[float], seed: int) -> None:
        """On for a day, off for so many: after each start what is due is renewed at once."""
        world = self.make()
        world.random.seed(seed)
        world.encoding = Encoding(1, 1, 2)
        caps = [world.put(some_bytes(100, b"%d" % n)) for n in range(3)]
        last = dict.fromkeys((cap.storage_index for cap in caps), world.wall())
        for days in stretches:
            world.pass_days(days)
            world.restart(enabled=True)
            world.clock.advance(DAY)
            for cap in caps:
                shelf = world.holders(cap)[0][0]
                renewed = shelf.leases.get(cap.storage_index, [])
                last[cap.storage_index] = max([last[cap.storage_index], *renewed])
                self.assertLess(world.wall() - last[cap.storage_index], 8 * DAY)
            world.restart()
