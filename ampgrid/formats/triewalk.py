"""Which nodes of one trie are under another root, found out a few at a time.

A store that lets go of a root must find the nodes that nothing needs any more, and must not do it
all at once: a trie may have a hundred thousand nodes. A walk here can be left at any node and
taken up again later, also when the other root is another one by then.

A branch has one place in all tries in which it can be, since the slots below its children differ
at the nibble of its depth. A leaf can be at several depths on one way.

Source: `docs/specs/directories.md#trie`.
"""

from __future__ import annotations

from collections.abc import Iterator

from ampgrid.formats.record import EMPTY_ROOT
from ampgrid.formats.trienode import MAX_DEPTH, NIBBLES, Read, parse_node


def unshared(
    root: bytes, other: bytes, read: Read, start: str = ""
) -> Iterator[tuple[str, bytes]]:
    """Yield the nodes of a trie that are not in another one, in preorder, with their places.

    What is not at hand is passed by, with what is below it.

    Args:
        root: of the trie, 32 bytes.
        other: root of the other trie, 32 bytes.
        read: reads nodes of both.
        start: nodes before this place are left out: the nibbles that lead to it, in hexadecimal.

    Raises:
        FormatError: a node is malformed.
    """
    waiting: list[tuple[bytes, bytes | None, str]] = []
    if root != EMPTY_ROOT:
        waiting.append((root, None if other == EMPTY_ROOT else other, ""))
    while waiting:
        digest, beside, prefix = waiting.pop()
        data = None if digest == beside else read(digest)
        if data is None:
            continue
        node = parse_node(data, prefix)
        if isinstance(node, list):
            if not _is_on_way(digest, beside, node[0][0].hex(), len(prefix), read):
                yield prefix, digest
            continue
        if prefix >= start:
            yield prefix, digest
        there = None if beside is None else read(beside)
        partner = None if there is None else parse_node(there)
        for nibble in sorted(node, reverse=True):
            place = prefix + NIBBLES[nibble]
            if place < start[: len(place)]:
                continue
            # A leaf that is above in the other trie may be the same as one below here.
            below = partner.get(nibble) if isinstance(partner, dict) else beside
            waiting.append((node[nibble], below, place))


def is_under(root: bytes, digest: bytes, read: Read) -> bool:
    """Tell whether a node is in a trie all nodes of which are at hand.

    Args:
        root: of the trie, 32 bytes.
        digest: of the node, 32 bytes.
        read: reads nodes.

    Raises:
        FormatError: a node is malformed.
    """
    slot = _some_slot(digest, read)
    return slot is not None and _is_on_way(digest, root, slot.hex(), 0, read)


def _some_slot(digest: bytes, read: Read) -> bytes | None:
    """Return a slot below a node; None if not all that leads to one is at hand."""
    for _depth in range(MAX_DEPTH + 1):
        data = read(digest)
        if data is None:
            return None
        node = parse_node(data)
        if isinstance(node, list):
            return node[0][0]
        digest = next(iter(node.values()))
    return None


def _is_on_way(digest: bytes, place: bytes | None, way: str, depth: int, read: Read) -> bool:
    """Tell whether a node is met on the way to a slot, from a place at a depth on."""
    while place is not None and depth <= MAX_DEPTH:
        if place == digest:
            return True
        data = read(place)
        node = None if data is None else parse_node(data)
        if not isinstance(node, dict) or depth == MAX_DEPTH:
            return False
        place = node.get(int(way[depth], 16))
        depth += 1
    return False
