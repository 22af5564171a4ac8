"""A node on its machine: sockets, thread pools and databases around a `NodeCore`."""

from __future__ import annotations

import os
import random
import resource
import time
from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.protocols import amp

from ampgrid.errors import ConfigError
from ampgrid.formats.address import format_hint
from ampgrid.node.addresses import advertised_hints
from ampgrid.node.config import NodeConfig
from ampgrid.node.control import ControlResponder
from ampgrid.node.core import SOFTWARE, NodeCore, Secrets, Surroundings, hints_text
from ampgrid.node.directory import NodeDirectory
from ampgrid.node.recovery import Reminder
from ampgrid.node.upkeep import upkeep_settings
from ampgrid.storage.service import StorageService
from ampgrid.store.keptdb import KeptDatabase
from ampgrid.store.peerdb import PeerDatabase
from ampgrid.store.shares import ShareStore
from ampgrid.wire import Connection, Facts, PoolThreads, listen_control, tcp_connector

_log = Logger()

#: Threads for hashing, ciphering and coding: more than cores only add memory.
_WORK_THREADS = max(2, min(8, os.cpu_count() or 2))
#: The most descriptors that a node asks for.
_DESCRIPTORS = 65_536
#: Threads that write, fsync and read shares.
_DISK_THREADS = 8
#: Threads that may wait long for a pipe.
_STREAM_THREADS = 32
#: Seconds that a node which stops gives its threads to end.
_LAST_SECONDS = 10.0


class Node:
    """One node, from its directory.

    The caller holds the directory's lock (`NodeDirectory.lock`).

    Args:
        directory: where it lives.
        config: what its ``node.toml`` says.
        reactor: Twisted's.
    """

    def __init__(self, directory: NodeDirectory, config: NodeConfig, reactor: Any) -> None:
        self._directory = directory
        self._config = config
        self._reactor = reactor
        self._pools: list[PoolThreads] = []
        self._ports: list[Any] = []
        self._peer_store: PeerDatabase | None = None
        self._kept_store: KeptDatabase | None = None
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
        directory.make_rooms()
        is_node = config.kind == "node"
        secrets = Secrets(
            identity=directory.identity(),
            grid=directory.grid_secret(config),
            convergence=directory.convergence_secret() if is_node else b"",
            lease=directory.lease_secret() if is_node else b"",
        )
        world = Surroundings(
            clock=self._reactor,
            wall=time.time,
            entropy=os.urandom,
            uniform=random.SystemRandom().uniform,
            work=self._pool(_WORK_THREADS, "work"),
            order=self._pool(1, "databases"),
            streams=self._pool(_STREAM_THREADS, "streams"),
            connector=tcp_connector(self._reactor),
        )
        peer_store = await world.order.run(PeerDatabase, directory.peers_path)
        self._peer_store = peer_store
        kept_store = await world.order.run(KeptDatabase, directory.kept_path)
        self._kept_store = kept_store
        storage = await self._open_storage() if config.storage_enabled else None

        def kept_since(moment: float) -> int:
            return core.kept.added_since(moment)

        reminder = Reminder(directory, kept_since)
        stores = peer_store, kept_store, storage
        core = self.core = NodeCore(config, secrets, world, *stores, directory.spool, reminder)
        port = await self._listen(core)
        await core.start(hints_text(advertised_hints(config, port)))
        await self._listen_to_commands()

    def _pool(self, most: int, name: str) -> PoolThreads:
        pool = PoolThreads(self._reactor, most, f"ampgrid {name}")
        self._pools.append(pool)
        return pool

    async def _open_storage(self) -> StorageService:
        disk = self._pool(_DISK_THREADS, "disk")
        config = self._config
        store = await disk.run(
            ShareStore.open,
            self._directory.storage,
            reserve=config.reserve,
            quota=config.quota,
            wall=time.time,
        )
        return StorageService(
            store,
            clock=self._reactor,
            wall=time.time,
            threads=disk,
            entropy=os.urandom,
            settings=upkeep_settings(config),
            monotonic=time.monotonic,
        )

    def _control_roles(self, connection: Connection) -> list[amp.CommandLocator]:
        assert self.core is not None
        return [ControlResponder(self.core, connection)]

    async def _listen(self, core: NodeCore) -> int | None:
        """Listen as configured; returns the port, None for a node that only dials."""
        if self._config.listen is None:
            return None
        host, wanted = self._config.listen
        kept = self._directory.listen_port()
        kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
        number = wanted or kept or 0
        endpoint = kind(self._reactor, number, interface=host, backlog=1_024)
        try:
            listening = await endpoint.listen(core.network.listening_factory())
        except CannotListenError as error:
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
        except CannotListenError as error:
            raise _cannot_listen(str(path), error) from error
        self._ports.append(port)

    async def stop(self) -> None:
        """Stop listening, end what is under way, close the stores."""
        for port in self._ports:
            stopping = port.stopListening()
            if stopping is not None:
                await stopping
        self._ports.clear()
        if self.core is not None:
            await self.core.stop()
            self.core = None
        if self._peer_store is not None:
            self._peer_store.close()
            self._peer_store = None
        if self._kept_store is not None:
            self._kept_store.close()
            self._kept_store = None
        pools, self._pools = self._pools, []
        ending = [pool.stop(_LAST_SECONDS) for pool in pools]
        if not all([await each for each in ending]):
            _log.warn("some threads did not end in {seconds} s", seconds=_LAST_SECONDS)


def _cannot_listen(place: str, error: CannotListenError) -> ConfigError:
    why = getattr(error.socketError, "strerror", None) or error.socketError
    return ConfigError(f"The node cannot listen on {place}: {why}.")


def _allow_descriptors() -> None:
    """Let this process have as many descriptors as it may: peers, shares and files are many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
