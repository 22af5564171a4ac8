"""Sealed snapshots of directories, stored as files, and bringing directories back from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from ampgrid.caps import ChkCap, DirCap, FileCap
from ampgrid.errors import (
    AmpgridError,
    BadArgumentValueError,
    FormatError,
    IntegrityError,
    NotReachableError,
)
from ampgrid.formats.pointer import Pointer
from ampgrid.immutable import Data, Encoding, FileNode, KeptFiles, Operation, Uploader
from ampgrid.immutable.several import each
from ampgrid.vdrive.maker import NodeMaker
from ampgrid.vdrive.recovering import recover
from ampgrid.vdrive.replica import Replica
from ampgrid.vdrive.seeker import in_order
from ampgrid.vdrive.snapshots import (
    MAX_SNAPSHOT_BYTES,
    POINTER_PEERS,
    make_snapshot,
    put_pointer,
)
from ampgrid.vdrive.surveying import survey
from ampgrid.vdrive.table import Table


def replicated(maker: NodeMaker, cap: DirCap) -> Table:
    """Return the table of a directory with all that only replicas offer.

    Raises:
        BadArgumentValueError: the tables here are none of the grid's.
    """
    table = maker.table(cap)
    if not isinstance(table, Table):
        raise BadArgumentValueError("these directories are not kept by peers")
    return table


class StoredSnapshots:
    """Stores snapshots of directories as files, and points to them.

    Args:
        maker: reaches the directories.
        uploader: stores the files.
        encoding: returns k, happiness and n for them.
        kept: forgets the files of replaced snapshots.
    """

    def __init__(
        self,
        maker: NodeMaker,
        uploader: Uploader,
        encoding: Callable[[], Encoding],
        kept: KeptFiles,
    ) -> None:
        self._maker = maker
        self._uploader = uploader
        self._encoding = encoding
        self._kept = kept

    async def keep(self, cap: DirCap, operation: Operation) -> bool:
        """Store a snapshot of a directory unless the last one is of its present version.

        Returns:
            Whether one was stored.

        Raises:
            GridError: the directory cannot be read, or its snapshot not be stored.
        """
        table = replicated(self._maker, cap)
        pointers = await self._pointers(table)
        record = await table.record()
        newest = max(pointers.values(), key=lambda pointer: pointer.order, default=None)
        if newest is not None and newest.order >= (record.epoch, record.version):
            await self._spread(table, newest, pointers)
            return False
        snapshot = await make_snapshot(table)
        packed = await self._maker.threads.run(snapshot.pack)
        uploaded = await self._uploader.upload(Data(packed), self._encoding(), operation)
        pointer = Pointer.make(
            cap.keys,
            epoch=snapshot.record.epoch,
            version=snapshot.record.version,
            cap=uploaded.cap,
            entropy=self._maker.entropy,
        )
        if not await put_pointer(table, pointer):
            raise NotReachableError("no peer took the pointer to the snapshot", wanted=1)
        await self._forget(set(pointers.values()), cap, uploaded.cap)
        return True

    async def _pointers(self, table: Table) -> dict[bytes, Pointer]:
        """Return the pointers that the first peers have, {node id: pointer}."""
        peers = in_order(table.ground)[:POINTER_PEERS]

        def start(peer: Replica) -> Callable[[], Deferred[Pointer | None]]:
            return lambda: Deferred.fromCoroutine(peer.get_snapshot(table.index))

        answers = await each({n: start(peer) for n, peer in enumerate(peers)})
        found = {}
        for number, answer in answers.items():
            if isinstance(answer, Pointer):
                found[peers[number].node_id] = answer
            elif answer is not None and not isinstance(answer, AmpgridError):
                raise answer
        return found

    async def _spread(self, table: Table, newest: Pointer, pointers: dict[bytes, Pointer]) -> None:
        """Let peers have the newest pointer that came later, or were away."""
        peers = in_order(table.ground)[:POINTER_PEERS]
        if any(pointers.get(peer.node_id) != newest for peer in peers):
            await put_pointer(table, newest)

    async def _forget(self, replaced: set[Pointer], cap: DirCap, new: FileCap) -> None:
        """Keep the files of replaced snapshots no longer: their leases run out."""
        for pointer in replaced:
            try:
                old = pointer.open(cap.keys.read)
            except (IntegrityError, FormatError):
                continue
            if old != new:
                await self._kept.drop(old)


async def recover_directory(
    maker: NodeMaker,
    cap: DirCap,
    operation: Operation,
    *,
    dry_run: bool,
    confirmed: str | None = None,
) -> dict[str, Any]:
    """Bring a directory back of which too few replicas are left.

    Args:
        maker: reaches the directory and its snapshot.
        cap: of the directory.
        operation: progress and cancelling.
        dry_run: only tell.
        confirmed: the mark of a report; if something else is found now, it is only told.

    Returns:
        A report for JSON (``docs/reference/drive.md``).

    Raises:
        NotReachableError: nothing of it was found, or too few peers took it.
    """

    async def read_file(file: FileCap) -> bytes:
        operation.enter("reading the snapshot", file.get_size())
        if not isinstance(file, ChkCap):
            raise FormatError("The pointer to the snapshot names no file.")
        node = maker.node(file)
        assert isinstance(node, FileNode)
        return await node.download_to_data(MAX_SNAPSHOT_BYTES)

    operation.enter("looking for what is left", 0)
    table = replicated(maker, cap)
    found = await survey(table, cap.keys, read_file)
    operation.check()
    record = found.snapshot.record
    recovered = not (dry_run or found.healthy) and confirmed in (None, found.mark)
    if recovered:
        operation.enter("bringing it back", 0)
        record = await recover(table, cap.keys, found)
    return {
        "source": "snapshot" if found.from_file else "replica",
        "version": record.version,
        "epoch": record.epoch,
        "entries": record.count,
        "holders": len(found.holders),
        "warnings": list(found.warnings),
        "healthy": found.healthy,
        "recovered": recovered,
        "mark": found.mark,
    }
