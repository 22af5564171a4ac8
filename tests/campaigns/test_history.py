"""The checker of histories: each way to be wrong is told, and nothing else."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.campaigns.history import ACKNOWLEDGED, REFUSED, UNKNOWN, Attempt, contradictions


def attempt(writer: int, outcome: str, name: str = "a", *, exclusive: bool = True) -> Attempt:
    return Attempt(writer, name, f"cap{writer}", exclusive, outcome)


class HistoryTests(SynchronousTestCase):
    def test_what_is_right(self) -> None:
        for attempts, listing in [
            ([], []),
            ([attempt(1, ACKNOWLEDGED)], [("a", "cap1")]),
            ([attempt(1, ACKNOWLEDGED), attempt(2, REFUSED)], [("a", "cap1")]),
            ([attempt(1, UNKNOWN)], []),
            ([attempt(1, UNKNOWN), attempt(2, REFUSED)], [("a", "cap1")]),
        ]:
            self.assertEqual(contradictions(attempts, listing), [])

    def test_what_is_wrong(self) -> None:
        for attempts, listing, telling in [
            ([attempt(1, ACKNOWLEDGED)], [], "is not there"),
            ([attempt(1, ACKNOWLEDGED), attempt(2, UNKNOWN)], [("a", "cap2")], "is not there"),
            ([attempt(1, ACKNOWLEDGED), attempt(2, ACKNOWLEDGED)], [("a", "cap1")], "won by"),
            ([attempt(1, REFUSED), attempt(2, UNKNOWN)], [("a", "cap1")], "refused and is"),
            ([attempt(1, REFUSED), attempt(2, REFUSED)], [], "refused to all"),
            ([attempt(1, UNKNOWN)], [("a", "cap9")], "nobody asked"),
            ([], [("b", "cap1")], "nobody asked"),
            ([attempt(1, ACKNOWLEDGED)], [("a", "cap1"), ("a", "cap1")], "2 times"),
        ]:
            found = contradictions(attempts, listing)
            self.assertTrue(any(telling in line for line in found), (attempts, found))
