"""A remote of blobs in memory, whose failures a test chooses.

::

    server = MemoryBlobs(wall=clock.seconds)
    remote = MemoryRemote(server, "alice")      # an `ampgrid.blobs.port.Remote`
    remote.weather = Storm(...)                 # called before everything that it does

One contract suite holds this and the remotes that ship to the same behaviour.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from attrs import define, field

from ampgrid.blobs.port import (
    MAX_PAGE_IDS,
    MAX_PIECE_BYTES,
    ORDERS,
    TAG_SIZE,
    TOMBSTONE_SECONDS,
    OrderBy,
    Page,
    Query,
    SealedSource,
    Stat,
)
from ampgrid.errors import (
    BadArgumentValueError,
    BlobAlreadyExistsError,
    BlobDeletedError,
    BlobNotFoundError,
    BlobQuotaError,
    InvalidBlobError,
    RemoteUnavailableError,
)
from ampgrid.formats.blobname import BlobName, Flag, checked_flags
from ampgrid.ports import WallClock

#: What happens before a step: its name ("put", "put-piece", "get-piece", "page", ...), the blob
#: and the offset. It may take time, raise `RemoteUnavailableError`, or do nothing.
Weather = Callable[[str, BlobName | None, int], Awaitable[None]]
#: What a remote makes of the bytes of a blob when it is asked for them.
Spoil = Callable[[BlobName, bytes], bytes]


@define
class _Kept:
    """A blob that is there.

    Attributes:
        data: its sealed bytes.
        stored_at: when it came.
        number: its place in the order of coming.
        flags: as they were set last.
    """

    data: bytes
    stored_at: float
    number: int
    flags: tuple[Flag, ...] = ()


@define(eq=False)
class _Partial:
    """A blob on its way.

    Attributes:
        size: what was announced.
        tag: what was announced.
        data: what came of it.
        busy: whether somebody is putting it just now.
    """

    size: int
    tag: bytes
    data: bytearray = field(factory=bytearray)
    busy: bool = False


@define
class _Account:
    """What one user has.

    Attributes:
        blobs: those that are there.
        partial: those on their way.
        tombstones: (when, its place in the order) of those that were deleted.
    """

    blobs: dict[BlobName, _Kept] = field(factory=dict)
    partial: dict[BlobName, _Partial] = field(factory=dict)
    tombstones: dict[BlobName, tuple[float, int]] = field(factory=dict)

    def used(self) -> int:
        """Return the bytes that count against the quota."""
        return sum(len(kept.data) for kept in self.blobs.values()) + sum(
            partial.size for partial in self.partial.values()
        )


class MemoryBlobs:
    """What the remotes of all users have in common: the server, so to say.

    Args:
        wall: tells the time, seconds since 1970.
        quota: the most bytes of sealed blobs a user can have, None for no bound.
    """

    def __init__(self, wall: WallClock, quota: int | None = None) -> None:
        self.wall = wall
        self.quota = quota
        self._accounts: dict[str, _Account] = {}
        self._numbers = 0

    def account(self, user: str) -> _Account:
        """Return what a user has, without tombstones that are too old."""
        account = self._accounts.setdefault(user, _Account())
        oldest = self.wall() - TOMBSTONE_SECONDS
        for name, (deleted_at, _number) in list(account.tombstones.items()):
            if deleted_at <= oldest:
                del account.tombstones[name]
        return account

    def next_number(self) -> int:
        """Return the next place in the order of all that comes and goes."""
        self._numbers += 1
        return self._numbers


async def _fair(_step: str, _name: BlobName | None, _offset: int) -> None:
    """Take no time and do no harm."""


def _honest(_name: BlobName, data: bytes) -> bytes:
    return data


class MemoryRemote:
    """The remote of one user: an `ampgrid.blobs.port.Remote`.

    Args:
        server: what keeps the blobs.
        user: whose they are.

    Attributes:
        weather: called before every step; see `Weather`.
        spoil: called with the bytes of each blob that goes out; see `Spoil`.
        moved: bytes that it took and gave, resumed ones counted once.
    """

    def __init__(self, server: MemoryBlobs, user: str = "user") -> None:
        self._server = server
        self._user = user
        self._closed = False
        self.weather: Weather = _fair
        self.spoil: Spoil = _honest
        self.moved = 0

    async def put(self, name: BlobName, source: SealedSource) -> None:
        """Store a blob (see `ampgrid.blobs.port.Remote`)."""
        await self.step("put", name)
        partial = self._begin(name, source.size, source.tag)
        if partial is None:
            return
        try:
            await self._take(name, source, partial)
            await self.step("put-end", name)
            self._finish(name, partial)
        except InvalidBlobError:
            self._account.partial.pop(name, None)
            raise
        finally:
            partial.busy = False
        # What was done may be lost on the way back.
        await self.step("put-answer", name)

    def _begin(self, name: BlobName, size: int, tag: bytes) -> _Partial | None:
        """Make room for a blob, or find what came of it before; None if it is here already."""
        account = self._account
        if name in account.tombstones:
            raise BlobDeletedError(f"The blob {name} was deleted; use another id.")
        kept = account.blobs.get(name)
        if kept is not None:
            if (len(kept.data), kept.data[-TAG_SIZE:]) == (size, tag):
                return None
            raise BlobAlreadyExistsError(f"There is another blob {name} already.")
        if size < TAG_SIZE or len(tag) != TAG_SIZE:
            raise InvalidBlobError("A sealed blob is not as short as this.")
        partial = account.partial.get(name)
        if partial is not None and partial.busy:
            raise RemoteUnavailableError("A blob of that name is just being put.")
        if partial is None or (partial.size, partial.tag) != (size, tag):
            account.partial.pop(name, None)
            quota = self._server.quota
            if quota is not None and account.used() + size > quota:
                raise BlobQuotaError("The remote has no room for this blob.")
            partial = account.partial[name] = _Partial(size, tag)
        partial.busy = True
        return partial

    async def _take(self, name: BlobName, source: SealedSource, partial: _Partial) -> None:
        while len(partial.data) < partial.size:
            offset = len(partial.data)
            piece = await source.read(offset, min(MAX_PIECE_BYTES, partial.size - offset))
            await self.step("put-piece", name, offset)
            if len(piece) != min(MAX_PIECE_BYTES, partial.size - offset):
                raise InvalidBlobError("The source of the blob was too short.")
            partial.data += piece
            self.moved += len(piece)

    def _finish(self, name: BlobName, partial: _Partial) -> None:
        account = self._account
        if account.partial.get(name) is not partial:
            raise RemoteUnavailableError("The blob was deleted while it was being put.")
        if bytes(partial.data[-TAG_SIZE:]) != partial.tag:
            raise InvalidBlobError("The blob does not end as it was announced.")
        del account.partial[name]
        account.blobs[name] = _Kept(
            bytes(partial.data), self._server.wall(), self._server.next_number()
        )

    async def get(self, name: BlobName, offset: int = 0) -> MemoryStream:
        """Return the bytes of a blob (see `ampgrid.blobs.port.Remote`)."""
        await self.step("get", name, offset)
        data = self._kept(name).data
        if not 0 <= offset <= len(data):
            raise BadArgumentValueError("The blob has fewer bytes than that.")
        return MemoryStream(self, name, data, offset)

    async def delete(self, name: BlobName) -> None:
        """Delete a blob (see `ampgrid.blobs.port.Remote`)."""
        await self.step("delete", name)
        account = self._account
        account.partial.pop(name, None)
        if name in account.blobs:
            del account.blobs[name]
            account.tombstones[name] = (self._server.wall(), self._server.next_number())
        elif name not in account.tombstones:
            raise BlobNotFoundError(f"There is no blob {name}.")
        await self.step("delete-answer", name)

    async def stat(self, name: BlobName) -> Stat:
        """Return what is known of a blob (see `ampgrid.blobs.port.Remote`)."""
        await self.step("stat", name)
        kept = self._kept(name)
        return Stat(len(kept.data), kept.data[-TAG_SIZE:], kept.stored_at, kept.flags)

    async def get_flags(self, name: BlobName) -> tuple[Flag, ...]:
        """Return the flags of a blob (see `ampgrid.blobs.port.Remote`)."""
        await self.step("get-flags", name)
        return self._kept(name).flags

    async def set_flags(self, name: BlobName, flags: Iterable[Flag]) -> None:
        """Set the flags of a blob (see `ampgrid.blobs.port.Remote`)."""
        await self.step("set-flags", name)
        checked = checked_flags(flags)
        self._kept(name).flags = checked

    async def page(
        self,
        query: Query,
        order_by: OrderBy = None,
        after: str | None = None,
        most: int = MAX_PAGE_IDS,
    ) -> Page:
        """Return a page of ids (see `ampgrid.blobs.port.Remote`)."""
        await self.step("page", None)
        if order_by not in ORDERS or not 1 <= most <= MAX_PAGE_IDS:
            raise BadArgumentValueError("An argument of the listing is out of bounds.")
        places = self._places(query)
        if order_by is None:
            ids = sorted(name.blob_id for name in places)
            rest = [i for i in ids if after is None or i > after]
            page, last = rest[:most], rest[most - 1] if len(rest) > most else None
        else:
            sign = -1 if order_by == "-date" else 1
            try:
                begin = None if after is None else int(after)
            except ValueError:
                raise BadArgumentValueError("That is no place in a listing.") from None
            ordered = sorted((sign * number, name.blob_id) for name, number in places.items())
            pairs = [pair for pair in ordered if begin is None or pair[0] > begin]
            page = [blob_id for _number, blob_id in pairs[:most]]
            last = str(pairs[most - 1][0]) if len(pairs) > most else None
        return Page(tuple(page), last)

    async def count(self, query: Query) -> int:
        """Return the number of blobs (see `ampgrid.blobs.port.Remote`)."""
        await self.step("count", None)
        return len(self._places(query))

    async def namespaces(self) -> Sequence[str]:
        """Return the namespaces (see `ampgrid.blobs.port.Remote`)."""
        await self.step("namespaces", None)
        account = self._account
        return sorted({name.namespace for name in (*account.blobs, *account.tombstones)})

    async def close(self) -> None:
        """End; what is under way fails."""
        self._closed = True

    async def step(self, step: str, name: BlobName | None, offset: int = 0) -> None:
        """Let the weather have its say, then fail if this is closed."""
        await self.weather(step, name, offset)
        if self._closed:
            raise RemoteUnavailableError("The remote was closed.")

    @property
    def _account(self) -> _Account:
        return self._server.account(self._user)

    def _kept(self, name: BlobName) -> _Kept:
        kept = self._account.blobs.get(name)
        if kept is None:
            raise BlobNotFoundError(f"There is no blob {name}.")
        return kept

    def _places(self, query: Query) -> dict[BlobName, int]:
        """Return {name: place in the order of coming} of what a query is about."""
        account = self._account
        if query.deleted:
            found = {name: number for name, (_when, number) in account.tombstones.items()}
        else:
            found = {
                name: kept.number
                for name, kept in account.blobs.items()
                if query.filter_flag is None or query.filter_flag in kept.flags
            }
        return {name: at for name, at in found.items() if name.namespace == query.namespace}


class MemoryStream:
    """The bytes of a blob on their way out: an `ampgrid.blobs.port.SealedStream`."""

    def __init__(self, remote: MemoryRemote, name: BlobName, data: bytes, offset: int) -> None:
        spoilt = remote.spoil(name, data)
        self._remote = remote
        self._name = name
        self._data = spoilt
        self._offset = offset
        self._closed = False
        self.size = len(spoilt)
        self.tag = spoilt[-TAG_SIZE:]

    async def read(self) -> bytes:
        """Return the next bytes, none at the end."""
        await self._remote.step("get-piece", self._name, self._offset)
        if self._closed:
            raise RemoteUnavailableError("The stream was closed.")
        piece = self._data[self._offset : self._offset + MAX_PIECE_BYTES]
        self._offset += len(piece)
        self._remote.moved += len(piece)
        return piece

    async def close(self) -> None:
        """End it."""
        self._closed = True
