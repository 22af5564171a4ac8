"""A model of the whole register: acceptors, writers, a reader and the network, all states of it.

The machines are those of ``ampgrid.register``. The rest is as hostile as the rules allow:

* What was ever sent may be delivered to any replica at any time, any number of times or never,
  by whoever likes: so messages are lost, repeated, delayed and reordered, and whoever knows a
  signed record or prepare may send it on, the prepare of a following ballot too.
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

from itertools import combinations
from typing import NamedTuple

from ampgrid.errors import AmpgridError
from ampgrid.register import acceptor, memory, reader, words, writer
from tests.model.abstract import Interned, Records

LIAR = "liar"
#: Ballots count up to this within one epoch.
EPOCH = 1000


class Wrong(Exception):  # noqa: N818
    """Something that must never be was reached."""


class Op(NamedTuple):
    """A change that a writer wants.

    ``kind`` is "set" (no condition), "once" (only if ``key`` is not there, which it is then),
    "drop" (``key`` is there no more), "move" (replica ``key[0]`` leaves, ``key[1]`` comes), "release" (the set before is let go)
    or "create" (the directory).
    """

    name: str
    kind: str = "set"
    key: object = None


class Bounds(NamedTuple):
    """How much may happen; within it everything is tried.

    Attributes:
        replicas: how many are in the first set, by number; of those behind them new sets are
            made.
        spare: how many those are.
        writers: for each the changes it makes, one after the other.
        attempts: how often a writer may begin one change.
        reads: how many reads there are, one after the other, of one client.
        thorough: whether the reader brings others up to date (then it is the repairer).
        liar: whether the last replica of the first set lies.
        first: the changes in the first record.
        absent: whether there is no first record yet.
        lagging: how many of the set have not got the first record.
        disk_losses: how many replicas may lose their disk.
        expiries: how many replicas may drop their record.
        fast: whether writers send the prepare of their next ballot along.
        relay: whether records are also sent on without that prepare (as readers do).
        crashes: whether writers crash, and not only give up.
        refusals: whether writers hear refusals. They only make them end an attempt, which
            they may do at any time anyway, and give them a higher ballot; without refusals
            they may take one that is above all others.
        low: whether writers may also take the next ballot that they know of no use of, though
            higher ones are about.
        full: whether to try also what adds nothing; see `RegisterModel`.
        late_answers: whether answers stay in the air, too.
        alike: groups of replicas that may be exchanged for each other.
    """

    replicas: int = 3
    spare: int = 0
    writers: tuple = ()
    attempts: int = 2
    reads: int = 0
    thorough: bool = False
    liar: bool = False
    first: tuple = ()
    absent: bool = False
    lagging: int = 0
    disk_losses: int = 0
    expiries: int = 0
    fast: bool = True
    relay: bool = True
    crashes: bool = False
    refusals: bool = False
    low: bool = False
    full: bool = False
    late_answers: bool = False
    alike: tuple | None = None


class Column(NamedTuple):
    """One replica: what it keeps, and (for the checks) every record it ever voted for."""

    kept: object
    votes: int
    grants: int = 0  # those of them that were answered with a promise of the next ballot
    fate: str = ""  # "", "stranger", "forgot", LIAR


class Client(NamedTuple):
    """One writer or the reader.

    Attributes:
        machine: its state, None before it begins.
        turn: which change, or read, is next or under way.
        tries: attempts at it that failed; -1 if it has not begun.
        helped: whether one attempt at it completed another's move, which is no failure.
        running: whether an attempt is under way.
        snapshot: the content that was committed when the change or read began.
        results: of what was before: "done", "already", "declined" or "?".
        last: the highest ballot that it has used.
        above: the highest ballot that it met.
        floor: what the reader remembers.
    """

    machine: object = None
    turn: int = 0
    tries: int = -1
    helped: bool = False
    running: bool = False
    snapshot: tuple = ()
    results: tuple = ()
    last: int = 0
    above: int = 0
    floor: object = None

    @property
    def waits_for(self):
        """The ballot about which it may still hear something, or None."""
        machine = self.machine
        if isinstance(machine, writer.WriterState):
            if machine.phase != writer.ENDED or machine.committed:
                return machine.ballot
        elif machine is not None and machine.pushed is not None:
            return machine.pushed.ballot
        return None


class State(NamedTuple):
    """All of it; ``sent`` and ``air`` are sets of numbers of messages and answers, as bits."""

    columns: tuple  # numbers of Column
    clients: tuple  # numbers of Client; the reader is the last
    sent: int
    air: int = 0


class RegisterModel:
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

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.size = bounds.replicas + bounds.spare
        self.records = Records()
        self.column = Interned()
        self.client = Interned()
        self.message = Interned()
        self.answer = Interned()
        self.genesis = self.records.record(0, bounds.first, 0, tuple(range(bounds.replicas)))
        self.liars = frozenset({bounds.replicas - 1} if bounds.liar else ())
        if bounds.alike is None:
            honest = [r for r in range(bounds.replicas) if r not in self.liars]
            self.alike = (tuple(honest),)
        else:
            self.alike = bounds.alike
        if bounds.late_answers:
            self.alike = ()
        self.has_reader = bounds.reads > 0
        self._deliveries = {}
        self._steps = {}
        self._sents = {}
        self._signatures = {}
        self._renamed = {}
        self._kept = {}
        self._waits = {}
        self._same_names = tuple(range(self.size))
        self._committed = {}
        self._checked = set()
        self.ends = set()

    # The first state

    def start(self):
        kept = acceptor.AcceptorState(0, None, self.genesis)
        columns = []
        for replica in range(self.size):
            if replica in self.liars:
                columns.append(Column(None, 0, 0, LIAR))
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
            0 if self.bounds.absent else self._send(0, (("accept", self.genesis, None),)),
        )
        return self.canonical(state)

    # Ballots

    def ballot_after(self, who: int, above: int) -> int:
        """Return the next ballot of a writer above ``above``."""
        count = len(self.bounds.writers)
        epoch, number = divmod(above, EPOCH)
        number += 1
        while number % count != who:
            number += 1
        return epoch * EPOCH + number

    @staticmethod
    def creation_ballot(ballot):
        """Return the ballot of a first record, whatever one the writer would take."""
        return 0

    def owner(self, ballot: int) -> int:
        return (ballot % EPOCH) % len(self.bounds.writers)

    # What is committed

    def committed(self, state: State):
        """Return the committed records by rising ballot, checked for descent."""
        votes = tuple(self.column.values[number].votes for number in state.columns)
        found = self._committed.get(votes)
        if found is None:
            found = self._committed[votes] = self._find_committed(votes)
        return found

    def _find_committed(self, votes):
        found = []
        for record in self.records.all:
            if not any(vote >> record.number & 1 for vote in votes):
                continue
            for one in words_sets(record):
                yes = sum(
                    1 for replica in one if replica in self.liars or votes[replica] >> record.number & 1
                )
                if yes < len(one) // 2 + 1:
                    break
            else:
                found.append(record)
        found.sort(key=lambda record: record.ballot)
        for below, above in combinations(found, 2):
            if above.content[: len(below.content)] != below.content:
                raise Wrong(f"{above} is committed over {below} and does not descend from it")
        for record in found:
            if len(set(record.content)) != len(record.content):
                raise Wrong(f"an operation took effect twice in {record}")
            for place, op in enumerate(record.content):
                if op.kind == "once" and is_there(op.key, record.content[:place]):
                    raise Wrong(f"a condition held for two racers in {record}")
        return tuple(found)

    def check(self, state: State) -> None:
        """Check what must hold of a whole state."""
        committed = self.committed(state)
        results = tuple(self.client.values[number].results for number in state.clients)
        key = (committed, results)
        if key in self._checked:
            return
        self._checked.add(key)
        for who, plan in enumerate(self.bounds.writers):
            for op, result in zip(plan, results[who], strict=False):
                for record in committed:
                    if result == "declined" and op in record.content:
                        raise Wrong(f"{op.name} was declined, and is in {record}")
                held = op.kind == "create" or any(op in r.content for r in committed)
                if result in {"done", "already"} and not held:
                    raise Wrong(f"{op.name} was acknowledged and is nowhere committed")

    # Sending and delivering

    def _send(self, sent, messages):
        for message in messages:
            sent |= 1 << self.message(message)
        return sent

    def _messages(self, sent):
        found = self._sents.get(sent)
        if found is None:
            found = self._sents[sent] = tuple(
                message for number, message in enumerate(self.message.values) if sent >> number & 1
            )
        return found

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
        kind, what, following = message
        if kind == "prepare":
            kept, answer = acceptor.prepare(column.kept, what)
            again = acceptor.prepare(kept, what)
        else:
            kept, answer = acceptor.accept(column.kept, what, me, following)
            again = acceptor.accept(kept, what, me, following)
        if again != (kept, answer):
            raise Wrong(f"{me} answers {message} with {answer}, and then with {again[1]}")
        votes, grants = column.votes, column.grants
        if isinstance(answer, acceptor.RecordAccepted) and column.fate != "stranger":
            votes |= 1 << what.number
            grants |= answer.next_promised << what.number
        self._check_column(column.kept, kept)
        return Column(kept, votes, grants, column.fate), answer

    @staticmethod
    def _check_column(before, after):
        if before.promised is not None and after.promised < before.promised:
            raise Wrong(f"the promise of {before} went down to {after}")
        if before.accepted is not None and (
            after.accepted is None or after.accepted.ballot < before.accepted.ballot
        ):
            raise Wrong(f"the record of {before} went down to {after}")

    # The successors of a state

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
                    columns = _put(state.columns, replica, after)
                    promised = state._replace(columns=columns)
                    yield from self._answers(promised, replica, message, answer)
                else:
                    columns = _put(state.columns, replica, after)
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

    def _answers(self, state, replica, message, answer):
        """Yield the delivery of an answer to each client that waits for it."""
        kind, what, following = message
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
                event = _refusal(name, answer)
            yield from self._hear(state, who, what.ballot, event, (message, "answer", replica))
            return
        if what.ballot and self.bounds.full and not quiet:
            who = self.owner(what.ballot)
            if isinstance(answer, acceptor.RecordAccepted):
                event = words.Accepted(name, answer.next_promised)
            else:
                event = _refusal(name, answer)
            yield from self._hear(state, who, what.ballot, event, (message, "answer", replica))
        if self.has_reader and following is None:
            machine = self.client.values[state.clients[-1]].machine
            if machine is not None and machine.pushed is what:
                if isinstance(answer, acceptor.RecordAccepted):
                    event = words.Answer(name, what)
                else:
                    event = _refusal(name, answer)
                yield from self._tell_reader(state, event, (message, "answer to reader", replica))

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

    # Misfortunes

    def _misfortunes(self, state, replica, column):
        fates = [self.column.values[number].fate for number in state.columns]
        if not column.fate and fates.count("stranger") < self.bounds.disk_losses:
            lost = Column(acceptor.AcceptorState(), column.votes, 0, "stranger")
            yield (
                ("disk lost", replica),
                state._replace(columns=_put(state.columns, replica, self.column(lost))),
            )
        if not column.fate and fates.count("forgot") < self.bounds.expiries:
            kept = acceptor.forget(column.kept)
            gone = Column(kept, column.votes, column.grants, "forgot")
            yield (
                ("expired", replica),
                state._replace(columns=_put(state.columns, replica, self.column(gone))),
            )

    def _lies(self, state, liar, messages):
        shown = [None, *(what for kind, what, following in messages if kind == "accept")]
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
                event = words.Accepted(liar, next_promised=True)
                yield from self._tell(state, who, event, ("lie", event))
        if self.has_reader and self.client.values[state.clients[-1]].running:
            for record in shown:
                event = words.Answer(liar, record)
                yield from self._tell_reader(state, event, ("lie to reader", event))
            event = words.Withheld(liar)
            yield from self._tell_reader(state, event, ("lie to reader", event))

    # Writers

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
        bit = 1 << machine.proposal.number
        for granting in (True, False) if self.bounds.fast else (False,):
            went, outputs = machine, ()
            for replica, column in enumerate(columns):
                if column.fate == LIAR:
                    event = words.Accepted(replica, granting)
                elif column.votes & bit:
                    event = words.Accepted(replica, granting and bool(column.grants & bit))
                else:
                    continue
                went, more = writer.step(went, event)
                outputs = (*outputs, *more)
            if outputs:
                for way in self._drive(who, client, went, outputs):
                    yield from self._moved(state, who, *way, ("hears of its quorum", who))

    def _moved(self, state, who, client, messages, ends, label):
        after = state._replace(
            clients=_put(state.clients, who, self.client(client)),
            sent=self._send(state.sent, messages),
        )
        for message in messages:
            if message[0] == "accept":
                self._check_signed(after.sent, message[1])
        for end, snapshot in ends:
            self._check_end(after, snapshot, end)
            self.ends.add((type(end).__name__, getattr(end, "already", None)))
        yield label, after

    def _check_signed(self, sent, record):
        for kind, what, _ in self._messages(sent):
            if kind == "accept" and what.ballot == record.ballot and what is not record:
                raise Wrong(f"{what} and {record} were signed under one ballot")

    def _check_end(self, state, snapshot, end):
        if isinstance(end, words.Forked):
            raise Wrong(f"a fork was seen: {end}")
        if not isinstance(end, (writer.Done, writer.Settled, writer.Completed, reader.Committed)):
            return
        if end.record not in self.committed(state):
            raise Wrong(f"{end} was reported, and it is not committed")
        if end.record.content[: len(snapshot)] != snapshot:
            raise Wrong(f"{end} was reported, though {snapshot} was there before it began")

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
                    messages = (*messages, *self._accepts(output))
                elif isinstance(output, (writer.NeedChange, writer.NeedSame)):
                    if self._only_liar_shows(machine):
                        went, more = writer.step(machine, words.Withheld(next(iter(self.liars))))
                        todo.append((went, more, messages))
                    event = self._plan(who, client, machine, output)
                    went, more = writer.step(machine, event)
                    todo.append((went, more, messages))
                    break
                else:
                    ends = (*ends, (output, client.snapshot))
            else:
                yield self._ended(who, client, machine, [end for end, _ in ends]), messages, ends

    def _prepare(self, ballot):
        return ("prepare", self.records.prepare(ballot), None)

    def _accepts(self, output):
        record, following = output.record, None
        if output.following is not None:
            following = self.records.prepare(output.following)
            yield ("accept", record, following)
            if self.bounds.liar:
                # It may send on what it was sent: the prepare alone.
                yield ("prepare", following, None)
        if following is None or self.bounds.relay:
            yield ("accept", record, None)

    def _only_liar_shows(self, machine):
        if not self.liars or machine.base is None:
            return False
        shown = {replica for replica, record in machine.promises if record is machine.base}
        return bool(shown) and shown <= self.liars

    def _plan(self, who, client, machine, output):
        """Return what the writer answers: the change on the base, or that it is declined."""
        base = output.base
        more = self.bounds.full or client.turn + 1 < len(self.bounds.writers[who])
        following = None
        if self.bounds.fast and more:
            following = self.ballot_after(who, output.ballot)
        if base is None:
            return writer.Proposed(
                self.records.record(output.ballot, (), 0, self.genesis.replicas), following
            )
        sets = (base.epoch, base.replicas, base.previous_replicas)
        if isinstance(output, writer.NeedSame):
            return writer.Proposed(
                self.records.record(output.ballot, base.content, *sets), following
            )
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
        return writer.Proposed(self.records.record(output.ballot, content, *sets), following)

    def _ended(self, who, client, machine, ends):
        """Return the client after an attempt went on, or ended with ``ends``."""
        client = client._replace(machine=_trimmed(machine))
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
            free = isinstance(end, writer.Completed) and not client.helped
            client = client._replace(
                running=False,
                above=above,
                tries=client.tries if free else client.tries + 1,
                helped=client.helped or free,
            )
        return client

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
            promised = state._replace(columns=_put(state.columns, replica, number))
            yield from self._answers(promised, replica, message, answer)

    def _turn(self, state, who, client, op, idle):
        if client.tries < 0:
            yield from self._begin(state, who, client, op)
            if self.bounds.crashes and client.machine is not None and client.machine.granted:
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
        if op.kind == "create" or (
            not idle and self.bounds.refusals and not self.bounds.crashes
        ):
            return
        for ballot in self._next_ballots(state, who, client, op):
            went = client._replace(tries=tries, running=True, last=ballot)
            machine, outputs = writer.again(client.machine, ballot)
            for way in self._drive(who, went, machine, outputs):
                yield from self._moved(state, who, *way, ("tries again", who, ballot))
            if self.bounds.crashes:
                machine, outputs = writer.begin(
                    ballot, self.genesis.replicas, (op,), tried=True, marker=client.machine.marker
                )
                for way in self._drive(who, went, machine, outputs):
                    yield from self._moved(state, who, *way, ("crashed, tries again", who, ballot))

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
                ballot = self.creation_ballot(ballot)
                machine, outputs = writer.create(ballot, self.genesis.replicas)
            else:
                machine, outputs = writer.begin(ballot, self.genesis.replicas, (op,), after=after)
            for way in self._drive(who, went, machine, outputs):
                yield from self._moved(state, who, *way, ("begins", who, op.name, ballot))

    def _next_ballots(self, state, who, client, op):
        """Return the ballots that a writer may take for its next attempt."""
        first = self._next_ballot(who, client, op)
        if self.bounds.refusals:
            return (first,)
        known = [0, *(what.ballot for _, what, _ in self._messages(state.sent))]
        for number in state.columns:
            kept = self.column.values[number].kept
            if kept is not None and kept.promised is not None:
                known.append(kept.promised)
        ballots = {self._next_ballot(who, client, op, max(known))}
        if self.bounds.low or (client.machine is not None and client.machine.granted):
            ballots.add(first)
        return tuple(sorted(ballots))

    def _next_ballot(self, who, client, op, least=0):
        above = max(client.last, client.above, least)
        if op.kind == "move":
            above = max(above, (above // EPOCH + 1) * EPOCH)
        elif client.machine is not None and client.machine.following is not None:
            if client.machine.following > above:
                return client.machine.following
        return self.ballot_after(who, above)

    # The reader

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
                for label, lied in self._lies(after, liar, self._messages(state.sent)):
                    if lied.clients[-1] != after.clients[-1]:
                        yield label, lied

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
            went = went._replace(
                machine=None, running=False, turn=client.turn + 1, snapshot=()
            )
        yield from self._reader_moved(state, went, label)

    def _reader_moved(self, state, client, label):
        who = len(self.bounds.writers)
        yield label, state._replace(clients=_put(state.clients, who, self.client(client)))

    # Symmetry

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
            *(
                {r for r in self.records.all if column.votes >> r.number & 1}
                for column in columns
            )
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
                if not words.is_quorum(words_sets(record), may):
                    continue
                who = [r for r, column in enumerate(columns) if column.votes >> record.number & 1]
            for replica in who:
                new[replica] |= 1 << record.number
        awaited = sum(1 << r.number for r in every if r.ballot in waited)
        return tuple(
            self.column(column._replace(votes=votes, grants=column.grants & awaited))
            for column, votes in zip(columns, new, strict=True)
        )

    def _may_vote(self, state, replica, record):
        _, answer = self.deliver(state.columns[replica], replica, ("accept", record, None))
        return isinstance(answer, acceptor.RecordAccepted)

    def _lives(self, state, message):
        """Tell whether a message may still do something, to a replica or for an asker."""
        kind, what, following = message
        if kind == "prepare" and not self.bounds.full:
            return False
        if kind == "accept" and (self.bounds.liar or self.bounds.late_answers):
            return True
        for replica, number in enumerate(state.columns):
            column = self.column.values[number]
            if column.fate == LIAR:
                continue
            if kind == "accept" and following is None and self.has_reader:
                if column.kept.accepted is what:
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
        shown = [
            -1 if r is None else r.number for who, r in machine.promises if who == replica
        ]
        return (
            replica in machine.lost,
            replica in machine.accepted,
            replica in machine.granted,
            *shown,
        )

    def _rename(self, number, names):
        key = (number, names)
        found = self._renamed.get(key)
        if found is None:
            client = self.client.values[number]
            if client.machine is not None:
                client = client._replace(machine=_renamed(client.machine, names))
            found = self._renamed[key] = self.client(client)
        return found


_SETS = ("contacts", "lost", "accepted", "granted", "answered", "sent", "refused")


def _renamed(machine, names):
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


def _trimmed(machine):
    """Leave out of a writer's state what cannot matter any more, to have fewer states."""
    nothing = frozenset()
    if machine.phase == writer.PROPOSING:
        return machine._replace(promises=nothing, base=None, current=False)
    if machine.phase == writer.ENDED:
        if machine.committed:
            return machine._replace(
                granted=_rounded(machine),
                promises=nothing, base=None, current=False, accepted=nothing, lost=nothing,
                operations=nothing, tried=False, marker=None, refused=False,
            )
        return machine._replace(
            promises=nothing, base=None, current=False, accepted=nothing, lost=nothing,
            granted=nothing, proposal=None, following=None, refused=False,
        )
    return machine


def _rounded(machine):
    """Whoever granted the next ballot: all of them or none, for they matter as a quorum only."""
    if machine.following is None or not machine.granted:
        return frozenset()
    for one in words_sets(machine.proposal):
        if sum(1 for replica in one if replica in machine.granted) < len(one) // 2 + 1:
            return frozenset()
    return machine.contacts


def _put(row, place, value):
    return (*row[:place], value, *row[place + 1 :])


def _refusal(name, answer):
    if isinstance(answer, acceptor.Conflict):
        return words.Refused(name, None, answer.accepted)
    if isinstance(answer, acceptor.NotMine):
        return words.Unreachable(name)
    prepare = answer.prepare.ballot if answer.prepare is not None else None
    return words.Refused(name, prepare, answer.accepted)


def is_there(key, content):
    """Tell whether ``key`` is there after the changes in ``content``."""
    there = False
    for op in content:
        if op.key == key and op.kind in {"once", "drop"}:
            there = op.kind == "once"
    return there


def words_sets(record):
    """Return the sets that must each vote; told anew here, apart from what is checked."""
    if record.previous_replicas:
        return (record.replicas, record.previous_replicas)
    return (record.replicas,)
