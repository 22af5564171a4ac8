"""The keeper over shelves: what it writes, what it leaves alone, what it remembers."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import Any

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from ampgrid.caps import LitCap
from ampgrid.crypto.identity import node_id_text
from ampgrid.errors import (
    BrokenStoreError,
    CallTimeoutError,
    FileError,
    NotHappyError,
    OperationCancelledError,
)
from ampgrid.immutable import Encoding
from ampgrid.immutable.keeper import FILES_AT_ONCE
from ampgrid.immutable.patience import GRACE_SECONDS
from ampgrid.immutable.renewal import LEASE_SECONDS, MOST_OWED
from tests.material import some_bytes
from tests.unit.immutable.keeping import DAY, KeeperCase, World

DATA = some_bytes(3_000)


def failing(error: Exception) -> Any:
    """Return a function that raises."""

    def fail(*_args: object) -> None:
        raise error

    return fail


class RecordTests(KeeperCase):
    """Every put is on the list before its cap is given away."""

    def test_a_put_is_recorded_with_what_it_asked_for(self) -> None:
        world = self.make()
        cap = world.put(DATA)
        file = world.file()
        self.assertEqual(file.cap, cap.get_verify_cap())
        self.assertEqual((file.happy, file.put_at), (4, world.wall()))
        self.assertTrue(world.wall() < file.next_at <= world.wall() + 7 * DAY)
        self.assertEqual(world.keeper.status()["kept"], 1)

    def test_large_files_too_and_the_same_file_once(self) -> None:
        world = self.make()
        for _ in range(2):
            world.put(some_bytes(50_000))
        self.assertEqual(world.keeper.status()["kept"], 1)
        self.assertEqual(world.file().cap.size, 50_000)

    def test_a_file_within_its_cap_is_not_recorded(self) -> None:
        world = self.make()
        uploaded = world.clock.run(world.uploader.upload_data(b"x" * 55, world.encoding))
        self.assertIsInstance(uploaded.cap, LitCap)
        self.assertEqual(world.database.page(0, 10), [])

    def test_a_put_that_fails_is_not_recorded(self) -> None:
        world = self.make(shelves=2)
        self.assertRaises(NotHappyError, world.put, DATA)
        self.assertEqual(world.database.page(0, 10), [])

    def test_no_cap_without_a_record(self) -> None:
        """A crash, or a full disk, between put and record: nobody was told a cap."""
        world = self.make()
        world.database.close()
        error = self.assertRaises(FileError, world.put, DATA)
        self.assertIn("put it again", str(error))
        world.start(enabled=False)
        self.assertEqual(world.database.page(0, 10), [])
        shares = sum(len(shelf.contents) for shelf in world.shelves)
        self.assertEqual(shares, 5)
        world.put(DATA)
        self.assertEqual(world.keeper.status()["kept"], 1)
        self.assertEqual(sum(len(shelf.contents) for shelf in world.shelves), shares)

    def test_the_record_is_there_before_the_answer(self) -> None:
        """Whenever the process is killed: a cap that was answered is on the disk."""
        world = self.make()
        held: list[tuple[Deferred[Any], Any, tuple[Any, ...]]] = []

        class Held:
            def run(self, function: Any, /, *args: Any) -> Deferred[Any]:
                held.append((Deferred(), function, args))
                return held[-1][0]

        world.kept._groups._threads = Held()
        putting = Deferred.fromCoroutine(world.uploader.upload_data(DATA, world.encoding))
        world.clock.advance(100)
        self.assertNoResult(putting)
        [(answer, function, args)] = held
        results = function(*args)
        self.assertNoResult(putting)
        self.assertEqual(len(world.database.page(0, 10)), 1)
        answer.callback(results)
        self.successResultOf(putting)

    def test_many_at_once_share_a_commit(self) -> None:
        world = self.make()
        waiting: list[Deferred[Any]] = []
        inner = world.kept._threads

        class Slow:
            def run(self, function: Any, /, *args: Any) -> Deferred[Any]:
                result: Deferred[Any] = Deferred()
                world.clock.callLater(1, lambda: inner.run(function, *args).chainDeferred(result))
                return result

        world.kept._groups._threads = Slow()
        before = world.database._database.commits
        for n in range(50):
            data = some_bytes(500, b"%d" % n)
            work = world.uploader.upload_data(data, world.encoding)
            waiting.append(Deferred.fromCoroutine(work))
        world.clock.advance(10)
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(world.keeper.status()["kept"], 50)
        self.assertLessEqual(world.database._database.commits - before, 3)

    def test_dropped_by_either_cap(self) -> None:
        world = self.make()
        caps = [world.put(some_bytes(500, b"%d" % n)) for n in range(2)]
        drop = world.kept.drop
        self.assertTrue(world.clock.run(drop(caps[0])))
        verify = caps[1].get_verify_cap()
        self.assertTrue(world.clock.run(drop(verify)))
        self.assertFalse(world.clock.run(drop(verify)))
        self.assertFalse(world.clock.run(drop(LitCap(b"x"))))
        self.assertEqual(world.keeper.status()["kept"], 0)

    def test_what_was_put_since_a_moment(self) -> None:
        world = self.make()
        world.put(some_bytes(500, b"1"))
        world.pass_days(1)
        moment = world.wall() - 1
        world.kept.added_since(moment)
        self.assertEqual(world.kept.added_since(moment), 0)
        world.put(some_bytes(500, b"2"))
        world.put(some_bytes(500, b"1"))
        self.assertEqual(world.kept.added_since(moment), 1)
        world.restart()
        world.kept.added_since(moment)
        self.assertEqual(world.kept.added_since(moment), 1)


class WalkTests(KeeperCase):
    def test_a_file_that_is_well(self) -> None:
        world = self.make()
        cap = world.put(DATA)
        report = world.walk(now=True)
        expected = {"walked": 1, "renewed": 1, "checked": 1, "repaired": 0, "failed": 0}
        self.assertEqual(expected, {key: report[key] for key in expected})
        self.assertEqual(report["files"], [])
        file = world.file()
        self.assertEqual((file.good, file.servers_happy, file.renewed_servers), (5, 5, 5))
        self.assertEqual((file.failures, file.problem), (0, ""))
        for shelves in world.holders(cap).values():
            self.assertEqual([s.leases[cap.storage_index] for s in shelves], [[world.wall()]])
        empty = [shelf for shelf in world.shelves if not shelf.contents]
        self.assertEqual([shelf.leases for shelf in empty], [{}])

    def test_only_what_is_due_unless_told_so(self) -> None:
        world = self.make()
        world.put(DATA)
        self.assertEqual(world.walk()["walked"], 0)
        world.pass_days(7)
        self.assertEqual(world.walk()["walked"], 1)
        self.assertEqual(world.walk()["walked"], 0)
        self.assertEqual(world.walk(now=True)["walked"], 1)

    def test_missing_shares_are_made_again_at_the_second_look(self) -> None:
        world = self.make()
        cap = world.put(DATA)
        world.lose(cap, 0, 3)
        world.pass_days(7)
        report = world.walk()
        self.assertEqual((report["waiting"], report["repaired"]), (1, 0))
        self.assertEqual(report["files"][0]["outcome"], "second look")
        self.assertEqual(set(world.holders(cap)), {1, 2, 4})
        self.assertEqual(world.walk()["walked"], 0)
        world.pass_days(0.5 / 24)
        self.assertEqual(world.walk()["walked"], 0)
        world.pass_days(1 / 24)
        report = world.walk()
        self.assertEqual((report["repaired"], report["shares_written"]), (1, 2))
        self.assertEqual(set(world.holders(cap)), set(range(5)))
        file = world.file()
        self.assertEqual((file.suspected_at, file.repaired_at), (None, world.wall()))
        self.assertEqual((file.failures, file.problem), (0, ""))

    def test_a_server_that_was_away_costs_nothing(self) -> None:
        world = self.make(shelves=5)
        cap = world.put(DATA)
        away = [shelves[0] for shelves in world.holders(cap).values()][:1]
        away[0].connection.connected = False
        world.repair_below = 5
        world.restart()
        world.pass_days(7)
        self.assertEqual(world.walk()["waiting"], 1)
        away[0].connection.connected = True
        world.pass_days(0.1)
        report = world.walk()
        self.assertEqual((report["walked"], report["repaired"]), (1, 0))
        self.assertIsNone(world.file().suspected_at)

    def test_told_to_it_repairs_at_once(self) -> None:
        world = self.make()
        cap = world.put(DATA)
        world.lose(cap, 0, 1)
        report = world.walk(now=True)
        self.assertEqual(report["repaired"], 1)
        self.assertEqual(report["files"][0]["cap"], world.file().cap.to_string())
        self.assertEqual(set(world.holders(cap)), set(range(5)))

    def test_above_the_threshold_it_is_left_alone(self) -> None:
        world = self.make()
        cap = world.put(DATA)
        world.lose(cap, 2)
        self.assertEqual(world.walk(now=True)["repaired"], 0)
        world.repair_below = 5
        world.restart()
        self.assertEqual(world.walk(now=True)["repaired"], 1)

    def test_too_few_servers_tell_nothing(self) -> None:
        world = self.make()
        cap = world.put(DATA)
        for shelf in world.shelves[:3]:
            shelf.connection.connected = False
        reports = []
        waits = []
        for _ in range(5):
            world.pass_days(7)
            reports.append(world.walk())
            waits.append(world.file().next_at - world.wall())
        self.assertEqual([r["skipped"] for r in reports], [1] * 5)
        self.assertEqual([r["repaired"] for r in reports], [0] * 5)
        self.assertEqual(waits, sorted(waits))
        self.assertIn("only 3 servers answered", world.file().problem)
        self.assertEqual(world.keeper.status()["failing"], 0)
        # Those that are there are not let run out.
        held = [shelf for shelves in world.holders(cap).values() for shelf in shelves]
        self.assertTrue(all(len(shelf.leases[cap.storage_index]) == 5 for shelf in held))
        for shelf in world.shelves:
            shelf.connection.connected = True
        world.pass_days(7)
        world.walk()
        self.assertEqual((world.file().skips, world.file().problem), (0, ""))

    def test_a_grid_that_shrank_for_good(self) -> None:
        world = self.make()
        cap = world.put(DATA)
        for shelf in world.shelves[:3]:
            shelf.connection.connected = False
        world.pass_days(7)
        began = world.wall()
        while not world.walk()["repaired"]:
            self.assertLess(world.wall() - began, 15 * DAY)
            world.ahead += max(0.0, world.file().next_at - world.wall())
        self.assertGreater(world.wall() - began, 7 * DAY)
        self.assertEqual(set(world.holders(cap)), set(range(5)))
        # It is told that it is not as it should be, and what is lost later is made again, too.
        self.assertEqual(world.keeper.status()["failing"], 1)
        world.lose(cap, 0)
        for _ in range(20):
            world.ahead += max(0.0, world.file().next_at - world.wall())
            world.walk()
        self.assertEqual(set(world.holders(cap)), set(range(5)))
        self.assertEqual(world.keeper.status()["failing"], 1)

    def test_nobody_is_there(self) -> None:
        world = self.make()
        world.put(DATA)
        before = world.file()
        for shelf in world.shelves:
            shelf.connection.connected = False
        report = world.walk(now=True)
        self.assertEqual((report["complete"], report["walked"]), (False, 0))
        self.assertEqual(world.file(), before)

    def test_lost(self) -> None:
        world = self.make()
        cap = world.put(DATA)
        world.lose(cap, 0, 1, 2, 3)
        report = world.walk(now=True)
        self.assertEqual((report["lost"], report["failed"]), (1, 1))
        self.assertIn("only 1 of the 2 shares", report["files"][0]["problem"])
        self.assertEqual(world.keeper.status()["failing"], 1)
        waits = []
        for _ in range(9):
            waits.append(world.file().next_at - world.wall())
            world.ahead += waits[-1]
            self.assertEqual(world.walk()["lost"], 1)
        self.assertEqual(waits, sorted(waits))
        self.assertLessEqual(waits[0], 3600.01)
        self.assertEqual(world.file().failures, 10)

    def test_a_repair_that_finds_no_room(self) -> None:
        world = self.make()
        cap = world.put(DATA)
        world.lose(cap, 0, 1)

        async def full(*_args: Any) -> Any:
            raise CallTimeoutError("it took too long")

        for shelf in world.shelves:
            shelf.allocate = full  # type: ignore[method-assign]
        report = world.walk(now=True)
        self.assertEqual((report["failed"], report["repaired"]), (1, 0))
        self.assertIn("even after a repair", world.file().problem)
        for shelf in world.shelves:
            del shelf.allocate
        self.assertEqual(world.walk(now=True)["repaired"], 1)
        self.assertEqual(world.keeper.status()["failing"], 0)

    def test_a_strange_error_at_one_file_spares_the_others(self) -> None:
        world = self.make()
        caps = [world.put(some_bytes(500, b"%d" % n)) for n in range(3)]
        original = world.walker.look

        async def look(file: Any, *args: Any, **how: Any) -> Any:
            if file.cap == caps[1].get_verify_cap():
                raise ZeroDivisionError
            return await original(file, *args, **how)

        world.walker.look = look  # type: ignore[method-assign]
        report = world.walk(now=True)
        self.assertEqual((report["walked"], report["failed"]), (3, 1))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(world.file(caps[1]).failures, 1)

    def test_no_server_takes_a_lease(self) -> None:
        world = self.make()
        world.put(DATA)

        async def refuse(_index: bytes) -> None:
            raise CallTimeoutError("it took too long")

        for shelf in world.shelves:
            shelf.add_lease = refuse  # type: ignore[method-assign]
        report = world.walk(now=True)
        self.assertEqual((report["renewed"], report["failed"]), (0, 1))
        self.assertIn("took no lease", world.file().problem)
        for shelf in world.shelves:
            del shelf.add_lease
        world.pass_days(1)
        self.assertEqual(world.walk()["renewed"], 1)

    def test_one_server_that_refuses_leases_fails_no_file(self) -> None:
        world = self.make(shelves=6, shares=(2, 3, 5))
        for n in range(3):
            world.put(some_bytes(500, b"%d" % n))

        async def refuse(_index: bytes) -> None:
            raise CallTimeoutError("no")

        world.shelves[0].add_lease = refuse  # type: ignore[method-assign]
        report = world.walk(now=True)
        self.assertEqual((report["renewed"], report["failed"]), (3, 0))

    def test_too_few_servers_take_a_lease(self) -> None:
        """Three of five: fewer than the four that the file should be on."""
        world = self.make(shelves=5)
        cap = world.put(DATA)

        async def refuse(_index: bytes) -> None:
            raise CallTimeoutError("no")

        for shelf in world.shelves[:2]:
            shelf.add_lease = refuse  # type: ignore[method-assign]
        report = world.walk(now=True)
        self.assertEqual((report["renewed"], report["failed"]), (0, 1))
        self.assertIn("only 3 servers of happiness took a lease", world.file(cap).problem)
        del world.shelves[0].add_lease
        world.pass_days(1)
        self.assertEqual(world.walk()["renewed"], 1)

    def test_a_slow_server_costs_a_walk_its_allowance_once(self) -> None:
        """Whatever the number of files, and however late it is with leases."""
        world = self.make(shelves=7)
        caps = [world.put(some_bytes(500, b"%d" % n)) for n in range(3 * MOST_OWED)]
        hostile = world.shelves[0]
        index = [cap.storage_index for cap in caps]
        hostile.contents |= {(each, n): b"x" * 5_000 for each in index for n in range(5)}

        async def linger() -> None:
            await deferLater(world.clock, 14.0, lambda: None)

        hostile.before = linger
        began = world.clock.seconds()
        report = world.walk(now=True)
        self.assertLess(world.clock.seconds() - began, LEASE_SECONDS + 2 * GRACE_SECONDS + 1)
        self.assertEqual((report["walked"], report["renewed"]), (len(caps), len(caps)))
        self.assertEqual((report["failed"], report["lost"]), (0, 0))
        self.assertEqual(report["slow_servers"], [node_id_text(hostile.server_id)])
        world.clock.advance(100)

    def test_every_fourth_look_reads_every_byte(self) -> None:
        world = self.make()
        world.put(DATA)
        verified = []
        for _ in range(9):
            world.ahead += world.file().next_at - world.wall()
            verified.append(world.walk()["verified"])
        self.assertEqual(verified, [0, 0, 0, 1, 0, 0, 0, 1, 0])

    def test_a_rotten_byte_is_found_within_four_looks_and_replaced(self) -> None:
        world = self.make()
        cap = world.put(DATA)
        [shelf] = world.holders(cap)[2]
        place = (cap.storage_index, 2)
        share = bytearray(shelf.contents[place])
        share[50] ^= 1
        shelf.contents[place] = bytes(share)
        for _ in range(4):
            world.ahead += world.file().next_at - world.wall()
            report = world.walk()
        self.assertEqual((report["verified"], report["repaired"]), (1, 1))
        self.assertEqual([number for _i, number, _why in shelf.advised], [2])
        self.assertEqual(len(world.holders(cap)[2]), 2)

    def test_a_dry_run_writes_nothing_anywhere(self) -> None:
        world = self.make()
        caps = [world.put(some_bytes(500, b"%d" % n)) for n in range(3)]
        world.lose(caps[0], 0, 1)
        world.lose(caps[1], 0, 1, 2, 3)
        contents = [dict(shelf.contents) for shelf in world.shelves]
        rows = world.database.page(0, 10)
        marks = world.database.marks()
        world.pass_days(8)
        for now in (True, False):
            report = world.walk(now=now, dry_run=True)
            self.assertEqual((report["walked"], report["renewed"], report["lost"]), (3, 3, 1))
            self.assertEqual(report["repaired"] + report["waiting"], 1)
            self.assertEqual(report["repaired"], int(now))
        self.assertEqual([shelf.contents for shelf in world.shelves], contents)
        self.assertEqual([shelf.leases for shelf in world.shelves], [{}] * 6)
        self.assertEqual([shelf.advised for shelf in world.shelves], [[]] * 6)
        self.assertEqual(world.database.page(0, 10), rows)
        self.assertEqual(world.database.marks(), marks)
        self.assertIsNone(world.keeper.status()["last_run"])

    def test_a_dropped_file_is_left_alone_even_in_the_middle_of_a_walk(self) -> None:
        world = self.make()
        caps = [world.put(some_bytes(500, b"%d" % n)) for n in range(3)]
        original = world.walker.look

        async def look(*args: Any, **how: Any) -> Any:
            await world.kept.drop(caps[0])
            await world.kept.drop(caps[2])
            return await original(*args, **how)

        world.walker.look = look  # type: ignore[method-assign]
        self.assertEqual(world.walk(now=True)["walked"], 2)
        self.assertEqual([f.cap for f in world.database.page(0, 10)], [world.file().cap])
        self.assertNotIn(
            caps[2].storage_index, {index for s in world.shelves for index in s.leases}
        )

    def test_more_files_than_a_page(self) -> None:
        world = self.make(shelves=2, shares=(1, 1, 1))
        for n in range(230):
            world.put(some_bytes(100, b"%d" % n))
        self.assertEqual(world.walk(now=True)["walked"], 230)
        world.pass_days(7)
        self.assertEqual(world.walk()["walked"], 230)
        leases = Counter(i for shelf in world.shelves for i in shelf.leases)
        self.assertEqual(len(leases), 230)

    def test_after_a_clock_that_was_ahead(self) -> None:
        """Moments that lie years ahead are no reason to wait for years."""
        world = self.make()
        world.put(DATA)
        world.pass_days(4_000)
        self.assertEqual(world.walk()["walked"], 1)
        world.pass_days(-4_000)
        self.assertEqual(world.walk()["walked"], 1)
        self.assertLessEqual(world.file().next_at, world.wall() + 7 * DAY)
        self.assertEqual(world.file().renewed_at, world.wall())


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
