"""Answers the Commands for blobs of one connection: decode, ask the service, encode.

Errors become the leaves that each Command declares, in words of their own: a peer learns no path
and nothing of the disk. What the disk did is in the log, under the number that the peer is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from twisted.protocols import amp

from ampgrid.blobs.receiving import Receiving
from ampgrid.blobs.service import BlobService
from ampgrid.commands import blobs as commands
from ampgrid.commands import errors as e
from ampgrid.errors import (
    AmpgridError,
    BadArgumentValueError,
    BlobAlreadyExistsError,
    BlobDeletedError,
    BlobNotFoundError,
    BlobQuotaError,
    BlobRefusedError,
    InvalidBlobError,
    NoRoomError,
    RemoteUnavailableError,
    StoreError,
)
from ampgrid.formats.blobname import BlobName, Flag, checked_namespace, flags_of_bits
from ampgrid.ports import Connection
from ampgrid.store.servedblobs import Selection

#: The most puts of one connection, those that are just beginning among them.
MOST_PUTS = 256

#: An error of the service -> what is answered, in words that hold nothing of a peer's.
ANSWERS: dict[type[AmpgridError], tuple[type[e.WireError], str]] = {
    BadArgumentValueError: (e.BadArgumentError, "an argument is out of bounds"),
    BlobNotFoundError: (e.NoSuchBlobError, "there is no blob of that name"),
    BlobAlreadyExistsError: (e.BlobExistsWireError, "there is another blob of that name"),
    BlobDeletedError: (e.BlobDeletedWireError, "a blob of that name was deleted lately"),
    BlobRefusedError: (e.BlobRefusedWireError, "no blobs are kept for this user and token"),
    InvalidBlobError: (e.BadBlobError, "the blob is not as it was announced"),
    BlobQuotaError: (e.NoSpaceError, "there is no room"),
    NoRoomError: (e.NoSpaceError, "there is no room"),
    RemoteUnavailableError: (e.BusyError, "the blob was deleted meanwhile"),
}


class BlobResponder(amp.CommandLocator):
    """Answers the Commands for blobs of one connection.

    Args:
        service: the service.
        connection: whose calls are answered; when it goes, its puts end.
    """

    def __init__(self, service: BlobService, connection: Connection) -> None:
        super().__init__()
        self._service = service
        self._peer = connection.peer_id
        self._puts: dict[int, Receiving | None] = {}
        self._lost = False
        connection.when_lost(self._end)

    def _end(self) -> None:
        self._lost = True
        puts, self._puts = self._puts, {}
        for receiving in puts.values():
            if receiving is not None:
                self._service.forget(receiving)

    def _is_lost(self) -> bool:
        return self._lost

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn errors of the service into those of the Commands."""
        try:
            yield
        except e.WireError:
            raise
        except AmpgridError as error:
            leaf, message = ANSWERS.get(type(error), (e.StoreFailedError, ""))
            if not message:
                if not isinstance(error, StoreError):
                    raise
                message = f"the store failed, {self._service.report(error)}"
            raise leaf(message) from error

    def _account(self, user: str | None, token: bytes | None) -> str:
        return self._service.account(self._peer, user, token)

    def _named(
        self, namespace: str, blob_id: str, user: str | None = None, token: bytes | None = None
    ) -> tuple[str, BlobName]:
        """Return the account and the blob that a Command is about."""
        return self._account(user, token), BlobName(namespace, blob_id)

    # Putting.

    @commands.PutBlob.responder
    async def put_blob(
        self, size: int, tag: bytes, put: int, data: bytes | None = None, **said: Any
    ) -> dict[str, Any]:
        """Begin to put a blob, or store a small one."""
        with self._answering():
            account, name = self._named(**said)
            if data is not None:
                if len(data) != size or data[-16:] != tag:
                    raise InvalidBlobError("data is not the blob that is announced")
                await self._service.put_at_once(account, name, data)
                return {"have": size, "done": True}
            receiving = await self._begin(put, account, name, size, tag)
        if receiving is None:
            return {"have": size, "done": True}
        return {"have": receiving.have, "done": False}

    async def _begin(
        self, put: int, account: str, name: BlobName, size: int, tag: bytes
    ) -> Receiving | None:
        if put in self._puts:
            raise e.BadArgumentError("a put of this number is under way")
        if len(self._puts) >= MOST_PUTS or self._is_lost():
            raise e.BusyError("too many blobs are being put")
        self._puts[put] = None
        try:
            receiving = await self._service.begin(account, name, size, tag)
        except BaseException:
            self._puts.pop(put, None)
            raise
        if receiving is None:
            self._puts.pop(put, None)
        elif self._is_lost():
            self._service.forget(receiving)
        else:
            self._puts[put] = receiving
        return receiving

    @commands.WriteBlob.responder
    async def write_blob(self, put: int, offset: int, data: bytes) -> dict[str, Any]:
        """Write the next bytes of a blob."""
        with self._answering():
            await self._find(put).write(offset, data)
        return {}

    @commands.FinishBlob.responder
    async def finish_blob(self, put: int) -> dict[str, Any]:
        """Store a blob for good."""
        with self._answering():
            receiving = self._find(put)
            try:
                await receiving.finish()
            finally:
                self._forget(put, receiving)
        return {}

    @commands.LeaveBlob.responder
    async def leave_blob(self, put: int, keep: bool) -> dict[str, Any]:
        """End a put before its end."""
        receiving = self._puts.get(put)
        if receiving is not None:
            with self._answering():
                try:
                    await receiving.leave(keep=keep)
                finally:
                    self._forget(put, receiving)
        return {}

    def _find(self, put: int) -> Receiving:
        receiving = self._puts.get(put)
        if receiving is None:
            raise e.NoSuchPutError("no put of this number is under way")
        return receiving

    def _forget(self, put: int, receiving: Receiving) -> None:
        if self._puts.get(put) is receiving:
            del self._puts[put]

    # Looking and changing.

    @commands.ReadBlob.responder
    async def read_blob(self, offset: int, length: int, **said: Any) -> dict[str, Any]:
        """Read bytes of a blob."""
        with self._answering():
            account, name = self._named(**said)
            row, data = await self._service.read(account, name, offset, length)
        return {"size": row.size, "tag": row.tag, "data": data}

    @commands.StatBlob.responder
    async def stat_blob(self, **said: Any) -> dict[str, Any]:
        """Tell what is known of a blob."""
        with self._answering():
            account, name = self._named(**said)
            row = await self._service.stat(account, name)
        return {"size": row.size, "tag": row.tag, "stored_at": row.stored_at, "flags": row.flags}

    @commands.DeleteBlob.responder
    async def delete_blob(self, **said: Any) -> dict[str, Any]:
        """Delete a blob."""
        with self._answering():
            account, name = self._named(**said)
            await self._service.delete(account, name)
        return {}

    @commands.SetBlobFlags.responder
    async def set_blob_flags(self, flags: int, **said: Any) -> dict[str, Any]:
        """Set the flags of a blob."""
        with self._answering():
            account, name = self._named(**said)
            await self._service.set_flags(account, name, flags_of_bits(flags))
        return {}

    @commands.ListBlobs.responder
    async def list_blobs(
        self,
        namespace: str,
        order: int,
        most: int,
        user: str | None = None,
        token: bytes | None = None,
        flag: int | None = None,
        deleted: bool | None = None,
        after: str | None = None,
    ) -> dict[str, Any]:
        """Tell a page of ids."""
        with self._answering():
            account = self._account(user, token)
            chosen = _selection(namespace, flag, deleted, order)
            if not most:
                raise BadArgumentValueError("a page has at least one id")
            begin = _place(order, after)
            found = await self._service.page(account, chosen, begin, most + 1)
        page = _that_fits(found, most)
        ids = [blob_id.encode() for blob_id, _place in page]
        following = None
        if len(page) < len(found):
            last_id, last_place = page[-1]
            following = str(last_place) if order else last_id
        return {"blob_ids": ids, "next": following}

    @commands.CountBlobs.responder
    async def count_blobs(
        self,
        namespace: str,
        user: str | None = None,
        token: bytes | None = None,
        flag: int | None = None,
        deleted: bool | None = None,
    ) -> dict[str, Any]:
        """Tell how many blobs a listing has."""
        with self._answering():
            account = self._account(user, token)
            chosen = _selection(namespace, flag, deleted)
            return {"count": await self._service.count(account, chosen)}

    @commands.ListNamespaces.responder
    async def list_namespaces(
        self,
        user: str | None = None,
        token: bytes | None = None,
        after: str | None = None,
    ) -> dict[str, Any]:
        """Tell a page of namespaces."""
        with self._answering():
            account = self._account(user, token)
            # The longest names fill a page with fewer; so many always fit.
            most = commands.MAX_PAGE_BYTES // 66
            found = await self._service.namespaces(account, after or "", most)
        return {"namespaces": [namespace.encode() for namespace in found]}

    @commands.GetBlobSpace.responder
    async def get_blob_space(
        self, user: str | None = None, token: bytes | None = None
    ) -> dict[str, Any]:
        """Tell the room of an account."""
        with self._answering():
            account = self._account(user, token)
            used = await self._service.used_by(account)
        quota = self._service.account_quota
        return {
            "used": used,
            "quota": 2**63 - 1 if quota is None else quota,
            "accepts": not self._service.store.broken,
        }


def _selection(
    namespace: str, flag: int | None, deleted: bool | None, order: int = 0
) -> Selection:
    flags: Sequence[Flag | None] = [None] if flag is None else flags_of_bits(flag)
    if len(flags) != 1:
        raise BadArgumentValueError("flag is not one flag")
    return Selection(checked_namespace(namespace), flags[0], bool(deleted), order)


def _place(order: int, after: str | None) -> str | int | None:
    if not order or after is None:
        return after
    if not (after.isascii() and after.isdecimal() and len(after) < 19):
        raise BadArgumentValueError("that is no place in a listing")
    return int(after)


def _that_fits(found: Sequence[tuple[str, int]], most: int) -> Sequence[tuple[str, int]]:
    """Return the first of them, as many as were asked for and fit into one answer."""
    left = commands.MAX_PAGE_BYTES
    for count, (blob_id, _number) in enumerate(found[:most]):
        left -= len(blob_id) + 2
        if left < 0:
            return found[:count]
    return found[:most]
