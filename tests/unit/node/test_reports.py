"""Reports fit into one value of a box, whatever is in them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import MAX_INLINE_SIZE, LitCap
from ampgrid.commands.arguments import Text
from ampgrid.immutable import BadShare, CheckReport, RepairReport
from ampgrid.node.reports import MOST_REPORT_BYTES, json_text, page_text, report_text, why_full

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5)
    ),
)


def size_of(value: Any) -> int:
    """How many items are in the lists within a value."""
    if isinstance(value, list):
        return len(value) + sum(map(size_of, value))
    return sum(map(size_of, value.values())) if isinstance(value, dict) else 0


class FullTests(SynchronousTestCase):
    def why(self, **facts: Any) -> str:
        usual = {"accepts": True, "available": 0, "free": 10**9, "reserve": 0, "quota": None}
        return why_full(usual | facts)

    def test_why_there_is_no_room(self) -> None:
        self.assertEqual(self.why(available=1), "")
        self.assertEqual(self.why(accepts=False), "")
        told = self.why(reserve=10**12)
        self.assertIn("1 GB free", told)
        self.assertIn("1 TB must stay free", told)
        self.assertIn("quota of 5 MB", self.why(quota=5 * 10**6))
        self.assertIn("full", self.why())


class ReportTests(SynchronousTestCase):
    @given(st.dictionaries(st.text(max_size=5), values, max_size=5))
    def test_a_short_one_is_told_whole(self, report: dict[str, Any]) -> None:
        text = report_text(report)
        self.assertEqual(json.loads(text), report | {"left_out": 0})
        Text(62_000).toString(text)

    @given(st.dictionaries(st.text(max_size=5), values, max_size=5), st.integers(0, 400))
    def test_whatever_is_left_out_is_counted(self, report: dict[str, Any], most: int) -> None:
        report.pop("left_out", None)
        told = json.loads(report_text(report, most))
        left_out = told.pop("left_out")
        self.assertEqual(set(told), set(report))
        dropped = sum(told[key] is None and report[key] is not None for key in report)
        self.assertGreaterEqual(size_of(report) - size_of(told) + dropped, left_out)
        self.assertEqual(left_out == 0, told == report)

    @given(st.dictionaries(st.text(max_size=5), values, max_size=5), st.integers(0, 400))
    def test_it_is_never_longer_than_wanted(self, report: dict[str, Any], most: int) -> None:
        bare = len(report_text(dict.fromkeys(report))) + 10
        self.assertLessEqual(len(report_text(report, max(most, bare))), max(most, bare))

    def test_what_is_too_large_is_dropped_alone(self) -> None:
        large = {f"key {number}": number for number in range(10_000)}
        told = json.loads(report_text({"large": large, "small": {"a": 1}, "list": [1, 2]}))
        self.assertEqual(told, {"large": None, "small": {"a": 1}, "list": [], "left_out": 3})

    def test_the_largest_that_servers_can_cause(self) -> None:
        """Two thousand servers that claim every share, and say much."""
        servers = tuple(n.to_bytes(20, "big") for n in range(2_000))
        reason = "\x7f\n\u00fc\U0001f600" * 500
        found = CheckReport(
            b"i" * 16,
            100,
            256,
            dict.fromkeys(range(256), servers),
            bad=tuple(BadShare(n % 256, servers[n % 2_000], reason) for n in range(5_000)),
            problems=(reason,) * 5_000,
        )
        written = tuple((n, servers[n]) for n in range(256))
        report = RepairReport(found, found, written, (reason,) * 5_000).to_json()
        for each in (report, found.to_json()):
            text = report_text(each)
            self.assertLessEqual(len(text.encode()), MOST_REPORT_BYTES)
            Text(62_000).toString(text)
            told = json.loads(text)
            self.assertEqual((told["shares_good"], told["servers_happy"]), (256, 256))
            self.assertEqual(set(told), set(each) | {"left_out"})
            self.assertGreater(told["left_out"], 5_000)

    def test_a_cap_is_never_cut_short(self) -> None:
        cap = LitCap(bytes(MAX_INLINE_SIZE)).to_string()
        found = {"path": ["n" * 255] * 300, "read_cap": cap, "verify_cap": None}
        told = json.loads(json_text(found, 45_000))
        self.assertEqual(told["read_cap"], cap)
        self.assertLess(len(told["path"]), 300)

    def test_pages(self) -> None:
        items = [{"n": n, "text": "x" * 90} for n in range(1_000)]
        text, count = page_text(items)
        self.assertTrue(400 < count < 500)
        self.assertLessEqual(len(text), 50_000)
        self.assertEqual(json.loads(text), items[:count])
        self.assertEqual(page_text([]), ("[]", 0))
        self.assertEqual(page_text(["x" * 99_999, 1])[1], 1)
