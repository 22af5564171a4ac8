"""Work on the disk that is done in the reactor's thread, as long as that is quick.

A small share is a row that the system has in memory as a rule: to read it takes less than to wake
a thread for it. Where it must come from the disk the reactor stands still, and with it all that
the node does. So after work that was slow none is done here for a multiple of the time that it
took: all of it together can take no more than that part of the reactor's time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: What takes longer is slow, seconds.
QUICK_SECONDS = 0.001
#: After slow work none is done here for so many times as long.
REST = 100


class Promptness:
    """Does work here and now, unless such work was slow lately.

    Args:
        monotonic: seconds that only grow.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._rests_until = float("-inf")

    def attempt(self, work: Callable[[], T | None]) -> T | None:
        """Call ``work`` and return its result; None if it has none, or is to be done elsewhere."""
        began = self._monotonic()
        if began < self._rests_until:
            return None
        try:
            return work()
        finally:
            ended = self._monotonic()
            if ended - began > QUICK_SECONDS:
                self._rests_until = ended + REST * (ended - began)
