"""A virtual drive without a grid: everything of `ampgrid.vdrive`, over dictionaries.

    drive = MemoryDrive()
    drive.run(drive.make_directories("~/photos"))

Files are really enciphered, coded and put on shelves, and directories are really sealed and
signed; what a test breaks on the shelves or in the tables is broken. Time stands still but
while something runs.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred

from ampgrid.caps import ChkVerifierCap, DirCap, DirReadCap
from ampgrid.commands.errors import NoSuchShareError
from ampgrid.immutable import Checker, Downloader, Encoding, Repairer, Uploader
from ampgrid.storage.client import StorageServer
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.shelves import Shelf
from ampgrid.testing.tables import MemoryTables
from ampgrid.vdrive.deep import Examiner
from ampgrid.vdrive.drive import VirtualDrive
from ampgrid.vdrive.maker import NodeMaker
from ampgrid.vdrive.paths import PRIVATE, PUBLIC
from ampgrid.vdrive.ports import Tables
from ampgrid.wire import InlineThreads

T = TypeVar("T")


class LeasedShelf(Shelf):
    """A shelf that takes leases.

    Attributes:
        leases: how often each storage index was leased.
    """

    def __init__(self, server_id: bytes) -> None:
        super().__init__(server_id, {})
        self.leases: Counter[bytes] = Counter()

    async def add_lease(self, storage_index: bytes) -> None:
        """Add or renew a lease (see `StorageServer.add_lease`)."""
        await self.answering()
        if all(index != storage_index for index, _number in self.contents):
            raise NoSuchShareError("no such share")
        self.leases[storage_index] += 1


class MemoryRoots(dict[str, DirCap | DirReadCap]):
    """Roots and aliases by name (`ampgrid.vdrive.ports.Roots`)."""


class MemoryDrive(VirtualDrive):
    """A virtual drive in memory, with a private and a public root.

    Args:
        tables: where directories are; new ones in memory if left out.
        clock: by which these tables go.
        shares: k, happiness and n; there are n shelves.
        latency: seconds of the clock that each question to a table takes.
        seed: of all randomness.

    Attributes:
        clock: moves everything.
        tables: what holds directories, unless other tables were given.
        shelves: what holds files.
        roots: by name; aliases can be added.
        maker: makes nodes.
        examiner: for deep operations.
    """

    def __init__(
        self,
        tables: Tables | None = None,
        *,
        clock: HeapClock | None = None,
        shares: tuple[int, int, int] = (2, 3, 3),
        latency: float = 0.0,
        seed: int = 1,
    ) -> None:
        self.clock = clock or HeapClock()
        self.random = random.Random(seed)  # noqa: S311 - the point is to be repeatable
        self.encoding = Encoding(*shares)
        self.tables = MemoryTables(pause=self._pause(latency), entropy=self.random.randbytes)
        self.shelves = [LeasedShelf(bytes([n]) * 20) for n in range(1, self.encoding.total + 1)]
        self.roots = MemoryRoots()
        threads = InlineThreads()

        def servers() -> list[StorageServer]:
            return cast("list[StorageServer]", list(self.shelves))

        async def wanted(cap: ChkVerifierCap) -> int:
            return min(cap.total, self.encoding.happy)

        self.maker = NodeMaker(
            tables or self.tables,
            downloader=Downloader(servers, threads, self.clock),
            uploader=Uploader(servers, b"c" * 32, threads),
            encoding=lambda: self.encoding,
            wall=self.clock.seconds,
            entropy=self.random.randbytes,
            threads=threads,
        )
        self.examiner = Examiner(
            Checker(servers, threads, self.clock),
            Repairer(servers, threads, self.clock),
            servers,
            wanted,
        )
        super().__init__(self.maker, self.roots)
        for name in (PRIVATE, PUBLIC):
            cap = DirCap.create(self.random.randbytes)
            self.run(self.maker.create_directory(cap))
            self.roots[name] = cap

    def _pause(self, latency: float) -> Callable[[], Awaitable[None]]:
        async def pause() -> None:
            if latency:
                answered: Deferred[None] = Deferred()
                self.clock.callLater(latency, answered.callback, None)
                await answered

        return pause

    def run(self, work: Coroutine[Any, Any, T], within: float = 100_000.0) -> T:
        """Move time on until ``work`` is done and return its result."""
        return self.clock.run(work, within)
