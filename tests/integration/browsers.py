"""A browser before the web gateway of a real grid."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from tests.chromium import chromium, skip_without_browser
from tests.integration.processes import GridCase
from tests.patience import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Playwright

PHONE = {"width": 360, "height": 740}
DESK = {"width": 1_100, "height": 800}
#: What a browser says of answers that tests provoke, and of scripts that it does not run.
_EXPECTED = ("Failed to load resource", "Blocked script execution")


class BrowserCase(GridCase):
    """Tests of one class share a grid and a browser; each opens contexts of its own.

    Attributes:
        web: where the gateway is, without a slash at the end.
        link: what `ampgrid web` would open.
    """

    skip = skip_without_browser()
    web: ClassVar[str]
    link: ClassVar[str]
    playwright: ClassVar[Playwright]
    browser: ClassVar[Browser]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        try:
            cls._open()
        except BaseException:
            super().tearDownClass()
            raise

    @classmethod
    def _open(cls) -> None:
        from playwright.sync_api import sync_playwright

        cls.web = cls.grid.ready["client"]["web"].rstrip("/")
        cls.link = cls.grid.client("web", "--link").text
        cls.playwright = sync_playwright().start()
        # A sandbox of Chromium's own cannot be made by root, as in a container.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        cls.browser = cls.playwright.chromium.launch(executable_path=chromium(), args=options)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.browser.close()
        cls.playwright.stop()
        super().tearDownClass()

    def setUp(self) -> None:
        super().setUp()
        self.wrong: list[str] = []
        #: A directory of this test's own.
        self.home = f"{self.web}/vdrive/private/{self.id().rpartition('.')[2]}/"
        self.ask("PUT", "?t=mkdir")

    def ask(self, method: str, below: str, body: bytes = b"") -> bytes:
        """Speak to the gateway as a script does, below the directory of this test."""
        request = Request(self.home + below, body or None, method=method)
        with urlopen(request, timeout=PATIENCE) as reply:
            return bytes(reply.read())

    def put_file(self, name: str, data: bytes) -> None:
        self.ask("PUT", quote(name), data)

    def names(self, below: str = "") -> set[str]:
        """Return what is in the directory of this test."""
        return set(json.loads(self.ask("GET", f"{below}?t=json"))[1]["children"])

    @contextmanager
    def opened(self, *, locked: bool = False, **settings: Any) -> Iterator[Page]:
        """Give a page in a window of its own; what goes wrong in it fails the test."""
        context = self.browser.new_context(**{"viewport": DESK, **settings})
        context.set_default_timeout(1_000 * PATIENCE)
        try:
            self._watch(context)
            page = context.new_page()
            if not locked:
                page.goto(self.link)
                page.wait_for_url(f"{self.web}/")
            yield page
        finally:
            context.close()
        self.assertEqual(self.wrong, [])

    def _watch(self, context: BrowserContext) -> None:
        """Note requests to anybody else, errors of scripts, and what the policy refuses."""
        host = urlsplit(self.web).netloc

        def requested(request: Any) -> None:
            url = urlsplit(request.url)
            if url.scheme in {"http", "https"} and url.netloc != host:
                self.wrong.append(f"asks {request.url}")

        def said(message: Any) -> None:
            if message.type == "error" and not message.text.startswith(_EXPECTED):
                self.wrong.append(message.text)

        context.on("request", requested)
        context.on("console", said)
        context.on("weberror", lambda error: self.wrong.append(str(error.error)))


def choose(page: Page, name: str, action: str) -> None:
    """Choose something in the menu of a row."""
    page.get_by_label(f"Actions for {name}", exact=True).click()
    page.locator("details.menu[open]").get_by_role("button", name=action).click()


def wait_for(page: Page, what: Callable[[], bool]) -> None:
    """Wait until something holds, while the browser goes on."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > deadline:
            raise AssertionError("it never came about")
        page.wait_for_timeout(50)
