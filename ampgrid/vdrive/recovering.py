"""Bringing back a table that has lost too many of its replicas.

Recovery takes the best signed record that `ampgrid.vdrive.surveying` found, and makes it the first
one of a later epoch.

Source: ``docs/specs/directories.md``, ``docs/specs/register.md#membership``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred

from ampgrid.commands import errors as e
from ampgrid.commands import vdrive as commands
from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.errors import NotReachableError, UncertainChangeError, UndecidedError
from ampgrid.formats.ballot import MAX_EPOCH, Ballot, Prepare
from ampgrid.formats.record import Record, ReplicaId
from ampgrid.immutable.several import each
from ampgrid.register import recovery, words
from ampgrid.vdrive.ground import Ground
from ampgrid.vdrive.lanes import Delivery
from ampgrid.vdrive.nodes import Desk, NodeCache
from ampgrid.vdrive.reading import stands_in_the_way
from ampgrid.vdrive.replica import Replica, Verdict
from ampgrid.vdrive.seeker import ask_all, identify, in_order
from ampgrid.vdrive.snapshots import POINTER_PEERS
from ampgrid.vdrive.surveying import Survey
from ampgrid.vdrive.table import Table

#: How often a recovery goes above the promises that stand in its way.
_MOST_TRIES = 3

#: What answers a prepare that is not promised; who does not answer at all may have promised it.
_UNWILLING = (Verdict, e.NoSpaceError, e.StoreFailedError)


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
    peers = await identify(order)
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
    taken = await _deliver(table, record, found.snapshot.nodes, willing)
    if taken < record.quorum:
        raise UncertainChangeError(
            f"the directory may or may not be recovered: {taken} of {len(replicas)} peers took it;"
            " change nothing in it, and recover it again"
        )
    return table.remember(record)


async def _deliver(
    table: Table,
    record: Record,
    nodes: Mapping[bytes, bytes],
    willing: Sequence[ReplicaId],
) -> int:
    """Send a record with all its nodes to those that promised it; return how many took it."""
    desk = Desk(NodeCache(0), most_cached=0)
    desk.add(nodes)
    # Whatever a peer did wrong before, it has promised now, and is to get everything.
    delivery = Delivery(record, desk, repairs=True)

    def start(replica_id: ReplicaId) -> Callable[[], Deferred[Verdict]]:
        return lambda: table.lane(replica_id).send(delivery)

    outcomes = await each({number: start(one) for number, one in enumerate(willing)})
    return sum(_is_done(outcome) for outcome in outcomes.values())


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
    answers = await ask_all([*asked.values()], lambda peer: peer.prepare(table.index, prepare))
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
