"""Answers the storage Commands of one connection: decode, ask the service, encode.

The errors of the store become the leaves that each Command declares, in words of their own: a
peer learns no path and nothing of the disk. What the disk did is in the log, under the number
that the peer is told.
"""

from __future__ import annotations

from typing import Any

from ampgrid.commands import errors as e
from ampgrid.commands import storage as commands
from ampgrid.commands.base import GridCommand
from ampgrid.commands.running import Responders
from ampgrid.crypto.hashing import lease_secret_digest
from ampgrid.errors import (
    IncompleteError,
    NoRoomError,
    NotStoredError,
    OutOfRangeError,
    StoreError,
    WriteConflictError,
)
from ampgrid.ports import Connection
from ampgrid.storage.buckets import Ask
from ampgrid.storage.service import StorageService

_ANSWERS: dict[type[StoreError], tuple[type[e.WireError], str]] = {
    NoRoomError: (e.NoSpaceError, "there is no room"),
    OutOfRangeError: (e.OutsideShareError, "the write reaches outside the allocated size"),
    WriteConflictError: (e.ConflictingWriteError, "there are other bytes already"),
    IncompleteError: (e.IncompleteShareError, "bytes are missing; the share was discarded"),
}


class _Answering:
    """Turns errors of the store into those of a Command, while that is being answered.

    Args:
        service: writes what a peer is not told to the log.
        command: whose errors may be told.
        missing: the error of it when nothing is stored.
    """

    __slots__ = ("_command", "_missing", "_service")

    def __init__(
        self, service: StorageService, command: type[GridCommand], missing: type[e.WireError]
    ) -> None:
        self._service = service
        self._command = command
        self._missing = missing

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, NotStoredError):
            raise self._missing("there is nothing of this name here") from error
        if isinstance(error, StoreError):
            leaf, message = _ANSWERS.get(type(error), (e.StoreFailedError, ""))
            if leaf not in self._command.errors:
                leaf, message = e.StoreFailedError, ""
            if not message:
                message = f"the store failed, {self._service.report(error)}"
            raise leaf(message) from error


class StorageResponder(Responders):
    """Answers the storage Commands of one connection.

    Args:
        service: the storage service.
        connection: whose calls are answered; when it goes, its unclosed buckets go.
    """

    def __init__(self, service: StorageService, connection: Connection) -> None:
        super().__init__()
        self._service = service
        self._peer = connection.peer_id
        self._buckets = service.buckets(connection.peer_id)
        connection.when_lost(self._lost)

    def _lost(self) -> None:
        self._service.forget(self._buckets)

    def _answering(
        self,
        command: type[GridCommand],
        missing: type[e.WireError] = e.NoSuchShareError,
    ) -> _Answering:
        return _Answering(self._service, command, missing)

    @commands.AllocateBuckets.responder
    async def allocate_buckets(
        self,
        storage_index: bytes,
        renew_secret: bytes,
        cancel_secret: bytes,
        shares: frozenset[int],
        allocated_size: int,
        bucket: int,
        data: bytes | None = None,
        close: bool | None = None,
    ) -> dict[str, Any]:
        """Reserve room for shares; with ``data`` and ``close`` store one at once."""
        ask = Ask(
            storage_index,
            self._service.lease(renew_secret, cancel_secret, self._peer),
            shares,
            allocated_size,
            bucket,
            data,
            bool(close),
        )
        with self._answering(commands.AllocateBuckets):
            already_got, accepted = await self._buckets.allocate(ask)
        return {"already_got": already_got, "accepted": accepted}

    @commands.WriteShare.responder
    async def write_share(
        self, bucket: int, share: int, offset: int, data: bytes
    ) -> dict[str, Any]:
        """Write bytes of a share."""
        with self._answering(commands.WriteShare):
            await self._buckets.write((bucket, share), offset, data)
        return {}

    @commands.CloseBucket.responder
    async def close_bucket(self, bucket: int, share: int) -> dict[str, Any]:
        """Store a share for good."""
        with self._answering(commands.CloseBucket):
            await self._buckets.close((bucket, share))
        return {}

    @commands.AbortBucket.responder
    async def abort_bucket(self, bucket: int, share: int) -> dict[str, Any]:
        """Throw an unfinished share away."""
        await self._buckets.abort((bucket, share))
        return {}

    @commands.GetBuckets.responder
    async def get_buckets(
        self,
        storage_index: bytes,
        want: frozenset[int] | None = None,
        head: int | None = None,
    ) -> dict[str, Any]:
        """Tell which shares are here, and the first bytes of the wanted."""
        with self._answering(commands.GetBuckets):
            sizes, heads = await self._service.look(
                storage_index, want or frozenset(), head or 0, commands.MAX_HEADS_BYTES
            )
        return {"sizes": sizes, "heads": heads}

    @commands.ReadShare.responder
    async def read_share(
        self, storage_index: bytes, share: int, offset: int, length: int
    ) -> dict[str, Any]:
        """Read bytes of a share."""
        with self._answering(commands.ReadShare):
            data = await self._service.read(storage_index, share, offset, length)
        return {"data": data}

    @commands.AddLease.responder
    async def add_lease(
        self, storage_index: bytes, renew_secret: bytes, cancel_secret: bytes
    ) -> dict[str, Any]:
        """Add or renew a lease."""
        with self._answering(commands.AddLease):
            lease = self._service.lease(renew_secret, cancel_secret, self._peer)
            await self._service.add_lease(storage_index, lease)
        return {}

    @commands.RenewLease.responder
    async def renew_lease(self, storage_index: bytes, renew_secret: bytes) -> dict[str, Any]:
        """Renew a lease."""
        with self._answering(commands.RenewLease, missing=e.NoSuchLeaseError):
            await self._service.renew_lease(storage_index, lease_secret_digest(renew_secret))
        return {}

    @commands.CancelLease.responder
    async def cancel_lease(self, storage_index: bytes, cancel_secret: bytes) -> dict[str, Any]:
        """Remove a lease, and no share."""
        with self._answering(commands.CancelLease, missing=e.NoSuchLeaseError):
            await self._service.cancel_lease(storage_index, lease_secret_digest(cancel_secret))
        return {}

    @commands.AdviseCorruptShare.responder
    async def advise_corrupt_share(
        self, storage_index: bytes, share: int, reason: str
    ) -> dict[str, Any]:
        """Note that a share is called bad."""
        with self._answering(commands.AdviseCorruptShare):
            await self._service.advise(storage_index, share, self._peer, reason)
        return {}

    @commands.GetSpace.responder
    async def get_space(self) -> dict[str, Any]:
        """Tell how much room there is."""
        with self._answering(commands.GetSpace):
            room, yours = await self._service.space(self._peer)
        return {
            "available": room.available,
            "used": room.used,
            "promised": room.promised,
            "yours": yours,
            "shares": room.shares,
            "accepts": room.accepts,
        }
