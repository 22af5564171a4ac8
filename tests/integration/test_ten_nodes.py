"""Ten nodes, 3-of-10: seven lost, eight lost, secrets, and life without the introducer."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from random import Random

from ampgrid.caps import ChkCap, parse_cap
from ampgrid.commands.control import WaitForPeers
from ampgrid.crypto.base32 import b2a
from tests.hygiene import marked
from tests.integration.ports import held_for
from tests.integration.processes import (
    GridCase,
    again,
    ampgrid,
    ask,
    finish,
    start,
    status_of,
    wait_for_line,
    wait_until,
    wait_until_gone,
)

#: Several segments, so that shares are files.
FILE = marked(Random(10).randbytes(5_000_001))


class TenNodesTests(GridCase):
    words = ("--nodes", 10, "--shares", "3/7/10")
    alone = True

    def test_losses_and_life_without_the_introducer(self) -> None:
        """In one go, since each step needs the one before it."""
        self.file.write_bytes(FILE)
        put = json.loads(self.client("put", self.file, "--json"))
        self.assertEqual((put["shares_placed"], put["servers_happy"]), (10, 10))
        cap = put["cap"]
        self.check_secrets(cap)
        nodes = Random(3).sample(self.grid.ready["nodes"], 10)

        for node in nodes[:7]:
            os.kill(node["pid"], signal.SIGKILL)
        wait_until_gone([node["pid"] for node in nodes[:7]])
        self.check_back(cap)

        os.kill(nodes[7]["pid"], signal.SIGKILL)
        wait_until_gone([nodes[7]["pid"]])
        client = self.grid.ready["client"]["dir"]
        wait_until(lambda: status_of(client)["storage_peers"] == 2)
        lost = self.grid.client("get", cap, self.place / "never", "--json")
        self.assertEqual((lost.status, lost.out), (5, b""))
        error = json.loads(lost.err)["error"]
        self.assertEqual((error["found"], error["needed"]), (2, 3))
        self.assertIn("found 2 of the 3 shares", error["message"])
        # Nobody waits for those that are gone.
        self.assertIn("asking 2 servers", error["message"])
        self.assertEqual(sorted(os.listdir(self.place)), ["back", "file"])

        before = self.grid.ready
        self.assertEqual(self.grid.end().status, 0)
        wait_until_gone(self.grid.pids)
        type(self).grid = again(self.grid)
        self.check_same(before)
        self.check_back(cap)

        self.assertEqual(self.grid.end().status, 0)
        self.check_without_introducer([node["dir"] for node in nodes[:3]], cap)

    def check_back(self, cap: str) -> None:
        back = self.place / "back"
        self.client("get", cap, back)
        self.assertEqual(back.read_bytes(), FILE)

    def check_same(self, before: object) -> None:
        """After a restart: the same in all but the processes."""

        def lasting(value: object) -> object:
            """Leave out what is of one run: process ids, and the free port of the gateway."""
            if isinstance(value, dict):
                return {k: lasting(v) for k, v in value.items() if k not in {"pid", "web"}}
            return [lasting(v) for v in value] if isinstance(value, list) else value

        self.assertEqual(lasting(self.grid.ready), lasting(before))

    def check_secrets(self, text: str) -> None:
        """No secret in any argument or log of a process, after an upload and a download."""
        self.check_back(text)
        cap = parse_cap(text)
        assert isinstance(cap, ChkCap)
        secrets = [text, b2a(cap.key)]
        members = [self.grid.ready["introducer"], *self.grid.ready["nodes"]]
        for member in [*members, self.grid.ready["client"]]:
            for path in (Path(member["dir"]) / "private").iterdir():
                secrets += [w for w in path.read_text().split() if len(w) >= 20]
        # Of the introducer the key and the grid's; of the others two more; lines of PEM.
        self.assertGreater(len(set(secrets)), 2 + 12 + 11 * 2)
        logs = list(self.grid.root.glob("*/node.log"))
        self.assertEqual(len(logs), 12)
        told = {str(path): path.read_bytes() for path in logs}
        for pid in [*self.grid.pids, self.grid.process.pid]:
            for name in ("cmdline", "environ"):
                path = Path(f"/proc/{pid}/{name}")
                told[str(path)] = path.read_bytes()
        for where, data in told.items():
            self.assertNotEqual(data, b"", where)
            for secret in secrets:
                self.assertNotIn(secret.encode(), data, where)

    def check_without_introducer(self, directories: list[str], cap: str) -> None:
        """Peers that met once find each other; the introducer never comes back."""
        client = self.grid.ready["client"]["dir"]
        paths = [client, *directories]
        with held_for(paths):
            processes = [start("-d", path, "run") for path in paths]
            for process in processes:
                wait_for_line(process, "Ready:")
        try:
            self.assertEqual(ask(client, WaitForPeers, count=3)["connected"], 3)
            self.assertEqual(ampgrid("-d", client, "get", cap, self.place / "last").status, 0)
            self.assertEqual((self.place / "last").read_bytes(), FILE)
        finally:
            for process in processes:
                process.terminate()
        self.assertEqual([finish(process).status for process in processes], [0] * 4)
