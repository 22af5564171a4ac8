"""The keeper's walk over shelves: what it writes, what it leaves alone, what it remembers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.task import deferLater

from ampgrid.crypto.identity import node_id_text
from ampgrid.errors import CallTimeoutError
from ampgrid.immutable.patience import GRACE_SECONDS
from ampgrid.immutable.renewal import LEASE_SECONDS, MOST_OWED
from tests.material import some_bytes
from tests.unit.immutable.keeping import DATA, DAY, KeeperCase


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
