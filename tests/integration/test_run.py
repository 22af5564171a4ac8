"""Running one node: ``ampgrid run`` and ``twist ampgrid``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.node.directory import NodeDirectory
from tests.integration.processes import (
    ROOT,
    ampgrid,
    environment,
    finish,
    start,
    wait_for_line,
    wait_until_gone,
)

DROPIN = ROOT / "ampgrid" / "node" / "dropin"


class RunCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.node = self.make("node")

    def make(self, name: str, *words: object) -> Path:
        made = ampgrid("create-node", self.root / name, "--listen", "127.0.0.1:0", *words)
        self.assertEqual(made.status, 0, made.err)
        return self.root / name


class RunTests(RunCase):
    def test_it_keeps_its_port_and_stops_in_peace(self) -> None:
        ports = set()
        for number, status in [(signal.SIGTERM, 0), (signal.SIGINT, 130)]:
            process = start("-d", self.node, "run")
            line = wait_for_line(process, "Ready:")
            self.assertEqual(ampgrid("-d", self.node, "status").status, 0)
            process.send_signal(number)
            self.assertEqual(finish(process).status, status)
            ports.add(line.rpartition(":")[2].strip())
        self.assertEqual(ports, {str(NodeDirectory.at(self.node).listen_port())})

    def test_ready_in_one_line_of_json(self) -> None:
        process = start("-d", self.node, "run", "--json")
        facts = json.loads(wait_for_line(process, "{"))
        self.assertEqual(set(facts), {"node_id", "kind", "addresses"})
        process.terminate()
        self.assertEqual(finish(process).status, 0)

    def test_a_path_too_long_for_a_socket(self) -> None:
        deep = self.make("d" * 100 + "/" + "e" * 100)
        process = start("-d", deep, "run")
        wait_for_line(process, "Ready:")
        self.assertEqual(ampgrid("-d", deep, "status").status, 0)
        process.terminate()
        self.assertEqual(finish(process).status, 0)

    def test_a_log_file_for_its_owner_alone(self) -> None:
        log = self.root / "log"
        process = start("-d", self.node, "run", "--log-file", log)
        wait_for_line(process, "Ready:")
        process.terminate()
        self.assertEqual(finish(process).err, "")
        self.assertIn("listening on port", log.read_text())
        self.assertEqual(log.stat().st_mode & 0o077, 0)

    def test_a_port_that_is_taken(self) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            NodeDirectory.at(self.node).keep_listen_port(other.getsockname()[1])
            done = ampgrid("-d", self.node, "run", "--log-file", self.root / "log")
        self.assertEqual((done.status, done.out), (3, b""))
        self.assertRegex(done.err, r"\Aampgrid: The node cannot listen[^\n]+\n\Z")

    def test_a_key_open_to_others(self) -> None:
        (self.node / "private" / "node.pem").chmod(0o644)
        done = ampgrid("-d", self.node, "run", "--log-file", self.root / "log")
        self.assertEqual((done.status, done.out), (3, b""))
        self.assertIn("chmod 600", done.err)

    def test_it_goes_when_its_keeper_goes(self) -> None:
        process = start("-d", self.node, "run", "--until-stdin-closes")
        wait_for_line(process, "Ready:")
        # Ctrl-C on the terminal reaches it too, and is its keeper's business.
        process.send_signal(signal.SIGINT)
        self.assertEqual(ampgrid("-d", self.node, "status").status, 0)
        self.assertEqual(finish(process, b"").status, 0)

    def test_a_stale_socket_and_pid_file_stop_nobody(self) -> None:
        process = start("-d", self.node, "run")
        wait_for_line(process, "Ready:")
        process.kill()
        finish(process)
        self.assertTrue((self.node / "ampgrid.sock").exists())
        self.assertEqual(ampgrid("-d", self.node, "status").status, 4)
        process = start("-d", self.node, "run")
        wait_for_line(process, "Ready:")
        self.assertEqual(ampgrid("-d", self.node, "status").status, 0)
        process.terminate()
        self.assertEqual(finish(process).status, 0)


class StoppingTests(RunCase):
    """Nothing that a user leaves lying keeps a node from stopping."""

    def test_a_download_into_a_pipe_that_nobody_reads(self) -> None:
        file = self.root / "file"
        file.write_bytes(os.urandom(3_000_000))
        process = start("-d", self.node, "run")
        wait_for_line(process, "Ready:")
        put = ampgrid("-d", self.node, "put", file, "--shares", "1/1/1")
        self.assertEqual(put.status, 0, put.err)
        stuck = [start("-d", self.node, "get", put.text, "-") for _ in range(2)]
        for each in stuck:
            assert each.stdout is not None
            # It is under way, and its pipe will be full.
            self.assertTrue(each.stdout.read(1))
        began = time.monotonic()
        process.terminate()
        self.assertEqual(finish(process).status, 0)
        self.assertLess(time.monotonic() - began, 8.0)
        for each in stuck:
            self.assertNotEqual(finish(each).status, 0)


class TwistTests(RunCase):
    def twist(self, *words: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "twisted", *map(str, words)],
            env=environment(PYTHONPATH=os.pathsep.join([str(DROPIN), str(ROOT)])),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            umask=0o022,
        )

    def test_a_node(self) -> None:
        process = self.twist("ampgrid", "--node-directory", self.node)
        assert process.stdout is not None
        # The control socket comes last.
        while b"ampgrid.sock" not in (line := process.stdout.readline()):
            self.assertNotEqual(line, b"")
        self.assertEqual(ampgrid("-d", self.node, "status").status, 0)
        self.assertEqual(ampgrid("-d", self.node, "run").status, 3)
        made = [path for path in self.node.rglob("*") if path.lstat().st_mode & 0o077]
        self.assertEqual(made, [], "what it makes is for its user alone")
        process.terminate()
        finish(process)
        wait_until_gone([process.pid])
        # Stopped in peace: nothing holds the directory.
        NodeDirectory.at(self.node).lock().release()
        self.assertEqual(ampgrid("-d", self.node, "status").status, 4)

    def test_no_node_directory(self) -> None:
        done = finish(self.twist("ampgrid", "--node-directory", self.root / "none"))
        self.assertNotEqual(done.status, 0)
        self.assertIn("create-node", done.err)
        self.assertNotIn(b"Traceback", done.out)

    def test_a_node_that_cannot_start_ends_the_process(self) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            NodeDirectory.at(self.node).keep_listen_port(other.getsockname()[1])
            done = finish(self.twist("ampgrid", "--node-directory", self.node))
        self.assertEqual(done.status, 1)
        self.assertRegex(done.err, r"\Aampgrid: The node cannot listen[^\n]+\n\Z")
        self.assertIn(b"could not start", done.out)
        self.assertNotIn(b"Traceback", done.out)
        NodeDirectory.at(self.node).lock().release()
