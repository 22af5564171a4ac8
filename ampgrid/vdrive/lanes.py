"""Bringing records to replicas: in order, a few at a time, with the nodes that lack.

Each replica has a lane. What goes along at full pace is sent without waiting for earlier answers;
a replica that falls behind holds nobody up: of what waits for it only the newest record is kept,
and that one is brought with all nodes that it lacks.

One that says it lacks what it cannot lack is left aside (`ampgrid.vdrive.patience`): it is sent
each change in one box, and nothing else, until its time is over or a repair brings it up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs
from twisted.internet.defer import Deferred

from ampgrid.commands import vdrive as commands
from ampgrid.errors import GridError, IntegrityError, PeerError, SnapshotGoneError
from ampgrid.formats.record import Record, ReplicaId
from ampgrid.formats.trienode import parse_node
from ampgrid.immutable.several import each
from ampgrid.vdrive.ground import Ground
from ampgrid.vdrive.nodes import Desk
from ampgrid.vdrive.patience import Patience
from ampgrid.vdrive.replica import Replica, Verdict, packs

#: Records on their way to one replica at once.
MOST_FLYING = 16
#: Boxes of nodes on their way to one replica at once.
_BOXES_AT_ONCE = 4
#: Nodes that are read and sent at once to a replica that has none.
_ALL_AT_ONCE = 256
#: A change of more entries, or bytes of entries, goes by its nodes.
MOST_CHANGES = commands.MAX_CHANGES
MOST_CHANGE_BYTES = 48 * 1024
#: The most times that a replica may ask for nodes of one record.
_MOST_ROUNDS = 2_000


class PassedOverError(PeerError):
    """A replica was so far behind that a later record was sent to it instead."""


@attrs.frozen(eq=False)
class Delivery:
    """A record to be brought to replicas.

    Attributes:
        record: the record.
        desk: where nodes of it may be.
        changes: {slot: sealed entry or None} by which it differs from its base; None if that
            is not known, or too much for one box.
        added: hashes of the nodes that its base lacks, which go ahead; empty if not known.
        repairs: whether replicas that were left aside are brought up to date too.
        fetch: given hashes and whether they are certainly of this record's trie, returns
            {hash: node}.
    """

    record: Record
    desk: Desk
    changes: Mapping[bytes, bytes | None] | None = None
    added: Sequence[bytes] = ()
    repairs: bool = False
    fetch: Callable[[Sequence[bytes], bool], Deferred[dict[bytes, bytes]]] | None = None


def fits_one_box(changes: Mapping[bytes, bytes | None]) -> bool:
    """Tell whether a change can be sent as its entries."""
    size = sum(len(entry or b"") + 2 for entry in changes.values())
    return 0 < len(changes) <= MOST_CHANGES and size <= MOST_CHANGE_BYTES


class Lane:
    """What one table sends to one replica.

    Args:
        ground: of the table.
        replica_id: of the replica.
    """

    def __init__(self, ground: Ground, replica_id: ReplicaId) -> None:
        self._ground = ground
        self._id = replica_id
        self._flying = 0
        self._catching = False
        self._waiting: tuple[Delivery, Deferred[Verdict]] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way."""
        return not self._flying and not self._catching and self._waiting is None

    def send(self, delivery: Delivery) -> Deferred[Verdict]:
        """Bring a record to the replica; returns its verdict, never ``MISSING``.

        Raises:
            PeerError: it does not answer, or answered an error; or is a stranger to its store.
            PassedOverError: it is behind, and a later record was sent to it.
            IntegrityError: it broke the rules.
        """
        result: Deferred[Verdict] = Deferred()
        if self._catching or self._flying >= MOST_FLYING:
            self._wait(delivery, result)
        else:
            self._start(delivery, result)
        return result

    def _wait(self, delivery: Delivery, result: Deferred[Verdict]) -> None:
        before, self._waiting = self._waiting, (delivery, result)
        if before is not None:
            before[1].errback(PassedOverError("the replica is behind"))

    def _start(self, delivery: Delivery, result: Deferred[Verdict]) -> None:
        self._flying += 1
        Deferred.fromCoroutine(self._run(delivery, result)).addErrback(result.errback)

    async def _run(self, delivery: Delivery, result: Deferred[Verdict]) -> None:
        try:
            replica = await self._ground.sit(self._id)
            if replica is None:
                raise PeerError("the replica is not connected, or has lost its store")
            aside = not delivery.repairs and self._patience.is_lost(self._id)
            since = self._ground.seen.get(self._id)
            verdict = await self._first(replica, delivery, alone=aside)
        finally:
            self._flying -= 1
            self._next()
        if verdict.word != commands.MISSING:
            result.callback(verdict)
            return
        if aside:
            raise PeerError("the replica is left aside for what it did wrong")
        if not self._ground.saw(self._id, verdict.held, since):
            # It has accepted a record before, and says that it holds none, or an older one.
            self._patience.lose(self._id)
            raise self._ground.went_back(self._id)
        if self._catching:
            self._wait(delivery, result)
        else:
            await self._catch_up(replica, delivery, result)

    async def _catch_up(
        self, replica: Replica, delivery: Delivery, result: Deferred[Verdict]
    ) -> None:
        self._catching = True
        try:
            verdict = await bring(self._ground, replica, delivery)
        except IntegrityError:
            self._patience.lose(self._id)
            raise
        finally:
            self._catching = False
            self._next()
        result.callback(verdict)

    def _next(self) -> None:
        if self._waiting is not None and not self._catching and self._flying < MOST_FLYING:
            (delivery, result), self._waiting = self._waiting, None
            self._start(delivery, result)

    @property
    def _patience(self) -> Patience:
        return self._ground.means.patience

    async def _first(self, replica: Replica, delivery: Delivery, *, alone: bool) -> Verdict:
        """Send the record the short way; ``alone`` in one box in any case."""
        index, record = self._ground.index, delivery.record
        if record.version == 1:
            return await replica.create(index, record)
        if delivery.changes is not None:
            return await replica.change(index, record, delivery.changes)
        if delivery.added and not alone:
            known = [node for node in map(delivery.desk.read, delivery.added) if node is not None]
            await stage(self._ground, replica, record, known)
        return await replica.accept(index, record)


async def stage(ground: Ground, replica: Replica, record: Record, nodes: Sequence[bytes]) -> None:
    """Give a replica nodes for a record that follows, a few boxes at once.

    Raises:
        PeerError: it does not take them.
    """
    boxes = packs(nodes)
    proof = record.pack()
    for at in range(0, len(boxes), _BOXES_AT_ONCE):
        work = {
            number: lambda box=box: Deferred.fromCoroutine(replica.stage(ground.index, box, proof))
            for number, box in enumerate(boxes[at : at + _BOXES_AT_ONCE])
        }
        for outcome in (await each(work)).values():
            if isinstance(outcome, Exception):
                raise outcome


async def bring(ground: Ground, replica: Replica, delivery: Delivery) -> Verdict:
    """Bring a record to a replica with every node that it says it lacks.

    Returns:
        Its verdict, never ``MISSING``.

    Raises:
        PeerError: it does not answer, or answered an error.
        IntegrityError: it asks again for what it was given, or for what is not of the directory.
        SnapshotGoneError: nobody has the nodes that it asks for.
    """
    record, desk = delivery.record, delivery.desk
    given: set[bytes] = set()
    #: Hashes that are certainly of the trie: others the replica may have made up.
    known = {record.root}
    for _round in range(_MOST_ROUNDS):
        verdict = await replica.accept(ground.index, record)
        if verdict.word != commands.MISSING:
            return verdict
        asked = [digest for digest in dict.fromkeys(verdict.missing) if digest not in given]
        if not asked:
            break
        if verdict.held is None and asked == [record.root]:
            await _give_all(ground, replica, delivery)
            given.add(record.root)
            continue
        lacking = [digest for digest in asked if desk.read(digest) is None]
        if lacking:
            await _fetch(replica, delivery, lacking, certain=known.issuperset(lacking))
        nodes = [node for node in map(desk.read, asked) if node is not None]
        for node in nodes:
            parsed = parse_node(node)
            known.update(parsed.values() if isinstance(parsed, dict) else ())
        await stage(ground, replica, record, nodes)
        given.update(asked)
        for digest in lacking:
            # What was only passed on is not kept: it may be a large directory.
            desk.drop(digest)
    replica.accuse("asks again and again for nodes that it was given")
    raise AssertionError


async def _give_all(ground: Ground, replica: Replica, delivery: Delivery) -> None:
    """Give a replica that has nothing all nodes, depth first, so that few are held here."""
    desk = delivery.desk
    waiting = [delivery.record.root]
    while waiting:
        batch = waiting[-_ALL_AT_ONCE:]
        del waiting[-_ALL_AT_ONCE:]
        lacking = [digest for digest in batch if desk.read(digest) is None]
        if lacking:
            await _fetch(replica, delivery, lacking, certain=True)
        nodes = [node for node in map(desk.read, batch) if node is not None]
        await stage(ground, replica, delivery.record, nodes)
        for node in nodes:
            parsed = parse_node(node)
            if isinstance(parsed, dict):
                waiting += parsed.values()
        for digest in lacking:
            desk.drop(digest)


async def _fetch(
    replica: Replica, delivery: Delivery, hashes: Sequence[bytes], *, certain: bool
) -> None:
    """Fetch nodes that a replica says it lacks.

    Raises:
        GridError: those who have the record do not hand them over.
        IntegrityError: they say that there are no such nodes.
        PeerError: nobody answers who may have them.
    """
    if delivery.fetch is None:
        raise PeerError("the replica lacks nodes that nobody can give it")
    try:
        delivery.desk.add(await delivery.fetch(hashes, certain))
    except GridError as error:
        if certain:
            raise
        if isinstance(error, SnapshotGoneError):
            replica.accuse("asks for nodes that are not of the directory", error)
        raise PeerError("the replica asks for nodes that nobody hands over") from error
