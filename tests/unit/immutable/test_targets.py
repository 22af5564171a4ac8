"""Writing a download to whatever a user holds open, and ending that early."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import FileError, OperationCancelledError
from ampgrid.immutable import Operation, ToDescriptor
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
