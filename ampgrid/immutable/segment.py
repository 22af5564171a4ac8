"""One segment of a download: its blocks from enough shares, decoded, checked, deciphered.

Blocks are decoded first, and what they make is checked: as many blocks as are needed give each
segment in one way only, so the right segment means that each of them was right. That is one hash
of every byte instead of two. Where it is not the right one, the hash of each block tells which
share was bad, and nothing of the segment is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ampgrid.crypto import cipher, hashing
from ampgrid.erasure import Codec
from ampgrid.errors import AmpgridError, IntegrityError
from ampgrid.formats.segments import block_length, segment_length
from ampgrid.formats.ueb import UriExtension
from ampgrid.immutable.operation import Operation
from ampgrid.immutable.pool import SLOW_SECONDS, SharePool
from ampgrid.immutable.reader import ShareReader
from ampgrid.ports import Threads


class SegmentDecoder:
    """Turns blocks into segments; made once a file, used from worker threads.

    Args:
        key: the file's AES key, 16 bytes; None to leave the segments enciphered.
        extension: the file's URI extension, checked.
        crypttext_hashes: the hash of each crypttext segment, checked.
    """

    def __init__(
        self, key: bytes | None, extension: UriExtension, crypttext_hashes: list[bytes]
    ) -> None:
        self._key = key
        self._extension = extension
        self._crypttext_hashes = crypttext_hashes
        self._codecs: dict[int, Codec] = {}

    def decode(
        self, index: int, blocks: Mapping[ShareReader, bytes]
    ) -> tuple[bytes | None, list[ShareReader]]:
        """Decode the blocks of a segment, check and decipher it.

        Args:
            index: of the segment.
            blocks: exactly as many as are needed, by the share that each is of.

        Returns:
            The segment, deciphered if the key is known, and no shares; or None and the shares
            whose block is not what it should be.

        Raises:
            IntegrityError: all blocks are what the uploader hashed, but the segment is not.
        """
        extension = self._extension
        size, segment_size = extension.size, extension.segment_size
        padded_size = extension.needed_shares * block_length(
            index, size, segment_size, extension.needed_shares
        )
        codec = self._codecs.get(padded_size)
        if codec is None:
            codec = Codec(padded_size, extension.needed_shares, extension.total_shares)
            self._codecs[padded_size] = codec
        padded = codec.decode(list(blocks.values()), [reader.number for reader in blocks])
        length = segment_length(index, size, segment_size)
        crypttext = memoryview(padded)[:length]
        is_right = hashing.crypttext_segment_hash(crypttext) == self._crypttext_hashes[index]
        # No hash of the segment covers what fills the last one up.
        if not is_right or any(padded[length:]):
            bad = [r for r, block in blocks.items() if not r.check_block(index, block)]
            if bad:
                return None, bad
        if not is_right:
            raise IntegrityError("the file was uploaded wrong: its shares do not make its segment")
        if self._key is None:
            return bytes(crypttext), []
        return cipher.decrypt_at(self._key, index * segment_size, crypttext), []


class SegmentFetch:
    """Reads the blocks of one segment from as many shares as are needed.

    Args:
        pool: the shares.
        index: of the segment.
        needed: number of blocks.
        operation: for cancelling.
    """

    def __init__(self, pool: SharePool, index: int, needed: int, operation: Operation) -> None:
        self._pool = pool
        self._index = index
        self._needed = needed
        self._operation = operation
        self._bell = pool.bell()
        self._asked: set[ShareReader] = set()
        #: Those asked that let a wait pass: their numbers are asked for elsewhere too.
        self._late: set[ShareReader] = set()
        self._got: dict[ShareReader, bytes] = {}
        self._extra = 0

    async def decoded(self, decoder: SegmentDecoder, threads: Threads) -> bytes:
        """Return the segment, from as many shares as it takes.

        Raises:
            NotEnoughSharesError: too few good shares are left.
            IntegrityError: the uploader made the file wrong.
            OperationCancelledError: somebody has cancelled.
        """
        try:
            while True:
                blocks = await self._blocks()
                segment, bad = await threads.run(decoder.decode, self._index, blocks)
                for reader in bad:
                    self._pool.damaged(reader, f"block {self._index} does not match its hash")
                    del self._got[reader]
                if segment is not None:
                    return segment
        finally:
            self._pool.unhang(self._bell)

    async def _blocks(self) -> dict[ShareReader, bytes]:
        """Return the blocks of ``needed`` distinct shares, not checked yet.

        Raises:
            NotEnoughSharesError: there are not so many shares any more.
            OperationCancelledError: somebody has cancelled.
        """
        while True:
            self._operation.check()
            self._ask()
            if len(self._got) >= self._needed:
                return dict(list(self._got.items())[: self._needed])
            if len(self._got) + len(self._asked) < self._needed:
                self._pool.prepare(self._needed + self._extra)
                if self._candidates():
                    continue
                if not self._asked and not self._pool.more_may_come():
                    raise self._pool.not_enough()
            if not await self._bell.wait(SLOW_SECONDS):
                self._late |= self._asked
                self._pool.nothing_came(self._asked)
                self._extra = min(self._extra + 1, self._needed)
                self._pool.prepare(self._needed + self._extra)

    def _candidates(self) -> list[ShareReader]:
        """Return the ready shares of numbers that are neither here nor on the way."""
        busy = self._numbers(self._got) | self._numbers(self._asked - self._late)
        ready = self._pool.ready()
        return [r for r in ready if r.number not in busy and r not in self._asked]

    @staticmethod
    def _numbers(readers: Iterable[ShareReader]) -> set[int]:
        return {reader.number for reader in readers}

    def _ask(self) -> None:
        """Ask further shares for their block, the best first."""
        turn: set[int] = set()
        for reader in self._candidates():
            if len(self._got) + len(self._asked) >= self._needed + self._extra:
                break
            if reader.number in turn:
                continue  # another share of this number was asked in this very turn
            turn.add(reader.number)
            at_hand = reader.block_at_hand(self._index)
            if at_hand is not None:
                self._got[reader] = at_hand
                continue
            self._asked.add(reader)
            reading = Deferred.fromCoroutine(reader.block(self._index))
            reading.addCallbacks(
                self._take, self._fail, callbackArgs=(reader,), errbackArgs=(reader,)
            )
            reading.addBoth(self._bell.ring)

    def _take(self, block: bytes, reader: ShareReader) -> None:
        self._asked.discard(reader)
        # Who was late may come after another share of the same number.
        if reader.number not in self._numbers(self._got):
            self._got[reader] = block

    def _fail(self, failure: Failure, reader: ShareReader) -> None:
        self._asked.discard(reader)
        self._pool.failed(reader, failure)
        failure.trap(AmpgridError)
