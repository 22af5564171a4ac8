"""Pages for people: they escape, they work without scripts, and they ask nobody else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files
from urllib.parse import quote
from xml.etree import ElementTree as ET

from attrs import field, frozen
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.web import rows
from tests.material import some_bytes
from tests.unit.web.kit import OWN_PAGE, GatewayCase, Reply

#: Names that break out of what is not escaped.
HOSTILE = (
    "<script>alert(1)<&script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "<!-- rows -->",
    "javascript:alert(1)",
    "<title><textarea><svg onload=alert(1)>",
    "&lt;b&gt; %3Cscript%3E",
    "Ünï ﷽ \u202etxt.exe",
)
#: Elements and attributes that pages may hold.
_SCRIPTS = {"/static/theme.js", "/static/app.js"}
_VOID = {"input", "meta", "link", "br", "img", "path", "hr"}


@frozen
class Element:
    """An element of a page."""

    tag: str
    attributes: dict[str, str | None]
    above: tuple[str, ...] = field(repr=False)


class Parsed(HTMLParser):
    """A page, read as a browser does: its elements, and what is open at the end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs), tuple(self.open)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def of(self, tag: str, **attributes: str) -> list[Element]:
        """Return the elements of a tag that have these attributes."""
        wanted = attributes.items()
        return [e for e in self.elements if e.tag == tag and wanted <= e.attributes.items()]


class PageCase(GatewayCase):
    def setUp(self) -> None:
        self.root = self.new_directory()
        self.url = f"/uri/{self.root}"

    def browse(self, url: str, *, locked: bool = False) -> Reply:
        """Ask as a browser does: one that ``ampgrid web`` has opened, unless it is locked."""
        headers = {"User-Agent": "Mozilla/5.0", "Accept": "text/html"}
        if not locked:
            headers["Cookie"] = f"ampgrid-2={self.gateway.tokens.cookie}"
        return self.ask("GET", url, headers=headers)

    def page(self, url: str, **settings: bool) -> Parsed:
        """Return a page that holds together and runs no script but its own."""
        reply = self.assert_status(self.browse(url, **settings), 200)
        return self.sound(reply)

    def sound(self, reply: Reply) -> Parsed:
        parsed = Parsed(reply.text)
        self.assertEqual((parsed.wrong, parsed.open), ([], []))
        for each in parsed.elements:
            self.assertFalse([name for name in each.attributes if name.startswith("on")], each)
            self.assertNotIn("style", each.attributes)
            self.assertNotIn(each.tag, {"style", "base", "object", "embed"})
            if each.tag == "script":
                self.assertIn(each.attributes["src"], _SCRIPTS)
            for name in ("href", "src", "action", "formaction"):
                self.assertRegex(each.attributes.get(name) or "/", r"^[/#](?!/)")
        return parsed

    def fill(self) -> None:
        for name in HOSTILE:
            self.put(f"{self.url}/{quote(name, safe='')}", some_bytes(2000))


class EscapingTest(PageCase):
    def test_names_are_texts_wherever_they_stand(self) -> None:
        self.fill()
        page = self.page(f"{self.url}/")
        names = page.of("input", name="name", type="hidden")
        self.assertEqual({each.attributes["value"] for each in names}, set(HOSTILE))
        for text in HOSTILE:
            self.assertIn(text, page.texts)

    def test_on_every_page_of_one_thing(self) -> None:
        self.fill()
        for name in HOSTILE:
            escaped = quote(name, safe="")
            for t in ("share", "rename-form", "move-form"):
                page = self.page(f"{self.url}?t={t}&name={escaped}")
                self.assertIn(name, "".join(page.texts))
            self.page(f"{self.url}/{escaped}?t=info&output=html")

    def test_a_directory_of_such_a_name(self) -> None:
        for name in HOSTILE:
            escaped = quote(name, safe="")
            self.put(f"{self.url}/{escaped}/inner?t=mkdir")
            page = self.page(f"{self.url}/{escaped}/inner/")
            self.assertIn(name, page.texts)
            self.page(f"{self.url}/{escaped}/inner/?t=manifest")

    def test_in_errors(self) -> None:
        for name in HOSTILE:
            reply = self.browse(f"{self.url}/{quote(name, safe='')}")
            self.assert_status(reply, 404)
            self.sound(reply)

    def test_in_what_nobody_knows(self) -> None:
        for word in (*HOSTILE, "</p></main><svg onload=alert(1)>"):
            self.sound(self.browse(f"{self.url}?t={quote(word, safe='')}"))
            self.sound(self.browse(f"/{quote(word, safe='')}"))

    def test_in_checks(self) -> None:
        self.fill()
        for name in HOSTILE:
            reply = self.post(
                f"{self.url}/{quote(name, safe='')}",
                headers={**OWN_PAGE, "Accept": "text/html"},
                t="check",
                token=self.gateway.tokens.form,
            )
            self.sound(reply)
            self.assertIn("3 of 3 shares are there", reply.text)


class FormsTest(PageCase):
    """What can be done without any script."""

    def test_forms_of_a_directory(self) -> None:
        self.put(f"{self.url}/a", b"1")
        page = self.page(f"{self.url}/")
        told = {each.attributes["value"] for each in page.of("input", name="t")}
        self.assertLessEqual({"upload", "mkdir", "uri", "delete", "check"}, told)
        asked = {each.attributes["value"] for each in page.of("button", name="t")}
        self.assertEqual(asked, {"share", "rename-form", "move-form", "info"})
        (delete,) = page.of("button", form="delete")
        self.assertEqual(delete.attributes["value"], "a")

    def test_delete_asks_first(self) -> None:
        self.put(f"{self.url}/a", b"1")
        page = self.page(f"{self.url}/")
        (delete,) = page.of("button", form="delete")
        self.assertEqual(delete.above[-2:], ("div", "details"))
        self.assertIn("This cannot be undone", "".join(page.texts))

    def test_every_form_that_changes_holds_the_token(self) -> None:
        self.put(f"{self.url}/a", b"1")
        self.put(f"{self.url}/sub?t=mkdir")
        for url in ("/", f"{self.url}/", f"{self.url}?t=rename-form&name=a"):
            text = self.browse(url).text
            forms = re.findall(r'<form[^>]*method="post".*?</form>', text, re.DOTALL)
            self.assertTrue(forms)
            for form in forms:
                self.assertIn(f'name="token" value="{self.gateway.tokens.form}"', form)

    def fields(self, page: Parsed, t: str) -> dict[str, str]:
        """Return what the form with a ``t`` would send, with nothing ticked."""
        at = [e.attributes.get("value") for e in page.elements].index(t)
        first = max(n for n in range(at) if page.elements[n].tag == "form")
        sent: dict[str, str] = {}
        for each in page.elements[first + 1 :]:
            if each.tag == "form":
                break
            ticked = each.attributes.get("type") != "checkbox"
            if each.tag == "input" and each.attributes.get("name") and ticked:
                sent.setdefault(str(each.attributes["name"]), each.attributes.get("value") or "")
        return sent

    def submit(self, fields: dict[str, str]) -> Reply:
        return self.post(self.url, headers={**OWN_PAGE, "Accept": "text/html"}, **fields)

    def test_rename_by_its_form(self) -> None:
        self.put(f"{self.url}/a", b"1")
        self.put(f"{self.url}/b", b"2")
        fields = self.fields(self.page(f"{self.url}?t=rename-form&name=a"), "rename")
        refused = self.submit({**fields, "to_name": "b"})
        self.assert_status(refused, 409)
        self.assertEqual(self.get(f"{self.url}/b").body, b"2")
        self.assert_status(self.submit({**fields, "to_name": "c"}), 303)
        self.assertEqual(self.get(f"{self.url}/c").body, b"1")
        fields["from_name"] = "c"
        self.assert_status(self.submit({**fields, "to_name": "b", "overwrite": "true"}), 303)
        self.assertEqual(self.get(f"{self.url}/b").body, b"1")

    def test_move_by_its_form(self) -> None:
        self.put(f"{self.url}/sub/inner?t=mkdir")
        self.put(f"{self.url}/sub/a", b"1")
        here = f"{self.url}/sub"
        page = self.page(f"{here}?t=move-form&name=a")
        offered = {e.attributes["value"] for e in page.of("button", name="to_dir")}
        self.assertEqual(offered, {f"{self.url}/", f"{here}/inner/"})
        fields = self.fields(page, "relink")
        for target in offered:
            self.put(f"{here}/a", b"1")
            sent = {**fields, "to_dir": str(target)}
            reply = self.post(here, headers={**OWN_PAGE, "Accept": "text/html"}, **sent)
            self.assert_status(reply, 303)
            self.assertEqual(self.get(f"{target}a").body, b"1")

    def test_several_files_at_once(self) -> None:
        page = self.page(f"{self.url}/")
        (field_of_files,) = page.of("input", type="file")
        self.assertIn("multiple", field_of_files.attributes)
        token = self.gateway.tokens.form
        files_sent = {"one": b"1" * 100, "two": b"2" * 100, "three": b"3" * 100}
        self.post(self.url, files_sent, OWN_PAGE, t="upload", name="", token=token)
        self.assertEqual(set(self.get(f"{self.url}?t=json").json[1]["children"]), set(files_sent))


class LockedTest(PageCase):
    """A browser that ``ampgrid web`` did not open sees everything, and no form to change it."""

    def test_no_form_that_changes(self) -> None:
        self.put(f"{self.url}/a", b"1")
        for url in ("/", f"{self.url}/", f"{self.url}?t=rename-form&name=a", "/status"):
            page = self.page(url, locked=True)
            self.assertEqual(page.of("form", method="post"), [])
            self.assertEqual(page.of("meta", name="ampgrid-token"), [])
            self.assertNotIn(self.gateway.tokens.form, self.browse(url, locked=True).text)

    def test_it_says_how_to_get_in(self) -> None:
        text = self.browse(f"{self.url}/", locked=True).text
        self.assertIn("This browser may only look", text)
        self.assertIn("ampgrid web", text)

    def test_a_read_cap_says_that_it_is_one(self) -> None:
        read = self.get(f"{self.url}?t=readonly-uri").text
        page = self.page(f"/uri/{read}/")
        self.assertIn("This directory is read-only", "".join(page.texts))
        told = {each.attributes["value"] for each in page.of("input", name="t")}
        self.assertEqual(told & {"upload", "mkdir", "uri", "delete"}, set())


class ListingTest(PageCase):
    def test_nothing_in_it(self) -> None:
        self.assertIn("Nothing is in here yet", self.browse(f"{self.url}/").text)

    def test_directories_first_and_case_does_not_matter(self) -> None:
        for name in ("b", "A", "c"):
            self.put(f"{self.url}/{name}", b"1")
        self.put(f"{self.url}/z?t=mkdir")
        page = self.page(f"{self.url}/")
        shown = [each.attributes["href"] for each in page.of("a") if "tr" in each.above]
        self.assertEqual(shown, [f"{self.url}/{name}" for name in ("z/", "A", "b", "c")])

    def test_a_large_one_stays_in_its_own_order(self) -> None:
        self.patch(rows, "MOST_SORTED", 2)
        for name in ("b", "A", "c"):
            self.put(f"{self.url}/{name}", b"1")
        self.put(f"{self.url}/z?t=mkdir")
        page = self.page(f"{self.url}/")
        shown = [each.attributes["href"] for each in page.of("a") if "tr" in each.above]
        self.assertEqual(shown, [f"{self.url}/{name}" for name in ("A", "b", "c", "z/")])
        self.assertIn("4 names", page.texts)

    def test_what_can_be_previewed(self) -> None:
        looks = {"a.jpg": "image", "b.mp3": "audio", "c.mp4": "video", "d.txt": "text"}
        for name in (*looks, "e.html", "f.bin", "g.svg"):
            self.put(f"{self.url}/{name}", b"1")
        told = {
            str(e.attributes["href"]).rpartition("/")[2]: e.attributes["data-preview"]
            for e in self.page(f"{self.url}/").elements
            if "data-preview" in e.attributes
        }
        self.assertEqual(told, {**looks, "e.html": "page", "g.svg": "image"})


class SharingTest(PageCase):
    def caps(self, url: str) -> dict[str, str]:
        """Return the caps that a page gives away, by access."""
        inputs = [e for e in self.page(url).of("input") if "readonly" in e.attributes]
        values = {str(e.attributes["id"]): str(e.attributes["value"]) for e in inputs}
        return {k.removeprefix("cap-"): v for k, v in values.items() if k.startswith("cap-")}

    def test_a_directory(self) -> None:
        read = self.get(f"{self.url}?t=readonly-uri").text
        self.assertEqual(self.caps(f"{self.url}?t=share"), {"read": read, "write": self.root})
        self.assertEqual(self.caps(f"/uri/{read}?t=share"), {"read": read})

    def test_files(self) -> None:
        large = self.put(f"{self.url}/large", some_bytes(3000)).text
        small = self.put(f"{self.url}/small", b"1").text
        self.assertEqual(self.caps(f"{self.url}?t=share&name=large"), {"read": large})
        self.assertEqual(self.caps(f"{self.url}/large?t=share"), {"read": large})
        self.assertEqual(self.caps(f"{self.url}?t=share&name=small"), {"content": small})

    def test_the_words(self) -> None:
        text = " ".join(self.browse(f"{self.url}?t=share").text.split())
        self.assertIn("cannot be taken back", text)
        self.assertIn("They cannot add, rename or delete anything", text)
        self.assertIn("Whoever has this can do all that you can in this directory", text)

    def test_the_code_is_a_picture_and_nothing_else(self) -> None:
        text = self.browse(f"{self.url}?t=share").text
        codes = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
        self.assertEqual(len(codes), 2)
        for code in codes:
            drawing = ET.fromstring(code)
            tags = {each.tag.rpartition("}")[2] for each in drawing.iter()}
            self.assertEqual(tags, {"svg", "path"} | (tags & {"g"}))

    def test_a_name_that_is_not_there(self) -> None:
        for t in ("share", "move-form", "rename-form"):
            self.assert_status(self.browse(f"{self.url}?t={t}&name=nothing"), 404)


class StatusPageTest(PageCase):
    def test_parts_that_renew_themselves_are_named(self) -> None:
        page = self.page("/status")
        live = [each for each in page.elements if "data-live" in each.attributes]
        self.assertEqual(
            {each.attributes.get("id") for each in live} - {"space"},
            {"health", "happy", "moved", "under-way", "peers", "recent"},
        )
        drawn = {each.attributes.get("data-of") for each in page.of("figure")}
        self.assertLessEqual(drawn, {each.attributes.get("id") for each in live})

    def test_figures(self) -> None:
        self.put(f"{self.url}/a", some_bytes(5_000))
        (moved,) = [e for e in self.page("/status").elements if e.attributes.get("id") == "moved"]
        self.assertGreaterEqual(int(moved.attributes["data-up"] or 0), 5_000)


class StaticTest(SynchronousTestCase):
    """Nothing of the pages is asked for elsewhere."""

    def test_no_address_of_anybody_else(self) -> None:
        allowed = {"http://www.w3.org/2000/svg"}
        for folder in ("templates", "static"):
            for path in (files("ampgrid.web") / folder).iterdir():
                found = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w[\w./-]*", path.read_text()))
                self.assertEqual(found - allowed, set(), path.name)

    def test_no_text_is_read_as_html(self) -> None:
        for path in (files("ampgrid.web") / "static").iterdir():
            if path.name.endswith(".js"):
                text = path.read_text("utf-8")
                for word in ("innerHTML", "outerHTML =", "insertAdjacentHTML", "eval(", "write("):
                    self.assertNotIn(word, text, path.name)

    def test_every_file_that_is_named_is_there(self) -> None:
        web = files("ampgrid.web")
        there = {path.name for path in (web / "static").iterdir()}
        named = set()
        for folder in ("templates", "static"):
            for path in (web / folder).iterdir():
                told = re.findall(
                    r'(?:/static/|"\./|url\(")([a-z0-9.-]+)', path.read_text("utf-8")
                )
                named |= set(told)
        self.assertEqual(named, there)
