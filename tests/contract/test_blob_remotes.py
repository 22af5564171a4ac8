"""All remotes of blobs under one contract."""

from __future__ import annotations

import random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.testing.blobs import MemoryBlobs, MemoryRemote
from ampgrid.testing.clock import HeapClock
from tests.contract.blob_remote_contract import BlobRemoteContract


class MemoryRemoteTests(BlobRemoteContract, SynchronousTestCase):
    """The one in memory, where every step takes its time."""

    quota = 2_000_000

    def setUp(self):
        self.clock = HeapClock(1_800_000_000.0)
        self.chance = random.Random(1)
        self.server = MemoryBlobs(self.clock.seconds, self.quota)
        super().setUp()

    async def pause(self, _step, _name, _offset):
        answered: Deferred[None] = Deferred()
        self.clock.callLater(self.chance.uniform(0.0001, 0.01), answered.callback, None)
        await answered

    def open_remote(self, user):
        remote = MemoryRemote(self.server, user)
        remote.weather = self.pause
        return remote

    def run_one(self, work):
        return self.clock.run(work)

    def pass_time(self, seconds):
        self.clock.advance(seconds)
