"""When a kept file is looked at, and what follows from what was found; no I/O, no clock.

Every file has its own moment, so that the work of a period is spread over all of it and a
restart begins nothing anew. The first look comes at a random moment of the first period, the
next ones a little less than a period apart, so that none is ever more than a period away.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from ampgrid.store.keptdb import KeptFile

if TYPE_CHECKING:
    from ampgrid.immutable.checker import CheckReport

HOUR = 3600.0
DAY = 24 * HOUR

#: Missing shares count as lost when they were missing twice, so far apart at least, seconds.
SECOND_LOOK_SECONDS = HOUR
#: After so many looks in a row to which too few servers answered, those that did are all there
#: are. Of the default period that is a week at least, as each wait is twice the one before.
MOST_SKIPS = 8
#: Every so many looks at a file every byte of its shares is read.
VERIFY_EVERY = 4
#: Between two looks there are from this part of a period to all of it.
_LEAST_PART = 0.85
#: The first look comes after this part of a period at the earliest.
_LEAST_FIRST_PART = 0.02


@attrs.frozen
class Schedule:
    """Moments, in seconds since 1970.

    Attributes:
        period: seconds within which every file is looked at.
        uniform: draws between two bounds.
    """

    period: float
    uniform: Callable[[float, float], float]

    def first(self, now: float) -> float:
        """Return when a file that was put ``now`` is looked at first."""
        return now + self.period * self.uniform(_LEAST_FIRST_PART, 1.0)

    def regular(self, now: float) -> float:
        """Return when a file that is well is looked at next."""
        return now + self.period * self.uniform(_LEAST_PART, 1.0)

    def second_look(self, now: float) -> float:
        """Return when a file whose shares were found missing is looked at again."""
        return now + min(self.period, SECOND_LOOK_SECONDS * self.uniform(1.0, 1.25))

    def again(self, now: float, times: int) -> float:
        """Return when a file is looked at again after failing ``times`` times in a row."""
        wait = min(self.period, HOUR * 2.0 ** min(times - 1, 30))
        return now + wait * self.uniform(0.75, 1.0)

    def horizon(self, now: float) -> float:
        """Return the latest moment that can be a file's next; a later one is due at once.

        It comes from a longer period, or from a clock that was ahead.
        """
        return now + self.period + HOUR

    def is_due(self, file: KeptFile, now: float) -> bool:
        """Tell whether a file is to be looked at."""
        return not now < file.next_at <= self.horizon(now)

    def wants_renewal(self, file: KeptFile, now: float) -> bool:
        """Tell whether a file's leases were not renewed within half a period."""
        return file.renewed_at is None or not 0 <= now - file.renewed_at < self.period / 2

    def wants_verify(self, file: KeptFile, now: float) -> bool:
        """Tell whether it is time to read every byte of a file.

        Not while looks are late by a quarter of a period: leases come first.
        """
        late = self.is_due(file, now) and now - file.next_at > self.period / 4
        unsolved = file.bad > 0 and file.failures + file.skips > 0
        return not late and (file.unverified >= VERIFY_EVERY - 1 or unsolved)


class Verdict(enum.Enum):
    """What follows from a check."""

    WELL = "well"
    REPAIR = "repair"
    SECOND_LOOK = "second look"
    TOO_FEW_SERVERS = "too few servers"
    LOST = "lost"


def least_happiness(file: KeptFile, repair_below: int | None) -> int:
    """Return the servers of happiness below which a file is repaired."""
    return min(file.happy if repair_below is None else repair_below, file.cap.total)


def least_shares(file: KeptFile) -> int:
    """Return the number of good shares below which a file is repaired.

    It is reached when half of the shares beyond those that it needs are gone.
    """
    return file.cap.needed + (file.cap.total - file.cap.needed) // 2


def falls_short(file: KeptFile, report: CheckReport, repair_below: int | None) -> bool:
    """Tell whether too little of a file was found."""
    return report.happy < least_happiness(file, repair_below) or report.count_good < least_shares(
        file
    )


def judge(
    file: KeptFile,
    report: CheckReport,
    repair_below: int | None,
    now: float,
    *,
    at_once: bool,
) -> Verdict:
    """Return what follows from a check.

    A share that nobody showed is not lost yet: its server may be away. So nothing is concluded
    from fewer answers than the file's happiness, unless it has been like this for long, nor from
    one look. A damaged share is a fact.

    Args:
        file: what was known before.
        report: what was found now.
        repair_below: happiness below which it is repaired; None for that of the file.
        now: seconds since 1970.
        at_once: whether to do without the second look.
    """
    short = falls_short(file, report, repair_below)
    if not short and not report.bad:
        return Verdict.WELL
    too_few = report.servers_answered < file.happy
    if too_few and file.skips < MOST_SKIPS:
        return Verdict.TOO_FEW_SERVERS if short else Verdict.WELL
    if not report.recoverable:
        return Verdict.LOST
    if report.bad or at_once or too_few or _long_suspected(file, now):
        return Verdict.REPAIR
    return Verdict.SECOND_LOOK


def _long_suspected(file: KeptFile, now: float) -> bool:
    return file.suspected_at is not None and now - file.suspected_at >= SECOND_LOOK_SECONDS
