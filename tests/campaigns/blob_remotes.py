"""Remotes of blobs for campaigns and benchmarks, each by its name.

Each is an asynchronous context manager of (reactor, folder) that gives a function: user -> a new
`ampgrid.blobs.port.Remote` of that user. What is in the folder is there the next time.
"""

import os
import subprocess
import sys
import time
from contextlib import asynccontextmanager

from ampgrid.blobs.httpagent import open_http_remote
from ampgrid.blobs.peer import PeerRemote
from ampgrid.blobs.responder import BlobResponder
from ampgrid.blobs.service import BlobService
from ampgrid.node.directory import NodeDirectory
from ampgrid.node.embedding import running_node
from ampgrid.store.servedblobs import ServedBlobStore
from ampgrid.testing.blobs import MemoryBlobs, MemoryRemote
from ampgrid.web.face import WebFace
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


@asynccontextmanager
async def http(reactor, folder):
    """Give the gateway of a node in this process, over a socket of the loopback interface."""
    async with gateway(reactor, folder) as (url, token):
        yield lambda user: open_http_remote(reactor, url, user, token)


@asynccontextmanager
async def gateway(reactor, folder):
    """Run a node with a gateway; give the address of its blobs, and a token for ``alice``."""
    path = folder / "node"
    if not path.exists():
        ampgrid = [sys.executable, "-m", "ampgrid"]
        words = ["create-node", "--listen", "none", "--reserve", "0", str(path)]
        subprocess.run([*ampgrid, *words], check=True, stdout=subprocess.DEVNULL)
        settings = path / "node.toml"
        text = settings.read_text()
        for was, is_ in (
            ("enabled = false", "enabled = true"),
            ('user_quota = "1G"', 'user_quota = "100G"'),
            ('# port = "tcp:8011:interface=127.0.0.1"', "port = 0"),
        ):
            assert text.count(was) == 1, was
            text = text.replace(was, is_)
        settings.write_text(text)
    directory = NodeDirectory.at(path)
    async with running_node(path, reactor) as core:
        face = WebFace(directory, directory.load_config(), reactor)
        await face.start(core)
        token = await core.blobs.issue_token("alice")
        url = directory.node_url_path.read_text().strip()
        try:
            yield f"{url}blobs/", token
        finally:
            await face.stop()


REMOTES = {"memory": memory, "loopback": loopback, "http": http}
