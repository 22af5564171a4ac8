"""What ``ampgrid scrub`` tells."""

from __future__ import annotations

from typing import Any

from ampgrid.cli.scrub import end_of_scrub, lines_of
from ampgrid.crypto.identity import node_id_text
from ampgrid.store.catalog import NOBODY
from tests.unit.cli.command_line import CommandLineCase


def report(bad: int, missing: int, shares: int = 3) -> dict[str, Any]:
    one = {"share": 1, "storage_index": "si", "peer": "somebody", "reason": "Bad."}
    return {
        "shares": shares,
        "bytes": 2000,
        "bad": bad,
        "missing": missing,
        "bad_shares": [one] * bad,
    }


class ReportTests(CommandLineCase):
    def told(self, *numbers: int) -> tuple[str, int]:
        found = report(*numbers)
        return lines_of(found)[-1], end_of_scrub(found).status

    def test_the_last_line_and_the_status(self) -> None:
        for numbers, line, status in [
            ((0, 0, 1), "Hashed 1 share (2 KB); none was bad.", 0),
            ((1, 0), "Hashed 3 shares (2 KB); 1 was bad, now in quarantine.", 10),
            ((1, 1), "Hashed 3 shares (2 KB); 1 was missing.", 10),
            (
                (3, 1),
                "Hashed 3 shares (2 KB); 2 were bad, now in quarantine and 1 was missing.",
                10,
            ),
        ]:
            self.assertEqual(self.told(*numbers), (line, status))

    def test_bad_shares_are_named(self) -> None:
        self.assertEqual(lines_of(report(1, 0))[0], "bad: share 1 of si, stored by somebody: Bad.")

    def test_what_no_peer_has_stored(self) -> None:
        found = report(1, 0)
        found["bad_shares"][0]["peer"] = node_id_text(NOBODY)
        self.assertEqual(lines_of(found)[0], "bad: share 1 of si, found or imported here: Bad.")


class NoStorageTests(CommandLineCase):
    def test_a_client_is_named_with_a_way_out(self) -> None:
        self.done("create-node", "--no-storage", self.root / "client")
        (self.root / "shares").mkdir()
        for words in [
            ["scrub"],
            ["import-tahoe", self.root / "shares"],
            ["export-share", "a" * 26, "0", self.root / "out"],
        ]:
            told = self.refused(2, "-d", self.root / "client", *words)
            self.assertIn(str(self.root / "client"), told)
            self.assertIn("-d DIR", told)
