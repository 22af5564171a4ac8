"""What is found of a tree of local files, and what is named as impossible."""

from __future__ import annotations

import os
from pathlib import Path

from ampgrid.cli.local_tree import LocalDirectory, LocalTree
from ampgrid.errors import FileError
from tests.unit.cli.command_line import CommandLineCase


class LocalTreeTests(CommandLineCase):
    def setUp(self) -> None:
        super().setUp()
        self.told: list[tuple[str, str]] = []

    def tree(self, **more: object) -> LocalTree:
        def tell(path: str, error: Exception) -> None:
            self.told.append((os.path.relpath(path, self.root), str(error)))

        return LocalTree(tell, **more)  # type: ignore[arg-type]

    def write(self, *names: str) -> None:
        for name in names:
            file = self.root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(name.encode())

    def shape(self, directory: LocalDirectory) -> dict[str, object]:
        inner = {each.name: self.shape(each) for each in directory.directories}
        return {file.name: file.size for file in directory.files} | inner

    def test_all_of_it(self) -> None:
        self.write("b", "a/y", "a/x", "a/deep/z")
        (self.root / "void").mkdir(mode=0o700)
        found = self.tree().contents(str(self.root))
        self.assertEqual(
            self.shape(found), {"b": 1, "a": {"x": 3, "y": 3, "deep": {"z": 8}}, "void": {}}
        )
        self.assertEqual(found.count(), (4, 15))
        self.assertEqual([each.name for each in found.everything()], ["", "a", "deep", "void"])
        void = found.directories[1]
        self.assertEqual(void.metadata["mode"], 0o700)
        self.assertEqual(void.metadata["mtime"], (self.root / "void").stat().st_mtime)
        self.assertEqual(self.told, [])

    def test_what_was_named(self) -> None:
        self.write("one", "dir/x")
        named = [(str(self.root / n), n) for n in ("one", "dir", "missing")]
        self.assertEqual(
            self.shape(self.tree().collect(named, deep=True)), {"one": 3, "dir": {"x": 5}}
        )
        self.assertIn("No such file", self.told.pop()[1])
        self.assertEqual(self.shape(self.tree().collect(named[:2], deep=False)), {"one": 3})
        self.assertEqual(self.told, [("dir", "this is a directory; -r copies it")])

    def test_links_are_followed(self) -> None:
        self.write("dir/x")
        (self.root / "to x").symlink_to("dir/x")
        (self.root / "twice").symlink_to("dir")
        (self.root / "dir" / "up").symlink_to("..")
        (self.root / "broken").symlink_to("nothing")
        found = self.tree().contents(str(self.root))
        self.assertEqual(self.shape(found), {"to x": 5, "dir": {"x": 5}, "twice": {"x": 5}})
        self.assertEqual(sorted(path for path, _ in self.told), ["broken", "dir/up", "twice/up"])

    def test_links_are_kept(self) -> None:
        (self.root / "link").symlink_to(b"caf\xe9")
        (file,) = self.tree(links=True).contents(str(self.root)).files
        self.assertEqual((file.name, file.target, file.size), ("link", b"caf\xe9", 4))
        self.assertEqual(self.told, [])

    def test_what_cannot_be_named_in_the_grid(self) -> None:
        for name in (b"caf\xe9", b"new\nline", "u\u0308".encode(), "\u00fc".encode(), b"fine"):
            Path(os.fsdecode(os.path.join(os.fsencode(self.root), name))).write_bytes(b"x")
        os.mkfifo(self.root / "pipe")
        found = self.tree().contents(str(self.root))
        self.assertEqual([file.name for file in found.files], ["fine", "\u00fc"])
        self.assertEqual(len(self.told), 4)
        self.assertIn("same name", " ".join(error for _, error in self.told))

    def test_what_is_left_out(self) -> None:
        self.write("keep", "drop.pyc", "sub/drop.pyc", "cache/x")

        def left_out(_path: str, name: str) -> bool:
            return name.endswith(".pyc") or name == "cache"

        found = self.tree(left_out=left_out).contents(str(self.root))
        self.assertEqual(self.shape(found), {"keep": 4, "sub": {}})

    def test_no_directory(self) -> None:
        self.write("file")
        for name in ("file", "missing"):
            self.assertRaises(FileError, self.tree().contents, str(self.root / name))
