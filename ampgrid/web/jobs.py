"""What is under way for clients, and what came of it: ``/operations/HANDLE`` and ``/status``.

A client may give what it begins a handle (``ophandle=``), by which progress is asked for and the
work is cancelled, also over another connection. What has ended is kept for a while.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from attrs import define, field

from ampgrid.errors import AmpgridError, OperationCancelledError
from ampgrid.immutable import Operation
from ampgrid.node.operations import Operations
from ampgrid.ports import Entropy, WallClock
from ampgrid.web.errors import BadRequestError, NotFoundError, WebError

#: Handles known at once; the oldest that has ended goes first.
MOST_HANDLES = 250
#: Seconds that what has ended is kept under its handle.
KEEP_SECONDS = 86_400.0
#: Jobs without a handle that have ended and are still told of.
RECENT = 50

_HANDLE = re.compile(r"[A-Za-z0-9_-]{1,64}")


@define(eq=False)
class Job:
    """A piece of work.

    Attributes:
        kind: ``upload``, ``download``, ``check`` and so on.
        handle: by which it is known, empty if by none.
        operation: its progress, and what cancels it.
        started: seconds since 1970.
        size: bytes of what it works on, None if that is not known.
        ended: seconds since 1970, None while it runs.
        state: ``running``, ``done``, ``failed`` or ``cancelled``.
        error: why it failed.
        result: what came of it, for JSON.
        moved: bytes of files that went up or down; None for as many as the operation tells.
        held: what is let go when it ends.
    """

    kind: str
    handle: str
    operation: Operation
    started: float
    size: int | None = None
    ended: float | None = None
    state: str = "running"
    error: str = ""
    result: dict[str, Any] = field(factory=dict)
    moved: int | None = None
    held: ExitStack = field(factory=ExitStack, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return all that is told of it, for JSON."""
        operation = self.operation
        return {
            "handle": self.handle,
            "kind": self.kind,
            "state": self.state,
            "phase": operation.phase,
            "done": operation.done,
            "total": operation.total,
            "size": self.size,
            "started": self.started,
            "ended": self.ended,
            "error": self.error,
            "result": self.result,
        }


class Jobs:
    """All of one gateway.

    Args:
        operations: all of the node's.
        wall: wall-clock time.
        entropy: for handles.
    """

    def __init__(self, operations: Operations, wall: WallClock, entropy: Entropy) -> None:
        self._operations = operations
        self._wall = wall
        self._entropy = entropy
        self._known: OrderedDict[str, Job] = OrderedDict()
        self._running: list[Job] = []
        self._recent: deque[Job] = deque(maxlen=RECENT)
        #: Bytes that uploads and downloads have moved since the start, and how many ended how.
        self.counts: dict[tuple[str, str], int] = {}
        self.bytes: dict[str, int] = {}

    @contextmanager
    def under_way(
        self,
        kind: str,
        handle: str | None = None,
        size: int | None = None,
        *,
        begun: Job | None = None,
    ) -> Iterator[Job]:
        """Give a job that runs until the block ends.

        Args:
            kind: of the job.
            handle: by which it shall be known; None for no such name.
            size: bytes of what it works on; None while that is not known.
            begun: the job, if it is known already (`begin`).

        Raises:
            BadRequestError: the handle is malformed, or in use.
            OperationCancelledError: the node is stopping.
        """
        job = begun or self.begin(kind, handle, size)
        if begun is not None:
            job.kind, job.size, job.moved = kind, size, None
            job.operation.enter("starting", 0)
        try:
            yield job
        except BaseException as error:
            self.end(job, error)
            raise
        else:
            self.end(job)

    def begin(self, kind: str, handle: str | None = None, size: int | None = None) -> Job:
        """Begin a job that runs until `end`.

        Raises:
            BadRequestError: the handle is malformed, or in use.
            OperationCancelledError: the node is stopping.
        """
        held = ExitStack()
        operation = held.enter_context(self._operations.under_way(0))
        try:
            job = Job(kind, self._checked(handle), operation, self._wall(), size, held=held)
        except WebError:
            held.close()
            raise
        self._running.append(job)
        if job.handle:
            self._known[job.handle] = job
        return job

    def end(self, job: Job, error: BaseException | None = None) -> None:
        """End a job, as what it failed for says."""
        job.held.close()
        job.state = "done"
        if error is not None:
            cancelled = isinstance(error, OperationCancelledError) or job.operation.cancelled
            job.state = "cancelled" if cancelled else "failed"
            job.error = str(error) if isinstance(error, AmpgridError) else ""
        job.ended = self._wall()
        self._running.remove(job)
        self._recent.append(job)
        self._count(job)

    def _checked(self, handle: str | None) -> str:
        if not handle:
            return ""
        if not _HANDLE.fullmatch(handle):
            raise BadRequestError("a handle is 1 to 64 letters, digits, dashes and underscores")
        self._sweep()
        if handle in self._known:
            raise WebError("an operation of this handle is known already", 409)
        if len(self._known) >= MOST_HANDLES:
            raise WebError("too many operations are under way", 503)
        return handle

    def _count(self, job: Job) -> None:
        key = job.kind, job.state
        self.counts[key] = self.counts.get(key, 0) + 1
        if job.kind in {"upload", "download"}:
            moved = job.operation.done if job.moved is None else job.moved
            self.bytes[job.kind] = self.bytes.get(job.kind, 0) + moved

    def _sweep(self) -> None:
        """Forget what has ended long ago, and the oldest that has ended where it is crowded."""
        now = self._wall()
        ended = [job for job in self._known.values() if job.ended is not None]
        crowd = len(self._known) - MOST_HANDLES + 1
        for number, job in enumerate(sorted(ended, key=lambda each: each.ended or 0.0)):
            if number < crowd or now - (job.ended or 0.0) > KEEP_SECONDS:
                del self._known[job.handle]

    def all(self) -> list[Job]:
        """Return all that is known by a handle, the oldest first."""
        return list(self._known.values())

    def new_handle(self) -> str:
        """Return a handle that nobody can guess."""
        return self._entropy(12).hex()

    def get(self, handle: str) -> Job:
        """Return the job of a handle.

        Raises:
            NotFoundError: there is none, or it ended long ago.
        """
        job = self._known.get(handle)
        if job is None:
            raise NotFoundError("there is no operation of this handle")
        return job

    def running(self) -> list[Job]:
        """Return what is under way, the oldest first."""
        return list(self._running)

    def recent(self) -> list[Job]:
        """Return what ended last, the last first."""
        return list(reversed(self._recent))
