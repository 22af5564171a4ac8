"""This node's own announcement: signed anew, under a rising number, whenever it changes."""

from __future__ import annotations

from collections.abc import Iterable

from ampgrid.crypto.identity import Identity
from ampgrid.formats.announcement import sign
from ampgrid.peers._ports import PeerStore
from ampgrid.ports import Threads, WallClock

_MOST_SEQUENCE = 2**62


class OwnAnnouncement:
    """Makes the announcements of this node.

    Numbers begin at the wall-clock time, so that a node which lost its database is not taken
    for its own past.

    Args:
        identity: the node's key.
        database: keeps the last number.
        threads: where the calls to the database run.
        wall: wall-clock time.

    Attributes:
        sequence: number of the last one made; -1 before the first.
    """

    def __init__(
        self, identity: Identity, database: PeerStore, *, threads: Threads, wall: WallClock
    ) -> None:
        self._identity = identity
        self._database = database
        self._threads = threads
        self._wall = wall
        self.sequence = -1

    async def make(
        self,
        *,
        nickname: str = "",
        services: Iterable[str] = (),
        software: str = "",
        version: int = 1,
        addresses: Iterable[str] = (),
        above: int = 0,
    ) -> bytes:
        """Sign an announcement under the next number, which is durable before it is used.

        Args:
            nickname: what people call the node.
            services: names of its services.
            software: name and version of the program.
            version: the highest protocol version that it speaks.
            addresses: places to dial, ``HOST:PORT``.
            above: a number under this node's key that is about; the new one is higher.

        Raises:
            BadArgumentValueError: something is malformed or all together too long.
        """
        # A number near the end would leave none for later.
        floor = max(self.sequence, above if above < _MOST_SEQUENCE else 0) + 1
        at_least = max(int(self._wall()), floor)
        self.sequence = await self._threads.run(self._database.next_sequence, at_least)
        return sign(
            self._identity,
            sequence=self.sequence,
            nickname=nickname,
            services=services,
            software=software,
            version=version,
            addresses=addresses,
        )
