"""Keeping bodies: a disk that is behind, one that is full, one that fails, and accounting."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import FileError
from ampgrid.immutable import Spool
from ampgrid.web.bodies import TEXT_BYTES, Flow, TextBody
from ampgrid.web.errors import NoSpaceError, TooLargeError
from ampgrid.web.forms import MOST_FIELD_BYTES, FilesForm
from ampgrid.web.spool import MEMORY_BYTES, PIECE_BYTES, Keeping, SpoolRoom
from tests.material import some_bytes
from tests.unit.web.kit import form_bytes

LARGE = MEMORY_BYTES + PIECE_BYTES


class HeldThreads:
    """Threads whose work is done when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Any]] = []
        self.held = False

    async def run(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        if self.held:
            turn: Deferred[None] = Deferred()
            self.waiting.append((turn, function))
            await turn
        return function(*args, **kwargs)

    def let_one_go(self) -> None:
        self.waiting.pop(0)[0].callback(None)


class SpoolCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.threads = HeldThreads()
        self.told: list[Any] = []
        self.folder = Path(folder.name)
        self.room = self.make_room()

    def make_room(self, **settings: Any) -> SpoolRoom:
        def entropy(count: int) -> bytes:
            return b"k" * count

        return SpoolRoom(self.folder, entropy, self.threads, 0, **settings)


class KeepingTest(SpoolCase):
    def keep(self, most: int | None = None, room: SpoolRoom | None = None) -> Keeping:
        def note(word: Any) -> Any:
            return lambda *args: self.told.append((word, *args))

        return Keeping(room or self.room, note("pause"), note("resume"), note("fail"), most)

    def whole(self, keeping: Keeping) -> bytes:
        source = self.successResultOf(Deferred.fromCoroutine(keeping.whole()))
        return source.read_at(0, source.get_size())

    def test_what_is_small_stays_in_memory(self) -> None:
        keeping = self.keep()
        data = some_bytes(MEMORY_BYTES)
        keeping.add(data)
        self.assertEqual(self.whole(keeping), data)
        self.assertEqual((self.room.used, list(self.folder.iterdir())), (0, []))

    def test_pieces_of_any_size_take_no_more_room_than_they_are_long(self) -> None:
        for make in (self.keep, lambda: TextBody(TEXT_BYTES)):
            for size in (2, 7, 1_000):
                data = some_bytes(min(MEMORY_BYTES, TEXT_BYTES))
                tracemalloc.start()
                body = make()
                for start in range(0, len(data), size):
                    body.add(data[start : start + size])
                held, _most = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                self.assertLess(held, 2 * len(data) + 4_096, (type(body), size))

    def test_what_is_a_little_larger_goes_to_the_disk_too(self) -> None:
        for size in (MEMORY_BYTES + 1, 300_000, PIECE_BYTES):
            keeping = self.keep()
            keeping.add(some_bytes(size))
            self.assertEqual(self.whole(keeping), some_bytes(size))
            self.assertEqual(self.room.used, size)
            keeping.close()
            self.assertEqual(self.room.used, 0)

    def test_what_is_large_goes_to_the_disk_in_any_pieces(self) -> None:
        data = some_bytes(2 * LARGE + 3)
        for size in (len(data), 100_000, PIECE_BYTES, PIECE_BYTES + 1):
            keeping = self.keep()
            for start in range(0, len(data), size):
                keeping.add(data[start : start + size])
            self.assertEqual(self.whole(keeping), data)
            self.assertEqual(self.room.used, len(data))
            keeping.close()
            self.assertEqual(self.room.used, 0)

    def test_a_disk_that_is_behind_pauses_the_client(self) -> None:
        self.threads.held = True
        keeping = self.keep()
        data = some_bytes(4 * LARGE)
        taken = 0
        while ("pause",) not in self.told:
            keeping.add(data[taken : taken + 50_000])
            taken += 50_000
        # What was written and what waits, and nothing beyond.
        self.assertLess(taken, 2 * PIECE_BYTES + 2 * 50_000 + MEMORY_BYTES)
        self.threads.let_one_go()
        self.assertEqual(self.told, [("pause",), ("resume",)])
        waiting = Deferred.fromCoroutine(keeping.whole())
        self.assertNoResult(waiting)
        while self.threads.waiting:
            self.threads.let_one_go()
        source = self.successResultOf(waiting)
        self.assertEqual(source.read_at(0, taken), data[:taken])

    def test_a_client_that_goes_while_the_disk_writes(self) -> None:
        self.threads.held = True
        keeping = self.keep()
        keeping.add(some_bytes(LARGE))
        keeping.close()
        self.threads.let_one_go()
        self.assertEqual(self.room.used, 0)
        keeping.add(b"more")

    def test_the_reactor_does_not_wait_for_a_long_file_to_go(self) -> None:
        closed: list[Spool] = []
        original = Spool.close

        def noting(spool: Spool) -> None:
            closed.append(spool)
            original(spool)

        self.patch(Spool, "close", noting)
        keeping = self.keep()
        keeping.add(some_bytes(LARGE))
        self.threads.held = True
        keeping.close()
        self.assertEqual((self.room.used, closed), (0, []))
        self.threads.let_one_go()
        self.assertEqual(len(closed), 1)

    def test_more_than_is_taken(self) -> None:
        keeping = self.keep(most=10)
        keeping.add(b"0123456789")
        self.assertRaises(TooLargeError, keeping.add, b"0")

    def test_more_than_all_may_take_together(self) -> None:
        room = self.make_room(most=3 * PIECE_BYTES)
        one = self.keep(room=room)
        one.add(some_bytes(2 * PIECE_BYTES))
        two = self.keep(room=room)
        two.add(some_bytes(2 * PIECE_BYTES))
        ((word, error),) = self.told
        self.assertEqual((word, type(error)), ("fail", NoSpaceError))
        self.failureResultOf(Deferred.fromCoroutine(two.whole()), NoSpaceError)
        two.close()
        self.assertEqual(room.used, 2 * PIECE_BYTES)
        one.close()
        self.assertEqual(room.used, 0)

    def test_a_disk_that_fails_in_the_middle(self) -> None:
        written = 0
        original = Spool.add

        def failing(spool: Spool, data: bytes) -> None:
            nonlocal written
            written += 1
            if written == 2:
                # Half of it is on the disk.
                original(spool, data[: len(data) // 2])
                raise FileError("cannot write the spool file: Input/output error")
            original(spool, data)

        self.patch(Spool, "add", failing)
        keeping = self.keep()
        for _ in range(4):
            keeping.add(some_bytes(LARGE))
        self.assertEqual([word for word, *_ in self.told], ["fail"])
        self.failureResultOf(Deferred.fromCoroutine(keeping.whole()), FileError)
        keeping.close()
        self.assertEqual(self.room.used, 0)

    def test_nothing_can_be_read_of_what_is_on_the_disk(self) -> None:
        data = b"marker of the plaintext" * 50_000
        seen: list[bytes] = []
        original = Spool.close

        def looking(spool: Spool) -> None:
            if spool._descriptor >= 0:
                seen.append(os.pread(spool._descriptor, 2 * len(data), 0))
            original(spool)

        self.patch(Spool, "close", looking)
        keeping = self.keep()
        keeping.add(data)
        self.assertEqual(self.whole(keeping), data)
        keeping.close()
        (found,) = seen
        self.assertEqual(len(found), len(data))
        self.assertNotIn(b"marker", found)


class FormTest(SpoolCase):
    """The files of a form share one place, so many small ones are no way into the memory."""

    def form(self, files: list[bytes], fields: dict[str, str] | None = None) -> FilesForm:
        body, headers = form_bytes(fields or {}, {f"f{n}": data for n, data in enumerate(files)})
        flow = Flow(lambda: None, lambda: None, self.told.append)
        form = FilesForm(headers["Content-Type"], self.room, flow)
        self.addCleanup(form.close)
        for start in range(0, len(body), 10_000):
            form.add(body[start : start + 10_000])
        self.successResultOf(Deferred.fromCoroutine(form.complete()))
        return form

    def test_a_form_takes_no_more_memory_than_any_body(self) -> None:
        for sizes in ([MEMORY_BYTES], [1_000] * 100, [0, 5, 0]):
            self.form([some_bytes(size) for size in sizes])
            self.assertEqual(self.room.used, 0)
        for sizes in ([MEMORY_BYTES + 1], [PIECE_BYTES - 1] * 3, [20_000] * 100, [0, 200_000, 0]):
            form = self.form([some_bytes(size) for size in sizes])
            self.assertEqual(self.room.used, sum(sizes))
            form.close()
            self.assertEqual(self.room.used, 0)

    def test_each_file_is_what_was_sent(self) -> None:
        files = [some_bytes(size, b"%d" % size) for size in (0, 1, 70_000, PIECE_BYTES, 3)]
        for some in (files, files[:2]):
            form = self.form(some, {"t": "upload"})
            self.assertEqual(form.fields, {"t": "upload"})
            for number, (sent, data) in enumerate(zip(form.files, some, strict=True)):
                size = sent.source.get_size()
                self.assertEqual((sent.name, size), (f"f{number}", len(data)))
                self.assertEqual(sent.source.read_at(0, size), data)
                self.assertEqual(sent.source.read_at(size // 2, size), data[size // 2 :])
                sent.source.check_unchanged()

    def test_fields_are_bounded_each_and_together(self) -> None:
        most = MOST_FIELD_BYTES
        self.assertEqual(len(self.form([], {"a": "x" * most}).fields["a"]), most)
        self.assertRaises(TooLargeError, self.form, [], {"a": "x" * (most + 1)})
        many = {str(number): "x" * most for number in range(TEXT_BYTES // most)}
        self.assertEqual(len(self.form([], many).fields), len(many))
        self.assertRaises(TooLargeError, self.form, [], {**many, "one more": "x"})
