"""Changes that go into one record: what each plan makes of a base, and who is told what.

Each change sees the effects of those before it, as far as they fit into one box. A record names
one operation, drawn for the changes in it; should another set of changes come out on a later
base, it is made sure first that the record that was sent has no effect.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.formats import trie
from ampgrid.formats.record import Record
from ampgrid.vdrive.attempt import Base, NodesWithheldError
from ampgrid.vdrive.lanes import Delivery, fits_one_box
from ampgrid.vdrive.nodes import find_all, with_nodes

#: What is in slots of the base of a change: {slot: sealed entry, None where there is none}.
Lookup: TypeAlias = Callable[[Sequence[bytes]], Awaitable[dict[bytes, bytes | None]]]
Changes: TypeAlias = Mapping[bytes, bytes | None]
Plan: TypeAlias = Callable[[Lookup], Awaitable[Changes]]


@attrs.define(eq=False)
class Waiting:
    """A change that was asked for."""

    plan: Plan
    slots: tuple[bytes, ...]
    done: Deferred[Record] = attrs.field(factory=Deferred)

    def succeed(self, record: Record) -> None:
        """Tell who asked that it is so."""
        self.done.callback(record)

    def fail(self, error: BaseException) -> None:
        """Tell who asked why it is not."""
        self.done.errback(Failure(error))


@attrs.define(eq=False)
class _Judged:
    """What the plans said of one base.

    Attributes:
        taken: changes that are to be made.
        idle: those that have nothing to do.
        declined: those that cannot be made, and why.
        left: those that do not fit into the record.
        entries: what `taken` change together.
    """

    taken: list[Waiting] = attrs.field(factory=list)
    idle: list[Waiting] = attrs.field(factory=list)
    declined: list[tuple[Waiting, Exception]] = attrs.field(factory=list)
    left: list[Waiting] = attrs.field(factory=list)
    entries: dict[bytes, bytes | None] = attrs.field(factory=dict)

    def answer_rest(self, record: Record) -> None:
        """Answer the changes that changed nothing: what they were judged on is committed."""
        for waiting in self.idle:
            waiting.succeed(record)
        for waiting, error in self.declined:
            waiting.fail(error)


class Batch:
    """Changes that go into one record.

    Args:
        keys: that sign.
        operation: 8 random bytes.
        changes: what waits; those that do not go along are left.
    """

    def __init__(self, keys: WriteKeys, operation: bytes, changes: Sequence[Waiting]) -> None:
        self._keys = keys
        self.operation = operation
        self._changes = list(changes)
        #: What the record that was sent holds; None before.
        self._sent: list[Waiting] | None = None
        self._judged = _Judged()

    @property
    def slots(self) -> tuple[bytes, ...]:
        """The slots that its changes look up."""
        return tuple(dict.fromkeys(slot for waiting in self._changes for slot in waiting.slots))

    async def make(self, base: Base) -> Delivery | None:
        """Make the changes on a base; see `ampgrid.vdrive.attempt.Make`."""
        record = base.record
        assert record is not None
        judged = self._judged = await self._judge(base, record)
        if self._sent is not None and judged.taken != self._sent:
            # The record that was sent had other changes in it. It is made sure first that it
            # has no effect.
            return None
        if not judged.taken:
            return None
        change = await with_nodes(
            lambda read: trie.apply(record.root, judged.entries, read), base.desk, base.fetch
        )
        self._sent = judged.taken
        base.desk.add(change.added)
        return Delivery(
            record.successor(
                self._keys,
                ballot=base.ballot,
                root=change.root,
                count=record.count + change.delta,
                operation=self.operation,
                following=base.following,
            ),
            base.desk,
            changes=judged.entries if fits_one_box(judged.entries) else None,
            added=tuple(change.added),
        )

    async def _judge(self, base: Base, record: Record) -> _Judged:
        judged = _Judged()
        entries = judged.entries

        async def lookup(slots: Sequence[bytes]) -> dict[bytes, bytes | None]:
            below = [slot for slot in slots if slot not in entries]
            found = await find_all(record.root, below, base.desk, base.fetch)
            return {slot: entries[slot] if slot in entries else found[slot] for slot in slots}

        for number, waiting in enumerate(self._changes):
            try:
                wanted = dict(await waiting.plan(lookup))
            except NodesWithheldError:
                raise
            except Exception as error:  # noqa: BLE001 - it is for who asked
                judged.declined.append((waiting, error))
                continue
            if not wanted:
                judged.idle.append(waiting)
            elif judged.taken and not fits_one_box({**entries, **wanted}):
                judged.left = self._changes[number:]
                break
            else:
                judged.taken.append(waiting)
                entries.update(wanted)
        return judged

    def made(self, record: Record) -> list[Waiting]:
        """Answer: the record is committed. Returns the changes that are left."""
        for waiting in self._judged.taken:
            waiting.succeed(record)
        self._judged.answer_rest(record)
        return self._judged.left

    def found(self, record: Record) -> list[Waiting]:
        """Answer: the operation is in a committed record. Returns the changes that are left."""
        sent = self._sent or []
        for waiting in sent:
            waiting.succeed(record)
        return [waiting for waiting in self._changes if waiting not in sent]

    def settled(self, record: Record) -> list[Waiting]:
        """Answer: nothing was changed, this is committed. Returns the changes that are left."""
        self._judged.answer_rest(record)
        return [*self._judged.taken, *self._judged.left]

    def fail(self, error: BaseException) -> None:
        """Answer: it failed."""
        for waiting in self._changes:
            waiting.fail(error)
