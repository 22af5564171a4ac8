"""Looking for what is left of a table that has lost replicas, before it is brought back.

The best signed record is taken that is found anywhere, whole, and it is said what may be lost.

Source: ``docs/specs/directories.md``, ``docs/specs/register.md#membership``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import attrs

from ampgrid.caps import FileCap
from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.errors import AmpgridError, FormatError, GridError, IntegrityError, NotReachableError
from ampgrid.formats.ballot import MAX_COUNTER, Ballot
from ampgrid.formats.pointer import Pointer
from ampgrid.formats.record import Record, ReplicaId
from ampgrid.register import recovery, words
from ampgrid.vdrive.ground import knows_nothing
from ampgrid.vdrive.nodes import Desk, NodeCache
from ampgrid.vdrive.replica import Replica, Shown
from ampgrid.vdrive.seeker import ask_all, identify, in_order
from ampgrid.vdrive.snapshots import POINTER_PEERS, Snapshot, complete
from ampgrid.vdrive.table import Table

ReadFile = Callable[[FileCap], Awaitable[bytes]]


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
    order = in_order(table.ground)
    met = await _meet(table, order)
    known = table.ground.means.remembered.get(table.index)
    forked = table.ground.means.remembered.fork(table.index) or ()
    epochs = [one.ballot.epoch for one in (*met.shown.values(), *forked)]
    if known is not None:
        epochs.append(known.ballot.epoch)
    epoch, lost = recovery.epoch_above(
        [0, *epochs], {one: ballot.epoch for one, ballot in met.promised.items()}
    )
    filed, problem = await _from_file(table, keys, order, read_file)
    found = await _best(table, met.shown, filed)
    if found is None:
        raise NotReachableError(
            f"not reachable: no whole version of the directory was found at {met.peers} peers"
            + (f"; {problem}" if problem else ""),
        )
    record = found.record
    holders = _holders(record, met.shown)
    warnings = (
        *_warnings(record, holders, met.shown, known, [*met.went_back.values()]),
        *_fork_warnings(forked),
        *_ballot_warnings(record, met.promised, lost),
    )
    is_held = words.is_quorum(words.sets_of(record), holders)
    return Survey(
        found,
        holders,
        from_file=found is filed,
        warnings=(*warnings, problem) if problem else warnings,
        epoch=epoch,
        latest=max([record.ballot, *(held.ballot for held in met.shown.values())]),
        healthy=is_held and not warnings,
        members=frozenset().union(*map(words.members, (record, *met.shown.values()))),
        lost=lost,
        went_back=frozenset(met.went_back),
    )


@attrs.frozen
class _Met:
    """What the connected peers show of a table.

    Attributes:
        peers: how many of them answer.
        shown: their records.
        promised: their highest ballots.
        went_back: those that show less than they did before, and what they showed then.
    """

    peers: int
    shown: Mapping[ReplicaId, Record]
    promised: Mapping[ReplicaId, Ballot]
    went_back: Mapping[ReplicaId, Record]


async def _meet(table: Table, order: Sequence[Replica]) -> _Met:
    """Ask peers for what they keep of a table, and note whose memory went back."""
    ground = table.ground
    peers = await identify(order)
    shown: dict[ReplicaId, Record] = {}
    promised: dict[ReplicaId, Ballot] = {}
    before = dict(ground.seen)
    went_back: dict[ReplicaId, Record] = {}
    answers = await ask_all([*peers.values()], lambda peer: peer.record(table.index))
    for replica_id, answer in zip(peers, answers, strict=True):
        held = answer.held if isinstance(answer, Shown) else None
        has_told = isinstance(answer, Shown) or knows_nothing(answer)
        if has_told and not ground.saw(replica_id, held, before.get(replica_id)):
            ground.went_back(replica_id)
            went_back[replica_id] = before[replica_id]
        if held is not None:
            shown[replica_id] = held
            promised[replica_id] = words.promise_in(held)
        if isinstance(answer, Shown) and answer.prepared is not None:
            promised[replica_id] = answer.prepared.ballot
    return _Met(len(peers), shown, promised, went_back)


def _holders(record: Record, shown: Mapping[ReplicaId, Record]) -> tuple[ReplicaId, ...]:
    return tuple(sorted(one for one, held in shown.items() if held.content == record.content))


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
            return await complete(table, record, desk, holders)
        except (GridError, FormatError, IntegrityError):
            continue
    return None


async def _from_file(
    table: Table, keys: WriteKeys, peers: Sequence[Replica], read_file: ReadFile | None
) -> tuple[Snapshot | None, str]:
    """Return the last snapshot that can be read, and why a later one cannot."""
    if read_file is None:
        return None, ""
    answers = await ask_all(peers[:POINTER_PEERS], lambda peer: peer.get_snapshot(table.index))
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


def _fork_warnings(forked: Sequence[Record]) -> tuple[str, ...]:
    if not forked:
        return ()
    versions = " and ".join(str(one.version) for one in forked)
    return (f"Two signed versions contradict each other, {versions}: one is left.",)


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
