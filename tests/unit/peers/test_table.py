"""The table of connections: who is let in, and which of two stays."""

from __future__ import annotations

import itertools

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands.errors import AlreadyConnectedError, BusyError, NotAllowedError
from ampgrid.commands.session import Ping
from ampgrid.peers import ConnectionTable
from tests.unit.peers.fakes import FakeConnection, connect, run

LOW, OWN, HIGH = b"\x01" * 20, b"\x55" * 20, b"\xfe" * 20


class TableTests(SynchronousTestCase):
    """One node's table."""

    def setUp(self):
        self.clock = Clock()
        self.table = ConnectionTable(OWN, clock=self.clock)
        self.events = []
        self.table.on_connect(lambda c: self.events.append(("connected", c)))
        self.table.on_disconnect(lambda c: self.events.append(("disconnected", c)))

    def connection(self, peer_id, *, dialled, **kwargs):
        return FakeConnection(peer_id, dialled=dialled, clock=self.clock, **kwargs)

    def test_a_connection_comes_and_goes(self):
        one = self.connection(LOW, dialled=True)
        self.table.admit(LOW)
        self.assertTrue(self.table.add(one))
        self.assertIs(one, self.table.get(LOW))
        self.assertEqual([one], self.table.connections())
        one.lose()
        self.assertIsNone(self.table.get(LOW))
        self.assertEqual([("connected", one), ("disconnected", one)], self.events)

    def test_of_two_the_one_dialled_by_the_lower_id_stays(self):
        """Every combination of who dialled the standing one and the new one, to either side."""
        for peer, first, second in itertools.product((LOW, HIGH), (True, False), (True, False)):
            table = ConnectionTable(OWN, clock=self.clock)
            standing = self.connection(peer, dialled=first)
            newer = self.connection(peer, dialled=second)
            table.add(standing)
            we_are_lower = peer > OWN
            replaces = first == second or second == we_are_lower
            case = f"peer is lower: {not we_are_lower}, dialled by us: {first}, then {second}"
            if not second and not replaces:
                self.assertRaises(AlreadyConnectedError, table.admit, peer)
            elif not second:
                table.admit(peer)
            self.assertEqual(replaces, table.add(newer), case)
            self.assertIs(newer if replaces else standing, table.get(peer), case)
            self.assertEqual(replaces, standing.aborted is not None, case)
            self.assertEqual(not replaces, newer.aborted is not None, case)

    def test_both_ends_agree(self):
        """Whatever the order in which two crossing dials are seen, one pair survives."""
        for mine_first_here, mine_first_there in itertools.product((True, False), repeat=2):
            here = ConnectionTable(LOW, clock=self.clock)
            there = ConnectionTable(HIGH, clock=self.clock)
            mine, mine_other = connect(LOW, HIGH, clock=self.clock)
            yours_other, yours = connect(HIGH, LOW, clock=self.clock)
            for first, ends, table in (
                (mine_first_here, (mine, yours), here),
                (mine_first_there, (mine_other, yours_other), there),
            ):
                for end in ends if first else reversed(ends):
                    if end.connected:
                        table.add(end)
            self.assertIs(mine, here.get(HIGH))
            self.assertIs(mine_other, there.get(LOW))

    def test_the_watchers_see_a_replacement(self):
        one, two = self.connection(LOW, dialled=False), self.connection(LOW, dialled=False)
        self.table.add(one)
        self.table.add(two)
        self.assertIs(two, self.table.get(LOW))
        self.assertEqual(
            {("connected", one), ("disconnected", one), ("connected", two)}, set(self.events)
        )
        one.lose()
        self.assertIs(two, self.table.get(LOW))

    def test_a_dead_connection_does_not_keep_its_peer_out(self):
        """The one that stands is pinged once; without an answer it goes after ten seconds."""
        standing = self.connection(HIGH, dialled=True)
        standing.answer = lambda command, arguments: Deferred()
        self.table.add(standing)
        for _ in range(3):
            self.assertRaises(AlreadyConnectedError, self.table.admit, HIGH)
        self.assertEqual(1, len(standing.named(Ping)))
        self.clock.advance(9)
        self.assertTrue(standing.connected)
        self.clock.advance(1)
        self.assertFalse(standing.connected)
        self.table.admit(HIGH)

    def test_a_live_connection_stays(self):
        standing = self.connection(HIGH, dialled=True)
        self.table.add(standing)
        self.assertRaises(AlreadyConnectedError, self.table.admit, HIGH)
        self.clock.advance(100)
        self.assertTrue(standing.connected)
        self.assertRaises(AlreadyConnectedError, self.table.admit, HIGH)
        self.assertEqual(2, len(standing.named(Ping)))

    def test_own_id_and_strangers_are_turned_away(self):
        table = ConnectionTable(OWN, clock=self.clock, allowed=[LOW])
        table.admit(LOW)
        self.assertRaises(NotAllowedError, table.admit, HIGH)
        self.assertRaises(NotAllowedError, table.admit, OWN)
        stranger = self.connection(HIGH, dialled=True)
        self.assertFalse(table.add(stranger))
        self.assertIsNotNone(stranger.aborted)

    def test_a_full_table_says_so(self):
        table = ConnectionTable(OWN, clock=self.clock, most=1)
        first = self.connection(LOW, dialled=False)
        table.add(first)
        table.admit(LOW)
        self.assertRaises(BusyError, table.admit, HIGH)
        self.assertFalse(table.add(self.connection(HIGH, dialled=True)))
        first.lose()
        table.admit(HIGH)

    def test_one_that_was_lost_before_it_came_is_not_kept(self):
        gone = self.connection(LOW, dialled=True)
        gone.lose()
        self.assertFalse(self.table.add(gone))
        self.assertIsNone(self.table.get(LOW))
        self.assertNotIn(("connected", gone), self.events)

    def test_a_failing_watcher_does_not_harm_the_next(self):
        def fail(_):
            raise ZeroDivisionError

        self.table = ConnectionTable(OWN, clock=self.clock)
        self.table.on_connect(fail)
        self.table.on_connect(self.events.append)
        one = self.connection(LOW, dialled=True)
        self.assertTrue(self.table.add(one))
        self.assertEqual([one], self.events)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_connections_by_service(self):
        one = self.connection(LOW, dialled=True, services=["storage"])
        two = self.connection(HIGH, dialled=True, services=["introducer"])
        self.table.add(one)
        self.table.add(two)
        self.assertEqual([one], self.table.connections("storage"))
        self.assertEqual([two], self.table.connections("introducer"))
        self.assertEqual([], self.table.connections("blobs"))


class WaitTests(SynchronousTestCase):
    """Waiting for connections."""

    def setUp(self):
        self.clock = Clock()
        self.table = ConnectionTable(OWN, clock=self.clock)

    def wait(self, count, timeout=None):
        return run(self.table.wait_for(lambda c: len(c) >= count, timeout_seconds=timeout))

    def test_at_once_when_it_holds(self):
        self.assertTrue(self.successResultOf(self.wait(0)))

    def test_when_it_comes_to_hold(self):
        waiting = self.wait(2, timeout=60)
        self.table.add(FakeConnection(LOW))
        self.assertNoResult(waiting)
        self.table.add(FakeConnection(HIGH))
        self.assertTrue(self.successResultOf(waiting))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_until_the_timeout(self):
        waiting = self.wait(1, timeout=60)
        self.clock.advance(60)
        self.assertFalse(self.successResultOf(waiting))
        self.table.add(FakeConnection(LOW))

    def test_for_a_loss(self):
        one = FakeConnection(LOW)
        self.table.add(one)
        waiting = run(self.table.wait_for(lambda c: not c))
        one.lose()
        self.assertTrue(self.successResultOf(waiting))

    def test_cancelled(self):
        waiting = self.wait(1)
        waiting.cancel()
        self.failureResultOf(waiting)
        self.table.add(FakeConnection(LOW))

    def test_closing_ends_all(self):
        one = FakeConnection(LOW)
        self.table.add(one)
        waiting = self.wait(5, timeout=60)
        self.table.close()
        self.assertFalse(self.successResultOf(waiting))
        self.assertFalse(one.connected)
        self.assertEqual([], self.clock.getDelayedCalls())
