"""The peer book: which announcement counts, what is kept, and what is not believed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.formats.address import parse_address
from ampgrid.formats.announcement import unpack
from ampgrid.peers import OwnAnnouncement, PeerBook
from tests.unit.peers.fakes import (
    InlineThreads,
    MemoryPeerStore,
    Wall,
    announcement,
    identity,
    run,
)

OWN = identity(5).node_id


class Books:
    """Makes peer books over one database."""

    def __init__(self):
        self.store = MemoryPeerStore()
        self.wall = Wall()

    def new(self, **settings):
        return PeerBook(
            self.store, own_id=OWN, threads=InlineThreads(), wall=self.wall, **settings
        )


class PeerBookTests(SynchronousTestCase):
    """One book, or one after the other over the same database."""

    def setUp(self):
        self.books = Books()
        self.book = self.books.new()
        self.successResultOf(run(self.book.start()))
        self.changes = []
        self.book.on_change(self.changes.append)

    def learn(self, *packed, book=None):
        return self.successResultOf(run((book or self.book).learn(packed)))

    def test_a_new_peer_is_known_and_kept(self):
        one = announcement(1)
        learned = self.learn(one)
        node_id = identity(1).node_id
        self.assertEqual((node_id,), learned.changed)
        self.assertEqual([node_id], self.changes)
        again = self.books.new()
        self.successResultOf(run(again.start()))
        self.assertEqual(self.book.get(node_id), again.get(node_id))
        self.assertEqual(one, again.get(node_id).packed)
        self.assertEqual((("192.0.2.1", 4000),), again.hints(node_id))

    @given(st.lists(st.integers(0, 20), min_size=1, max_size=12))
    @settings(deadline=None, max_examples=30)
    def test_the_highest_number_wins_whatever_the_order(self, numbers):
        books = Books()
        book = books.new()
        for number in numbers:
            self.learn(announcement(1, number), book=book)
        node_id = identity(1).node_id
        self.assertEqual(max(numbers), book.get(node_id).announcement.sequence)
        self.assertEqual(max(numbers), books.store.rows[node_id][0])

    def test_an_old_number_loses_silently(self):
        self.learn(announcement(1, 7))
        learned = self.learn(announcement(1, 6), announcement(1, 7, nickname="twin"))
        self.assertEqual(((), 2, 0), (learned.changed, learned.old, learned.bad))
        self.assertEqual("peer 1", self.book.get(identity(1).node_id).announcement.nickname)
        self.assertEqual(1, len(self.changes))

    def test_the_forged_are_skipped_and_counted(self):
        """Each byte of one flipped, each truncation; a good one among them is taken."""
        good = announcement(2)
        flipped = [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(len(good))]
        cut = [good[:length] for length in range(0, len(good), 7)]
        learned = self.learn(*flipped, *cut, announcement(1))
        self.assertEqual((identity(1).node_id,), learned.changed)
        self.assertEqual(len(flipped) + len(cut), learned.bad)
        self.assertIsNone(self.book.get(identity(2).node_id))

    def test_own_announcements_are_not_kept_but_their_number_is_told(self):
        learned = self.learn(announcement(5, 3), announcement(5, 9), announcement(5, 4))
        self.assertEqual(9, learned.own_sequence)
        self.assertEqual(((), {}), (learned.changed, self.books.store.rows))

    def test_first_and_last_seen(self):
        node_id = identity(1).node_id
        start = self.books.wall.now
        self.learn(announcement(1, 1))
        self.books.wall.now += 10
        self.learn(announcement(1, 2))
        self.books.wall.now += 10
        self.successResultOf(run(self.book.met(node_id, reached=False)))
        self.successResultOf(run(self.book.met(identity(2).node_id, reached=True)))
        known = self.book.get(node_id)
        self.assertEqual((start, start + 20), (known.first_seen, known.last_seen))
        self.assertEqual((start, start + 20), self.books.store.rows[node_id][2:])

    def test_who_was_met_is_remembered(self):
        """Through newer announcements and a restart."""
        start = self.books.wall.now
        self.learn(announcement(1, 1), announcement(2))
        self.successResultOf(run(self.book.met(identity(1).node_id, reached=True)))
        self.books.wall.now += 10
        self.successResultOf(run(self.book.met(identity(1).node_id, reached=False)))
        self.learn(announcement(1, 2))
        again = self.books.new()
        self.successResultOf(run(again.start()))
        for book in (self.book, again):
            one, two = (book.get(identity(n).node_id) for n in (1, 2))
            self.assertEqual((start + 10, start), (one.last_connected, one.last_reached))
            self.assertEqual((0.0, 0.0), (two.last_connected, two.last_reached))

    def test_who_is_forgotten_is_gone_and_may_come_again(self):
        node_id = identity(1).node_id
        self.learn(announcement(1))
        for _ in range(2):
            self.successResultOf(run(self.book.forget(node_id)))
            self.assertEqual((None, {}), (self.book.get(node_id), self.books.store.rows))
        self.assertEqual([node_id] * 2, self.changes)
        self.learn(announcement(1))
        self.assertIsNotNone(self.book.get(node_id))

    def test_when_full_the_never_connected_go_first(self):
        """However many come, and however long ago the others were connected."""
        book = self.books.new(most=10)
        for number in range(6, 11):
            self.learn(announcement(number), book=book)
            self.successResultOf(run(book.met(identity(number).node_id, reached=False)))
            self.books.wall.now += 1
        met = {identity(n).node_id for n in range(6, 11)}
        for number in range(11, 40):
            self.learn(announcement(number), book=book)
            self.books.wall.now += 1
        known = {peer.announcement.node_id for peer in book.peers()}
        self.assertEqual((met, 10), (met & known, len(known)))
        self.assertIn(identity(39).node_id, known)

    def test_the_most_recently_seen_come_first(self):
        for number in (3, 1, 2):
            self.learn(announcement(number))
            self.books.wall.now += 1
        nicknames = [peer.announcement.nickname for peer in self.book.peers()]
        self.assertEqual(["peer 2", "peer 1", "peer 3"], nicknames)

    def test_when_full_the_least_recently_seen_go(self):
        """Those in use and those listed by hand stay, however old."""
        by_hand = parse_address("amp://" + _text(6) + "@192.0.2.99:1")
        in_use = identity(7).node_id
        book = self.books.new(most=8, by_hand=[by_hand], in_use=lambda n: n == in_use)
        book.on_change(self.changes.append)
        for number in (6, 7, 8, 9, 10, 11, 12, 13):
            self.learn(announcement(number), book=book)
            self.books.wall.now += 1
        self.changes.clear()
        self.learn(announcement(14), announcement(15), book=book)
        gone = {identity(8).node_id, identity(9).node_id}
        kept = {identity(n).node_id for n in (6, 7, 10, 11, 12, 13, 14, 15)}
        self.assertEqual(kept, {peer.announcement.node_id for peer in book.peers()})
        self.assertEqual(kept, set(self.books.store.rows))
        self.assertEqual(gone, set(self.changes) - kept)

    def test_damaged_rows_are_dropped_at_the_start(self):
        self.learn(announcement(1), announcement(2), announcement(3))
        rows = self.books.store.rows
        one, two = identity(1).node_id, identity(2).node_id
        rows[one] = (1, rows[one][1][:-1] + b"\x00", *rows[one][2:])
        rows[two] = rows[identity(3).node_id]
        again = self.books.new()
        self.successResultOf(run(again.start()))
        self.assertEqual([identity(3).node_id], [p.announcement.node_id for p in again.peers()])
        self.assertEqual(2, again.damaged)
        self.assertEqual({identity(3).node_id}, set(rows))

    def test_what_the_disk_refused_is_written_later(self):
        self.books.store.broken = True
        self.failureResultOf(run(self.book.learn([announcement(1)])), OSError)
        self.books.store.broken = False
        self.learn(announcement(1))
        self.assertEqual({identity(1).node_id}, set(self.books.store.rows))

    def test_hints_by_hand_come_first_and_once(self):
        address = parse_address(f"amp://{_text(1)}@192.0.2.77:1,192.0.2.1:4000")
        book = self.books.new(by_hand=[address, parse_address(f"amp://{_text(5)}@192.0.2.5:1")])
        self.learn(announcement(1, addresses=("192.0.2.1:4000", "[2001:db8::1]:5")), book=book)
        self.assertEqual(
            (("192.0.2.77", 1), ("192.0.2.1", 4000), ("2001:db8::1", 5)),
            book.hints(identity(1).node_id),
        )
        self.assertEqual((), book.hints(identity(2).node_id))
        self.assertNotIn(OWN, book.by_hand)

    def test_a_failing_watcher_does_not_harm_the_next(self):
        def fail(_):
            raise ZeroDivisionError

        book = self.books.new()
        book.on_change(fail)
        book.on_change(self.changes.append)
        self.learn(announcement(1), book=book)
        self.assertEqual([identity(1).node_id], self.changes)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


def _text(number):
    from ampgrid.crypto.identity import node_id_text

    return node_id_text(identity(number).node_id)


class OwnAnnouncementTests(SynchronousTestCase):
    """Numbers rise, whatever happens."""

    def make(self, store, now, **settings):
        own = OwnAnnouncement(identity(5), store, threads=InlineThreads(), wall=Wall(now))
        packed = self.successResultOf(run(own.make(**settings)))
        self.assertEqual(own.sequence, unpack(packed).sequence)
        return unpack(packed)

    def test_what_it_says(self):
        made = self.make(
            MemoryPeerStore(),
            1000.7,
            nickname="five",
            services=["storage"],
            software="ampgrid 1",
            addresses=["192.0.2.5:4000"],
        )
        self.assertEqual((OWN, 1000, "five"), (made.node_id, made.sequence, made.nickname))
        self.assertEqual((("storage",), ("192.0.2.5:4000",)), (made.services, made.addresses))

    def test_a_clock_that_goes_back_does_not_matter(self):
        store = MemoryPeerStore()
        numbers = [self.make(store, now).sequence for now in (1000, 1000, 5, 2000, 1999)]
        self.assertEqual([1000, 1001, 1002, 2000, 2001], numbers)

    def test_a_lost_database_does_not_matter(self):
        before = self.make(MemoryPeerStore(), 1000).sequence
        self.assertGreater(self.make(MemoryPeerStore(), 1001).sequence, before)

    def test_it_goes_above_what_is_about_but_not_to_the_end_of_numbers(self):
        store = MemoryPeerStore()
        self.assertEqual(10_001, self.make(store, 1000, above=10_000).sequence)
        self.assertEqual(10_002, self.make(store, 1000, above=2**63 - 1).sequence)
