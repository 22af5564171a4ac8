"""Keeping connected: one dialler for every peer that has an address, up to a bound.

Introducers come first, then the peers listed by hand, then those of the peer book, the most
recently seen before the others. A peer without an address is not dialled; it serves over the
connections that it opens itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger

from ampgrid.crypto.identity import node_id_text, parse_node_id
from ampgrid.errors import PeerError
from ampgrid.formats.address import Address, Hint, format_hint
from ampgrid.peers._ports import Dial, PeerConnection, Uniform
from ampgrid.peers.announcements import PeerBook
from ampgrid.peers.dialler import Dialler
from ampgrid.peers.table import ConnectionTable
from ampgrid.ports import Clock, WallClock

_log = Logger()

#: Peers that are dialled, in all and at one moment.
MOST_DIALLED = 2_000
MOST_DIALS_AT_ONCE = 64

#: The introducers' service, as Hello names it.
INTRODUCER_SERVICE = "introducer"


class ConnectionKeeper:
    """Keeps this node connected to its introducers and its peers.

    Args:
        book: known peers.
        table: connections.
        dial: connects to a node, Hello included.
        introducers: addresses of the introducers.
        clock: time and timers.
        wall: wall-clock time, for the status.
        uniform: draws between two bounds.
        most: peers that are dialled.
    """

    def __init__(
        self,
        book: PeerBook,
        table: ConnectionTable,
        dial: Dial,
        *,
        introducers: Iterable[Address] = (),
        clock: Clock,
        wall: WallClock,
        uniform: Uniform,
        most: int = MOST_DIALLED,
    ) -> None:
        self._book = book
        self._table = table
        self._dial = dial
        self._introducers = {a.node_id: a for a in introducers if a.node_id != table.own_id}
        self._clock = clock
        self._wall = wall
        self._uniform = uniform
        self._most = most
        self._turns = DeferredSemaphore(MOST_DIALS_AT_ONCE)
        self._diallers: dict[bytes, Dialler] = {}
        self._since: dict[bytes, float] = {}
        self._unreached: set[bytes] = set()
        self._running = False
        table.on_connect(self._connected)
        table.on_disconnect(self._disconnected)
        book.on_change(self._changed)

    def start(self) -> None:
        """Begin to dial."""
        self._running = True
        known = [peer.announcement.node_id for peer in self._book.peers()]
        for node_id in dict.fromkeys((*self._introducers, *self._book.by_hand, *known)):
            self._changed(node_id)

    def stop(self) -> None:
        """Dial no more; connections are left alone."""
        self._running = False
        for dialler in self._diallers.values():
            dialler.stop()
        self._diallers.clear()

    # What happens.

    def _hints(self, node_id: bytes) -> tuple[Hint, ...]:
        own = self._introducers[node_id].hints if node_id in self._introducers else ()
        return tuple(dict.fromkeys((*own, *self._book.hints(node_id))))

    def _changed(self, node_id: bytes) -> None:
        if not self._running or not self._table.allows(node_id):
            return
        hints = self._hints(node_id)
        dialler = self._diallers.get(node_id)
        if dialler is None:
            if not hints or len(self._diallers) >= self._most:
                return
            dialler = self._diallers[node_id] = self._new_dialler(node_id)
            if self._table.get(node_id) is not None:
                dialler.connected()
        dialler.announced(hints)
        if not hints and self._table.get(node_id) is None:
            dialler.stop()
            del self._diallers[node_id]
            self._since.pop(node_id, None)
            self._unreached.discard(node_id)
            self._take_another()

    def _new_dialler(self, node_id: bytes) -> Dialler:
        def note(_: str) -> None:
            self._since[node_id] = self._wall()

        self._since[node_id] = self._wall()
        return Dialler(
            node_id,
            own_id=self._table.own_id,
            dial=self._dial_in_turn,
            clock=self._clock,
            uniform=self._uniform,
            on_state=note,
        )

    def _take_another(self) -> None:
        """Dial one more of those for whom there was no room."""
        if len(self._diallers) + 1 < self._most:
            return  # there was room before, so nobody waits for it
        for peer in self._book.peers():
            node_id = peer.announcement.node_id
            if node_id not in self._diallers and self._hints(node_id):
                self._changed(node_id)
                return

    async def _dial_in_turn(self, node_id: bytes, hints: Sequence[Hint]) -> PeerConnection:
        await self._turns.acquire()
        try:
            return await self._dial(node_id, hints)
        except PeerError as error:
            self._failed(node_id, error)
            raise
        finally:
            self._turns.release()

    def _failed(self, node_id: bytes, error: PeerError) -> None:
        """Log the first failure, and no more until it is over: it is tried for ever."""
        if node_id in self._unreached or self._table.get(node_id) is not None:
            return
        self._unreached.add(node_id)
        _log.warn("no connection to {who}: {error}", who=self._called(node_id), error=str(error))

    def _called(self, node_id: bytes) -> str:
        kind = "introducer" if node_id in self._introducers else "peer"
        return f"{kind} {node_id_text(node_id)}"

    def _connected(self, connection: PeerConnection) -> None:
        node_id = connection.peer_id
        self._since[node_id] = self._wall()
        if node_id in self._unreached:
            self._unreached.discard(node_id)
            _log.info("connected to {who} at last", who=self._called(node_id))
        if node_id in self._diallers:
            self._diallers[node_id].connected()
        self._saw(node_id)

    def _disconnected(self, connection: PeerConnection) -> None:
        node_id = connection.peer_id
        if self._table.get(node_id) is not None:
            return  # another one has replaced it
        if node_id in self._diallers:
            self._diallers[node_id].disconnected()
        else:
            self._since.pop(node_id, None)
        self._saw(node_id)

    def _saw(self, node_id: bytes) -> None:
        if self._running:
            Deferred.fromCoroutine(self._book.saw(node_id)).addErrback(
                lambda failure: _log.failure("a peer could not be noted as seen", failure)
            )

    # Looking.

    def last_error(self, node_id: str) -> str:
        """Return why the last try to reach a node (id as text) failed, empty if it did not."""
        dialler = self._diallers.get(parse_node_id(node_id))
        return "" if dialler is None else dialler.last_error

    def status(self) -> list[dict[str, Any]]:
        """Tell of every peer that is known or connected, introducers first, for JSON.

        Returns:
            Dictionaries of node_id (text), nickname, state, addresses ("HOST:PORT"), services,
            software, dialled (None if not connected), since (seconds since 1970, or None),
            last_error (one line), is_introducer. The state is one of connected, holding,
            dialling, waiting, idle, and known for a peer that is not dialled.
        """
        known = [peer.announcement.node_id for peer in self._book.peers()]
        connected = [connection.peer_id for connection in self._table.connections()]
        everyone = (*self._introducers, *self._book.by_hand, *connected, *known)
        return [self._status_of(node_id) for node_id in dict.fromkeys(everyone)]

    def _status_of(self, node_id: bytes) -> dict[str, Any]:
        connection = self._table.get(node_id)
        dialler = self._diallers.get(node_id)
        known = self._book.get(node_id)
        nickname, software, services = "", "", frozenset[str]()
        if connection is not None:
            nickname, software = connection.peer_nickname, connection.peer_software
            services = connection.peer_services
        elif known is not None:
            nickname, software = known.announcement.nickname, known.announcement.software
            services = frozenset(known.announcement.services)
        state = "known" if dialler is None else dialler.state
        return {
            "node_id": node_id_text(node_id),
            "nickname": nickname,
            "state": state if connection is None else "connected",
            "addresses": [format_hint(hint) for hint in self._hints(node_id)],
            "services": sorted(services),
            "software": software,
            "dialled": None if connection is None else connection.dialled,
            "since": self._since.get(node_id),
            "last_error": "" if dialler is None else dialler.last_error,
            "is_introducer": node_id in self._introducers or INTRODUCER_SERVICE in services,
        }
