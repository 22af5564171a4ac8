"""What a node does with files on the grid, for its user and by itself.

Each part is made at its first use, and its modules are imported then: a node that only keeps
shares for others never loads them. Only the list of kept files and its keeper, which sleeps
until there is something to look at, are there from the start.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from ampgrid.immutable.bandwidth import Bandwidth
from ampgrid.immutable.budget import Budget
from ampgrid.immutable.keeper import Keeper
from ampgrid.immutable.kept import KeptFiles
from ampgrid.immutable.schedule import Schedule
from ampgrid.node.config import NodeConfig
from ampgrid.node.surroundings import Surroundings
from ampgrid.storage.client import StorageServer
from ampgrid.store.keptdb import KeptDatabase

if TYPE_CHECKING:
    from ampgrid.immutable import Checker, Downloader, Repairer, Uploader, Walker

_DAY = 86_400.0


class Transfers:
    """Uploads, downloads, checks, repairs and keeps files.

    Args:
        config: of the node.
        world: what it needs of the world.
        kept_store: the database of kept files.
        servers: returns the storage peers that are connected now.
        convergence: the secret of uploads, 32 bytes.

    Attributes:
        kept: the files that the node keeps.
        keeper: keeps them alive.
    """

    def __init__(
        self,
        config: NodeConfig,
        world: Surroundings,
        kept_store: KeptDatabase,
        servers: Callable[[], list[StorageServer]],
        convergence: bytes,
    ) -> None:
        self._config = config
        self._world = world
        self._servers = servers
        self._convergence = convergence
        self._schedule = Schedule(config.keeper_days * _DAY, world.uniform)
        self._bandwidth = Bandwidth(config.keeper_bandwidth, world.clock)
        self._budget = Budget()
        self.kept = KeptFiles(kept_store, world.order, world.wall, self._schedule)
        self.keeper = Keeper(
            self.kept,
            lambda: self.walker,
            connected=lambda: len(servers()),
            schedule=self._schedule,
            bandwidth=self._bandwidth,
            clock=world.clock,
            wall=world.wall,
            enabled=config.keeper_enabled and config.kind == "node",
        )

    @cached_property
    def uploader(self) -> Uploader:
        """Puts files."""
        from ampgrid.immutable.uploader import Uploader

        return Uploader(
            self._servers,
            self._convergence,
            self._world.work,
            self._config.max_segment_size,
            self.kept.remember,
            self._budget,
            self._world.clock,
        )

    @cached_property
    def downloader(self) -> Downloader:
        """Gets files."""
        from ampgrid.immutable.downloader import Downloader

        return Downloader(self._servers, self._world.work, self._world.clock, self._budget)

    @cached_property
    def checker(self) -> Checker:
        """Tells where the shares of files are, and how they fare."""
        from ampgrid.immutable.checker import Checker

        return Checker(self._servers, self._world.work, self._world.clock)

    @cached_property
    def repairer(self) -> Repairer:
        """Writes shares that are missing."""
        from ampgrid.immutable.repairer import Repairer

        return Repairer(self._servers, self._world.work, self._world.clock)

    @cached_property
    def walker(self) -> Walker:
        """Looks after one file after the other."""
        from ampgrid.immutable.walker import Walker

        return Walker(
            self._servers,
            self.checker,
            self.repairer,
            schedule=self._schedule,
            bandwidth=self._bandwidth,
            wall=self._world.wall,
            repair_below=self._config.repair_below,
        )
