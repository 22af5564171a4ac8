"""Which states of the model behave alike, so that one of them stands for all."""

from __future__ import annotations

from ampgrid.register import acceptor, reader, words, writer
from tests.model.bounds import LIAR, State
from tests.model.ground import Ground, sets_that_vote

_SETS = ("contacts", "lost", "accepted", "answered", "sent", "refused")


class Symmetric(Ground):
    """States that differ in names, or in what has no effect any more, are made one."""

    def canonical(self, state: State) -> State:
        """Return the one state that stands for all that behave alike.

        They differ in the names of replicas, or in messages that change nothing any more.
        """
        columns, clients, sent, air = state
        waited = tuple(self._waited(number) for number in clients)
        key = (columns, sent, waited)
        kept = self._kept.get(key)
        if kept is None:
            state = self._without_dead_messages(state, waited)
            state = self._without_dead_votes(state, waited)
            kept = self._kept[key] = (state.columns, state.sent)
        columns, sent = kept
        signatures = [self._signature(number) for number in clients]
        new = list(self._same_names)
        for group in self.alike:
            keyed = [
                (columns[replica], *[one[replica] for one in signatures], replica)
                for replica in group
            ]
            if sorted(keyed) != keyed:
                keyed.sort()
                for place, one in zip(group, keyed, strict=True):
                    new[one[-1]] = place
        names = tuple(new)
        if names == self._same_names:
            return State(columns, clients, sent, air)
        renamed = [0] * self.size
        for replica, number in enumerate(columns):
            renamed[names[replica]] = number
        clients = tuple([self._rename(number, names) for number in clients])
        return State(tuple(renamed), clients, sent, air)

    def _waited(self, number):
        """Return the ballot about which a client may still hear something, or None."""
        if number not in self._waits:
            self._waits[number] = self.client.values[number].waits_for
        return self._waits[number]

    def _without_dead_messages(self, state, waited):
        """Drop the messages that change nothing any more, now or later."""
        if self.bounds.disk_losses or self.bounds.expiries:
            return state
        sent = 0
        for message in self._messages(state.sent):
            if message[1].ballot in waited or self._lives(state, message):
                sent |= 1 << self.message(message)
        return state._replace(sent=sent)

    def _without_dead_votes(self, state, waited):
        """Count a committed record as accepted by all, and one that cannot be by none."""
        return state._replace(columns=self._count_votes(state, waited))

    def _count_votes(self, state, waited):
        columns = [self.column.values[number] for number in state.columns]
        committed = self.committed(state)
        every = set().union(
            *({r for r in self.records.all if column.votes >> r.number & 1} for column in columns)
        )
        new = [0] * self.size
        for record in every:
            if record in committed:
                who = range(self.size)
            else:
                may = {
                    replica
                    for replica, column in enumerate(columns)
                    if column.fate == LIAR
                    or column.votes >> record.number & 1
                    or self._may_vote(state, replica, record)
                }
                if not words.is_quorum(sets_that_vote(record), may):
                    continue
                who = [r for r, column in enumerate(columns) if column.votes >> record.number & 1]
            for replica in who:
                new[replica] |= 1 << record.number
        return tuple(
            self.column(column._replace(votes=votes))
            for column, votes in zip(columns, new, strict=True)
        )

    def _may_vote(self, state, replica, record):
        _, answer = self.deliver(state.columns[replica], replica, ("accept", record))
        return isinstance(answer, acceptor.RecordAccepted)

    def _lives(self, state, message):
        """Tell whether a message may still do something, to a replica or for an asker."""
        kind, what = message
        if kind == "prepare" and not self.bounds.full:
            return False
        if kind == "accept" and (self.bounds.liar or self.bounds.late_answers):
            return True
        for replica, number in enumerate(state.columns):
            column = self.column.values[number]
            if column.fate == LIAR:
                continue
            held = column.kept.accepted
            asked = kind == "accept" and self.has_reader
            if asked and held is not None and words.is_same(held, what):
                return True
            if self.deliver(number, replica, message)[0] != number:
                return True
        return False

    def _signature(self, number):
        """Return, for each replica, what a client has to do with it."""
        found = self._signatures.get(number)
        if found is None:
            client = self.client.values[number]
            found = self._signatures[number] = tuple(
                self._has_to_do(client.machine, replica) for replica in range(self.size)
            )
        return found

    @staticmethod
    def _has_to_do(machine, replica):
        if machine is None:
            return ()
        if isinstance(machine, reader.ReaderState):
            votes = sorted(r.number for who, r in machine.votes if who == replica)
            return (
                replica in machine.answered,
                replica in machine.lost,
                replica in machine.sent,
                replica in machine.refused,
                *votes,
            )
        shown = [-1 if r is None else r.number for who, r in machine.promises if who == replica]
        return (
            replica in machine.lost,
            replica in machine.accepted,
            *shown,
        )

    def _rename(self, number, names):
        key = (number, names)
        found = self._renamed.get(key)
        if found is None:
            client = self.client.values[number]
            if client.machine is not None:
                client = client._replace(machine=renamed(client.machine, names))
            found = self._renamed[key] = self.client(client)
        return found


def renamed(machine, names):
    """Return a machine's state with every replica renamed; strangers are never noted."""
    changes = {}
    for name in _SETS:
        old = getattr(machine, name, None)
        if isinstance(old, frozenset):
            changes[name] = frozenset(names[replica] for replica in old)
    for name in ("promises", "votes"):
        old = getattr(machine, name, None)
        if old is not None:
            changes[name] = frozenset((names[replica], record) for replica, record in old)
    return machine._replace(**changes)


def trimmed(machine):
    """Leave out of a writer's state what cannot matter any more, to have fewer states."""
    nothing = frozenset()
    if machine.phase == writer.PROPOSING:
        return machine._replace(promises=nothing, base=None, current=False)
    if machine.phase == writer.ENDED:
        if machine.committed:
            return machine._replace(
                promises=nothing,
                base=None,
                current=False,
                accepted=nothing,
                lost=nothing,
                operations=nothing,
                tried=False,
                marker=None,
                refused=False,
            )
        return machine._replace(
            promises=nothing,
            base=None,
            current=False,
            accepted=nothing,
            lost=nothing,
            proposal=None,
            refused=False,
        )
    return machine
