"""Keeping connected: who is dialled, in which order, and what is told of it."""

from __future__ import annotations

import gc
import json

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.identity import node_id_text
from ampgrid.errors import HandshakeError
from ampgrid.formats.address import Address
from ampgrid.peers import ConnectionKeeper, ConnectionTable, PeerBook
from tests.unit.peers.fakes import (
    FakeConnection,
    InlineThreads,
    MemoryPeerStore,
    Wall,
    announcement,
    identity,
    run,
)

#: All others are higher, so they are dialled at once.
OWN = identity(0).node_id


def node(number):
    return identity(number).node_id


class KeeperTests(SynchronousTestCase):
    """One node's keeper, its dials answered by the test."""

    def setUp(self):
        self.clock = Clock()
        self.wall = Wall()
        self.store = MemoryPeerStore()
        self.dials = []
        self.reachable = set()
        self.build()

    def build(self, introducers=(), by_hand=(), allowed=None, **settings):
        self.table = ConnectionTable(OWN, clock=self.clock, allowed=allowed)
        self.book = PeerBook(
            self.store, own_id=OWN, threads=InlineThreads(), wall=self.wall, by_hand=by_hand
        )
        self.successResultOf(run(self.book.start()))
        self.keeper = ConnectionKeeper(
            self.book,
            self.table,
            self.dial,
            introducers=introducers,
            clock=self.clock,
            wall=self.wall,
            uniform=lambda low, high: high,
            **settings,
        )

    async def dial(self, node_id, hints):
        self.dials.append((node_id, tuple(hints)))
        if node_id not in self.reachable:
            raise HandshakeError("nobody there")
        connection = FakeConnection(node_id, dialled=True, services=["storage"], nickname="n")
        self.table.add(connection)
        return connection

    def learn(self, *packed):
        self.successResultOf(run(self.book.learn(packed)))

    def learn_reached(self, number):
        """Learn of a peer that was reached before."""
        self.learn(announcement(number))
        self.successResultOf(run(self.book.met(node(number), reached=True)))

    def dialled(self):
        return [node_id for node_id, _ in self.dials]

    def start(self):
        self.keeper.start()
        self.clock.advance(0)

    def test_introducers_come_first_then_those_by_hand_then_the_known(self):
        introducer = Address(node(9), (("192.0.2.9", 1),), bytes(16))
        by_hand = Address(node(8), (("192.0.2.8", 1),))
        self.build(introducers=[introducer], by_hand=[by_hand])
        self.learn(announcement(1), announcement(9))
        self.start()
        self.assertEqual([node(9), node(8), node(1)], self.dialled())
        self.assertEqual((("192.0.2.9", 1), ("192.0.2.9", 4000)), self.dials[0][1])

    def test_a_peer_that_is_announced_is_dialled(self):
        self.start()
        self.learn(announcement(1), announcement(2, addresses=()))
        self.clock.advance(0)
        self.assertEqual([node(1)], self.dialled())

    def test_nothing_is_dialled_before_the_start_or_after_the_end(self):
        self.learn(announcement(1))
        self.clock.advance(100)
        self.assertEqual([], self.dials)
        self.start()
        self.keeper.stop()
        self.learn(announcement(2), announcement(1, 2))
        self.clock.advance(100)
        self.assertEqual([node(1)], self.dialled())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_a_lost_connection_is_dialled_again(self):
        self.reachable.add(node(1))
        self.learn(announcement(1))
        self.start()
        self.clock.advance(60)
        self.table.get(node(1)).lose()
        self.clock.advance(1)
        self.assertEqual([node(1)] * 2, self.dialled())
        self.assertIsNotNone(self.table.get(node(1)))

    def test_a_replaced_connection_is_not_dialled_again(self):
        self.reachable.add(node(1))
        self.learn(announcement(1))
        self.start()
        self.table.add(FakeConnection(node(1), dialled=True))
        self.clock.advance(100)
        self.assertEqual([node(1)], self.dialled())

    def test_an_incoming_connection_ends_the_dialling(self):
        self.learn(announcement(1))
        self.start()
        self.table.add(FakeConnection(node(1), dialled=False))
        self.clock.advance(1000)
        self.assertEqual([node(1)], self.dialled())

    def test_one_that_is_connected_when_it_is_announced_is_not_dialled(self):
        self.start()
        self.table.add(FakeConnection(node(1), dialled=False))
        self.learn(announcement(1))
        self.clock.advance(1000)
        self.assertEqual([], self.dials)

    def test_one_that_is_not_allowed_is_not_dialled(self):
        self.build(allowed=[node(2)])
        self.learn(announcement(1), announcement(2))
        self.start()
        self.assertEqual([node(2)], self.dialled())

    def test_new_addresses_are_dialled_at_once(self):
        self.learn(announcement(1))
        self.start()
        self.clock.pump([15, 31])
        self.dials.clear()
        self.learn(announcement(1, 2, addresses=("192.0.2.200:1",)))
        self.clock.advance(0)
        self.assertEqual([(node(1), (("192.0.2.200", 1),))], self.dials)

    def test_no_more_than_the_bound_and_another_when_one_goes(self):
        """For whom there is no room takes turns."""
        self.build(most=2, slots=1)
        for number in (1, 2, 3):
            self.learn_reached(number)
            self.wall.now -= 1
        self.start()
        self.assertEqual([node(1), node(2), node(3)], self.dialled())
        self.clock.advance(7)
        self.assertEqual(1, self.dialled().count(node(3)))
        self.learn(announcement(2, 2, addresses=()))
        self.dials.clear()
        self.clock.pump([1] * 3)
        self.assertGreater(self.dialled().count(node(3)), 1)

    def slow(self):
        """Let each dial wait for the test; returns the list of those that wait."""
        waiting = []

        async def slow(node_id, hints):
            waiting.append(Deferred())
            self.dials.append((node_id, tuple(hints)))
            return await waiting[-1]

        self.dial = slow
        return waiting

    def test_only_so_many_dials_of_the_reached_at_once(self):
        waiting = self.slow()
        self.build()
        for number in range(1, 40):
            self.learn_reached(number)
        self.keeper._turns.limit = self.keeper._turns.tokens = 5
        self.start()
        self.assertEqual(5, len(waiting))
        waiting[0].errback(HandshakeError("no"))
        self.assertEqual(6, len(waiting))
        self.keeper.stop()
        self.assertEqual(6, len(waiting), "a stopped dial must not start the next")
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_only_so_many_of_the_unreached_at_once(self):
        """A place is free as soon as its peer was tried once."""
        waiting = self.slow()
        self.build(slots=5)
        self.learn(*(announcement(number) for number in range(1, 40)))
        self.start()
        self.assertEqual(5, len(waiting))
        for _ in range(34):
            waiting.pop(0).errback(HandshakeError("no"))
            self.clock.advance(0)
            self.assertEqual(5, len(waiting))
        self.assertEqual({node(n) for n in range(1, 40)}, set(self.dialled()))
        self.assertEqual(39, len(self.dials))
        self.keeper.stop()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_the_end_of_the_program_starts_no_dial(self):
        """When the coroutine of one that has its place is thrown away."""
        waiting = self.slow()
        self.build()
        for number in (1, 2):
            self.learn_reached(number)
        self.keeper._turns.limit = self.keeper._turns.tokens = 1
        self.keeper._running = True
        first = self.keeper._dial_in_turn(node(1), ())
        second = self.keeper._dial_in_turn(node(2), ())
        first.send(None)
        second.send(None)
        second.close()
        first.close()
        gc.collect()
        self.assertEqual(1, len(waiting))

    def test_the_unreached_do_not_keep_out_the_reached(self):
        """Not even with every slot taken, and after a restart."""
        waiting = self.slow()
        self.build(slots=5)
        for number in range(1, 4):
            self.learn_reached(number)
        self.wall.now += 100
        self.learn(*(announcement(number) for number in range(4, 40)))
        for _ in range(2):
            self.start()
            self.assertEqual([node(3), node(2), node(1)], sorted(self.dialled()[:3])[::-1])
            self.assertEqual(8, len(waiting))
            self.keeper.stop()
            self.dials.clear()
            waiting.clear()
            self.build(slots=5)

    def test_the_unreached_are_dialled_less_and_less(self):
        """A day, and it is tried once an hour at the end."""
        self.learn(announcement(1), announcement(2))
        self.start()
        for _ in range(24):
            self.clock.pump([60] * 60)
        self.assertLess(len(self.dials), 2 * 30)
        self.dials.clear()
        self.clock.pump([60] * 61)
        self.assertEqual({node(1), node(2)}, set(self.dialled()))
        self.assertEqual(2, len(self.dials))

    def test_only_some_addresses_of_the_unreached_are_dialled(self):
        addresses = tuple(f"192.0.2.{n}:1" for n in range(16))
        self.learn(announcement(1, addresses=addresses))
        self.start()
        self.assertEqual(4, len(self.dials[0][1]))
        self.reachable.add(node(1))
        self.clock.advance(20)
        self.table.get(node(1)).lose()
        self.dials.clear()
        self.clock.advance(10)
        self.assertEqual(16, len(self.dials[0][1]))

    def test_who_only_dials_is_no_more_believed_about_its_addresses(self):
        self.learn(announcement(1, addresses=tuple(f"192.0.2.{n}:1" for n in range(16))))
        self.start()
        for _ in range(3):
            connection = FakeConnection(node(1))
            self.table.add(connection)
            connection.lose()
            self.dials.clear()
            self.clock.advance(4000)
            self.assertEqual({4}, {len(hints) for _, hints in self.dials})

    def test_a_first_one_that_is_reached_displaces_who_was_away_for_longest(self):
        self.build(most=2)
        for number in (1, 2):
            self.learn_reached(number)
            self.wall.now += 100
        self.start()
        self.reachable.add(node(3))
        self.learn(announcement(3))
        self.clock.advance(0)
        self.assertEqual({node(2), node(3)}, set(self.keeper._diallers))
        self.reachable.add(node(1))
        self.clock.advance(30)
        self.assertEqual({node(1), node(3)}, set(self.keeper._diallers))
        self.assertEqual(2, len(self.table.connections()))

    def test_who_was_never_reached_in_a_week_is_forgotten(self):
        """One that was connected, however it came, is not."""
        self.learn(announcement(1), announcement(2))
        self.start()
        for _ in range(24 * 7 - 1):
            self.clock.advance(3600)
            self.wall.now += 3600
        self.assertEqual(2, len(self.book.peers()))
        connection = FakeConnection(node(2))
        self.table.add(connection)
        connection.lose()
        for _ in range(3):
            self.clock.advance(3600)
            self.wall.now += 3600
        self.assertEqual([node(2)], [p.announcement.node_id for p in self.book.peers()])
        self.assertEqual([node(2)], list(self.store.rows))
        self.learn(announcement(1, 2))
        self.clock.advance(0)
        self.assertEqual(node(1), self.dialled()[-1])

    def test_after_a_long_time_off_nobody_is_forgotten_untried(self):
        self.learn(announcement(1))
        self.wall.now += 1e9
        self.start()
        self.clock.pump([60] * 30)
        self.assertGreater(len(self.dials), 1)
        self.assertEqual(1, len(self.book.peers()))

    def test_one_that_was_announced_after_it_came_counts_as_connected(self):
        self.start()
        self.table.add(FakeConnection(node(1)))
        self.learn(announcement(1))
        self.assertEqual(self.wall.now, self.book.get(node(1)).last_connected)
        self.assertEqual(0.0, self.book.get(node(1)).last_reached)

    def test_seen_is_noted_when_it_comes_and_when_it_goes(self):
        self.learn(announcement(1))
        self.start()
        self.wall.now += 100
        connection = FakeConnection(node(1))
        self.table.add(connection)
        self.assertEqual(self.wall.now, self.book.get(node(1)).last_seen)
        self.wall.now += 100
        connection.lose()
        self.assertEqual(self.wall.now, self.store.rows[node(1)][3])

    def test_status(self):
        introducer = Address(node(9), (("192.0.2.9", 1),), bytes(16))
        self.build(introducers=[introducer])
        self.reachable.add(node(1))
        self.learn(announcement(1))
        self.wall.now -= 10
        self.learn(announcement(2, addresses=()))
        self.wall.now += 10
        self.start()
        self.table.add(FakeConnection(node(3), services=["storage"], nickname="three"))
        status = self.keeper.status()
        self.assertEqual(status, json.loads(json.dumps(status)))
        self.assertEqual(
            [node_id_text(node(n)) for n in (9, 1, 3, 2)], [row["node_id"] for row in status]
        )
        nine, one, three, two = status
        self.assertEqual(("waiting", "nobody there"), (nine["state"], nine["last_error"]))
        self.assertTrue(nine["is_introducer"])
        self.assertEqual(
            {
                "node_id": node_id_text(node(1)),
                "nickname": "n",
                "state": "connected",
                "addresses": ["192.0.2.1:4000"],
                "services": ["storage"],
                "software": "fake 1",
                "dialled": True,
                "since": self.wall.now,
                "last_error": "",
                "is_introducer": False,
            },
            one,
        )
        self.assertEqual(("connected", "three", []), tuple(three[k] for k in _SHORT))
        self.assertEqual(("known", "peer 2", []), tuple(two[k] for k in _SHORT))


_SHORT = ("state", "nickname", "addresses")
