"""Nodes that meet without ``ampgrid grid``: by hand, by one of two introducers, dialling only."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands.control import WaitForPeers
from tests.integration.ports import hold
from tests.integration.processes import (
    DATA,
    ampgrid,
    ask,
    finish,
    peers_of,
    start,
    status_of,
    wait_for_line,
    wait_until,
)


class MeetingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        (self.root / "file").write_bytes(DATA)

    def make(self, name: str, *words: object, introducers: str = "", port: int = 0) -> Path:
        given = ("--introducer", "-") if introducers else ()
        kind = "create-introducer" if name.startswith("introducer") else "create-node"
        listen = () if "--listen" in words else ("--listen", f"127.0.0.1:{port}")
        made = ampgrid(
            *(kind, self.root / name, *listen, *given, *words), stdin=introducers.encode()
        )
        self.assertEqual((made.status, made.err), (0, ""))
        return self.root / name

    def own_port(self) -> int:
        """Return a port that nobody else is given during the test."""
        held = hold()
        self.addCleanup(held.close)
        return int(held.getsockname()[1])

    def run_node(self, path: Path) -> subprocess.Popen[bytes]:
        process = start("-d", path, "run")
        wait_for_line(process, "Ready:")
        self.addCleanup(finish, process)
        self.addCleanup(process.terminate)
        return process

    def address(self, path: Path) -> str:
        found = ampgrid("-d", path, "address")
        self.assertEqual((found.status, found.err), (0, ""))
        return found.text

    def put(self, path: Path, shares: str) -> str:
        put = ampgrid("-d", path, "put", self.root / "file", "--shares", shares)
        self.assertEqual((put.status, put.err), (0, ""))
        return put.text

    def get(self, path: Path, cap: str) -> bytes:
        return ampgrid("-d", path, "get", cap).out


class MeetingTests(MeetingCase):
    def test_a_peer_by_hand_that_can_only_dial(self) -> None:
        """Two nodes, no introducer; the one that dials stores over the connection it opened."""
        listens = self.make("listens", port=self.own_port())
        dials = self.make("dials", "--listen", "none")
        shutil.copy(listens / "private" / "grid-secret", dials / "private" / "grid-secret")
        text = (dials / "node.toml").read_text()
        self.assertIn("peers = []", text)
        listed = text.replace("peers = []", f'peers = ["{self.address(listens)}"]')
        (dials / "node.toml").write_text(listed)
        self.run_node(listens)
        self.run_node(dials)
        for path in (listens, dials):
            self.assertEqual(ask(path, WaitForPeers, count=2)["connected"], 2)
        self.assertEqual(status_of(dials)["addresses"], [])
        # Both must hold a share, and either gives the file back, to either.
        cap = self.put(listens, "1/2/2")
        self.assertEqual(status_of(dials)["storage"]["shares"], 1)
        for path in (listens, dials):
            self.assertEqual(self.get(path, cap), DATA)

    def test_a_peer_of_another_grid_is_not_let_in(self) -> None:
        listens = self.make("listens", port=self.own_port())
        stranger = self.make("stranger")
        text = (stranger / "node.toml").read_text()
        listed = text.replace("peers = []", f'peers = ["{self.address(listens)}"]')
        (stranger / "node.toml").write_text(listed)
        self.run_node(listens)
        self.run_node(stranger)

        wait_until(lambda: bool(peers_of(stranger)[0]["last_error"]))
        (peer,) = peers_of(stranger)
        self.assertNotEqual(peer["state"], "connected")
        self.assertIn("secret", peer["last_error"])
        self.assertIn(peer["last_error"][:20], ampgrid("-d", stranger, "status").text)
        for path in (listens, stranger):
            self.assertEqual(status_of(path)["storage_peers"], 1)

    def test_two_introducers_one_dead(self) -> None:
        first = self.make("introducer1", "--shares", "2/3/3", port=self.own_port())
        second = self.make("introducer2", introducers=self.address(first), port=self.own_port())
        both = f"{self.address(second)}\n{self.address(first)}\n"
        nodes = [self.make(f"node{number}", introducers=both) for number in (1, 2, 3)]
        # The second one never runs.
        introducing = self.run_node(first)
        for node in nodes[:2]:
            self.run_node(node)
        self.assertEqual(ask(nodes[0], WaitForPeers, count=2)["connected"], 2)
        told = status_of(nodes[0])["introducers"]
        self.assertEqual([each["connected"] for each in told], [False, True])
        self.assertEqual(status_of(nodes[0])["shares"], "2/3/3")
        # Then they change places: who is new finds the others through the second.
        introducing.send_signal(signal.SIGKILL)
        introducing.wait()
        self.run_node(second)
        self.run_node(nodes[2])
        for node in nodes:
            self.assertEqual(ask(node, WaitForPeers, count=3)["connected"], 3)
        cap = self.put(nodes[2], "2/3/3")
        self.assertEqual(self.get(nodes[0], cap), DATA)


class RefusalTests(MeetingCase):
    def test_a_private_directory_open_to_others(self) -> None:
        node = self.make("node", port=self.own_port())
        (node / "private").chmod(0o750)
        for words in (["run", "--log-file", self.root / "log"], ["address"]):
            refused = ampgrid("-d", node, *words)
            self.assertEqual((refused.status, refused.out), (3, b""))
            self.assertIn(f"chmod 700 {node / 'private'}", refused.err)
            self.assertEqual(refused.err.count("\n"), 1)
        (node / "private").chmod(0o700)
        self.run_node(node)

    def test_a_secret_that_is_gone(self) -> None:
        node = self.make("node", port=self.own_port())
        (node / "private" / "lease-secret").unlink()
        refused = ampgrid("-d", node, "run", "--log-file", self.root / "log")
        self.assertEqual((refused.status, refused.out), (3, b""))
        self.assertIn("lease-secret", refused.err)
        self.assertEqual(refused.err.count("\n"), 1)
