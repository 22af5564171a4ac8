"""A writer that is left alone with one liar of four gets its change in, whatever the liar does.

The liar has every record and prepare that was ever sent, and is sent everything first: before
each message of the writer reaches an honest replica, that one may be given any of them, in any
order. It answers the writer as it likes, or never. The honest replicas are slow, each as long as
the liar likes, but answer in the end. From each state that is reached a fresh writer makes two
changes, the second under the following ballot of the first, and each is in after at most
`MOST_ATTEMPTS` attempts: the liar cannot hold it up for ever.
"""

from __future__ import annotations

from typing import NamedTuple

from ampgrid.register import acceptor, words, writer
from tests.model.bounds import LIAR, Op, Wrong
from tests.model.liveness import MOST_ATTEMPTS
from tests.model.register_model import refusal
from tests.model.symmetry import Symmetric, renamed, trimmed

CHANGES = (Op("the last but one"), Op("the last"))


class Play(NamedTuple):
    """A moment of the game.

    Attributes:
        machine: the state of the writer.
        kept: what each honest replica keeps, by its number.
        sent: everything that was ever sent.
        answered: who has answered what the writer sent last, or never will.
        change: which one it makes.
        attempts: how many at it have failed.
    """

    machine: writer.WriterState
    kept: tuple
    sent: frozenset
    answered: frozenset = frozenset()
    change: int = 0
    attempts: int = 0


class Obstructed:
    """Plays all games from one state after the other; those that look alike once.

    Attributes:
        checked: what the games began with.
        most_attempts: the most that any change took.
        moments: how many there were in all games.
    """

    def __init__(self):
        self.checked = set()
        self.most_attempts = 0
        self.moments = 0
        self._reached = {}
        self._numbers = {}
        self._seen = set()

    def __call__(self, model, state):
        columns = [model.column.values[number] for number in state.columns]
        # The last of the set lies.
        self.liar = len(columns) - 1
        kept = tuple(column.kept for column in columns[:-1])
        assert columns[-1].fate == LIAR
        sent = frozenset(self.at_hand(model, state))
        if (kept, sent) in self.checked:
            return
        self.checked.add((kept, sent))
        self.model = model
        machine, outputs = writer.begin(0.5, model.genesis.replicas, CHANGES[:1])
        todo = list(self._after(Play(machine, kept, sent), outputs))
        while todo:
            play = self._canonical(todo.pop())
            if play not in self._seen:
                self._seen.add(play)
                todo.extend(self._moves(play))
        self.moments = len(self._seen)

    def _canonical(self, play):
        """Return the one moment that stands for those that differ in names, or in what is over."""
        machine = trimmed(play.machine)
        keyed = [
            (
                self._numbers.setdefault(kept, len(self._numbers)),
                replica in play.answered,
                Symmetric._has_to_do(machine, replica),
                replica,
            )
            for replica, kept in enumerate(play.kept)
        ]
        keyed.sort()
        names = [0] * len(keyed) + [self.liar]
        for place, one in enumerate(keyed):
            names[one[-1]] = place
        return play._replace(
            machine=renamed(machine, names),
            kept=tuple(play.kept[one[-1]] for one in keyed),
            sent=self._lively(play),
            answered=frozenset(names[replica] for replica in play.answered),
        )

    def _lively(self, play):
        """Return what was sent and still changes an honest replica, or is worth a lie."""
        least = min(-1 if one.accepted is None else one.accepted.ballot for one in play.kept)
        lowest = min(-1 if one.promised is None else one.promised for one in play.kept)
        return frozenset(
            (kind, what)
            for kind, what in play.sent
            if (what.ballot >= least if kind == "accept" else what.ballot > lowest)
        )

    def at_hand(self, model, state):
        """Return the messages that the liar may send on."""
        yield from model._messages(state.sent)
        for number in state.clients:
            client = model.client.values[number]
            ballots = {client.last, client.machine.ballot if client.machine else 0} - {0}
            yield from (("prepare", model.records.prepare(ballot)) for ballot in ballots)

    def _moves(self, play):
        """Yield every moment that may come next."""
        proposes = play.machine.phase == writer.PROPOSING
        if proposes:
            message = ("accept", play.machine.proposal)
        else:
            message = ("prepare", self.model.records.prepare(play.machine.ballot))
        for replica, kept in enumerate(play.kept):
            if replica in play.answered:
                continue
            for before in self.reached(kept, play.sent):
                after, event = self._deliver(before, replica, message)
                honest = (*play.kept[:replica], after, *play.kept[replica + 1 :])
                yield from self._hears(play._replace(kept=honest), event)
        if self.liar not in play.answered:
            for event in self._lies(play, proposes):
                yield from self._hears(play, event)

    def reached(self, kept, sent):
        """Return what a replica may come to keep when the liar sends it what it likes."""
        key = (kept, sent)
        found = self._reached.get(key)
        if found is None:
            found, todo = {kept}, [kept]
            while todo:
                state = todo.pop()
                for message in sent:
                    after, _ = self._deliver(state, 0, message)
                    if after not in found:
                        found.add(after)
                        todo.append(after)
            self._reached[key] = found
        return found

    def _deliver(self, kept, replica, message):
        kind, what = message
        if kind == "prepare":
            kept, answer = acceptor.prepare(kept, what)
            if isinstance(answer, acceptor.PromiseMade):
                return kept, words.Promised(replica, answer.accepted)
        else:
            kept, answer = acceptor.accept(kept, what, replica)
            if isinstance(answer, acceptor.RecordAccepted):
                return kept, words.Accepted(replica)
        return kept, refusal(replica, answer)

    def _lies(self, play, proposes):
        yield words.Unreachable(self.liar)
        yield words.Refused(self.liar)
        records = [what for kind, what in play.sent if kind == "accept"]
        if proposes:
            yield words.Accepted(self.liar)
            return
        for record in (None, *records):
            yield words.Promised(self.liar, record)

    def _hears(self, play, event):
        machine, outputs = writer.step(play.machine, event)
        answered = play.answered | {event.replica}
        yield from self._after(play._replace(machine=machine, answered=answered), outputs)

    def _after(self, play, outputs):
        """Yield the moments after what the writer put out."""
        if not outputs:
            if len(play.answered) == len(play.kept) + 1:
                raise Wrong(f"all have answered, and the writer waits: {play}")
            yield play
        for output in outputs:
            if isinstance(output, (words.SendPrepare, words.SendAccept)):
                yield self._sends(play, output)
            elif isinstance(output, (writer.NeedChange, writer.NeedSame)):
                shown = {r for r, record in play.machine.promises if record is output.base}
                if shown == {self.liar}:
                    machine, more = writer.step(play.machine, words.Withheld(self.liar))
                    yield from self._after(play._replace(machine=machine), more)
                machine, more = writer.step(play.machine, self._proposal(play, output))
                yield from self._after(play._replace(machine=machine), more)
            elif isinstance(output, writer.Done) or getattr(output, "already", False):
                yield from self._made(play)
            else:
                yield from self._failed(play, output)

    def _sends(self, play, output):
        records = self.model.records
        if isinstance(output, words.SendPrepare):
            message = ("prepare", records.prepare(output.ballot))
        else:
            message = ("accept", output.record)
        return play._replace(sent=play.sent | {message}, answered=frozenset())

    def _proposal(self, play, output):
        base = output.base
        following = above(output.ballot)
        content = base.content
        if isinstance(output, writer.NeedChange):
            content = (*content, CHANGES[play.change])
        return writer.Proposed(
            self.model.records.record(
                output.ballot, content, base.epoch, base.replicas, following=following
            )
        )

    def _made(self, play):
        self.most_attempts = max(self.most_attempts, play.attempts + 1)
        if play.change + 1 == len(CHANGES):
            return
        last = play.machine
        machine, outputs = writer.begin(
            last.following or above(last.above),
            last.contacts,
            CHANGES[play.change + 1 :],
            after=last,
        )
        play = play._replace(
            machine=machine, change=play.change + 1, attempts=0, answered=frozenset()
        )
        yield from self._after(play, outputs)

    def _failed(self, play, output):
        attempts = play.attempts + 1
        if attempts == MOST_ATTEMPTS:
            raise Wrong(f"one liar holds up a writer: {output} after {attempts} attempts")
        machine, outputs = writer.again(play.machine, above(play.machine.above))
        play = play._replace(machine=machine, attempts=attempts, answered=frozenset())
        yield from self._after(play, outputs)


def above(ballot):
    """Return a ballot of the writer's: halves are nobody else's."""
    return ballot // 1 + 1.5
