"""``/blobs`` as a client of the seed's server knows it, and as strangers try it."""

from __future__ import annotations

import tempfile
from base64 import b64encode, urlsafe_b64encode
from http.client import HTTPException
from pathlib import Path

from attrs import evolve

from ampgrid.blobs.peer import PeerRemote
from ampgrid.blobs.port import Page
from ampgrid.crypto.identity import node_id_text
from ampgrid.formats.blobname import BlobName
from ampgrid.store.servedblob_schema import ROW_BYTES
from ampgrid.testing.grid import MemoryGrid
from ampgrid.web import blobs, remote_blobs
from ampgrid.web.gateway import Gateway
from ampgrid.web.guesses import FREE
from ampgrid.web.password import Password
from ampgrid.web.tokens import Tokens
from tests.unit.blobs.serving import LARGE, sealed
from tests.unit.web.kit import OWN_PAGE, GatewayCase, read_reply, request_bytes


class BlobsCase(GatewayCase):
    """A gateway of a node that keeps blobs; each test has a user of its own."""

    number = 0

    @classmethod
    def setUpClass(cls):
        cls._folder = tempfile.TemporaryDirectory()
        cls.grid = MemoryGrid(Path(cls._folder.name), 1, (1, 1, 1), blobs=True)
        cls.grid.start()
        cls.core = cls.grid.nodes[0].core
        cls.gateway = Gateway(cls.core, Tokens(b"t" * 32))

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.grid.stop()
        cls._folder.cleanup()

    def setUp(self):
        BlobsCase.number += 1
        self.user = f"user{BlobsCase.number}"
        self.token = self.grid.run(self.core.blobs.issue_token(self.user))

    def authorization(self, user=None, token=None):
        said = f"{user or self.user}:{token or self.token}".encode()
        return "Token " + b64encode(said).decode()

    def ask_blob(self, method, rest, body=b"", user=None, **headers):
        told = {"Authorization": self.authorization()}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask(method, f"/blobs/{user or self.user}/{rest}", body, told)

    def put_blob(self, blob_id, data, **headers):
        return self.assert_status(self.ask_blob("PUT", blob_id, data, **headers), 200)


class SeedTests(BlobsCase):
    def test_put_get_delete(self):
        for size in (16, 1000, LARGE):
            data, blob_id = sealed(size, size), f"b{size}"
            self.assertEqual(self.ask_blob("GET", blob_id).status, 404)
            self.put_blob(blob_id, data)
            reply = self.assert_status(self.ask_blob("GET", blob_id), 200)
            self.assertEqual(reply.body, data)
            self.assertEqual(reply.headers["Tag"], urlsafe_b64encode(data[-16:]).decode())
            self.assertEqual(reply.headers["Content-Security-Policy"].split(";")[0], "sandbox")
            self.assertEqual(reply.headers["X-Content-Type-Options"], "nosniff")
            head = self.assert_status(self.ask_blob("HEAD", blob_id), 200)
            self.assertEqual((head.headers["Content-Length"], head.body), (str(size), b""))
            self.assertEqual(self.ask_blob("DELETE", blob_id).status, 200)
            self.assertEqual(self.ask_blob("GET", blob_id).status, 404)
            self.assertEqual(self.ask_blob("PUT", blob_id, data).status, 410)
            self.assertEqual(self.ask_blob("DELETE", blob_id).status, 200)
        self.assertEqual(self.ask_blob("DELETE", "never").status, 404)

    def test_another_blob_under_a_name_is_a_conflict_and_the_same_is_none(self):
        for size in (1000, LARGE):
            self.put_blob(f"b{size}", sealed(1, size))
            self.put_blob(f"b{size}", sealed(1, size))
            self.assertEqual(self.ask_blob("PUT", f"b{size}", sealed(2, size)).status, 409)
            self.assertEqual(self.ask_blob("GET", f"b{size}").body, sealed(1, size))

    def test_a_range_names_the_last_byte_that_comes(self):
        data = sealed("range", LARGE)
        self.put_blob("b", data)
        last = LARGE - 1
        for said, first, end in (
            ("bytes=0-0", 0, 0),
            ("bytes=0-15", 0, 15),
            ("bytes=10-", 10, last),
            ("bytes=-16", LARGE - 16, last),
            (f"bytes={last}-", last, last),
            (f"bytes=5-{LARGE + 100}", 5, last),
        ):
            reply = self.assert_status(self.ask_blob("GET", "b", Range=said), 206)
            self.assertEqual(reply.headers["Content-Range"], f"bytes {first}-{end}/{LARGE}")
            self.assertEqual(reply.headers["Content-Length"], str(end - first + 1))
            self.assertEqual(reply.body, data[first : end + 1])
        reply = self.assert_status(self.ask_blob("GET", "b", Range=f"bytes={LARGE}-"), 416)
        self.assertEqual(reply.headers["Content-Range"], f"bytes */{LARGE}")

    def test_flags(self):
        self.put_blob("b", sealed("b", 100))
        flags = "b?only_flags=true"
        self.assertEqual(self.ask_blob("GET", flags).json, [])
        self.assertEqual(self.ask_blob("POST", "b", b'["PENDING", "FAILED"]').status, 200)
        self.assertEqual(self.ask_blob("GET", flags).json, ["PENDING", "FAILED"])
        self.assertEqual(self.ask_blob("HEAD", "b").headers["Flags"], "PENDING,FAILED")
        for body, status in (
            (b'["OTHER"]', 406),
            (b'"PENDING"', 406),
            (b"{}", 406),
            (b"[1]", 406),
            (b"[[]]", 406),
            (b"no JSON", 400),
            (b"", 400),
            (b"[" * 100_000, 400),
            (b"\xff", 400),
        ):
            self.assertEqual(self.ask_blob("POST", "b", body).status, status, body[:20])
        self.assertEqual(self.ask_blob("GET", flags).json, ["PENDING", "FAILED"])
        self.assertEqual(self.ask_blob("POST", "never", b"[]").status, 404)
        self.assertEqual(self.ask_blob("GET", "never?only_flags=true").status, 404)

    def test_listings(self):
        for blob_id in ("c", "a", "b"):
            self.put_blob(blob_id, sealed(blob_id, 100))
        self.put_blob("x?namespace=other", sealed("x", 100))
        self.ask_blob("POST", "a", b'["FAILED"]')
        for query, expected in (
            ("", ["a", "b", "c"]),
            ("?namespace=", ["a", "b", "c"]),
            ("?namespace=other", ["x"]),
            ("?order_by=date", ["c", "a", "b"]),
            ("?order_by=+date", ["c", "a", "b"]),
            ("?order_by=%2Bdate", ["c", "a", "b"]),
            ("?order_by=-date", ["b", "a", "c"]),
            ("?filter_flag=FAILED", ["a"]),
            ("?deleted=true", []),
            ("?only_count=true", {"count": 3}),
            ("?only_count=True&filter_flag=FAILED", {"count": 1}),
            ("?namespaces=true", ["default", "other"]),
        ):
            self.assertEqual(self.ask_blob("GET", query).json, expected, query)
        first = self.ask_blob("GET", "?limit=2&order_by=-date")
        self.assertEqual(first.json, ["b", "a"])
        rest = self.ask_blob("GET", f"?limit=2&order_by=-date&after={first.headers['Next']}")
        self.assertEqual((rest.json, rest.headers["Next"]), (["c"], None))
        for query, status in (
            ("?order_by=size", 400),
            ("?filter_flag=OTHER", 406),
            ("?limit=0", 400),
            ("?limit=1001", 400),
            ("?limit=-1", 400),
            ("?limit=99999999999999999999", 400),
            ("?order_by=date&after=a", 400),
            ("?namespace=a%2Fb", 400),
            ("?deleted=maybe", 400),
        ):
            self.assertEqual(self.ask_blob("GET", query).status, status, query)

    def test_a_long_listing_comes_whole_without_a_limit(self):
        self.patch(blobs, "_MOST_LIMIT", 10)
        service = self.core.blobs
        names = [f"b{number:04d}" for number in range(21)]
        for blob_id in names:
            name, data = BlobName("long", blob_id), sealed(blob_id, 16)
            self.grid.run(service.put_whole(f"user:{self.user}", name, data))
        self.assertEqual(self.ask_blob("GET", "?namespace=long").json, names)

    def test_the_quota(self):
        most = self.core.config.blobs_user_quota
        told = {"Content_Range": f"bytes */{most}", "Tag": urlsafe_b64encode(b"t" * 16).decode()}
        self.assertEqual(self.ask_blob("PUT", "b", **told).status, 507)

    def test_what_is_beyond_the_quota_is_not_spooled(self):
        most = self.core.config.blobs_user_quota
        client = self.connect()
        head = f"PUT /blobs/{self.user}/b HTTP/1.1\r\nHost: 127.0.0.1:2\r\n"
        head += f"Authorization: {self.authorization()}\r\n"
        client.transport.write(f"{head}Content-Length: {most + 1}\r\n\r\n".encode())
        self.grid.clock.advance(0.1)
        self.assertEqual(read_reply(client.received, "PUT").status, 507)

    def test_an_endless_body_ends_at_the_quota(self):
        store = self.core.blobs.store
        self.patch(store, "_limits", evolve(store._limits, account_quota=100_000))
        client = self.connect()
        head = f"PUT /blobs/{self.user}/b HTTP/1.1\r\nHost: 127.0.0.1:2\r\n"
        head += f"Authorization: {self.authorization()}\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.transport.write(head.encode())
        for _ in range(11):
            client.transport.write(b"2710\r\n" + bytes(10_000) + b"\r\n")
        self.grid.clock.advance(0.1)
        self.assertEqual(read_reply(client.received, "PUT").status, 413)


class StrangerTests(BlobsCase):
    def test_nobody_comes_in_without_the_token_of_the_user(self):
        self.put_blob("b", sealed("b", 100))
        other = self.grid.run(self.core.blobs.issue_token("other"))
        for said, status in (
            (None, 401),
            ("", 401),
            ("Token", 401),
            ("Token !!!", 401),
            ("Token " + b64encode(self.user.encode()).decode(), 401),
            (self.authorization(token=self.token[:-1]), 401),
            (self.authorization(token=other), 401),
            (self.authorization().replace("Token", "Basic"), 401),
            (self.authorization("other", other), 403),
            ("Token " + b64encode(b"\xff:\xff").decode(), 401),
            (self.authorization("a/b"), 401),
        ):
            headers = {} if said is None else {"Authorization": said}
            for method, rest in (
                ("GET", "b"),
                ("HEAD", "b"),
                ("PUT", "n"),
                ("POST", "b"),
                ("DELETE", "b"),
                ("GET", ""),
            ):
                body = b"x" * 100 if method in {"PUT", "POST"} else b""
                reply = self.ask(method, f"/blobs/{self.user}/{rest}", body, headers)
                self.assertEqual(reply.status, status, (said, method))
                self.assertNotIn(self.token, reply.text)
            if status == 401:
                self.assertIn("Token", reply.headers["WWW-Authenticate"])
        self.assertEqual(self.ask_blob("GET", "").json, ["b"])

    def test_whoever_guesses_is_slowed(self):
        remote = f"/remote-blobs/amp:{node_id_text(self.core.node_id)}/{self.user}/"
        for path in (f"/blobs/{self.user}/", remote):
            gateway = Gateway(self.core, Tokens(b"t" * 32))
            self.addCleanup(gateway.stop)
            for said, slowed in ((None, False), (self.authorization(token="wrong"), True)):
                headers = {} if said is None else {"Authorization": said}
                for number in range(FREE + 1):
                    client = self.connect(gateway)
                    client.transport.write(request_bytes("GET", path, b"", headers))
                    self.grid.clock.advance(0.1)
                    self.assertIs(client.received == b"", slowed and number == FREE)
            self.grid.clock.advance(1)
            self.assertEqual(read_reply(client.received).status, 401)

    def test_a_stranger_is_refused_before_the_body_is_taken(self):
        client = self.connect()
        head = f"PUT /blobs/{self.user}/b HTTP/1.1\r\nHost: 127.0.0.1:2\r\n"
        client.transport.write(f"{head}Content-Length: {10**12}\r\n\r\n".encode())
        self.grid.clock.advance(0.1)
        self.assertEqual(read_reply(client.received, "PUT").status, 401)

    def test_no_path_leads_elsewhere(self):
        for rest in ("..", ".", "a%2Fb", "..%2Fx", "a/b", "a%00", "%C3%A4", "x" * 256, "a.lock"):
            for method in ("GET", "PUT", "DELETE", "POST"):
                body = sealed(1, 20) if method == "PUT" else b"[]" if method == "POST" else b""
                reply = self.ask_blob(method, rest, body)
                self.assertIn(reply.status, {400, 404}, (method, rest))
        for path in ("/blobs", "/blobs/", "/blobs//", "/blobs//b", f"/blobs/{self.user}"):
            told = {"Authorization": self.authorization()}
            self.assertEqual(self.ask("GET", path, headers=told).status, 404, path)
        self.assertEqual(self.ask_blob("GET", "?namespaces=true").json, [])

    def test_a_browser_changes_nothing(self):
        reply = self.ask_blob(
            "DELETE", "b", **{k.replace("-", "_"): v for k, v in OWN_PAGE.items()}
        )
        self.assertEqual(reply.status, 403)

    def test_the_password_of_the_gateway_is_not_asked_for(self):
        gateway = Gateway(self.core, Tokens(b"t" * 32), password=Password(b"me", b"secret"))
        self.addCleanup(gateway.stop)
        told = {"Authorization": self.authorization()}
        reply = self.ask("GET", f"/blobs/{self.user}/", headers=told, gateway=gateway)
        self.assertEqual(reply.json, [])
        self.assertEqual(self.ask("GET", "/", headers=told, gateway=gateway).status, 401)
        reply = self.ask("GET", f"/blobs/{self.user}/", gateway=gateway)
        self.assertIn("Token", reply.headers["WWW-Authenticate"])

    def test_a_node_that_keeps_none_says_so(self):
        gateway = Gateway(self.grid.client.core, Tokens(b"t" * 32))
        self.addCleanup(gateway.stop)
        reply = self.ask("GET", f"/blobs/{self.user}/", gateway=gateway)
        self.assertEqual(reply.status, 404)
        self.assertIn("keeps no blobs", reply.text)


class PartTests(BlobsCase):
    def part(self, data, first, end, *, tag=None, rest="b", **headers):
        told = {
            "Content_Range": f"bytes {first}-{end - 1}/{len(data)}",
            "Tag": urlsafe_b64encode(data[-16:] if tag is None else tag).decode(),
        }
        return self.ask_blob("PUT", rest, data[first:end], **{**told, **headers})

    def asked(self, data, rest="b"):
        told = {
            "Content_Range": f"bytes */{len(data)}",
            "Tag": urlsafe_b64encode(data[-16:]).decode(),
        }
        return self.ask_blob("PUT", rest, **told)

    def test_parts_come_one_after_the_other(self):
        data = sealed("parts", LARGE)
        reply = self.assert_status(self.asked(data), 202)
        self.assertEqual(reply.headers["Upload-Offset"], "0")
        reply = self.assert_status(self.part(data, 0, 70_000), 202)
        self.assertEqual(reply.headers["Upload-Offset"], "70000")
        self.assertEqual(self.ask_blob("GET", "b").status, 404)
        self.assertEqual(self.ask_blob("GET", "").json, [])
        for first in (0, 69_999, 70_001, LARGE - 1):
            reply = self.assert_status(self.part(data, first, LARGE), 416)
            self.assertEqual(reply.headers["Upload-Offset"], "70000")
        self.assert_status(self.part(data, 70_000, LARGE), 200)
        self.assertEqual(self.ask_blob("GET", "b").body, data)
        self.assert_status(self.part(data, 0, 10), 200)
        self.assert_status(self.asked(data), 200)

    def test_a_name_is_kept_for_a_put_in_parts(self):
        one, two = sealed("one", LARGE), sealed("two", LARGE)
        self.assert_status(self.part(one, 0, 70_000), 202)
        for reply in (
            self.asked(two),
            self.ask_blob("PUT", "b", two),
            self.ask_blob("PUT", "b", two[:99]),
        ):
            self.assertEqual(reply.status, 503)
        self.assert_status(self.part(one, 70_000, 100_000), 202)
        self.grid.clock.advance(31)
        self.assert_status(self.part(two, 0, LARGE), 200)
        self.assert_status(self.part(one, 100_000, LARGE), 409)
        self.assertEqual(self.ask_blob("GET", "b").body, two)

    def test_a_put_in_parts_can_be_left_or_dropped(self):
        data, other = sealed("left", LARGE), sealed("other", LARGE)
        for how, have in (("leave", "70000"), ("drop", "0")):
            self.assert_status(self.part(data, 0, 70_000), 202)
            self.assert_status(self.asked(data, f"b?{how}=true"), 200)
            reply = self.assert_status(self.asked(data), 202)
            self.assertEqual(reply.headers["Upload-Offset"], have)
            self.assert_status(self.asked(data, "b?drop=true"), 200)
        self.put_blob("b", other)

    def test_a_wrong_end_throws_it_away(self):
        data = sealed("wrong", LARGE)
        self.assert_status(self.part(data, 0, 70_000, tag=b"t" * 16), 202)
        self.assert_status(self.part(data, 70_000, LARGE, tag=b"t" * 16), 422)
        self.assertEqual(self.grid.run(self.core.blobs.used_by(f"user:{self.user}")), 0)
        wrong = urlsafe_b64encode(b"t" * 16).decode()
        self.assertEqual(self.ask_blob("PUT", "b", data[:100], Tag=wrong).status, 422)
        self.assertEqual(self.ask_blob("PUT", "b", b"short").status, 422)
        self.assertEqual(self.ask_blob("PUT", "b").status, 422)

    def test_parts_that_make_no_sense(self):
        data = sealed("nonsense", LARGE)
        tag = urlsafe_b64encode(data[-16:]).decode()
        for said in (
            "bytes 0-9/*",
            "bytes */*",
            "bytes 9-0/150000",
            "bytes 0-8/150000",
            "bytes 0-9/5",
            "items 0-9/150000",
            "bytes 0-9/99999999999999",
            "0-9/150000",
            "",
            "bytes */150000",
            "bytes 0-9/1000",
            "bytes -1-8/150000",
        ):
            reply = self.ask_blob("PUT", "b", data[:10], Content_Range=said, Tag=tag)
            self.assertEqual(reply.status, 400, said)
        for tag in ("", "short", "*" * 24, None):
            more = {} if tag is None else {"Tag": tag}
            reply = self.ask_blob("PUT", "b", Content_Range="bytes */150000", **more)
            self.assertEqual(reply.status, 400, tag)
        self.assertEqual(self.grid.run(self.core.blobs.used_by(f"user:{self.user}")), 0)

    def test_what_is_announced_counts(self):
        self.assert_status(self.part(sealed("x", LARGE), 0, 10), 202)
        used = self.grid.run(self.core.blobs.used_by(f"user:{self.user}"))
        self.assertEqual(used, LARGE + ROW_BYTES)


class RemoteTests(BlobsCase):
    """``/remote-blobs``: for whoever has the token of the gateway, and nobody else."""

    def test_nobody_comes_in_without_the_token_of_the_gateway(self):
        node_id = node_id_text(self.core.node_id)
        for said in (None, "x", self.token, f"x.{self.token}", f".{self.gateway.tokens.form}"):
            headers = {} if said is None else {"Authorization": self.authorization(token=said)}
            for remote in (f"amp:{node_id}", "grid:private:blobs"):
                for method, rest in (("GET", ""), ("GET", "b"), ("PUT", "b"), ("DELETE", "b")):
                    path = f"/remote-blobs/{remote}/{self.user}/{rest}"
                    body = b"x" * 100 if method == "PUT" else b""
                    reply = self.ask(method, path, body, headers)
                    self.assertEqual(reply.status, 401, (said, path))

    def test_the_token_of_the_gateway_serves_behind_a_password(self):
        gateway = Gateway(self.core, Tokens(b"t" * 32), password=Password(b"me", b"secret"))
        self.addCleanup(gateway.stop)
        path = f"/remote-blobs/amp:{node_id_text(self.core.node_id)}/{self.user}/"
        told = {"Authorization": self.authorization(token=gateway.tokens.form)}
        self.assertEqual(self.ask("GET", path, headers=told, gateway=gateway).json, [])
        self.assertEqual(self.ask("GET", path, gateway=gateway).status, 401)

    def test_remotes_that_there_are_not(self):
        told = {"Authorization": self.authorization(token=self.gateway.tokens.form)}
        for remote, status in (
            ("ftp:host", 403),
            ("amp:short", 403),
            ("grid:", 403),
            ("grid:nowhere:a", 403),
            ("grid:URI:DIR:bad", 403),
            ("amp:" + "a" * 32, 503),
            ("%2F", 403),
        ):
            for method, rest in (("GET", ""), ("HEAD", "b"), ("PUT", "b")):
                body = sealed(1, 100) if method == "PUT" else b""
                path = f"/remote-blobs/{remote}/me/{rest}"
                reply = self.ask(method, path, body, told)
                self.assertEqual(reply.status, status, (method, remote, reply.body))
        for path in (
            "/remote-blobs/",
            "/remote-blobs/a",
            "/remote-blobs/a/b",
            "/remote-blobs//b/",
        ):
            self.assertEqual(self.ask("GET", path, headers=told).status, 404, path)

    def test_a_directory_that_was_taken_away_is_not_written_to_any_more(self):
        """What went on in there nobody would look after, or find again."""
        core = self.grid.client.core
        gateway = Gateway(core, Tokens(b"t" * 32))
        self.addCleanup(gateway.stop)
        told = {"Authorization": self.authorization(token=gateway.tokens.form)}
        for number in range(2):
            path = f"/remote-blobs/grid:private:gone/me/b{number}"
            put = self.ask("PUT", path, sealed(number, 100), told, gateway=gateway)
            self.assert_status(put, 200)
            path = "/remote-blobs/grid:private:gone/me/"
            listed = self.ask("GET", path, headers=told, gateway=gateway)
            self.assertEqual(listed.json, [f"b{number}"])
            root = self.grid.run(core.drive.directory("private:"))
            self.assertIsNotNone(self.grid.run(root.delete("gone")))

    def test_a_listing_without_end_ends(self):
        """A peer that lies cannot keep a request alive for ever."""
        self.put_blob("b", sealed("b", 100))
        self.patch(remote_blobs, "MOST_IDS", 10)
        asked = []

        async def page(_remote, _query, _order, after=None, _most=1000):
            asked.append(after)
            self.assertLess(len(asked), 100)
            return Page((f"b{len(asked)}",), str(len(asked)))

        self.patch(PeerRemote, "page", page)
        own = self.gateway.tokens.form
        path = f"/remote-blobs/amp:{node_id_text(self.core.node_id)}/{self.user}/"
        told = {"Authorization": self.authorization(token=f"{own}.{self.token}")}
        with self.assertRaises(HTTPException):
            self.ask("GET", path, headers=told)

    def test_the_token_of_a_user_goes_to_the_peer(self):
        self.put_blob("b", sealed("b", 100))
        own = self.gateway.tokens.form
        path = f"/remote-blobs/amp:{node_id_text(self.core.node_id)}/{self.user}/"
        for token, status in (
            (f"{own}.{self.token}", 200),
            (f"{own}.wrong", 403),
            (f"{own}.{'x' * 65}", 403),
            (f"{own}.{'x' * 5000}", 403),
        ):
            told = {"Authorization": self.authorization(token=token)}
            self.assertEqual(self.ask("GET", path, headers=told).status, status)
        told = {"Authorization": self.authorization(token=f"{own}.{self.token}")}
        reply = self.ask("GET", f"{path}b", headers={**told, "Range": "bytes=10-19"})
        self.assertEqual(reply.body, sealed("b", 100)[10:20])
        self.assertEqual(reply.headers["Content-Range"], "bytes 10-19/100")
        reply = self.ask("PUT", f"{path}b", b"x" * 20, {**told, "Content-Range": "bytes 0-19/200"})
        self.assertEqual(reply.status, 400)
