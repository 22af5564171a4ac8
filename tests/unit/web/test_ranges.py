"""Ranges, ETags and dates: every range of a small file, and what a client has already."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.web.ranges import (
    Range,
    RangeError,
    etag_of,
    http_date,
    is_unchanged,
    matches,
    range_holds,
    read_range,
)
from tests.material import some_bytes
from tests.unit.web.kit import GatewayCase, request_bytes


class ReadTest(SynchronousTestCase):
    def test_every_range_of_a_small_file(self) -> None:
        for size in range(6):
            data = bytes(range(size))
            for first in (None, *range(8)):
                for last in (None, *range(8)):
                    self.check(data, first, last)

    def check(self, data: bytes, first: int | None, last: int | None) -> None:
        header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
        if first is None and last is None:
            wanted: bytes | None = None
        elif first is None:
            wanted = data[max(0, len(data) - (last or 0)) :] if last else b""
        elif last is not None and last < first:
            wanted = None
        else:
            wanted = data[first : len(data) if last is None else last + 1]
        if wanted == b"":
            with self.assertRaises(RangeError) as caught:
                read_range(header, len(data))
            self.assertEqual(caught.exception.headers["Content-Range"], f"bytes */{len(data)}")
            return
        found = read_range(header, len(data))
        got = data[found.start : found.end] if found is not None else None
        self.assertEqual(got, wanted, header)

    def test_what_is_no_single_range_is_ignored(self) -> None:
        wrong = (
            "bytes=0-1,3-4|bytes 0-1|items=0-1|bytes=a-b|bytes=0--1|bytes=-|bytes=|"
            "bytes=99999999999999999999-|bytes=\u0661-2"
        )
        for header in ["", *wrong.split("|"), "bytes=0-0," * 5_000]:
            self.assertIsNone(read_range(header, 100), header[:40])

    def test_a_hostile_header_is_read_once(self) -> None:
        """Space that may stand in several places was tried in all of them, for hours."""
        gap = " " * 8_000
        for header in (f"bytes={gap}-{gap}x", f"bytes={gap}1{gap}-{gap}2{gap}x", f"{gap}bytes=1-"):
            found = read_range(header, 100)
            self.assertEqual(found, None if "x" in header else Range(1, 100))

    def test_a_long_date_is_none(self) -> None:
        """The same moment, spelt with padding that the parser would take, is not looked at."""
        date = http_date(1_000)
        for padding, known in (("", True), (" " * 20, True), (" " * 16_000, False)):
            said = {"If-Modified-Since": date + padding}
            found = is_unchanged(lambda name, said=said: said.get(name, ""), '"e"', 1_000.0)
            self.assertIs(found, known)

    def test_large_numbers(self) -> None:
        self.assertEqual(read_range("bytes=5-9999999999999999999", 10), Range(5, 10))
        self.assertEqual(read_range("bytes=-9999999999999999999", 10), Range(0, 10))
        self.assertEqual(read_range("BYTES= 1 - 2 ", 10), Range(1, 3))


class ConditionTest(SynchronousTestCase):
    def holds(self, changed: float | None = 1_000.5, **headers: str) -> bool:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return is_unchanged(lambda name: told.get(name, ""), '"e"', changed)

    def test_etags(self) -> None:
        for header in ('"e"', 'W/"e"', '"a", "e"', "*", ' "a" , W/"e"'):
            self.assertTrue(matches(header, '"e"'), header)
        for header in ('"f"', "e", '"ee"', ""):
            self.assertFalse(matches(header, '"e"'), header)

    def test_an_etag_tells_nothing_of_the_cap(self) -> None:
        caps = ["URI:LIT:krugkidcnf2hgidqnrqws3q", "URI:LIT:ojqw4zdpnu"]
        self.assertEqual(len({etag_of(cap) for cap in caps}), 2)
        for cap in caps:
            self.assertRegex(etag_of(cap), re.compile(r'^"[a-z2-7]{32}"$'))
            self.assertNotIn(cap[8:], etag_of(cap))

    def test_unchanged(self) -> None:
        self.assertTrue(self.holds(If_None_Match='"e"'))
        self.assertFalse(self.holds(If_None_Match='"f"', If_Modified_Since=http_date(2_000)))
        self.assertTrue(self.holds(If_Modified_Since=http_date(1_000)))
        self.assertFalse(self.holds(If_Modified_Since=http_date(999)))
        for date in ("yesterday", "", "Thu, 32 Jan 1970 00:00:00 GMT", "-1", "1e999"):
            self.assertFalse(self.holds(If_Modified_Since=date))
        self.assertFalse(self.holds(None, If_Modified_Since=http_date(2_000)))

    def test_if_range(self) -> None:
        def value(condition: str):
            return range_holds(lambda _name: condition, '"e"', 1_000.5)

        self.assertTrue(value(""))
        self.assertTrue(value('"e"'))
        self.assertTrue(value(http_date(1_000)))
        for condition in ('"f"', 'W/"e"', http_date(999), "nonsense"):
            self.assertFalse(value(condition), condition)


class DownloadTest(GatewayCase):
    def setUp(self) -> None:
        self.data = some_bytes(120_001)
        self.root = self.new_directory()
        self.url = f"/uri/{self.root}/f.txt"
        self.cap = self.put(self.url, self.data).text

    def test_ranges(self) -> None:
        for start, end in ((0, 0), (0, 49_999), (49_999, 50_001), (100_000, 120_000)):
            reply = self.assert_status(self.get(self.url, Range=f"bytes={start}-{end}"), 206)
            self.assertEqual(reply.body, self.data[start : end + 1])
            self.assertEqual(reply.headers["Content-Range"], f"bytes {start}-{end}/120001")
        self.assertEqual(self.get(self.url, Range="bytes=-7").body, self.data[-7:])
        reply = self.assert_status(self.get(self.url, Range="bytes=120001-"), 416)
        self.assertEqual(reply.headers["Content-Range"], "bytes */120001")
        self.assertEqual(self.get(self.url, Range="bytes=0-1,5-6").body, self.data)

    def test_of_a_literal_and_of_nothing(self) -> None:
        self.put(self.url, b"0123456789")
        self.assertEqual(self.get(self.url, Range="bytes=3-5").body, b"345")
        self.put(self.url, b"")
        self.assertEqual(self.get(self.url).body, b"")
        self.assert_status(self.get(self.url, Range="bytes=0-"), 416)

    def test_head(self) -> None:
        whole = self.get(self.url)
        reply = self.assert_status(self.ask("HEAD", self.url), 200)
        self.assertEqual(reply.body, b"")
        for name in ("Content-Length", "Content-Type", "ETag", "Last-Modified", "Accept-Ranges"):
            self.assertEqual(reply.headers[name], whole.headers[name])
        part = self.ask("HEAD", self.url, headers={"Range": "bytes=5-9"})
        self.assertEqual((part.status, part.headers["Content-Length"]), (206, "5"))
        for url in (f"/uri/{self.root}", f"/uri/{self.root}?t=json", "/", "/vdrive", "/health"):
            self.assertEqual(self.assert_status(self.ask("HEAD", url), 200).body, b"")
        self.assert_status(self.ask("HEAD", f"/uri/{self.root}/none"), 404)

    def test_what_the_client_has_already(self) -> None:
        whole = self.get(self.url)
        etag, date = whole.headers["ETag"], whole.headers["Last-Modified"]
        for headers in ({"If_None_Match": etag}, {"If_Modified_Since": date}):
            reply = self.assert_status(self.get(self.url, **headers), 304)
            self.assertEqual((reply.body, reply.headers["ETag"]), (b"", etag))
        self.assertEqual(self.get(f"/uri/{self.cap}").headers["ETag"], etag)
        self.put(self.url, b"another")
        self.assert_status(self.get(self.url, If_None_Match=etag), 200)
        self.assertEqual(self.get(self.url, Range="bytes=0-1", If_Range=etag).body, b"another")

    def test_a_download_that_was_cut_goes_on(self) -> None:
        client = self.connect()
        client.transport.write(request_bytes("GET", self.url))
        while len(client.received) < 60_000:
            self.grid.clock.advance(0.0005)
        client.transport.abortConnection()
        self.grid.clock.advance(1)
        head, _, part = client.received[:60_000].partition(b"\r\n\r\n")
        etag = re.search(rb'ETag: ("\S+")', head)[1].decode()
        rest = self.get(self.url, Range=f"bytes={len(part)}-", If_Range=etag)
        self.assert_status(rest, 206)
        self.assertEqual(part + rest.body, self.data)

    def test_headers_of_what_is_stored(self) -> None:
        for name in ("a.html", "a.svg", "a.js", "a.pdf", "a.xml", "a"):
            self.put(f"/uri/{self.root}/{name}", b"<script>alert(1)</script>")
            reply = self.get(f"/uri/{self.root}/{name}")
            self.assertTrue(reply.headers["Content-Security-Policy"].startswith("sandbox;"))
            self.assertEqual(reply.headers["X-Content-Type-Options"], "nosniff")
            self.assertEqual(reply.headers["Referrer-Policy"], "no-referrer")
            self.assertEqual(reply.headers["Cache-Control"], "no-store")
            self.assertEqual(reply.headers["Cross-Origin-Resource-Policy"], "same-origin")

    def test_a_name_cannot_add_a_header(self) -> None:
        for name in ('a"; x="b', "a%0d%0aX-Evil: 1", "a%00b", "%22%0a", "\u00fc".encode().hex()):
            url = f"/uri/{self.cap}?save=true&filename={name.replace(' ', '%20')}"
            reply = self.get(url)
            self.assertNotIn("X-Evil", reply.headers)
            if reply.status == 200:
                told = reply.headers["Content-Disposition"]
                self.assertNotRegex(told, r"[\r\n\x00]")
                self.assertEqual(told.count('"'), 2)

    def test_a_file_that_cannot_be_read(self) -> None:
        cap = self.put("/uri", some_bytes(70_000, b"gone")).text
        wrong = cap.replace(cap.split(":")[2], "a" * 26)
        self.assert_status(self.get(f"/uri/{wrong}"), 410)
