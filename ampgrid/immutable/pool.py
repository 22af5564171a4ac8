"""The shares of one file that a download can draw on, from found to ready to bad.

A share is *fresh* when a server has named it, *preparing* while its hashes are read and checked,
*ready* when its blocks can be read, and gone once it proved bad. Whoever waits for a change
leaves a bell here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ampgrid.caps import ChkCap, ChkVerifierCap
from ampgrid.errors import AmpgridError, FormatError, IntegrityError, NotEnoughSharesError
from ampgrid.formats.ueb import UriExtension
from ampgrid.immutable.bell import Bell
from ampgrid.immutable.finder import Habit, ShareFinder
from ampgrid.immutable.reader import ShareReader
from ampgrid.ports import Clock, Threads
from ampgrid.storage.client import StorageServer

#: Seconds without news after which one more share is asked for what is missing.
SLOW_SECONDS = 2.0
#: With enough shares found, so long is waited for the other servers' answers, seconds: shares
#: that hold the data itself save decoding.
GRACE_SECONDS = 0.05
#: The most lines of problems that a report keeps.
_MOST_PROBLEMS = 100
#: So many of them stand in the message of an error.
_TOLD_PROBLEMS = 4


class SharePool:
    """The shares of one file.

    Args:
        cap: of the file.
        servers: the storage peers that are connected.
        threads: where long hashing happens.
        clock: time and timers.
        habit: which servers to ask first; None to ask all at once.

    Attributes:
        extension: the file's URI extension, once a share was ready.
    """

    def __init__(
        self,
        cap: ChkCap | ChkVerifierCap,
        servers: Sequence[StorageServer],
        threads: Threads,
        clock: Clock,
        habit: Habit | None = None,
    ) -> None:
        self.extension: UriExtension | None = None
        self._cap = cap
        self._clock = clock
        self._fresh: list[ShareReader] = []
        self._preparing: set[ShareReader] = set()
        #: Those that have kept the download waiting themselves.
        self._late: set[ShareReader] = set()
        self._ready: list[ShareReader] = []
        self._problems: list[str] = []
        self._accused: list[tuple[ShareReader, str]] = []
        self._bells: set[Bell] = set()
        self._news = self.bell()
        self._server_count = len(servers)
        self._finder = ShareFinder(cap, servers, threads, self._fresh.append, self.ring, habit)

    # News.

    def bell(self) -> Bell:
        """Return a bell that is rung at every change, until `unhang`."""
        bell = Bell(self._clock)
        self._bells.add(bell)
        return bell

    def unhang(self, bell: Bell) -> None:
        """Ring that bell no more."""
        self._bells.discard(bell)

    def ring(self, _result: object = None) -> None:
        """Tell everybody who waits that something has changed."""
        for bell in list(self._bells):
            bell.ring()

    # The shares.

    def merit(self, reader: ShareReader) -> tuple[bool, bool, int]:
        """Return a key by which the shares to be read first come first."""
        return (reader.slow, reader.number >= self._cap.needed, reader.found_order)

    def ready(self) -> list[ShareReader]:
        """Return the shares whose blocks can be read, best first."""
        return sorted(self._ready, key=self.merit)

    def _ready_numbers(self) -> set[int]:
        return {reader.number for reader in self._ready}

    def prepare(self, enough: int) -> None:
        """Begin to prepare fresh shares until ``enough`` numbers are ready or on the way.

        What is late is not on the way: whoever hands over nothing keeps no share of the same
        number elsewhere from being read. Neither does who is late once it was ready.
        """
        on_the_way = {reader.number for reader in self._preparing - self._late}
        busy = on_the_way.union(r.number for r in self._ready if r not in self._late)
        count = len(self._ready_numbers() | on_the_way)
        for reader in sorted(self._fresh, key=self.merit):
            if count >= enough:
                break
            if reader.number in busy:
                continue
            busy.add(reader.number)
            count += 1
            self._fresh.remove(reader)
            self._preparing.add(reader)
            Deferred.fromCoroutine(self._prepare_one(reader))

    async def _prepare_one(self, reader: ShareReader) -> None:
        try:
            self.extension = await self._prepared(reader)
        except AmpgridError as error:
            self._finder.ask_all()
            self.note(f"{reader}: {error}")
            if isinstance(error, IntegrityError | FormatError):
                self.damaged(reader, str(error))
        except Exception:
            # A fault of ours, for the log; the other shares are not held up by it.
            self.ring()
            raise
        else:
            self._ready.append(reader)
            self._accuse()
        self.ring()

    async def _prepared(self, reader: ShareReader) -> UriExtension:
        try:
            return await reader.prepare()
        finally:
            self._preparing.discard(reader)

    def bad(self, reader: ShareReader, why: object) -> None:
        """Leave a share aside for good."""
        if reader in self._ready:
            self._ready.remove(reader)
            self._finder.ask_all()
            self.note(f"{reader}: {why}")

    def failed(self, reader: ShareReader, failure: Failure) -> None:
        """Leave a share aside that could not be read; tell its server if it is damaged."""
        if failure.check(IntegrityError, FormatError):
            self.damaged(reader, failure.getErrorMessage())
        else:
            self.bad(reader, failure.getErrorMessage())

    def damaged(self, reader: ShareReader, why: str) -> None:
        """Leave a share aside that is not what it should be, and tell its server.

        Servers are told once a good share has shown that it is not the cap that is wrong.
        """
        self.bad(reader, why)
        self._accused.append((reader, why[:150]))
        if self.extension is not None:
            self._accuse()

    def _accuse(self) -> None:
        accused, self._accused = self._accused, []
        for reader, why in accused:
            telling = Deferred.fromCoroutine(
                reader.server.advise_corrupt(self._cap.storage_index, reader.number, why)
            )
            # Whoever does not listen keeps its bad share; this download goes on without it.
            telling.addErrback(lambda failure: None if failure.check(AmpgridError) else failure)

    def slow(self, reader: ShareReader) -> None:
        """Note that a share keeps a download waiting; others go before it from now on."""
        if reader not in self._late:
            self._late.add(reader)
            reader.slow = True
            for other in self._fresh:
                # What else that server has claimed can wait as well.
                other.slow = other.slow or other.server is reader.server
            self._finder.ask_all()
            self.note(f"{reader}: slow")

    def nothing_came(self, readers: Iterable[ShareReader] = ()) -> None:
        """Note that these shares, and those being prepared, keep a download waiting."""
        for reader in (*readers, *self._preparing):
            self.slow(reader)

    def note(self, line: str) -> None:
        """Keep a problem for the report."""
        if len(self._problems) < _MOST_PROBLEMS:
            self._problems.append(line)

    def problems(self) -> tuple[str, ...]:
        """Return one line for each bad or slow share or server."""
        return (*self._finder.problems, *self._problems)

    # Waiting for enough of them.

    def more_may_come(self) -> bool:
        """Tell whether shares of further numbers may still get ready."""
        ready = self._ready_numbers()
        fresh = any(reader.number not in ready for reader in self._fresh)
        return fresh or bool(self._finder.pending or self._preparing)

    def not_enough(self) -> AmpgridError:
        """Return the error for a file of which too few good shares were found."""
        if self.extension is None and self._accused:
            count = len({reader.server.server_id for reader, _why in self._accused})
            return IntegrityError(
                f"{_count(count, 'server')} hold shares under this cap, and none fits it: the "
                "cap is probably mistyped or cut short; compare it with the original"
            )
        found, needed = len(self._ready_numbers()), self._cap.needed
        problems = self.problems()
        told = "".join(f"; {problem}" for problem in problems[:_TOLD_PROBLEMS])
        more = len(problems) - _TOLD_PROBLEMS
        return NotEnoughSharesError(
            f"found {found} of the {needed} shares that are needed (of {self._cap.total} made), "
            f"asking {_count(self._server_count, 'server')}"
            + told
            + (f"; and {more} more" if more > 0 else "")
            + "; try again when more of the servers that hold the file are connected",
            found=found,
            needed=needed,
        )

    async def gather(self, check: Callable[[], None]) -> None:
        """Ask the servers and wait until enough shares are ready.

        Args:
            check: called at every step; raises to end the wait.

        Raises:
            NotEnoughSharesError: there are not enough.
        """
        if not self._finder.started:
            self._finder.start()
        needed = self._cap.needed
        grace_ends: float | None = None
        while len(self._ready_numbers()) < needed:
            check()
            known = len(self._known_numbers())
            if grace_ends is None and known >= needed:
                grace_ends = self._clock.seconds() + GRACE_SECONDS
            if self._finder.pending and known < self._cap.total and not self._finder.first_do:
                # More answers are on their way, and may hold better shares than those known;
                # none is better than a share that has come as a whole.
                if self._fresh and self._finder.holds_back:
                    # Each of the first is needed as a rule: it is checked while others answer.
                    self.prepare(needed)
                now = self._clock.seconds()
                patience = GRACE_SECONDS if self._finder.holds_back else SLOW_SECONDS
                wait = patience if grace_ends is None else grace_ends - now
                if wait > 0:
                    if not await self._news.wait(wait) and grace_ends is None:
                        self._finder.ask_all()
                    continue
            self.prepare(needed)
            if len(self._ready_numbers()) >= needed:
                return
            if not self.more_may_come():
                raise self.not_enough()
            if not await self._news.wait(SLOW_SECONDS):
                self.nothing_came()

    async def crypttext_hashes(self, check: Callable[[], None]) -> list[bytes]:
        """Return the hashes of the crypttext segments, checked.

        Raises:
            NotEnoughSharesError: too few good shares are left.
        """
        extension = self.extension
        assert extension is not None
        if extension.num_segments == 1:
            # The root of a tree with one leaf is that leaf: nothing is to be read.
            return [extension.crypttext_root_hash]
        return await self._read_crypttext_hashes(extension, check)

    async def _read_crypttext_hashes(
        self, extension: UriExtension, check: Callable[[], None]
    ) -> list[bytes]:
        """Return them from whichever ready share has them first."""
        bell = self.bell()
        asked: set[ShareReader] = set()
        waiting: set[ShareReader] = set()
        found: list[list[bytes]] = []

        def failed(failure: Failure, reader: ShareReader) -> None:
            failure.trap(AmpgridError)
            self.failed(reader, failure)

        def ended(_result: object, reader: ShareReader) -> None:
            waiting.discard(reader)
            bell.ring()

        enough = 1
        try:
            while not found:
                check()
                for reader in self.ready():
                    if reader not in asked and len(waiting) < enough:
                        asked.add(reader)
                        waiting.add(reader)
                        reading = Deferred.fromCoroutine(reader.crypttext_hashes(extension))
                        reading.addCallbacks(found.append, failed, errbackArgs=(reader,))
                        reading.addBoth(ended, reader)
                if found:
                    break
                if not waiting:
                    self.prepare(len(self._ready_numbers()) + 1)
                    if not any(reader not in asked for reader in self.ready()):
                        if not self.more_may_come():
                            raise self.not_enough()
                        if not await bell.wait(SLOW_SECONDS):
                            self.nothing_came()
                elif not await bell.wait(SLOW_SECONDS):
                    self.nothing_came(waiting)
                    enough = len(waiting) + 1
                    self.prepare(len(self._ready_numbers()) + 1)
        finally:
            self.unhang(bell)
        return found[0]

    def known_roots(self) -> dict[int, bytes]:
        """Return the checked root of the block tree of each ready share, by share number."""
        return {reader.number: reader.root for reader in self._ready}

    def _known_numbers(self) -> set[int]:
        readers = (*self._ready, *self._preparing, *self._fresh)
        return {reader.number for reader in readers}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
