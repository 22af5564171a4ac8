"""Which replicas are left aside for what they did wrong, and for how long.

What a replica costs that asks for what it cannot lack is bounded by not believing it for a while:
longer each time, as long as the process lives.
"""

from __future__ import annotations

from ampgrid.formats.record import ReplicaId
from ampgrid.ports import Clock

#: Seconds for which a replica is left aside the first time, and at most; twice as long each time.
FIRST_SECONDS = 60.0
MOST_SECONDS = 6 * 3_600.0
#: The most replicas that are remembered; beyond it those are forgotten that erred longest ago.
MOST_ASIDE = 1_000


class Patience:
    """The replicas with which a client has lost patience.

    Args:
        clock: time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: For each until when it is left aside, and for how long the next time.
        self._aside: dict[ReplicaId, tuple[float, float]] = {}

    def is_lost(self, replica_id: ReplicaId) -> bool:
        """Tell whether a replica is left aside now."""
        until, _ = self._aside.get(replica_id, (0.0, 0.0))
        return self._clock.seconds() < until

    def lose(self, replica_id: ReplicaId) -> None:
        """Leave a replica aside for a while, twice as long as the last time."""
        _, seconds = self._aside.pop(replica_id, (0.0, FIRST_SECONDS))
        self._aside[replica_id] = (
            self._clock.seconds() + seconds,
            min(2 * seconds, MOST_SECONDS),
        )
        if len(self._aside) > MOST_ASIDE:
            self._aside.pop(next(iter(self._aside)))
