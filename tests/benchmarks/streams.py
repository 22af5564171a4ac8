"""Streams, calls and handshakes between this process and another one, over the loopback.

What crosses a connection at the most: plain TLS of Twisted, as a stream; and what ampgrid brings
across: ``WriteShare`` and ``ReadShare`` with `WINDOW` calls under way, from and to a store that
keeps nothing (`tests.benchmarks.stream_peer`). The three take turns, so that what else the
machine does falls on all of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from ampgrid.commands import storage
from ampgrid.commands.session import Ping
from ampgrid.crypto.identity import Identity
from ampgrid.wire import Connection
from ampgrid.wire.tls import Credentials
from tests.benchmarks.amounts import MB, Amount, median_of
from tests.benchmarks.measuring import cpu_seconds
from tests.benchmarks.stream_peer import HEAD_BYTES, network
from tests.wire.kit import identity

ROOT = Path(__file__).resolve().parents[2]
#: Calls under way in a stream of Commands, and of small calls.
WINDOW = 8
#: The pieces that a stream is written in, bytes.
PIECE = storage.MAX_CHUNK_BYTES
_INDEX = b"streams' storage"
_NUMBER = 7


@attrs.frozen
class Sizes:
    """How much is measured.

    Attributes:
        stream_mb: of each stream, in millions of bytes.
        rounds: of the streams; the median counts.
        calls: small calls.
        handshakes: connections made.
    """

    stream_mb: int = 260
    rounds: int = 5
    calls: int = 20_000
    handshakes: int = 150


@contextlib.contextmanager
def peer() -> Iterator[tuple[int, dict[str, int], Identity]]:
    """Start the other process; gives its id, its ports and its identity."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.stream_peer", str(_NUMBER)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.pid, json.loads(process.stdout.readline()), identity(_NUMBER)
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(30)


@implementer(IPushProducer)
class _Source(Protocol):
    """Writes plain streams as fast as the transport takes them."""

    transport: Any

    def __init__(self) -> None:
        self._left = 0
        self._paused = False
        self._done: Deferred[None] | None = None

    def connectionMade(self) -> None:
        """Let the transport say when it wants no more."""
        self.transport.registerProducer(self, True)

    def send(self, size: int, piece: bytes) -> Deferred[None]:
        """Send so many bytes; fires when the other end has them all."""
        self._left, self._piece, self._done = size, piece, Deferred()
        self.transport.write(size.to_bytes(HEAD_BYTES, "big"))
        self._pump()
        return self._done

    def _pump(self) -> None:
        while self._left and not self._paused:
            data = self._piece if self._left >= len(self._piece) else self._piece[: self._left]
            self._left -= len(data)
            self.transport.write(data)

    def pauseProducing(self) -> None:
        """Write no more."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Write on."""
        self._paused = False
        self._pump()

    def stopProducing(self) -> None:
        """Write no more, ever."""
        self._paused = True

    def dataReceived(self, data: bytes) -> None:
        """Learn that the other end has it all."""
        done, self._done = self._done, None
        if done is not None:
            done.callback(None)


async def _windowed(count: int, window: int, one: Callable[[int], Awaitable[object]]) -> None:
    """Do something ``count`` times, in order, ``window`` of them under way."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await one(number)

    await gatherResults([Deferred.fromCoroutine(work()) for _ in range(window)])


class Streams:
    """What goes to and fro between this process and a `peer`.

    Args:
        reactor: what runs it.
        pid: of the peer.
        ports: of the peer.
        theirs: its identity.
    """

    def __init__(self, reactor: Any, pid: int, ports: dict[str, int], theirs: Identity) -> None:
        self._reactor = reactor
        self._pid = pid
        self._ports = ports
        self._theirs = theirs
        self._mine = identity(_NUMBER + 1)
        self._network = network(reactor, self._mine, lambda _: [])
        self._piece = os.urandom(PIECE)
        self._buckets = 0

    async def _dial(self) -> Connection:
        there = [("127.0.0.1", self._ports["node"])]
        return await self._network.dial(self._theirs.node_id, there)

    async def _plain(self) -> _Source:
        factory = TLSMemoryBIOFactory(
            Credentials(self._mine), True, Factory.forProtocol(_Source), self._reactor
        )
        port = self._ports["plain"]
        endpoint = TCP4ClientEndpoint(self._reactor, "127.0.0.1", port, timeout=5)
        protocol: Any = await endpoint.connect(factory)
        source: _Source = protocol.wrappedProtocol
        return source

    async def _measured(self, work: Awaitable[object], amount: float, unit: str) -> Amount:
        here, there, began = time.process_time(), cpu_seconds([self._pid]), time.perf_counter()
        await work
        took = time.perf_counter() - began
        here, there = time.process_time() - here, cpu_seconds([self._pid]) - there
        return Amount(amount / took, unit, (here + there) / amount, here / amount, there / amount)

    async def _write(self, connection: Connection, pieces: int) -> None:
        self._buckets += 1
        bucket = {"bucket": self._buckets, "share": 0}
        await connection.call(
            storage.AllocateBuckets,
            storage_index=_INDEX,
            renew_secret=bytes(32),
            cancel_secret=bytes(32),
            shares=frozenset([0]),
            allocated_size=pieces * PIECE,
            bucket=self._buckets,
        )

        async def one(number: int) -> None:
            await connection.call(
                storage.WriteShare,
                operation=bucket["bucket"],
                offset=number * PIECE,
                data=self._piece,
                **bucket,
            )

        await _windowed(pieces, WINDOW, one)
        await connection.call(storage.CloseBucket, **bucket)

    async def _read(self, connection: Connection, pieces: int) -> None:
        async def one(number: int) -> None:
            await connection.call(
                storage.ReadShare,
                operation=_INDEX,
                storage_index=_INDEX,
                share=0,
                offset=number * PIECE,
                length=PIECE,
            )

        await _windowed(pieces, WINDOW, one)

    async def streams(self, sizes: Sizes) -> dict[str, Amount]:
        """Measure the three streams by turns; returns the medians."""
        pieces = max(WINDOW, int(sizes.stream_mb * MB) // PIECE)
        connection, source = await self._dial(), await self._plain()
        ways: dict[str, Callable[[int], Awaitable[object]]] = {
            "tls stream": lambda count: source.send(count * PIECE, self._piece),
            "WriteShare stream": lambda count: self._write(connection, count),
            "ReadShare stream": lambda count: self._read(connection, count),
        }
        found: dict[str, list[Amount]] = {name: [] for name in ways}
        for way in ways.values():
            await way(pieces // 8 + 1)
        for _ in range(sizes.rounds):
            for name, way in ways.items():
                found[name].append(await self._measured(way(pieces), pieces * PIECE / MB, "MB"))
        connection.abort("measured")
        source.transport.abortConnection()
        return {name: median_of(amounts) for name, amounts in found.items()}

    async def calls(self, sizes: Sizes) -> dict[str, Amount]:
        """Measure small calls: one after the other, and `WINDOW` under way."""
        connection = await self._dial()
        found = {}
        for name, window in (("small calls, one by one", 1), ("small calls, together", WINDOW)):
            work = _windowed(sizes.calls, window, lambda _: connection.call(Ping))
            found[name] = await self._measured(work, sizes.calls, "calls")
        connection.abort("measured")
        return found

    async def handshakes(self, sizes: Sizes) -> dict[str, Amount]:
        """Measure connections: TCP, StartTLS, TLS 1.3 with both certificates, Hello."""

        async def one(_number: int) -> None:
            (await self._dial()).abort("measured")

        work = _windowed(sizes.handshakes, 1, one)
        return {"handshakes": await self._measured(work, sizes.handshakes, "handshakes")}


async def measure(reactor: Any, sizes: Sizes) -> dict[str, Amount]:
    """Measure all of it with a peer of its own."""
    with peer() as (pid, ports, theirs):
        streams = Streams(reactor, pid, ports, theirs)
        return {
            **await streams.streams(sizes),
            **await streams.calls(sizes),
            **await streams.handshakes(sizes),
        }
