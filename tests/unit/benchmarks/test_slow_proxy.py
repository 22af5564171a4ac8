"""The slow link: its delay and its rate, exactly, and the proxy over it, in memory."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.benchmarks.slow_proxy import ROOM, End, Entrance, SlowLink

#: Bytes a second, and seconds. Powers of two, so that sums of times are exact.
RATE, DELAY = 65_536.0, 0.25


class LinkTests(SynchronousTestCase):
    def run_link(self, sent):
        """Send (moment, size) pairs; return when each left and when it arrived."""
        clock = Clock()
        link = SlowLink(clock, RATE, DELAY)
        left, arrived = [], []

        def run_until(moment):
            """Stop at every call on the way: the clock makes late ones all at its new time."""
            while calls := [c.getTime() for c in clock.getDelayedCalls() if c.getTime() <= moment]:
                clock.advance(max(0.0, min(calls) - clock.seconds()))
            if moment < inf:
                clock.advance(max(0.0, moment - clock.seconds()))

        for moment, size in sent:
            run_until(moment)
            link.send(
                size,
                lambda: left.append(clock.seconds()),
                lambda: arrived.append(clock.seconds()),
            )
        run_until(inf)
        return left, arrived

    def test_one_piece(self):
        self.assertEqual(self.run_link([(1, 32_768)]), ([1.5], [1.75]))

    def test_pieces_leave_one_after_the_other(self):
        left, arrived = self.run_link([(0, 65_536), (0, 32_768), (8, 16_384)])
        self.assertEqual(left, [1.0, 1.5, 8.25])
        self.assertEqual(arrived, [1.25, 1.75, 8.5])

    @given(
        st.lists(
            st.tuples(st.integers(0, 64).map(lambda n: n / 16), st.integers(1, 1 << 20)),
            min_size=1,
            max_size=20,
        )
    )
    def test_no_byte_leaves_faster_or_arrives_earlier(self, pauses):
        moments, sent = 0.0, []
        for pause, size in pauses:
            moments += pause
            sent.append((moments, size))
        left, arrived = self.run_link(sent)
        self.assertEqual(len(arrived), len(sent))
        free = 0.0
        for (moment, size), gone, there in zip(sent, left, arrived, strict=True):
            free = max(free, moment) + size / RATE
            self.assertAlmostEqual(gone, free, places=9)
            self.assertAlmostEqual(there, free + DELAY, places=9)


class LateClock(Clock):
    """A clock of a busy machine: time passes between two looks at it."""

    def __init__(self, pauses):
        super().__init__()
        self._pauses = iter(pauses)

    def seconds(self):
        self.rightNow += next(self._pauses, 0.0)
        return super().seconds()


class OrderTests(SynchronousTestCase):
    @given(
        st.lists(st.sampled_from([0.0, 0.001, 0.5]), max_size=60),
        st.lists(st.integers(1, 5000), min_size=2, max_size=20),
    )
    def test_a_busy_machine_changes_no_order(self, pauses, sizes):
        clock = LateClock(pauses)
        link = SlowLink(clock, RATE, DELAY)
        left, arrived = [], []
        for number, size in enumerate(sizes):
            link.send(
                size,
                lambda number=number: left.append(number),
                lambda number=number: arrived.append(number),
            )
        for _ in range(1000):
            clock.advance(1 / 64)
        self.assertEqual(left, list(range(len(sizes))))
        self.assertEqual(arrived, left)


class ProxyCase(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.up = SlowLink(self.clock, RATE, DELAY)
        self.down = SlowLink(self.clock, RATE, DELAY)
        self.dialled = []
        self.entrance = Entrance(self.clock, self.up, self.down, DELAY, self.dial)

    def dial(self, far):
        far.makeConnection(Pipe())
        self.dialled.append(far)

    def connect(self):
        """Return the transports of both ends of a new connection, and the ends."""
        near = self.entrance.buildProtocol(None)
        assert isinstance(near, End)
        near.makeConnection(Pipe())
        far = self.dialled[-1]
        return near.transport, far.transport, near, far

    def until(self, moment):
        self.clock.pump([1 / 64] * round((moment - self.clock.seconds()) * 64))


class Pipe(StringTransport):
    """Remembers how it was set up."""

    no_delay = False

    def setTcpNoDelay(self, enabled):
        self.no_delay = enabled

    def loseConnection(self):
        self.disconnecting = True


class ProxyTests(ProxyCase):
    def test_nothing_is_read_before_a_round_trip(self):
        near, far, _, _ = self.connect()
        self.assertEqual((near.producerState, far.producerState), ("paused", "paused"))
        self.until(2 * DELAY - 1 / 64)
        self.assertEqual((near.producerState, far.producerState), ("paused", "paused"))
        self.until(2 * DELAY)
        self.assertEqual((near.producerState, far.producerState), ("producing", "producing"))
        self.assertTrue(near.no_delay and far.no_delay)

    def test_both_directions_have_the_delay_and_the_rate(self):
        near, far, near_end, far_end = self.connect()
        self.until(1)
        near_end.dataReceived(b"a" * 16_384)
        far_end.dataReceived(b"b" * 8192)
        self.until(1.375 - 1 / 64)
        self.assertEqual((near.value(), far.value()), (b"", b""))
        self.until(1.375)
        self.assertEqual((near.value(), far.value()), (b"b" * 8192, b""))
        self.until(1.5)
        self.assertEqual(far.value(), b"a" * 16_384)

    def test_connections_share_the_link(self):
        first, second = self.connect(), self.connect()
        self.until(1)
        first[2].dataReceived(b"a" * 32_768)
        second[2].dataReceived(b"b" * 32_768)
        self.until(1.75)
        self.assertEqual((len(first[1].value()), len(second[1].value())), (32_768, 0))
        self.until(2.25)
        self.assertEqual(second[1].value(), b"b" * 32_768)

    def test_a_sender_waits_while_the_queue_is_full(self):
        near, _, near_end, _ = self.connect()
        self.until(1)
        for _ in range(ROOM // 16_384):
            self.assertEqual(near.producerState, "producing")
            near_end.dataReceived(bytes(16_384))
        self.assertEqual(near.producerState, "paused")
        self.until(1.25)  # the first piece has left
        self.assertEqual(near.producerState, "producing")

    def test_the_end_comes_after_the_last_byte(self):
        _, far, near_end, _ = self.connect()
        self.until(1)
        near_end.dataReceived(b"last words" * 1000)
        near_end.connectionLost()
        for _ in range(200):
            if far.disconnecting:
                break
            self.clock.advance(1 / 256)
        self.assertTrue(far.disconnecting)
        self.assertEqual(far.value(), b"last words" * 1000)
        self.assertEqual(near_end.transport.producerState, "producing")

    def test_what_was_lost_before_it_began_is_not_read(self):
        near, far, near_end, far_end = self.connect()
        near_end.connectionLost()
        far_end.connectionLost()
        self.until(4)
        self.assertEqual((near.producerState, far.producerState), ("paused", "paused"))
        self.assertTrue(far.disconnecting and near.disconnecting)

    def test_a_server_that_is_away(self):
        """The near end hears of it as of any end."""
        self.entrance = Entrance(
            self.clock, self.up, self.down, DELAY, lambda far: far.connectionLost()
        )
        near = self.entrance.buildProtocol(None)
        near.makeConnection(Pipe())
        near.dataReceived(b"to nobody")
        self.until(2)
        self.assertTrue(near.transport.disconnecting)
