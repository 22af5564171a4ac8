"""Four replicas of one directory, lost one by one, as real processes."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import LitCap
from ampgrid.commands.control import ListPeers
from ampgrid.commands.drive import CheckDirectory, LinkChild, MakeDirectory, RepairDirectory
from tests.campaigns.machines import Machine, make_grid
from tests.integration.ports import held_for
from tests.integration.processes import Outcome, ampgrid, ask, wait_until


def lit(text: str) -> str:
    return LitCap(text.encode()).to_string()


def lose_directories(node: Machine) -> None:
    """Take away what a node that does not run keeps of directories."""
    paths = list((node.directory.path / "storage").glob("directories*"))
    assert paths
    for path in paths:
        path.unlink()


class ReplicasTests(SynchronousTestCase):
    """They share a grid, which each leaves with all of its nodes up."""

    root: Path
    machines: list[Machine]

    @classmethod
    def setUpClass(cls) -> None:
        cls.root = Path(tempfile.mkdtemp())
        introducer, nodes, clients = make_grid(cls.root, 4, 1)
        cls.machines = [introducer, *nodes, *clients]

    @classmethod
    def tearDownClass(cls) -> None:
        for machine in cls.machines:
            machine.kill()
        shutil.rmtree(cls.root)

    def setUp(self) -> None:
        _introducer, *self.nodes, client = self.machines
        self.client = client.directory.path
        for node in self.nodes:
            node.start()
        self.wait_for_peers(4)
        self.cap = self.ask(MakeDirectory)["cap"]

    def ask(self, command: Any, **arguments: Any) -> dict[str, Any]:
        return ask(self.client, command, **arguments)

    def wait_for_peers(self, count: int) -> None:
        def met() -> bool:
            try:
                peers = json.loads(self.ask(ListPeers, start=0)["peers"])
            except OSError:
                return False
            there = [
                each
                for each in peers
                if each["state"] == "connected" and "vdrive" in each["services"]
            ]
            return len(there) == count

        wait_until(met)

    def link(self, name: str) -> None:
        self.ask(LinkChild, path=f"{self.cap}/{name}", cap=lit(name))

    def names(self) -> list[str]:
        return self.run_client("ls", self.cap).text.split()

    def run_client(self, *words: object) -> Outcome:
        return ampgrid("-d", self.client, *words)

    def states(self) -> list[str]:
        report = json.loads(self.ask(CheckDirectory, path=self.cap)["report"])
        return sorted(replica["state"] for replica in report["replicas"])

    def lose(self, node: Machine) -> None:
        node.kill()
        self.wait_for_peers(sum(each.runs for each in self.nodes))

    def bring_back(self, node: Machine) -> None:
        with held_for([node.directory.path]):
            node.start()
            self.wait_for_peers(sum(each.runs for each in self.nodes))

    def test_one_gone_and_back(self) -> None:
        """Whichever it is: all goes on without it, and it is brought up to date."""
        for number, node in enumerate(self.nodes):
            self.lose(node)
            self.link(f"without-{number}")
            self.assertIn("unreachable", self.states())
            self.bring_back(node)
            self.ask(RepairDirectory, path=self.cap)
            self.assertEqual(self.states(), ["current"] * 4)
        self.assertEqual(self.names(), [f"without-{number}" for number in range(4)])

    def test_two_gone_and_back(self) -> None:
        """A clear error that says that nothing is known, and nothing is lost."""
        self.link("before")
        for node in self.nodes[:2]:
            self.lose(node)
        for words in [("ls", self.cap), ("rm", f"{self.cap}/before"), ("mkdir", f"{self.cap}/d")]:
            outcome = self.run_client(*words)
            self.assertEqual((outcome.status, outcome.out), (13, b""), words)
            self.assertEqual(outcome.err.count("\n"), 1)
            self.assertIn("2 of 4", outcome.err)
        for node in self.nodes[:2]:
            self.bring_back(node)
        self.assertEqual(self.names(), ["before"])

    def test_back_with_an_empty_disk(self) -> None:
        """It loses nothing, votes nothing, and is let in again only as somebody new."""
        self.link("before")
        lost = self.nodes[0]
        self.lose(lost)
        lose_directories(lost)
        self.bring_back(lost)
        self.assertEqual(self.names(), ["before"])
        self.assertEqual(self.states(), ["current"] * 3 + ["lost its store"])
        # With another one gone, two of the old ones and the stranger are no quorum.
        self.lose(self.nodes[1])
        self.assertEqual(self.run_client("mkdir", f"{self.cap}/d").status, 13)
        self.bring_back(self.nodes[1])
        self.ask(RepairDirectory, path=self.cap)
        self.assertEqual(self.states(), ["current"] * 4)
        self.lose(self.nodes[2])
        self.link("after")
        self.assertEqual(self.names(), ["after", "before"])
        self.bring_back(self.nodes[2])

    def test_one_replica_left(self) -> None:
        """Three are gone for good; the last one is enough to bring the directory back."""
        for name in ("a", "b"):
            self.link(name)
        for node in self.nodes[:3]:
            self.lose(node)
            lose_directories(node)
        self.assertEqual(self.run_client("ls", self.cap).status, 13)
        for node in self.nodes[:3]:
            self.bring_back(node)
        self.assertEqual(self.run_client("ls", self.cap).status, 13)
        told = self.run_client("recover-directory", self.cap, "--dry-run")
        self.assertEqual(told.status, 0, told.err)
        self.assertEqual(self.run_client("ls", self.cap).status, 13)
        done = self.run_client("recover-directory", self.cap, "--yes")
        self.assertEqual(done.status, 0, done.err)
        self.assertEqual(self.names(), ["a", "b"])
        self.link("c")
        self.assertEqual(self.names(), ["a", "b", "c"])
