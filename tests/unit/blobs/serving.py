"""A blob service over a real store, called through its Commands as a peer would."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.blobs.responder import BlobResponder
from ampgrid.blobs.service import BlobService, BlobSettings
from ampgrid.commands import blobs as commands
from ampgrid.store.servedblobs import Limits, ServedBlobStore
from ampgrid.testing.clock import HeapClock
from ampgrid.wire import InlineThreads, LoopbackConnection

NOW = 1_800_000_000.0
LARGE = 150_000


def sealed(seed: object, size: int) -> bytes:
    """Return bytes that stand for a sealed blob."""
    return hashlib.shake_128(repr(seed).encode()).digest(size)


class Caller:
    """One connection to the service.

    Attributes:
        connection: what to abort.
    """

    def __init__(self, case, node_id=b"p" * 20):
        self.case = case
        self.connection = LoopbackConnection(node_id, case.clock)
        self.connection.serve(BlobResponder(case.service, self.connection))
        self.puts = 0

    def send(self, command, **arguments):
        return self.connection.call(command, **arguments)

    def ask(self, command, **arguments):
        return self.case.clock.run(self.send(command, **arguments))

    def fails(self, error, command, **arguments):
        with self.case.assertRaises(error) as caught:
            self.ask(command, **arguments)
        return caught.exception

    def name(self, blob_id="blob", namespace="default"):
        return {"blob_id": blob_id, "namespace": namespace}

    def begin(self, blob, blob_id="blob", **more):
        """Announce a blob; return the number of the put and what is there."""
        self.puts += 1
        told = self.ask(
            commands.PutBlob,
            **self.name(blob_id),
            size=more.pop("size", len(blob)),
            tag=blob[-16:],
            put=self.puts,
            **more,
        )
        return self.puts, told["have"], told["done"]

    def write(self, put, data, begin=0, end=None):
        end = len(data) if end is None else end
        for offset in range(begin, end, 65_000):
            piece = data[offset : min(end, offset + 65_000)]
            self.ask(commands.WriteBlob, put=put, offset=offset, data=piece)

    def put(self, data, blob_id="blob", **more):
        """Put a blob in pieces, whatever its size is."""
        put, have, done = self.begin(data, blob_id, **more)
        if not done:
            self.write(put, data, have)
            self.ask(commands.FinishBlob, put=put)
        return have

    def put_at_once(self, data, blob_id="blob", **more):
        self.begin(data, blob_id, data=data, **more)

    def read(self, blob_id="blob", offset=0, length=65_000, **more):
        return self.ask(
            commands.ReadBlob, **self.name(blob_id), offset=offset, length=length, **more
        )["data"]

    def ids(self, order=0, **more):
        told = self.ask(commands.ListBlobs, namespace="default", order=order, most=1000, **more)
        return [raw.decode() for raw in told["blob_ids"]]

    def count(self, **more):
        return self.ask(commands.CountBlobs, namespace="default", **more)["count"]

    def stat(self, blob_id="blob"):
        return self.ask(commands.StatBlob, **self.name(blob_id))

    def delete(self, blob_id="blob"):
        self.ask(commands.DeleteBlob, **self.name(blob_id))

    def used(self):
        return self.ask(commands.GetBlobSpace)["used"]


class ServiceCase(SynchronousTestCase):
    """A service of its own for each test."""

    quota = 10_000_000

    def setUp(self):
        self.clock = HeapClock(NOW)
        self.ahead = 0.0
        self.chance = random.Random(2)
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.files = None
        self.service = self.store = None
        self.start()
        self.addCleanup(self.stop)
        self.caller = Caller(self)

    def wall(self):
        return self.clock.seconds() + self.ahead

    def start(self, **limits):
        limits = {"account_quota": self.quota, **limits}
        self.store = ServedBlobStore.open(
            self.folder / "blobs",
            b"k" * 32,
            wall=self.wall,
            limits=Limits(**limits),
            files=self.files,
        )
        self.service = BlobService(
            self.store,
            clock=self.clock,
            wall=self.wall,
            threads=InlineThreads(),
            entropy=self.chance.randbytes,
            settings=BlobSettings(),
            monotonic=self.wall,
        )
        self.clock.run(self.service.start())

    def stop(self):
        if self.service is not None:
            self.clock.run(self.service.stop())
            self.service = None

    def crash(self):
        """Lose the service and the process, and keep the disk as it is."""
        self.service._timer.cancel()
        self.service = None
        self.store.close()
        self.start()
        self.caller = Caller(self)

    def large_files(self):
        return sorted(
            path for path in (self.folder / "blobs" / "large").rglob("*") if path.is_file()
        )
