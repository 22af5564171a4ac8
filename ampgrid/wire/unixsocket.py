"""The node's Unix socket: the same connection type, without TLS, for its own user alone.

The kernel tells the user id of the other end, and only the node's own user (and root) is
served. A path of a Unix socket has room for 107 bytes; a longer one is reached through a short
link to its directory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure

from ampgrid.commands.session import Hello
from ampgrid.errors import ConfigError, NotConnectedError, NotRunningError
from ampgrid.wire.connection import Connection
from ampgrid.wire.hello import MAX_CALLS, Facts, say
from ampgrid.wire.limits import Limits
from ampgrid.wire.network import Roles, SessionResponder

_log = Logger()

#: What a path of a Unix socket has room for, bytes.
MOST_PATH_BYTES = 107
#: A script over the socket may be a stock AMP client, which knows no credits.
_LIMITS = Limits(calls=1_024, bytes=16 * 1024 * 1024, dead_seconds=float("inf"))
_NO_PROOF = bytes(32)
#: Connections that may wait to be accepted: many commands begin at once.
_BACKLOG = 1_024
#: Seconds for which a node is asked again that has no room for one more.
_BUSY_SECONDS = 8.0
#: The first and the longest pause between two tries, seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5
#: What says that nothing listens.
_NOBODY = {errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED}
#: A process's own descriptors as paths (Linux).
_DESCRIPTORS = Path("/proc/self/fd")


class _LocalHello(amp.CommandLocator):
    """Hello over the socket: facts and limits; the kernel has proved who it is."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self._facts = facts

    @Hello.responder
    async def hello(self, **_said: Any) -> dict[str, Any]:
        """Tell version, services and limits."""
        return {**say(self._facts, _NO_PROOF), "max_calls": _LIMITS.calls}


class _LocalRoles(Roles):
    """The locators of a local connection, which may take descriptors from it.

    Twisted gives the locator to the argument types as the protocol, so each locator is given
    the connection's descriptors. Those that a malformed call had claimed are closed.
    """

    def __init__(self, connection: LocalConnection, *locators: amp.CommandLocator) -> None:
        super().__init__(*locators)
        self._connection = connection
        for locator in locators:
            cast("Any", locator)._getDescriptor = connection.claim  # noqa: SLF001 - Twisted's name

    def locateResponder(self, name: bytes) -> Any:  # noqa: N802
        """Find the responder in the first locator that has it."""
        responder = super().locateResponder(name)
        return None if responder is None else partial(self._respond, responder)

    def _respond(self, responder: Any, box: Any) -> Any:
        with self._connection.claims():
            return responder(box)


class LocalConnection(Connection):
    """A connection on this machine, which carries descriptors beside its boxes.

    A descriptor waits until a call claims it; then it is the responder's to close.
    """

    def __init__(self, clock: Any) -> None:
        super().__init__(clock, limits=_LIMITS)
        self._arrived: dict[int, int] = {}
        self._count = 0
        self._claimed: list[int] = []

    def fileDescriptorReceived(self, descriptor: int) -> None:  # noqa: N802
        """Keep a descriptor until its call is here."""
        if not self.alive or len(self._arrived) >= MAX_CALLS:
            os.close(descriptor)
            self.abort("more descriptors than calls")
            return
        os.set_inheritable(descriptor, False)
        self._arrived[self._count] = descriptor
        self._count += 1

    def claim(self, number: int) -> int:
        """Return the descriptor that arrived as ``number`` (0 is the first).

        Raises:
            KeyError: it has not arrived, or was claimed before.
        """
        descriptor = self._arrived.pop(number)
        self._claimed.append(descriptor)
        return descriptor

    @contextlib.contextmanager
    def claims(self) -> Iterator[None]:
        """Close what is claimed in this context, should it end with an exception."""
        self._claimed = []
        try:
            yield
        except Exception:
            for descriptor in self._claimed:
                os.close(descriptor)
            raise

    def connectionLost(self, reason: Failure | None = None) -> None:  # noqa: N802
        """End: descriptors that nobody claimed are closed."""
        while self._arrived:
            os.close(self._arrived.popitem()[1])
        super().connectionLost(reason)


class _AcceptedConnection(LocalConnection):
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
    """Give a spelling of ``path`` that fits into a socket's address, and holds in the context.

    Raises:
        OSError: there is no such directory.
    """
    whole = path.absolute()
    if len(os.fsencode(whole)) <= MOST_PATH_BYTES:
        yield str(whole)
    elif _DESCRIPTORS.is_dir():
        directory = os.open(whole.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield str(_DESCRIPTORS / str(directory) / whole.name)
        finally:
            os.close(directory)
    else:
        with tempfile.TemporaryDirectory(prefix="ampgrid-") as folder:
            link = Path(folder) / "d"
            link.symlink_to(whole.parent, target_is_directory=True)
            yield str(link / whole.name)


def _remove_stale(path: Path) -> None:
    """Remove the socket that a node which did not end well has left.

    Raises:
        ConfigError: what is there is no socket.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(f"{path} is in the place of the node's socket; move it away")
        path.unlink()


class _SocketPort(unix.Port):
    """Twisted's port, which does not mind that its socket was removed before it."""

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802
        """Close the descriptor, whatever has become of the name."""
        try:
            super().connectionLost(reason)
        except OSError as error:
            # A port that raises here never says that it has stopped.
            _log.info("the control socket was gone already: {why}", why=error.strerror)
            tcp.Port.connectionLost(self, reason)


class ControlPort:
    """The listening socket; its short path holds until it is stopped."""

    def __init__(self, port: IListeningPort, path: contextlib.ExitStack) -> None:
        self._port = port
        self._path = path

    def getHost(self) -> IAddress:  # noqa: N802
        """Return the address that was bound."""
        return self._port.getHost()

    def stopListening(self) -> Deferred[None]:  # noqa: N802
        """Stop, and remove the socket."""

        def done(result: Any) -> Any:
            self._path.close()
            return result

        stopping: Deferred[None] = maybeDeferred(cast("Any", self._port.stopListening))
        return stopping.addBoth(done)


async def listen_control(
    reactor: Any,
    path: Path,
    facts: Facts,
    roles: Callable[[Connection], Sequence[amp.CommandLocator]],
) -> ControlPort:
    """Serve the control Commands on a Unix socket of mode 0600.

    Args:
        reactor: what listens.
        path: where; a stale socket there is replaced. The caller holds the node's lock.
        facts: what Hello tells.
        roles: makes the locators of a connection.

    Raises:
        ConfigError: something that is no socket stands in its place.
        CannotListenError: the directory does not take a socket.
    """
    _remove_stale(path)

    class Accepting(Factory):
        noisy = False

        def buildProtocol(self, addr: IAddress | None) -> Connection:  # noqa: ARG002, N802
            connection = _AcceptedConnection(reactor)
            own = (SessionResponder(), _LocalHello(facts))
            connection.serve(_LocalRoles(connection, *own, *roles(connection)))
            return connection

    with contextlib.ExitStack() as stack:
        short = stack.enter_context(_short_path(path))
        port = _SocketPort(os.fsencode(short), Accepting(), _BACKLOG, 0o600, reactor)
        port.startListening()
        return ControlPort(cast("IListeningPort", port), stack.pop_all())


async def _reach(
    reactor: Any, path: Path, uniform: Callable[[float, float], float]
) -> socket.socket:
    """Connect a socket, again and again while too many others wait to be accepted.

    Done here and not by Twisted's client, which cannot tell a full queue from an end.

    Raises:
        NotRunningError: nothing listens there.
        NotConnectedError: it cannot be reached, or is still too busy after `_BUSY_SECONDS`.
    """
    give_up_at = reactor.seconds() + _BUSY_SECONDS
    pause = _FIRST_PAUSE
    reached = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with _short_path(path) as short:
            while True:
                try:
                    # A local connection is made at once or not at all.
                    reached.connect(short)
                    return reached
                except BlockingIOError:
                    if reactor.seconds() >= give_up_at:
                        raise
                await deferLater(reactor, uniform(pause / 2, pause))
                pause = min(2 * pause, _LONGEST_PAUSE)
    except BaseException as error:
        reached.close()
        if not isinstance(error, OSError):
            raise
        if error.errno in _NOBODY:
            raise NotRunningError(
                "no node is running here; start it with 'ampgrid run' and try again"
            ) from error
        why = "it is too busy" if isinstance(error, BlockingIOError) else error.strerror
        raise NotConnectedError(f"the node's socket took no connection: {why}") from error


async def connect_control(
    reactor: Any,
    path: Path,
    uniform: Callable[[float, float], float] = random.uniform,
) -> Connection:
    """Connect to a node's control socket.

    Args:
        reactor: what the connection lives on.
        path: of the socket.
        uniform: draws between two bounds, for the pauses while the node is busy.

    Raises:
        NotRunningError: no node listens there.
        NotConnectedError: it cannot be reached, or was too busy for long.
    """
    connection = LocalConnection(reactor)
    connection.serve(SessionResponder())
    connection.dialled = True

    class Dialling(Factory):
        noisy = False

        def buildProtocol(self, addr: IAddress | None) -> Connection:  # noqa: ARG002, N802
            return connection

    with await _reach(reactor, path, uniform) as reached:
        # The reactor takes a descriptor of its own.
        try:
            reactor.adoptStreamConnection(reached.fileno(), socket.AF_UNIX, Dialling())
        except OSError as error:
            raise NotConnectedError("the node went away at once") from error
    connection.opened(_LIMITS.calls, _LIMITS.bytes)
    return connection
