"""The command line of `compare.py`: what it asks for, and what it refuses."""

from __future__ import annotations

import io
from contextlib import redirect_stderr

from twisted.trial.unittest import SynchronousTestCase

from tests.benchmarks.compare import arguments, read_arguments
from tests.benchmarks.systems import SYSTEMS


class ArgumentsTests(SynchronousTestCase):
    def refuse(self, words: list[str], why: str) -> None:
        """Check that it ends with status 2, and says why."""
        said = io.StringIO()
        with redirect_stderr(said):
            ended = self.assertRaises(SystemExit, read_arguments, words)
        self.assertEqual(ended.code, 2)
        self.assertIn(why, said.getvalue())

    def test_the_help_quotes_every_system(self) -> None:
        text = " ".join(arguments().format_help().split())
        self.assertIn("--system NAME", text)
        for system in SYSTEMS:
            self.assertIn(repr(system), text)

    def test_works_and_systems_are_chosen(self) -> None:
        options, works = read_arguments(
            ["--quick", "--only", "small", "--only", "idle", "--system", SYSTEMS[2]]
        )
        self.assertEqual([work.name for work in works], ["idle", "small"])
        self.assertEqual((options.runs, options.system), (1, [SYSTEMS[2]]))
        _, slow = read_arguments(["--slow", "--slow-size", "1MB"])
        self.assertEqual([work.name for work in slow], ["slow-small", "slow-transfer"])

    def test_what_cannot_be_done_is_refused(self) -> None:
        missing = self.mktemp()
        for words, why in (
            (["--only", "nope"], "there is no work 'nope' here; there are idle,"),
            (["--slow", "--only", "small"], "there are slow-small,"),
            (["--system", "nope"], "invalid choice: 'nope'"),
            (["--slow", "--slow-size", "nope"], "'nope' is no size"),
            (["--runs", "0"], "--runs and --mbit are more than 0"),
            (["--json", f"{missing}/figures.json"], f"there is no directory {missing!r}"),
            (["--folder", missing], f"there is no directory {missing!r}"),
        ):
            self.refuse(words, why)
