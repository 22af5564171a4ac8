"""The keeper of directories: it walks what can be reached from the roots and aliases of a node.

Every few days (``[keeper] every_days``) it renews the leases of all directories and files there,
checks them, and repairs what was found wanting twice, an hour apart. Once a day it stores a
sealed snapshot of each directory that has changed. Files that this node has put itself are
looked after by the keeper of files (`ampgrid.immutable.keeper`).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from attrs import asdict, define, field, frozen
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from ampgrid.caps import ChkVerifierCap, DirCap, parse_cap
from ampgrid.errors import AmpgridError, OperationCancelledError, StoreError
from ampgrid.immutable.kept import KeptFiles
from ampgrid.immutable.operation import Operation
from ampgrid.immutable.schedule import DAY, HOUR, SECOND_LOOK_SECONDS
from ampgrid.node.drive import WANTED_REPLICAS
from ampgrid.node.roots import RootCap
from ampgrid.ports import Clock, DelayedCall, WallClock
from ampgrid.vdrive.ports import TableReport

if TYPE_CHECKING:
    from ampgrid.immutable import FileNode
    from ampgrid.vdrive.dirnode import DirectoryNode
    from ampgrid.vdrive.maker import NodeMaker
    from ampgrid.vdrive.walking import Visit

_log = Logger()

#: After the start of the node its connections have this long to come up, seconds.
_START_SECONDS = (180.0, 420.0)
#: Between two looks at what is due, seconds.
_LOOK_SECONDS = HOUR
#: Between two walks of one kind there are from this part of a period to all of it.
_LEAST_PART = 0.85
#: Things that wait for a second look, at most.
_MOST_SUSPECTED = 10_000
_MOST_PROBLEMS = 20
_MARK = "drive"


class FileLooks(Protocol):
    """Looks after files that this node has not put itself."""

    async def look(self, cap: ChkVerifierCap, operation: Operation, *, repair: bool) -> FileLook:
        """Renew the leases of a file, check it, and repair it if ``repair``."""
        ...


class Snapshots(Protocol):
    """Stores snapshots of directories."""

    async def keep(self, cap: DirCap, operation: Operation) -> bool:
        """Store a snapshot of a directory unless the last one is of its present version.

        Returns:
            Whether one was stored.
        """
        ...


@frozen
class Tools:
    """What a walk works with.

    Attributes:
        maker: makes the nodes of directories.
        files: looks after files.
        snapshots: stores snapshots; None to store none.
    """

    maker: NodeMaker
    files: FileLooks
    snapshots: Snapshots | None


@define
class FileLook:
    """What a look at a file came to.

    Attributes:
        well: whether all is well with it now.
        renewed: whether its leases were renewed.
        repaired: whether shares were written.
        lost: whether too few shares were found to read it.
        problem: one line, empty if there is none.
    """

    well: bool
    renewed: bool = False
    repaired: bool = False
    lost: bool = False
    problem: str = ""


@define
class Walked:
    """What a walk came to.

    Attributes:
        started_at, ended_at: seconds since 1970.
        complete: whether it came through.
        directories: that were found.
        unreadable: directories that could not be read.
        few_replicas: directories with fewer than four replicas.
        unhealthy: directories with replicas that are gone or behind.
        files: that were looked at; those that the keeper of files keeps are not.
        renewed: directories and files of which the leases were renewed.
        repaired: directories and files that were repaired.
        waiting: directories and files that wait for a second look.
        lost: files of which too few shares were found.
        snapshots: of directories that were stored.
        failed: directories and files with which something went wrong.
        problems: the first of what went wrong, a line each.
    """

    started_at: float
    ended_at: float = 0.0
    complete: bool = False
    directories: int = 0
    unreadable: int = 0
    few_replicas: int = 0
    unhealthy: int = 0
    files: int = 0
    renewed: int = 0
    repaired: int = 0
    waiting: int = 0
    lost: int = 0
    snapshots: int = 0
    failed: int = 0
    problems: list[str] = field(factory=list)

    def trouble(self, where: str, what: str) -> None:
        """Note that something went wrong."""
        self.failed += 1
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(f"{where}: {what}"[:300])


@define
class _Due:
    """When something was done last, seconds since 1970."""

    walked_at: float = 0.0
    snapshots_at: float = 0.0


class DriveKeeper:
    """Keeps the directories of a node alive, and what is in them.

    Args:
        roots: returns (name, cap) of the directories where walks begin.
        tools: returns what walks work with; asked for when one begins, so that a node which
            walks nothing need not load it.
        kept: knows the files that another keeper looks after, and keeps marks.
        connected: returns how many vdrive peers are connected now.
        period: seconds within which all is looked at.
        uniform: draws between two bounds.
        clock: time and timers.
        wall: wall-clock time.
        enabled: whether it walks by itself.
        roots_problem: returns why directories may be missing from the roots; empty if none is.
    """

    def __init__(
        self,
        roots: Callable[[], Sequence[tuple[str, RootCap]]],
        tools: Callable[[], Tools],
        kept: KeptFiles,
        *,
        connected: Callable[[], int],
        period: float,
        uniform: Callable[[float, float], float],
        clock: Clock,
        wall: WallClock,
        enabled: bool,
        roots_problem: Callable[[], str] = lambda: "",
    ) -> None:
        self._roots = roots
        self._tools = tools
        self._kept = kept
        self._connected = connected
        self._period = period
        self._uniform = uniform
        self._clock = clock
        self._wall = wall
        self._enabled = enabled
        self._roots_problem = roots_problem
        self._due = _Due()
        self._last: dict[str, Any] | None = None
        #: {verify cap: since when it is wanting}.
        self._suspected: dict[str, float] = {}
        self._timer: DelayedCall | None = None
        self._running: Operation | None = None
        self._at_once = False
        self._turn = DeferredLock()
        self._ended: Deferred[None] | None = None
        self._stopped = False

    async def start(self) -> None:
        """Read what was noted before, and begin to walk if that is wanted."""
        marks = await self._kept.marks()
        try:
            noted = json.loads(marks.get(_MARK, "{}"))
            self._due = _Due(float(noted["walked_at"]), float(noted["snapshots_at"]))
            self._last = noted["last"]
        except (ValueError, KeyError, TypeError):
            self._due = _Due()
        if self._enabled:
            self._later(self._uniform(*_START_SECONDS))

    async def stop(self) -> None:
        """Walk no more; returns when what was looked at is let go."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._running is not None:
            self._running.cancel()
        if self._ended is not None:
            await self._ended

    def _later(self, seconds: float) -> None:
        if not self._stopped:
            self._timer = self._clock.callLater(seconds, self._begin)

    def _begin(self) -> None:
        self._ended = Deferred.fromCoroutine(self._go())
        self._ended.addErrback(
            lambda failure: _log.failure("directories could not be looked after", failure)
        )
        self._ended.addBoth(lambda _: self._later(_LOOK_SECONDS))

    async def _go(self) -> None:
        try:
            await self.run_due(Operation())
        except OperationCancelledError:
            pass
        except StoreError as error:
            _log.error("what was found of directories could not be noted: {e}", e=error)

    async def run_due(self, operation: Operation) -> dict[str, Any] | None:
        """Do what is due, if anything is (see `run`); None if nothing was done."""
        now = self._wall()
        full = self._is_due(self._due.walked_at, self._period, now) or self._second_look_due(now)
        snapshots = self._is_due(self._due.snapshots_at, DAY, now)
        if not (full or snapshots) or not self._connected() or not self._roots():
            return None
        if self._running is not None:
            return None
        return await self.run(operation, full=full, snapshots=snapshots)

    def _is_due(self, last: float, period: float, now: float) -> bool:
        """Tell whether a walk is due; what lies in the future comes from a wrong clock."""
        return not 0 <= now - last < period * self._uniform(_LEAST_PART, 1.0)

    def _second_look_due(self, now: float) -> bool:
        return any(now - since >= SECOND_LOOK_SECONDS for since in self._suspected.values())

    async def run(
        self, operation: Operation, *, full: bool, snapshots: bool, at_once: bool = False
    ) -> dict[str, Any]:
        """Walk, and return what came of it, for JSON (``docs/reference/status.md``).

        Args:
            operation: progress and cancelling.
            full: renew, check and repair; else only snapshots are stored.
            snapshots: store those of directories that have changed.
            at_once: repair without a second look.

        Raises:
            OperationCancelledError: somebody has cancelled.
            StoreError: what came of it could not be noted.
        """
        await self._turn.acquire()
        self._running, self._at_once = operation, at_once
        walked = Walked(self._wall())
        try:
            operation.check()
            await self._walk(walked, operation, full=full, snapshots=snapshots)
            walked.complete = True
        finally:
            self._running = None
            self._turn.release()
            walked.ended_at = self._wall()
            walked.waiting = len(self._suspected)
            self._last = asdict(walked)
        if full:
            self._due.walked_at = walked.started_at
        if snapshots:
            self._due.snapshots_at = walked.started_at
        await self._kept.set_marks({_MARK: json.dumps({**asdict(self._due), "last": self._last})})
        return self._last

    async def _walk(
        self, walked: Walked, operation: Operation, *, full: bool, snapshots: bool
    ) -> None:
        from ampgrid.vdrive.walking import walk

        seen: set[str] = set()
        if problem := self._roots_problem():
            walked.trouble("the roots", problem)
        for name, cap in self._roots():
            walking = Operation()
            operation.on_cancel(walking.cancel)
            async for visit in walk(self._tools().maker.node(cap), walking):
                operation.check()
                operation.done += 1
                verify = visit.node.get_refresh_capability()
                if visit.again or verify is None or verify in seen:
                    continue
                seen.add(verify)
                where = f"{name}:{'/'.join(visit.path)}"
                looking = self._visit(walked, visit, where, operation, full, snapshots)
                await self._tried(walked, where, looking)
        if full:
            # What cannot be reached any more needs no second look.
            self._suspected = {v: since for v, since in self._suspected.items() if v in seen}

    async def _tried(self, walked: Walked, where: str, work: Awaitable[None]) -> None:
        try:
            await work
        except (OperationCancelledError, StoreError):
            raise
        except AmpgridError as error:
            walked.trouble(where, str(error))

    async def _visit(
        self,
        walked: Walked,
        visit: Visit,
        where: str,
        operation: Operation,
        full: bool,
        snapshots: bool,
    ) -> None:
        from ampgrid.immutable.filenode import FileNode

        if isinstance(visit.node, FileNode):
            if full:
                await self._file(walked, visit.node, where, operation)
            return
        walked.directories += 1
        if visit.error is not None:
            walked.unreadable += 1
        if full:
            await self._directory(walked, visit.node, where)
        cap, keeper = visit.node.cap, self._tools().snapshots
        if snapshots and keeper is not None and isinstance(cap, DirCap):
            walked.snapshots += await keeper.keep(cap, operation)

    async def _directory(self, walked: Walked, node: DirectoryNode, where: str) -> None:
        verify = node.get_refresh_capability()
        well = self._is_well(await node.check())
        if not well:
            walked.unhealthy += 1
            if self._suspect(verify):
                well = self._is_well(await node.repair())
                walked.repaired += well
                if not well:
                    walked.trouble(where, "its replicas could not all be repaired")
        if well:
            self._suspected.pop(verify, None)
        record = await self._tools().maker.table(node.cap).record()
        walked.few_replicas += len(record.replicas) < WANTED_REPLICAS
        await node.renew()
        walked.renewed += 1

    def _is_well(self, report: TableReport) -> bool:
        """Tell whether nothing can be done about the replicas, with the peers that there are."""
        if report.healthy:
            return True
        told = report.to_json()
        good, replicas = told.get("good"), told.get("replicas")
        return (
            isinstance(replicas, list)
            and good == len(replicas)
            and self._connected() <= len(replicas)
        )

    async def _file(
        self, walked: Walked, node: FileNode, where: str, operation: Operation
    ) -> None:
        verify = node.get_refresh_capability()
        cap = parse_cap(verify or "")
        assert isinstance(cap, ChkVerifierCap)
        if await self._kept.find(cap) is not None:
            return
        walked.files += 1
        assert verify is not None
        repair = self._is_suspected(verify)
        look = await self._tools().files.look(cap, operation, repair=repair)
        walked.renewed += look.renewed
        walked.repaired += look.repaired
        walked.lost += look.lost
        if look.well:
            self._suspected.pop(verify, None)
        elif not look.lost:
            self._suspect(verify)
        if look.problem and (look.lost or repair):
            walked.trouble(where, look.problem)

    def _is_suspected(self, verify: str) -> bool:
        since = self._suspected.get(verify)
        return self._at_once or (since is not None and self._wall() - since >= SECOND_LOOK_SECONDS)

    def _suspect(self, verify: str) -> bool:
        """Note that something is wanting; tell whether it was so before."""
        if self._is_suspected(verify):
            return True
        if len(self._suspected) < _MOST_SUSPECTED:
            self._suspected.setdefault(verify, self._wall())
        return False

    def status(self) -> dict[str, Any]:
        """Return how it fares, for JSON (``docs/reference/status.md``)."""
        return {
            "enabled": self._enabled,
            "running": self._running is not None,
            "waiting": len(self._suspected),
            "last_walk": self._last,
        }
