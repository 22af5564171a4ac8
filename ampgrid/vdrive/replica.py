"""The client's side of the directory Commands: one vdrive peer as a replica of directories.

Nothing that a replica answers is believed: a record or prepare counts when its signature holds
for the directory that was asked for, a node when it has the hash by which it is wanted. What
does not hold is an `IntegrityError` that names the peer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NoReturn

import attrs

from ampgrid.commands import errors as e
from ampgrid.commands import vdrive as commands
from ampgrid.crypto.identity import node_id_text
from ampgrid.errors import FormatError, IntegrityError
from ampgrid.formats import trie
from ampgrid.formats.ballot import Prepare
from ampgrid.formats.pointer import Pointer
from ampgrid.formats.record import Record, ReplicaId
from ampgrid.formats.trienode import parse_node
from ampgrid.ports import Clock, Connection

#: Seconds for the answer to a question; a replica that takes longer is passed over.
ASK_SECONDS = 8.0
#: Seconds for the answer to what has to reach the disk there.
CHANGE_SECONDS = 15.0
#: How much the last answer counts in a replica's pace.
_PACE_WEIGHT = 0.2
#: Bytes that a node, or an entry, takes in a box beside its own.
_ITEM_BYTES = 2


@lru_cache(maxsize=1_024)
def _checked_record(index: bytes, packed: bytes) -> Record:
    """Return a record whose signature holds; all replicas send the same bytes, mostly."""
    record = Record.unpack(packed)
    record.check(index)
    return record


@lru_cache(maxsize=256)
def _checked_prepare(index: bytes, packed: bytes) -> Prepare:
    prepare = Prepare.unpack(packed)
    prepare.check(index)
    return prepare


@attrs.frozen
class Shown:
    """What a replica shows of a directory.

    Attributes:
        held: the record that it accepted last, None if none.
        prepared: the highest prepare that it promised, None if none.
        nodes: {hash: node} that came along.
    """

    held: Record | None
    prepared: Prepare | None
    nodes: Mapping[bytes, bytes] = attrs.field(factory=dict, repr=False)


@attrs.frozen
class Verdict:
    """What a replica answers to a prepare or a record.

    Attributes:
        word: one of ``DONE``, ``REFUSED``, ``MISSING``, ``CONFLICT`` and ``STRANGER`` of
            `ampgrid.commands.vdrive`.
        held: the record that it has accepted, where it shows one.
        prepared: the prepare that stands in the way, where it shows one.
        missing: hashes of nodes that it lacks.
        nodes: {hash: node} that came along.
    """

    word: str
    held: Record | None = None
    prepared: Prepare | None = None
    missing: tuple[bytes, ...] = ()
    nodes: Mapping[bytes, bytes] = attrs.field(factory=dict, repr=False)


def packs(items: Sequence[bytes]) -> list[list[bytes]]:
    """Divide nodes into as many boxes as they need, in their order."""
    boxes: list[list[bytes]] = []
    size = commands.MAX_NODES_BYTES
    for item in items:
        taken = len(item) + _ITEM_BYTES
        if size + taken > commands.MAX_NODES_BYTES or len(boxes[-1]) >= commands.MAX_NODES:
            boxes.append([])
            size = 0
        boxes[-1].append(item)
        size += taken
    return boxes


class Replica:
    """One vdrive peer over one connection; there is one of these a connection.

    Every call raises `PeerError` when the peer did not answer or answered an error, and
    `IntegrityError` when what it answered does not hold.

    Args:
        connection: to that peer (or to this node itself).
        clock: by which its pace is measured; None if it is not.

    Attributes:
        pace: seconds that its last answers took, on average; 0 while not known.
    """

    def __init__(self, connection: Connection, clock: Clock | None = None) -> None:
        self.connection = connection
        self.pace = 0.0
        self._clock = clock
        self.node_id = connection.peer_id
        self._id: ReplicaId | None = None

    @property
    def name(self) -> str:
        """The start of its node id, enough to tell peers apart in a message."""
        return node_id_text(self.node_id)[:8]

    @property
    def known_id(self) -> ReplicaId | None:
        """Its id, if it was asked for that already."""
        return self._id

    async def id(self) -> ReplicaId:
        """Return (node id, store id); asked once a connection."""
        if self._id is None:
            answer = await self.connection.call(commands.GetReplica, deadline=ASK_SECONDS)
            self._id = ReplicaId(self.node_id, answer["store"])
        return self._id

    # Looking.

    async def record(self, index: bytes, slots: Sequence[bytes] = ()) -> Shown:
        """Return what it holds, with the nodes on the way to ``slots`` (at most 64)."""
        answer = await self._ask(commands.GetRecord, index, slots=slots or None)
        return self._shown(index, answer)

    async def children(
        self, index: bytes, root: bytes | None = None, after: bytes | None = None
    ) -> Shown:
        """Return what it holds, with nodes of the trie in preorder."""
        answer = await self._ask(commands.ListChildren, index, root=root, after=after)
        return self._shown(index, answer, root)

    async def child(self, index: bytes, slot: bytes, root: bytes | None = None) -> Shown:
        """Return what it holds, with the nodes on the way to one slot under ``root``."""
        answer = await self._ask(commands.GetChild, index, slot=slot, root=root)
        return self._shown(index, answer, root)

    async def nodes(self, index: bytes, hashes: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return nodes by their hashes: the first of them at least, as many as fit in a box.

        Raises:
            IntegrityError: a node has another hash, or too many came, or none.
        """
        answer = await self._ask(commands.GetNodes, index, hashes=list(hashes))
        nodes = answer["nodes"]
        if not 0 < len(nodes) <= len(hashes):
            self.accuse("answers with no node, or with more than were asked for")
        found = dict(zip(hashes, nodes, strict=False))
        for digest, node in found.items():
            try:
                trie.check_node(node, digest)
            except (IntegrityError, FormatError) as error:
                self.accuse("sends a node that has another hash", error)
        return found

    async def _ask(self, command: Any, index: bytes, **arguments: Any) -> dict[str, Any]:
        clock = self._clock
        began = 0.0 if clock is None else clock.seconds()
        try:
            return await self.connection.call(
                command, deadline=ASK_SECONDS, index=index, **_given(arguments)
            )
        finally:
            if clock is not None:
                self.pace += (clock.seconds() - began - self.pace) * _PACE_WEIGHT

    # Voting.

    async def prepare(
        self, index: bytes, prepare: Prepare, slots: Sequence[bytes] = ()
    ) -> Verdict:
        """Ask for the promise of a ballot."""
        return await self._vote(
            commands.Prepare, index, prepare=prepare.pack(), slots=list(slots) or None
        )

    async def create(self, index: bytes, record: Record) -> Verdict:
        """Give it the first record of a directory."""
        return await self._vote(commands.CreateDirectory, index, record=record.pack())

    async def accept(self, index: bytes, record: Record) -> Verdict:
        """Give it a record whose nodes it has."""
        return await self._vote(commands.Accept, index, record=record.pack())

    async def change(
        self, index: bytes, record: Record, changes: Mapping[bytes, bytes | None]
    ) -> Verdict:
        """Give it a record that differs from the one before in these entries.

        Args:
            index: of the directory.
            record: to be accepted.
            changes: {slot: sealed entry, or None where it goes}, at most 64.
        """
        sent: dict[str, Any] = {"record": record.pack()}
        if len(changes) > 1:
            sent["slots"] = list(changes)
            sent["entries"] = [entry or b"" for entry in changes.values()]
            return await self._vote(commands.SetChildren, index, **sent)
        [(slot, entry)] = changes.items()
        if entry is None:
            return await self._vote(commands.DeleteChild, index, slot=slot, **sent)
        return await self._vote(commands.SetChild, index, slot=slot, entry=entry, **sent)

    async def stage(self, index: bytes, nodes: Sequence[bytes], proof: bytes | None) -> None:
        """Let it keep nodes, as many as one box takes, for a record that follows.

        Args:
            index: of the directory.
            nodes: to be kept.
            proof: a packed record or prepare of the directory.
        """
        await self._change(
            commands.StageNodes, index, nodes=list(nodes), **_given({"record": proof})
        )

    async def _vote(self, command: Any, index: bytes, **arguments: Any) -> Verdict:
        answer = await self._change(command, index, **_given(arguments))
        word = answer["verdict"]
        if word not in {
            commands.DONE,
            commands.REFUSED,
            commands.MISSING,
            commands.CONFLICT,
            commands.STRANGER,
        }:
            self.accuse("answers with a verdict that there is not")
        held = self._held(index, answer)
        return Verdict(
            word,
            held,
            self._prepared(index, answer),
            tuple(answer.get("missing") or ()),
            self._nodes(answer, None if held is None else held.root),
        )

    async def _change(self, command: Any, index: bytes, **arguments: Any) -> dict[str, Any]:
        # One token a directory: what goes to one replica is served in the order it was sent.
        return await self.connection.call(
            command,
            operation=(b"directory", index),
            deadline=CHANGE_SECONDS,
            index=index,
            **arguments,
        )

    # Leases and snapshots.

    async def renew(self, index: bytes) -> None:
        """Renew this node's lease on the directory there."""
        await self._change(commands.RenewDirectory, index)

    async def cancel(self, index: bytes) -> None:
        """Cancel this node's lease there; one that is not there is no error."""
        try:
            await self._change(commands.CancelDirectory, index)
        except (e.NoSuchLeaseError, e.NoSuchDirectoryError):
            return

    async def put_snapshot(self, pointer: Pointer) -> None:
        """Let it keep the pointer to a snapshot."""
        await self._change(commands.PutSnapshot, pointer.index, pointer=pointer.pack())

    async def get_snapshot(self, index: bytes) -> Pointer | None:
        """Return the pointer that it keeps, None if it keeps none."""
        try:
            answer = await self._ask(commands.GetSnapshot, index)
        except e.NoSuchDirectoryError:
            return None
        try:
            pointer = Pointer.unpack(answer["pointer"])
            pointer.check(index)
        except (IntegrityError, FormatError) as error:
            self.accuse("shows a pointer to a snapshot that is not signed", error)
        return pointer

    # Checking.

    def accuse(self, what: str, cause: Exception | None = None) -> NoReturn:
        """Raise what this peer did wrong.

        Raises:
            IntegrityError: always.
        """
        raise IntegrityError(f"vdrive peer {self.name} {what}") from cause

    def _shown(self, index: bytes, answer: dict[str, Any], root: bytes | None = None) -> Shown:
        held = self._held(index, answer)
        if root is None and held is not None:
            root = held.root
        return Shown(held, self._prepared(index, answer), self._nodes(answer, root))

    def _held(self, index: bytes, answer: dict[str, Any]) -> Record | None:
        packed = answer.get("held")
        if not packed:
            return None
        try:
            return _checked_record(index, bytes(packed))
        except (IntegrityError, FormatError) as error:
            self.accuse("shows a record that is not signed by the directory's key", error)

    def _prepared(self, index: bytes, answer: dict[str, Any]) -> Prepare | None:
        packed = answer.get("prepared")
        if not packed:
            return None
        try:
            return _checked_prepare(index, bytes(packed))
        except (IntegrityError, FormatError) as error:
            self.accuse("shows a prepare that is not signed by the directory's key", error)

    def _nodes(self, answer: dict[str, Any], root: bytes | None) -> dict[bytes, bytes]:
        """Return {hash: node} of nodes that came along, each after the one that leads to it."""
        expected = {root}
        found: dict[bytes, bytes] = {}
        for node in answer.get("nodes") or ():
            digest = trie.node_hash(node)
            try:
                if digest not in expected:
                    self.accuse("sends nodes that are not of the record it shows")
                parsed = parse_node(node)
            except FormatError as error:
                self.accuse("sends a malformed node", error)
            found[digest] = node
            if isinstance(parsed, dict):
                expected.update(parsed.values())
        return found


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is None."""
    return {name: value for name, value in arguments.items() if value is not None}
