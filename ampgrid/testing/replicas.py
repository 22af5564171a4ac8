"""A replica of directories in memory that keeps to the rules.

`MemoryReplica` answers the directory Commands as a vdrive peer does, with the register's own
acceptor and dicts in the place of a disk. `ampgrid.testing.liars` has those that break the rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from twisted.protocols import amp

from ampgrid.commands import errors as e
from ampgrid.commands import vdrive as commands
from ampgrid.errors import MissingNodesError
from ampgrid.formats import trie
from ampgrid.formats.ballot import Prepare
from ampgrid.formats.record import EMPTY_ROOT, Record, ReplicaId
from ampgrid.register import acceptor, membership
from ampgrid.vdrive.replica import packs

Changes = Mapping[bytes, bytes | None]


@attrs.define(eq=False)
class Kept:
    """What a replica keeps of one directory.

    Attributes:
        state: of the acceptor.
        nodes: {hash: node}, old ones too.
        history: every record that was accepted, in order.
        pointer: to a snapshot, packed.
        leases: node ids of who has one.
    """

    state: acceptor.AcceptorState[Record, Prepare] = attrs.field(
        factory=acceptor.AcceptorState[Record, Prepare]
    )
    nodes: dict[bytes, bytes] = attrs.field(factory=dict)
    history: list[Record] = attrs.field(factory=list)
    pointer: bytes | None = None
    leases: set[bytes] = attrs.field(factory=set)


class MemoryReplica(amp.CommandLocator):
    """A vdrive peer that keeps to the rules.

    Args:
        node_id: of the peer, 20 bytes.
        store_id: of its store, 16 bytes.
    """

    def __init__(self, node_id: bytes, store_id: bytes) -> None:
        super().__init__()
        self.node_id = node_id
        self.store_id = store_id
        self.kept: dict[bytes, Kept] = {}
        #: How often each Command was called.
        self.calls: dict[str, int] = {}

    @property
    def me(self) -> ReplicaId:
        """Its name in replica sets."""
        return ReplicaId(self.node_id, self.store_id)

    def locateResponder(self, name: bytes) -> Any:  # noqa: N802
        """Count, and find who answers."""
        text = name.decode()
        self.calls[text] = self.calls.get(text, 0) + 1
        return super().locateResponder(name)

    def of(self, index: bytes) -> Kept:
        """Return what is kept of a directory.

        Raises:
            NoSuchDirectoryError: nothing is.
        """
        if index not in self.kept:
            raise e.NoSuchDirectoryError("nothing of this directory is kept here")
        return self.kept[index]

    # What is shown.

    def shown(self, kept: Kept, nodes: Sequence[bytes] = ()) -> dict[str, Any]:
        """Return the answer that shows what is kept."""
        state = kept.state
        return {
            "held": None if state.accepted is None else state.accepted.pack(),
            "prepared": None if state.prepare is None else state.prepare.pack(),
            "nodes": packs(nodes)[0] if nodes else [],
        }

    def root_of(self, kept: Kept, root: bytes | None = None) -> bytes:
        """Return the root that is meant."""
        if root is not None:
            return root
        return EMPTY_ROOT if kept.state.accepted is None else kept.state.accepted.root

    def ways(self, kept: Kept, slots: Sequence[bytes], root: bytes | None) -> list[bytes]:
        """Return the nodes on the way to slots."""
        try:
            found = [
                node
                for slot in slots
                for node in trie.path(self.root_of(kept, root), slot, kept.nodes.get)
            ]
        except MissingNodesError as error:
            raise e.SnapshotGoneWireError("gone") from error
        return list(dict.fromkeys(found))

    @commands.GetReplica.responder
    def get_replica(self) -> dict[str, Any]:
        """Tell the id of the store."""
        return {"store": self.store_id}

    @commands.GetRecord.responder
    def get_record(self, index: bytes, slots: Sequence[bytes] | None = None) -> dict[str, Any]:
        """Tell the record that is accepted."""
        kept = self.of(index)
        return self.shown(kept, self.ways(kept, slots or (), None))

    @commands.GetChild.responder
    def get_child(self, index: bytes, slot: bytes, root: bytes | None = None) -> dict[str, Any]:
        """Tell what proves one slot."""
        kept = self.of(index)
        return self.shown(kept, self.ways(kept, [slot], root))

    @commands.ListChildren.responder
    def list_children(
        self, index: bytes, root: bytes | None = None, after: bytes | None = None
    ) -> dict[str, Any]:
        """Tell a page of nodes."""
        kept = self.of(index)
        nodes: list[bytes] = []
        size = 0
        try:
            for _digest, node in trie.preorder(self.root_of(kept, root), kept.nodes.get, after):
                size += len(node) + 2
                if size > commands.MAX_NODES_BYTES:
                    break
                nodes.append(node)
        except MissingNodesError as error:
            raise e.SnapshotGoneWireError("gone") from error
        return self.shown(kept, nodes)

    @commands.GetNodes.responder
    def get_nodes(self, index: bytes, hashes: Sequence[bytes]) -> dict[str, Any]:
        """Tell nodes."""
        kept = self.of(index)
        found: list[bytes] = []
        for digest in hashes:
            if digest not in kept.nodes:
                break
            found.append(kept.nodes[digest])
        if not found:
            raise e.SnapshotGoneWireError("gone")
        return {"nodes": packs(found)[0]}

    # What is voted.

    @commands.Prepare.responder
    def prepare(
        self, index: bytes, prepare: bytes, slots: Sequence[bytes] | None = None
    ) -> dict[str, Any]:
        """Promise."""
        asked = Prepare.unpack(prepare)
        asked.check(index)
        kept = self.kept.setdefault(index, Kept())
        kept.state, answer = acceptor.prepare(kept.state, asked)
        if isinstance(answer, acceptor.PromiseMade):
            nodes = self.ways(kept, slots or (), None)
            return {"verdict": commands.DONE, **self.shown(kept, nodes)}
        return {"verdict": commands.REFUSED, **self.shown(kept)}

    def judge(self, index: bytes, record: bytes, changes: Changes | None) -> dict[str, Any]:
        """Accept a record, or not."""
        asked = Record.unpack(record)
        asked.check(index)
        kept = self.kept.get(index, Kept())
        state, answer = acceptor.accept(kept.state, asked, self.me)
        shown = {key: value for key, value in self.shown(kept).items() if key != "nodes"}
        if isinstance(answer, acceptor.NotMine):
            if membership.releases(kept.state.accepted, asked, self.me):
                kept.state = acceptor.release(kept.state, asked)
            return {"verdict": commands.STRANGER, **shown}
        if isinstance(answer, acceptor.Conflict):
            return {"verdict": commands.CONFLICT, **shown}
        if isinstance(answer, acceptor.RefusedBy):
            return {"verdict": commands.REFUSED, **shown}
        try:
            added = self.added(kept, asked.root, changes)
        except MissingNodesError as error:
            missing = list(error.hashes[: commands.MAX_NODES])
            return {"verdict": commands.MISSING, **shown, "missing": missing}
        self.kept[index] = kept
        kept.nodes.update(added)
        kept.state = state
        if not kept.history or kept.history[-1] != asked:
            kept.history.append(asked)
        return {"verdict": commands.DONE}

    def added(self, kept: Kept, root: bytes, changes: Changes | None) -> dict[bytes, bytes]:
        """Return nodes of a new root, checked."""
        live = self.root_of(kept)
        read = kept.nodes.get
        if root == live:
            return {}
        if changes is not None:
            change = trie.apply(live, changes, read)
            if change.root == root:
                return change.added
        return trie.diff(live, root, read, read).added

    @commands.CreateDirectory.responder
    def create_directory(
        self,
        index: bytes,
        record: bytes,
    ) -> dict[str, Any]:
        """Accept the first record."""
        return self.judge(index, record, None)

    @commands.Accept.responder
    def accept(
        self,
        index: bytes,
        record: bytes,
    ) -> dict[str, Any]:
        """Accept a record whose nodes are here."""
        return self.judge(index, record, None)

    @commands.SetChild.responder
    def set_child(
        self,
        index: bytes,
        record: bytes,
        slot: bytes,
        entry: bytes,
    ) -> dict[str, Any]:
        """Accept a record that sets an entry."""
        return self.judge(index, record, {slot: entry})

    @commands.DeleteChild.responder
    def delete_child(
        self,
        index: bytes,
        record: bytes,
        slot: bytes,
    ) -> dict[str, Any]:
        """Accept a record that takes an entry out."""
        return self.judge(index, record, {slot: None})

    @commands.SetChildren.responder
    def set_children(
        self,
        index: bytes,
        record: bytes,
        slots: Sequence[bytes],
        entries: Sequence[bytes],
    ) -> dict[str, Any]:
        """Accept a record that changes several entries."""
        changes = {slot: entry or None for slot, entry in zip(slots, entries, strict=True)}
        return self.judge(index, record, changes)

    @commands.StageNodes.responder
    def stage_nodes(
        self, index: bytes, nodes: Sequence[bytes], record: bytes | None = None
    ) -> dict[str, Any]:
        """Keep nodes for a record to come."""
        kept = self.kept.setdefault(index, Kept()) if record is not None else self.of(index)
        kept.nodes.update({trie.node_hash(node): node for node in nodes})
        return {}

    # Leases and snapshots.

    @commands.RenewDirectory.responder
    def renew_directory(self, index: bytes) -> dict[str, Any]:
        """Note that there is a lease."""
        self.of(index).leases.add(b"")
        return {}

    @commands.CancelDirectory.responder
    def cancel_directory(self, index: bytes) -> dict[str, Any]:
        """Drop the lease."""
        leases = self.of(index).leases
        if not leases:
            raise e.NoSuchLeaseError("there is no lease of yours here")
        leases.clear()
        return {}

    @commands.PutSnapshot.responder
    def put_snapshot(self, index: bytes, pointer: bytes) -> dict[str, Any]:
        """Keep a pointer."""
        self.kept.setdefault(index, Kept()).pointer = pointer
        return {}

    @commands.GetSnapshot.responder
    def get_snapshot(self, index: bytes) -> dict[str, Any]:
        """Tell the pointer."""
        pointer = self.of(index).pointer
        if pointer is None:
            raise e.NoSuchDirectoryError("there is no snapshot")
        return {"pointer": pointer}
