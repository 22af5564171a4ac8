"""Machines broken on purpose, each in one rule; the model must find every one of them out.

A mutant replaces functions of the machines for as long as it is `alive`. Each names the bounds
within which it is found; the whole machines are clean within the same bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import NamedTuple
from unittest import mock

from ampgrid.register import acceptor, reader, words, writer
from tests.model import abstract, bounds, register_model
from tests.model.configurations import (
    AMNESIA,
    CREATION,
    DECLINES,
    EXPIRY,
    FAST,
    FAST_RACE,
    LIAR,
    LIAR_READ,
    MOVE,
    MOVE_ON,
    MOVE_READ,
    RACE,
    READ,
    RETRY,
    TRIED,
)

_prepare, _accept, _forget = acceptor.prepare, acceptor.accept, acceptor.forget
_choose, _accepted = writer._choose, writer._accepted
_begin, _decide = writer.begin, reader._decide
_record = abstract.Records.record
_ballot_after = register_model.RegisterModel.ballot_after


class Mutant(NamedTuple):
    """A broken machine.

    Attributes:
        name: what is broken.
        bounds: within which it is found.
        where: the module or class with what is replaced.
        part: its name.
        by: what takes its place.
        deep: whether to search for it by going deep first, which mostly is quicker.
        alone: whether nothing goes wrong with it, but a writer alone gets nowhere.
    """

    name: str
    bounds: bounds.Bounds
    where: object
    part: str
    by: Callable
    deep: bool = True
    alone: bool = False

    @contextmanager
    def alive(self):
        """Break the machines, for the time of a with statement."""
        with mock.patch.object(self.where, self.part, self.by):
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
    later = held is not None and held.ballot > record.ballot
    if later and following is not None and state.promised <= following.ballot:
        return (
            acceptor.AcceptorState(following.ballot, following, held),
            acceptor.RecordAccepted(next_promised=True),
        )
    return _accept(state, record, me, following)


def votes_in_the_new_set_only(state, record, me, following=None):
    if me not in record.replicas:
        return state, acceptor.NotMine()
    return _accept(state, record, me, following)


def lets_the_ballot_go_with_the_record(state):
    return acceptor.AcceptorState()


def promises_though_it_has_forgotten(state, asked):
    return _prepare(state._replace(forgotten=False), asked)


def votes_as_a_stranger(self, state, replica, column):
    lost = bounds.Column(acceptor.AcceptorState(), column.votes)
    columns = bounds.put(state.columns, replica, self.column(lost))
    if sum(number == self.column(lost) for number in state.columns) < self.bounds.disk_losses:
        yield ("disk lost", replica), state._replace(columns=columns)


def wants_the_epoch_of_the_ballot(self, ballot, content, epoch, *sets):
    if ballot // bounds.EPOCH != epoch:
        raise bounds.Wrong(f"no record of epoch {epoch} can be made under ballot {ballot}")
    return _record(self, ballot, content, epoch, *sets)


# Writers


def creates_under_any_ballot(self, ballot):
    return ballot


def begins_again_under_its_old_ballot(self, who, above):
    return _ballot_after(self, who, 0)


def takes_the_lowest(records):
    held = [record for record in records if record is not None]
    return min(held, key=lambda record: record.ballot, default=None)


def half_is_enough(size):
    return size // 2


def two_of_four_are_enough(size):
    return 2


def knows_every_base_as_current(state, base, *, committed, current):
    return _choose(state, base, committed=True, current=True)


def knows_its_last_record_as_current(state, base, *, committed, current):
    return _choose(state, base, committed=committed, current=committed)


def forgets_that_it_tried(state):
    if state.current and not state.reason:
        return state._replace(phase=writer.ENDED), (writer.Settled(state.base, already=False),)
    return writer._same(state, state.base, writer.DECLINED)


def is_sure_in_any_case(self, state, client, op):
    return True


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


def _mutant(where, part, by, within, **more):
    return Mutant(by.__name__.replace("_", " "), within, where, part, by, **more)


MUTANTS = [
    _mutant(acceptor, "accept", accepts_below_its_promise, RACE),
    _mutant(acceptor, "accept", accepts_below_what_it_holds, RACE),
    _mutant(acceptor, "accept", votes_in_the_new_set_only, MOVE, alone=True),
    _mutant(acceptor, "accept", promises_the_next_whatever_it_promised, FAST_RACE),
    _mutant(acceptor, "accept", promises_the_next_and_forgets_it, FAST_RACE),
    _mutant(acceptor, "accept", promises_the_next_with_an_old_record, FAST_RACE),
    _mutant(acceptor, "prepare", promises_and_forgets_it, RACE),
    _mutant(acceptor, "prepare", promises_below_what_it_promised, RACE),
    _mutant(acceptor, "prepare", promises_and_hides_what_it_holds, RACE),
    _mutant(acceptor, "prepare", promises_though_it_has_forgotten, EXPIRY),
    _mutant(acceptor, "forget", lets_the_ballot_go_with_the_record, EXPIRY),
    _mutant(_MODEL, "_misfortunes", votes_as_a_stranger, AMNESIA),
    _mutant(abstract.Records, "record", wants_the_epoch_of_the_ballot, MOVE),
    _mutant(_MODEL, "creation_ballot", creates_under_any_ballot, CREATION),
    _mutant(_MODEL, "ballot_after", begins_again_under_its_old_ballot, RETRY),
    _mutant(words, "quorum_of", half_is_enough, RACE),
    _mutant(words, "quorum_of", two_of_four_are_enough, LIAR),
    _mutant(writer, "highest", takes_the_lowest, RETRY),
    _mutant(writer, "is_quorum", one_less_is_enough, LIAR),
    _mutant(writer, "_choose", knows_every_base_as_current, DECLINES),
    _mutant(writer, "_choose", knows_its_last_record_as_current, FAST, deep=False),
    _mutant(writer, "_choose", ignores_operations, RETRY),
    _mutant(writer, "_declined", forgets_that_it_tried, TRIED),
    _mutant(_MODEL, "is_void", is_sure_in_any_case, TRIED),
    _mutant(writer, "_accepted", counts_every_acceptance_as_a_grant, FAST_RACE),
    _mutant(writer, "begin", follows_without_a_quorum, FAST_RACE),
    _mutant(writer, "is_between_sets", goes_on_from_a_move_under_way, MOVE_ON),
    _mutant(writer, "sets_of", only_the_new_set, MOVE),
    _mutant(reader, "_decide", returns_the_highest, READ),
    _mutant(reader, "_decide", returns_the_first, READ),
    _mutant(reader, "is_quorum", one_less_is_enough, LIAR_READ),
    _mutant(reader, "sets_of", only_the_new_set, MOVE_READ),
]
