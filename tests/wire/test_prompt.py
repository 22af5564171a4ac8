"""Small writes over TLS: a lone one goes at once, those that follow closely go together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from ampgrid.wire.prompt import CLOSE_SECONDS, SMALL_BYTES, RecordBorders, prompt
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
    #: Written when something comes.
    answers: Sequence[bytes] = ()

    def __init__(self) -> None:
        self.pieces: list[int] = []

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        self.pieces.append(len(data))
        answers, self.answers = self.answers, ()
        for answer in answers:
            self.transport.write(answer)


class RecordBordersTest(SynchronousTestCase):
    def test_records_are_counted_where_they_end(self) -> None:
        sizes = (0, 1, 4, 5, 300)
        stream = b"".join(b"\x17\3\3" + size.to_bytes(2, "big") + bytes(size) for size in sizes)
        ends = [sum(sizes[:count]) + 5 * count for count in range(1, len(sizes) + 1)]
        self.assertEqual(len(stream), ends[-1])
        for first, second in itertools.combinations(range(len(stream) + 1), 2):
            borders = RecordBorders()
            cuts = [0, first, second, len(stream)]
            for start, stop in itertools.pairwise(cuts):
                wanted = sum(start < end <= stop for end in ends)
                self.assertEqual(borders.count(stream[start:stop]), wanted, cuts)


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

    def test_large_writes_go_at_once_and_whole(self) -> None:
        self.assertEqual(self.write_and_wait(b"d" * 3 * SMALL_BYTES, b"e"), 2)
        self.carry()
        self.assertEqual(self.inner[1].heard, b"d" * 3 * SMALL_BYTES + b"e")

    def test_what_is_left_of_a_large_write_goes_before_all_that_follows(self) -> None:
        self.sockets[0].room = SMALL_BYTES
        self.assertEqual(self.write_and_wait(b"d" * 3 * SMALL_BYTES, b"e", b"f" * SMALL_BYTES), 1)
        self.carry()
        self.assertEqual(self.inner[1].heard, b"d" * 3 * SMALL_BYTES + b"e" + b"f" * SMALL_BYTES)

    def test_writes_of_any_size_arrive_as_they_were(self) -> None:
        edges = [edge for size in (1, 2**14, 2**15, 65_000) for edge in (size - 1, size, size + 1)]
        wanted = b""
        for number, size in enumerate(edges):
            data = bytes([number]) * size
            wanted += data
            self.ends[0].write(data)
            self.clock.advance(2 * CLOSE_SECONDS)
            self.carry()
        self.assertEqual(self.inner[1].heard, wanted)

    def test_what_comes_together_is_handed_over_together(self) -> None:
        self.inner[1].pieces.clear()
        self.ends[0].write(b"d" * 65_000)
        self.carry()
        self.assertEqual(self.inner[1].pieces, [65_000])

    def test_what_comes_in_pieces_is_handed_over_whatever_they_are(self) -> None:
        for cut in (1, 4, 5, 6, 16_406, 16_407, 16_408, 20_000, 65_000):
            self.inner[1].heard = b""
            self.ends[0].write(b"d" * 65_000)
            self.clock.advance(2 * CLOSE_SECONDS)
            data = self.sockets[0].value()
            self.sockets[0].clear()
            for piece in (data[:cut], data[cut:]):
                self.ends[1].dataReceived(piece)
            self.assertEqual(self.inner[1].heard, b"d" * 65_000)

    def test_of_answers_to_a_stretch_one_goes_at_once_and_the_others_together_at_its_end(
        self,
    ) -> None:
        self.inner[1].answers = [b"a", b"b", b"c"]
        self.sockets[1].at_once = 0
        self.ends[0].write(b"d" * 65_000)
        self.carry()
        self.assertEqual((self.sockets[1].at_once, self.clock.getDelayedCalls()), (2, []))
        self.carry()
        self.assertEqual(self.inner[0].heard, b"abc")

    def test_what_waits_goes_before_the_answers(self) -> None:
        self.ends[1].write(b"1")
        self.ends[1].write(b"2")
        self.inner[1].answers = [b"3", b"4" * 3 * SMALL_BYTES, b"5"]
        self.ends[0].write(b"d" * 65_000)
        self.carry()
        self.carry()
        self.clock.advance(1)
        self.carry()
        self.assertEqual(self.inner[0].heard, b"123" + b"4" * 3 * SMALL_BYTES + b"5")

    def test_an_error_is_left_to_the_reactor(self) -> None:
        self.sockets[0].error = OSError()
        self.write_and_wait(b"a", b"b")
        self.sockets[0].error = None
        self.carry()
        self.assertEqual(self.inner[1].heard, b"ab")
