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
from tests.model import abstract, bounds, obstruction, register_model
from tests.model.configurations import (
    AMNESIA,
    CREATION,
    CREATION_TOO,
    DECLINES,
    EXPIRY,
    FAST,
    FAST_RACE,
    FAST_RETRY,
    LIAR,
    LIAR_FAST,
    LIAR_READ,
    MOVE,
    MOVE_ON,
    MOVE_READ,
    RACE,
    READ,
    RETRY,
    TRIED,
)
from tests.model.liveness import Alone
from tests.model.obstruction import Obstructed

_prepare, _accept, _forget = acceptor.prepare, acceptor.accept, acceptor.forget
_choose = writer._choose
_begin, _decide = writer.begin, reader._decide
_record = abstract.Records.record
_reached = obstruction.Obstructed.reached
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
        each: what makes the check of each state by which it is found, where nothing goes wrong
            with it but a writer alone gets nowhere.
    """

    name: str
    bounds: bounds.Bounds
    where: object
    part: str
    by: Callable
    deep: bool = True
    each: Callable | None = None

    @contextmanager
    def alive(self):
        """Break the machines, for the time of a with statement."""
        with mock.patch.object(self.where, self.part, self.by):
            yield


# Acceptors


def accepts_below_its_promise(state, record, me):
    after, answer = _accept(state._replace(promised=record.ballot), record, me)
    if state.promised is not None and after.promised < state.promised:
        after = after._replace(promised=state.promised, prepare=state.prepare)
    return after, answer


def accepts_below_what_it_holds(state, record, me):
    if state.accepted is not None and state.accepted.ballot > record.ballot:
        return _accept(state._replace(accepted=None, promised=None), record, me)
    return _accept(state, record, me)


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


def promises_the_next_and_forgets_it(state, record, me):
    after, answer = _accept(state, record, me)
    if after is not state and isinstance(answer, acceptor.RecordAccepted):
        after = after._replace(promised=record.ballot)
    return after, answer


def holds_the_first_of_two_that_are_the_same(state, record, me):
    after, answer = _accept(state, record, me)
    held = state.accepted
    if held is not None and words.is_same(held, record):
        return state, answer
    return after, answer


def promises_the_next_with_an_old_record(state, record, me):
    held = state.accepted
    later = held is not None and held.ballot > record.ballot
    if later and record.following is not None and state.promised <= record.following:
        following = abstract.Prep(record.following)
        return (
            acceptor.AcceptorState(record.following, following, held),
            acceptor.RecordAccepted(),
        )
    return _accept(state, record, me)


def promises_the_next_before_it_accepts(state, record, me):
    following = record.following
    if following is None or state.promised is None or state.promised >= following:
        return _accept(state, record, me)
    return state._replace(promised=following), acceptor.RefusedBy(state.prepare, state.accepted)


def shows_what_it_holds_without_its_following(state, asked):
    after, answer = _prepare(state, asked)
    held = answer.accepted
    if isinstance(answer, acceptor.RefusedBy) and held is not None:
        plain = abstract.Rec(held.number, *held.key)
        answer = answer._replace(accepted=plain)
    return after, answer


def votes_in_the_new_set_only(state, record, me):
    if me not in record.replicas:
        return state, acceptor.NotMine()
    return _accept(state, record, me)


def lets_the_ballot_go_with_the_record(state):
    return acceptor.AcceptorState()


def promises_though_it_has_forgotten(state, asked):
    return _prepare(state._replace(forgotten=False), asked)


def votes_as_a_stranger(self, state, replica, column):
    lost = bounds.Column(acceptor.AcceptorState(), column.votes)
    columns = bounds.put(state.columns, replica, self.column(lost))
    if sum(number == self.column(lost) for number in state.columns) < self.bounds.disk_losses:
        yield ("disk lost", replica), state._replace(columns=columns)


def wants_the_epoch_of_the_ballot(self, ballot, content, epoch, *sets, following=None):
    if ballot // bounds.EPOCH != epoch:
        raise bounds.Wrong(f"no record of epoch {epoch} can be made under ballot {ballot}")
    return _record(self, ballot, content, epoch, *sets, following=following)


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


def signs_the_following_prepare_apart(self, kept, sent):
    """Give the liar what writers once sent along with their records."""
    named = {what.following for kind, what in sent if kind == "accept"} - {None}
    apart = {("prepare", self.model.records.prepare(ballot)) for ballot in named}
    return _reached(self, kept, sent | apart)


def follows_on_what_is_not_committed(ballot, replicas, operations=(), *, after=None, **more):
    if after is not None:
        after = after._replace(committed=True)
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
    _mutant(acceptor, "accept", votes_in_the_new_set_only, MOVE, each=Alone),
    _mutant(acceptor, "accept", holds_the_first_of_two_that_are_the_same, CREATION_TOO),
    _mutant(acceptor, "accept", promises_the_next_and_forgets_it, FAST_RACE),
    _mutant(acceptor, "accept", promises_the_next_with_an_old_record, FAST_RACE),
    _mutant(acceptor, "accept", promises_the_next_before_it_accepts, LIAR_FAST, each=Obstructed),
    _mutant(acceptor, "prepare", shows_what_it_holds_without_its_following, FAST_RACE),
    _mutant(acceptor, "prepare", promises_and_forgets_it, RACE),
    _mutant(acceptor, "prepare", promises_below_what_it_promised, RACE),
    _mutant(acceptor, "prepare", promises_and_hides_what_it_holds, RACE),
    _mutant(acceptor, "prepare", promises_though_it_has_forgotten, EXPIRY),
    _mutant(acceptor, "forget", lets_the_ballot_go_with_the_record, EXPIRY),
    _mutant(_MODEL, "_misfortunes", votes_as_a_stranger, AMNESIA),
    _mutant(abstract.Records, "record", wants_the_epoch_of_the_ballot, MOVE),
    _mutant(_MODEL, "creation_ballot", creates_under_any_ballot, CREATION),
    _mutant(Obstructed, "reached", signs_the_following_prepare_apart, LIAR_FAST, each=Obstructed),
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
    _mutant(writer, "begin", follows_on_what_is_not_committed, FAST_RETRY),
    _mutant(writer, "is_between_sets", goes_on_from_a_move_under_way, MOVE_ON),
    _mutant(writer, "sets_of", only_the_new_set, MOVE),
    _mutant(reader, "_decide", returns_the_highest, READ),
    _mutant(reader, "_decide", returns_the_first, READ),
    _mutant(reader, "is_quorum", one_less_is_enough, LIAR_READ),
    _mutant(reader, "sets_of", only_the_new_set, MOVE_READ),
]
