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

import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from ampgrid.caps import FileCap
from ampgrid.commands import errors as e
from ampgrid.commands import vdrive as commands
from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.errors import (
    AmpgridError,
    FormatError,
    GridError,
    IntegrityError,
    MissingNodesError,
    NotReachableError,
    UncertainChangeError,
    UndecidedError,
)
from ampgrid.formats import trie
from ampgrid.formats.ballot import MAX_COUNTER, MAX_EPOCH, Ballot, Prepare
from ampgrid.formats.pointer import Pointer
from ampgrid.formats.record import Record, ReplicaId
from ampgrid.immutable.several import each
from ampgrid.register import recovery, words
from ampgrid.vdrive.ground import Ground, knows_nothing
from ampgrid.vdrive.lanes import Delivery
from ampgrid.vdrive.nodes import Desk, NodeCache, with_nodes
from ampgrid.vdrive.reading import stands_in_the_way
from ampgrid.vdrive.replica import Replica, Shown, Verdict
from ampgrid.vdrive.seeker import in_order
from ampgrid.vdrive.table import Table

#: So many peers of the permuted order keep the pointer to a snapshot.
POINTER_PEERS = 10
#: The largest snapshot that is read, bytes.
MAX_SNAPSHOT_BYTES = 1 << 30
#: How often a recovery goes above the promises that stand in its way.
_MOST_TRIES = 3

_MAGIC = b"AGT1"
#: What answers a prepare that is not promised; who does not answer at all may have promised it.
_UNWILLING = (Verdict, e.NoSpaceError, e.StoreFailedError)

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
        epoch: for the recovered record.
        latest: the highest ballot of a record that was met, whole or not.
        healthy: whether a quorum holds it, and nothing is against going on from there.
        members: every replica that any record names which was met.
        lost: replicas that have promised an epoch that is out of reach.
        went_back: replicas that show less than they did before.
    """

    snapshot: Snapshot
    holders: tuple[ReplicaId, ...]
    from_file: bool
    warnings: tuple[str, ...]
    epoch: int
    latest: Ballot
    healthy: bool
    members: words.Replicas
    lost: words.Replicas
    went_back: words.Replicas

    @property
    def mark(self) -> str:
        """What tells this survey from one that found something else, in hexadecimal digits."""
        record = self.snapshot.record
        parts = (record.content, record.ballot.pack(), self.latest.pack())
        return hashlib.sha256(b"".join(parts)).hexdigest()


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
    order = in_order(ground)
    peers = await _identified(order)
    shown: dict[ReplicaId, Record] = {}
    epochs = [0]
    promised: dict[ReplicaId, Ballot] = {}
    before = dict(ground.seen)
    went_back = set()
    answers = await _of_all([*peers.values()], lambda peer: peer.record(table.index))
    for replica_id, answer in zip(peers, answers, strict=True):
        held = answer.held if isinstance(answer, Shown) else None
        has_told = isinstance(answer, Shown) or knows_nothing(answer)
        if has_told and not ground.saw(replica_id, held, before.get(replica_id)):
            ground.went_back(replica_id)
            went_back.add(replica_id)
        if isinstance(answer, Shown):
            if answer.held is not None:
                shown[replica_id] = answer.held
                epochs.append(answer.held.ballot.epoch)
                promised[replica_id] = words.promise_in(answer.held)
            if answer.prepared is not None:
                promised[replica_id] = answer.prepared.ballot
    known = ground.means.remembered.get(table.index)
    forked = ground.means.remembered.fork(table.index) or ()
    epochs += [one.ballot.epoch for one in forked]
    if known is not None:
        epochs.append(known.ballot.epoch)
    epoch, lost = recovery.epoch_above(
        epochs, {one: ballot.epoch for one, ballot in promised.items()}
    )
    filed, problem = await _from_file(table, keys, order, read_file)
    found = await _best(table, shown, filed)
    if found is None:
        raise NotReachableError(
            f"not reachable: no whole version of the directory was found at {len(peers)} peers"
            + (f"; {problem}" if problem else ""),
        )
    record = found.record
    holders = _holders(record, shown)
    warnings = _warnings(record, holders, shown, known, [before[one] for one in went_back])
    if forked:
        versions = " and ".join(str(one.version) for one in forked)
        warnings += (f"Two signed versions contradict each other, {versions}: one is left.",)
    warnings += _ballot_warnings(record, promised, lost)
    is_held = words.is_quorum(words.sets_of(record), holders)
    healthy = is_held and not warnings
    if problem:
        warnings = (*warnings, problem)
    latest = max([record.ballot, *(held.ballot for held in shown.values())])
    from_file = filed is not None and found is filed
    members = frozenset().union(*map(words.members, (record, *shown.values())))
    return Survey(
        found,
        holders,
        from_file,
        warnings,
        epoch,
        latest,
        healthy,
        members,
        lost,
        frozenset(went_back),
    )


def _holders(record: Record, shown: Mapping[ReplicaId, Record]) -> tuple[ReplicaId, ...]:
    return tuple(sorted(one for one, held in shown.items() if held.content == record.content))


async def _identified(peers: Sequence[Replica]) -> dict[ReplicaId, Replica]:
    """Return those of some peers that answer, by their ids, in their order.

    They are kept here: one that leaves meanwhile fails when it is asked, and is not looked up.
    """
    answers = await _of_all(peers, lambda peer: peer.id())
    return {
        answer: peer
        for peer, answer in zip(peers, answers, strict=True)
        if isinstance(answer, ReplicaId)
    }


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
    hidden: Collection[Record],
) -> tuple[str, ...]:
    found = []
    members = words.members(record)
    if not words.is_quorum(words.sets_of(record), holders):
        silent = len(members) - len([one for one in members if one in shown])
        found.append(
            f"Version {record.version} was found at {len(holders)} of {len(members)} replicas;"
            f" {silent} did not answer, and changes that only they know will be lost."
        )
    higher = [held for held in (*shown.values(), *hidden) if held.ballot > record.ballot]
    if higher:
        latest = max(higher, key=lambda held: held.ballot)
        found.append(f"Version {latest.version} was met, but not all of it: it will be lost.")
    if known is not None and known.ballot > record.ballot:
        found.append(
            f"Version {known.version} was seen from here before; what came between it and"
            f" version {record.version} will be lost."
        )
    return tuple(found)


def _ballot_warnings(
    record: Record,
    promised: Mapping[ReplicaId, Ballot],
    lost: Collection[Any],
) -> tuple[str, ...]:
    """Tell if nobody can change a version any more, since the last ballots were taken."""
    most = MAX_COUNTER - recovery.MOST_LEAP
    ended = {one for one, ballot in promised.items() if ballot.counter > most}
    if words.is_quorum(words.sets_of(record), words.members(record) - ended.union(lost)):
        return ()
    warning = (
        f"Version {record.version} can not be changed any more: somebody with the write cap has"
        " taken the last ballots. Whoever has that cap can do it again."
    )
    return (warning,)


async def recover(table: Table, keys: WriteKeys, found: Survey) -> Record:
    """Make what was found the first record of a later epoch, over peers that are there.

    Before anything is sent, a quorum of the new set has to promise it. All others are asked too
    whom another recovery could choose, or a change of the old set need, so that they take nothing
    else, and show what they took. If any of them has promised a higher ballot to another, nothing
    is sent: of two who bring a directory back over the same peers at most one comes through.

    Args:
        table: to be brought back.
        keys: of it.
        found: what `survey` returned; the user has seen its warnings.

    Raises:
        NotReachableError: too few peers promised to take it; nothing was sent.
        UncertainChangeError: too few took it, of those that had promised.
        UndecidedError: the directory changed since the survey, or needs no recovery; or somebody
            else brings it back at the same time.
    """
    if found.healthy:
        raise _not_needed()
    ground = table.ground
    order = in_order(ground)
    peers = await _identified(order)
    worse = found.lost | found.went_back
    there = sorted(peers, key=lambda one: (one in worse, one not in found.holders))
    wanted = max(ground.means.wanted_replicas, 1)
    if not there:
        raise NotReachableError("not reachable: no peer that keeps directories is connected")
    first = {peer.node_id for peer in order[:POINTER_PEERS]}
    asked = {
        one: peers[one]
        for one in there
        if one in found.members or one in there[:wanted] or one.node_id in first
    }
    ballot, promised, unwilling = await _promised(table, keys, found, asked)
    # Who is silent keeps its place: another who brings it back may hear it, and must not choose
    # others. And who comes instead was asked, since the other asks those, too.
    replicas = sorted(asked, key=lambda one: one in unwilling)[:wanted]
    record = found.snapshot.record.new_epoch(keys, ballot, tuple(sorted(replicas)), recovered=True)
    willing = [one for one in replicas if one in promised]
    if not words.is_quorum(words.sets_of(record), willing):
        raise NotReachableError(
            f"not reachable: {len(willing)} of {len(replicas)} peers would take the recovered"
            " directory; nothing was sent, try again",
            found=len(willing),
            wanted=len(replicas),
        )
    desk = Desk(NodeCache(0), most_cached=0)
    desk.add(found.snapshot.nodes)
    # Whatever a peer did wrong before, it has promised now, and is to get everything.
    delivery = Delivery(record, desk, repairs=True)

    def start(replica_id: ReplicaId) -> Callable[[], Deferred[Verdict]]:
        return lambda: table.lane(replica_id).send(delivery)

    outcomes = await each({number: start(one) for number, one in enumerate(willing)})
    taken = sum(_is_done(outcome) for outcome in outcomes.values())
    if taken < record.quorum:
        raise UncertainChangeError(
            f"the directory may or may not be recovered: {taken} of {len(replicas)} peers took it;"
            " change nothing in it, and recover it again"
        )
    return table.remember(record)


async def _promised(
    table: Table,
    keys: WriteKeys,
    found: Survey,
    asked: Mapping[ReplicaId, Replica],
) -> tuple[Ballot, words.Replicas, words.Replicas]:
    """Return a ballot of a new epoch, those that promise it, and those that say they do not.

    Raises:
        UndecidedError: see `recover`.
    """
    name = table.ground.means.entropy(8)
    epoch = found.epoch
    for _try in range(_MOST_TRIES):
        if epoch > MAX_EPOCH:
            raise UndecidedError(
                "somebody with the write cap has taken the last epoch of the directory, and none"
                " can follow: copy what is in it into a new one"
            )
        # Counters begin anew, whatever somebody has made of those before.
        ballot = Ballot(epoch, 1, name)
        prepare = Prepare.make(keys, ballot)
        judged, unwilling = await _ask_for_promises(table, found, asked, prepare)
        if isinstance(judged, recovery.Go):
            return ballot, judged.promised, unwilling
        if isinstance(judged, recovery.Changed):
            raise UndecidedError("the directory changed since it was looked at: look again")
        if isinstance(judged, recovery.NotNeeded):
            raise _not_needed()
        epoch = judged.epoch + 1
    raise UndecidedError("somebody else brings the directory back now: wait, and look again")


async def _ask_for_promises(
    table: Table, found: Survey, asked: Mapping[ReplicaId, Replica], prepare: Prepare
) -> tuple[recovery.Judgement, words.Replicas]:
    answers = await _of_all([*asked.values()], lambda peer: peer.prepare(table.index, prepare))
    told = {
        replica_id: _told(table.ground, found, replica_id, answer, prepare.ballot)
        for replica_id, answer in zip(asked, answers, strict=True)
        if isinstance(answer, Verdict)
    }
    unwilling = frozenset(
        replica_id
        for replica_id, answer in zip(asked, answers, strict=True)
        if isinstance(answer, _UNWILLING) and not _is_done(answer)
    )
    judged = recovery.judge(
        found.snapshot.record, found.holders, found.latest, prepare.ballot.epoch, told
    )
    return judged, unwilling


def _told(
    ground: Ground, found: Survey, replica_id: ReplicaId, verdict: Verdict, ballot: Ballot
) -> recovery.Told[Record]:
    """Return what a replica's answer to the prepare of ``ballot`` is worth."""
    ground.saw(replica_id, verdict.held)
    # Who showed less than it had when it was looked for says now what it likes.
    held = None if replica_id in found.went_back else verdict.held
    if verdict.word != commands.REFUSED:
        return recovery.Told(_is_done(verdict), held)
    promised = None if verdict.prepared is None else verdict.prepared.ballot
    if not stands_in_the_way(promised, verdict.held, ballot):
        ground.refused_without_reason(replica_id)
        return recovery.Told(promised=False, held=held)
    bound = None if verdict.held is None else words.promise_in(verdict.held)
    above = words.higher(promised, bound)
    return recovery.Told(promised=False, held=held, above=None if above is None else above.epoch)


def _not_needed() -> UndecidedError:
    return UndecidedError(
        "the directory needs no recovery, enough replicas have its last version: repair it"
        " with check --repair"
    )


def _is_done(answer: object) -> bool:
    return isinstance(answer, Verdict) and answer.word == commands.DONE
