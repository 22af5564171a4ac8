"""What a storage service does by itself: time, expiry, scrub, advice, and what it tells of them.

`Upkeep` is ticked by the service every minute, and begins what is due. All its times are the
store's own (`ampgrid.store.timekeeping`), so a wall clock that jumps neither starves nor hurries
anything here.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import attrs
from twisted.logger import Logger

from ampgrid.crypto.identity import node_id_text
from ampgrid.errors import StoreError
from ampgrid.ports import Clock, WallClock
from ampgrid.storage.advice import AdviceDesk
from ampgrid.storage.expiry import Expiry, InThread
from ampgrid.storage.scrub import STRETCH_SECONDS, Scrub, Watched, describe
from ampgrid.store import Store
from ampgrid.store.catalog import Finding
from ampgrid.store.expiry import LeaseCounts
from ampgrid.store.timekeeping import StoreClock

_log = Logger()

#: How often the latest time seen is written down, seconds.
KEEP_SECONDS = 900
#: How often expiry makes a pass, and everything is counted again, seconds.
PASS_SECONDS = 3600
#: So many bad shares within the scrub's period (or a month) are more than chance.
ALARMING = 3
#: Accounts, and bad shares, that the status names.
MOST_ACCOUNTS = 100
MOST_NAMED = 10
#: With more leases than this they are counted with the passes only: it takes too long.
_MOST_COUNTED_OFTEN = 50_000

_MONTH_SECONDS = 30 * 86_400
_DAMAGED = (
    "The store's database is damaged, and some of the small shares in it cannot be read. Stop the "
    "node, move store.db and its -wal file away, and start again: shares in files are found "
    "again, and what is lost are the small shares and all leases."
)


@attrs.frozen
class UpkeepSettings:
    """What a storage service does by itself.

    Attributes:
        expire: whether files without a lease are deleted.
        grace_seconds: how long they have been marked before that.
        scrub_seconds: within which every share is hashed again; None for never.
        scrub_rate: bytes a second that the scrub reads at most.
    """

    expire: bool = False
    grace_seconds: int = 86_400
    scrub_seconds: int | None = None
    scrub_rate: int = 20_000_000


@attrs.frozen
class _Counted:
    """What takes a look into the store to know."""

    leases: LeaseCounts = attrs.field(factory=LeaseCounts)
    accounts: tuple[tuple[bytes, int, int, int], ...] = ()
    peers: int = 0
    recent_bad: int = 0
    findings: tuple[Finding, ...] = ()


class Upkeep:
    """The work that a storage service does by itself.

    Args:
        store: whose shares.
        settings: what is done.
        clock: time, for the pace.
        wall: the wall clock, which is watched.
        monotonic: seconds that only grow.
        in_thread: where the store is called.
        spawn: runs a coroutine on its own.

    Attributes:
        time: the store's time.
        expiry: deletes what has no lease.
        scrub: looks at every share.
        advice: follows advice.
    """

    def __init__(
        self,
        store: Store,
        settings: UpkeepSettings,
        *,
        clock: Clock,
        wall: WallClock,
        monotonic: Callable[[], float],
        in_thread: InThread,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        upkeep = store.upkeep
        self.time = StoreClock(upkeep.beginning, wall, monotonic)
        self.expiry = Expiry(
            upkeep,
            self.time,
            in_thread,
            enabled=settings.expire,
            grace_seconds=settings.grace_seconds,
        )
        self.scrub = Scrub(
            store,
            upkeep,
            self.time,
            clock,
            in_thread,
            period_seconds=settings.scrub_seconds,
            rate=settings.scrub_rate,
        )
        self.advice = AdviceDesk(upkeep, self.time, clock, in_thread, spawn)
        self._store = store
        self._upkeep = upkeep
        self._in_thread = in_thread
        self._spawn = spawn
        self._counted = _Counted()
        self._counted_at = 0
        self._jumps = 0
        started = self.time.now()
        self._keep_at = started + KEEP_SECONDS
        # An hour at the earliest: whoever was waiting for this node to be back renews first.
        self._pass_at = started + PASS_SECONDS
        self._stretch_at = started + STRETCH_SECONDS

    async def start(self) -> None:
        """Find where everything goes on."""
        await self.scrub.load()
        try:
            if not self.expiry.enabled:
                await self._in_thread(self._upkeep.forget_marks)
            await self.count()
        except StoreError as error:
            # On a disk that is full, say, shares can still be read.
            _log.warn("the upkeep of shares began badly: {error}", error=error)

    async def stop(self) -> None:
        """End what is under way, and write the time down."""
        self.expiry.stop()
        self.advice.stop()
        await self.scrub.stop()
        try:
            await self._in_thread(self._upkeep.keep_time, self.time.now())
        except StoreError as error:
            _log.warn("the time could not be written down: {error}", error=error)

    def tick(self) -> None:
        """Begin what is due; to be called every minute."""
        self.time.look()
        if self.time.jumps != self._jumps:
            self._jumps = self.time.jumps
            _log.warn("the clock jumped: nothing expires for a while")
        now = self.time.now()
        if now >= self._keep_at:
            self._keep_at = now + KEEP_SECONDS
            self._spawn(self._keep_time())
        if now >= self._pass_at and not self.time.paused_seconds:
            self._pass_at = now + PASS_SECONDS
            self._spawn(self._make_pass())
        if now >= self._stretch_at:
            self._stretch_at = now + STRETCH_SECONDS
            self._spawn(self.scrub.run_stretch())

    async def _keep_time(self) -> None:
        try:
            await self._in_thread(self._upkeep.keep_time, self.time.now())
        except StoreError as error:
            _log.warn("the time could not be written down: {error}", error=error)

    async def _make_pass(self) -> None:
        await self.expiry.run_pass()
        try:
            await self._in_thread(self._upkeep.count_aside, self.time.now())
            await self.count()
        except StoreError as error:
            _log.warn("the store could not be counted: {error}", error=error)

    async def run_scrub(self, operation: Watched) -> dict[str, Any]:
        """Look at every share now; see `ampgrid.storage.scrub.Scrub.run_now`."""
        report = await self.scrub.run_now(operation)
        await self.count()
        return {**report, "alarm": self.alarm}

    # What it tells.

    async def count(self, *, quick: bool = False) -> None:
        """Look into the store for what `status` shows; ``quick``: not for what takes long."""
        leases = self._counted.leases
        slow = leases.leases > _MOST_COUNTED_OFTEN
        if not (quick and slow and self.time.now() < self._counted_at + PASS_SECONDS):
            self._counted_at = self.time.now()
            leases = await self._in_thread(self._upkeep.count_leases)
        self._counted = await self._in_thread(self._count, leases)

    def _count(self, leases: LeaseCounts) -> _Counted:
        window = self.scrub.period_seconds or _MONTH_SECONDS
        return _Counted(
            leases=leases,
            accounts=tuple(
                (*account, self._upkeep.account_aside(account[0]))
                for account in self._upkeep.largest_accounts(MOST_ACCOUNTS)
            ),
            peers=self._store.accounts(),
            recent_bad=self._upkeep.count_findings(self.time.now() - window),
            findings=tuple(self._upkeep.findings(MOST_NAMED)),
        )

    @property
    def alarm(self) -> str:
        """One sentence if the disk cannot be trusted, else nothing."""
        if self._upkeep.damaged:
            return _DAMAGED
        if self._upkeep.broken:
            return "The disk failed, and nothing is accepted until a probe passes."
        recent = self._counted.recent_bad
        if recent >= ALARMING:
            return f"{recent} shares were found bad lately: have a look at the whole disk."
        return ""

    def status(self) -> dict[str, Any]:
        """Return what `status` shows of it, for JSON (``docs/reference/status.md``)."""
        room = self._store.room(fresh=False)
        counted, leases = self._counted, self._counted.leases
        return {
            "broken": self._upkeep.broken,
            "alarm": self.alarm,
            "peers": counted.peers,
            "accounts": {
                "bytes": room.used,
                "shares": room.shares,
                "peers": counted.peers,
                "largest": [
                    {
                        "node_id": node_id_text(peer),
                        "bytes": size,
                        "shares": shares,
                        "quarantine_bytes": aside,
                    }
                    for peer, size, shares, aside in counted.accounts
                ],
            },
            "time": {
                "now": self.time.now(),
                "behind_seconds": self.time.behind_seconds,
                "jumps": self.time.jumps,
            },
            "leases": leases.leases,
            "expiry": {
                "enabled": self.expiry.enabled,
                "grace_seconds": self.expiry.grace_seconds,
                "paused_seconds": self.time.paused_seconds,
                "marked": leases.marked,
                "expired_files": leases.expired_files,
                "expired_shares": leases.expired_shares,
                "freed_bytes": leases.expired_bytes,
                "last_pass": self.expiry.last_at,
                "next_pass": self._pass_at if self.expiry.enabled else None,
                "error": self.expiry.error,
            },
            "scrub": self._scrub_status(),
            "quarantine": {"files": room.aside_files, "bytes": room.aside},
            "advice": {
                "followed": self.advice.followed,
                "refused": self.advice.refused,
                "found_bad": self.advice.found_bad,
            },
        }

    def _scrub_status(self) -> dict[str, Any]:
        scrub, progress = self.scrub, self.scrub.progress
        return {
            "enabled": scrub.period_seconds is not None,
            "period_seconds": scrub.period_seconds,
            "rate": scrub.rate,
            "running": scrub.running,
            "cycle_started": progress.started or None,
            "cycle_shares": progress.shares,
            "cycle_bytes": progress.size,
            "cycle_skipped": progress.skipped,
            "cycle_bad": progress.bad,
            "position": progress.position,
            "last_full_cycle": progress.finished or None,
            "next_cycle": scrub.next_cycle_at,
            "cycles": progress.cycles,
            "bad_ever": progress.bad_ever,
            "recent_bad": [describe(finding) for finding in self._counted.findings],
            "error": scrub.error,
        }
