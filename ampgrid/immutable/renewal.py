"""Renewing the leases of a file on all servers, without waiting for those that are slow.

All are asked at once, and waited for a moment only. Who was late once is not waited for again in
the same walk: what it answers counts if it comes before the end of the look at the file.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ampgrid.commands.errors import NoSuchShareError
from ampgrid.errors import AmpgridError
from ampgrid.immutable.bell import Bell
from ampgrid.immutable.patience import FILE_SECONDS, Patients
from ampgrid.ports import Clock
from ampgrid.storage.client import StorageServer

#: How long a file's look waits for leases, seconds.
LEASE_SECONDS = 5.0
#: The most requests for leases that one server owes an answer to; beyond it gets no further one.
MOST_OWED = 16


class Lateness:
    """What one walk has seen of servers that keep it waiting.

    Args:
        clock: time and timers.

    Attributes:
        patients: the servers' allowances for all checks and repairs of the walk.
        late: of those that were late with a lease; they are not waited for.
        owed: how many leases each of them has not answered about.
    """

    def __init__(self, clock: Clock) -> None:
        self.patients = Patients(clock, FILE_SECONDS)
        self.late: set[bytes] = set()
        self.owed: dict[bytes, int] = {}


class Renewal:
    """One file's leases, from the moment that they are asked for.

    Args:
        storage_index: of the file, 16 bytes.
        servers: who is asked.
        lateness: of the walk.
        clock: time and timers.

    Attributes:
        takers: node ids of the servers that have taken the lease.
        trouble: why one of the others has not, empty if all that hold shares have.
    """

    def __init__(
        self,
        storage_index: bytes,
        servers: Sequence[StorageServer],
        lateness: Lateness,
        clock: Clock,
    ) -> None:
        self.takers: set[bytes] = set()
        self.trouble = ""
        self._lateness = lateness
        self._clock = clock
        self._bell = Bell(clock)
        self._pending: set[bytes] = set()
        self._error: Exception | None = None
        for server in servers:
            self._ask(server, storage_index)

    def _ask(self, server: StorageServer, storage_index: bytes) -> None:
        server_id, owed = server.server_id, self._lateness.owed
        if owed.get(server_id, 0) >= MOST_OWED:
            self.trouble = f"server {server.name} is slow with leases"
            return
        owed[server_id] = owed.get(server_id, 0) + 1
        self._pending.add(server_id)
        asking = Deferred.fromCoroutine(server.add_lease(storage_index))
        asking.addBoth(self._answered, server)

    def _answered(self, outcome: object, server: StorageServer) -> None:
        self._lateness.owed[server.server_id] -= 1
        self._pending.discard(server.server_id)
        if not isinstance(outcome, Failure):
            self.takers.add(server.server_id)
        elif outcome.check(AmpgridError):
            if not outcome.check(NoSuchShareError):
                why = outcome.getErrorMessage()
                self.trouble = f"server {server.name} took no lease: {why}"
        elif isinstance(outcome.value, Exception):
            self._error = outcome.value
        self._bell.ring()

    async def wait(self) -> None:
        """Return when all but the late have answered, or have become late."""
        late = self._lateness.late
        ends = self._clock.seconds() + LEASE_SECONDS
        while self._pending - late:
            left = ends - self._clock.seconds()
            if left <= 0 or not await self._bell.wait(left):
                late |= self._pending
        if self._error is not None:
            raise self._error
