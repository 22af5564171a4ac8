"""Medians, ratios, goals and tables of the measuring programs."""

from __future__ import annotations

import io
import json

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from tests.benchmarks.figures import (
    Figure,
    Figures,
    Goal,
    Row,
    figures_table,
    goals_table,
    judge,
    short,
)

UP = Row("upload", "MB/s")
PEAK = Row("peak", "MB", "less")
numbers = st.floats(1e-6, 1e9)


def printed(table):
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(table)
    return console.file.getvalue()


def measured(**systems):
    """Return the figures of `UP` and `PEAK`, given as system=(uploads, peaks)."""
    figures = Figures()
    for system, (uploads, peaks) in systems.items():
        for value in uploads:
            figures.add(UP, system, value)
        for value in peaks:
            figures.add(PEAK, system, value)
    return figures


class FigureTests(SynchronousTestCase):
    def test_median_and_spread(self):
        figure = Figure((3.0, 1.0, 10.0, 2.0))
        self.assertEqual((figure.median, figure.least, figure.most), (2.5, 1.0, 10.0))
        self.assertEqual(str(figure), "2.50 (1.00 to 10.0)")
        self.assertEqual(str(Figure((1234.0,))), "1,234")

    @given(st.lists(numbers, min_size=1, max_size=9))
    def test_half_is_on_either_side_of_the_median(self, values):
        figure = Figure(tuple(values))
        self.assertLessEqual(figure.least, figure.median)
        self.assertLessEqual(figure.median, figure.most)
        for side in (
            sum(value <= figure.median for value in values),
            sum(value >= figure.median for value in values),
        ):
            self.assertGreaterEqual(2 * side, len(values))

    def test_numbers_with_three_digits(self):
        for number, text in [
            (0, "0.00"),
            (0.01234, "0.0123"),
            (1, "1.00"),
            (12.34, "12.3"),
            (123.4, "123"),
            (999.9, "1.00e+03"),
            (1234.5, "1,234"),
            (1e9, "1,000,000,000"),
        ]:
            self.assertEqual(short(number), text)


class RatioTests(SynchronousTestCase):
    def test_of_medians(self):
        figures = measured(ours=([6, 9, 30], []), theirs=([3, 3, 2], []))
        self.assertEqual(figures.ratio("upload", "ours", "theirs"), 3.0)

    def test_of_what_is_missing_or_nothing(self):
        figures = measured(ours=([6], []), theirs=([0], [1]))
        self.assertIsNone(figures.ratio("upload", "ours", "theirs"))
        self.assertIsNone(figures.ratio("peak", "ours", "theirs"))
        self.assertIsNone(figures.ratio("download", "ours", "theirs"))
        self.assertIsNone(figures.get("upload", "nobody"))

    def test_one_name_has_one_unit(self):
        figures = measured(ours=([6], []))
        with self.assertRaises(ValueError):
            figures.add(Row("upload", "files/s"), "ours", 1)

    def test_json(self):
        figures = measured(ours=([6, 8], []), theirs=([3], [5]))
        document = json.loads(json.dumps(figures.to_json()))
        self.assertEqual(
            document["upload"],
            {
                "unit": "MB/s",
                "better": "more",
                "ours": {"median": 7, "least": 6, "most": 8, "values": [6, 8]},
                "theirs": {"median": 3, "least": 3, "most": 3, "values": [3]},
            },
        )
        self.assertEqual(list(document["peak"]), ["unit", "better", "theirs"])


class GoalTests(SynchronousTestCase):
    figures = measured(ours=([6.1, 6.1], [80]), theirs=([1], [100]))

    def verdict(self, goal):
        (verdict,) = judge([goal], self.figures, "ours")
        return verdict

    def test_times_as_fast(self):
        for bound, holds in [(5, True), (6.1, True), (6.2, False)]:
            verdict = self.verdict(Goal("upload", bound, "least", "theirs"))
            self.assertEqual(verdict.holds, holds)
        line = self.verdict(Goal("upload", 5, "least", "theirs")).goal.line(6.1)
        self.assertEqual(line, "goal 5 x, reached 6.10 x")

    def test_at_most(self):
        for sense, bound, holds in [
            ("most", 0.8, True),
            ("most", 0.79, False),
            ("below", 0.8, False),
            ("below", 0.81, True),
        ]:
            self.assertEqual(self.verdict(Goal("peak", bound, sense, "theirs")).holds, holds)

    def test_by_itself(self):
        verdict = self.verdict(Goal("peak", 80, "most"))
        self.assertTrue(verdict.holds)
        self.assertEqual(verdict.goal.line(verdict.number), "goal at most 80, reached 80.0")

    def test_over_another_row(self):
        verdict = self.verdict(Goal("peak", 13, "most", to_name="upload"))
        self.assertAlmostEqual(verdict.number, 80 / 6.1)
        self.assertEqual(verdict.goal.what(), "peak, over upload")
        self.assertFalse(verdict.holds)

    def test_what_was_not_measured_is_not_judged(self):
        goals = [
            Goal("download", 5, "least", "theirs"),
            Goal("upload", 5, "least", "nobody"),
            Goal("peak", 5, "least", to_name="download"),
            Goal("download", 5, "most"),
        ]
        self.assertEqual(judge(goals, self.figures, "ours"), [])


class TableTests(SynchronousTestCase):
    def test_figures_side_by_side(self):
        figures = measured(theirs=([1, 3], [100]), ours=([6], []))
        text = printed(figures_table("Speed", figures, ["theirs", "ours"], "theirs"))
        upload, peak = (
            next(line for line in text.splitlines() if name in line) for name in ("upload", "peak")
        )
        for cell in ("MB/s", "2.00 (1.00 to 3.00)", "6.00", "3.00 x"):
            self.assertIn(cell, upload)
        self.assertIn("less is better", peak)
        self.assertNotIn(" x", peak)

    def test_where_less_is_better_everywhere_the_title_says_so(self):
        figures = measured(ours=([], [80]))
        text = " ".join(printed(figures_table("Memory", figures, ["ours"], "theirs")).split())
        self.assertIn("Memory (less is better)", text)
        self.assertEqual(text.count("less is better"), 1)

    def test_without_the_other_there_is_no_ratio(self):
        figures = measured(ours=([6], []))
        self.assertNotIn("ratio", printed(figures_table("Speed", figures, ["ours"], "theirs")))

    def test_goals(self):
        figures = measured(ours=([6], [80]), theirs=([1], [100]))
        goals = [Goal("upload", 5, "least", "theirs"), Goal("peak", 0.5, "most", "theirs")]
        lines = printed(goals_table(judge(goals, figures, "ours"))).splitlines()
        for name, line, holds in [
            ("upload", "goal 5 x, reached 6.00 x", "yes"),
            ("peak", "goal at most 0.5 x, reached 0.800 x", "no"),
        ]:
            (found,) = [each for each in lines if name in each]
            self.assertIn(line, found)
            self.assertIn(holds, found)
