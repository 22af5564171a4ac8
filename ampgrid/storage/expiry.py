"""When files without a lease go: passes over the store, while the time can be believed.

What happens to a file is decided by the store in transactions (`ampgrid.store.expiry`); this is
the hourly walk that asks for them, batch by batch, each in a thread. Before every batch the
clocks are compared (`ampgrid.store.timekeeping`): after a jump nothing more is marked or deleted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
from twisted.logger import Logger

from ampgrid.errors import StoreError
from ampgrid.store.expiry import Expired
from ampgrid.store.port import StoreUpkeep
from ampgrid.store.timekeeping import StoreClock

_log = Logger()

#: Runs a function in a thread.
InThread = Callable[..., Awaitable[Any]]


@attrs.define
class PassReport:
    """What a pass did.

    Attributes:
        marked: files marked.
        files: files deleted.
        shares: shares that they had.
        size: bytes of these.
    """

    marked: int = 0
    files: int = 0
    shares: int = 0
    size: int = 0


class Expiry:
    """Marks and deletes what has no lease, if that is switched on.

    Args:
        upkeep: of the store.
        time: the store's time.
        in_thread: where the store is called.
        enabled: whether anything expires at all.
        grace_seconds: how long a file has been marked before it goes.

    Attributes:
        last: what the last whole pass did, None before the first.
        last_at: when it ended, seconds since 1970.
        error: why the last pass ended early, empty if it did not.
        running: whether a pass is under way.
    """

    def __init__(
        self,
        upkeep: StoreUpkeep,
        time: StoreClock,
        in_thread: InThread,
        *,
        enabled: bool,
        grace_seconds: int,
    ) -> None:
        self.enabled = enabled
        self.grace_seconds = grace_seconds
        self.last: PassReport | None = None
        self.last_at: int | None = None
        self.error = ""
        self.running = False
        self._upkeep = upkeep
        self._time = time
        self._in_thread = in_thread
        self._stopped = False

    def stop(self) -> None:
        """Begin no batch more."""
        self._stopped = True

    @property
    def held(self) -> bool:
        """Whether nothing may be marked or deleted now."""
        self._time.look()
        return self._stopped or bool(self._time.paused_seconds)

    async def run_pass(self) -> PassReport | None:
        """Mark what has no lease any more, and delete what was marked for the whole grace.

        Returns:
            What was done; None if expiry is off or held, or the store failed.
        """
        if not self.enabled or self.running or self.held:
            return None
        self.running = True
        report = PassReport()
        try:
            if not (await self._mark(report) and await self._delete(report)):
                return None
        except StoreError as error:
            self.error = str(error)
            _log.warn("expiry ended early: {error}", error=error)
            return None
        finally:
            self.running = False
            if report.files:
                _log.info("expired: {report}", report=report)
        self.error = ""
        self.last, self.last_at = report, self._time.now()
        return report

    async def _mark(self, report: PassReport) -> bool:
        after = None
        while not self.held:
            marking = await self._in_thread(self._upkeep.mark_ended, self._time.now(), after)
            report.marked += marking.marked
            after = marking.last
            if after is None:
                return True
        return False

    async def _delete(self, report: PassReport) -> bool:
        while not self.held:
            expired: Expired = await self._in_thread(
                self._upkeep.expire, self._time.now(), self.grace_seconds
            )
            report.files += expired.files
            report.shares += expired.shares
            report.size += expired.size
            # Also when none expired: an earlier pass may have failed at the files.
            while await self._in_thread(self._upkeep.remove_files):
                if self._stopped:
                    return False
            if not expired.looked_at:
                return True
        return False
