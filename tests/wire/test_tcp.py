"""How connections are opened: to an address straight, to a name through Twisted's resolver."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.wire.tcp import DIAL_SECONDS, tcp_connector


class Transport(StringTransport):
    """Notes what it is set to."""

    def __init__(self) -> None:
        super().__init__()
        self.options: dict[str, bool] = {}

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.options["no delay"] = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.options["keep alive"] = enabled


class Lookups:
    """A resolver that notes names and answers none."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def resolveHostName(self, receiver: Any, name: str, *arguments: Any, **named: Any) -> None:
        self.names.append(name)


class ConnectorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.built: list[Protocol] = []

    def dial(self, host: str) -> Deferred[Any]:
        def build() -> Protocol:
            self.built.append(Protocol())
            return self.built[-1]

        connecting = tcp_connector(self.reactor)(host, 4, Factory.forProtocol(build))
        return Deferred.fromCoroutine(connecting)

    def test_addresses_are_dialled_straight(self) -> None:
        for host in ("192.0.2.1", "2001:db8::1"):
            dialling = self.dial(host)
            called, port, factory, timeout, _ = self.reactor.tcpClients.pop()
            self.assertEqual((called, port, timeout), (host, 4, DIAL_SECONDS))
            # Nothing is built for a connection that is not there.
            self.assertEqual(self.built, [])
            protocol = factory.buildProtocol(IPv4Address("TCP", host, 4))
            transport = Transport()
            protocol.makeConnection(transport)
            self.assertNoResult(dialling)
            self.reactor.advance(0)
            self.assertIs(self.successResultOf(dialling), self.built.pop())
            self.assertEqual(transport.options, {"no delay": True, "keep alive": True})

    def test_why_there_is_no_connection(self) -> None:
        dialling = self.dial("192.0.2.1")
        factory = self.reactor.tcpClients[0][2]
        factory.clientConnectionFailed(self.reactor.connectors[0], Failure(ConnectTimeoutError()))
        self.failureResultOf(dialling, ConnectTimeoutError)

    def test_nobody_waits_for_it_any_more(self) -> None:
        dialling = self.dial("192.0.2.1")
        connector = self.reactor.connectors[0]
        dialling.cancel()
        self.failureResultOf(dialling, CancelledError)
        self.assertTrue(connector._disconnected)
        # The reactor tells of the end, which nobody asked for.
        factory = self.reactor.tcpClients[0][2]
        factory.clientConnectionFailed(connector, Failure(ConnectTimeoutError()))

    def test_cancelled_when_it_was_just_there(self) -> None:
        dialling = self.dial("192.0.2.1")
        factory = self.reactor.tcpClients[0][2]
        factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 4)).makeConnection(Transport())
        dialling.cancel()
        self.failureResultOf(dialling, CancelledError)
        self.reactor.advance(0)

    def test_names_are_looked_up(self) -> None:
        self.reactor.nameResolver = looked_up = Lookups()
        self.dial("node.example")
        self.assertEqual(looked_up.names, ["node.example"])
        self.assertEqual(self.reactor.tcpClients, [])
