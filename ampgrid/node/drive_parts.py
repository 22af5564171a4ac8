"""Composing the drive of a node: the maker over its peers, and the keeper of directories.

What a node needs once its user, or a keeper, does something is imported then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from ampgrid.immutable.encoding import Encoding
from ampgrid.node.config import NodeConfig
from ampgrid.node.drive import WANTED_REPLICAS, AtHand, NodeDrive
from ampgrid.node.drive_keeper import DriveKeeper, Tools
from ampgrid.node.surroundings import Surroundings
from ampgrid.node.transfers import Transfers

if TYPE_CHECKING:
    from ampgrid.vdrive.maker import NodeMaker
    from ampgrid.vdrive.remembered import Remembered

_DAY = 86_400.0


def maker_over(
    at_hand: AtHand,
    world: Surroundings,
    transfers: Transfers,
    encoding: Callable[[], Encoding],
    remembered: Remembered,
) -> NodeMaker:
    """Return what makes the nodes of directories and files.

    Args:
        at_hand: returns the replicas that are connected.
        world: what the node needs of the world.
        transfers: uploads and downloads the files.
        encoding: returns k, happiness and n for uploads that name none.
        remembered: the last version seen of each directory.
    """
    from ampgrid.vdrive.maker import NodeMaker
    from ampgrid.vdrive.nodes import NodeCache
    from ampgrid.vdrive.table import Tables

    tables = Tables(
        at_hand,
        clock=world.clock,
        wall=world.wall,
        entropy=world.entropy,
        uniform=world.uniform,
        threads=world.work,
        remembered=remembered,
        cache=NodeCache(),
        wanted_replicas=WANTED_REPLICAS,
    )
    return NodeMaker(
        tables,
        downloader=transfers.downloader,
        uploader=transfers.uploader,
        encoding=encoding,
        wall=world.wall,
        entropy=world.entropy,
        threads=world.work,
    )


def drive_keeper(
    config: NodeConfig,
    world: Surroundings,
    drive: NodeDrive,
    transfers: Transfers,
    happy: Callable[[], int],
) -> DriveKeeper:
    """Return the keeper of a node's directories.

    Args:
        config: of the node.
        world: what it needs of the world.
        drive: whose roots and aliases are walked.
        transfers: looks after files, and knows those that the node has put itself.
        happy: returns how many servers of happiness a file should have now.
    """

    @cache
    def tools() -> Tools:
        from ampgrid.node.file_looks import LinkedFiles
        from ampgrid.node.snapshots import StoredSnapshots

        maker = drive.maker
        snapshots = StoredSnapshots(maker, maker.uploader, maker.encoding, transfers.kept)
        walker, clock = transfers.walker, world.clock
        looks = LinkedFiles(walker, happy, uniform=world.uniform, clock=clock, wall=world.wall)
        return Tools(maker, looks, snapshots)

    return DriveKeeper(
        drive.walked_roots,
        tools,
        transfers.kept,
        connected=lambda: len(drive.replicas()),
        period=config.keeper_days * _DAY,
        uniform=world.uniform,
        clock=world.clock,
        wall=world.wall,
        enabled=config.keeper_enabled and config.kind == "node",
        roots_problem=drive.roots_problem,
    )
