"""What the model is made of: how much may happen in it, and its states."""

from __future__ import annotations

from typing import NamedTuple

from ampgrid.register import writer

LIAR = "liar"
#: Ballots count up to this within one epoch.
EPOCH = 1000


class Wrong(Exception):  # noqa: N818
    """Something that must never be was reached."""


class Op(NamedTuple):
    """A change that a writer wants.

    ``kind`` is "set" (no condition), "once" (only if ``key`` is not there, which it is then),
    "drop" (``key`` is there no more), "move" (replica ``key[0]`` leaves, ``key[1]`` comes),
    "release" (the set before is let go) or "create" (the directory).
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
        fast: whether writers name the ballot of their next change in their records.
        crashes: whether writers crash, and not only give up.
        refusals: whether writers hear refusals. They only make them end an attempt, which
            they may do at any time anyway, and give them a higher ballot; without refusals
            they may take one that is above all others.
        low: whether writers may also take the next ballot that they know of no use of, though
            higher ones are about.
        full: whether to try also what adds nothing; see `RegisterModel`.
        late_answers: whether answers stay in the air, too.
        helps: whether an attempt that completes another's move does not count for that.
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
    crashes: bool = False
    refusals: bool = False
    low: bool = False
    full: bool = False
    late_answers: bool = False
    helps: bool = True
    alike: tuple | None = None


class Column(NamedTuple):
    """One replica: what it keeps, and (for the checks) every record it ever voted for."""

    kept: object
    votes: int
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


def put(row, place, value):
    return (*row[:place], value, *row[place + 1 :])
