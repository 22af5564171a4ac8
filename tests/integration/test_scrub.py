"""``ampgrid scrub`` and the status after it, on nodes of their own."""

from __future__ import annotations

from pathlib import Path

from tests.integration.processes import GridCase, ampgrid


class ScrubTests(GridCase):
    words = ("--nodes", 2)
    alone = True

    def test_a_share_that_rotted_is_found_named_and_told(self) -> None:
        self.put()
        first, second = self.grid.ready["nodes"]
        (path,) = [
            path for path in Path(first["dir"], "storage", "shares").rglob("*") if path.is_file()
        ]
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 64
        path.write_bytes(data)

        found = ampgrid("-d", first["dir"], "scrub", "--json")
        self.assertEqual((found.status, found.err), (10, ""))
        report = found.json()
        self.assertEqual((report["shares"], report["bad"], report["skipped"]), (1, 1, 0))
        (bad,) = report["bad_shares"]
        self.assertEqual((bad["storage_index"], bad["size"]), (path.parent.name, len(data)))
        self.assertFalse(path.exists())
        self.assertEqual(report["quarantine"], {"files": 1, "bytes": len(data)})

        status = ampgrid("-d", first["dir"], "status", "--json").json()["storage"]
        self.assertEqual((status["shares"], status["accounts"]["bytes"]), (0, 0))
        self.assertEqual(status["scrub"]["cycles"], 1)
        self.assertIsNotNone(status["scrub"]["last_full_cycle"])

        words = ampgrid("-d", second["dir"], "scrub").text
        self.assertIn("Hashed 1 share (", words)
        self.assertIn("none was bad", words)
        refused = self.grid.client("scrub")
        self.assertEqual(refused.status, 2)
        self.assertIn("keeps no shares", refused.err)
        self.assertIn("-d", refused.err)
