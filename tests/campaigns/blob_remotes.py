"""Remotes of blobs for campaigns and benchmarks, each by its name.

Each is an asynchronous context manager of (reactor, folder) that gives a function: user -> a new
`ampgrid.blobs.port.Remote` of that user. What is in the folder is there the next time.
"""

import os
import time
from contextlib import asynccontextmanager

from ampgrid.blobs.peer import PeerRemote
from ampgrid.blobs.responder import BlobResponder
from ampgrid.blobs.service import BlobService
from ampgrid.store.servedblobs import ServedBlobStore
from ampgrid.testing.blobs import MemoryBlobs, MemoryRemote
from ampgrid.wire import LoopbackConnection, PoolThreads


@asynccontextmanager
async def memory(_reactor, _folder):
    """Give the one in memory, which is gone with the process."""
    server = MemoryBlobs(time.time)
    yield lambda user: MemoryRemote(server, user)


@asynccontextmanager
async def loopback(reactor, folder):
    """Give a peer's service and store in this process: all of it but TLS and sockets."""
    threads = PoolThreads(reactor, 4, "served")
    store = await threads.run(
        lambda: ServedBlobStore.open(folder / "served", b"k" * 32, wall=time.time)
    )
    service = BlobService(
        store, clock=reactor, wall=time.time, threads=threads, entropy=os.urandom
    )
    await service.start()

    def remote_of(user):
        connection = LoopbackConnection(user.encode().ljust(20, b"-"), reactor)
        connection.serve(BlobResponder(service, connection))
        return PeerRemote(lambda: connection)

    try:
        yield remote_of
    finally:
        await service.stop()
        await threads.stop(5.0)


REMOTES = {"memory": memory, "loopback": loopback}
