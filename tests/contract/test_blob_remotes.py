"""All remotes of blobs under one contract."""

from __future__ import annotations

import importlib.util
import os
import random
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.blobs.peer import Credentials, PeerRemote
from ampgrid.blobs.responder import BlobResponder
from ampgrid.blobs.service import BlobService
from ampgrid.store.servedblobs import Limits, ServedBlobStore
from ampgrid.testing.blobs import MemoryBlobs, MemoryRemote
from ampgrid.testing.clock import HeapClock
from ampgrid.wire import InlineThreads, LoopbackConnection
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


class SlowThreads(InlineThreads):
    """Threads that take their time, and come to an end in the order of their beginning."""

    def __init__(self, clock, chance):
        self._clock = clock
        self._chance = chance
        self._last = 0.0

    async def run(self, function, /, *arguments, **keywords):
        begun = Deferred()
        self._last = max(self._last, self._clock.seconds() + self._chance.uniform(0, 0.01))
        self._clock.callLater(self._last - self._clock.seconds(), begun.callback, None)
        await begun
        return await super().run(function, *arguments, **keywords)


class FarConnection(LoopbackConnection):
    """A connection whose calls are on their way for a millisecond."""

    async def call(self, command, /, **how):
        arrived = Deferred()
        self._clock.callLater(0.001, arrived.callback, None)
        await arrived
        return await super().call(command, **how)


class PeerRemoteTests(BlobRemoteContract, SynchronousTestCase):
    """A peer's service and its store, called by users with a token."""

    quota = 2_000_000

    def setUp(self):
        self.clock = HeapClock(1_800_000_000.0)
        self.ahead = 0.0
        self.chance = random.Random(1)
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.start_service()
        super().setUp()
        self.addCleanup(lambda: self.run_one(self.service.stop()))

    def wall(self):
        return self.clock.seconds() + self.ahead

    def start_service(self):
        store = ServedBlobStore.open(
            self.folder / "blobs",
            b"k" * 32,
            wall=self.wall,
            limits=Limits(account_quota=self.quota),
        )
        self.service = BlobService(
            store,
            clock=self.clock,
            wall=self.wall,
            threads=SlowThreads(self.clock, self.chance),
            entropy=self.chance.randbytes,
            monotonic=self.wall,
        )
        self.run_one(self.service.start())
        self.tokens = {}

    def connect(self, node_id=b"p" * 20):
        connection = FarConnection(node_id, self.clock)
        connection.serve(BlobResponder(self.service, connection))
        return connection

    def open_remote(self, user):
        if user not in self.tokens:
            self.tokens[user] = self.run_one(self.service.issue_token(user))
        connection = self.connect()
        return PeerRemote(lambda: connection, Credentials(user, self.tokens[user]))

    def run_one(self, work):
        return self.clock.run(work)

    def pass_time(self, seconds):
        # Ninety days are no ninety days of timers.
        if seconds > 1000:
            self.ahead += seconds
        else:
            self.clock.advance(seconds)


class NodeRemoteTests(PeerRemoteTests):
    """The same, users being the nodes at the other ends of connections."""

    def open_remote(self, user):
        connection = self.connect(user.encode().ljust(20, b"-"))
        return PeerRemote(lambda: connection)


class OtherDriverRemoteTests(NodeRemoteTests):
    """The same over pysqlcipher3."""

    if importlib.util.find_spec("pysqlcipher3") is None:
        skip = "pysqlcipher3 is not installed"

    def setUp(self):
        self.patch(os, "environ", {**os.environ, "AMPGRID_SQLCIPHER": "pysqlcipher3"})
        super().setUp()
