"""Snapshots made over a grid that is a dict: what is read, uploaded, made, reused and named."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import DirCap, parse_cap
from ampgrid.cli.backup_database import Memory
from ampgrid.cli.backup_grid import TrialSide
from ampgrid.cli.backup_patterns import Patterns
from ampgrid.cli.backup_plan import CHECK_SECONDS, Child
from ampgrid.cli.backup_ports import Health
from ampgrid.cli.backup_run import Backup, Tally
from ampgrid.cli.backup_walk import Reading
from ampgrid.cli.console import ProgressBar
from ampgrid.cli.problems import Problems
from ampgrid.errors import FileError, NotEnoughPeersError, NotHappyError
from ampgrid.store.backupdb import BackupDatabase, KnownDirectory, KnownFile


class Killed(BaseException):
    """The process is gone."""


class Grid:
    """What was put, by cap, and how often anything was done."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.directories: dict[str, list[Child]] = {}
        self.steps: list[str] = []
        self.unhealthy: dict[str, Health] = {}
        self.dies_at: int | None = None
        self.on_upload: Callable[[str], None] = lambda _name: None
        self._random = Random(1)

    def step(self, what: str) -> None:
        if self.dies_at == len(self.steps):
            raise Killed
        self.steps.append(what)

    async def upload(self, descriptor: int, name: str, bar: ProgressBar) -> str:
        self.step(f"upload {os.path.basename(name)}")
        data = os.read(descriptor, 1_000_000)
        self.on_upload(name)
        cap = f"FILE:{data!r}"
        self.files[cap] = data
        self.unhealthy.pop(cap, None)
        return cap

    async def make_directory(self, children: list[Child], label: str) -> str:
        self.step(f"make {os.path.basename(label)}")
        cap = DirCap.create(self._random.randbytes)
        self.directories[cap.get_readonly().to_string()] = list(children)
        return cap.to_string()

    async def health(self, cap: str) -> Health:
        self.step("check")
        return self.unhealthy.get(cap, Health.SOUND)

    def tree(self, cap: str) -> Any:
        """Return what a cap leads to: bytes, or a dict of (tree, symlink) by name."""
        if cap in self.directories:
            return {
                child.name: (self.tree(child.cap), child.metadata.get("symlink", False))
                for child in self.directories[cap]
            }
        return self.files[cap] if cap in self.files else parse_cap(cap).data  # type: ignore[union-attr]


class Mortal:
    """A database that a dead process writes to no more."""

    def __init__(self, inner: BackupDatabase, grid: Grid) -> None:
        self._inner = inner
        self._grid = grid

    def file(self, path: bytes) -> KnownFile | None:
        return self._inner.file(path)

    def directory(self, contents: bytes) -> KnownDirectory | None:
        return self._inner.directory(contents)

    def record(self, files: Any = (), directories: Any = ()) -> None:
        if self._grid.dies_at == len(self._grid.steps):
            raise Killed
        self._inner.record(files, directories)


class BackupCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.tree = self.root / "tree"
        self.tree.mkdir()
        self.grid = Grid()
        self.database = BackupDatabase(self.root / "backup.sqlite")
        self.addCleanup(self.close)
        self.now = 2e9  # Later than any file of these tests has changed.
        self.linked = True
        self.drawn = 1.0
        self.patterns = Patterns()

    def close(self) -> None:
        self.database.close()

    def make(self, *names: str) -> None:
        for name in names:
            path = self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir(exist_ok=True)
            else:
                path.write_bytes(name.encode() * 20)

    def begin(self, grid: Any = None, *, keep: bool = True) -> list[Any]:
        """Make a snapshot; returns its directory, or the failure, in a list."""
        self.problems = Problems(as_json=True)
        self.told: list[str] = []
        self.reading = Reading(self.patterns, self.problems.add, self.told.append)
        clock = iter(range(10**9))
        run = Backup(
            grid or self.grid,
            Memory(Mortal(self.database, self.grid), lambda: self.now + next(clock), keep=keep),
            self.reading,
            self.problems,
            ProgressBar(shown=False),
            now=lambda: self.now,
            uniform=lambda: self.drawn,
            linked=self.linked,
        )
        self.tally = run.tally
        self.grid.steps = []
        outcome: list[Any] = []
        Deferred.fromCoroutine(run.run(str(self.tree))).addBoth(outcome.append)
        return outcome

    def backup(self) -> Child:
        [outcome] = self.begin()
        if isinstance(outcome, Failure):
            outcome.raiseException()
        assert isinstance(outcome, Child)
        return outcome

    def failed(self) -> list[str]:
        return [os.path.basename(problem.path) for problem in self.problems.found]


class BackupTests(BackupCase):
    def test_all_is_there(self) -> None:
        self.make("a", "d/b", "d/e/c", "empty/")
        os.symlink("../short", self.tree / "d" / "link")
        os.symlink("x" * 200, self.tree / "long")
        tree = self.grid.tree(self.backup().cap)
        self.assertEqual(
            tree,
            {
                "a": (b"a" * 20, False),
                "d": (
                    {
                        "b": (b"d/b" * 20, False),
                        "e": ({"c": (b"d/e/c" * 20, False)}, False),
                        "link": (b"../short", True),
                    },
                    False,
                ),
                "empty": ({}, False),
                "long": (b"x" * 200, True),
            },
        )
        counts = (self.tally.files_uploaded, self.tally.symlinks, self.tally.directories_made)
        self.assertEqual(counts, (3, 2, 4))
        self.assertEqual(self.tally.bytes_uploaded, 20 + 60 + 100)

    def test_it_is_linked_by_what_can_only_read(self) -> None:
        self.make("d/e/f")
        cap = self.backup().cap
        for each in [cap, *(c.cap for held in self.grid.directories.values() for c in held)]:
            if each.startswith("URI:DIR"):
                self.assertTrue(parse_cap(each).is_readonly())

    def test_the_second_one_does_nothing(self) -> None:
        self.make("a", "d/b", "empty/", "empty2/")
        os.symlink("x" * 200, self.tree / "long")
        first = self.backup()
        self.assertTrue(self.grid.steps)
        self.assertEqual(self.backup(), first)
        self.assertEqual(self.grid.steps, [])
        expected = Tally(files_reused=2, bytes_reused=80, symlinks=1, directories_reused=4)
        self.assertEqual(self.tally, expected)

    def test_what_has_changed_alone_is_done(self) -> None:
        self.make("a", "d/b", "d/c", "e/f/g")
        first = self.grid.tree(self.backup().cap)
        (self.tree / "d" / "b").write_bytes(b"new")
        second = self.grid.tree(self.backup().cap)
        self.assertEqual(self.grid.steps, ["upload b", "make d", "make tree"])
        self.assertEqual(second["d"][0]["b"], (b"new", False))
        self.assertEqual(first["d"][0]["b"], (b"d/b" * 20, False))
        self.assertEqual(second["e"], first["e"])

    def test_rights_alone_cost_no_upload_of_others(self) -> None:
        self.make("a", "b")
        self.backup()
        (self.tree / "a").chmod(0o600)
        cap = self.backup().cap
        # Its change time is another, so it is read again.
        self.assertEqual(self.grid.steps, ["upload a", "make tree"])
        modes = {child.name: child.metadata["mode"] for child in self.grid.directories[cap]}
        self.assertEqual(modes["a"], 0o600)

    def test_a_change_that_hides_its_time_is_seen(self) -> None:
        self.make("a")
        self.backup()
        found = (self.tree / "a").stat()
        (self.tree / "a").write_bytes(b"b" * 20)
        os.utime(self.tree / "a", ns=(found.st_atime_ns, found.st_mtime_ns))
        self.assertEqual(self.grid.tree(self.backup().cap)["a"], (b"b" * 20, False))

    def test_a_file_that_is_young_is_not_believed(self) -> None:
        self.make("a")
        self.now = (self.tree / "a").stat().st_ctime + 0.01
        self.backup()
        self.now += 60
        self.backup()
        self.assertIn("upload a", self.grid.steps)
        self.backup()
        self.assertEqual(self.grid.steps, [])

    def test_a_very_deep_tree(self) -> None:
        path = self.tree
        for _ in range(400):
            path = path / "d"
            path.mkdir()
        (path / "file").write_bytes(b"x")
        cap = self.backup().cap
        self.assertEqual(self.tally.directories_made, 401)
        for _ in range(400):
            [child] = self.grid.directories[cap]
            cap = child.cap

    def test_in_a_trial_no_directory_is_taken_for_another(self) -> None:
        self.make("d/f", "e/f")
        for path in (self.tree / "d", self.tree / "e"):
            os.utime(path / "f", (1, 1))
            os.utime(path, (1, 1))
        self.begin(TrialSide(), keep=False)
        self.assertEqual((self.tally.directories_made, self.tally.directories_reused), (3, 0))

    def test_a_trial_does_nothing(self) -> None:
        self.make("a", "d/b", "e/c")
        self.backup()
        (self.tree / "a").write_bytes(b"new")
        self.make("f/g")
        (self.tree / "f" / "g").chmod(0o600)
        self.begin(TrialSide(), keep=False)
        self.assertEqual(self.grid.steps, [])
        told = (self.tally.files_uploaded, self.tally.files_reused, self.tally.directories_made)
        self.assertEqual(told, (2, 2, 2))
        self.backup()
        told = (self.tally.files_uploaded, self.tally.files_reused, self.tally.directories_made)
        self.assertEqual(told, (2, 2, 2))


class CheckTests(BackupCase):
    def test_what_is_old_is_checked(self) -> None:
        self.make("a", "d/b")
        self.backup()
        self.now += CHECK_SECONDS
        self.backup()
        self.assertEqual(self.grid.steps, ["check"] * 4)
        self.backup()
        self.assertEqual(self.grid.steps, [])

    def test_what_nobody_looks_after_is_checked(self) -> None:
        self.make("a", "d/b")
        self.backup()
        self.now += 2 * 86_400
        self.linked = False
        self.backup()
        self.assertEqual(self.grid.steps, ["check"] * 4)

    def test_what_is_not_sound_is_done_again(self) -> None:
        self.make("a", "d/b", "d/c")
        first = self.backup()
        before = self.grid.tree(first.cap)
        self.grid.unhealthy = {f"FILE:{b'd/b' * 20!r}": Health.LOST}
        self.drawn = 0.0
        second = self.backup()
        self.assertEqual(self.grid.steps.count("upload b"), 1)
        self.assertEqual((self.tally.unsound, self.tally.files_uploaded), (1, 1))
        # It has the same cap, so the directories are the same.
        self.assertEqual(second, first)
        known = [each.cap for each in self.database.directories_due(self.now + 1, 100)]
        self.grid.unhealthy = dict.fromkeys(known, Health.LOST)
        third = self.backup()
        self.assertEqual(self.tally.directories_made, 2)
        self.assertNotEqual(third.cap, first.cap)
        self.assertEqual(self.grid.tree(third.cap), before)

    def test_what_is_weak_is_kept_if_the_grid_can_do_no_more(self) -> None:
        self.make("a", "b")
        first = self.backup()
        self.drawn = 0.0

        def refuse(_name: str) -> None:
            raise NotHappyError("too few servers")

        self.grid.on_upload = refuse
        self.grid.unhealthy = {f"FILE:{b'a' * 20!r}": Health.WEAK}
        self.assertEqual(self.backup(), first)
        self.assertIn("upload a", self.grid.steps)
        self.assertFalse(self.problems)
        self.grid.unhealthy = {f"FILE:{b'a' * 20!r}": Health.LOST}
        self.assertEqual(list(self.grid.tree(self.backup().cap)), ["b"])
        self.assertEqual(self.failed(), ["a"])


class TroubleTests(BackupCase):
    def test_what_is_no_file_is_named(self) -> None:
        self.make("a")
        os.mkfifo(self.tree / "pipe")
        tree = self.grid.tree(self.backup().cap)
        self.assertEqual((list(tree), self.reading.special), (["a"], 1))
        self.assertIn("a named pipe", self.told[0])
        self.assertFalse(self.problems)

    def test_what_is_excluded(self) -> None:
        self.make("a", "a.o", "d/b.o", "d/c", ".git/config", "e/.git")
        self.patterns = Patterns(["*.o", "/e"], vcs=True)
        tree = self.grid.tree(self.backup().cap)
        self.assertEqual((sorted(tree), list(tree["d"][0])), (["a", "d"], ["c"]))
        self.assertEqual(self.reading.excluded, 4)

    def test_names_that_have_no_place(self) -> None:
        self.make("a")
        for name in [b"caf\xe9", b"new\nline"]:
            (Path(os.fsdecode(os.fsencode(self.tree) + b"/" + name))).write_bytes(b"x")
        self.assertEqual(list(self.grid.tree(self.backup().cap)), ["a"])
        self.assertEqual(len(self.problems.found), 2)

    def test_two_spellings_of_a_name(self) -> None:
        self.make("cafe\u0301")
        [child] = self.grid.directories[self.backup().cap]
        self.assertEqual((child.name, child.metadata["name"]), ("caf\u00e9", "cafe\u0301"))
        self.assertEqual((self.reading.renamed, bool(self.problems)), (1, False))
        self.make("caf\u00e9")
        self.assertEqual(list(self.grid.tree(self.backup().cap)), ["caf\u00e9"])
        self.assertEqual(self.failed(), ["caf\u00e9"])

    def test_the_directory_of_the_node_is_left_out(self) -> None:
        self.make("a", "node/private")
        found = (self.tree / "node").stat()
        problems = Problems(as_json=True)
        told: list[str] = []
        apart = found.st_dev, found.st_ino
        reading = Reading(Patterns(), problems.add, told.append, apart)
        self.assertEqual([each.name for each in reading.read(str(self.tree), "")], ["a"])
        self.assertIn("of the node", told[0])

    def test_a_file_that_is_gone(self) -> None:
        self.make("a", "b", "c")
        self.grid.on_upload = lambda _: (self.tree / "b").unlink(missing_ok=True)
        self.assertEqual(sorted(self.grid.tree(self.backup().cap)), ["a", "c"])
        self.assertEqual(self.failed(), ["b"])

    def test_a_directory_that_is_gone(self) -> None:
        self.make("a", "d/b")
        (self.tree / "d" / "b").unlink()
        self.grid.on_upload = lambda _: (
            os.path.isdir(self.tree / "d") and (self.tree / "d").rmdir()
        )  # type: ignore[func-returns-value,assignment]
        self.assertEqual(sorted(self.grid.tree(self.backup().cap)), ["a"])
        self.assertEqual(self.failed(), ["d"])

    def test_a_file_that_changes_once(self) -> None:
        self.make("a")

        def change(_name: str) -> None:
            if self.grid.steps == ["upload a"]:
                (self.tree / "a").write_bytes(b"later")

        self.grid.on_upload = change
        self.assertEqual(self.grid.tree(self.backup().cap)["a"], (b"later", False))
        self.assertFalse(self.problems)

    def test_a_file_that_always_changes(self) -> None:
        self.make("a", "b")

        def change(name: str) -> None:
            if name.endswith("/a"):
                with open(name, "ab") as file:
                    file.write(b"x")

        self.grid.on_upload = change
        self.assertEqual(list(self.grid.tree(self.backup().cap)), ["b"])
        self.assertEqual(self.grid.steps.count("upload a"), 2)
        self.assertEqual(self.failed(), ["a"])
        self.assertIn("changed", self.problems.found[0].message)

    def test_a_file_that_the_grid_refuses(self) -> None:
        self.make("a", "b")

        def refuse(name: str) -> None:
            if name.endswith("/a"):
                raise NotHappyError("too few servers")

        self.grid.on_upload = refuse
        self.assertEqual(list(self.grid.tree(self.backup().cap)), ["b"])
        self.assertEqual(self.grid.steps.count("upload a"), 1)
        self.assertEqual(self.failed(), ["a"])

    def test_a_grid_that_takes_no_file(self) -> None:
        self.make("a", "b/c")

        def refuse(name: str) -> None:
            if name.endswith("/c"):
                raise NotEnoughPeersError("fewer servers than any file needs")

        self.grid.on_upload = refuse
        self.assertRaises(NotEnoughPeersError, self.backup)
        self.assertFalse(any(step.startswith("make") for step in self.grid.steps))
        # What was uploaded is known to the next one.
        self.grid.on_upload = lambda _name: None
        self.grid.steps.clear()
        self.backup()
        self.assertNotIn("upload a", self.grid.steps)

    def test_nothing_to_read(self) -> None:
        self.make("file")
        self.tree = self.tree / "file"
        self.assertRaises(FileError, self.backup)
        self.tree = self.tree / "missing"
        self.assertRaises(FileError, self.backup)


class KillTests(BackupCase):
    def test_killed_at_every_step(self) -> None:
        """What was written is believed, and the end is the same; the work is done about once."""
        self.make("a", "b", "d/c", "d/e/f", "d/e/g", "h/i", "empty/")
        self.grid.dies_at = None
        whole = self.grid.tree(self.backup().cap)
        steps = len(self.grid.steps)
        self.assertEqual(steps, 6 + 5)
        for at in range(steps):
            self.database.close()
            (self.root / "backup.sqlite").unlink()
            self.database = BackupDatabase(self.root / "backup.sqlite")
            self.grid.dies_at = at
            [outcome] = self.begin()
            self.assertIsInstance(outcome, Failure)
            outcome.trap(Killed)
            self.grid.dies_at = None
            self.database.close()
            self.database = BackupDatabase(self.root / "backup.sqlite")
            self.assertEqual(self.grid.tree(self.backup().cap), whole)
            # One file or directory may have been done and not been written down.
            self.assertLessEqual(len(self.grid.steps), steps - at + 1, at)
        self.backup()
        self.assertEqual(self.grid.steps, [])
