"""The node as a Twisted service: ``twist ampgrid --node-directory DIR``.

``twist`` finds it through the plugin module ``twisted.plugins.ampgrid_plugin``, which names this
module; `Options` and `makeService` are what it looks for here.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger, globalLogPublisher
from twisted.python import usage

from ampgrid.cli.faces import face_of
from ampgrid.errors import AmpgridError
from ampgrid.node.config import NodeConfig
from ampgrid.node.directory import NodeDirectory
from ampgrid.node.faults import strip_texts
from ampgrid.node.lock import DirectoryLock
from ampgrid.node.node import Node

_log = Logger()


class Options(usage.Options):
    """The options of ``twist ampgrid``."""

    synopsis = "[--node-directory DIR]"
    optParameters = [  # noqa: N815 - Twisted's name
        ["node-directory", "d", "~/.ampgrid", "The node directory, made by ampgrid create-node."]
    ]


class NodeService(Service):
    """A node whose life is that of the service.

    Args:
        directory: where the node lives.
        config: its settings.
        lock: the right to run there, released when the service has stopped.
        reactor: what runs it.
    """

    name = "ampgrid"

    def __init__(
        self, directory: NodeDirectory, config: NodeConfig, lock: DirectoryLock, reactor: Any
    ) -> None:
        self._reactor = reactor
        self._lock = lock
        self._node = Node(directory, config, reactor, face_of(directory, config, reactor))
        self._starting: Deferred[None] | None = None

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Start the node; if it cannot start, the process ends with a status that says so."""
        super().startService()
        self._starting = Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        # Not before the reactor runs, which is when there is a log.
        await deferLater(self._reactor, 0)
        try:
            await self._node.start()
        except AmpgridError as error:
            _log.error("the node could not start: {why}", why=str(error))
            self._give_up(str(error))
        except Exception:  # noqa: BLE001 - whatever it was, there is no node to go on with
            _log.failure("the node could not start")
            self._give_up("The node could not start; its log says why.")

    def _give_up(self, why: str) -> None:
        # The reactor swallows every exception, and who runs it ends with 0 whatever happened.
        atexit.register(_end_in_failure, why)
        self._reactor.callLater(0, self._reactor.stop)

    def stopService(self) -> Deferred[None]:  # noqa: N802 - Twisted's name
        """Stop the node; the answer fires when all of it is on the disk."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._starting is not None:
            await self._starting
        try:
            await self._node.stop()
        finally:
            self._lock.release()


def _end_in_failure(why: str) -> None:
    """End the process as what cannot be done ends; called as its last act."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        # The process's own: whoever runs the reactor may have put its log in the place of it.
        if (stream := sys.__stderr__) is not None:
            stream.write(f"ampgrid: {why}\n")
            stream.flush()
    os._exit(1)


def makeService(options: Options) -> NodeService:  # noqa: N802 - Twisted's name
    """Return the service that ``twist`` is to run.

    Raises:
        SystemExit: the node directory cannot be used, or a node runs in it already.
    """
    from twisted.internet import reactor

    # Before the observer that writes the log, which is there when the reactor runs.
    globalLogPublisher.addObserver(strip_texts)
    directory = NodeDirectory.at(options["node-directory"])
    try:
        config = directory.load_config()
        return NodeService(directory, config, directory.lock(), reactor)
    except AmpgridError as error:
        # Python prints it as one line; of a UsageError, twist would show the traceback.
        raise SystemExit(f"ampgrid: {error}") from None
