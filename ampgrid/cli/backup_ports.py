"""What a backup needs of the grid."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from ampgrid.cli.backup_plan import Child
from ampgrid.cli.console import ProgressBar


class Health(Enum):
    """How something in the grid fares.

    Attributes:
        SOUND: nothing has to be done.
        WEAK: it can be read, and not all of it is there.
        LOST: too little of it could be found.
    """

    SOUND = "sound"
    WEAK = "weak"
    LOST = "lost"


class GridSide(Protocol):
    """What a backup does in the grid."""

    async def upload(self, descriptor: int, name: str, bar: ProgressBar) -> str:
        """Upload what a descriptor reads, return its cap; messages call it ``name``."""
        ...

    async def make_directory(self, children: list[Child], label: str) -> str:
        """Make a directory with these children, linked nowhere, and return its write cap."""
        ...

    async def health(self, cap: str) -> Health:
        """Tell how what a cap names fares, after a repair if that will do."""
        ...
