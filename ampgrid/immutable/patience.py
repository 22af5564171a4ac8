"""How long one server may keep others waiting, whatever it claims and however it answers.

Each answer has a deadline of its own, but a server that claims many shares and uses up each of
these deadlines would still hold a check up for hours. So all that it is asked in one check, one
repair or one walk over files has one allowance: some seconds, and more only for the bytes that
it moves and the files that are looked at.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ampgrid.errors import CallTimeoutError
from ampgrid.ports import Clock, DelayedCall
from ampgrid.storage.client import Allocation, StorageServer

T = TypeVar("T")

#: So long may a server keep others waiting in any case, seconds.
GRACE_SECONDS = 25.0
#: And a second more for so many bytes that it hands over or takes.
LEAST_BYTES_A_SECOND = 8_192
#: And so much for each file of a walk, seconds.
FILE_SECONDS = 1.0


class Patients:
    """The servers of one piece of work, each with its allowance.

    Args:
        clock: time and timers.
        file_seconds: what each file adds to the allowance of each server, seconds.
    """

    def __init__(self, clock: Clock, file_seconds: float = 0.0) -> None:
        self._clock = clock
        self._file_seconds = file_seconds
        self._by_id: dict[bytes, PatientServer] = {}

    def of(self, server: StorageServer) -> PatientServer:
        """Return a server with its allowance."""
        patient = self._by_id.get(server.server_id)
        if patient is None:
            patient = self._by_id[server.server_id] = PatientServer(server, self._clock)
        # It may have come back over another connection.
        patient.server = server
        return patient

    def next_file(self) -> None:
        """Note that another file is looked at."""
        for patient in self._by_id.values():
            patient.allow(self._file_seconds)

    def silent(self, seconds: float) -> list[str]:
        """Return the names of those that owe an answer and have sent none for so long."""
        return sorted(p.name for p in self._by_id.values() if p.silent_seconds >= seconds)

    @property
    def slow(self) -> frozenset[bytes]:
        """The node ids of those that have used up their allowance."""
        return frozenset(p.server_id for p in self._by_id.values() if p.slow)


class PatientServer:
    """A storage peer and its allowance; only time in which it owes an answer counts.

    Args:
        server: the peer.
        clock: time and timers.

    Attributes:
        server: as given.
        slow: whether it has used up its allowance; from then on it is asked nothing.
    """

    def __init__(self, server: StorageServer, clock: Clock) -> None:
        self.slow = False
        self.server_id = server.server_id
        self.name = server.name
        self.server = server
        self._clock = clock
        self._allowed = GRACE_SECONDS
        self._waited = 0.0
        self._since = 0.0
        self._heard_at = 0.0
        self._waiting: dict[Deferred[Any], Deferred[Any]] = {}
        self._timer: DelayedCall | None = None

    @property
    def silent_seconds(self) -> float:
        """For how long it has owed an answer and sent none."""
        if not self._waiting:
            return 0.0
        return self._clock.seconds() - max(self._since, self._heard_at)

    async def shares(
        self, storage_index: bytes, want: Iterable[int] = (), head: int = 0
    ) -> tuple[dict[int, int], dict[int, bytes]]:
        """Return the shares that it holds (see `StorageServer.shares`).

        Raises:
            CallTimeoutError: it is too slow.
        """
        sizes, heads = await self.within(self.server.shares(storage_index, want, head))
        self.moved(sum(map(len, heads.values())))
        return sizes, heads

    async def read(self, storage_index: bytes, number: int, offset: int, length: int) -> bytes:
        """Return bytes of a share (see `StorageServer.read`).

        Raises:
            CallTimeoutError: it is too slow.
        """
        data = await self.within(self.server.read(storage_index, number, offset, length))
        self.moved(len(data))
        return data

    async def advise_corrupt(self, storage_index: bytes, number: int, reason: str) -> None:
        """Tell it of a bad share (see `StorageServer.advise_corrupt`).

        Raises:
            CallTimeoutError: it is too slow.
        """
        await self.within(self.server.advise_corrupt(storage_index, number, reason))

    async def allocate(
        self, storage_index: bytes, numbers: Iterable[int], size: int
    ) -> Allocation:
        """Ask room for shares (see `StorageServer.allocate`).

        Raises:
            CallTimeoutError: it is too slow.
        """
        return await self.within(self.server.allocate(storage_index, numbers, size))

    def moved(self, size: int) -> None:
        """Note that it has handed over or taken so many bytes."""
        self.allow(size / LEAST_BYTES_A_SECOND)

    def allow(self, seconds: float) -> None:
        """Let it take so much more time."""
        self._allowed += seconds

    async def within(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for an answer of this server.

        Raises:
            CallTimeoutError: it has used up its allowance, before or while this waited.
        """
        if self.slow:
            work.close()
            raise _too_slow()
        answer: Deferred[T] = Deferred()
        if not self._waiting:
            self._since = self._clock.seconds()
        asking = self._waiting[answer] = Deferred.fromCoroutine(work)
        asking.addBoth(self._answered, answer)
        if self._timer is None and self._waiting:
            self._look()
        return await answer

    def _answered(self, outcome: Any, answer: Deferred[Any]) -> None:
        if self._waiting.pop(answer, None) is None:
            return  # given up before
        self._heard_at = self._clock.seconds()
        if not self._waiting:
            self._waited += self._clock.seconds() - self._since
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        answer.callback(outcome)

    def _look(self) -> None:
        waited = self._waited + self._clock.seconds() - self._since
        left = self._allowed - waited
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
            return
        self._timer = None
        self.slow = True
        waiting, self._waiting = self._waiting, {}
        for answer, asking in waiting.items():
            asking.cancel()
            answer.errback(Failure(_too_slow()))


def _too_slow() -> CallTimeoutError:
    return CallTimeoutError("it answers too slowly")
