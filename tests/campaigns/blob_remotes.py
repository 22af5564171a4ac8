"""Remotes of blobs for campaigns and benchmarks, each by its name.

Each is an asynchronous context manager of (reactor, folder) that gives a function: user -> a new
`ampgrid.blobs.port.Remote` of that user. What is in the folder is there the next time.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy

from ampgrid.blobs.httpagent import open_http_remote
from ampgrid.blobs.peer import Credentials, PeerRemote
from ampgrid.blobs.responder import BlobResponder
from ampgrid.blobs.service import BlobService
from ampgrid.node.blobs import grid_blobs
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
        create_node(path, "--listen", "none", "--blobs")
        change_settings(
            path,
            ('user_quota = "1G"', 'user_quota = "100G"'),
            ('# port = "tcp:8011:interface=127.0.0.1"', "port = 0"),
        )
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


@asynccontextmanager
async def peer(reactor, folder):
    """Give a node as it is seen from another one, over TLS and a socket of the loopback."""
    path = folder / "keeper"
    if not path.exists():
        create_node(path, "--listen", "127.0.0.1:0", "--open", "--blobs")
        change_settings(path, ('user_quota = "1G"', 'user_quota = "100G"'))
    async with running_node(path, reactor) as keeper, near(reactor, folder, [keeper]) as core:
        credentials = {}
        for user in ("alice", "bob"):
            token = await keeper.blobs.issue_token(user)
            credentials[user] = Credentials(user, token)
        yield lambda user: core.blob_peers.remote(keeper.node_id, credentials[user])


@asynccontextmanager
async def grid(reactor, folder):
    """Give the grid of three nodes, any two of which give a blob back, over real connections."""
    async with AsyncExitStack() as nodes:
        cores = []
        for number in range(3):
            path = folder / f"node{number}"
            if not path.exists():
                create_node(path, "--listen", "127.0.0.1:0", "--open")
            cores.append(await nodes.enter_async_context(running_node(path, reactor)))
        core = await nodes.enter_async_context(near(reactor, folder, cores))
        remotes = {user: await grid_blobs(core, f"private:{user}") for user in ("alice", "bob")}
        # Each is closed by whoever has it.
        yield lambda user: copy(remotes[user])


@asynccontextmanager
async def near(reactor, folder, cores):
    """Run a node that keeps nothing for others and is connected to these."""
    path = folder / "near"
    if not path.exists():
        words = ("--listen", "none", "--open", "--no-storage", "--shares", "2/3/3")
        create_node(path, *words)
        told = []
        for core in cores:
            status = core.status()
            told.append(f"amp://{status['node_id']}@{status['addresses'][0]}")
        change_settings(path, ("peers = []", f"peers = {json.dumps(told)}"))
    async with running_node(path, reactor, peers=len(cores)) as core:
        yield core


def create_node(path, *words):
    """Make a node directory."""
    ampgrid = [sys.executable, "-m", "ampgrid", "create-node", "--reserve", "0"]
    subprocess.run([*ampgrid, *words, str(path)], check=True, stdout=subprocess.DEVNULL)


def change_settings(path, *changes):
    """Change what stands in a node.toml, each once."""
    settings = path / "node.toml"
    text = settings.read_text()
    for was, is_ in changes:
        assert text.count(was) == 1, was
        text = text.replace(was, is_)
    settings.write_text(text)


REMOTES = {"memory": memory, "loopback": loopback, "http": http, "peer": peer, "grid": grid}
