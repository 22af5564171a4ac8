"""A whole grid on one machine, each node a process of its own on the loopback.

The processes are ``ampgrid -d NODE run``, started by this one, which holds the other end of
their standard input: however this process ends, they see it closed and stop. Their secrets are
in their node directories, never in arguments or the environment.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

import ampgrid
from ampgrid.commands.control import WaitForPeers
from ampgrid.commands.drive import GetRoots
from ampgrid.commands.errors import NotEnoughPeersConnectedError
from ampgrid.crypto.identity import node_id_text
from ampgrid.errors import (
    BadArgumentValueError,
    ConfigError,
    NotConnectedError,
    NotEnoughPeersError,
)
from ampgrid.node.addresses import address_of
from ampgrid.node.config import EncodingParameters
from ampgrid.node.creation import create_introducer, create_node
from ampgrid.node.directory import NodeDirectory, write_whole
from ampgrid.node.lock import DirectoryLock
from ampgrid.ports import Connection
from ampgrid.wire.unixsocket import connect_control

#: Seconds that a node has to come up, all of them to meet, and each to stop before it is killed.
START_SECONDS = 60.0
MEET_SECONDS = 120.0
STOP_SECONDS = 10.0
_LOOK = 0.05

#: The most storage nodes of one such grid.
MAX_NODES = 200

_LISTEN = "127.0.0.1:0"
#: All nodes share one disk, so a large reserve each would only refuse what fits.
_RESERVE = 100_000_000


class NodeProcess(ProcessProtocol):
    """One node of the grid, as a child process.

    Args:
        directory: its node directory.
        on_end: called with this object when the process has ended.

    Attributes:
        name: the name of its directory.
        ended: fires when the process has ended.
        ending: how it ended, for a reader; empty while it runs.
    """

    def __init__(self, directory: NodeDirectory, on_end: Callable[[NodeProcess], None]) -> None:
        self.directory = directory
        self.name = directory.path.name
        self.ended: Deferred[None] = Deferred()
        self.ending = ""
        self._on_end = on_end

    def start(self, reactor: Any) -> None:
        """Start it; its output is appended to ``node.log`` in its directory."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        log = os.open(self.directory.log_path, flags, 0o600)
        try:
            # -P: what lies in the current directory is no part of the program.
            words = [sys.executable, "-P", "-m", "ampgrid", "-d", str(self.directory.path)]
            reactor.spawnProcess(
                self,
                sys.executable,
                [*words, "run", "--until-stdin-closes"],
                env=_environment(),
                childFDs={0: "w", 1: log, 2: log},
            )
        finally:
            os.close(log)

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.transport is not None
        return int(self.transport.pid or 0)

    def processEnded(self, reason: Failure) -> None:  # noqa: N802
        """Tell those who wait."""
        number = getattr(reason.value, "signal", None)
        code = getattr(reason.value, "exitCode", None)
        self.ending = f"killed by signal {number}" if number else f"exit status {code}"
        self._on_end(self)
        self.ended.callback(None)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        if not self.ending and self.transport is not None:
            self.transport.signalProcess(number.name.removeprefix("SIG"))

    async def connect(self, reactor: Any) -> Connection:
        """Connect to its control socket as soon as it listens there.

        Raises:
            NotConnectedError: it ended, or was not up after `START_SECONDS`.
        """
        deadline = reactor.seconds() + START_SECONDS
        while True:
            if self.ending:
                raise NotConnectedError(
                    f"{self.name} ended while starting ({self.ending}); "
                    f"see {self.directory.log_path}: {self.last_words()}"
                )
            try:
                # A socket that an earlier run left behind refuses, so it is tried again.
                connection: Connection = await connect_control(reactor, self.directory.socket_path)
                return connection
            except NotConnectedError:
                if reactor.seconds() > deadline:
                    raise NotConnectedError(
                        f"{self.name} is not up after {START_SECONDS:.0f} s; "
                        f"see {self.directory.log_path}"
                    ) from None
            await deferLater(reactor, _LOOK)

    def last_words(self) -> str:
        """Return the line of its log that tells most: the last with an error, or the last."""
        try:
            text = self.directory.log_path.read_bytes()[-8000:].decode("utf-8", "replace")
        except OSError:
            return ""
        lines = text.strip().splitlines()
        telling = [line for line in lines if "Error" in line or line.startswith("ampgrid: ")]
        return (telling or lines or [""])[-1].strip()


def _environment() -> dict[str, str]:
    """Return the environment of a child, in which it finds the same ampgrid."""
    environment = dict(os.environ)
    home = str(Path(ampgrid.__file__).resolve().parents[1])
    if home not in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{home}{os.pathsep}{before}" if before else home
    return environment


class LocalGrid:
    """An introducer, ``count`` storage nodes and a client under one directory.

    Args:
        reactor: what runs it.
        root: where the node directories are or will be.
        count: how many storage nodes; None for as many as are there, or five.
        shares: what the introducer advises; None for as it was, or fitting ``count``.
        tell: called with a line about the course of things.
        public_root: whether the introducer makes a public root; False for as it was.

    Raises:
        ConfigError: the directory holds something else, another number of nodes or shares.
        BadArgumentValueError: the shares want more servers than there are nodes.
    """

    def __init__(
        self,
        reactor: Any,
        root: Path,
        count: int | None,
        shares: EncodingParameters | None,
        tell: Callable[[str], None],
        *,
        public_root: bool = False,
    ) -> None:
        self._reactor = reactor
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - symbolic links stay
        self._tell = tell
        self._stopping = False
        self._lock: DirectoryLock | None = None
        self.introducer = NodeDirectory(self.root / "introducer")
        self.client = NodeDirectory(self.root / "client")
        there = self._count_there()
        if there and count is not None and count < there:
            raise ConfigError(
                f"{self.root} holds {there} storage nodes; start it with --nodes {there}, "
                "or more to add some."
            )
        self.count = count or there or 5
        self.shares = self._settle_shares(shares)
        self.public_root = self._settle_public_root(public_root)
        self.nodes = [
            NodeDirectory(self.root / f"node{number}") for number in range(1, self.count + 1)
        ]
        self.processes: dict[str, NodeProcess] = {}

    @property
    def ready_path(self) -> Path:
        """``ready.json``, there while the grid is up."""
        return self.root / "ready.json"

    def _count_there(self) -> int:
        if not self.root.exists():
            return 0
        if not self.root.is_dir():
            raise ConfigError(f"{self.root} is there already and is no directory.")
        names = {entry.name for entry in self.root.iterdir()}
        if names and not names & {"introducer", "grid.pid"}:
            raise ConfigError(f"{self.root} is not empty and holds no grid; name another DIR.")
        there = 0
        while f"node{there + 1}" in names:
            there += 1
        return there

    def _settle_shares(self, shares: EncodingParameters | None) -> EncodingParameters:
        if shares is not None and shares.happy > self.count:
            raise BadArgumentValueError(
                f"HAPPY is {shares.happy}, and there are {self.count} storage nodes; no upload "
                "could succeed: take more --nodes, or a smaller HAPPY."
            )
        if not self.introducer.config_path.exists():
            return shares or fitting_shares(self.count)
        advised = self.introducer.load_config().shares
        if shares is not None and advised != shares:
            raise ConfigError(
                f"This grid was made with --shares {advised}; to change that, edit "
                f"{self.introducer.config_path}."
            )
        return advised or fitting_shares(self.count)

    def _settle_public_root(self, wanted: bool) -> bool:
        if not self.introducer.config_path.exists():
            return wanted
        made = self.introducer.load_config().public_root
        if wanted and not made:
            raise ConfigError(
                "This grid was made without --public-root; to change that, write public_root = "
                f"true under [grid] in {self.introducer.config_path}."
            )
        return made

    async def start(self) -> dict[str, Any]:
        """Make what is missing, start every node, and wait until all are connected to all.

        Returns:
            What ``ready.json`` holds, which is written then.

        Raises:
            ConfigError: a directory cannot be made or used, or a grid runs in it.
            NotConnectedError: a node did not come up.
            NotEnoughPeersError: the nodes did not find each other.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = DirectoryLock(self.root / "grid.pid", "grid")
            self.ready_path.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.root} could not be used: {error.strerror}.") from error
        if not self.introducer.config_path.exists():
            create_introducer(
                self.introducer.path,
                listen=_LISTEN,
                shares=self.shares,
                public_root=self.public_root,
            )
        await self._wait_until_free()
        # The introducer comes first: the nodes need its address, which has its port.
        self._spawn(self.introducer)
        await self.processes["introducer"].connect(self._reactor)
        self._tell("The introducer is up.")
        self._make_nodes()
        for directory in [*self.nodes, self.client]:
            self._spawn(directory)
        await self._meet()
        if self.public_root:
            await self._meet_public_root()
        facts = self._facts()
        write_whole(self.ready_path, json.dumps(facts, indent=2).encode("utf-8") + b"\n")
        return facts

    async def _wait_until_free(self) -> None:
        """Wait for nodes of an earlier grid that was killed: they need a moment to stop."""
        deadline = self._reactor.seconds() + STOP_SECONDS
        for directory in [self.introducer, *self.nodes, self.client]:
            while directory.config_path.exists():
                try:
                    directory.lock().release()
                    break
                except ConfigError:
                    if self._reactor.seconds() > deadline:
                        raise
                await deferLater(self._reactor, _LOOK)

    def _make_nodes(self) -> None:
        address = address_of(self.introducer)
        for directory in self.nodes:
            if not directory.config_path.exists():
                create_node(
                    directory.path,
                    introducers=[address],
                    listen=_LISTEN,
                    nickname=directory.path.name,
                    reserve=_RESERVE,
                    web="none",
                    blobs=True,
                )
        if not self.client.config_path.exists():
            create_node(
                self.client.path,
                introducers=[address],
                listen=_LISTEN,
                nickname="client",
                storage=False,
                web="0",
            )

    def _spawn(self, directory: NodeDirectory) -> None:
        process = NodeProcess(directory, self._ended)
        self.processes[process.name] = process
        process.start(self._reactor)

    def _ended(self, process: NodeProcess) -> None:
        if not self._stopping:
            self._tell(f"{process.name} has ended ({process.ending}); the others go on.")

    async def _meet(self) -> None:
        waiting = [
            Deferred.fromCoroutine(self._meet_one(self.processes[directory.path.name]))
            for directory in [*self.nodes, self.client]
        ]
        try:
            await gatherResults(waiting, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        finally:
            for each in waiting:
                if not each.called:
                    each.addErrback(lambda _: None)
                    each.cancel()

    async def _meet_one(self, process: NodeProcess) -> None:
        connection = await process.connect(self._reactor)
        try:
            await connection.call(
                WaitForPeers,
                count=self.count,
                timeout_seconds=int(MEET_SECONDS),
                deadline=MEET_SECONDS + 10,
            )
        except NotEnoughPeersConnectedError as error:
            raise NotEnoughPeersError(
                f"{process.name} did not find all peers within {MEET_SECONDS:.0f} s ({error}); "
                f"see {process.directory.log_path}"
            ) from None
        except NotConnectedError:
            raise NotConnectedError(
                f"{process.name} went away while it was looking for its peers; "
                f"see {process.directory.log_path}: {process.last_words()}"
            ) from None
        self._tell(f"{process.name} is connected to {self.count} storage nodes.")

    async def _meet_public_root(self) -> None:
        """Wait until the client knows the public root."""
        connection = await self.processes[self.client.path.name].connect(self._reactor)
        deadline = self._reactor.seconds() + MEET_SECONDS
        while not (await connection.call(GetRoots))["public"]:
            if self._reactor.seconds() > deadline:
                raise NotEnoughPeersError(
                    f"the public root was not made within {MEET_SECONDS:.0f} s; "
                    f"see {self.introducer.log_path}"
                )
            await deferLater(self._reactor, _LOOK)
        self._tell("The public root is there.")

    def _facts(self) -> dict[str, Any]:
        def facts_of(directory: NodeDirectory, *, address: bool, node_id: bool) -> dict[str, Any]:
            facts: dict[str, Any] = {
                "dir": str(directory.path),
                "pid": self.processes[directory.path.name].pid,
            }
            if address:
                facts["address"] = address_of(directory).to_string()
            if node_id:
                facts["node_id"] = node_id_text(directory.identity().node_id)
            return facts

        client = facts_of(self.client, address=False, node_id=True)
        client["web"] = self.client.node_url()
        return {
            "introducer": facts_of(self.introducer, address=True, node_id=False),
            "nodes": [facts_of(node, address=True, node_id=True) for node in self.nodes],
            "client": client,
        }

    async def kill(self, name: str) -> None:
        """Kill a node with SIGKILL and wait until it has ended."""
        process = self.processes[name]
        process.send(signal.SIGKILL)
        await process.ended

    async def stop(self) -> None:
        """Stop every node: SIGTERM, and SIGKILL for what still runs `STOP_SECONDS` later."""
        self._stopping = True
        if self._lock is None:
            # Never started: what is in the directory is another grid's.
            return
        self.ready_path.unlink(missing_ok=True)
        running = [process for process in self.processes.values() if not process.ending]
        for process in running:
            process.send(signal.SIGTERM)

        def kill() -> None:
            for process in running:
                process.send(signal.SIGKILL)

        timer = self._reactor.callLater(STOP_SECONDS, kill)
        for process in running:
            await process.ended
        if timer.active():
            timer.cancel()
        self._lock.release()
        self._lock = None


def fitting_shares(count: int) -> EncodingParameters:
    """Return an encoding that fits so many servers: 3-of-10 for ten and more."""
    if count >= 10:
        return EncodingParameters(3, 7, 10)
    return EncodingParameters((count + 1) // 2, count, count)
