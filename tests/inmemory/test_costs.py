"""No small thing comes to cost a tenth more than was written down, in whatever is counted."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from tests.inmemory import costs


def grown(recorded: dict[str, dict[str, int]], now: dict[str, dict[str, int]]) -> list[str]:
    """Return what costs more than a tenth more than recorded, a line each."""
    return [
        f"{what}: {kind} were {recorded[what][kind]} and are {count}"
        for what, counts in now.items()
        for kind, count in counts.items()
        if count > recorded[what][kind] * 1.1
    ]


class CostsTest(SynchronousTestCase):
    def test_nothing_costs_a_tenth_more(self) -> None:
        recorded = json.loads(costs.RECORDED.read_text())
        now = costs.measure()
        self.assertEqual(recorded.keys(), now.keys())
        hint = "if it must be so: python -m tests.inmemory.costs > tests/inmemory/costs.json"
        self.assertEqual(grown(recorded, now), [], hint)
        for kind in costs.KINDS:
            seen = [counts[kind] for counts in now.values()]
            self.assertTrue(any(seen), f"nothing is counted as {kind}")

    def test_what_has_grown_is_named(self) -> None:
        recorded = {"put": {"boxes": 10, "hops": 0}}
        for boxes, hops, named in ((10, 0, []), (9, 0, []), (11, 0, [])):
            self.assertEqual(grown(recorded, {"put": {"boxes": boxes, "hops": hops}}), named)
        found = grown(recorded, {"put": {"boxes": 12, "hops": 1}})
        self.assertEqual(found, ["put: boxes were 10 and are 12", "put: hops were 0 and are 1"])
