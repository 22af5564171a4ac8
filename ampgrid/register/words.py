"""The words of the register: what its machines need of a record, and what they say and hear.

The machines are generic over the record, so that the model check runs them with tiny abstract
records and the node with signed ones (``ampgrid.formats.record``). A replica is named by any
hashable value; in a node it is the pair of node id and store id.

Every state, event and output is a frozen tuple: states are compared, hashed and kept by the
million in the model check.

Spec: ``docs/specs/register.md``.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

#: The most operation ids that a record carries, the oldest dropped first.
MOST_OPERATIONS = 64

Replica: TypeAlias = Hashable
Replicas: TypeAlias = frozenset[Hashable]


class RecordLike(Protocol):
    """What the machines look at in a record. Its signature was checked before.

    Attributes:
        epoch: number of changes of the replica set before this record.
        replicas: the replicas that hold this record, each once.
        previous_replicas: the set before, if this record changes it; else empty.
        ballot: under which the record was proposed, a frozen value with a total order; no other
            record has it.
        following: the writer's next ballot, above this one: whoever accepts the record promises
            it; None if the writer names none.
        version: 1 for the first, one more with every change.
        previous: the content of the record that this one changed.
        content: stands for everything in the record but ballot and signature.
        operations: the ids of the last changes, oldest first.
        recovered: whether it was made without a quorum of the set before.
    """

    # Read-only, as records are frozen.
    @property
    def epoch(self) -> int: ...  # noqa: D102
    @property
    def replicas(self) -> tuple[Any, ...]: ...  # noqa: D102
    @property
    def previous_replicas(self) -> tuple[Any, ...]: ...  # noqa: D102
    @property
    def ballot(self) -> Any: ...  # noqa: D102
    @property
    def following(self) -> Any: ...  # noqa: D102
    @property
    def version(self) -> int: ...  # noqa: D102
    @property
    def previous(self) -> Any: ...  # noqa: D102
    @property
    def content(self) -> Any: ...  # noqa: D102
    @property
    def operations(self) -> tuple[Any, ...]: ...  # noqa: D102
    @property
    def recovered(self) -> bool: ...  # noqa: D102


class PrepareLike(Protocol):
    """What the machines look at in a prepare. Its signature was checked before."""

    @property
    def ballot(self) -> Any: ...  # noqa: D102


R = TypeVar("R", bound=RecordLike)
P = TypeVar("P", bound=PrepareLike)


# Sets and quorums


def quorum_of(size: int) -> int:
    """Return how many of ``size`` replicas are a quorum: more than half (3 of 4)."""
    return size // 2 + 1


def sets_of(record: RecordLike) -> tuple[tuple[Any, ...], ...]:
    """Return the replica sets that must each give a quorum for ``record`` to be committed.

    A record that changes the set needs both; a recovered one does without the set before,
    which is lost.
    """
    if record.previous_replicas and not record.recovered:
        return (record.replicas, record.previous_replicas)
    return (record.replicas,)


def members(record: RecordLike) -> Replicas:
    """Return every replica that may accept ``record``."""
    return frozenset(record.replicas).union(record.previous_replicas)


def is_quorum(sets: Iterable[Collection[Any]], replicas: Collection[Any]) -> bool:
    """Tell whether ``replicas`` have a quorum of each of the ``sets``."""
    for one in sets:
        count = 0
        for replica in one:
            if replica in replicas:
                count += 1
        if count < quorum_of(len(one)):
            return False
    return True


def is_same(one: RecordLike, other: RecordLike) -> bool:
    """Tell whether two records are the same: one ballot and one content."""
    return bool(one.ballot == other.ballot and one.content == other.content)


def promise_in(record: RecordLike) -> Any:
    """Return the ballot that whoever accepts ``record`` has promised with it."""
    return record.ballot if record.following is None else record.following


def highest(records: Iterable[R | None]) -> R | None:
    """Return the record of the highest ballot, or None if there is none."""
    best: R | None = None
    for record in records:
        if record is not None and (best is None or record.ballot > best.ballot):
            best = record
    return best


def higher(one: Any, other: Any) -> Any:
    """Return the higher of two ballots, each of which may be None."""
    if one is None or (other is not None and other > one):
        return other
    return one


# What a replica answers; to the writer and the reader these are events


class Promised(NamedTuple, Generic[R]):
    """The replica accepts nothing below the ballot it was asked for, and shows what it holds."""

    replica: Replica
    accepted: R | None


class Accepted(NamedTuple):
    """The replica accepted the record that it was sent, and promised its following ballot."""

    replica: Replica


class Refused(NamedTuple, Generic[R]):
    """A higher promise or record stands in the way, or the replica knows nothing.

    Attributes:
        replica: which.
        promised: the ballot of the signed prepare that it showed, or None.
        accepted: the signed record that it showed, or None.
    """

    replica: Replica
    promised: Any = None
    accepted: R | None = None


class Answer(NamedTuple, Generic[R]):
    """The replica was asked what it holds.

    Attributes:
        replica: which.
        accepted: its record, or None if it knows nothing of the directory.
    """

    replica: Replica
    accepted: R | None


class Withheld(NamedTuple):
    """The replica showed a record and does not hand over its nodes; it is left out."""

    replica: Replica


class Unreachable(NamedTuple):
    """The replica does not answer, is a stranger to the set, or broke the rules."""

    replica: Replica


# What the writer and the reader want done


class SendPrepare(NamedTuple):
    """Send the prepare of ``ballot`` to these replicas."""

    ballot: Any
    to: Replicas


class SendAsk(NamedTuple):
    """Ask these replicas what they hold."""

    to: Replicas


class SendAccept(NamedTuple, Generic[R]):
    """Send the record, with the nodes that lack, to these replicas.

    Attributes:
        record: signed.
        to: which of its replicas.
    """

    record: R
    to: Replicas


class TooFew(NamedTuple):
    """So few replicas answer that no quorum can be had.

    Attributes:
        found: number of replicas that answered.
        wanted: number of replicas that were asked.
        uncertain: whether a record was sent that may yet be committed.
    """

    found: int
    wanted: int
    uncertain: bool = False


class Forked(NamedTuple, Generic[R]):
    """Two signed records have one ballot and different contents: somebody broke the rules."""

    first: R
    second: R
