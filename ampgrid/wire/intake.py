"""How much is read from a socket at once: more while there is more than one read takes.

A read costs a turn of the reactor, one of TLS and one of the parser, whatever it brings, and what
came with one read is answered with one write. Twisted reads as much at once as it keeps to be
sent; but that is little (`ampgrid.wire.backlog`), and the two have nothing to do with each other.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet import main, tcp

#: What is read at once as a rule, and of a stream, bytes.
FIRST_BYTES: Final = 64 * 1024
MOST_BYTES: Final = 256 * 1024
#: A read that brings less shows that the stream is over.
_LITTLE_BYTES: Final = 16 * 1024


class Intake:
    """Reads from the socket of a transport of the reactor, in its place.

    Args:
        transport: gets what is read.
    """

    def __init__(self, transport: tcp.Connection) -> None:
        self._transport: Any = transport
        self._size = FIRST_BYTES

    def read(self) -> Any:
        """Read what is there; return why the connection ends, or None."""
        try:
            data = self._transport.socket.recv(self._size)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if len(data) == self._size:
            self._size = MOST_BYTES
        elif len(data) < _LITTLE_BYTES:
            self._size = FIRST_BYTES
        return self._transport._dataReceived(data)  # noqa: SLF001 - Twisted's


def take_streams(transport: Any) -> None:
    """Let a transport read more at once while a stream comes; one without a socket stays as is."""
    if isinstance(transport, tcp.Connection):
        transport.doRead = Intake(transport).read  # type: ignore[method-assign]
