"""Storage peers without a network: shares in a dictionary, handed out as a test wishes.

A `Shelf` can stand where `ampgrid.storage.client.StorageServer` stands for a download. What it
answers goes through `answer`, which a test may replace to let it lie, fail or hang.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from ampgrid.crypto.identity import node_id_text


class _Up:
    """A connection that is always up."""

    connected = True


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

    async def shares(
        self, storage_index: bytes, want: Iterable[int] = (), head: int = 0
    ) -> tuple[dict[int, int], dict[int, bytes]]:
        """Return {number: size} and {number: first bytes} (see `StorageServer.shares`)."""
        if self.before is not None:
            await self.before()
        here = {n: data for (index, n), data in self.contents.items() if index == storage_index}
        wanted = set(want)
        heads = {n: data[:head] for n, data in here.items() if n in wanted}
        return {n: len(data) for n, data in here.items()}, heads

    async def read(self, storage_index: bytes, number: int, offset: int, length: int) -> bytes:
        """Return bytes of a share (see `StorageServer.read`)."""
        if self.before is not None:
            await self.before()
        data = self.contents[storage_index, number][offset : offset + length]
        self.reads += len(data)
        return data

    async def advise_corrupt(self, storage_index: bytes, number: int, reason: str) -> None:
        """Note that a share is called bad (see `StorageServer.advise_corrupt`)."""
        self.advised.append((storage_index, number, reason))
