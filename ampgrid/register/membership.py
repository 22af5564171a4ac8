"""The order of records: which one may follow which, and how a replica set changes.

A set changes by one replica at a time, in two records: the first names the new set and the old
one and needs a quorum of both; the second names the new set alone, and releases the old one.
Both are ordinary changes of the writer.

Spec: ``docs/specs/register.md#membership``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ampgrid.register.words import RecordLike, members, promise_in, sets_of


def replaced(replicas: Iterable[Any], old: Any = None, new: Any = None) -> tuple[Any, ...]:
    """Return a set in which ``new`` stands in the place of ``old``.

    Args:
        replicas: the present set.
        old: the replica that leaves; None if none does.
        new: the one that comes; None if none does.

    Raises:
        ValueError: ``old`` is not in the set, ``new`` is in it already, or neither is named.
    """
    present = tuple(replicas)
    if old is None and new is None:
        raise ValueError("no change of the replica set is named")
    if old is not None and old not in present:
        raise ValueError("the replica that shall leave is not in the set")
    if new is not None and new in present:
        raise ValueError("the replica that shall come is in the set already")
    if old is None:
        return (*present, new)
    kept = [new if replica == old else replica for replica in present]
    return tuple(replica for replica in kept if replica is not None)


def is_between_sets(record: RecordLike) -> bool:
    """Tell whether the record still binds the set before, so that a second one should follow."""
    return len(sets_of(record)) > 1


def releases(held: RecordLike | None, record: RecordLike, me: Any) -> bool:
    """Tell whether ``record`` shows that a replica is no member any more, and may go.

    A writer signs a change of a record that changes the set only once that record is committed
    by a quorum of both sets. So a later record of a set without the replica shows that the
    directory went on without it. A recovered one shows nothing by itself: it is made without the
    old set, and may not have come through; what was made of it does.

    Args:
        held: what the replica has accepted; None if nothing.
        record: another one, whose signature holds.
        me: the replica.
    """
    return (
        held is not None
        and me in members(held)
        and me not in members(record)
        and not record.recovered
        and record.ballot > held.ballot
        and promise_in(record) >= promise_in(held)
        and record.epoch >= held.epoch + (me in held.replicas)
        and record.version > held.version
    )


def check_follows(base: RecordLike | None, record: RecordLike) -> None:
    """Check that ``record`` may be proposed as a change of ``base``.

    Raises:
        ValueError: it may not, which is a mistake of the program that made it.
    """
    if base is None:
        if record.version != 1 or record.previous_replicas:
            raise ValueError("the first record of a directory has version 1 and one set")
        return
    if record.version != base.version + 1 or record.previous != base.content:
        raise ValueError("the record does not follow its base")
    before, after = frozenset(base.replicas), frozenset(record.replicas)
    if before == after:
        if record.epoch != base.epoch or record.previous_replicas:
            raise ValueError("the replica set stays, so its epoch does")
        return
    if record.epoch <= base.epoch:
        raise ValueError("a new replica set needs a later epoch")
    if record.recovered:
        return
    if frozenset(record.previous_replicas) != before:
        raise ValueError("the record does not name the set before")
    if len(before - after) > 1 or len(after - before) > 1:
        raise ValueError("only one replica at a time can be replaced")


def check_same(base: RecordLike, record: RecordLike) -> None:
    """Check that ``record`` is ``base``, proposed again.

    Raises:
        ValueError: it is not.
    """
    if record.content != base.content or members(record) != members(base):
        raise ValueError("the record does not repeat its base")
