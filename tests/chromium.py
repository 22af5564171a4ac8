"""The browser in which the pages of the web gateway are tried."""

from __future__ import annotations

import importlib.util
import os
import shutil

#: Set where the browser must be there, as in `.ci/run`: nothing is skipped then, it fails.
WANTED = "AMPGRID_TEST_BROWSER"

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """Return the path of the browser, None without one."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


def skip_without_browser() -> str | None:
    """Return why tests in a browser are skipped, None if they are run."""
    if os.environ.get(WANTED):
        return None
    if chromium() is None:
        return "chromium is not installed"
    for module in ("playwright", "axe_playwright_python"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed"
    return None
