"""The node's Unix socket: the same connection type, without TLS, for its own user alone.

The kernel tells the user id of the other end, and only the node's own user (and root) is
served. A path of a Unix socket has room for 107 bytes; a longer one is reached through a short
link to its directory.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols import amp

from ampgrid.commands.session import Hello
from ampgrid.errors import NotConnectedError
from ampgrid.wire.connection import Connection, Limits
from ampgrid.wire.hello import Facts, say
from ampgrid.wire.network import Roles, SessionResponder

_log = Logger()

#: What a path of a Unix socket has room for, bytes.
MOST_PATH_BYTES = 107
#: A script over the socket may be a stock AMP client, which knows no credits.
_LIMITS = Limits(calls=1_024, bytes=16 * 1024 * 1024, dead_seconds=float("inf"))
_NO_PROOF = bytes(32)


class _LocalHello(amp.CommandLocator):
    """Hello over the socket: facts and limits; the kernel has proved who it is."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self._facts = facts

    @Hello.responder
    async def hello(self, **_said: Any) -> dict[str, Any]:
        """Tell version, services and limits."""
        return {**say(self._facts, _NO_PROOF), "max_calls": _LIMITS.calls}


class _LocalConnection(Connection):
    """A connection from this machine, whose user is checked before anything is read."""

    def makeConnection(self, transport: Any) -> None:  # noqa: N802
        """Begin, if the kernel says that the other end is our own user."""
        super().makeConnection(transport)
        credentials = transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _pid, uid, _gid = struct.unpack("3i", credentials)
        if uid not in (os.getuid(), 0):
            self.abort("another user's program called the control socket")
            return
        self.opened(_LIMITS.calls, _LIMITS.bytes)


@contextlib.contextmanager
def _short_path(path: Path) -> Iterator[str]:
    """Give a spelling of ``path`` that fits into a socket's address."""
    whole = str(path.absolute())
    if len(os.fsencode(whole)) <= MOST_PATH_BYTES:
        yield whole
        return
    with tempfile.TemporaryDirectory(prefix="ampgrid-") as folder:
        link = Path(folder) / "d"
        link.symlink_to(path.absolute().parent, target_is_directory=True)
        yield str(link / path.name)


async def listen_control(
    reactor: Any,
    path: Path,
    facts: Facts,
    roles: Callable[[Connection], Sequence[amp.CommandLocator]],
) -> IListeningPort:
    """Serve the control Commands on a Unix socket of mode 0600.

    Args:
        reactor: what listens.
        path: where; a stale socket there is replaced. The caller holds the node's lock.
        facts: what Hello tells.
        roles: makes the locators of a connection.
    """
    with contextlib.suppress(FileNotFoundError):
        path.unlink()

    class Accepting(Factory):
        noisy = False

        def buildProtocol(self, addr: IAddress | None) -> Connection:  # noqa: ARG002, N802
            connection = _LocalConnection(reactor, limits=_LIMITS)
            connection.serve(Roles(SessionResponder(), _LocalHello(facts), *roles(connection)))
            return connection

    with _short_path(path) as short:
        port: IListeningPort = await UNIXServerEndpoint(
            reactor, short, mode=0o600, wantPID=False
        ).listen(Accepting())
    return port


async def connect_control(reactor: Any, path: Path) -> Connection:
    """Connect to a node's control socket.

    Raises:
        NotConnectedError: no node listens there.
    """

    class Dialling(Factory):
        noisy = False

        def buildProtocol(self, addr: IAddress | None) -> Connection:  # noqa: ARG002, N802
            connection = Connection(reactor, amp.CommandLocator(), _LIMITS)
            connection.dialled = True
            return connection

    with _short_path(path) as short:
        try:
            endpoint = UNIXClientEndpoint(reactor, short, timeout=10)
            connection: Connection = await endpoint.connect(Dialling())
        except Exception as error:
            raise NotConnectedError(
                "no node is running here; start it with 'ampgrid run' and try again"
            ) from error
    connection.opened(_LIMITS.calls, _LIMITS.bytes)
    return connection
