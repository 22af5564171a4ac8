"""``when_done=``: to this gateway alone, whatever it says, and before anything is done."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.web.errors import BadRequestError
from ampgrid.web.redirects import checked_target
from tests.unit.web.kit import ORIGIN, GatewayCase

PATH = "/vdrive/global/a"
ELSEWHERE = (
    "http://example.org/|https://example.org|//example.org|////example.org|"
    "\\\\example.org|/\\example.org|\\/example.org|javascript:alert(1)|"
    "data:text/html,x|file:///etc/passwd|ftp:x|https:x|http://127.0.0.1:3/|http://127.0.0.1:2@x/|"
    "http://x@127.0.0.1:2/|https://127.0.0.1:2/|http://127.0.0.1:2.example.org/|//127.0.0.1:3/|"
    "http://[::1|/a\r\nX: y|/a\nb|/a\tb|/a b|/\x00|/\x7f|/\u00fc|http://127.0.0.1:2//example.org|"
    "/.//example.org|/a/..//example.org"
)


class TargetTest(SynchronousTestCase):
    def test_paths_of_this_gateway(self) -> None:
        wanted = {
            "/": "/",
            "/vdrive/global/b": "/vdrive/global/b",
            ".": "/vdrive/global/",
            "..": "/vdrive/",
            "b?t=json": "/vdrive/global/b?t=json",
            "?t=json": "/vdrive/global/a?t=json",
            "#here": "/vdrive/global/a#here",
            f"{ORIGIN}/b": "/b",
            ORIGIN: "/",
            "//127.0.0.1:2/b": "/b",
            "http:b": "/vdrive/global/b",
            # As they are said, a browser would leave with them; what is made of them stays.
            "///example.org": "/example.org",
            "http:///example.org": "/example.org",
        }
        for said, target in wanted.items():
            self.assertEqual(checked_target(said, PATH, ORIGIN), target, said)

    def test_whatever_leads_elsewhere(self) -> None:
        for said in (*ELSEWHERE.split("|"), "/" + "a" * 5_000):
            with self.assertRaises(BadRequestError, msg=said):
                checked_target(said, PATH, ORIGIN)

    @given(st.text("/\\.:@?#[]%abhtp \t\r\n\x00", max_size=12))
    def test_any_text(self, said: str) -> None:
        try:
            target = checked_target(said, PATH, ORIGIN)
        except BadRequestError:
            return
        self.assertRegex(target, r"^/([^/\\\s\x00][^\\\s\x00]*)?$")
        led = urlsplit(urljoin(ORIGIN + PATH, target))
        self.assertEqual(f"{led.scheme}://{led.netloc}", ORIGIN)


class WhenDoneTest(GatewayCase):
    def test_it_leads_on(self) -> None:
        url = f"/uri/{self.new_directory()}"
        reply = self.post(f"{url}/", t="mkdir", name="a", when_done=".")
        self.assertEqual((reply.status, reply.headers["Location"]), (303, f"{url}/"))
        for t, fields in {
            "uri": {"name": "b", "uri": "URI:LIT:nbuq"},
            "rename": {"from_name": "b", "to_name": "c"},
            "delete": {"name": "c"},
            "check": {},
        }.items():
            reply = self.post(url, t=t, when_done="/status", **fields)
            self.assertEqual((reply.status, reply.headers["Location"]), (303, "/status"))
        sent = self.post(url, {"f": b"1"}, t="upload", when_done="/")
        self.assertEqual((sent.status, sent.headers["Location"]), (303, "/"))
        self.assertEqual(sorted(self.get(f"{url}?t=json").json[1]["children"]), ["a", "f"])

    def test_nothing_is_done_if_it_leads_elsewhere(self) -> None:
        url = f"/uri/{self.new_directory()}"
        for said in ("//example.org", "http://example.org/", "javascript:alert(1)", "/\\x"):
            self.assert_status(self.post(url, t="mkdir", name="a", when_done=said), 400)
        self.assertEqual(self.get(f"{url}?t=json").json[1]["children"], {})
