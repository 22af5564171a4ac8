"""The introducer: takes announcements and passes them on to all who announced themselves.

What it passes on are signed announcements, so it can withhold but not forge. It gathers changes
for a second, sends at most 64 in a box and the next box only after the answer. A subscriber says
by (epoch, cursor) what it knows already.

Spec: ``docs/specs/wire.md``, "Introduction".
"""

from __future__ import annotations

import struct
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure

from ampgrid.commands.errors import (
    BadAnnouncementError,
    BadArgumentError,
    BusyError,
    NotAllowedError,
)
from ampgrid.commands.introduction import (
    MAX_ANNOUNCEMENTS_PER_BOX,
    Announce,
    NewPeers,
    SetEncodingParameters,
    SetPublicRoot,
)
from ampgrid.crypto.identity import node_id_text
from ampgrid.errors import FormatError, IntegrityError, NotConnectedError, PeerError
from ampgrid.formats.announcement import unpack
from ampgrid.peers._ports import PeerStore
from ampgrid.peers.allowance import Allowance
from ampgrid.peers.announcements import PeerBook
from ampgrid.peers.changelog import ChangeLog
from ampgrid.peers.parameters import GridParameters
from ampgrid.ports import Clock, Connection, DelayedCall, Entropy, Threads

_log = Logger()

#: Changes are gathered for so long before they are passed on.
GATHER_SECONDS = 1.0

#: After a failed push to a peer that stays connected, the next try comes so much later.
RETRY_SECONDS = 30.0

#: A peer may announce itself so often in a row, and then once in so many seconds.
ANNOUNCE_BURST = 10
ANNOUNCE_SECONDS = 5.0

#: So many nodes that are new here may announce themselves in a row, and then one in so many
#: seconds. Node ids cost nothing to make, and every peer is told of each and dials it.
NEWCOMER_BURST = 500
NEWCOMER_SECONDS = 10.0

EPOCH_SIZE = 8

_EPOCH_KEY = "introducer/epoch"
_CURSOR_KEY = "introducer/cursor"
_CURSOR = struct.Struct(">Q")
#: One line of the kept log: node id, position, sequence number of the announcement.
_LINE = struct.Struct(">20sQQ")
#: A page, one for each first byte of a node id, keeps its newest so many lines (62 KiB).
_LINES_PER_PAGE = 1_750


def _page_key(page: int) -> str:
    return f"introducer/log/{page:02x}"


@define(eq=False)
class _Subscriber:
    """A connected peer that announced itself.

    Attributes:
        connection: the connection to it.
        cursor: the position up to which it knows everything.
        sequence: sequence number of the announcement that it sent here.
        told: the encoding parameters that it was told, or None.
        told_root: the public root that it was told or refused, or None.
        pushing: whether a push is under way.
        again: whether to look again for something to push when that ends.
        allowance: how often it may announce itself.
        retry: the next try after a failed push.
    """

    connection: Connection
    allowance: Allowance
    cursor: int = 0
    sequence: int = -1
    told: GridParameters | None = None
    told_root: str | None = None
    pushing: bool = False
    again: bool = False
    retry: DelayedCall | None = None


class Introducer:
    """Passes announcements on.

    Args:
        book: where announcements are kept; its changes from elsewhere are passed on as well.
        database: where the epoch and the log are kept.
        clock: time and timers.
        threads: where the calls to the database run.
        entropy: for the epoch.
        parameters: the encoding parameters to advise, or None.
        gather_seconds: how long changes are gathered.
    """

    def __init__(
        self,
        book: PeerBook,
        database: PeerStore,
        *,
        clock: Clock,
        threads: Threads,
        entropy: Entropy,
        parameters: GridParameters | None = None,
        gather_seconds: float = GATHER_SECONDS,
    ) -> None:
        self._book = book
        self._database = database
        self._clock = clock
        self._threads = threads
        self._entropy = entropy
        self._parameters = None if parameters is None else parameters.check()
        self._public_root: str | None = None
        self._gather_seconds = gather_seconds
        self._epoch = b""
        self._changes = ChangeLog()
        # The sequence numbers that the announcements had when they got their positions.
        self._sequences: dict[bytes, int] = {}
        self._gathered: set[bytes] = set()
        self._timer: DelayedCall | None = None
        self._passing_on = False
        self._subscribers: dict[Connection, _Subscriber] = {}
        self._newcomers = Allowance(NEWCOMER_BURST, NEWCOMER_SECONDS, clock)
        self._running = False

    async def start(self) -> None:
        """Load the epoch and the log; the book must have been started."""
        sequences = {
            peer.announcement.node_id: peer.announcement.sequence for peer in self._book.peers()
        }
        self._epoch, cursor, places = await self._threads.run(self._load, sequences)
        self._changes.restore(places, cursor)
        self._sequences = {node_id: sequences[node_id] for node_id in places}
        self._running = True
        self._book.on_change(self._changed)
        for node_id in sequences.keys() - places.keys():
            self._changed(node_id)

    def _load(self, sequences: dict[bytes, int]) -> tuple[bytes, int, dict[bytes, int]]:
        epoch = self._database.get_meta(_EPOCH_KEY)
        if epoch is None or len(epoch) != EPOCH_SIZE:
            epoch = self._entropy(EPOCH_SIZE)
            self._database.set_meta(_EPOCH_KEY, epoch)
        packed = self._database.get_meta(_CURSOR_KEY)
        cursor = _CURSOR.unpack(packed)[0] if packed and len(packed) == _CURSOR.size else 0
        lines: list[tuple[bytes, int, int]] = []
        for page in range(256):
            packed = self._database.get_meta(_page_key(page)) or b""
            whole = len(packed) // _LINE.size * _LINE.size
            lines.extend(_LINE.iter_unpack(packed[:whole]))
        # Of another number: stopped between writing the announcement and its place.
        places = {n: at for n, at, sequence in lines if sequences.get(n) == sequence}
        return epoch, cursor, places

    def stop(self) -> None:
        """Pass nothing on any more."""
        self._running = False
        timers = [self._timer, *(s.retry for s in self._subscribers.values())]
        for timer in timers:
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = None
        self._subscribers.clear()

    # Taking announcements.

    async def announced(
        self, connection: Connection, packed: bytes, epoch: bytes, cursor: int
    ) -> None:
        """Take the announcement of the peer at the other end and subscribe it.

        Args:
            connection: where it came from.
            packed: the announcement.
            epoch: what the peer got last from here, 8 bytes.
            cursor: the position that came with it.

        Raises:
            BadAnnouncementError: it is malformed, forged or of another node.
            BusyError: the peer announces itself too often, or too many new ones do.
        """
        try:
            announcement = unpack(packed)
        except (FormatError, IntegrityError):
            raise BadAnnouncementError("the announcement is malformed or forged") from None
        if announcement.node_id != connection.peer_id:
            raise BadAnnouncementError("the announcement is of another node")
        subscriber = self._subscriber(connection)
        # Each announcement costs every other peer a box.
        if not subscriber.allowance.spend():
            raise BusyError("this peer announces itself too often; try again later")
        if self._book.get(announcement.node_id) is None and not self._newcomers.spend():
            raise BusyError("too many new nodes announce themselves at once; try again later")
        await self._book.learn([packed])
        knows_this = epoch == self._epoch and cursor <= self._changes.cursor
        subscriber.cursor = cursor if knows_this else 0
        subscriber.sequence = announcement.sequence
        subscriber.told = subscriber.told_root = None
        # In a later turn, so that the answer to Announce goes first.
        self._clock.callLater(0, self._push, subscriber)

    def _subscriber(self, connection: Connection) -> _Subscriber:
        subscriber = self._subscribers.get(connection)
        if subscriber is None:
            allowance = Allowance(ANNOUNCE_BURST, ANNOUNCE_SECONDS, self._clock)
            subscriber = _Subscriber(connection, allowance)
            self._subscribers[connection] = subscriber
            connection.when_lost(lambda: self._drop(connection))
        return subscriber

    def _drop(self, connection: Connection) -> None:
        subscriber = self._subscribers.pop(connection, None)
        if subscriber is not None and subscriber.retry is not None and subscriber.retry.active():
            subscriber.retry.cancel()

    # Gathering.

    def set_parameters(self, parameters: GridParameters) -> None:
        """Advise other encoding parameters from now on.

        Raises:
            BadArgumentValueError: they make no sense.
        """
        self._parameters = parameters.check()
        for subscriber in list(self._subscribers.values()):
            self._push(subscriber)

    def set_public_root(self, uri: str) -> None:
        """Tell all who announce themselves the cap of the grid's public root from now on."""
        self._public_root = uri
        for subscriber in list(self._subscribers.values()):
            self._push(subscriber)

    def _changed(self, node_id: bytes) -> None:
        if not self._running:
            return
        self._gathered.add(node_id)
        self._gather()

    def _gather(self, seconds: float | None = None) -> None:
        if self._running and self._gathered and self._timer is None and not self._passing_on:
            delay = self._gather_seconds if seconds is None else seconds
            self._timer = self._clock.callLater(delay, self._gathering_over)

    def _gathering_over(self) -> None:
        self._timer = None
        self._passing_on = True
        gathered, self._gathered = self._gathered, set()

        def failed(failure: Failure) -> None:
            _log.failure("changes could not be written; trying again later", failure)
            self._passing_on = False
            self._gathered |= gathered
            self._gather(RETRY_SECONDS)

        Deferred.fromCoroutine(self._pass_on(gathered)).addErrback(failed)

    async def _pass_on(self, gathered: set[bytes]) -> None:
        """Give each changed node its next position, then tell everybody."""
        placed: list[bytes] = []
        sequences = dict(self._sequences)
        for node_id in gathered:
            known = self._book.get(node_id)
            if known is None:
                self._changes.forget(node_id)
                sequences.pop(node_id, None)
            else:
                placed.append(node_id)
                sequences[node_id] = known.announcement.sequence
        rows = self._rows(placed, {node_id[0] for node_id in gathered}, sequences)
        # Durable first: a position that was told must never stand for another change.
        await self._threads.run(self._write, rows)
        for node_id in placed:
            self._changes.note(node_id)
        self._sequences = sequences
        self._passing_on = False
        for subscriber in list(self._subscribers.values()):
            self._push(subscriber)
        self._gather()

    def _rows(
        self, placed: list[bytes], pages: set[int], sequences: dict[bytes, int]
    ) -> list[tuple[str, bytes]]:
        """Return what to write: the pages on which ``placed`` get the next positions."""
        positions = dict(self._changes.positions)
        positions.update({n: self._changes.cursor + 1 + i for i, n in enumerate(placed)})
        lines: dict[int, list[bytes]] = {page: [] for page in pages}
        for node_id, position in sorted(positions.items(), key=lambda item: item[1]):
            if node_id[0] in pages:
                lines[node_id[0]].append(_LINE.pack(node_id, position, sequences[node_id]))
        rows = [(_page_key(page), b"".join(of[-_LINES_PER_PAGE:])) for page, of in lines.items()]
        return [*rows, (_CURSOR_KEY, _CURSOR.pack(self._changes.cursor + len(placed)))]

    def _write(self, rows: list[tuple[str, bytes]]) -> None:
        for key, value in rows:
            self._database.set_meta(key, value)

    # Passing on.

    def _push(self, subscriber: _Subscriber) -> None:
        if self._subscribers.get(subscriber.connection) is not subscriber:
            return
        if subscriber.pushing:
            subscriber.again = True
            return
        subscriber.pushing = True
        Deferred.fromCoroutine(self._push_all(subscriber)).addErrback(
            lambda failure: _log.failure("a push failed in an unforeseen way", failure)
        )

    async def _push_all(self, subscriber: _Subscriber) -> None:
        try:
            subscriber.again = True
            while subscriber.again:
                subscriber.again = False
                await self._push_parameters(subscriber)
                await self._push_public_root(subscriber)
                while await self._push_box(subscriber):
                    pass
        except NotConnectedError:
            self._drop(subscriber.connection)
        except PeerError as error:
            _log.info(
                "{peer} took no announcements: {error}",
                peer=node_id_text(subscriber.connection.peer_id),
                error=str(error) or type(error).__name__,
            )
            waits = subscriber.retry is not None and subscriber.retry.active()
            if not waits and subscriber.connection in self._subscribers:
                subscriber.retry = self._clock.callLater(RETRY_SECONDS, self._push, subscriber)
        finally:
            subscriber.pushing = False

    async def _push_parameters(self, subscriber: _Subscriber) -> None:
        parameters = self._parameters
        if parameters is None or parameters == subscriber.told:
            return
        await subscriber.connection.call(SetEncodingParameters, **parameters._asdict())
        subscriber.told = parameters

    async def _push_public_root(self, subscriber: _Subscriber) -> None:
        uri = self._public_root
        if uri is None or uri == subscriber.told_root:
            return
        try:
            await subscriber.connection.call(SetPublicRoot, uri=uri)
        except (NotAllowedError, BadArgumentError) as error:
            # It knows another one, or is of a version that knows none: the rest is told anyway.
            _log.info(
                "{peer} did not take the public root: {error}",
                peer=node_id_text(subscriber.connection.peer_id),
                error=str(error),
            )
        subscriber.told_root = uri

    async def _push_box(self, subscriber: _Subscriber) -> bool:
        """Send the next box, if there is something to tell; returns whether there was."""
        start = subscriber.cursor
        changes = self._changes.after(start, MAX_ANNOUNCEMENTS_PER_BOX)
        if not changes:
            return False
        announcements = []
        for _, node_id in changes:
            known = self._book.get(node_id)
            if known is None:
                continue
            # Its own comes back to a peer only if its number is higher than it seems to know.
            own = node_id == subscriber.connection.peer_id
            if not own or known.announcement.sequence > subscriber.sequence:
                announcements.append(known.packed)
        cursor = changes[-1][0]
        if announcements:
            await subscriber.connection.call(
                NewPeers, epoch=self._epoch, cursor=cursor, announcements=announcements
            )
        if subscriber.cursor == start:  # or it announced itself anew meanwhile
            subscriber.cursor = cursor
        return True

    def status(self) -> dict[str, Any]:
        """Tell how many announcements there are and how many peers listen, for JSON."""
        return {
            "announcements": len(self._book.peers()),
            "subscribers": len(self._subscribers),
            "cursor": self._changes.cursor,
            "parameters": None if self._parameters is None else list(self._parameters),
        }


class IntroducerResponder(amp.CommandLocator):
    """Answers what introducers answer.

    Args:
        introducer: the introducer.
        connection: where the calls come from.
    """

    def __init__(self, introducer: Introducer, connection: Connection) -> None:
        super().__init__()
        self._introducer = introducer
        self._connection = connection

    @Announce.responder
    async def announce(self, announcement: bytes, epoch: bytes, cursor: int) -> dict[str, Any]:
        """Take an announcement and subscribe the peer."""
        await self._introducer.announced(self._connection, announcement, epoch, cursor)
        return {}
