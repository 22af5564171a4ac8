"""The scrub: every share is read and hashed again within a period, at a pace.

A cycle goes over all shares in the order of their storing, new ones last, and is spread over
half of the period; the next one follows. So between two looks at one share lies no more than the
period, if the rate permits. How far a cycle is stands in the store, and a restart goes on from
there. The looking itself, and what becomes of bad shares, is `ampgrid.store.scrubbing`.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import attrs
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from ampgrid.commands import errors as e
from ampgrid.crypto.base32 import b2a
from ampgrid.crypto.identity import node_id_text
from ampgrid.errors import OperationCancelledError, StoreError
from ampgrid.ports import Clock
from ampgrid.storage.expiry import InThread
from ampgrid.storage.pacing import Naps, Pace
from ampgrid.store import Store
from ampgrid.store.catalog import Finding
from ampgrid.store.port import StoreUpkeep, Walk
from ampgrid.store.scrubbing import COST_OF_A_SHARE, MISSING, ScrubProgress, Step
from ampgrid.store.timekeeping import StoreClock

_log = Logger()

#: How often a stretch of the cycle is done, seconds.
STRETCH_SECONDS = 600
#: The most bytes that are read in one hop into a thread, and the least.
HOP_BYTES = 2**21
_LEAST_HOP_BYTES = 2**17
#: The least bytes of a stretch: a small store is done at once.
_LEAST_STRETCH_BYTES = 2**22
#: Bytes after which the position is written down.
_SAVE_BYTES = 2**28
#: The most bad shares that a report names.
_MOST_NAMED = 100


class Watched(Protocol):
    """What a long call tells of its course (`ampgrid.immutable.Operation`)."""

    done: int

    def enter(self, phase: str, total: int | None = None) -> None:
        """Begin a phase."""
        ...

    def check(self) -> None:
        """Raise `OperationCancelledError` if somebody has cancelled."""
        ...


def describe(finding: Finding) -> dict[str, Any]:
    """Return a bad share for JSON."""
    return {
        "storage_index": b2a(finding.storage_index),
        "share": finding.number,
        "size": finding.size,
        "peer": node_id_text(finding.peer),
        "reason": finding.reason,
        "found_at": finding.found_at,
    }


def warn_of(finding: Finding) -> None:
    """Write a bad share to the log."""
    _log.warn(
        "share {number} of {index} is no longer here: {reason}"
        if finding.reason == MISSING
        else "share {number} of {index} is bad and was set aside: {reason}",
        number=finding.number,
        index=b2a(finding.storage_index),
        reason=finding.reason,
    )


class Scrub:
    """Looks at every share, again and again.

    Args:
        store: whose shares.
        upkeep: of the store.
        time: the store's time.
        clock: for the pace.
        in_thread: where the store is called.
        period_seconds: within which every share is looked at; None for never.
        rate: bytes a second.

    Attributes:
        progress: how far it is.
        period_seconds: as given.
        error: why the last stretch ended early, empty if it did not.
        running: whether a stretch, or a whole cycle that was asked for, is under way.
    """

    def __init__(
        self,
        store: Store,
        upkeep: StoreUpkeep,
        time: StoreClock,
        clock: Clock,
        in_thread: InThread,
        *,
        period_seconds: int | None,
        rate: int,
    ) -> None:
        self.progress = ScrubProgress()
        self.period_seconds = period_seconds
        self.rate = rate
        self.error = ""
        self.running = False
        self._store = store
        self._upkeep = upkeep
        self._time = time
        self._in_thread = in_thread
        self._naps = Naps(clock)
        self._pace = Pace(clock, self._naps, rate)
        self._hop = max(_LEAST_HOP_BYTES, min(HOP_BYTES, rate))
        self._walk: Walk | None = None
        self._turn = DeferredLock()
        self._asked = False

    async def load(self) -> None:
        """Find where the cycle goes on."""
        self.progress = await self._in_thread(self._upkeep.load_scrub)

    async def stop(self) -> None:
        """End what is under way; it goes on at the next start."""
        self._naps.end()
        async with self._turn:
            await self._drop_walk()

    async def _drop_walk(self) -> None:
        walk, self._walk = self._walk, None
        if walk is not None:
            await self._close(walk)

    async def _close(self, walk: Walk) -> None:
        """Close a walk; what was found and how far it came is no worse for a failure of that."""
        try:
            await self._in_thread(walk.close)
        except (StoreError, OSError) as error:
            _log.warn("a look at a share ended badly: {error}", error=error)

    @property
    def next_cycle_at(self) -> int | None:
        """When the next cycle begins, seconds since 1970; None while one is under way."""
        if self.period_seconds is None or not self.progress.done:
            return None
        return self.progress.started + self.period_seconds // 2

    def _total_cost(self) -> int:
        room = self._store.room(fresh=False)
        return room.used + room.shares * COST_OF_A_SHARE

    def allowance(self) -> int:
        """Return how many bytes the next stretch reads."""
        assert self.period_seconds is not None
        progress = self.progress
        most = self.rate * STRETCH_SECONDS
        left = self._total_cost() - progress.size - progress.shares * COST_OF_A_SHARE
        seconds = progress.started + self.period_seconds // 2 - self._time.now()
        if seconds <= STRETCH_SECONDS:
            return most
        spread = math.ceil(max(0, left) * STRETCH_SECONDS / seconds)
        return min(most, max(spread, _LEAST_STRETCH_BYTES))

    async def run_stretch(self) -> None:
        """Do what is due now of the cycle."""
        if self.period_seconds is None or self.running or self._asked or self._naps.over:
            return
        now = self._time.now()
        if self.progress.done or not self.progress.started:
            if now < (self.next_cycle_at or 0):
                return
            self._begin_cycle(now)
        self.running = True
        try:
            async with self._turn:
                await self._stretch(self.allowance())
            self.error = ""
        except StoreError as error:
            self.error = str(error)
            _log.warn("the scrub ended early: {error}", error=error)
        finally:
            self.running = False

    def _begin_cycle(self, now: int) -> None:
        self.progress = attrs.evolve(
            self.progress, position=0, started=now, shares=0, size=0, skipped=0, bad=0, done=0
        )

    async def _stretch(self, budget: int) -> None:
        walk = self._walk
        if walk is None:
            walk = self._walk = self._upkeep.walk(self.progress.position)
        unsaved = 0
        try:
            while budget > 0 and not self._asked and not self._naps.over:
                step: Step = await self._in_thread(
                    walk.advance, min(self._hop, budget), self._time.now()
                )
                budget -= step.cost
                unsaved += step.cost
                self._note(step)
                if step.ended:
                    self._end_cycle()
                    break
                if unsaved >= _SAVE_BYTES:
                    unsaved = 0
                    await self._in_thread(self._upkeep.save_scrub, self.progress)
                await self._pace.spend(step.cost)
        except StoreError:
            await self._drop_walk()
            raise
        finally:
            if self.progress.done:
                await self._drop_walk()
            await self._in_thread(self._upkeep.save_scrub, self.progress)

    def _note(self, step: Step) -> None:
        progress = self.progress
        self.progress = attrs.evolve(
            progress,
            position=step.position,
            shares=progress.shares + step.shares,
            size=progress.size + step.size,
            skipped=progress.skipped + step.skipped,
            bad=progress.bad + len(step.bad),
            bad_ever=progress.bad_ever + len(step.bad),
        )
        for finding in step.bad:
            warn_of(finding)

    def _end_cycle(self) -> None:
        self.progress = attrs.evolve(
            self.progress, done=1, finished=self._time.now(), cycles=self.progress.cycles + 1
        )

    async def run_now(self, operation: Watched) -> dict[str, Any]:
        """Look at every share now, from the first to the last, within the rate.

        Returns:
            The report, for JSON (``docs/reference/status.md``).

        Raises:
            BusyError: this is under way already.
            OperationCancelledError: it was cancelled, or the service ends; the cycle that this
                interrupted goes on where it was.
            StoreError: a bad share could not be set aside.
        """
        if self._asked:
            raise e.BusyError("a scrub is under way already")
        self._asked = True
        try:
            # A stretch that is under way ends after its next hop.
            async with self._turn:
                return await self._run_cycle(operation)
        finally:
            self._asked = False

    async def _run_cycle(self, operation: Watched) -> dict[str, Any]:
        before = self.progress
        walk = self._upkeep.walk()
        self._begin_cycle(self._time.now())
        named: list[Finding] = []
        missing = 0
        operation.enter("hashing shares", self._total_cost())
        try:
            while not self.progress.done:
                operation.check()
                if self._naps.over:
                    raise OperationCancelledError("the node is stopping")
                step: Step = await self._in_thread(walk.advance, self._hop, self._time.now())
                self._note(step)
                named += step.bad[: _MOST_NAMED - len(named)]
                missing += sum(finding.reason == MISSING for finding in step.bad)
                operation.done += step.cost
                if step.ended:
                    self._end_cycle()
                else:
                    await self._pace.spend(step.cost)
            await self._drop_walk()
        except BaseException:
            self.progress = attrs.evolve(before, bad_ever=self.progress.bad_ever)
            raise
        finally:
            await self._close(walk)
            await self._in_thread(self._upkeep.save_scrub, self.progress)
        return self._report(named, missing)

    def _report(self, named: list[Finding], missing: int) -> dict[str, Any]:
        progress = self.progress
        room = self._store.room(fresh=False)
        return {
            "shares": progress.shares,
            "bytes": progress.size,
            "skipped": progress.skipped,
            "bad": progress.bad,
            "missing": missing,
            "bad_shares": [describe(finding) for finding in named],
            "seconds": progress.finished - progress.started,
            "quarantine": {"files": room.aside_files, "bytes": room.aside},
        }
