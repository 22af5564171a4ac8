"""Blobs at a real node: its operator, and a user with a token, both on the command line."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import DATA, ampgrid, finish, start, wait_until


class BlobNodeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.node = self.root / "node"
        self.done("create-node", "--blobs", "--listen", "127.0.0.1:0", self.node)
        config = self.node / "node.toml"
        text = config.read_text("utf-8")
        port = next(line for line in text.splitlines() if "port = " in line)
        config.write_text(text.replace(port, 'port = "tcp:0:interface=127.0.0.1"'), "utf-8")
        process = start("-d", self.node, "run")
        self.addCleanup(lambda: (process.send_signal(signal.SIGTERM), finish(process)))
        wait_until((self.node / "node.url").exists)
        wait_until((self.node / "ampgrid.sock").exists)

    def done(self, *words: object) -> str:
        outcome = ampgrid(*words)
        self.assertEqual(outcome.status, 0, outcome.err)
        return outcome.text

    def test_a_user_with_a_token_keeps_blobs_there(self) -> None:
        token, file, back = (self.root / name for name in ("token", "file", "back"))
        file.write_bytes(DATA)
        self.done("-d", self.node, "blob", "token", "issue", "alice", token)
        self.assertEqual(token.stat().st_mode & 0o777, 0o600)
        self.assertEqual(ampgrid("-d", self.node, "blob", "token", "issue", "a/b", "-").status, 2)
        # Where no token can be written none is issued: the one before goes on.
        for place in (token, self.root / "missing" / "token"):
            issue = ("-d", self.node, "blob", "token", "issue", "alice", place)
            self.assertEqual(ampgrid(*issue).status, 3)
        self.done("blob", "secret", self.root / "first" / "secret")
        (self.root / "second").mkdir(mode=0o700)
        shutil.copy(self.root / "first" / "secret", self.root / "second" / "secret")
        passphrase = self.root / "passphrase"
        passphrase.write_text("a long passphrase\n")
        url = (self.node / "node.url").read_text().strip()

        def blob(store: str, *words: object) -> str:
            options = ("--remote", f"{url}blobs/", "--user", "alice", "--token-file", token)
            place = ("--path", self.root / store, "--passphrase-file", passphrase)
            return self.done("blob", *words, *options, *place)

        blob("first", "put", file, "photo")
        blob("second", "get", "photo", "--output-file", back)
        self.assertEqual(back.read_bytes(), DATA)
        listed = json.loads(self.done("-d", self.node, "blob", "token", "list", "--json"))
        (user,) = listed["users"]
        self.assertEqual(user["user"], "alice")
        self.assertGreater(user["used"], len(DATA))
        blob("second", "delete", "photo")
        status = json.loads(self.done("-d", self.node, "status", "--json"))["blobs"]
        self.assertEqual((status["users"], status["accepts"]), (1, True))
        # The node's own program reaches its peers (here the node itself) without a token.
        address = f"amp:{json.loads(self.done('-d', self.node, 'status', '--json'))['node_id']}"
        own = ("--remote", address, "--secret-file", self.root / "first" / "secret")
        self.done("-d", self.node, "blob", "upload", file, "mine", *own)
        self.done("-d", self.node, "blob", "download", "mine", "--output-file", back, *own)
        self.assertEqual(back.read_bytes(), DATA)
        self.done("-d", self.node, "blob", "token", "revoke", "alice")
        refused = ampgrid(
            *("blob", "list", "--remote", f"{url}blobs/", "--user", "alice"),
            *("--token-file", token, "--path", self.root / "first"),
            *("--passphrase-file", passphrase),
        )
        self.assertNotEqual(refused.status, 0)
        self.assertNotIn(token.read_text().strip(), refused.err)
