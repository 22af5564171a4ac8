"""``ampgrid recovery`` on directories whose node does not run, and asking for passphrases."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from typing import Any

from ampgrid.node.creation import create_node
from ampgrid.node.directory import NodeDirectory
from ampgrid.node.lock import DirectoryLock
from ampgrid.node.recovery import read_export
from tests.integration.processes import environment
from tests.patience import PATIENCE
from tests.unit.cli.command_line import CommandLineCase, run

WORDS = "correct horse"

#: Makes the standard input the terminal of its session, and runs ampgrid there.
ON_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from ampgrid.cli.main import invoke
sys.exit(invoke(sys.argv[1:]))
"""


class RecoveryTests(CommandLineCase):
    def setUp(self) -> None:
        super().setUp()
        self.node = create_node(self.root / "old", nickname="blue")
        self.file = self.root / "file"
        self.words = self.root / "words"
        self.words.write_text(f"{WORDS}\r\nsecond line\n")

    def export(self, *more: object) -> Any:
        words = ["-d", self.node.path, "recovery", "export", self.file]
        return self.done(*words, "--passphrase-file", self.words, "--json", *more).json()

    def test_out_and_in(self) -> None:
        report = self.export()
        self.assertEqual(report["file"], str(self.file))
        self.assertEqual(report["kept_files"], 0)
        new = self.root / "new"
        words = ["-d", new, "recovery", "import", self.file]
        outcome = run([str(word) for word in words], AMPGRID_PASSPHRASE=WORDS)
        self.assertEqual(outcome.status, 0, outcome.err)
        self.assertIn(report["node_id"], outcome.out)
        self.assertIn("not part of it", outcome.out)
        self.assertIn("must not run at the same time", outcome.err)
        made = NodeDirectory.at(new)
        self.assertEqual(made.key_path.read_bytes(), self.node.key_path.read_bytes())
        again = run([str(word) for word in words], AMPGRID_PASSPHRASE=WORDS)
        self.assertEqual(again.status, 3, again.err)

    def test_a_wrong_passphrase_and_a_damaged_file(self) -> None:
        self.export()
        words = ["-d", self.root / "new", "recovery", "import", self.file]
        told = self.refused(7, *words, "--passphrase-file", "-", stdin=b"wrong words\n")
        self.file.write_bytes(b"no such file")
        again = self.refused(7, *words, "--passphrase-file", self.words)
        self.assertEqual(told, again)
        self.assertIn(str(self.file), told)
        self.file.write_bytes(b"")
        self.assertIn(
            f"{self.file} is empty", self.refused(7, *words, "--passphrase-file", self.words)
        )
        self.assertFalse((self.root / "new").exists())

    def test_to_the_standard_output(self) -> None:
        words = ["-d", self.node.path, "recovery", "export", "-", "--passphrase-file", self.words]
        self.assertIn("not both", self.refused(2, *words, "--json"))
        program = [sys.executable, "-m", "ampgrid", *map(str, words)]
        with self.file.open("wb") as file:
            done = subprocess.run(
                program, stdout=file, stderr=subprocess.PIPE, env=environment(), check=True
            )
        self.assertIn(b"0 kept files", done.stderr)
        self.assertTrue(read_export(self.file, WORDS).node_key)
        terminal, other = pty.openpty()
        with os.fdopen(terminal), os.fdopen(other) as tty:
            done = subprocess.run(
                program, stdout=tty, stderr=subprocess.PIPE, env=environment(), check=False
            )
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"terminal", done.stderr)

    def test_two_quick_interrupts(self) -> None:
        os.mkfifo(self.root / "fifo")
        words = ["-d", self.node.path, "recovery", "export", self.file, "--passphrase-file"]
        program = [sys.executable, "-m", "ampgrid", *map(str, words), str(self.root / "fifo")]
        child = subprocess.Popen(program, stderr=subprocess.PIPE, env=environment())
        # When it is opened for writing, the command reads or is about to. A signal just before it
        # reads is seen after that only, so nothing may keep it reading.
        with (self.root / "fifo").open("wb"):
            for _ in range(2):
                child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=PATIENCE)
        self.assertEqual(child.returncode, 130)
        self.assertIn(b"ampgrid: Interrupted.", err)
        self.assertNotIn(b"Traceback", err)

    def test_what_is_refused(self) -> None:
        words = ["-d", self.node.path, "recovery", "export", self.file]
        self.assertIn("--passphrase-file", self.refused(2, *words))
        for data in [b"", b"\nx\n", b"\xff\xfe\n", b"x" * 5000, b"short\n"]:
            self.refused(2, *words, "--passphrase-file", "-", stdin=data)
        self.refused(8, *words, "--passphrase-file", self.root / "missing")
        self.refused(3, "-d", self.root / "none", *words[2:], "--passphrase-file", self.words)
        self.assertFalse(self.file.exists())
        os.mkfifo(self.root / "fifo")
        told = self.refused(8, *words[:-1], self.root / "fifo")
        self.assertIn("no regular file", told)
        self.assertTrue((self.root / "fifo").is_fifo())
        lock = DirectoryLock(self.node.pid_path, "node")
        self.addCleanup(lock.release)
        told = self.refused(3, *words, "--passphrase-file", self.words)
        self.assertIn("runs in", told)

    def test_nothing_of_the_passphrase_is_an_option(self) -> None:
        told = self.refused(
            2, "-d", self.node.path, "recovery", "export", "x", "--passphrase", "y"
        )
        self.assertIn("--passphrase", told)

    def test_an_unknown_section_is_told_of(self) -> None:
        path = self.node.private / "section-blob-indexes"
        path.write_bytes(b"later")
        path.chmod(0o600)
        self.assertEqual(self.export()["unknown_sections"], ["blob-indexes"])
        words = ["-d", self.root / "new", "recovery", "import", self.file, "--json"]
        outcome = run([*map(str, words), "--passphrase-file", str(self.words)])
        self.assertEqual(outcome.json()["unknown_sections"], ["blob-indexes"])
        self.assertIn("only keeps", outcome.err)
        self.assertEqual((self.root / "new/private/section-blob-indexes").read_bytes(), b"later")

    def test_creation_reminds(self) -> None:
        outcome = self.done("create-node", self.root / "another")
        self.assertIn("recovery export FILE", outcome.out)


class TerminalTests(CommandLineCase):
    """On a terminal it is asked for, hidden."""

    def ask(self, *typed: bytes) -> tuple[bytes, int]:
        """Export where ``typed`` is typed; returns (all that the terminal showed, status)."""
        words = ["-d", create_node(self.root / "old").path, "recovery", "export", "file"]
        terminal, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", ON_TERMINAL, *map(str, words)],
            **dict.fromkeys(("stdin", "stdout", "stderr"), theirs),
            start_new_session=True,
            cwd=self.root,
            env=environment(),
        )
        os.close(theirs)
        shown = b""
        for line in typed:
            while not shown.endswith(b": "):
                shown += os.read(terminal, 1000)
            os.write(terminal, line + b"\n")
            shown += b"|"
        with contextlib.suppress(OSError):
            while piece := os.read(terminal, 1000):
                shown += piece
        os.close(terminal)
        return shown, process.wait(PATIENCE)

    def test_it_is_asked_twice_and_not_shown(self) -> None:
        shown, status = self.ask(WORDS.encode(), WORDS.encode())
        self.assertEqual(status, 0, shown)
        self.assertNotIn(WORDS.encode(), shown)
        self.assertEqual(read_export(self.root / "file", WORDS).kept, ())

    def test_two_that_differ(self) -> None:
        shown, status = self.ask(b"one passphrase", b"another one")
        self.assertEqual(status, 2, shown)
        self.assertIn(b"differ", shown)
        self.assertFalse((self.root / "file").exists())
