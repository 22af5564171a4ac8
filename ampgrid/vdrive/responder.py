"""Answers the directory Commands of one connection: decode, ask the service, encode.

Errors become the leaves that each Command declares, in words of their own: a peer learns no path
and nothing of the disk. What the disk did is in the log, under the number that the peer is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from twisted.protocols import amp

from ampgrid.commands import errors as e
from ampgrid.commands import vdrive as commands
from ampgrid.errors import (
    FormatError,
    IntegrityError,
    NoRoomError,
    NotStoredError,
    StoreError,
)
from ampgrid.ports import Connection
from ampgrid.store.directories import Judged, NoLeaseError, Shown, SnapshotLostError
from ampgrid.vdrive.service import VdriveService

_ANSWERS: dict[type[StoreError], tuple[type[e.WireError], str]] = {
    NoRoomError: (e.NoSpaceError, "there is no room"),
    NotStoredError: (e.NoSuchDirectoryError, "nothing of this directory is kept here"),
    NoLeaseError: (e.NoSuchLeaseError, "there is no lease of yours here"),
    SnapshotLostError: (e.SnapshotGoneWireError, "that root is no longer kept here"),
}


class VdriveResponder(amp.CommandLocator):
    """Answers the directory Commands of one connection.

    Args:
        service: the vdrive service.
        connection: whose calls are answered.
    """

    def __init__(self, service: VdriveService, connection: Connection) -> None:
        super().__init__()
        self._service = service
        self._peer = connection.peer_id

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn errors of the store and of formats into those of the Commands."""
        try:
            yield
        except (FormatError, IntegrityError) as error:
            raise e.BadRecordError("it is malformed, or a signature does not hold") from error
        except StoreError as error:
            leaf, message = _ANSWERS.get(type(error), (e.StoreFailedError, ""))
            if not message:
                message = f"the store failed, {self._service.report(error)}"
            raise leaf(message) from error

    @commands.GetReplica.responder
    async def get_replica(self) -> dict[str, Any]:
        """Tell the id of the store."""
        return {"store": self._service.store_id}

    @commands.CreateDirectory.responder
    async def create_directory(
        self,
        index: bytes,
        record: bytes,
    ) -> dict[str, Any]:
        """Accept the first record of a directory."""
        with self._answering():
            return _changed(await self._service.create(index, self._peer, record))

    @commands.GetRecord.responder
    async def get_record(
        self, index: bytes, slots: Sequence[bytes] | None = None
    ) -> dict[str, Any]:
        """Tell the record that is accepted."""
        _check_slots(slots or ())
        with self._answering():
            return _shown(await self._service.show(index, slots or ()))

    @commands.GetChild.responder
    async def get_child(
        self, index: bytes, slot: bytes, root: bytes | None = None
    ) -> dict[str, Any]:
        """Tell what proves one slot."""
        with self._answering():
            return _shown(await self._service.prove(index, slot, root))

    @commands.ListChildren.responder
    async def list_children(
        self, index: bytes, root: bytes | None = None, after: bytes | None = None
    ) -> dict[str, Any]:
        """Tell a page of nodes."""
        with self._answering():
            return _shown(await self._service.page(index, root, after))

    @commands.GetNodes.responder
    async def get_nodes(self, index: bytes, hashes: Sequence[bytes]) -> dict[str, Any]:
        """Tell nodes."""
        _check_slots(hashes)
        with self._answering():
            return {"nodes": await self._service.nodes(index, hashes)}

    @commands.Prepare.responder
    async def prepare(
        self, index: bytes, prepare: bytes, slots: Sequence[bytes] | None = None
    ) -> dict[str, Any]:
        """Promise."""
        _check_slots(slots or ())
        with self._answering():
            judged = await self._service.prepare(index, self._peer, prepare, slots or ())
        return {
            "verdict": str(judged.verdict),
            "held": judged.held,
            "prepared": judged.prepared,
            "nodes": judged.nodes,
        }

    @commands.Accept.responder
    async def accept(
        self,
        index: bytes,
        record: bytes,
    ) -> dict[str, Any]:
        """Accept a record whose nodes are here."""
        with self._answering():
            return _changed(await self._service.accept(index, self._peer, record))

    @commands.SetChild.responder
    async def set_child(
        self,
        index: bytes,
        record: bytes,
        slot: bytes,
        entry: bytes,
    ) -> dict[str, Any]:
        """Accept a record that sets one entry."""
        changes = {slot: entry}
        with self._answering():
            return _changed(await self._service.accept(index, self._peer, record, changes))

    @commands.DeleteChild.responder
    async def delete_child(
        self,
        index: bytes,
        record: bytes,
        slot: bytes,
    ) -> dict[str, Any]:
        """Accept a record that takes one entry out."""
        changes = {slot: None}
        with self._answering():
            return _changed(await self._service.accept(index, self._peer, record, changes))

    @commands.SetChildren.responder
    async def set_children(
        self,
        index: bytes,
        record: bytes,
        slots: Sequence[bytes],
        entries: Sequence[bytes],
    ) -> dict[str, Any]:
        """Accept a record that changes several entries."""
        _check_slots(slots)
        if len(slots) != len(entries) or len(set(slots)) != len(slots):
            raise e.BadArgumentError("slots and entries do not go together")
        changes = {slot: entry or None for slot, entry in zip(slots, entries, strict=True)}
        with self._answering():
            return _changed(await self._service.accept(index, self._peer, record, changes))

    @commands.StageNodes.responder
    async def stage_nodes(
        self, index: bytes, nodes: Sequence[bytes], record: bytes | None = None
    ) -> dict[str, Any]:
        """Keep nodes for a record to come."""
        with self._answering():
            await self._service.stage(index, self._peer, nodes, record)
        return {}

    @commands.RenewDirectory.responder
    async def renew_directory(self, index: bytes) -> dict[str, Any]:
        """Add or renew the caller's lease."""
        with self._answering():
            await self._service.renew(index, self._peer)
        return {}

    @commands.CancelDirectory.responder
    async def cancel_directory(self, index: bytes) -> dict[str, Any]:
        """Remove the caller's lease."""
        with self._answering():
            await self._service.cancel(index, self._peer)
        return {}

    @commands.PutSnapshot.responder
    async def put_snapshot(self, index: bytes, pointer: bytes) -> dict[str, Any]:
        """Keep a pointer to a snapshot."""
        with self._answering():
            await self._service.point(index, self._peer, pointer)
        return {}

    @commands.GetSnapshot.responder
    async def get_snapshot(self, index: bytes) -> dict[str, Any]:
        """Tell the pointer to the last snapshot."""
        with self._answering():
            return {"pointer": await self._service.pointer(index)}


def _check_slots(slots: Sequence[bytes]) -> None:
    if any(len(slot) != 32 for slot in slots):
        raise e.BadArgumentError("a slot or hash is not of 32 bytes")


def _changed(judged: Judged) -> dict[str, Any]:
    return {
        "verdict": str(judged.verdict),
        "held": judged.held,
        "prepared": judged.prepared,
        "missing": judged.missing or None,
    }


def _shown(shown: Shown) -> dict[str, Any]:
    return {"held": shown.held, "prepared": shown.prepared, "nodes": shown.nodes}
