"""The virtual drive: roots, the forms of paths, making directories, moving."""

from __future__ import annotations

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import ChkCap, DirCap, LitCap
from ampgrid.errors import (
    BadArgumentValueError,
    BadCapError,
    BadNameError,
    NoRootError,
    NoSuchChildError,
    NotDirectoryError,
    NotMutableError,
)
from ampgrid.immutable import FileNode
from ampgrid.testing.drive import MemoryDrive
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.vdrive.paths import GridPath, parse_grid_path

LIT = LitCap(b"x")


class DriveCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.drive = MemoryDrive(latency=0.01)
        self.run_one = self.drive.run

    def at(self, path: object) -> str:
        return self.run_one(self.drive.get_node_at_path(path)).get_uri()  # type: ignore[arg-type]


class RootTests(DriveCase):
    def test_roots(self) -> None:
        self.assertTrue(self.drive.have_public_root())
        self.assertTrue(self.drive.have_private_root())
        public = self.run_one(self.drive.get_public_root())
        private = self.run_one(self.drive.get_private_root())
        self.assertNotEqual(public.get_uri(), private.get_uri())
        for path in ("", "/", [], GridPath("public")):
            self.assertEqual(self.at(path), public.get_uri())
        for path in ("~", "~/", ["~"], GridPath("private")):
            self.assertEqual(self.at(path), private.get_uri())

    def test_roots_that_are_not_known(self) -> None:
        self.drive.roots.clear()
        self.assertFalse(self.drive.have_public_root())
        self.assertFalse(self.drive.have_private_root())
        for work in (
            self.drive.get_public_root(),
            self.drive.get_private_root(),
            self.drive.get_node_at_path("a"),
            self.drive.get_node_at_path("~/a"),
            self.drive.make_directories("~/a"),
            self.drive.get_node_at_path(GridPath("friends", ("a",))),
        ):
            with self.assertRaises(NoRootError):
                self.run_one(work)


class PathTests(DriveCase):
    def setUp(self) -> None:
        super().setUp()
        for path in ("dirname", "~/dirname", "~/~"):
            made = self.run_one(self.drive.make_directories(path))
            self.run_one(made.set_uri("foo.txt", LitCap(path.encode())))

    def test_the_forms_of_the_seed(self) -> None:
        public = LitCap(b"dirname").to_string()
        for path in ("/dirname/foo.txt", "dirname/foo.txt", ["dirname", "foo.txt"]):
            self.assertEqual(self.at(path), public)
        private = LitCap(b"~/dirname").to_string()
        for path in ("~/dirname/foo.txt", ["~", "dirname", "foo.txt"]):
            self.assertEqual(self.at(path), private)
        self.assertEqual(self.at("~/~/foo.txt"), LitCap(b"~/~").to_string())
        # Only a path whose very first name it is begins in the private root.
        with self.assertRaises(NoSuchChildError):
            self.at("/~/dirname")

    def test_grid_paths(self) -> None:
        private = self.run_one(self.drive.get_private_root())
        self.drive.roots["friends"] = private.read_only().cap
        for text in (
            "private:dirname/foo.txt",
            "friends:dirname/foo.txt",
            private.get_uri() + "/dirname/foo.txt",
            private.get_immutable_uri() + "/dirname/foo.txt",
            LitCap(b"~/dirname").to_string(),
        ):
            self.assertEqual(self.at(parse_grid_path(text)), LitCap(b"~/dirname").to_string())
        found = self.at(parse_grid_path("friends:dirname"))
        self.assertTrue(found.startswith("URI:DIR-RO:"))

    def test_what_is_not_there(self) -> None:
        for path in ("x", "dirname/x", "~/dirname/x", ["x", "y"]):
            with self.assertRaises(IndexError):
                self.at(path)
        for path in ("dirname/foo.txt/x", parse_grid_path(LIT.to_string() + "/x")):
            with self.assertRaises(NotDirectoryError):
                self.at(path)
        with self.assertRaises(BadNameError):
            self.at("dirname/../x")

    def test_nodes_of_caps(self) -> None:
        file = ChkCap(b"k" * 16, b"u" * 32, 3, 10, 1000)
        directory = DirCap.create(lambda size: b"w" * size)
        for cap, kind in ((file, FileNode), (LIT, FileNode), (directory, DirectoryNode)):
            for given in (cap, cap.to_string()):
                node = self.run_one(self.drive.get_node(given))
                self.assertIsInstance(node, kind)
                self.assertEqual(node.get_uri(), cap.to_string())
        for bad in (file.get_verify_cap(), directory.get_verify_cap(), "x"):
            with self.assertRaises(BadCapError):
                self.run_one(self.drive.get_node(bad))

    def test_parents(self) -> None:
        parent, name = self.run_one(self.drive.get_parent("~/dirname/new"))
        self.assertEqual((parent.get_uri(), name), (self.at("~/dirname"), "new"))
        with self.assertRaises(BadArgumentValueError):
            self.run_one(self.drive.get_parent("~"))
        with self.assertRaises(NotDirectoryError):
            self.run_one(self.drive.get_parent("dirname/foo.txt/new"))


class MakeDirectoriesTests(DriveCase):
    def test_makes_what_is_missing_and_no_more(self) -> None:
        made = self.run_one(self.drive.make_directories("~/a/b/c"))
        count = len(self.drive.tables.kept)
        again = self.run_one(self.drive.make_directories("~/a/b/c"))
        self.assertEqual(made.get_uri(), again.get_uri())
        self.assertEqual(len(self.drive.tables.kept), count)
        self.assertEqual(self.at("~/a/b/c"), made.get_uri())

    def test_a_race_ends_in_one_directory(self) -> None:
        async def make_and_fill(number: int) -> str:
            made = await self.drive.make_directories("~/a/b/c")
            await made.set_uri(f"n{number}", LIT)
            return made.get_uri()

        works = [Deferred.fromCoroutine(make_and_fill(number)) for number in range(8)]
        found = self.drive.clock.run(gatherResults(works))
        self.assertEqual(len(set(found)), 1)
        directory = self.run_one(self.drive.get_directory_at_path("~/a/b/c"))
        self.assertEqual(len(self.run_one(directory.list())), 8)

    def test_what_is_in_the_way(self) -> None:
        root = self.run_one(self.drive.get_private_root())
        self.run_one(root.set_uri("file", LIT))
        for path in ("~/file", "~/file/a"):
            with self.assertRaises(NotDirectoryError):
                self.run_one(self.drive.make_directories(path))
        self.run_one(self.drive.make_directories("~/a"))
        self.drive.roots["private"] = root.read_only().cap
        self.run_one(self.drive.make_directories("~/a"))
        with self.assertRaises(NotMutableError):
            self.run_one(self.drive.make_directories("~/a/b"))


class MoveTests(DriveCase):
    def setUp(self) -> None:
        super().setUp()
        self.below = self.run_one(self.drive.make_directories("~/a/b"))
        self.run_one(self.below.set_uri("file", LIT))

    def test_to_another_directory_and_name(self) -> None:
        self.run_one(self.drive.move("~/a/b/file", "public"))
        self.assertEqual(self.at("public"), LIT.to_string())
        self.run_one(self.drive.move("public", parse_grid_path("private:a/there")))
        self.assertEqual(self.at("~/a/there"), LIT.to_string())
        with self.assertRaises(NoSuchChildError):
            self.at("public")

    def test_a_directory_does_not_go_into_what_is_in_it(self) -> None:
        for target in ("~/a/x", "~/a/b/x"):
            with self.assertRaises(BadArgumentValueError):
                self.run_one(self.drive.move("~/a", target))
        self.assertEqual(self.at("~/a/b/file"), LIT.to_string())

    def test_what_cannot_be_moved(self) -> None:
        for source, target, error in (
            ("~/x", "~/y", NoSuchChildError),
            ("~/a/b/file", "~/x/y", NoSuchChildError),
            ("~/a/b/file", "~/a/b/file/x", NotDirectoryError),
            ("~", "~/y", BadArgumentValueError),
            ("~/a", "/", BadArgumentValueError),
        ):
            with self.assertRaises(error):
                self.run_one(self.drive.move(source, target))


class CreateDirectoryTests(DriveCase):
    def test_it_is_linked_nowhere(self) -> None:
        made = self.run_one(self.drive.create_directory())
        self.assertTrue(made.is_mutable())
        self.assertEqual(self.run_one(made.list()), {})
        for path in ("~", "/"):
            root = self.run_one(self.drive.get_directory_at_path(path))
            self.assertEqual(self.run_one(root.list()), {})
