"""The command line against real processes: a grid, files up and down, losses, signals."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.formats.address import parse_address
from tests.integration.processes import (
    DATA,
    ROOT,
    Grid,
    GridCase,
    again,
    ampgrid,
    finish,
    is_alive,
    start,
    status_of,
    wait_until,
    wait_until_gone,
)


class FileTests(GridCase):
    def test_ready_tells_where_everything_is(self) -> None:
        path = self.grid.root / "ready.json"
        self.assertEqual(path.stat().st_mode & 0o077, 0)
        ready = self.grid.ready
        self.assertEqual(set(ready), {"introducer", "nodes", "client"})
        self.assertEqual(set(ready["introducer"]), {"dir", "pid", "address"})
        self.assertEqual(set(ready["client"]), {"dir", "pid", "node_id", "web"})
        self.assertEqual(
            [set(n) for n in ready["nodes"]], [{"dir", "pid", "address", "node_id"}] * 4
        )
        names = [Path(node["dir"]).name for node in ready["nodes"]]
        self.assertEqual(names, ["node1", "node2", "node3", "node4"])
        self.assertEqual(len(set(self.grid.pids)), 6)
        self.assertTrue(all(map(is_alive, self.grid.pids)))
        self.assertIsNotNone(parse_address(ready["introducer"]["address"]).secret)
        for node in ready["nodes"]:
            address = parse_address(node["address"])
            self.assertIsNone(address.secret)
            self.assertEqual(address.hints[0][0], "127.0.0.1")
            self.assertIn(node["node_id"], node["address"])

    def test_no_secret_is_in_arguments_or_environment(self) -> None:
        secret = self.grid.ready["introducer"]["address"].rpartition("/")[2].encode()
        self.assertEqual(len(secret), 26)
        for pid in [*self.grid.pids, self.grid.process.pid]:
            for name in ["cmdline", "environ"]:
                self.assertNotIn(secret, Path(f"/proc/{pid}/{name}").read_bytes())

    def test_a_file_goes_up_and_comes_down_every_way(self) -> None:
        cap = self.put()
        self.assertTrue(cap.startswith("URI:CHK:"))
        self.assertEqual(self.client("put", "-", stdin=DATA), cap)
        out = self.place / "out"
        out.write_text("old")
        self.assertEqual(self.client("get", cap, out), "")
        self.assertEqual(out.read_bytes(), DATA)
        self.assertEqual(self.grid.client("get", "-", stdin=cap.encode()).out, DATA)
        part = self.grid.client("get", cap, "--offset", "131070", "--length", "5")
        self.assertEqual(part.out, DATA[131070:131075])
        secret = Path(self.grid.ready["client"]["dir"]) / "private" / "convergence"
        words = ["--needed", 2, "--total", 3, "--convergence-file", secret]
        self.assertEqual(ampgrid("cap", self.file, *words).text, cap)
        # The client runs, and knows what its introducer advises.
        self.assertEqual(self.client("cap", self.file), cap)

    def test_a_relative_path_is_the_users_not_the_nodes(self) -> None:
        cap = self.grid.client("put", "file", cwd=self.place).text
        self.assertEqual(self.grid.client("get", cap, "again", cwd=self.place).status, 0)
        self.assertEqual((self.place / "again").read_bytes(), DATA)

    def test_a_pipe_by_its_name(self) -> None:
        reading, writing = os.pipe()
        words = ["-d", self.grid.ready["client"]["dir"], "put", f"/dev/fd/{reading}"]
        process = start(*words, pass_fds=[reading])
        os.close(reading)
        with open(writing, "wb") as pipe:
            pipe.write(b"x" * 1000)
        self.assertTrue(finish(process).text.endswith(":2:3:1000"))

    def test_small_and_empty_files_are_in_their_caps(self) -> None:
        for content in [b"", b"x", b"x" * 55]:
            cap = self.client("put", "-", stdin=content)
            self.assertTrue(cap.startswith("URI:LIT:"))
            self.assertEqual(self.grid.client("get", cap).out, content)

    def test_results_in_json(self) -> None:
        put = json.loads(self.client("put", self.file, "--json", "--shares", "1/2/3"))
        self.assertEqual((put["size"], put["servers_happy"]), (len(DATA), 3))
        self.assertTrue(put["cap"].endswith(f":1:3:{len(DATA)}"))
        out = self.place / "out"
        got = json.loads(self.client("get", put["cap"], out, "--json"))
        self.assertEqual(got, {"size": len(DATA), "problems": [], "out": os.path.realpath(out)})
        status = json.loads(self.client("status", "--json"))
        self.assertEqual(status["node_id"], self.grid.ready["client"]["node_id"])
        self.assertIn(status["node_id"], self.client("status"))

    def test_failures_are_one_line_and_their_own_status(self) -> None:
        cap = self.put()
        missing = self.place / "missing"
        for status, words in [
            (2, ["get", cap, "--offset", "1G", missing]),
            (6, ["put", self.file, "--shares", "3/5/5"]),
            (8, ["put", missing]),
            (8, ["put", self.place]),
            (8, ["get", cap, self.place]),
            (8, ["get", cap, missing / "x"]),
            (9, ["get", cap[:-1] + "!"]),
            # A cap of nothing that was ever uploaded.
            (5, ["get", f"URI:CHK:{'a' * 26}:{'a' * 52}:2:3:1000", missing]),
        ]:
            outcome = self.grid.client(*words)
            self.assertEqual((outcome.status, outcome.out), (status, b""), words)
            self.assertRegex(outcome.err, r"\Aampgrid: [^\n]+\n\Z")
        error = json.loads(self.grid.client(*words, "--json").err)["error"]
        self.assertEqual((error["status"], error["name"]), (5, "not_enough_shares"))
        self.assertEqual(sorted(p.name for p in self.place.iterdir()), ["file"])

    def test_a_reader_that_goes_away(self) -> None:
        words = ["-d", self.grid.ready["client"]["dir"], "get", self.put()]
        process = start(*words, stdin=subprocess.DEVNULL)
        assert process.stdout is not None
        self.assertEqual(process.stdout.read(3), DATA[:3])
        process.stdout.close()
        assert process.stderr is not None
        with process.stderr:
            self.assertEqual(process.stderr.read(), b"")
        self.assertEqual(process.wait(), 141)

    def test_progress_only_on_a_terminal(self) -> None:
        leading, following = pty.openpty()
        process = start("-d", self.grid.ready["client"]["dir"], "put", "-", stderr=following)
        os.close(following)
        assert process.stdin is not None
        process.stdin.write(DATA)
        process.stdin.flush()
        shown = b""
        while b"reading the input" not in shown:
            shown += os.read(leading, 65_536)
        cap = finish(process, b"").text
        self.assertTrue(cap.startswith("URI:CHK:"))
        os.close(leading)

    def test_ctrl_c_cancels_the_upload(self) -> None:
        process = start("-d", self.grid.ready["client"]["dir"], "put", "-")
        assert process.stdin is not None
        process.stdin.write(DATA)
        process.stdin.flush()
        # The node is at it once it has taken the whole pipe.
        wait_until(lambda: bool(status_of(self.grid.ready["client"]["dir"])["operations"]))
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        self.assertEqual(process.stderr.read(), b"ampgrid: Interrupted.\n")
        self.assertEqual(finish(process, b"").status, 130)
        self.assertEqual(json.loads(self.client("status", "--json"))["operations"], [])
        self.assertEqual(os.listdir(Path(self.grid.ready["client"]["dir"]) / "spool"), [])

    def test_a_cap_that_cannot_be_printed(self) -> None:
        with open("/dev/full", "wb") as full:
            words = ["-d", self.grid.ready["client"]["dir"], "put", self.file]
            done = finish(start(*words, stdout=full))
        self.assertEqual(done.status, 8)
        begin = "ampgrid: The file was uploaded, but its cap could not be written"
        self.assertTrue(done.err.startswith(begin), done.err)
        self.assertEqual(done.err.count("\n"), 1)

    def test_a_file_does_not_go_to_a_terminal_unasked(self) -> None:
        cap = self.put()
        leading, following = pty.openpty()
        self.addCleanup(os.close, leading)
        words = ["-d", self.grid.ready["client"]["dir"], "get"]
        done = finish(start(*words, cap, stdout=following))
        self.assertEqual(done.status, 2)
        self.assertIn("The file would go to the terminal; name OUT", done.err)
        lit = "URI:LIT:krugkidfnzsc4"
        asked = finish(start(*words, lit, "-", stdout=following))
        os.close(following)
        self.assertEqual((asked.status, asked.err), (0, ""))
        self.assertEqual(os.read(leading, 100), b"The end.")

    def test_a_cap_is_asked_for_on_a_terminal_and_not_shown(self) -> None:
        leading, following = pty.openpty()
        self.addCleanup(os.close, leading)
        words = ["-d", self.grid.ready["client"]["dir"], "get", "-", "-"]
        process = start(*words, stdin=following, stderr=following, start_new_session=True)
        os.close(following)
        told = b""
        while b": " not in told:
            told += os.read(leading, 1000)
        self.assertIn(b"Paste a cap (it is not shown)", told)
        os.write(leading, b"URI:LIT:krugkidfnzsc4\n")
        done = finish(process)
        self.assertEqual(done.status, 0)
        self.assertNotIn(b"krug", os.read(leading, 1000))

    def test_one_grid_and_one_node_a_directory(self) -> None:
        second = ampgrid("grid", self.grid.root)
        self.assertEqual(second.status, 3)
        self.assertIn("already", second.err)
        self.assertTrue((self.grid.root / "ready.json").exists())
        node = ampgrid("-d", self.grid.ready["nodes"][0]["dir"], "run")
        self.assertEqual((node.status, node.out), (3, b""))
        self.assertIn(str(self.grid.ready["nodes"][0]["pid"]), node.err)
        self.client("status")


class LossTests(GridCase):
    words = ("--nodes", 3, "--shares", "2/3/3")
    alone = True

    def test_losses_restarts_and_ends(self) -> None:
        """In one go, since each step needs the one before it."""
        cap = self.put()
        out = self.place / "out"
        nodes = self.grid.ready["nodes"]
        os.kill(nodes[0]["pid"], signal.SIGKILL)
        self.client("get", cap, out)
        self.assertEqual(out.read_bytes(), DATA)
        os.kill(nodes[1]["pid"], signal.SIGKILL)
        lost = self.grid.client("get", cap, self.place / "never")
        self.assertEqual(lost.status, 5, lost.err)
        self.assertIn("found 1 of the 2 shares", lost.err)
        self.assertFalse((self.place / "never").exists())
        self.assertEqual(self.grid.client("put", self.file).status, 6)

        before = self.grid.ready
        ended = self.grid.end(signal.SIGTERM)
        self.assertEqual(ended.status, 0)
        self.assertIn("node1 has ended (killed by signal 9)", ended.err)
        wait_until_gone(self.grid.pids)
        self.assertFalse((self.grid.root / "ready.json").exists())
        gone = self.grid.client("get", cap)
        self.assertEqual(gone.status, 4)
        self.assertIn("run", gone.err)

        type(self).grid = again(self.grid)
        for part in ["dir", "address"]:
            self.assertEqual(self.grid.ready["introducer"][part], before["introducer"][part])
        self.assertEqual(
            [(n["node_id"], n["address"]) for n in self.grid.ready["nodes"]],
            [(n["node_id"], n["address"]) for n in before["nodes"]],
        )
        self.client("get", cap, out)
        self.assertEqual(out.read_bytes(), DATA)

        left = self.grid.pids
        self.grid.end(signal.SIGKILL)
        # It waits itself for what is left of the one before, whose ports are not free yet.
        type(self).grid = Grid(self.grid.root)
        wait_until_gone(left)
        self.assertEqual(self.grid.end(signal.SIGINT).status, 130)
        wait_until_gone(self.grid.pids)


class DemoTests(SynchronousTestCase):
    def test_on_the_readme(self) -> None:
        done = ampgrid("demo", ROOT / "README.md", "--json")
        self.assertEqual(done.status, 0, done.err)
        report = done.json()
        self.assertTrue(report["same"])
        self.assertEqual(len(report["killed"]), 2)
        self.assertEqual(report["sha256_before"], report["sha256_after"])
        self.assertEqual(report["size"], (ROOT / "README.md").stat().st_size)
        for name in report["killed"]:
            self.assertIn(f"{name} has ended (killed by signal 9)", done.err)

    def test_without_its_file(self) -> None:
        place = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, place)
        env = {**os.environ, "TMPDIR": str(place), "PYTHONPATH": str(ROOT)}
        done = ampgrid("demo", place / "none", env=env)
        self.assertEqual((done.status, done.out), (8, b""))
        self.assertEqual(os.listdir(place), [])
