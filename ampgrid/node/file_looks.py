"""Looking after files that are linked in directories and that this node has not put itself."""

from __future__ import annotations

from collections.abc import Callable

from ampgrid.caps import ChkVerifierCap
from ampgrid.immutable import Operation, Walker
from ampgrid.immutable.renewal import Lateness
from ampgrid.immutable.schedule import HOUR, SECOND_LOOK_SECONDS, VERIFY_EVERY, Verdict
from ampgrid.node.drive_keeper import FileLook
from ampgrid.ports import Clock, WallClock
from ampgrid.store.keptdb import KeptFile

#: What is known of slow servers is forgotten after so long, seconds.
_FORGOTTEN_AFTER = HOUR


class LinkedFiles:
    """Looks at linked files as the keeper of files does at its own.

    Args:
        walker: renews, checks and repairs.
        happy: returns how many servers of happiness a file should have now.
        uniform: draws between two bounds.
        clock: time and timers.
        wall: wall-clock time.
    """

    def __init__(
        self,
        walker: Walker,
        happy: Callable[[], int],
        *,
        uniform: Callable[[float, float], float],
        clock: Clock,
        wall: WallClock,
    ) -> None:
        self._walker = walker
        self._happy = happy
        self._uniform = uniform
        self._clock = clock
        self._wall = wall
        self._lateness = Lateness(clock)
        self._since = clock.seconds()

    async def look(self, cap: ChkVerifierCap, operation: Operation, *, repair: bool) -> FileLook:
        """Renew the leases of a file, check it, and repair it if ``repair``."""
        now = self._wall()
        if self._clock.seconds() - self._since > _FORGOTTEN_AFTER:
            self._lateness, self._since = Lateness(self._clock), self._clock.seconds()
        # Every so often all bytes are read, as of the node's own files.
        verified_now = self._uniform(0.0, VERIFY_EVERY) < 1.0
        file = KeptFile(
            number=0,
            cap=cap,
            happy=min(cap.total, self._happy()),
            put_at=now,
            next_at=now,
            suspected_at=now - SECOND_LOOK_SECONDS if repair else None,
            unverified=VERIFY_EVERY - 1 if verified_now else 0,
        )
        look = await self._walker.look(file, operation, self._lateness, at_once=False, dry=False)
        after = look.file
        return FileLook(
            well=not after.failures and not after.skips and after.suspected_at is None,
            renewed=look.renewed,
            repaired=look.repaired,
            lost=look.verdict is Verdict.LOST,
            problem=after.problem,
        )
