"""Replicas of directories in memory, honest ones and a zoo of liars, and lossy connections.

`MemoryReplica` answers the directory Commands as a vdrive peer does, with the register's own
acceptor and dicts in the place of a disk. Each liar breaks the rules in one way. `ReplicaWorld`
puts several of them behind connections that delay, drop, and can be cut, under a clock of the
test's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.protocols import amp

from ampgrid.commands import errors as e
from ampgrid.commands import vdrive as commands
from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.errors import CallTimeoutError, MissingNodesError, NotConnectedError
from ampgrid.formats import trie
from ampgrid.formats.ballot import Prepare
from ampgrid.formats.record import EMPTY_ROOT, Record, ReplicaId
from ampgrid.ports import Patience
from ampgrid.register import acceptor
from ampgrid.testing.clock import HeapClock
from ampgrid.vdrive.nodes import NodeCache
from ampgrid.vdrive.remembered import MemoryRemembered, Remembered
from ampgrid.vdrive.replica import Replica, packs
from ampgrid.vdrive.table import Tables
from ampgrid.wire import InlineThreads
from ampgrid.wire.loopback import LoopbackConnection

Changes = Mapping[bytes, bytes | None]


@attrs.define(eq=False)
class Kept:
    """What a replica keeps of one directory.

    Attributes:
        state: of the acceptor.
        nodes: {hash: node}, old ones too.
        history: every record that was accepted, in order.
        pointer: to a snapshot, packed.
        leases: node ids of who has one.
    """

    state: acceptor.AcceptorState[Record, Prepare] = attrs.field(
        factory=acceptor.AcceptorState[Record, Prepare]
    )
    nodes: dict[bytes, bytes] = attrs.field(factory=dict)
    history: list[Record] = attrs.field(factory=list)
    pointer: bytes | None = None
    leases: set[bytes] = attrs.field(factory=set)


class MemoryReplica(amp.CommandLocator):
    """A vdrive peer that keeps to the rules.

    Args:
        node_id: of the peer, 20 bytes.
        store_id: of its store, 16 bytes.
    """

    def __init__(self, node_id: bytes, store_id: bytes) -> None:
        super().__init__()
        self.node_id = node_id
        self.store_id = store_id
        self.kept: dict[bytes, Kept] = {}
        #: How often each Command was called.
        self.calls: dict[str, int] = {}

    @property
    def me(self) -> ReplicaId:
        """Its name in replica sets."""
        return ReplicaId(self.node_id, self.store_id)

    def locateResponder(self, name: bytes) -> Any:  # noqa: N802
        """Count, and find who answers."""
        text = name.decode()
        self.calls[text] = self.calls.get(text, 0) + 1
        return super().locateResponder(name)

    def of(self, index: bytes) -> Kept:
        """Return what is kept of a directory.

        Raises:
            NoSuchDirectoryError: nothing is.
        """
        if index not in self.kept:
            raise e.NoSuchDirectoryError("nothing of this directory is kept here")
        return self.kept[index]

    # What is shown.

    def shown(self, kept: Kept, nodes: Sequence[bytes] = ()) -> dict[str, Any]:
        """Return the answer that shows what is kept."""
        state = kept.state
        return {
            "held": None if state.accepted is None else state.accepted.pack(),
            "prepared": None if state.prepare is None else state.prepare.pack(),
            "nodes": packs(nodes)[0] if nodes else [],
        }

    def root_of(self, kept: Kept, root: bytes | None = None) -> bytes:
        """Return the root that is meant."""
        if root is not None:
            return root
        return EMPTY_ROOT if kept.state.accepted is None else kept.state.accepted.root

    def ways(self, kept: Kept, slots: Sequence[bytes], root: bytes | None) -> list[bytes]:
        """Return the nodes on the way to slots."""
        try:
            found = [
                node
                for slot in slots
                for node in trie.path(self.root_of(kept, root), slot, kept.nodes.get)
            ]
        except MissingNodesError as error:
            raise e.SnapshotGoneWireError("gone") from error
        return list(dict.fromkeys(found))

    @commands.GetReplica.responder
    def get_replica(self) -> dict[str, Any]:
        """Tell the id of the store."""
        return {"store": self.store_id}

    @commands.GetRecord.responder
    def get_record(self, index: bytes, slots: Sequence[bytes] | None = None) -> dict[str, Any]:
        """Tell the record that is accepted."""
        kept = self.of(index)
        return self.shown(kept, self.ways(kept, slots or (), None))

    @commands.GetChild.responder
    def get_child(self, index: bytes, slot: bytes, root: bytes | None = None) -> dict[str, Any]:
        """Tell what proves one slot."""
        kept = self.of(index)
        return self.shown(kept, self.ways(kept, [slot], root))

    @commands.ListChildren.responder
    def list_children(
        self, index: bytes, root: bytes | None = None, after: bytes | None = None
    ) -> dict[str, Any]:
        """Tell a page of nodes."""
        kept = self.of(index)
        nodes: list[bytes] = []
        size = 0
        try:
            for _digest, node in trie.preorder(self.root_of(kept, root), kept.nodes.get, after):
                size += len(node) + 2
                if size > commands.MAX_NODES_BYTES:
                    break
                nodes.append(node)
        except MissingNodesError as error:
            raise e.SnapshotGoneWireError("gone") from error
        return self.shown(kept, nodes)

    @commands.GetNodes.responder
    def get_nodes(self, index: bytes, hashes: Sequence[bytes]) -> dict[str, Any]:
        """Tell nodes."""
        kept = self.of(index)
        found: list[bytes] = []
        for digest in hashes:
            if digest not in kept.nodes:
                break
            found.append(kept.nodes[digest])
        if not found:
            raise e.SnapshotGoneWireError("gone")
        return {"nodes": packs(found)[0]}

    # What is voted.

    @commands.Prepare.responder
    def prepare(
        self, index: bytes, prepare: bytes, slots: Sequence[bytes] | None = None
    ) -> dict[str, Any]:
        """Promise."""
        asked = Prepare.unpack(prepare)
        asked.check(index)
        kept = self.kept.setdefault(index, Kept())
        kept.state, answer = acceptor.prepare(kept.state, asked)
        if isinstance(answer, acceptor.PromiseMade):
            nodes = self.ways(kept, slots or (), None)
            return {"verdict": commands.DONE, **self.shown(kept, nodes)}
        return {"verdict": commands.REFUSED, **self.shown(kept)}

    def judge(
        self, index: bytes, record: bytes, following: bytes | None, changes: Changes | None
    ) -> dict[str, Any]:
        """Accept a record, or not."""
        asked = Record.unpack(record)
        asked.check(index)
        next_one = None if following is None else Prepare.unpack(following)
        if next_one is not None:
            next_one.check(index)
        kept = self.kept.get(index, Kept())
        state, answer = acceptor.accept(kept.state, asked, self.me, next_one)
        shown = {key: value for key, value in self.shown(kept).items() if key != "nodes"}
        if isinstance(answer, acceptor.NotMine):
            return {"verdict": commands.STRANGER, **shown}
        if isinstance(answer, acceptor.Conflict):
            return {"verdict": commands.CONFLICT, **shown}
        if isinstance(answer, acceptor.RefusedBy):
            return {"verdict": commands.REFUSED, **shown}
        try:
            added = self.added(kept, asked.root, changes)
        except MissingNodesError as error:
            missing = list(error.hashes[: commands.MAX_NODES])
            return {"verdict": commands.MISSING, **shown, "missing": missing}
        self.kept[index] = kept
        kept.nodes.update(added)
        kept.state = state
        if not kept.history or kept.history[-1] != asked:
            kept.history.append(asked)
        return {"verdict": commands.DONE, "next_promised": answer.next_promised}

    def added(self, kept: Kept, root: bytes, changes: Changes | None) -> dict[bytes, bytes]:
        """Return nodes of a new root, checked."""
        live = self.root_of(kept)
        read = kept.nodes.get
        if root == live:
            return {}
        if changes is not None:
            change = trie.apply(live, changes, read)
            if change.root == root:
                return change.added
        return trie.diff(live, root, read, read).added

    @commands.CreateDirectory.responder
    def create_directory(
        self,
        index: bytes,
        record: bytes,
        next: bytes | None = None,  # noqa: A002
    ) -> dict[str, Any]:
        """Accept the first record."""
        return self.judge(index, record, next, None)

    @commands.Accept.responder
    def accept(
        self,
        index: bytes,
        record: bytes,
        next: bytes | None = None,  # noqa: A002
    ) -> dict[str, Any]:
        """Accept a record whose nodes are here."""
        return self.judge(index, record, next, None)

    @commands.SetChild.responder
    def set_child(
        self,
        index: bytes,
        record: bytes,
        slot: bytes,
        entry: bytes,
        next: bytes | None = None,  # noqa: A002
    ) -> dict[str, Any]:
        """Accept a record that sets an entry."""
        return self.judge(index, record, next, {slot: entry})

    @commands.DeleteChild.responder
    def delete_child(
        self,
        index: bytes,
        record: bytes,
        slot: bytes,
        next: bytes | None = None,  # noqa: A002
    ) -> dict[str, Any]:
        """Accept a record that takes an entry out."""
        return self.judge(index, record, next, {slot: None})

    @commands.SetChildren.responder
    def set_children(
        self,
        index: bytes,
        record: bytes,
        slots: Sequence[bytes],
        entries: Sequence[bytes],
        next: bytes | None = None,  # noqa: A002
    ) -> dict[str, Any]:
        """Accept a record that changes several entries."""
        changes = {slot: entry or None for slot, entry in zip(slots, entries, strict=True)}
        return self.judge(index, record, next, changes)

    @commands.StageNodes.responder
    def stage_nodes(
        self, index: bytes, nodes: Sequence[bytes], record: bytes | None = None
    ) -> dict[str, Any]:
        """Keep nodes for a record to come."""
        kept = self.kept.setdefault(index, Kept()) if record is not None else self.of(index)
        kept.nodes.update({trie.node_hash(node): node for node in nodes})
        return {}

    # Leases and snapshots.

    @commands.RenewDirectory.responder
    def renew_directory(self, index: bytes) -> dict[str, Any]:
        """Note that there is a lease."""
        self.of(index).leases.add(b"")
        return {}

    @commands.CancelDirectory.responder
    def cancel_directory(self, index: bytes) -> dict[str, Any]:
        """Drop the lease."""
        leases = self.of(index).leases
        if not leases:
            raise e.NoSuchLeaseError("there is no lease of yours here")
        leases.clear()
        return {}

    @commands.PutSnapshot.responder
    def put_snapshot(self, index: bytes, pointer: bytes) -> dict[str, Any]:
        """Keep a pointer."""
        self.kept.setdefault(index, Kept()).pointer = pointer
        return {}

    @commands.GetSnapshot.responder
    def get_snapshot(self, index: bytes) -> dict[str, Any]:
        """Tell the pointer."""
        pointer = self.of(index).pointer
        if pointer is None:
            raise e.NoSuchDirectoryError("there is no snapshot")
        return {"pointer": pointer}


@attrs.define
class Weather:
    """How the connections of a client behave.

    Attributes:
        least, most: seconds that a box is on its way.
        lost: chance of a box to be lost, with all that its call would have brought.
    """

    least: float = 0.001
    most: float = 0.001
    lost: float = 0.0


class WeatherConnection:
    """A connection to a replica in memory, through the weather; boxes keep their order.

    Args:
        clock: moves the boxes.
        chance: decides.
        weather: how it is; may change.
        replica: who answers; may be replaced.
    """

    def __init__(
        self, clock: HeapClock, chance: random.Random, weather: Weather, replica: MemoryReplica
    ) -> None:
        self.peer_id = replica.node_id
        self.connected = True
        self.frozen = False
        self._clock = clock
        self._chance = chance
        self._weather = weather
        self._inner = LoopbackConnection(replica.node_id)
        self._inner.serve(replica)
        self._there = self._back = 0.0
        self._calls: list[Deferred[Any]] = []
        #: Boxes and bytes, there and back.
        self.boxes = 0
        self.bytes = 0

    async def call(
        self,
        command: type[amp.Command],
        /,
        *,
        operation: object = None,
        deadline: float | Patience | None = 60.0,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Call the replica (see `ampgrid.ports.Connection`)."""
        if not self.connected:
            raise NotConnectedError("the connection is gone")
        result: Deferred[dict[str, Any]] = Deferred()
        self._calls.append(result)
        self.boxes += 1
        self.bytes += sum(map(len, command.makeArguments(arguments, None).values()))
        seconds = deadline.seconds if isinstance(deadline, Patience) else deadline
        timer = None
        if seconds is not None:
            late = CallTimeoutError("no answer in time")
            timer = self._clock.callLater(seconds, self._end, result, None, late)
        if not self._is_lost():
            self._there = self._when(self._there)
            self._clock.callLater(
                self._there - self._clock.seconds(), self._arrive, command, arguments, result
            )
        try:
            return await result
        finally:
            if timer is not None and timer.active():
                timer.cancel()

    def _is_lost(self) -> bool:
        return self.frozen or self._chance.random() < self._weather.lost

    def _when(self, last: float) -> float:
        weather = self._weather
        delay = self._chance.uniform(weather.least, weather.most)
        return max(last, self._clock.seconds() + delay)

    def _arrive(
        self, command: type[amp.Command], arguments: dict[str, Any], result: Deferred[Any]
    ) -> None:
        if not self.connected or self.frozen:
            return
        answering = Deferred.fromCoroutine(self._inner.call(command, deadline=None, **arguments))
        answering.addCallbacks(
            lambda answer: self._answer(result, answer, None),
            lambda failure: self._answer(result, None, failure.value),
        )

    def _answer(self, result: Deferred[Any], answer: Any, error: BaseException | None) -> None:
        if self._is_lost():
            return
        self.bytes += 0 if answer is None else _size(answer)
        self._back = self._when(self._back)
        self._clock.callLater(self._back - self._clock.seconds(), self._end, result, answer, error)

    def _end(self, result: Deferred[Any], answer: Any, error: Any) -> None:
        if result in self._calls:
            self._calls.remove(result)
            if error is not None:
                result.errback(error)
            else:
                result.callback(answer)

    def cut(self) -> None:
        """Let the connection be lost."""
        self.connected = False
        calls, self._calls = self._calls, []
        for result in calls:
            result.errback(NotConnectedError("the connection was lost"))

    def when_lost(self, function: Callable[[], None]) -> None:
        """Do nothing: nobody here asks."""

    def abort(self, reason: str) -> None:  # noqa: ARG002
        """End."""
        self.cut()


def _size(answer: Mapping[str, Any]) -> int:
    size = 0
    for value in answer.values():
        if isinstance(value, bytes):
            size += len(value)
        elif isinstance(value, (list, tuple)):
            size += sum(len(item) + 2 for item in value)
    return size


class ReplicaWorld:
    """Replicas and clients in memory, under one clock.

    Args:
        replicas: number of vdrive peers.
        seed: of all chance.
        make: {number of a peer: class of its replica}; the others are honest.

    Attributes:
        clock: moves everything.
        weather: of all connections.
        replicas: who answers, by number.
    """

    def __init__(
        self,
        replicas: int = 4,
        seed: int = 1,
        make: Mapping[int, Callable[[bytes, bytes], MemoryReplica]] | None = None,
    ) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - the point is to be repeatable
        self.clock = HeapClock()
        self.weather = Weather()
        classes = make or {}
        self.replicas: list[MemoryReplica] = []
        for number in range(replicas):
            ids = self.chance.randbytes(20), self.chance.randbytes(16)
            self.replicas.append(classes.get(number, MemoryReplica)(*ids))
        self.down: set[bytes] = set()
        self.clients: list[Client] = []

    def client(self, **settings: Any) -> Client:
        """Return another client; the settings are those of `Client`."""
        client = Client(self, **settings)
        self.clients.append(client)
        return client

    def keys(self) -> WriteKeys:
        """Return keys of a new directory."""
        return WriteKeys(self.chance.randbytes(16))

    def kill(self, number: int) -> None:
        """Take a peer down: its connections are lost."""
        node_id = self.replicas[number].node_id
        self.down.add(node_id)
        for client in self.clients:
            client.lose(node_id)

    def revive(self, number: int) -> None:
        """Bring a peer back with what it had."""
        self.down.discard(self.replicas[number].node_id)

    def wipe(self, number: int) -> None:
        """Let a peer lose its disk: it comes back with another store, and nothing in it."""
        self.kill(number)
        old = self.replicas[number]
        self.replicas[number] = MemoryReplica(old.node_id, self.chance.randbytes(16))
        self.revive(number)

    def freeze(self, number: int, *, frozen: bool = True) -> None:
        """Let a peer keep its connections and never send another byte, or go on."""
        for client in self.clients:
            connection = client.connections.get(self.replicas[number].node_id)
            if connection is not None:
                connection.frozen = frozen

    def run(self, work: Any, within: float = 3_600.0) -> Any:
        """Move time on until ``work`` is done and return its result."""
        return self.clock.run(work, within)


class Client:
    """A node that uses directories.

    Args:
        world: it is in.
        remembered: what it remembers; nothing at first.
        wanted_replicas: of new directories.

    Attributes:
        tables: what it works with.
        connections: by node id.
    """

    def __init__(
        self,
        world: ReplicaWorld,
        remembered: Remembered | None = None,
        wanted_replicas: int = 4,
        cache: NodeCache | None = None,
    ) -> None:
        self.world = world
        self.connections: dict[bytes, WeatherConnection] = {}
        self._peers: dict[bytes, Replica] = {}
        self.remembered = remembered or MemoryRemembered()
        #: Peers that this client does not reach, by node id.
        self.cut_off: set[bytes] = set()
        self.tables = Tables(
            self.peers,
            clock=world.clock,
            wall=world.clock.seconds,
            entropy=world.chance.randbytes,
            uniform=world.chance.uniform,
            threads=InlineThreads(),
            remembered=self.remembered,
            cache=cache or NodeCache(),
            wanted_replicas=wanted_replicas,
        )

    def peers(self) -> dict[bytes, Replica]:
        """Return the connected peers."""
        world = self.world
        for replica in world.replicas:
            node_id = replica.node_id
            if node_id in world.down or node_id in self.cut_off or node_id in self._peers:
                continue
            connection = WeatherConnection(world.clock, world.chance, world.weather, replica)
            self.connections[node_id] = connection
            self._peers[node_id] = Replica(connection, world.clock)
        return dict(self._peers)

    def lose(self, node_id: bytes) -> None:
        """Lose the connection to a peer."""
        self._peers.pop(node_id, None)
        connection = self.connections.pop(node_id, None)
        if connection is not None:
            connection.cut()

    def part(self, numbers: Sequence[int]) -> None:
        """Reach these peers no more."""
        for number in numbers:
            node_id = self.world.replicas[number].node_id
            self.cut_off.add(node_id)
            self.lose(node_id)
