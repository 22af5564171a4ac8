"""Strangers without number: bounded, pushed out, and hardly a line in the log."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.testing.clock import HeapClock
from ampgrid.wire import network as network_module
from ampgrid.wire.gate import HANDSHAKE_SECONDS
from ampgrid.wire.lines import Lines
from ampgrid.wire.strangers import Strangers, neighbourhood
from tests.wire.kit import (
    InMemory,
    RawPeer,
)


class FloodTest(InMemory):
    latency = 0.0

    def test_strangers_are_bounded_and_make_room(self) -> None:
        """A thousand that say nothing keep an honest node out at no time."""
        raws = []
        for number in range(1_000):
            raw = RawPeer()
            self.two.attacked_by(raw)
            raws.append(raw)
            self.clock.advance(0)
            self.assertLessEqual(self.two.counters()[0], network_module.MOST_STRANGERS)
            self.assertLessEqual(self.two.counters()[1], network_module.MOST_STRANGERS + 1)
            if number % 250 == 249:
                self.assertTrue(self.clock.run(self.one.dial(self.two)).connected)
                self.clock.advance(0)
                self.one.connected.pop().abort("next time again")
                self.clock.advance(0)
        left = sum(raw.lost is None for raw in raws)
        self.assertIn(left, range(network_module.MOST_STRANGERS - 4, 257))
        self.clock.advance(HANDSHAKE_SECONDS)
        self.assertTrue(all(raw.lost is not None for raw in raws))
        self.assertEqual(self.two.counters(), (0, 0))

    def test_those_who_have_proved_themselves_are_not_pushed_out(self) -> None:
        connection = self.clock.run(self.one.dial(self.two))
        for _ in range(2 * network_module.MOST_STRANGERS):
            self.two.attacked_by(RawPeer())
            self.clock.advance(0)
        self.assertTrue(connection.connected)

    def test_all_connections_are_bounded(self) -> None:
        self.patch(network_module, "MOST_ACCEPTED", 3)
        for _ in range(3):
            self.two.attacked_by(RawPeer())
        factory = self.two.network.listening_factory()
        self.assertIsNone(factory.buildProtocol(None))  # type: ignore[arg-type]
        self.clock.advance(HANDSHAKE_SECONDS + 1)
        self.assertEqual(self.two.counters(), (0, 0))

    def test_at_most_one_line_a_second_is_logged_about_strangers(self) -> None:
        lines: list[str] = []
        self.patch(self.two.network, "_lines", _Counting(self.clock, lines))
        for _ in range(300):
            raw = RawPeer()
            self.two.attacked_by(raw).write(b"GET / HTTP/1.1\r\nX: \x1b[2J\r\n")
            self.clock.advance(0.01)
        self.assertLessEqual(len(lines), 4)
        self.assertTrue(all(line.isprintable() for line in lines))


class _Counting(Lines):
    def __init__(self, clock: HeapClock, lines: list[str]) -> None:
        super().__init__(clock)
        self._out = lines

    def write(self, subject: bytes, event: str, reason: str) -> None:
        before = dict(self._written)
        super().write(subject, event, reason)
        if self._written != before:
            self._out.append(f"{event}: {reason}")


class StrangersTest(SynchronousTestCase):
    def test_the_oldest_of_the_most_crowded_place_goes(self) -> None:
        strangers: Strangers[str] = Strangers(4)
        for name, place in (("a1", "a"), ("b1", "b"), ("b2", "b"), ("c1", "c")):
            self.assertIsNone(strangers.add(name, place))
        self.assertEqual(strangers.add("d1", "d"), "b1")
        self.assertEqual(strangers.add("d2", "d"), "d1")
        self.assertEqual(len(strangers), 4)

    def test_where_all_places_have_one_the_oldest_goes(self) -> None:
        strangers: Strangers[int] = Strangers(4)
        gone = [strangers.add(number, str(number)) for number in range(8)]
        self.assertEqual(gone, [None] * 4 + [0, 1, 2, 3])

    def test_removing_is_exact(self) -> None:
        strangers: Strangers[str] = Strangers(2)
        strangers.add("a", "x")
        strangers.remove("b", "x")
        strangers.remove("a", "y")
        self.assertEqual(len(strangers), 1)
        strangers.remove("a", "x")
        strangers.remove("a", "x")
        self.assertEqual(len(strangers), 0)

    def test_neighbourhoods(self) -> None:
        def v6(host: str) -> str:
            return neighbourhood(IPv6Address("TCP", host, 1))

        v4 = neighbourhood(IPv4Address("TCP", "192.0.2.1", 1))
        self.assertNotEqual(v4, neighbourhood(IPv4Address("TCP", "192.0.2.2", 1)))
        self.assertEqual(v6("::ffff:192.0.2.1"), v4)
        self.assertEqual(v6("2001:db8::1"), v6("2001:db8::ffff:1"))
        self.assertNotEqual(v6("2001:db8::1"), v6("2001:db8:0:1::1"))
        self.assertEqual(v6("fe80::1%eth0"), v6("fe80::2%eth0"))
        self.assertEqual(neighbourhood(None), "")


class LinesTest(SynchronousTestCase):
    def test_one_a_second_a_subject_and_so_many_in_all(self) -> None:
        clock = HeapClock()
        written: list[str] = []
        lines = _Counting(clock, written)
        for _ in range(10):
            lines.write(b"a", "x", "y")
            lines.write(b"b", "x", "y")
        self.assertEqual(len(written), 2)
        for number in range(5_000):
            lines.write(b"%d" % number, "x", "y")
        self.assertEqual(len(written), 1_024)
        self.assertEqual(len(lines._written), 1_024)
        clock.advance(1.1)
        lines.write(b"new", "x", "y")
        self.assertEqual(len(written), 1_025)
