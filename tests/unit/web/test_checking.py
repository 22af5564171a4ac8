"""Checks, manifests, operations by handle, status, health, metrics."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ampgrid.caps import parse_file_cap
from ampgrid.crypto.identity import node_id_text
from tests.material import some_bytes
from tests.unit.web.kit import Client, GatewayCase, Reply, read_reply, request_bytes

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "check.md"


class CheckCase(GatewayCase):
    def setUp(self) -> None:
        self.root = self.new_directory()
        self.url = f"/uri/{self.root}"
        self.cap = self.put(f"{self.url}/sub/file", some_bytes(5_000)).text
        self.put(f"{self.url}/small", b"1")

    def lines(self, reply: Reply) -> list[Any]:
        self.assert_status(reply, 200)
        return [json.loads(line) for line in reply.text.splitlines()]

    def ended(self, handle: str) -> dict[str, Any]:
        for _ in range(1_000):
            told: dict[str, Any] = self.get(f"/operations/{handle}?output=json").json
            if told["state"] != "running":
                return told
            self.grid.clock.advance(0.1)
        raise AssertionError("it does not end")


class CheckTest(CheckCase):
    def test_a_file(self) -> None:
        told = self.post(f"{self.url}/sub/file?t=check").json
        self.assertEqual((told["type"], told["healthy"], told["repaired"]), ("file", True, False))
        self.assertTrue(told["report"])
        for flags in ("verify=true", "repair=true", "add-lease=true"):
            self.assertTrue(self.post(f"/uri/{self.cap}?t=check&{flags}").json["healthy"])

    def test_the_report_has_every_key_of_its_page(self) -> None:
        page = PAGE.read_text(encoding="utf-8").partition("A repair tells")
        keys = set(re.findall(r"^\| `(\w+)`", page[0], re.MULTILINE)) - {"left_out"}
        told = self.post(f"/uri/{self.cap}?t=check").json["report"]
        self.assertEqual(set(told), keys)
        self.assertEqual(told["servers_wanted"], 3)
        (line,) = (
            each
            for each in self.lines(self.post(f"{self.url}?t=stream-deep-check"))
            if each.get("path") == ["sub", "file"]
        )
        self.assertEqual(set(line["report"]), keys)

    def test_a_directory_and_a_literal(self) -> None:
        self.assertEqual(self.post(f"{self.url}?t=check").json["type"], "directory")
        self.assertTrue(self.post(f"{self.url}/small?t=check").json["healthy"])

    def test_a_page(self) -> None:
        reply = self.post(f"{self.url}?t=check&output=html")
        self.assertIn("All is well", reply.text)

    def test_a_page_names_bad_shares_also_after_their_repair(self) -> None:
        cap = self.put("/uri", some_bytes(300_000, b"rotten")).text
        index = parse_file_cap(cap).storage_index
        node = next(node for node in self.grid.nodes if node.store.shares(index))
        number = min(node.store.shares(index))
        path = node.store.path_of(index, number)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 8
        path.write_bytes(data)
        named = f"Share {number} on {node_id_text(node.core.node_id)}"
        bad = self.post(f"/uri/{cap}?t=check&verify=true&output=html").text
        self.assertIn(f"{named} is bad: block", bad)
        repaired = self.post(f"/uri/{cap}?t=check&verify=true&repair=true&output=html").text
        self.assertIn("It was repaired.", repaired)
        self.assertIn(f"{named} was bad: block", repaired)
        self.assertNotIn(f"{named} is bad", repaired)

    def test_it_is_a_post(self) -> None:
        self.assert_status(self.get(f"{self.url}?t=check"), 400)

    def test_damage_is_found_and_repaired(self) -> None:
        cap = self.put("/uri", some_bytes(6_000, b"damaged")).text
        node = self.grid.nodes[0]
        shares = self.post(f"/uri/{cap}?t=check").json["report"]
        self.assertTrue(shares)
        node.cut()
        self.grid.clock.advance(120)
        try:
            told = self.post(f"/uri/{cap}?t=check").json
            self.assertTrue(told["recoverable"])
            again = self.post(f"/uri/{cap}?t=check&repair=true").json
            self.assertTrue(again["recoverable"])
            if not told["healthy"]:
                self.assertTrue(again["repaired"])
        finally:
            self.grid.net.listen(node.host, 1, node.core.network.listening_factory())
            self.grid.clock.advance(300)


class WalkTest(CheckCase):
    def test_stream_manifest(self) -> None:
        for method in ("GET", "POST"):
            lines = self.lines(self.ask(method, f"{self.url}?t=stream-manifest"))
            paths = ["/".join(line["path"]) for line in lines[:-1]]
            self.assertEqual(paths, ["", "small", "sub", "sub/file"])
            self.assertEqual(lines[3]["cap"], self.cap)
            self.assertEqual((lines[-1]["type"], lines[-1]["files"]), ("stats", 1))

    def test_stream_deep_check(self) -> None:
        lines = self.lines(self.post(f"{self.url}?t=stream-deep-check&verify=true"))
        self.assertTrue(all(line["healthy"] for line in lines[:-1]))
        self.assertEqual(lines[-1]["healthy"], 4)

    def test_manifest(self) -> None:
        page = self.assert_status(self.get(f"{self.url}?t=manifest"), 200)
        self.assertEqual(page.headers["Content-Type"], "text/html; charset=utf-8")
        self.assertIn(f'<td>sub/file</td><td><a href="/uri/{self.cap}">', page.text)
        text = self.get(f"{self.url}?t=manifest&output=text").text.splitlines()
        self.assertEqual(text[-1], f"{self.cap} sub/file")
        lines = self.lines(self.get(f"{self.url}?t=manifest&output=json"))
        self.assertEqual(len(lines), 5)

    def test_they_are_of_directories(self) -> None:
        for t in ("manifest", "stream-manifest"):
            self.assert_status(self.get(f"{self.url}/small?t={t}"), 400)
        for t in ("start-deep-check", "stream-deep-check", "start-deep-stats"):
            self.assert_status(self.post(f"{self.url}/small?t={t}"), 400)

    def test_a_name_cannot_break_the_page(self) -> None:
        self.put(f"{self.url}/%3Cscript%3Ealert(1)%3C%2Fx", b"1")
        self.put(f"{self.url}/%3Cscript%3Ealert(1)", b"1")
        for url in (f"{self.url}?t=manifest", self.url):
            self.assertNotIn("<script>alert", self.get(url).text)

    def test_deep_check_by_handle(self) -> None:
        reply = self.post(f"{self.url}?t=start-deep-check&ophandle=abc&verify=true")
        self.assert_status(reply, 303)
        self.assertEqual(reply.headers["Location"], "/operations/abc")
        told = self.ended("abc")
        self.assertEqual((told["state"], told["kind"], told["done"]), ("done", "deep-check", 4))
        self.assertEqual(told["result"]["summary"]["healthy"], 4)
        self.assertEqual(told["result"]["unwell"], [])
        self.assertIn("deep-check: done", self.get("/operations/abc?output=html").text)
        again = self.post(f"{self.url}?t=start-deep-check&ophandle=abc")
        self.assert_status(again, 409)

    def test_a_handle_of_our_own(self) -> None:
        reply = self.post(f"{self.url}?t=start-deep-stats&output=json")
        location = reply.headers["Location"]
        self.assertRegex(location, r"^/operations/[0-9a-f]{24}\?output=json$")
        told = self.ended(location[12:36])
        self.assertEqual(told["result"]["summary"]["files"], 1)

    def test_cancelling(self) -> None:
        for number, cancel in enumerate(
            (
                self.delete,
                lambda url: self.post(url, t="cancel"),
                lambda url: self.post(f"{url}?t=cancel"),
            )
        ):
            for name in range(3):
                self.put(f"{self.url}/more{name}", some_bytes(2_000, bytes([name])))
            handle = f"cancel{number}"
            client = self.connect()
            client.transport.write(
                f"POST {self.url}?t=start-deep-check&ophandle={handle} HTTP/1.1\r\n"
                "Host: 127.0.0.1:2\r\nContent-Length: 0\r\n\r\n".encode()
            )
            while not self.gateway.jobs.running():
                self.grid.clock.advance(0.001)
            self.assert_status(cancel(f"/operations/{handle}"), 200)
            self.assertEqual(self.ended(handle)["state"], "cancelled")
            client.transport.abortConnection()

    def test_operations_that_are_not(self) -> None:
        for url in ("/operations/none", "/operations/a/b", "/operations/none?output=html"):
            self.assert_status(self.get(url), 404)
        for handle in ("a%20b", "a/b", "x" * 65, "%3Cb%3E"):
            self.assert_status(self.post(f"{self.url}?t=start-deep-check&ophandle={handle}"), 400)
        self.assert_status(self.post("/operations/none", t="cancel"), 404)

    def test_an_upload_by_handle(self) -> None:
        data = some_bytes(3_000, b"by handle")
        self.assert_status(self.put(f"{self.url}/x?ophandle=up", data), 201)
        told = self.ended("up")
        self.assertEqual((told["kind"], told["state"], told["size"]), ("upload", "done", 3_000))
        self.assertGreater(told["result"]["shares_placed"], 0)
        listed = self.get("/operations").json
        self.assertIn("up", [job["handle"] for job in listed])


class StatusTest(GatewayCase):
    def test_status(self) -> None:
        self.put("/uri", some_bytes(4_000, b"status"))
        told = self.get("/status?t=json").json
        self.assertEqual(sorted(told), ["health", "node", "peers", "transfers"])
        self.assertEqual(told["health"]["storage_peers"], 4)
        self.assertEqual(told["node"]["kind"], "node")
        self.assertEqual(told["transfers"]["recent"][0]["kind"], "upload")
        self.assertGreater(told["transfers"]["bytes"]["upload"], 0)
        for part in told:
            self.assert_status(self.get(f"/status/{part}"), 200)
        self.assert_status(self.get("/status/other"), 404)
        page = self.ask("GET", "/status", headers={"Accept": "text/html"})
        self.assertIn("Status: ok", page.text)

    def test_status_tells_no_caps(self) -> None:
        cap = self.put("/uri", some_bytes(4_000, b"secret")).text
        root = self.new_directory()
        self.post(f"/uri/{cap}?t=check")
        for url in ("/status?t=json", "/status/transfers", "/metrics", "/health"):
            text = self.get(url).text
            self.assertNotIn("URI:", text)
            for secret in (cap.split(":")[2], root.split(":")[2]):
                self.assertNotIn(secret, text)

    def test_health(self) -> None:
        told = self.assert_status(self.get("/health"), 200).json
        self.assertEqual(told["status"], "ok")
        self.assertTrue(told["reads"] and told["writes"] and told["directories"])

    def test_health_without_a_quorum_of_directories(self) -> None:
        self.assert_status(self.get("/vdrive/private/?t=json"), 200)
        gone = self.grid.nodes[:2]
        for node in gone:
            node.cut()
        self.grid.clock.advance(120)
        try:
            told = self.assert_status(self.get("/health"), 503).json
            self.assertEqual((told["status"], told["directories"]), ("degraded", False))
            # Two of four are connected, and are no quorum: what is told is what is met.
            self.assertGreater(told["vdrive_peers"], 0)
            self.assert_status(self.get("/vdrive/private/?t=json"), 503)
        finally:
            for node in gone:
                self.grid.net.listen(node.host, 1, node.core.network.listening_factory())
            self.grid.clock.advance(300)
        self.assertTrue(self.assert_status(self.get("/health"), 200).json["directories"])

    def test_metrics(self) -> None:
        self.put("/uri", some_bytes(4_000, b"metrics"))
        reply = self.assert_status(self.get("/metrics"), 200)
        self.assertTrue(reply.headers["Content-Type"].startswith("text/plain"))
        lines = reply.text.splitlines()
        self.assertIn("ampgrid_storage_peers 4.0", lines)
        self.assertIn("ampgrid_healthy 1.0", lines)
        uploads = 'ampgrid_web_operations_total{kind="upload",state="done"}'
        self.assertTrue([line for line in lines if line.startswith(uploads)])
        self.assertTrue([line for line in lines if line.startswith("process_resident_memory")])


class HandleTest(GatewayCase):
    def test_several_files_of_one_form_are_one_operation(self) -> None:
        root = self.new_directory()
        files = {name: some_bytes(2_000, name.encode()) for name in ("a", "b", "c")}
        reply = self.post(f"/uri/{root}?ophandle=several", files, t="upload")
        self.assert_status(reply, 201)
        self.assertEqual(len(reply.text.splitlines()), 3)
        told = self.get("/operations/several").json
        self.assertEqual((told["state"], told["size"]), ("done", 6_000))
        for name, data in files.items():
            self.assertEqual(self.get(f"/uri/{root}/{name}").body, data)

    def uploading(self, handle: str, length: int, sent: int) -> Client:
        """Begin an upload, and send some of its body."""
        client = self.connect()
        head = request_bytes(
            "PUT", f"/uri?ophandle={handle}", headers={"Content-Length": f"{length}"}
        )
        client.transport.write(head + bytes(sent))
        self.grid.clock.advance(0.01)
        return client

    def test_a_handle_is_known_while_the_body_comes(self) -> None:
        client = self.uploading("early", 3_000, 1_000)
        told = self.get("/operations/early").json
        self.assertEqual((told["state"], told["phase"]), ("running", "receiving"))
        self.assertEqual((told["done"], told["total"], told["size"]), (1_000, 3_000, 3_000))
        self.assert_status(self.put("/uri?ophandle=early", b"another"), 409)
        client.transport.write(bytes(2_000))
        self.wait(client)
        self.assert_status(read_reply(client.received), 201)
        told = self.get("/operations/early").json
        self.assertEqual((told["state"], told["kind"], told["size"]), ("done", "upload", 3_000))
        self.assertNotIn("early", [job.handle for job in self.gateway.jobs.running()])

    def test_a_client_that_goes_while_its_body_comes(self) -> None:
        before = dict(self.gateway.jobs.bytes)
        self.uploading("gone", 3_000, 1_000).transport.abortConnection()
        self.grid.clock.advance(1)
        told = self.get("/operations/gone").json
        self.assertEqual((told["state"], told["error"]), ("cancelled", "the client went away"))
        self.assertEqual(self.gateway.jobs.bytes.get("upload"), before.get("upload", 0))

    def test_cancelling_what_still_comes(self) -> None:
        for length in (3_000, 3_000_000):
            handle = f"stop-{length}"
            client = self.uploading(handle, length, 1_000)
            self.assert_status(self.delete(f"/operations/{handle}"), 200)
            self.assertEqual(self.get(f"/operations/{handle}").json["state"], "cancelled")
            client.transport.write(bytes(2_000))
            self.wait(client)
            self.assert_status(read_reply(client.received), 503)

    def test_what_is_refused_before_it_begins(self) -> None:
        root = self.new_directory()
        self.put(f"/uri/{root}/there", b"1")
        url = f"/uri/{root}/there?overwrite=false"
        self.assert_status(self.put(f"{url}&ophandle=refused", b"2"), 409)
        told = self.get("/operations/refused").json
        self.assertEqual(told["state"], "failed")
        self.assertIn("there is a 'there'", told["error"])
        reply = self.post(f"/uri/{root}?ophandle=made", {}, t="mkdir", name="new")
        self.assert_status(reply, 201)
        self.assertEqual(self.get("/operations/made").json["state"], "done")
        for handle in ("a%20b", "x" * 65):
            self.assert_status(self.put(f"/uri?ophandle={handle}", b"1"), 400)
        self.assertEqual(self.gateway.jobs.running(), [])

    def test_a_form_with_files_that_begins_a_walk(self) -> None:
        root = self.new_directory()
        reply = self.post(f"/uri/{root}?ophandle=walk", {"f": b"1"}, t="start-deep-check")
        self.assert_status(reply, 303)
        self.grid.clock.advance(10)
        told = self.get("/operations/walk").json
        self.assertEqual((told["kind"], told["state"]), ("deep-check", "done"))


class VerifyCapTest(GatewayCase):
    """What may only be checked can be checked and repaired, and told of, and no more."""

    def setUp(self) -> None:
        self.root = self.new_directory()
        cap = self.put(f"/uri/{self.root}/f", some_bytes(5_000, b"verify")).text
        self.file = self.get(f"/uri/{cap}?t=json").json[1]["verify_uri"]
        self.directory = self.get(f"/uri/{self.root}?t=json").json[1]["verify_uri"]

    def test_check(self) -> None:
        for cap, kind in ((self.file, "file"), (self.directory, "directory")):
            for flags in ("", "&repair=true", "&verify=true&add-lease=true"):
                told = self.assert_status(self.post(f"/uri/{cap}?t=check{flags}"), 200).json
                self.assertEqual((told["type"], told["verify_cap"]), (kind, cap))
                self.assertTrue(told["healthy"])
                self.assertTrue(told["report"])

    def test_info(self) -> None:
        for cap in (self.file, self.directory):
            told = self.assert_status(self.get(f"/uri/{cap}?t=info&output=json"), 200).json
            self.assertEqual((told["cap"], told["read_cap"]), (cap, None))
            self.assert_status(self.get(f"/uri/{cap}?t=info&output=html"), 200)

    def test_nothing_else(self) -> None:
        for cap in (self.file, self.directory):
            for t in ("", "?t=json", "?t=manifest"):
                self.assert_status(self.get(f"/uri/{cap}{t}"), 400)
            self.assert_status(self.post(f"/uri/{cap}?t=start-deep-check"), 400)
            self.assert_status(self.put(f"/uri/{self.root}/x?t=uri", cap.encode()), 400)


class OperationPageTest(GatewayCase):
    def test_what_is_not_well_is_told_in_words_for_what_it_is(self) -> None:
        summary = {"directories": 2, "files": 1, "literals": 0, "healthy": 1, "unhealthy": 2}
        unwell = [
            {"path": [], "type": "directory", "problems": []},
            {"path": ["a", "f"], "type": "file", "problems": []},
            {"path": ["a"], "type": "directory", "problems": ["cannot be read"]},
        ]
        job = self.gateway.jobs.begin("deep-check", "words")
        job.result = {"summary": summary, "unwell": unwell, "left_out": 0}
        self.gateway.jobs.end(job)
        told = self.get("/operations/words?output=html").text
        for words in (
            "the directory itself: too few replicas",
            "a/f: too few shares",
            "a: cannot be read",
            "<dt>Well</dt><dd>1</dd>",
            "<dt>Not well</dt><dd>2</dd>",
        ):
            self.assertIn(words, told)
        self.assertNotIn("held in their directories", told)
