"""After much use of the gateway no cap, key, name or plaintext is where it should not be.

Looked at: every line that a node printed or logged, every file below the node directories but
``private/``, the directory for temporary files, what is open and has no name (the spool, while an
upload is under way), and the arguments and the environment of every process.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import xmlrpc.client
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from twisted.trial.unittest import SynchronousTestCase

from tests.hygiene import MARK
from tests.integration.processes import Grid
from tests.patience import PATIENCE

NAME = "a-name-that-nobody-may-find"
#: More than stays in memory, so that it is spooled.
DATA = MARK * 40_000


class HygieneTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.temporary = self.root / "temporary"
        self.temporary.mkdir()
        self.patch(os, "environ", {**os.environ, "TMPDIR": str(self.temporary)})
        words = ("--nodes", 4, "--shares", "2/3/3", "--public-root")
        self.grid = Grid(self.root / "grid", *words)
        self.addCleanup(self.grid.end)
        client = self.grid.ready["client"]
        self.web = client["web"].rstrip("/")
        self.node = Path(client["dir"])
        self.pid = client["pid"]
        self.secrets: dict[str, bytes] = {"plaintext": MARK, "name": NAME.encode()}

    def ask(self, method: str, path: str, body: bytes | None = None, status: int = 0) -> str:
        """Ask the gateway; with a status that is an error nothing is returned."""
        said = ["curl", "-sS", "-o", "-", "-X", method, "-w", "\n%{http_code}"]
        said += ["--data-binary", "@-", "-H", "Content-Type:"] if body is not None else []
        done = subprocess.run(
            [*said, self.web + path],
            input=body or b"",
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )
        text, _, code = done.stdout.decode("utf-8", "replace").rpartition("\n")
        if status:
            self.assertEqual(int(code), status, text[:200])
        return text

    def keep(self, kind: str, cap: str) -> str:
        """Note a cap, and what is secret in it, as what may be nowhere."""
        self.secrets[kind] = cap.encode()
        self.secrets[f"key of {kind}"] = cap.split(":")[2].encode()
        return cap

    def test_nothing_is_left_anywhere(self) -> None:
        self.use()
        self.assert_nothing_in_the_spool()
        self.assert_nothing_in_processes()
        ended = self.grid.end()
        self.assert_nothing_in(ended.out, "output")
        self.assert_nothing_in(ended.err.encode(), "errors")
        self.assert_nothing_in_files()

    def use(self) -> None:
        """Do all that can be done, and all that is refused."""
        self.secrets["token"] = (self.node / "private" / "web-token").read_bytes().strip()
        root = self.keep("directory", self.ask("PUT", "/uri?t=mkdir", status=201))
        where = f"/uri/{root}/{NAME}"
        cap = self.keep("file", self.ask("PUT", where, DATA, status=201))
        self.ask("PUT", f"/vdrive/private/{NAME}/x", DATA, status=201)
        self.assertEqual(self.ask("GET", where, status=200), DATA.decode())
        readonly = self.keep("read cap", self.ask("GET", f"/uri/{root}?t=readonly-uri"))
        for t in ("json", "info", "manifest", "stream-manifest", "uri"):
            self.ask("GET", f"/uri/{root}?t={t}", status=200)
        for t in ("check", "stream-deep-check", "start-deep-check&ophandle=one"):
            self.ask("POST", f"/uri/{root}?t={t}")
        for path in (f"{where}/below", f"/uri/{cap}x", f"/uri/{root}/none-{NAME}", f"/{cap}"):
            self.ask("GET", path)
            self.ask("DELETE", path)
        self.ask("PUT", f"/uri/{readonly}/{NAME}", DATA, status=403)
        self.ask("PUT", f"{where}?overwrite=false", DATA, status=409)
        form = urlopen(
            Request(
                f"{self.web}/uri/{root}", f"t=rename&from_name={NAME}&to_name={NAME}2".encode()
            )
        )
        form.close()
        with xmlrpc.client.ServerProxy(f"{self.web}/xmlrpc") as calls:
            calls.put(root, NAME, DATA)
            calls.get(root, NAME)
            with self.assertRaises(xmlrpc.client.Fault):
                calls.get(root, f"none-{NAME}")
        with socket.create_connection(self.address) as broken:
            broken.sendall(f"GET {where} HTTP/1.1\r\nHost: x\r\nbroken\x00\r\n\r\n".encode())
        with socket.create_connection(self.address) as short:
            short.sendall(f"GET {where} HTTP/1.1\r\nHost: {self.address[0]}".encode())

    @property
    def address(self) -> tuple[str, int]:
        split = urlsplit(self.web)
        return str(split.hostname), int(split.port or 0)

    def assert_nothing_in(self, data: bytes, place: str) -> None:
        for kind, secret in self.secrets.items():
            self.assertNotIn(secret, data, f"the {kind} is in: {place}")

    def assert_nothing_in_the_spool(self) -> None:
        """Look at what is open while an upload is half there."""
        host, port = self.address
        with socket.create_connection(self.address) as upload:
            head = (
                f"PUT /uri HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {2 * len(DATA)}\r\n"
            )
            upload.sendall(f"{head}\r\n".encode() + DATA)
            deadline = time.monotonic() + PATIENCE
            # It is there when something that is open and has no name is as long as a piece.
            while not any(len(data) >= 512 * 1024 for data in self.nameless()):
                self.assertLess(time.monotonic(), deadline, "nothing is spooled")
            for data in self.nameless():
                self.assert_nothing_in(data, "the spool")

    def nameless(self) -> list[bytes]:
        found = []
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                if "(deleted)" in os.readlink(entry):
                    found.append(entry.read_bytes())
            except OSError:
                continue
        return found

    def assert_nothing_in_processes(self) -> None:
        for pid in [*self.grid.pids, self.grid.process.pid]:
            for name in ("cmdline", "environ"):
                data = Path(f"/proc/{pid}/{name}").read_bytes()
                self.assert_nothing_in(data, name)

    def assert_nothing_in_files(self) -> None:
        looked = 0
        for path in self.root.rglob("*"):
            if path.is_file() and "private" not in path.relative_to(self.root).parts:
                self.assert_nothing_in(path.read_bytes(), str(path.relative_to(self.root)))
                looked += 1
        # What is looked for would be found: it is where it belongs.
        private = [
            path.read_bytes() for path in (self.node / "private").rglob("*") if path.is_file()
        ]
        self.assertTrue(any(self.secrets["token"] in data for data in private))
        # The stores, the settings and the logs of six nodes.
        self.assertGreater(looked, 10)
        self.assertEqual(list(self.temporary.iterdir()), [])
        spool = self.node / "spool"
        self.assertEqual(list(spool.iterdir()) if spool.exists() else [], [])
