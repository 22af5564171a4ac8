"""What writers of one directory asked for and were told, and whether the directory agrees.

An attempt to link a name either was acknowledged, was refused, or its outcome is unknown (the
connection went away, or the node said that it cannot tell). Then every acknowledged name must be
there, once, with the cap that was acknowledged; a refused cap must not be; and nothing may be
there that nobody asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import attrs

ACKNOWLEDGED = "acknowledged"
REFUSED = "refused"
UNKNOWN = "unknown"


@attrs.frozen
class Attempt:
    """One writer's wish to link one cap under one name, with all its retries.

    Attributes:
        writer: who asked.
        name: of the child.
        cap: what was to be linked; no two writers ask for the same.
        exclusive: whether nothing of that name was to be replaced.
        outcome: what the writer knows of it.
    """

    writer: int
    name: str
    cap: str
    exclusive: bool
    outcome: str


def contradictions(attempts: Iterable[Attempt], listing: Sequence[tuple[str, str]]) -> list[str]:
    """Return what is wrong with a directory after these attempts, a line each.

    Args:
        attempts: all that was ever asked for there. Names of attempts that are not exclusive
            are each of one writer, who asks for each once.
        listing: (name, cap) of every child that the directory lists.
    """
    found = []
    by_name: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        by_name[attempt.name].append(attempt)
    listed: dict[str, list[str]] = defaultdict(list)
    for name, cap in listing:
        listed[name].append(cap)
    for name, caps in listed.items():
        if len(caps) > 1:
            found.append(f"{name} is listed {len(caps)} times")
        asked = {attempt.cap for attempt in by_name.get(name, [])}
        found += [f"{name} is {cap}, which nobody asked for" for cap in caps if cap not in asked]
    for name, wishes in by_name.items():
        found += _of_one_name(name, wishes, listed.get(name, []))
    return found


def _of_one_name(name: str, wishes: list[Attempt], caps: list[str]) -> list[str]:
    found = []
    won = [wish for wish in wishes if wish.outcome == ACKNOWLEDGED]
    if len(won) > 1:
        found.append(f"{name} was won by {sorted(wish.writer for wish in won)}")
    found += [
        f"{name} of writer {wish.writer} was acknowledged and is not there"
        for wish in won
        if wish.cap not in caps
    ]
    found += [
        f"{name} of writer {wish.writer} was refused and is there"
        for wish in wishes
        if wish.outcome == REFUSED and wish.cap in caps
    ]
    if all(wish.outcome == REFUSED for wish in wishes):
        found.append(f"{name} was refused to all who asked for it")
    return found
