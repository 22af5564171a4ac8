"""Sending one file's shares: read, encipher, encode, hash and deliver (seed 001's IEncoder).

Worker threads read and encode a few segments ahead while the shares of earlier ones are on
their way; the slowest writer sets the pace, by its window. A server that fails loses its share
and the others go on, as long as whoever supervises is content.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred

from ampgrid.crypto.hashing import Buffer
from ampgrid.crypto.sameness import Rereading
from ampgrid.errors import AmpgridError, FileChangedError
from ampgrid.formats.chkwriter import EncodedSegment, FileEncoder, FileTail
from ampgrid.formats.segments import segment_length
from ampgrid.immutable.operation import Operation
from ampgrid.immutable.several import each
from ampgrid.immutable.uploadables import Uploadable
from ampgrid.ports import Threads
from ampgrid.storage.client import BucketWriter

T = TypeVar("T")

#: Segments that are read and encoded ahead of the one being sent, at most, and the most bytes
#: of blocks that they may come to together.
AHEAD = 2
_AHEAD_BYTES = 32 * 1024 * 1024

#: Told of each share whose server failed; raises to end the upload.
Loss = Callable[[int, Exception], None]


class ShareSender:
    """Encodes a file and sends its shares to their writers.

    Args:
        encoder: makes the shares.
        source: the plaintext.
        rereading: shows that what is read now was read when the key was found; None for a
            source that cannot have changed.
        threads: where reading, enciphering, coding and hashing happen.
        operation: progress and cancelling.
    """

    def __init__(
        self,
        encoder: FileEncoder,
        source: Uploadable,
        rereading: Rereading | None,
        threads: Threads,
        operation: Operation,
    ) -> None:
        self._encoder = encoder
        self._layout = encoder.layout
        self._source = source
        self._rereading = rereading
        self._threads = threads
        self._operation = operation

    def _read_and_encode(self, index: int) -> tuple[bytes, EncodedSegment]:
        start = index * self._layout.segment_size
        length = segment_length(index, self._layout.size, self._layout.segment_size)
        plaintext = self._source.read_at(start, length)
        return plaintext, self._encoder.encode_segment(index, plaintext)

    def _absorb(self, plaintext: bytes, segment: EncodedSegment) -> None:
        if self._rereading is not None:
            self._rereading.update(plaintext)
        self._encoder.absorb(segment)

    def _finish(self) -> FileTail:
        self._source.check_unchanged()
        if self._rereading is not None and not self._rereading.is_same():
            raise FileChangedError("the file changed while it was being uploaded; try again")
        return self._encoder.finish()

    async def only_segment(self) -> tuple[FileTail, Sequence[Buffer]]:
        """Encode a file of one segment, all in one hop.

        Returns:
            What stands behind the data of the shares, with the cap; the block of each share.

        Raises:
            FileError, OperationCancelledError: as `segments`.
        """

        def encode() -> tuple[FileTail, Sequence[Buffer]]:
            plaintext, segment = self._read_and_encode(0)
            self._absorb(plaintext, segment)
            return self._finish(), segment.blocks

        self._operation.check()
        return await self._threads.run(encode)

    async def segments(self, deliver: Callable[[EncodedSegment], Deferred[None]]) -> FileTail:
        """Encode every segment, in order, and hand each to ``deliver``.

        Returns:
            What stands behind the data of the shares, and the cap.

        Raises:
            FileError: the source cannot be read, or changed since its key was computed.
            OperationCancelledError: somebody has cancelled.
        """
        layout, operation = self._layout, self._operation
        ahead: deque[Deferred[tuple[bytes, EncodedSegment]]] = deque()
        blocks_bytes = layout.block_size * layout.total
        most = 1 + min(AHEAD, _AHEAD_BYTES // blocks_bytes)
        started = 0
        try:
            for index in range(layout.num_segments):
                operation.check()
                while started < layout.num_segments and len(ahead) < most:
                    ahead.append(_as_deferred(self._threads.run(self._read_and_encode, started)))
                    started += 1
                plaintext, segment = await ahead.popleft()
                delivered = deliver(segment)
                try:
                    await self._threads.run(self._absorb, plaintext, segment)
                finally:
                    await delivered
                operation.done = min(layout.size, (index + 1) * layout.segment_size)
        finally:
            for unwanted in ahead:
                unwanted.addErrback(lambda _failure: None)
        return await self._threads.run(self._finish)

    async def send(self, writers: dict[int, BucketWriter], loss: Loss) -> FileTail:
        """Send the shares to their writers and store them.

        Args:
            writers: a writer for each share to be sent; those that fail are taken out.
            loss: told of each share whose server failed.

        Raises:
            NotHappyError: ``loss`` found too few servers left.
            FileError, OperationCancelledError: as `segments`.
        """
        header = self._layout.header()
        await self._to_all(writers, loss, lambda writer: writer.put(header))

        def deliver(segment: EncodedSegment) -> Deferred[None]:
            return Deferred.fromCoroutine(
                self._to_all(writers, loss, lambda w: w.put(segment.blocks[w.number]))
            )

        tail = await self.segments(deliver)
        # All bytes are out, and nobody knows how long the disks take.
        self._operation.phase = "storing"
        await self._to_all(writers, loss, lambda writer: self._end(writer, tail))
        return tail

    async def _end(self, writer: BucketWriter, tail: FileTail) -> None:
        end = await self._threads.run(self._encoder.share_tail, tail, writer.number)
        await writer.put(end)
        await writer.close()

    async def _to_all(
        self, writers: dict[int, BucketWriter], loss: Loss, do: Callable[[BucketWriter], object]
    ) -> None:
        def start(writer: BucketWriter) -> Callable[[], Deferred[None]]:
            return lambda: Deferred.fromCoroutine(do(writer))  # type: ignore[arg-type]

        results = await each({number: start(writer) for number, writer in writers.items()})
        for number, error in results.items():
            if isinstance(error, AmpgridError):
                if writers.pop(number, None) is not None:
                    loss(number, error)
            elif isinstance(error, Exception):
                raise error


def _as_deferred(work: object) -> Deferred[T]:
    if isinstance(work, Deferred):
        return work

    async def wait() -> T:
        result: T = await work  # type: ignore[misc]
        return result

    return Deferred.fromCoroutine(wait())
