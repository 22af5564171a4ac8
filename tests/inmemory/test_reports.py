"""The pages on files and their keeper name every key of the reports, and no other."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import parse_cap
from ampgrid.immutable import Operation
from ampgrid.immutable.judging import judged
from ampgrid.immutable.kept import kept_json
from ampgrid.immutable.walkreport import COUNTED
from ampgrid.node.reports import report_text
from ampgrid.testing.grid import MemoryGrid
from tests.material import some_bytes

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def tables(page: str) -> list[dict[str, str]]:
    """Return {key: what stands beside it} of each table of a page."""
    text = (REFERENCE / page).read_text("utf-8")
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    row = re.compile(r"^\| `([\w.]+)` \| (.+) \|$", re.MULTILINE)
    return [dict(row.findall(block)) for block in blocks]


class ReportTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.grid = MemoryGrid(Path(folder.name), nodes=3, shares=(1, 2, 3))
        self.grid.start()
        self.addCleanup(self.grid.stop)
        self.cap = self.grid.upload(some_bytes(500))
        self.core = self.grid.client.core

    def walk(self) -> dict[str, Any]:
        text = report_text(self.grid.run(self.core.file_keeper.run(Operation(), now=True)))
        report: dict[str, Any] = json.loads(text)
        return report

    def test_check_and_repair(self) -> None:
        checked, repaired = tables("check.md")
        cap = parse_cap(self.cap)
        report = self.grid.run(self.core.checker.check(cap))
        self.assertEqual(set(json.loads(report_text(judged(report.to_json(), 2)))), set(checked))
        repair = self.grid.run(self.core.repairer.repair(cap))
        told = json.loads(report_text(judged(repair.to_json(), 2)))
        self.assertEqual(set(told), set(checked) | set(repaired))
        self.assertEqual(set(told["before"]), set(checked) - {"left_out"})

    def test_keeper(self) -> None:
        listed, walked, counts = tables("keeper.md")
        [file] = self.grid.run(self.core.kept.page(0))
        self.assertEqual(set(kept_json(file)), set(listed))
        self.assertEqual(tuple(counts), COUNTED)
        # The Command adds what came of the directories.
        told = {*self.walk(), "directories"}
        self.assertEqual(told, set(walked) | set(counts))
