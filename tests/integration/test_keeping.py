"""Files stay, with real processes: check, repair, the kept list, and a keeper told to run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.hygiene import marked
from tests.integration.processes import (
    Grid,
    Outcome,
    ampgrid,
    finish,
    peers_of,
    start,
    wait_for_line,
    wait_until,
    wait_until_gone,
)

DATA = marked(Random(3).randbytes(200_003))
SMALL = marked(Random(4).randbytes(1_003))


class KeepingTests(SynchronousTestCase):
    """A grid of five storage nodes, 2-of-5 with happiness 4; each test loses some for good."""

    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.grid = Grid(self.root / "grid", "--nodes", 5, "--shares", "2/4/5")
        self.addCleanup(self.grid.end)
        self.caps = [self.put(DATA), self.put(SMALL)]

    def client(self, *words: object, status: int = 0, **options: Any) -> Outcome:
        outcome = self.grid.client(*words, **options)
        self.assertEqual((outcome.status, outcome.err), (status, ""))
        return outcome

    def put(self, data: bytes) -> str:
        return self.client("put", "-", stdin=data).text

    def lose(self, number: int) -> str:
        """Kill a node and throw its directory away; returns its node id."""
        node = self.grid.ready["nodes"][number]
        os.kill(node["pid"], signal.SIGKILL)
        wait_until_gone([node["pid"]])
        shutil.rmtree(node["dir"])
        return str(node["node_id"])

    def add(self, name: str = "new") -> str:
        """Bring an empty node up; returns its node id."""
        path = self.root / name
        address = self.grid.ready["introducer"]["address"].encode()
        words = ["create-node", path, "--introducer", "-", "--listen", "127.0.0.1:0"]
        self.assertEqual(ampgrid(*words, "--reserve", "0", stdin=address).status, 0)
        process = start("-d", path, "run")
        self.addCleanup(finish, process)
        self.addCleanup(process.terminate)
        wait_for_line(process, "")
        return str(ampgrid("-d", path, "address", "--json").json()["node_id"])

    def wait_for_connections(self, node_id: str, *, connected: bool) -> None:
        """Wait until the client sees a node, or sees it no more."""

        def is_so() -> bool:
            peers = peers_of(self.grid.ready["client"]["dir"])
            states = {peer["node_id"]: peer["state"] for peer in peers}
            return (states.get(node_id) == "connected") == connected

        wait_until(is_so)

    def test_two_nodes_go_for_good_and_new_ones_take_their_places(self) -> None:
        kept = self.client("kept", "list", "--json").json()["kept"]
        self.assertEqual([len(DATA), len(SMALL)], [file["size"] for file in kept])
        for cap in self.caps:
            report = self.client("check", cap, "--verify", "--json").json()
            self.assertEqual((report["healthy"], report["servers_happy"]), (True, 5))
        gone = [self.lose(number) for number in (1, 3)]
        for node_id in gone:
            self.wait_for_connections(node_id, connected=False)
        outcome = self.client("check", "-", status=10, stdin=self.caps[0].encode())
        self.assertIn("Unhealthy: 3 of 5 shares found; 2 give the file back.", outcome.text)
        new = [self.add(name) for name in ("new1", "new2")]
        for node_id in new:
            self.wait_for_connections(node_id, connected=True)
        # Nothing is due yet, and a dry run changes nothing.
        self.assertEqual(self.client("keeper", "run", "--json").json()["walked"], 0)
        dry = self.client("keeper", "run", "--now", "--dry-run", "--json").json()
        self.assertEqual((dry["walked"], dry["repaired"], dry["shares_written"]), (2, 2, 0))
        self.client("check", self.caps[0], status=10)
        report = self.client("keeper", "run", "--now", "--json").json()
        self.assertEqual((report["walked"], report["renewed"]), (2, 2))
        self.assertEqual((report["repaired"], report["shares_written"]), (2, 4))
        for cap in self.caps:
            report = self.client("check", cap, "--verify", "--json").json()
            self.assertTrue(report["healthy"])
            holders = {server for servers in report["good"].values() for server in servers}
            self.assertLessEqual(set(new), holders)
        status = self.client("status", "--json").json()["keeper"]
        self.assertEqual((status["kept"], status["last_run"]["repaired"]), (2, 2))
        self.any_two_nodes_suffice()

    def any_two_nodes_suffice(self) -> None:
        """Stop all storage nodes but two, whichever they are; each file is had from those."""
        pids = [self.grid.ready["nodes"][number]["pid"] for number in (0, 2, 4)]
        pids += [int((self.root / name / "node.pid").read_text()) for name in ("new1", "new2")]
        for turn, pair in enumerate(combinations(pids, 2)):
            cap, data = list(zip(self.caps, (DATA, SMALL), strict=True))[turn % 2]
            others = [pid for pid in pids if pid not in pair]
            for pid in others:
                os.kill(pid, signal.SIGSTOP)
            try:
                self.assertEqual(self.grid.client("get", cap).out, data)
            finally:
                for pid in others:
                    os.kill(pid, signal.SIGCONT)

    def test_check_repair_and_drop(self) -> None:
        gone = self.lose(0)
        self.wait_for_connections(gone, connected=False)
        new = self.add()
        self.wait_for_connections(new, connected=True)
        repaired = self.client("check", self.caps[0], "--repair")
        self.assertIn("Healthy: 5 of 5", repaired.text)
        self.assertIn(f"to {new}", repaired.text)
        verify_cap = json.loads(self.client("kept", "list", "--json").out)["kept"][1]["cap"]
        report = self.client("check", verify_cap, "--repair", "--verify", "--json").json()
        self.assertTrue(report["healthy"])
        for node in self.grid.ready["nodes"][1:]:
            os.kill(node["pid"], signal.SIGKILL)
        for node in self.grid.ready["nodes"][1:]:
            self.wait_for_connections(node["node_id"], connected=False)
        lost = self.client("check", self.caps[0], status=11)
        self.assertIn("Not recoverable", lost.text)
        self.assertIn("Storage index: ", lost.text)
        # A repair can do nothing there, and says what it found.
        lost = self.client("check", self.caps[0], "--repair", status=11)
        self.assertIn("Not recoverable", lost.text)
        self.assertIn("problem: found 1 of the 2 shares", lost.text)
        report = self.client("check", self.caps[0], "--repair", "--json", status=11).json()
        self.assertEqual((report["recoverable"], report["written"]), (False, []))
        self.client("keeper", "run", "--now", status=10)
        self.assertIn("too few", self.client("kept", "list").text)
        self.assertEqual(self.client("kept", "drop", self.caps[0]).text, "Dropped.")
        self.assertEqual(
            self.client("kept", "drop", "-", stdin=self.caps[0].encode()).text, "It was not kept."
        )
        [file] = self.client("kept", "list", "--json").json()["kept"]
        self.assertEqual(file["size"], len(SMALL))
        self.assertEqual(
            self.client("kept", "drop", verify_cap, "--json").json(), {"dropped": True}
        )
        self.assertEqual(self.client("kept", "list", "--json").json(), {"kept": []})
        empty = self.grid.client("kept", "list")
        self.assertEqual((empty.status, empty.text, empty.err), (0, "", "No files are kept.\n"))
