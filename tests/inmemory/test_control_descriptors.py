"""Uploads and downloads over the control socket from and to descriptors that came with them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from ampgrid.commands import (
    control,
)
from ampgrid.commands import errors as e
from ampgrid.errors import NotConnectedError
from ampgrid.immutable import Spool
from ampgrid.node.control import ControlResponder
from tests.inmemory.controlling import NOBODYS, ControlCase, connect
from tests.material import some_bytes


def open_descriptors() -> list[str]:
    """Pipes and files of the test's own that are open; stores keep theirs open for a while."""
    links = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
    found = [os.readlink(link) for link in links if os.path.lexists(link)]
    return sorted(name for name in found if "/place" in name or name.startswith("pipe:"))


class Ended:
    """Threads that have ended: nothing comes of what they are asked to do."""

    def __init__(self) -> None:
        self.asked: list[Callable[[], None]] = []

    def run(self, work: Callable[[], None]) -> Deferred[None]:
        self.asked.append(work)
        return Deferred()


class DescriptorTests(ControlCase):
    """Descriptors are used from where they are, and none is left open."""

    def setUp(self) -> None:
        super().setUp()
        self.data = some_bytes(200_000)
        self.file = self.place / "file"
        self.file.write_bytes(self.data)
        self.cap = self.put(self.data)
        self.before = open_descriptors()

    def check_closed(self) -> None:
        self.assertEqual(open_descriptors(), self.before)

    def send(self, descriptor: int, command: Any, **arguments: Any) -> dict[str, Any]:
        """Call with a descriptor that is closed here once it is sent."""
        work = self.begin(command, descriptor=descriptor, **arguments)
        os.close(descriptor)
        return self.grid.run(work)

    def reading(self, offset: int = 0) -> int:
        descriptor = os.open(self.file, os.O_RDONLY)
        os.lseek(descriptor, offset, os.SEEK_SET)
        return descriptor

    def writing(self) -> int:
        return os.open(self.place / "out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def test_a_file(self) -> None:
        self.assertEqual(self.send(self.reading(), control.Upload)["cap"], self.cap)
        answer = self.send(self.writing(), control.Download, cap=self.cap)
        self.assertEqual(answer, {"size": len(self.data), "problems": ""})
        self.assertEqual((self.place / "out").read_bytes(), self.data)
        self.check_closed()

    def test_a_file_from_its_middle_on(self) -> None:
        cap = self.send(self.reading(150_000), control.Upload)["cap"]
        self.send(self.writing(), control.Download, cap=cap)
        self.assertEqual((self.place / "out").read_bytes(), self.data[150_000:])
        self.check_closed()

    def test_a_long_stream_is_read_once(self) -> None:
        read: list[int] = []
        original = Spool.read_at

        def counting(spool: Spool, offset: int, length: int) -> bytes:
            read.append(length)
            return original(spool, offset, length)

        self.patch(Spool, "read_at", counting)
        data = some_bytes(2_500_000)
        self.file.write_bytes(b"x" + data)
        cap = self.send(self.reading(1), control.Upload)["cap"]
        self.assertEqual(sum(read), len(data))
        self.assertEqual(cap, self.put(data))
        self.check_closed()

    def test_an_upload_that_nobody_goes_on_with(self) -> None:
        # As where the threads have ended before it: nothing is to be waited for on its way out.
        core, ended, never = self.grid.client.core, Ended(), Deferred[Any]()

        async def stuck(*_args: Any, **_how: Any) -> None:
            self.patch(core, "work", ended)
            await never

        self.patch(core.uploader, "upload", stuck)
        responder = ControlResponder(core, self.connection)
        arguments = dict.fromkeys(name.decode() for name, _type in control.Upload.arguments)
        uploading = responder.upload(**{**arguments, "descriptor": self.reading(1)})
        self.assertIs(uploading.send(None), never)
        uploading.close()
        (close,) = ended.asked
        close()
        self.check_closed()

    def test_pipes(self) -> None:
        reading, writing = os.pipe()
        os.write(writing, self.data[:60_000])
        os.close(writing)
        cap = self.send(reading, control.Upload)["cap"]
        reading, writing = os.pipe()
        self.send(writing, control.Download, cap=cap, offset=1, length=50_000)
        with os.fdopen(reading, "rb") as end:
            self.assertEqual(end.read(), self.data[1:50_001])
        self.check_closed()

    def test_a_stream_for_which_the_disk_has_no_room(self) -> None:
        core = self.grid.client.core
        core.spool_reserve = 2**62
        # A little is taken in any case: no disk is in danger for that.
        reading, writing = os.pipe()
        os.write(writing, b"little")
        os.close(writing)
        self.send(reading, control.Upload)
        # And what is there of a file needs no spool.
        large = self.place / "large"
        large.write_bytes(bytes(3 * 2**20))
        self.send(os.open(large, os.O_RDONLY), control.Upload)
        descriptor = os.open(large, os.O_RDONLY)
        os.lseek(descriptor, 1, os.SEEK_SET)
        before = sorted(core.spool_path.iterdir())
        with self.assertRaises(e.FileFailedError) as caught:
            self.send(descriptor, control.Upload)
        for told in (str(core.spool_path), "reserve", "make room"):
            self.assertIn(told, str(caught.exception))
        self.assertEqual(sorted(core.spool_path.iterdir()), before)
        self.check_closed()

    def test_every_refusal_closes_what_came(self) -> None:
        path = str(self.file)
        up: list[tuple[type[Exception], dict[str, Any]]] = [
            (e.BadArgumentError, {"path": path}),
            (e.BadArgumentError, {"needed": 1}),
            (e.NotHappyEnoughError, {"needed": 1, "happy": 9, "total": 9}),
        ]
        down: list[tuple[type[Exception], dict[str, Any]]] = [
            (e.BadArgumentError, {"cap": self.cap, "path": path}),
            (e.BadArgumentError, {"cap": self.cap, "offset": 10**9}),
            (e.BadCapTextError, {"cap": "URI:nonsense"}),
            (e.NotEnoughSharesFoundError, {"cap": NOBODYS}),
        ]
        for error, arguments in up:
            with self.assertRaises(error):
                self.send(self.reading(), control.Upload, **arguments)
            self.check_closed()
        for error, arguments in down:
            with self.assertRaises(error):
                self.send(self.writing(), control.Download, **arguments)
            self.check_closed()

    def test_an_operation_number_in_use_closes_what_came(self) -> None:
        work = self.begin(control.Download, cap=self.cap, path=str(self.place / "o"), number=5)
        self.grid.clock.step()
        for descriptor, command, more in [
            (self.reading(), control.Upload, {}),
            (self.writing(), control.Download, {"cap": self.cap}),
        ]:
            with self.assertRaises(e.BadArgumentError):
                self.send(descriptor, command, number=5, **more)
        self.grid.run(work)
        self.check_closed()

    def test_what_cannot_be_used(self) -> None:
        with self.assertRaises(e.FileFailedError):
            self.send(os.open(self.place, os.O_RDONLY), control.Upload)
        with self.assertRaises(e.FileFailedError):
            self.send(self.writing(), control.Upload)
        with self.assertRaises(e.FileFailedError):
            self.send(self.reading(), control.Download, cap=self.cap)
        reading, writing = os.pipe()
        os.close(reading)
        with self.assertRaises(e.FileFailedError):
            self.send(writing, control.Download, cap=self.cap)
        self.check_closed()

    def test_a_caller_that_goes_away(self) -> None:
        for opened, command, more in [
            (self.reading, control.Upload, {"needed": 1, "happy": 1, "total": 3}),
            (self.writing, control.Download, {"cap": self.cap}),
        ]:
            descriptor = opened()
            work = self.begin(command, descriptor=descriptor, number=4, **more)
            os.close(descriptor)
            self.step_until(lambda: self.grid.client.core.operations.get(4))
            self.connection.abort("the test ends it")
            with self.assertRaises(NotConnectedError):
                self.grid.run(work)
            self.grid.clock.advance(1)
            self.check_closed()
            self.connection = connect(self.grid.clock, self.grid.client)

    def test_descriptors_that_no_call_claims(self) -> None:
        descriptor = self.reading()
        for _ in range(5):
            self.connection.transport.sendFileDescriptor(descriptor)
        os.close(descriptor)
        self.call(control.Status)
        self.connection.abort("the test ends it")
        self.grid.clock.advance(1)
        self.check_closed()
