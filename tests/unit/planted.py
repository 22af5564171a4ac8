"""Tests that leave a secret where none may be; run by `test_hygiene` alone, to be caught."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import DirCap
from ampgrid.crypto.base32 import b2a
from ampgrid.crypto.identity import Identity
from tests.hygiene import MARK, marked
from tests.integration.processes import finish as finish_process
from tests.integration.processes import start

#: Where the number of the process that is left is told.
TELL = "PLANTED_TELL"
SECRETS = Random(11)
CAP = f"URI:CHK:{b2a(SECRETS.randbytes(16))}:{b2a(SECRETS.randbytes(32))}:3:10:1000"
DIR = DirCap.create(SECRETS.randbytes)
TOKEN = SECRETS.randbytes(32)
KEY = Identity.create(SECRETS.randbytes)


class PlantedTests(SynchronousTestCase):
    def node(self) -> Path:
        """Return a new directory of a node, in one that the test removes."""
        root = Path(tempfile.mkdtemp(prefix=f"{self.id().rpartition('.')[2]}-"))
        self.addCleanup(shutil.rmtree, root)
        node = root / "node"
        private = node / "private"
        private.mkdir(parents=True)
        (private / "web-token").write_text(b2a(TOKEN))
        (private / "node.pem").write_bytes(KEY.to_pem())
        (private / "root.cap").write_text(DIR.to_string())
        return node

    def test_nothing(self) -> None:
        """What nodes keep in ``private/``, and tests beside their nodes, is where it may be."""
        node = self.node()
        (node.parent / "file").write_bytes(marked(bytes(10_000)))
        (node / "node.log").write_bytes(b"a line\nURI:DIR-Verifier:" + b"a" * 52)

    def test_cap_in_log(self) -> None:
        (self.node() / "node.log").write_text(f"a line\nno {CAP} here\n")

    def test_cap_in_an_address_in_log(self) -> None:
        (self.node() / "node.log").write_text(f"GET /uri/{CAP.replace(':', '%3A')} HTTP/1.1\n")

    def test_read_cap_made_of_private_root_in_log(self) -> None:
        read = DIR.get_readonly().to_string()
        (self.node() / "node.log").write_text(read.split(":")[2])

    def test_token_in_log(self) -> None:
        (self.node() / "node.log").write_text(f"X-Token: {TOKEN.hex()}\n")

    def test_key_in_log(self) -> None:
        (self.node() / "node.log").write_bytes(KEY.private_key.private_bytes_raw())

    def test_plaintext_in_log_that_is_removed(self) -> None:
        log = self.node().parent / "other.log"
        log.write_bytes(marked(bytes(100)))
        log.unlink()

    def test_plaintext_in_store(self) -> None:
        storage = self.node() / "storage"
        storage.mkdir()
        (storage / "share").write_bytes(bytes(3_000_000) + marked(bytes(5_000)))

    def test_token_in_settings_beside_private(self) -> None:
        (self.node() / "node.url").write_text(b2a(TOKEN))

    def test_twisted(self) -> None:
        Logger().info("it has {cap}", cap=CAP)

    def test_python(self) -> None:
        logging.getLogger("planted").error("it has %s", KEY.to_pem())

    def test_printed(self) -> None:
        sys.stderr.write(MARK.decode())

    def test_errors_of_a_process(self) -> None:
        outcome = finish_process(start("get", "--no-such-option", CAP))
        self.assertEqual(outcome.status, 2)
        code = f"import sys; sys.stderr.write({CAP!r})"
        finish_process(subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE))

    def test_environment(self) -> None:
        subprocess.run(["true"], env={**os.environ, "PLANTED": CAP}, check=True)

    def test_file_left(self) -> None:
        Path(tempfile.mkdtemp(prefix="left-behind-"))

    def test_process_left(self) -> None:
        left = subprocess.Popen(["sleep", "600"])
        Path(os.environ[TELL]).write_text(str(left.pid))
        # It is left on purpose: without this Python warns of it.
        left.returncode = 0


class ArgumentsTests(SynchronousTestCase):
    """A process lives on when a test ends, as a grid of many tests does."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.shell = subprocess.Popen(
            ["sh", "-c", 'sh -c "echo; read x" "$SECRET"; true', CAP],
            env={**os.environ, "SECRET": b2a(b"t" * 32)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    @classmethod
    def tearDownClass(cls) -> None:
        cls.shell.communicate(b"\n")

    def test_arguments(self) -> None:
        """Those that a test gives are its own; what its processes give is not."""
        assert self.shell.stdout is not None
        self.assertEqual(self.shell.stdout.readline(), b"\n")
