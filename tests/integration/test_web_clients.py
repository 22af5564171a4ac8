"""Programs that people have, against the web gateway of a real grid; none of them may be missing.

Debian's packages: curl, wget, rclone.
"""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import xmlrpc.client
from pathlib import Path

from ampgrid.web.paging import PAGE_NAMES
from ampgrid.web.tokens import HEADER
from tests.integration.processes import DATA, GridCase
from tests.patience import PATIENCE


class WebClientCase(GridCase):
    def setUp(self) -> None:
        super().setUp()
        self.web = self.grid.ready["client"]["web"].rstrip("/")
        self.url = f"{self.web}/uri/{self.new_directory()}"

    def new_directory(self) -> str:
        return self.run_tool("curl", "-sS", "-X", "PUT", f"{self.web}/uri?t=mkdir").decode()

    def run_tool(self, *words: object, status: int = 0) -> bytes:
        done = subprocess.run(
            [str(word) for word in words], capture_output=True, timeout=PATIENCE, check=False
        )
        self.assertEqual(done.returncode, status, done.stderr.decode("utf-8", "replace"))
        return done.stdout


class CurlTests(WebClientCase):
    def test_up_and_down(self) -> None:
        url = f"{self.url}/a/b/notes.txt"
        cap = self.run_tool("curl", "-sSf", "-T", self.file, url).decode()
        self.assertTrue(cap.startswith("URI:CHK:"))
        self.assertEqual(self.run_tool("curl", "-sSf", url), DATA)
        self.assertEqual(self.run_tool("curl", "-sSf", f"{self.web}/uri/{cap}"), DATA)
        self.assertEqual(self.client("get", cap, self.place / "got"), "")
        self.assertEqual((self.place / "got").read_bytes(), DATA)

    def test_from_a_pipe(self) -> None:
        done = subprocess.run(
            ["curl", "-sSf", "-T", "-", f"{self.url}/piped"],
            input=DATA,
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )
        self.assertTrue(done.stdout.startswith(b"URI:CHK:"))
        self.assertEqual(self.run_tool("curl", "-sSf", f"{self.url}/piped"), DATA)

    def test_ranges(self) -> None:
        self.run_tool("curl", "-sSf", "-T", self.file, f"{self.url}/f")
        for said, part in (
            ("0-0", DATA[:1]),
            ("70000-140000", DATA[70000:140001]),
            ("-5", DATA[-5:]),
        ):
            self.assertEqual(self.run_tool("curl", "-sSf", "-r", said, f"{self.url}/f"), part)
        self.run_tool("curl", "-sSf", "-r", f"{len(DATA)}-", f"{self.url}/f", status=22)

    def test_a_resumed_download(self) -> None:
        self.run_tool("curl", "-sSf", "-T", self.file, f"{self.url}/f")
        for tool in (["curl", "-sSf", "-C", "-", "-o"], ["wget", "-q", "-c", "-O"]):
            part = self.place / tool[0]
            part.write_bytes(DATA[:123_456])
            self.run_tool(*tool, part, f"{self.url}/f")
            self.assertEqual(part.read_bytes(), DATA)

    def test_curl_provokes_a_recursive_upload(self) -> None:
        node = Path(self.grid.ready["client"]["dir"])
        token = (node / "private" / "web-token").read_text().strip()
        allow = node / "webport_allow_localfile"
        allow.touch(0o600)
        self.addCleanup(allow.unlink)
        (self.place / "tree" / "sub").mkdir(parents=True)
        (self.place / "tree" / "sub" / "f").write_bytes(DATA)
        url = f"{self.url}/newdir?t=upload&localdir={self.place}/tree"
        self.run_tool("curl", "-sSf", "-H", f"{HEADER}: {token}", "-T", "/dev/null", url)
        self.assertEqual(self.run_tool("curl", "-sSf", f"{self.url}/newdir/sub/f"), DATA)

    def test_a_form(self) -> None:
        form = ["-F", "t=upload", "-F", "name=x", "-F", f"file=@{self.file}"]
        self.run_tool("curl", "-sSf", *form, self.url)
        self.assertEqual(self.run_tool("curl", "-sSf", f"{self.url}/x"), DATA)


class WalkingTests(WebClientCase):
    def setUp(self) -> None:
        super().setUp()
        self.tree = {"a.txt": DATA, "b c.html": b"<p>1</p>", "sub/deep/x": b"2" * 100}
        self.tree['sub/\u00fc & "q" #1?.txt'] = b"3" * 60
        for name, data in self.tree.items():
            (self.place / "up").write_bytes(data)
            where = f"{self.url}/{urllib.parse.quote(name)}"
            self.run_tool("curl", "-sSf", "-T", self.place / "up", where)

    def found(self, root: Path) -> dict[str, bytes]:
        files = [path for path in root.rglob("*") if path.is_file()]
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}

    def test_wget_of_a_directory(self) -> None:
        out = self.place / "out"
        cut = 1 + len(urllib.parse.urlsplit(self.url).path.strip("/").split("/")) - 1
        self.run_tool(
            *("wget", "-q", "-r", "-np", "-nH", f"--cut-dirs={cut}", "-e", "robots=off"),
            *("--restrict-file-names=nocontrol", "-R", "index.html*", "-P", out, f"{self.url}/"),
        )
        found = self.found(out)
        self.assertEqual({name: found.get(name) for name in self.tree}, self.tree)

    def test_rclone(self) -> None:
        out = self.place / "out"
        remote = ["--config", "/dev/null", "--http-url", f"{self.url}/"]
        told = json.loads(self.run_tool("rclone", "lsjson", "-R", *remote, ":http:"))
        files = {each["Path"]: each["Size"] for each in told if not each["IsDir"]}
        self.assertEqual(files, {name: len(data) for name, data in self.tree.items()})
        self.run_tool("rclone", "copy", *remote, ":http:", out)
        self.assertEqual(self.found(out), self.tree)


class ManyNamesTests(WebClientCase):
    """A directory of several pages, for programs that follow no links between pages."""

    def setUp(self) -> None:
        super().setUp()
        self.names = {f"{number:03}.txt" for number in range(PAGE_NAMES + 1)}
        tree = self.place / "many"
        tree.mkdir()
        for name in self.names:
            (tree / name).write_text(name)
        self.grid.client("cp", "-r", tree, "private:")
        self.url = f"{self.web}/vdrive/private/many"

    def test_wget_and_rclone_find_all(self) -> None:
        out = self.place / "out"
        self.run_tool(
            "wget", "-q", "-r", "-np", "-nd", "-A", "49?.txt,50?.txt", "-P", out, f"{self.url}/"
        )
        last = {name for name in self.names if name >= "49"}
        self.assertEqual({path.name for path in out.iterdir()}, last)
        remote = ["--config", "/dev/null", "--http-no-head", "--http-url", f"{self.url}/"]
        listed = self.run_tool("rclone", "lsf", *remote, ":http:").decode().split()
        self.assertEqual(set(listed), self.names)


class XmlRpcTests(WebClientCase):
    def test_the_client_of_the_standard_library(self) -> None:
        root = self.new_directory()
        with xmlrpc.client.ServerProxy(f"{self.web}/xmlrpc", use_builtin_types=True) as grid:
            cap = grid.put(root, "sub/file", DATA)
            self.assertEqual(grid.get(root, "sub/file"), DATA)
            self.assertEqual(grid.get(cap, ""), DATA)
            self.assertEqual(list(grid.listdir(root, "")), ["sub"])  # type: ignore[arg-type]
            self.assertIn("listdir", grid.system.listMethods())
            grid.put("global", "from xmlrpc", b"1")
            self.assertEqual(grid.get("global", "from xmlrpc"), b"1")
            self.assertTrue(grid.check(root, "sub/file")["healthy"])  # type: ignore[index,call-overload]
            with self.assertRaises(xmlrpc.client.Fault) as caught:
                grid.get(root, "none")
            self.assertEqual(caught.exception.faultCode, 404)

    def test_files_of_this_machine(self) -> None:
        node = Path(self.grid.ready["client"]["dir"])
        token = (node / "private" / "web-token").read_text().strip()
        allow = node / "webport_allow_localfile"
        allow.write_text(f"{self.place}\n")
        allow.chmod(0o600)
        self.addCleanup(allow.unlink)
        root = self.new_directory()
        url = f"{self.web}/xmlrpc"
        with xmlrpc.client.ServerProxy(url, headers=[(HEADER, token)]) as grid:
            grid.put_localfile(root, "f", str(self.file))
            grid.get_localfile(root, "f", str(self.place / "out"))
        self.assertEqual((self.place / "out").read_bytes(), DATA)
        with xmlrpc.client.ServerProxy(url) as grid, self.assertRaises(xmlrpc.client.Fault) as no:
            grid.put_localfile(root, "g", str(self.file))
        self.assertEqual(no.exception.faultCode, 403)
