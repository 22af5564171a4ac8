"""put, get, status and run as far as they go without a node; what they name to it."""

from __future__ import annotations

import os
import stat

from ampgrid.cli.files import readable_cap, source_of, target_of
from ampgrid.cli.status import rows_of
from ampgrid.errors import BadCapError, FileError
from tests.unit.cli.command_line import CommandLineCase

LIT = "URI:LIT:krugkidfnzsc4"
VERIFY = "URI:CHK-Verifier:" + "a" * 26 + ":" + "a" * 52 + ":3:10:1000"


class SourceTests(CommandLineCase):
    def test_a_file_goes_by_its_absolute_path(self) -> None:
        (self.root / "f").write_text("x")
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.root)
        with source_of("f") as source:
            self.assertEqual(source, {"path": os.path.join(os.getcwd(), "f")})

    def test_standard_input_goes_as_a_descriptor(self) -> None:
        with source_of("-") as source:
            self.assertEqual(source, {"descriptor": 0})

    def test_a_pipe_is_opened_here(self) -> None:
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        with source_of(f"/dev/fd/{reading}") as source:
            self.assertTrue(stat.S_ISFIFO(os.fstat(source["descriptor"]).st_mode))

    def test_what_cannot_be_read(self) -> None:
        for name in [str(self.root), str(self.root / "missing"), str(self.root / "f" / "g")]:
            self.assertRaises(FileError, source_of(name).__enter__)


class TargetTests(CommandLineCase):
    def test_a_new_file_and_one_to_replace(self) -> None:
        out = self.root / "out"
        for _ in range(2):
            with target_of(str(out)) as target:
                self.assertEqual(target, {"path": os.path.realpath(out)})
            out.write_text("old")
        self.assertEqual(out.read_text(), "old")

    def test_the_file_behind_a_link_is_replaced(self) -> None:
        (self.root / "link").symlink_to(self.root / "file")
        with target_of(str(self.root / "link")) as target:
            self.assertEqual(target, {"path": os.path.realpath(self.root / "file")})

    def test_standard_output_and_devices_go_as_descriptors(self) -> None:
        for name in [None, "-"]:
            with target_of(name) as target:
                self.assertEqual(target, {"descriptor": 1})
        with target_of("/dev/null") as target:
            self.assertTrue(stat.S_ISCHR(os.fstat(target["descriptor"]).st_mode))

    def test_what_cannot_be_written(self) -> None:
        for name in [str(self.root), str(self.root / "no" / "file")]:
            self.assertRaises(FileError, target_of(name).__enter__)


class CapArgumentTests(CommandLineCase):
    def test_only_what_can_be_read_by(self) -> None:
        self.assertEqual(readable_cap(f" {LIT}\n"), LIT)
        self.assertRaises(BadCapError, readable_cap, VERIFY)
        self.assertRaises(BadCapError, readable_cap, "URI:DIR:x")

    def test_a_bad_cap_is_refused_before_anything_else(self) -> None:
        self.refused(9, "get", LIT + "!")
        self.refused(9, "get", "-", stdin=b"URI:CHK:1")
        self.refused(2, "get", "-")
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


class StatusTests(CommandLineCase):
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
