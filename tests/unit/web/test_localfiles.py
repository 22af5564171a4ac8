"""``localfile=`` and ``localdir=``: off, confined, and what they do when they are allowed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from ampgrid.web.localfiles import LocalFiles
from ampgrid.web.tokens import HEADER
from tests.material import some_bytes
from tests.unit.web.kit import GatewayCase, Reply


class LocalCase(GatewayCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.place = Path(os.path.realpath(folder.name))
        self.allow = self.place / "webport_allow_localfile"
        self.inside = self.place / "inside"
        self.inside.mkdir()
        self.gateway.localfiles = LocalFiles(self.allow)
        self.url = f"/uri/{self.new_directory()}"
        self.data = some_bytes(3_000)

    def allow_all(self, *lines: str) -> None:
        self.allow.write_text("".join(f"{line}\n" for line in lines))
        self.allow.chmod(0o600)

    def local(self, method: str, url: str, *, token: str | None = None, **named: Any) -> Reply:
        t = "download" if method == "GET" else "upload"
        arguments = "".join(f"&{name}={path}" for name, path in named.items())
        told = {HEADER: self.gateway.tokens.form if token is None else token}
        headers = {name: value for name, value in told.items() if value}
        return self.ask(method, f"{url}?t={t}{arguments}", headers=headers)


class RefusedTest(LocalCase):
    def all_forms(self, path: Path, **settings: Any) -> list[Reply]:
        self.put(f"{self.url}/f", self.data)
        return [
            self.local("GET", f"{self.url}/f", localfile=path, **settings),
            self.local("GET", self.url, localdir=path, **settings),
            self.local("PUT", f"{self.url}/new", localfile=path, **settings),
            self.local("PUT", f"{self.url}/new", localdir=path, **settings),
        ]

    def refused(self, path: Path, **settings: Any) -> None:
        before = sorted(self.place.rglob("*"))
        for reply in self.all_forms(path, **settings):
            self.assert_status(reply, 403)
        self.assertEqual(sorted(self.place.rglob("*")), before)
        self.assertNotIn("new", self.get(f"{self.url}?t=json").json[1]["children"])

    def test_off_by_default(self) -> None:
        self.refused(self.inside / "x")

    def test_without_the_token(self) -> None:
        self.allow_all()
        self.refused(self.inside / "x", token="")

    def test_a_path_that_is_not_absolute(self) -> None:
        self.allow_all()
        self.refused(Path("inside/x"))

    def test_outside_of_what_is_allowed(self) -> None:
        self.allow_all(str(self.inside))
        outside = self.place / "outside"
        outside.mkdir()
        (outside / "secret").write_bytes(b"secret")
        (self.inside / "way").symlink_to(outside)
        (self.inside / "link").symlink_to(outside / "secret")
        for path in (
            outside / "secret",
            self.inside / "way" / "secret",
            Path(f"{self.inside}/../outside/secret"),
            Path(f"{self.inside}-not/x"),
        ):
            self.refused(path)
        self.assert_status(
            self.local("PUT", f"{self.url}/new", localfile=self.inside / "link"), 403
        )

    def test_a_file_that_others_can_write_allows_nothing(self) -> None:
        self.allow_all()
        self.allow.chmod(0o666)
        self.refused(self.inside / "x")

    def test_another_machine(self) -> None:
        from twisted.internet.address import IPv4Address

        from ampgrid.testing.pipes import MemoryTransport

        self.allow_all()
        self.patch(MemoryTransport, "getPeer", lambda _: IPv4Address("TCP", "10.0.0.1", 1))
        self.refused(self.inside / "x")

    def test_a_gateway_without_a_directory(self) -> None:
        self.gateway.localfiles = LocalFiles(None)
        self.refused(self.inside / "x")


class AllowedTest(LocalCase):
    def setUp(self) -> None:
        super().setUp()
        self.allow_all("# where it may be", str(self.inside))

    def test_download_of_a_file(self) -> None:
        self.put(f"{self.url}/f", self.data)
        target = self.inside / "out"
        for _ in range(2):
            self.assert_status(self.local("GET", f"{self.url}/f", localfile=target), 200)
            self.assertEqual(target.read_bytes(), self.data)
        self.assertEqual([path.name for path in self.inside.iterdir()], ["out"])

    def test_an_empty_file_allows_all(self) -> None:
        self.allow_all()
        self.put(f"{self.url}/f", self.data)
        target = self.place / "elsewhere"
        self.assert_status(self.local("GET", f"{self.url}/f", localfile=target), 200)
        self.assertEqual(target.read_bytes(), self.data)

    def test_localfile_on_a_directory_and_localdir_on_a_file(self) -> None:
        self.put(f"{self.url}/f", self.data)
        target = self.inside / "out"
        self.assert_status(self.local("GET", self.url, localfile=target), 400)
        self.assert_status(self.local("GET", f"{self.url}/f", localdir=target), 400)
        self.assertFalse(target.exists())
        (self.inside / "file").write_bytes(self.data)
        (self.inside / "sub").mkdir()
        new = f"{self.url}/new"
        self.assert_status(self.local("PUT", new, localfile=self.inside / "sub"), 400)
        self.assert_status(self.local("PUT", new, localdir=self.inside / "file"), 400)
        for method in ("GET", "PUT"):
            self.assert_status(self.local(method, new), 400)
            both = {"localfile": target, "localdir": target}
            self.assert_status(self.local(method, new, **both), 400)

    def test_what_is_missing(self) -> None:
        missing = self.inside / "none" / "x"
        self.put(f"{self.url}/f", self.data)
        self.assert_status(self.local("PUT", f"{self.url}/new", localfile=missing), 400)
        self.assert_status(self.local("PUT", f"{self.url}/new", localdir=missing), 400)
        self.assert_status(self.local("GET", f"{self.url}/f", localfile=missing), 400)
        self.assert_status(self.local("GET", f"{self.url}/none", localfile=self.inside / "x"), 404)
        self.assert_status(self.local("GET", f"{self.url}/none", localdir=self.inside / "x"), 404)

    def test_upload_of_a_file(self) -> None:
        source = self.inside / "in"
        source.write_bytes(self.data)
        reply = self.local("PUT", f"{self.url}/a/b/new", localfile=source)
        self.assert_status(reply, 201)
        self.assertEqual(self.get(f"{self.url}/a/b/new").body, self.data)
        self.assertEqual(self.get(f"/uri/{reply.text}").body, self.data)
        source.write_bytes(b"another")
        self.assert_status(self.local("PUT", f"{self.url}/a/b/new", localfile=source), 200)
        kept = self.local("PUT", f"{self.url}/a/b/new", localfile=source, overwrite="false")
        self.assert_status(kept, 409)

    def make_tree(self) -> dict[str, bytes]:
        root = self.inside / "tree"
        files = {"a": b"", "b c": b"1", "sub/deep/x": self.data, "sub/\u00fc": b"2"}
        for number in range(20):
            files[f"many/{number}"] = b"%d" % number
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        (root / "empty").mkdir()
        return files

    def tree(self, root: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }

    def test_upload_and_download_of_a_tree(self) -> None:
        files = self.make_tree()
        self.put(f"{self.url}/new/there", b"stays")
        self.put(f"{self.url}/new/a", b"is replaced")
        reply = self.local("PUT", f"{self.url}/new", localdir=self.inside / "tree")
        self.assert_status(reply, 200)
        self.assertEqual((reply.json["files"], reply.json["directories"]), (len(files), 5))
        self.assertEqual(reply.json["problems"], [])
        out = self.inside / "out"
        reply = self.local("GET", f"{self.url}/new", localdir=out)
        self.assert_status(reply, 200)
        self.assertEqual(self.tree(out), {**files, "there": b"stays"})
        self.assertTrue((out / "empty").is_dir())
        again = self.local("PUT", f"{self.url}/x/y", localdir=out)
        self.assert_status(again, 201)

    def test_links_are_left_out(self) -> None:
        self.make_tree()
        (self.inside / "tree" / "link").symlink_to("/etc/passwd")
        os.mkfifo(self.inside / "tree" / "pipe")
        reply = self.local("PUT", f"{self.url}/new", localdir=self.inside / "tree")
        self.assertEqual(len(reply.json["problems"]), 2)
        self.assertNotIn("link", self.get(f"{self.url}/new?t=json").json[1]["children"])

    def test_nothing_is_written_through_a_link(self) -> None:
        self.put(f"{self.url}/sub/f", self.data)
        outside = self.place / "outside"
        outside.mkdir()
        out = self.inside / "out"
        out.mkdir()
        (out / "sub").symlink_to(outside)
        self.assert_status(self.local("GET", self.url, localdir=out), 400)
        self.assertEqual(list(outside.iterdir()), [])

    def test_a_directory_within_itself(self) -> None:
        inner = self.put(f"{self.url}/sub?t=mkdir").text
        self.put(f"/uri/{inner}/round?t=uri", inner.encode())
        self.put(f"/uri/{inner}/f", b"1")
        self.put(f"{self.url}/again?t=uri", inner.encode())
        reply = self.local("GET", self.url, localdir=self.inside / "out")
        self.assert_status(reply, 200)
        self.assertEqual(len(reply.json["problems"]), 2)
        found = self.tree(self.inside / "out")
        self.assertEqual(found, {"sub/f": b"1", "again/f": b"1"})
