"""The writers and the reader of the model: everything that they may do."""

from __future__ import annotations

from functools import partial

from ampgrid.errors import AmpgridError
from ampgrid.register import memory, reader, words, writer
from tests.model.bounds import EPOCH, LIAR, Wrong, put
from tests.model.ground import is_there
from tests.model.symmetry import Symmetric, trimmed


class Writers(Symmetric):
    """What writers do, on an answer and by themselves."""

    def _tell(self, state, who, event, label):
        """Yield every way a writer goes on from an event."""
        key = (state.clients[who], event)
        ways = self._steps.get(key)
        if ways is None:
            client = self.client.values[state.clients[who]]
            machine, outputs = writer.step(client.machine, event)
            if machine == client.machine and not outputs:
                ways = ()
            else:
                ways = tuple(self._drive(who, client, machine, outputs))
            self._steps[key] = ways
        for client, messages, ends in ways:
            yield from self._moved(state, who, client, messages, ends, label)

    def _hears_quorum(self, state, who):
        """Yield a writer's hearing everybody who accepted what it proposed, if they suffice."""
        client = self.client.values[state.clients[who]]
        machine = client.machine
        if machine is None or machine.phase != writer.PROPOSING:
            return
        columns = [self.column.values[number] for number in state.columns]
        went, outputs = machine, ()
        for replica, column in enumerate(columns):
            if column.fate == LIAR or self.has_voted(column, machine.proposal):
                went, more = writer.step(went, words.Accepted(replica))
                outputs = (*outputs, *more)
        if outputs:
            for way in self._drive(who, client, went, outputs):
                yield from self._moved(state, who, *way, ("hears of its quorum", who))

    @staticmethod
    def has_voted(column, record):
        """Tell whether a replica has accepted this record, with its following ballot."""
        if not column.votes >> record.number & 1:
            return False
        if record.ballot or record.following is None:
            return True
        # Another's first record is the same but for that.
        promised = column.kept.promised
        return promised is not None and promised >= record.following

    def _moved(self, state, who, client, messages, ends, label):
        after = state._replace(
            clients=put(state.clients, who, self.client(client)),
            sent=self._send(state.sent, messages),
        )
        for message in messages:
            if message[0] == "accept":
                self._check_signed(after.sent, message[1])
        for end, snapshot in ends:
            self._check_end(after, snapshot, end)
            self.ends.add((type(end).__name__, getattr(end, "already", None)))
        yield label, after

    def _drive(self, who, client, machine, outputs):
        """Yield how a writer can go on: its state, what it sends, and how its attempt ended."""
        todo = [(machine, tuple(outputs), ())]
        while todo:
            machine, outputs, messages = todo.pop()
            ends = ()
            for output in outputs:
                if isinstance(output, words.SendPrepare):
                    messages = (*messages, self._prepare(output.ballot))
                elif isinstance(output, words.SendAccept):
                    messages = (*messages, ("accept", output.record))
                elif isinstance(output, (writer.NeedChange, writer.NeedSame)):
                    if self._only_liar_shows(machine):
                        went, more = writer.step(machine, words.Withheld(next(iter(self.liars))))
                        todo.append((went, more, messages))
                    for following in self._followings(who, client, output.ballot):
                        event = self._plan(who, client, output, following)
                        went, more = writer.step(machine, event)
                        todo.append((went, more, messages))
                    break
                else:
                    ends = (*ends, (output, client.snapshot))
            else:
                yield self._ended(who, client, machine, [end for end, _ in ends]), messages, ends

    def _only_liar_shows(self, machine):
        if not self.liars or machine.base is None:
            return False
        shown = {replica for replica, record in machine.promises if record is machine.base}
        return bool(shown) and shown <= self.liars

    def _followings(self, who, client, ballot):
        """Return what a writer may name as its following ballot."""
        if not self.bounds.fast:
            return (None,)
        following = self.following_ballot(who, ballot)
        if client.turn + 1 < len(self.bounds.writers[who]):
            return (following,)
        return (None, following) if self.bounds.full else (None,)

    def _plan(self, who, client, output, following):
        """Return what the writer answers: the change on the base, or that it is declined."""
        base = output.base
        record = partial(self.records.record, output.ballot, following=following)
        if base is None:
            return writer.Proposed(record((), 0, self.genesis.replicas))
        sets = (base.epoch, base.replicas, base.previous_replicas)
        if isinstance(output, writer.NeedSame):
            return writer.Proposed(record(base.content, *sets))
        op = self.bounds.writers[who][client.turn]
        content = (*base.content, op)
        sets = (base.epoch, base.replicas, ())
        if op.kind == "once" and is_there(op.key, base.content):
            return writer.Declined()
        if op.kind == "release" and not base.previous_replicas:
            return writer.Declined()
        if op.kind == "move":
            old, new = op.key
            if old not in base.replicas or new in base.replicas:
                return writer.Declined()
            members = tuple(new if replica == old else replica for replica in base.replicas)
            sets = (output.ballot // EPOCH, members, base.replicas)
            if sets[0] <= base.epoch:
                raise Wrong("the model gave a move a ballot of its base's epoch")
        return writer.Proposed(record(content, *sets))

    def _ended(self, who, client, machine, ends):
        """Return the client after an attempt went on, or ended with ``ends``."""
        client = client._replace(machine=trimmed(machine))
        for end in ends:
            above = max(client.above, machine.above)
            if isinstance(end, (writer.Done, writer.Settled)):
                result = "done"
                if isinstance(end, writer.Settled):
                    result = "already" if end.already else "declined"
                more = client.turn + 1 < len(self.bounds.writers[who])
                return client._replace(
                    machine=client.machine if more else None,
                    turn=client.turn + 1,
                    tries=-1,
                    helped=False,
                    running=False,
                    snapshot=(),
                    results=(*client.results, result),
                    above=above,
                )
            # Not yet done: `_writer_turns` begins the next attempt.
            free = isinstance(end, writer.Completed) and not client.helped and self.bounds.helps
            client = client._replace(
                running=False,
                above=above,
                tries=client.tries if free else client.tries + 1,
                helped=client.helped or free,
            )
        return client

    # By themselves

    def _writer_turns(self, state, who):
        """Yield what a writer may do by itself: begin, give up and try again, crash."""
        client = self.client.values[state.clients[who]]
        plan = self.bounds.writers[who]
        if client.turn >= len(plan):
            return
        op = plan[client.turn]
        idle = client.machine is None or client.machine.phase == writer.ENDED
        if client.tries >= 0 and not self.bounds.full and client.machine.phase == writer.PREPARING:
            return
        for label, after in self._turn(state, who, client, op, idle):
            machine = self.client.values[after.clients[who]].machine
            if machine is None or machine.phase != writer.PREPARING or self.bounds.full:
                yield label, after
                continue
            for more, answered in self._first_answers(after, who, machine):
                yield (*label, *more), answered

    def _first_answers(self, state, who, machine):
        message = self._prepare(machine.ballot)
        for replica, number in enumerate(state.columns):
            column = self.column.values[number]
            if column.fate == LIAR:
                for label, after in self._lies(state, replica, self._messages(state.sent)):
                    if after.clients[who] != state.clients[who]:
                        yield label, after
                continue
            number, answer = self.deliver(number, replica, message)  # noqa: PLW2901
            promised = state._replace(columns=put(state.columns, replica, number))
            yield from self._answers(promised, replica, message, answer)

    def _turn(self, state, who, client, op, idle):
        if client.tries < 0:
            yield from self._begin(state, who, client, op)
            if self.bounds.crashes and client.machine is not None and client.machine.following:
                forgetful = client._replace(machine=None, above=0)
                yield from self._begin(state, who, forgetful, op)
            return
        tries = client.tries if idle else client.tries + 1
        if tries >= self.bounds.attempts:
            lost = client._replace(
                turn=client.turn + 1,
                tries=-1,
                helped=False,
                running=False,
                machine=None,
                snapshot=(),
                results=(*client.results, "?"),
            )
            yield from self._moved(state, who, lost, (), (), ("gives up", who))
            return
        if op.kind == "create" or (not idle and self.bounds.refusals and not self.bounds.crashes):
            return
        for ballot in self._next_ballots(state, who, client, op):
            went = client._replace(tries=tries, running=True, last=ballot)
            machine, outputs = writer.again(client.machine, ballot)
            for way in self._drive(who, went, machine, outputs):
                yield from self._moved(state, who, *way, ("tries again", who, ballot))
            if self.is_void(state, client, op):
                machine, outputs = writer.begin(ballot, self.genesis.replicas, (op,))
                for way in self._drive(who, went, machine, outputs):
                    yield from self._moved(state, who, *way, ("begins anew", who, ballot))
            if self.bounds.crashes:
                machine, outputs = writer.begin(
                    ballot, self.genesis.replicas, (op,), tried=True, marker=client.machine.marker
                )
                for way in self._drive(who, went, machine, outputs):
                    yield from self._moved(state, who, *way, ("crashed, tries again", who, ballot))

    def is_void(self, state, client, op):
        """Tell whether a writer can know that all its attempts so far have no effect.

        So it is if a record above their ballots is committed, and does not have the operation.
        """
        return any(
            record.ballot > client.last and op not in record.content
            for record in self.committed(state)
        )

    def _begin(self, state, who, client, op):
        committed = self.committed(state)
        # To create is to make sure that the directory exists, whatever came of it since.
        snapshot = committed[-1].content if committed and op.kind != "create" else ()
        after = client.machine
        for ballot in self._next_ballots(state, who, client, op):
            went = client._replace(
                machine=None, tries=0, running=True, snapshot=snapshot, last=ballot
            )
            if op.kind == "create":
                first = self.creation_ballot(ballot)
                went = went._replace(last=first)
                machine, outputs = writer.create(first, self.genesis.replicas)
            else:
                machine, outputs = writer.begin(ballot, self.genesis.replicas, (op,), after=after)
            for way in self._drive(who, went, machine, outputs):
                yield from self._moved(state, who, *way, ("begins", who, op.name, ballot))

    def _next_ballots(self, state, who, client, op):
        """Return the ballots that a writer may take for its next attempt."""
        first = self._next_ballot(who, client, op)
        if self.bounds.refusals:
            return (first,)
        known = [0, *(what.ballot for _, what in self._messages(state.sent))]
        for number in state.columns:
            kept = self.column.values[number].kept
            if kept is not None and kept.promised is not None:
                known.append(kept.promised)
        ballots = {self._next_ballot(who, client, op, max(known))}
        if self.bounds.low or (client.machine is not None and client.machine.following):
            ballots.add(first)
        return tuple(sorted(ballots))

    def _next_ballot(self, who, client, op, least=0):
        above = max(client.last, client.above, least)
        if op.kind == "move":
            above = max(above, (above // EPOCH + 1) * EPOCH)
            return self.ballot_after(who, above)
        following = client.machine.following if client.machine is not None else None
        if following is not None and following > above:
            return following
        return self.ballot_after(who, above)


class Readers(Symmetric):
    """What the reader does."""

    def _reader_turns(self, state):
        client = self.client.values[state.clients[-1]]
        if not client.running:
            if client.turn < self.bounds.reads:
                committed = self.committed(state)
                machine, _ = reader.begin(self.genesis.replicas, thorough=self.bounds.thorough)
                began = client._replace(
                    machine=machine,
                    running=True,
                    snapshot=committed[-1].content if committed else (),
                )
                yield from self._read_begun(state, began)
            return
        if self.bounds.full or self.bounds.thorough:
            gone = client._replace(machine=None, running=False, turn=client.turn + 1, snapshot=())
            yield from self._reader_moved(state, gone, ("read given up",))
        yield from self._asked(state, client)

    def _read_begun(self, state, began):
        for label, after in self._reader_moved(state, began, ("reads",)):
            if self.bounds.full:
                yield label, after
                continue
            yield from self._asked(after, began)
            for liar in self.liars:
                for lie, lied in self._lies(after, liar, self._messages(state.sent)):
                    if lied.clients[-1] != after.clients[-1]:
                        yield lie, lied

    def _asked(self, state, client):
        for replica in range(self.size):
            column = self.column.values[state.columns[replica]]
            if column.fate == LIAR or replica not in client.machine.contacts:
                continue
            if column.fate == "stranger":
                event = words.Answer(("stranger", replica), column.kept.accepted)
            else:
                event = words.Answer(replica, column.kept.accepted)
            if replica not in client.machine.answered:
                yield from self._tell_reader(state, event, ("answers reader", event))

    def _tell_reader(self, state, event, label):
        if self.bounds.late_answers:
            client = self.client.values[state.clients[-1]]
            who = len(self.bounds.writers)
            air = state.air | 1 << self.answer((who, client.turn, event))
            if air != state.air:
                yield (*label, "into the air"), state._replace(air=air)
            return
        yield from self._hear_reader(state, event, label)

    def _hear_reader(self, state, event, label):
        client = self.client.values[state.clients[-1]]
        if not client.running:
            return
        machine, outputs = reader.step(client.machine, event)
        if machine == client.machine:
            return
        went = client._replace(machine=machine)
        for output in outputs:
            if isinstance(output, reader.Committed):
                self._check_end(state, client.snapshot, output)
                try:
                    floor = memory.remember(client.floor, client.floor, output.record)
                except AmpgridError as error:
                    raise Wrong(f"the reader went backwards: {error}") from error
                went = went._replace(floor=floor)
            elif isinstance(output, words.Forked):
                raise Wrong(f"a fork was seen: {output}")
            self.ends.add((type(output).__name__, None))
        if machine.ended:
            went = went._replace(machine=None, running=False, turn=client.turn + 1, snapshot=())
        yield from self._reader_moved(state, went, label)

    def _reader_moved(self, state, client, label):
        who = len(self.bounds.writers)
        yield label, state._replace(clients=put(state.clients, who, self.client(client)))
