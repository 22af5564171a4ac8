"""The writer: one attempt to change a register, or to settle what it holds.

It has the write key behind it, but does not use it: it asks for signed records and is given
them. Whoever drives it sends what it puts out, tells it what comes back, and makes the plan of
the change on the base that it names. An attempt has one ballot and proposes one record at most;
after `Again` or `Completed` the next one begins with `again`, under a higher ballot.

States: preparing, choosing (waits for `Proposed` or `Declined`), proposing, ended.
Events: `Promised`, `Accepted`, `Refused`, `Withheld`, `Unreachable`, `Proposed`, `Declined`.
Outputs: `SendPrepare`, `SendAccept`, `NeedChange`, `NeedSame`, and at the end one of `Done`,
`Settled`, `Completed`, `Again`, `TooFew`, `Uncertain`, `Forked`.

Spec: ``docs/specs/register.md#writer``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, NamedTuple, TypeAlias

from ampgrid.register.membership import check_follows, check_same, is_between_sets
from ampgrid.register.words import (
    MOST_OPERATIONS,
    Accepted,
    Forked,
    Promised,
    R,
    RecordLike,
    Refused,
    Replica,
    Replicas,
    SendAccept,
    SendPrepare,
    TooFew,
    Unreachable,
    Withheld,
    higher,
    highest,
    is_quorum,
    is_same,
    members,
    promise_in,
    sets_of,
)

PREPARING = "preparing"
CHOOSING = "choosing"
PROPOSING = "proposing"
ENDED = "ended"

#: Why a base is proposed again unchanged, and why an attempt is settled.
DECLINED = "declined"
ALREADY = "already there"
MOVING = "moving"


class Proposed(NamedTuple, Generic[R]):
    """The signed record that `NeedChange` or `NeedSame` asked for.

    Attributes:
        record: under the ballot of the attempt; no other record may ever be signed under it.
            It may name the ballot of the next attempt as its following one.
    """

    record: R


class Declined(NamedTuple):
    """The change cannot or need not be made on the base; it is to be settled instead."""


Event: TypeAlias = (
    Promised[R] | Accepted | Refused[R] | Withheld | Unreachable | Proposed[R] | Declined
)


class NeedChange(NamedTuple, Generic[R]):
    """Make the change on ``base`` and sign it under the ballot: `Proposed`, or `Declined`.

    Attributes:
        base: the record to change; None if the directory is to be created.
        ballot: for the new record.
        there: those of the operations that the base has already; they are not made again,
            and are done as soon as the attempt is.
    """

    base: R | None
    ballot: Any
    there: frozenset[Any]


class NeedSame(NamedTuple, Generic[R]):
    """Sign the content of ``base`` under the ballot: `Proposed`."""

    base: R
    ballot: Any


class Done(NamedTuple, Generic[R]):
    """The change is committed and stays."""

    record: R


class Settled(NamedTuple, Generic[R]):
    """Nothing was changed; this record is committed, and was the last at some time since `begin`.

    Attributes:
        record: on which the change was declined, or which has its operations already.
        already: whether every operation is in the record.
    """

    record: R
    already: bool


class Completed(NamedTuple, Generic[R]):
    """Another's change of the replica set is committed now; go on with `again`."""

    record: R


class Again(NamedTuple):
    """A higher ballot stands in the way: back off, then `again` with one above ``above``."""

    above: Any


class Uncertain(NamedTuple, Generic[R]):
    """An earlier attempt may have succeeded; the base has forgotten operations since."""

    base: R


Output: TypeAlias = (
    SendPrepare
    | SendAccept[R]
    | NeedChange[R]
    | NeedSame[R]
    | Done[R]
    | Settled[R]
    | Completed[R]
    | Again
    | TooFew
    | Uncertain[R]
    | Forked[R]
)


class WriterState(NamedTuple, Generic[R]):
    """An attempt under way; made by `begin`, `create` and `again` only.

    Attributes:
        phase: one of the four.
        ballot: of this attempt.
        operations: ids of the changes that this is to make, all at once.
        tried: whether a record with one of them may have been sent before.
        marker: the last operation in the base of the first attempt, if it had any.
        contacts: every replica that is asked.
        promises: those that promised the ballot, with what they showed.
        lost: replicas that refused, withheld or cannot be reached, in this phase.
        refused: whether anyone refused in this phase.
        above: the highest ballot that was met.
        base: which was chosen.
        current: whether the base was committed, and the last such, at some time since `begin`.
        reason: why the base is proposed again; "" for a change.
        proposal: what was sent.
        accepted: replicas that accepted the proposal, and promised its following ballot.
        committed: whether the proposal is.
    """

    phase: str
    ballot: Any
    operations: frozenset[Any] = frozenset()
    tried: bool = False
    marker: Any = None
    contacts: Replicas = frozenset()
    promises: frozenset[tuple[Replica, R | None]] = frozenset()
    lost: Replicas = frozenset()
    refused: bool = False
    above: Any = None
    base: R | None = None
    current: bool = False
    reason: str = ""
    proposal: R | None = None
    accepted: Replicas = frozenset()
    committed: bool = False

    @property
    def following(self) -> Any:
        """The ballot for the next attempt that went along with the proposal, or None."""
        return None if self.proposal is None else self.proposal.following


Step: TypeAlias = tuple[WriterState[R], tuple[Output[R], ...]]


def begin(
    ballot: Any,
    replicas: Iterable[Replica],
    operations: Iterable[Any] = (),
    *,
    tried: bool = False,
    marker: Any = None,
    after: WriterState[R] | None = None,
) -> Step[R]:
    """Begin the first attempt to make some changes.

    Args:
        ballot: above every one that is known of, and never used before.
        replicas: of the last record that is known of; those that it led on to are found.
        operations: ids of the changes; none if the present record is only to be settled.
        tried: whether they may have been sent before (a retry).
        marker: what `WriterState.marker` was at the first attempt.
        after: the last attempt of this writer. If its proposal was committed, and named
            ``ballot`` as the following one, a quorum has promised that: there is nothing to
            prepare.

    Returns:
        The state, and what is to be done.
    """
    state: WriterState[R] = WriterState(
        PREPARING,
        ballot,
        frozenset(operations),
        tried,
        marker,
        frozenset(replicas),
        above=ballot,
    )
    if after is not None and after.committed and after.proposal is not None:
        last = after.proposal
        state = state._replace(contacts=state.contacts | members(last))
        if last.following == ballot:
            return _choose(state, last, committed=True, current=False)
    return state, (SendPrepare(ballot, state.contacts),)


def create(ballot: Any, replicas: Iterable[Replica]) -> Step[R]:
    """Begin the creation of a directory, over the set that was chosen for its new key.

    Args:
        ballot: the lowest there is. Nothing below it can be accepted, so it needs no promise;
            and since whoever creates a directory over one set makes the same record, it does
            not matter who does.
        replicas: the set. No other may ever be chosen for the same key.
    """
    state: WriterState[R] = WriterState(
        CHOOSING, ballot, contacts=frozenset(replicas), above=ballot
    )
    return state, (NeedChange(None, ballot, frozenset()),)


def again(before: WriterState[R], ballot: Any) -> Step[R]:
    """Begin the next attempt to make the same changes, under a higher ballot."""
    return begin(
        ballot,
        before.contacts,
        before.operations,
        tried=before.tried,
        marker=before.marker,
        after=before,
    )


def step(state: WriterState[R], event: Event[R]) -> Step[R]:
    """Take one event.

    Args:
        state: of the attempt.
        event: about a replica in this attempt, or what `NeedChange` or `NeedSame` asked for.
            What comes twice, too late or from a stranger does no harm.

    Returns:
        The new state, and what is to be done.

    Raises:
        ValueError: a proposal came that was not asked for, or that does not follow the base.
    """
    if isinstance(event, Proposed):
        return _proposed(state, event)
    if isinstance(event, Declined):
        return _declined(state)
    if event.replica not in state.contacts:
        return state, ()
    if isinstance(event, Promised):
        return _promised(state, event)
    if isinstance(event, Accepted):
        return _accepted(state, event)
    if isinstance(event, Refused):
        return _refused(state, event)
    return _lost(state, event.replica, withheld=isinstance(event, Withheld))


# Preparing


def _promised(state: WriterState[R], event: Promised[R]) -> Step[R]:
    answered = {replica for replica, _ in state.promises}
    if state.phase not in {PREPARING, CHOOSING} or event.replica in answered | state.lost:
        return state, ()
    shown = event.accepted
    if shown is not None and (shown.ballot >= state.ballot or promise_in(shown) > state.ballot):
        # Who holds this cannot have promised; as a base it would come after its own change.
        return _refused(state, Refused(event.replica, None, shown))
    forked = _forked(state, shown)
    if forked is not None:
        return state._replace(phase=ENDED), (forked,)
    state = state._replace(promises=state.promises | {(event.replica, shown)})
    if state.phase == CHOOSING:
        return state, ()
    more: tuple[Output[R], ...] = ()
    if shown is not None:
        unknown = members(shown) - state.contacts
        if unknown:
            state = state._replace(contacts=state.contacts | unknown)
            more = (SendPrepare(state.ballot, unknown),)
    state, outputs = _decide(state)
    return state, outputs if state.phase != PREPARING else more


def _decide(state: WriterState[R]) -> Step[R]:
    """Choose the base once a quorum promised, of each set that it needs."""
    base = highest(record for _, record in state.promises)
    promised = {replica for replica, _ in state.promises}
    open_ones = state.contacts - state.lost
    if base is None:
        # Nobody has shown a set yet; those that were asked stand for it.
        hopeless = state.refused and not is_quorum((state.contacts,), open_ones)
        return _end(state) if hopeless or open_ones <= promised else (state, ())
    sets = sets_of(base)
    if is_quorum(sets, promised):
        holders = {replica for replica, shown in state.promises if shown and is_same(shown, base)}
        same = is_quorum(sets, holders)
        return _choose(state, base, committed=same, current=same)
    # What is shown may be of long ago, and who has not answered yet may know of a later set.
    waits = not (state.refused or open_ones <= promised)
    return (state, ()) if waits or is_quorum(sets, open_ones) else _end(state)


# Choosing


def _choose(state: WriterState[R], base: R, *, committed: bool, current: bool) -> Step[R]:
    """Ask for what is to be proposed on ``base``, or end where nothing needs to be."""
    state = state._replace(phase=CHOOSING, base=base, current=current)
    there = state.operations.intersection(base.operations)
    if state.operations and there == state.operations:
        if committed:
            return state._replace(phase=ENDED), (Settled(base, already=True),)
        return _same(state, base, ALREADY)
    if state.tried and _has_forgotten(base, state.marker):
        return state._replace(phase=ENDED), (Uncertain(base),)
    if is_between_sets(base) and not committed:
        return _same(state, base, MOVING)
    if not state.tried and base.operations:
        state = state._replace(marker=base.operations[-1])
    return state, (NeedChange(base, state.ballot, there),)


def _has_forgotten(base: RecordLike, marker: Any) -> bool:
    """Tell whether the base may have dropped the id of a change made since ``marker``."""
    return len(base.operations) >= MOST_OPERATIONS and marker not in base.operations


def _same(state: WriterState[R], base: R, reason: str) -> Step[R]:
    return state._replace(reason=reason), (NeedSame(base, state.ballot),)


def _declined(state: WriterState[R]) -> Step[R]:
    if state.phase != CHOOSING or state.reason or state.base is None:
        raise ValueError("nothing that could be declined was asked for")
    # What an earlier attempt sent may still be completed by others. Only a record above its
    # ballot, accepted by a quorum, makes sure that it is not.
    if state.current and not state.tried:
        return state._replace(phase=ENDED), (Settled(state.base, already=False),)
    return _same(state, state.base, DECLINED)


def _proposed(state: WriterState[R], event: Proposed[R]) -> Step[R]:
    record = event.record
    if state.phase != CHOOSING or record.ballot != state.ballot:
        raise ValueError("no such proposal was asked for")
    if state.reason and state.base is not None:
        check_same(state.base, record)
    else:
        check_follows(state.base, record)
        if not state.operations.issubset(record.operations):
            raise ValueError("the record does not name its operations")
    if record.following is not None and record.following <= record.ballot:
        raise ValueError("the following ballot is not above that of the record")
    return state._replace(
        phase=PROPOSING,
        tried=state.tried or not state.reason,
        contacts=state.contacts | members(record),
        lost=frozenset(),
        refused=False,
        proposal=record,
    ), (SendAccept(record, members(record)),)


# Proposing


def _accepted(state: WriterState[R], event: Accepted) -> Step[R]:
    proposal = state.proposal
    if proposal is None or state.phase != PROPOSING:
        return state, ()
    state = state._replace(accepted=state.accepted | {event.replica})
    if not is_quorum(sets_of(proposal), state.accepted):
        return state, ()
    state = state._replace(phase=ENDED, committed=True)
    if state.reason == MOVING:
        return state, (Completed(proposal),)
    if state.reason:
        return state, (Settled(proposal, already=state.reason == ALREADY),)
    return state, (Done(proposal),)


# Losing


def _refused(state: WriterState[R], event: Refused[R]) -> Step[R]:
    if state.phase == ENDED:
        return state, ()
    forked = _forked(state, event.accepted)
    if forked is not None:
        return state._replace(phase=ENDED), (forked,)
    above = higher(state.above, event.promised)
    if event.accepted is not None:
        above = higher(above, promise_in(event.accepted))
    state = state._replace(above=above, refused=True)
    return _lost(state, event.replica, withheld=False)


def _lost(state: WriterState[R], replica: Replica, *, withheld: bool) -> Step[R]:
    """Go on without ``replica``, if it has not done its part already."""
    if state.phase == PROPOSING and state.proposal is not None:
        sets = sets_of(state.proposal)
        if replica not in state.accepted:
            state = state._replace(lost=state.lost | {replica})
        return (state, ()) if is_quorum(sets, state.contacts - state.lost) else _end(state)
    if state.phase not in {PREPARING, CHOOSING}:
        return state, ()
    if withheld:
        rest = frozenset(pair for pair in state.promises if pair[0] != replica)
        state = state._replace(
            phase=PREPARING, promises=rest, lost=state.lost | {replica}, base=None, reason=""
        )
        return _decide(state)
    if any(answered == replica for answered, _ in state.promises):
        return state, ()
    state = state._replace(lost=state.lost | {replica})
    return _decide(state) if state.phase == PREPARING else (state, ())


def _end(state: WriterState[R]) -> Step[R]:
    """End an attempt that can have no quorum any more."""
    ended = state._replace(phase=ENDED)
    if state.refused:
        return ended, (Again(state.above),)
    found = len(state.contacts - state.lost)
    return ended, (TooFew(found, len(state.contacts), uncertain=state.tried),)


def _forked(state: WriterState[R], shown: R | None) -> Forked[R] | None:
    """Compare what a replica showed with all that is at hand."""
    if shown is None:
        return None
    known = [record for _, record in state.promises if record is not None]
    if state.proposal is not None:
        known.append(state.proposal)
    for record in known:
        if record.ballot == shown.ballot and record.content != shown.content:
            return Forked(record, shown)
    return None
