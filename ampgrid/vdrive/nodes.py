"""Nodes of the tries: the cache that all tables share, and fetching from whoever has them.

A node is wanted by its hash, so any replica will do, and none needs to be believed. Requests are
spread over the replicas. What was asked of one that is slow is asked of another; the slow one is
asked further only for what no quick one may have, and not before it has answered.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ampgrid.commands import errors as e
from ampgrid.errors import (
    AmpgridError,
    IntegrityError,
    MissingNodesError,
    NotReachableError,
    SnapshotGoneError,
)
from ampgrid.formats import trie
from ampgrid.immutable.bell import Bell
from ampgrid.ports import Clock
from ampgrid.vdrive.replica import Replica

T = TypeVar("T")

#: Bytes of nodes that a client keeps.
CACHE_BYTES = 16 * 1024 * 1024
#: Seconds without an answer after which nodes are asked of another replica as well.
SLOW_SECONDS = 1.0
#: Requests to one replica at once.
_AT_ONCE = 2
#: Hashes in one request, so that the answers of several replicas are of one size.
_HASHES = 32
#: The most rounds of fetching for one piece of work; a trie has 64 levels.
_MOST_ROUNDS = 200
_NODE_OVERHEAD = 200


class NodeCache:
    """Nodes by hash; what was used longest ago goes first.

    Args:
        most_bytes: of nodes, with what Python needs for each.
    """

    def __init__(self, most_bytes: int = CACHE_BYTES) -> None:
        self._most = most_bytes
        self._size = 0
        self._nodes: OrderedDict[bytes, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return self._size

    def get(self, digest: bytes) -> bytes | None:
        """Return the node of a hash, None if it is not here."""
        node = self._nodes.get(digest)
        if node is not None:
            self._nodes.move_to_end(digest)
        return node

    def put(self, digest: bytes, node: bytes) -> None:
        """Keep a node that has this hash: the caller has checked that."""
        if digest in self._nodes:
            self._nodes.move_to_end(digest)
            return
        self._nodes[digest] = node
        self._size += len(node) + _NODE_OVERHEAD
        while self._size > self._most:
            _digest, old = self._nodes.popitem(last=False)
            self._size -= len(old) + _NODE_OVERHEAD


class Desk:
    """The nodes of one piece of work: they stay at hand until it is done.

    Args:
        cache: asked first, and told of what is fetched.
        most_cached: bytes of nodes of this work that go into the cache, so that a large
            directory does not drive everything else out.
    """

    def __init__(self, cache: NodeCache, most_cached: int = CACHE_BYTES // 4) -> None:
        self._cache = cache
        self._left = most_cached
        self._own: dict[bytes, bytes] = {}

    def read(self, digest: bytes) -> bytes | None:
        """Return the node of a hash, None if it has to be fetched."""
        node = self._own.get(digest)
        if node is None:
            node = self._cache.get(digest)
            if node is not None:
                self._own[digest] = node
        return node

    def add(self, nodes: Mapping[bytes, bytes]) -> None:
        """Put checked nodes there."""
        self._own.update(nodes)
        for digest, node in nodes.items():
            if self._left < len(node):
                return
            self._left -= len(node)
            self._cache.put(digest, node)

    def drop(self, digest: bytes) -> None:
        """Put away a node that is not needed any more."""
        self._own.pop(digest, None)


@attrs.define(eq=False)
class _Source:
    """A replica during one fetch.

    Attributes:
        replica: which.
        asking: requests to it that have no answer.
        overdue: those of them that had none in time.
        slow: whether any had none in time.
        bad: whether one failed; it is asked no more.
        lacks: hashes of nodes that it does not have.
    """

    replica: Replica
    asking: int = 0
    overdue: int = 0
    slow: bool = False
    bad: bool = False
    lacks: set[bytes] = attrs.field(factory=set)

    @property
    def is_quick(self) -> bool:
        return not self.bad and not self.slow

    @property
    def is_free(self) -> bool:
        return not self.bad and not self.overdue and self.asking < _AT_ONCE


class Fetch:
    """One fetch of several nodes of one directory.

    Args:
        index: of the directory.
        replicas: that may have them, the preferred first.
        clock: time and timers.
        blame: told what a replica did wrong.
        holders: those that showed the record whose nodes they are, and so must have them.
    """

    def __init__(
        self,
        index: bytes,
        replicas: Sequence[Replica],
        clock: Clock,
        blame: Callable[[Replica, Exception], None],
        holders: Collection[Replica] = (),
    ) -> None:
        self._index = index
        self._sources = [_Source(replica) for replica in replicas]
        self._clock = clock
        self._blame = blame
        self._holders = holders
        self._bell = Bell(clock)
        self._wanted: deque[bytes] = deque()
        self._open: set[bytes] = set()
        self._found: dict[bytes, bytes] = {}

    async def run(self, hashes: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return {hash: node} of all of them.

        Raises:
            SnapshotGoneError: some are on no replica any more.
            NotReachableError: no replica answers.
        """
        self._wanted.extend(dict.fromkeys(hashes))
        self._open.update(self._wanted)
        while self._open:
            self._ask()
            if not self._open:
                # A node that is a replica itself answers itself at once.
                break
            if not any(source.asking for source in self._sources):
                raise self._failure()
            await self._bell.wait()
        return self._found

    def _ask(self) -> None:
        """Send what is wanted to replicas that are free and may have it."""
        asked = True
        while self._wanted and asked:
            asked = False
            for source in sorted(self._sources, key=lambda one: (one.slow, one.asking)):
                hashes = self._take(source) if source.is_free else []
                if hashes:
                    self._send(source, hashes)
                    asked = True

    def _is_for(self, source: _Source, digest: bytes) -> bool:
        """Tell whether a node is to be asked of a replica, if that is free."""
        if digest in source.lacks:
            return False
        return not source.slow or not any(
            other.is_quick and digest not in other.lacks for other in self._sources
        )

    def _take(self, source: _Source) -> list[bytes]:
        """Take from the wanted what is to be asked of this replica."""
        taken: list[bytes] = []
        kept: list[bytes] = []
        while self._wanted and len(taken) < _HASHES:
            digest = self._wanted.popleft()
            if digest not in self._open:
                continue
            (taken if self._is_for(source, digest) else kept).append(digest)
        self._wanted.extendleft(reversed(kept))
        return taken

    def _send(self, source: _Source, hashes: list[bytes]) -> None:
        source.asking += 1
        timer = self._clock.callLater(SLOW_SECONDS, self._slow, source, hashes)
        asking = Deferred.fromCoroutine(source.replica.nodes(self._index, hashes))
        asking.addCallbacks(
            self._take_nodes, self._fail, callbackArgs=(hashes,), errbackArgs=(source, hashes)
        )
        asking.addBoth(self._done, source, timer)

    def _slow(self, source: _Source, hashes: list[bytes]) -> None:
        source.slow = True
        source.overdue += 1
        self._want_again(hashes)
        self._bell.ring()

    def _want_again(self, hashes: Iterable[bytes]) -> None:
        self._wanted.extend(digest for digest in hashes if digest in self._open)

    def _take_nodes(self, nodes: dict[bytes, bytes], hashes: list[bytes]) -> None:
        self._found.update(nodes)
        self._open.difference_update(nodes)
        self._want_again(hashes[len(nodes) :])

    def _fail(self, failure: Failure, source: _Source, hashes: list[bytes]) -> None:
        failure.trap(AmpgridError)
        if failure.check(e.SnapshotGoneWireError):
            source.lacks.add(hashes[0])
            self._withheld(source.replica)
        elif failure.check(e.NoSuchDirectoryError):
            source.lacks.update(self._open)
            self._withheld(source.replica)
        else:
            source.bad = True
            if failure.check(IntegrityError):
                self._blame(source.replica, cast("Exception", failure.value))
        self._want_again(hashes)

    def _withheld(self, replica: Replica) -> None:
        if replica in self._holders:
            what = "shows a record of a directory and does not hand over its nodes"
            self._blame(replica, IntegrityError(f"vdrive peer {replica.name} {what}"))

    def _done(self, result: object, source: _Source, timer: object) -> object:
        source.asking -= 1
        active = getattr(timer, "active")  # noqa: B009 - a DelayedCall, which Clock leaves open
        if active():
            timer.cancel()  # type: ignore[attr-defined]
        else:
            source.overdue -= 1
        self._bell.ring()
        return result

    def _failure(self) -> AmpgridError:
        good = [source for source in self._sources if not source.bad]
        if good and all(any(digest in s.lacks for s in good) for digest in self._wanted):
            return SnapshotGoneError("that version of the directory is no longer kept: try again")
        return NotReachableError(
            f"not reachable: 0 of {len(self._sources)} replicas hand over the directory",
            found=0,
            wanted=len(self._sources),
        )


FetchNodes: TypeAlias = Callable[[Sequence[bytes]], Deferred[dict[bytes, bytes]]]


async def with_nodes(
    work: Callable[[Callable[[bytes], bytes | None]], T],
    desk: Desk,
    fetch: FetchNodes,
) -> T:
    """Do work on a trie whose nodes are fetched as it needs them, a level at a time.

    Args:
        work: called with what reads a node; does nothing but compute.
        desk: where the nodes are.
        fetch: returns {hash: node} of nodes that are not there.

    Raises:
        IntegrityError: it goes deeper than a trie can.
        AmpgridError: whatever ``work`` and ``fetch`` raise.
    """
    for _round in range(_MOST_ROUNDS):
        try:
            return work(desk.read)
        except MissingNodesError as missing:
            desk.add(await fetch(missing.hashes))
    raise IntegrityError("the directory is deeper than a directory can be")


async def find_all(
    root: bytes, slots: Sequence[bytes], desk: Desk, fetch: FetchNodes
) -> dict[bytes, bytes | None]:
    """Return {slot: entry, None where there is none} of slots under a root.

    Raises:
        AmpgridError: see `with_nodes`.
    """

    def find(read: trie.Read) -> dict[bytes, bytes | None]:
        found: dict[bytes, bytes | None] = {}
        lacking: dict[bytes, None] = {}
        for slot in slots:
            try:
                found[slot] = trie.find(root, slot, read)
            except MissingNodesError as missing:
                lacking.update(dict.fromkeys(missing.hashes))
        if lacking:
            raise MissingNodesError(tuple(lacking))
        return found

    return await with_nodes(find, desk, fetch)
