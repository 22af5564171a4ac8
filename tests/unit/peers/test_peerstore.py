"""One contract for the database of peers and for its twin in memory."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import BadArgumentValueError
from ampgrid.peers import PeerStore
from ampgrid.store.peerdb import PeerDatabase
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

    def test_touch(self):
        self.store.put(A, 1, b"first", 10.0)
        self.store.touch(A, 20.0)
        self.store.touch(A, 15.0)
        self.store.touch(B, 20.0)
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
        self.store.close()
        self.store = PeerDatabase(self.path)
        self.assertEqual([(A, 1, b"first", 10.0, 10.0)], self.store.load())
        self.assertEqual((71, b"1"), (self.store.next_sequence(), self.store.get_meta("one")))
