"""Tiny records and prepares for the model check: interned, so that comparing and hashing is fast.

The content of a record is the row of changes that led to it, so that it shows by itself which
record descends from which. Records that differ in nothing but the following ballot have one
number: they count as the same one.
"""

from __future__ import annotations


class Rec:
    """A record; there is one object for each ballot, content and following ballot."""

    __slots__ = (
        "ballot",
        "content",
        "epoch",
        "following",
        "key",
        "number",
        "previous",
        "previous_replicas",
        "recovered",
        "replicas",
        "version",
    )

    def __init__(
        self, number, ballot, content, epoch, replicas, previous_replicas, following=None
    ):
        self.number = number
        self.key = (ballot, content, epoch, replicas, previous_replicas)
        self.following = following
        self.ballot = ballot
        self.content = content
        self.epoch = epoch
        self.replicas = replicas
        self.previous_replicas = previous_replicas
        self.version = len(content) + 1
        self.previous = content[:-1] if content else None
        self.recovered = False

    @property
    def operations(self):
        return self.content

    def __repr__(self):
        sets = "" if not self.previous_replicas else f" {self.previous_replicas}->{self.replicas}"
        more = "" if self.following is None else f", then {self.following}"
        return f"<{'+'.join(map(str, self.content)) or 'empty'} @{self.ballot}{more}{sets}>"


class Prep:
    """A prepare; there is one object for each ballot."""

    __slots__ = ("ballot",)

    def __init__(self, ballot):
        self.ballot = ballot

    def __repr__(self):
        return f"<prepare {self.ballot}>"


class Records:
    """Every record and prepare of one model; ``all`` has one of each number."""

    def __init__(self):
        self._records = {}
        self._numbers = {}
        self._prepares = {}
        self.all = []

    def record(self, ballot, content, epoch, replicas, previous_replicas=(), *, following=None):
        same = (ballot, content, epoch, replicas, previous_replicas)
        found = self._records.get((following, same))
        if found is None:
            number = self._numbers.setdefault(same, len(self._numbers))
            found = self._records[following, same] = Rec(number, *same, following)
            if number == len(self.all):
                self.all.append(found)
        return found

    def prepare(self, ballot):
        found = self._prepares.get(ballot)
        if found is None:
            found = self._prepares[ballot] = Prep(ballot)
        return found


class Interned:
    """Numbers for values, so that a state of the model is a short row of numbers."""

    def __init__(self):
        self.values = []
        self._numbers = {}

    def __call__(self, value):
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = len(self.values)
            self.values.append(value)
        return number
