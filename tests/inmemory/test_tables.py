"""Replicated tables on a grid in memory: real stores, real services, real connections."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.errors import NotReachableError, UncertainChangeError
from ampgrid.testing.grid import MemoryGrid, MemoryNode
from ampgrid.vdrive.nodes import NodeCache
from ampgrid.vdrive.recovering import recover
from ampgrid.vdrive.remembered import MemoryRemembered
from ampgrid.vdrive.surveying import survey
from ampgrid.vdrive.table import Table, Tables
from ampgrid.wire import InlineThreads


def slot_of(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def setting(*names: str) -> Any:
    async def plan(_lookup: Any) -> dict[bytes, bytes | None]:
        return {slot_of(name): name.encode() * 20 for name in names}

    return plan


class GridTableTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.grid = MemoryGrid(Path(folder.name), nodes=5, shares=(3, 5, 5))
        self.grid.start()
        self.addCleanup(self.grid.stop)
        self.keys = WriteKeys(b"0123456789abcdef")
        self.table = self.grid.run(self.tables(self.grid.client).create(self.keys))

    def tables(self, node: MemoryNode) -> Tables:
        grid = self.grid
        return Tables(
            node.core.drive.replicas,
            clock=grid.clock,
            wall=grid.wall,
            entropy=grid.random.randbytes,
            uniform=grid.random.uniform,
            threads=InlineThreads(),
            remembered=MemoryRemembered(),
            cache=NodeCache(),
        )

    def other(self, node: MemoryNode) -> Table:
        return self.tables(node).table(self.keys.fingerprint, self.keys)

    def put(self, *names: str) -> Any:
        return self.grid.run(self.table.change(setting(*names), [slot_of(names[0])]))

    def list_(self, table: Table) -> set[bytes]:
        async def collect() -> set[bytes]:
            return {entry async for page in table.entries() for _slot, entry in page}

        found: set[bytes] = self.grid.run(collect())
        return found

    def members(self) -> list[MemoryNode]:
        """The nodes of the set, in its order."""
        record = self.grid.run(self.table.record())
        by_id = {node.identity.node_id: node for node in self.grid.nodes}
        return [by_id[one.node_id] for one in record.replicas]

    def restart(self, node: MemoryNode) -> None:
        node.stop()
        node.start()
        self.grid.clock.advance(120)

    def test_what_one_node_writes_another_reads(self) -> None:
        self.put("a")
        self.put(*[f"many {number}" for number in range(400)])
        reader = self.other(self.grid.nodes[2])
        self.assertEqual(len(self.list_(reader)), 401)
        self.assertEqual(self.grid.run(reader.get(slot_of("a"))), b"a" * 20)
        self.assertTrue(self.grid.run(self.table.check()).healthy)

    def test_replica_that_was_away_is_brought_up_to_date(self) -> None:
        self.put("before")
        away = self.members()[0]
        away.stop()
        for number in range(30):
            self.put(f"{number}")
        away.start()
        self.grid.clock.advance(200)
        self.assertTrue(self.grid.run(self.table.repair()).healthy)
        self.assertEqual(len(self.list_(self.table)), 31)

    def test_replica_with_an_empty_disk_is_admitted_again(self) -> None:
        self.put(*[f"{number}" for number in range(100)])
        wiped = self.members()[1]
        wiped.stop()
        for path in (wiped.folder / "storage").glob("directories.sqlite*"):
            path.unlink()
        wiped.start()
        self.grid.clock.advance(200)
        self.assertFalse(self.grid.run(self.table.check()).healthy)
        self.put("with three")
        report = self.grid.run(self.table.repair())
        self.assertTrue(report.healthy, report.to_json())
        self.assertEqual(len(self.list_(self.other(self.grid.nodes[3]))), 101)

    def test_two_gone_and_one_left(self) -> None:
        self.put(*[f"{number}" for number in range(20)])
        gone = self.members()
        for node in gone[:2]:
            node.cut()
        self.grid.clock.advance(2)
        error = self.assertRaises(NotReachableError, self.grid.run, self.table.record())
        self.assertIn("2 of 4 replicas", str(error))
        gone[2].cut()
        self.grid.clock.advance(2)
        found = self.grid.run(survey(self.table, self.keys))
        self.assertEqual(len(found.warnings), 1)
        self.grid.run(recover(self.table, self.keys, found))
        self.assertEqual(len(self.list_(self.table)), 20)

    def test_writers_through_many_nodes_while_replicas_restart(self) -> None:
        acknowledged: set[str] = set()

        async def write(table: Table, me: int) -> None:
            for number in range(12):
                name = f"{me}-{number}"
                try:
                    await table.change(setting(name), [slot_of(name)])
                except (NotReachableError, UncertainChangeError):
                    continue
                acknowledged.add(name)

        nodes = [self.grid.client, *self.grid.nodes[3:], self.grid.client]
        work = gatherResults(
            [Deferred.fromCoroutine(write(self.other(node), me)) for me, node in enumerate(nodes)]
        )
        for node in self.members()[:2]:
            if node in self.grid.nodes[3:]:
                continue
            self.restart(node)
        self.grid.run(work)
        self.grid.clock.advance(300)
        there = self.list_(self.other(self.grid.client))
        self.assertGreater(len(acknowledged), 24)
        self.assertLessEqual({name.encode() * 20 for name in acknowledged}, there)
