"""The node without its machine: every service, wired together, and no socket, thread or file.

This is the composition root. The machine (sockets, thread pools, databases) is put around it by
`ampgrid.node.node` for a real node and by `ampgrid.testing.grid` for one in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.protocols import amp

from ampgrid import __version__
from ampgrid.caps import ChkVerifierCap
from ampgrid.crypto.identity import Identity, node_id_text, parse_node_id
from ampgrid.errors import BadArgumentValueError, ConfigError
from ampgrid.formats.address import format_hint
from ampgrid.immutable.encoding import Encoding
from ampgrid.immutable.keeper import Keeper
from ampgrid.immutable.kept import KeptFiles
from ampgrid.node.config import NodeConfig
from ampgrid.node.drive import VDRIVE_SERVICE, AtHand, DriveFiles, NodeDrive
from ampgrid.node.drive_parts import drive_keeper, maker_over
from ampgrid.node.operations import Operations
from ampgrid.node.public_root import PublicRootResponder
from ampgrid.node.reports import why_full
from ampgrid.node.settling import Settling
from ampgrid.node.surroundings import Secrets, Surroundings
from ampgrid.node.transfers import Transfers
from ampgrid.peers import (
    INTRODUCER_SERVICE,
    ConnectionKeeper,
    ConnectionTable,
    GridParameters,
    Introduced,
    IntroducedResponder,
    OwnAnnouncement,
    PeerBook,
    PeerConnection,
    PeerStore,
)
from ampgrid.ports import Clock
from ampgrid.storage.client import LeaseSecrets, StorageServer
from ampgrid.storage.responder import StorageResponder
from ampgrid.storage.service import StorageService
from ampgrid.store.keptdb import KeptDatabase
from ampgrid.vdrive.remembered import LastingRemembered, MemoryRemembered, RecordStore
from ampgrid.vdrive.responder import VdriveResponder
from ampgrid.vdrive.service import VdriveService
from ampgrid.wire import Connection, Facts, LoopbackConnection, Network

if TYPE_CHECKING:
    from ampgrid.blobs.service import BlobService
    from ampgrid.immutable import Checker, Downloader, Repairer, Uploader
    from ampgrid.node.blobs import BlobPeers
    from ampgrid.node.reminder import Reminder
    from ampgrid.peers import Introducer
    from ampgrid.vdrive.deep import Examiner
    from ampgrid.vdrive.maker import NodeMaker

_log = Logger()

STORAGE_SERVICE = "storage"
BLOB_SERVICE = "blobs"
SOFTWARE = f"ampgrid/{__version__}"
#: Introducers, and operations, of which the status tells.
_MOST_TOLD = 100
#: k, happiness and n of a grid that advises nothing.
DEFAULT_ENCODING = Encoding(3, 7, 10)


class NodeCore:
    """One node's services.

    Args:
        config: what ``node.toml`` says.
        secrets: what the node keeps to itself.
        world: what it needs of the world.
        peer_store: the database of peers.
        kept_store: the database of kept files.
        storage: the storage service, None for a node that keeps no shares.
        spool_path: where uploads from a stream wait.
        reminder: says whether the node could be brought back, None to say nothing.
        vdrive: the vdrive service, None for a node that keeps no directories.
        drive_files: where it keeps its roots and aliases, None to keep them in memory.
        record_store: where it remembers the last version seen of each directory, None to
            remember it in memory.
        blobs: the service of blobs, None for a node that keeps none.
    """

    def __init__(
        self,
        config: NodeConfig,
        secrets: Secrets,
        world: Surroundings,
        peer_store: PeerStore,
        kept_store: KeptDatabase,
        storage: StorageService | None,
        spool_path: Path,
        reminder: Reminder | None = None,
        vdrive: VdriveService | None = None,
        drive_files: DriveFiles | None = None,
        record_store: RecordStore | None = None,
        blobs: BlobService | None = None,
    ) -> None:
        self.config = config
        self.node_id = secrets.identity.node_id
        self.storage = storage
        self.vdrive = vdrive
        self.blobs = blobs
        self.entropy = world.entropy
        self.wall = world.wall
        self.work = world.work
        self.streams = world.streams
        self.spool_path = spool_path
        self.spool_reserve = config.reserve
        self.operations = Operations()
        self._world = world
        self._reminder = reminder
        self._addresses: tuple[str, ...] = ()
        self._started_at = world.wall()
        self._lease_secrets = LeaseSecrets(secrets.lease)
        self._servers: dict[bytes, StorageServer] = {}
        self.loopback = LoopbackConnection(self.node_id, world.clock)
        self._make_connections(secrets, peer_store)
        self._make_introduction(secrets.identity, peer_store)
        self.transfers = Transfers(config, world, kept_store, self.servers, secrets.convergence)
        self._make_drive(drive_files, record_store)
        self._settling = Settling(
            self.table,
            self.keeper,
            self.drive,
            self.servers,
            lambda: self.encoding().happy,
            world.clock,
        )
        self.wait_for_peers = self._settling.wait_for_peers
        self.settle = self._settling.settle
        self.settle_directories = self._settling.settle_directories
        self.table.on_connect(self._connected)
        self.table.on_disconnect(self._disconnected)

    def _make_connections(self, secrets: Secrets, peer_store: PeerStore) -> None:
        config, world = self.config, self._world
        # Who is listed by hand is meant to be talked to, on the list of the allowed or not.
        listed = {address.node_id for address in (*config.introducers, *config.peers)}
        allowed = config.allow | listed if config.allow else None
        self.table = ConnectionTable(self.node_id, clock=world.clock, allowed=allowed)
        self.book = PeerBook(
            peer_store,
            own_id=self.node_id,
            threads=world.order,
            wall=world.wall,
            by_hand=config.peers,
            in_use=lambda node_id: self.table.get(node_id) is not None,
        )
        self.network = self._make_network(secrets.identity, secrets.grid)
        self.keeper = ConnectionKeeper(
            self.book,
            self.table,
            self.network.dial,
            introducers=config.introducers,
            clock=world.clock,
            wall=world.wall,
            uniform=world.uniform,
        )

    def _make_network(self, identity: Identity, secret: bytes | None) -> Network:
        config, world = self.config, self._world
        if not config.is_open and not secret:
            raise ConfigError("a closed grid has a secret, and there is none here")
        return Network(
            identity=identity,
            secret=b"" if config.is_open else (secret or b""),
            facts=self._facts,
            clock=world.clock,
            roles=self._roles,
            admit=self.table.admit,
            connected=self.table.add,
            connector=world.connector,
        )

    def _make_introduction(self, identity: Identity, peer_store: PeerStore) -> None:
        config, world = self.config, self._world
        self._own = OwnAnnouncement(identity, peer_store, threads=world.order, wall=world.wall)
        self.introduced = Introduced(
            self.book,
            self.table,
            peer_store,
            introducers=[address.node_id for address in config.introducers],
            clock=world.clock,
            threads=world.order,
            uniform=world.uniform,
            public_root=self._public_root_told,
            outrun=self._outrun,
        )
        self.introducer = self._make_introducer(peer_store)

    def _make_introducer(self, peer_store: PeerStore) -> Introducer | None:
        config, world = self.config, self._world
        if config.kind != "introducer":
            return None
        from ampgrid.peers.introducer import Introducer

        advice = None
        if config.shares is not None:
            advice = GridParameters(config.shares.needed, config.shares.happy, config.shares.total)
        return Introducer(
            self.book,
            peer_store,
            clock=world.clock,
            threads=world.order,
            entropy=world.entropy,
            parameters=advice,
        )

    def _make_drive(self, files: DriveFiles | None, store: RecordStore | None) -> None:
        config, world = self.config, self._world
        lasting = None
        if store is not None:
            lasting = LastingRemembered(store, world.clock, world.order)
        self._remembered = lasting

        def make_maker(at_hand: AtHand) -> NodeMaker:
            remembered = lasting or MemoryRemembered()
            return maker_over(at_hand, world, self.transfers, self.encoding, remembered)

        self.drive = NodeDrive(
            files,
            make_maker,
            may_write=self.require_uploads,
            clock=world.clock,
            entropy=world.entropy,
            order=world.order,
            public_known=self._tell_public_root,
            makes_public_root=config.public_root,
        )
        self.drive_keeper = drive_keeper(
            config, world, self.drive, self.transfers, lambda: self.encoding().happy
        )

    async def _public_root_told(self, uri: str) -> None:
        await self.drive.public_root.told(uri)

    def _tell_public_root(self, uri: str) -> None:
        if self.introducer is not None:
            self.introducer.set_public_root(uri)

    # What it does for its user.

    @property
    def kept(self) -> KeptFiles:
        """The files that it keeps."""
        return self.transfers.kept

    @property
    def file_keeper(self) -> Keeper:
        """Keeps them alive."""
        return self.transfers.keeper

    @property
    def uploader(self) -> Uploader:
        """Puts files."""
        return self.transfers.uploader

    @property
    def downloader(self) -> Downloader:
        """Gets files."""
        return self.transfers.downloader

    @property
    def checker(self) -> Checker:
        """Tells how files fare."""
        return self.transfers.checker

    @property
    def repairer(self) -> Repairer:
        """Writes shares that are missing."""
        return self.transfers.repairer

    @cached_property
    def examiner(self) -> Examiner:
        """Checks, repairs and renews all that a directory leads to."""
        from ampgrid.vdrive.deep import Examiner

        return Examiner(self.checker, self.repairer, self.servers, self.happiness_of)

    @cached_property
    def blob_peers(self) -> BlobPeers:
        """The remotes of blobs that it can reach."""
        from ampgrid.node.blobs import BlobPeers

        return BlobPeers(self.node_id, self.table, self.loopback)

    # What it serves.

    @property
    def services(self) -> frozenset[str]:
        """Names of the services that it offers to its peers."""
        parts = {
            STORAGE_SERVICE: self.storage,
            VDRIVE_SERVICE: self.vdrive,
            BLOB_SERVICE: self.blobs,
            INTRODUCER_SERVICE: self.introducer,
        }
        return frozenset(name for name, service in parts.items() if service is not None)

    def _facts(self) -> Facts:
        return Facts(self.services, self.config.nickname, SOFTWARE)

    def _roles(self, connection: Connection) -> Sequence[amp.CommandLocator]:
        roles: list[amp.CommandLocator] = [
            IntroducedResponder(self.introduced, connection),
            PublicRootResponder(self.drive.public),
        ]
        if self.storage is not None:
            roles.insert(0, StorageResponder(self.storage, connection))
        if self.vdrive is not None:
            roles.append(VdriveResponder(self.vdrive, connection))
        if self.blobs is not None:
            roles.append(self._blob_responder(self.blobs, connection))
        if self.introducer is not None:
            from ampgrid.peers.introducer import IntroducerResponder

            roles.append(IntroducerResponder(self.introducer, connection))
        return roles

    @staticmethod
    def _blob_responder(
        blobs: BlobService, connection: Connection | LoopbackConnection
    ) -> amp.CommandLocator:
        from ampgrid.blobs.responder import BlobResponder

        return BlobResponder(blobs, connection)

    # The life of a node.

    async def start_services(self) -> None:
        """Begin to serve what this node keeps for others.

        That comes before it listens: whoever connects finds all of it, and is not refused by a
        service that is about to begin.
        """
        if self.storage is not None:
            await self.storage.start()
            if why := why_full(self.storage.status()):
                _log.warn("no shares are taken: {why}", why=why)
            self.loopback.serve(StorageResponder(self.storage, self.loopback))
            self._servers[self.node_id] = StorageServer(self.loopback, self._lease_secrets)
        if self.vdrive is not None:
            await self.vdrive.start()
            self.loopback.serve(VdriveResponder(self.vdrive, self.loopback))
            self.drive.add(self.loopback)
        if self.blobs is not None:
            await self.blobs.start()
            self.loopback.serve(self._blob_responder(self.blobs, self.loopback))

    async def start(self, addresses: Sequence[str]) -> None:
        """Begin to dial and to announce, once its services are there and it listens.

        Args:
            addresses: where others may dial this node, ``HOST:PORT`` each.
        """
        self._addresses = tuple(addresses)
        await self.book.start()
        await self.drive.start()
        if self.introducer is not None:
            await self.introducer.start()
        await self.introduced.start()
        await self.file_keeper.start()
        await self.drive_keeper.start()
        await self._announce(0)
        self.keeper.start()
        self._settling.begin()

    async def _announce(self, above: int) -> None:
        packed = await self._own.make(
            nickname=self.config.nickname,
            services=self.services,
            software=SOFTWARE,
            addresses=self._addresses,
            above=above,
        )
        self.introduced.set_announcement(packed, self._own.sequence)

    def _outrun(self, sequence: int) -> None:
        """An announcement of ours with a higher number is about, as after a lost database."""
        Deferred.fromCoroutine(self._announce(sequence)).addErrback(
            lambda failure: _log.failure("a new announcement could not be made", failure)
        )

    async def stop(self) -> None:
        """End what is under way, close every connection, and end what is kept for others."""
        self.operations.stop()
        # Before the connections go, so that their loss is not taken for that of the files.
        stopping = Deferred.fromCoroutine(self._stop_keepers())
        self.keeper.stop()
        self.drive.stop()
        self.introduced.stop()
        if self.introducer is not None:
            self.introducer.stop()
        self.table.close()
        self.loopback.abort("this node is stopping")
        await stopping
        if self._remembered is not None:
            await self._remembered.stop()
        if self.vdrive is not None:
            await self.vdrive.stop()
        if self.blobs is not None:
            await self.blobs.stop()
        if self.storage is not None:
            await self.storage.stop()

    async def _stop_keepers(self) -> None:
        ending = Deferred.fromCoroutine(self.drive_keeper.stop())
        await self.file_keeper.stop()
        await ending

    # Storage peers.

    def _connected(self, connection: PeerConnection) -> None:
        self._settling.met()
        if STORAGE_SERVICE in connection.peer_services:
            self._servers[connection.peer_id] = StorageServer(connection, self._lease_secrets)
        self.drive.connected(connection)

    def _disconnected(self, connection: PeerConnection) -> None:
        self.drive.disconnected(connection)
        server = self._servers.get(connection.peer_id)
        if server is not None and server.connection is connection:
            del self._servers[connection.peer_id]

    def servers(self) -> list[StorageServer]:
        """Return the storage peers that are connected now, this node's own store included."""
        return [s for s in self._servers.values() if s.connection.connected]

    def require_uploads(self) -> None:
        """Refuse to write to the grid on an introducer, which has no secrets for that.

        Raises:
            BadArgumentValueError: this is an introducer.
        """
        if self.config.kind == "introducer":
            raise BadArgumentValueError(
                "this is an introducer, which has no files of its own; name the directory of a "
                "node: ampgrid -d NODE ..."
            )

    @property
    def clock(self) -> Clock:
        """Time and timers."""
        return self._world.clock

    async def happiness_of(self, cap: ChkVerifierCap) -> int:
        """Return how many servers of happiness a file should have.

        That is what its uploader asked for, where this node keeps the file; else what an upload
        of its number of shares would ask for now.
        """
        kept = await self.kept.find(cap)
        return min(cap.total, self.encoding().happy if kept is None else kept.happy)

    def encoding(self) -> Encoding:
        """Return k, happiness and n: this node's own, the grid's advice, or the default."""
        own = self.config.shares
        if own is not None:
            return Encoding(own.needed, own.happy, own.total)
        advice = self.introduced.parameters
        if advice is not None:
            return Encoding(advice.needed, advice.happy, advice.total)
        return DEFAULT_ENCODING

    # What it tells.

    def status(self) -> dict[str, Any]:
        """Return what the node is and how it fares, for JSON (``docs/reference/status.md``)."""
        encoding = self.encoding()
        introducers = [
            told
            if told["connected"]
            else told | {"last_error": self.keeper.last_error(told["node_id"])}
            for told in self.introduced.status()
        ]
        facts: dict[str, Any] = {
            "software": SOFTWARE,
            "kind": self.config.kind,
            "node_id": node_id_text(self.node_id),
            "nickname": self.config.nickname,
            "addresses": list(self._addresses),
            "running_seconds": max(0, round(self._world.wall() - self._started_at)),
            "open_grid": self.config.is_open,
            "connections": len(self.table.connections()),
            "known_peers": len(self.book.peers()),
            "storage_peers": len(self.servers()),
            "shares": f"{encoding.needed}/{encoding.happy}/{encoding.total}",
            "introducers": introducers[:_MOST_TOLD],
            "introducer_count": len(introducers),
            "operations": [
                {"phase": o.phase, "done": o.done, "total": o.total}
                for o in self.operations.all()[:_MOST_TOLD]
            ],
        }
        if self.config.kind == "node":
            facts["durability"] = self.config.durability
            facts["keeper"] = self.file_keeper.status()
        facts["drive"] = self.drive.status(self.drive_keeper.status())
        if self.storage is not None:
            facts["storage"] = self.storage.status()
        if self.vdrive is not None:
            facts["vdrive"] = self.vdrive.status()
        if self.blobs is not None:
            facts["blobs"] = self.blobs.status()
        if self.introducer is not None:
            facts["introducing"] = self.introducer.status()
        if self._reminder is not None:
            facts["recovery"] = self._reminder.status()
        return facts

    def peers(self) -> list[dict[str, Any]]:
        """Return the known peers, for JSON."""
        return self.keeper.status()

    def announcement_of(self, node_id: str) -> bytes:
        """Return the announcement of a peer as it was signed, empty if it is not known."""
        known = self.book.get(parse_node_id(node_id))
        return b"" if known is None else known.packed


def hints_text(hints: Sequence[tuple[str, int]]) -> list[str]:
    """Return (host, port) pairs as ``HOST:PORT``."""
    return [format_hint(hint) for hint in hints]
