"""Writes what was measured into pages: tables, between marks that stand in the page.

A page has, where its table belongs,

    <!-- measured: NAME -->
    ...
    <!-- end -->

and `put` replaces what stands between the two. All the rest of the page is a person's.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cryptography.hazmat.backends.openssl as openssl
import twisted

from tests.benchmarks.figures import short

_END = "<!-- end -->"


def _begin(name: str) -> str:
    return f"<!-- measured: {name} -->"


def put(page: Path, sections: Mapping[str, str]) -> None:
    """Replace marked sections of a page.

    Args:
        page: a file that has the marks of each section once.
        sections: their new text by name.

    Raises:
        ValueError: a section's marks are not there, or there twice; nothing was written.
    """
    text = page.read_text("utf-8")
    for name, content in sections.items():
        marked = re.compile(f"{re.escape(_begin(name))}\n.*?{re.escape(_END)}", re.DOTALL)
        new = f"{_begin(name)}\n{content.strip()}\n{_END}"
        text, count = marked.subn(lambda _, new=new: new, text)
        if count != 1:
            raise ValueError(f"{page.name} has {count} sections {name!r}; it must have one")
    page.write_text(text, "utf-8")


def check_places(
    parser: argparse.ArgumentParser, page: Path | None, document: Path | None
) -> None:
    """Make sure, before anything is measured, that it can be written.

    Args:
        parser: tells what is wrong.
        page: whose sections will be replaced, None for none.
        document: a file that will be made, None for none.

    Raises:
        SystemExit: it cannot be written; why was told, and the status is 2.
    """
    if page is not None and not page.is_file():
        parser.error(f"there is no page {str(page)!r} to write tables into")
    if document is not None and not document.parent.is_dir():
        parser.error(f"there is no directory {str(document.parent)!r}; make it first")


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown; the first column is text, the others are numbers."""
    lines = [heads, ["---", *("---:" for _ in heads[1:])]]
    lines += [[_cell(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _cell(cell: object) -> str:
    if isinstance(cell, float):
        return short(cell)
    return f"{cell:,}" if isinstance(cell, int) else str(cell).replace("|", "\\|")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> dict[str, str]:
    """Return what kind of machine this is, and with what it measures; nothing names it."""
    names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": f"{cores()} of {names[0] if names else platform.machine()}",
        "memory": f"{memory / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": platform.python_version(),
        "Twisted": twisted.__version__,
        "OpenSSL": openssl.backend.openssl_version_text(),
        "load before": f"{os.getloadavg()[0]:.1f}",
    }
