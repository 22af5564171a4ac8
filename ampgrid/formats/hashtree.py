"""Merkle trees as they stand in shares.

A tree is complete and flat: node 0 is the root, the children of node i are 2i+1 and 2i+2, and
its leaves, P of them, are padded from the given number to the next power of two. Its bytes are
its (2P-1) hashes of 32 bytes in that order.

Source: `docs/specs/share.md`, section on hash trees; Tahoe-LAFS 1.20 ``hashtree.py``.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence

from ampgrid.crypto.hashing import (
    HASH_SIZE,
    TAG_MERKLE_EMPTY_LEAF,
    TAG_MERKLE_NODE,
    netstring,
    tagged_hash,
)
from ampgrid.errors import FormatError, IntegrityError

#: A chain: the hashes, with the numbers of their nodes, that lead from a leaf to the root.
Chain = list[tuple[int, bytes]]

_sha256 = hashlib.sha256
# What stands before, between and after the two hashes of a pair.
_BEFORE = netstring(TAG_MERKLE_NODE) + b"32:"
_BETWEEN = b",32:"
_AFTER = b","


@functools.lru_cache(maxsize=1024)
def padded_count(count: int) -> int:
    """Return the number of leaves after padding: the next power of two (1 for 0)."""
    return 1 << max(count - 1, 0).bit_length()


def tree_size(count: int) -> int:
    """Return the size in bytes of the tree over ``count`` leaves."""
    return (2 * padded_count(count) - 1) * HASH_SIZE


def _pair(left: bytes, right: bytes) -> bytes:
    inner = _sha256(b"".join((_BEFORE, left, _BETWEEN, right, _AFTER))).digest()
    return _sha256(inner).digest()


def _levels(leaves: Sequence[bytes]) -> Iterable[list[bytes]]:
    """Yield the levels of the tree from the leaves up."""
    count = len(leaves)
    if not count:
        raise ValueError("a tree has at least one leaf")
    level = list(leaves)
    level += [
        tagged_hash(TAG_MERKLE_EMPTY_LEAF, b"%d" % i) for i in range(count, padded_count(count))
    ]
    yield level
    while len(level) > 1:
        # Everything is inlined: this loop is what hashing a large file's trees costs.
        level = [
            _sha256(_sha256(b"".join((_BEFORE, left, _BETWEEN, right, _AFTER))).digest()).digest()
            for left, right in zip(level[::2], level[1::2], strict=True)
        ]
        yield level


def build_tree(leaves: Sequence[bytes]) -> bytes:
    """Return the whole tree over ``leaves``, hashes of 32 bytes, of which there is one at least.

    Returns:
        (2P-1)*32 bytes, the root first.
    """
    if len(leaves) == 1:
        return leaves[0]
    levels = [b"".join(level) for level in _levels(leaves)]
    return b"".join(reversed(levels))


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root of the tree over ``leaves``, 32 bytes."""
    if len(leaves) == 1:
        return leaves[0]
    *_, top = _levels(leaves)
    return top[0]


def split_hashes(flat: bytes | bytearray | memoryview) -> list[bytes]:
    """Cut hashes that stand one after the other.

    Raises:
        FormatError: the length is no multiple of 32.
    """
    if len(flat) % HASH_SIZE:
        raise FormatError("A row of hashes is cut short.")
    data = bytes(flat)
    return [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]


def leaves_of(flat: bytes, count: int) -> list[bytes]:
    """Return the first ``count`` leaves of a tree, without checking any hash.

    Raises:
        FormatError: ``flat`` is not of the size of a tree over ``count`` leaves.
    """
    if count < 1 or len(flat) != tree_size(count):
        raise FormatError("A hash tree does not have the size that it must have.")
    start = (padded_count(count) - 1) * HASH_SIZE
    return split_hashes(flat[start : start + count * HASH_SIZE])


def check_tree(flat: bytes, count: int, root: bytes) -> list[bytes]:
    """Return the first ``count`` leaves of a tree that leads to ``root``.

    The inner nodes that ``flat`` holds are of no interest: they are computed.

    Raises:
        FormatError: ``flat`` is not of the size of a tree over ``count`` leaves.
        IntegrityError: the leaves do not lead to ``root``.
    """
    leaves = leaves_of(flat, count)
    if tree_root(leaves) != root:
        raise IntegrityError("A hash tree does not lead to its root.")
    return leaves


def _set_order(numbers: Iterable[int]) -> list[int]:
    """Return distinct numbers in the order in which CPython iterates a set built of them.

    Tahoe-LAFS writes chains in that order. Readers take any, so it matters only for equal files
    to have equal shares, whatever runs this. Source: CPython 3 ``setobject.c``.
    """
    table: list[int | None] = [None] * 8

    def insert(number: int) -> None:
        mask, perturbed = len(table) - 1, number
        position = number & mask
        while True:
            # Nine slots are tried in a row, if that many follow, before the jump.
            row = 10 if position + 9 <= mask else 1
            for slot in range(position, position + row):
                if table[slot] is None:
                    table[slot] = number
                    return
            perturbed >>= 5
            position = (position * 5 + 1 + perturbed) & mask

    for used, number in enumerate(numbers, 1):
        insert(number)
        if used * 5 >= (len(table) - 1) * 3:
            kept = [entry for entry in table if entry is not None]
            size = 8
            while size <= used * 4:
                size *= 2
            table = [None] * size
            for entry in kept:
                insert(entry)
    return [entry for entry in table if entry is not None]


@functools.lru_cache(maxsize=512)
def _path(leaf_index: int, count: int) -> tuple[tuple[int, int], ...]:
    """Return (node, its sibling) from a leaf up to the children of the root."""
    if not 0 <= leaf_index < count:
        raise ValueError("there is no such leaf")
    path = []
    node = padded_count(count) - 1 + leaf_index
    while node:
        path.append((node, node + 1 if node % 2 else node - 1))
        node = (node - 1) // 2
    return tuple(path)


@functools.lru_cache(maxsize=512)
def chain_nodes(leaf_index: int, count: int) -> tuple[int, ...]:
    """Return the nodes of a leaf's chain in the order of Tahoe-LAFS: the leaf and siblings.

    Args:
        leaf_index: which leaf.
        count: number of leaves before padding.
    """
    siblings = [sibling for _, sibling in _path(leaf_index, count)]
    return tuple(_set_order([*siblings, padded_count(count) - 1 + leaf_index]))


def chain_for(flat: bytes, leaf_index: int, count: int) -> Chain:
    """Return the chain that proves a leaf: the leaf itself and what its path to the root needs.

    Args:
        flat: the tree.
        leaf_index: which leaf.
        count: number of leaves before padding.

    Returns:
        (number of the node, hash) each, in the order of Tahoe-LAFS. The root is not among them,
        but where the tree is a single leaf.
    """
    return [
        (node, flat[node * HASH_SIZE : (node + 1) * HASH_SIZE])
        for node in chain_nodes(leaf_index, count)
    ]


def _chain_hashes(chain: Iterable[tuple[int, bytes]]) -> dict[int, bytes]:
    hashes: dict[int, bytes] = {}
    for node, value in chain:
        if len(value) != HASH_SIZE or hashes.setdefault(node, value) != value:
            raise IntegrityError("A hash chain contradicts itself.")
    return hashes


def leaf_from_chain(chain: Iterable[tuple[int, bytes]], leaf_index: int, total: int) -> bytes:
    """Return the leaf that a chain proves; use `root_from_chain` to check it.

    Raises:
        IntegrityError: the chain lacks it or contradicts itself.
    """
    try:
        return _chain_hashes(chain)[padded_count(total) - 1 + leaf_index]
    except KeyError:
        raise IntegrityError("A hash chain is incomplete.") from None


def root_from_chain(chain: Iterable[tuple[int, bytes]], leaf_index: int, total: int) -> bytes:
    """Return the root to which a chain leads; the caller compares it with the one it trusts.

    Args:
        chain: (number of the node, hash) each, in any order; what is not needed is ignored.
        leaf_index: the leaf at which it begins.
        total: number of leaves before padding.

    Raises:
        IntegrityError: a hash is missing, or one node is there with two hashes.
    """
    hashes = _chain_hashes(chain)
    try:
        value = hashes[padded_count(total) - 1 + leaf_index]
        for node, sibling in _path(leaf_index, total):
            left, right = (value, hashes[sibling]) if node % 2 else (hashes[sibling], value)
            value = _pair(left, right)
    except KeyError:
        raise IntegrityError("A hash chain is incomplete.") from None
    return value
