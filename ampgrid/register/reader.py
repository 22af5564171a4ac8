"""The reader: finds a committed record, and finishes what a writer has begun; no write key needed.

States: asking (also while it pushes), ended.
Events: `Answer` (what a replica holds; also the record that it was sent and has accepted),
`Refused`, `Withheld`, `Unreachable`, `Widen`.
Outputs: `SendAsk`, `SendAccept`, and at the end one of `Committed`, `Undecided`, `TooFew`,
`Forked`. A thorough reader goes on after `Committed`, and brings replicas that lag up to date.

Spec: ``docs/specs/register.md#reader``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, NamedTuple, TypeAlias

from ampgrid.register.words import (
    Answer,
    Forked,
    R,
    Refused,
    Replica,
    Replicas,
    SendAccept,
    SendAsk,
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


class Widen(NamedTuple):
    """Ask these replicas too; for who seeks the replicas of a directory."""

    replicas: Replicas


Event: TypeAlias = Answer[R] | Refused[R] | Withheld | Unreachable | Widen


class Committed(NamedTuple, Generic[R]):
    """A quorum has accepted this record, and none after it before `begin`."""

    record: R


class Undecided(NamedTuple, Generic[R]):
    """A change is under way that only who has the write cap can settle.

    Attributes:
        record: the highest that was seen.
        above: the highest ballot that stands in its way.
    """

    record: R
    above: Any


Output: TypeAlias = SendAsk | SendAccept[R] | Committed[R] | Undecided[R] | TooFew | Forked[R]


class ReaderState(NamedTuple, Generic[R]):
    """One read; made by `begin` only.

    Attributes:
        contacts: every replica that is asked.
        thorough: whether those that lag are brought up to date.
        answered: replicas that said what they hold, if only nothing.
        votes: every record that a replica is known to have accepted, with it.
        lost: replicas that withhold or cannot be reached.
        pushed: the record that is being sent to those that lack it.
        sent: replicas to which it was sent.
        refused: replicas that refused it.
        above: the highest ballot that was met.
        committed: what was found.
        ended: whether nothing more will come out.
    """

    contacts: Replicas
    thorough: bool = False
    answered: Replicas = frozenset()
    votes: frozenset[tuple[Replica, R]] = frozenset()
    lost: Replicas = frozenset()
    pushed: R | None = None
    sent: Replicas = frozenset()
    refused: Replicas = frozenset()
    above: Any = None
    committed: R | None = None
    ended: bool = False


Step: TypeAlias = tuple[ReaderState[R], tuple[Output[R], ...]]


def begin(replicas: Iterable[Replica], *, thorough: bool = False) -> Step[R]:
    """Begin a read.

    Args:
        replicas: of the last record that is known of, or whichever are to be asked first;
            those that it led on to are found.
        thorough: whether replicas that lag are to be brought up to date; the read goes on
            after `Committed` then, until every replica has answered.
    """
    contacts = frozenset(replicas)
    return ReaderState(contacts, thorough), (SendAsk(contacts),)


def step(state: ReaderState[R], event: Event[R]) -> Step[R]:
    """Take one event.

    Args:
        state: of the read.
        event: about a replica, in this read. What comes twice, too late or from one that was
            not asked does no harm.

    Returns:
        The new state, and what is to be done.
    """
    if state.ended:
        return state, ()
    if isinstance(event, Widen):
        more = event.replicas - state.contacts
        return state._replace(contacts=state.contacts | more), (SendAsk(more),) if more else ()
    if event.replica not in state.contacts:
        return state, ()
    if isinstance(event, Withheld):
        votes = frozenset(vote for vote in state.votes if vote[0] != event.replica)
        state = state._replace(
            votes=votes,
            lost=state.lost | {event.replica},
            answered=state.answered - {event.replica},
        )
        return _decide(state)
    if event.replica in state.lost:
        return state, ()
    if isinstance(event, Unreachable):
        return _decide(state._replace(lost=state.lost | {event.replica}))
    if isinstance(event, Refused):
        state = state._replace(
            refused=state.refused | {event.replica}, above=higher(state.above, event.promised)
        )
    return _hear(state, event.replica, event.accepted)


def _hear(state: ReaderState[R], replica: Replica, shown: R | None) -> Step[R]:
    """Note what a replica holds, and ask those replicas that it leads on to."""
    state = state._replace(answered=state.answered | {replica})
    if shown is None:
        return _decide(state)
    for _, known in state.votes:
        if known.ballot == shown.ballot and known.content != shown.content:
            return state._replace(ended=True), (Forked(known, shown),)
    unknown = members(shown) - state.contacts
    state = state._replace(
        votes=state.votes | {(replica, shown)},
        contacts=state.contacts | unknown,
        above=higher(state.above, promise_in(shown)),
    )
    state, outputs = _decide(state)
    if unknown and not state.ended:
        return state, (SendAsk(unknown), *outputs)
    return state, outputs


def _holders(state: ReaderState[R], record: R) -> Replicas:
    return frozenset(replica for replica, shown in state.votes if is_same(shown, record))


def _decide(state: ReaderState[R]) -> Step[R]:
    """Look whether something is committed, else what can be done for it."""
    if state.committed is not None:
        return _catch_up(state, state.committed)
    sure = highest(
        record
        for record in {shown for _, shown in state.votes}
        if is_quorum(sets_of(record), _holders(state, record))
    )
    if sure is None:
        return _push(state)
    state = state._replace(committed=sure)
    if not state.thorough:
        return state._replace(ended=True), (Committed(sure),)
    state, outputs = _catch_up(state, sure)
    return state, (Committed(sure), *outputs)


def _push(state: ReaderState[R]) -> Step[R]:
    """Send the highest record to those that lack it, once a quorum has said what it holds."""
    top = highest(record for _, record in state.votes)
    open_ones = state.contacts - state.lost
    if top is None:
        return (state, ()) if not open_ones <= state.answered else _too_few(state)
    sets = sets_of(top)
    if not is_quorum(sets, state.answered):
        # What is shown may be of long ago, and who has not answered yet may know of a later set.
        if is_quorum(sets, open_ones) or not open_ones <= state.answered:
            return state, ()
        return _too_few(state)
    state, outputs = _send(state, top, members(top) - state.lost)
    if is_quorum(sets, open_ones - state.refused):
        return state, outputs
    if not state.refused:
        return _too_few(state)
    return state._replace(ended=True), (Undecided(top, state.above),)


def _catch_up(state: ReaderState[R], record: R) -> Step[R]:
    """Send what is committed to those that showed less, until every replica had its turn."""
    ahead = {replica for replica, shown in state.votes if shown.ballot >= record.ballot}
    behind = (members(record) & state.answered) - ahead - state.lost
    state, outputs = _send(state, record, behind)
    waiting = members(record) - ahead - state.lost - state.refused
    return state._replace(ended=not waiting), outputs


def _send(state: ReaderState[R], record: R, to: Replicas) -> Step[R]:
    """Send a record to those of ``to`` that lack it and were not sent it before."""
    if state.pushed is None or not is_same(state.pushed, record):
        state = state._replace(pushed=record, sent=frozenset(), refused=frozenset())
    more = to - state.sent - _holders(state, record)
    if not more:
        return state, ()
    return state._replace(sent=state.sent | more), (SendAccept(record, more),)


def _too_few(state: ReaderState[R]) -> Step[R]:
    found = len({replica for replica, _ in state.votes} - state.lost)
    return state._replace(ended=True), (TooFew(found, len(state.contacts)),)
