"""The other end of the streams that `tests.benchmarks.streams` measures: a process of its own.

    python -m tests.benchmarks.stream_peer NUMBER

It listens on two free ports of the loopback, prints them as one line of JSON, and ends when its
standard input does. One port is a node's: StartTLS, Hello, and the storage Commands with the real
responder and the real order of buckets, over a store that keeps nothing. The other is plain TLS of
Twisted with the same certificate, which counts bytes and answers one when all have come.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.stdio import StandardIO
from twisted.protocols.tls import TLSMemoryBIOFactory

from ampgrid.commands.storage import MAX_CHUNK_BYTES
from ampgrid.crypto.identity import Identity
from ampgrid.storage.allowance import Allowance
from ampgrid.storage.buckets import ConnectionBuckets
from ampgrid.storage.responder import StorageResponder
from ampgrid.store import Allocated, LeaseTerms, Request
from ampgrid.wire import Facts, Network
from ampgrid.wire.tls import Credentials
from tests.wire.kit import SECRET, identity

#: Length of the number that a plain stream begins with: how many bytes will come.
HEAD_BYTES = 8
_ZEROS = bytes(MAX_CHUNK_BYTES)


class _NullUpload:
    """A share that is counted and forgotten."""

    in_memory = True

    def __init__(self, number: int, size: int) -> None:
        self.number, self.size, self.covered = number, size, 0

    def write(self, writes: Sequence[tuple[int, bytes]]) -> list[None]:
        """Take bytes, in their order."""
        self.covered += sum(len(data) for _, data in writes)
        return [None] * len(writes)

    def discard(self) -> None:
        """Do nothing."""


class NullService:
    """What a `StorageResponder` asks of a service, with nothing behind it."""

    def __init__(self, clock: Any) -> None:
        self.ahead = Allowance(0)
        self._clock = clock

    def buckets(self, peer: bytes) -> ConnectionBuckets:
        """Return the buckets of a connection."""
        work: Any = self
        return ConnectionBuckets(work, self._clock, peer)

    def forget(self, buckets: ConnectionBuckets) -> None:
        """Throw away what a connection has not closed."""
        buckets.lost()

    def lease(self, renew_secret: bytes, cancel_secret: bytes, peer: bytes) -> LeaseTerms:
        """Return the terms of a lease."""
        return LeaseTerms.of(renew_secret, cancel_secret, 0, peer)

    async def allocate(self, request: Request, *, in_memory: bool) -> Allocated:
        """Accept everything."""
        uploads: Any = {number: _NullUpload(number, request.size) for number in request.numbers}
        return Allocated({}, uploads)

    async def store_upload(self, upload: _NullUpload) -> None:
        """Keep nothing of it."""

    async def read(self, _index: bytes, _number: int, _offset: int, length: int) -> bytes:
        """Return zeros: the same bytes each time, so that nothing is made or copied here."""
        return _ZEROS if length == MAX_CHUNK_BYTES else bytes(length)

    def count_buckets(self, change: int) -> None:
        """Count nothing."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on its own."""
        Deferred.fromCoroutine(work)


def network(reactor: Any, mine: Identity, roles: Callable[[Any], Sequence[Any]]) -> Network:
    """Return one end's network, over real sockets."""

    async def connect(host: str, port: int, factory: Factory) -> Any:
        return await TCP4ClientEndpoint(reactor, host, port, timeout=5).connect(factory)

    return Network(
        identity=mine,
        secret=SECRET,
        facts=lambda: Facts(software="benchmark/1"),
        clock=reactor,
        roles=roles,
        admit=lambda _: None,
        connected=lambda _: None,
        connector=connect,
    )


class Sink(Protocol):
    """Counts the bytes of plain streams, and answers one byte after each of them."""

    transport: Any

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def dataReceived(self, data: bytes) -> None:
        """Take bytes."""
        if not self._left:
            self._head += data[:HEAD_BYTES]
            self._left, data = int.from_bytes(self._head, "big"), data[HEAD_BYTES:]
            self._head = b""
        self._left -= len(data)
        if not self._left:
            self.transport.write(b".")


class _UntilClosed(Protocol):
    """Ends the process with its standard input."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def connectionLost(self, reason: Any = None) -> None:
        """End."""
        if self._reactor.running:
            self._reactor.stop()


def main() -> None:
    """Listen until standard input ends."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    mine = identity(int(sys.argv[1]))
    service: Any = NullService(reactor)
    node = network(reactor, mine, lambda connection: [StorageResponder(service, connection)])
    plain = TLSMemoryBIOFactory(Credentials(mine), False, Factory.forProtocol(Sink))
    ports = {
        name: reactor.listenTCP(0, factory, interface="127.0.0.1").getHost().port
        for name, factory in (("node", node.listening_factory()), ("plain", plain))
    }
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    StandardIO(_UntilClosed(reactor))
    reactor.run()


if __name__ == "__main__":
    main()
