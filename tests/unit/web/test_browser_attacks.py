"""A catalogue of attacks on the gateway through a browser; each case shows that it is refused.

The attacker is a web page that the user's browser shows, or who stored what the user looks at.
What must not happen: something is changed, or something is read. After every case the directory
is as it was. Those by bytes are in `tests.unit.web.test_byte_attacks`.
"""

from __future__ import annotations

import itertools
import re
from urllib.parse import quote

from ampgrid.crypto.base32 import b2a
from ampgrid.vdrive.children import Link
from ampgrid.web import tokens
from ampgrid.web.headers import STORED_POLICY
from ampgrid.web.places import place_of
from ampgrid.web.tokens import HEADER
from tests.unit.web.attacking import BROWSER, EVIL, AttackCase, of_site
from tests.unit.web.kit import HOST, OWN_PAGE, Reply, request_bytes


class RebindingTest(AttackCase):
    """A name of the attacker's that leads to this machine."""

    def no_host(self, *hosts: str) -> None:
        for host, method in itertools.product(hosts, ("GET", "PUT")):
            reply = self.ask(method, f"{self.url}/victim", host=host)
            self.assertIn(reply.status, (400, 403), host)
            self.assertNotIn(b"precious", reply.body)

    def test_names_of_the_attacker(self) -> None:
        self.no_host(
            "evil.example:2", "evil.example", "127.0.0.1.evil.example:2", "127-0-0-1.nip.io:2"
        )

    def test_names_that_begin_or_end_like_ours(self) -> None:
        self.no_host(
            "localhost.evil.example:2", "evil-localhost:2", "xlocalhost:2", "localhostx:2"
        )

    def test_other_ports(self) -> None:
        self.no_host("127.0.0.1:3", "127.0.0.1", "localhost:80", "127.0.0.1:02222", "127.0.0.1:-2")

    def test_trailing_dots(self) -> None:
        self.no_host("localhost.:2", "127.0.0.1.:2", "localhost..:2", ".localhost:2")

    def test_other_spellings_of_addresses(self) -> None:
        self.no_host(
            "127.1:2", "2130706433:2", "0x7f.1:2", "0177.0.0.1:2", "0.0.0.0:2", "127.0.0.2:2"
        )

    def test_ipv6(self) -> None:
        self.no_host(
            "[::]:2", "[::ffff:127.0.0.1]:2", "[::1%25lo]:2", "::1:2", "[::1", "[::1]evil:2"
        )

    def test_userinfo(self) -> None:
        self.no_host("localhost@evil.example:2", "evil.example@127.0.0.1:2", "a:b@127.0.0.1:2")

    def test_paths_and_lists_in_the_host(self) -> None:
        self.no_host(
            "127.0.0.1:2/evil", "127.0.0.1:2, evil.example", "127.0.0.1:2#", "127.0.0.1:2?x"
        )

    def test_two_hosts(self) -> None:
        for other in ("evil.example", HOST):
            self.refused(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nHost: {other}\r\n\r\n".encode())

    def test_the_host_in_other_headers(self) -> None:
        for name in ("X-Forwarded-Host", "X-Host", "Forwarded", "X-Original-URL", "X-Rewrite-URL"):
            reply = self.ask(
                "GET", "/vdrive", headers={name: "evil.example"}, host="evil.example:2"
            )
            self.assert_status(reply, 403)


class CrossSiteTest(AttackCase):
    """A page of another site in the user's browser."""

    def test_forms(self) -> None:
        headers = of_site("cross-site", "navigate", "document", Origin=EVIL)
        self.changes(headers)
        for files in (None, {"evil": b"x"}):
            self.assert_status(self.post(self.url, files, headers, t="mkdir", name="evil"), 403)

    def test_forms_with_a_stolen_token(self) -> None:
        headers = of_site("cross-site", "navigate", "document", Origin=EVIL)
        told = {"t": "mkdir", "name": "evil", "token": self.token}
        self.assert_status(self.post(self.url, None, headers, **told), 403)
        self.changes({**headers, HEADER: self.token})

    def test_forms_from_a_null_origin(self) -> None:
        for site in ("cross-site", "none", "same-site"):
            self.changes(of_site(site, "navigate", "iframe", Origin="null"))
        self.changes({**BROWSER, "Origin": "null"})

    def test_scripts(self) -> None:
        self.changes(of_site("cross-site", "cors", "empty", Origin=EVIL))
        self.changes(of_site("cross-site", "no-cors", "empty", Origin=EVIL))

    def test_pages_of_other_ports_and_names_of_this_machine(self) -> None:
        for origin in (
            "http://127.0.0.1:8080",
            "http://localhost:2",
            f"https://{HOST}",
            "http://[::1]:2",
        ):
            self.changes(of_site("same-site", "cors", "empty", Origin=origin))
            self.changes({**BROWSER, "Origin": origin})

    def test_an_old_browser_that_sends_no_origin(self) -> None:
        self.changes(BROWSER)
        self.changes({"Referer": f"{EVIL}/page"})

    def test_preflights_are_answered_with_nothing(self) -> None:
        for asked in ("PUT", "DELETE", "POST"):
            told = {"Origin": EVIL, "Access-Control-Request-Method": asked}
            reply = self.ask("OPTIONS", f"{self.url}/evil", headers={**BROWSER, **told})
            self.assert_status(reply, 403)
            self.assertFalse([name for name in reply.headers if "access-control" in name.lower()])

    def test_tags_that_load(self) -> None:
        for dest in ("image", "script", "style", "audio", "video", "object", "embed", "font"):
            for url in (f"{self.url}/victim", f"{self.url}?t=json", "/vdrive/private/", "/status"):
                headers = of_site("cross-site", "no-cors", dest)
                self.assert_status(self.ask("GET", url, headers=headers), 403)

    def test_an_image_that_would_write_a_file(self) -> None:
        for headers in (
            of_site("cross-site", "no-cors", "image"),
            of_site("none", "navigate", "document"),
            {},
        ):
            url = f"{self.url}/victim?t=download&localfile=/nowhere/x"
            self.assert_status(self.ask("GET", url, headers=headers), 403)

    def test_frames(self) -> None:
        for dest in ("iframe", "frame", "fencedframe"):
            headers = of_site("cross-site", "navigate", dest)
            self.assert_status(self.ask("GET", self.url, headers=headers), 403)
        for url in (self.url, f"{self.url}/victim", "/"):
            reply = self.get(url)
            self.assertEqual(reply.headers["X-Frame-Options"], "SAMEORIGIN")
            self.assertIn("frame-ancestors 'self'", reply.headers["Content-Security-Policy"])

    def test_windows(self) -> None:
        self.assertEqual(self.get(self.url).headers["Cross-Origin-Opener-Policy"], "same-origin")
        self.assertEqual(self.get(self.url).headers["Cross-Origin-Resource-Policy"], "same-origin")

    def test_websockets(self) -> None:
        told = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "x" * 24}
        headers = {**told, **of_site("cross-site", "websocket", "empty", Origin=EVIL)}
        self.refused(request_bytes("GET", "/", headers=headers), 403)

    def test_links_that_would_change_something(self) -> None:
        headers = of_site("none", "navigate", "document")
        for t in ("delete", "mkdir", "rename", "upload", "uri&uri=x", "unlink", "relink"):
            reply = self.ask("GET", f"{self.url}?t={t}&name=victim", headers=headers)
            self.assertIn(reply.status, (200, 400))


class TokenTest(AttackCase):
    """Getting or making up the token."""

    def test_guesses(self) -> None:
        secret = b2a(b"t" * 32)
        guesses = (
            "",
            " ",
            "x",
            self.token[:-1],
            f"{self.token}a",
            self.token.upper(),
            secret[:-1],
        )
        for guess in (
            *guesses,
            self.gateway.tokens.cookie,
            self.gateway.tokens.link,
            "%00",
            "\u00ff",
        ):
            self.changes({**OWN_PAGE, HEADER: guess})

    def test_it_is_compared_in_constant_time(self) -> None:
        compared: list[tuple[bytes, bytes]] = []

        def digest(one: bytes, other: bytes) -> bool:
            compared.append((one, other))
            return one == other

        self.patch(tokens.hmac, "compare_digest", digest)
        for guess in ("x", self.token, self.token[:-1]):
            compared.clear()
            self.gateway.tokens.allows(guess)
            self.assertEqual(len(compared), 2)

    def test_two_tokens(self) -> None:
        lines = f"{HEADER}: {self.token}\r\n{HEADER}: x"
        head = (
            f"PUT {self.url}/evil HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\nContent-Length: 0\r\n\r\n"
        )
        self.refused(head.encode())

    def test_a_token_in_the_url(self) -> None:
        for method in ("PUT", "POST", "DELETE"):
            url = f"{self.url}/victim?token={self.token}"
            self.assert_status(self.ask(method, url, headers=OWN_PAGE), 403)

    def test_cookies_of_other_ports(self) -> None:
        for cookie in (
            "ampgrid-2=x",
            f"ampgrid-3={self.gateway.tokens.cookie}",
            f"ampgrid={self.token}",
        ):
            page = self.ask("GET", self.url, headers={**OWN_PAGE, "Cookie": cookie})
            self.assertNotIn(self.token, page.text)
            self.changes({**OWN_PAGE, "Cookie": cookie})

    def test_a_cookie_that_is_tossed_in_before_ours(self) -> None:
        ours = f"ampgrid-2={self.gateway.tokens.cookie}"
        for cookies in (f"{ours}; ampgrid-2=evil", f"ampgrid-2=evil; {ours}"):
            self.changes({**OWN_PAGE, "Cookie": cookies})

    def test_the_right_cookie_alone_changes_nothing(self) -> None:
        self.changes({**OWN_PAGE, "Cookie": f"ampgrid-2={self.gateway.tokens.cookie}"})

    def test_other_methods_in_disguise(self) -> None:
        for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
            for method in ("DELETE", "PUT"):
                reply = self.ask("GET", f"{self.url}/victim", headers={name: method})
                self.assertEqual(reply.body, b"precious")
        self.post(f"{self.url}/victim?_method=DELETE", t="json", _method="DELETE")


class ContentTest(AttackCase):
    """What is stored, or how it is named, is the attack."""

    def stored(self, name: str, data: bytes = b"<script>alert(1)</script>") -> Reply:
        self.put(f"{self.url}/{quote(name, safe='')}", data)
        try:
            return self.get(f"{self.url}/{quote(name, safe='')}")
        finally:
            self.assert_status(self.delete(f"{self.url}/{quote(name, safe='')}"), 200)

    def test_scripts_in_contents(self) -> None:
        for name in ("a.html", "a.svg", "a.xhtml", "a.xml", "a.js", "a.pdf", "a.mhtml", "a"):
            reply = self.stored(name)
            self.assertEqual(reply.headers["Content-Security-Policy"], STORED_POLICY, name)
        self.assertIn("sandbox;", STORED_POLICY)
        self.assertIn("default-src 'none'", STORED_POLICY)
        self.assertNotIn("allow-", STORED_POLICY)
        self.assertNotIn("script-src", STORED_POLICY)

    def test_contents_that_browsers_would_guess(self) -> None:
        for data in (b"<html><script>1</script>", b"GIF89a/*", b"%PDF-1.4", b"\xef\xbb\xbf<svg>"):
            for name in ("a.txt", "a", "a.jpg", "a.unknown"):
                reply = self.stored(name, data)
                self.assertEqual(reply.headers["X-Content-Type-Options"], "nosniff")
                self.assertNotIn("html", reply.headers["Content-Type"])

    def test_a_type_by_argument(self) -> None:
        cap = self.put("/uri", b"<script>1</script>").text
        for told in ("evil.html", "evil.svg"):
            reply = self.get(f"/uri/{cap}?filename={told}")
            self.assertEqual(reply.headers["Content-Security-Policy"], STORED_POLICY)

    def test_contents_as_a_script_of_our_page(self) -> None:
        cap = self.put("/uri", b"alert(1)").text
        for dest in ("script", "style", "worker", "serviceworker", "object", "embed", "xslt"):
            for told in ("evil.js", "evil.css"):
                url = f"/uri/{cap}?filename={told}"
                headers = {**OWN_PAGE, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": dest}
                for method in ("GET", "HEAD"):
                    self.assert_status(self.ask(method, url, headers=headers), 403)
        for dest in ("document", "iframe", "image", "audio", "video", "empty"):
            headers = {**OWN_PAGE, "Sec-Fetch-Dest": dest}
            self.assert_status(self.ask("GET", f"/uri/{cap}", headers=headers), 200)

    def test_dates_that_no_clock_shows(self) -> None:
        cap = self.put("/uri", b"alert(1)").text
        directory = self.new_directory()

        async def link(changed: float) -> None:
            node = await self.gateway.core.drive.directory(place_of(("uri", directory)))
            await node.set_children({"a": Link(cap, {"changed": changed})})

        for changed in (1e300, -1e300, 10**400, 2**70, -1, 253_402_300_800):
            self.grid.run(link(changed))
            for method in ("GET", "HEAD"):
                reply = self.ask(method, f"/uri/{directory}/a")
                self.assert_status(reply, 200)
                self.assertNotIn("Last-Modified", reply.headers)
        self.grid.run(link(253_402_300_799))
        told = self.get(f"/uri/{directory}/a").headers["Last-Modified"]
        self.assertEqual(told, "Fri, 31 Dec 9999 23:59:59 GMT")

    def test_scripts_in_names(self) -> None:
        names = (
            "<script>alert(1)</script>",
            '"><img src=x onerror=1>',
            "' onmouseover='1",
            "{{7*7}}",
        )
        for name in (*names, "javascript:alert(1)", "</title><script>1</script>", "&lt;b&gt;"):
            told = quote(name, safe="")
            self.put(f"{self.url}/{told}", b"1")
            for url in (
                self.url,
                f"{self.url}?t=manifest",
                f"{self.url}?t=rename-form&name={told}",
            ):
                page = self.ask("GET", url, headers={"Accept": "text/html"}).text
                for bad in (
                    "<script>alert",
                    "<img src=x",
                    "onmouseover='1",
                    "<script>1",
                    'href="javascript:',
                ):
                    self.assertNotIn(bad, page, name)
            told_json = self.get(f"{self.url}?t=json").text
            self.assertNotIn("<", told_json)
            self.delete(f"{self.url}/{told}")

    def test_names_in_errors(self) -> None:
        evil = quote("<script>alert(1)</script>", safe="")
        for url in (
            f"{self.url}/{evil}",
            f"/{evil}",
            f"/uri/{evil}",
            f"{self.url}?t={evil}",
            f"/vdrive/{evil}",
        ):
            reply = self.ask("GET", url, headers={"Accept": "text/html"})
            self.assertGreaterEqual(reply.status, 400)
            self.assertNotIn("<script>alert", reply.text)

    def test_no_referrer_tells_a_cap(self) -> None:
        for url in (self.url, f"{self.url}/victim", "/", f"{self.url}/none"):
            self.assertEqual(self.get(url).headers["Referrer-Policy"], "no-referrer")
            self.assertEqual(self.get(url).headers["Cache-Control"], "no-store")

    def test_pages_load_nothing_from_elsewhere(self) -> None:
        reply = self.get(self.url)
        policy = reply.headers["Content-Security-Policy"]
        self.assertTrue(
            policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        )
        self.assertNotIn("unsafe", policy)
        self.assertEqual(re.findall(r"<script(?![^>]*src=\"/static/)", reply.text), [])
        self.assertEqual(re.findall(r"\son\w+=", reply.text), [])
