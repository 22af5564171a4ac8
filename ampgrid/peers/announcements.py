"""The peer book: the newest announcement of every node that was ever heard of.

It is kept in the node's database, so a grid that has met once works with every introducer gone.
Of two announcements of one node the one with the higher sequence number counts; an older one
loses silently. Peers that the operator listed by hand stand beside them.

Anybody in the grid can make any number of node ids and announce them. So the book remembers who
was ever connected, which costs a Hello with the node's key, and drops the others first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence

from attrs import evolve, frozen
from twisted.logger import Logger

from ampgrid.errors import FormatError, IntegrityError
from ampgrid.formats.address import Address, Hint, parse_hint
from ampgrid.formats.announcement import Announcement, unpack
from ampgrid.peers._ports import PeerStore
from ampgrid.ports import Threads, WallClock

_log = Logger()

#: The most announcements that are kept.
MOST_PEERS = 10_000

#: When the book is full, so many of those that were never connected make room at once.
_EVICTED_AT_ONCE = 100


@frozen
class KnownPeer:
    """A node that announced itself.

    Attributes:
        announcement: its newest announcement.
        packed: the same as it was signed, at most 800 bytes.
        first_seen: when it was first heard of, seconds since 1970.
        last_seen: when it last announced itself, connected or disconnected.
        last_connected: when it was last known to be connected, whoever dialled; 0 for never.
        last_reached: the same of connections that were dialled from here; 0 for never.
    """

    announcement: Announcement
    packed: bytes
    first_seen: float
    last_seen: float
    last_connected: float = 0.0
    last_reached: float = 0.0


@frozen
class Learned:
    """What came of a batch of announcements.

    Attributes:
        changed: node ids whose announcement is new or newer.
        old: how many were known already, or older than what is known.
        bad: how many were malformed or forged; they were skipped.
        own_sequence: the highest sequence number under this node's own key, or None.
    """

    changed: tuple[bytes, ...] = ()
    old: int = 0
    bad: int = 0
    own_sequence: int | None = None


def _read_all(packed: Sequence[bytes]) -> tuple[list[tuple[Announcement, bytes]], int]:
    """Return the announcements that hold, with their bytes, and how many do not."""
    good = []
    for item in packed:
        try:
            good.append((unpack(item), item))
        except (FormatError, IntegrityError):
            continue
    return good, len(packed) - len(good)


class PeerBook:
    """All known announcements, in memory and in the database.

    Args:
        database: where they are kept.
        own_id: this node's id, whose announcements are not kept.
        threads: where the calls to the database run.
        wall: wall-clock time.
        by_hand: peers that the operator listed.
        in_use: tells whether a node must not be dropped to make room.
        most: announcements kept.

    Attributes:
        damaged: rows that did not hold and were dropped at the start.
    """

    def __init__(
        self,
        database: PeerStore,
        *,
        own_id: bytes,
        threads: Threads,
        wall: WallClock,
        by_hand: Iterable[Address] = (),
        in_use: Callable[[bytes], bool] = lambda _: False,
        most: int = MOST_PEERS,
    ) -> None:
        self._database = database
        self._own_id = own_id
        self._threads = threads
        self._wall = wall
        self._by_hand = {a.node_id: a for a in by_hand if a.node_id != own_id}
        self._in_use = in_use
        self._most = most
        self._peers: dict[bytes, KnownPeer] = {}
        self._unsaved: dict[bytes, KnownPeer] = {}
        self._watchers: list[Callable[[bytes], None]] = []
        self.damaged = 0

    async def start(self) -> None:
        """Load what is known; rows that do not hold are dropped."""
        good, self.damaged = await self._threads.run(self._load)
        for known in good:
            node_id = known.announcement.node_id
            if node_id != self._own_id and node_id not in self._peers:
                self._peers[node_id] = known
        if self.damaged:
            _log.warn("{count} damaged announcements were dropped", count=self.damaged)

    def _load(self) -> tuple[list[KnownPeer], int]:
        good, bad = [], 0
        meetings = self._database.meetings()
        for node_id, _, packed, first_seen, last_seen in self._database.load():
            announcements, _ = _read_all([packed])
            if announcements and announcements[0][0].node_id == node_id:
                met = meetings.get(node_id, (0.0, 0.0))
                good.append(KnownPeer(*announcements[0], first_seen, last_seen, *met))
            else:
                self._database.forget(node_id)
                bad += 1
        return good, bad

    # Looking.

    def get(self, node_id: bytes) -> KnownPeer | None:
        """Return what a node announced, or None."""
        return self._peers.get(node_id)

    def peers(self) -> list[KnownPeer]:
        """Return all that announced themselves, the most recently seen first."""
        return sorted(self._peers.values(), key=lambda known: -known.last_seen)

    @property
    def by_hand(self) -> Mapping[bytes, Address]:
        """The peers that the operator listed, by node id."""
        return self._by_hand

    def hints(self, node_id: bytes) -> tuple[Hint, ...]:
        """Return the places to dial a node: those listed by hand, then those it announced."""
        hints: list[Hint] = []
        if node_id in self._by_hand:
            hints.extend(self._by_hand[node_id].hints)
        if node_id in self._peers:
            hints.extend(map(parse_hint, self._peers[node_id].announcement.addresses))
        return tuple(dict.fromkeys(hints))

    # Learning.

    def on_change(self, watcher: Callable[[bytes], None]) -> None:
        """Call ``watcher`` with each node id whose announcement came, changed or was dropped."""
        self._watchers.append(watcher)

    async def learn(self, packed: Sequence[bytes]) -> Learned:
        """Take announcements from whomever; their signatures decide.

        Args:
            packed: announcements as they were signed.

        Returns:
            What came of them; the new ones are durable.
        """
        good, bad = await self._threads.run(_read_all, packed)
        old, own_sequence = 0, None
        changed: list[bytes] = []
        now = self._wall()
        for announcement, item in good:
            node_id = announcement.node_id
            known = self._peers.get(node_id)
            if node_id == self._own_id:
                own_sequence = max(own_sequence or 0, announcement.sequence)
            elif known is not None and known.announcement.sequence >= announcement.sequence:
                old += 1
            else:
                if known is None:
                    known = KnownPeer(announcement, item, now, now)
                self._peers[node_id] = evolve(
                    known, announcement=announcement, packed=item, last_seen=now
                )
                self._unsaved[node_id] = self._peers[node_id]
                changed.append(node_id)
        dropped = self._make_room()
        if self._unsaved or dropped:
            # What an earlier failure of the disk left unsaved goes along.
            await self._save(dropped)
        for node_id in (*dict.fromkeys(changed), *dropped):
            self._notify(node_id)
        return Learned(tuple(dict.fromkeys(changed)), old, bad, own_sequence)

    async def _save(self, dropped: Sequence[bytes]) -> None:
        rows = dict(self._unsaved)
        await self._threads.run(self._write, rows, dropped)
        for node_id, known in rows.items():
            if self._unsaved.get(node_id) is known:
                del self._unsaved[node_id]

    def _write(self, rows: Mapping[bytes, KnownPeer], dropped: Sequence[bytes]) -> None:
        for node_id in dropped:
            self._database.forget(node_id)
        for node_id, known in rows.items():
            sequence = known.announcement.sequence
            self._database.put(node_id, sequence, known.packed, known.last_seen)

    def _make_room(self) -> list[bytes]:
        """Drop some when there are too many, the never connected first; return their node ids."""
        excess = len(self._peers) - self._most
        if excess <= 0:
            return []
        idle = [n for n in self._peers if n not in self._by_hand and not self._in_use(n)]
        strangers = sum(not self._peers[node_id].last_connected for node_id in idle)
        spare = min(_EVICTED_AT_ONCE, self._most // 10, strangers)
        dropped = heapq.nsmallest(max(excess, spare), idle, key=self._worth)
        for node_id in dropped:
            del self._peers[node_id]
            self._unsaved.pop(node_id, None)
        return dropped

    def _worth(self, node_id: bytes) -> tuple[float, float]:
        known = self._peers[node_id]
        return known.last_connected, known.last_seen

    async def met(self, node_id: bytes, *, reached: bool) -> None:
        """Note that a node is connected now, if it is known.

        Args:
            node_id: the node, 20 bytes.
            reached: whether the connection was dialled from here.
        """
        known = self._peers.get(node_id)
        if known is None:
            return
        now = self._wall()
        last_reached = now if reached else known.last_reached
        self._peers[node_id] = evolve(
            known, last_seen=now, last_connected=now, last_reached=last_reached
        )
        await self._threads.run(self._database.met, node_id, now, reached=reached)

    async def forget(self, node_id: bytes) -> None:
        """Drop what a node announced; it is known again when it announces itself anew."""
        if self._peers.pop(node_id, None) is not None:
            self._unsaved.pop(node_id, None)
            await self._threads.run(self._database.forget, node_id)
            self._notify(node_id)

    def _notify(self, node_id: bytes) -> None:
        for watcher in list(self._watchers):
            try:
                watcher(node_id)
            except Exception:  # noqa: BLE001 - one watcher's fault is not the next one's
                _log.failure("a watcher of announcements failed")
