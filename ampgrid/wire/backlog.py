"""How much a connection keeps in the buffers of its socket: what the network takes soon.

Small boxes go before large ones, and operations take turns (`ampgrid.wire.outbound`), but what was
given to the socket goes out before all that comes later. On a slow line megabytes would lie there,
and a listing beside an upload would wait for seconds behind them. So the system is told to call a
socket full that has a little unsent (``TCP_NOTSENT_LOWAT``; it keeps what is on its way beside
that), and the reactor's own buffer is as large as the network has lately emptied it: small on a
slow line, and large where each turn of the reactor would cost more than it carries.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any, Final

from twisted.internet.interfaces import ISystemHandle

from ampgrid.ports import Clock

#: What the system has unsent at most when it calls the socket full, bytes.
UNSENT_BYTES: Final = 16 * 1024
#: The reactor's buffer is to be empty after about so long, seconds.
SOON_SECONDS: Final = 0.05
#: Its size in the beginning, and its bounds, bytes. Above some 256 KiB the memory that each read
#: takes costs more than the turns.
FIRST_BYTES: Final = 64 * 1024
LEAST_BYTES: Final = 16 * 1024
MOST_BYTES: Final = 256 * 1024


class Backlog:
    """Sets the sizes of the buffers of one socket.

    Args:
        clock: tells the time.
        transport: of the reactor. It takes no more than its ``bufferSize`` before it asks for a
            pause.
    """

    def __init__(self, clock: Clock, transport: Any) -> None:
        self._clock = clock
        self._transport = transport
        self._full_since: float | None = None
        transport.bufferSize = FIRST_BYTES
        lowest = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if lowest is not None and ISystemHandle.providedBy(transport):
            # A system that does not know it does without.
            with suppress(OSError):
                handle: Any = transport.getHandle()
                handle.setsockopt(socket.IPPROTO_TCP, lowest, UNSENT_BYTES)

    def filled(self) -> None:
        """Note that the buffer is full: the transport asked for a pause."""
        self._full_since = self._clock.seconds()

    def emptied(self) -> None:
        """Note that it is empty again, and choose its size by how long that took."""
        since, self._full_since = self._full_since, None
        if since is None:
            return
        took = self._clock.seconds() - since
        size = self._transport.bufferSize
        soon = MOST_BYTES if took <= 0 else int(size / took * SOON_SECONDS)
        self._transport.bufferSize = min(max(soon, LEAST_BYTES), MOST_BYTES)
