"""Whatever bytes come: an answer below 500 or a closed connection, and nothing is left behind."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from ampgrid.web import channel
from tests.unit.web.kit import HOST, GatewayCase, form_bytes, request_bytes

_METHODS = st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "X"])
_WORDS = st.sampled_from(
    [
        *("uri", "vdrive", "global", "private", "status", "operations", "health", "enter"),
        *("static", "URI:LIT:nbuq", "URI:LIT:", "URI:DIR:a:b", "", ".", "..", "%2e%2e", "%2F"),
        *("a", "%00", "%ff", "%C3%BC", "%", "%zz", "x" * 300, "a;b", "+", "~"),
    ]
)
_ARGUMENTS = st.sampled_from(
    [
        *("t=json", "t=uri", "t=info", "t=manifest", "t=mkdir", "t=check", "t=upload", "t=rename"),
        *("t=download&localfile=/x", "t=stream-manifest", "t=rename-form&name=a", "t=nothing"),
        *("uri=URI:LIT:nbuq", "uri=//x", "filename=a%0d%0aB:c", "save=t", "save=maybe", "t=%00"),
        *("when_done=//x", "when_done=/", "overwrite=f", "ophandle=a%20b", "output=x", "token=x"),
    ]
)
_HEADERS = st.sampled_from(
    [
        *(
            ("Range", "bytes=0-0"),
            ("Range", "bytes=-"),
            ("If-None-Match", "*"),
            ("Accept", "\xff"),
        ),
        *(("Origin", "null"), ("Sec-Fetch-Site", "cross-site"), ("Authorization", "Digest a")),
        *(("Content-Type", "multipart/form-data"), ("Content-Type", "\x7f; boundary=")),
        *(
            ("Expect", "100-continue"),
            ("X-Ampgrid-Token", "x"),
            ("Cookie", "=;=;a"),
            ("Host", "x"),
        ),
        *(("If-Modified-Since", "x"), ("If-Range", "x"), ("Connection", "keep-alive, x")),
        *(("Content-Length", "5"), ("Transfer-Encoding", "chunked"), ("Accept", "text/html")),
    ]
)


class FuzzTest(GatewayCase):
    def answers(self, data: bytes) -> list[int]:
        """Send bytes, let time pass, and return the statuses of all answers."""
        client = self.connect()
        client.transport.write(data)
        self.grid.clock.advance(channel.HEAD_SECONDS + channel.RATE_SECONDS + 1)
        self.assertTrue(client.lost)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(self.gateway.jobs.running(), [])
        self.assertEqual(self.gateway.spool.used, 0)
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", client.received)]

    def check(self, data: bytes) -> None:
        statuses = self.answers(data)
        self.assertEqual([status for status in statuses if status in range(500, 503)], [], data)

    @settings(max_examples=100, deadline=None)
    @given(
        method=_METHODS,
        words=st.lists(_WORDS, max_size=4),
        arguments=st.lists(_ARGUMENTS, max_size=3),
        headers=st.lists(_HEADERS, max_size=3),
        body=st.one_of(st.just(b""), st.binary(max_size=40)),
    )
    def test_requests_made_of_parts(
        self,
        method: str,
        words: list[str],
        arguments: list[str],
        headers: list[tuple[str, str]],
        body: bytes,
    ) -> None:
        path = "/" + "/".join(words) + ("?" + "&".join(arguments) if arguments else "")
        lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        self.check("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_forms_with_bytes_changed(self, data: st.DataObject) -> None:
        body, headers = form_bytes({"t": "mkdir", "name": "n"}, {"f": b"some bytes"})
        whole = bytearray(request_bytes("POST", "/vdrive/global/none", body, headers))
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(whole) - 1))
            change = data.draw(st.sampled_from(["set", "cut", "double"]))
            if change == "set":
                whole[place] = data.draw(st.integers(0, 255))
            elif change == "cut":
                del whole[place : place + data.draw(st.integers(1, 20))]
            else:
                whole[place:place] = whole[place : place + 20]
            if not whole:
                break
        self.check(bytes(whole))

    @settings(max_examples=40, deadline=None)
    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        self.check(data)
