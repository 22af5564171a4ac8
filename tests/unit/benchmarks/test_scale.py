"""Series of numbers become tables and plots that come out the same again."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from tests.benchmarks import scale
from tests.benchmarks.series import Panel, Series, draw

ROOT = Path(__file__).parents[3]
NUMBERS = Series(
    "files",
    "size, bytes",
    [1_000, 1_000_000],
    {"put, ms": [1.5, 1234.0], "get, ms": [0.5, math.nan]},
    [Panel("ms", ["put, ms", "get, ms"], log=True), Panel("ms", ["put, ms"])],
)
WORDS = Series(
    "shares", "encoding", ["3-of-5", "25-of-100"], {"MB/s": [5.0, 1.0]}, [Panel("MB/s", ["MB/s"])]
)


class SeriesTest(SynchronousTestCase):
    def test_a_section_has_the_plot_and_the_table(self) -> None:
        self.assertEqual(
            NUMBERS.section(),
            "![put, ms, get, ms, over size, bytes](scale-files.svg)\n"
            "\n"
            "| size, bytes | put, ms | get, ms |\n"
            "| --- | ---: | ---: |\n"
            "| 1,000 | 1.50 | 0.500 |\n"
            "| 1,000,000 | 1,234 | nan |",
        )

    def test_text_stays_text(self) -> None:
        self.assertEqual(WORDS.rows(), [["3-of-5", 5.0], ["25-of-100", 1.0]])

    def test_all_of_it_is_json(self) -> None:
        told = json.loads(json.dumps(NUMBERS.to_json()))
        self.assertEqual((told["values"], told["put, ms"]), ([1_000, 1_000_000], [1.5, 1234]))

    def test_it_is_shown(self) -> None:
        out = io.StringIO()
        scale.show(NUMBERS, Console(file=out, width=100))
        for words in ("files", "1,000,000", "1,234"):
            self.assertIn(words, out.getvalue())


class PlotTest(SynchronousTestCase):
    if importlib.util.find_spec("matplotlib") is None:
        skip = "matplotlib is not installed: pip install -e '.[test]'"

    def test_the_same_numbers_give_the_same_bytes(self) -> None:
        for series in (NUMBERS, WORDS):
            paths = [Path(self.mktemp()) for _ in range(2)]
            for path in paths:
                draw(series, path)
            first, second = (path.read_bytes() for path in paths)
            self.assertEqual(first, second)
            self.assertNotIn(b"<dc:date>", first)
            text = "".join(ET.fromstring(first).itertext())
            for words in (series.over, *series.columns):
                self.assertIn(words, text)

    def test_page_and_plots_are_written(self) -> None:
        page = (ROOT / "docs" / "performance" / "scale.md").read_text("utf-8")
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "scale.md").write_text(page, "utf-8")
        scale.write([NUMBERS, WORDS], {"cores": "2"}, folder)
        written = (folder / "scale.md").read_text("utf-8")
        for series in (NUMBERS, WORDS):
            self.assertIn(series.section(), written)
            self.assertTrue((folder / series.file_name).exists())
        self.assertIn("| cores | 2 |", written)


class PlanTest(SynchronousTestCase):
    def test_the_page_has_a_place_for_every_experiment(self) -> None:
        page = (ROOT / "docs" / "performance" / "scale.md").read_text("utf-8")
        marks = re.findall(r"<!-- measured: (\w+) -->", page)
        self.assertEqual(sorted(marks), sorted(["machine", *scale.EXPERIMENTS]))

    def test_what_grows_rises(self) -> None:
        for plan in (scale.Plan(), scale.QUICK):
            rows: list[Any] = [plan.peers, plan.children, [size for size, _ in plan.files]]
            for row in rows:
                self.assertEqual(sorted(set(row)), list(row))
            for code in plan.codes:
                self.assertLessEqual(code.happy, sum(plan.code_nodes))

    def test_costs_are_medians_of_time_and_means_of_cpu(self) -> None:
        transfers: Any = scale.Transfers(None, {"client": [], "nodes": []}, 10)
        transfers.seconds = {"upload": [2.0, 1.0, 9.0], "download": [0.5]}
        transfers.cpu = {
            ("upload", "client"): [0.01, 0.03],
            ("upload", "nodes"): [0.02, 0.02],
            ("download", "client"): [0.0],
            ("download", "nodes"): [0.5],
        }
        costs = scale._costs(transfers, 4_000_000)
        self.assertEqual((costs["up_ms"], costs["up_rate"]), (2000, 2))
        self.assertEqual((costs["down_ms"], costs["down_rate"]), (500, 8))
        self.assertAlmostEqual(costs["up_cpu"], 40)
        self.assertAlmostEqual(costs["down_cpu"], 500)
