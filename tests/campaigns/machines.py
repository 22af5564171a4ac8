"""Real nodes of one grid that can be killed, stopped, started again, and cut off from each other.

Each node is a process of its own. On the loopback they only share a machine; `Switchboard` gives
each a network namespace of its own, joined by two bridges that can be parted and joined again
(that takes root, and ``ip`` of iproute2).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater

from ampgrid.errors import AmpgridError
from ampgrid.node.addresses import address_of
from ampgrid.node.config import EncodingParameters
from ampgrid.node.creation import create_introducer, create_node
from ampgrid.node.directory import NodeDirectory
from ampgrid.ports import Connection
from ampgrid.wire.unixsocket import connect_control

ROOT = Path(__file__).parents[2]
_LOOK = 0.05
#: Seconds that a node has to come up.
UP_SECONDS = 60.0


class Machine:
    """One node.

    Args:
        directory: its node directory.
        namespace: the network namespace that it runs in, empty for that of this process.
    """

    def __init__(self, directory: NodeDirectory, namespace: str = "") -> None:
        self.directory = directory
        self.name = directory.path.name
        self.namespace = namespace
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, if it does not run."""
        if self._process is not None:
            return
        words = [sys.executable, "-m", "ampgrid", "-d", str(self.directory.path), "run"]
        if self.namespace:
            words = ["ip", "netns", "exec", self.namespace, *words]
        with (self.directory.path / "node.log").open("ab") as log:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )

    @property
    def runs(self) -> bool:
        """Whether it was started and not killed since."""
        return self._process is not None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal. ``ip netns exec`` becomes the node, so it is the node that gets it."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def connect(self, reactor: Any) -> Connection:
        """Connect to its control socket as soon as it is up.

        Raises:
            AmpgridError: it did not come up.
        """
        deadline = reactor.seconds() + UP_SECONDS
        while True:
            try:
                connection: Connection = await connect_control(reactor, self.directory.socket_path)
                return connection
            except AmpgridError:
                if reactor.seconds() > deadline:
                    raise
            await deferLater(reactor, _LOOK)


class Switchboard:
    """Network namespaces on two bridges, which are joined until they are parted.

    Args:
        names: of the namespaces to be made, in the order of their addresses.
    """

    network = "10.77.0"

    def __init__(self, names: Sequence[str]) -> None:
        self._tag = f"ag{os.getpid() % 10_000}"
        self._bridges = (f"{self._tag}a", f"{self._tag}b")
        self._numbers = {name: number for number, name in enumerate(names, 1)}

    def __enter__(self) -> Switchboard:
        for bridge in self._bridges:
            _ip("link", "add", bridge, "type", "bridge")
            _ip("link", "set", bridge, "up")
        _ip("link", "add", f"{self._tag}x", "type", "veth", "peer", f"{self._tag}y")
        for end, bridge in zip("xy", self._bridges, strict=True):
            _ip("link", "set", f"{self._tag}{end}", "master", bridge)
        self.join()
        for name, number in self._numbers.items():
            inner, outer = f"{self._tag}i{number}", f"{self._tag}o{number}"
            _ip("netns", "add", self.namespace(name))
            _ip("link", "add", outer, "type", "veth", "peer", inner)
            _ip("link", "set", inner, "netns", self.namespace(name))
            _ip("link", "set", outer, "master", self._bridges[0])
            _ip("link", "set", outer, "up")
            inside = ("-n", self.namespace(name))
            _ip(*inside, "address", "add", f"{self.address(name)}/24", "dev", inner)
            _ip(*inside, "link", "set", inner, "up")
            _ip(*inside, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            for name in self._numbers:
                _ip("netns", "delete", self.namespace(name))
            _ip("link", "delete", f"{self._tag}x")
            for bridge in self._bridges:
                _ip("link", "delete", bridge)

    def namespace(self, name: str) -> str:
        """Return the name of a machine's network namespace."""
        return f"{self._tag}-{name}"

    def address(self, name: str) -> str:
        """Return the IP address of a machine."""
        return f"{self.network}.{self._numbers[name]}"

    def part(self, others: Sequence[str]) -> None:
        """Cut these off from all the rest; among themselves they stay together."""
        for end in "xy":
            _ip("link", "set", f"{self._tag}{end}", "down")
        for name in others:
            _ip("link", "set", f"{self._tag}o{self._numbers[name]}", "master", self._bridges[1])

    def join(self) -> None:
        """Let all reach all again."""
        for end in "xy":
            _ip("link", "set", f"{self._tag}{end}", "up")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def make_grid(
    work: Path, storage: int, clients: int, switchboard: Switchboard | None = None
) -> tuple[Machine, list[Machine], list[Machine]]:
    """Make the nodes of a grid with a public root: introducer, storage nodes, clients."""

    def listen(name: str) -> str:
        return f"{switchboard.address(name)}:7000" if switchboard is not None else "127.0.0.1:0"

    def machine(directory: NodeDirectory) -> Machine:
        name = directory.path.name
        return Machine(directory, switchboard.namespace(name) if switchboard is not None else "")

    introducer = create_introducer(
        work / "introducer",
        listen=listen("introducer"),
        shares=EncodingParameters(1, 1, 2),
        public_root=True,
    )
    first = machine(introducer)
    first.start()
    address = wait_for_address(introducer)
    nodes = [
        machine(
            create_node(
                work / name,
                introducers=[address],
                listen=listen(name),
                nickname=name,
                reserve=0,
                storage=name.startswith("node"),
            )
        )
        for name in names_of(storage, clients)
    ]
    for node in nodes:
        node.start()
    return first, nodes[:storage], nodes[storage:]


def names_of(storage: int, clients: int) -> list[str]:
    """Return what the storage nodes and the clients are called."""
    nodes = [f"node{number}" for number in range(1, storage + 1)]
    return nodes + [f"client{number}" for number in range(1, clients + 1)]


def wait_for_address(directory: NodeDirectory) -> str:
    """Return a node's address, with the secret, once its port is known."""
    listen = directory.load_config().listen
    assert listen is not None
    deadline = time.monotonic() + UP_SECONDS
    while not (listen[1] or directory.listen_port()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{directory.path.name} does not listen")
        time.sleep(_LOOK)
    return address_of(directory).to_string()
