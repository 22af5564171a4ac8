"""The spool: what was put in comes out, from any offset, or an error does."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from threading import Thread
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import FileError
from ampgrid.immutable import EarlyKey, Encoding, Spool, Uploader
from ampgrid.immutable.earlykey import KeyParameters
from ampgrid.immutable.spool import BLOCK_BYTES
from ampgrid.wire import InlineThreads
from tests.material import some_bytes

#: Around the ends of blocks.
SIZES = [
    base + near for base in (0, BLOCK_BYTES, 3 * BLOCK_BYTES) for near in (-1, 0, 1) if base + near
]


class SpoolCase(SynchronousTestCase):
    def spool(self, **settings: Any) -> Spool:
        spool = Spool(Path(tempfile.gettempdir()), os.urandom, **settings)
        self.addCleanup(spool.close)
        return spool

    def filled(self, size: int) -> tuple[Spool, bytes]:
        spool, data = self.spool(), some_bytes(size)
        spool.add(data)
        spool.end()
        return spool, data


class ReadingTest(SpoolCase):
    def test_pieces_of_any_size_come_back_as_one_stream(self) -> None:
        data = some_bytes(3 * BLOCK_BYTES + 1)
        for piece in (1_000, *SIZES[2:], len(data)):
            spool = self.spool()
            for start in range(0, len(data), piece):
                spool.add(data[start : start + piece])
            spool.end()
            self.assertEqual(spool.get_size(), len(data))
            self.assertEqual(spool.read_at(0, len(data)), data, piece)

    def test_single_bytes_around_the_end_of_a_block(self) -> None:
        data = some_bytes(BLOCK_BYTES + 3)
        spool = self.spool()
        spool.add(data[: BLOCK_BYTES - 3])
        for at in range(BLOCK_BYTES - 3, len(data)):
            spool.add(data[at : at + 1])
        spool.end()
        self.assertEqual(spool.read_at(0, len(data)), data)

    def test_every_range_around_the_ends_of_blocks(self) -> None:
        for size in SIZES:
            if size < 0:
                continue
            spool, data = self.filled(size)
            ends = sorted({0, *(each for each in SIZES if 0 < each <= size)})
            for start in ends:
                for end in ends:
                    if start <= end:
                        self.assertEqual(spool.read_at(start, end - start), data[start:end])

    def test_nothing_is_behind_its_end(self) -> None:
        for size in (0, 10, BLOCK_BYTES):
            spool, _data = self.filled(size)
            self.assertEqual(spool.read_at(size, 0), b"")
            with self.assertRaises(FileError):
                spool.read_at(0, size + 1)
            with self.assertRaises(FileError):
                spool.read_at(size, 1)

    def test_no_more_than_it_takes(self) -> None:
        spool = self.spool(most=10)
        spool.add(b"0123456789")
        with self.assertRaises(FileError):
            spool.add(b"0")

    def test_it_is_filled_then_ended_then_read(self) -> None:
        spool = self.spool()
        spool.add(b"some")
        self.assertRaises(ValueError, spool.read_at, 0, 4)
        for _ in range(2):
            spool.end()
            self.assertRaises(ValueError, spool.add, b"more")
            self.assertEqual(spool.read_at(0, 4), b"some")

    def test_what_is_read_in_small_pieces_is_opened_once(self) -> None:
        spool, data = self.filled(3 * BLOCK_BYTES + 5)
        opened: list[int] = []
        original = os.pread

        def counting(descriptor: int, length: int, at: int) -> bytes:
            opened.append(at)
            return original(descriptor, length, at)

        self.patch(os, "pread", counting)
        pieces = [
            spool.read_at(start, min(BLOCK_BYTES // 4, len(data) - start))
            for start in range(0, len(data), BLOCK_BYTES // 4)
        ]
        self.assertEqual(b"".join(pieces), data)
        self.assertEqual(opened, [number * BLOCK_BYTES for number in range(4)])

    def test_a_stream_of_a_descriptor(self) -> None:
        reading, writing = os.pipe()
        os.write(writing, b"some")
        os.close(writing)
        spool = self.spool()
        while spool.add_from(reading):
            pass
        os.close(reading)
        spool.end()
        self.assertEqual(spool.read_at(0, 4), b"some")


class DiskTest(SpoolCase):
    def test_what_the_disk_changed_is_not_given_back(self) -> None:
        spool, data = self.filled(3 * BLOCK_BYTES)
        for offset in (0, BLOCK_BYTES - 1, BLOCK_BYTES + 7):
            (before,) = os.pread(spool._descriptor, 1, offset)
            os.pwrite(spool._descriptor, bytes([before ^ 1]), offset)
            with self.assertRaisesRegex(FileError, "did not keep"):
                spool.read_at(0, len(data))
            self.assertEqual(spool.read_at(2 * BLOCK_BYTES, 9), data[2 * BLOCK_BYTES :][:9])
            os.pwrite(spool._descriptor, bytes([before]), offset)
        self.assertEqual(spool.read_at(0, len(data)), data)

    def test_a_block_has_one_place(self) -> None:
        spool, _data = self.filled(2 * BLOCK_BYTES)
        os.pwrite(spool._descriptor, os.pread(spool._descriptor, BLOCK_BYTES, BLOCK_BYTES), 0)
        with self.assertRaises(FileError):
            spool.read_at(0, 1)

    def test_a_file_that_was_cut(self) -> None:
        spool, _data = self.filled(2 * BLOCK_BYTES)
        os.ftruncate(spool._descriptor, BLOCK_BYTES + 100)
        self.assertEqual(len(spool.read_at(0, BLOCK_BYTES)), BLOCK_BYTES)
        for start in (0, BLOCK_BYTES):
            with self.assertRaises(FileError):
                spool.read_at(start, BLOCK_BYTES + 1 if not start else 1)

    def test_a_disk_that_takes_a_little_at_a_time(self) -> None:
        original = os.pwrite

        def little(descriptor: int, data: Any, at: int) -> int:
            return original(descriptor, data[:50_000], at)

        self.patch(os, "pwrite", little)
        spool, data = self.filled(3 * BLOCK_BYTES + 5)
        self.assertEqual(spool.read_at(0, len(data)), data)

    def test_it_is_not_closed_while_a_thread_writes(self) -> None:
        # The next file that is opened would get the number of the descriptor, and the bytes.
        spool, done = self.spool(), []
        closing = Thread(target=spool.close)
        write, close = os.pwrite, os.close

        def noting_write(*args: Any) -> int:
            if not done:
                closing.start()
                closing.join(0.05)
            done.append("write")
            return write(*args)

        def noting_close(descriptor: int) -> None:
            done.append("close")
            close(descriptor)

        self.patch(os, "pwrite", noting_write)
        self.patch(os, "close", noting_close)
        spool.add(some_bytes(600_000))
        closing.join()
        self.assertEqual(done, ["write", "write", "close"])
        self.assertRaises(FileError, spool.add, b"more")

    def test_no_bytes_of_the_cipher_are_used_twice(self) -> None:
        # Of zeros what is written is what everything else is enciphered with.
        spool, data = self.spool(), bytes(5 * BLOCK_BYTES + 16)
        for start in range(0, len(data), 10_000):
            spool.add(data[start : start + 10_000])
        spool.end()
        found = os.pread(spool._descriptor, 2 * len(data), 0)
        self.assertEqual(len(found), len(data))
        blocks = [found[start : start + 16] for start in range(0, len(found), 16)]
        self.assertEqual(len(set(blocks)), len(blocks))

    def test_nothing_is_taken_or_given_back_after_a_write_that_failed(self) -> None:
        def full(*_args: Any) -> int:
            raise OSError(28, "No space left on device")

        spool = self.spool()
        spool.add(bytes(BLOCK_BYTES))
        with self.patch(os, "pwrite", full), self.assertRaisesRegex(FileError, "No space"):
            spool.add(bytes(2 * BLOCK_BYTES))
        with self.assertRaisesRegex(FileError, "could not be written"):
            spool.add(b"more")
        spool.end()
        with self.assertRaisesRegex(FileError, "could not be written"):
            spool.read_at(0, 1)


class EarlyKeyTest(SpoolCase):
    def test_the_key_is_that_of_all_bytes_and_these_parameters(self) -> None:
        data = some_bytes(2 * BLOCK_BYTES + 9)
        parameters = KeyParameters(len(data), 3, 5, 1_000_002)
        hasher = parameters.hasher(b"secret")
        hasher.update(data)
        spool = self.spool(early_key=EarlyKey(b"secret", parameters))
        assert spool.early_key is not None
        for start in range(0, len(data), 10_000):
            self.assertIsNone(spool.early_key.found(parameters))
            spool.add(data[start : start + 10_000])
        self.assertEqual(spool.early_key.found(parameters), hasher.digest())
        for other in (
            KeyParameters(len(data), 3, 6, 1_000_002),
            KeyParameters(len(data), 2, 5, 1_000_002),
            KeyParameters(len(data), 3, 5, 1_000_005),
            KeyParameters(len(data) - 1, 3, 5, 1_000_002),
        ):
            self.assertIsNone(spool.early_key.found(other))

    def test_blocks_are_whole_segments(self) -> None:
        for segment_size in (1_000, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 2):
            data = some_bytes(4 * segment_size + BLOCK_BYTES + 5)
            parameters = KeyParameters(len(data), 1, 1, segment_size)
            spool = self.spool(early_key=EarlyKey(b"secret", parameters))
            for start in range(0, len(data), 100_000):
                spool.add(data[start : start + 100_000])
            spool.end()
            for start in range(0, len(data), segment_size):
                segment = data[start : start + segment_size]
                self.assertEqual(spool.read_at(start, len(segment)), segment)
            self.assertEqual(spool.read_at(0, len(data)), data)

    def test_a_size_that_is_not_known_before(self) -> None:
        uploader = Uploader(list, b"secret", InlineThreads(), max_segment_size=100)
        for size in (100, 101, 102, 103, 1_000):
            data = some_bytes(size)
            told = uploader.early_key(size, Encoding(3, 3, 5))
            untold = uploader.early_key(None, Encoding(3, 3, 5))
            for early in (told, untold):
                early.update(data[:50])
                early.update(data[50:])
            # A file that is shorter than a segment could be has a smaller one.
            parameters = KeyParameters(size, 3, 5, 102)
            self.assertEqual(untold.found(parameters), told.found(parameters))
            self.assertIsNotNone(told.found(parameters))
        short = uploader.early_key(None, Encoding(3, 3, 5))
        short.update(some_bytes(50))
        self.assertIsNone(short.found(KeyParameters(50, 3, 5, 51)))
