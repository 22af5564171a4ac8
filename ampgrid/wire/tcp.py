"""Opening TCP connections: what `ampgrid.wire.network.Network` dials with on a real machine."""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.python.failure import Failure

from ampgrid.wire.network import Connector

#: Seconds that one address of a peer is tried.
DIAL_SECONDS = 8


class _Dialled(ClientFactory):
    """Makes one connection for the protocol of another factory.

    Args:
        reactor: Twisted's.
        factory: builds the protocol, once the connection is there.
    """

    noisy = False

    def __init__(self, reactor: Any, factory: Factory) -> None:
        self._reactor = reactor
        self._factory = factory
        self._connector: Any = None
        self._result: Deferred[Any] = Deferred(lambda _: self._connector.disconnect())

    def connect(self, host: str, port: int) -> Deferred[Any]:
        """Return what fires with the protocol, or with why there is no connection."""
        self._connector = self._reactor.connectTCP(host, port, self, timeout=DIAL_SECONDS)
        return self._result

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:  # noqa: N802
        """Build it; it is handed on when it has its transport."""
        protocol: Any = self._factory.buildProtocol(addr)
        self._reactor.callLater(0, self._tell, protocol)
        return protocol  # type: ignore[no-any-return]

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:  # noqa: N802
        """Tell why."""
        del connector
        self._tell(reason)

    def _tell(self, outcome: Any) -> None:
        if not self._result.called:
            self._result.callback(outcome)


def tcp_connector(reactor: Any) -> Connector:
    """Return a connector that opens TCP connections to host names and addresses."""

    def dial(host: str, port: int, factory: Factory) -> Deferred[Any]:
        if isIPAddress(host) or isIPv6Address(host):
            return _Dialled(reactor, factory).connect(host, port)
        # For names alone: with its plugins this module takes a megabyte.
        from twisted.internet.endpoints import HostnameEndpoint

        endpoint = HostnameEndpoint(reactor, host, port, timeout=DIAL_SECONDS)
        connecting: Deferred[Any] = endpoint.connect(factory)
        return connecting

    async def connect(host: str, port: int, factory: Factory) -> Any:
        protocol: Any = await dial(host, port, factory)
        # Boxes are written whole, so waiting for more of them only adds latency.
        protocol.transport.setTcpNoDelay(True)
        protocol.transport.setTcpKeepAlive(True)
        return protocol

    return connect
