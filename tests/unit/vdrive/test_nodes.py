"""The cache of nodes, and fetching them from several replicas."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands import errors as e
from ampgrid.errors import (
    AmpgridError,
    IntegrityError,
    MissingNodesError,
    NotConnectedError,
    NotReachableError,
    SnapshotGoneError,
)
from ampgrid.testing.clock import HeapClock
from ampgrid.vdrive.nodes import SLOW_SECONDS, Desk, Fetch, NodeCache, find_all, with_nodes

INDEX = b"i" * 32
NODES = {bytes([number]) * 32: b"node %d" % number for number in range(200)}


class NodeCacheTests(SynchronousTestCase):
    def test_it_is_bounded_and_drops_what_was_used_longest_ago(self) -> None:
        cache = NodeCache(most_bytes=3_000)
        for number in range(100):
            cache.put(bytes([number]) * 32, b"n" * 100)
            cache.get(bytes(32))
        self.assertLessEqual(cache.size, 3_000)
        self.assertEqual(len(cache), 10)
        self.assertIsNotNone(cache.get(bytes(32)))
        self.assertIsNone(cache.get(bytes([50]) * 32))

    def test_a_node_counts_once(self) -> None:
        cache = NodeCache()
        cache.put(b"h" * 32, b"node")
        before = cache.size
        cache.put(b"h" * 32, b"node")
        self.assertEqual(cache.size, before)

    def test_work_keeps_its_nodes_though_the_cache_drops_them(self) -> None:
        cache = NodeCache(most_bytes=500)
        desk = Desk(cache)
        desk.add(NODES)
        self.assertEqual([desk.read(digest) for digest in NODES], list(NODES.values()))
        desk.drop(b"\x01" * 32)
        self.assertIsNone(desk.read(b"\x01" * 32))

    def test_large_work_leaves_the_cache_to_others(self) -> None:
        cache = NodeCache()
        Desk(cache, most_cached=30).add(NODES)
        self.assertLess(len(cache), 6)


class Source:
    """A replica that answers as it is told."""

    def __init__(self, name: str, answer: Any = None) -> None:
        self.name = name
        self.asked: list[list[bytes]] = []
        self._answer = answer or (lambda hashes: {digest: NODES[digest] for digest in hashes})

    async def nodes(self, _index: bytes, hashes: list[bytes]) -> dict[bytes, bytes]:
        self.asked.append(hashes)
        answer = self._answer(hashes)
        if isinstance(answer, Deferred):
            answer = await answer
        found: dict[bytes, bytes] = answer
        return found


def raising(error: Exception) -> Any:
    def answer(_hashes: list[bytes]) -> dict[bytes, bytes]:
        raise error

    return answer


class FetchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = HeapClock()
        self.blamed: list[str] = []

    def fetch(self, *sources: Any, hashes: Any = NODES, holders: Any = ()) -> Deferred[Any]:
        def blame(replica: Any, _error: Exception) -> None:
            self.blamed.append(replica.name)

        fetch = Fetch(INDEX, sources, self.clock, blame, holders)
        return Deferred.fromCoroutine(fetch.run(hashes))

    def test_requests_are_spread(self) -> None:
        sources = [Source("a"), Source("b"), Source("c")]
        self.assertEqual(self.successResultOf(self.fetch(*sources)), NODES)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        slow = [Source(name, lambda _hashes: Deferred()) for name in "abc"]
        self.fetch(*slow)
        self.assertEqual([len(source.asked) for source in slow], [2, 2, 2])

    def test_partial_answers_are_asked_on(self) -> None:
        source = Source("a", lambda hashes: {digest: NODES[digest] for digest in hashes[:3]})
        self.assertEqual(self.successResultOf(self.fetch(source)), NODES)

    def test_slow_replica_is_left_for_another(self) -> None:
        slow, quick = Source("slow", lambda _hashes: Deferred()), Source("quick")
        fetching = self.fetch(slow, quick)
        self.assertNoResult(fetching)
        self.clock.advance(SLOW_SECONDS + 0.1)
        self.assertEqual(self.successResultOf(fetching), NODES)
        self.assertEqual(self.blamed, [])

    def test_late_answer_is_taken_if_no_other_comes(self) -> None:
        late: Deferred[dict[bytes, bytes]] = Deferred()
        few = dict(list(NODES.items())[:5])
        fetching = self.fetch(Source("late", lambda _hashes: late), hashes=few)
        self.clock.advance(SLOW_SECONDS + 0.1)
        self.assertNoResult(fetching)
        late.callback(few)
        self.assertEqual(self.successResultOf(fetching), few)

    def later(self, seconds: float) -> Any:
        """Return what answers so many seconds later."""

        def answer(hashes: list[bytes]) -> Deferred[dict[bytes, bytes]]:
            waiting: Deferred[dict[bytes, bytes]] = Deferred()
            found = {digest: NODES[digest] for digest in hashes}
            self.clock.callLater(seconds, waiting.callback, found)
            return waiting

        return answer

    def test_where_all_are_slow_they_are_asked_on(self) -> None:
        for count in (1, 2):
            slow = [Source(name, self.later(SLOW_SECONDS * 1.5)) for name in "ab"[:count]]
            fetching = self.fetch(*slow)
            for _ in range(20):
                self.clock.advance(SLOW_SECONDS / 2)
            self.assertEqual(self.successResultOf(fetching), NODES)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_slow_one_is_asked_on_for_what_the_quick_one_lacks_alone(self) -> None:
        lacking = bytes([150]) * 32

        def most(hashes: list[bytes]) -> dict[bytes, bytes]:
            if hashes[0] == lacking:
                raise e.SnapshotGoneWireError("gone")
            found: dict[bytes, bytes] = {}
            for digest in hashes:
                if digest == lacking:
                    break
                found[digest] = NODES[digest]
            return found

        slow, quick = Source("slow", self.later(SLOW_SECONDS * 1.5)), Source("quick", most)
        fetching = self.fetch(slow, quick)
        for _ in range(20):
            self.clock.advance(SLOW_SECONDS / 2)
        self.assertEqual(self.successResultOf(fetching), NODES)
        # Two requests at first, and one for the node that the other lacks.
        self.assertLessEqual(len(slow.asked), 3)

    def test_who_does_not_answer_is_not_asked_again_and_again(self) -> None:
        silent = Source("silent", lambda _hashes: Deferred())
        self.fetch(silent)
        self.clock.advance(SLOW_SECONDS * 7)
        self.assertEqual(len(silent.asked), 2)

    def test_what_one_lacks_another_gives(self) -> None:
        lacking = Source("lacking", raising(e.SnapshotGoneWireError("gone")))
        good = Source("good")
        self.assertEqual(self.successResultOf(self.fetch(lacking, good)), NODES)
        self.assertEqual(self.blamed, [])

    def test_holder_that_lacks_its_own_is_blamed(self) -> None:
        lacking = Source("lacking", raising(e.SnapshotGoneWireError("gone")))
        self.successResultOf(self.fetch(lacking, Source("good"), holders=[lacking]))
        self.assertEqual(set(self.blamed), {"lacking"})

    def test_bad_one_is_blamed_and_asked_no_more(self) -> None:
        bad = Source("bad", raising(IntegrityError("forged")))
        self.assertEqual(self.successResultOf(self.fetch(bad, Source("good"))), NODES)
        self.assertEqual(set(self.blamed), {"bad"})
        self.assertLessEqual(len(bad.asked), 2)

    def test_gone_everywhere(self) -> None:
        sources = [Source(name, raising(e.SnapshotGoneWireError("gone"))) for name in "ab"]
        self.failureResultOf(self.fetch(*sources), SnapshotGoneError)

    def test_nobody_there(self) -> None:
        self.failureResultOf(self.fetch(), NotReachableError)
        sources = [Source(name, raising(NotConnectedError("cut"))) for name in "ab"]
        self.failureResultOf(self.fetch(*sources), NotReachableError)


class WithNodesTests(SynchronousTestCase):
    def test_a_trie_without_end_is_given_up(self) -> None:
        counter = iter(range(10_000))

        def work(_read: Any) -> None:
            raise MissingNodesError((next(counter).to_bytes(32, "big"),))

        def fetch(hashes: Any) -> Deferred[dict[bytes, bytes]]:
            done: Deferred[dict[bytes, bytes]] = Deferred()
            done.callback(dict.fromkeys(hashes, b"x"))
            return done

        working = Deferred.fromCoroutine(with_nodes(work, Desk(NodeCache()), fetch))
        self.failureResultOf(working, IntegrityError)

    def test_slots_are_looked_up_together(self) -> None:
        asked: list[Any] = []

        def fetch(hashes: Any) -> Deferred[dict[bytes, bytes]]:
            asked.append(hashes)
            raise AmpgridError("enough")

        slots = [bytes([number]) * 32 for number in range(5)]
        working = Deferred.fromCoroutine(find_all(b"r" * 32, slots, Desk(NodeCache()), fetch))
        self.failureResultOf(working, AmpgridError)
        self.assertEqual(asked, [(b"r" * 32,)])
