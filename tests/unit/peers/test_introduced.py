"""The introduced, and whole grids of nodes and introducers."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands.errors import (
    BadAnnouncementError,
    BadArgumentError,
    BusyError,
    NotAllowedError,
)
from ampgrid.commands.introduction import Announce, NewPeers, SetEncodingParameters
from ampgrid.formats.announcement import unpack
from ampgrid.peers import ConnectionKeeper, GridParameters, Introduced
from tests.unit.peers.fakes import (
    FakeConnection,
    MemoryPeerStore,
    Wall,
    announcement,
    identity,
    run,
)
from tests.unit.peers.nodes import IntroducerNode, Node

EPOCH = b"an epoch"


class IntroducedTests(SynchronousTestCase):
    """One node, its introducer a recorder."""

    def setUp(self):
        self.clock = Clock()
        self.store = MemoryPeerStore()
        self.wall = Wall()
        self.restart()

    def restart(self):
        self.node = Node(self, self.clock, 1, self.store, introducers=[0], wall=self.wall).start()

    def introducer(self, number=0, services=("introducer",), answer=None):
        connection = FakeConnection(
            identity(number).node_id, services=services, clock=self.clock, dialled=True
        )
        connection.answer = answer or connection.answer
        self.node.table.add(connection)
        return connection

    def tell(self, connection, *announcements, epoch=EPOCH, cursor=1):
        return run(self.node.introduced.new_peers(connection, epoch, cursor, announcements))

    def announced(self, connection):
        """Return (sequence, epoch, cursor) of each Announce."""
        return [
            (unpack(a["announcement"]).sequence, a["epoch"], a["cursor"])
            for a in connection.named(Announce)
        ]

    def test_it_announces_itself_to_an_introducer_alone(self):
        sequence = self.node.own.sequence
        self.assertEqual([(sequence, bytes(8), 0)], self.announced(self.introducer()))
        others = [self.introducer(2), self.introducer(0, services=("storage",))]
        self.assertEqual([[], []], [self.announced(other) for other in others])

    def test_it_goes_on_from_the_cursor_it_was_told(self):
        one = self.introducer()
        self.successResultOf(self.tell(one, announcement(2), cursor=17))
        one.lose()
        self.assertEqual([(EPOCH, 17)], [a[1:] for a in self.announced(self.introducer())])
        self.restart()
        self.assertEqual([(EPOCH, 17)], [a[1:] for a in self.announced(self.introducer())])
        self.assertEqual({2}, self.node.known())

    def test_a_cursor_goes_back_only_with_another_epoch(self):
        one = self.introducer()
        self.successResultOf(self.tell(one, cursor=17))
        self.successResultOf(self.tell(one, cursor=3))
        self.restart()
        one = self.introducer()
        self.assertEqual((EPOCH, 17), self.announced(one)[0][1:])
        self.successResultOf(self.tell(one, epoch=b"another!", cursor=3))
        self.restart()
        self.assertEqual((b"another!", 3), self.announced(self.introducer())[0][1:])

    def test_lost_announcements_are_asked_for_again(self):
        """A damaged row means that the cursor says too much."""
        self.successResultOf(self.tell(self.introducer(), announcement(2), cursor=17))
        row = self.store.rows[identity(2).node_id]
        self.store.rows[identity(2).node_id] = (row[0], row[1][:-1], *row[2:])
        self.restart()
        self.assertEqual((bytes(8), 0), self.announced(self.introducer())[0][1:])

    def test_a_changed_announcement_is_announced(self):
        one = self.introducer()
        self.node.announce(addresses=("192.0.2.200:1",))
        self.assertEqual(2, len(self.announced(one)))
        self.assertEqual(self.node.own.sequence, self.announced(one)[-1][0])

    def test_the_same_is_not_announced_twice(self):
        one = self.introducer()
        self.node.introduced.set_announcement(one.named(Announce)[0]["announcement"], 1)
        self.assertEqual(1, len(self.announced(one)))

    def test_a_refusal_is_not_repeated_until_something_changes(self):
        one = self.introducer(answer=lambda c, a: BadAnnouncementError("bad it is"))
        self.clock.advance(1000)
        self.assertEqual(1, len(self.announced(one)))
        self.assertEqual("bad it is", self.node.introduced.status()[0]["last_error"])
        self.node.announce()
        self.assertEqual(2, len(self.announced(one)))

    def test_a_busy_introducer_is_asked_again(self):
        one = self.introducer(answer=lambda c, a: BusyError("later"))
        one.answer, refuse = (lambda c, a: {}), one.answer
        self.assertEqual(1, len(self.announced(one)))
        self.clock.advance(44)
        self.assertEqual(1, len(self.announced(one)))
        self.clock.advance(1)
        self.assertEqual(2, len(self.announced(one)))
        status = self.node.introduced.status()[0]
        self.assertEqual((True, ""), (status["announced"], status["last_error"]))
        one.answer = refuse
        self.node.announce()
        self.node.stop()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_only_introducers_are_believed(self):
        """A peer that calls itself an introducer is not one; the store stays as it was."""
        before = dict(self.store.meta)
        liar = self.introducer(2)
        self.failureResultOf(self.tell(liar, announcement(3)), NotAllowedError)
        parameters = self.node.introduced.set_parameters(liar, GridParameters(1, 1, 1))
        self.failureResultOf(run(parameters), NotAllowedError)
        self.assertEqual((set(), before), (self.node.known(), self.store.meta))

    def test_bad_announcements_are_skipped_and_counted(self):
        good, other = announcement(2), announcement(3)
        forged = good[:60] + other[60:]
        one = self.introducer()
        self.successResultOf(self.tell(one, forged, good, b"", other[:-1], cursor=5))
        self.assertEqual({2}, self.node.known())
        self.assertEqual(3, self.node.introduced.status()[0]["skipped"])

    def test_old_announcements_change_nothing(self):
        one = self.introducer()
        self.successResultOf(self.tell(one, announcement(2, 9)))
        self.successResultOf(self.tell(one, announcement(2, 8, nickname="old"), cursor=2))
        known = self.node.book.get(identity(2).node_id).announcement
        self.assertEqual((9, "peer 2"), (known.sequence, known.nickname))

    def test_a_higher_number_of_ones_own_is_reported(self):
        one = self.introducer()
        above = self.node.own.sequence + 50
        self.successResultOf(self.tell(one, announcement(1, above), announcement(1, 3)))
        self.assertEqual([above], self.node.outrun)
        self.node.announce(above=above)
        self.assertEqual(above + 1, self.announced(one)[-1][0])
        self.successResultOf(self.tell(one, announcement(1, above), cursor=9))
        self.assertEqual([above], self.node.outrun)

    def test_parameters_are_checked_and_kept(self):
        one = self.introducer()
        advise = self.node.introduced.set_parameters
        for wrong in ((0, 1, 1), (3, 2, 2), (1, 0, 1), (1, 2, 1), (1, 1, 257)):
            self.failureResultOf(run(advise(one, GridParameters(*wrong))), BadArgumentError)
        self.assertIsNone(self.node.introduced.parameters)
        for _ in range(2):
            self.successResultOf(run(advise(one, GridParameters(3, 7, 10))))
            self.assertEqual((3, 7, 10), self.node.introduced.parameters)
        self.restart()
        self.assertEqual((3, 7, 10), self.node.introduced.parameters)

    def test_damaged_parameters_are_ignored(self):
        for damaged in (b"", b"\x00" * 6, b"\x00" * 7):
            self.store.meta["introduced/parameters"] = damaged
            self.restart()
            self.assertIsNone(self.node.introduced.parameters)

    def test_a_failing_disk_is_an_error_and_the_cursor_stays(self):
        one = self.introducer()
        self.store.broken = True
        self.failureResultOf(self.tell(one, announcement(2), cursor=17), OSError)
        self.store.broken = False
        one.lose()
        self.assertEqual((bytes(8), 0), self.announced(self.introducer())[0][1:])

    def test_the_responders_are_on_the_wire(self):
        """Through the Commands' own types, with the errors that they declare."""
        introducer = IntroducerNode(self, self.clock, 0).start()
        stranger = Node(self, self.clock, 7).start()
        _, there = self.node.connect(introducer)
        strange, _ = stranger.connect(self.node)
        boxes = [
            (NewPeers, {"epoch": EPOCH, "cursor": 1, "announcements": [announcement(2)]}),
            (SetEncodingParameters, {"needed": 3, "happy": 3, "total": 5}),
        ]
        for command, arguments in boxes:
            self.failureResultOf(run(strange.call(command, **arguments)), NotAllowedError)
            self.assertEqual({}, self.successResultOf(run(there.call(command, **arguments))))
        wrong = run(there.call(SetEncodingParameters, needed=3, happy=6, total=5))
        self.failureResultOf(wrong, BadArgumentError)


class GridTests(SynchronousTestCase):
    """Nodes and introducers together."""

    def setUp(self):
        self.clock = Clock()

    def settle(self):
        self.clock.pump([0.25] * 12)

    def test_everybody_learns_of_everybody(self):
        introducer = IntroducerNode(
            self, self.clock, 0, parameters=GridParameters(3, 3, 5)
        ).start()
        nodes = [Node(self, self.clock, n, introducers=[0]).start() for n in range(1, 7)]
        for node in nodes:
            node.connect(introducer)
            self.clock.advance(0.2)
        self.settle()
        for node in nodes:
            self.assertEqual({1, 2, 3, 4, 5, 6} - {node.number}, node.known())
            self.assertEqual((3, 3, 5), node.introduced.parameters)

    def test_two_introducers(self):
        """Half the nodes know one, half the other, one node both; with one gone, all goes on."""
        first, second = (IntroducerNode(self, self.clock, n).start() for n in (0, 1))
        left = [Node(self, self.clock, n, introducers=[0]).start() for n in (2, 3)]
        right = [Node(self, self.clock, n, introducers=[1]).start() for n in (4, 5)]
        both = Node(self, self.clock, 6, introducers=[0, 1]).start()
        for node, introducers in (
            *((node, [first]) for node in left),
            *((node, [second]) for node in right),
            (both, [first, second]),
        ):
            for introducer in introducers:
                node.connect(introducer)
        self.settle()
        self.assertEqual([{3, 6}, {2, 6}], [node.known() for node in left])
        self.assertEqual([{5, 6}, {4, 6}], [node.known() for node in right])
        self.assertEqual({2, 3, 4, 5}, both.known())
        first.stop()
        both.announce(addresses=("192.0.2.250:9",))
        Node(self, self.clock, 7, introducers=[0, 1]).start().connect(second)
        self.settle()
        self.assertEqual({4, 6, 7}, right[1].known())
        self.assertEqual((("192.0.2.250", 9),), right[0].book.hints(both.node_id))
        self.assertEqual({2, 3, 4, 5, 7}, both.known())

    def test_introducers_that_introduce_themselves_to_each_other_share_all(self):
        first = IntroducerNode(self, self.clock, 0).start()
        second = IntroducerNode(self, self.clock, 1, introducers=[0]).start()
        second.announce()
        second.connect(first)
        left = Node(self, self.clock, 2, introducers=[0]).start()
        left.connect(first)
        right = Node(self, self.clock, 3, introducers=[1]).start()
        right.connect(second)
        self.settle()
        self.assertEqual({1, 2}, first.known())
        self.assertEqual({2, 3}, second.known())
        self.assertIn(2, right.known())

    def test_a_grid_that_has_met_once_works_with_every_introducer_gone(self):
        """From its database alone, a restarted node knows whom to dial and how to encode."""
        introducer = IntroducerNode(self, self.clock, 0, parameters=GridParameters(3, 7, 10))
        introducer.start()
        nodes = [Node(self, self.clock, n, introducers=[0]).start() for n in (1, 2, 3)]
        for node in nodes:
            node.connect(introducer)
        self.settle()
        introducer.stop()
        for node in nodes:
            node.stop()

        again = Node(self, self.clock, 1, nodes[0].store, introducers=[0]).start()
        dialled = []

        async def dial(node_id, hints):
            dialled.append((node_id, tuple(hints)))
            connection = FakeConnection(node_id, dialled=True, services=["storage"])
            again.table.add(connection)
            return connection

        keeper = ConnectionKeeper(
            again.book,
            again.table,
            dial,
            clock=self.clock,
            wall=Wall(),
            uniform=lambda low, high: high,
        )
        keeper.start()
        self.clock.advance(0)
        self.assertEqual(
            {(identity(n).node_id, ((f"192.0.2.{n}", 4000),)) for n in (2, 3)}, set(dialled)
        )
        self.assertEqual(2, len(again.table.connections("storage")))
        self.assertEqual((3, 7, 10), again.introduced.parameters)

    def test_a_node_whose_database_is_lost_comes_back(self):
        """Its clock behind too: the introducer tells it of its own higher number."""
        introducer = IntroducerNode(self, self.clock, 0).start()
        node = Node(self, self.clock, 1, introducers=[0]).start()
        node.connect(introducer)
        other = Node(self, self.clock, 2, introducers=[0]).start()
        other.connect(introducer)
        self.settle()
        node.stop()
        reborn = Node(self, self.clock, 1, introducers=[0], wall=Wall(1000.0)).start()
        reborn.connect(introducer)
        self.settle()
        self.assertEqual([node.own.sequence], reborn.outrun)
        reborn.announce(above=reborn.outrun[0], addresses=("192.0.2.111:1",))
        self.settle()
        self.assertEqual((("192.0.2.111", 1),), other.book.hints(node.node_id))
        self.assertEqual({2}, reborn.known())

    def test_own_node_as_its_introducer_is_ignored(self):
        node = Node(self, self.clock, 0, introducers=[0])
        self.assertIsInstance(node.introduced, Introduced)
        self.assertEqual([], node.introduced.status())
