"""Running one command line in this process."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.cli.main import invoke


@frozen
class Outcome:
    """What a command line left.

    Attributes:
        status: its exit status.
        out: its standard output.
        err: its standard error.
    """

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def run(arguments: Sequence[str], stdin: bytes = b"", **environment: str) -> Outcome:
    """Run ``ampgrid`` with ``arguments``; never with a node directory of the real user."""
    nowhere = {"AMPGRID_DIR": "/nonexistent/ampgrid", "HOME": "/nonexistent"}
    with CliRunner().isolation(input=stdin, env=nowhere | environment) as (out, err, _both):
        status = invoke([str(word) for word in arguments])
        return Outcome(status, out.getvalue().decode(), err.getvalue().decode())


class CommandLineCase(SynchronousTestCase):
    """A test case with a directory for its files."""

    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)

    def done(self, *words: object, stdin: bytes = b"") -> Outcome:
        outcome = run([str(word) for word in words], stdin)
        self.assertEqual((outcome.status, outcome.err), (0, ""), outcome.err)
        return outcome

    def refused(self, status: int, *words: object, stdin: bytes = b"") -> str:
        """Run what must fail: one line on standard error, nothing else."""
        outcome = run([str(word) for word in words], stdin)
        self.assertEqual(outcome.status, status, outcome.err)
        self.assertEqual(outcome.out, "")
        self.assertEqual(outcome.err.count("\n"), 1, outcome.err)
        self.assertTrue(outcome.err.startswith(("ampgrid: ", "{")), outcome.err)
        return outcome.err
