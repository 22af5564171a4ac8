"""The store's own time: it goes on while the store runs, and never jumps.

Leases are durations. A wall clock that is wrong by ten years, for a minute or for good, must end
none of them; nor may the time for which the store was not running, in which nobody could renew
anything. So the store counts: its time began as the wall clock's when the store was made, goes
on with the monotonic clock, and is written down (the *latest time seen*), from where it goes on
at the next start: time between is not counted, since only the wall clock could tell how long it
was. The wall clock is watched: after a jump against the monotonic clock, or over a stop, nothing
expires until the two have agreed for `CALM_SECONDS`.

The store's time is therefore never ahead of what has really passed since any lease was renewed,
and a lease never ends too early. It falls behind the wall clock by the time for which the store
was off; leases then end later, by the calendar.

Spec: ``docs/specs/store.md``.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from ampgrid.ports import WallClock

#: How far the wall clock may be from where it should be, seconds.
TOLERANCE_SECONDS = 60 * 60
#: How long it must have been right again before anything expires, seconds.
CALM_SECONDS = 60 * 60


@attrs.frozen
class Beginning:
    """The store's time when the store was opened.

    Attributes:
        now: the store's time, seconds since 1970.
        wall: what the wall clock said.
        surprised: whether that was not where it should have been.
    """

    now: int
    wall: float
    surprised: bool


def begin(latest: int | None, wall: float) -> Beginning:
    """Return the store's time at a start.

    Args:
        latest: the latest time seen before it, None if there is none.
        wall: what the wall clock says, seconds since 1970.
    """
    if latest is None:
        return Beginning(int(wall), wall, surprised=False)
    return Beginning(latest, wall, surprised=abs(wall - latest) > TOLERANCE_SECONDS)


class StoreClock:
    """The store's time while it runs.

    Args:
        beginning: the time at which it was opened.
        wall: the wall clock.
        monotonic: seconds that only ever grow, as time passes.

    Attributes:
        jumps: how often the wall clock was found elsewhere than it should be.
    """

    def __init__(
        self, beginning: Beginning, wall: WallClock, monotonic: Callable[[], float]
    ) -> None:
        self._start = beginning.now
        self._wall = wall
        self._monotonic = monotonic
        self._begun_at = monotonic()
        self._seen_wall = wall()
        self._seen_at = self._begun_at
        self._calm_from = self._begun_at
        self.jumps = 0
        if beginning.surprised or abs(self._seen_wall - beginning.wall) > TOLERANCE_SECONDS:
            self._jumped()

    def _jumped(self) -> None:
        self.jumps += 1
        self._calm_from = self._monotonic() + CALM_SECONDS

    def now(self) -> int:
        """Return the store's time, seconds since 1970."""
        return self._start + int(self._monotonic() - self._begun_at)

    def look(self) -> bool:
        """Compare the clocks; tell if the wall clock jumped since this was last called."""
        at, wall = self._monotonic(), self._wall()
        jump = (wall - self._seen_wall) - (at - self._seen_at)
        self._seen_at, self._seen_wall = at, wall
        if abs(jump) <= TOLERANCE_SECONDS:
            return False
        self._jumped()
        return True

    @property
    def paused_seconds(self) -> int:
        """For how long nothing may expire yet, because of a jump; 0 if the time is believed."""
        return max(0, -int(self._monotonic() - self._calm_from))

    @property
    def behind_seconds(self) -> int:
        """By how much the wall clock is ahead of the store's time; negative if it is behind."""
        return round(self._wall()) - self.now()
