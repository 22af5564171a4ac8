"""Deep operations: something done with all that a directory leads to.

All stream what they find while they go, count it in their `Operation` (``done``, in things, not
bytes) and end when it is cancelled. Everything is looked at once, however many ways lead to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred

from ampgrid.caps import ChkVerifierCap, parse_cap
from ampgrid.commands.errors import NoSuchShareError
from ampgrid.errors import (
    AmpgridError,
    NotReachableError,
    OperationCancelledError,
    SnapshotGoneError,
    UndecidedError,
)
from ampgrid.immutable import Checker, FileNode, Operation, Repairer
from ampgrid.immutable.judging import judged
from ampgrid.immutable.several import each
from ampgrid.storage.client import StorageServer
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.vdrive.figures import DeepSize, DeepSummary, Finding, kind_of, visit_json
from ampgrid.vdrive.ports import TableReport
from ampgrid.vdrive.streams import as_done
from ampgrid.vdrive.walking import AT_ONCE, Visit, walk

#: What keeps a directory from being read, and says nothing against its being there.
_UNREACHABLE = (NotReachableError, UndecidedError, SnapshotGoneError)

__all__ = [
    "DeepSize",
    "DeepSummary",
    "Examiner",
    "Finding",
    "Wishes",
    "deep_size",
    "kind_of",
    "visit_json",
]


async def deep_size(root: DirectoryNode, operation: Operation | None = None) -> DeepSize:
    """Return how much can be reached from a directory.

    Raises:
        OperationCancelledError: somebody has cancelled.
    """
    found = DeepSize()
    async for visit in walk(root, operation):
        found.add(visit)
    return found


@frozen
class Wishes:
    """What is to be done with each thing.

    Attributes:
        check: see where its shares, or its replicas, are.
        verify: read and hash every byte of files.
        repair: write what is missing of what is not healthy.
        renew: add or renew this node's leases.
    """

    check: bool = True
    verify: bool = False
    repair: bool = False
    renew: bool = False


#: Returns how many servers of happiness a file should have.
Wanted = Callable[[ChkVerifierCap], Awaitable[int]]


class Examiner:
    """Checks, repairs and renews all that a directory leads to.

    Args:
        checker: of files.
        repairer: of files.
        servers: returns the storage peers that are connected now.
        wanted: how many servers of happiness a file should have; with fewer it is not healthy.
    """

    def __init__(
        self,
        checker: Checker,
        repairer: Repairer,
        servers: Callable[[], Sequence[StorageServer]],
        wanted: Wanted,
    ) -> None:
        self._checker = checker
        self._repairer = repairer
        self._servers = servers
        self._wanted = wanted

    async def examine(
        self,
        root: DirectoryNode,
        wishes: Wishes,
        operation: Operation | None = None,
        *,
        at_once: int = AT_ONCE,
    ) -> AsyncIterator[Finding]:
        """Yield a finding for all that can be reached, itself first, as they are done.

        What goes wrong with one thing is in its finding, and the others are looked at.

        Raises:
            OperationCancelledError: somebody has cancelled.
        """
        operation = operation or Operation()
        running: set[Operation] = set()

        def cancel_all() -> None:
            for one in list(running):
                one.cancel()

        async def look(visit: Visit) -> Finding:
            # The parts count bytes of their files; the whole counts findings.
            one = Operation()
            running.add(one)
            try:
                return await _Look(self, visit, wishes, one).run()
            finally:
                running.discard(one)

        operation.enter("renewing leases" if not wishes.check else "checking", 0)
        operation.on_cancel(cancel_all)
        walking = Operation()
        operation.on_cancel(walking.cancel)
        visits = walk(root, walking, at_once=at_once)
        try:
            async for finding in as_done(visits, look, operation, at_once):
                operation.done += 1
                yield finding
        finally:
            # Who stops listening wants no more work done.
            walking.cancel()
            cancel_all()

    async def look(self, visit: Visit, wishes: Wishes, operation: Operation) -> Finding:
        """Return what comes of one thing alone.

        Raises:
            OperationCancelledError: somebody has cancelled.
        """
        return await _Look(self, visit, wishes, operation).run()

    async def check_file(
        self, cap: ChkVerifierCap, wishes: Wishes, operation: Operation
    ) -> dict[str, Any]:
        """Check a file, and repair it if that is wished; returns what its `Finding` tells."""
        report = await self._checker.check(cap, operation, verify=wishes.verify)
        wanted = await self._wanted(cap)
        told, repaired = judged(report.to_json(), wanted), False
        if wishes.repair and not told["healthy"] and report.recoverable:
            repair = await self._repairer.repair(cap, operation, found=report)
            report, repaired = repair.after, bool(repair.written)
            told = judged(repair.to_json(), wanted)
        return {
            "report": told,
            "repaired": repaired,
            "healthy": told["healthy"],
            "recoverable": report.recoverable,
            "problems": report.problems,
        }

    async def renew_file(self, cap: ChkVerifierCap) -> str:
        """Add or renew the leases of a file; returns what was wrong, empty if nothing was."""
        servers = list(self._servers())

        def start(server: StorageServer) -> Callable[[], Deferred[None]]:
            return lambda: Deferred.fromCoroutine(server.add_lease(cap.storage_index))

        answers = await each({i: start(server) for i, server in enumerate(servers)})
        renewed, trouble = 0, ""
        for i, answer in answers.items():
            if answer is None:
                renewed += 1
            elif not isinstance(answer, AmpgridError):
                raise answer
            elif not isinstance(answer, NoSuchShareError):
                trouble = f"server {servers[i].name} took no lease: {answer}"
        return "" if renewed else trouble or "no server took a lease"


class _Look:
    """A look at one thing."""

    def __init__(
        self, examiner: Examiner, visit: Visit, wishes: Wishes, operation: Operation
    ) -> None:
        self._examiner = examiner
        self._visit = visit
        self._wishes = wishes
        self._operation = operation
        self._unread = "" if visit.error is None else str(visit.error)
        self._problems = [*visit.problems]
        if visit.error is not None:
            self._problems.append(f"cannot be read: {self._unread}")
        self._told: dict[str, Any] = {}

    async def run(self) -> Finding:
        """Do what is wished."""
        visit, node = self._visit, self._visit.node
        told = self._told
        if isinstance(node, FileNode):
            told["size"] = node.get_size()
        verify = node.get_refresh_capability()
        if visit.again:
            told["again"] = True
        elif isinstance(node, DirectoryNode):
            await self._directory(node)
        elif verify is None:
            told.update(healthy=True, recoverable=True)
        else:
            cap = parse_cap(verify)
            assert isinstance(cap, ChkVerifierCap)
            await self._file(cap)
        return Finding(visit.path, kind_of(node), verify, problems=tuple(self._problems), **told)

    async def _file(self, cap: ChkVerifierCap) -> None:
        wishes, told = self._wishes, self._told
        if wishes.check:
            checking = self._examiner.check_file(cap, wishes, self._operation)
            if (checked := await self._tried(checking)) is not None:
                self._problems += checked.pop("problems")
                told.update(checked)
        if wishes.renew:
            trouble = await self._tried(self._examiner.renew_file(cap))
            told["renewed"] = trouble == ""
            if trouble:
                self._problems.append(trouble)

    async def _directory(self, node: DirectoryNode) -> None:
        wishes, told = self._wishes, self._told
        if wishes.check:
            error = self._visit.error
            told["unreachable"] = isinstance(error, _UNREACHABLE)
            told["recoverable"] = None if told["unreachable"] else error is None
            told["healthy"] = False
            report = await self._tried(node.check())
            if report is not None and not report.healthy and wishes.repair:
                repaired: TableReport | None = await self._tried(node.repair())
                told["repaired"] = repaired is not None and bool(repaired.repaired)
                report = repaired or report
            if report is not None:
                told["report"] = report.to_json()
                told["healthy"] = report.healthy and not self._problems
                self._problems += report.problems
        if wishes.renew:
            leases = await self._tried(node.renew())
            told["renewed"] = bool(leases)
            if leases == 0:
                self._problems.append("no replica took a lease")

    async def _tried(self, work: Awaitable[Any]) -> Any:
        """Return what comes of something; None, and a problem noted, if it fails."""
        try:
            return await work
        except OperationCancelledError:
            raise
        except AmpgridError as error:
            self._operation.check()
            if str(error) != self._unread:
                self._problems.append(str(error))
            return None
