"""One contract for the database of peers and for its twin in memory."""

from __future__ import annotations

from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import BadArgumentValueError
from ampgrid.peers import PeerStore
from ampgrid.store import peerdb
from ampgrid.store.peerdb import PEERS_SCHEMA, PeerDatabase
from ampgrid.store.sql import Database
from tests.unit.peers.fakes import MemoryPeerStore

A, B = b"a" * 20, b"b" * 20


class PeerStoreContract:
    """What the peer book, the introducer and the introduced rely on."""

    store: PeerStore

    def test_empty(self):
        self.assertEqual([], self.store.load())
        self.assertIsNone(self.store.get_meta("nothing"))

    def test_put_and_load(self):
        self.store.put(A, 1, b"first", 10.0)
        self.store.put(B, 5, b"other", 11.0)
        self.store.put(A, 2, b"second", 12.5)
        expected = [(A, 2, b"second", 10.0, 12.5), (B, 5, b"other", 11.0, 11.0)]
        self.assertEqual(expected, sorted(self.store.load()))

    def test_a_newer_one_stays(self):
        self.store.put(A, 2, b"second", 10.0)
        self.store.put(A, 1, b"first", 11.0)
        self.assertEqual([(A, 2, b"second", 10.0, 10.0)], self.store.load())

    def test_who_was_met_and_when(self):
        """Times only rise, a new announcement leaves them, and who is unknown has none."""
        self.store.put(A, 1, b"first", 10.0)
        self.store.put(B, 1, b"other", 10.0)
        self.assertEqual({}, self.store.meetings())
        self.store.met(A, 20.0, reached=False)
        self.store.met(b"c" * 20, 20.0, reached=True)
        self.assertEqual({A: (20.0, 0.0)}, self.store.meetings())
        self.store.met(A, 30.0, reached=True)
        self.store.met(A, 40.0, reached=False)
        self.store.met(A, 15.0, reached=True)
        self.store.put(A, 2, b"second", 35.0)
        self.assertEqual({A: (40.0, 30.0)}, self.store.meetings())
        self.store.forget(A)
        self.store.put(A, 1, b"first", 50.0)
        self.assertEqual({}, self.store.meetings())

    def test_a_peer_that_is_met_is_seen(self):
        self.store.put(A, 1, b"first", 10.0)
        self.store.met(A, 20.0, reached=False)
        self.store.met(A, 15.0, reached=True)
        self.store.met(B, 20.0, reached=True)
        self.assertEqual([(A, 1, b"first", 10.0, 20.0)], self.store.load())

    def test_forget(self):
        self.store.put(A, 1, b"first", 10.0)
        self.store.forget(A)
        self.store.forget(B)
        self.assertEqual([], self.store.load())
        self.store.put(A, 1, b"first", 30.0)
        self.assertEqual([(A, 1, b"first", 30.0, 30.0)], self.store.load())

    def test_sequence(self):
        numbers = [self.store.next_sequence(n) for n in (1, 1, 50, 7, 51)]
        self.assertEqual([1, 2, 50, 51, 52], numbers)
        self.assertEqual(53, self.store.next_sequence())

    def test_meta(self):
        self.store.set_meta("one", b"1")
        self.store.set_meta("two", b"")
        self.store.set_meta("one", b"x" * 65_536)
        self.assertEqual(b"x" * 65_536, self.store.get_meta("one"))
        self.assertEqual(b"", self.store.get_meta("two"))

    def test_meta_is_bounded(self):
        with self.assertRaises(BadArgumentValueError):
            self.store.set_meta("large", b"x" * 65_537)
        self.assertIsNone(self.store.get_meta("large"))


class MemoryPeerStoreTests(PeerStoreContract, SynchronousTestCase):
    """The twin that the other tests use."""

    def setUp(self):
        self.store = MemoryPeerStore()


class PeerDatabaseTests(PeerStoreContract, SynchronousTestCase):
    """The real one."""

    def setUp(self):
        self.path = Path(self.mktemp())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.store = PeerDatabase(self.path)

    def tearDown(self):
        self.store.close()

    def test_all_of_it_outlives_a_restart(self):
        self.store.put(A, 1, b"first", 10.0)
        self.store.next_sequence(70)
        self.store.set_meta("one", b"1")
        self.store.met(A, 9.0, reached=True)
        self.store.close()
        self.store = PeerDatabase(self.path)
        self.assertEqual([(A, 1, b"first", 10.0, 10.0)], self.store.load())
        self.assertEqual({A: (9.0, 9.0)}, self.store.meetings())
        self.assertEqual((71, b"1"), (self.store.next_sequence(), self.store.get_meta("one")))

    def test_one_of_version_1_is_brought_up(self):
        self.store.close()
        self.path = Path(self.mktemp())
        added = set(PEERS_SCHEMA.upgrades[1])
        first = tuple(s for s in PEERS_SCHEMA.statements if s not in added)
        old = Database(self.path, evolve(PEERS_SCHEMA, version=1, statements=first, upgrades={}))
        old.call(
            lambda sql: sql.execute(
                "INSERT INTO announcements VALUES (?, ?, ?, ?, ?)", (A, 1, b"first", 10.0, 12.0)
            )
        )
        old.close()
        self.store = PeerDatabase(self.path)
        self.assertEqual([(A, 1, b"first", 10.0, 12.0)], self.store.load())
        self.assertEqual({}, self.store.meetings())
        self.store.met(A, 20.0, reached=False)
        self.assertEqual({A: (20.0, 0.0)}, self.store.meetings())

    def test_the_never_connected_make_room_first(self):
        self.patch(peerdb, "MOST_ANNOUNCEMENTS", 3)
        for number, node_id in enumerate((A, B, b"c" * 20)):
            self.store.put(node_id, 1, b"it", 10.0 + number)
        self.store.met(A, 1.0, reached=False)
        self.store.met(B, 2.0, reached=False)
        for number in range(5):
            self.store.put(b"%020d" % number, 1, b"it", 100.0 + number)
        self.assertEqual({A, B, b"%020d" % 4}, {row[0] for row in self.store.load()})
