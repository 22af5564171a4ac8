"""Small writes over TLS: a lone one goes at once, those that follow closely go together."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from ampgrid.wire.prompt import CLOSE_SECONDS, SMALL_BYTES, prompt
from ampgrid.wire.tls import Credentials
from tests.wire.kit import identity


@implementer(IReadWriteDescriptor)
class Socket(StringTransport):
    """A transport of a socket that takes so many bytes at once, and of its reactor."""

    connected = True
    room = 2**20
    #: What the reactor is to send as soon as there is room.
    waiting = b""
    error: Exception | None = None

    def __init__(self) -> None:
        super().__init__()
        self.reactor = self
        self.at_once = 0

    def getWriters(self) -> list[Socket]:
        return [self] if self.waiting else []

    def writeSomeData(self, data: bytes) -> int | Exception:
        assert not self.waiting, "out of order"
        if self.error is not None:
            return self.error
        sent = min(len(data), self.room)
        self.at_once += 1
        super().write(data[:sent])
        return sent

    def write(self, data: bytes) -> None:
        if self.connected:
            self.waiting += data

    def value(self) -> bytes:
        self.turn()
        return super().value()

    def turn(self) -> None:
        """Send what waits, as the reactor does."""
        waiting, self.waiting = self.waiting, b""
        super().write(waiting)


class Listening(Protocol):
    heard = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data


class PromptTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.ends: list[Any] = []
        self.sockets: list[Socket] = []
        self.inner: list[Listening] = []
        for number in (1, 2):
            protocol = Listening()
            self.inner.append(protocol)
            factory = TLSMemoryBIOFactory(
                Credentials(identity(number)),  # type: ignore[arg-type]
                number == 1,
                Factory.forProtocol(lambda protocol=protocol: protocol),
                self.clock,
            )
            end = prompt(factory, self.clock).buildProtocol(None)
            socket = Socket()
            end.makeConnection(socket)
            self.ends.append(end)
            self.sockets.append(socket)
        while self.carry():
            pass
        self.clock.advance(1)

    def carry(self) -> int:
        """Bring what was written to the other end; return how many bytes."""
        moved = 0
        for here, there in ((0, 1), (1, 0)):
            data = self.sockets[here].value()
            self.sockets[here].clear()
            if data:
                self.ends[there].dataReceived(data)
            moved += len(data)
        return moved

    def test_a_lone_write_goes_at_once(self) -> None:
        for number in range(3):
            self.sockets[0].at_once = 0
            self.ends[0].write(b"box %d," % number)
            self.assertEqual((self.sockets[0].at_once, self.sockets[0].waiting), (1, b""))
            self.carry()
            self.clock.advance(2 * CLOSE_SECONDS)
        self.assertEqual(self.inner[1].heard, b"box 0,box 1,box 2,")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_those_that_follow_go_together_and_in_order(self) -> None:
        for number in range(5):
            self.ends[0].write(b"%d" % number)
        self.carry()
        self.assertEqual(self.inner[1].heard, b"0")
        self.clock.advance(0)
        self.carry()
        self.assertEqual(self.inner[1].heard, b"01234")

    def test_nothing_goes_ahead_of_what_waits(self) -> None:
        self.ends[0].write(b"a")
        self.ends[0].write(b"b")
        self.clock.rightNow += 1
        self.ends[0].write(b"c")
        self.ends[0].write(b"d" * 3 * SMALL_BYTES)
        self.carry()
        self.assertEqual(self.inner[1].heard, b"abc" + b"d" * 3 * SMALL_BYTES)

    def test_what_waits_goes_before_the_end(self) -> None:
        self.ends[0].write(b"a")
        self.ends[0].write(b"b")
        self.ends[0].loseConnection()
        self.carry()
        self.assertEqual(self.inner[1].heard, b"ab")

    def test_nothing_is_written_after_the_loss(self) -> None:
        self.ends[0].write(b"a")
        self.ends[0].write(b"b")
        self.carry()
        self.sockets[0].connected = False
        self.ends[0].connectionLost(None)
        self.sockets[0].clear()
        self.clock.advance(1)
        self.ends[0].write(b"c")
        self.assertEqual(self.sockets[0].value(), b"")

    def write_and_wait(self, *data: bytes) -> int:
        """Write with pauses; return how often something went at once."""
        before = self.sockets[0].at_once
        for one in data:
            self.ends[0].write(one)
            self.clock.advance(2 * CLOSE_SECONDS)
        return self.sockets[0].at_once - before

    def test_a_socket_that_is_closing_is_left_to_the_reactor(self) -> None:
        self.sockets[0].disconnecting = True
        self.assertEqual(self.write_and_wait(b"a"), 0)

    def test_what_there_is_no_room_for_is_left_to_the_reactor_and_all_that_follows(self) -> None:
        for room in (0, 1, 10):
            self.sockets[0].room = room
            self.inner[1].heard = b""
            self.assertEqual(self.write_and_wait(b"a", b"b", b"c"), 1)
            self.carry()
            self.assertEqual(self.inner[1].heard, b"abc")

    def test_after_the_reactor_has_sent_all_it_goes_at_once_again(self) -> None:
        self.sockets[0].room = 3
        self.write_and_wait(b"a")
        self.sockets[0].room = 2**20
        self.assertEqual(self.write_and_wait(b"b"), 0)
        self.sockets[0].turn()
        self.assertEqual(self.write_and_wait(b"c"), 1)
        self.carry()
        self.assertEqual(self.inner[1].heard, b"abc")

    def test_large_writes_are_left_to_the_reactor(self) -> None:
        self.assertEqual(self.write_and_wait(b"d" * 3 * SMALL_BYTES, b"e"), 0)
        self.carry()
        self.assertEqual(self.inner[1].heard, b"d" * 3 * SMALL_BYTES + b"e")

    def test_an_error_is_left_to_the_reactor(self) -> None:
        self.sockets[0].error = OSError()
        self.write_and_wait(b"a", b"b")
        self.sockets[0].error = None
        self.carry()
        self.assertEqual(self.inner[1].heard, b"ab")
