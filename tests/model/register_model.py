"""A model of the whole register: acceptors, writers, a reader and the network, all states of it.

The machines are those of ``ampgrid.register``. The rest is as hostile as the rules allow:

* What was ever sent may be delivered to any replica at any time, any number of times or never,
  by whoever likes: so messages are lost, repeated, delayed and reordered, and whoever knows a
  signed record or prepare may send it on.
* The answer to a message is delivered when it is given, or not at all. A late answer adds
  nothing: what a client does on it leaves the client as messages, which may be late themselves,
  and what it reports it reports no sooner. (`Bounds.late_answers` keeps answers in the air all
  the same, to check this argument where states are few.)
* A replica's state is durable before it answers, so a crash and a restart of it is a message or
  an answer that was lost. What is delivered changes the replica and loses the answer; delivered
  again it changes nothing and gives that answer, which is checked at each step.
* A writer may give up an attempt at any time and begin another, or crash, and come back knowing
  nothing but the id of its operation.
* A replica may lose its disk, and is a stranger from then on; another may drop its record.
* The liar has no state. It shows any record that was ever signed, or none, to each who asks, and
  says yes to everything. It cannot sign.

What must hold is checked in every state that is reached; `Wrong` is raised where it does not.
"""

from __future__ import annotations

from ampgrid.register import acceptor, words, writer
from tests.model.bounds import LIAR, Client, Column, State, Wrong, put
from tests.model.clients import Readers, Writers


class RegisterModel(Writers, Readers):
    """The model: `start` and `successors`, with the checks.

    What adds nothing is left out, unless the bounds say `full`:

    * A promise whose answer is lost, or for which nobody waits any more, and an attempt that ends
      before it proposes. The replica that made the promise can do less than one that did
      not, and shows the same: nothing goes wrong with it that does not without.
    * The moment between the beginning of a change or a read and the first answer to it: to
      begin later is to be checked against more.
    * The moments between one acceptance that a writer hears and the next: it hears them when
      there is a quorum. Until then it does nothing on them, and may hear less than there is.
    """

    def start(self):
        kept = acceptor.AcceptorState(0, None, self.genesis)
        columns = []
        for replica in range(self.size):
            if replica in self.liars:
                columns.append(Column(None, 0, LIAR))
            elif not self.bounds.lagging <= replica < self.bounds.replicas or self.bounds.absent:
                columns.append(Column(acceptor.AcceptorState(), 0))
            else:
                columns.append(Column(kept, 1))
        clients = [Client() for _ in self.bounds.writers]
        if self.has_reader:
            clients.append(Client())
        state = State(
            tuple(self.column(one) for one in columns),
            tuple(self.client(one) for one in clients),
            0 if self.bounds.absent else self._send(0, (("accept", self.genesis),)),
        )
        return self.canonical(state)

    def successors(self, state: State):
        """Yield every step from a state: what happens, and the state after it."""
        messages = self._messages(state.sent)
        for replica, number in enumerate(state.columns):
            column = self.column.values[number]
            if column.fate == LIAR:
                yield from self._lies(state, replica, messages)
                continue
            for message in messages:
                after, answer = self.deliver(number, replica, message)
                if after == number:
                    yield from self._answers(state, replica, message, answer)
                elif message[0] == "prepare" and not self.bounds.full:
                    columns = put(state.columns, replica, after)
                    promised = state._replace(columns=columns)
                    yield from self._answers(promised, replica, message, answer)
                else:
                    columns = put(state.columns, replica, after)
                    yield (message, "to", replica), state._replace(columns=columns)
            yield from self._misfortunes(state, replica, column)
        for who in range(len(self.bounds.writers)):
            yield from self._writer_turns(state, who)
            if not self.bounds.full:
                yield from self._hears_quorum(state, who)
        if self.has_reader:
            yield from self._reader_turns(state)
        if state.air:
            yield from self._late(state)

    def deliver(self, number: int, replica: int, message):
        """Return the number of the column after a message, and the answer."""
        key = (number, replica, message)
        found = self._deliveries.get(key)
        if found is None:
            found = self._deliver(self.column.values[number], replica, message)
            found = self._deliveries[key] = (self.column(found[0]), found[1])
        return found

    def _deliver(self, column, replica, message):
        me = replica if column.fate != "stranger" else ("stranger", replica)
        kind, what = message
        if kind == "prepare":
            kept, answer = acceptor.prepare(column.kept, what)
            again = acceptor.prepare(kept, what)
        else:
            kept, answer = acceptor.accept(column.kept, what, me)
            again = acceptor.accept(kept, what, me)
        if again != (kept, answer):
            raise Wrong(f"{me} answers {message} with {answer}, and then with {again[1]}")
        votes = column.votes
        if isinstance(answer, acceptor.RecordAccepted) and column.fate != "stranger":
            votes |= 1 << what.number
        self._check_column(column.kept, kept)
        if isinstance(answer, acceptor.RefusedBy):
            self._check_refusal(kept, what, answer)
        return Column(kept, votes, column.fate), answer

    @staticmethod
    def _check_column(before, after):
        if before.promised is not None and after.promised < before.promised:
            raise Wrong(f"the promise of {before} went down to {after}")
        if before.accepted is not None and (
            after.accepted is None or after.accepted.ballot < before.accepted.ballot
        ):
            raise Wrong(f"the record of {before} went down to {after}")

    @staticmethod
    def _check_refusal(kept, what, answer):
        """Check that what a refusal shows stands in the way, as the asker will."""
        shown = [0 if answer.prepare is None else answer.prepare.ballot]
        if answer.accepted is not None:
            shown += [answer.accepted.ballot, answer.accepted.following or 0]
        if not kept.forgotten and (max(shown) < what.ballot or max(shown) != kept.promised):
            raise Wrong(f"{kept} refuses {what} and shows nothing that stands in its way")

    def _answers(self, state, replica, message, answer):
        """Yield the delivery of an answer to each client that waits for it."""
        kind, what = message
        name = replica
        refused = isinstance(answer, (acceptor.RefusedBy, acceptor.NotMine, acceptor.Conflict))
        quiet = refused and not self.bounds.refusals
        if self.column.values[state.columns[replica]].fate == "stranger":
            name = ("stranger", replica)
        if kind == "prepare":
            if quiet:
                return
            who = self.owner(what.ballot)
            if isinstance(answer, acceptor.PromiseMade):
                event = words.Promised(name, answer.accepted)
            else:
                event = refusal(name, answer)
            yield from self._hear(state, who, what.ballot, event, (message, "answer", replica))
            return
        if self.bounds.full and not quiet:
            if isinstance(answer, acceptor.RecordAccepted):
                event = words.Accepted(name)
            else:
                event = refusal(name, answer)
            for who in self._proposers(state, what):
                yield from self._hear(state, who, what.ballot, event, (message, "answer", replica))
        if self.has_reader:
            machine = self.client.values[state.clients[-1]].machine
            if machine is not None and machine.pushed is what:
                if isinstance(answer, acceptor.RecordAccepted):
                    event = words.Answer(name, what)
                else:
                    event = refusal(name, answer)
                yield from self._tell_reader(state, event, (message, "answer to reader", replica))

    def _proposers(self, state, record):
        """Return those who may hear what becomes of a record."""
        if record.ballot:
            return [self.owner(record.ballot)]
        machines = [self.client.values[number].machine for number in state.clients]
        return [
            who
            for who, machine in enumerate(machines)
            if isinstance(machine, writer.WriterState) and machine.proposal is record
        ]

    def _hear(self, state, who, ballot, event, label):
        """Yield a writer's hearing an answer about the attempt with ``ballot``."""
        if self.bounds.late_answers:
            air = state.air | 1 << self.answer((who, ballot, event))
            if air != state.air:
                yield (*label, "into the air"), state._replace(air=air)
            return
        client = self.client.values[state.clients[who]]
        if client.machine is None or client.machine.ballot != ballot:
            return
        yield from self._tell(state, who, event, label)

    def _late(self, state):
        for number, (who, ballot, event) in enumerate(self.answer.values):
            if not state.air >> number & 1:
                continue
            client = self.client.values[state.clients[who]]
            if who == len(self.bounds.writers):
                if client.running and client.turn == ballot:
                    yield from self._hear_reader(state, event, ("late", event))
            elif client.machine is not None and client.machine.ballot == ballot:
                yield from self._tell(state, who, event, ("late", event))

    def _misfortunes(self, state, replica, column):
        fates = [self.column.values[number].fate for number in state.columns]
        if not column.fate and fates.count("stranger") < self.bounds.disk_losses:
            lost = Column(acceptor.AcceptorState(), column.votes, "stranger")
            yield (
                ("disk lost", replica),
                state._replace(columns=put(state.columns, replica, self.column(lost))),
            )
        if not column.fate and fates.count("forgot") < self.bounds.expiries:
            kept = acceptor.forget(column.kept)
            gone = Column(kept, column.votes, "forgot")
            yield (
                ("expired", replica),
                state._replace(columns=put(state.columns, replica, self.column(gone))),
            )

    def _lies(self, state, liar, messages):
        shown = [None, *(what for kind, what in messages if kind == "accept")]
        shown = list(dict.fromkeys(shown))
        for who in range(len(self.bounds.writers)):
            client = self.client.values[state.clients[who]]
            if not client.running or client.machine is None:
                continue
            if client.machine.phase == writer.PREPARING:
                for record in shown:
                    event = words.Promised(liar, record)
                    yield from self._tell(state, who, event, ("lie", event))
            elif client.machine.phase == writer.PROPOSING and self.bounds.full:
                event = words.Accepted(liar)
                yield from self._tell(state, who, event, ("lie", event))
        if self.has_reader and self.client.values[state.clients[-1]].running:
            for record in shown:
                event = words.Answer(liar, record)
                yield from self._tell_reader(state, event, ("lie to reader", event))
            event = words.Withheld(liar)
            yield from self._tell_reader(state, event, ("lie to reader", event))


def refusal(name, answer):
    if isinstance(answer, acceptor.Conflict):
        return words.Refused(name, None, answer.accepted)
    if isinstance(answer, acceptor.NotMine):
        return words.Unreachable(name)
    prepare = answer.prepare.ballot if answer.prepare is not None else None
    return words.Refused(name, prepare, answer.accepted)
