"""Driving one attempt to change a register, or to settle what it holds.

What is sent to whom, and what follows from the answers, is decided by `ampgrid.register.writer`;
here the messages are sent, the answers checked, and the records made and signed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeAlias

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ampgrid.commands import vdrive as commands
from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.errors import AmpgridError, GridError, RolledBackError, UndecidedError
from ampgrid.formats.ballot import MAX_COUNTER, MAX_EPOCH, Ballot, Prepare
from ampgrid.formats.record import Record, ReplicaId
from ampgrid.register import words, writer
from ampgrid.vdrive.ground import Ground, in_turn, knows_nothing
from ampgrid.vdrive.lanes import Delivery, Lane
from ampgrid.vdrive.nodes import Desk
from ampgrid.vdrive.reading import heard
from ampgrid.vdrive.replica import Replica, Verdict

State: TypeAlias = writer.WriterState[Record]


class Ballots:
    """The ballots of one writer: none is given out twice.

    Args:
        name: 8 random bytes, drawn anew at each start.
    """

    def __init__(self, name: bytes) -> None:
        self._name = name
        #: The last counter in each epoch.
        self._counters: dict[int, int] = {}

    def above(self, ballot: Ballot, leap: int = 1, epoch: int | None = None) -> Ballot:
        """Return a new ballot above ``ballot`` and all that were given out of its epoch before.

        Args:
            ballot: that was met.
            leap: by how much its counter is higher.
            epoch: a later one than that of ``ballot``; the same if None.

        Raises:
            UndecidedError: none is left in this epoch.
        """
        epoch = ballot.epoch if epoch is None else epoch
        met = ballot.counter if ballot.epoch == epoch else 0
        counter = max(self._counters.get(epoch, 0), met) + leap
        if counter > MAX_COUNTER or epoch > MAX_EPOCH:
            raise UndecidedError(
                "somebody with the write cap has taken the last ballot of the directory, and none"
                " can follow: recover-directory goes on with new ones"
            )
        self._counters[epoch] = counter
        return Ballot(epoch, counter, self._name)


class NodesWithheldError(GridError):
    """The replicas that show a base do not hand over its nodes."""


@attrs.define
class Base:
    """What a change is made on.

    Attributes:
        record: to be changed, None if the directory is to be created.
        ballot: for the new record.
        following: of the writer's next change, for the new record to name.
        desk: nodes of it that are at hand.
        fetch: returns {hash: node} of others.
    """

    record: Record | None
    ballot: Ballot
    following: Ballot
    desk: Desk
    fetch: Callable[[Sequence[bytes]], Deferred[dict[bytes, bytes]]]


#: Makes the record of a change on a base, to be delivered; None where it is declined.
Make: TypeAlias = Callable[[Base], Awaitable[Delivery | None]]


class Attempt:
    """One attempt, under one ballot.

    Args:
        ground: of the table.
        keys: that sign.
        lane: returns the lane of a replica.
        ballots: where the ballot of the next attempt comes from.
        make: makes the change.
        slots: whose nodes the replicas send along with their promises.

    Attributes:
        state: of the writer.
        shown: what each replica showed.
    """

    def __init__(
        self,
        ground: Ground,
        keys: WriteKeys,
        lane: Callable[[ReplicaId], Lane],
        ballots: Ballots,
        make: Make,
        slots: Sequence[bytes] = (),
    ) -> None:
        self._ground = ground
        self._keys = keys
        self._lane = lane
        self._ballots = ballots
        self._make = make
        self._slots = list(slots[: commands.MAX_CHANGES])
        self._desk = ground.desk()
        self._delivery: Delivery | None = None
        self._prepared: Prepare | None = None
        self._with_nodes: bytes | None = None
        self._end: Deferred[Any] = Deferred()
        self._floor: Record | None = None
        self.state: State | None = None
        self.shown: dict[ReplicaId, Record] = {}

    async def run(self, step: tuple[State, tuple[Any, ...]]) -> Any:
        """Go on from what `writer.begin`, `create` or `again` returned; return its last output.

        Raises:
            Exception: whatever `make` raised; the attempt is over.
        """
        self._take(step)
        return await self._end

    def is_void(self) -> bool:
        """Tell whether what this attempt sent, or one before it, can have no effect any more.

        So it is when a quorum shows one later record, which does not have the operation.
        """
        state = self.state
        assert state is not None
        for record in set(self.shown.values()):
            holders = {one for one, held in self.shown.items() if held == record}
            if (
                record.ballot > state.ballot
                and words.is_quorum(words.sets_of(record), holders)
                and not state.operations.intersection(record.operations)
                and (
                    len(record.operations) < words.MOST_OPERATIONS
                    or state.marker in record.operations
                )
            ):
                return True
        return False

    def _feed(self, event: Any) -> None:
        assert self.state is not None
        self._take(writer.step(self.state, event))

    def _take(self, step: tuple[State, tuple[Any, ...]]) -> None:
        self.state, outputs = step
        for output in outputs:
            if isinstance(output, words.SendPrepare):
                # A quorum that answers from now on shows nothing below this.
                self._floor = self._ground.means.remembered.get(self._ground.index)
                self._prepare_all(output)
            elif isinstance(output, words.SendAccept):
                for replica_id in in_turn(output.to):
                    self._go(self._send(replica_id))
            elif isinstance(output, writer.NeedChange):
                self._go(self._change(output))
            elif isinstance(output, writer.NeedSame):
                self._propose_same(output)
            elif not self._end.called:
                self._end.callback(output)

    def _go(self, work: Coroutine[Any, Any, None]) -> None:
        Deferred.fromCoroutine(work).addErrback(self._crashed)

    def _crashed(self, failure: Failure) -> None:
        """Let a mistake of this program come out, rather than wait for ever."""
        if self._end.called:
            self._ground.unforeseen(failure)
        else:
            self._end.errback(failure)

    # Preparing.

    def _prepare_all(self, output: words.SendPrepare) -> None:
        replica_ids = in_turn(output.to)
        if self._prepared is None:
            self._prepared = Prepare.make(self._keys, output.ballot)
        if self._slots and self._with_nodes is None:
            peers = self._ground.connected(replica_ids)
            if peers:
                self._with_nodes = self._ground.preferred(peers)[0].node_id
        for replica_id in replica_ids:
            self._go(self._prepare(replica_id, self._prepared))

    async def _prepare(self, replica_id: ReplicaId, prepare: Prepare) -> None:
        ground = self._ground
        slots = self._slots if replica_id.node_id == self._with_nodes else []

        def ask(replica: Replica) -> Awaitable[Verdict]:
            return replica.prepare(ground.index, prepare, slots)

        since = ground.seen.get(replica_id)
        answer = await ground.asked(replica_id, ask)
        if knows_nothing(answer):
            self._feed(words.Refused(replica_id))
        elif isinstance(answer, AmpgridError):
            self._feed(words.Unreachable(replica_id))
        elif not ground.saw(replica_id, answer.held, since):
            ground.went_back(replica_id)
            self._feed(words.Unreachable(replica_id))
        elif answer.word == commands.DONE:
            self._desk.add(answer.nodes)
            if answer.held is not None:
                self.shown[replica_id] = answer.held
            self._feed(words.Promised(replica_id, answer.held))
        else:
            self._feed(heard(ground, replica_id, answer, prepare.ballot))

    # Choosing.

    def _fetch(
        self, record: Record, hashes: Sequence[bytes], *, certain: bool = True
    ) -> Deferred[dict[bytes, bytes]]:
        """Fetch nodes of a record, first from those that show it."""
        holders = [one for one, held in self.shown.items() if held.root == record.root]
        members = in_turn(words.members(record))
        return self._ground.fetch(hashes, holders if certain else (), members)

    def _check_floor(self, base: Record) -> None:
        """Check that the replicas have not all gone back; nothing is signed on such a base.

        Raises:
            RolledBackError: they have.
        """
        floor = self._floor
        if floor is not None and base.ballot < floor.ballot:
            raise RolledBackError(
                f"the replicas show version {base.version} of the directory, but version"
                f" {floor.version} was there before: bring the later one back with"
                " recover-directory, or wait for the peers that had it"
            )

    async def _change(self, need: writer.NeedChange[Record]) -> None:
        base = need.base

        async def fetched(hashes: Sequence[bytes]) -> dict[bytes, bytes]:
            assert base is not None
            try:
                return await self._fetch(base, hashes)
            except GridError as error:
                raise NodesWithheldError(str(error)) from error

        def fetch(hashes: Sequence[bytes]) -> Deferred[dict[bytes, bytes]]:
            return Deferred.fromCoroutine(fetched(hashes))

        try:
            if base is not None:
                self._check_floor(base)
            following = self._ballots.above(need.ballot)
            delivery = await self._make(Base(base, need.ballot, following, self._desk, fetch))
        except NodesWithheldError as error:
            self._withheld(base, error)
        except Exception as error:  # noqa: BLE001 - it is the caller's, who gets it
            self._fail(error)
        else:
            if not self._is_choosing(base):
                return
            if delivery is None:
                self._feed(writer.Declined())
            else:
                self._propose(delivery)

    def _is_choosing(self, base: Record | None) -> bool:
        state = self.state
        assert state is not None
        return state.phase == writer.CHOOSING and state.base == base

    def _fail(self, error: Exception) -> None:
        if not self._end.called:
            self._end.errback(error)

    def _withheld(self, base: Record | None, error: Exception) -> None:
        holders = [one for one, held in self.shown.items() if held == base]
        if not holders:
            self._fail(error)
        for replica_id in holders:
            if self._is_choosing(base):
                self._feed(words.Withheld(replica_id))

    def _propose_same(self, need: writer.NeedSame[Record]) -> None:
        try:
            self._check_floor(need.base)
        except RolledBackError as error:
            self._fail(error)
            return
        following = self._ballots.above(need.ballot)
        record = need.base.reproposed(self._keys, need.ballot, following)
        self._propose(Delivery(record, self._desk))

    def _propose(self, delivery: Delivery) -> None:
        record = delivery.record
        self._delivery = attrs.evolve(
            delivery,
            fetch=lambda hashes, certain: self._fetch(record, hashes, certain=certain),
        )
        self._feed(writer.Proposed(record))

    # Proposing.

    async def _send(self, replica_id: ReplicaId) -> None:
        assert self._delivery is not None
        try:
            verdict = await self._lane(replica_id).send(self._delivery)
        except AmpgridError as error:
            self._ground.blame_id(replica_id, error)
            self._feed(words.Unreachable(replica_id))
            return
        if verdict.word == commands.DONE:
            self._ground.saw(replica_id, self._delivery.record)
        elif verdict.held is not None:
            self.shown[replica_id] = verdict.held
        self._feed(heard(self._ground, replica_id, verdict, self._delivery.record.ballot))
