"""What the parts of one replicated table share: the peers, time, chance, and what went wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ampgrid.commands import errors as e
from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.crypto.identity import node_id_text
from ampgrid.errors import AmpgridError, IntegrityError, PeerError
from ampgrid.formats.record import Record, ReplicaId
from ampgrid.ports import Clock, Entropy, Threads, WallClock
from ampgrid.register import words
from ampgrid.vdrive.nodes import Desk, Fetch, NodeCache
from ampgrid.vdrive.patience import Patience
from ampgrid.vdrive.remembered import Remembered
from ampgrid.vdrive.replica import Replica

T = TypeVar("T")

_log = Logger()

#: The most lines about replicas that a table keeps.
_MOST_TROUBLES = 50


@attrs.frozen
class Means:
    """What every table of a node works with.

    Attributes:
        replicas: returns the connected vdrive peers, {node id: replica}.
        clock: time and timers.
        wall: seconds since 1970.
        entropy: random bytes.
        uniform: a random number between two.
        threads: where long work happens.
        remembered: the floor below which no replica is believed.
        cache: nodes of all tables.
        wanted_replicas: how many a new directory gets.
        patience: which replicas are left aside for what they did wrong.
    """

    replicas: Callable[[], Mapping[bytes, Replica]]
    clock: Clock
    wall: WallClock
    entropy: Entropy
    uniform: Callable[[float, float], float]
    threads: Threads
    remembered: Remembered
    cache: NodeCache
    wanted_replicas: int = 4
    patience: Patience = attrs.field(
        default=attrs.Factory(lambda self: Patience(self.clock), takes_self=True), init=False
    )


class Troubles:
    """What replicas of a directory did wrong: the last of it, and a count of each."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_MOST_TROUBLES)
        self._by_node: dict[bytes, str] = {}

    def note(self, node_id: bytes, what: str) -> None:
        """Keep one line about a peer, and log it unless it says the same as the last."""
        if self._by_node.get(node_id) != what:
            _log.warn("{what}", what=what)
            self._lines.append(what)
        self._by_node[node_id] = what
        while len(self._by_node) > _MOST_TROUBLES:
            self._by_node.pop(next(iter(self._by_node)))

    def over(self, node_id: bytes, what: str) -> None:
        """Forget a line about a peer, since it is no longer so."""
        if self._by_node.get(node_id) == what:
            del self._by_node[node_id]
            self._lines = deque((line for line in self._lines if line != what), _MOST_TROUBLES)

    def of(self, node_id: bytes) -> str:
        """Return the last line about a peer, empty if there is none."""
        return self._by_node.get(node_id, "")

    @property
    def lines(self) -> tuple[str, ...]:
        """The last lines, oldest first."""
        return tuple(self._lines)


def _unforeseen(failure: Failure) -> None:
    _log.failure("a piece of work on a directory failed", failure)


class Ground:
    """What the parts of one table share.

    Args:
        means: what every table works with.
        index: of the directory, 32 bytes.
        keys: that sign its records, None for a table that is only read.

    Attributes:
        troubles: what its replicas did wrong.
        seen: the highest record that each replica was seen to hold.
    """

    def __init__(self, means: Means, index: bytes, keys: WriteKeys | None) -> None:
        self.means = means
        self.clock = means.clock
        self.index = index
        self.keys = keys
        self.troubles = Troubles()
        self.seen: dict[ReplicaId, Record] = {}

    # Peers.

    def may_reach(self, record: Record) -> bool:
        """Tell whether enough replicas of a record are connected to read or to change it."""
        peers = self.means.replicas()
        there = [one for one in in_turn(words.members(record)) if one.node_id in peers]
        return words.is_quorum(words.sets_of(record), there)

    async def sit(self, replica_id: ReplicaId) -> Replica | None:
        """Return the connected peer that is this replica; None if there is none.

        A peer whose store is another one is a stranger: it lost its disk.

        Raises:
            PeerError: it is connected and does not say which store it has.
        """
        replica = self.means.replicas().get(replica_id.node_id)
        if replica is None:
            return None
        lost = f"vdrive peer {replica.name} has lost the store with its replica of a directory"
        if await replica.id() != replica_id:
            self.troubles.note(replica.node_id, lost)
            return None
        # With its new store it may have become a replica again.
        self.troubles.over(replica.node_id, lost)
        return replica

    def connected(self, replica_ids: Iterable[ReplicaId]) -> list[Replica]:
        """Return those of some replicas whose peers are connected and are no strangers."""
        peers = self.means.replicas()
        found = []
        for replica_id in replica_ids:
            replica = peers.get(replica_id.node_id)
            if replica is not None and replica.known_id in {None, replica_id}:
                found.append(replica)
        return found

    def blame(self, replica: Replica, error: Exception) -> None:
        """Note what a replica did wrong; that it did not answer is nothing wrong."""
        if isinstance(error, IntegrityError):
            self.troubles.note(replica.node_id, str(error))

    def saw(self, replica_id: ReplicaId, held: Record | None, since: Record | None = None) -> bool:
        """Note what a replica holds.

        Args:
            replica_id: which.
            held: what it shows.
            since: what `seen` had of it when it was asked; None where that does not matter.

        Returns:
            Whether that can be: False if it had held a higher record before, so that it lies,
            or its disk was set back.
        """
        before = self.seen.get(replica_id)
        if held is not None and (before is None or before.ballot < held.ballot):
            self.seen[replica_id] = held
        if since is None:
            return True
        return held is not None and held.ballot >= since.ballot

    async def asked(
        self, replica_id: ReplicaId, ask: Callable[[Replica], Awaitable[T]]
    ) -> T | AmpgridError:
        """Ask a replica something; return its answer, or why there is none.

        Who it is is asked at the same time, if that is not known yet.
        """
        replica = self.means.replicas().get(replica_id.node_id)
        if replica is None:
            return PeerError("the replica is not connected")
        sitting = Deferred.fromCoroutine(self._tried(self.sit(replica_id)))
        answer = await self._tried(ask(replica))
        seat = await sitting
        if isinstance(seat, AmpgridError):
            return seat
        if seat is None:
            return PeerError("the peer has another store than the replica had")
        if isinstance(answer, AmpgridError):
            self.blame(replica, answer)
        return answer

    @staticmethod
    async def _tried(work: Awaitable[T]) -> T | AmpgridError:
        try:
            return await work
        except AmpgridError as error:
            return error

    def blame_id(self, replica_id: ReplicaId, error: Exception) -> None:
        """Note what a replica did wrong; that it did not answer is nothing wrong."""
        if isinstance(error, IntegrityError):
            self.troubles.note(replica_id.node_id, str(error))

    def went_back(self, replica_id: ReplicaId) -> IntegrityError:
        """Note that a replica shows less than it had; returns that as an error."""
        error = IntegrityError(
            f"vdrive peer {self.name_of(replica_id)} shows an older version of a directory than it"
            " had accepted"
        )
        self.blame_id(replica_id, error)
        return error

    def refused_without_reason(self, replica_id: ReplicaId) -> None:
        """Note that what a replica showed with its refusal does not stand in the way."""
        what = "refuses a change of a directory for the sake of what does not stand in its way"
        name = self.name_of(replica_id)
        self.blame_id(replica_id, IntegrityError(f"vdrive peer {name} {what}"))

    @staticmethod
    def name_of(replica_id: ReplicaId) -> str:
        """Return the start of its node id, enough to tell peers apart in a message."""
        return node_id_text(replica_id.node_id)[:8]

    def preferred(self, peers: Sequence[Replica]) -> list[Replica]:
        """Return peers in the order in which they are asked for nodes: the quick ones first."""
        return sorted(peers, key=lambda peer: (bool(self.troubles.of(peer.node_id)), peer.pace))

    def unforeseen(self, failure: Failure) -> None:
        """Log the failure of a piece of work that nobody waits for."""
        _unforeseen(failure)

    # Nodes.

    def desk(self) -> Desk:
        """Return a place for the nodes of one piece of work."""
        return Desk(self.means.cache)

    def fetch(
        self,
        hashes: Iterable[bytes],
        holders: Iterable[ReplicaId],
        others: Iterable[ReplicaId] = (),
    ) -> Deferred[dict[bytes, bytes]]:
        """Return {hash: node}.

        Args:
            hashes: of nodes under one root.
            holders: replicas that showed a record of that root; asked first.
            others: replicas that may have the nodes too.

        Raises:
            SnapshotGoneError: some are on none of them any more.
            NotReachableError: none of them answers.
        """
        having = self.preferred(self.connected(holders))
        more = [peer for peer in self.connected(others) if peer not in having]
        sources = [*having, *self.preferred(more)]
        fetch = Fetch(self.index, sources, self.clock, self.blame, having)
        return Deferred.fromCoroutine(fetch.run(hashes))


#: As replicas compare, without gathering the parts anew at each comparison.
_BY_PARTS = attrgetter("node_id", "store_id")


def in_turn(replicas: Iterable[Any]) -> list[ReplicaId]:
    """Return replicas, which the machines know as any names, in an order that stays."""
    return sorted(replicas, key=_BY_PARTS)


def knows_nothing(error: object) -> bool:
    """Tell whether a replica answered that it keeps nothing of the directory."""
    return isinstance(error, e.NoSuchDirectoryError)
