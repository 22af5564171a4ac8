"""The table of connections: at most one to each peer, and which of two stays.

Of two connections between the same two nodes the one dialled by the lower node id stays; a newer
one by the same dialler replaces the older after its Hello. The table knows no sockets and dials
nobody.

Spec: ``docs/specs/wire.md``, "Two connections between two nodes".
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ampgrid.commands.errors import AlreadyConnectedError, BusyError, NotAllowedError
from ampgrid.commands.session import Ping
from ampgrid.errors import AmpgridError
from ampgrid.peers._ports import PeerConnection
from ampgrid.ports import Clock

_log = Logger()

#: Seconds that a connection, which keeps a newer one out, has to answer a Ping.
PROBE_SECONDS = 10.0

#: Connections at once.
MOST_CONNECTIONS = 8_000

Watcher = Callable[[PeerConnection], None]
Predicate = Callable[[list[PeerConnection]], bool]


class ConnectionTable:
    """Node id -> connection.

    Args:
        own_id: this node's id, 20 bytes.
        clock: time and timers.
        allowed: the only node ids that may connect; None for every member of the grid.
        most: connections at once.
    """

    def __init__(
        self,
        own_id: bytes,
        *,
        clock: Clock,
        allowed: Collection[bytes] | None = None,
        most: int = MOST_CONNECTIONS,
    ) -> None:
        self.own_id = own_id
        self._clock = clock
        self._allowed = None if allowed is None else frozenset(allowed)
        self._most = most
        self._connections: dict[bytes, PeerConnection] = {}
        self._probed: set[int] = set()
        self._on_connect: list[Watcher] = []
        self._on_disconnect: list[Watcher] = []
        self._waiting: list[tuple[Predicate, Deferred[bool]]] = []

    # Who may connect.

    def allows(self, peer_id: bytes) -> bool:
        """Tell whether a node may be connected at all."""
        return peer_id != self.own_id and (self._allowed is None or peer_id in self._allowed)

    def admit(self, peer_id: bytes) -> None:
        """Decide on a peer that dialled and has proved itself, before its Hello is answered.

        A connection that keeps it out is asked for a sign of life, and aborted without one, so
        that a peer that was cut off gets in soon.

        Args:
            peer_id: the dialler, 20 bytes.

        Raises:
            NotAllowedError: the node is not on the list, or is this node.
            AlreadyConnectedError: another connection to it stands and stays.
            BusyError: the table is full.
        """
        if not self.allows(peer_id):
            raise NotAllowedError("this node may not connect here")
        standing = self.get(peer_id)
        if standing is not None:
            if self._outranks(standing, dialled=False):
                self._probe(standing)
                raise AlreadyConnectedError("another connection between these two nodes stands")
        elif len(self._connections) >= self._most:
            raise BusyError("this node has as many connections as it takes")

    def _outranks(self, standing: PeerConnection, *, dialled: bool) -> bool:
        """Tell whether ``standing`` stays when another comes up, which we dialled or not."""
        if standing.dialled == dialled:
            return False
        we_are_lower = self.own_id < standing.peer_id
        return standing.dialled == we_are_lower

    def _probe(self, connection: PeerConnection) -> None:
        if id(connection) in self._probed:
            return
        self._probed.add(id(connection))

        async def probe() -> None:
            try:
                await connection.call(Ping, deadline=PROBE_SECONDS)
            except AmpgridError:
                connection.abort("no sign of life while its peer connects again")
            finally:
                self._probed.discard(id(connection))

        Deferred.fromCoroutine(probe()).addErrback(
            lambda failure: _log.failure("a probe failed", failure)
        )

    # Coming and going.

    def add(self, connection: PeerConnection, dialled: bool | None = None) -> bool:
        """Take a connection whose Hello is done.

        Args:
            connection: the connection.
            dialled: whether this end dialled; what the connection says if not given.

        Returns:
            Whether it is in the table; otherwise another one stays and this one was aborted.
        """
        peer_id = connection.peer_id
        standing = self.get(peer_id)
        reason = ""
        if not self.allows(peer_id):
            reason = "this peer is not allowed here"
        elif standing is not None:
            mine = connection.dialled if dialled is None else dialled
            if self._outranks(standing, dialled=mine):
                reason = "another connection to this peer stays"
                self._probe(standing)
        elif len(self._connections) >= self._most:
            reason = "as many connections as this node takes"
        if reason:
            connection.abort(reason)
            return False
        self._connections[peer_id] = connection
        if standing is not None:
            standing.abort("a newer connection to the same peer replaces it")
        connection.when_lost(lambda: self._lost(connection))
        if self._connections.get(peer_id) is connection:
            _notify(self._on_connect, connection)
            self._look_again()
        return connection.connected

    def _lost(self, connection: PeerConnection) -> None:
        if self._connections.get(connection.peer_id) is connection:
            del self._connections[connection.peer_id]
        _notify(self._on_disconnect, connection)
        self._look_again()

    def on_connect(self, watcher: Watcher) -> None:
        """Call ``watcher`` with each connection that comes into the table."""
        self._on_connect.append(watcher)

    def on_disconnect(self, watcher: Watcher) -> None:
        """Call ``watcher`` with each connection of the table that is lost.

        Where a newer connection has replaced it, `get` returns that one.
        """
        self._on_disconnect.append(watcher)

    def close(self) -> None:
        """Abort every connection and stop all waiting."""
        for connection in list(self._connections.values()):
            connection.abort("this node is stopping")
        waiting, self._waiting = self._waiting, []
        for _, result in waiting:
            result.callback(False)

    # Looking.

    def get(self, peer_id: bytes) -> PeerConnection | None:
        """Return the connection to a peer, or None."""
        connection = self._connections.get(peer_id)
        return connection if connection is not None and connection.connected else None

    def connections(self, service: str | None = None) -> list[PeerConnection]:
        """Return all connections, or those to peers that offer a service."""
        return [
            connection
            for connection in self._connections.values()
            if connection.connected and (service is None or service in connection.peer_services)
        ]

    async def wait_for(
        self, predicate: Predicate, *, timeout_seconds: float | None = None
    ) -> bool:
        """Wait until ``predicate`` holds for the list of connections.

        Args:
            predicate: called with all connections, now and whenever they change.
            timeout_seconds: how long to wait at most; None for ever.

        Returns:
            Whether it held; False after the timeout or when the table was closed.
        """
        if predicate(self.connections()):
            return True
        result: Deferred[bool] = Deferred(lambda _: self._give_up(entry))
        entry = (predicate, result)
        self._waiting.append(entry)
        if timeout_seconds is None:
            return await result
        timer = self._clock.callLater(timeout_seconds, self._time_out, entry)
        try:
            return await result
        finally:
            if timer.active():
                timer.cancel()

    def _give_up(self, entry: tuple[Predicate, Deferred[bool]]) -> None:
        if entry in self._waiting:
            self._waiting.remove(entry)

    def _time_out(self, entry: tuple[Predicate, Deferred[bool]]) -> None:
        self._give_up(entry)
        entry[1].callback(False)

    def _look_again(self) -> None:
        connections = self.connections()
        for entry in list(self._waiting):
            if entry in self._waiting and entry[0](connections):
                self._waiting.remove(entry)
                entry[1].callback(True)


def _notify(watchers: list[Watcher], connection: PeerConnection) -> None:
    for watcher in list(watchers):
        try:
            watcher(connection)
        except Exception:  # noqa: BLE001 - one watcher's fault is not the next one's
            _log.failure("a watcher of connections failed")
