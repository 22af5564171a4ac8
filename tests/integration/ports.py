"""Ports that nobody else on this machine is given while a test wants them for its nodes.

A port that was only found to be free is anybody's until a node listens on it, and so is the port
of a node that is being started again.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ampgrid.node.directory import NodeDirectory

HOST = "127.0.0.1"


def hold(port: int = 0) -> socket.socket:
    """Keep a port, any by default, from being given to others; close the result to let it go.

    A server may listen on it: the system lets two have one port if both say SO_REUSEADDR, as all
    of Twisted's servers do, and at most one of them listens. It gives it to nobody who asks for
    any port.
    """
    held = socket.socket()
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((HOST, port))
    except BaseException:
        held.close()
        raise
    return held


@contextmanager
def held_for(nodes: Iterable[Path | str]) -> Iterator[None]:
    """Keep the ports of nodes that do not run, until they listen on them again."""
    with ExitStack() as stack:
        for node in nodes:
            port = NodeDirectory.at(Path(node)).listen_port()
            if port:
                stack.enter_context(hold(port))
        yield
