"""Writing a download to whatever a user holds open, and ending that early."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import FileError, OperationCancelledError
from ampgrid.immutable import Operation, ToDescriptor, ToFile
from ampgrid.wire import InlineThreads
from tests.patience import PATIENCE

DATA = bytes(range(256)) * 4_000


class Writing:
    """A download of `DATA` to a descriptor, in a thread."""

    def __init__(self, descriptor: int) -> None:
        self.operation = Operation()
        self.target = ToDescriptor(descriptor, InlineThreads(), self.operation.check)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.target.write(DATA).addErrback(self._failed)  # type: ignore[attr-defined]
        self.target.close()

    def _failed(self, failure: object) -> None:
        self.error = failure.value  # type: ignore[attr-defined]

    def ended(self, seconds: float = PATIENCE) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()


class ToDescriptorTests(SynchronousTestCase):
    """For each kind of descriptor."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.fifo = Path(folder.name) / "fifo"
        os.mkfifo(self.fifo)
        self.file = Path(folder.name) / "file"

    def kinds(self) -> dict[str, tuple[int, int]]:
        """Return a descriptor to read from and one to write to, of every kind that can block."""
        near, far = socket.socketpair()
        reader = os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK)
        fifo = (reader, os.open(self.fifo, os.O_WRONLY))
        os.set_blocking(reader, True)
        return {"pipe": os.pipe(), "socket": (near.detach(), far.detach()), "fifo": fifo}

    def each_kind(self, check: Callable[[int, int], None]) -> None:
        """Check each kind, and the pipe again as another user's, which we cannot open anew."""
        for reading, writing in self.kinds().values():
            check(reading, writing)
        self.patch(ToDescriptor, "_open_again", lambda _self: False)
        check(*os.pipe())

    def test_a_slow_reader_gets_all_of_it(self) -> None:
        def check(reading: int, writing: int) -> None:
            work = Writing(writing)
            with os.fdopen(reading, "rb", buffering=0) as end:
                data = b""
                while piece := end.read(30_000):
                    data += piece
            self.assertTrue(work.ended())
            self.assertIsNone(work.error)
            self.assertEqual(data, DATA)

        self.each_kind(check)

    def test_a_reader_that_stops_holds_nobody_up(self) -> None:
        def check(reading: int, writing: int) -> None:
            work = Writing(writing)
            self.assertEqual(os.read(reading, 1), DATA[:1])
            self.assertFalse(work.ended(0.1), "there is more than it has room for")
            work.operation.cancel()
            self.assertTrue(work.ended())
            self.assertIsInstance(work.error, OperationCancelledError)
            os.close(reading)

        self.each_kind(check)

    def test_a_reader_that_goes(self) -> None:
        def check(reading: int, writing: int) -> None:
            work = Writing(writing)
            os.read(reading, 1)
            os.close(reading)
            self.assertTrue(work.ended())
            self.assertIsInstance(work.error, FileError)

        self.each_kind(check)

    def test_a_reader_that_had_gone_before(self) -> None:
        for reading, writing in self.kinds().values():
            os.close(reading)
            work = Writing(writing)
            self.assertTrue(work.ended())
            self.assertIsInstance(work.error, FileError)

    def test_the_flags_of_the_user_s_descriptor_stay(self) -> None:
        for reading, writing in self.kinds().values():
            own = os.dup(writing)
            flags = fcntl.fcntl(writing, fcntl.F_GETFL)
            work = Writing(own)
            os.read(reading, 1)
            self.assertEqual(fcntl.fcntl(writing, fcntl.F_GETFL), flags)
            work.operation.cancel()
            self.assertTrue(work.ended())
            self.assertEqual(fcntl.fcntl(writing, fcntl.F_GETFL), flags)
            os.close(reading)
            os.close(writing)

    def test_a_file_is_written_from_where_it_is(self) -> None:
        self.file.write_bytes(b"before")
        work = Writing(os.open(self.file, os.O_WRONLY | os.O_APPEND))
        self.assertTrue(work.ended())
        self.assertEqual(self.file.read_bytes(), b"before" + DATA)

    def test_nothing_is_left_open(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for reading, writing in self.kinds().values():
            work = Writing(writing)
            os.close(reading)
            self.assertTrue(work.ended())
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)


class Counting(InlineThreads):
    """Threads that count what is brought to them."""

    hops = 0

    def run(self, function, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        self.hops += 1
        return super().run(function, *args, **kwargs)


class ToFileTests(SynchronousTestCase):
    """A file that comes whole into its place."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.file = self.folder / "file"
        self.threads = Counting()

    def target(self, size: int) -> ToFile:
        target = ToFile(self.file, self.threads, os.urandom)
        target.open(size)
        return target

    def write(self, target: ToFile, *pieces: bytes) -> None:
        for done in (*map(target.write, pieces), target.close()):
            if done is not None:
                self.assertIsNone(self.successResultOf(done))  # type: ignore[arg-type]

    def test_files_of_all_sizes(self) -> None:
        for size in (0, 1, 9_999, 65_536, 65_537, len(DATA)):
            for count in (1, 3):
                data, step = DATA[:size], max(1, -(-size // count))
                pieces = [data[start : start + step] for start in range(0, size, step)]
                self.write(self.target(size), *pieces)
                self.assertEqual(self.file.read_bytes(), data)
                self.assertEqual(os.listdir(self.folder), ["file"])

    def test_a_small_one_is_one_hop(self) -> None:
        self.write(self.target(10_000), DATA[:10_000])
        self.assertEqual(self.threads.hops, 1)

    def test_one_that_failed_leaves_what_was_there(self) -> None:
        self.file.write_bytes(b"old")
        for size in (10, 100_000):
            target = self.target(size)
            target.write(DATA[: size // 2])
            target.fail(OperationCancelledError("cancelled"))
            self.assertEqual(self.file.read_bytes(), b"old")
            self.assertEqual(os.listdir(self.folder), ["file"])

    def test_no_room_is_told(self) -> None:
        for size in (10, 100_000):
            target = self.target(size)
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, target._descriptor)
            os.close(full)
            failed: list[Failure] = []
            for done in (target.write(DATA[:size]), target.close()):
                if done is not None:
                    done.addErrback(failed.append)  # type: ignore[attr-defined]
            self.assertTrue(failed[0].check(FileError))
            target.fail(failed[0].value)
            self.assertEqual(os.listdir(self.folder), [])
