"""Snapshots of tables: the record and every node under its root.

Entries are sealed as they are in the replicas, so a snapshot can be kept as an ordinary file. The
first peers of the permuted order keep the pointer to it.

A snapshot, integers big-endian::

    4    magic "AGT1"
    2    length of the record
         the record
         then each node in preorder: length (2), node

Source: ``docs/specs/directories.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs
from twisted.internet.defer import Deferred

from ampgrid.errors import FormatError, MissingNodesError
from ampgrid.formats import trie
from ampgrid.formats.pointer import Pointer
from ampgrid.formats.record import Record, ReplicaId
from ampgrid.vdrive.nodes import Desk, with_nodes
from ampgrid.vdrive.seeker import ask_all, in_order
from ampgrid.vdrive.table import Table

#: So many peers of the permuted order keep the pointer to a snapshot.
POINTER_PEERS = 10
#: The largest snapshot that is read, bytes.
MAX_SNAPSHOT_BYTES = 1 << 30

_MAGIC = b"AGT1"


@attrs.frozen
class Snapshot:
    """A table at one version.

    Attributes:
        record: signed.
        nodes: {hash: node} of its whole trie.
    """

    record: Record
    nodes: Mapping[bytes, bytes] = attrs.field(repr=False)

    def pack(self) -> bytes:
        """Return what `unpack` reads.

        Raises:
            MissingNodesError: a node lacks.
        """
        record = self.record.pack()
        parts = [_MAGIC, len(record).to_bytes(2, "big"), record]
        for _digest, node in trie.preorder(self.record.root, self.nodes.get):
            parts += (len(node).to_bytes(2, "big"), node)
        return b"".join(parts)

    @classmethod
    def unpack(cls, packed: bytes, index: bytes) -> Snapshot:
        """Read a snapshot from anywhere.

        Args:
            packed: all of it.
            index: of the directory of which it must be, 32 bytes.

        Raises:
            FormatError: it is malformed, or holds too little or too much.
            IntegrityError: its record is not signed with the directory's key.
        """
        if len(packed) > MAX_SNAPSHOT_BYTES or packed[:4] != _MAGIC:
            raise FormatError("This is no snapshot of a directory.")
        pieces = _pieces(packed)
        record = Record.unpack(next(pieces, b""))
        record.check(index)
        nodes = {trie.node_hash(node): node for node in pieces}
        count = seen = 0
        try:
            for _digest, _node in trie.preorder(record.root, nodes.get):
                seen += 1
            for _slot, _entry in trie.entries(record.root, nodes.get):
                count += 1
        except MissingNodesError:
            raise FormatError("The snapshot of the directory is not whole.") from None
        if seen != len(nodes) or count != record.count:
            raise FormatError("The snapshot holds what is not of the directory.")
        return cls(record, nodes)


def _pieces(packed: bytes) -> Iterator[bytes]:
    position = len(_MAGIC)
    while position < len(packed):
        start = position + 2
        end = start + int.from_bytes(packed[position:start], "big")
        if start > len(packed) or end > len(packed) or start == end:
            raise FormatError("The snapshot of the directory is cut short.")
        yield packed[start:end]
        position = end


async def make_snapshot(table: Table) -> Snapshot:
    """Collect the committed record of a table and all its nodes.

    Raises:
        AmpgridError: see `Table.record`.
        SnapshotGoneError: it changed, and its old nodes are gone; try again.
    """
    record, reading = await table.read(listing=True)
    return await complete(table, record, reading.desk, [*reading.shown])


async def complete(
    table: Table, record: Record, desk: Desk, holders: Sequence[ReplicaId]
) -> Snapshot:
    """Collect all nodes of a record.

    Raises:
        GridError: nobody hands some of them over.
    """
    nodes: dict[bytes, bytes] = {}

    def walk(read: trie.Read) -> None:
        lacking = trie.wanted(record.root, read)
        if lacking:
            raise MissingNodesError(tuple(lacking))
        nodes.update(trie.preorder(record.root, read))

    def fetch(hashes: Sequence[bytes]) -> Deferred[dict[bytes, bytes]]:
        return table.ground.fetch(hashes, (), [*holders, *record.replicas])

    await with_nodes(walk, desk, fetch)
    return Snapshot(record, nodes)


async def put_pointer(table: Table, pointer: Pointer) -> int:
    """Give the pointer to a snapshot to the first peers; return how many took it."""
    peers = in_order(table.ground)[:POINTER_PEERS]
    outcomes = await ask_all(peers, lambda peer: peer.put_snapshot(pointer))
    return sum(not isinstance(outcome, Exception) for outcome in outcomes)
