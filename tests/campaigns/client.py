"""A client of real storage nodes: processes of their own, real StartTLS, and a ledger.

`Nursery` runs nodes, `Client` is a member of their grid that knows no introducer, and `Load`
puts, renews and reads on one node at once, notes in a ledger what was acknowledged, and compares
everything with it.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from ampgrid.commands.errors import NoSpaceError, NoSuchLeaseError, WireError
from ampgrid.commands.storage import CancelLease, RenewLease
from ampgrid.crypto.identity import Identity
from ampgrid.errors import AmpgridError, PeerError
from ampgrid.node.creation import create_node
from ampgrid.node.directory import NodeDirectory
from ampgrid.storage.client import Allocation, LeaseSecrets, StorageServer
from ampgrid.store import LeaseTerms
from ampgrid.testing.storecheck import Ledger
from ampgrid.wire import Facts, Network, tcp_connector

#: The largest share that is sent whole in one box.
MOST_SMALL = 9_000
#: Seconds that a node has to come up.
UP_SECONDS = 30.0
_HEAD = 9_000


class WrongError(Exception):
    """A node broke a promise."""


class Nursery:
    """Runs nodes; see ``nursery.py``."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nursery.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def _say(self, line: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def run(self, directory: Path) -> int:
        """Start a node; returns its process id."""
        return self._say(f"run {directory}")

    def kill(self, pid: int) -> None:
        """Kill a node and wait for its end."""
        os.kill(pid, signal.SIGKILL)
        ending = self._say(f"wait {pid}")
        if ending != -signal.SIGKILL:
            raise WrongError(f"a node ended by itself, with status {ending}")

    def close(self) -> None:
        """End, with all nodes."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def make_node(path: Path, **settings: Any) -> NodeDirectory:
    """Make the directory of a storage node that knows nobody."""
    return create_node(path, listen="127.0.0.1:0", web="none", **settings)


class Client:
    """A member of the grid of one node.

    Args:
        reactor: Twisted's.
        node: the node's directory.
        rng: chooses.
    """

    def __init__(self, reactor: Any, node: NodeDirectory, rng: random.Random) -> None:
        self.node = node
        self.secrets = LeaseSecrets(rng.randbytes(32))
        self._reactor = reactor
        self._server_id = node.identity().node_id
        self._born = int(time.time())
        self._network = Network(
            identity=Identity.create(),
            secret=node.grid_secret(node.load_config()) or b"",
            facts=lambda: Facts(nickname="campaign"),
            clock=reactor,
            roles=lambda _: [],
            admit=lambda _: None,
            connected=lambda _: None,
            connector=tcp_connector(reactor),
        )

    async def connect(self) -> StorageServer:
        """Connect as soon as the node is up."""
        deadline = time.monotonic() + UP_SECONDS
        while True:
            try:
                port = self.node.listen_port()
                if port is not None:
                    hints = [("127.0.0.1", port)]
                    connection = await self._network.dial(self._server_id, hints)
                    return StorageServer(connection, self.secrets)
            except AmpgridError:
                pass
            if time.monotonic() > deadline:
                log = self.node.log_path.read_text()[-2000:]
                raise WrongError(f"{self.node.path} is not up after {UP_SECONDS:.0f} s: {log}")
            await deferLater(self._reactor, 0.01)

    def terms(self, index: bytes) -> LeaseTerms:
        """Return the terms that a lease has at the least.

        The time of a store stands still while its node does not run, so all that is sure is that
        it is not before this client was made.
        """
        renew, cancel = self.secrets.for_server(index, self._server_id)
        return LeaseTerms.of(renew, cancel, self._born)


@attrs.frozen
class Lease:
    """A lease that was asked for.

    Attributes:
        index: of the file.
        terms: what it has at the least.
        cancels: how many cancellations had begun or ended by then.
    """

    index: bytes
    terms: LeaseTerms
    cancels: int


class Load:
    """What one client does to one node.

    Args:
        client: the client.
        rng: chooses.
        large: how many bytes large shares have, from and to.

    Attributes:
        ledger: what was acknowledged.
        counts: how often what was done.
        refused: how often there was no room.
    """

    def __init__(
        self, client: Client, rng: random.Random, large: tuple[int, int] = (66_000, 160_000)
    ) -> None:
        self.client = client
        self.ledger = Ledger()
        self.counts = {
            "small puts": 0,
            "large puts": 0,
            "leases": 0,
            "cancelled": 0,
            "reads": 0,
        }
        self.refused = 0
        self._rng = rng
        self._large = large
        self._indexes: list[bytes] = []
        self._kept: list[tuple[bytes, int]] = []
        self._next = 0
        self._leased: set[bytes] = set()
        #: Cancellations begun and ended, by storage index: odd while one is under way.
        self._cancels: Counter[bytes] = Counter()

    @property
    def acknowledged(self) -> int:
        """How many shares were acknowledged."""
        return len(self.ledger.kept)

    def _name(self) -> tuple[bytes, int]:
        """Return the name of a new share: of a new file, or one more of a file that is there."""
        self._next += 1
        if self._indexes and self._rng.random() < 0.5:
            return self._rng.choice(self._indexes[-20:]), self._next % 256
        index = hashlib.blake2b(b"%d" % self._next, digest_size=16).digest()
        self._indexes.append(index)
        return index, self._next % 256

    async def run(self, server: StorageServer, workers: int) -> None:
        """Work until the connection is lost, or all workers met a node without room."""
        await gatherResults(
            [Deferred.fromCoroutine(self._work(server)) for _ in range(workers)],
            consumeErrors=True,
        )

    async def _work(self, server: StorageServer) -> None:
        while server.connection.connected:
            try:
                await self.do_one(server)
            except WireError:
                raise
            except PeerError:
                if server.connection.connected:
                    raise
                return

    async def do_one(self, server: StorageServer) -> None:
        """Do one thing at random."""
        choice = self._rng.random()
        if choice < 0.4:
            await self.put_small(server)
        elif choice < 0.55:
            await self.put_large(server)
        elif choice < 0.75:
            await self.renew(server)
        elif choice < 0.8:
            await self.cancel(server)
        else:
            await self.read(server)

    async def put_small(self, server: StorageServer) -> bool:
        """Put a small share; tell whether it was accepted."""
        key = self._name()
        data = self._rng.randbytes(self._rng.randrange(1, MOST_SMALL))
        if key in self.ledger.offered:
            return True
        self.ledger.offer(*key, data)
        lease = self._lease(key[0])
        answer = await server.store(*key, data)
        return self._stored(key, lease, answer, key[1] in answer.stored)

    async def put_large(self, server: StorageServer) -> bool:
        """Put a large share; tell whether it was accepted."""
        key = self._name()
        if key in self.ledger.offered:
            return True
        data = self._rng.randbytes(self._rng.randrange(*self._large))
        self.ledger.offer(*key, data)
        lease = self._lease(key[0])
        answer = await server.allocate(key[0], [key[1]], len(data))
        writer = answer.writers.get(key[1])
        if writer is not None:
            try:
                await writer.put(data)
                await writer.close()
            except WireError:
                await writer.abort()
                self.refused += 1
                return False
        return self._stored(key, lease, answer, writer is not None)

    def _stored(
        self, key: tuple[bytes, int], lease: Lease, answer: Allocation, stored: bool
    ) -> bool:
        wrong = {(key[0], number) for number in answer.already_got} - self.ledger.offered.keys()
        if wrong or (not stored and key[1] in answer.already_got):
            raise WrongError("a node has what nobody sent to it")
        if not stored:
            self.refused += 1
            return False
        self.ledger.acknowledge(*key)
        self._kept.append(key)
        self._is_leased(lease)
        size = len(self.ledger.offered[key][0])
        self.counts["small puts" if size <= MOST_SMALL else "large puts"] += 1
        return True

    def _any_kept(self) -> tuple[bytes, int] | None:
        return self._rng.choice(self._kept) if self._kept else None

    def _lease(self, index: bytes) -> Lease:
        """Return the lease that is about to be made or renewed."""
        return Lease(index, self.client.terms(index), self._cancels[index])

    def _is_leased(self, lease: Lease) -> None:
        """Note a lease that was acknowledged, unless a cancellation may have taken it."""
        if lease.cancels == self._cancels[lease.index] and lease.cancels % 2 == 0:
            self.ledger.lease(lease.index, lease.terms)
            self._leased.add(lease.index)

    async def renew(self, server: StorageServer) -> None:
        """Add or renew a lease."""
        key = self._any_kept()
        if key is None:
            return
        lease = self._lease(key[0])
        if key[0] in self._leased and self._rng.random() < 0.5:
            renew, _ = self.client.secrets.for_server(key[0], server.server_id)
            try:
                await server.connection.call(RenewLease, storage_index=key[0], renew_secret=renew)
            except NoSuchLeaseError as error:
                if lease.cancels != self._cancels[key[0]]:
                    return
                raise WrongError("a lease that was acknowledged is not there") from error
        else:
            try:
                await server.add_lease(key[0])
            except NoSpaceError as error:
                if lease.index in self._leased and lease.cancels == self._cancels[key[0]]:
                    raise WrongError("a lease that is there could not be renewed") from error
                self.refused += 1  # a new one, on a full disk
                return
        self._is_leased(lease)
        self.counts["leases"] += 1

    async def cancel(self, server: StorageServer) -> None:
        """Cancel a lease."""
        key = self._any_kept()
        if key is None or key[0] not in self._leased or self._cancels[key[0]] % 2:
            return
        renew, cancel = self.client.secrets.for_server(key[0], server.server_id)
        self._leased.discard(key[0])
        self.ledger.release_lease(key[0], LeaseTerms.of(renew, cancel, 0).renew)
        self._cancels[key[0]] += 1
        try:
            await server.connection.call(CancelLease, storage_index=key[0], cancel_secret=cancel)
        except NoSuchLeaseError:
            return  # cancelled before, without an answer
        finally:
            self._cancels[key[0]] += 1
        self.counts["cancelled"] += 1

    async def read(self, server: StorageServer) -> None:
        """Read a piece of a share and compare it."""
        key = self._any_kept()
        if key is None:
            return
        (data,) = self.ledger.offered[key]
        offset = self._rng.randrange(len(data))
        length = self._rng.randrange(1, 200_000)
        if await server.read(*key, offset, length) != data[offset : offset + length]:
            raise WrongError("a read gave wrong bytes")
        self.counts["reads"] += 1

    async def compare_all(self, server: StorageServer) -> int:
        """Compare every share that the node has, or should have; returns their bytes."""
        compared = 0
        for index in self._indexes:
            numbers = {number for at, number in self.ledger.offered if at == index}
            kept = {number for number in numbers if (index, number) in self.ledger.kept}
            compared += await self._compare(server, index, kept, numbers)
        return compared

    async def _compare(
        self, server: StorageServer, index: bytes, kept: set[int], numbers: set[int]
    ) -> int:
        sizes, heads = await server.shares(index, numbers, _HEAD)
        if kept - sizes.keys():
            raise WrongError(f"shares {kept - sizes.keys()} were acknowledged and are missing")
        for number, size in sizes.items():
            (data,) = self.ledger.offered.get((index, number), [b""])
            if len(data) != size:
                raise WrongError(f"a share has {size} bytes, and {len(data)} were sent")
            found = heads.get(number, b"")
            if len(found) < size:
                found += await server.read(index, number, len(found), size - len(found))
            if found != data:
                raise WrongError("a share has other bytes than were sent")
        return sum(sizes.values())
