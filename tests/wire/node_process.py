"""A node's network in a process of its own, for attacks over real sockets.

Run as a program: it listens on a free port of loopback and answers JSON lines on its standard
input with JSON lines on its standard output.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineReceiver

from ampgrid.wire import Connection, Facts, Network, gate
from tests.patience import PATIENCE
from tests.wire.kit import SECRET, CountingLocator, Echo, Hold, identity

ROOT = Path(__file__).resolve().parent.parent.parent
#: Longer than any test takes: what is over before it was not ended by it, and on a busy machine
#: nobody honest is late. Tests of the deadline skip the time until then.
HANDSHAKE_SECONDS = 3_600.0


class Forgetful(CountingLocator):
    """Counts its calls, and keeps none of their data."""

    def __init__(self) -> None:
        super().__init__()
        self.served = 0
        self.looked_for = 0

    def locateResponder(self, name: bytes) -> Any:
        self.looked_for += 1
        self.wanted.clear()
        return super().locateResponder(name)

    @Echo.responder
    async def echo(self, data: bytes) -> dict[str, Any]:
        self.served += 1
        return {"data": data}

    @Hold.responder
    async def hold(self, number: int, data: bytes | None) -> dict[str, Any]:
        self.served += 1
        answer: Deferred[dict[str, Any]] = Deferred()
        return await answer


class Node(LineReceiver):
    """The node, and the line to its test."""

    delimiter = b"\n"

    def __init__(self, reactor: Any, number: int) -> None:
        self.locator = Forgetful()
        self.reactor = reactor
        self.connected: list[Connection] = []
        self.network = Network(
            identity=identity(number),
            secret=SECRET,
            facts=lambda: Facts(software="kit/1"),
            clock=reactor,
            roles=lambda _: [self.locator],
            admit=lambda _: None,
            connected=self.connected.append,
            connector=self.open,
        )
        factory = self.network.listening_factory()
        listening = reactor.listenTCP(0, factory, backlog=1_024, interface="127.0.0.1")
        self.port = listening.getHost().port

    async def open(self, host: str, port: int, factory: Factory) -> Any:
        endpoint = TCP4ClientEndpoint(self.reactor, host, port, timeout=int(PATIENCE))
        return await endpoint.connect(factory)

    def connectionMade(self) -> None:
        self.say(port=self.port)

    def connectionLost(self, reason: Any = None) -> None:
        if self.reactor.running:
            self.reactor.stop()

    def say(self, **facts: Any) -> None:
        self.sendLine(json.dumps(facts).encode())

    def lineReceived(self, line: bytes) -> None:
        asked = json.loads(line)
        if asked["do"] == "state":
            self.say(
                calls=self.locator.served,
                wanted=self.locator.looked_for,
                strangers=len(self.network._strangers),
                accepted=self.network._accepted,
                open=len(self.network.connections()),
            )
        elif asked["do"] == "skip":
            self.skip(asked["seconds"])
        elif asked["do"] == "dial":
            node_id = bytes.fromhex(asked["node"])
            dialling = Deferred.fromCoroutine(
                self.network.dial(node_id, [("127.0.0.1", asked["port"])])
            )
            dialling.addCallbacks(
                lambda _: self.say(ok=True, error=""),
                lambda failure: self.say(
                    ok=False, error=failure.getErrorMessage(), kind=failure.type.__name__
                ),
            )

    def skip(self, seconds: float) -> None:
        """Let everything that waits for a time wait so much less."""
        now = self.reactor.seconds()
        for call in self.reactor.getDelayedCalls():
            call.reset(max(0.0, call.getTime() - now - seconds))
        self.say()


class NodeProcess:
    """The test's side: starts the process and talks to it.

    Args:
        number: of the node's identity.
    """

    def __init__(self, number: int = 1) -> None:
        self.identity = identity(number)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.wire.node_process", str(number)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What is here and not asked for yet must not lie where `select` does not see it.
            bufsize=0,
        )
        self.port: int = self._read()["port"]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            raise TimeoutError("the node does not answer its test")
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def ask(self, do: str, **asked: Any) -> dict[str, Any]:
        self.begin(do, **asked)
        return self._read()

    def begin(self, do: str, **asked: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **asked}).encode() + b"\n")
        self._process.stdin.flush()

    def finish(self) -> dict[str, Any]:
        return self._read()

    def rss_bytes(self) -> int:
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * 4096

    def cpu_seconds(self) -> float:
        """Return for how long it has worked: however busy the machine is, work is work."""
        told = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(PATIENCE)


def main() -> None:
    """Run until standard input ends."""
    from twisted.internet import reactor

    gate.HANDSHAKE_SECONDS = HANDSHAKE_SECONDS
    StandardIO(Node(reactor, int(sys.argv[1])))
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
