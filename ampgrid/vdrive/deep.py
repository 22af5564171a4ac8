"""Deep operations: something done with all that a directory leads to.

All stream what they find while they go, count it in their `Operation` (``done``, in things, not
bytes) and end when it is cancelled. Everything is looked at once, however many ways lead to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from ampgrid.caps import ChkVerifierCap, parse_cap
from ampgrid.commands.errors import NoSuchShareError
from ampgrid.errors import AmpgridError, OperationCancelledError
from ampgrid.immutable import Checker, CheckReport, FileNode, Operation, Repairer
from ampgrid.immutable.several import each
from ampgrid.storage.client import StorageServer
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.vdrive.ports import TableReport
from ampgrid.vdrive.streams import as_done
from ampgrid.vdrive.walking import AT_ONCE, Visit, walk

#: Upper bounds of the classes of sizes in which files are counted, bytes.
SIZE_CLASSES = tuple(10**power for power in range(3, 16))


def kind_of(node: FileNode | DirectoryNode) -> str:
    """Return ``directory``, ``file``, or ``literal`` for a file whose cap holds its data."""
    if isinstance(node, DirectoryNode):
        return "directory"
    return "file" if node.get_refresh_capability() is not None else "literal"


def visit_json(visit: Visit) -> dict[str, Any]:
    """Return a visit for JSON, with its caps: a line of a manifest."""
    node = visit.node
    told: dict[str, Any] = {
        "path": list(visit.path),
        "type": kind_of(node),
        "cap": node.get_uri(),
        "verify_cap": node.get_refresh_capability(),
        "metadata": dict(visit.metadata),
        "again": visit.again,
    }
    if isinstance(node, DirectoryNode):
        told["children"] = visit.children
        told["error"] = "" if visit.error is None else str(visit.error)
        told["problems"] = list(visit.problems)
    else:
        told["size"] = node.get_size()
    return told


@define
class DeepSize:
    """How much there is: each file and directory once, literals once for each name.

    Attributes:
        directories: that could be read.
        unreadable: directories that could not.
        files: with shares in the grid.
        literals: files whose cap holds their data.
        again: ways to what was counted before.
        bytes_files: size of the files, bytes.
        bytes_literals: size of the literals, bytes.
        largest_file: size, bytes.
        largest_directory: children.
        classes: files by the power of ten, in bytes, that they are not larger than.
    """

    directories: int = 0
    unreadable: int = 0
    files: int = 0
    literals: int = 0
    again: int = 0
    bytes_files: int = 0
    bytes_literals: int = 0
    largest_file: int = 0
    largest_directory: int = 0
    classes: dict[int, int] = field(factory=dict)

    def add(self, visit: Visit) -> None:
        """Count a visit."""
        node = visit.node
        if visit.again:
            self.again += 1
        elif isinstance(node, DirectoryNode):
            self.unreadable += visit.error is not None
            self.directories += visit.error is None
            self.largest_directory = max(self.largest_directory, visit.children)
        else:
            self._add_file(node.get_size(), literal=node.get_refresh_capability() is None)

    def _add_file(self, size: int, *, literal: bool) -> None:
        if literal:
            self.literals += 1
            self.bytes_literals += size
        else:
            self.files += 1
            self.bytes_files += size
        self.largest_file = max(self.largest_file, size)
        bound = next((bound for bound in SIZE_CLASSES if size <= bound), size)
        self.classes[bound] = self.classes.get(bound, 0) + 1

    def to_json(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return {
            "directories": self.directories,
            "unreadable": self.unreadable,
            "files": self.files,
            "literals": self.literals,
            "again": self.again,
            "bytes_files": self.bytes_files,
            "bytes_literals": self.bytes_literals,
            "largest_file": self.largest_file,
            "largest_directory": self.largest_directory,
            "sizes": [[bound, count] for bound, count in sorted(self.classes.items())],
        }


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


@frozen
class Finding:
    """What came of one thing.

    Attributes:
        path: names from where the walk began.
        kind: ``directory``, ``file`` or ``literal``.
        verify_cap: the text of its verify cap; None of a literal.
        size: of a file, bytes.
        again: whether it was looked at before; then nothing else is told.
        healthy: whether all is well with it now; None if that was not looked at.
        recoverable: whether it can be read; None if that was not looked at.
        repaired: whether something was written.
        renewed: whether this node's leases were renewed.
        problems: one line for each thing that went wrong.
        report: of the check or the repair, for JSON; None without one.
    """

    path: tuple[str, ...]
    kind: str
    verify_cap: str | None
    size: int | None = None
    again: bool = False
    healthy: bool | None = None
    recoverable: bool | None = None
    repaired: bool = False
    renewed: bool = False
    problems: tuple[str, ...] = ()
    report: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the finding for JSON."""
        return {
            "path": list(self.path),
            "type": self.kind,
            "verify_cap": self.verify_cap,
            "size": self.size,
            "again": self.again,
            "healthy": self.healthy,
            "recoverable": self.recoverable,
            "repaired": self.repaired,
            "renewed": self.renewed,
            "problems": list(self.problems),
            "report": self.report,
        }


@define
class DeepSummary:
    """How many findings of each kind there were."""

    directories: int = 0
    files: int = 0
    literals: int = 0
    again: int = 0
    healthy: int = 0
    unhealthy: int = 0
    unrecoverable: int = 0
    repaired: int = 0
    renewed: int = 0
    troubled: int = 0

    def add(self, finding: Finding) -> None:
        """Count a finding."""
        if finding.again:
            self.again += 1
            return
        self.directories += finding.kind == "directory"
        self.files += finding.kind == "file"
        self.literals += finding.kind == "literal"
        self.healthy += finding.healthy is True
        self.unhealthy += finding.healthy is False
        self.unrecoverable += finding.recoverable is False
        self.repaired += finding.repaired
        self.renewed += finding.renewed
        self.troubled += bool(finding.problems)

    def to_json(self) -> dict[str, Any]:
        """Return the counts for JSON."""
        return {
            "directories": self.directories,
            "files": self.files,
            "literals": self.literals,
            "again": self.again,
            "healthy": self.healthy,
            "unhealthy": self.unhealthy,
            "unrecoverable": self.unrecoverable,
            "repaired": self.repaired,
            "renewed": self.renewed,
            "troubled": self.troubled,
        }


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

    async def check_file(
        self, cap: ChkVerifierCap, wishes: Wishes, operation: Operation
    ) -> dict[str, Any]:
        """Check a file, and repair it if that is wished; returns what its `Finding` tells."""
        report = await self._checker.check(cap, operation, verify=wishes.verify)
        healthy = await self.is_healthy(cap, report)
        told = {"report": report.to_json(), "repaired": False}
        if wishes.repair and not healthy and report.recoverable:
            repair = await self._repairer.repair(cap, operation, found=report)
            report = repair.after
            healthy = await self.is_healthy(cap, report)
            told = {"report": repair.to_json(), "repaired": bool(repair.written)}
        return {
            **told,
            "healthy": healthy,
            "recoverable": report.recoverable,
            "problems": report.problems,
        }

    async def is_healthy(self, cap: ChkVerifierCap, report: CheckReport) -> bool:
        """Tell whether every share is there, on as many servers as wanted."""
        return report.healthy and report.happy >= await self._wanted(cap)

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
        self._problems = [*visit.problems]
        if visit.error is not None:
            self._problems.append(f"cannot be read: {visit.error}")
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
            told["recoverable"] = self._visit.error is None
            told["healthy"] = False
            report = await self._tried(node.check())
            if report is not None and not report.healthy and wishes.repair:
                repaired: TableReport | None = await self._tried(node.repair())
                told["repaired"] = repaired is not None and repaired.healthy
                report = repaired or report
            if report is not None:
                told["report"] = report.to_json()
                told["healthy"] = report.healthy and not self._problems
        if wishes.renew:
            renewed = await self._tried(_done(node.renew()))
            told["renewed"] = bool(renewed)

    async def _tried(self, work: Awaitable[Any]) -> Any:
        """Return what comes of something; None, and a problem noted, if it fails."""
        try:
            return await work
        except OperationCancelledError:
            raise
        except AmpgridError as error:
            self._operation.check()
            self._problems.append(str(error))
            return None


async def _done(work: Awaitable[None]) -> bool:
    await work
    return True
