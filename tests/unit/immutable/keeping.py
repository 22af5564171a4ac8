"""A keeper over shelves, with a database of its own, under a clock of the test's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import ChkCap, ChkVerifierCap
from ampgrid.commands.errors import NoSuchShareError
from ampgrid.immutable import (
    Bandwidth,
    Checker,
    Encoding,
    Keeper,
    KeptFiles,
    Operation,
    Repairer,
    Schedule,
    Uploader,
    Walker,
)
from ampgrid.store.keptdb import KeptDatabase, KeptFile
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.shelves import Shelf
from ampgrid.wire import InlineThreads
from tests.material import some_bytes

DAY = 86_400.0
DATA = some_bytes(3_000)


def failing(error: Exception) -> Any:
    """Return a function that raises."""

    def fail(*_args: object) -> None:
        raise error

    return fail


class LeasedShelf(Shelf):
    """A shelf that takes leases, and tells when each was renewed."""

    def __init__(self, server_id: bytes, wall: Callable[[], float]) -> None:
        super().__init__(server_id, {})
        self.wall = wall
        self.leases: dict[bytes, list[float]] = {}

    async def add_lease(self, storage_index: bytes) -> None:
        await self.answering()
        if not any(index == storage_index for index, _ in self.contents):
            raise NoSuchShareError("no share of it is here")
        self.leases.setdefault(storage_index, []).append(self.wall())


class World:
    """Shelves and one node's keeper over them.

    Args:
        folder: where its database is.
        shelves: how many there are.
        shares: of what is put.
    """

    def __init__(
        self, folder: Path, shelves: int = 6, shares: tuple[int, int, int] = (2, 4, 5)
    ) -> None:
        self.folder = folder
        self.clock = HeapClock()
        #: Seconds by which the wall clock is ahead of the other one.
        self.ahead = 0.0
        self.encoding = Encoding(*shares)
        self.random = Random(7)
        self.shelves: list[LeasedShelf] = []
        self.add_shelves(shelves)
        self.rate = 1e9
        self.repair_below: int | None = None
        self.period = 7 * DAY
        self.keeper: Keeper
        self.start(enabled=False)

    def wall(self) -> float:
        return self.clock.seconds() + self.ahead

    def add_shelves(self, count: int) -> list[LeasedShelf]:
        new = [LeasedShelf(self.random.randbytes(20), self.wall) for _ in range(count)]
        self.shelves += new
        return new

    def start(self, *, enabled: bool) -> None:
        """Bring the node up, with what its database holds."""
        threads = InlineThreads()
        self.database = KeptDatabase(self.folder / "kept.sqlite")
        schedule = Schedule(self.period, self.random.uniform)
        self.bandwidth = Bandwidth(self.rate, self.clock)
        self.kept = KeptFiles(self.database, threads, self.wall, schedule)

        def servers() -> list[Any]:
            return [shelf for shelf in self.shelves if shelf.connection.connected]

        self.uploader = Uploader(servers, b"c" * 32, threads, 10_000, self.kept.remember)
        self.walker = Walker(
            servers,
            Checker(servers, threads, self.clock),
            Repairer(servers, threads, self.clock),
            schedule=schedule,
            bandwidth=self.bandwidth,
            wall=self.wall,
            repair_below=self.repair_below,
        )
        self.keeper = Keeper(
            self.kept,
            lambda: self.walker,
            connected=lambda: len(servers()),
            schedule=schedule,
            bandwidth=self.bandwidth,
            clock=self.clock,
            wall=self.wall,
            enabled=enabled,
        )
        self.clock.run(self.keeper.start())

    def stop(self) -> None:
        self.clock.run(self.keeper.stop())
        self.database.close()

    def restart(self, *, enabled: bool = False) -> None:
        self.stop()
        self.start(enabled=enabled)

    def put(self, data: bytes) -> ChkCap:
        uploaded = self.clock.run(self.uploader.upload_data(data, self.encoding))
        assert isinstance(uploaded.cap, ChkCap)
        return uploaded.cap

    def begin(self, **how: bool) -> tuple[Operation, Deferred[dict[str, Any]]]:
        operation = Operation()
        return operation, Deferred.fromCoroutine(self.keeper.run(operation, **how))

    def walk(self, **how: bool) -> dict[str, Any]:
        """Tell the keeper to walk; its report."""
        return self.clock.run(self.begin(**how)[1], 1e9)

    def pass_days(self, days: float) -> None:
        """Let the wall clock go on alone."""
        self.ahead += days * DAY

    def file(self, cap: ChkCap | None = None) -> KeptFile:
        """What is known of a file, the only one if none is named."""
        verify = cap and cap.get_verify_cap()
        [found] = [f for f in self.database.page(0, 10) if verify is None or f.cap == verify]
        return found

    def holders(self, cap: ChkCap | ChkVerifierCap) -> dict[int, list[LeasedShelf]]:
        """Who holds which share."""
        found: dict[int, list[LeasedShelf]] = {}
        for shelf in self.shelves:
            for index, number in shelf.contents:
                if index == cap.storage_index and shelf.connection.connected:
                    found.setdefault(number, []).append(shelf)
        return found

    def lose(self, cap: ChkCap, *numbers: int) -> None:
        """Let shares vanish."""
        for shelf in self.shelves:
            for number in numbers:
                shelf.contents.pop((cap.storage_index, number), None)


class KeeperCase(SynchronousTestCase):
    def make(self, **settings: Any) -> World:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        world = World(Path(folder.name), **settings)
        self.addCleanup(world.stop)
        return world
