"""A node on its machine: sockets, thread pools and databases around a `NodeCore`."""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from twisted.logger import Logger
from twisted.protocols import amp

from ampgrid.errors import BrokenStoreError, ConfigError, FormatError
from ampgrid.formats.address import format_hint
from ampgrid.node.addresses import advertised_hints
from ampgrid.node.config import NodeConfig
from ampgrid.node.core import SOFTWARE, NodeCore, hints_text
from ampgrid.node.directory import NodeDirectory
from ampgrid.node.drive import DriveFiles
from ampgrid.node.reminder import Reminder
from ampgrid.node.sections import adopt_sections
from ampgrid.node.surroundings import Secrets, Surroundings
from ampgrid.node.upkeep import directories_key, file_system, upkeep_settings, vdrive_settings
from ampgrid.storage.service import StorageService
from ampgrid.store.directories import DirectoryStore
from ampgrid.store.keptdb import KeptDatabase
from ampgrid.store.peerdb import PeerDatabase
from ampgrid.store.rememberdb import RememberDatabase
from ampgrid.store.shares import ShareStore
from ampgrid.vdrive.service import VdriveService
from ampgrid.wire import Connection, Facts, PoolThreads, listen_control, tcp_connector
from ampgrid.wire.listening import CANNOT_LISTEN, why_not

if TYPE_CHECKING:
    from ampgrid.blobs.service import BlobService

_log = Logger()

#: Threads for hashing, ciphering and coding: more than cores only add memory.
_WORK_THREADS = max(2, min(8, os.cpu_count() or 2))
#: The most descriptors that a node asks for.
_DESCRIPTORS = 65_536
#: Threads that write, fsync and read shares.
_DISK_THREADS = 8
#: Threads that may wait long for a pipe.
_STREAM_THREADS = 32
#: What to do about a database that cannot be used.
_PEERS_ADVICE = (
    "If it is broken, move it and its -wal file away and start again: what it knew of the peers "
    "is learnt again from an introducer."
)
_KEPT_ADVICE = (
    "If it is broken, bring the node back from a recovery file, in a new directory (ampgrid "
    "recovery import); without one, move it and its -wal file away and put the files again: "
    "they stay on the grid until their leases end, but nobody keeps them."
)
_DIRECTORIES_ADVICE = (
    "If it is broken, or private/node.pem was changed, move it and its -wal file away and start "
    "again: the directories in it live on at their other replicas. Never put an older copy back: "
    "it has forgotten what it promised."
)
_REMEMBERED_ADVICE = (
    "If it is broken, move it and its -wal file away and start again: the node then believes the "
    "newest version of each directory that its replicas show."
)
_BLOBS_ADVICE = (
    "If it is broken, or private/node.pem was changed, move storage/blobs away and start again: "
    "the blobs in it are lost here, and their users put again what they have."
)
_STORE_ADVICE = (
    "If it is broken, move it and its -wal file away and start again: shares in files are found "
    "again, and what is lost are the small shares and all leases."
)
#: Seconds that a node which stops gives its threads to end.
_LAST_SECONDS = 10.0


class Face(Protocol):
    """What serves a node's users beside the control socket: the web gateway."""

    async def start(self, core: NodeCore) -> None:
        """Begin to serve; the node is up.

        Raises:
            ConfigError: it cannot.
        """
        ...

    async def stop(self) -> None:
        """End it; the node goes down next."""
        ...


class Node:
    """One node, from its directory.

    The caller holds the directory's lock (`NodeDirectory.lock`).

    Args:
        directory: where it lives.
        config: what its ``node.toml`` says.
        reactor: Twisted's.
        face: what else serves its users; None for the control socket alone.
    """

    def __init__(
        self,
        directory: NodeDirectory,
        config: NodeConfig,
        reactor: Any,
        face: Face | None = None,
    ) -> None:
        self._face = face
        self._directory = directory
        self._config = config
        self._reactor = reactor
        self._pools: list[PoolThreads] = []
        self._ports: list[Any] = []
        self._peer_store: PeerDatabase | None = None
        self._kept_store: KeptDatabase | None = None
        self._record_store: RememberDatabase | None = None
        self.core: NodeCore | None = None

    async def start(self) -> None:
        """Open the stores, listen, and begin to connect.

        Raises:
            ConfigError: something in the node directory cannot be used, or the port is taken.
        """
        directory, config = self._directory, self._config
        # What it makes is for its user alone, whoever started it.
        os.umask(0o077)
        _allow_descriptors()
        if config.storage_enabled or config.vdrive_enabled or config.blobs_enabled:
            directory.require_store()
        directory.make_rooms()
        adopt_sections(directory)
        secrets, world = self._secrets(), self._world()
        with _usable(directory.peers_path, _PEERS_ADVICE):
            peer_store = await world.order.run(PeerDatabase, directory.peers_path)
        self._peer_store = peer_store
        with _usable(directory.kept_path, _KEPT_ADVICE):
            kept_store = await world.order.run(KeptDatabase, directory.kept_path)
        self._kept_store = kept_store
        with _usable(directory.remembered_path, _REMEMBERED_ADVICE):
            record_store = await world.order.run(RememberDatabase, directory.remembered_path)
        self._record_store = record_store
        disk = self._pool(_DISK_THREADS, "disk")
        storage = await self._open_storage(disk) if config.storage_enabled else None
        vdrive = await self._open_vdrive(disk, secrets) if config.vdrive_enabled else None
        blobs = await self._open_blobs(disk, secrets) if config.blobs_enabled else None

        def kept_since(moment: float) -> int:
            return core.kept.added_since(moment)

        reminder = Reminder(directory, kept_since)
        stores = peer_store, kept_store, storage
        core = self.core = NodeCore(
            config,
            secrets,
            world,
            *stores,
            directory.spool,
            reminder,
            vdrive,
            drive_files=DriveFiles.of(directory),
            record_store=record_store,
            blobs=blobs,
        )
        await core.start_services()
        port = await self._listen(core)
        await core.start(hints_text(advertised_hints(config, port)))
        if self._face is not None:
            await self._face.start(core)
        # Last: whoever waits for the socket finds all of the node.
        await self._listen_to_commands()

    def _secrets(self) -> Secrets:
        directory, is_node = self._directory, self._config.kind == "node"
        return Secrets(
            identity=directory.identity(),
            grid=directory.grid_secret(self._config),
            convergence=directory.convergence_secret() if is_node else b"",
            lease=directory.lease_secret() if is_node else b"",
        )

    def _world(self) -> Surroundings:
        return Surroundings(
            clock=self._reactor,
            wall=time.time,
            entropy=os.urandom,
            uniform=random.SystemRandom().uniform,
            work=self._pool(_WORK_THREADS, "work"),
            order=self._pool(1, "databases"),
            streams=self._pool(_STREAM_THREADS, "streams"),
            connector=tcp_connector(self._reactor),
        )

    def _pool(self, most: int, name: str) -> PoolThreads:
        pool = PoolThreads(self._reactor, most, f"ampgrid {name}")
        self._pools.append(pool)
        return pool

    async def _open_storage(self, disk: PoolThreads) -> StorageService:
        config = self._config
        with _usable(self._directory.storage / "store.db", _STORE_ADVICE):
            store = await disk.run(
                ShareStore.open,
                self._directory.storage,
                reserve=config.reserve,
                quota=config.quota,
                wall=time.time,
                files=file_system(config),
            )
        await self._remember_store(disk)
        return StorageService(
            store,
            clock=self._reactor,
            wall=time.time,
            threads=disk,
            entropy=os.urandom,
            settings=upkeep_settings(config),
            monotonic=time.monotonic,
        )

    async def _remember_store(self, disk: PoolThreads) -> None:
        try:
            await disk.run(self._directory.remember_store)
        except ConfigError as error:
            _log.warn("it is not noted that the store was opened: {why}", why=str(error))

    async def _open_vdrive(self, disk: PoolThreads, secrets: Secrets) -> VdriveService:
        config = self._config
        path = self._directory.directories_path
        with _usable(path, _DIRECTORIES_ADVICE):
            store = await disk.run(
                DirectoryStore.open,
                path,
                directories_key(secrets.identity),
                secrets.identity.node_id,
                wall=time.time,
                entropy=os.urandom,
                quota=config.vdrive_quota,
                reserve=config.reserve,
            )
        await self._remember_store(disk)
        return VdriveService(
            store,
            clock=self._reactor,
            wall=time.time,
            threads=disk,
            entropy=os.urandom,
            settings=vdrive_settings(config),
            monotonic=time.monotonic,
        )

    async def _open_blobs(self, disk: PoolThreads, secrets: Secrets) -> BlobService:
        from ampgrid.node.blobs import blob_service, open_blob_store

        path = self._directory.blobs_path
        with _usable(path, _BLOBS_ADVICE):
            store = await disk.run(
                open_blob_store, path, secrets.identity, self._config, time.time
            )
        await self._remember_store(disk)
        return blob_service(
            store,
            self._config,
            clock=self._reactor,
            wall=time.time,
            threads=disk,
            entropy=os.urandom,
            monotonic=time.monotonic,
        )

    def _control_roles(self, connection: Connection) -> list[amp.CommandLocator]:
        # Until its user asks for something a node does without them, and what they load.
        from ampgrid.node.blob_control import BlobControlResponder
        from ampgrid.node.control import ControlResponder
        from ampgrid.node.directory_control import DirectoryResponder

        assert self.core is not None
        return [
            ControlResponder(self.core, connection),
            DirectoryResponder(self.core, connection),
            BlobControlResponder(self.core),
        ]

    async def _listen(self, core: NodeCore) -> int | None:
        """Listen as configured; returns the port, None for a node that only dials."""
        if self._config.listen is None:
            return None
        host, wanted = self._config.listen
        kept = self._directory.listen_port()
        number = wanted or kept or 0
        factory = core.network.listening_factory()
        try:
            listening = self._reactor.listenTCP(number, factory, 1_024, host)
        except CANNOT_LISTEN as error:
            raise _cannot_listen(format_hint((host, number)) if number else host, error) from error
        self._ports.append(listening)
        port: int = listening.getHost().port
        if not wanted and kept is None:
            self._directory.keep_listen_port(port)
        _log.info("listening on port {port}", port=port)
        return port

    async def _listen_to_commands(self) -> None:
        path = self._directory.socket_path
        facts = Facts(frozenset({"control"}), self._config.nickname, SOFTWARE)
        try:
            port = await listen_control(self._reactor, path, facts, self._control_roles)
        except CANNOT_LISTEN as error:
            raise _cannot_listen(str(path), error) from error
        self._ports.append(port)

    async def stop(self) -> None:
        """Stop listening, end what is under way, close the stores.

        Whatever fails, all of it is tried: a thread that is left would keep the process alive.

        Raises:
            RuntimeError: something failed, which the log tells.
        """
        failed = False
        ports, self._ports = self._ports, []
        core, self.core = self.core, None
        opened = (self._peer_store, self._kept_store, self._record_store)
        stores: list[Any] = [store for store in opened if store is not None]
        self._peer_store = self._kept_store = self._record_store = None
        steps = [self._face.stop] if self._face is not None else []
        steps += [port.stopListening for port in ports]
        steps += [core.stop] if core is not None else []
        steps += [store.close for store in stores]
        for step in steps:
            try:
                result = step()
                if result is not None:
                    await result
            except Exception:  # noqa: BLE001 - the rest is to be stopped as well
                _log.failure("the node did not stop in order")
                failed = True
        await self._stop_threads()
        if failed:
            raise RuntimeError("the node did not stop in order; its log says why")

    async def _stop_threads(self) -> None:
        pools, self._pools = self._pools, []
        ending = [pool.stop(_LAST_SECONDS) for pool in pools]
        if not all([await each for each in ending]):
            _log.warn("some threads did not end in {seconds} s", seconds=_LAST_SECONDS)


@contextmanager
def _usable(path: Path, advice: str) -> Iterator[None]:
    """Name the file of a database that cannot be opened, and say what to do about it."""
    try:
        yield
    except (FormatError, BrokenStoreError) as error:
        raise ConfigError(f"{path}: {error}. {advice}") from error


def _cannot_listen(place: str, error: Exception) -> ConfigError:
    return ConfigError(f"The node cannot listen on {place}: {why_not(error)}.")


def _allow_descriptors() -> None:
    """Let this process have as many descriptors as it may: peers, shares and files are many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
