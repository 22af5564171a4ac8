"""The web gateway on a real port, with real clients (curl, wget), and `ampgrid web`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import (
    DATA,
    TWO_OF_FOUR,
    GridCase,
    ampgrid,
    finish,
    start,
    wait_for_line,
)


class WebTests(GridCase):
    words = TWO_OF_FOUR

    def setUp(self) -> None:
        super().setUp()
        self.web = self.grid.ready["client"]["web"]
        self.node = Path(self.grid.ready["client"]["dir"])
        self.url = f"{self.web}vdrive/global/{self.place.name}"

    def curl(self, *words: object, status: int = 200) -> bytes:
        """Run curl; returns the body of the answer."""
        out = self.place / "answer"
        out.unlink(missing_ok=True)
        said = ["curl", "-sS", "-o", out, "-w", "%{http_code}", *words]
        ended = subprocess.run([*map(str, said)], capture_output=True, text=True, check=True)
        body = out.read_bytes() if out.exists() else b""
        self.assertEqual(ended.stdout, str(status), body[:300])
        return body

    def test_curl(self) -> None:
        cap = self.curl("-T", self.file, f"{self.url}/a/b.bin", status=201).decode()
        self.assertEqual(self.curl(f"{self.url}/a/b.bin"), DATA)
        part = self.curl("-r", "1000-1999", f"{self.url}/a/b.bin", status=206)
        self.assertEqual(part, DATA[1000:2000])
        self.curl("-T", self.file, f"{self.url}/a/b.bin")
        outcome = self.grid.client("get", cap, "-")
        self.assertEqual((outcome.status, outcome.out), (0, DATA))
        sent = ("-F", "t=upload", "-F", f"file=@{self.file};filename=c d")
        self.curl(*sent, f"{self.url}/a", status=201)
        self.curl("-d", "t=rename&from_name=c d&to_name=e", f"{self.url}/a")
        children = json.loads(self.curl(f"{self.url}/a?t=json"))[1]["children"]
        self.assertEqual(sorted(children), ["b.bin", "e"])
        self.curl("-X", "DELETE", f"{self.url}/a/e")
        self.assertIn("b.bin", self.client("ls", f"public:{self.place.name}/a"))
        self.curl("-H", "Origin: http://example.org", self.url, status=403)

    def test_a_download_that_was_cut_goes_on(self) -> None:
        self.curl("-T", self.file, f"{self.url}/f", status=201)
        cut = self.place / "cut"
        cut.write_bytes(DATA[:100_000])
        words = ["curl", "-sS", "-C", "-", "-o", str(cut), f"{self.url}/f"]
        subprocess.run(words, check=True)
        self.assertEqual(cut.read_bytes(), DATA)

    def test_wget_walks_a_directory(self) -> None:
        tree = {"a b?": b"1", "sub/\u00fc#": DATA, "sub/deep/x": b"2"}
        for name, data in tree.items():
            path = self.place / "tree" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.client("cp", "-r", self.place / "tree", f"public:{self.place.name}")
        words = ["wget", "-q", "-r", "-np", "-nH", "--cut-dirs=3", f"{self.url}/"]
        subprocess.run(words, cwd=self.place, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
        found = {}
        for path in self.place.rglob("*"):
            if path.is_file() and path.name not in {"index.html", "file"}:
                found.setdefault(path.name, path.read_bytes())
        self.assertEqual(found["x"], b"2")
        self.assertEqual(found["a b?"], b"1")
        self.assertEqual(found["\u00fc#"], DATA)

    def test_ampgrid_web(self) -> None:
        told = self.grid.client("web", "--no-browser", "--json").json()
        self.assertFalse(told["opened"])
        page = Path(told["file"])
        self.assertEqual(page.stat().st_mode & 0o077, 0)
        link = json.loads(self.client("web", "--link", "--json"))["link"]
        self.assertIn(link, page.read_text())
        self.assertTrue(link.startswith(f"{self.web}enter?token="))
        self.assertEqual((self.node / "node.url").read_text().strip(), self.web)

    def test_no_cap_is_in_the_log(self) -> None:
        self.assertNotIn("URI:", (self.node / "node.log").read_text())


def _end(process: Any) -> None:
    """End a process that a failed test has left."""
    if process.returncode is None:
        process.kill()
        finish(process)


class PortTests(SynchronousTestCase):
    """Where a node's gateway listens, of nodes without any peers."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.place = Path(folder.name)

    def new_node(self, name: str, *lines: str) -> Path:
        node = self.place / name
        outcome = ampgrid("create-node", node, "--listen", "none")
        self.assertEqual(outcome.status, 0, outcome.err)
        config = node / "node.toml"
        text = config.read_text().replace("[web]\n", "[web]\n" + "".join(f"{x}\n" for x in lines))
        config.write_text(text)
        return node

    def ready(self, node: Path) -> tuple[Any, dict[str, Any]]:
        process = start("-d", node, "run", "--json")
        self.addCleanup(_end, process)
        return process, json.loads(wait_for_line(process, "{"))

    def taken_port(self) -> int:
        taken = socket.socket()
        self.addCleanup(taken.close)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        return int(taken.getsockname()[1])

    def test_a_port_that_is_taken(self) -> None:
        port = self.taken_port()
        node = self.new_node("node", f"port = {port}")
        outcome = ampgrid("-d", node, "run")
        self.assertEqual(outcome.status, 3)
        self.assertIn(str(port), outcome.err)
        self.assertIn("[web] port in", outcome.err)
        self.assertFalse((node / "node.url").exists())

    def test_two_nodes_that_were_told_no_port(self) -> None:
        one, first = self.ready(self.new_node("one"))
        two, second = self.ready(self.new_node("two"))
        self.assertNotEqual(first["web"], second["web"])
        for told in (first, second):
            self.assertRegex(told["web"], r"^http://127\.0\.0\.1:\d+/$")
        for process in (one, two):
            process.terminate()
            self.assertEqual(finish(process).status, 0)

    def test_the_file_outranks_the_settings_and_none_is_none(self) -> None:
        node = self.new_node("node", 'port = "none"')
        process, told = self.ready(node)
        self.assertIsNone(told["web"])
        process.terminate()
        finish(process)
        outcome = ampgrid("-d", node, "web")
        self.assertEqual(outcome.status, 3)
        (node / "webport").write_text("tcp:0:interface=127.0.0.1\n")
        process, told = self.ready(node)
        self.assertTrue(told["web"].startswith("http://127.0.0.1:"))
        process.terminate()
        finish(process)
        self.assertFalse((node / "node.url").exists())
        self.assertEqual(ampgrid("-d", node, "web").status, 4)

    def test_others_reach_it_only_with_a_password(self) -> None:
        node = self.new_node("node", 'port = "tcp:0"')
        outcome = ampgrid("-d", node, "run")
        self.assertEqual(outcome.status, 3)
        self.assertIn("webpassword", outcome.err)
        password = node / "webpassword"
        password.write_text("me:secret\n")
        password.chmod(0o600)
        process, told = self.ready(node)
        url = told["web"]
        for words, status in (
            ((), "401"),
            (("--digest", "-u", "me:secret"), "200"),
            (("--anyauth", "-u", "me:secret"), "200"),
            (("--digest", "-u", "me:wrong"), "401"),
            (("-u", "me:secret"), "401"),
        ):
            said = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", *words, url]
            ended = subprocess.run(said, capture_output=True, text=True, check=True)
            self.assertEqual(ended.stdout, status, words)
        process.terminate()
        self.assertEqual(finish(process).status, 0)

    def test_tls(self) -> None:
        node = self.new_node(
            "node",
            'port = "ssl:0:interface=127.0.0.1:privateKey=private/key.pem:certKey=cert.pem"',
        )
        outcome = ampgrid("-d", node, "run")
        self.assertEqual(outcome.status, 3)
        self.assertNotIn("Traceback", outcome.err)
        words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
        key, certificate = node / "private" / "key.pem", node / "cert.pem"
        made = [*words.split(), "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(made, capture_output=True, check=True)
        process, told = self.ready(node)
        self.assertRegex(told["web"], r"^https://127\.0\.0\.1:\d+/$")
        said = [
            "curl",
            "-sSk",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            f"{told['web']}health",
        ]
        ended = subprocess.run(said, capture_output=True, text=True, check=True)
        self.assertEqual(ended.stdout, "503")
        process.terminate()
        ended_node = finish(process)
        self.assertEqual(ended_node.status, 0)
        self.assertNotIn("Traceback", ended_node.err)

    def test_a_node_that_was_killed(self) -> None:
        node = self.new_node("node", "port = 0")
        process, told = self.ready(node)
        process.kill()
        finish(process)
        self.assertEqual((node / "node.url").read_text().strip(), told["web"])
        # The port may be another program's by now, which is not to be given the token.
        self.assertEqual(ampgrid("-d", node, "web", "--link").status, 4)
