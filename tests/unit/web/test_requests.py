"""A request over its connection: bodies, refusals before the body, bounds, deadlines, logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.logger import globalLogPublisher

from ampgrid.immutable import Encoding, Spool
from ampgrid.node.faults import UnforeseenError
from ampgrid.web import channel, outflow, spool
from ampgrid.web.headers import ALWAYS
from ampgrid.web.tokens import HEADER
from tests.material import some_bytes
from tests.unit.web.kit import (
    HOST,
    ORIGIN,
    OWN_PAGE,
    Client,
    GatewayCase,
    form_bytes,
    read_reply,
    request_bytes,
)


def chunked(data: bytes, size: int) -> bytes:
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class BodyTest(GatewayCase):
    def test_bodies_of_every_kind_and_size(self) -> None:
        edge = spool.MEMORY_BYTES
        for size in (0, 1, 55, 56, edge - 1, edge, edge + 1, 2 * spool.PIECE_BYTES + 7):
            data = some_bytes(size)
            cap = self.assert_status(self.put("/uri", data), 201).text
            self.assertEqual(self.get(f"/uri/{cap}").body, data)
            body = chunked(data, 60_000)
            again = self.ask("PUT", "/uri", body, {"Transfer-Encoding": "chunked"})
            self.assertEqual(again.text, cap)
            sent = self.post("/uri", {"x": data}, t="upload")
            self.assertEqual((sent.status, sent.text), (201, cap))

    def test_a_file_is_read_once_whether_or_not_its_length_is_told(self) -> None:
        read: list[int] = []
        original = Spool.read_at

        def counting(kept: Spool, offset: int, length: int) -> bytes:
            read.append(length)
            return original(kept, offset, length)

        self.patch(Spool, "read_at", counting)
        data = some_bytes(2 * spool.PIECE_BYTES + 7, b"read once")
        cap = self.assert_status(self.put("/uri", data), 201).text
        self.assertEqual(sum(read), len(data))
        self.assertEqual(self.get(f"/uri/{cap}").body, data)
        body = chunked(data, 60_000)
        sent = self.ask("PUT", "/uri", body, {"Transfer-Encoding": "chunked"})
        self.assertEqual((sum(read), sent.text), (2 * len(data), cap))

    def test_an_encoding_that_changes_while_a_file_comes_in(self) -> None:
        data = some_bytes(2 * spool.PIECE_BYTES, b"other encoding")
        whole = request_bytes("PUT", "/uri", data)
        client = self.connect()
        client.transport.write(whole[:-10])
        self.grid.clock.advance(1)
        self.patch(self.gateway.core, "encoding", lambda: Encoding(1, 2, 2))
        client.transport.write(whole[-10:])
        self.wait(client)
        cap = read_reply(client.received).body
        self.assertEqual(cap, self.put("/uri", data).body)
        self.assertEqual(self.get(f"/uri/{cap.decode()}").body, data)

    def test_nothing_is_left_in_the_spool(self) -> None:
        before = sorted(self.spooled())
        data = some_bytes(3 * spool.PIECE_BYTES)
        self.assert_status(self.put("/uri", data), 201)
        self.post("/uri", {"x": data, "y": data}, t="upload")
        client = self.connect()
        client.transport.write(request_bytes("PUT", "/uri", data)[:-10])
        self.grid.clock.advance(1)
        client.transport.abortConnection()
        self.grid.clock.advance(1)
        self.assertEqual(self.gateway.spool.used, 0)
        self.assertEqual(sorted(self.spooled()), before)

    def spooled(self) -> list[str]:
        return [path.name for path in Path(self.gateway.core.spool_path).iterdir()]

    def test_a_form_in_pieces_of_any_size(self) -> None:
        data = some_bytes(2_000)
        fields = {"t": "upload", "name": "n"}
        for size in (1, 2, 7, 500):
            root = self.new_directory()
            body, headers = form_bytes(fields, {"f": data})
            whole = request_bytes("POST", f"/uri/{root}", body, headers)
            client = self.connect()
            for start in range(0, len(whole), size):
                client.transport.write(whole[start : start + size])
                if size < 7:
                    self.grid.clock.advance(0.002)
            self.wait(client)
            self.assertEqual(read_reply(client.received).status, 201)
            self.assertEqual(self.get(f"/uri/{root}/n").body, data)

    def test_malformed_forms(self) -> None:
        root = self.new_directory()
        body, headers = form_bytes({"t": "mkdir", "name": "x"}, {})
        wrong = [
            (body[:-6], headers),
            (body, {"Content-Type": "multipart/form-data"}),
            (body, {"Content-Type": "multipart/form-data; boundary="}),
            (body, {"Content-Type": "multipart/form-data; boundary=other"}),
            (b"\xff\xfe", headers),
            (b"t=mkdir&name=%ff", {"Content-Type": "application/x-www-form-urlencoded"}),
            (b"&".join([b"a=1"] * 200), {"Content-Type": "application/x-www-form-urlencoded"}),
        ]
        for sent, told in wrong:
            reply = self.ask("POST", f"/uri/{root}?t=mkdir&name=x", sent, told)
            self.assertEqual(reply.status, 400, sent)
        self.assertEqual(self.get(f"/uri/{root}?t=json").json[1]["children"], {})

    def test_two_requests_on_one_connection(self) -> None:
        client = self.connect()
        head = f"Host: {HOST}\r\n\r\n"
        client.transport.write(f"GET /vdrive HTTP/1.1\r\n{head}".encode() * 2)
        self.grid.clock.advance(1)
        self.assertEqual(client.received.count(b"HTTP/1.1 200 OK"), 2)
        self.assertFalse(client.lost)
        client.transport.abortConnection()


class RefusalTest(GatewayCase):
    def begin(self, head: bytes) -> Client:
        client = self.connect()
        client.transport.write(head)
        self.grid.clock.advance(1)
        return client

    def refused(self, client: Client, status: int) -> None:
        self.assertEqual(read_reply(client.received).status, status)

    def test_a_large_body_is_refused_before_it_comes(self) -> None:
        headers = {"Origin": "http://example.org", "Content-Length": "1000000000"}
        client = self.begin(request_bytes("PUT", "/uri", b"", headers))
        self.refused(client, 403)
        client.transport.write(some_bytes(1000))
        self.grid.clock.advance(channel.LINGER_SECONDS)
        self.assertTrue(client.lost)
        self.assertEqual(self.gateway.spool.used, 0)

    def test_no_go_ahead_for_who_is_refused(self) -> None:
        headers = {"Expect": "100-continue", "Content-Length": "10"}
        client = self.begin(request_bytes("PUT", "/uri", b"", headers))
        self.assertTrue(client.received.startswith(b"HTTP/1.1 100 Continue\r\n"))
        client.transport.abortConnection()
        client = self.begin(request_bytes("PUT", "/uri", b"", {**headers, "Origin": "null"}))
        self.refused(client, 403)
        self.assertNotIn(b"100 Continue", client.received)

    def test_a_small_body_is_drained_and_the_connection_goes_on(self) -> None:
        told = f"Host: {HOST}\r\nOrigin: null\r\nContent-Length: 5\r\n\r\n12345"
        client = self.begin(f"PUT /uri HTTP/1.1\r\n{told}".encode())
        self.assertTrue(client.received.startswith(b"HTTP/1.1 403"))
        client.transport.write(f"GET /vdrive HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        self.grid.clock.advance(1)
        self.assertIn(b"HTTP/1.1 200 OK", client.received)
        client.transport.abortConnection()

    def test_more_than_the_disk_has(self) -> None:
        headers = {"Content-Length": str(2**60)}
        self.refused(self.begin(request_bytes("PUT", "/uri", b"", headers)), 507)

    def test_a_text_that_is_too_long(self) -> None:
        url = f"/uri/{self.new_directory()}/a?t=uri"
        self.assert_status(self.put(url, b"x" * 3_000), 413)
        body = chunked(b"x" * 3_000, 500)
        self.assert_status(self.ask("PUT", url, body, {"Transfer-Encoding": "chunked"}), 413)

    def test_malformed_requests(self) -> None:
        heads = [
            b"GET http://127.0.0.1:2/vdrive HTTP/1.1\r\nHost: 127.0.0.1:2\r\n\r\n",
            b"GET vdrive HTTP/1.1\r\nHost: 127.0.0.1:2\r\n\r\n",
            b"GET /vdrive/%ff HTTP/1.1\r\nHost: 127.0.0.1:2\r\n\r\n",
            b"GET /vdrive?a=%ff HTTP/1.1\r\nHost: 127.0.0.1:2\r\n\r\n",
            b"GET /vdrive HTTP/1.1\r\n\r\n",
            b"GET /vdrive HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET /vdrive HTTP/1.1\r\nHost: 127.0.0.1:2\r\nX: a\x00b\r\n\r\n",
            b"PUT /uri HTTP/1.1\r\nHost: 127.0.0.1:2\r\nContent-Length: 1\r\n%b"
            % b"Transfer-Encoding: chunked\r\n\r\n",
            b"PUT /uri HTTP/1.1\r\nHost: 127.0.0.1:2\r\nContent-Length: -1\r\n\r\n",
            b"GET /vdrive HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
            b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: 127.0.0.1:2\r\n\r\n",
        ]
        for head in heads:
            client = self.begin(head)
            if client.received:
                self.assertEqual(client.received[:12], b"HTTP/1.1 400", head)
            else:
                self.assertTrue(client.lost, head)
            client.transport.abortConnection()

    def test_headers_that_are_no_text(self) -> None:
        for name in ("Accept", "Range", "If-None-Match", "Content-Type", "Expect", "Cookie"):
            head = f"GET /vdrive HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{name}: \xff\r\n"
            reply = self.exchange(head.encode("latin-1") + b"\r\n")
            self.assertIn(reply.status, {200, 403, 417}, name)
        for name in ("Origin", "Sec-Fetch-Site", "Host", "X-Ampgrid-Token"):
            head = f"GET /vdrive HTTP/1.1\r\nConnection: close\r\n{name}: \xff\r\n"
            host = "" if name == "Host" else f"Host: {HOST}\r\n"
            reply = self.exchange(f"{head}{host}\r\n".encode("latin-1"))
            self.assert_status(reply, 403)

    def test_every_answer_has_its_headers(self) -> None:
        large = {"Content-Length": str(2**60)}
        answers = [
            self.get("/"),
            self.get("/nothing"),
            self.put("/uri", b"1"),
            self.ask("GET", "/", headers={"Origin": "null"}),
            read_reply(self.begin(request_bytes("PUT", "/uri", b"", large)).received),
            self.get(f"/uri/{self.new_directory()}?t=json"),
        ]
        for reply in answers:
            self.assertRegex(reply.headers["Date"], r"^\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT$")
            for name, value in ALWAYS.items():
                self.assertEqual(reply.headers[name], value)
            self.assertIn("Content-Security-Policy", reply.headers)

    def test_methods(self) -> None:
        for method in ("PATCH", "TRACE", "CONNECT", "get", "PROPFIND"):
            self.assert_status(self.ask(method, "/vdrive"), 405)
        reply = self.assert_status(self.ask("OPTIONS", "/vdrive"), 405)
        self.assertEqual(reply.headers["Allow"], "GET, HEAD")


class BoundTest(GatewayCase):
    def test_a_slow_head(self) -> None:
        client = self.connect()
        for byte in b"GET /vdrive HTTP/1.1\r\nHost":
            client.transport.write(bytes([byte]))
            self.grid.clock.advance(channel.HEAD_SECONDS / 20)
        self.assertTrue(client.lost)

    def test_a_slow_body(self) -> None:
        client = self.connect()
        client.transport.write(request_bytes("PUT", "/uri", b"", {"Content-Length": "1000"}))
        for _ in range(20):
            client.transport.write(b"x")
            self.grid.clock.advance(channel.RATE_SECONDS / 10)
        self.assertTrue(client.lost)

    def test_too_many_connections(self) -> None:
        clients = [self.connect() for _ in range(channel.MOST_CONNECTIONS)]
        self.assertIsNone(self.gateway.factory.buildProtocol(None))
        clients[0].transport.abortConnection()
        self.grid.clock.advance(1)
        clients.append(self.connect())
        for client in clients[1:]:
            client.transport.abortConnection()
        self.grid.clock.advance(1)

    def test_a_slow_reader_pauses_the_download(self) -> None:
        data = some_bytes(8_000_000)
        cap = self.put("/uri", data).text
        client = self.connect()
        client.transport.pauseProducing()
        client.transport.write(request_bytes("GET", f"/uri/{cap}"))
        self.grid.clock.advance(60)
        (job,) = self.gateway.jobs.running()
        self.assertLess(job.operation.done, 200_000)
        client.transport.resumeProducing()
        self.wait(client)
        self.assertEqual(read_reply(client.received).body, data)
        self.assertEqual(self.gateway.jobs.running(), [])

    def test_a_reader_that_never_reads(self) -> None:
        cap = self.put("/uri", some_bytes(1_000_000)).text
        client = self.connect()
        client.transport.pauseProducing()
        client.transport.write(request_bytes("GET", f"/uri/{cap}"))
        self.grid.clock.advance(outflow.STALL_SECONDS + 60)
        self.assertEqual(self.gateway.jobs.running(), [])
        self.assertTrue(client.lost)

    def test_a_reader_that_leaves_the_end_of_an_answer(self) -> None:
        cap = self.put("/uri", some_bytes(60_000)).text
        client = self.connect()
        client.transport.pauseProducing()
        client.transport.write(request_bytes("GET", f"/uri/{cap}"))
        self.grid.clock.advance(30)
        self.assertEqual(self.gateway.jobs.running(), [])
        self.grid.clock.advance(channel.LAST_SECONDS + 1)
        self.assertTrue(client.lost)

    def test_a_client_that_goes_ends_what_it_began(self) -> None:
        data = some_bytes(1_000_000)
        cap = self.put("/uri", data).text
        for request in (request_bytes("GET", f"/uri/{cap}"), request_bytes("PUT", "/uri", data)):
            client = self.connect()
            client.transport.write(request)
            while not self.gateway.jobs.running():
                self.grid.clock.advance(0.001)
            client.transport.abortConnection()
            self.grid.clock.advance(30)
            self.assertEqual(self.gateway.jobs.running(), [])
            self.assertEqual(self.gateway.jobs.recent()[0].state, "cancelled")


class TokenTest(GatewayCase):
    def test_a_page_of_ours_changes_things_with_the_token(self) -> None:
        url = f"/uri/{self.new_directory()}"
        token = self.gateway.tokens.form
        self.assert_status(self.ask("PUT", f"{url}/a", b"1", OWN_PAGE), 403)
        self.assert_status(self.ask("PUT", f"{url}/a", b"1", {**OWN_PAGE, HEADER: token}), 201)
        told = {"t": "mkdir", "name": "sub"}
        self.assert_status(self.post(url, None, OWN_PAGE, **told), 403)
        self.assert_status(self.post(url, None, OWN_PAGE, **told, token="x"), 403)
        self.assert_status(self.post(url, None, OWN_PAGE, **told, token=token), 201)
        self.assert_status(self.post(url, {}, OWN_PAGE, t="delete", name="a", token=token), 200)
        self.assertEqual(list(self.get(f"{url}?t=json").json[1]["children"]), ["sub"])

    def test_the_token_counts_in_no_url(self) -> None:
        url = f"/uri/{self.new_directory()}?t=mkdir&name=x&token={self.gateway.tokens.form}"
        self.assert_status(self.ask("POST", url, b"", OWN_PAGE), 403)
        self.assert_status(self.post(url, None, OWN_PAGE), 403)

    def test_only_a_browser_with_the_cookie_is_given_the_token(self) -> None:
        url = f"/uri/{self.new_directory()}"
        token = self.gateway.tokens.form
        navigation = {**OWN_PAGE, "Sec-Fetch-Site": "none"}
        page = self.ask("GET", url, headers=navigation).text
        self.assertNotIn(token, page)
        self.assertIn("ampgrid web", page)
        entered = self.ask(
            "GET",
            f"/enter?token={self.gateway.tokens.link}",
            headers={
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "document",
            },
        )
        cookie = entered.headers["Set-Cookie"]
        self.assertIn("HttpOnly; SameSite=Strict", cookie)
        self.assertNotIn(token, entered.text)
        said = {**navigation, "Cookie": cookie.partition(";")[0]}
        self.assertIn(token, self.ask("GET", url, headers=said).text)
        self.assert_status(self.get(f"/enter?token={token}"), 403)

    def test_links_to_caps_may_come_from_anywhere_and_nothing_else(self) -> None:
        cap = self.put("/uri", some_bytes(100)).text
        link = {
            "User-Agent": "Mozilla/5.0",
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        }
        self.assert_status(self.ask("GET", f"/uri/{cap}", headers=link), 200)
        self.assert_status(self.ask("GET", f"/uri?uri={cap}", headers=link), 302)
        for url in ("/vdrive/private/", "/vdrive", f"/uri/{cap}?t=json", f"/uri/{cap}?t=uri"):
            self.assert_status(self.ask("GET", url, headers=link), 403)
        image = {**link, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
        frame = {**link, "Sec-Fetch-Dest": "iframe"}
        for headers in (image, frame):
            self.assert_status(self.ask("GET", f"/uri/{cap}", headers=headers), 403)

    def test_no_answer_lets_another_origin_read_it(self) -> None:
        for headers in ({}, {"Origin": ORIGIN}, {"Origin": "http://example.org"}):
            reply = self.ask("GET", "/vdrive", headers=headers)
            self.assertFalse([n for n in reply.headers if n.lower().startswith("access-control")])


class LogTest(GatewayCase):
    def test_no_cap_and_no_name_is_logged(self) -> None:
        events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        root = self.new_directory()
        url = f"/uri/{root}/secret-name"
        cap = self.put(url, some_bytes(5_000)).text
        self.get(url)
        self.get(f"/uri/{cap}")
        self.get(f"/uri/{cap}x")
        self.post(f"/uri/{root}", None, None, t="delete", name="secret-name")
        client = self.connect()
        client.transport.write(request_bytes("GET", f"/uri/{cap}")[:-4])
        self.grid.clock.advance(200)
        for event in events:
            text = f"{event!r} {event.get('log_format')}"
            for secret in (root, cap, root.split(":")[2], cap.split(":")[2], "secret-name"):
                self.assertNotIn(secret, text)

    def test_a_fault_of_ours_tells_only_a_reference(self) -> None:
        secret = 617 * 2

        async def broken(_call: Any) -> None:
            raise RuntimeError(f"the secret is {secret}")

        from ampgrid.web.routing import Fixed, Route

        self.gateway.router.add("broken", Fixed(GET=Route(broken)))
        reply = self.assert_status(self.get("/broken"), 500)
        self.assertNotIn("1234", reply.text)
        (failure,) = self.flushLoggedErrors(UnforeseenError)
        told = failure.getTraceback()
        self.assertIn("builtins.RuntimeError", told)
        self.assertIn("in broken", told)
        self.assertNotIn("1234", told)
