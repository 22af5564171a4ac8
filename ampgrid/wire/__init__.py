"""Connections: AMP inside TLS between peers, and AMP over a Unix socket for the node's user.

The only room that touches the network. It knows how connections are made, proved, bounded and
ended; what is said over them is the business of the Commands and of the rooms above.
"""

from ampgrid.wire.connection import Connection
from ampgrid.wire.gate import Gate
from ampgrid.wire.hello import Facts
from ampgrid.wire.limits import Limits
from ampgrid.wire.loopback import LoopbackConnection
from ampgrid.wire.network import Network, Roles, SessionResponder
from ampgrid.wire.tcp import tcp_connector
from ampgrid.wire.threads import InlineThreads, PoolThreads
from ampgrid.wire.unixsocket import connect_control, listen_control

__all__ = [
    "Connection",
    "Facts",
    "Gate",
    "InlineThreads",
    "Limits",
    "LoopbackConnection",
    "Network",
    "PoolThreads",
    "Roles",
    "SessionResponder",
    "connect_control",
    "listen_control",
    "tcp_connector",
]
