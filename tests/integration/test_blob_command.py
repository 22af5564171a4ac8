"""``ampgrid blob`` as its user runs it, with a local store and no remote."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase


class BlobCommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.store = self.root / "store"
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.root),
            "AMPGRID_BLOB_PATH": str(self.store),
            "AMPGRID_PASSPHRASE": "a passphrase",
        }

    def run_blob(self, *words: object, status: int = 0, stdin: bytes = b"") -> bytes:
        done = subprocess.run(
            [sys.executable, "-m", "ampgrid", "blob", *map(str, words)],
            input=stdin,
            capture_output=True,
            check=False,
            env=self.environment,
        )
        self.assertEqual(done.returncode, status, done.stderr.decode())
        if status:
            self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
        return done.stdout

    def test_a_blob_from_put_to_delete(self) -> None:
        content = bytes(range(256)) * 1000
        (self.root / "file").write_bytes(content)
        (self.root / "new").write_text("another passphrase\n")
        self.run_blob("secret", self.store / "secret")
        self.run_blob("put", self.root / "file", "one", "--local-only")
        self.run_blob("put", "-", "two", "--size", 5, stdin=b"hello")
        self.assertEqual(self.run_blob("get", "two"), b"hello")
        self.run_blob("rekey", "--new-passphrase-file", self.root / "new")
        self.environment["AMPGRID_BLOB_GET_PASSPHRASE_FILE"] = str(self.root / "new")
        out = ("--json", "--output-file", self.root / "copy")
        self.assertEqual(json.loads(self.run_blob("get", "one", *out))["size"], len(content))
        self.assertEqual((self.root / "copy").read_bytes(), content)
        self.run_blob("get", "none", status=15)
        self.run_blob("list", status=3)
        listed = json.loads(
            self.run_blob("list", "--json", "--passphrase-file", self.root / "new")
        )
        self.assertEqual(
            listed, {"local": {"one": "LOCAL_ONLY", "two": "PENDING_UPLOAD"}, "remote": []}
        )
