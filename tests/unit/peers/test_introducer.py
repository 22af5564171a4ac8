"""The introducer: what it takes, what it passes on, when, and what it remembers."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands.errors import BadAnnouncementError, BusyError, NotAllowedError
from ampgrid.commands.introduction import Announce, NewPeers, SetEncodingParameters
from ampgrid.errors import BadArgumentValueError
from ampgrid.formats.announcement import unpack
from ampgrid.peers import GridParameters, introducer
from ampgrid.peers.introducer import (
    ANNOUNCE_BURST,
    GATHER_SECONDS,
    NEWCOMER_SECONDS,
    RETRY_SECONDS,
)
from tests.unit.peers.fakes import FakeConnection, MemoryPeerStore, announcement, identity, run
from tests.unit.peers.nodes import IntroducerNode

NOTHING = bytes(8)


class IntroducerTests(SynchronousTestCase):
    """One introducer; its peers are recorders."""

    def setUp(self):
        self.clock = Clock()
        self.store = MemoryPeerStore()
        self.node = self.restart()

    def restart(self, **settings):
        self.node = IntroducerNode(self, self.clock, 0, self.store, **settings).start()
        self.introducer = self.node.introducer
        return self.node

    def connection(self, number):
        return FakeConnection(identity(number).node_id, services=["storage"], clock=self.clock)

    def announce(self, connection, packed, epoch=NOTHING, cursor=0):
        """Announce through the responder, as the wire would."""
        return run(self.introducer.announced(connection, packed, epoch, cursor))

    def join(self, number, sequence=1, epoch=NOTHING, cursor=0, connection=None):
        connection = connection or self.connection(number)
        packed = announcement(number, sequence)
        self.successResultOf(self.announce(connection, packed, epoch, cursor))
        self.clock.advance(0)
        return connection

    def told(self, connection):
        """Return, box by box, the nicknames of the announced and their numbers."""
        return [
            [(a.nickname, a.sequence) for a in map(unpack, box["announcements"])]
            for box in connection.named(NewPeers)
        ]

    def test_a_newcomer_is_told_of_all_and_all_of_the_newcomer(self):
        one = self.join(1)
        self.clock.advance(GATHER_SECONDS)
        two = self.join(2)
        self.assertEqual([[("peer 1", 1)]], self.told(two))
        self.assertEqual([], self.told(one))
        self.clock.advance(GATHER_SECONDS)
        self.assertEqual([[("peer 2", 1)]], self.told(one))
        self.assertEqual([[("peer 1", 1)]], self.told(two))

    def test_changes_are_gathered_for_a_second(self):
        one = self.join(1)
        self.clock.advance(10)
        for number in (2, 3, 4):
            self.join(number)
            self.clock.advance(0.3)
        self.assertEqual([], self.told(one))
        self.clock.advance(0.1)
        self.assertEqual(1, len(self.told(one)))
        self.assertEqual({"peer 2", "peer 3", "peer 4"}, {n for n, _ in self.told(one)[0]})

    def test_only_the_newest_of_a_peer_is_passed_on(self):
        one = self.join(1)
        self.clock.advance(10)
        two = self.join(2)
        for sequence in (2, 3, 4):
            self.join(2, sequence, connection=two)
        self.clock.advance(GATHER_SECONDS)
        self.assertEqual([[("peer 2", 4)]], self.told(one))

    def test_at_most_64_a_box_and_the_next_after_the_answer(self):
        """150 peers by the book; a slow newcomer gets 64, 64, 22, each after its answer."""
        learned = [_Known(number) for number in range(150)]
        self.node.book._peers.update({k.node_id: k for k in learned})
        for known in learned:
            self.introducer._changed(known.node_id)
        self.clock.advance(GATHER_SECONDS)
        answers = []

        def slowly(command, arguments):
            answers.append(Deferred())
            return answers[-1]

        newcomer = self.connection(1)
        newcomer.answer = slowly
        self.join(1, connection=newcomer)
        for sent in (1, 2, 3):
            self.assertEqual(sent, len(answers))
            self.clock.advance(5)
            self.assertEqual(sent, len(answers))
            answers[-1].callback({})
        boxes = newcomer.named(NewPeers)
        self.assertEqual([64, 64, 22], [len(box["announcements"]) for box in boxes])
        self.assertEqual(150, len({item for box in boxes for item in box["announcements"]}))
        # The newcomer's own change is the last, and is not told to itself.
        self.assertEqual([64, 128, 151], [box["cursor"] for box in boxes])
        self.assertEqual(1, len({box["epoch"] for box in boxes}))

    def test_who_knows_a_cursor_is_told_what_changed_since(self):
        for number in (1, 2, 3):
            self.join(number)
            self.clock.advance(GATHER_SECONDS)
        newcomer = self.join(4)
        box = newcomer.named(NewPeers)[-1]
        newcomer.lose()
        self.join(2, 5)
        self.clock.advance(GATHER_SECONDS)
        again = self.join(4, 2, box["epoch"], box["cursor"])
        self.assertEqual([[("peer 2", 5)]], self.told(again))

    def test_another_epoch_or_a_cursor_of_the_future_gets_everything(self):
        self.join(1)
        self.clock.advance(GATHER_SECONDS)
        epoch = self.join(2).named(NewPeers)[-1]["epoch"]
        for known in ((b"\xff" * 8, 1), (epoch, 1000)):
            self.assertEqual([[("peer 1", 1)]], self.told(self.join(2, 1, *known))[:1])

    def test_epoch_and_cursor_outlive_a_restart(self):
        """Nobody is told again what they know, and of what changed before a crash they are."""
        for number in (1, 2):
            self.join(number)
            self.clock.advance(GATHER_SECONDS)
        box = self.join(3).named(NewPeers)[-1]
        self.clock.advance(GATHER_SECONDS)
        position = self.introducer.status()["cursor"]
        self.assertEqual(3, position)
        self.join(1, 7)  # and it stops before the second is over
        self.restart()
        self.clock.advance(GATHER_SECONDS)
        self.assertEqual(4, self.introducer.status()["cursor"])
        again = self.join(3, 2, box["epoch"], box["cursor"])
        self.assertEqual([[("peer 1", 7)]], self.told(again))

    def test_a_failing_disk_delays_but_loses_nothing(self):
        one = self.join(1)
        self.clock.advance(10)
        self.join(2)
        self.store.broken = True
        self.clock.advance(GATHER_SECONDS)
        self.assertEqual(1, len(self.flushLoggedErrors(OSError)))
        self.assertEqual([], self.told(one))
        self.store.broken = False
        self.clock.advance(RETRY_SECONDS)
        self.assertEqual([[("peer 2", 1)]], self.told(one))

    def test_a_foreign_or_forged_announcement_is_refused(self):
        good = announcement(1)
        for bad in (announcement(2), good[:-1] + bytes([good[-1] ^ 1]), b"", good[:100]):
            connection = self.connection(1)
            self.failureResultOf(self.announce(connection, bad), BadAnnouncementError)
        self.clock.advance(10)
        self.assertEqual(
            (0, 0), tuple(self.introducer.status()[k] for k in ("announcements", "subscribers"))
        )

    def test_an_old_number_loses_silently(self):
        self.join(1, 9)
        late = self.join(1, 3)
        self.clock.advance(GATHER_SECONDS)
        self.assertEqual(9, self.node.book.get(identity(1).node_id).announcement.sequence)
        # And whoever lost its memory hears its own newest number.
        self.assertEqual([[("peer 1", 9)]], self.told(late))

    def test_who_announces_without_end_is_told_to_wait(self):
        connection = self.connection(1)
        for sequence in range(ANNOUNCE_BURST):
            self.join(1, sequence, connection=connection)
        self.failureResultOf(self.announce(connection, announcement(1, 99)), BusyError)
        self.clock.advance(5)
        self.join(1, 100, connection=connection)

    def test_only_so_many_new_nodes_are_taken_and_then_one_now_and_then(self):
        """Who is known already is not kept out by them."""
        self.patch(introducer, "NEWCOMER_BURST", 3)
        self.store = MemoryPeerStore()
        self.restart()
        for number in (1, 2, 3):
            self.join(number)
        for number in (4, 5):
            refused = self.announce(self.connection(number), announcement(number))
            self.failureResultOf(refused, BusyError)
        self.assertEqual({1, 2, 3}, self.node.known())
        self.join(1, 2)
        self.clock.advance(NEWCOMER_SECONDS)
        self.join(4)
        refused = self.announce(self.connection(5), announcement(5))
        self.failureResultOf(refused, BusyError)
        self.assertEqual({1, 2, 3, 4}, self.node.known())

    def test_encoding_parameters_follow_the_announcement_and_each_change(self):
        self.restart(parameters=GridParameters(3, 5, 7))
        one = self.join(1)
        self.assertEqual([_told(3, 5, 7)], one.named(SetEncodingParameters))
        self.clock.advance(100)
        self.introducer.set_parameters(GridParameters(3, 7, 10))
        self.introducer.set_parameters(GridParameters(3, 7, 10))
        self.assertEqual([_told(3, 5, 7), _told(3, 7, 10)], one.named(SetEncodingParameters))
        for wrong in ((0, 1, 1), (3, 2, 2), (1, 0, 1), (1, 2, 1), (1, 1, 257)):
            with self.assertRaises(BadArgumentValueError):
                self.introducer.set_parameters(GridParameters(*wrong))

    def test_a_peer_that_takes_nothing_is_tried_again_later(self):
        one = self.connection(1)
        one.answer = lambda command, arguments: BusyError("later")
        self.join(2)
        self.clock.advance(GATHER_SECONDS)
        self.join(1, connection=one)
        self.assertEqual(1, len(self.told(one)))
        one.answer = lambda command, arguments: {}
        self.clock.advance(RETRY_SECONDS)
        self.assertEqual([[("peer 2", 1)]] * 2, self.told(one))
        self.clock.advance(10 * RETRY_SECONDS)
        self.assertEqual(2, len(self.told(one)))

    def test_a_peer_that_does_not_answer_holds_up_nobody(self):
        stuck = self.connection(1)
        stuck.answer = lambda command, arguments: Deferred()
        self.join(3)
        self.clock.advance(GATHER_SECONDS)
        self.join(1, connection=stuck)
        two = self.join(2)
        self.clock.advance(GATHER_SECONDS)
        self.assertEqual({"peer 1", "peer 3"}, {n for box in self.told(two) for n, _ in box})
        self.clock.advance(60)
        self.clock.advance(RETRY_SECONDS)
        self.assertEqual(2, len(self.told(stuck)))

    def test_a_lost_connection_is_forgotten_with_its_timers(self):
        one = self.connection(1)
        one.answer = lambda command, arguments: NotAllowedError("no")
        self.join(2).lose()
        self.clock.advance(GATHER_SECONDS)
        self.join(1, connection=one)
        self.clock.advance(GATHER_SECONDS)
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        one.lose()
        self.assertEqual(0, self.introducer.status()["subscribers"])
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stopping_leaves_no_timer(self):
        one = self.connection(1)
        one.answer = lambda command, arguments: NotAllowedError("no")
        self.join(2)
        self.clock.advance(GATHER_SECONDS)
        self.join(1, connection=one)
        self.introducer.stop()
        self.node.book.on_change(lambda _: None)
        self.successResultOf(run(self.node.book.learn([announcement(3)])))
        self.assertEqual([], [c for c in self.clock.getDelayedCalls() if c.active()])

    def test_the_responder_is_on_the_wire(self):
        """Through the Command's own types, with the error that it declares."""
        peer = IntroducerNode(self, self.clock, 1)
        here, _ = peer.connect(self.node)
        call = run(here.call(Announce, announcement=announcement(1), epoch=NOTHING, cursor=0))
        self.assertEqual({}, self.successResultOf(call))
        call = run(here.call(Announce, announcement=announcement(2), epoch=NOTHING, cursor=0))
        self.failureResultOf(call, BadAnnouncementError)


def _told(needed, happy, total):
    return {"needed": needed, "happy": happy, "total": total}


class _Known:
    """Stands for a KnownPeer: signing 150 announcements is not what is tested."""

    def __init__(self, number):
        self.node_id = bytes([number]) * 20
        self.packed = b"announcement %d" % number
        self.announcement = self
        self.sequence = 1
        self.last_seen = 0.0
