"""Tables of a page from what `compare.py` told."""

from __future__ import annotations

import io
import json
import tempfile
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.benchmarks import pages
from tests.benchmarks.compared import main, sections
from tests.benchmarks.figures import Figures, Goal, Row, judge
from tests.benchmarks.systems import SYSTEMS


def told(*, slow: bool) -> dict[str, Any]:
    """Return what `compare.py` tells of three made-up figures."""
    speed = Figures()
    for system, values in (("Tahoe-LAFS", (2.0, 4.0, 3.0)), ("ampgrid", (12.0,)), ("other", ())):
        for value in values:
            speed.add(Row("upload 1 MB", "MB/s"), system, value)
    speed.add(Row("only ours", "s", "less"), "ampgrid", 0.5)
    goals = [Goal("upload 1 MB", 3, "least", "Tahoe-LAFS"), Goal("only ours", 0.1, "below")]
    return {
        "versions": {"ampgrid": "1", "Tahoe-LAFS": "2"},
        "machine": {
            "cores": 2,
            "memory_bytes": 8e9,
            "python": "3.11",
            "load_at_the_start": 0.25,
        },
        "runs": 3,
        "slow": slow,
        "speed": speed.to_json(),
        "cpu": {},
        "memory": {},
        "goals": [verdict.to_json() for verdict in judge(goals, speed, "ampgrid")],
    }


class SectionsTests(SynchronousTestCase):
    def test_figures_spread_and_ratio(self) -> None:
        lines = sections(told(slow=False))["compared-speed"].splitlines()
        self.assertEqual(
            lines,
            [
                "|  | unit | Tahoe-LAFS | ampgrid | over it |",
                "| --- | ---: | ---: | ---: | ---: |",
                "| upload 1 MB | MB/s | 3.00 (2.00 to 4.00) | 12.0 | 4.00 x |",
                "| only ours | s |  | 0.500 |  |",
            ],
        )

    def test_systems_come_in_one_order_whatever_was_measured_first(self) -> None:
        document = told(slow=False)
        figure = document["speed"]["upload 1 MB"]["ampgrid"]
        for first in SYSTEMS:
            row = dict.fromkeys((first, *SYSTEMS), figure)
            document["cpu"] = {"all": {"unit": "CPU s", "better": "less"} | row}
            head = sections(document)["compared-cpu"].splitlines()[0]
            self.assertEqual(
                head,
                "|  | unit | Tahoe-LAFS | ampgrid | over it | ampgrid, socket | over it "
                "| ampgrid, no fsync | over it |",
            )

    def test_goals_say_what_was_not_reached(self) -> None:
        lines = sections(told(slow=False))["compared-goals"].splitlines()[2:]
        self.assertEqual(
            lines,
            [
                "| upload 1 MB | at least 3 | 4.00 |",
                "| only ours | less than 0.1 | 0.500: not reached |",
            ],
        )

    def test_how_it_was_measured(self) -> None:
        how = sections(told(slow=True))["slow-how"]
        self.assertIn("ampgrid 1 and Tahoe-LAFS 2; 3 runs; 2 cores, 8 GB", how)

    def test_the_page_has_every_section(self) -> None:
        page = Path(__file__).parents[3] / "docs" / "performance" / "README.md"
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "page.md"
            copy.write_text(page.read_text("utf-8"), "utf-8")
            for slow in (False, True):
                pages.put(copy, sections(told(slow=slow)))
            self.assertIn("| upload 1 MB | MB/s |", copy.read_text("utf-8"))


class RefusedTests(SynchronousTestCase):
    def refuse(self, figures: Path, page: Path, words: str) -> None:
        """Check that it ends with status 2, and says why."""
        said = io.StringIO()
        with redirect_stderr(said):
            ended = self.assertRaises(SystemExit, main, [str(figures), str(page)])
        self.assertEqual(ended.code, 2)
        self.assertIn(words, said.getvalue())

    def test_figures_and_pages_that_cannot_be_used(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        good, bad, page = folder / "good.json", folder / "bad.json", folder / "page.md"
        good.write_text(json.dumps(told(slow=False)))
        self.refuse(folder / "missing.json", page, "cannot be read: No such file")
        for text in (
            "",
            "[]",
            "1",
            "{}",
            '{"slow": false}',
            "\xe9",
        ):
            bad.write_text(text, "latin-1")
            self.refuse(bad, page, "is not what compare.py writes with --json")
        self.refuse(good, page, "cannot be rewritten: No such file")
        page.write_text("no marks")
        self.refuse(good, page, "page.md has 0 sections 'compared-how'")
        self.assertEqual(page.read_text(), "no marks")
