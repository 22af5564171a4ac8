"""The pages of the web gateway in Chromium: what people do there, and how it looks to them."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampgrid.web.paging import PAGE_NAMES
from tests.integration.browsers import DESK, PHONE, BrowserCase, choose, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

#: A picture that any browser shows.
SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30">
<rect width="9" height="9"/></svg>"""
#: Drops files into the page, as the system's file manager does.
DROP = """(files) => {
  const data = new DataTransfer();
  for (const [name, text] of files) data.items.add(new File([text], name));
  for (const type of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(
      new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
  }
}"""
#: What a stored page would do to the gateway's own page if it could.
HOSTILE = b"""<h1>Hello</h1><script>
document.title = "it runs"; top.document.title = "it runs";
fetch("owned", {method: "PUT", body: "x"});
</script>"""


def sound() -> bytes:
    """Return a tenth of a second of silence."""
    stored = io.BytesIO()
    with wave.open(stored, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(8_000)
        written.writeframes(bytes(1_600))
    return stored.getvalue()


def chosen(*names: str) -> Any:
    """Return files as somebody chooses them."""
    return [
        {"name": name, "mimeType": "text/plain", "buffer": f"text of {name}".encode() * 20}
        for name in names
    ]


def in_sight(page: Page, part: Locator) -> bool:
    """Tell whether all of something can be seen without scrolling."""
    box, size = part.bounding_box(), page.viewport_size
    assert box is not None
    assert size is not None
    return box["y"] >= 0 and box["y"] + box["height"] <= size["height"]


class BrowserTests(BrowserCase):
    """What people do, and how: in one class, since each starts a grid and a browser."""

    # Uploads, names and what is shown.

    def test_upload_rename_move_delete(self) -> None:
        with self.opened() as page:
            page.goto(self.home)
            page.get_by_text("Nothing is in here yet").wait_for()
            page.set_input_files("#files", chosen("a.txt", "b.txt", "c ü?.txt"))
            page.get_by_role("link", name="c ü?.txt").wait_for()
            self.assertEqual(self.names(), {"a.txt", "b.txt", "c ü?.txt"})
            page.evaluate(DROP, [["dropped.txt", "from the desk"], ["and.md", "# too"]])
            page.get_by_role("link", name="dropped.txt").wait_for()
            page.get_by_role("link", name="and.md").wait_for()

            page.get_by_text("New directory").click()
            page.locator("#new-name").fill("letters")
            page.get_by_role("button", name="Make").click()
            page.get_by_role("link", name="letters/").wait_for()

            choose(page, "a.txt", "Rename…")
            page.get_by_label("New name").fill("b.txt")
            page.locator("#dialog").get_by_role("button", name="Rename").click()
            page.get_by_text("already").wait_for()  # the node's words, and nothing is lost
            page.get_by_label("New name").fill("renamed.txt")
            page.locator("#dialog").get_by_role("button", name="Rename").click()
            page.get_by_role("link", name="renamed.txt").wait_for()

            choose(page, "b.txt", "Move…")
            page.locator("#dialog").get_by_role("button", name="letters").click()
            page.get_by_role("link", name="b.txt").wait_for(state="detached")
            self.assertEqual(self.names("letters/"), {"b.txt"})

            page.get_by_label("Actions for and.md", exact=True).click()
            page.locator("details.menu[open] .sure > summary").click()
            page.get_by_text("This cannot be undone").locator("visible=true").wait_for()
            self.assertIn("and.md", self.names())
            page.get_by_role("button", name="Delete and.md").click()
            page.get_by_role("link", name="and.md").wait_for(state="detached")
            self.assertEqual(self.names(), {"renamed.txt", "c ü?.txt", "dropped.txt", "letters"})

    def test_what_is_there_is_replaced_only_if_that_is_said(self) -> None:
        self.put_file("a.txt", b"old")
        with self.opened() as page:
            page.goto(self.home)
            page.set_input_files("#files", chosen("a.txt"))
            page.get_by_text("already").wait_for()
            self.assertEqual(self.ask("GET", "a.txt"), b"old")
            page.get_by_role("button", name="Replace a.txt").click()
            page.get_by_text("1 file uploaded").wait_for()
            self.assertIn(b"text of a.txt", self.ask("GET", "a.txt"))

    def test_cancel(self) -> None:
        with self.opened() as page:
            page.goto(self.home)
            wire = page.context.new_cdp_session(page)
            slow = {"offline": False, "latency": 0, "downloadThroughput": -1}
            wire.send("Network.enable")
            wire.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": 20_000})
            large = [{"name": "large", "mimeType": "text/plain", "buffer": bytes(3_000_000)}]
            page.set_input_files("#files", large)
            progress = page.get_by_label("Progress of large")
            wait_for(page, lambda: float(progress.get_attribute("value") or 0) > 0)
            page.get_by_role("button", name="Cancel large").click()
            page.get_by_text("Cancelled", exact=True).wait_for()
            page.get_by_role("button", name="Clear what has ended").click()
            self.assertEqual(page.locator("#transfers li").count(), 0)
            self.assertEqual(self.names(), set())

    def test_previews(self) -> None:
        self.put_file("a picture.svg", SVG)
        self.put_file("b.wav", sound())
        self.put_file("c.mp4", bytes(2_000))
        self.put_file("d.html", HOSTILE)
        self.put_file("e.txt", b"<b>plain</b>" * 30_000)
        with self.opened() as page:
            page.goto(self.home)
            page.get_by_role("link", name="a picture.svg").click()
            picture = page.locator("#dialog img")
            wait_for(page, lambda: picture.evaluate("image => image.naturalWidth") == 40)
            page.keyboard.press("ArrowRight")
            tone = page.locator("#dialog audio")
            wait_for(page, lambda: tone.evaluate("audio => audio.duration") == 0.1)
            page.get_by_role("button", name="Next").click()
            page.get_by_text("This browser cannot show it").wait_for()  # it is no film
            page.get_by_role("button", name="Next").click()
            page.frame_locator("#dialog iframe").get_by_text("Hello").wait_for()
            self.assertEqual(page.locator("#dialog iframe").get_attribute("sandbox"), "")
            page.get_by_role("button", name="Next").click()
            page.get_by_text("… and 160 KB more.").wait_for()
            page.keyboard.press("Escape")
            page.locator("#dialog").wait_for(state="hidden")
            self.assertEqual(page.locator("#dialog audio, #dialog iframe").count(), 0)

    def test_nothing_stored_runs(self) -> None:
        self.put_file("d.html", HOSTILE)
        with self.opened() as page:
            page.goto(self.home)
            own = page.title()
            page.get_by_role("link", name="d.html").click()
            page.frame_locator("#dialog iframe").get_by_text("Hello").wait_for()
            self.assertEqual(page.title(), own)
            page.goto(self.home + "d.html")
            self.assertNotIn("it runs", page.title())
            self.assertEqual(page.evaluate("origin"), "null")
            self.assertEqual(self.names(), {"d.html"})

    def test_share(self) -> None:
        self.put_file("a.txt", b"shared " * 40)
        grants = ["clipboard-read", "clipboard-write"]
        with self.opened(permissions=grants) as page:
            page.goto(self.home)
            choose(page, "a.txt", "Share…")
            page.get_by_text("Whoever has this can read this file").wait_for()
            page.get_by_role("button", name="Copy").first.click()
            page.get_by_role("button", name="Copied").wait_for()
            cap = page.evaluate("navigator.clipboard.readText()")
            self.assertEqual(cap, self.ask("GET", "a.txt?t=uri").decode())
            page.get_by_text("QR code of the cap").click()
            page.get_by_role("img", name="QR code of the cap").wait_for()
            page.keyboard.press("Escape")
            page.get_by_role("button", name="Share…", exact=True).locator("visible=true").click()
            page.get_by_text("Whoever has this can do all that you can").wait_for()
            read, write = page.locator("#dialog input[id^=cap-]").all()
            self.assertRegex(read.input_value(), "^URI:DIR-RO:")
            self.assertRegex(write.input_value(), "^URI:DIR:")
            # Whoever gets the first opens it on the page of their own node.
            cap = read.input_value()
            page.goto(self.web)
            page.get_by_label("Cap", exact=True).fill(cap)
            page.get_by_role("button", name="Open").click()
            page.get_by_text("This directory is read-only").wait_for()
            page.get_by_role("link", name="a.txt").wait_for()

    def test_redundancy(self) -> None:
        self.put_file("a.bin", bytes(300_000))
        self.put_file("b", b"tiny")
        before = self.shares()
        self.put_file("c.bin", bytes(range(250)) * 1_200)
        (self.shares() - before).pop().unlink()
        with self.opened() as page:
            page.goto(self.home)
            page.get_by_role("button", name="Check all files").click()
            page.get_by_role("button", name="Check again").wait_for()
            rows = page.locator("#listing [data-check]")
            self.assertEqual(
                rows.all_inner_texts(), ["3 of 3 well", "in its directory", "2 of 3: repair"]
            )
            page.get_by_text("Not as redundant as it should be: 1 of 3").wait_for()
            choose(page, "c.bin", "Check redundancy")
            page.get_by_text("2 of 3 shares are there, on 2 peers").wait_for()
            page.locator("#dialog").get_by_role("button", name="Repair").click()
            page.get_by_text("It was repaired. All is well.").wait_for()
            page.keyboard.press("Escape")
            self.assertEqual(rows.last.inner_text(), "3 of 3 well")

    def test_a_large_directory(self) -> None:
        tree = self.place / "many"
        tree.mkdir()
        for number in range(PAGE_NAMES + 3):
            (tree / f"{number:03}.txt").write_text("x")
        self.grid.client("cp", "-r", tree, f"private:{self.home.rstrip('/').rpartition('/')[2]}")
        with self.opened(viewport=PHONE) as page:
            page.goto(f"{self.home}many/")
            page.get_by_text("1 to 500 of 503, page 1 of 2").first.wait_for()
            page.get_by_role("link", name="Next").last.click()
            page.get_by_text("501 to 503 of 503, page 2 of 2").first.wait_for()
            # The menu of the last row opens within what can be seen.
            page.get_by_label("Actions for 502.txt", exact=True).click()
            page.locator("details.menu[open] .sure > summary").click()
            button = page.get_by_role("button", name="Delete 502.txt")
            wait_for(page, lambda: in_sight(page, button))
            button.click()
            page.get_by_text("501 to 502 of 502, page 2 of 2").first.wait_for()
            self.assertEqual(page.locator("#listing tbody tr").count(), 2)
            page.get_by_role("link", name="Previous").first.click()
            page.get_by_text("1 to 500 of 502").first.wait_for()

    def test_check_all_below(self) -> None:
        self.ask("PUT", "inner?t=mkdir")
        before = self.shares()
        self.put_file("inner/c.bin", bytes(range(200)) * 1_500)
        (self.shares() - before).pop().unlink()
        with self.opened() as page:
            for button, found, repaired in (("Check", 1, []), ("Check and repair", 0, ["1"])):
                page.goto(self.home)
                page.get_by_text("Check all below").click()
                page.get_by_role("button", name=button, exact=True).locator("visible=true").click()
                page.get_by_role("heading", name="Deep check: done").wait_for()
                self.assertEqual(page.get_by_text("inner/c.bin: too few shares").count(), found)
                counted = page.locator("dt", has_text="Repaired").locator("+ dd")
                self.assertEqual(counted.all_inner_texts(), repaired)

    def shares(self) -> set[Path]:
        """Return the files of all shares of the grid."""
        nodes = [Path(node["dir"], "storage", "shares") for node in self.grid.ready["nodes"]]
        return {path for node in nodes for path in node.rglob("*") if path.is_file()}

    # With the keyboard, on a phone, without scripts, in light and dark, and for who may look.

    def pages(self) -> list[str]:
        """Return the address of each kind of page, with something on it."""
        self.put_file("notes.txt", b"some words " * 50)
        self.put_file("a name without any end " * 8 + ".jpg", bytes(800))
        self.ask("PUT", "inner?t=mkdir")
        read = self.ask("GET", "?t=readonly-uri").decode()
        home = self.home
        return [
            f"{self.web}/",
            f"{self.web}/vdrive/",
            home,
            f"{home}inner/",
            f"{self.web}/uri/{read}/",
            f"{home}?t=share",
            f"{home}?t=rename-form&name=notes.txt",
            f"{home}?t=move-form&name=notes.txt",
            f"{home}notes.txt?t=info&output=html",
            f"{home}?t=manifest",
            f"{home}nothing",
            f"{self.web}/status",
        ]

    def test_axe_finds_nothing(self) -> None:
        from axe_playwright_python.sync_playwright import Axe

        addresses = self.pages()
        axe = Axe()
        with self.opened() as page:
            for address in addresses:
                page.goto(address)
                self.check(axe, page, address)
            page.goto(self.home)
            page.get_by_label("Actions for notes.txt", exact=True).click()
            page.locator("details.menu[open] .sure > summary").click()
            self.check(axe, page, "menu")
            page.keyboard.press("Escape")
            for action in ("Share…", "Move…", "Check redundancy"):
                choose(page, "notes.txt", action)
                page.locator("#dialog[open]").wait_for()
                self.check(axe, page, action)
                page.keyboard.press("Escape")
            page.get_by_role("link", name="notes.txt").click()
            page.locator("#dialog pre").wait_for()
            self.check(axe, page, "preview")

    def check(self, axe: Any, page: Page, where: str) -> None:
        """Let axe look at a page in both themes."""
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            found = axe.run(page).response
            told = [(e["id"], [node["html"] for node in e["nodes"]]) for e in found["violations"]]
            self.assertEqual(told, [], f"{where} in {theme}")
            self.assertIn("color-contrast", [each["id"] for each in found["passes"]], where)

    def test_on_a_phone(self) -> None:
        addresses = self.pages()
        with self.opened(viewport=PHONE, has_touch=True) as page:
            for address in addresses:
                page.goto(address)
                self.assertEqual(page.evaluate("document.documentElement.scrollWidth"), 360)
            page.goto(self.home)
            page.get_by_label("Actions for notes.txt", exact=True).tap()
            menu = page.locator("details.menu[open] > div").bounding_box()
            assert menu is not None
            self.assertGreaterEqual(menu["x"], 0)
            self.assertLessEqual(menu["x"] + menu["width"], 360)
            page.locator("details.menu[open]").get_by_role("button", name="Share…").tap()
            page.locator("#dialog[open]").wait_for()
            self.assertEqual(page.evaluate("document.documentElement.scrollWidth"), 360)

    def test_by_keyboard_alone(self) -> None:
        self.put_file("a.txt", b"1" * 300)
        with self.opened() as page:
            page.goto(self.home)
            self.tab_to(page, "Skip to the content")
            page.keyboard.press("Enter")
            self.tab_to(page, "New directory")
            page.keyboard.press("Enter")
            page.keyboard.press("Tab")
            page.keyboard.type("letters")
            page.keyboard.press("Enter")
            page.get_by_role("link", name="letters/").wait_for()
            self.tab_to(page, "Actions for a.txt")
            page.keyboard.press("Enter")
            self.tab_to(page, "Rename…")
            page.keyboard.press("Enter")
            page.locator("#to-name:focus").wait_for()
            page.keyboard.press("Control+A")
            page.keyboard.type("b.txt")
            page.keyboard.press("Enter")
            page.get_by_role("link", name="b.txt").wait_for()
            self.tab_to(page, "b.txt")
            page.keyboard.press("Enter")
            page.locator("#dialog pre").wait_for()
            page.keyboard.press("Escape")
            page.locator("#dialog").wait_for(state="hidden")
            self.assertEqual(page.evaluate("document.activeElement.textContent"), "b.txt")
            self.tab_to(page, "Actions for b.txt")
            page.keyboard.press("Enter")
            self.tab_to(page, "Delete…")
            page.keyboard.press("Enter")
            self.tab_to(page, "Delete b.txt")
            page.keyboard.press("Enter")
            page.get_by_role("link", name="b.txt").wait_for(state="detached")
            self.assertEqual(self.names(), {"letters"})

    def tab_to(self, page: Page, name: str) -> None:
        """Press the tab key until what has the focus is called so."""
        told = "e => e.getAttribute('aria-label') ?? e.textContent.trim()"
        for _ in range(60):
            page.keyboard.press("Tab")
            focus = page.locator(":focus")
            if focus.count() and focus.evaluate(told) == name:
                return
        raise AssertionError(f"the keyboard does not reach {name!r}")

    def test_without_scripts(self) -> None:
        with self.opened(java_script_enabled=False) as page:
            page.goto(self.home)
            page.set_input_files("#files", chosen("a.txt", "b.txt"))
            page.get_by_role("button", name="Upload").click()
            page.get_by_role("link", name="a.txt").wait_for()
            page.get_by_text("New directory").click()
            page.locator("#new-name").fill("letters")
            page.get_by_role("button", name="Make").click()
            choose(page, "a.txt", "Rename…")
            page.get_by_label("New name").fill("c.txt")
            page.get_by_role("button", name="Rename").click()
            choose(page, "c.txt", "Move…")
            page.get_by_role("button", name="letters").click()
            choose(page, "b.txt", "Share…")
            page.get_by_text("Whoever has this can read this file").wait_for()
            page.get_by_role("link", name="Back to b.txt").wait_for()
            page.goto(self.home)
            page.get_by_role("button", name="Check b.txt", exact=True).click()
            page.get_by_text("All is well").wait_for()
            page.goto(self.home)
            page.get_by_label("Actions for b.txt", exact=True).click()
            page.locator("details.menu[open] .sure > summary").click()
            page.get_by_role("button", name="Delete b.txt").click()
            page.get_by_role("link", name="letters/").wait_for()
            self.assertEqual((self.names(), self.names("letters/")), ({"letters"}, {"c.txt"}))

    def test_who_may_only_look(self) -> None:
        self.put_file("a.txt", b"some words " * 50)
        with self.opened(locked=True) as page:
            page.goto(self.home)
            page.get_by_text("This browser may only look").wait_for()
            self.assertEqual(page.locator("form[method=post]").count(), 0)
            page.evaluate(DROP, [["dropped.txt", "from the desk"]])
            page.get_by_role("link", name="a.txt").click()
            page.get_by_text("some words some words").wait_for()
            self.assertEqual(self.names(), {"a.txt"})

    def test_the_theme_is_kept(self) -> None:
        ground = "getComputedStyle(document.body).backgroundColor"
        with self.opened(color_scheme="light", viewport=DESK) as page:
            light = page.evaluate(ground)
            page.get_by_role("button", name="Theme: system").click()
            page.get_by_role("button", name="Theme: light").click()
            page.get_by_role("button", name="Theme: dark").wait_for()
            self.assertNotEqual(page.evaluate(ground), light)
            page.goto(self.home)
            self.assertNotEqual(page.evaluate(ground), light)

    def test_the_status_renews_itself(self) -> None:
        with self.opened() as page:
            page.goto(f"{self.web}/status")
            page.get_by_text("All is well: files can be read and written").wait_for()
            self.assertEqual(page.locator("#happy strong").text_content(), "4")
            before = int(page.locator("#moved").get_attribute("data-up") or 0)
            self.put_file("a.bin", bytes(700_000))
            moved = page.locator("#moved")
            wait_for(page, lambda: int(moved.get_attribute("data-up") or 0) >= before + 700_000)
            sending = page.locator("figure[data-plot=up]")
            wait_for(page, lambda: "at most 0 B/s" not in (sending.text_content() or ""))
            curves = page.locator("figure svg polyline")
            wait_for(page, lambda: curves.count() == 3)
            page.locator("#recent").get_by_text("upload of 700 KB").wait_for()
