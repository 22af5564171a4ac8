"""Keeping connected: a dialler for every peer that is to be had, and turns for all others.

Introducers, the peers listed by hand and those of the peer book that a dial has reached before
have a dialler each, up to a bound; those that were connected most recently come first. All
others may be anybody's invention, with addresses of strangers: they share the few slots of a
`Rotation`, and the first of them that a dial reaches gets a dialler. A peer without an address
is not dialled; it serves over the connections that it opens itself.

Spec: ``docs/specs/wire.md``, "Dialling".
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger

from ampgrid.crypto.identity import node_id_text, parse_node_id
from ampgrid.errors import NotConnectedError, PeerError
from ampgrid.formats.address import Address, Hint, format_hint
from ampgrid.peers._ports import Dial, PeerConnection, Uniform
from ampgrid.peers.announcements import KnownPeer, PeerBook
from ampgrid.peers.dialler import Dialler
from ampgrid.peers.rotation import SLOTS, Rotation
from ampgrid.peers.table import ConnectionTable
from ampgrid.ports import Clock, WallClock

_log = Logger()

#: Peers that have a dialler, and how many of them are dialled at one moment.
MOST_DIALLED = 2_000
MOST_DIALS_AT_ONCE = 64

#: Addresses that are dialled of a peer which no dial has reached yet.
MOST_UNPROVEN_HINTS = 4

#: A peer that was not connected for so long, and never reached, is forgotten after so many
#: turns in a row that came to nothing.
FORGET_SECONDS = 7 * 86_400.0
FORGET_FAILURES = 8

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
        most: peers that have a dialler.
        slots: peers without one that are dialled at one moment.
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
        slots: int = SLOTS,
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
        self._trials: dict[bytes, Dialler] = {}
        self._rotation = Rotation(self._try_once, clock=clock, uniform=uniform, slots=slots)
        self._since: dict[bytes, float] = {}
        self._unreached: set[bytes] = set()
        self._running = False
        table.on_connect(self._connected)
        table.on_disconnect(self._disconnected)
        book.on_change(self._changed)

    def start(self) -> None:
        """Begin to dial."""
        self._running = True
        known = sorted(self._book.peers(), key=_rank, reverse=True)
        ids = [peer.announcement.node_id for peer in known]
        for node_id in dict.fromkeys((*self._introducers, *self._book.by_hand, *ids)):
            self._changed(node_id)

    def stop(self) -> None:
        """Dial no more; connections are left alone."""
        self._running = False
        self._rotation.stop()
        for dialler in (*self._diallers.values(), *self._trials.values()):
            dialler.stop()
        self._diallers.clear()
        self._trials.clear()

    # Who is dialled.

    def _hints(self, node_id: bytes) -> tuple[Hint, ...]:
        own = self._introducers[node_id].hints if node_id in self._introducers else ()
        return tuple(dict.fromkeys((*own, *self._book.hints(node_id))))

    def _is_listed(self, node_id: bytes) -> bool:
        return node_id in self._introducers or node_id in self._book.by_hand

    def _was_reached(self, node_id: bytes) -> bool:
        known = self._book.get(node_id)
        return known is not None and known.last_reached > 0

    def _changed(self, node_id: bytes) -> None:
        """Look again at a peer that was announced, listed, met or dropped."""
        if not self._running or not self._table.allows(node_id):
            return
        hints = self._hints(node_id)
        connection = self._table.get(node_id)
        known = self._book.get(node_id)
        if connection is not None and known is not None and not known.last_connected:
            self._met(connection)  # it was announced after it came
        if node_id not in self._diallers and hints:
            self._give_dialler(node_id)
        if node_id in self._diallers:
            self._diallers[node_id].announced(hints)
            if not hints and connection is None:
                self._drop_dialler(node_id)
                self._take_another()
        elif hints:
            self._rotation.add(node_id)
            if node_id in self._trials:
                self._trials[node_id].announced(self._trial_hints(node_id))
            if connection is not None:
                self._rotation.connected(node_id)
        else:
            self._end_trial(node_id)
            self._rotation.remove(node_id)
            if connection is None:
                self._since.pop(node_id, None)

    # Those that have a dialler.

    def _give_dialler(self, node_id: bytes) -> None:
        """Give a peer a dialler if it earns one and there is room, or a lesser one to make it."""
        if not self._is_listed(node_id) and not self._was_reached(node_id):
            return
        if len(self._diallers) >= self._most and not self._make_room(node_id):
            return
        self._end_trial(node_id)
        self._rotation.remove(node_id)
        dialler = self._new_dialler(node_id, self._dial_in_turn)
        self._diallers[node_id] = dialler
        if self._table.get(node_id) is not None:
            dialler.connected()

    def _make_room(self, node_id: bytes) -> bool:
        """Take the dialler from who was not connected for longest; tell if there is one."""
        idle = [n for n in self._diallers if not self._is_listed(n) and not self._table.get(n)]
        if not idle:
            return False
        last = min(idle, key=self._last_connected)
        newer = self._last_connected(node_id) > self._last_connected(last)
        if not newer and not self._is_listed(node_id):
            return False
        self._drop_dialler(last)
        self._rotation.add(last)
        return True

    def _last_connected(self, node_id: bytes) -> float:
        known = self._book.get(node_id)
        return 0.0 if known is None else known.last_connected

    def _drop_dialler(self, node_id: bytes) -> None:
        self._diallers.pop(node_id).stop()
        self._since.pop(node_id, None)
        self._unreached.discard(node_id)

    def _new_dialler(self, node_id: bytes, dial: Dial, *, once: bool = False) -> Dialler:
        def note(state: str) -> None:
            self._since[node_id] = self._wall()
            if once and state == "waiting":
                self._tried(node_id, dialler)

        self._since[node_id] = self._wall()
        dialler = Dialler(
            node_id,
            own_id=self._table.own_id,
            dial=dial,
            clock=self._clock,
            uniform=self._uniform,
            on_state=note,
        )
        return dialler

    def _take_another(self) -> None:
        """Give a dialler to one more of those for whom there was no room."""
        if len(self._diallers) + 1 < self._most:
            return  # there was room before, so nobody waits for it
        for peer in sorted(self._book.peers(), key=_rank, reverse=True):
            node_id = peer.announcement.node_id
            if not peer.last_reached:
                return
            if node_id not in self._diallers and self._hints(node_id):
                self._changed(node_id)
                return

    async def _dial_in_turn(self, node_id: bytes, hints: Sequence[Hint]) -> PeerConnection:
        async def dial() -> PeerConnection:
            if not self._running:  # a dial that ended has just left its place to this one
                raise NotConnectedError("this node is stopping")
            try:
                return await self._dial(node_id, hints)
            except PeerError as error:
                self._failed(node_id, error)
                raise

        # The place is given back by a callback: the end of a coroutine may also be that of the
        # program, which must not go on with the next.
        return await self._turns.run(lambda: Deferred.fromCoroutine(dial()))

    def _failed(self, node_id: bytes, error: PeerError) -> None:
        """Log the first failure, and no more until it is over: it is tried for ever."""
        if node_id in self._unreached or self._table.get(node_id) is not None:
            return
        self._unreached.add(node_id)
        _log.warn("no connection to {who}: {error}", who=self._called(node_id), error=str(error))

    def _called(self, node_id: bytes) -> str:
        kind = "introducer" if node_id in self._introducers else "peer"
        return f"{kind} {node_id_text(node_id)}"

    # Those that take turns.

    def _trial_hints(self, node_id: bytes) -> tuple[Hint, ...]:
        hints = self._hints(node_id)
        proven = self._is_listed(node_id) or self._was_reached(node_id)
        return hints if proven else hints[:MOST_UNPROVEN_HINTS]

    def _try_once(self, node_id: bytes) -> None:
        self._trials[node_id] = self._new_dialler(node_id, self._dial, once=True)
        self._trials[node_id].announced(self._trial_hints(node_id))

    def _tried(self, node_id: bytes, dialler: Dialler) -> None:
        """A trial came to nothing."""
        if self._trials.get(node_id) is not dialler:
            return
        self._end_trial(node_id)
        self._rotation.failed(node_id, dialler.last_error)
        known = self._book.get(node_id)
        if (
            known is not None
            and not known.last_reached
            and not self._is_listed(node_id)
            and self._rotation.failures(node_id) >= FORGET_FAILURES
            and self._wall() - max(known.first_seen, known.last_connected) > FORGET_SECONDS
        ):
            self._note(self._book.forget(node_id))

    def _end_trial(self, node_id: bytes) -> None:
        dialler = self._trials.pop(node_id, None)
        if dialler is not None:
            dialler.stop()

    # Coming and going.

    def _connected(self, connection: PeerConnection) -> None:
        node_id = connection.peer_id
        self._since[node_id] = self._wall()
        if node_id in self._unreached:
            self._unreached.discard(node_id)
            _log.info("connected to {who} at last", who=self._called(node_id))
        if node_id in self._diallers:
            self._diallers[node_id].connected()
        if node_id in self._trials:
            # It lets go of its dial, whose connection this most often is, before it is stopped.
            self._trials[node_id].connected()
            self._end_trial(node_id)
        if node_id in self._rotation:
            self._rotation.connected(node_id)
        self._met(connection)
        if node_id not in self._diallers and self._was_reached(node_id):
            self._changed(node_id)

    def _disconnected(self, connection: PeerConnection) -> None:
        node_id = connection.peer_id
        if self._table.get(node_id) is not None:
            return  # another one has replaced it
        if node_id in self._diallers:
            self._diallers[node_id].disconnected()
        else:
            self._since.pop(node_id, None)
        if node_id in self._rotation:
            self._rotation.disconnected(node_id)
        self._met(connection)

    def _met(self, connection: PeerConnection) -> None:
        self._note(self._book.met(connection.peer_id, reached=connection.dialled))

    def _note(self, writing: Coroutine[Any, Any, None]) -> None:
        if not self._running:
            writing.close()
            return
        Deferred.fromCoroutine(writing).addErrback(
            lambda failure: _log.failure("a peer could not be noted", failure)
        )

    # Looking.

    def last_error(self, node_id: str) -> str:
        """Return why the last try to reach a node (id as text) failed, empty if it did not."""
        return self._state_of(parse_node_id(node_id))[1]

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

    def _state_of(self, node_id: bytes) -> tuple[str, str]:
        """Return how far the dialling of a peer is, and why the last dial failed."""
        if self._table.get(node_id) is not None:
            return "connected", ""
        dialler = self._diallers.get(node_id) or self._trials.get(node_id)
        state, last_error = "known", ""
        if node_id in self._rotation:
            # Who has not been tried yet waits for its first turn.
            state = "waiting" if self._rotation.failures(node_id) else "holding"
            last_error = self._rotation.last_error(node_id)
        if dialler is not None:
            state, last_error = dialler.state, dialler.last_error or last_error
        return state, last_error

    def _status_of(self, node_id: bytes) -> dict[str, Any]:
        connection = self._table.get(node_id)
        known = self._book.get(node_id)
        nickname, software, services = "", "", frozenset[str]()
        if connection is not None:
            nickname, software = connection.peer_nickname, connection.peer_software
            services = connection.peer_services
        elif known is not None:
            nickname, software = known.announcement.nickname, known.announcement.software
            services = frozenset(known.announcement.services)
        state, last_error = self._state_of(node_id)
        return {
            "node_id": node_id_text(node_id),
            "nickname": nickname,
            "state": state,
            "addresses": [format_hint(hint) for hint in self._hints(node_id)],
            "services": sorted(services),
            "software": software,
            "dialled": None if connection is None else connection.dialled,
            "since": self._since.get(node_id),
            "last_error": last_error,
            "is_introducer": node_id in self._introducers or INTRODUCER_SERVICE in services,
        }


def _rank(peer: KnownPeer) -> tuple[bool, float, float]:
    return peer.last_reached > 0, peer.last_connected, peer.last_seen
