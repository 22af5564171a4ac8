"""The search for what may be nowhere finds what is planted, and fails the run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.base32 import b2a
from tests.hygiene import MARK, Needles, marked, search_tree, shapes_in
from tests.patience import PATIENCE
from tests.processtable import running_with, staying_with
from tests.unit import planted

ROOT = Path(__file__).parents[2]

#: By the name of the test that plants it, what is found and where.
FOUND = {
    "test_cap_in_log": "a cap in test_cap_in_log-*/node/node.log",
    "test_cap_in_an_address_in_log": "a cap in test_cap_in_an_address_in_log-*/node/node.log",
    "test_read_cap_made_of_private_root_in_log": "a read key in base32 in *.log",
    "test_token_in_log": "what web-token holds in hexadecimal in *.log",
    "test_key_in_log": "a node's key in *.log",
    "test_plaintext_in_log_that_is_removed": "plaintext in other.log",
    "test_plaintext_in_store": "plaintext in *share",
    "test_token_in_settings_beside_private": "what web-token holds in base32 in *node.url",
    "test_twisted": "a cap in a log event of Twisted",
    "test_python": "a private key in a log record of Python",
    "test_printed": "plaintext in captured stderr call",
    "test_errors_of_a_process": "a cap in what ampgrid printed as errors",
    "test_environment": "a cap in the environment given to true",
    "test_arguments": "a token in base32 in the arguments of sh",
}
LEFT = ["something left in left-behind-*", "something left in the process list: sleep"]


class ShapesTests(SynchronousTestCase):
    def test_what_shows_nothing_is_not_found(self) -> None:
        verify = "URI:CHK-Verifier:" + "a" * 26 + ":" + "b" * 52 + ":3:10:1000"
        for text in (verify, "URI:DIR-Verifier:" + "a" * 52, "URI:LIT:krugkidr", "URI:CHK:..."):
            self.assertEqual(shapes_in(text.encode()), set(), text)

    def test_every_kind_of_cap_is_found(self) -> None:
        for kind in ("CHK", "DIR", "DIR-RO"):
            for colon in (":", "%3A"):
                cap = f"URI:{kind}:{'a' * 26}:{'b' * 52}".replace(":", colon)
                self.assertEqual(shapes_in(f"x{cap}".encode()), {"a cap"}, cap)
        self.assertEqual(shapes_in(b"URI:LIT:" + b"a" * 40), {"a cap"})

    def test_marked_bytes_are_marked_where_there_is_room(self) -> None:
        for size in (0, len(MARK) - 1, len(MARK), 4095, 4096, 4096 + len(MARK), 100_000):
            data = marked(bytes(size))
            self.assertEqual(len(data), size)
            self.assertEqual(data.count(MARK), max(0, (size - len(MARK)) // 4096 + 1))


class MeanwhileTests(SynchronousTestCase):
    """Others go on while it is looked."""

    def setUp(self) -> None:
        self.place = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.place, ignore_errors=True)

    def test_a_directory_that_goes_away(self) -> None:
        for name in ("a/private", "b/private", "c"):
            (self.place / name).mkdir(parents=True)
        secret = os.urandom(32)
        (self.place / "c" / "node.log").write_bytes(secret)
        known = Needles()
        known.secrets.add_bytes(secret, "a secret")
        scandir = os.scandir

        def vanishing(path: Any) -> Any:
            for name in ("a", "b"):
                if Path(path) == self.place / name:
                    (self.place / name / "private").rmdir()
                    (self.place / name).rmdir()
            return scandir(path)

        with mock.patch.object(os, "scandir", vanishing):
            found = search_tree(self.place, known)
        self.assertEqual([each.place for each in found], [f"{self.place.name}/c/node.log"])

    def test_a_process_that_is_ending(self) -> None:
        entry = f"ENDING={self.place}".encode()
        words = [sys.executable, "-c", "input()"]
        environment = dict([entry.decode().split("=")])
        with subprocess.Popen(words, stdin=subprocess.PIPE, env=environment) as ending:
            self.assertEqual([each.pid for each in running_with(entry)], [ending.pid])
            assert ending.stdin is not None
            ending.stdin.close()
            self.assertEqual(staying_with(entry), [])


class PlantedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.place)
        self.told = self.place / "pid"
        self.temporary = self.place / "temporary"
        self.temporary.mkdir()

    def run_planted(self, *words: str) -> tuple[int, str]:
        """Run the planted tests as another run; returns its exit status and what it printed."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
        environment |= {"TMPDIR": str(self.temporary), planted.TELL: str(self.told)}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            check=False,
            timeout=4 * PATIENCE,
        )
        if self.told.exists():
            os.kill(int(self.told.read_text()), signal.SIGKILL)
        return done.returncode, (done.stdout + done.stderr).decode()

    def test_each_is_found_with_its_test(self) -> None:
        status, text = self.run_planted("-n", "1", planted.__file__)
        self.assertEqual(status, 1, text)
        lines = text[text.index(" hygiene ") :].splitlines()[1:]
        for name, what in FOUND.items():
            found = [line.partition(", by ")[0] for line in lines if line.endswith(f"::{name}")]
            self.assertTrue(any(fnmatchcase(each, what) for each in found), (name, text))
        for what in LEFT:
            self.assertTrue(any(fnmatchcase(line, f"{what}, by no test") for line in lines), text)
        self.assertNotIn("test_nothing", text)
        for secret in (planted.CAP, planted.DIR.to_string(), b2a(planted.TOKEN), MARK.decode()):
            self.assertNotIn(secret, text)

    def test_a_run_without_any_passes_and_leaves_nothing(self) -> None:
        status, text = self.run_planted("-k", "nothing", planted.__file__)
        self.assertEqual(status, 0, text)
        self.assertEqual(list(self.temporary.iterdir()), [])
