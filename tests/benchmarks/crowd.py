"""A grid of many storage nodes in few processes, which can grow.

Introducer and client are processes of their own, as anywhere. The storage nodes are real too, each
with its directory, sockets, databases and threads; but many of them share a process, so that a
hundred of them fit on a small machine.

    python -m tests.benchmarks.crowd DIR...

runs the nodes of such directories until standard input is closed, and prints a line when all are
up.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.internet.threads import deferToThread

from ampgrid.cli.reactor import run_with_reactor
from ampgrid.commands.control import WaitForPeers
from ampgrid.node.addresses import address_of
from ampgrid.node.config import EncodingParameters
from ampgrid.node.creation import create_introducer, create_node
from ampgrid.node.directory import NodeDirectory
from ampgrid.node.embedding import running_node
from ampgrid.node.local_grid import NodeProcess
from ampgrid.ports import Connection
from ampgrid.wire import connect_control

ROOT = Path(__file__).resolve().parents[2]
#: What the introducer advises; every upload here says its own.
_ADVICE = EncodingParameters(3, 5, 5)
_LISTEN = "127.0.0.1:0"
_RESERVE = 100_000_000
_MEET_SECONDS = 240


class Crowd:
    """An introducer, a client, and storage nodes.

    Args:
        reactor: what runs it.
        root: an existing directory for all of it.

    Attributes:
        client: a connection to the client's control socket, once it is started.
    """

    def __init__(self, reactor: Any, root: Path) -> None:
        self._reactor = reactor
        self._root = root
        self._single: list[NodeProcess] = []
        self._shared: list[subprocess.Popen[bytes]] = []
        self._nodes: list[NodeDirectory] = []
        self._address: Any = None
        self.client: Connection

    @property
    def client_pid(self) -> int:
        """The client's process."""
        return self._single[1].pid

    @property
    def size(self) -> int:
        """How many storage nodes there are."""
        return len(self._nodes)

    @property
    def server_pids(self) -> list[int]:
        """The processes of the storage nodes."""
        return [process.pid for process in self._shared]

    async def _alone(self, directory: NodeDirectory) -> Connection:
        process = NodeProcess(directory, lambda _: None)
        process.start(self._reactor)
        self._single.append(process)
        return await process.connect(self._reactor)

    async def start(self) -> None:
        """Start introducer and client."""
        introducer = self._root / "introducer"
        create_introducer(introducer, listen=_LISTEN, shares=_ADVICE)
        await self._alone(NodeDirectory(introducer))
        self._address = address_of(NodeDirectory(introducer))
        client = create_node(
            self._root / "client",
            introducers=[self._address],
            listen=_LISTEN,
            nickname="client",
            storage=False,
            web="none",
        )
        self.client = await self._alone(client)

    async def grow(self, count: int) -> None:
        """Start so many storage nodes more, in one process; returns when all know all."""
        first = len(self._nodes) + 1
        made = [
            create_node(
                self._root / f"node{number}",
                introducers=[self._address],
                listen=_LISTEN,
                nickname=f"node{number}",
                reserve=_RESERVE,
                web="none",
            )
            for number in range(first, first + count)
        ]
        with (self._root / "crowd.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.crowd", *(str(n.path) for n in made)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._shared.append(process)
        assert process.stdout is not None
        if not await deferToThread(process.stdout.readline):
            raise SystemExit(f"the nodes did not start; see {log.name}")
        self._nodes += made
        await gatherResults([Deferred.fromCoroutine(self._meet(node)) for node in self._nodes])
        await self._wait(self.client)

    async def _meet(self, node: NodeDirectory) -> None:
        connection = await connect_control(self._reactor, node.socket_path)
        try:
            await self._wait(connection)
        finally:
            connection.close()

    async def _wait(self, connection: Connection) -> None:
        count, most = len(self._nodes), _MEET_SECONDS
        await connection.call(
            WaitForPeers, count=count, timeout_seconds=most, deadline=float(most + 10)
        )

    async def stop(self) -> None:
        """Stop all of it."""
        for process in self._shared:
            assert process.stdin is not None
            process.stdin.close()
        for node in self._single:
            node.send(signal.SIGTERM)
            await node.ended
        for process in self._shared:
            await deferToThread(process.wait)
            assert process.stdout is not None
            process.stdout.close()


async def _run(reactor: Any, paths: list[str]) -> None:
    """Run nodes until standard input is closed."""
    closed: Deferred[None] = Deferred()

    class UntilClosed(Protocol):
        def connectionLost(self, reason: Any = None) -> None:
            closed.callback(None)

    StandardIO(UntilClosed())
    async with AsyncExitStack() as stack:
        for path in paths:
            await stack.enter_async_context(running_node(path, reactor))
        sys.stdout.write("up\n")
        sys.stdout.flush()
        await closed


def main() -> None:
    """Run the nodes that the command line names."""
    run_with_reactor(lambda reactor, _stop: _run(reactor, sys.argv[1:]))


if __name__ == "__main__":
    main()
