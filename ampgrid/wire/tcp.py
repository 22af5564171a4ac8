"""Opening TCP connections: what `ampgrid.wire.network.Network` dials with on a real machine."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory

from ampgrid.wire.network import Connector

#: Seconds that one address of a peer is tried.
DIAL_SECONDS = 8


def tcp_connector(reactor: Any) -> Connector:
    """Return a connector that opens TCP connections to host names and addresses."""

    async def connect(host: str, port: int, factory: Factory) -> Any:
        endpoint = HostnameEndpoint(reactor, host, port, timeout=DIAL_SECONDS)
        protocol: Any = await endpoint.connect(factory)
        # Boxes are written whole, so waiting for more of them only adds latency.
        protocol.transport.setTcpNoDelay(True)
        protocol.transport.setTcpKeepAlive(True)
        return protocol

    return connect
