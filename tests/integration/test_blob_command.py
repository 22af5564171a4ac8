"""``ampgrid blob`` as its user runs it, alone and with the gateway of a node as its remote."""

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


class RemoteBlobCommandTests(BlobCommandTests):
    def setUp(self) -> None:
        super().setUp()
        self.server = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("blob_server.py"), self.root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.addCleanup(self.server.communicate)
        assert self.server.stdout is not None
        told = json.loads(self.server.stdout.readline())
        self.environment |= {
            "AMPGRID_BLOB_REMOTE": told["url"],
            "AMPGRID_BLOB_TOKEN": told["token"],
            "AMPGRID_BLOB_USER": "alice",
        }

    def use(self, store: str) -> None:
        self.environment["AMPGRID_BLOB_PATH"] = str(self.root / store)
        self.environment["AMPGRID_BLOB_SECRET_FILE"] = str(self.root / "secret")

    def test_a_blob_from_put_to_delete(self) -> None:
        """From one store to another, and out of both."""
        content = bytes(range(256)) * 1000
        (self.root / "file").write_bytes(content)
        self.run_blob("secret", self.root / "secret")
        self.use("one")
        self.run_blob("put", self.root / "file", "photo")
        self.run_blob("flags", "photo", "--set", "processed")
        self.use("two")
        told = json.loads(self.run_blob("sync", "--json"))
        self.assertEqual((told["fetched"], told["failed"]), (1, []))
        self.assertEqual(self.run_blob("get", "photo"), content)
        self.assertEqual(self.run_blob("flags", "photo"), b"PROCESSED\n")
        self.assertEqual(
            self.run_blob("download", "photo", "--output-file", self.root / "copy"), b""
        )
        self.assertEqual((self.root / "copy").read_bytes(), content)
        self.assertEqual(self.run_blob("list"), b"here  there  photo  SYNCED\n")
        self.run_blob("delete", "photo")
        self.use("one")
        self.assertIn(b"1 deleted here", self.run_blob("sync"))
        self.environment["AMPGRID_BLOB_TOKEN"] = "wrong"
        self.run_blob("list", status=15)
