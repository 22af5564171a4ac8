"""All tables of directories under one contract."""

from __future__ import annotations

import random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.testing.clock import HeapClock
from ampgrid.testing.tables import MemoryTables
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
