"""Grids of processes to measure: an introducer, storage nodes and a client, on the loopback.

`Grid` is what systems have in common: processes under one directory, each with its log, which
stop when their standard input is closed, so that none is left whatever becomes of the program.
`AmpgridGrid` is ampgrid; the other system has a module of its own. All of it blocks, and is
called in a thread beside the reactor.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread

from ampgrid.commands.control import WaitForPeers
from ampgrid.node.addresses import address_of
from ampgrid.node.config import EncodingParameters, NodeConfig
from ampgrid.node.creation import create_introducer, create_node, render_config
from ampgrid.node.directory import NodeDirectory
from ampgrid.wire.unixsocket import connect_control
from tests.benchmarks.measuring import environment

HOST = "127.0.0.1"
#: Storage nodes, and shares as k/happiness/n.
STORAGE_NODES = 5
SHARES = EncodingParameters(3, 5, 5)
#: Seconds that something may take to come up, and to stop before it is killed.
START_SECONDS = 60.0
STOP_SECONDS = 15.0
_LOOK = 0.005
_RESERVE = 100_000_000
_HOME = Path(__file__).parents[2]


class GridError(Exception):
    """A grid could not be made or did not come up."""


def free_ports(count: int) -> list[int]:
    """Return so many ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def wait_until(look: Callable[[], bool], what: str, pause: float = 0.05) -> None:
    """Look until it is so.

    Raises:
        GridError: it was not within `START_SECONDS`.
    """
    deadline = time.monotonic() + START_SECONDS
    while not look():
        if time.monotonic() > deadline:
            raise GridError(f"{what} within {START_SECONDS:.0f} s: no")
        time.sleep(pause)


class Process:
    """One process of a grid.

    Args:
        name: what it is called.
        words: the command.
        log: where its output goes.
        environment: of it.
    """

    def __init__(
        self, name: str, words: Sequence[str], log: Path, environment: dict[str, str]
    ) -> None:
        self.name = name
        self._words = list(words)
        self._log = log
        self._environment = environment
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._running = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment,
                # Ctrl-C is for the program, which then stops its grids in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        if self._running is None:
            raise GridError(f"{self.name} does not run")
        return self._running.pid

    def require_running(self) -> None:
        """Raise `GridError` if it has ended."""
        if self._running is None or self._running.poll() is not None:
            last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
            raise GridError(f"{self.name} has ended: {' '.join(last)}")

    def stop(self) -> None:
        """Stop it, and wait until it has ended."""
        running, self._running = self._running, None
        if running is None:
            return
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
        assert running.stdin is not None
        running.stdin.close()


def answers(port: int) -> bool:
    """Tell whether a gateway answers a request for its first page."""
    connection = http.client.HTTPConnection(HOST, port, timeout=START_SECONDS)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


class Grid:
    """An introducer, storage nodes and a client, whatever software they run.

    Args:
        name: of the system, for readers.
        root: an empty directory for it.
        slow: whether the client reaches the storage nodes through a slow link.

    Attributes:
        web_port: where the client's gateway listens.
    """

    def __init__(self, name: str, root: Path, slow: list[str] | None = None) -> None:
        self.name = name
        self.root = root
        root.mkdir(parents=True)
        self._processes: dict[str, Process] = {}
        self._proxy: Process | None = None
        self._slow = slow
        self.node_names = [f"node{number}" for number in range(1, STORAGE_NODES + 1)]
        self.web_port, *ports = free_ports(1 + 2 * STORAGE_NODES)
        self.listen_ports = ports[:STORAGE_NODES]
        #: Where they are dialled: the proxy's ports, if there is one.
        self.outer_ports = ports[STORAGE_NODES:] if slow is not None else self.listen_ports

    # What a system says.

    def make_introducer(self) -> None:
        """Make the introducer's directory."""
        raise NotImplementedError

    def make_nodes(self) -> None:
        """Make the directories of all others; the introducer runs."""
        raise NotImplementedError

    def introducer_is_up(self) -> bool:
        """Tell whether the introducer is up."""
        raise NotImplementedError

    def wait_connected(self) -> None:
        """Wait until the client is connected to every storage node; its gateway answers."""
        raise NotImplementedError

    def command(self, name: str) -> list[str]:
        """Return the command that runs a node until its standard input is closed."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return the environment of its processes."""
        return dict(os.environ)

    # What follows.

    @property
    def client_pid(self) -> int:
        """The process of the client."""
        return self._processes["client"].pid

    @property
    def node_pids(self) -> list[int]:
        """The processes of the storage nodes."""
        return [self._processes[name].pid for name in self.node_names]

    @property
    def server_pids(self) -> list[int]:
        """The processes of the storage nodes and the introducer."""
        return [*self.node_pids, self._processes["introducer"].pid]

    def pids(self) -> dict[str, int]:
        """Return all processes by name."""
        return {name: process.pid for name, process in self._processes.items()}

    def _start(self, name: str) -> Process:
        log = self.root / f"{name}.log"
        process = Process(name, self.command(name), log, self.environment())
        self._processes[name] = process
        process.start()
        return process

    def start(self) -> None:
        """Make it, start all of it, and wait until all are connected.

        Raises:
            GridError: something did not come up.
        """
        if self._slow is not None:
            self._start_proxy(self._slow)
        self.make_introducer()
        introducer = self._start("introducer")

        def is_up() -> bool:
            introducer.require_running()
            return self.introducer_is_up()

        wait_until(is_up, f"the introducer of {self.name} is up")
        self.make_nodes()
        for name in [*self.node_names, "client"]:
            self._start(name)
        self._wait_for_gateway()
        self.wait_connected()

    def _start_proxy(self, options: list[str]) -> None:
        pairs = zip(self.outer_ports, self.listen_ports, strict=True)
        log = self.root / "proxy.log"
        words = [sys.executable, str(Path(__file__).with_name("slow_proxy.py")), *options]
        words += [f"{outer}:{inner}" for outer, inner in pairs]
        proxy = self._proxy = Process("proxy", words, log, dict(os.environ))
        proxy.start()

        def is_up() -> bool:
            proxy.require_running()
            return "ready" in log.read_text()

        wait_until(is_up, "the proxy is up")

    def _wait_for_gateway(self, pause: float = 0.05) -> None:
        client = self._processes["client"]

        def is_up() -> bool:
            client.require_running()
            return answers(self.web_port)

        wait_until(is_up, f"the client of {self.name} answers", pause)

    def time_start(self) -> float:
        """Start the client anew; return the seconds until its gateway answers."""
        self._processes["client"].stop()
        began = time.perf_counter()
        self._start("client")
        self._wait_for_gateway(_LOOK)
        took = time.perf_counter() - began
        self.wait_connected()
        return took

    def stop(self) -> None:
        """Stop all of it."""
        for name in ["client", *self.node_names, "introducer"]:
            if name in self._processes:
                self._processes[name].stop()
        if self._proxy is not None:
            self._proxy.stop()


class AmpgridGrid(Grid):
    """A grid of ampgrid.

    Args:
        reactor: it runs in another thread.
        settings: of the storage nodes, attributes of `NodeConfig`.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        reactor: Any,
        slow: list[str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(name, root, slow)
        self._reactor = reactor
        self._settings = settings

    def directory(self, name: str) -> NodeDirectory:
        """Return the directory of a node."""
        return NodeDirectory(self.root / name)

    def make_introducer(self) -> None:
        """Make the introducer's directory."""
        create_introducer(self.root / "introducer", listen=f"{HOST}:0", shares=SHARES)

    def introducer_is_up(self) -> bool:
        """Tell whether the introducer has its port, and listens to commands after that."""
        return self.directory("introducer").socket_path.exists()

    def make_nodes(self) -> None:
        """Make the directories of all others."""
        address = [address_of(self.directory("introducer"))]
        places = zip(self.node_names, self.listen_ports, self.outer_ports, strict=True)
        for name, inner, outer in places:
            create_node(
                self.root / name,
                introducers=address,
                listen=f"{HOST}:{inner}",
                nickname=name,
                reserve=_RESERVE,
                web="none",
            )
            _configure(self.directory(name), addresses=((HOST, outer),), **self._settings)
        create_node(
            self.root / "client",
            introducers=address,
            # The client dials, so that every connection goes through the proxy if there is one.
            listen="none",
            nickname="client",
            storage=False,
            web=str(self.web_port),
        )

    def wait_connected(self) -> None:
        """Wait until the client is connected to every storage node."""
        self.call(WaitForPeers, count=STORAGE_NODES, timeout_seconds=int(START_SECONDS))

    def run(self, work: Callable[[Any], Any]) -> Any:
        """Run a coroutine function of a connection to the client's socket, in the reactor."""

        async def connected() -> Any:
            connection = await connect_control(self._reactor, self.directory("client").socket_path)
            try:
                return await work(connection)
            finally:
                connection.close()

        return blockingCallFromThread(self._reactor, lambda: Deferred.fromCoroutine(connected()))

    def call(self, command: Any, **arguments: Any) -> dict[str, Any]:
        """Call a control Command of the client."""

        async def one(connection: Any) -> Any:
            return await connection.call(command, deadline=None, **arguments)

        answer: dict[str, Any] = self.run(one)
        return answer

    def command(self, name: str) -> list[str]:
        """Return the command that runs a node."""
        words = [sys.executable, "-P", "-m", "ampgrid", "-d", str(self.root / name)]
        return [*words, "run", "--until-stdin-closes"]

    def environment(self) -> dict[str, str]:
        """Return an environment in which the same ampgrid is found."""
        return environment(PYTHONPATH=str(_HOME))


def _configure(directory: NodeDirectory, **settings: Any) -> None:
    config: NodeConfig = attrs.evolve(directory.load_config(), **settings)
    directory.config_path.write_text(render_config(config))
