"""Storage peers without a network: shares in a dictionary, handed out as a test wishes.

A `Shelf` can stand where `ampgrid.storage.client.StorageServer` stands, for uploads, downloads
and repairs. A test lets it lie, fail or hang by subclassing it, by changing its contents, or
through `Shelf.before`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from ampgrid.commands.errors import IncompleteShareError, NoSuchShareError
from ampgrid.commands.storage import MAX_CHUNK_BYTES
from ampgrid.crypto.hashing import Buffer
from ampgrid.crypto.identity import node_id_text
from ampgrid.storage.client import Allocation, BucketWriter


class _Up:
    """A connection that is always up."""

    connected = True


class ShelfWriter(BucketWriter):
    """Takes one share onto a shelf."""

    def __init__(self, shelf: Shelf, storage_index: bytes, number: int, size: int) -> None:
        self.shelf = shelf
        self.number = number
        self.size = size
        self._index = storage_index
        self._data = bytearray()

    @property
    def server(self) -> Any:  # type: ignore[override]
        """The shelf."""
        return self.shelf

    async def put(self, data: Buffer) -> None:
        """Take the next bytes; as on the wire, a chunk is answered at a time."""
        before = len(self._data) // MAX_CHUNK_BYTES
        self._data += data
        if len(self._data) // MAX_CHUNK_BYTES > before:
            await self.shelf.answering()

    async def close(self) -> None:
        """Keep the share."""
        await self.shelf.answering()
        if len(self._data) != self.size:
            raise IncompleteShareError("the share is incomplete")
        self.shelf.contents[self._index, self.number] = bytes(self._data)

    async def abort(self) -> None:
        """Forget the share."""
        self._data.clear()


class Shelf:
    """Shares of any number of files, by (storage index, share number).

    Args:
        server_id: 20 bytes.
        shares: {(storage index, number): share bytes}.

    Attributes:
        reads: how many bytes were read from it.
        advised: (storage index, number, reason) of each share that was called bad.
        before: awaited before every answer; may raise or never come back.
    """

    def __init__(self, server_id: bytes, shares: dict[tuple[bytes, int], bytes]) -> None:
        self.server_id = server_id
        self.contents = shares
        self.connection = _Up()
        self.reads = 0
        self.advised: list[tuple[bytes, int, str]] = []
        self.before: Callable[[], Awaitable[None]] | None = None

    @property
    def name(self) -> str:
        """The start of its node id."""
        return node_id_text(self.server_id)[:8]

    async def answering(self) -> None:
        """Come before every answer."""
        if self.before is not None:
            await self.before()

    async def allocate(
        self, storage_index: bytes, numbers: Iterable[int], size: int
    ) -> Allocation:
        """Give writers for what is not here yet (see `StorageServer.allocate`)."""
        await self.answering()
        here = frozenset(n for index, n in self.contents if index == storage_index)
        writers: dict[int, BucketWriter] = {
            n: ShelfWriter(self, storage_index, n, size) for n in numbers if n not in here
        }
        return Allocation(here, writers, frozenset())

    async def store(self, storage_index: bytes, number: int, data: bytes) -> Allocation:
        """Keep a small share (see `StorageServer.store`)."""
        await self.answering()
        here = frozenset(n for index, n in self.contents if index == storage_index)
        if number in here:
            return Allocation(here, {}, frozenset())
        self.contents[storage_index, number] = data
        return Allocation(here, {}, frozenset((number,)))

    async def shares(
        self, storage_index: bytes, want: Iterable[int] = (), head: int = 0
    ) -> tuple[dict[int, int], dict[int, bytes]]:
        """Return {number: size} and {number: first bytes} (see `StorageServer.shares`)."""
        await self.answering()
        here = {n: data for (index, n), data in self.contents.items() if index == storage_index}
        wanted = set(want)
        heads = {n: data[:head] for n, data in here.items() if n in wanted}
        return {n: len(data) for n, data in here.items()}, heads

    async def read(self, storage_index: bytes, number: int, offset: int, length: int) -> bytes:
        """Return bytes of a share (see `StorageServer.read`)."""
        await self.answering()
        share = self.contents.get((storage_index, number))
        if share is None:
            raise NoSuchShareError("no such share")
        data = share[offset : offset + length]
        self.reads += len(data)
        return data

    async def advise_corrupt(self, storage_index: bytes, number: int, reason: str) -> None:
        """Note that a share is called bad (see `StorageServer.advise_corrupt`)."""
        self.advised.append((storage_index, number, reason))
