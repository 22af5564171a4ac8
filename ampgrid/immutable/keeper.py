"""The keeper: it walks the files that the node has put, so that the grid does not forget them.

Each file has its moment (`ampgrid.immutable.schedule`). When it has come the keeper renews the
file's leases, checks it and repairs it if need be (`ampgrid.immutable.walker`), a few files at
once and within a bandwidth. What is found is written down file by file, so that a restart goes
on where the node stopped.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.logger import Logger

from ampgrid.errors import AmpgridError, OperationCancelledError, StoreError
from ampgrid.immutable.bandwidth import Bandwidth
from ampgrid.immutable.kept import PAGE, KeptFiles
from ampgrid.immutable.operation import Operation
from ampgrid.immutable.renewal import Lateness
from ampgrid.immutable.schedule import HOUR, Schedule
from ampgrid.immutable.walkreport import COUNTED, Run
from ampgrid.ports import Clock, WallClock

if TYPE_CHECKING:
    from ampgrid.immutable.walker import Walker

_log = Logger()

#: After the start of the node its connections have this long to come up, seconds.
_START_SECONDS = (120.0, 300.0)
#: Between two looks at the list, seconds.
_LEAST_SLEEP, _MOST_SLEEP = 60.0, HOUR
#: When nobody is connected it is tried again after this, seconds.
_NOBODY_SLEEP = 300.0
#: Files that are looked at at once, by all walks together.
FILES_AT_ONCE = 4
_TALLIES = ("this_period", "last_period", "last_run")


class Keeper:
    """Keeps the files of a node alive.

    Args:
        kept: which they are.
        walker: returns what looks at one of them; asked for when something is looked at, so that
            a node which keeps no files need not load it.
        connected: returns how many storage peers are connected now.
        schedule: when files are looked at.
        bandwidth: what the walker keeps within.
        clock: time and timers.
        wall: wall-clock time.
        enabled: whether it walks by itself; it can be told to walk in any case.
    """

    def __init__(
        self,
        kept: KeptFiles,
        walker: Callable[[], Walker],
        *,
        connected: Callable[[], int],
        schedule: Schedule,
        bandwidth: Bandwidth,
        clock: Clock,
        wall: WallClock,
        enabled: bool,
    ) -> None:
        self._kept = kept
        self._walker = walker
        self._connected = connected
        self._schedule = schedule
        self._bandwidth = bandwidth
        self._clock = clock
        self._wall = wall
        self._enabled = enabled
        self._turns = DeferredSemaphore(FILES_AT_ONCE)
        #: The files that are being looked at, and who waits for their turn at one of them.
        self._at_hand: dict[int, list[Deferred[None]]] = {}
        self._running = 0
        #: What a walk waits for or works at, to be cancelled with it.
        self._under_way: dict[Operation, set[Deferred[Any] | Operation]] = {}
        self._stopping: Operation | None = None
        self._ended: Deferred[None] | None = None
        self._sleeping: tuple[Deferred[None], Any] | None = None
        self._next_run: float | None = None
        self._tallies: dict[str, dict[str, Any] | None] = dict.fromkeys(_TALLIES)

    # By itself.

    async def start(self) -> None:
        """Read what was noted before, and begin to walk if that is wanted."""
        marks = await self._kept.start()
        for name in _TALLIES:
            self._tallies[name] = _tally(marks.get(name, ""))
        if self._enabled:
            stopping = self._stopping = Operation()
            stopping.on_cancel(lambda: self._cancelled(stopping))
            stopping.on_cancel(self._wake)
            self._ended = Deferred.fromCoroutine(self._go_on(stopping))

    async def stop(self) -> None:
        """Walk no more; returns when the file that was looked at is let go."""
        if self._stopping is not None:
            self._stopping.cancel()
        if self._ended is not None:
            await self._ended
            self._ended = None

    async def _go_on(self, stopping: Operation) -> None:
        await self._sleep(self._schedule.uniform(*_START_SECONDS))
        while not stopping.cancelled:
            try:
                seconds = await self._pass(stopping)
            except OperationCancelledError:
                break
            except AmpgridError as error:
                _log.error("the keeper stopped half-way and tries again: {e}", e=error)
                seconds = _MOST_SLEEP
            except Exception:  # noqa: BLE001 - whatever it was, the files need their keeper
                _log.failure("the keeper stopped half-way and tries again")
                seconds = _MOST_SLEEP
            if not stopping.cancelled:
                await self._sleep(seconds)
        self._next_run = None

    async def _pass(self, stopping: Operation) -> float:
        """Walk what is due; returns how long to wait for more, seconds."""
        if not self._connected():
            return _NOBODY_SLEEP
        run = Run(stopping, self._wall(), Lateness(self._clock), everything=False, dry=False)
        await self._walk(run)
        if not run.complete:
            return _NOBODY_SLEEP
        next_due = await self._kept.next_due()
        if next_due is None:
            return _MOST_SLEEP
        return min(_MOST_SLEEP, max(_LEAST_SLEEP, next_due - self._wall()))

    async def _sleep(self, seconds: float) -> None:
        if self._stopping is None or self._stopping.cancelled:
            return
        self._next_run = self._wall() + seconds
        waking: Deferred[None] = Deferred()
        self._sleeping = (waking, self._clock.callLater(seconds, self._wake))
        await waking

    def _wake(self) -> None:
        if self._sleeping is not None:
            (waking, timer), self._sleeping = self._sleeping, None
            if timer.active():
                timer.cancel()
            waking.callback(None)

    # When told.

    async def run(
        self, operation: Operation, *, now: bool = False, dry_run: bool = False
    ) -> dict[str, Any]:
        """Walk files and return a report for JSON (``docs/reference/keeper.md``).

        Args:
            operation: progress and cancelling.
            now: walk all files, whether due or not, and repair without a second look.
            dry_run: tell what would be done, and write nothing anywhere.

        Raises:
            OperationCancelledError: somebody has cancelled.
            StoreError: the list of kept files cannot be read or written.
        """
        run = Run(operation, self._wall(), Lateness(self._clock), everything=now, dry=dry_run)
        operation.on_cancel(lambda: self._cancelled(operation))
        await self._walk(run)
        return run.to_json(self._wall())

    def _cancelled(self, operation: Operation) -> None:
        for each in list(self._under_way.get(operation, ())):
            each.cancel()
        self._bandwidth.look_up()

    async def _walk(self, run: Run) -> None:
        self._running += 1
        self._under_way[run.operation] = set()
        looks: set[Deferred[None]] = set()
        try:
            async for number in self._numbers(run):
                await self._take_turn(run.operation)
                if run.error is not None or not run.complete:
                    self._turns.release()
                    break
                look = Deferred.fromCoroutine(self._look(run, number))
                looks = {each for each in looks if not each.called} | {look}
        finally:
            for look in looks:
                await look
            del self._under_way[run.operation]
            self._running -= 1
        if run.error is not None:
            raise run.error
        if not run.dry:
            await self._note_run(run)

    async def _take_turn(self, operation: Operation) -> None:
        """Wait until another file may be looked at, by this walk or another."""
        operation.check()
        acquiring = self._turns.acquire()
        under_way = self._under_way[operation]
        under_way.add(acquiring)
        try:
            await acquiring
        except CancelledError:
            operation.check()
            raise
        finally:
            under_way.discard(acquiring)

    async def _look(self, run: Run, number: int) -> None:
        """Look at a file, whose turn was taken, and give the turn back; never raises."""
        try:
            # Not at the same time as another walk.
            while (waiting := self._at_hand.get(number)) is not None:
                turn: Deferred[None] = Deferred()
                waiting.append(turn)
                await turn
            self._at_hand[number] = []
            try:
                await self._one(run, number)
            finally:
                for turn in self._at_hand.pop(number):
                    turn.callback(None)
        except BaseException as error:  # noqa: BLE001 - the walk raises it when all looks ended
            if run.error is None:
                run.error = error
        finally:
            self._turns.release()

    async def _numbers(self, run: Run) -> AsyncIterator[int]:
        """Yield the numbers of the files to be walked, page by page."""
        if run.everything:
            page = await self._kept.page(0)
            while page:
                for file in page:
                    yield file.number
                page = await self._kept.page(page[-1].number)
            return
        now = run.started_at
        for after, until in (
            ((float("-inf"), 0), now),
            ((self._schedule.horizon(now), 2**62), float("inf")),
        ):
            place = after
            while page := await self._kept.due(place, until):
                for file in page:
                    yield file.number
                place = (page[-1].next_at, page[-1].number)
                if len(page) < PAGE:
                    break

    async def _one(self, run: Run, number: int) -> None:
        """Look at one file, as the list has it at this moment."""
        run.operation.check()
        file = await self._kept.get(number)
        if file is None or not (run.everything or self._schedule.is_due(file, self._wall())):
            return  # dropped, or walked by another run meanwhile
        if not self._connected():
            run.complete = False
            return
        name = f"file {run.counts['walked'] + 1} of {self._kept.count}"
        run.operation.enter(name, 0)
        # One of its own: what it hangs up to be cancelled goes with it.
        part = _Part(run.operation, name)
        self._under_way[run.operation].add(part)
        try:
            look = await self._walker().look(
                file, part, run.lateness, at_once=run.everything, dry=run.dry
            )
        except (OperationCancelledError, StoreError):
            raise
        except Exception:  # noqa: BLE001 - one strange file must not keep the others from it
            _log.failure("a kept file could not be looked at")
            file = self._walker().failed(file, "it could not be looked at; see the node's log")
            added = run.add_unforeseen(file)
        else:
            added = run.add(file, look)
            file = look.file
        finally:
            self._under_way[run.operation].discard(part)
        if not run.dry:
            await self._kept.looked_at(file, self._tallied(added))

    # What it remembers of itself.

    def _tallied(self, added: Mapping[str, int]) -> dict[str, str]:
        """Count a look towards its period; returns the marks to write."""
        now = self._wall()
        current = self._tallies["this_period"]
        marks: dict[str, str] = {}
        if current is None or not 0 <= now - current["since"] < self._schedule.period:
            if current is not None:
                self._tallies["last_period"] = current | {"until": now}
                marks["last_period"] = json.dumps(self._tallies["last_period"])
            current = {"since": now, **dict.fromkeys(COUNTED, 0)}
        for name, count in added.items():
            current[name] += count
        self._tallies["this_period"] = current
        marks["this_period"] = json.dumps(current)
        return marks

    async def _note_run(self, run: Run) -> None:
        last = {
            "started_at": run.started_at,
            "ended_at": self._wall(),
            "complete": run.complete,
            **run.counts,
        }
        before = self._tallies["last_run"]
        if run.counts["walked"] or before is None:
            self._tallies["last_run"] = last
            await self._kept.set_marks({"last_run": json.dumps(last)})
        await self._kept.recount()

    def status(self) -> dict[str, Any]:
        """Return how it fares, for JSON (``docs/reference/status.md``)."""
        return {
            "enabled": self._enabled,
            "every_days": self._schedule.period / (24 * HOUR),
            "kept": self._kept.count,
            "failing": self._kept.failing,
            "running": self._running > 0,
            "next_run": None if self._running else self._next_run,
            **{name: self._tallies[name] for name in _TALLIES},
        }


class _Part(Operation):
    """The look at one file of several at once; shown is the one that began a phase last.

    Args:
        whole: the walk.
        name: of the file in it, for people.
    """

    def __init__(self, whole: Operation, name: str) -> None:
        self._whole = whole
        self._name = name
        self._phase = ""
        self._done = 0
        super().__init__()

    def enter(self, phase: str, total: int | None = None) -> None:
        """Begin a phase, which the walk shows with the name of the file."""
        super().enter(phase, total)
        self._whole.enter(self._label, self.total)

    @property
    def _label(self) -> str:
        return f"{self._name}: {self._phase}"

    @property
    def phase(self) -> str:
        """What is being done now, for people."""
        return self._phase

    @phase.setter
    def phase(self, value: str) -> None:
        is_shown = self._whole.phase == self._label
        self._phase = value
        if is_shown:
            self._whole.phase = self._label

    @property
    def done(self) -> int:
        """Bytes of the file that are done in this phase."""
        return self._done

    @done.setter
    def done(self, value: int) -> None:
        self._done = value
        if self._whole.phase == self._label:
            self._whole.done = value


def _tally(text: str) -> dict[str, Any] | None:
    """Read a tally that was written down; one of another version is begun anew."""
    try:
        tally = json.loads(text)
    except ValueError:
        return None
    if not isinstance(tally, dict) or not set(COUNTED) <= tally.keys():
        return None
    return tally
