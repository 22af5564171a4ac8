"""Stores of one user around one remote, in memory but for the databases."""

from __future__ import annotations

import hashlib
import io
import random
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults

from ampgrid.blobs import BlobDoc, BlobManager
from ampgrid.errors import RemoteUnavailableError
from ampgrid.testing.blobs import MemoryBlobs, MemoryRemote
from ampgrid.testing.clock import HeapClock
from ampgrid.wire.threads import InlineThreads

KEY = bytes(range(32))
#: Says that a manager gets a remote of its own.
OWN = object()
SECRET = b"the secret of a user, of 32 bytes"


def content(seed: object, size: int = 1000) -> bytes:
    """Return bytes that differ for every seed."""
    return hashlib.shake_128(repr(seed).encode()).digest(size)


class Weather:
    """What a remote's steps meet: a pause each, and whatever a test adds.

    Attributes:
        seen: (step, id of the blob) of all steps.
        fails: step -> how many more of these fail.
        calm: the longest pause, seconds.
    """

    def __init__(self, clock, chance):
        self.clock = clock
        self.chance = chance
        self.seen = []
        self.fails = {}
        self.calm = 0.01

    async def __call__(self, step, name, offset):
        self.seen.append((step, None if name is None else name.blob_id))
        over = Deferred()
        self.clock.callLater(self.chance.uniform(0.0, self.calm), over.callback, None)
        await over
        if self.fails.get(step, 0):
            self.fails[step] -= 1
            raise RemoteUnavailableError(f"no {step}")


class World:
    """A remote, and managers around it.

    Args:
        folder: where the stores are.
        quota: of the user at the remote.
    """

    def __init__(self, folder: Path, quota=None, seed=0):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.clock = HeapClock(1_800_000_000.0)
        self.chance = random.Random(seed)
        self.server = MemoryBlobs(self.clock.seconds, quota)
        self.managers = []

    def remote(self, user="alice"):
        remote = MemoryRemote(self.server, user)
        remote.weather = Weather(self.clock, self.chance)
        return remote

    def manager(self, place="a", *, remote=OWN, local=True, **how):
        """Return a manager of the store of a name; again after a restart."""
        remote = self.remote() if remote is OWN else remote
        arguments = {
            "key": KEY,
            "secret": SECRET,
            "user": "alice",
            "clock": self.clock,
            "wall": self.clock.seconds,
            "threads": InlineThreads(),
            "entropy": self.chance.randbytes,
            "uniform": self.chance.uniform,
            **how,
        }
        path = self.folder / place if local else None
        manager = BlobManager(path, remote, **arguments)
        self.managers.append(manager)
        return manager

    def run(self, work):
        return self.clock.run(work)

    def together(self, *works):
        """Run coroutines at once; return what became of each, errors too."""
        begun = [Deferred.fromCoroutine(work).addErrback(lambda f: f.value) for work in works]
        return self.run(gatherResults(begun))

    def put(self, manager, blob_id, data=None, **how):
        data = content(blob_id) if data is None else data
        self.run(manager.put(BlobDoc(io.BytesIO(data), blob_id), **how))
        return data

    def get(self, manager, blob_id, namespace=None):
        async def read():
            blob = await manager.get(blob_id, namespace)
            if blob is None:
                return None
            data = await blob.read()
            await blob.close()
            return data

        return self.run(read())

    def local(self, manager, namespace=None):
        return sorted(self.run(manager.local_list(namespace)))

    def begin(self, work):
        """Let a coroutine begin; what becomes of it is nobody's business."""
        Deferred.fromCoroutine(work).addErrback(lambda _failure: None)

    def kill(self, manager):
        """End a manager as a signal would: nothing is finished, nothing is told to anybody."""
        self.managers.remove(manager)
        if manager._store is not None:
            manager._store.close()
        self.run(manager._remote.close())

    def close(self):
        for manager in self.managers:
            self.run(manager.close())
        self.managers.clear()
