"""When an answer is given to the socket of a client."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.tcp import Server
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure

from tests.unit.web.kit import GatewayCase, read_reply, request_bytes


class SendingTest(GatewayCase):
    """A connection over a real socket, whose reactor takes note and does nothing."""

    def setUp(self) -> None:
        super().setUp()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.client = socket.create_connection(listening.getsockname())
            end, address = listening.accept()
        self.addCleanup(self.client.close)
        self.addCleanup(end.close)
        self.client.settimeout(10)
        end.setblocking(False)
        self.port = end.getsockname()[1]
        self.channel: Any = self.gateway.factory.buildProtocol(None)
        self.reactor: Any = MemoryReactor()
        listener: Any = SimpleNamespace(_realPortNumber=self.port)
        self.transport = Server(end, self.channel, address, listener, 0, self.reactor)
        self.channel.makeConnection(self.transport)

    def tearDown(self) -> None:
        self.transport.connectionLost(Failure(ConnectionDone()))
        super().tearDown()

    def ask(self, **headers: str) -> None:  # type: ignore[override]
        host = f"127.0.0.1:{self.port}"
        self.channel.dataReceived(request_bytes("GET", "/health", headers=headers, host=host))
        self.grid.clock.advance(0.1)

    def is_writing(self) -> bool:
        return self.transport in self.reactor.getWriters()

    def test_an_answer_goes_out_at_its_end(self) -> None:
        for _ in range(3):
            self.ask(Connection="keep-alive")
            self.assertFalse(self.is_writing())
            self.assertEqual(read_reply(self.client.recv(65_536)).status, 200)

    def test_the_last_answer_is_left_to_the_reactor(self) -> None:
        self.ask(Connection="close")
        self.assertTrue(self.is_writing())
        # As the reactor would do it: the connection ends behind the answer.
        self.assertIsNotNone(self.transport.doWrite())
        self.assertEqual(read_reply(self.client.recv(65_536)).status, 200)

    def test_what_the_client_does_not_take_is_left_to_the_reactor(self) -> None:
        self.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        filled = 0
        while True:
            try:
                filled += self.transport.socket.send(bytes(65_536))
            except BlockingIOError:
                break
        self.ask(Connection="keep-alive")
        self.assertTrue(self.is_writing())
        while filled:
            filled -= len(self.client.recv(min(filled, 65_536)))
        self.transport.doWrite()
        self.assertFalse(self.is_writing())
        self.assertEqual(read_reply(self.client.recv(65_536)).status, 200)
