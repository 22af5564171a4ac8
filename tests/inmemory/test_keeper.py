"""The keeper on a grid in memory: real stores with real leases, and its control Commands."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import MAX_INLINE_SIZE, ChkCap, LitCap, parse_cap
from ampgrid.commands import control
from ampgrid.commands import errors as e
from ampgrid.errors import OperationCancelledError
from ampgrid.immutable import Operation
from ampgrid.testing.grid import MemoryGrid, MemoryNode
from tests.inmemory.controlling import OPERATION, connect
from tests.material import some_bytes

DAY = 86_400.0


class GridCase(SynchronousTestCase):
    def make(self, nodes: int = 6, shares: tuple[int, int, int] = (2, 4, 5)) -> MemoryGrid:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        grid = MemoryGrid(Path(folder.name), nodes, shares, max_segment_size=20_000)
        grid.start()
        self.addCleanup(grid.stop)
        return grid

    def replace(self, grid: MemoryGrid, node: MemoryNode) -> None:
        """Take a node away for good and bring an empty one."""
        grid.nodes.remove(node)
        node.stop()
        grid.add_nodes(1)
        grid.run(grid.client.core.wait_for_peers(len(grid.nodes), 600))

    def walk(self, grid: MemoryGrid, **how: bool) -> dict[str, Any]:
        return grid.run(grid.client.core.file_keeper.run(Operation(), **how))

    def check(self, grid: MemoryGrid, cap: str) -> Any:
        return grid.run(grid.client.core.checker.check(parse_cap(cap), verify=True))

    def leases(self, grid: MemoryGrid, cap: str) -> list[int]:
        """When the leases of a file run out, on every node that holds shares of it."""
        found = []
        for node in grid.nodes:
            index = parse_cap(cap).storage_index  # type: ignore[union-attr]
            if node.store is not None and node.store.shares(index):
                found += node.store.lease_expiries(index)
        return found


class YearTests(GridCase):
    def test_files_stay_while_every_month_a_node_is_replaced(self) -> None:
        """And their leases never have less than three weeks to run; a dropped file's do."""
        grid = self.make()
        data = {grid.upload(some_bytes(size)): some_bytes(size) for size in (300, 9_000, 50_000)}
        dropped = grid.upload(some_bytes(400, b"dropped"))
        repaired = 0
        for day in range(374):
            if day == 40:
                self.assertTrue(grid.run(grid.client.core.kept.drop(parse_cap(dropped))))
                dropped_leases = self.leases(grid, dropped)
            if day % 30 == 29 and day < 365:
                self.replace(grid, grid.random.choice(grid.nodes))
            grid.days_ahead += 0.9
            self.walk(grid)
            # For second looks.
            grid.days_ahead += 0.1
            repaired += self.walk(grid)["repaired"]
            for cap in data:
                self.assertGreater(min(self.leases(grid, cap)), grid.wall() + 21 * DAY)
        self.assertGreater(repaired, 6)
        self.assertLessEqual(set(self.leases(grid, dropped)), set(dropped_leases))
        self.assertLess(max(dropped_leases), grid.wall())
        status = grid.client.core.status()["keeper"]
        self.assertEqual((status["kept"], status["failing"]), (3, 0))
        for cap, content in data.items():
            report = self.check(grid, cap)
            self.assertGreaterEqual(report.happy, 4)
            self.assertEqual(report.bad, ())
            self.assertEqual(grid.download(cap), content)

    def test_by_itself(self) -> None:
        """The client of a grid renews what it put without being told."""
        grid = self.make(3, (1, 2, 2))
        cap = grid.upload(some_bytes(300))
        before = self.leases(grid, cap)
        grid.days_ahead += 8
        grid.clock.advance(3600)
        after = self.leases(grid, cap)
        self.assertGreater(min(after), max(before) + 7 * DAY)
        keeper = grid.client.core.status()["keeper"]
        self.assertEqual(keeper["last_run"]["renewed"], 1)

    def test_a_node_stopped_in_the_middle_of_a_look_writes_nothing(self) -> None:
        grid = self.make()
        cap = grid.upload(some_bytes(300))
        for node in grid.nodes:
            node.freeze()
        grid.days_ahead += 8
        grid.clock.advance(0)
        client = grid.client
        before = grid.run(client.core.kept.page(0))
        with client.core.operations.under_way(7) as operation:
            walking = Deferred.fromCoroutine(client.core.file_keeper.run(operation))
            self.assertNoResult(walking)
            client.stop()
            grid.clock.advance(60)
        self.failureResultOf(walking, OperationCancelledError)
        client.start()
        self.assertEqual(grid.run(client.core.kept.page(0)), before)
        self.assertEqual([file.cap for file in before], [parse_cap(cap).get_verify_cap()])


class ControlTests(GridCase):
    def setUp(self) -> None:
        self.grid = self.make()
        self.connection = connect(self.grid.clock, self.grid.client)

    def call(self, command: Any, **arguments: Any) -> dict[str, Any]:
        return self.grid.run(self.connection.call(command, deadline=10_000.0, **arguments))

    def report(self, command: Any, **arguments: Any) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.call(command, **arguments)["report"])
        return report

    def listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        start = 0
        while True:
            page = self.call(control.ListKept, start=start)
            found += json.loads(page["kept"])
            start = page["next"]
            if not start:
                return found

    def test_check_verify_and_repair_with_either_cap(self) -> None:
        cap = self.grid.upload(some_bytes(30_000))
        verify_cap = parse_cap(cap).get_verify_cap().to_string()  # type: ignore[union-attr]
        for each in (cap, verify_cap):
            report = self.report(control.Check, cap=each)
            self.assertTrue(report["healthy"])
            self.assertFalse(report["verified"])
            self.assertEqual((report["shares_good"], report["servers_happy"]), (5, 5))
            self.assertTrue(self.report(control.Verify, cap=each)["verified"])
        holder = next(n for n in self.grid.nodes if self.holds(n, cap))
        self.replace(self.grid, holder)
        self.assertFalse(self.report(control.Check, cap=cap)["healthy"])
        report = self.report(control.Repair, cap=verify_cap, verify=True)
        self.assertTrue(report["healthy"])
        self.assertFalse(report["before"]["healthy"])
        self.assertEqual(len(report["written"]), 1)
        self.assertTrue(self.report(control.Check, cap=cap)["healthy"])

    def test_all_shares_on_too_few_servers_are_not_health(self) -> None:
        cap = self.grid.upload(some_bytes(30_000))
        # Two stay that hold a share each, whichever of the six got none.
        left = [node for node in self.grid.nodes if self.holds(node, cap)][:2]
        for node in [node for node in self.grid.nodes if node not in left]:
            node.stop()
            self.grid.nodes.remove(node)
        report = self.report(control.Repair, cap=cap)
        self.assertEqual((report["shares_good"], report["servers_wanted"]), (5, 4))
        self.assertLess(report["servers_happy"], 4)
        for told in (report, report["before"], self.report(control.Check, cap=cap)):
            self.assertFalse(told["healthy"])
            self.assertTrue(told["recoverable"])
        # Of a file that is not kept, what an upload would ask for now is wanted.
        self.call(control.DropKept, cap=cap)
        self.assertEqual(self.report(control.Check, cap=cap)["servers_wanted"], 4)
        one = parse_cap(cap.replace(":2:5:", ":2:3:")).to_string()
        self.assertEqual(self.report(control.Check, cap=one)["servers_wanted"], 3)

    def holds(self, node: MemoryNode, cap: str) -> bool:
        assert node.store is not None
        return bool(node.store.shares(parse_cap(cap).storage_index))  # type: ignore[union-attr]

    def test_a_file_within_its_cap(self) -> None:
        for command in (control.Check, control.Verify, control.Repair):
            report = self.report(command, cap="URI:LIT:krugkidfnzsc4")
            self.assertEqual((report["healthy"], report["shares_total"]), (True, 0))

    def test_the_longest_cap_is_taken_by_every_command_on_files(self) -> None:
        longest = LitCap(bytes(MAX_INLINE_SIZE)).to_string()
        for command in (control.Check, control.Verify, control.Repair):
            self.assertTrue(self.report(command, cap=longest)["healthy"])
        self.assertFalse(self.call(control.DropKept, cap=longest)["dropped"])

    def test_refusals(self) -> None:
        for command in (control.Check, control.Verify, control.Repair, control.DropKept):
            with self.assertRaises(e.BadCapTextError):
                self.call(command, cap="nothing")
        cap = self.grid.upload(some_bytes(300))
        holders = [node for node in self.grid.nodes if self.holds(node, cap)]
        for node in holders[:4]:
            self.replace(self.grid, node)
        with self.assertRaises(e.NotEnoughSharesFoundError):
            self.call(control.Repair, cap=cap)
        self.assertFalse(self.report(control.Check, cap=cap)["recoverable"])

    def test_long_commands_are_cancelled(self) -> None:
        cap = self.grid.upload(some_bytes(300))
        for node in self.grid.nodes:
            node.freeze()
        for number, (command, arguments) in enumerate(
            [
                (control.Check, {"cap": cap}),
                (control.Verify, {"cap": cap}),
                (control.Repair, {"cap": cap}),
                (control.RunKeeper, {"now": True}),
            ],
            1,
        ):
            calling = Deferred.fromCoroutine(
                self.connection.call(
                    command, deadline=10_000.0, **{OPERATION: number}, **arguments
                )
            )
            self.grid.clock.advance(0.1)
            self.call(control.Progress, **{OPERATION: number})
            self.call(control.Cancel, **{OPERATION: number})
            with self.assertRaises(e.CancelledError):
                self.grid.run(calling)

    def test_the_list_in_pages(self) -> None:
        made = [ChkCap(b"%016d" % n, b"u" * 32, 3, 10, 1_000) for n in range(130)]
        for cap in made:
            remembering = self.grid.client.core.kept.remember(
                cap.get_verify_cap(), self.grid.encoding
            )
            self.grid.run(remembering)
        caps = [cap.to_string() for cap in made]
        verify = [cap.get_verify_cap().to_string() for cap in made]
        self.assertEqual([file["cap"] for file in self.listed()], verify)
        for cap in caps[:60]:
            self.assertTrue(self.call(control.DropKept, cap=cap)["dropped"])
            self.assertFalse(self.call(control.DropKept, cap=cap)["dropped"])
        self.assertEqual([file["cap"] for file in self.listed()], verify[60:])
        self.assertEqual(self.call(control.ListKept, start=2**63 - 1)["next"], 0)

    def test_the_keeper_is_told_to_run(self) -> None:
        cap = self.grid.upload(some_bytes(300))
        self.replace(self.grid, next(n for n in self.grid.nodes if self.holds(n, cap)))
        self.replace(self.grid, next(n for n in self.grid.nodes if self.holds(n, cap)))
        self.assertEqual(self.report(control.RunKeeper)["walked"], 0)
        dry = self.report(control.RunKeeper, now=True, dry_run=True)
        self.assertEqual((dry["walked"], dry["repaired"], dry["shares_written"]), (1, 1, 0))
        self.assertFalse(self.report(control.Check, cap=cap)["healthy"])
        report = self.report(control.RunKeeper, now=True)
        self.assertEqual((report["repaired"], report["shares_written"]), (1, 2))
        self.assertTrue(self.report(control.Check, cap=cap)["healthy"])
        self.assertEqual(self.report(control.RunKeeper, now=True)["repaired"], 0)

    def test_the_progress_of_a_repair_in_a_walk(self) -> None:
        cap = self.grid.upload(some_bytes(300_000))
        for _ in range(2):
            self.replace(self.grid, next(n for n in self.grid.nodes if self.holds(n, cap)))
        seen = set()

        class Watched(Operation):
            def __setattr__(self, name: str, value: Any) -> None:
                super().__setattr__(name, value)
                if name == "done":
                    seen.add((self.phase, value))

        operation = Watched()
        self.grid.run(self.grid.client.core.file_keeper.run(operation, now=True))
        self.assertEqual(operation.total, 300_000)
        repairing = [done for phase, done in seen if phase == "file 1 of 1: repairing"]
        self.assertIn(300_000, repairing, seen)
        self.assertGreater(len(repairing), 10)

    def test_what_an_introducer_keeps(self) -> None:
        self.connection = connect(self.grid.clock, self.grid.introducer)
        self.assertEqual(self.listed(), [])
        with self.assertRaises(e.BadArgumentError):
            self.call(control.RunKeeper, now=True)
        self.assertNotIn("keeper", self.grid.introducer.core.status())
