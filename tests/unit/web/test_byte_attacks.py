"""A catalogue of attacks on the gateway by bytes; each case shows that it is refused.

Injection into headers, paths and redirects; requests within requests; too much, too long, too
deep, too slow; credentials that are sent again. Those through a browser are in
`tests.unit.web.test_browser_attacks`.
"""

from __future__ import annotations

import gzip
import re
from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.web import channel, outflow
from ampgrid.web.password import Password
from tests.material import some_bytes
from tests.unit.web import test_browser_attacks
from tests.unit.web.attacking import AttackCase
from tests.unit.web.kit import HOST, ORIGIN, GatewayCase, form_bytes, request_bytes
from tests.unit.web.test_password import NAME, WORD, answer

LONG = quote("\U0001f600" * 256)
#: One name, decomposed and composed.
TWO, ONE = quote("e\u0301"), quote("\u00e9")


class InjectionTest(AttackCase):
    """Into headers, paths and redirects."""

    def test_open_redirects_after_a_form(self) -> None:
        targets = (
            "http://evil.example/ //evil.example/ /\\evil.example \\\\evil.example "
            "https:evil.example javascript:alert(1) data:text/html,x ///evil.example "
            f"http:///evil {ORIGIN}@evil.example/ "
            f"{ORIGIN}.evil.example/ {ORIGIN}:3/ http:evil.example /%09/../..//evil.example//"
        ).split()
        for target in (*targets, "/\t/evil.example", "\x01http://evil.example", " //evil.example"):
            reply = self.post(self.url, t="mkdir", name="evil", when_done=target)
            if reply.status == 303:
                self.assertTrue(re.match(r"/(?![/\\])", reply.headers["Location"]), target)
                self.delete(f"{self.url}/evil")
            else:
                self.assert_status(reply, 400)

    def test_open_redirects_by_uri(self) -> None:
        for said in (
            "http://evil.example",
            "//evil.example",
            "/\\evil",
            "URI:LIT:x\r\nSet-Cookie: a=b",
        ):
            self.assert_status(self.get(f"/uri?uri={quote(said, safe='')}"), 400)

    def test_line_ends_in_redirects(self) -> None:
        for target in ("/a\r\nSet-Cookie: x=1", "/a%0d%0aX: 1\r\n", "/a\nX: 1", "/\r/evil"):
            reply = self.post(self.url, t="mkdir", name="evil", when_done=target)
            self.assert_status(reply, 400)

    def test_line_ends_in_names_of_files(self) -> None:
        cap = self.put("/uri", b"1").text
        for name in ("a\r\nX-Evil: 1", "a\nSet-Cookie: x=1", 'a"; evil="', "a\x00b", "\u2028"):
            reply = self.get(f"/uri/{cap}?save=true&filename={quote(name)}")
            self.assertNotIn("X-Evil", reply.headers)
            self.assertNotIn("Set-Cookie", reply.headers)
            self.assertNotIn(
                "evil=", reply.headers.get("Content-Disposition", "").replace("evil=_", "")
            )

    def test_paths_that_climb(self) -> None:
        for path in (
            "..",
            "%2e%2e",
            "a/../victim",
            "./victim",
            "%2e/victim",
            "a/%2e%2e/victim",
            "....//",
        ):
            for method in ("GET", "PUT", "DELETE"):
                reply = self.ask(method, f"{self.url}/{path}", b"evil")
                self.assertIn(reply.status, (400, 404), path)
        for path in (
            "../node.toml",
            "..%2fnode.toml",
            "%2e%2e/node.toml",
            "style.css/../../x",
            "%00",
        ):
            self.assertIn(self.get(f"/static/{path}").status, (400, 404))

    def test_slashes_and_zeros_in_names(self) -> None:
        for name in ("a%2fb", "%2f", "a%00", "%00", "a%0ab", "a%0d%0ab", "a%7fb", "a%1bb"):
            self.assert_status(self.put(f"{self.url}/{name}", b"evil"), 400)

    def test_overlong_and_broken_utf8(self) -> None:
        for name in ("%c0%af", "%c0%ae%c0%ae", "%e0%80%af", "%ff", "%ed%a0%80", "%f8%88%80%80%80"):
            self.assert_status(self.put(f"{self.url}/{name}", b"evil"), 400)
            self.assert_status(self.get(f"{self.url}?t=rename-form&name={name}"), 400)

    def test_names_that_are_too_long(self) -> None:
        self.assert_status(self.put(f"{self.url}/{'a' * 256}", b"evil"), 400)
        self.assert_status(self.put(f"{self.url}/{LONG}", b"evil"), 400)

    def test_absolute_request_lines(self) -> None:
        for line in (
            f"http://{HOST}/vdrive",
            "http://evil.example/",
            "//evil.example/",
            "*",
            "",
            "x",
        ):
            client = self.raw(
                f"GET {line} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
            )
            self.assertLessEqual(set(self.statuses(client)), {400, 404}, line)

    def test_more_slashes_than_one_at_the_beginning(self) -> None:
        # The URL in node.url ends with a slash, and what is put behind it may begin with one.
        for slashes in ("/", "//", "////"):
            self.assert_status(
                self.put(f"{slashes}{self.url[1:]}/a", b"1"), 200 if slashes > "/" else 201
            )
            self.assertEqual(self.get(f"{slashes}{self.url[1:]}/a").body, b"1")
            page = self.get(f"{slashes}{self.url[1:]}?t=rename-form&name=a").text
            self.assertNotIn('"//', page)
            self.assert_status(self.get(f"{slashes}evil.example/"), 404)
        reply = self.post(f"/{self.url}", t="mkdir", name="x", when_done=".")
        self.assertTrue(reply.headers["Location"].startswith("/uri/"))
        for name in ("a", "x"):
            self.assert_status(self.delete(f"/{self.url}/{name}"), 200)

    def test_more_slashes_than_one_before_the_drive(self) -> None:
        word, _, rest = self.url[1:].partition("/")
        self.assert_status(self.put(f"{self.url}/a", b"1"), 201)
        for slashes in ("//", "////"):
            self.assertEqual(self.get(f"/{word}{slashes}{rest}/a").body, b"1")
            self.assert_status(self.get(f"/vdrive{slashes}private/?t=json"), 200)
            self.assert_status(self.get(f"/vdrive{slashes}private?t=json"), 200)
            self.assert_status(self.get(f"/vdrive{slashes}No/"), 404)
            reply = self.post(self.url, t="relink", from_name="a", to_dir=f"/vdrive{slashes}")
            self.assertIn(reply.status, (400, 404))
        self.assert_status(self.delete(f"{self.url}/a"), 200)

    def test_names_that_are_one_in_unicode(self) -> None:
        self.put(f"{self.url}/{TWO}", b"1")
        self.assert_status(self.put(f"{self.url}/{ONE}?replace=false", b"2"), 409)
        self.assert_status(self.delete(f"{self.url}/{ONE}"), 200)


class SmugglingTest(AttackCase):
    """A request within a request."""

    INNER = b"DELETE %b/victim HTTP/1.1\r\nHost: 127.0.0.1:2\r\n\r\n"

    def smuggled(self, *lines: str, body: bytes = b"", version: str = "1.1") -> None:
        head = "\r\n".join([f"PUT /uri HTTP/{version}", f"Host: {HOST}", *lines])
        self.refused(head.encode("latin-1") + b"\r\n\r\n" + body + self.INNER % self.url.encode())

    def test_a_length_and_chunks(self) -> None:
        self.smuggled("Content-Length: 4", "Transfer-Encoding: chunked", body=b"0\r\n\r\n")
        self.smuggled("Transfer-Encoding: chunked", "Content-Length: 4", body=b"0\r\n\r\n")

    def test_two_lengths(self) -> None:
        self.smuggled("Content-Length: 0", "Content-Length: 60")
        self.smuggled("Content-Length: 0, 60")

    def test_lengths_that_are_no_numbers(self) -> None:
        for said in ("-1", "+0", "0x0", "1_0", "", "0 0", "\u00b2", "1e1", "9" * 5_000):
            self.smuggled(f"Content-Length: {said}")

    def test_other_codings(self) -> None:
        for said in (
            "gzip, chunked",
            "chunked, chunked",
            "xchunked",
            "identity, chunked",
            "chunked;x",
        ):
            self.smuggled(f"Transfer-Encoding: {said}", body=b"0\r\n\r\n")

    def test_chunks_that_are_malformed(self) -> None:
        for body in (
            b"-1\r\n",
            b"0x0\r\n\r\n",
            b"zz\r\n",
            b"1_0\r\n",
            b"\r\n",
            b"+0\r\n\r\n",
            b"1\r\nab\r\n",
        ):
            self.smuggled("Transfer-Encoding: chunked", body=body)

    def test_chunks_with_endless_extensions_and_sizes(self) -> None:
        for body in (b"1;" + b"a" * 100_000, b"1" * 100_000):
            self.smuggled("Transfer-Encoding: chunked", body=body)

    def test_headers_that_are_folded_or_malformed(self) -> None:
        self.smuggled("X: a", " Transfer-Encoding: chunked", "Content-Length : 0")
        self.smuggled("Transfer-Encoding\t: chunked")
        self.smuggled("Content-Length: 0\x00")
        self.smuggled("no colon")


class ExhaustionTest(AttackCase):
    """Too much, too long, too deep, too slow."""

    def test_headers(self) -> None:
        head = f"GET /vdrive HTTP/1.1\r\nHost: {HOST}\r\n".encode()
        self.refused(head + b"A: b\r\n" * 1_000 + b"\r\n")
        self.refused(head + b"A: " + b"b" * 100_000 + b"\r\n\r\n")
        self.refused(b"GET /" + b"a" * 100_000)

    def test_headers_that_never_end(self) -> None:
        client = self.raw(f"GET /vdrive HTTP/1.1\r\nHost: {HOST}\r\n".encode())
        for _ in range(200):
            client.transport.write(b"A: " + b"b" * 1_000 + b"\r\n")
            self.grid.clock.advance(0.01)
        self.grid.clock.advance(1)
        self.assertTrue(client.lost)

    def test_a_body_where_none_is_wanted(self) -> None:
        body = some_bytes(2_000_000)
        reply = self.ask("GET", "/vdrive", body, {"Content-Length": str(len(body))})
        self.assert_status(reply, 413)

    def test_a_body_that_never_ends_where_a_text_is_wanted(self) -> None:
        head = request_bytes(
            "PUT", f"{self.url}/evil?t=uri", b"", {"Transfer-Encoding": "chunked"}
        )
        client = self.raw(head)
        for _ in range(100):
            client.transport.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
        self.grid.clock.advance(1)
        self.assertEqual(self.statuses(client), [413])

    def test_a_body_that_is_longer_than_the_disk(self) -> None:
        for length in (2**50, 2**63, 2**70):
            head = request_bytes("PUT", "/uri", b"", {"Content-Length": str(length)})
            self.assertEqual(self.statuses(self.raw(head)), [507])

    def test_a_slow_head(self) -> None:
        client = self.raw(b"GET")
        self.grid.clock.advance(channel.HEAD_SECONDS)
        self.assertTrue(client.lost)

    def test_a_slow_body(self) -> None:
        client = self.raw(request_bytes("PUT", "/uri", b"", {"Content-Length": "100000"}))
        for _ in range(12):
            client.transport.write(b"x")
            self.grid.clock.advance(channel.RATE_SECONDS / 10)
        self.assertTrue(client.lost)

    def test_a_reader_that_stops(self) -> None:
        cap = self.put("/uri", some_bytes(1_000_000)).text
        client = self.connect()
        client.transport.pauseProducing()
        client.transport.write(request_bytes("GET", f"/uri/{cap}"))
        self.grid.clock.advance(outflow.STALL_SECONDS + 60)
        self.assertTrue(client.lost)

    def test_too_many_connections(self) -> None:
        clients = [self.connect() for _ in range(channel.MOST_CONNECTIONS)]
        self.assertIsNone(self.gateway.factory.buildProtocol(None))
        for client in clients:
            self.close(client)

    def test_too_many_arguments_and_fields(self) -> None:
        many = "&".join(f"a{n}=1" for n in range(1_000))
        self.assert_status(self.get(f"/vdrive?{many}"), 400)
        told = {"Content-Type": "application/x-www-form-urlencoded"}
        self.assert_status(
            self.ask("POST", f"{self.url}?t=mkdir&name=evil", many.encode(), told), 400
        )

    def test_too_many_parts_of_a_form(self) -> None:
        body, told = form_bytes({f"f{n}": "1" for n in range(300)}, {})
        self.assertIn(
            self.ask("POST", f"{self.url}?t=mkdir&name=evil", body, told).status, (400, 413)
        )

    def test_a_part_with_endless_headers(self) -> None:
        told = {"Content-Type": "multipart/form-data; boundary=x"}
        body = b"--x\r\nContent-Disposition: form-data; name=a\r\nX: " + b"a" * 50_000
        self.assert_status(self.ask("POST", f"{self.url}?t=mkdir&name=evil", body, told), 400)

    def test_a_field_that_is_too_long(self) -> None:
        body, told = form_bytes({"t": "mkdir", "name": "x" * 200_000}, {})
        self.assert_status(self.ask("POST", self.url, body, told), 413)

    def test_boundaries(self) -> None:
        for boundary in ("", "x" * 10_000, "\u00ff", 'a"b'):
            told = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
            reply = self.ask("POST", f"{self.url}?t=mkdir&name=evil", b"--x--\r\n", told)
            self.assertEqual(reply.status, 400)

    def test_compressed_bodies_are_not_unpacked(self) -> None:
        bomb = gzip.compress(b"\0" * 10_000_000)
        cap = self.ask("PUT", "/uri", bomb, {"Content-Encoding": "gzip"}).text
        self.assertEqual(self.get(f"/uri/{cap}").body, bomb)
        told = {"Content-Encoding": "gzip", "Content-Type": "application/x-www-form-urlencoded"}
        self.assert_status(self.ask("POST", f"{self.url}?t=mkdir&name=evil", bomb, told), 400)

    def test_ranges(self) -> None:
        cap, data = self.put("/uri", some_bytes(5_000)).text, some_bytes(5_000)
        many = ",".join(f"{n}-" for n in range(1_000))
        for said in (
            f"bytes={many}",
            "bytes=0-,0-,0-,0-",
            "bytes=0-10,5-20",
            "lines=0-1",
            "bytes=--1",
        ):
            reply = self.get(f"/uri/{cap}", Range=said)
            self.assertEqual((reply.status, reply.body), (200, data), said)
        for said in ("bytes=9999999999999999999-", "bytes=5000-", "bytes=-0"):
            self.assert_status(self.get(f"/uri/{cap}", Range=said), 416)
        for said in ("bytes=0-99999999999999999999999", f"bytes=-{10**30}"):
            self.assertEqual(self.get(f"/uri/{cap}", Range=said).body, data)
        for said in ("bytes=5-2", "bytes=-5--2", "bytes=0x1-2", "bytes=\u0661-"):
            self.assertIn(self.get(f"/uri/{cap}", Range=quote(said, safe="=-")).status, (200, 416))

    def test_xml_bombs(self) -> None:
        entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
        bombs = (
            f'<!DOCTYPE m [<!ENTITY a0 "aaaaaaaaaa">{entities}]><methodCall>&a9;</methodCall>',
            f'<!DOCTYPE m [<!ENTITY a "{"a" * 50_000}">]><m>{"&a;" * 10_000}</m>',
            '<!DOCTYPE m [<!ENTITY x SYSTEM "file:///nowhere">]><methodCall>&x;</methodCall>',
            '<!DOCTYPE m [<!ENTITY % x SYSTEM "http://127.0.0.1:1/">%x;]><methodCall/>',
        )
        for bomb in bombs:
            reply = self.ask("POST", "/xmlrpc", bomb.encode(), {"Content-Type": "text/xml"})
            self.assertIn(b"<int>-32700</int>", reply.body)
            self.assertLess(len(reply.body), 1_000)

    def test_deep_and_wide_xml(self) -> None:
        deep = "<value><array><data>" * 20_000
        wide = "<methodCall><methodName>x</methodName><params>" + "<param/>" * 30_000
        for body in (deep, wide):
            reply = self.ask("POST", "/xmlrpc", body.encode(), {"Content-Type": "text/xml"})
            self.assertIn(b"<int>-32600</int>", reply.body)

    def test_deep_json(self) -> None:
        deep = ("[" * 100_000).encode()
        told = {"Content-Type": "application/json"}
        for method, url in (
            ("POST", self.url),
            ("POST", "/uri"),
            ("POST", "/blobs/x/y"),
            ("PUT", f"{self.url}/evil?t=mkdir&x"),
        ):
            reply = self.ask(method, url, deep, told)
            self.assertLess(reply.status, 500, url)
        self.delete(f"{self.url}/evil")


class DigestTest(GatewayCase):
    """Of a gateway with a password, over a connection that somebody listens to."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.gateway = cls.make_gateway(password=Password(NAME.encode(), WORD.encode()))

    def test_an_answer_counts_once(self) -> None:
        challenge = self.get("/vdrive").headers["WWW-Authenticate"]
        said = answer(challenge, "PUT", "/uri")
        first = self.ask("PUT", "/uri", b"mine", {"Authorization": said})
        self.assert_status(first, 201)
        again = self.ask("PUT", "/uri", b"another's", {"Authorization": said})
        self.assert_status(again, 401)

    def test_counts_may_come_out_of_order_but_not_twice(self) -> None:
        challenge = self.get("/vdrive").headers["WWW-Authenticate"]
        for count, status in ((5, 200), (3, 200), (5, 401), (3, 401), (2_000, 200), (4, 401)):
            said = answer(challenge, "GET", "/vdrive", nc=f"{count:08x}")
            reply = self.ask("GET", "/vdrive", headers={"Authorization": said})
            self.assert_status(reply, status)

    def test_counts_that_are_none(self) -> None:
        challenge = self.get("/vdrive").headers["WWW-Authenticate"]
        for count in ("", "x", "-1", "0", "00000000", "1" * 50):
            said = answer(challenge, "GET", "/vdrive", nc=count)
            reply = self.ask("GET", "/vdrive", headers={"Authorization": said})
            self.assert_status(reply, 401)


class CatalogueTest(SynchronousTestCase):
    def test_it_never_gets_shorter(self) -> None:
        kinds = [InjectionTest, SmugglingTest, ExhaustionTest, DigestTest]
        others = ("RebindingTest", "CrossSiteTest", "TokenTest", "ContentTest")
        kinds += [getattr(test_browser_attacks, name) for name in others]
        names = [name for kind in kinds for name in vars(kind) if name.startswith("test_")]
        self.assertGreaterEqual(len(names), 75)
