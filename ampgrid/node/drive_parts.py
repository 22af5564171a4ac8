"""Composing the drive of a node: the tables over its peers, and the keeper of directories."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ampgrid.immutable import KeptFiles, Walker
from ampgrid.node.config import NodeConfig
from ampgrid.node.drive import WANTED_REPLICAS, MakeTables, NodeDrive
from ampgrid.node.drive_keeper import DriveKeeper
from ampgrid.node.file_looks import LinkedFiles
from ampgrid.node.snapshots import StoredSnapshots
from ampgrid.node.surroundings import Surroundings
from ampgrid.vdrive.nodes import NodeCache
from ampgrid.vdrive.remembered import Remembered
from ampgrid.vdrive.replica import Replica
from ampgrid.vdrive.table import Tables

_DAY = 86_400.0


def tables_over(world: Surroundings, remembered: Remembered) -> MakeTables:
    """Return what makes the tables of a node that has certain replicas at hand."""

    def make(replicas: Callable[[], Mapping[bytes, Replica]]) -> Tables:
        return Tables(
            replicas,
            clock=world.clock,
            wall=world.wall,
            entropy=world.entropy,
            uniform=world.uniform,
            threads=world.work,
            remembered=remembered,
            cache=NodeCache(),
            wanted_replicas=WANTED_REPLICAS,
        )

    return make


def drive_keeper(
    config: NodeConfig,
    world: Surroundings,
    drive: NodeDrive,
    walker: Walker,
    kept: KeptFiles,
    happy: Callable[[], int],
) -> DriveKeeper:
    """Return the keeper of a node's directories.

    Args:
        config: of the node.
        world: what it needs of the world.
        drive: whose roots and aliases are walked.
        walker: looks after files.
        kept: the files that the node has put itself.
        happy: returns how many servers of happiness a file should have now.
    """
    snapshots = StoredSnapshots(drive.maker, drive.maker.uploader, drive.maker.encoding, kept)
    looks = LinkedFiles(walker, happy, uniform=world.uniform, clock=world.clock, wall=world.wall)
    return DriveKeeper(
        drive.walked_roots,
        drive.maker,
        looks,
        snapshots,
        kept,
        connected=lambda: len(drive.replicas()),
        period=config.keeper_days * _DAY,
        uniform=world.uniform,
        clock=world.clock,
        wall=world.wall,
        enabled=config.keeper_enabled and config.kind == "node",
        roots_problem=drive.roots_problem,
    )
