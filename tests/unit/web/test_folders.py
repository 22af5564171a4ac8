"""Directories of this machine: whatever is put into the way of a path, nothing leads elsewhere."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import FileError
from ampgrid.web.errors import BadRequestError, ForbiddenError
from ampgrid.web.folders import Folder
from tests.unit.web.test_localfiles import LocalCase


class NowThreads:
    """Threads whose work is done at once."""

    async def run(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)


def entropy(count: int) -> bytes:
    return b"e" * count


class FolderTest(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.place = Path(os.path.realpath(folder.name))
        (self.place / "a" / "b").mkdir(parents=True)
        (self.place / "a" / "b" / "f").write_bytes(b"inside")
        (self.place / "out" / "b").mkdir(parents=True)
        (self.place / "out" / "b" / "f").write_bytes(b"outside")
        self.open_before = self.count_open()

    def count_open(self) -> int:
        return len(os.listdir("/proc/self/fd"))

    def tearDown(self) -> None:
        self.assertEqual(self.count_open(), self.open_before)

    def swap(self, *names: str) -> None:
        """Put a link to what is outside where a directory was."""
        path = self.place.joinpath(*names)
        path.rename(path.with_name("moved away"))
        path.symlink_to(self.place / "out" / "b")

    def test_it_is_read(self) -> None:
        with Folder.at(self.place / "a" / "b") as folder, folder.below() as same:
            for each in (folder, same):
                file = each.reading("f")
                self.assertEqual(file.read_at(0, 6), b"inside")
                file.close()
            self.assertEqual(folder.shown, self.place / "a" / "b")
        with Folder.at(Path("/")) as root:
            self.assertIn(self.place.parts[1], root.entries().directories)

    def test_no_link_is_followed_wherever_it_is(self) -> None:
        for names in (("a",), ("a", "b")):
            self.swap(*names)
            self.assertRaises(FileError, Folder.at, self.place / "a" / "b")
            with Folder.at(self.place) as folder:
                self.assertRaises(FileError, folder.below, "a", "b")
                self.assertRaises(FileError, folder.made, "a", "b")
                self.assertRaises(FileError, folder.made, "a", "b", "c")
            path = self.place.joinpath(*names)
            path.unlink()
            path.with_name("moved away").rename(path)
        self.assertEqual(os.listdir(self.place / "out" / "b"), ["f"])

    def test_what_is_open_stays_what_it_is(self) -> None:
        with Folder.at(self.place / "a" / "b") as folder:
            self.swap("a", "b")
            file = folder.reading("f")
            self.assertEqual(file.read_at(0, 6), b"inside")
            file.close()
            self.assertEqual(folder.entries().files, {"f": "f"})
            self.write(folder, "g")
        self.assertEqual(os.listdir(self.place / "out" / "b"), ["f"])
        self.assertEqual((self.place / "a" / "moved away" / "g").read_bytes(), b"written")

    def write(self, folder: Folder, name: str) -> None:
        target = folder.writing(name, NowThreads(), entropy)
        for step in (target.write(b"written"), target.close()):
            assert step is not None
            with self.assertRaises(StopIteration):
                step.send(None)  # type: ignore[attr-defined]

    def test_a_link_at_the_end_is_not_read_and_is_replaced(self) -> None:
        link = self.place / "a" / "link"
        link.symlink_to(self.place / "out" / "b" / "f")
        with Folder.at(self.place / "a") as folder:
            self.assertRaises(ForbiddenError, folder.require_file, "link")
            self.assertRaises(FileError, folder.reading, "link")
            self.write(folder, "link")
        self.assertFalse(link.is_symlink())
        self.assertEqual((self.place / "out" / "b" / "f").read_bytes(), b"outside")

    def test_a_write_that_fails_leaves_nothing(self) -> None:
        with Folder.at(self.place / "a") as folder:
            target = folder.writing("new", NowThreads(), entropy)
            target.fail(FileError("for a test"))
            self.assertEqual(os.listdir(self.place / "a"), ["b"])
            self.assertRaises(FileError, folder.writing, "b", NowThreads(), entropy)

    def test_what_is_required(self) -> None:
        with Folder.at(self.place / "a" / "b") as folder:
            folder.require_file("f")
            self.assertRaises(BadRequestError, folder.require_directory, "f")
            self.assertRaises(FileError, folder.require_file, "none")
        with Folder.at(self.place / "a") as folder:
            folder.require_directory("b")
            self.assertRaises(BadRequestError, folder.require_file, "b")
            with folder.made("b") as there, folder.made("new") as made:
                self.assertEqual((there.shown.name, made.shown.name), ("b", "new"))
            self.assertRaises(FileError, folder.made, "b", "f")

    def test_entries(self) -> None:
        root = self.place / "a"
        (root / "e\u0301").write_bytes(b"one spelling")
        (root / "\u00e9").mkdir()
        (root / "line\nbreak").write_bytes(b"")
        (root / "link").symlink_to(self.place)
        os.mkfifo(root / "pipe")
        with Folder.at(root) as folder:
            found = folder.entries()
        self.assertEqual((found.files, found.directories), ({"\u00e9": "e\u0301"}, {"b": "b"}))
        self.assertEqual(len(found.left_out), 4)
        self.assertTrue(all(str(self.place) in shown for shown, _ in found.left_out))


class RaceTest(LocalCase):
    """A link takes the place of a directory when its path was looked at and is not open yet."""

    def setUp(self) -> None:
        super().setUp()
        self.allow_all(str(self.inside))
        self.sub, self.outside = self.inside / "sub", self.place / "outside"
        for folder, text in ((self.sub, b"inside"), (self.outside, b"outside")):
            (folder / "deep").mkdir(parents=True)
            (folder / "deep" / "f").write_bytes(text)
        self.put(f"{self.url}/got/f", self.data)

    def racing(self) -> None:
        looked_up = os.path.realpath

        def racing(path: Any, **settings: Any) -> str:
            found = str(looked_up(path, **settings))
            if Path(found).is_relative_to(self.sub) and not self.sub.is_symlink():
                self.sub.rename(self.inside / "moved away")
                self.sub.symlink_to(self.outside)
            return found

        self.patch(os.path, "realpath", racing)

    def test_every_form(self) -> None:
        self.racing()
        for method, url, named in (
            ("PUT", f"{self.url}/new", {"localfile": self.sub / "deep" / "f"}),
            ("PUT", f"{self.url}/new", {"localdir": self.sub / "deep"}),
            ("GET", f"{self.url}/got/f", {"localfile": self.sub / "deep" / "g"}),
            ("GET", f"{self.url}/got", {"localdir": self.sub / "deep" / "g"}),
        ):
            with self.subTest(method=method, named=named):
                self.assert_status(self.local(method, url, **named), 400)
                self.assertTrue(self.sub.is_symlink())
                self.sub.unlink()
                (self.inside / "moved away").rename(self.sub)
                self.assertEqual(os.listdir(self.outside / "deep"), ["f"])
                self.assertNotIn("new", self.get(f"{self.url}?t=json").json[1]["children"])
