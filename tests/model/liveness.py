"""From wherever a register has come to, a writer that is left alone gets its change in.

Searching all states tells that nothing goes wrong, and not that anything ever goes right. So in
each state that is reached, for each replica that may be down, a fresh writer who knows nothing
but the first set makes one change, and then a reader reads it.
"""

from __future__ import annotations

from ampgrid.register import acceptor, reader, words, writer
from tests.model.bounds import Op, Wrong
from tests.model.register_model import refusal

LAST = Op("the last")
#: More attempts than this mean that it goes round in circles: one for each ballot in its way, one
#: to complete a change of the set, and one for itself.
MOST_ATTEMPTS = 6


class Alone:
    """Check one state after the other; those that look alike to a newcomer once."""

    def __init__(self):
        self.checked = set()
        self.most_attempts = 0

    def __call__(self, model, state):
        columns = [model.column.values[number] for number in state.columns]
        committed = model.committed(state)
        key = (tuple(column.kept for column in columns), committed)
        if key in self.checked:
            return
        self.checked.add(key)
        unusable = [r for r, column in enumerate(columns) if column.fate]
        for down in unusable or range(model.size):
            kept = {r: column.kept for r, column in enumerate(columns) if r != down}
            self._go(model, kept, columns, committed, down)

    def _go(self, model, kept, columns, committed, down):
        change = self._write(model, dict(kept), committed, down)
        machine, outputs = reader.begin(model.genesis.replicas)
        for output in self._run(reader, machine, outputs, change[1]):
            if isinstance(output, reader.Committed) and output.record is change[0]:
                return
        raise Wrong(f"with {down} down, a reader does not find {change[0]} in {change[1]}")

    def _write(self, model, kept, committed, down):
        ballot = model.ballot_after(0, 0)
        machine, outputs = writer.begin(ballot, model.genesis.replicas, (LAST,))
        for attempt in range(MOST_ATTEMPTS):
            self.most_attempts = max(self.most_attempts, attempt + 1)
            ends = []
            for output in self._run(writer, machine, outputs, kept, model):
                machine = output if isinstance(output, writer.WriterState) else machine
                ends.append(output)
            for end in ends:
                if isinstance(end, writer.Done):
                    if any(
                        one.content != end.record.content[: one.version - 1] for one in committed
                    ):
                        raise Wrong(f"{end.record} does not follow what was committed")
                    return end.record, kept
            machine, outputs = writer.again(machine, model.ballot_after(0, machine.above))
        raise Wrong(f"with {down} down, nobody can write any more: {kept}")

    def _run(self, machines, machine, outputs, kept, model=None):
        """Drive a machine with replicas that all answer, or are down; yield how it ended."""
        todo = list(outputs)
        while todo:
            output = todo.pop(0)
            events = []
            if isinstance(output, words.SendPrepare):
                events += [self._prepare(model, kept, r, output.ballot) for r in sorted(output.to)]
            elif isinstance(output, words.SendAccept):
                events += [
                    self._accept(machines, kept, r, output.record) for r in sorted(output.to)
                ]
            elif isinstance(output, words.SendAsk):
                events += [
                    words.Answer(r, kept[r].accepted) if r in kept else words.Unreachable(r)
                    for r in sorted(output.to)
                ]
            elif isinstance(output, writer.NeedChange):
                base = output.base
                record = model.records.record(
                    output.ballot,
                    (*base.content, LAST),
                    base.epoch,
                    base.replicas,
                    following=model.ballot_after(0, output.ballot),
                )
                events.append(writer.Proposed(record))
            elif isinstance(output, writer.NeedSame):
                base = output.base
                record = model.records.record(
                    output.ballot, base.content, base.epoch, base.replicas, base.previous_replicas
                )
                events.append(writer.Proposed(record))
            else:
                yield output
            for event in events:
                machine, more = machines.step(machine, event)
                todo.extend(more)
        yield machine

    @staticmethod
    def _prepare(model, kept, replica, ballot):
        if replica not in kept:
            return words.Unreachable(replica)
        asked = model.records.prepare(ballot)
        kept[replica], answer = acceptor.prepare(kept[replica], asked)
        if isinstance(answer, acceptor.PromiseMade):
            return words.Promised(replica, answer.accepted)
        return refusal(replica, answer)

    @staticmethod
    def _accept(machines, kept, replica, record):
        if replica not in kept:
            return words.Unreachable(replica)
        kept[replica], answer = acceptor.accept(kept[replica], record, replica)
        if isinstance(answer, acceptor.RecordAccepted):
            if machines is reader:
                return words.Answer(replica, record)
            return words.Accepted(replica)
        return refusal(replica, answer)
