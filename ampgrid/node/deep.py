"""Deep operations over the control socket: begun by one Command, read page by page by another.

A walk stays ahead of its reader by a bounded amount, then waits for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ampgrid.commands.errors import NoSuchOperationError
from ampgrid.errors import BadArgumentValueError, OperationCancelledError
from ampgrid.immutable import Operation
from ampgrid.node.operations import Operations
from ampgrid.node.reports import MOST_PAGE_BYTES, json_text, report_text
from ampgrid.ports import Clock, Connection
from ampgrid.vdrive.deep import DeepSize, DeepSummary, Examiner, Wishes, visit_json
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.vdrive.walking import walk

_log = Logger()

#: Results that wait for the reader at most.
MOST_WAITING = 500
#: `NextResults` answers after so long in any case, seconds.
LONGEST_ANSWER = 5.0
#: A walk whose results nobody fetches is given up after so long, seconds.
IDLE_SECONDS = 600.0
#: The largest result, bytes: of a longer one the lists are cut.
_MOST_RESULT_BYTES = 45_000
_MOST_SUMMARY_BYTES = 8_000

WHAT = ("manifest", "size", "check", "renew")


class DeepRun:
    """One walk under way.

    Args:
        results: what it finds, for JSON.
        summary: what comes of all of it in the end.
        operation: progress and cancelling.
        clock: timers.
    """

    def __init__(
        self,
        results: AsyncIterator[dict[str, Any]],
        summary: DeepSize | DeepSummary,
        operation: Operation,
        clock: Clock,
    ) -> None:
        self._results = results
        self._summary = summary
        self._operation = operation
        self._clock = clock
        self._waiting: deque[str] = deque()
        self._reader: Deferred[None] | None = None
        self._room: Deferred[None] | None = None
        self._failure: Failure | None = None
        self._ended = False
        self._idle = clock.callLater(IDLE_SECONDS, operation.cancel)
        operation.on_cancel(self._wake_writer)

    def start(self) -> Deferred[None]:
        """Begin; fires when the walk has ended, however it did."""
        walking = Deferred.fromCoroutine(self._walk())
        walking.addErrback(self._failed)
        walking.addBoth(self._end)
        return walking

    async def _walk(self) -> None:
        async with aclosing(self._results) as results:  # type: ignore[type-var]
            async for result in results:
                text = json_text(result, _MOST_RESULT_BYTES)
                self._waiting.append(text)
                self._wake_reader()
                while len(self._waiting) >= MOST_WAITING:
                    self._room = Deferred()
                    await self._room
                    self._operation.check()

    def _failed(self, failure: Failure) -> None:
        self._failure = failure

    def _end(self, _: object) -> None:
        self._ended = True
        if self._idle.active():
            self._idle.cancel()
        self._wake_reader()

    def _wake_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)

    def _wake_writer(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.callback(None)

    async def page(self) -> tuple[str, bool]:
        """Return the next results as a JSON list, and whether that was all.

        Raises:
            AmpgridError: what ended the walk early, once all that it found was told.
        """
        if self._idle.active():
            self._idle.reset(IDLE_SECONDS)
        if not self._waiting and not self._ended:
            await self._something()
        told: list[str] = []
        size = 0
        while self._waiting and (not told or size + len(self._waiting[0]) <= MOST_PAGE_BYTES):
            told.append(self._waiting.popleft())
            size += len(told[-1]) + 2
        self._wake_writer()
        done = self._ended and not self._waiting
        if done and not told and self._failure is not None:
            self._failure.raiseException()
        return f"[{', '.join(told)}]", done and self._failure is None

    async def _something(self) -> None:
        """Wait for something to tell, or for the end, or until it is time to answer."""
        if self._reader is not None:
            raise BadArgumentValueError("the results of this walk are being asked for already")
        waiting = self._reader = Deferred()
        timer = self._clock.callLater(LONGEST_ANSWER, self._wake_reader)
        await waiting
        if timer.active():
            timer.cancel()

    def summary(self) -> str:
        """Return what came of all of it, as JSON."""
        return report_text(self._summary.to_json(), _MOST_SUMMARY_BYTES)


class DeepRuns:
    """The walks that were begun over one connection, and end with it.

    Args:
        examiner: checks, repairs and renews.
        operations: all of the node's.
        clock: timers.
        connection: the connection.
    """

    def __init__(
        self, examiner: Examiner, operations: Operations, clock: Clock, connection: Connection
    ) -> None:
        self._examiner = examiner
        self._operations = operations
        self._clock = clock
        self._runs: dict[int, tuple[DeepRun, Operation]] = {}
        self._lost = False
        connection.when_lost(self._abandon)

    def _abandon(self) -> None:
        self._lost = True
        runs, self._runs = self._runs, {}
        for _run, operation in runs.values():
            operation.cancel()

    def begin(self, number: int, root: DirectoryNode, what: str, wishes: Wishes) -> None:
        """Begin a walk.

        Args:
            number: of the operation, above 0.
            root: where it begins.
            what: one of `WHAT`.
            wishes: what is done with each thing, of ``check``.

        Raises:
            BadArgumentValueError: the number is in use or 0, or ``what`` is none of these.
        """
        if what not in WHAT:
            raise BadArgumentValueError(f"what is done is one of {', '.join(WHAT)}")
        if not number:
            raise BadArgumentValueError("the operation needs a number above 0")
        if number in self._runs:
            raise BadArgumentValueError("an operation of this number is under way already")
        if self._lost:
            raise OperationCancelledError("the connection is gone")
        under_way = self._operations.under_way(number)
        operation = under_way.__enter__()
        results, summary = walk_for(self._examiner, root, what, wishes, operation)
        run = DeepRun(results, summary, operation, self._clock)
        self._runs[number] = run, operation

        def ended(_: object) -> None:
            under_way.__exit__(None, None, None)

        run.start().addBoth(ended)

    async def results(self, number: int) -> dict[str, Any]:
        """Return the answer of `NextResults`.

        Raises:
            NoSuchOperationError: no walk of this number was begun over this connection.
        """
        if number not in self._runs:
            raise NoSuchOperationError("no walk of this number is under way on this connection")
        run, _operation = self._runs[number]
        try:
            text, done = await run.page()
        except BadArgumentValueError:
            raise
        except BaseException:
            self._runs.pop(number, None)
            raise
        if done:
            self._runs.pop(number, None)
        return {"results": text, "done": done, "summary": run.summary() if done else "{}"}


def walk_for(
    examiner: Examiner, root: DirectoryNode, what: str, wishes: Wishes, operation: Operation
) -> tuple[AsyncIterator[dict[str, Any]], DeepSize | DeepSummary]:
    """Return what a walk finds, for JSON, and what counts it meanwhile.

    Args:
        examiner: checks, repairs and renews.
        root: where it begins.
        what: one of `WHAT`.
        wishes: what is done with each thing, of ``check``.
        operation: progress and cancelling.
    """
    if what in {"manifest", "size"}:
        size = DeepSize()
        return _visits(root, size, operation, tell=what == "manifest"), size
    summary = DeepSummary()
    if what == "renew":
        wishes = Wishes(check=False, renew=True)
    return _findings(examiner, root, wishes, summary, operation), summary


async def _findings(
    examiner: Examiner,
    root: DirectoryNode,
    wishes: Wishes,
    summary: DeepSummary,
    operation: Operation,
) -> AsyncIterator[dict[str, Any]]:
    """Examine, count, and tell of each finding."""
    async for finding in examiner.examine(root, wishes, operation):
        summary.add(finding)
        yield finding.to_json()


async def _visits(
    root: DirectoryNode, size: DeepSize, operation: Operation, *, tell: bool
) -> AsyncIterator[dict[str, Any]]:
    """Walk, count, and if wanted tell of each visit."""
    async for visit in walk(root, operation):
        size.add(visit)
        if tell:
            yield visit_json(visit)
