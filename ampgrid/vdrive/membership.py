"""Looking after the replicas of one table: what each holds, catching up, and new members.

A replica that is behind is brought up to date. One that is gone, or came back with an empty disk,
is replaced by the next peer of the permuted order, one at a time: first a record that names both
sets is committed by a quorum of each, then one that names the new set alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.crypto.identity import node_id_text
from ampgrid.errors import AmpgridError, IntegrityError, NotReachableError
from ampgrid.formats.record import Record, ReplicaId
from ampgrid.immutable.several import each
from ampgrid.register import membership, words, writer
from ampgrid.vdrive.attempt import Attempt, Ballots, Base
from ampgrid.vdrive.ground import Ground, knows_nothing
from ampgrid.vdrive.lanes import Delivery, Lane
from ampgrid.vdrive.seeker import identify, in_order

#: What a replica can be found to be.
CURRENT = "current"
BEHIND = "behind"
NOTHING = "holds nothing"
UNREACHABLE = "unreachable"
STRANGER = "lost its store"
BAD = "breaks the rules"

#: So many peers of the permuted order are asked whether they were replicas once.
_ASKED_PEERS = 16
#: The most changes of the set that one repair makes, and attempts at each.
_MOST_CHANGES = 8
_MOST_ATTEMPTS = 20


@attrs.frozen
class ReplicaReport:
    """What was found of one replica.

    Attributes:
        replica_id: which.
        state: one of the words of this module.
        version: of the record that it holds, None if it shows none.
        lag: how many versions that is behind the committed one.
        trouble: what it did wrong last, empty if nothing is known.
    """

    replica_id: ReplicaId
    state: str
    version: int | None
    lag: int
    trouble: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "node_id": node_id_text(self.replica_id.node_id),
            "store_id": self.replica_id.store_id.hex(),
            "state": self.state,
            "version": self.version,
            "lag": self.lag,
            "trouble": self.trouble,
        }


@attrs.frozen
class TableReport:
    """What a look at the replicas of a table found.

    Attributes:
        record: that is committed.
        replicas: of its set.
        wanted: how many replicas a table shall have.
        repaired: what was done about it, in words.
        problems: what could not be done, and what replicas did wrong.
    """

    record: Record
    replicas: tuple[ReplicaReport, ...]
    wanted: int
    repaired: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def good(self) -> int:
        """How many replicas hold the committed record."""
        return sum(replica.state == CURRENT for replica in self.replicas)

    @property
    def healthy(self) -> bool:
        """Whether every replica is there, up to date, and there are as many as wanted."""
        return self.good == len(self.replicas) >= self.wanted

    def to_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "healthy": self.healthy,
            "version": self.record.version,
            "epoch": self.record.epoch,
            "entries": self.record.count,
            "good": self.good,
            "quorum": self.record.quorum,
            "wanted": self.wanted,
            "replicas": [replica.to_json() for replica in self.replicas],
            "repaired": list(self.repaired),
            "problems": list(self.problems),
        }


async def look(ground: Ground, record: Record) -> tuple[ReplicaReport, ...]:
    """Ask every replica of a committed record what it holds, one after the other.

    Args:
        ground: of the table.
        record: that is committed.
    """
    return tuple([await _look_at(ground, record, one) for one in record.replicas])


async def _look_at(ground: Ground, record: Record, replica_id: ReplicaId) -> ReplicaReport:
    trouble = ground.troubles.of(replica_id.node_id)
    peer = ground.means.replicas().get(replica_id.node_id)
    if peer is None:
        return ReplicaReport(replica_id, UNREACHABLE, None, record.version, trouble)
    since = ground.seen.get(replica_id)
    state = UNREACHABLE
    try:
        if await peer.id() != replica_id:
            return ReplicaReport(replica_id, STRANGER, None, record.version, trouble)
        held = (await peer.record(ground.index)).held
    except AmpgridError as error:
        ground.blame(peer, error)
        if isinstance(error, IntegrityError):
            state, trouble = BAD, str(error)
        elif knows_nothing(error):
            state = NOTHING
        return ReplicaReport(replica_id, state, None, record.version, trouble)
    if held is None:
        return ReplicaReport(replica_id, NOTHING, None, record.version, trouble)
    if not ground.saw(replica_id, held, since):
        return ReplicaReport(replica_id, BAD, held.version, 0, str(ground.went_back(replica_id)))
    lag = max(0, record.version - held.version)
    state = CURRENT if held.ballot >= record.ballot else BEHIND
    return ReplicaReport(replica_id, state, held.version, lag, trouble)


class SetChanger:
    """Changes the replica set of a table.

    Args:
        ground: of the table.
        keys: that sign.
        lane: returns the lane of a replica.
        ballots: of the writer.
        remember: told of committed records.
        pause: waits for a random time of at most so many seconds.
    """

    def __init__(
        self,
        ground: Ground,
        keys: WriteKeys,
        lane: Callable[[ReplicaId], Lane],
        ballots: Ballots,
        remember: Callable[[Record], object],
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._ground = ground
        self._keys = keys
        self._lane = lane
        self._ballots = ballots
        self._remember = remember
        self._pause = pause

    async def replace(
        self, record: Record, old: ReplicaId | None, new: ReplicaId | None
    ) -> Record:
        """Put ``new`` in the place of ``old``; return the record that names the new set alone.

        Args:
            record: that is committed.
            old: the replica that leaves, None if none does.
            new: the one that comes, None if none does.

        Raises:
            NotReachableError: too few replicas of the old or the new set took it.
        """
        wanted = membership.replaced(record.replicas, old, new)
        moved = await self._propose(record, wanted)
        if membership.is_between_sets(moved):
            moved = await self.release(moved)
        if old is not None and old not in moved.replicas:
            self.tell(moved, old)
        return moved

    def tell(self, record: Record, replica_id: ReplicaId) -> None:
        """Let a replica that is no member any more know where the directory went.

        Until it sees this it keeps everything, since the change might have come to nothing; and
        it shows what it has to those who know no better.
        """
        told = self._lane(replica_id).send(Delivery(record, self._ground.desk()))
        told.addErrback(self._not_told)

    def _not_told(self, failure: Failure) -> None:
        """Let it be where the replica that left cannot be told: mostly that is why it left."""
        if not failure.check(AmpgridError):
            self._ground.unforeseen(failure)

    async def release(self, record: Record) -> Record:
        """End a transition: return a record that names the new set alone.

        Raises:
            NotReachableError: too few replicas of the old or the new set took it.
        """
        return await self._propose(record, None)

    async def _propose(self, record: Record, wanted: tuple[Any, ...] | None) -> Record:
        """Commit a record with another set, or one that ends the transition.

        Args:
            record: committed.
            wanted: the new set; None to release the old one.
        """
        operation = self._ground.means.entropy(8)
        contacts = words.members(record).union(wanted or ())
        make = self._maker(record, wanted, operation)
        epoch = None if wanted is None else record.epoch + 1
        ballot = self._ballots.above(words.promise_in(record), epoch=epoch)
        step: writer.Step[Record] = writer.begin(ballot, contacts, (operation,))
        wait = 0.05
        outcome: Any = None
        for _attempt in range(_MOST_ATTEMPTS):
            attempt = Attempt(self._ground, self._keys, self._lane, self._ballots, make)
            outcome = await attempt.run(step)
            state = attempt.state
            assert state is not None
            if isinstance(outcome, (writer.Done, writer.Settled)):
                self._remember(outcome.record)
                committed: Record = outcome.record
                return committed
            if isinstance(outcome, words.TooFew):
                break
            if not isinstance(outcome, (writer.Again, writer.Completed)):
                break
            above = max(state.above, ballot)
            wait *= 1.5
            if isinstance(outcome, writer.Again):
                await self._pause(wait)
            ballot = self._ballots.above(above, 64, epoch=max(above.epoch, ballot.epoch))
            step = writer.again(state, ballot)
        found = outcome.found if isinstance(outcome, words.TooFew) else 0
        raise NotReachableError(
            f"not reachable: the replicas could not be changed, {found} of {len(contacts)} found",
            found=found,
            wanted=len(contacts),
        )

    def _maker(
        self, record: Record, wanted: tuple[Any, ...] | None, operation: bytes
    ) -> Callable[[Base], Awaitable[Delivery | None]]:
        """Return what makes the record, on whichever base there is by then."""

        async def make(base: Base) -> Delivery | None:
            found = base.record
            assert found is not None
            if wanted is None or set(found.replicas) != set(record.replicas):
                # Released, or another was quicker to change the set: any change of the base
                # names its new set alone.
                if not membership.is_between_sets(found):
                    return None
                return Delivery(
                    found.successor(
                        self._keys,
                        ballot=base.ballot,
                        root=found.root,
                        count=found.count,
                        operation=operation,
                        following=base.following,
                    ),
                    base.desk,
                )
            if membership.is_between_sets(found) or base.ballot.epoch <= found.epoch:
                return None
            moved = found.new_epoch(
                self._keys,
                base.ballot,
                wanted,
                operation=operation,
                following=base.following,
            )
            return Delivery(moved, base.desk)

        return make


async def candidates(ground: Ground, record: Record) -> list[ReplicaId]:
    """Return peers that can become replicas, in the permuted order.

    A member that came back with an empty disk can: under its new store it is another replica.
    """
    members = {one.node_id: one for one in record.replicas}
    peers = await identify(in_order(ground))
    return [one for one in peers if members.get(one.node_id) != one]


def to_replace(
    reports: Collection[ReplicaReport], gone: Collection[bytes] | None
) -> list[ReplicaId]:
    """Return the replicas that have to be replaced.

    Args:
        reports: of all.
        gone: node ids of peers that will not come back; None if that is every one that is not
            connected.
    """
    out = []
    for report in reports:
        node_id = report.replica_id.node_id
        dead = report.state == UNREACHABLE and (gone is None or node_id in gone)
        if dead or report.state in {STRANGER, BAD}:
            out.append(report.replica_id)
    return out


async def repair(
    ground: Ground,
    changer: SetChanger,
    record: Record,
    gone: Collection[bytes] | None = None,
) -> tuple[Record, list[str], list[str]]:
    """Replace the replicas that are lost, and add some if there are too few.

    Args:
        ground: of the table.
        changer: makes the changes.
        record: that is committed.
        gone: see `to_replace`.

    Returns:
        The committed record, what was done and what could not be, in words.
    """
    done: list[str] = []
    problems: list[str] = []
    if membership.is_between_sets(record):
        record = await changer.release(record)
    for _change in range(_MOST_CHANGES):
        reports = await look(ground, record)
        bad = to_replace(reports, gone)
        missing = ground.means.wanted_replicas - len(record.replicas)
        if not bad and missing <= 0:
            break
        fresh = await candidates(ground, record)
        taken = {one.node_id for one in record.replicas} - {one.node_id for one in bad[:1]}
        fresh = [one for one in fresh if one.node_id not in taken]
        if not fresh:
            problems.append("no other peer is there that could take a replica")
            break
        old, new = (bad[0] if bad else None), fresh[0]
        try:
            record = await changer.replace(record, old, new)
        except AmpgridError as error:
            problems.append(str(error))
            break
        if new in record.replicas:
            done.append(_told(ground, old, new))
    await _tell_former(ground, changer, record)
    return record, done, problems


async def _tell_former(ground: Ground, changer: SetChanger, record: Record) -> None:
    """Tell those who were replicas, and were away when they were replaced, that they were."""
    if not record.epoch or record.recovered:
        return
    members = words.members(record)
    former = [one for one in await identify(in_order(ground)[:_ASKED_PEERS]) if one not in members]

    async def look_at(replica_id: ReplicaId) -> None:
        answer = await ground.asked(replica_id, lambda replica: replica.record(ground.index))
        held = None if isinstance(answer, AmpgridError) else answer.held
        if membership.releases(held, record, replica_id):
            changer.tell(record, replica_id)

    def start(replica_id: ReplicaId) -> Callable[[], Deferred[None]]:
        return lambda: Deferred.fromCoroutine(look_at(replica_id))

    await each({number: start(one) for number, one in enumerate(former)})


def _told(ground: Ground, old: ReplicaId | None, new: ReplicaId) -> str:
    if old is None:
        return f"vdrive peer {ground.name_of(new)} became a replica"
    if old.node_id == new.node_id:
        return f"vdrive peer {ground.name_of(new)} is a replica again, with its new store"
    return f"vdrive peer {ground.name_of(new)} took the place of {ground.name_of(old)}"
