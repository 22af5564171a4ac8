"""What a client remembers of a register: the highest committed record, as the floor of reads.

Replicas that all went back to an old state, and a holder of the write key who signed two
histories, are found out by those who remember. Nothing else can find them out.

Spec: ``docs/specs/register.md#memory``.
"""

from __future__ import annotations

from ampgrid.errors import ForkError, RolledBackError
from ampgrid.register.words import R


def remember(floor: R | None, known: R | None, seen: R) -> R:
    """Take note of a record that is known to be committed.

    Args:
        floor: what was remembered when the read or change began that found ``seen``; None if
            nothing was.
        known: what is remembered now; higher than ``floor`` if another read or change of this
            client ended meanwhile.
        seen: what was found.

    Returns:
        What is to be remembered, and returned to the user: ``seen``, or ``known`` if that is
        higher.

    Raises:
        RolledBackError: it is below what was committed before the read began.
        ForkError: it contradicts what is remembered.
    """
    for other in (floor, known):
        if other is not None:
            _check_fork(other, seen)
    if floor is not None and seen.ballot < floor.ballot:
        raise RolledBackError(
            f"The replicas show version {seen.version} of the directory, but version"
            f" {floor.version} was there before."
        )
    if known is not None and known.ballot > seen.ballot:
        return known
    return seen


def _check_fork(one: R, other: R) -> None:
    """Compare two committed records.

    Records of different epochs are not compared: a recovered directory goes on from an older
    version, and says so by its epoch.
    """
    if one.ballot == other.ballot and one.content != other.content:
        raise ForkError("Two records of the directory have one ballot and differ.")
    if one.epoch != other.epoch or one.recovered or other.recovered:
        return
    lower, upper = (one, other) if one.ballot < other.ballot else (other, one)
    if lower.version == upper.version:
        forked = lower.content != upper.content
    elif lower.version + 1 == upper.version:
        forked = upper.previous != lower.content
    else:
        forked = lower.version > upper.version
    if forked:
        raise ForkError(
            f"Versions {one.version} and {other.version} of the directory contradict each other."
        )
