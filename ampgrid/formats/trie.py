"""The trie of a directory's entries: look-up, proof, listing and change.

It is a Merkle trie over slots of 32 bytes, with 16 children a branch; nodes are addressed by
their hashes, so a root says all of a directory, and the nodes on the way to a slot prove what
stands there, or that nothing does. `ampgrid.formats.trienode` knows the nodes,
`ampgrid.formats.triechange` the changes. There is no input or output here: nodes are read through
a function that is passed in, and those that lack are named all at once, so that who must fetch
them does so a level at a time.

Source: `docs/specs/directories.md#trie`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ampgrid.crypto.directory_keys import SLOT_SIZE
from ampgrid.errors import FormatError, IntegrityError, MissingNodesError
from ampgrid.formats.record import EMPTY_ROOT
from ampgrid.formats.triechange import (
    MOST_NODES,
    Change,
    Comparison,
    TooManyNodesError,
    apply,
    diff,
)
from ampgrid.formats.trienode import (
    MAX_DEPTH,
    MAX_LEAF_BYTES,
    MAX_NODE_BYTES,
    NIBBLES,
    Branch,
    Leaf,
    Read,
    Visited,
    check_node,
    node_hash,
    parse_node,
)
from ampgrid.formats.triewalk import is_under, unshared

__all__ = [
    "EMPTY_ROOT",
    "MAX_DEPTH",
    "MAX_LEAF_BYTES",
    "MAX_NODE_BYTES",
    "MOST_NODES",
    "SLOT_SIZE",
    "Change",
    "Comparison",
    "Read",
    "TooManyNodesError",
    "apply",
    "check_node",
    "diff",
    "entries",
    "find",
    "is_under",
    "node_hash",
    "path",
    "preorder",
    "prove",
    "unshared",
    "wanted",
]


def find(root: bytes, slot: bytes, read: Read) -> bytes | None:
    """Return the entry at a slot, or None if there is none.

    Raises:
        MissingNodesError: the next node on the way is not at hand.
        FormatError: a node is malformed.
    """
    return _descend(root, slot, read)[1]


def path(root: bytes, slot: bytes, read: Read) -> list[bytes]:
    """Return the nodes on the way to a slot, from the root on; they are the proof for `prove`.

    Raises:
        MissingNodesError: the next node on the way is not at hand.
        FormatError: a node is malformed.
    """
    return _descend(root, slot, read)[0]


def _descend(root: bytes, slot: bytes, read: Read) -> tuple[list[bytes], bytes | None]:
    """Return the nodes on the way to a slot, and the entry there."""
    if len(slot) != SLOT_SIZE:
        raise FormatError(f"A slot has {SLOT_SIZE} bytes.")
    nodes: list[bytes] = []
    digest = root if root != EMPTY_ROOT else None
    way = slot.hex()
    while digest is not None:
        data = read(digest)
        if data is None:
            raise MissingNodesError((digest,))
        depth = len(nodes)
        node = parse_node(data, way[:depth])
        nodes.append(data)
        if isinstance(node, list):
            return nodes, dict(node).get(slot)
        digest = node.get(int(way[depth], 16))
    return nodes, None


def prove(root: bytes, slot: bytes, nodes: Sequence[bytes]) -> bytes | None:
    """Return the entry at a slot, or None if there is none, as these nodes prove.

    Args:
        root: from a record whose signature holds, 32 bytes.
        slot: 32 bytes.
        nodes: what `path` gave, or a peer sent.

    Raises:
        IntegrityError: they do not prove anything, or there are more of them than needed.
    """
    rest = iter(nodes)

    def read(digest: bytes) -> bytes:
        node = next(rest, None)
        if node is None:
            raise IntegrityError("The proof of an entry is cut short.")
        check_node(node, digest)
        return node

    try:
        _, entry = _descend(root, slot, read)
    except FormatError as error:
        raise IntegrityError(str(error)) from None
    if next(rest, None) is not None:
        raise IntegrityError("The proof of an entry holds nodes that prove nothing.")
    return entry


def entries(root: bytes, read: Read, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Yield slot and entry of each entry, in the order of the slots.

    Args:
        root: of the trie, 32 bytes.
        read: reads nodes.
        after: only entries at higher slots than this one, 32 bytes.

    Raises:
        MissingNodesError: the next node is not at hand. It names also those which are seen to
            lack beyond it.
        FormatError: a node is malformed.
    """
    for _, _, node in _walk(root, read, after):
        if isinstance(node, list):
            for slot, entry in node:
                if after is None or slot > after:
                    yield slot, entry


def preorder(root: bytes, read: Read, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Yield hash and bytes of each node: a branch, then all below it in the order of the slots.

    Args:
        root: of the trie, 32 bytes.
        read: reads nodes.
        after: leave out nodes that lead to no higher slot than this one, 32 bytes.

    Raises:
        MissingNodesError: the next node is not at hand. It names also those which are seen to
            lack beyond it.
        FormatError: a node is malformed.
    """
    for digest, data, _ in _walk(root, read, after):
        yield digest, data


def _walk(
    root: bytes, read: Read, after: bytes | None
) -> Iterator[tuple[bytes, bytes, Leaf | Branch]]:
    least = "" if after is None else after.hex()
    visited = Visited()
    waiting = [(root, "")] if root != EMPTY_ROOT else []
    while waiting:
        digest, prefix = waiting.pop()
        visited.add(digest)
        data = read(digest)
        if data is None:
            beyond = [other for other, _ in reversed(waiting) if read(other) is None]
            raise MissingNodesError((digest, *beyond))
        node = parse_node(data, prefix)
        yield digest, data, node
        if isinstance(node, dict):
            below = [(child, prefix + NIBBLES[nibble]) for nibble, child in node.items()]
            waiting += [item for item in reversed(below) if item[1] >= least[: len(item[1])]]


def wanted(root: bytes, read: Read) -> list[bytes]:
    """Return the hashes of all nodes that are seen to lack, in preorder.

    What is below a lacking node shows only once that node is there.

    Raises:
        FormatError: a node is malformed.
    """
    lacking: list[bytes] = []
    visited = Visited()
    waiting = [(root, "")] if root != EMPTY_ROOT else []
    while waiting:
        digest, prefix = waiting.pop()
        visited.add(digest)
        data = read(digest)
        if data is None:
            lacking.append(digest)
            continue
        node = parse_node(data, prefix)
        if isinstance(node, dict):
            below = [(child, prefix + NIBBLES[nibble]) for nibble, child in node.items()]
            waiting += reversed(below)
    return lacking
