"""The ``webpassword``: digest for all, Basic over TLS, and nothing without it."""

from __future__ import annotations

import base64
import hashlib
import re
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import ConfigError
from ampgrid.testing.pipes import MemoryTransport
from ampgrid.web.password import WINDOW, Counts, Password
from tests.unit.web.kit import OWN_PAGE, GatewayCase, Reply

NAME, WORD = "me", "pass:word"


def hashed(*parts: str) -> str:
    return hashlib.md5(":".join(parts).encode()).hexdigest()


def answer(challenge: str, method: str, uri: str, /, **changes: str) -> str:
    """Return what a client answers to a challenge (RFC 7616)."""
    told = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    fields = {
        "username": NAME,
        "realm": told["realm"],
        "nonce": told["nonce"],
        "uri": uri,
        "nc": "00000001",
        "cnonce": "abc",
        "qop": "auth",
        "opaque": told["opaque"],
        "algorithm": "MD5",
        **{name: value for name, value in changes.items() if name != "word"},
    }
    first = hashed(fields["username"], fields["realm"], changes.get("word", WORD))
    second = hashed(method, fields["uri"])
    fields.setdefault(
        "response",
        hashed(first, fields["nonce"], fields["nc"], fields["cnonce"], "auth", second),
    )
    return "Digest " + ", ".join(f'{name}="{value}"' for name, value in fields.items())


class CountsTest(SynchronousTestCase):
    @given(st.lists(st.integers(0, 3 * WINDOW)))
    def test_each_counts_once_and_none_from_long_ago(self, numbers: list[int]) -> None:
        counts, used = Counts(), {0}
        for number in numbers:
            expected = number not in used and number > max(used) - WINDOW
            self.assertIs(counts.take(b"nonce", b"%08x" % number), expected)
            used |= {number} if expected else set()
        self.assertIs(counts.take(b"another", b"00000001"), True)

    def test_a_bounded_number_of_nonces(self) -> None:
        counts = Counts(most=3)
        for nonce in (b"a", b"b", b"a", b"c", b"d"):
            counts.take(nonce, b"00000001")
        self.assertEqual(len(counts), 3)


class PasswordTest(GatewayCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.gateway = cls.make_gateway(password=Password(NAME.encode(), WORD.encode()))

    def challenge(self) -> str:
        reply = self.assert_status(self.get("/vdrive"), 401)
        return reply.headers["WWW-Authenticate"]

    def told(self, said: str, method: str = "GET", uri: str = "/vdrive", **more: str) -> Reply:
        return self.ask(method, uri, headers={"Authorization": said, **more})

    def test_everything_asks(self) -> None:
        paths = "/ /vdrive /vdrive/private/ /uri /health /metrics /status /static/style.css /enter"
        for path in [*paths.split(), "/nothing", "/operations/x", "/xmlrpc"]:
            for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
                self.assert_status(self.ask(method, path), 401)

    def test_digest(self) -> None:
        challenge = self.challenge()
        self.assertTrue(challenge.startswith('Digest nonce="'))
        self.assert_status(self.told(answer(challenge, "GET", "/vdrive")), 200)
        put = answer(challenge, "PUT", "/uri?t=mkdir", nc="00000002")
        self.assert_status(self.told(put, "PUT", "/uri?t=mkdir"), 201)

    def test_what_is_wrong(self) -> None:
        challenge = self.challenge()
        changes = [
            {"username": "you"},
            {"word": "another"},
            {"uri": "/other"},
            {"nonce": "0" * 24},
            {"opaque": "a-YQ=="},
            {"opaque": "a"},
            {"opaque": "a-%%%"},
            {"algorithm": "SHA-256"},
            {"algorithm": "unknown"},
            {"qop": "auth-int"},
            {"response": ""},
        ]
        for change in changes:
            self.assert_status(self.told(answer(challenge, "GET", "/vdrive", **change)), 401)
        # The answer for one request is none for another.
        said = answer(challenge, "GET", "/vdrive")
        self.assert_status(self.told(said, "GET", "/"), 401)
        self.assert_status(self.told(said, "PUT", "/uri"), 401)
        for said in ("", "Digest", "Digest x", "Bearer abc", "Digest " + "a=b," * 1_000):
            self.assert_status(self.told(said), 401)

    def test_a_long_answer_is_not_parsed(self) -> None:
        """The parser takes the square of the length, for whoever asks."""
        parsed: list[int] = []
        assert self.gateway.password is not None
        digests = self.gateway.password._digests
        decode = digests.decode

        def noted(given: bytes, method: bytes, peer: bytes) -> Any:
            parsed.append(len(given))
            return decode(given, method, peer)

        self.patch(digests, "decode", noted)
        challenge = self.challenge()
        path = "/vdrive/private" + ("/" + "a" * 200) * 15
        for said in ("Digest " + "a" * 16_000, answer(challenge, "GET", "/vdrive") + ", x" * 500):
            self.assertEqual(self.told(said).status, 401)
        self.assertEqual(parsed, [])
        # A long path of the request itself is no reason to refuse.
        self.assertEqual(self.told(answer(challenge, "GET", path), uri=path).status, 404)
        self.assertLess(max(parsed), 1_024)

    def test_basic_is_for_tls(self) -> None:
        said = "Basic " + base64.b64encode(f"{NAME}:{WORD}".encode()).decode()
        self.assert_status(self.told(said), 401)
        self.assertNotIn("Basic", self.challenge())
        from twisted.internet.interfaces import ISSLTransport
        from zope.interface import directlyProvides, providedBy

        original = MemoryTransport.__init__

        def secure(transport: MemoryTransport, *args: object) -> None:
            original(transport, *args)
            directlyProvides(transport, ISSLTransport, providedBy(transport))

        self.patch(MemoryTransport, "__init__", secure)
        self.assertIn(b"WWW-Authenticate: Basic", self.get("/vdrive").raw)
        self.assert_status(self.told(said), 200)
        for wrong in ("Basic", "Basic x", "Basic " + base64.b64encode(b"me:no").decode()):
            self.assert_status(self.told(wrong), 401)

    def test_who_knows_it_is_given_the_token(self) -> None:
        said = answer(self.challenge(), "GET", "/")
        page = self.told(said, "GET", "/", **{**OWN_PAGE, "Accept": "text/html"})
        self.assertIn(self.gateway.tokens.form, page.text)

    def test_another_site_is_refused_before_it_is_asked(self) -> None:
        self.assert_status(self.ask("GET", "/", headers={"Origin": "http://example.org"}), 403)

    def test_the_file(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "webpassword"
            self.assertIsNone(Password.read(path))
            path.write_text(f"{NAME}:{WORD}\n")
            path.chmod(0o644)
            self.assertRaises(ConfigError, Password.read, path)
            path.chmod(0o600)
            self.assertIsNotNone(Password.read(path))
            for text in ("", "name", "name:", ":word", 'na"me:word'):
                path.write_text(text)
                self.assertRaises(ConfigError, Password.read, path)
