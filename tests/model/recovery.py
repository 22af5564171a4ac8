"""Two who bring a register back, beside a writer: everything that can happen, within bounds.

Three replicas, which are the old set and the new one: where a set is lost, nothing can be
promised of it. Each who brings it back looks at every replica, or does not reach it; asks for
promises, each of which may come, get lost on the way, or on the way back; and sends its record to
those who promised, which arrives at any time, ever so late, or never. So do the writer's messages.
A look at all that are reached is one step. Anybody may stop at any point. The acceptor and the
judgement are those that the node runs.

What is checked of every state: of two committed records the one of the higher ballot descends
from the other. So no two recoveries come through side by side, and nothing that was acknowledged
by a quorum of these replicas is lost by one.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

from ampgrid.register import acceptor, recovery
from ampgrid.register.words import is_quorum

REPLICAS = (0, 1, 2)


class Ballot(NamedTuple):
    """A ballot; who takes it is its owner."""

    epoch: int
    counter: int
    owner: int


class Rec(NamedTuple):
    """A record; its content is the row of changes that led to it."""

    ballot: Ballot
    content: tuple
    epoch: int = 0
    recovered: bool = False

    replicas = REPLICAS
    previous_replicas = ()
    following = None


class Prep(NamedTuple):
    """A prepare."""

    ballot: Ballot


class Client(NamedTuple):
    """The writer (0) or one who brings it back (1, 2).

    Attributes:
        phase: "idle", "asking", "ended".
        heard: by replica what it showed or answered; None if it was not reached.
        base: what it goes on from.
        holders: who was seen to hold that.
        latest: the highest ballot of a record that it saw.
        ballot: of its attempt.
        tries: how often it went above others.
    """

    phase: str = "idle"
    heard: tuple = ()
    base: object = None
    holders: frozenset = frozenset()
    latest: object = None
    ballot: object = None
    tries: int = 0


class State(NamedTuple):
    """Acceptors, what each ever accepted, clients, and records that were sent to all."""

    kept: tuple
    votes: tuple
    clients: tuple
    sent: frozenset


class Wrong(Exception):  # noqa: N818
    """Something that must never be was reached."""


class RecoveryModel:
    """The model.

    Args:
        recoverers: how many bring it back.
        writes: whether the writer makes a change.
        lagging: how many replicas have not got the last record.
        tries: how often one goes above others.
        judge: tells whether a record may be sent.
    """

    def __init__(self, recoverers=2, *, writes=True, lagging=1, tries=1, judge=recovery.judge):
        first = Rec(Ballot(0, 0, 0), ())
        second = Rec(Ballot(0, 1, 0), ("a",))
        held = [first if replica < lagging else second for replica in REPLICAS]
        kept = tuple(acceptor.AcceptorState(record.ballot, None, record) for record in held)
        votes = tuple(frozenset({first, record}) for record in held)
        clients = (Client("idle" if writes else "ended"), *(Client() for _ in range(recoverers)))
        self.start = State(kept, votes, clients, frozenset())
        self._tries = tries
        self._judge = judge
        self.seen = set()

    def search(self):
        """Go through all states; return how many there are."""
        known, todo = {self.start}, [self.start]
        while todo:
            for after in self.after(todo.pop()):
                if after not in known:
                    self.check(after)
                    known.add(after)
                    todo.append(after)
        return len(known)

    def check(self, state):
        committed = self.committed(state)
        for below, above in combinations(committed, 2):
            if above.content[: len(below.content)] != below.content:
                raise Wrong(f"{above} is committed over {below}")

    @staticmethod
    def committed(state):
        records = set().union(*state.votes)
        return sorted(
            record
            for record in records
            if is_quorum((REPLICAS,), [r for r in REPLICAS if record in state.votes[r]])
        )

    # What can happen

    def after(self, state):
        for record in state.sent:
            for replica in REPLICAS:
                yield from self._arrives(state, replica, record)
        for who, client in enumerate(state.clients):
            if client.phase == "idle":
                yield from self._begins(state, who, client)
            elif client.phase == "asking":
                yield from self._asks(state, who, client)

    def _arrives(self, state, replica, record):
        kept, answer = acceptor.accept(state.kept[replica], record, replica)
        if isinstance(answer, acceptor.RecordAccepted):
            after = self._kept(state, replica, kept)
            votes = put(state.votes, replica, state.votes[replica] | {record})
            if after.kept != state.kept or votes != state.votes:
                yield after._replace(votes=votes)

    @staticmethod
    def _kept(state, replica, kept):
        return state._replace(kept=put(state.kept, replica, kept))

    @staticmethod
    def _client(state, who, client):
        return state._replace(clients=put(state.clients, who, client))

    def _begins(self, state, who, client):
        if who:
            yield from self._looks(state, who, client)
            return
        # The writer's ballots: one above what it made before, and one above all promises.
        for epoch in {0, *(kept.promised.epoch for kept in state.kept)}:
            ballot = Ballot(epoch, 9 if epoch else 2, who)
            yield self._client(state, who, client._replace(phase="asking", ballot=ballot))

    def _looks(self, state, who, client):
        everybody = [(kept.accepted, kept.promised.epoch) for kept in state.kept]
        for size in range(1, len(REPLICAS) + 1):
            for reached in combinations(REPLICAS, size):
                yield from self._found(state, who, client, {r: everybody[r] for r in reached})

    def _found(self, state, who, client, shown):
        base = max(record for record, _ in shown.values())
        holders = frozenset(r for r, (record, _) in shown.items() if record == base)
        if is_quorum((REPLICAS,), holders):
            self.seen.add("healthy")
            yield self._client(state, who, Client("ended"))
            return
        epoch, _lost = recovery.epoch_above(
            [record.ballot.epoch for record, _ in shown.values()],
            {r: epoch for r, (_, epoch) in shown.items()},
        )
        asking = Client("asking", (), base, holders, base.ballot, Ballot(epoch, 1, who))
        yield self._client(state, who, asking)

    def _asks(self, state, who, client):
        replica = len(client.heard)
        if replica == len(REPLICAS):
            yield from self._judges(state, who, client)
            return
        kept, answer = acceptor.prepare(state.kept[replica], Prep(client.ballot))
        if isinstance(answer, acceptor.PromiseMade):
            told = recovery.Told(promised=True, held=answer.accepted)
        else:
            above = None if answer.prepare is None else answer.prepare.ballot.epoch
            told = recovery.Told(promised=False, held=answer.accepted, above=above)
        delivered = self._kept(state, replica, kept)
        for after, heard in ((delivered, told), (delivered, None), (state, None)):
            yield self._client(after, who, client._replace(heard=(*client.heard, heard)))

    def _judges(self, state, who, client):
        answers = {r: told for r, told in enumerate(client.heard) if told is not None}
        if not who:
            yield from self._writes(state, answers, client)
            return
        epoch = client.ballot.epoch
        judged = self._judge(client.base, client.holders, client.latest, epoch, answers)
        self.seen.add(type(judged).__name__)
        if isinstance(judged, recovery.GoAbove) and client.tries < self._tries:
            ballot = Ballot(judged.epoch + 1, 1, who)
            again = client._replace(heard=(), ballot=ballot, tries=client.tries + 1)
            yield self._client(state, who, again)
            return
        after = self._client(state, who, Client("ended"))
        if isinstance(judged, recovery.Go) and is_quorum((REPLICAS,), judged.promised):
            content = (*client.base.content, f"recovered by {who}")
            record = Rec(client.ballot, content, epoch, recovered=True)
            after = after._replace(sent=state.sent | {record})
        yield after

    def _writes(self, state, answers, client):
        promised = {r: told.held for r, told in answers.items() if told.promised}
        after = self._client(state, 0, Client("ended"))
        if is_quorum((REPLICAS,), promised):
            base = max(held for held in promised.values())
            record = Rec(client.ballot, (*base.content, "written"), base.epoch)
            after = after._replace(sent=state.sent | {record})
            self.seen.add("written")
        yield after


def put(row, place, value):
    return (*row[:place], value, *row[place + 1 :])


#: {name: arguments of the model}; the suite has the smaller ones.
BOUNDS = {
    "one and a writer": {"recoverers": 1},
    "two": {"writes": False, "tries": 0},
    "two, nobody lags": {"writes": False, "tries": 0, "lagging": 0},
    "two, going above each other": {"writes": False},
    "two and a writer": {"tries": 0},
}
