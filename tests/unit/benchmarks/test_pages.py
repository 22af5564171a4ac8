"""Measured tables are written between their marks, and nowhere else."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.benchmarks import layers, pages, parts, scale

PAGE = """# A page
<!-- measured: one -->
old
<!-- end -->
Words \\1 of a person.
<!-- measured: two -->
<!-- end -->
"""


class PutTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.page = Path(self.mktemp())
        self.page.write_text(PAGE)

    def test_sections_are_replaced_and_the_rest_stays(self) -> None:
        pages.put(self.page, {"one": "new \\2", "two": "| a |\n| b |\n"})
        expected = PAGE.replace("old", "new \\2").replace("two -->\n", "two -->\n| a |\n| b |\n")
        self.assertEqual(self.page.read_text(), expected)

    def test_again_makes_no_difference(self) -> None:
        for _ in range(2):
            pages.put(self.page, {"one": "new", "two": "more"})
        self.assertEqual(self.page.read_text().count("new"), 1)

    def test_nothing_is_written_where_marks_are_missing_or_twice(self) -> None:
        for name, text in (("three", PAGE), ("one", PAGE + PAGE)):
            self.page.write_text(text)
            with self.assertRaises(ValueError):
                pages.put(self.page, {name: "new"})
            self.assertEqual(self.page.read_text(), text)


class TableTest(SynchronousTestCase):
    def test_text_and_numbers(self) -> None:
        rows: list[list[object]] = [["a|b", 1.23456, 12_345], ["c", 0.0, "d"]]
        self.assertEqual(
            pages.table(["", "x", "y"], rows),
            "|  | x | y |\n| --- | ---: | ---: |\n| a\\|b | 1.23 | 12,345 |\n| c | 0.00 | d |",
        )

    def test_a_machine_is_told_and_not_named(self) -> None:
        machine = pages.machine()
        self.assertEqual(
            machine.keys() & {"cores", "memory", "load before"}, {"cores", "memory", "load before"}
        )
        self.assertNotIn(socket.gethostname(), " ".join(machine.values()).split())


class CheckPlacesTest(SynchronousTestCase):
    def test_a_program_measures_nothing_that_it_could_not_write(self) -> None:
        missing = self.mktemp()
        for program in (layers, parts, scale):
            self.refuse(program.main, ["--write", missing], "there is no page")
        for program in (parts, scale):
            self.refuse(program.main, ["--json", f"{missing}/a.json"], "there is no directory")

    def refuse(self, main: Callable[[list[str]], None], words: list[str], why: str) -> None:
        """Check that it ends with status 2, and says why."""
        said = io.StringIO()
        with redirect_stderr(said):
            ended = self.assertRaises(SystemExit, main, words)
        self.assertEqual(ended.code, 2)
        self.assertIn(why, said.getvalue())
