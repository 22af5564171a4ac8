"""Snapshots of tables, and bringing back one that has lost too many of its replicas.

A snapshot is the record and every node under its root; entries are sealed as they are in the
replicas, so it can be kept as an ordinary file. Recovery takes the best signed record that is
found anywhere, says what may be lost, and makes it the first one of a later epoch.

A snapshot, integers big-endian::

    4    magic "AGT1"
    2    length of the record
         the record
         then each node in preorder: length (2), node

Source: ``docs/specs/directories.md``, ``docs/specs/register.md#membership``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import attrs
from twisted.internet.defer import Deferred

from ampgrid.caps import FileCap
from ampgrid.commands import vdrive as commands
from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.errors import (
    AmpgridError,
    FormatError,
    GridError,
    IntegrityError,
    MissingNodesError,
    NotReachableError,
)
from ampgrid.formats import trie
from ampgrid.formats.ballot import Prepare
from ampgrid.formats.pointer import Pointer
from ampgrid.formats.record import Record, ReplicaId
from ampgrid.immutable.several import each
from ampgrid.register import words
from ampgrid.vdrive.attempt import Ballots
from ampgrid.vdrive.lanes import Delivery
from ampgrid.vdrive.nodes import Desk, NodeCache, with_nodes
from ampgrid.vdrive.replica import Replica, Shown, Verdict
from ampgrid.vdrive.seeker import identify, in_order
from ampgrid.vdrive.table import Table

#: So many peers of the permuted order keep the pointer to a snapshot.
POINTER_PEERS = 10
#: The largest snapshot that is read, bytes.
MAX_SNAPSHOT_BYTES = 1 << 30

_MAGIC = b"AGT1"

ReadFile = Callable[[FileCap], Awaitable[bytes]]


@attrs.frozen
class Snapshot:
    """A table at one version.

    Attributes:
        record: signed.
        nodes: {hash: node} of its whole trie.
    """

    record: Record
    nodes: Mapping[bytes, bytes] = attrs.field(repr=False)

    def pack(self) -> bytes:
        """Return what `unpack` reads.

        Raises:
            MissingNodesError: a node lacks.
        """
        record = self.record.pack()
        parts = [_MAGIC, len(record).to_bytes(2, "big"), record]
        for _digest, node in trie.preorder(self.record.root, self.nodes.get):
            parts += (len(node).to_bytes(2, "big"), node)
        return b"".join(parts)

    @classmethod
    def unpack(cls, packed: bytes, index: bytes) -> Snapshot:
        """Read a snapshot from anywhere.

        Args:
            packed: all of it.
            index: of the directory of which it must be, 32 bytes.

        Raises:
            FormatError: it is malformed, or holds too little or too much.
            IntegrityError: its record is not signed with the directory's key.
        """
        if len(packed) > MAX_SNAPSHOT_BYTES or packed[:4] != _MAGIC:
            raise FormatError("This is no snapshot of a directory.")
        pieces = _pieces(packed)
        record = Record.unpack(next(pieces, b""))
        record.check(index)
        nodes = {trie.node_hash(node): node for node in pieces}
        count = seen = 0
        try:
            for _digest, _node in trie.preorder(record.root, nodes.get):
                seen += 1
            for _slot, _entry in trie.entries(record.root, nodes.get):
                count += 1
        except MissingNodesError:
            raise FormatError("The snapshot of the directory is not whole.") from None
        if seen != len(nodes) or count != record.count:
            raise FormatError("The snapshot holds what is not of the directory.")
        return cls(record, nodes)


def _pieces(packed: bytes) -> Iterator[bytes]:
    position = len(_MAGIC)
    while position < len(packed):
        start = position + 2
        end = start + int.from_bytes(packed[position:start], "big")
        if start > len(packed) or end > len(packed) or start == end:
            raise FormatError("The snapshot of the directory is cut short.")
        yield packed[start:end]
        position = end


async def make_snapshot(table: Table) -> Snapshot:
    """Collect the committed record of a table and all its nodes.

    Raises:
        AmpgridError: see `Table.record`.
        SnapshotGoneError: it changed, and its old nodes are gone; try again.
    """
    record, reading = await table.read(listing=True)
    return await _complete(table, record, reading.desk, [*reading.shown])


async def _complete(
    table: Table, record: Record, desk: Desk, holders: Sequence[ReplicaId]
) -> Snapshot:
    """Collect all nodes of a record.

    Raises:
        GridError: nobody hands some of them over.
    """
    nodes: dict[bytes, bytes] = {}

    def walk(read: trie.Read) -> None:
        lacking = trie.wanted(record.root, read)
        if lacking:
            raise MissingNodesError(tuple(lacking))
        nodes.update(trie.preorder(record.root, read))

    def fetch(hashes: Sequence[bytes]) -> Deferred[dict[bytes, bytes]]:
        return table.ground.fetch(hashes, (), [*holders, *record.replicas])

    await with_nodes(walk, desk, fetch)
    return Snapshot(record, nodes)


async def put_pointer(table: Table, pointer: Pointer) -> int:
    """Give the pointer to a snapshot to the first peers; return how many took it."""
    peers = in_order(table.ground)[:POINTER_PEERS]
    outcomes = await _of_all(peers, lambda peer: peer.put_snapshot(pointer))
    return sum(not isinstance(outcome, Exception) for outcome in outcomes)


async def _of_all(
    peers: Sequence[Replica], ask: Callable[[Replica], Awaitable[object]]
) -> list[object]:
    async def asking(peer: Replica) -> object:
        return await ask(peer)

    def start(peer: Replica) -> Callable[[], Deferred[object]]:
        return lambda: Deferred.fromCoroutine(asking(peer))

    outcomes = await each({number: start(peer) for number, peer in enumerate(peers)})
    for outcome in outcomes.values():
        if isinstance(outcome, Exception) and not isinstance(outcome, AmpgridError):
            raise outcome
    return list(outcomes.values())


@attrs.frozen
class Survey:
    """What is left of a table.

    Attributes:
        snapshot: the best version of which everything was found.
        holders: replicas that hold its record.
        from_file: whether it comes from the snapshot file.
        warnings: what may be lost, in sentences; empty if nothing can be.
        epoch: the highest that was met.
    """

    snapshot: Snapshot
    holders: tuple[ReplicaId, ...]
    from_file: bool
    warnings: tuple[str, ...]
    epoch: int


async def survey(table: Table, keys: WriteKeys, read_file: ReadFile | None = None) -> Survey:
    """Look for what is left of a table, at every connected peer and in its last snapshot.

    Args:
        table: to be brought back.
        keys: of it.
        read_file: returns the file of a cap, for the snapshot; None if there is no such.

    Raises:
        NotReachableError: nothing whole was found.
    """
    ground = table.ground
    peers = in_order(ground)
    ids = await identify(peers)
    shown: dict[ReplicaId, Record] = {}
    epochs = [0]
    for replica_id, answer in zip(
        ids,
        await _of_all(
            [ground.means.replicas()[one.node_id] for one in ids],
            lambda peer: peer.record(table.index),
        ),
        strict=True,
    ):
        if isinstance(answer, Shown):
            if answer.held is not None:
                shown[replica_id] = answer.held
                epochs.append(answer.held.ballot.epoch)
            if answer.prepared is not None:
                epochs.append(answer.prepared.ballot.epoch)
    known = ground.means.remembered.get(table.index)
    if known is not None:
        epochs.append(known.ballot.epoch)
    filed, problem = await _from_file(table, keys, peers, read_file)
    found = await _best(table, shown, filed)
    if found is None:
        raise NotReachableError(
            f"not reachable: no whole version of the directory was found at {len(ids)} peers"
            + (f"; {problem}" if problem else ""),
        )
    record = found.record
    holders = tuple(sorted(one for one, held in shown.items() if held.content == record.content))
    warnings = _warnings(record, holders, shown, known)
    if problem:
        warnings = (*warnings, problem)
    from_file = filed is not None and found is filed
    return Survey(found, holders, from_file, warnings, max(epochs))


async def _best(
    table: Table, shown: Mapping[ReplicaId, Record], filed: Snapshot | None
) -> Snapshot | None:
    """Return the highest version of which everything is there."""
    records = {record.content: record for record in shown.values()}
    if filed is not None:
        records.setdefault(filed.record.content, filed.record)
    for record in sorted(records.values(), key=lambda record: record.ballot, reverse=True):
        if filed is not None and filed.record.content == record.content:
            return filed
        desk = Desk(NodeCache(0))
        if filed is not None:
            desk.add(filed.nodes)
        holders = [one for one, held in shown.items() if held.root == record.root]
        try:
            return await _complete(table, record, desk, holders)
        except (GridError, FormatError, IntegrityError):
            continue
    return None


async def _from_file(
    table: Table, keys: WriteKeys, peers: Sequence[Replica], read_file: ReadFile | None
) -> tuple[Snapshot | None, str]:
    """Return the last snapshot that can be read, and why a later one cannot."""
    if read_file is None:
        return None, ""
    answers = await _of_all(peers[:POINTER_PEERS], lambda peer: peer.get_snapshot(table.index))
    pointers = {answer for answer in answers if isinstance(answer, Pointer)}
    problem = ""
    for pointer in sorted(pointers, key=lambda pointer: pointer.order, reverse=True):
        try:
            packed = await read_file(pointer.open(keys.read))
            return Snapshot.unpack(packed, table.index), problem
        except AmpgridError as error:
            problem = f"the snapshot of version {pointer.version} could not be read: {error}"
    return None, problem


def _warnings(
    record: Record,
    holders: Sequence[ReplicaId],
    shown: Mapping[ReplicaId, Record],
    known: Record | None,
) -> tuple[str, ...]:
    found = []
    members = words.members(record)
    if not words.is_quorum(words.sets_of(record), holders):
        silent = len(members) - len([one for one in members if one in shown])
        found.append(
            f"Version {record.version} was found at {len(holders)} of {len(members)} replicas;"
            f" {silent} did not answer, and changes that only they know will be lost."
        )
    higher = [held for held in shown.values() if held.ballot > record.ballot]
    if higher:
        latest = max(higher, key=lambda held: held.ballot)
        found.append(f"Version {latest.version} was met, but not all of it: it will be lost.")
    if known is not None and known.ballot > record.ballot:
        found.append(
            f"Version {known.version} was seen from here before; what came between it and"
            f" version {record.version} will be lost."
        )
    return tuple(found)


async def recover(table: Table, keys: WriteKeys, found: Survey) -> Record:
    """Make what was found the first record of a later epoch, over peers that are there.

    Args:
        table: to be brought back.
        keys: of it.
        found: what `survey` returned; the user has seen its warnings.

    Raises:
        NotReachableError: too few peers took it.
    """
    ground = table.ground
    wanted = ground.means.wanted_replicas
    there = await identify(in_order(ground))
    replicas = [one for one in there if one in found.holders]
    replicas += [one for one in there if one not in replicas]
    replicas = replicas[: max(wanted, 1)]
    if not replicas:
        raise NotReachableError("not reachable: no peer that keeps directories is connected")
    base = found.snapshot.record
    ballots = Ballots(ground.means.entropy(8))
    ballot = ballots.above(base.ballot, epoch=found.epoch + 1)
    record = base.new_epoch(keys, ballot, tuple(sorted(replicas)), recovered=True)
    promised = await _promised(table, replicas, Prepare.make(keys, ballot))
    desk = Desk(NodeCache(0), most_cached=0)
    desk.add(found.snapshot.nodes)
    delivery = Delivery(record, desk)

    def start(replica_id: ReplicaId) -> Callable[[], Deferred[Verdict]]:
        return lambda: table.lane(replica_id).send(delivery)

    outcomes = await each({number: start(one) for number, one in enumerate(promised)})
    taken = sum(_is_done(outcome) for outcome in outcomes.values())
    if taken < record.quorum:
        raise NotReachableError(
            f"not reachable: {taken} of {len(replicas)} peers took the recovered directory",
            found=taken,
            wanted=len(replicas),
        )
    return table.remember(record)


async def _promised(
    table: Table, replicas: Sequence[ReplicaId], prepare: Prepare
) -> list[ReplicaId]:
    """Return those that promise the new epoch, so that no two recoveries both succeed."""
    peers = table.ground.means.replicas()
    answers = await _of_all(
        [peers[one.node_id] for one in replicas],
        lambda peer: peer.prepare(table.index, prepare),
    )
    return [one for one, answer in zip(replicas, answers, strict=True) if _is_done(answer)]


def _is_done(answer: object) -> bool:
    return isinstance(answer, Verdict) and answer.word == commands.DONE
