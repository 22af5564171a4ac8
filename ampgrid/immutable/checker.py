"""Checking a file: which of its shares exist where, and whether they are good.

A check looks at every share's hashes (that it belongs to this file, is of its number and fits
together); a verify also reads and hashes every byte that a download could ever use. It needs no
more than the verify cap. Nothing is taken on a server's word.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore

from ampgrid.caps import ChkCap, ChkVerifierCap, LitCap
from ampgrid.commands.arguments import MAX_SHARES_PER_REQUEST
from ampgrid.crypto.base32 import b2a
from ampgrid.crypto.identity import node_id_text
from ampgrid.errors import AmpgridError, CallTimeoutError, FormatError, IntegrityError
from ampgrid.formats.share import MAX_HEADER_SIZE
from ampgrid.immutable.operation import Operation
from ampgrid.immutable.patience import Patients, PatientServer
from ampgrid.immutable.reader import ShareReader
from ampgrid.immutable.several import each
from ampgrid.placement import happiness
from ampgrid.ports import Clock, Threads
from ampgrid.storage.client import StorageServer

#: Shares that are read at once, and those of one server: who is slow holds nobody else up.
_AT_ONCE = 16
_OF_ONE_SERVER = 3
#: Blocks of one share that are read ahead while one is being hashed.
_BLOCKS_AHEAD = 2

#: After so long without an answer the progress tells whose is missing, seconds.
_SILENT_SECONDS = 2.0
_WAITING = ", waiting for "

#: Awaited with a number of bytes before they are read, to keep within a bandwidth.
Pace = Callable[[int], Awaitable[None]]

#: Number of a share and node id of the server that holds it.
Place = tuple[int, bytes]


@attrs.frozen
class BadShare:
    """A share that a server holds and that is not what it should be.

    Attributes:
        number: of the share, as the server names it.
        server_id: who holds it, 20 bytes.
        reason: one line.
    """

    number: int
    server_id: bytes
    reason: str

    @property
    def place(self) -> Place:
        """Return where it is."""
        return self.number, self.server_id


@attrs.frozen
class CheckReport:
    """What a check found.

    Attributes:
        storage_index: of the file, 16 bytes; empty for a file whose cap holds its data.
        needed: shares that give the file back (k).
        total: shares that were made (n).
        good: share number -> the servers that hold it, good.
        bad: shares that are damaged or foreign.
        servers_asked: number of servers that were asked.
        servers_answered: number of those that answered.
        failing: servers that did not answer, or not for a share of theirs.
        slow: those of them that kept the check waiting too long.
        verified: whether every byte was read.
        problems: one line for each server or share that could not be looked at.
    """

    storage_index: bytes
    needed: int
    total: int
    good: dict[int, tuple[bytes, ...]]
    bad: tuple[BadShare, ...] = ()
    servers_asked: int = 0
    servers_answered: int = 0
    failing: frozenset[bytes] = frozenset()
    slow: frozenset[bytes] = frozenset()
    verified: bool = False
    problems: tuple[str, ...] = ()

    @property
    def count_good(self) -> int:
        """Number of distinct good shares."""
        return len(self.good)

    @property
    def recoverable(self) -> bool:
        """Whether the file can be had from what was found."""
        return self.count_good >= self.needed

    def holdings(self) -> dict[bytes, set[int]]:
        """Return the good shares of each server that holds any."""
        found: dict[bytes, set[int]] = {}
        for number, servers in self.good.items():
            for server_id in servers:
                found.setdefault(server_id, set()).add(number)
        return found

    @property
    def happy(self) -> int:
        """Servers of happiness: how many servers hold a good share of their own."""
        return happiness(self.holdings())

    @property
    def healthy(self) -> bool:
        """Whether every share is there, good, and none that is bad."""
        return self.count_good == self.total and not self.bad

    def to_json(self) -> dict[str, Any]:
        """Return the report for JSON (``docs/reference/check.md``)."""
        return {
            "storage_index": b2a(self.storage_index),
            "healthy": self.healthy,
            "recoverable": self.recoverable,
            "verified": self.verified,
            "shares_needed": self.needed,
            "shares_total": self.total,
            "shares_good": self.count_good,
            "servers_happy": self.happy,
            "servers_asked": self.servers_asked,
            "servers_answered": self.servers_answered,
            "good": {
                str(number): [node_id_text(server_id) for server_id in servers]
                for number, servers in sorted(self.good.items())
            },
            "bad": [
                {"share": b.number, "server": node_id_text(b.server_id), "reason": b.reason}
                for b in self.bad
            ],
            "problems": list(self.problems),
        }


async def at_once(_size: int) -> None:
    """Keep no bandwidth."""


class Checker:
    """Checks files.

    Args:
        servers: returns the storage peers that are connected now.
        threads: where hashing happens.
        clock: tells which servers are too slow.
    """

    def __init__(
        self,
        servers: Callable[[], Sequence[StorageServer]],
        threads: Threads,
        clock: Clock,
    ) -> None:
        self._servers = servers
        self._threads = threads
        self._clock = clock

    async def check(
        self,
        cap: ChkCap | ChkVerifierCap | LitCap,
        operation: Operation | None = None,
        *,
        verify: bool = False,
        pace: Pace = at_once,
        patients: Patients | None = None,
        doubted: Collection[Place] = (),
    ) -> CheckReport:
        """Look at every share of a file on every connected server.

        Args:
            cap: of the file; the verify cap is enough.
            operation: progress and cancelling.
            verify: read and hash every byte.
            pace: awaited before bytes are read.
            patients: the servers' allowances, where this check is a part of more; who has used
                his up is named, and not asked.
            doubted: (number, server) of shares of which every byte is read in any case.

        Raises:
            OperationCancelledError: somebody has cancelled.
        """
        if isinstance(cap, LitCap):
            return CheckReport(b"", 0, 0, {}, verified=verify)
        if patients is None:
            patients = Patients(self._clock)
        operation = operation or Operation()
        check = _Check(
            cap, self._threads, patients, operation, verify=verify, pace=pace, doubted=doubted
        )
        watch = _SilenceWatch(operation, patients, self._clock)
        try:
            return await check.run(self._servers())
        finally:
            watch.stop()


class _Check:
    """One check of one file."""

    def __init__(
        self,
        cap: ChkCap | ChkVerifierCap,
        threads: Threads,
        patients: Patients | None,
        operation: Operation,
        *,
        verify: bool,
        pace: Pace,
        doubted: Collection[Place],
    ) -> None:
        self._cap = cap
        self._threads = threads
        self._patients = patients
        self._operation = operation
        self._verify = verify
        self._doubted = frozenset(doubted)
        self._pace = pace
        self._turns = DeferredSemaphore(_AT_ONCE)
        self._good: dict[int, list[bytes]] = {}
        self._bad: list[BadShare] = []
        self._problems: list[str] = []
        self._answered = 0
        self._failing: set[bytes] = set()
        self._slow: set[bytes] = set()

    async def run(self, servers: Sequence[StorageServer]) -> CheckReport:
        """Look at everything."""
        self._operation.enter("verifying" if self._verify else "checking", self._cap.size)

        def start(server: StorageServer) -> Callable[[], Deferred[None]]:
            return lambda: Deferred.fromCoroutine(self._look_at(server))

        looked = await each({i: start(server) for i, server in enumerate(servers)})
        self._operation.check()
        _raise_first(looked.values())
        cap = self._cap
        return CheckReport(
            storage_index=cap.storage_index,
            needed=cap.needed,
            total=cap.total,
            good={number: tuple(ids) for number, ids in sorted(self._good.items())},
            bad=tuple(sorted(self._bad, key=lambda bad: (bad.number, bad.server_id))),
            servers_asked=len(servers),
            servers_answered=self._answered,
            failing=frozenset(self._failing),
            slow=frozenset(self._slow),
            verified=self._verify,
            problems=tuple(self._problems),
        )

    def _note_slow(self, server: StorageServer, why: str) -> None:
        self._problems.append(f"server {server.name}: {why}")
        self._failing.add(server.server_id)
        self._slow.add(server.server_id)

    async def _look_at(self, server: StorageServer) -> None:
        patient = None if self._patients is None else self._patients.of(server)
        if patient is not None and patient.slow:
            self._note_slow(server, "was too slow just now, and was not asked again")
            return
        asked = server if patient is None else cast("StorageServer", patient)
        want = range(min(self._cap.total, MAX_SHARES_PER_REQUEST))
        try:
            sizes, heads = await asked.shares(self._cap.storage_index, want, MAX_HEADER_SIZE)
        except AmpgridError as error:
            if isinstance(error, CallTimeoutError):
                self._note_slow(server, str(error))
            else:
                self._problems.append(f"server {server.name}: {error}")
                self._failing.add(server.server_id)
            return
        self._answered += 1
        turns = DeferredSemaphore(_OF_ONE_SERVER)
        left = set(sizes)

        def start(number: int, size: int) -> Callable[[], Deferred[None]]:
            head = heads.get(number, b"")
            reader = ShareReader(asked, self._cap, number, size, head, self._threads)

            async def judge() -> None:
                if patient is None or not patient.slow:
                    await self._judge(reader, patient)
                if patient is None or not patient.slow:
                    left.discard(number)

            return lambda: turns.run(self._turns.run, judge)

        judged = await each({number: start(number, size) for number, size in sizes.items()})
        if patient is not None and patient.slow:
            self._note_slow(
                server, f"it answers too slowly; {len(left)} of its shares were not looked at"
            )
        _raise_first(judged.values())

    async def _judge(self, reader: ShareReader, patient: PatientServer | None) -> None:
        self._operation.check()
        server_id = reader.server.server_id
        try:
            if reader.number >= self._cap.total:
                raise IntegrityError("the file has no share of this number")
            extension = await reader.prepare()
            if self._verify or (reader.number, server_id) in self._doubted:
                await self._pace(64 * extension.num_segments)
                await reader.crypttext_hashes(extension)
                await self._read_blocks(reader, extension.num_segments)
        except (IntegrityError, FormatError) as error:
            self._bad.append(BadShare(reader.number, server_id, str(error)))
        except AmpgridError as error:
            self._operation.check()
            # Of a server that is too slow for the whole check, one line tells.
            if patient is None or not patient.slow:
                self._problems.append(f"{reader}: {error}")
            self._failing.add(server_id)
        else:
            self._good.setdefault(reader.number, []).append(server_id)

    async def _read_blocks(self, reader: ShareReader, count: int) -> None:
        block_size = -(-self._cap.size // self._cap.needed // count)
        reading: list[Deferred[bytes]] = []
        started = 0
        try:
            for index in range(count):
                while started < count and len(reading) <= _BLOCKS_AHEAD:
                    await self._pace(block_size)
                    reading.append(Deferred.fromCoroutine(reader.block(started)))
                    started += 1
                block = await reading.pop(0)
                self._operation.check()
                if not await self._threads.run(reader.check_block, index, block):
                    raise IntegrityError(f"block {index} does not match its hash")
                self._operation.done = min(
                    self._cap.size, self._operation.done + len(block) // max(1, self._cap.total)
                )
        finally:
            for unwanted in reading:
                unwanted.addErrback(lambda _failure: None)


class _SilenceWatch:
    """Lets the phase of an operation say whose answer is waited for.

    Args:
        operation: whose phase.
        patients: who may be silent.
        clock: time and timers.
    """

    def __init__(self, operation: Operation, patients: Patients, clock: Clock) -> None:
        self._operation = operation
        self._patients = patients
        self._clock = clock
        self._timer = clock.callLater(_SILENT_SECONDS, self._look)

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()
        self._tell("")

    def _look(self) -> None:
        self._timer = self._clock.callLater(_SILENT_SECONDS, self._look)
        silent = self._patients.silent(_SILENT_SECONDS)
        more = f" and {len(silent) - 2} more" if len(silent) > 2 else ""
        whom = ", ".join(f"server {name}" for name in silent[:2])
        self._tell(f"{_WAITING}{whom}{more}" if silent else "")

    def _tell(self, waiting: str) -> None:
        phase = self._operation.phase.partition(_WAITING)[0] + waiting
        if phase != self._operation.phase:
            self._operation.phase = phase


def _raise_first(results: Iterable[object]) -> None:
    for error in results:
        if isinstance(error, Exception):
            raise error
