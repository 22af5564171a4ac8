"""Walks of the keeper that wait, take turns, or are cancelled."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from ampgrid.errors import BrokenStoreError, OperationCancelledError
from ampgrid.immutable.keeper import FILES_AT_ONCE
from tests.material import some_bytes
from tests.unit.immutable.keeping import DATA, DAY, KeeperCase, World, failing


class TurnTests(KeeperCase):
    """Never two at once, cancelled at any moment, within its bandwidth."""

    def slow(self, world: World) -> None:
        async def wait() -> None:
            waiting: Deferred[None] = Deferred()
            world.clock.callLater(1, waiting.callback, None)
            await waiting

        for shelf in world.shelves:
            shelf.before = wait

    def test_two_walks_take_turns(self) -> None:
        world = self.make()
        for n in range(4):
            world.put(some_bytes(500, b"%d" % n))
        looking: list[Any] = []
        most, twice = 0, []
        original = world.walker.look

        async def look(file: Any, *args: Any, **how: Any) -> Any:
            nonlocal most
            if file.number in looking:
                twice.append(file.number)
            looking.append(file.number)
            most = max(most, len(looking))
            try:
                return await original(file, *args, **how)
            finally:
                looking.remove(file.number)

        world.walker.look = look  # type: ignore[method-assign]
        self.slow(world)
        walks = [world.begin(now=True)[1] for _ in range(3)]
        world.clock.advance(1000)
        for walk in walks:
            self.assertEqual(self.successResultOf(walk)["walked"], 4)
        self.assertEqual(most, FILES_AT_ONCE)
        self.assertEqual(twice, [])

    def test_cancelled_at_any_moment(self) -> None:
        """Whether it looks, waits for its turn or for bandwidth: it ends, others go on."""
        for moment in range(0, 30, 3):
            world = self.make()
            for n in range(3):
                world.put(some_bytes(500, b"%d" % n))
            self.slow(world)
            first, second = world.begin(now=True), world.begin(now=True)
            third = world.begin(now=True)
            world.clock.advance(moment + 0.5)
            second[0].cancel()
            first[0].cancel()
            world.clock.advance(1000)
            for _, walk in (first, second):
                if walk.called and isinstance(walk.result, dict):
                    continue
                self.failureResultOf(walk, OperationCancelledError)
            self.assertEqual(self.successResultOf(third[1])["walked"], 3)
            self.assertFalse(world.keeper.status()["running"])
            self.assertEqual(world.keeper._turns.tokens, FILES_AT_ONCE)

    def test_a_cancelled_walk_leaves_the_file_it_looked_at_as_it_was(self) -> None:
        world = self.make()
        world.put(DATA)
        before = world.file()
        self.slow(world)
        operation, walk = world.begin(now=True)
        world.clock.advance(1.5)
        operation.cancel()
        world.clock.advance(100)
        self.failureResultOf(walk, OperationCancelledError)
        self.assertEqual(world.file(), before)

    def test_it_keeps_within_its_bandwidth(self) -> None:
        world = self.make()
        world.rate = 10_000.0
        world.restart()
        caps = [world.put(some_bytes(60_000, b"%d" % n)) for n in range(4)]
        for cap in caps:
            world.lose(cap, 0, 1)
        before = sum(shelf.reads for shelf in world.shelves)
        began = world.clock.seconds()
        report = world.walk(now=True)
        self.assertEqual(report["repaired"], 4)
        read = sum(shelf.reads for shelf in world.shelves) - before
        written = 4 * 2 * 30_000
        seconds = world.clock.seconds() - began
        self.assertGreater(seconds, 0.8 * (read + written) / 10_000)
        self.assertLess(seconds, 2.0 * (read + written) / 10_000)

    def test_cancelled_while_it_waits_for_bandwidth(self) -> None:
        world = self.make()
        world.rate = 1.0
        world.restart()
        world.put(DATA)
        world.put(some_bytes(400))
        operation, walk = world.begin(now=True)
        world.clock.advance(100)
        self.assertNoResult(walk)
        operation.cancel()
        self.failureResultOf(walk, OperationCancelledError)

    def test_what_would_take_too_long_is_not_read_whole(self) -> None:
        world = self.make()
        world.rate = 100.0
        world.period = DAY
        world.restart()
        world.put(some_bytes(3_000_000))
        file = world.file()
        world.database.looked_at(evolve(file, unverified=9))
        self.assertEqual(world.walk(now=True)["verified"], 0)

    def test_a_list_that_cannot_be_written_ends_the_walk(self) -> None:
        world = self.make()
        world.put(DATA)
        breaking = self.patch(world.database, "looked_at", failing(BrokenStoreError("broken")))
        with self.assertRaises(BrokenStoreError):
            world.walk(now=True)
        breaking.restore()
        self.assertEqual(world.keeper._turns.tokens, FILES_AT_ONCE)
        self.assertEqual(world.walk(now=True)["walked"], 1)
