"""What a backup decides: names, dates, what is due, what is left out."""

from __future__ import annotations

import os
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.cli.backup_patterns import VCS_NAMES, Patterns, read_patterns
from ampgrid.cli.backup_plan import (
    CHECK_SECONDS,
    LOCAL_NAME,
    UNLINKED_SECONDS,
    Child,
    contents_hash,
    grid_name,
    is_due,
    is_settled,
    local_name,
    matching_snapshot,
    metadata_of,
    snapshot_name,
    stamp_of,
)
from ampgrid.cli.restore_plan import is_time, mode_of, times_of
from ampgrid.errors import BadArgumentValueError, BadNameError, FileError
from ampgrid.store.backupdb import Stamp
from tests.unit.cli.command_line import CommandLineCase

NFC, NFD = "caf\u00e9", "cafe\u0301"


class NameTests(SynchronousTestCase):
    def test_names_that_have_a_place(self) -> None:
        for name in ["a", "a b", NFC, "-x", "..x", "URI:x"]:
            self.assertEqual(grid_name(name), name)
        self.assertEqual(grid_name(NFD), NFC)

    def test_names_that_have_none(self) -> None:
        for name in ["", ".", "..", "a\nb", "a\x7f", "x" * 256]:
            self.assertRaises(BadNameError, grid_name, name)
        error = self.assertRaises(BadNameError, grid_name, os.fsdecode(b"caf\xe9"))
        self.assertIn("UTF-8", str(error))

    @given(st.text(min_size=1, max_size=300))
    def test_a_name_comes_back_as_it_was(self, name: str) -> None:
        try:
            named = grid_name(name)
        except BadNameError:
            return
        metadata = metadata_of(os.stat("/"), name, named)
        self.assertEqual(LOCAL_NAME in metadata, name != named)
        self.assertEqual(local_name(named, metadata), name)

    @given(st.text(max_size=20), st.one_of(st.text(max_size=20), st.integers(), st.booleans()))
    def test_nobody_names_another_file(self, name: str, told: object) -> None:
        """Whatever a snapshot tells: a name that comes back is a spelling of the child's own."""
        try:
            found = local_name(name, {LOCAL_NAME: told})  # type: ignore[dict-item]
        except BadNameError:
            return
        self.assertEqual(unicodedata.normalize("NFC", found), name)
        self.assertNotIn("/", found)
        self.assertNotIn(found, {"", ".", ".."})

    def test_paths_are_no_names(self) -> None:
        for told in ["../x", "/etc/passwd", "..", "a/b", ""]:
            self.assertEqual(local_name("x", {LOCAL_NAME: told}), "x")
        for name in ["..", "a/b", "", NFD]:
            self.assertRaises(BadNameError, local_name, name, {})


class DateTests(SynchronousTestCase):
    NOW = datetime(2026, 11, 21, 10, 15, tzinfo=UTC).timestamp()
    NAMES = ("2025-12-31T23-59-59Z", "2026-11-20T10-00-00Z", "2026-11-20T11-00-00Z", "kept")

    def test_a_name_is_the_time(self) -> None:
        self.assertEqual(snapshot_name(self.NOW, []), "2026-11-21T10-15-00Z")
        self.assertEqual(snapshot_name(self.NOW + 0.999, []), "2026-11-21T10-15-00Z")

    def test_a_name_is_given_once(self) -> None:
        taken: set[str] = set()
        for _ in range(100):
            taken.add(snapshot_name(self.NOW, taken))
        self.assertEqual(len(taken), 100)
        self.assertEqual(max(taken), "2026-11-21T10-16-39Z")

    def test_the_last_one_of_a_date(self) -> None:
        for date, name in [
            ("2026", self.NAMES[2]),
            ("2026-11-20", self.NAMES[2]),
            ("2026-11-20T10", self.NAMES[1]),
            ("2026-11-20 10:00", self.NAMES[1]),
            ("2026-11-20T10:00:00Z", self.NAMES[1]),
            ("2025", self.NAMES[0]),
            ("kept", "kept"),
            ("2024", None),
            ("2026-1", None),
            ("", None),
            ("k", None),
        ]:
            self.assertEqual(matching_snapshot(self.NAMES, date), name, date)


class DueTests(SynchronousTestCase):
    def due(self, age: float, *, linked: bool = True, drawn: float = 1.0) -> bool:
        return is_due(1e9, 1e9 + age, linked=linked, uniform=lambda: drawn)

    def test_a_small_share_and_all_that_is_old(self) -> None:
        self.assertFalse(self.due(0))
        self.assertFalse(self.due(CHECK_SECONDS - 1))
        self.assertTrue(self.due(CHECK_SECONDS))
        self.assertTrue(self.due(0, drawn=0.0))
        draw = Random(1).random
        drawn = sum(is_due(0.0, 1.0, linked=True, uniform=draw) for _ in range(10_000))
        self.assertTrue(50 < drawn < 200, drawn)

    def test_without_a_snapshot_that_is_looked_after(self) -> None:
        self.assertFalse(self.due(UNLINKED_SECONDS - 1, linked=False))
        self.assertTrue(self.due(UNLINKED_SECONDS, linked=False))

    def test_a_clock_that_went_back(self) -> None:
        self.assertFalse(self.due(-60))
        self.assertTrue(self.due(-2 * UNLINKED_SECONDS))

    def test_a_file_that_may_change_without_a_trace(self) -> None:
        second = 10**9
        stamp = Stamp(1, 0, 1_000 * second + 1, 7)
        self.assertFalse(is_settled(stamp, 1_000.0))
        self.assertFalse(is_settled(stamp, 1_000.04))
        self.assertTrue(is_settled(stamp, 1_000.1))
        # Where the file system has whole seconds only.
        coarse = evolve(stamp, ctime_ns=1_000 * second)
        self.assertFalse(is_settled(coarse, 1_002.0))
        self.assertTrue(is_settled(coarse, 1_003.0))
        # A time that a user has set says nothing.
        self.assertTrue(is_settled(evolve(stamp, mtime_ns=9_000 * second), 1_000.1))


class ContentsTests(SynchronousTestCase):
    ONE = Child("a", "URI:LIT:", {"mode": 0o644, "mtime": 1.5})
    TWO = Child("b", "URI:LIT:aa", {"symlink": True})

    def test_the_order_does_not_count_and_all_else_does(self) -> None:
        known = contents_hash([self.ONE, self.TWO])
        self.assertEqual(contents_hash([self.TWO, self.ONE]), known)
        others = [
            [],
            [self.ONE],
            [evolve(self.ONE, name="c"), self.TWO],
            [evolve(self.ONE, cap="URI:LIT:ab"), self.TWO],
            [evolve(self.ONE, metadata={"mode": 0o644, "mtime": 1.25}), self.TWO],
            [evolve(self.ONE, metadata={"mode": 0o644}), self.TWO],
            [self.ONE, evolve(self.TWO, metadata={"symlink": 1})],
        ]
        hashes = {contents_hash(each) for each in others}
        self.assertEqual(len(hashes | {known}), len(others) + 1)


class PatternTests(CommandLineCase):
    def check(self, pattern: str, out: str, kept: str, *, directory: bool = False) -> None:
        patterns = Patterns([pattern])
        for path in out.split():
            self.assertTrue(patterns.leaves_out(path, is_directory=directory), (pattern, path))
        for path in kept.split():
            self.assertFalse(patterns.leaves_out(path, is_directory=directory), (pattern, path))

    def test_names_at_any_depth(self) -> None:
        self.check("*.pyc", "a.pyc d/e/a.pyc .pyc", "a.pyc.txt pyc a.pyc/b")
        self.check("?.txt", "a.txt d/b.txt", "ab.txt .txt")
        self.check("[ab]x", "ax d/bx", "cx x")
        self.check("[!ab]x", "cx d/-x", "ax x d/x")
        self.check("[]^\\]x", "]x ^x \\x", "ax [x")
        self.check("a.b", "a.b", "axb")
        self.check("[", "[ d/[", "a")
        self.check("(x|y)+", "(x|y)+", "x xy")

    def test_paths(self) -> None:
        self.check("/tmp", "tmp", "d/tmp tmp/x")
        self.check("d/*.o", "d/a.o", "a.o e/d/a.o d/e/a.o")
        self.check("/d/**/a", "d/a d/e/a d/e/f/a", "a e/d/a d/xa")
        self.check("d/**", "d/a d/e/f", "d e/d/f")
        self.check("**/x", "x d/x d/e/x", "dx")
        self.check("a[/]b", "", "a/b")

    def test_directories_only(self) -> None:
        self.check("build/", "", "build d/build")
        self.check("build/", "build d/build", "build2", directory=True)
        self.check("/d/build/", "d/build", "build e/d/build", directory=True)

    def test_version_control(self) -> None:
        for name in VCS_NAMES:
            self.assertTrue(Patterns(vcs=True).leaves_out(f"d/{name}", is_directory=True))
            self.assertFalse(Patterns().leaves_out(f"d/{name}", is_directory=True))
        self.assertFalse(Patterns(vcs=True).leaves_out(".gitignore", is_directory=False))

    def test_what_is_no_pattern(self) -> None:
        for pattern in ["", "/", "//", "x" * 1_001, "a\0"]:
            self.assertRaises(BadArgumentValueError, Patterns, [pattern])

    def test_what_a_set_has_in_it(self) -> None:
        for pattern, has, lacks in [
            ("[a-c]", "abc", "d-"),
            ("[!a-c]", "d-", "abc"),
            ("[a--b]", "", "a"),
            ("[--b]", "-.1ab", "c"),
            ("[+--]", "+,-", "*."),
            ("[a&&b]", "a&b", "c"),
            ("[a||b~~^]", "a|b~^", "c"),
            ("[\\\\d-]", "\\\\d-", "15"),
            ("[]a]", "]a", "["),
            ("[[a]", "[a", "]"),
            ("[a-]", "a-", "b"),
        ]:
            try:
                patterns = Patterns([pattern])
            except BadArgumentValueError:
                self.assertEqual(has, "", pattern)
                continue
            left_out = [c for c in has + lacks if patterns.leaves_out(c, is_directory=False)]
            self.assertEqual(left_out, list(has), pattern)

    @given(
        st.text(alphabet="ab*?[]!/.^-\\(&|~", min_size=1, max_size=12), st.text("ab/.", max_size=9)
    )
    def test_any_text_is_one_or_is_refused(self, pattern: str, path: str) -> None:
        try:
            patterns = Patterns([pattern])
        except BadArgumentValueError:
            return
        self.assertIn(patterns.leaves_out(path, is_directory=True), {True, False})

    def test_a_file_of_patterns(self) -> None:
        file = self.root / "patterns"
        file.write_bytes(b"*.o\n\n# note\n  \ncaf\xe9\n")
        self.assertEqual(read_patterns(str(file)), ["*.o", os.fsdecode(b"caf\xe9")])
        self.assertRaises(FileError, read_patterns, str(self.root / "missing"))
        self.assertRaises(FileError, read_patterns, str(self.root))
        file.write_bytes(b"x\n" * 600_000)
        self.assertRaises(FileError, read_patterns, str(file))


class MetadataTests(CommandLineCase):
    def test_what_is_told_comes_back(self) -> None:
        path = Path(self.root / "f")
        path.write_bytes(b"x")
        path.chmod(0o6751)
        os.utime(path, ns=(1, 1_700_000_000_123_456_789))
        found = path.lstat()
        metadata = metadata_of(found, "f", "f")
        self.assertEqual(mode_of(metadata), 0o751)
        self.assertEqual(times_of(metadata), (found.st_mtime_ns,) * 2)
        self.assertTrue(is_time(found, metadata))
        self.assertEqual((metadata["uid"], metadata["gid"]), (found.st_uid, found.st_gid))
        self.assertEqual(stamp_of(found).mtime_ns, found.st_mtime_ns)
        del metadata["mtime_ns"]
        self.assertTrue(is_time(found, metadata))
        self.assertFalse(is_time(found, metadata | {"mtime": found.st_mtime + 1}))

    def test_what_makes_no_sense_is_passed_over(self) -> None:
        for told in ["x", True, None, -1, 2**70, 1e300, -1e300]:
            self.assertIsNone(times_of({"mtime_ns": told}) if told is not None else None)
            if not isinstance(told, int) or isinstance(told, bool):
                self.assertIsNone(times_of({"mtime": told}))
        for told in ["x", True, None, 1.5]:
            self.assertIsNone(mode_of({"mode": told}))
        self.assertEqual(mode_of({"mode": 0o104777}), 0o777)
        self.assertFalse(is_time(self.root.lstat(), {}))
