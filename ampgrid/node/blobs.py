"""The blobs of a node: the service that keeps them for others, remotes at its peers, the grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ampgrid.blobs.grid import GridRemote
from ampgrid.blobs.peer import Credentials, PeerRemote
from ampgrid.blobs.service import BlobService, BlobSettings
from ampgrid.crypto.identity import Identity
from ampgrid.immutable import Spool
from ampgrid.node.config import NodeConfig
from ampgrid.node.upkeep import file_system, served_blobs_key
from ampgrid.peers import ConnectionTable
from ampgrid.ports import Clock, Connection, Entropy, Threads, WallClock
from ampgrid.store.servedblobs import Limits, ServedBlobStore
from ampgrid.vdrive.dirnode import DirectoryNode

if TYPE_CHECKING:
    from ampgrid.node.core import NodeCore


def open_blob_store(
    folder: Path, identity: Identity, config: NodeConfig, wall: WallClock
) -> ServedBlobStore:
    """Open the store of the blobs that a node keeps for others; see `ServedBlobStore.open`."""
    limits = Limits(config.blobs_quota, config.blobs_user_quota, config.reserve)
    return ServedBlobStore.open(
        folder, served_blobs_key(identity), wall=wall, limits=limits, files=file_system(config)
    )


def blob_service(
    store: ServedBlobStore,
    config: NodeConfig,
    *,
    clock: Clock,
    wall: WallClock,
    threads: Threads,
    entropy: Entropy,
    monotonic: Callable[[], float],
) -> BlobService:
    """Return the service over a store, with the settings of a node."""
    return BlobService(
        store,
        clock=clock,
        wall=wall,
        threads=threads,
        entropy=entropy,
        settings=BlobSettings(members=config.blobs_members),
        monotonic=monotonic,
    )


class BlobPeers:
    """The remotes of blobs that a node can reach: its peers, and itself.

    Args:
        node_id: of this node, 20 bytes.
        table: its connections.
        own: its connection to itself.
    """

    def __init__(self, node_id: bytes, table: ConnectionTable, own: Connection) -> None:
        self._node_id = node_id
        self._table = table
        self._own = own

    def remote(self, node_id: bytes, credentials: Credentials | None = None) -> PeerRemote:
        """Return the remote that a peer is, whether it is connected now or not.

        Args:
            node_id: of the peer, 20 bytes.
            credentials: a user and a token of that peer; None to be known as this node.
        """

        def connection() -> Connection | None:
            return self._own if node_id == self._node_id else self._table.get(node_id)

        return PeerRemote(connection, credentials)


async def blobs_root(core: NodeCore, path: str) -> DirectoryNode:
    """Return the directory of the grid at a path, to keep blobs in; see `grid_blobs`."""
    core.require_uploads()
    place = await core.drive.place(path)
    return await core.drive.virtual.make_directories(place)


async def grid_blobs(core: NodeCore, path: str, root: DirectoryNode | None = None) -> GridRemote:
    """Return the remote that a directory of the grid is.

    A directory below the private root, or below an alias, is kept by the node's keepers, with
    all blobs in it; the file of a blob that is deleted is kept no longer.

    Args:
        core: of a node.
        path: of the directory, a grid path such as ``private:blobs``; made if it is not there.
        root: what is there, if that is known.

    Raises:
        UsageError: it is no path of a directory.
        GridError: it cannot be reached or made.
    """
    return GridRemote(
        root or await blobs_root(core, path),
        core.drive.maker,
        lambda: Spool(core.spool_path, core.entropy),
        core.kept.drop,
    )
