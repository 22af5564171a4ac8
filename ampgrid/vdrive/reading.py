"""Driving one read of a register: asking replicas, and finishing what a writer has begun.

What is asked and what follows from the answers is decided by `ampgrid.register.reader`; here the
questions are sent and the answers checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ampgrid.commands import vdrive as commands
from ampgrid.errors import AmpgridError, GridError
from ampgrid.formats.ballot import Ballot
from ampgrid.formats.record import Record, ReplicaId
from ampgrid.ports import DelayedCall
from ampgrid.register import reader, words
from ampgrid.vdrive.ground import Ground, in_turn, knows_nothing
from ampgrid.vdrive.lanes import Delivery, Lane
from ampgrid.vdrive.nodes import Desk
from ampgrid.vdrive.replica import Replica, Shown, Verdict

#: So long are the other answers waited for before a record is sent on, seconds.
GRACE_SECONDS = 0.15

#: The nodes on the way to so many slots are asked of two replicas, whichever is quicker.
FEW_SLOTS = 4

Ask = Callable[[Replica], Any]


def heard(ground: Ground, replica_id: ReplicaId, verdict: Verdict, ballot: Ballot) -> Any:
    """Return the event that stands for a replica's answer to what was sent under a ballot."""
    if verdict.word == commands.DONE:
        return words.Accepted(replica_id)
    if verdict.word not in {commands.REFUSED, commands.CONFLICT}:
        return words.Unreachable(replica_id)
    if verdict.held is not None:
        ground.saw(replica_id, verdict.held)
    promised = None if verdict.prepared is None else verdict.prepared.ballot
    if not stands_in_the_way(promised, verdict.held, ballot):
        ground.refused_without_reason(replica_id)
        return words.Unreachable(replica_id)
    return words.Refused(replica_id, promised, verdict.held)


def stands_in_the_way(promised: Ballot | None, held: Record | None, ballot: Ballot) -> bool:
    """Tell whether what a replica shows is a reason to refuse something under ``ballot``.

    Nothing is shown by who dropped its record since nobody kept it any more, and kept its promise.
    """
    if promised is None and held is None:
        return True
    if held is not None and held.ballot >= ballot:
        return True
    shown = words.higher(promised, None if held is None else words.promise_in(held))
    return bool(shown > ballot)


class Reading:
    """One read.

    Args:
        ground: of the table.
        lane: returns the lane of a replica.
        contacts: replicas that are asked first.
        slots: whose entries are wanted; the nodes on the way to them come along.
        listing: whether all entries are wanted.
        thorough: whether replicas that lag are brought up to date.

    Attributes:
        desk: the nodes that came along.
        shown: what each replica showed.
        failures: why each of the others did not answer.
    """

    def __init__(
        self,
        ground: Ground,
        lane: Callable[[ReplicaId], Lane],
        contacts: Iterable[ReplicaId],
        *,
        slots: Sequence[bytes] = (),
        listing: bool = False,
        thorough: bool = False,
    ) -> None:
        self._ground = ground
        self._lane = lane
        self._slots = slots[: commands.MAX_CHANGES]
        self._listing = listing
        self.desk: Desk = ground.desk()
        self.shown: dict[ReplicaId, Record | None] = {}
        self.failures: dict[ReplicaId, AmpgridError] = {}
        self._with_nodes: set[ReplicaId] = set()
        self._asked: set[ReplicaId] = set()
        self._push: words.SendAccept[Record] | None = None
        self._timer: DelayedCall | None = None
        self._found: Deferred[Any] = Deferred()
        self._ended: Deferred[Any] = Deferred()
        self._begun: reader.Step[Record] = reader.begin(contacts, thorough=thorough)
        self._thorough = thorough
        self._pushing = 0
        self.state = self._begun[0]

    async def run(self) -> Any:
        """Return what the reader ends with: Committed, Undecided, TooFew or Forked."""
        self._take(self._begun)
        return await self._found

    async def caught_up(self) -> None:
        """Wait until the replicas that lag have been brought up to date (a thorough read)."""
        while self._pushing or not self.state.ended:
            self._ended = Deferred()
            await self._ended

    def _feed(self, event: Any) -> None:
        self._take(reader.step(self.state, event))
        if self._push is not None and not self._asked - self.shown.keys() - self.failures.keys():
            self._flush()
        if not self._ended.called:
            self._ended.callback(None)

    def _take(self, step: tuple[Any, tuple[Any, ...]]) -> None:
        self.state, outputs = step
        for output in outputs:
            if isinstance(output, words.SendAsk):
                self._ask_all(in_turn(output.to))
            elif isinstance(output, words.SendAccept):
                self._gather(output)
                if self._timer is None:
                    self._timer = self._ground.clock.callLater(GRACE_SECONDS, self._flush)
            elif not self._found.called:
                self._found.callback(output)
        if self.state.ended:
            self._drop_push()

    def _crashed(self, failure: Failure) -> None:
        """Let a mistake of this program come out, rather than wait for ever."""
        if self._found.called:
            self._ground.unforeseen(failure)
        else:
            self._found.errback(failure)

    # Asking.

    def _ask_all(self, replica_ids: list[ReplicaId]) -> None:
        self._asked.update(replica_ids)
        if (self._slots or self._listing) and not self._with_nodes:
            few = 0 < len(self._slots) <= FEW_SLOTS
            peers = self._ground.preferred(self._ground.connected(replica_ids))[: 1 + few]
            first = [peer.node_id for peer in peers]
            self._with_nodes = {one for one in replica_ids if one.node_id in first}
            # They are asked first, so that a quorum is not there before their nodes are.
            replica_ids.sort(key=lambda one: one not in self._with_nodes)
        for replica_id in replica_ids:
            asking = Deferred.fromCoroutine(self._ask(replica_id))
            asking.addErrback(self._crashed)

    def _question(self, replica_id: ReplicaId) -> Ask:
        index, slots = self._ground.index, self._slots
        if replica_id not in self._with_nodes:
            return lambda replica: replica.record(index)
        if self._listing:
            return lambda replica: replica.children(index)
        return lambda replica: replica.record(index, slots)

    async def _ask(self, replica_id: ReplicaId) -> None:
        ground = self._ground
        since = ground.seen.get(replica_id)
        answer: Shown | AmpgridError = await ground.asked(replica_id, self._question(replica_id))
        if knows_nothing(answer):
            answer = Shown(None, None)
        if isinstance(answer, Shown) and not ground.saw(replica_id, answer.held, since):
            # It lies, or its disk was set back: what it holds counts for nothing.
            answer = ground.went_back(replica_id)
        if isinstance(answer, Shown):
            self.desk.add(answer.nodes)
            self.shown[replica_id] = answer.held
            self._feed(words.Answer(replica_id, answer.held))
        else:
            self.failures[replica_id] = answer
            self._feed(words.Unreachable(replica_id))

    # Sending on.

    def _drop_push(self) -> None:
        self._push = None
        if self._timer is not None:
            if self._timer.active():
                self._timer.cancel()
            self._timer = None

    def _gather(self, push: words.SendAccept[Record]) -> None:
        before = self._push
        if before is not None and words.is_same(before.record, push.record):
            push = words.SendAccept(push.record, before.to | push.to)
        self._push = push

    def _flush(self) -> None:
        push = self._push
        self._drop_push()
        if push is None or self.state.ended:
            return
        delivery = Delivery(
            push.record,
            self.desk,
            repairs=self._thorough,
            fetch=lambda hashes, certain: self._fetch(push.record, hashes, certain=certain),
        )
        for replica_id in in_turn(push.to):
            self._pushing += 1
            sending = Deferred.fromCoroutine(self._send(replica_id, delivery))
            sending.addErrback(self._crashed)

    def _fetch(
        self, record: Record, hashes: Sequence[bytes], *, certain: bool
    ) -> Deferred[dict[bytes, bytes]]:
        holders = self._holders(record)
        return self._ground.fetch(hashes, holders if certain else (), holders)

    def _holders(self, record: Record) -> list[ReplicaId]:
        return [one for one, held in self.shown.items() if held and held.root == record.root]

    async def _send(self, replica_id: ReplicaId, delivery: Delivery) -> None:
        try:
            verdict = await self._lane(replica_id).send(delivery)
            event = heard(self._ground, replica_id, verdict, delivery.record.ballot)
            if isinstance(event, words.Accepted):
                event = words.Answer(replica_id, delivery.record)
        except GridError:
            # Those that show the record do not hand over its nodes.
            self._pushing -= 1
            for holder, held in list(self.shown.items()):
                if held is not None and words.is_same(held, delivery.record):
                    self._feed(words.Withheld(holder))
            self._feed(words.Unreachable(replica_id))
            return
        except AmpgridError as error:
            self._ground.blame_id(replica_id, error)
            event = words.Unreachable(replica_id)
        self._pushing -= 1
        self._feed(event)
