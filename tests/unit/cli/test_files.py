"""put, get, status and run as far as they go without a node; what they name to it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ampgrid.cli.changing import removal_lines
from ampgrid.cli.files import naming, readable, source_of, target_of
from ampgrid.cli.status import rows_of
from ampgrid.cli.summary import duration, peer_line
from ampgrid.commands.errors import FileFailedError
from ampgrid.errors import BadCapError, FileError
from tests.unit.cli.command_line import CommandLineCase

LIT = "URI:LIT:krugkidfnzsc4"
VERIFY = "URI:CHK-Verifier:" + "a" * 26 + ":" + "a" * 52 + ":3:10:1000"


class SourceTests(CommandLineCase):
    def test_a_file_however_it_is_named(self) -> None:
        for name in [b"f", b"-f", b"with space", "\u00fc".encode(), b"caf\xe9", b"new\nline"]:
            path = os.path.join(os.fsencode(self.root), name)
            with open(path, "wb") as file:
                file.write(name)
            with source_of(os.fsdecode(path)) as source:
                self.assertEqual(os.pread(source, 100, 0), name)

    def test_standard_input(self) -> None:
        with source_of("-") as source:
            self.assertEqual(source, 0)

    def test_a_pipe(self) -> None:
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        with source_of(f"/dev/fd/{reading}") as source:
            self.assertTrue(stat.S_ISFIFO(os.fstat(source).st_mode))

    def test_what_cannot_be_read(self) -> None:
        (self.root / "f").write_text("x")
        for name in [self.root, self.root / "missing", self.root / "f" / "g"]:
            error = self.assertRaises(FileError, source_of(str(name)).__enter__)
            self.assertIn(str(name), str(error))

    def test_what_the_node_says_names_the_file(self) -> None:
        for file, name in [("a b", "a b"), ("-", "the standard input")]:
            with self.assertRaises(FileError) as caught, naming(file, "input"):
                raise FileFailedError("cannot read the file: broken")
            self.assertEqual(str(caught.exception), f"{name}: cannot read the file: broken")


class TargetTests(CommandLineCase):
    def write(self, out: Path, data: bytes) -> None:
        with target_of(str(out)) as target:
            os.write(target, data)
            self.assertFalse(out.is_file() and out.read_bytes() == data)

    def test_a_new_file_and_one_to_replace(self) -> None:
        out = self.root / "out"
        self.write(out, b"first")
        before = os.umask(0)
        os.umask(before)
        self.assertEqual(stat.S_IMODE(out.stat().st_mode), 0o666 & ~before)
        out.chmod(0o640)
        self.write(out, b"second")
        self.assertEqual(out.read_bytes(), b"second")
        self.assertEqual(stat.S_IMODE(out.stat().st_mode), 0o640)
        self.assertEqual(os.listdir(self.root), ["out"])

    def test_a_name_as_long_as_they_come(self) -> None:
        self.write(self.root / ("\u00fc" * 127), b"x")

    def test_it_is_left_alone_when_something_fails(self) -> None:
        out = self.root / "out"
        out.write_text("old")
        with self.assertRaises(KeyboardInterrupt), target_of(str(out)) as target:
            os.write(target, b"new")
            raise KeyboardInterrupt
        self.assertEqual(out.read_text(), "old")
        self.assertEqual(os.listdir(self.root), ["out"])

    def test_the_file_behind_a_link_is_replaced(self) -> None:
        (self.root / "link").symlink_to(self.root / "file")
        self.write(self.root / "link", b"x")
        self.assertTrue((self.root / "link").is_symlink())
        self.assertEqual((self.root / "file").read_bytes(), b"x")

    def test_standard_output_and_devices(self) -> None:
        for name in [None, "-"]:
            with target_of(name) as target:
                self.assertEqual(target, 1)
        with target_of("/dev/null") as target:
            self.assertTrue(stat.S_ISCHR(os.fstat(target).st_mode))

    def test_what_cannot_be_written(self) -> None:
        for name in [self.root, self.root / "no" / "file"]:
            error = self.assertRaises(FileError, target_of(str(name)).__enter__)
            self.assertIn(str(name), str(error))


class CapArgumentTests(CommandLineCase):
    def test_only_what_can_be_read_by(self) -> None:
        self.assertEqual(readable(f" {LIT}\n"), LIT)
        self.assertRaises(BadCapError, readable, VERIFY)
        self.assertRaises(BadCapError, readable, "URI:DIR:x")

    def test_a_bad_cap_is_refused_before_anything_else(self) -> None:
        self.refused(9, "get", LIT + "!")
        self.refused(9, "get", "-", stdin=b"URI:CHK:1")
        for nothing in (b"", b"\xff\x00"):
            self.refused(9, "get", "-", stdin=nothing)
        self.refused(9, "get", VERIFY)


class NoNodeTests(CommandLineCase):
    def test_the_way_to_start_it_is_told(self) -> None:
        self.done("create-node", self.root / "n")
        (self.root / "f").write_text("x")
        here = ["-d", self.root / "n"]
        # Not here: commands that start a reactor (tests/integration).
        self.refused(8, *here, "put", self.root / "missing")
        self.refused(8, *here, "get", LIT, self.root)
        self.assertIn("create-node", self.refused(3, "-d", self.root / "no", "run"))
        self.assertIn("OUT is empty", self.refused(8, *here, "get", LIT, ""))
        self.assertIn("FILE is empty", self.refused(8, *here, "put", ""))

    def test_a_key_that_cannot_be_read_is_named(self) -> None:
        told = self.done("create-node", self.root / "a b", "--listen", "127.0.0.1:9").out
        self.assertIn(f"ampgrid -d '{self.root / 'a b'}' run", told)
        self.assertIn("this is a grid of its own", told)
        key = self.root / "a b" / "private" / "node.pem"
        key.write_text("junk")
        self.assertIn(str(key), self.refused(3, "-d", self.root / "a b", "address"))


class StatusTests(CommandLineCase):
    def test_a_peer_is_a_line(self) -> None:
        peer = {
            "node_id": "abc",
            "nickname": "a\x1b[2Jb",
            "state": "connected",
            "addresses": ["192.0.2.1:7420"],
            "services": ["storage"],
            "software": "ampgrid/1",
            "dialled": True,
            "since": None,
            "last_error": "",
            "is_introducer": False,
        }
        self.assertEqual(peer_line(peer), "a [2Jb abc: connected, storage, 192.0.2.1:7420")
        lost = peer | {"nickname": "", "state": "waiting", "since": 0.0, "last_error": "refused"}
        self.assertRegex(peer_line(lost), r"\Aabc: waiting since \d{4}-.*, storage, refused\Z")

    def test_nested_facts_become_rows(self) -> None:
        facts = {
            "node": {"id": "abc", "open": False},
            "peers": [{"id": "x", "up": True}, {"id": "y", "up": False}],
            "errors": [],
            "nickname": "a\x1b[2Jb",
            "quota": None,
        }
        self.assertEqual(
            list(rows_of(facts)),
            [
                ("node.id", "abc"),
                ("node.open", "no"),
                ("peers", "id x, up yes"),
                ("peers", "id y, up no"),
                ("errors", "none"),
                ("nickname", "a [2Jb"),
                ("quota", "-"),
            ],
        )

    def test_a_time_has_one_unit(self) -> None:
        found = [duration(seconds) for seconds in (0, 119, 120, 7_199, 7_200, 172_799, 172_800)]
        self.assertEqual(found, ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"])


class RemovalTests(CommandLineCase):
    def test_what_was_held_by_its_directory_has_no_leases_and_is_not_kept(self) -> None:
        literal, shares = {"path": "a:x", "cap": LIT}, {"path": "a:y", "cap": "URI:CHK:..."}
        for removed, leased in (([literal], False), ([shares], True), ([literal, shares], True)):
            told = "\n".join(removal_lines(removed, 31))
            self.assertIs("31 days" in told, leased)
            self.assertIs("kept drop" in told, leased)
