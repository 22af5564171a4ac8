"""The tables of `tests.benchmarks.parts`, of numbers that nobody measured."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from tests.benchmarks import bound, pages, parts
from tests.benchmarks.amounts import Amount
from tests.unit.benchmarks import test_bound

ROOT = Path(__file__).parents[3]


def measured() -> parts.Measured:
    found = test_bound.parts()
    for engine, cost in (("zfec", 0.02), ("isal", 0.001)):
        for what in ("encode", "decode"):
            found[f"{what} 25-of-100, {engine}"] = Amount(1 / cost, "MB", cost)
    found["WriteShare stream"] = Amount(450, "MB", 0.004)
    found["ampgrid --version"] = Amount(10, "runs", 0.09)
    found["ampgrid ls"] = Amount(2, "runs", 0.4)
    bounds = {"upload": bound.upload(found, 3, 5, 2), "download": bound.download(found, 3, 5, 2)}
    whole = {name: Amount(limit.rate * 0.75, "MB", 0.01) for name, limit in bounds.items()}
    return parts.Measured({"cores": "2 of some kind"}, found, bounds, whole)


class MeasuredTest(SynchronousTestCase):
    def test_goals_are_judged(self) -> None:
        holds = [(v.goal.what(), v.goal.bound, v.holds) for v in measured().verdicts()]
        self.assertEqual(
            holds,
            [
                ("WriteShare stream, over tls stream", 0.6, False),
                ("encode 25-of-100, isal, over encode 25-of-100, zfec", 10, True),
                ("decode 25-of-100, isal, over decode 25-of-100, zfec", 10, True),
                ("upload, over upload bound", 0.8, False),
                ("ampgrid --version, seconds", 0.15, True),
                ("ampgrid ls, seconds", 0.4, False),
            ],
        )

    def test_without_the_fast_engine_nothing_is_said_of_it(self) -> None:
        found = measured()
        for name in [name for name in found.parts if name.endswith("isal")]:
            del found.parts[name]  # type: ignore[attr-defined]
        self.assertEqual([v.goal.name for v in found.verdicts() if "isal" in v.goal.name], [])

    def test_all_of_it_is_json(self) -> None:
        told = json.loads(json.dumps(measured().to_json()))
        self.assertEqual(told["parts"]["SHA-256"]["cpu"], 0.001)
        self.assertEqual(told["bounds"]["upload"]["cores"], 2)
        self.assertEqual(len(told["goals"]), len(parts.GOALS))

    def test_the_page_has_a_place_for_every_table(self) -> None:
        page = (ROOT / "docs" / "performance" / "parts.md").read_text("utf-8")
        marks = re.findall(r"<!-- measured: (\w+) -->", page)
        self.assertEqual(sorted(marks), sorted(parts.sections(measured())))
        copy = Path(self.mktemp())
        copy.write_text(page, "utf-8")
        pages.put(copy, parts.sections(measured()))
        self.assertIn(
            "| upload, over upload bound | asked 0.7 x, goal 0.8 x, reached 0.750 x | as asked |",
            copy.read_text(),
        )

    def test_pieces_come_dearest_first_and_add_up(self) -> None:
        rows = parts.sections(measured())["upload"].splitlines()[2:]
        shares = [float(row.split("|")[-2]) for row in rows]
        self.assertEqual(shares, sorted(shares, reverse=True))
        self.assertAlmostEqual(sum(shares), 1, 1)

    def test_it_is_shown(self) -> None:
        out = io.StringIO()
        parts.show(measured(), Console(file=out, width=200))
        for words in ("WriteShare stream", "An upload at 3-of-5", "asked 0.7 x, goal 0.8 x, "):
            self.assertIn(words, out.getvalue())
