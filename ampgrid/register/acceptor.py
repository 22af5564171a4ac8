"""The acceptor: what one replica keeps of a register, and when it agrees to something.

Events: a signed prepare, a signed record, being told to forget. Answers: one of those below.
The caller has checked signatures, and that every node under the root of a record is here; it
makes the new state durable in the same transaction, before it answers.

Spec: ``docs/specs/register.md#acceptor``.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeAlias

from ampgrid.register.words import P, R, Replica, higher, is_same, promise_in


class AcceptorState(NamedTuple, Generic[R, P]):
    """What a replica keeps.

    Attributes:
        promised: the highest ballot that was promised or accepted; never goes down, and is
            kept for ever, or a record of long ago could be brought back.
        prepare: the signed prepare of ``promised``, if a prepare was promised and nothing was
            accepted since; shown to those whom it stands in the way of. Without one it is
            the accepted record that binds ``promised``, and is shown for it.
        accepted: the record of the highest ballot that was accepted.
        forgotten: whether a record was dropped since its leases ran out or the replica
            left the set. Until it accepts one again it promises nothing, as it could not show
            what it had accepted.
    """

    promised: Any = None
    prepare: P | None = None
    accepted: R | None = None
    forgotten: bool = False


class PromiseMade(NamedTuple, Generic[R]):
    """Nothing below the ballot will be accepted; this is what is held."""

    accepted: R | None


class RecordAccepted(NamedTuple):
    """The record is held, and nothing below its following ballot will be accepted."""


class RefusedBy(NamedTuple, Generic[R, P]):
    """What stands in the way; both are None where a forgotten ballot does."""

    prepare: P | None
    accepted: R | None


class NotMine(NamedTuple):
    """This replica is not in the set of the record; it votes nothing."""


class Conflict(NamedTuple, Generic[R]):
    """Another record was accepted under the same ballot; this one."""

    accepted: R


PrepareAnswer: TypeAlias = PromiseMade[R] | RefusedBy[R, P]
AcceptAnswer: TypeAlias = RecordAccepted | RefusedBy[R, P] | NotMine | Conflict[R]


def prepare(
    state: AcceptorState[R, P], asked: P
) -> tuple[AcceptorState[R, P], PrepareAnswer[R, P]]:
    """Judge a prepare.

    Args:
        state: as it was read in this transaction.
        asked: the signed prepare.

    Returns:
        The new state and the answer. The same prepare again gets the same answer as long as
        nothing was accepted under it or a higher one.
    """
    accepted = state.accepted
    if state.forgotten or (state.promised is not None and asked.ballot < state.promised):
        return state, RefusedBy(state.prepare, accepted)
    if state.promised is not None and asked.ballot == state.promised:
        if accepted is not None and accepted.ballot >= asked.ballot:
            return state, RefusedBy(state.prepare, accepted)
        return state, PromiseMade(accepted)
    return AcceptorState(asked.ballot, asked, accepted), PromiseMade(accepted)


def accept(
    state: AcceptorState[R, P], record: R, me: Replica
) -> tuple[AcceptorState[R, P], AcceptAnswer[R, P]]:
    """Judge a record, whoever sent it.

    The following ballot in it is promised with it, in one step: who sends a record on does no
    more and no less than its writer does. Two records can differ in that ballot alone, where two
    create one directory; of these the one of the higher is held.

    Args:
        state: as it was read in this transaction.
        record: the signed record; every node under its root is here.
        me: the name of this replica.

    Returns:
        The new state and the answer. The same record again is accepted again.
    """
    if me not in record.replicas and me not in record.previous_replicas:
        return state, NotMine()
    accepted = state.accepted
    if accepted is not None and accepted.ballot == record.ballot:
        if not is_same(accepted, record):
            return state, Conflict(accepted)
        if promise_in(record) <= state.promised:
            return state, RecordAccepted()
        return _take(record)
    if accepted is not None and accepted.ballot > record.ballot:
        return state, RefusedBy(state.prepare, accepted)
    if state.promised is not None and state.promised > record.ballot:
        return state, RefusedBy(state.prepare, accepted)
    return _take(record)


def _take(record: R) -> tuple[AcceptorState[R, P], RecordAccepted]:
    return AcceptorState(promise_in(record), None, record), RecordAccepted()


def release(state: AcceptorState[R, P], record: R) -> AcceptorState[R, P]:
    """Show where the directory went, once that is known (`ampgrid.register.membership.releases`).

    What it shows is no vote: the replica is not in the set of the record.

    Args:
        state: of a replica that was a member.
        record: a later one, of a set without it.
    """
    promised = promise_in(record)
    if state.prepare is not None and state.promised > promised:
        return AcceptorState(state.promised, state.prepare, record)
    return AcceptorState(promised, None, record)


def forget(state: AcceptorState[R, P]) -> AcceptorState[R, P]:
    """Drop the record, and keep the ballot below which nothing may come back.

    Args:
        state: of a directory without leases, or of a replica that left the set long ago.

    Returns:
        A state of some bytes that is to be kept for ever.
    """
    accepted = state.accepted
    promised = higher(state.promised, accepted.ballot if accepted is not None else None)
    if promised is None:
        return state
    return AcceptorState(promised, None, None, forgotten=True)
