"""Waiting until a node has met its peers: what it does first may need them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from ampgrid.errors import NotEnoughPeersError
from ampgrid.node.drive import WANTED_REPLICAS, NodeDrive
from ampgrid.node.sizes import format_count
from ampgrid.peers import ConnectionKeeper, ConnectionTable
from ampgrid.ports import Clock

#: Seconds after its start in which a node gives its peers time to be met.
SETTLE_SECONDS = 10.0
_LOOK_SECONDS = 0.1
#: So long after it met somebody an introducer may be about to name more, seconds.
_QUIET_SECONDS = 3.0


class Settling:
    """Knows how far a node that has just started has come in meeting its peers.

    Args:
        table: the connections.
        keeper: dials the known peers.
        drive: knows who keeps directories.
        servers: returns the storage peers that are connected now.
        happy: returns how many servers of happiness a file should have now.
        clock: time and timers.
    """

    def __init__(
        self,
        table: ConnectionTable,
        keeper: ConnectionKeeper,
        drive: NodeDrive,
        servers: Callable[[], list[Any]],
        happy: Callable[[], int],
        clock: Clock,
    ) -> None:
        self._table = table
        self._keeper = keeper
        self._drive = drive
        self._servers = servers
        self._happy = happy
        self._clock = clock
        self._settled_by = 0.0
        self._met_at = 0.0
        self._all_tried = False

    def begin(self) -> None:
        """The node has started."""
        self._settled_by = self._clock.seconds() + SETTLE_SECONDS

    def met(self) -> None:
        """A peer is connected."""
        self._met_at = self._clock.seconds()

    async def wait_for_peers(self, count: int, seconds: float) -> int:
        """Wait until that many storage peers are connected; return how many are.

        Raises:
            NotEnoughPeersError: they were not within ``seconds``.
        """
        enough = await self._table.wait_for(
            lambda _connections: len(self._servers()) >= count, timeout_seconds=seconds
        )
        found = len(self._servers())
        if not enough:
            raise NotEnoughPeersError(
                f"{format_count(found, 'storage peer')} connected, {count} were asked for; "
                "look at 'ampgrid status' for who is missing and why"
            )
        return found

    async def settle(self, count: int | None, check: Callable[[], None]) -> None:
        """On a node that has just started, wait until it has met its peers.

        That is until ``count`` storage peers are connected and every other known one has been
        tried, and never longer than until `SETTLE_SECONDS` after the start.

        Args:
            count: storage peers that are needed; None for the happiness that is wanted, which
                changes when an introducer gives its advice.
            check: called at every look; raises to end the wait.
        """

        def enough() -> bool:
            return len(self._servers()) >= (self._happy() if count is None else count)

        await self._settle(enough, check)

    async def settle_directories(self, check: Callable[[], None]) -> None:
        """On a node that has just started, wait until it has met those who keep directories.

        As `settle` does, until there are as many as a directory has replicas, or everybody is
        met who is known: in a small grid nobody else will come.
        """
        await self._settle(
            lambda: len(self._drive.replicas()) >= WANTED_REPLICAS, check, self._has_met_all
        )

    def _has_met_all(self) -> bool:
        """Tell whether everybody who is known is connected, and nobody is about to be named."""
        peers = self._keeper.status()
        if not peers or any(peer["state"] != "connected" for peer in peers):
            return False
        quiet = self._clock.seconds() - self._met_at >= _QUIET_SECONDS
        return quiet or not any(peer["is_introducer"] for peer in peers)

    async def _settle(
        self,
        enough: Callable[[], bool],
        check: Callable[[], None],
        complete: Callable[[], bool] = lambda: False,
    ) -> None:
        while self._clock.seconds() < self._settled_by:
            if complete():
                return
            if enough():
                # Looked at until it holds once: with many peers that is work.
                self._all_tried = self._all_tried or not any(
                    peer["state"] in {"holding", "dialling"} and not peer["last_error"]
                    for peer in self._keeper.status()
                )
                if self._all_tried:
                    return
            pause: Deferred[None] = Deferred()
            self._clock.callLater(_LOOK_SECONDS, pause.callback, None)
            await pause
            check()
