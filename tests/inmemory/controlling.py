"""The control Commands of a node in a grid in memory: a connection that is but for the socket."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands import (
    control,
)
from ampgrid.node.blob_control import BlobControlResponder
from ampgrid.node.control import ControlResponder
from ampgrid.node.directory_control import DirectoryResponder
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.grid import MemoryGrid, MemoryNode
from ampgrid.testing.pipes import MemoryTransport
from ampgrid.wire import Facts
from ampgrid.wire.network import SessionResponder
from ampgrid.wire.unixsocket import LocalConnection, _LocalHello, _LocalRoles

#: A cap of a file that nobody has.
NOBODYS = f"URI:CHK:{'a' * 26}:{'a' * 52}:2:3:1000"


class SocketPipe(MemoryTransport):
    """A pipe in memory that carries descriptors beside its bytes, as a Unix socket does."""

    def sendFileDescriptor(self, descriptor: int) -> None:
        assert self.other is not None
        self.other.protocol.fileDescriptorReceived(os.dup(descriptor))


def connect(clock: HeapClock, node: MemoryNode) -> LocalConnection:
    """Return a connection to a node's control socket, but for the socket."""
    near, far = LocalConnection(clock), LocalConnection(clock)
    own = (SessionResponder(), _LocalHello(Facts(frozenset({"control"}), "", "test")))
    answering = (
        ControlResponder(node.core, far),
        DirectoryResponder(node.core, far),
        BlobControlResponder(node.core),
    )
    far.serve(_LocalRoles(far, *own, *answering))
    near.serve(SessionResponder())
    here, there = SocketPipe(clock, 0.0), SocketPipe(clock, 0.0)
    here.other, there.other = there, here
    here.protocol, there.protocol = near, far
    for protocol, pipe in [(far, there), (near, here)]:
        protocol.makeConnection(pipe)
        protocol.opened(100, 2**20)
    return near


class CallingCase(SynchronousTestCase):
    """A grid in memory and a connection to the control socket of its client."""

    nodes = 3

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.place = Path(folder.name) / "place"
        self.place.mkdir()
        self.grid = MemoryGrid(Path(folder.name), self.nodes, (2, 3, 3), max_segment_size=50_000)
        self.grid.start()
        self.addCleanup(self.grid.stop)
        self.connection = connect(self.grid.clock, self.grid.client)

    def begin(self, command: Any, **arguments: Any) -> Deferred[dict[str, Any]]:
        """Call a long Command; its number of an operation is called ``number`` here."""
        if "number" in arguments:
            arguments[OPERATION] = arguments.pop("number")
        return Deferred.fromCoroutine(
            self.connection.call(command, deadline=10_000.0, **arguments)
        )

    def call(self, command: Any, **arguments: Any) -> dict[str, Any]:
        return self.grid.run(self.begin(command, **arguments))


class ControlCase(CallingCase):
    def put(self, data: bytes) -> str:
        (self.place / "put").write_bytes(data)
        return str(self.call(control.Upload, path=str(self.place / "put"))["cap"])

    def promised(self) -> list[int]:
        return [node.core.status()["storage"]["promised"] for node in self.grid.nodes]

    def step_until(self, what: Any) -> None:
        for _ in range(100_000):
            if what():
                return
            self.assertTrue(self.grid.clock.step())
        self.fail("it never came about")


#: How the Commands call the number of an operation.
OPERATION = control.Progress.arguments[0][0].decode("ascii")
