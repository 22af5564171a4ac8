"""Finding the shares of a file: every connected server is asked at once, or the first ones first.

No server can hold the others up: shares are usable as their servers answer, and a server that
does not answer is left behind.

An upload gives its shares to the first servers of the file's order, so that as a rule the first k
hold what is needed. Of a small file, which comes with the first answers, they alone are asked at
first, and all others as soon as one of them has nothing, fails, or lets the others wait. Where
that did not do lately (servers have come, or gone), all are asked at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred

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


class Habit:
    """Whether the first servers had what was needed when a file was sought last.

    Attributes:
        first_do: whether they had.
    """

    def __init__(self) -> None:
        self.first_do = True


class ShareFinder:
    """Asks the servers which shares of a file they hold.

    Args:
        cap: of the file.
        servers: the storage peers that are connected.
        threads: where long hashing happens.
        found: told of each share.
        answered: told whenever a server has answered or failed.
        habit: whether to ask the first servers alone at first; None to ask all at once.

    Attributes:
        started: whether they have been asked.
        pending: number of servers that were asked and have not answered.
        problems: one line for each server that failed.
    """

    def __init__(
        self,
        cap: ChkCap | ChkVerifierCap,
        servers: Sequence[StorageServer],
        threads: Threads,
        found: Callable[[ShareReader], None],
        answered: Callable[[], None],
        habit: Habit | None = None,
    ) -> None:
        self.started = False
        self.pending = 0
        self.problems: list[str] = []
        self._cap = cap
        self._by_id = {server.server_id: server for server in servers}
        self._threads = threads
        self._found = found
        self._answered = answered
        self._habit = habit
        self._count = 0
        self._first: frozenset[bytes] = frozenset()
        #: Numbers of the shares that the first servers hold.
        self._first_numbers: set[int] = set()
        self._later: list[bytes] = []
        block = -(-cap.size // cap.needed)
        self._is_small = block + _SMALL_OVERHEAD_BYTES <= WHOLE_SHARE_BYTES
        self._head = block + _SMALL_OVERHEAD_BYTES if self._is_small else MAX_HEADER_SIZE

    def start(self) -> None:
        """Ask the servers, in permuted order."""
        self.started = True
        order = permute(self._cap.storage_index, self._by_id)
        if self._habit is not None and self._is_small:
            self._first = frozenset(order[: self._cap.needed])
            if self._habit.first_do:
                order, self._later = order[: self._cap.needed], order[self._cap.needed :]
        self._ask(order)

    @property
    def holds_back(self) -> bool:
        """Whether there are servers that were not asked yet."""
        return bool(self._later)

    @property
    def first_do(self) -> bool:
        """Whether the first servers of a small file have answered with enough whole shares."""
        return len(self._first_numbers) >= self._cap.needed

    def ask_all(self) -> None:
        """Ask the servers that were not asked yet: the first ones do not do."""
        later, self._later = self._later, []
        if later:
            assert self._habit is not None
            self._habit.first_do = False
            self._ask(later)

    def _ask(self, order: list[bytes]) -> None:
        want = frozenset(range(min(self._cap.total, MAX_SHARES_PER_REQUEST)))
        self.pending += len(order)
        for server_id in order:
            Deferred.fromCoroutine(self._ask_one(self._by_id[server_id], want))

    async def _ask_one(self, server: StorageServer, want: frozenset[int]) -> None:
        try:
            self._take(server, *await server.shares(self._cap.storage_index, want, self._head))
        except AmpgridError as error:
            self.problems.append(f"server {server.name}: {error}")
        except Exception:
            # A fault of ours, for the log; the other servers are not held up by it.
            self._done()
            raise
        self._done()

    def _take(self, server: StorageServer, sizes: dict[int, int], heads: dict[int, bytes]) -> None:
        for number, size in sizes.items():
            if number < self._cap.total:
                reader = ShareReader(
                    server, self._cap, number, size, heads.get(number, b""), self._threads
                )
                reader.found_order = self._count
                self._count += 1
                self._found(reader)
                if server.server_id in self._first:
                    self._first_numbers.add(number)

    def _done(self) -> None:
        self.pending -= 1
        if self.first_do:
            if self._habit is not None:
                self._habit.first_do = True
        elif self._later and len(self._first_numbers) + self.pending < self._cap.needed:
            self.ask_all()
        self._answered()
