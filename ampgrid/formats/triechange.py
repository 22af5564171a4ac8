"""Changes of a directory's trie: what a set of new entries, or a new root, makes of it.

A node is a leaf or a branch by what is below it alone, so a change may join leaves that have
become small, and must then read those beside it.

Source: `docs/specs/directories.md#trie`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from typing import TypeVar

from attrs import frozen

from ampgrid.crypto.directory_keys import SLOT_SIZE
from ampgrid.errors import FormatError, MissingNodesError
from ampgrid.formats.entry import MAX_ENTRY_BYTES
from ampgrid.formats.record import EMPTY_ROOT
from ampgrid.formats.trienode import (
    MAX_LEAF_BYTES,
    NIBBLES,
    Branch,
    Leaf,
    Read,
    Visited,
    is_branch,
    leaf_size,
    must_be_leaf,
    node_hash,
    pack_branch,
    pack_leaf,
    parse_node,
)

#: The most nodes that `diff` looks at unless told otherwise.
MOST_NODES = 1_000_000

_Value = TypeVar("_Value", bytes, bytes | None)


@frozen
class Change:
    """What becomes of a trie.

    Attributes:
        root: the new root, 32 bytes.
        added: hash and bytes of each node that only the new trie has.
        removed: hash of each node that only the old trie has.
        delta: by how much the number of entries grows.
    """

    root: bytes
    added: dict[bytes, bytes]
    removed: frozenset[bytes]
    delta: int


def apply(root: bytes, changes: Mapping[bytes, bytes | None], read: Read) -> Change:
    """Put entries into a trie and take others out.

    Args:
        root: of the trie, 32 bytes.
        changes: the entry for each slot of 32 bytes, 1 to 8,192 bytes; None takes out whatever
            is there.
        read: reads nodes of the trie.

    Raises:
        MissingNodesError: nodes that are needed are not at hand; it names all that are known.
        FormatError: a change or a node is malformed.
    """
    for slot, entry in changes.items():
        if len(slot) != SLOT_SIZE or not (entry is None or 0 < len(entry) <= MAX_ENTRY_BYTES):
            raise FormatError("A slot or an entry is of a length that it cannot have.")
    work = _Application(read)
    grown = work.applied(_node_or_none(root), "", sorted(changes.items()))
    if work.lacking:
        raise MissingNodesError(tuple(dict.fromkeys(work.lacking)))
    new_root = EMPTY_ROOT if grown.subtree is None else work.stored(grown.subtree)
    added = {digest: work.made[digest] for digest in work.made if digest not in work.replaced}
    return Change(new_root, added, frozenset(work.replaced.difference(work.made)), work.delta)


def _node_or_none(root: bytes) -> bytes | None:
    return None if root == EMPTY_ROOT else root


@frozen
class _Subtree:
    """A part of the new trie: a branch, or a leaf that may yet be joined with others.

    Attributes:
        pairs: what is in the leaf; None for a branch.
        size: of the leaf, bytes; 0 for a branch.
        digest: of the node, or None if it is a new leaf.
    """

    pairs: Leaf | None
    size: int
    digest: bytes | None


@frozen
class _Grown:
    """A part of the new trie, and how it compares with the old one.

    Attributes:
        subtree: the part; None if nothing is left.
        growth: of a leaf that stayed one, or came or went, bytes; None if a branch was or is
            there.
    """

    subtree: _Subtree | None
    growth: int | None


class _Application:
    """One run of `apply`.

    Args:
        read: reads nodes of the trie.

    Attributes:
        lacking: hashes of nodes without which it cannot be done.
        made: hash and bytes of nodes of the new trie.
        replaced: hashes of nodes in the place of which others have come.
        delta: by how much the number of entries grows.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self.lacking: list[bytes] = []
        self.made: dict[bytes, bytes] = {}
        self.replaced: set[bytes] = set()
        self.delta = 0

    def applied(
        self, digest: bytes | None, prefix: str, changes: list[tuple[bytes, bytes | None]]
    ) -> _Grown:
        """Return what changes, their slots rising, make of one node of the trie."""
        if digest is None:
            pairs = [(slot, entry) for slot, entry in changes if entry is not None]
            self.delta += len(pairs)
            return self._replaced_leaf(pairs, len(prefix), 1)
        data = self._read(digest)
        if data is None:
            self.lacking.append(digest)
            return _Grown(None, None)
        node = parse_node(data, prefix)
        if isinstance(node, dict):
            return self._applied_to_branch(digest, node, prefix, changes)
        merged: dict[bytes, bytes | None] = {**dict(node), **dict(changes)}
        pairs = [(slot, entry) for slot, entry in sorted(merged.items()) if entry is not None]
        if pairs == node:
            return _Grown(_Subtree(node, len(data), digest), 0)
        self.replaced.add(digest)
        self.delta += len(pairs) - len(node)
        return self._replaced_leaf(pairs, len(prefix), len(data))

    def _replaced_leaf(self, pairs: Leaf, depth: int, old_size: int) -> _Grown:
        """Return what stands in the place of a leaf that had so many bytes."""
        subtree = self._built(pairs, depth)
        if subtree is None:
            return _Grown(None, 1 - old_size)
        return _Grown(subtree, None if subtree.pairs is None else subtree.size - old_size)

    def _built(self, pairs: Leaf, depth: int) -> _Subtree | None:
        """Return the trie of some entries."""
        if not pairs:
            return None
        size = leaf_size(pairs)
        if must_be_leaf(len(pairs), size):
            return _Subtree(pairs, size, None)
        children = {}
        for nibble, part in _by_nibble(pairs, depth):
            child = self._built(part, depth + 1)
            assert child is not None
            children[nibble] = self.stored(child)
        return self._branch(children)

    def _branch(self, children: Branch) -> _Subtree:
        data = pack_branch(children)
        digest = node_hash(data)
        self.made[digest] = data
        return _Subtree(None, 0, digest)

    def stored(self, subtree: _Subtree) -> bytes:
        """Return the hash of a part's node, made by now."""
        if subtree.digest is not None:
            return subtree.digest
        assert subtree.pairs is not None
        data = pack_leaf(subtree.pairs)
        digest = node_hash(data)
        self.made[digest] = data
        return digest

    def _applied_to_branch(
        self, digest: bytes, node: Branch, prefix: str, changes: list[tuple[bytes, bytes | None]]
    ) -> _Grown:
        before = len(self.lacking)
        grown = {
            nibble: self.applied(node.get(nibble), prefix + NIBBLES[nibble], part)
            for nibble, part in _by_nibble(changes, len(prefix))
        }
        if len(self.lacking) > before:
            return _Grown(None, None)
        new = {nibble: each.subtree for nibble, each in grown.items()}
        if all(_is_same(node.get(nibble), subtree) for nibble, subtree in new.items()):
            return _Grown(_Subtree(None, 0, digest), None)
        self.replaced.add(digest)
        kept = {nibble: child for nibble, child in node.items() if nibble not in new}
        left = len(kept) + sum(subtree is not None for subtree in new.values())
        # The last one that is left may be a leaf, however much it has grown.
        if left > 1 and not self._may_have_shrunk(grown.values()):
            joined = None
        else:
            joined = self._joined(new, kept, prefix)
            if len(self.lacking) > before:
                return _Grown(None, None)
        if joined is not None:
            return _Grown(_Subtree(joined, leaf_size(joined), None) if joined else None, None)
        children = dict(kept)
        for nibble, subtree in new.items():
            if subtree is not None:
                children[nibble] = self.stored(subtree)
        return _Grown(self._branch(dict(sorted(children.items()))), None)

    @staticmethod
    def _may_have_shrunk(grown: Iterable[_Grown]) -> bool:
        """Tell whether what was too much for one leaf may have come to fit into one."""
        total = 0
        for each in grown:
            if each.growth is not None:
                total += each.growth
            elif each.subtree is None or each.subtree.pairs is not None:
                return True
        return total < 0

    def _joined(self, new: dict[int, _Subtree | None], kept: Branch, prefix: str) -> Leaf | None:
        """Return all entries below a branch if these must be one leaf now, else None.

        Args:
            new: its children that have changed.
            kept: its other children.
            prefix: the nibbles that lead to the branch.
        """
        parts = [subtree for subtree in new.values() if subtree is not None]
        if any(part.pairs is None for part in parts):
            return None
        several = len(parts) + len(kept) > 1
        size = 1 + sum(part.size - 1 for part in parts)
        beside: dict[int, bytes] = {}
        lacking = []
        for nibble, digest in kept.items():
            if several and size > MAX_LEAF_BYTES:
                return None
            data = self._read(digest)
            if data is None:
                lacking.append(digest)
            elif is_branch(data):
                return None
            else:
                size += len(data) - 1
                beside[nibble] = data
        if several and size > MAX_LEAF_BYTES:
            return None
        if lacking:
            self.lacking += lacking
            return None
        pairs: Leaf = []
        for part in parts:
            pairs += part.pairs or ()
            if part.digest is not None:
                self.replaced.add(part.digest)
        for nibble, data in beside.items():
            leaf = parse_node(data, prefix + NIBBLES[nibble])
            assert isinstance(leaf, list)
            pairs += leaf
            self.replaced.add(kept[nibble])
        return sorted(pairs)


def _is_same(digest: bytes | None, subtree: _Subtree | None) -> bool:
    if subtree is None or digest is None:
        return subtree is None and digest is None
    return subtree.digest == digest


def _by_nibble(
    pairs: list[tuple[bytes, _Value]], depth: int
) -> Iterator[tuple[int, list[tuple[bytes, _Value]]]]:
    """Yield the pairs, whose slots rise and agree up to ``depth``, for each next nibble."""
    place, odd = divmod(depth, 2)

    def nibble(pair: tuple[bytes, _Value]) -> int:
        return pair[0][place] & 15 if odd else pair[0][place] >> 4

    for key, group in groupby(pairs, nibble):
        yield key, list(group)


def diff(
    old_root: bytes,
    new_root: bytes,
    read_old: Read,
    read_new: Read,
    most: int = MOST_NODES,
) -> Change:
    """Compare two tries, and check the new one wherever they differ.

    What has the same hash at the same place in both is not looked at, so the old trie must have
    been checked before.

    Args:
        old_root: of the trie that is there, 32 bytes.
        new_root: of the one that is to take its place, 32 bytes.
        read_old: reads nodes of the old trie.
        read_new: reads nodes of the new trie.
        most: nodes that are looked at, or for, in both.

    Raises:
        MissingNodesError: nodes of the new trie are not at hand, or, if none of these lacks,
            nodes of the old one; it names all that are known.
        FormatError: the new trie is malformed, or is not the one trie of its entries, or they
            differ in more nodes.
    """
    work = Comparison(old_root, new_root, most)
    work.go_on(read_old, read_new, most + 1)
    return work.change()


def _nothing(_digest: bytes) -> None:
    """Read nothing."""


class _Side:
    """What was seen of one of two tries.

    Args:
        keeps: whether the bytes of nodes are kept.

    Attributes:
        read: reads its nodes.
        visited: hashes of the nodes that were looked for.
        sizes: hash and length of each node that was seen.
        branches: hashes of those that are branches.
        nodes: hash and bytes of each, if they are kept.
        lacking: hashes of those that are not at hand.
        count: of the entries that were seen.
    """

    def __init__(self, *, keeps: bool) -> None:
        self.read: Read = _nothing
        self.visited = Visited()
        self.sizes: dict[bytes, int] = {}
        self.branches: set[bytes] = set()
        self.nodes: dict[bytes, bytes] = {}
        self.lacking: dict[bytes, None] = {}
        self.count = 0
        self._keeps = keeps

    def node(self, digest: bytes | None, prefix: str) -> Leaf | Branch | None:
        """Return a node, and remember it; None if there is none or it lacks.

        Raises:
            FormatError: it is malformed, or was looked for at another place before.
        """
        if digest is None:
            return None
        self.visited.add(digest)
        data = self.read(digest)
        if data is None:
            self.lacking[digest] = None
            return None
        node = parse_node(data, prefix)
        self.sizes[digest] = len(data)
        if self._keeps:
            self.nodes[digest] = data
        if isinstance(node, list):
            self.count += len(node)
        else:
            self.branches.add(digest)
        return node


class TooManyNodesError(FormatError):
    """Two tries differ in more nodes than may be looked at."""


class Comparison:
    """Two tries that are compared, a part at a time if that is wanted; see `diff`.

    Args:
        old_root: of the trie that is there, 32 bytes.
        new_root: of the one that is to take its place, 32 bytes.
        most: nodes that are looked at, or for, in both.
        keeps: whether the bytes of the new nodes are kept, for `change`.
    """

    def __init__(
        self, old_root: bytes, new_root: bytes, most: int = MOST_NODES, *, keeps: bool = True
    ) -> None:
        self._new_root = new_root
        self._old = _Side(keeps=False)
        self._new = _Side(keeps=keeps)
        self._most = most
        self._work = self._all(_node_or_none(old_root), _node_or_none(new_root))
        self._whole = False

    def go_on(self, read_old: Read, read_new: Read, places: int) -> bool:
        """Look at some places more; tell whether that was all.

        Args:
            read_old: reads nodes of the old trie.
            read_new: reads nodes of the new trie.
            places: how many at most; two nodes may be at each, and 16 below it are read.

        Raises:
            FormatError: see `diff`; after this, or any error of who reads, it can not go on.
        """
        self._old.read, self._new.read = read_old, read_new
        went = sum(1 for _ in islice(self._work, places))
        if went < places and not self._whole:
            raise FormatError("The comparison of two tries was broken off.")
        return self._whole

    @property
    def lacking(self) -> tuple[bytes, ...]:
        """Nodes that are not at hand: of the new trie, or if there are none, of the old one."""
        return tuple(self._new.lacking or self._old.lacking)

    def change(self) -> Change:
        """Return what becomes of the nodes, once all was looked at.

        Raises:
            MissingNodesError: see `diff`.
        """
        assert self._whole
        if self.lacking:
            raise MissingNodesError(self.lacking)
        old, new = self._old, self._new
        added = {digest: node for digest, node in new.nodes.items() if digest not in old.sizes}
        removed = frozenset(old.sizes.keys() - new.sizes.keys())
        return Change(self._new_root, added, removed, new.count - old.count)

    def growth(self, overhead: int) -> int:
        """Return by how many bytes the nodes grow, each with an overhead."""
        assert self._whole
        old, new = self._old.sizes, self._new.sizes
        came = sum(size + overhead for digest, size in new.items() if digest not in old)
        return came - sum(size + overhead for digest, size in old.items() if digest not in new)

    def _all(self, old: bytes | None, new: bytes | None) -> Iterator[None]:
        yield from self._compare(old, new, "")
        self._whole = True

    def _compare(self, old: bytes | None, new: bytes | None, prefix: str) -> Iterator[None]:
        """Look at the nodes of two hashes at one place, and at all below where they differ."""
        if old == new:
            return
        if len(self._old.visited) + len(self._new.visited) >= self._most:
            raise TooManyNodesError("The change of the trie touches too many nodes.")
        yield
        new_node = self._new.node(new, prefix)
        if new is not None and new_node is None:
            return
        old_node = self._old.node(old, prefix)
        old_children = old_node if isinstance(old_node, dict) else {}
        new_children = new_node if isinstance(new_node, dict) else {}
        for nibble in sorted({*old_children, *new_children}):
            below = prefix + NIBBLES[nibble]
            yield from self._compare(old_children.get(nibble), new_children.get(nibble), below)
        if new_children:
            self._check_branch(new_children)

    def _check_branch(self, children: Branch) -> None:
        """Check that what is below a branch of the new trie is too much for a leaf."""
        several = len(children) > 1
        size = 1
        # Those that were not looked at are in the old trie too. They are read only if need be.
        for digest in sorted(children.values(), key=lambda child: child not in self._new.sizes):
            length, is_one = self._looked_at(digest)
            if not length:
                self._new.lacking[digest] = None
                return
            size += length - 1
            if is_one or (several and size > MAX_LEAF_BYTES):
                return
        raise FormatError("A branch of the trie holds no more than a leaf can.")

    def _looked_at(self, digest: bytes) -> tuple[int, bool]:
        """Return the length of a node, 0 if it lacks, and whether it is a branch."""
        if digest in self._new.sizes:
            return self._new.sizes[digest], digest in self._new.branches
        data = self._new.read(digest) or self._old.read(digest) or b""
        return len(data), is_branch(data)
