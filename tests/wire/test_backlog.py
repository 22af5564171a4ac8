"""How much lies in the buffers of a socket: what the network takes soon."""

from __future__ import annotations

import socket
import unittest

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import ISystemHandle
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from ampgrid.wire.backlog import (
    FIRST_BYTES,
    LEAST_BYTES,
    MOST_BYTES,
    SOON_SECONDS,
    UNSENT_BYTES,
    Backlog,
)


class Transport:
    """A transport without a socket, as in memory."""

    bufferSize = 1


@implementer(ISystemHandle)
class SocketTransport(Transport):
    """A transport over a real socket."""

    def __init__(self, made):
        self._socket = made

    def getHandle(self):
        return self._socket


class BacklogTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.transport = Transport()
        self.backlog = Backlog(self.clock, self.transport)

    def drain(self, seconds):
        """Fill the buffer, and let it run empty after so long."""
        self.backlog.filled()
        self.clock.advance(seconds)
        self.backlog.emptied()
        return self.transport.bufferSize

    def test_begins_between(self):
        self.assertEqual(self.transport.bufferSize, FIRST_BYTES)
        self.assertTrue(LEAST_BYTES < FIRST_BYTES < MOST_BYTES)

    def test_a_slow_line_keeps_little_and_a_fast_one_much(self):
        self.assertEqual(self.drain(FIRST_BYTES / 500_000), 25_000)
        self.assertEqual(self.drain(10), LEAST_BYTES)
        self.assertEqual(self.drain(0), MOST_BYTES)
        self.assertEqual(self.drain(MOST_BYTES / 2_000_000), 100_000)

    @given(st.floats(1_000, 1e9), st.integers(1, 30))
    def test_any_steady_line_comes_to_rest(self, rate, times):
        """Whatever its size was, it is what the line takes soon, within the bounds."""
        for _ in range(times):
            size = self.drain(self.transport.bufferSize / rate)
        wanted = min(max(rate * SOON_SECONDS, LEAST_BYTES), MOST_BYTES)
        self.assertLessEqual(abs(size - wanted), wanted / 1000 + 1)

    def test_emptied_without_having_been_full(self):
        """As when the transport begins, and after a pause that was noted once."""
        self.backlog.emptied()
        self.assertEqual(self.transport.bufferSize, FIRST_BYTES)
        small = self.drain(1)
        self.clock.advance(100)
        self.backlog.emptied()
        self.assertEqual(self.transport.bufferSize, small)

    def test_the_system_keeps_little_unsent(self):
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if option is None:
            raise unittest.SkipTest("this system does not know it")
        made = socket.socket()
        self.addCleanup(made.close)
        Backlog(self.clock, SocketTransport(made))
        self.assertEqual(made.getsockopt(socket.IPPROTO_TCP, option), UNSENT_BYTES)

    def test_a_socket_that_does_not_know_it(self):
        made, other = socket.socketpair()
        self.addCleanup(made.close)
        self.addCleanup(other.close)
        transport = SocketTransport(made)
        Backlog(self.clock, transport)
        self.assertEqual(transport.bufferSize, FIRST_BYTES)
