"""Who is let in: scripts, browsers with our own page, browsers with anybody else's."""

from __future__ import annotations

import itertools

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.base32 import b2a
from ampgrid.web.errors import BadRequestError, ForbiddenError
from ampgrid.web.gate import Admission, Gate, Head
from ampgrid.web.tokens import HEADER, Tokens

TOKENS = Tokens(b"t" * 32)
LOCAL = ("127.0.0.1", 8011)
OWN = "http://127.0.0.1:8011"
UNSAFE = ("PUT", "POST", "DELETE")
SAFE = ("GET", "HEAD", "OPTIONS")


def admit(
    method: str = "GET",
    *,
    host: str | None = "127.0.0.1:8011",
    form: bool = False,
    hosts: tuple[str, ...] = (),
    local: tuple[str, int] = LOCAL,
    secure: bool = False,
    linkable: bool = False,
    **headers: str | list[str],
) -> Admission:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    if host is not None:
        told["Host"] = host

    def values(name: str) -> list[str]:
        value = told.get(name, [])
        return value if isinstance(value, list) else [value]

    head = Head(method, values, local, secure, linkable)
    return Gate(TOKENS, hosts).admit(head, form=form)


class HostTest(SynchronousTestCase):
    def test_names_of_the_loopback(self) -> None:
        for name in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]"):
            origin = admit(host=f"{name}:8011").origin
            self.assertEqual(origin, f"http://{name.lower()}:8011")

    def test_other_names_and_ports_are_refused(self) -> None:
        wrong = (
            "example.org:8011 127.0.0.1:8012 127.0.0.1 localhost.example.org:8011 localhost. "
            "127.0.0.1.nip.io:8011 0.0.0.0:8011 127.1:8011 2130706433:8011 [::]:8011 "
            "user@127.0.0.1:8011 127.0.0.1:08011a"
        )
        for host in wrong.split():
            with self.assertRaises((ForbiddenError, BadRequestError), msg=host):
                admit(host=host)

    def test_a_missing_or_doubled_name_is_refused(self) -> None:
        for host in (None, "", ":8011"):
            self.assertRaises(BadRequestError, admit, host=host)
        self.assertRaises(
            BadRequestError, admit, host=None, Host=["127.0.0.1:8011", "127.0.0.1:8011"]
        )

    def test_the_address_that_was_connected_to(self) -> None:
        self.assertTrue(admit(host="10.1.2.3:8011", local=("10.1.2.3", 8011)).origin)
        self.assertTrue(admit(host="[fe80::1]:8011", local=("fe80::1", 8011)).origin)
        self.assertRaises(ForbiddenError, admit, host="10.1.2.4:8011", local=("10.1.2.3", 8011))

    def test_configured_names(self) -> None:
        hosts = ("box.example", "other.example:9000")
        for host in ("box.example", "box.example:1", "other.example:9000"):
            self.assertTrue(admit(host=host, hosts=hosts).origin)
        for host in ("other.example", "other.example:9001", "a.box.example"):
            self.assertRaises(ForbiddenError, admit, host=host, hosts=hosts)

    def test_the_port_that_goes_without_saying(self) -> None:
        self.assertTrue(admit(host="localhost", local=("127.0.0.1", 80)).origin)
        origin = admit(host="localhost", local=("127.0.0.1", 443), secure=True).origin
        self.assertEqual(origin, "https://localhost")


class ScriptTest(SynchronousTestCase):
    def test_a_script_may_do_everything(self) -> None:
        for method in (*SAFE, *UNSAFE):
            admission = admit(method, User_Agent="curl/8.0")
            self.assertFalse(admission.browser)
            self.assertFalse(admission.needs_token)

    def test_a_wrong_token_is_refused_though_none_is_needed(self) -> None:
        self.assertRaises(ForbiddenError, admit, "PUT", X_Ampgrid_Token="x" * 52)


class OriginTest(SynchronousTestCase):
    def test_another_origin_may_do_nothing(self) -> None:
        origins = (
            "http://example.org null http://127.0.0.1:8012 https://127.0.0.1:8011 "
            "http://localhost:8011 http://127.0.0.1:8011.example.org http://127.0.0.1 file://"
        )
        for origin, method in itertools.product(origins.split(), (*SAFE, *UNSAFE)):
            for token in ("", TOKENS.form):
                headers = {HEADER: token} if token else {}
                with self.assertRaises(ForbiddenError, msg=origin):
                    admit(method, Origin=origin, **headers)

    def test_another_site_may_do_nothing(self) -> None:
        modes = ("cors", "no-cors", "navigate", "same-origin", "websocket", "")
        dests = ("document", "image", "iframe", "script", "empty", "object", "")
        for site, mode, dest, method in itertools.product(
            ("cross-site", "same-site", "anything"), modes, dests, (*SAFE, *UNSAFE)
        ):
            for linkable in (False, True):
                is_link = linkable and (method, mode, dest) == ("GET", "navigate", "document")
                headers = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": mode, "Sec_Fetch_Dest": dest}
                if is_link:
                    self.assertTrue(admit(method, linkable=True, **headers).browser)
                    continue
                with self.assertRaises(ForbiddenError):
                    admit(method, linkable=linkable, **headers)

    def test_our_own_page_may_look(self) -> None:
        for site in ("same-origin", "none"):
            for method in SAFE:
                self.assertTrue(admit(method, Origin=OWN, Sec_Fetch_Site=site).browser)

    def test_no_origin_of_our_own_page_that_hides_its_referrer(self) -> None:
        self.assertTrue(admit(Origin="null", Sec_Fetch_Site="same-origin").browser)
        for site in ("none", "cross-site", "same-site"):
            self.assertRaises(ForbiddenError, admit, Origin="null", Sec_Fetch_Site=site)

    def test_doubled_headers_are_refused(self) -> None:
        for name in ("Origin", "Sec_Fetch_Site", HEADER.replace("-", "_"), "User_Agent"):
            self.assertRaises(BadRequestError, admit, **{name: [OWN, OWN]})


class TokenTest(SynchronousTestCase):
    def test_a_browser_changes_nothing_without_a_token(self) -> None:
        signs = (
            {"Origin": OWN},
            {"Sec_Fetch_Site": "same-origin"},
            {"Sec_Fetch_Site": "none"},
            {"Referer": f"{OWN}/"},
            {"Cookie": f"ampgrid-8011={TOKENS.cookie}"},
            {"User_Agent": "Mozilla/5.0 (X11)"},
        )
        for method, headers in itertools.product(UNSAFE, signs):
            self.assertRaises(ForbiddenError, admit, method, **headers)
            self.assertTrue(admit(method, form=True, **headers).needs_token)
            with_token = admit(method, **{**headers, HEADER: TOKENS.form})
            self.assertEqual((with_token.needs_token, with_token.has_token), (False, True))

    def test_what_is_a_token_and_what_is_not(self) -> None:
        secret = b2a(b"t" * 32)
        for token in (secret, TOKENS.form):
            self.assertTrue(TOKENS.allows(token))
        for other in (TOKENS.cookie, TOKENS.link, "", secret[:-1], secret.upper(), "\udcff"):
            self.assertFalse(TOKENS.allows(other))
        self.assertTrue(TOKENS.is_cookie(TOKENS.cookie))
        self.assertFalse(TOKENS.is_cookie(TOKENS.form))
        self.assertTrue(TOKENS.is_link(TOKENS.link))
        self.assertFalse(TOKENS.is_link(secret))
        self.assertNotIn(TOKENS.form, repr(TOKENS))
