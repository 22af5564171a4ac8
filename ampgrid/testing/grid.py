"""A whole grid in memory: an introducer, storage nodes and a client, under one clock.

Every node is a real `ampgrid.node.core.NodeCore` with real TLS, real formats and a real store
in a directory; only sockets, threads and time are stand-ins. Nothing happens until the clock is
moved, which `MemoryGrid.run` does.

    grid = MemoryGrid(Path(folder), nodes=5, shares=(3, 5, 5))
    grid.start()
    cap = grid.upload(b"some bytes, more than fit into a cap" * 10)
    assert grid.download(cap) == ...
    grid.stop()
"""

from __future__ import annotations

import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from ampgrid.blobs.service import BlobService
from ampgrid.caps import ChkCap, LitCap, parse_cap
from ampgrid.crypto.identity import Identity
from ampgrid.formats.address import Address
from ampgrid.immutable import Data, Downloaded, Encoding, Operation, ToData, Uploaded
from ampgrid.node.blobs import blob_service, open_blob_store
from ampgrid.node.config import EncodingParameters, NodeConfig
from ampgrid.node.core import NodeCore
from ampgrid.node.directory import NodeDirectory
from ampgrid.node.drive import DriveFiles
from ampgrid.node.surroundings import Secrets, Surroundings
from ampgrid.node.upkeep import directories_key, file_system, upkeep_settings, vdrive_settings
from ampgrid.peers import PeerConnection
from ampgrid.storage.service import StorageService
from ampgrid.store.directories import DirectoryStore
from ampgrid.store.keptdb import KeptDatabase
from ampgrid.store.peerdb import PeerDatabase
from ampgrid.store.rememberdb import RememberDatabase
from ampgrid.store.shares import ShareStore
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.pipes import MemoryNet, MemoryTransport
from ampgrid.vdrive.service import VdriveService
from ampgrid.wire import InlineThreads

T = TypeVar("T")


class MemoryNode:
    """One node of a `MemoryGrid`.

    Attributes:
        core: its services.
        store: its store of shares, None if it keeps none.
        directories: its store of directories, None if it keeps none.
        host: the host name under which it listens.
        identity: its key.
    """

    def __init__(
        self,
        grid: MemoryGrid,
        name: str,
        config: NodeConfig,
        convergence: bytes = b"",
        identity: Identity | None = None,
    ) -> None:
        self.host = name
        self.config = config
        self.identity = identity or Identity.create()
        self.convergence = convergence
        self.store: ShareStore | None = None
        self.directories: DirectoryStore | None = None
        self.core: NodeCore
        self._grid = grid
        self.folder = grid.folder / name
        self.folder.mkdir(exist_ok=True)
        self._peer_store: PeerDatabase | None = None
        self._kept_store: KeptDatabase | None = None
        self._record_store: RememberDatabase | None = None

    @property
    def address(self) -> Address:
        """Where it is dialled."""
        return Address(self.identity.node_id, ((self.host, 1),), None)

    def start(self) -> None:
        """Bring it up, with what its directory holds."""
        grid = self._grid
        threads = InlineThreads()
        world = Surroundings(
            clock=grid.clock,
            wall=grid.wall,
            entropy=grid.random.randbytes,
            uniform=grid.random.uniform,
            work=threads,
            order=threads,
            streams=threads,
            connector=self._connect,
        )
        storage = None
        if self.config.storage_enabled:
            self.store = ShareStore.open(
                self.folder / "storage",
                reserve=self.config.reserve,
                quota=self.config.quota,
                wall=grid.wall,
                files=file_system(self.config),
            )
            storage = StorageService(
                self.store,
                clock=grid.clock,
                wall=grid.wall,
                threads=threads,
                entropy=grid.random.randbytes,
                settings=upkeep_settings(self.config),
                monotonic=grid.wall,
            )
        vdrive = self._open_vdrive(threads) if self.config.vdrive_enabled else None
        blobs = self._open_blobs(threads) if self.config.blobs_enabled else None
        self._peer_store = PeerDatabase(self.folder / "peers.sqlite")
        self._kept_store = KeptDatabase(self.folder / "kept.sqlite")
        secrets = Secrets(self.identity, grid.secret, self.convergence, self.convergence)
        stores = self._peer_store, self._kept_store, storage
        self._record_store = RememberDatabase(self.folder / "remembered.sqlite")
        (self.folder / "private").mkdir(mode=0o700, exist_ok=True)
        self.core = NodeCore(
            self.config,
            secrets,
            world,
            *stores,
            self.folder,
            vdrive=vdrive,
            drive_files=DriveFiles.of(NodeDirectory(self.folder)),
            record_store=self._record_store,
            blobs=blobs,
        )
        grid.run(self.core.start_services())
        if self.config.listen is not None:
            grid.net.listen(self.host, 1, self.core.network.listening_factory())
        grid.run(self.core.start([f"{self.host}:1"] if self.config.listen else []))

    def _open_vdrive(self, threads: InlineThreads) -> VdriveService:
        grid = self._grid
        (self.folder / "storage").mkdir(exist_ok=True)
        self.directories = DirectoryStore.open(
            self.folder / "storage" / "directories.sqlite",
            directories_key(self.identity),
            self.identity.node_id,
            wall=grid.wall,
            entropy=grid.random.randbytes,
            quota=self.config.vdrive_quota,
            reserve=self.config.reserve,
        )
        return VdriveService(
            self.directories,
            clock=grid.clock,
            wall=grid.wall,
            threads=threads,
            entropy=grid.random.randbytes,
            settings=vdrive_settings(self.config),
            monotonic=grid.wall,
        )

    def _open_blobs(self, threads: InlineThreads) -> BlobService:
        grid = self._grid
        (self.folder / "storage").mkdir(exist_ok=True)
        store = open_blob_store(
            self.folder / "storage" / "blobs", self.identity, self.config, grid.wall
        )
        return blob_service(
            store,
            self.config,
            clock=grid.clock,
            wall=grid.wall,
            threads=threads,
            entropy=grid.random.randbytes,
            monotonic=grid.wall,
        )

    async def _connect(self, host: str, port: int, factory: Any) -> Any:
        protocol = await self._grid.net.connect(host, port, factory)
        dialling, accepted = self._grid.net.pipes[-1]
        self._grid.ends.setdefault(self.host, []).append(dialling)
        self._grid.ends.setdefault(host, []).append(accepted)
        return protocol

    def stop(self) -> None:
        """Take it down in order."""
        self._grid.net.silence(self.host, 1)
        self._grid.run(self.core.stop())
        if self._peer_store is not None:
            self._peer_store.close()
            self._peer_store = None
        if self._kept_store is not None:
            self._kept_store.close()
            self._kept_store = None
        if self._record_store is not None:
            self._record_store.close()
            self._record_store = None

    def cut(self) -> None:
        """Let it vanish from the network, as a killed process does."""
        self._grid.net.silence(self.host, 1)
        for end in self._grid.ends.pop(self.host, []):
            end.abortConnection()

    def freeze(self) -> None:
        """Let it keep its connections and never send another byte."""
        for end in self._grid.ends.get(self.host, []):
            end.stopped = True


class MemoryGrid:
    """A grid in memory.

    Args:
        folder: where the stores of the nodes are, an existing directory.
        nodes: number of storage nodes.
        shares: k, happiness and n.
        convergence: the client's convergence secret, 32 bytes.
        seed: of all randomness but keys.
        latency: seconds that bytes are on their way.
        max_segment_size: of the client's uploads, bytes.
        blobs: whether the nodes keep blobs.

    Attributes:
        clock: moves everything.
        days_ahead: by how much all that tells the time (wall clocks, and what measures how much
            of it has passed) is ahead of it, so that a year is no year of pings.
        net: joins the nodes.
        introducer, nodes, client: the members.
    """

    def __init__(
        self,
        folder: Path,
        nodes: int = 5,
        shares: tuple[int, int, int] = (3, 5, 5),
        *,
        convergence: bytes = b"c" * 32,
        seed: int = 1,
        latency: float = 0.001,
        max_segment_size: int = 1024 * 1024,
        blobs: bool = False,
    ) -> None:
        self.folder = folder
        self.random = random.Random(seed)  # noqa: S311 - the point is to be repeatable
        self.secret = self.random.randbytes(16)
        self.clock = HeapClock()
        self.days_ahead = 0.0
        self.net = MemoryNet(self.clock, latency)
        self.ends: dict[str, list[MemoryTransport]] = {}
        self.encoding = Encoding(*shares)
        advice = EncodingParameters(*shares)
        self.introducer = MemoryNode(
            self,
            "introducer",
            NodeConfig(kind="introducer", shares=advice, storage_enabled=False),
        )
        self.nodes: list[MemoryNode] = []
        #: Nodes ever made: one that a test has taken out leaves its folder behind.
        self._made = 0
        self._blobs = blobs
        self._make_nodes(nodes)
        self.client = MemoryNode(
            self,
            "client",
            NodeConfig(
                kind="node",
                introducers=(self.introducer.address,),
                storage_enabled=False,
                listen=None,
                max_segment_size=max_segment_size,
            ),
            convergence,
        )

    def _make_nodes(self, count: int) -> list[MemoryNode]:
        config = NodeConfig(
            kind="node",
            introducers=(self.introducer.address,),
            reserve=0,
            blobs_enabled=self._blobs,
        )
        first = self._made + 1
        made = [MemoryNode(self, f"node{n}", config) for n in range(first, first + count)]
        self._made += count
        self.nodes += made
        return made

    def add_nodes(self, count: int) -> list[MemoryNode]:
        """Bring further storage nodes up; returns them."""
        made = self._make_nodes(count)
        for node in made:
            node.start()
        return made

    @property
    def members(self) -> list[MemoryNode]:
        """The introducer, the storage nodes and the client."""
        return [self.introducer, *self.nodes, self.client]

    def wall(self) -> float:
        """Return the time, seconds since 1970."""
        return self.clock.seconds() + self.days_ahead * 86_400.0

    def run(self, work: Coroutine[Any, Any, T], within: float = 100_000.0) -> T:
        """Move time on until ``work`` is done and return its result."""
        return self.clock.run(work, within)

    def start(self) -> None:
        """Bring all members up and wait until the client is connected to every storage node."""
        for member in self.members:
            member.start()
        self.run(self.client.core.wait_for_peers(len(self.nodes), 600))

    def between(self, one: MemoryNode, other: MemoryNode) -> PeerConnection:
        """Return ``one``'s connection to ``other``, in time moved on until there is one.

        `start` waits for the client alone: storage nodes that dial each other may be later.

        Raises:
            AssertionError: there is none after a minute.
        """
        for _ in range(600):
            connection = one.core.table.get(other.identity.node_id)
            if connection is not None:
                return connection
            self.clock.advance(0.1)
        raise AssertionError(f"{one.host} is not connected to {other.host}")

    def stop(self) -> None:
        """Take all members down."""
        for member in self.members:
            member.stop()
        self.clock.advance(10)

    def put(self, data: bytes, encoding: Encoding | None = None) -> Uploaded:
        """Upload through the client."""
        uploading = self.client.core.uploader.upload(
            Data(data), encoding or self.encoding, Operation()
        )
        return self.run(uploading)

    def upload(self, data: bytes, encoding: Encoding | None = None) -> str:
        """Upload through the client; returns the text of the cap."""
        return self.put(data, encoding).cap.to_string()

    def get(self, cap: str, offset: int = 0, length: int | None = None) -> Downloaded:
        """Download through the client; the bytes are the ``result``."""
        parsed = parse_cap(cap)
        assert isinstance(parsed, ChkCap | LitCap)
        downloading = self.client.core.downloader.download(parsed, ToData(), None, offset, length)
        return self.run(downloading)

    def download(self, cap: str, offset: int = 0, length: int | None = None) -> bytes:
        """Download through the client; returns the bytes."""
        data: bytes = self.get(cap, offset, length).result
        return data
