"""A client's directory is lost; from a recovery file it is the same node again, in its grid."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands.control import ListKept, WaitForPeers
from tests.hygiene import marked
from tests.integration.processes import (
    Grid,
    ampgrid,
    ask,
    environment,
    finish,
    start,
    status_of,
    wait_for_line,
    wait_until,
    wait_until_gone,
)

WORDS = "four words are better"


class RecoveryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.grid = Grid(self.root / "grid", "--nodes", 3, "--shares", "2/3/3")
        self.addCleanup(self.grid.end)
        self.env = environment(AMPGRID_PASSPHRASE=WORDS)

    def test_the_node_comes_back_without_any_introducer(self) -> None:
        grid, old = self.grid, Path(self.grid.ready["client"]["dir"])
        contents = [marked(Random(n).randbytes(100_000 + n)) for n in range(3)]
        caps = [grid.client("put", "-", stdin=data).text for data in contents]
        self.assertIsNone(self.recovery_status(old)["exported_at"])
        self.assertIn("recovery export", grid.client("status").text)

        file = self.root / "file"
        exported = grid.client("recovery", "export", file, "--json", env=self.env)
        self.assertEqual((exported.status, exported.err), (0, ""))
        facts = exported.json()
        # The storage nodes (the introducer stands in the settings), and all that was put.
        self.assertEqual((facts["known_peers"], facts["kept_files"]), (3, 3))
        self.assertEqual(facts["node_id"], grid.ready["client"]["node_id"])
        self.assertEqual(self.recovery_status(old)["reminder"], "")
        self.assertEqual(self.recovery_status(old)["exported_at"], facts["exported_at"])
        kept = self.kept(old)
        self.assertEqual(len(kept), 3)
        caps.append(grid.client("put", "-", stdin=b"x" * 1000).text)
        contents.append(b"x" * 1000)
        wait_until(lambda: self.recovery_status(old)["kept_added_since"] == 1)
        self.assertIn("export again", self.recovery_status(old)["reminder"])

        for member in (grid.ready["client"], grid.ready["introducer"]):
            os.kill(member["pid"], signal.SIGKILL)
            wait_until_gone([member["pid"]])
            shutil.rmtree(member["dir"])

        new = self.root / "again"
        wrong = environment(AMPGRID_PASSPHRASE=WORDS + "x")
        refused = ampgrid("-d", new, "recovery", "import", file, env=wrong)
        self.assertEqual(refused.status, 7, refused.err)
        self.assertFalse(new.exists())
        imported = ampgrid("-d", new, "recovery", "import", file, env=self.env)
        self.assertEqual(imported.status, 0, imported.err)
        self.assertIn("must not run at the same time", imported.err)

        node = start("-d", new, "run")
        self.addCleanup(finish, node)
        self.addCleanup(node.terminate)
        self.assertIn(facts["node_id"], wait_for_line(node, "Ready:"))
        ask(new, WaitForPeers, count=3)
        self.assertEqual(status_of(new)["node_id"], facts["node_id"])
        self.assertEqual(self.kept(new), kept)
        for cap, data in zip(caps, contents, strict=True):
            self.assertTrue(ampgrid("-d", new, "get", cap).out == data)
        # The same secrets: the same file has the same cap.
        self.assertEqual(ampgrid("-d", new, "put", "-", stdin=contents[0]).text, caps[0])

    def recovery_status(self, directory: Path) -> dict[str, Any]:
        found: dict[str, Any] = status_of(directory)["recovery"]
        return found

    def kept(self, directory: Path) -> list[str]:
        """Return the verify caps of the kept files."""
        caps: list[str] = []
        page = ask(directory, ListKept, start=0)
        while rows := json.loads(page["kept"]):
            caps += [row["cap"] for row in rows]
            if not page["next"]:
                break
            page = ask(directory, ListKept, start=page["next"])
        return caps
