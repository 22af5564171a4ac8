"""The group: lazy, quiet, and never a traceback."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import click

from ampgrid import __version__
from ampgrid.cli import main
from ampgrid.cli.console import _counts
from ampgrid.cli.params import argument_text
from ampgrid.commands.errors import NotEnoughSharesFoundError
from ampgrid.errors import BadAddressError, BadCapError, FileError, NotEnoughSharesError
from tests.unit.cli.command_line import CommandLineCase, run

ROOT = Path(__file__).parents[3]


def failing(error: BaseException) -> click.Command:
    """Return a subcommand that raises ``error``."""

    @click.command()
    def broken() -> None:
        raise error

    return broken


class MainTests(CommandLineCase):
    def test_version(self) -> None:
        self.assertEqual(self.done("--version").out, f"ampgrid {__version__}\n")

    def test_the_version_needs_neither_twisted_nor_cryptography(self) -> None:
        code = (
            "import sys; from ampgrid.cli.main import invoke; invoke(['--version']);"
            "sys.exit(len({'twisted', 'cryptography', 'rich'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_every_subcommand_has_the_help_of_the_list(self) -> None:
        listed = self.done("--help").out
        for name, (_, _, line) in main.SUBCOMMANDS.items():
            own = self.done(name, "--help").out
            self.assertIn(line, own.replace("\n  ", " "))
            self.assertIn(f"{name} ", listed)

    def test_no_subcommand_shows_the_help(self) -> None:
        outcome = run([])
        self.assertEqual((outcome.status, outcome.out), (2, ""))
        self.assertIn("create-introducer", outcome.err)

    def test_wrong_usage_is_one_line_that_says_where_to_look(self) -> None:
        self.assertIn("--help", self.refused(2, "frobnicate"))
        self.assertIn("'ampgrid put --help'", self.refused(2, "put"))
        self.assertIn("--colour", self.refused(2, "put", "x", "--colour"))
        self.assertIn("3/7/10", self.refused(2, "put", "x", "--shares", "3"))
        self.assertIn("500K", self.refused(2, "get", "x", "--offset", "one"))
        told = self.refused(2, "export-share", "a" * 26, "256", "x")
        self.assertIn("a whole number from 0 to 255", told)

    def test_errors_in_json(self) -> None:
        for words in [["put", "--json"], ["status", "--json"], ["get", "x", "--json"]]:
            error = json.loads(self.refused(run(words).status, *words))["error"]
            self.assertEqual(set(error), {"status", "name", "message"})
            self.assertEqual(error["status"], run(words).status)

    def test_the_directory_of_the_environment_and_of_the_option(self) -> None:
        self.assertIn("/nonexistent/ampgrid", self.refused(3, "status"))
        self.assertIn(str(self.root / "x"), self.refused(3, "-d", self.root / "x", "status"))


class FailureTests(CommandLineCase):
    def fails(self, error: BaseException, *words: str) -> tuple[int, str]:
        with mock.patch.object(main._LazyGroup, "get_command", return_value=failing(error)):
            outcome = run([*words, "broken"])
        self.assertEqual(outcome.out, "")
        return outcome.status, outcome.err

    def test_an_expected_error_is_one_line(self) -> None:
        error = NotEnoughSharesError("Found 1\nof 3.\x1b[31m", found=1, needed=3)
        self.assertEqual(self.fails(error), (5, "ampgrid: Found 1 of 3. [31m\n"))

    def test_json_tells_how_many_shares_there_were(self) -> None:
        told = "found 1 of the 3 shares that are needed (of 10 made), asking 2 servers"
        for error, counts in [
            (NotEnoughSharesFoundError(told), {"found": 1, "needed": 3}),
            (NotEnoughSharesError("x", found=1, needed=3), {"found": 1, "needed": 3}),
            (NotEnoughSharesFoundError("none"), {}),
            (FileError(told), {}),
        ]:
            self.assertEqual(_counts(error, str(error)), counts)

    def test_an_unexpected_error_is_one_line_and_a_file(self) -> None:
        self.patch(tempfile, "tempdir", str(self.root))
        status, line = self.fails(ZeroDivisionError("secret"))
        self.assertEqual(status, 1)
        (log,) = self.root.iterdir()
        self.assertEqual(
            line, f"ampgrid: Unexpected ZeroDivisionError; the details are in {log}.\n"
        )
        self.assertIn("ZeroDivisionError: secret", log.read_text())
        self.assertEqual(log.stat().st_mode & 0o077, 0)

    def test_debug_shows_the_traceback(self) -> None:
        status, text = self.fails(ZeroDivisionError("here"), "--debug")
        self.assertEqual(status, 1)
        self.assertIn("Traceback", text)

    def test_interrupted(self) -> None:
        self.assertEqual(self.fails(KeyboardInterrupt()), (130, "ampgrid: Interrupted.\n"))

    def test_an_error_of_the_system_names_the_file(self) -> None:
        error = FileNotFoundError(2, "No such file or directory", "/x/y")
        self.assertEqual(self.fails(error), (8, "ampgrid: /x/y: No such file or directory.\n"))


class BrokenPipeTests(CommandLineCase):
    def test_a_reader_that_goes_away_is_no_story(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "ampgrid", "--help"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        with process.stderr:
            self.assertEqual(process.stderr.read(), b"")
        self.assertEqual(process.wait(), 141)


class StandardOutputTests(CommandLineCase):
    def shell(self, words: str) -> subprocess.CompletedProcess[bytes]:
        """Run the command with its streams as only a shell can close them."""
        script = f"exec {shlex.quote(sys.executable)} -m ampgrid {words}"
        return subprocess.run(["sh", "-c", script], cwd=ROOT, capture_output=True, check=False)

    def test_a_closed_one_is_noticed_before_anything_is_done(self) -> None:
        path = shlex.quote(str(self.root / "node"))
        done = self.shell(f"create-node {path} >&-")
        self.assertEqual(done.returncode, 8)
        self.assertIn(b"ampgrid: The standard output is closed", done.stderr)
        self.assertEqual(done.stderr.count(b"\n"), 1)
        self.assertFalse((self.root / "node").exists())

    def test_a_full_one_is_one_line(self) -> None:
        for words in ("--help", f"create-node {shlex.quote(str(self.root / 'n'))}"):
            done = self.shell(f"{words} >/dev/full")
            told = b"ampgrid: The standard output could not be written: No space left on device.\n"
            self.assertEqual((done.returncode, done.stderr), (8, told), words)

    def test_other_closed_streams(self) -> None:
        done = self.shell("get - 0<&-")
        self.assertEqual(done.returncode, 8)
        self.assertIn(b"The standard input could not be read", done.stderr)
        self.assertEqual(self.shell("get nonsense 2>&-").returncode, 9)


class OptionTests(CommandLineCase):
    def test_where_the_options_of_the_whole_stand(self) -> None:
        hint = self.refused(2, "run", "-d", "p3")
        self.assertIn("-d stands before the command: ampgrid -d DIR run", hint)
        hint = self.refused(2, "keeper", "run", "--debug")
        self.assertIn("ampgrid --debug keeper run", hint)


class StandardInputTests(CommandLineCase):
    def given(self, data: bytes) -> None:
        self.patch(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        self.addCleanup(sys.stdin.close)

    def test_a_dash_reads_it(self) -> None:
        self.given(b"  URI:x \n\n")
        self.assertEqual(argument_text("-", "a cap"), "URI:x")
        self.assertEqual(argument_text("URI:y", "a cap"), "URI:y")

    def test_a_cap_that_was_broken_over_lines_is_whole_again(self) -> None:
        self.given(b"  URI:x:\r\n  abc \n\ndef")
        self.assertEqual(argument_text("-", "a cap"), "URI:x:abcdef")

    def test_what_is_no_text_is_refused(self) -> None:
        for data in [b"", b"\n \n", b"\xff", b"a" * 65_537]:
            self.given(data)
            self.assertRaises(BadCapError, argument_text, "-", "a cap")
            self.given(data)
            self.assertRaises(BadAddressError, argument_text, "-", "the address")
