"""The introduced: announces this node to its introducers and takes what they pass on.

Only introducers that the operator configured are believed, and of them only which announcements
exist: each is signed by its own node, and one that does not hold is skipped and counted.

Spec: ``docs/specs/wire.md``, "Introduction".
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.protocols import amp

from ampgrid.commands.errors import BadAnnouncementError, BadArgumentError, NotAllowedError
from ampgrid.commands.introduction import (
    Announce,
    NewPeers,
    SetEncodingParameters,
    SetPublicRoot,
)
from ampgrid.crypto.identity import node_id_text
from ampgrid.errors import BadArgumentValueError, FormatError, NotConnectedError, PeerError
from ampgrid.peers._ports import PeerConnection, PeerStore, Uniform
from ampgrid.peers.announcements import PeerBook
from ampgrid.peers.keeping import INTRODUCER_SERVICE
from ampgrid.peers.parameters import ADVICE_KEY, GridParameters
from ampgrid.peers.table import ConnectionTable
from ampgrid.ports import Clock, Connection, DelayedCall, Threads

_log = Logger()

#: After a failed Announce over a connection that stays, the next try comes after about so long.
RETRY_SECONDS = 30.0

_PLACE = struct.Struct(">8sQ")


@define(eq=False)
class _Introducer:
    """What is known of one configured introducer.

    Attributes:
        epoch: of its last box, 8 bytes; zeros at first.
        cursor: of its last box.
        announced: the announcement that it has taken over the present connection, or None.
        announcing: whether an Announce is under way.
        again: whether to look again when that ends.
        retry: the next try after a failure.
        last_error: why the last Announce failed, one line.
        skipped: how many bad announcements it has sent since this node started.
    """

    epoch: bytes = bytes(8)
    cursor: int = 0
    announced: bytes | None = None
    announcing: bool = False
    again: bool = False
    retry: DelayedCall | None = None
    last_error: str = ""
    skipped: int = 0


class Introduced:
    """This node's side towards its introducers.

    Args:
        book: takes the announcements.
        table: connections.
        database: keeps (epoch, cursor) of each introducer and the latest parameters.
        introducers: node ids of the configured introducers.
        clock: time and timers.
        threads: where the calls to the database run.
        uniform: draws between two bounds.
        public_root: takes the text of the cap of the public root that an introducer tells;
            None for a node that takes none.
        outrun: called with a sequence number when an announcement under this node's own key but
            with that higher number is about, as after the loss of the database.
    """

    def __init__(
        self,
        book: PeerBook,
        table: ConnectionTable,
        database: PeerStore,
        *,
        introducers: Collection[bytes],
        clock: Clock,
        threads: Threads,
        uniform: Uniform,
        public_root: Callable[[str], Awaitable[None]] | None = None,
        outrun: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._book = book
        self._public_root = public_root
        self._table = table
        self._database = database
        self._clock = clock
        self._threads = threads
        self._uniform = uniform
        self._outrun = outrun
        self._introducers = {
            node_id: _Introducer() for node_id in introducers if node_id != table.own_id
        }
        self._announcement: bytes | None = None
        self._sequence = -1
        self._parameters: GridParameters | None = None
        self._running = False

    async def start(self) -> None:
        """Load what was kept and announce this node to whoever is connected."""
        self._parameters, places = await self._threads.run(self._load)
        if self._book.damaged:
            places = {}  # what was lost must be told again
        for node_id, (epoch, cursor) in places.items():
            self._introducers[node_id].epoch = epoch
            self._introducers[node_id].cursor = cursor
        self._running = True
        self._table.on_connect(self._connected)
        for connection in self._table.connections():
            self._connected(connection)

    def _load(self) -> tuple[GridParameters | None, dict[bytes, tuple[bytes, int]]]:
        parameters, places = None, {}
        packed = self._database.get_meta(ADVICE_KEY)
        if packed is not None:
            try:
                parameters = GridParameters.unpack(packed)
            except FormatError as error:
                _log.warn("{error}", error=str(error))
        for node_id in self._introducers:
            packed = self._database.get_meta(self._place_key(node_id))
            if packed is not None and len(packed) == _PLACE.size:
                places[node_id] = _PLACE.unpack(packed)
        return parameters, places

    @staticmethod
    def _place_key(node_id: bytes) -> str:
        return f"introduced/{node_id_text(node_id)}"

    def stop(self) -> None:
        """Announce no more."""
        self._running = False
        for state in self._introducers.values():
            if state.retry is not None and state.retry.active():
                state.retry.cancel()

    # Announcing.

    def set_announcement(self, packed: bytes, sequence: int) -> None:
        """Announce this from now on, to every connected introducer and to those to come.

        Args:
            packed: this node's signed announcement.
            sequence: its sequence number.
        """
        self._announcement = packed
        self._sequence = sequence
        for node_id in self._introducers:
            connection = self._table.get(node_id)
            if connection is not None:
                self._announce(connection)

    def _connected(self, connection: PeerConnection) -> None:
        state = self._introducers.get(connection.peer_id)
        if state is not None and INTRODUCER_SERVICE in connection.peer_services:
            # It knows a subscriber by its connection.
            state.announced = None
            self._announce(connection)

    def _announce(self, connection: PeerConnection) -> None:
        state = self._introducers[connection.peer_id]
        if not self._running or INTRODUCER_SERVICE not in connection.peer_services:
            return
        if state.announcing:
            state.again = True
            return
        if state.retry is not None and state.retry.active():
            state.retry.cancel()
        state.announcing = True
        Deferred.fromCoroutine(self._announce_all(connection.peer_id, state)).addErrback(
            lambda failure: _log.failure("announcing failed in an unforeseen way", failure)
        )

    async def _announce_all(self, node_id: bytes, state: _Introducer) -> None:
        try:
            state.again = True
            while state.again and self._running:
                state.again = False
                await self._announce_once(node_id, state)
        finally:
            state.announcing = False

    async def _announce_once(self, node_id: bytes, state: _Introducer) -> None:
        connection = self._table.get(node_id)
        packed = self._announcement
        if connection is None or packed is None or packed == state.announced:
            return
        try:
            await connection.call(
                Announce, announcement=packed, epoch=state.epoch, cursor=state.cursor
            )
        except NotConnectedError:
            return  # the next connection announces anew
        except PeerError as error:
            state.last_error = str(error) or type(error).__name__
            # What it holds for bad will not get better; another announcement may.
            if not isinstance(error, BadAnnouncementError):
                delay = self._uniform(0.5 * RETRY_SECONDS, 1.5 * RETRY_SECONDS)
                state.retry = self._clock.callLater(delay, self._try_again, node_id)
            _log.info("an introducer took no announcement: {error}", error=state.last_error)
            return
        state.last_error = ""
        if self._table.get(node_id) is connection:
            state.announced = packed
        else:
            state.again = True

    def _try_again(self, node_id: bytes) -> None:
        connection = self._table.get(node_id)
        if connection is not None:
            self._announce(connection)

    # Being told.

    def _believed(self, connection: Connection) -> _Introducer:
        """Return what is known of the introducer at the other end.

        Raises:
            NotAllowedError: there is none that is configured.
        """
        state = self._introducers.get(connection.peer_id)
        if state is None:
            raise NotAllowedError("this node takes announcements from its introducers alone")
        return state

    async def new_peers(
        self, connection: Connection, epoch: bytes, cursor: int, announcements: Sequence[bytes]
    ) -> None:
        """Take announcements that an introducer passes on; durable when it returns.

        Args:
            connection: where they came from.
            epoch: of the introducer's log, 8 bytes.
            cursor: the position in it up to which this node now knows everything.
            announcements: packed announcements.

        Raises:
            NotAllowedError: the peer is no introducer of this node's.
        """
        state = self._believed(connection)
        learned = await self._book.learn(announcements)
        state.skipped += learned.bad
        if learned.bad:
            _log.warn(
                "{count} bad announcements from introducer {peer} were skipped",
                count=learned.bad,
                peer=node_id_text(connection.peer_id),
            )
        if learned.own_sequence is not None and learned.own_sequence > self._sequence:
            self._outrun(learned.own_sequence)
        if epoch != state.epoch or cursor > state.cursor:
            state.epoch, state.cursor = epoch, cursor
            key = self._place_key(connection.peer_id)
            await self._threads.run(self._database.set_meta, key, _PLACE.pack(epoch, cursor))

    # Encoding parameters.

    @property
    def parameters(self) -> GridParameters | None:
        """What an introducer advised last, or None."""
        return self._parameters

    async def set_parameters(self, connection: Connection, parameters: GridParameters) -> None:
        """Take the encoding parameters that an introducer advises; durable when it returns.

        Raises:
            NotAllowedError: the peer is no introducer of this node's.
            BadArgumentError: the parameters make no sense.
        """
        self._believed(connection)
        try:
            parameters.check()
        except BadArgumentValueError as error:
            raise BadArgumentError(str(error)) from None
        if parameters == self._parameters:
            return
        self._parameters = parameters
        await self._threads.run(self._database.set_meta, ADVICE_KEY, parameters.pack())

    # The public root.

    async def set_public_root(self, connection: Connection, uri: str) -> None:
        """Take the grid's public root that an introducer tells; durable when it returns.

        Raises:
            NotAllowedError: the peer is no introducer of this node's, or another root is known.
            BadArgumentError: it is no cap of a directory.
        """
        self._believed(connection)
        if self._public_root is not None:
            await self._public_root(uri)

    def status(self) -> list[dict[str, Any]]:
        """Tell of each configured introducer, for JSON.

        Returns:
            Dictionaries of node_id (text), connected, announced, last_error (one line) and
            skipped (bad announcements from it).
        """
        return [
            {
                "node_id": node_id_text(node_id),
                "connected": self._table.get(node_id) is not None,
                "announced": self._table.get(node_id) is not None and state.announced is not None,
                "last_error": state.last_error,
                "skipped": state.skipped,
            }
            for node_id, state in self._introducers.items()
        ]


class IntroducedResponder(amp.CommandLocator):
    """Answers what introducers call.

    Args:
        introduced: this node's side towards its introducers.
        connection: where the calls come from.
    """

    def __init__(self, introduced: Introduced, connection: Connection) -> None:
        super().__init__()
        self._introduced = introduced
        self._connection = connection

    @NewPeers.responder
    async def new_peers(
        self, epoch: bytes, cursor: int, announcements: list[bytes]
    ) -> dict[str, Any]:
        """Take announcements."""
        await self._introduced.new_peers(self._connection, epoch, cursor, announcements)
        return {}

    @SetEncodingParameters.responder
    async def set_encoding_parameters(self, needed: int, happy: int, total: int) -> dict[str, Any]:
        """Take encoding parameters."""
        parameters = GridParameters(needed, happy, total)
        await self._introduced.set_parameters(self._connection, parameters)
        return {}

    @SetPublicRoot.responder
    async def set_public_root(self, uri: str) -> dict[str, Any]:
        """Take the public root."""
        await self._introduced.set_public_root(self._connection, uri)
        return {}
