"""All tables of directories under one contract."""

from __future__ import annotations

import random
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.store.directories import DirectoryStore
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.replicaworld import ReplicaWorld
from ampgrid.testing.tables import MemoryTables
from ampgrid.vdrive.responder import VdriveResponder
from ampgrid.vdrive.service import VdriveService
from ampgrid.wire import InlineThreads
from ampgrid.wire.loopback import LoopbackConnection
from tests.contract.tables_contract import TablesContract


class MemoryTablesTests(TablesContract, SynchronousTestCase):
    """Those in memory, where every question takes its time."""

    racers = 8

    def open_clients(self, count):
        self.clock = HeapClock()
        chance = random.Random(1)

        async def pause() -> None:
            answered: Deferred[None] = Deferred()
            self.clock.callLater(chance.uniform(0.001, 0.1), answered.callback, None)
            await answered

        tables = MemoryTables(pause=pause, entropy=chance.randbytes)
        return [tables, *(tables.another() for _ in range(count - 1))]

    def run_one(self, work):
        return self.clock.run(work)


class ReplicatedTablesTests(TablesContract, SynchronousTestCase):
    """Those of the grid, over replicas in memory."""

    def make_world(self):
        return ReplicaWorld()

    def open_clients(self, count):
        self.world = self.make_world()
        self.world.weather.most = 0.01
        return [self.world.client().tables for _ in range(count)]

    def run_one(self, work):
        return self.world.run(work)


class StoredReplica(VdriveResponder):
    """What a peer that keeps directories answers, from a store on the disk."""

    def __init__(self, service: VdriveService, node_id: bytes) -> None:
        super().__init__(service, LoopbackConnection(b"c" * 20))
        self.node_id = node_id


class StoredTablesTests(ReplicatedTablesTests):
    """Those of the grid, over the stores that peers have on their disks."""

    names = 5
    examples = 5

    def make_world(self):
        self.stores = []
        world = ReplicaWorld(make=dict.fromkeys(range(4), self.open_replica))
        for store in self.stores:
            self.addCleanup(store.close)
        return world

    def open_replica(self, node_id, _store_id):
        chance = random.Random(node_id)
        path = Path(f"directories-{len(self.stores)}.sqlite")
        clock = HeapClock()
        store = DirectoryStore.open(
            path, b"k" * 32, node_id, wall=clock.seconds, entropy=chance.randbytes
        )
        self.stores.append(store)
        service = VdriveService(
            store,
            clock=clock,
            wall=clock.seconds,
            threads=InlineThreads(),
            entropy=chance.randbytes,
        )
        self.successResultOf(Deferred.fromCoroutine(service.start()))
        return StoredReplica(service, node_id)
