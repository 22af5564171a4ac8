"""How long one server may keep one check waiting, whatever it claims and however it answers.

Each answer has a deadline of its own, but a server that claims many shares and uses up each of
these deadlines would still hold a check up for hours. So all that it is asked in one check has
one allowance: some seconds, and more only for the bytes that it hands over.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ampgrid.errors import CallTimeoutError
from ampgrid.ports import Clock, DelayedCall
from ampgrid.storage.client import StorageServer

T = TypeVar("T")

#: So long may a server keep a check waiting in any case, seconds.
GRACE_SECONDS = 25.0
#: And a second more for so many bytes that it hands over.
LEAST_BYTES_A_SECOND = 8_192


class PatientServer:
    """A storage peer during one check; only time in which it owes an answer counts.

    Args:
        server: the peer.
        clock: time and timers.

    Attributes:
        slow: whether it has used up its allowance; from then on it is asked nothing.
    """

    def __init__(self, server: StorageServer, clock: Clock) -> None:
        self.slow = False
        self.server_id = server.server_id
        self.name = server.name
        self._server = server
        self._clock = clock
        self._allowed = GRACE_SECONDS
        self._waited = 0.0
        self._since = 0.0
        self._waiting: dict[Deferred[Any], Deferred[Any]] = {}
        self._timer: DelayedCall | None = None

    async def shares(
        self, storage_index: bytes, want: Iterable[int] = (), head: int = 0
    ) -> tuple[dict[int, int], dict[int, bytes]]:
        """Return the shares that it holds (see `StorageServer.shares`).

        Raises:
            CallTimeoutError: it is too slow.
        """
        sizes, heads = await self._within(self._server.shares(storage_index, want, head))
        self._got(sum(map(len, heads.values())))
        return sizes, heads

    async def read(self, storage_index: bytes, number: int, offset: int, length: int) -> bytes:
        """Return bytes of a share (see `StorageServer.read`).

        Raises:
            CallTimeoutError: it is too slow.
        """
        data = await self._within(self._server.read(storage_index, number, offset, length))
        self._got(len(data))
        return data

    def _got(self, size: int) -> None:
        self._allowed += size / LEAST_BYTES_A_SECOND

    async def _within(self, work: Coroutine[Any, Any, T]) -> T:
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
