"""Pages of a large directory: each name on one of them, all of them for programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import DirCap, parse_cap
from ampgrid.vdrive.table import Table
from ampgrid.web import glances, paging
from ampgrid.web.errors import BadRequestError
from ampgrid.web.paging import sheet_of
from tests.unit.web.kit import OWN_PAGE
from tests.unit.web.test_pages import HOSTILE, PageCase, Parsed

NAMES = [f"n{number:02}" for number in range(11)]


class SheetTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(paging, "PAGE_NAMES", 3)

    def test_each_name_is_on_one_page(self) -> None:
        for total in range(20):
            pages = sheet_of(None, total).pages
            shown = [sheet_of(str(number + 1), total) for number in range(pages)]
            names = [name for sheet in shown for name in range(sheet.start, sheet.end)]
            self.assertEqual(names, list(range(total)))
            self.assertEqual(pages, max(1, (total + 2) // 3))
            for sheet in shown:
                told = dict(sheet.others)
                self.assertEqual(len(told), len(set(told.values())))
                self.assertEqual(told.get("Next", sheet.number + 1), sheet.number + 1)
                self.assertEqual(told.get("Previous", sheet.number - 1), sheet.number - 1)
                self.assertEqual("Next" in told, sheet.number < pages)
                self.assertEqual("Previous" in told, sheet.number > 1)
                self.assertTrue(set(told.values()) <= set(range(1, pages + 1)) - {sheet.number})

    def test_behind_the_last_is_the_last(self) -> None:
        for said in ("5", "999999999"):
            self.assertEqual(sheet_of(said, 10), sheet_of("4", 10))

    def test_what_is_no_page(self) -> None:
        for said in ("0", "-1", "x", "1.5", " 1", "\u0661", "9" * 10, "00"):
            self.assertRaises(BadRequestError, sheet_of, said, 10)
        self.assertEqual(sheet_of("", 10).number, 1)


class PagesTest(PageCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(paging, "PAGE_NAMES", 4)
        self.post(self.url, dict.fromkeys(NAMES, b"1"), t="upload")

    def links(self, page: Parsed, part: str) -> list[str]:
        return [str(e.attributes["href"]) for e in page.of("a") if part in e.above]

    def test_from_page_to_page(self) -> None:
        url, shown, seen = f"{self.url}/", [], []
        while url:
            page = self.page(url)
            shown += [link.rpartition("/")[2] for link in self.links(page, "tr")]
            seen.append(url)
            rel = {e.attributes.get("rel"): str(e.attributes["href"]) for e in page.of("a")}
            self.assertEqual(rel.get("prev"), seen[-2] if len(seen) > 1 else None)
            url = rel.get("next", "")
        self.assertEqual(shown, NAMES)
        self.assertEqual(len(seen), 3)
        self.assertIn("9 to 11 of 11, page 3 of 3", "".join(page.texts))

    def test_a_large_directory_is_read_once_for_all_its_pages(self) -> None:
        reads: list[bytes] = []
        original = Table.entries

        def entries(table: Table, *args: Any) -> Any:
            reads.append(table.index)
            return original(table, *args)

        self.patch(Table, "entries", entries)
        self.patch(glances, "LEAST_KEPT", 10)

        def shown(number: int) -> list[str]:
            page = self.page(f"{self.url}/?page={number}")
            return [link.rpartition("/")[2] for link in self.links(page, "tr")]

        self.assertEqual(shown(1) + shown(2) + shown(3), NAMES)
        self.assertEqual(len(reads), 1)
        # Never stale: the next page has what was put since, and lacks what was taken out.
        self.put(f"{self.url}/a0", b"2")
        self.delete(f"{self.url}/n00")
        self.assertEqual(shown(1), ["a0", *NAMES[1:4]])
        self.assertEqual(len(reads), 2)
        self.put(f"{self.url}/n10", b"another size")
        self.assertIn("12 B", "".join(self.page(f"{self.url}/?page=3").texts))
        self.assertEqual(len(reads), 3)
        # Another cap of it is another one's, who has to read for himself.
        readonly = self.get(f"{self.url}?t=readonly-uri").text
        self.page(f"/uri/{readonly}/?page=1")
        self.assertEqual(len(reads), 4)
        self.grid.clock.advance(glances.KEEP_SECONDS + 1)
        shown(1)
        self.assertEqual(len(reads), 5)

    def test_no_more_is_kept_than_may_be(self) -> None:
        self.patch(glances, "LEAST_KEPT", 10)
        self.patch(glances, "MOST_KEPT", 20)
        kept = self.gateway.glances._kept
        other = self.new_directory()
        self.post(f"/uri/{other}", dict.fromkeys(NAMES, b"1"), t="upload")
        for cap in (self.root, other):
            self.page(f"/uri/{cap}/?page=2")
            self.assertEqual(list(kept), [cap])
        self.post(f"/uri/{other}", {f"m{n}": b"1" for n in range(10)}, t="upload")
        self.page(f"/uri/{other}/?page=2")
        self.assertEqual(list(kept), [])

    def test_what_is_damaged_counts_too(self) -> None:
        self.patch(glances, "LEAST_KEPT", 10)
        self.patch(glances, "MOST_KEPT", 20)
        for damaged, kept in ((9, [self.root]), (10, [])):
            self.spoil(range(damaged))
            page = self.page(f"{self.url}/?page=2")
            self.assertEqual("".join(page.texts).count("cannot be read"), damaged)
            self.assertEqual(list(self.gateway.glances._kept), kept)

    def spoil(self, numbers: Iterable[int]) -> None:
        """Put rubbish into slots of the directory."""
        cap = parse_cap(self.root)
        assert isinstance(cap, DirCap)

        async def plan(_lookup: object) -> dict[bytes, bytes | None]:
            return {bytes([number]) * 32: b"rubbish" for number in numbers}

        table = self.grid.client.core.drive.maker.table(cap)
        self.grid.run(table.change(plan))

    def test_deleting_leads_back_to_the_same_page(self) -> None:
        page = self.page(f"{self.url}/?page=2")
        there = {e.attributes["value"] for e in page.of("input", name="when_done")}
        self.assertIn(f"{self.url}/?page=2", there)
        done = {"t": "delete", "name": "n05", "when_done": f"{self.url}/?page=2"}
        reply = self.post(
            f"{self.url}/", None, {**OWN_PAGE, "X-Ampgrid-Token": self.gateway.tokens.form}, **done
        )
        self.assertEqual(reply.headers["Location"], f"{self.url}/?page=2")

    def test_a_program_is_given_every_name_and_no_more(self) -> None:
        for accept in ({}, {"Accept": "*/*"}):
            reply = self.ask("GET", f"{self.url}/", headers=accept)
            page = Parsed(reply.text)
            self.assertEqual(page.wrong, [])
            self.assertEqual(self.links(page, "ul"), [f"{self.url}/{name}" for name in NAMES])
            self.assertEqual(page.of("form"), [])
        # Whoever asks for a page is given it.
        self.assertEqual(len(self.links(Parsed(self.get(f"{self.url}/?page=3").text), "tr")), 3)
        self.assert_status(self.get(f"{self.url}/?page=x"), 400)

    def test_hostile_names_for_programs(self) -> None:
        self.fill()
        page = Parsed(self.get(f"{self.url}/").text)
        self.assertEqual((page.wrong, page.open), ([], []))
        for name in HOSTILE:
            self.assertIn(name, page.texts)
        for link in self.links(page, "ul"):
            self.assert_status(self.get(link), 200)
