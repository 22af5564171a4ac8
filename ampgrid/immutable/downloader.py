"""Downloading a file, or a range of it (seed 001's IDownloader and IDecoder).

Shares are read from the servers that answer first; a few segments are fetched ahead; every
segment is checked before it is deciphered, and where it is wrong each of its blocks, so that a
server that is bad is named and replaced; one that is slow gets company, and whoever is first
wins. Nothing is written that was not checked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from inspect import isawaitable
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from ampgrid.caps import ChkCap, LitCap
from ampgrid.errors import BadArgumentValueError
from ampgrid.immutable.budget import Budget
from ampgrid.immutable.finder import Habit
from ampgrid.immutable.operation import Operation
from ampgrid.immutable.pool import SharePool
from ampgrid.immutable.segment import SegmentDecoder, SegmentFetch
from ampgrid.immutable.targets import DownloadTarget
from ampgrid.immutable.uploadables import SMALL_BYTES
from ampgrid.ports import Clock, Threads
from ampgrid.storage.client import StorageServer
from ampgrid.wire import InlineThreads

#: Bytes of the file that are fetched ahead of what is being written.
AHEAD_BYTES = 4 * 1024 * 1024
#: What the smallest download may hold: the heads of its shares.
_LEAST_BYTES = 128 * 1024


@attrs.frozen
class Downloaded:
    """What a download came to.

    Attributes:
        size: bytes that were written.
        problems: one line for each bad or slow share or server.
        result: what the target's ``finish`` returned.
    """

    size: int
    problems: tuple[str, ...]
    result: Any = None


class Downloader:
    """Downloads files.

    Args:
        servers: returns the storage peers that are connected now.
        threads: where hashing, decoding and deciphering happen.
        clock: time and timers.
        budget: memory, shared with the node's other transfers.
    """

    def __init__(
        self,
        servers: Callable[[], Sequence[StorageServer]],
        threads: Threads,
        clock: Clock,
        budget: Budget | None = None,
    ) -> None:
        self._budget = budget or Budget()
        self._servers = servers
        self._threads = threads
        self._clock = clock
        self._habit = Habit()

    async def download(
        self,
        cap: ChkCap | LitCap,
        target: DownloadTarget,
        operation: Operation | None = None,
        offset: int = 0,
        length: int | None = None,
    ) -> Downloaded:
        """Write a file, or ``length`` bytes of it from ``offset`` on, to a target.

        Raises:
            NotEnoughSharesError: too few good shares were found; the message says how many.
            BadArgumentValueError: the range begins behind the end of the file.
            FileError: the target does not take the bytes.
            OperationCancelledError: somebody has cancelled.
        """
        operation = operation or Operation()
        target.register_canceller(operation.cancel)
        try:
            size = cap.get_size()
            if offset > size:
                raise BadArgumentValueError(f"the file has {size} bytes; the range begins later")
            end = size if length is None else min(size, offset + length)
            operation.enter("finding shares", end - offset)
            target.open(end - offset)
            problems: tuple[str, ...] = ()
            if isinstance(cap, LitCap):
                await _wait_for(target.write(cap.data[offset:end]))
                operation.done = end - offset
            else:
                memory = 3 * min(end - offset, AHEAD_BYTES) + _LEAST_BYTES
                async with self._budget.take(memory, operation.check):
                    # A small file is decoded before a thread had even begun.
                    threads = InlineThreads() if size <= SMALL_BYTES else self._threads
                    pool = SharePool(cap, self._servers(), threads, self._clock, self._habit)
                    download = _Download(cap, pool, threads, operation)
                    problems = await download.run(target, offset, end)
            operation.check()
            await _wait_for(target.close())
        except Exception as error:
            target.fail(error)
            raise
        return Downloaded(end - offset, problems, target.finish())


async def _wait_for(result: Any) -> None:
    if result is not None and isawaitable(result):
        await result


class _Download:
    """One download of one CHK file."""

    def __init__(
        self,
        cap: ChkCap,
        pool: SharePool,
        threads: Threads,
        operation: Operation,
    ) -> None:
        self._cap = cap
        self._operation = operation
        self._pool = pool
        self._threads = threads

    async def run(self, target: DownloadTarget, offset: int, end: int) -> tuple[str, ...]:
        """Write bytes ``offset`` to ``end`` of the file; returns the problems met."""
        pool, operation = self._pool, self._operation
        operation.on_cancel(pool.ring)
        await pool.gather(operation.check)
        extension = pool.extension
        assert extension is not None
        operation.enter("downloading")
        hashes = await pool.crypttext_hashes(operation.check)
        decoder = SegmentDecoder(self._cap.key, extension, hashes)
        size = extension.segment_size
        indices = range(offset // size, -(-end // size)) if end > offset else range(0)
        ahead: deque[Deferred[bytes]] = deque()
        upcoming = iter(indices)
        depth = max(1, AHEAD_BYTES // size)
        try:
            for index in indices:
                while len(ahead) < depth and (later := next(upcoming, None)) is not None:
                    ahead.append(Deferred.fromCoroutine(self._segment(decoder, later)))
                plaintext = await ahead.popleft()
                operation.check()
                piece = plaintext[max(0, offset - index * size) : end - index * size]
                await _wait_for(target.write(piece))
                operation.done += len(piece)
        finally:
            for unwanted in ahead:
                unwanted.addErrback(lambda _failure: None)
        return pool.problems()

    async def _segment(self, decoder: SegmentDecoder, index: int) -> bytes:
        """Return the plaintext of one segment."""
        fetch = SegmentFetch(self._pool, index, self._cap.needed, self._operation)
        return await fetch.decoded(decoder, self._threads)
