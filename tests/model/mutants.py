"""Machines broken on purpose, each in one rule; the model must find every one of them out.

A mutant replaces functions of the machines for as long as it is `alive`. Each names the bounds
within which it is found; the whole machines are clean within the same bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import NamedTuple
from unittest import mock

from ampgrid.register import acceptor, reader, words, writer
from tests.model import register_model
from tests.model.configurations import (
    AMNESIA,
    DECLINES,
    EXPIRY,
    FAST,
    FAST_RACE,
    LIAR,
    LIAR_READ,
    MOVE,
    MOVE_READ,
    MOVE_RETRY,
    RACE,
    READ,
    RETRY,
    TRIED,
)

_prepare, _accept, _forget = acceptor.prepare, acceptor.accept, acceptor.forget
_choose, _accepted = writer._choose, writer._accepted
_begin, _decide = writer.begin, reader._decide


class Mutant(NamedTuple):
    """A broken machine.

    Attributes:
        name: what is broken.
        bounds: within which it is found.
        parts: what is replaced: module, name, by what.
    """

    name: str
    bounds: register_model.Bounds
    parts: tuple[tuple[object, str, Callable], ...]

    @contextmanager
    def alive(self):
        """Break the machines, for the time of a with statement."""
        with ExitStack() as stack:
            for where, name, by in self.parts:
                stack.enter_context(mock.patch.object(where, name, by))
            yield


# Acceptors


def accepts_below_its_promise(state, record, me, following=None):
    after, answer = _accept(state._replace(promised=record.ballot), record, me, following)
    if state.promised is not None and after.promised < state.promised:
        after = after._replace(promised=state.promised, prepare=state.prepare)
    return after, answer


def accepts_below_what_it_holds(state, record, me, following=None):
    if state.accepted is not None and state.accepted.ballot > record.ballot:
        return _accept(state._replace(accepted=None, promised=None), record, me, following)
    return _accept(state, record, me, following)


def promises_and_forgets_it(state, asked):
    after, answer = _prepare(state, asked)
    return (state if isinstance(answer, acceptor.PromiseMade) else after), answer


def promises_below_what_it_promised(state, asked):
    if state.accepted is not None and state.accepted.ballot >= asked.ballot:
        return _prepare(state, asked)
    return acceptor.AcceptorState(asked.ballot, asked, state.accepted), acceptor.PromiseMade(
        state.accepted
    )


def promises_and_hides_what_it_holds(state, asked):
    after, answer = _prepare(state, asked)
    if isinstance(answer, acceptor.PromiseMade) and answer.accepted.content:
        answer = acceptor.PromiseMade(None)
    return after, answer


def promises_the_next_whatever_it_promised(state, record, me, following=None):
    after, answer = _accept(state, record, me, following)
    if isinstance(answer, acceptor.RecordAccepted) and following is not None:
        answer = acceptor.RecordAccepted(next_promised=True)
    return after, answer


def promises_the_next_and_forgets_it(state, record, me, following=None):
    after, answer = _accept(state, record, me, None)
    if isinstance(answer, acceptor.RecordAccepted) and following is not None:
        answer = acceptor.RecordAccepted(next_promised=True)
    return after, answer


def promises_the_next_with_an_old_record(state, record, me, following=None):
    held = state.accepted
    if held is not None and following is not None and held.ballot > record.ballot:
        if state.promised <= following.ballot:
            return (
                acceptor.AcceptorState(following.ballot, following, held),
                acceptor.RecordAccepted(next_promised=True),
            )
    return _accept(state, record, me, following)


def lets_the_ballot_go_with_the_record(state):
    return acceptor.AcceptorState()


def promises_though_it_has_forgotten(state, asked):
    return _prepare(state._replace(forgotten=False), asked)


def votes_as_a_stranger(self, state, replica, column):
    lost = register_model.Column(acceptor.AcceptorState(), column.votes)
    columns = register_model._put(state.columns, replica, self.column(lost))
    if sum(number == self.column(lost) for number in state.columns) < self.bounds.disk_losses:
        yield ("disk lost", replica), state._replace(columns=columns)


# Writers


def takes_the_lowest(records):
    held = [record for record in records if record is not None]
    return min(held, key=lambda record: record.ballot, default=None)


def half_is_enough(size):
    return size // 2


def knows_every_base_as_current(state, base, *, committed, current):
    return _choose(state, base, committed=True, current=True)


def knows_its_last_record_as_current(state, base, *, committed, current):
    return _choose(state, base, committed=committed, current=committed)


def forgets_that_it_tried(state):
    if state.current and not state.reason:
        return state._replace(phase=writer.ENDED), (writer.Settled(state.base, already=False),)
    return writer._same(state, state.base, writer.DECLINED)


def ignores_operations(state, base, *, committed, current):
    went, outputs = _choose(
        state._replace(operations=frozenset()), base, committed=committed, current=current
    )
    return went._replace(operations=state.operations), outputs


def counts_every_acceptance_as_a_grant(state, event):
    return _accepted(state, event._replace(next_promised=True))


def follows_without_a_quorum(ballot, replicas, operations=(), *, after=None, **more):
    if after is not None and after.committed:
        after = after._replace(granted=after.contacts)
    return _begin(ballot, replicas, operations, after=after, **more)


def goes_on_from_a_move_under_way(record):
    return False


def only_the_new_set(record):
    return (record.replicas,)


# Readers


def returns_the_highest(state):
    top = words.highest(record for _, record in state.votes)
    if top is not None and words.is_quorum(words.sets_of(top), state.answered):
        return state._replace(committed=top, ended=True), (reader.Committed(top),)
    return _decide(state)


def returns_the_first(state):
    for _, record in state.votes:
        return state._replace(committed=record, ended=True), (reader.Committed(record),)
    return _decide(state)


def one_less_is_enough(sets, replicas):
    return all(
        sum(replica in replicas for replica in one) >= words.quorum_of(len(one)) - 1
        for one in sets
    )


_MODEL = register_model.RegisterModel

MUTANTS = [
    Mutant(by.__name__.replace("_", " "), bounds, ((where, name, by),))
    for where, name, by, bounds in [
        (acceptor, "accept", accepts_below_its_promise, RACE),
        (acceptor, "accept", accepts_below_what_it_holds, RACE),
        (acceptor, "prepare", promises_and_forgets_it, RACE),
        (acceptor, "prepare", promises_below_what_it_promised, RACE),
        (acceptor, "prepare", promises_and_hides_what_it_holds, RACE),
        (acceptor, "accept", promises_the_next_whatever_it_promised, FAST_RACE),
        (acceptor, "accept", promises_the_next_and_forgets_it, FAST_RACE),
        (acceptor, "accept", promises_the_next_with_an_old_record, FAST_RACE),
        (acceptor, "forget", lets_the_ballot_go_with_the_record, EXPIRY),
        (acceptor, "prepare", promises_though_it_has_forgotten, EXPIRY),
        (_MODEL, "_misfortunes", votes_as_a_stranger, AMNESIA),
        (writer, "highest", takes_the_lowest, RETRY),
        (words, "quorum_of", half_is_enough, RACE),
        (writer, "_choose", knows_every_base_as_current, DECLINES),
        (writer, "_choose", knows_its_last_record_as_current, FAST),
        (writer, "_declined", forgets_that_it_tried, TRIED),
        (writer, "_choose", ignores_operations, RETRY),
        (writer, "_accepted", counts_every_acceptance_as_a_grant, FAST_RACE),
        (writer, "begin", follows_without_a_quorum, FAST_RACE),
        (writer, "is_quorum", one_less_is_enough, LIAR),
        (writer, "is_between_sets", goes_on_from_a_move_under_way, MOVE_RETRY),
        (writer, "sets_of", only_the_new_set, MOVE),
        (reader, "_decide", returns_the_highest, READ),
        (reader, "_decide", returns_the_first, READ),
        (reader, "is_quorum", one_less_is_enough, LIAR_READ),
        (reader, "sets_of", only_the_new_set, MOVE_READ),
    ]
]
