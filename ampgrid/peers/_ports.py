"""What the rooms of the peers need of others: a connection that knows its peer, and a database.

`ampgrid.wire.connection.Connection` is the one, `ampgrid.store.peerdb.PeerDatabase` the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from ampgrid.formats.address import Hint
from ampgrid.ports import Connection


class PeerConnection(Connection, Protocol):
    """A connection whose Hello is done, with what the peer told in it."""

    @property
    def peer_services(self) -> frozenset[str]:
        """Names of the services that the peer offers."""
        ...

    @property
    def peer_nickname(self) -> str:
        """A name for people; proves nothing."""
        ...

    @property
    def peer_software(self) -> str:
        """Name and version of the peer's program."""
        ...

    @property
    def dialled(self) -> bool:
        """Whether this end dialled."""
        ...


#: Connects to the node with an id (20 bytes) at one of its places, Hello included.
Dial = Callable[[bytes, Sequence[Hint]], Awaitable[PeerConnection]]

#: Draws a number of seconds between two bounds (``random.Random().uniform``).
Uniform = Callable[[float, float], float]


class PeerStore(Protocol):
    """Announcements, a counter and small values that survive a restart; every call blocks.

    What a call wrote is durable when it returns. Any thread may call.
    """

    def load(self) -> list[tuple[bytes, int, bytes, float, float]]:
        """Return (node id, sequence, packed announcement, first seen, last seen) of all."""
        ...

    def put(self, node_id: bytes, sequence: int, packed: bytes, now: float) -> object:
        """Write the announcement of a node, seen ``now``, unless a newer one is there."""
        ...

    def meetings(self) -> dict[bytes, tuple[float, float]]:
        """Return {node id: (last connected, last reached)} of all that were ever connected."""
        ...

    def met(self, node_id: bytes, now: float, *, reached: bool) -> object:
        """Note that a node is connected ``now``, and whether a dial of ours did it."""
        ...

    def forget(self, node_id: bytes) -> object:
        """Drop the announcement of a node."""
        ...

    def next_sequence(self, at_least: int = 1) -> int:
        """Return a number higher than any returned before, and not below ``at_least``."""
        ...

    def get_meta(self, key: str) -> bytes | None:
        """Return a small value, or None."""
        ...

    def set_meta(self, key: str, value: bytes) -> object:
        """Write a small value: at most 64 KiB, and at most 1,000 of them."""
        ...
