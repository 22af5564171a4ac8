"""The ground of the model: numbers for its parts, ballots, and what must hold of every state.

What is committed is told anew here, by counting votes, apart from what is checked.
"""

from __future__ import annotations

from itertools import combinations

from ampgrid.register import reader, words, writer
from tests.model.abstract import Interned, Records
from tests.model.bounds import EPOCH, Bounds, State, Wrong


class Ground:
    """The parts of the model that have no steps."""

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

    def ballot_after(self, who: int, above: int) -> int:
        """Return the next ballot of a writer above ``above``."""
        count = len(self.bounds.writers)
        epoch, number = divmod(above, EPOCH)
        number += 1
        while number % count != who:
            number += 1
        return epoch * EPOCH + number

    def following_ballot(self, who: int, ballot: int) -> int:
        """Return the ballot that a writer names in its record under ``ballot``."""
        return self.ballot_after(who, ballot)

    def creation_ballot(self, ballot):
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
            for one in sets_that_vote(record):
                yes = sum(
                    1
                    for replica in one
                    if replica in self.liars or votes[replica] >> record.number & 1
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

    def _check_signed(self, sent, record):
        for kind, what in self._messages(sent):
            if kind != "accept" or what.ballot != record.ballot or what is record:
                continue
            # Whoever creates a directory makes one record, but for its following ballot.
            if what.number != record.number or record.version > 1:
                raise Wrong(f"{what} and {record} were signed under one ballot")

    def _check_end(self, state, snapshot, end):
        if isinstance(end, words.Forked):
            raise Wrong(f"a fork was seen: {end}")
        if not isinstance(end, (writer.Done, writer.Settled, writer.Completed, reader.Committed)):
            return
        if end.record.number not in {record.number for record in self.committed(state)}:
            raise Wrong(f"{end} was reported, and it is not committed")
        if end.record.content[: len(snapshot)] != snapshot:
            raise Wrong(f"{end} was reported, though {snapshot} was there before it began")

    # Messages

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

    def _prepare(self, ballot):
        return ("prepare", self.records.prepare(ballot))


def is_there(key, content):
    """Tell whether ``key`` is there after the changes in ``content``."""
    there = False
    for op in content:
        if op.key == key and op.kind in {"once", "drop"}:
            there = op.kind == "once"
    return there


def sets_that_vote(record):
    """Return the sets that must each vote; told anew here, apart from what is checked."""
    if record.previous_replicas:
        return (record.replicas, record.previous_replicas)
    return (record.replicas,)
