"""``ampgrid backup`` and ``restore`` on a grid of processes."""

from __future__ import annotations

import json
import os
import signal
import stat
from pathlib import Path
from random import Random
from typing import Any

from ampgrid.caps import LitCap
from ampgrid.commands.drive import LinkChild
from tests.integration.processes import TWO_OF_FOUR, GridCase, ask, start, wait_until


def state_of(root: Path) -> dict[str, tuple[Any, ...]]:
    """Return {path: all that a backup keeps of it} of a tree."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        known = path.lstat()
        kept: tuple[Any, ...] = known.st_mode, known.st_mtime_ns
        if stat.S_ISLNK(known.st_mode):
            kept = (*kept, os.readlink(path))
        elif stat.S_ISREG(known.st_mode):
            kept = (*kept, path.read_bytes())
        found[str(path.relative_to(root))] = kept
    return found


class BackupTests(GridCase):
    words = TWO_OF_FOUR

    def setUp(self) -> None:
        super().setUp()
        self.tree = self.place / "tree"
        self.path = f"private:{self.place.name}"

    def make(self) -> None:
        """Make a tree with one of each."""
        # Not as another test has it, or its directories would be there already.
        random = Random(self.place.name)
        (self.tree / "docs" / "old").mkdir(parents=True)
        (self.tree / "empty").mkdir()
        for number, size in enumerate([0, 10, 56, 5_000, 200_000]):
            (self.tree / "docs" / f"file {number}").write_bytes(random.randbytes(size))
        (self.tree / "docs" / "old" / "caf\u00e9").write_bytes(random.randbytes(99))
        (self.tree / "cafe\u0301").write_bytes(b"decomposed" * 20)
        (self.tree / "script").write_bytes(b"#!/bin/sh\n")
        (self.tree / "script").chmod(0o750)
        (self.tree / "secret").write_bytes(b"x" * 100)
        (self.tree / "secret").chmod(0o400)
        (self.tree / "hard").hardlink_to(self.tree / "script")
        os.symlink("docs/file 1", self.tree / "link")
        os.symlink("/nowhere/" + "x" * 200, self.tree / "dangling")
        for number, path in enumerate(sorted(self.tree.rglob("*"))):
            os.utime(path, ns=(1, 10**18 + number * 1_234_567_891), follow_symlinks=False)
        (self.tree / "docs" / "old").chmod(0o500)
        self.tree.chmod(0o711)
        os.utime(self.tree, ns=(1, 10**18 + 7))

    def json(self, *words: object, status: int = 0) -> Any:
        outcome = self.grid.client(*words, "--json")
        self.assertEqual((outcome.status, outcome.err), (status, ""))
        return outcome.json()

    def backup(self, *words: object, status: int = 0) -> Any:
        return self.json("backup", self.tree, self.path, *words, status=status)

    def restore(self, out: Path, *words: object, status: int = 0, path: str = "") -> Any:
        return self.json("restore", path or self.path, out, *words, status=status)

    def test_three_snapshots_and_back(self) -> None:
        self.make()
        first_state = state_of(self.tree)
        trial = self.backup("--dry-run")
        self.assertEqual((trial["files_uploaded"], trial["snapshot"]), (10, None))
        self.assertEqual(self.grid.client("ls", self.path).status, 12)

        first = self.backup()
        self.assertEqual((first["files_uploaded"], first["symlinks"]), (10, 2))
        self.assertEqual(first["directories_made"] + first["directories_reused"], 4)
        # An empty one may be there: all that are empty are the same.
        self.assertGreaterEqual(first["directories_made"], 3)
        self.assertEqual((first["renamed"], len(first["notes"])), (1, 1))

        second = self.backup()
        self.assertEqual((second["files_uploaded"], second["bytes_uploaded"]), (0, 0))
        self.assertEqual((second["files_reused"], second["directories_made"]), (10, 0))
        self.assertEqual((second["directories_reused"], second["cap"]), (4, first["cap"]))

        (self.tree / "docs" / "file 3").write_bytes(b"changed" * 100)
        third = self.backup()
        self.assertEqual((third["files_uploaded"], third["bytes_uploaded"]), (1, 700))
        self.assertEqual((third["directories_made"], third["directories_reused"]), (2, 2))

        names = self.client("ls", f"{self.path}/Archives").split()
        dates = [each["snapshot"].rpartition("/")[2] for each in (first, second, third)]
        self.assertEqual(names, [f"{date}/" for date in dates])
        for date in dates:
            self.assertRegex(date, r"^\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ$")

        out = self.place / "out"
        restored = self.restore(out)
        self.assertEqual(restored["source"], f"{self.path}/Latest")
        self.assertEqual((restored["files"], restored["symlinks"]), (10, 2))
        self.assertEqual(state_of(out), state_of(self.tree))
        old = self.place / "old"
        self.restore(old, "--version", dates[0])
        self.assertEqual(state_of(old), first_state)
        self.restore(self.place / "docs", path=f"{self.path}/Archives/{dates[1]}/docs")
        self.assertEqual((self.place / "docs" / "file 3").stat().st_size, 5_000)
        refused = self.grid.client("restore", self.path, out, "--version", "1999")
        self.assertEqual(refused.status, 12)
        self.assertIn(dates[2], refused.err)

        # A snapshot can only be read, by the name that it has as well.
        for path in (f"{self.path}/Latest/script", f"{self.path}/Archives/{dates[0]}/docs/x"):
            self.assertEqual(self.grid.client("mkdir", path).status, 14)

    def test_a_restore_goes_on_and_replaces_nothing_unasked(self) -> None:
        self.make()
        self.backup()
        out = self.place / "out"
        self.assertEqual(self.restore(out, "--dry-run")["files"], 10)
        self.assertFalse(out.exists())
        self.restore(out)
        wanted = state_of(out)
        again = self.restore(out)
        self.assertEqual((again["files"], again["unchanged"]), (0, 12))
        (out / "docs" / "file 1").unlink()
        (out / "script").write_bytes(b"mine")
        (out / "link").unlink()
        (out / "link").write_bytes(b"mine too")
        (out / "docs" / ".ampgrid-0123456789ab.part").write_bytes(b"half")
        refused = self.restore(out, status=8)
        self.assertEqual((refused["files"], refused["failed"]), (1, 2))
        self.assertEqual((out / "script").read_bytes(), b"mine")
        self.assertEqual(sorted(os.listdir(out / "docs")), sorted(os.listdir(self.tree / "docs")))
        replaced = self.restore(out, "--overwrite")
        self.assertEqual((replaced["files"], replaced["symlinks"]), (1, 1))
        self.assertEqual(state_of(out), wanted)

    def test_killed_in_the_middle(self) -> None:
        """What was done is not done again, and no half of a snapshot can be seen."""
        database = self.place / "known"
        self.tree.mkdir()
        self.backup("--database", database)
        random = Random(5)
        for number in range(300):
            path = self.tree / str(number % 10) / str(number)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(random.randbytes(3_000))
        # Its upload is under way for as long as it takes to look and to kill.
        large = self.tree / "large"
        large.touch()
        os.truncate(large, 1_000_000_000)
        client = self.grid.ready["client"]["dir"]
        words = ("backup", self.tree, self.path, "--database", database)
        process = start("-d", client, *words)
        log = database.with_name("known-wal")
        # One group of files takes less, and is durable when the next one is written.
        wait_until(lambda: log.exists() and log.stat().st_size > 60_000)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.assertEqual(process.returncode, -signal.SIGKILL)
        large.unlink()
        self.assertEqual(len(self.client("ls", f"{self.path}/Archives").split()), 1)
        again = self.backup("--database", database)
        self.assertEqual(again["files_uploaded"] + again["files_reused"], 300)
        self.assertGreater(again["files_reused"], 0)
        self.assertGreater(again["files_uploaded"], 0)
        self.restore(self.place / "out")
        self.assertEqual(state_of(self.place / "out"), state_of(self.tree))

    def test_what_cannot_be_kept_is_told(self) -> None:
        self.make()
        os.mkfifo(self.tree / "pipe")
        Path(os.fsdecode(os.fsencode(self.tree) + b"/caf\xe9")).write_bytes(b"x")
        (self.tree / "docs" / "x.pyc").write_bytes(b"x")
        (self.tree / ".git").mkdir()
        done = self.backup("--exclude", "*.pyc", "--exclude-vcs", status=2)
        told = (done["excluded"], done["skipped"], done["failed"], done["files_uploaded"])
        self.assertEqual(told, (2, 1, 1, 10))
        self.assertIn("UTF-8", done["problems"][0]["message"])
        out = self.place / "out"
        self.assertIn("lacks 1", self.restore(out)["notes"][0])
        missing = set(state_of(self.tree)) - set(state_of(out))
        self.assertEqual(missing, {"pipe", ".git", "docs/x.pyc", os.fsdecode(b"caf\xe9")})
        # The last snapshot takes the place of nothing else.
        other = f"{self.path}-2"
        self.client("mkdir", "-p", f"{other}/Latest")
        self.assertEqual(self.grid.client("backup", self.tree, other).status, 12)

    def link(self, path: str, data: bytes, **metadata: object) -> None:
        client = self.grid.ready["client"]["dir"]
        cap, told = LitCap(data).to_string(), json.dumps(metadata)
        ask(client, LinkChild, path=path, cap=cap, metadata=told, overwrite=True)

    def test_nothing_is_written_outside(self) -> None:
        outside = self.place / "outside"
        outside.mkdir()
        (outside / "file").write_bytes(b"mine")
        out = self.place / "out"
        one, two = f"{self.path}/one", f"{self.path}/two"
        self.client("mkdir", "-p", one)
        self.link(f"{one}/d", os.fsencode(outside)[-50:] or b"x", symlink=True)
        self.link(f"{one}/f", b"../outside/file", symlink=True)
        self.link(f"{one}/x", b"data", name="../outside/x")
        self.restore(out, path=one)
        (out / "d").unlink()
        os.symlink(outside, out / "d")
        # Now both links are in the way of a directory and a file of the same names.
        self.client("mkdir", "-p", f"{two}/d")
        self.link(f"{two}/d/file", b"theirs")
        self.link(f"{two}/d/y", b"theirs")
        self.link(f"{two}/f", b"theirs")
        refused = self.restore(out, "--overwrite", path=two, status=8)
        self.assertEqual((refused["failed"], refused["files"]), (1, 1))
        self.assertEqual(os.listdir(outside), ["file"])
        self.assertEqual((outside / "file").read_bytes(), b"mine")
        self.assertEqual((out / "f").read_bytes(), b"theirs")
        self.assertFalse((out / "f").is_symlink())
        self.assertEqual(sorted(os.listdir(self.place)), ["file", "out", "outside"])
        self.assertEqual(sorted(os.listdir(out)), ["d", "f", "x"])
