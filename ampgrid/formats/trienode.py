"""The nodes of a directory's trie: their bytes, their hashes and what makes one malformed.

A leaf, integers big-endian::

    1   0x01
        then each entry, slots rising:
    32  slot
    2   length of the entry, bytes; not 0
        the entry

A branch::

    1   0x02
    2   which nibbles have a child: bit n stands for nibble n
    32  hash of each child, nibbles rising

A node at depth d holds the entries whose slots begin with the d nibbles that lead to it. It is a
leaf if it holds one entry, or if the leaf would not be longer than `MAX_LEAF_BYTES`; else it is a
branch. So a set of entries has one trie, and one root.

Source: `docs/specs/directories.md#trie`.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable, Iterable
from typing import TypeAlias

from ampgrid.crypto.directory_keys import SLOT_SIZE
from ampgrid.crypto.hashing import HASH_SIZE, netstring
from ampgrid.errors import FormatError, IntegrityError
from ampgrid.formats.entry import MAX_ENTRY_BYTES
from ampgrid.formats.record import EMPTY_ROOT

#: What a leaf has beside the entry, for each.
PAIR_OVERHEAD = SLOT_SIZE + 2
#: The longest leaf of more than one entry, bytes.
MAX_LEAF_BYTES = 4_096
#: The longest node, bytes: a leaf of one entry.
MAX_NODE_BYTES = 1 + PAIR_OVERHEAD + MAX_ENTRY_BYTES
#: The nibbles of a slot: no path is longer.
MAX_DEPTH = 2 * SLOT_SIZE

#: Returns the bytes of the node of a hash, or None if it is not at hand. It must return only what
#: has that hash: whoever gets nodes from a peer calls `check_node` first.
Read: TypeAlias = Callable[[bytes], bytes | None]
#: Slot and entry of each entry of a leaf, in the order of the slots.
Leaf: TypeAlias = list[tuple[bytes, bytes]]
#: Nibble and hash of each child of a branch, in the order of the nibbles.
Branch: TypeAlias = dict[int, bytes]

_LEAF, _BRANCH = b"\x01", b"\x02"
_BRANCH_HEAD = struct.Struct(">cH")
_start = hashlib.sha256(netstring(b"ampgrid_directory_node_v1"))
NIBBLES = "0123456789abcdef"


def node_hash(node: bytes) -> bytes:
    """Return the hash, 32 bytes, by which a node is addressed."""
    hasher = _start.copy()
    hasher.update(node)
    return hasher.digest()


def leaf_size(pairs: Iterable[tuple[bytes, bytes]]) -> int:
    """Return how long the leaf of these entries would be, bytes."""
    return 1 + sum(PAIR_OVERHEAD + len(entry) for _, entry in pairs)


def must_be_leaf(count: int, size: int) -> bool:
    """Tell whether ``count`` entries, in a leaf of ``size`` bytes, are a leaf and no branch."""
    return count == 1 or size <= MAX_LEAF_BYTES


def pack_leaf(pairs: Leaf) -> bytes:
    """Return the leaf of these entries."""
    parts = [_LEAF]
    for slot, entry in pairs:
        parts += (slot, len(entry).to_bytes(2, "big"), entry)
    return b"".join(parts)


def pack_branch(children: Branch) -> bytes:
    """Return the branch of these children."""
    bitmap = 0
    for nibble in children:
        bitmap |= 1 << nibble
    return _BRANCH_HEAD.pack(_BRANCH, bitmap) + b"".join(children.values())


def is_branch(node: bytes) -> bool:
    """Tell whether a node claims to be a branch."""
    return node.startswith(_BRANCH)


class Visited:
    """The hashes that were met on a way through one trie.

    No node of a trie is at two places, since the slots below these differ. Whoever followed a
    hash as often as it occurs would follow 16 children all alike, and theirs, as often as a
    trie can have leaves.
    """

    def __init__(self) -> None:
        self._hashes: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, digest: bytes) -> None:
        """Note a hash.

        Raises:
            FormatError: it was met before.
        """
        if digest in self._hashes:
            raise FormatError("A node of the trie is at two places.")
        self._hashes.add(digest)


def parse_node(node: bytes, prefix: str = "") -> Leaf | Branch:
    """Read a node.

    Args:
        node: all its bytes.
        prefix: the nibbles that lead to it, in hexadecimal.

    Returns:
        A list if it is a leaf, a dict if it is a branch.

    Raises:
        FormatError: it is malformed, or does not belong there.
    """
    if len(node) > MAX_NODE_BYTES:
        raise FormatError("A node of the trie is too long.")
    if node.startswith(_LEAF):
        leaf = _parse_leaf(node)
        # The slots rise, so what the first and the last have in common all have in common.
        if not (leaf[0][0].hex().startswith(prefix) and leaf[-1][0].hex().startswith(prefix)):
            raise FormatError("A leaf of the trie stands where its slots do not lead.")
        return leaf
    if node.startswith(_BRANCH):
        return _parse_branch(node, len(prefix))
    raise FormatError("A node of the trie is of an unknown form.")


def _parse_leaf(node: bytes) -> Leaf:
    pairs = []
    position, end, last = 1, len(node), b""
    while position < end:
        start = position + PAIR_OVERHEAD
        slot = node[position : position + SLOT_SIZE]
        length = int.from_bytes(node[position + SLOT_SIZE : start], "big")
        position = start + length
        if slot <= last or not length or length > MAX_ENTRY_BYTES:
            raise FormatError("A leaf of the trie is out of order, or has a malformed entry.")
        pairs.append((slot, node[start:position]))
        last = slot
    if position != end or not pairs or not must_be_leaf(len(pairs), end):
        raise FormatError("A leaf of the trie is empty, too long or cut short.")
    return pairs


def _parse_branch(node: bytes, depth: int) -> Branch:
    bitmap = int.from_bytes(node[1 : _BRANCH_HEAD.size], "big")
    nibbles = [nibble for nibble in range(16) if bitmap >> nibble & 1]
    if not nibbles or len(node) != _BRANCH_HEAD.size + HASH_SIZE * len(nibbles):
        raise FormatError("A branch of the trie is empty, too long or cut short.")
    if depth >= MAX_DEPTH:
        raise FormatError("The trie goes deeper than its slots.")
    starts = range(_BRANCH_HEAD.size, len(node), HASH_SIZE)
    children = {
        nibble: node[start : start + HASH_SIZE]
        for nibble, start in zip(nibbles, starts, strict=True)
    }
    if EMPTY_ROOT in children.values():
        raise FormatError("A branch of the trie has an empty child.")
    if len(set(children.values())) < len(children):
        raise FormatError("A branch of the trie has one child at two places.")
    return children


def check_node(node: bytes, digest: bytes) -> None:
    """Check that bytes from anywhere are the node of a hash, and well-formed by themselves.

    Args:
        node: the bytes.
        digest: the hash, 32 bytes.

    Raises:
        IntegrityError: they are not, or whoever wrote the trie wrote something malformed.
    """
    if len(node) > MAX_NODE_BYTES or not hmac.compare_digest(node_hash(node), digest):
        raise IntegrityError("A node of the directory is not the one that was asked for.")
    try:
        parse_node(node)
    except FormatError as error:
        raise IntegrityError(str(error)) from None
