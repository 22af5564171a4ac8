"""Commands that each end of a connection answers."""

from __future__ import annotations

from twisted.protocols import amp

from ampgrid.commands import errors as e
from ampgrid.commands.arguments import Count, Exact, Text
from ampgrid.commands.base import GridCommand, error_map

#: The version of the protocol that this package speaks, and the oldest that it still answers.
PROTOCOL_VERSION = 1
OLDEST_VERSION = 1

_HELLO = [
    (b"version", Count(65_535)),
    (b"oldest", Count(65_535)),
    (b"services", Text(200)),
    (b"software", Text(100)),
    (b"nickname", Text(200)),
    (b"max_calls", Count(65_535)),
    (b"max_bytes", Count(2**31)),
    (b"proof", Exact(32)),
]


class StartTLS(amp.Command):
    """Switch the connection to TLS 1.3; the first box, and the only one in clear text.

    It has no arguments and an empty answer, both of one exact spelling. Anything else before
    the handshake, and any byte behind it in the clear, aborts the connection.

    :answered-by: the end that accepted the connection
    :needs: nothing
    :bound: 64 bytes each way
    :repeat: no, once a connection
    :since: 1
    """

    commandName = b"StartTLS"


class Hello(GridCommand):
    """Prove membership of the grid and tell version, services and limits.

    The first Command in TLS, sent by the end that dialled; no other is answered before it.
    ``proof`` is an HMAC-SHA-256 under the grid's secret over the sender's role, both public
    keys and the exporter of this TLS session, so each end proves for itself and nothing can be
    carried over from another connection. ``services`` is a list joined with commas.
    ``max_calls`` and ``max_bytes`` are the calls, and the bytes of unanswered calls, that the
    sender takes at once; more is an abort.

    :answered-by: the end that accepted the connection
    :needs: the TLS handshake
    :bound: 1 KiB each way
    :repeat: no, once a connection
    :since: 1
    """

    arguments = _HELLO
    response = _HELLO
    errors = error_map(e.WrongGridError, e.VersionMismatchError, e.AlreadyConnectedError)


class Ping(GridCommand):
    """Show that the connection is alive; sent after a minute of silence.

    :answered-by: each end
    :needs: Hello
    :bound: 64 bytes each way
    :repeat: yes
    :since: 1
    """
