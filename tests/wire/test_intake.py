"""How much is read from a socket at once."""

from __future__ import annotations

import socket
import struct

from twisted.internet import main, tcp
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.wire.intake import FIRST_BYTES, MOST_BYTES, take_streams


class Sizes(Protocol):
    """Notes how much comes at once."""

    def __init__(self):
        self.sizes = []

    def dataReceived(self, data):
        self.sizes.append(len(data))


class IntakeTests(SynchronousTestCase):
    def setUp(self):
        with socket.create_server(("127.0.0.1", 0)) as port:
            self.peer = socket.create_connection(port.getsockname())
            mine, _ = port.accept()
        self.addCleanup(self.peer.close)
        self.addCleanup(mine.close)
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MOST_BYTES)
        self.protocol = Sizes()
        self.transport = tcp.Connection(mine, self.protocol, MemoryReactorClock())
        take_streams(self.transport)

    def send(self, size):
        """Let so many bytes wait in the socket; all are there when this returns."""
        self.peer.sendall(bytes(size))
        peek = socket.MSG_PEEK | socket.MSG_WAITALL
        self.transport.socket.setblocking(True)
        self.assertEqual(len(self.transport.socket.recv(size, peek)), size)
        self.transport.socket.setblocking(False)

    def test_more_at_once_while_a_stream_comes(self):
        self.send(FIRST_BYTES + MOST_BYTES + 20_000)
        for _ in range(4):
            self.assertIsNone(self.transport.doRead())
        self.assertEqual(self.protocol.sizes, [FIRST_BYTES, MOST_BYTES, 20_000])
        self.send(MOST_BYTES + 100)
        self.transport.doRead()
        self.transport.doRead()
        self.assertEqual(self.protocol.sizes[3:], [MOST_BYTES, 100])
        self.send(FIRST_BYTES + 100)
        self.transport.doRead()
        self.assertEqual(self.protocol.sizes[5:], [FIRST_BYTES])

    def test_nothing_there_and_the_end(self):
        self.assertIsNone(self.transport.doRead())
        self.peer.shutdown(socket.SHUT_WR)
        self.assertIs(self.transport.doRead(), main.CONNECTION_DONE)

    def test_a_reset(self):
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()
        self.assertIs(self.transport.doRead(), main.CONNECTION_LOST)
        self.assertEqual(self.protocol.sizes, [])

    def test_what_has_no_socket_is_left_alone(self):
        transport = object()
        take_streams(transport)
