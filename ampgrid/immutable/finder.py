"""Finding the shares of a file: every connected server is asked at once.

No server can hold the others up: shares are usable as their servers answer, and a server that
does not answer is left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ampgrid.caps import ChkCap, ChkVerifierCap
from ampgrid.commands.arguments import MAX_SHARES_PER_REQUEST
from ampgrid.errors import AmpgridError
from ampgrid.formats.share import MAX_HEADER_SIZE
from ampgrid.immutable.reader import ShareReader
from ampgrid.placement import permute
from ampgrid.ports import Threads
from ampgrid.storage.client import StorageServer

#: A share that can be no larger than this is asked for whole with the first question, bytes.
WHOLE_SHARE_BYTES = 16 * 1024
#: What a share of a small file has beside its data at most, bytes.
_SMALL_OVERHEAD_BYTES = 1_536


class ShareFinder:
    """Asks the servers which shares of a file they hold.

    Args:
        cap: of the file.
        servers: the storage peers that are connected.
        threads: where long hashing happens.
        found: told of each share.
        answered: told whenever a server has answered or failed.

    Attributes:
        started: whether they have been asked.
        pending: number of servers that have not answered.
        problems: one line for each server that failed.
    """

    def __init__(
        self,
        cap: ChkCap | ChkVerifierCap,
        servers: Sequence[StorageServer],
        threads: Threads,
        found: Callable[[ShareReader], None],
        answered: Callable[[], None],
    ) -> None:
        self.started = False
        self.pending = 0
        self.problems: list[str] = []
        self._cap = cap
        self._by_id = {server.server_id: server for server in servers}
        self._threads = threads
        self._found = found
        self._answered = answered
        self._count = 0

    def start(self) -> None:
        """Ask every server, in permuted order."""
        self.started = True
        cap = self._cap
        block = -(-cap.size // cap.needed)
        small = block + _SMALL_OVERHEAD_BYTES <= WHOLE_SHARE_BYTES
        head = block + _SMALL_OVERHEAD_BYTES if small else MAX_HEADER_SIZE
        want = range(min(cap.total, MAX_SHARES_PER_REQUEST))
        order = permute(cap.storage_index, self._by_id)
        self.pending = len(order)
        for server_id in order:
            server = self._by_id[server_id]
            asking = Deferred.fromCoroutine(server.shares(cap.storage_index, want, head))
            asking.addCallbacks(
                self._take, self._fail, callbackArgs=(server,), errbackArgs=(server,)
            )
            asking.addErrback(self._fail, server)
            asking.addBoth(self._done)

    def _take(
        self, answer: tuple[dict[int, int], dict[int, bytes]], server: StorageServer
    ) -> None:
        sizes, heads = answer
        for number, size in sizes.items():
            if number < self._cap.total:
                reader = ShareReader(
                    server, self._cap, number, size, heads.get(number, b""), self._threads
                )
                reader.found_order = self._count
                self._count += 1
                self._found(reader)

    def _fail(self, failure: Failure, server: StorageServer) -> None:
        failure.trap(AmpgridError)
        self.problems.append(f"server {server.name}: {failure.getErrorMessage()}")

    def _done(self, _result: object) -> None:
        self.pending -= 1
        self._answered()
