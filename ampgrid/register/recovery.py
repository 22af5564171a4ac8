"""Bringing a register back without a quorum of its set: which epoch, and when to go on.

Who does it has looked what is left, and picked the base. It asks for promises of a ballot in a
later epoch, and hears what those who are asked hold; here it is judged whether the recovered
record may be sent. ``tests/model/recovery.py`` searches two who do it beside a writer.

Spec: ``docs/specs/register.md#membership``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeAlias

from ampgrid.register.words import R, Replica, Replicas, is_quorum, sets_of

#: A promise of an epoch so far above the records that are met is not gone above.
MOST_LEAP = 1 << 16


class Told(NamedTuple, Generic[R]):
    """What one who was asked for a promise answered.

    Attributes:
        promised: whether it did.
        held: the record that it showed, or None.
        above: the epoch of what it showed that stands in the way, or None.
    """

    promised: bool
    held: R | None = None
    above: int | None = None


class Go(NamedTuple):
    """The record may be sent to those who promised."""

    promised: Replicas


class GoAbove(NamedTuple):
    """Others were promised more: begin again in a later epoch than this."""

    epoch: int


class Changed(NamedTuple):
    """Somebody holds a record above all that were found: look again."""


class NotNeeded(NamedTuple):
    """A quorum holds the base: it needs no recovery."""


Judgement: TypeAlias = Go | GoAbove | Changed | NotNeeded


def epoch_above(records: Iterable[int], promised: Mapping[Any, int]) -> tuple[int, Replicas]:
    """Return the epoch of a recovery, and the replicas that cannot promise it.

    Who has the write key can have anybody promise the last epoch there is. These are lost to the
    register, and it is not lost with them.

    Args:
        records: epochs of the ballots of all records that were met.
        promised: the epoch that each replica has promised.
    """
    highest = max(records, default=0)
    most = highest + MOST_LEAP
    lost = frozenset(one for one, epoch in promised.items() if epoch > most)
    return max([highest, *(epoch for epoch in promised.values() if epoch <= most)]) + 1, lost


def judge(
    base: R,
    holders: Collection[Replica],
    latest: Any,
    epoch: int,
    answers: Mapping[Any, Told[R]],
) -> Judgement:
    """Tell whether a recovered record may be sent.

    Args:
        base: that was found.
        holders: those that held it by then.
        latest: the highest ballot of a record that was met by then.
        epoch: for which promises were asked.
        answers: of those who answered.
    """
    shown = {one: told.held for one, told in answers.items() if told.held is not None}
    if any(held.ballot > latest for held in shown.values()):
        return Changed()
    now = {one for one, held in shown.items() if held.content == base.content}
    # Where a quorum had it before and something spoke against it, that still does.
    if not is_quorum(sets_of(base), holders) and is_quorum(sets_of(base), now):
        return NotNeeded()
    # What is below stands in nobody's way: to go on from there would be to go back.
    above = [
        told.above
        for told in answers.values()
        if not told.promised
        and told.above is not None
        and epoch <= told.above <= epoch + MOST_LEAP
    ]
    if above:
        return GoAbove(max(above))
    return Go(frozenset(one for one, told in answers.items() if told.promised))
