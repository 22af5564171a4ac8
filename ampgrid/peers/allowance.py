"""How often something may happen: so many times in a row, and then once in so many seconds."""

from __future__ import annotations

from ampgrid.ports import Clock


class Allowance:
    """A bucket of turns that refills with time.

    Args:
        burst: turns in a row, and the most that are saved up.
        seconds: time in which one turn is earned.
        clock: time.
    """

    def __init__(self, burst: int, seconds: float, clock: Clock) -> None:
        self._burst = float(burst)
        self._seconds = seconds
        self._clock = clock
        self._left = float(burst)
        self._counted_at = clock.seconds()

    def spend(self) -> bool:
        """Take one turn; tell whether there was one."""
        self._refill()
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def give_back(self) -> None:
        """Return one turn that turned out to cost nothing."""
        self._left = min(self._burst, self._left + 1)

    def left(self) -> int:
        """Return how many turns there are now."""
        self._refill()
        return int(self._left)

    def seconds_to_next(self) -> float:
        """Return how long it takes until there is a turn; 0 if there is one."""
        self._refill()
        # A little more: rounding must not wake anybody just too early.
        return 0.0 if self._left >= 1 else (1 - self._left) * self._seconds + 0.001

    def _refill(self) -> None:
        now = self._clock.seconds()
        earned = (now - self._counted_at) / self._seconds
        self._left = min(self._burst, self._left + earned)
        self._counted_at = now
