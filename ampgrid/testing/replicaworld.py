"""Clients and replicas of directories in memory, under one clock, behind bad connections.

Boxes are delayed and lost, connections are cut, peers are killed, stand still, lose their disks;
nothing happens until the clock is moved.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.protocols import amp

from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.errors import CallTimeoutError, NotConnectedError
from ampgrid.ports import Patience
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.replicas import MemoryReplica
from ampgrid.vdrive.nodes import NodeCache
from ampgrid.vdrive.remembered import MemoryRemembered, Remembered
from ampgrid.vdrive.replica import Replica
from ampgrid.vdrive.table import Tables
from ampgrid.wire import InlineThreads
from ampgrid.wire.loopback import LoopbackConnection


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
        operation: object = None,  # noqa: ARG002 - all boxes keep their order
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
        cache: of nodes; a new one if left out.

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
