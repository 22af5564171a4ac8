"""A node inside one's own Twisted program."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ampgrid.node.core import NodeCore
from ampgrid.node.directory import NodeDirectory
from ampgrid.node.node import Node


@asynccontextmanager
async def running_node(
    path: str | os.PathLike[str], reactor: Any, *, peers: int = 0, seconds: float = 60
) -> AsyncIterator[NodeCore]:
    """Run the node of a directory for as long as the block takes.

    Args:
        path: of the node directory, made by ``ampgrid create-node``; no other process may run
            its node meanwhile.
        reactor: Twisted's.
        peers: storage peers that must be connected before the block is entered.
        seconds: how long they are waited for.

    Yields:
        The node's services; ``drive.virtual`` is its virtual drive.

    Raises:
        ConfigError: something in the node directory cannot be used, or its node runs already.
        NotEnoughPeersError: too few peers were connected in time.
    """
    directory = NodeDirectory.at(path)
    config = directory.load_config()
    lock = directory.lock()
    try:
        node = Node(directory, config, reactor)
        try:
            await node.start()
            core = node.core
            assert core is not None
            if peers:
                await core.wait_for_peers(peers, seconds)
                await core.settle_directories(lambda: None)
            yield core
        finally:
            await node.stop()
    finally:
        lock.release()
