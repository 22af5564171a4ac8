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
from tests.integration.ports import held_for
from tests.integration.processes import (
    ROOT,
    ampgrid,
    environment,
    finish,
    start,
    status_of,
    wait_for_line,
    wait_until,
    wait_until_gone,
)

DROPIN = ROOT / "ampgrid" / "node" / "dropin"


def done_command(message: str) -> str:
    """Return the command that an error of a missing store tells to run."""
    return message.partition("run: ")[2].strip()


#: A node that says, as it begins to listen, whether its storage service takes anything.
SAYS_WHETHER_IT_SERVES = """
import sys
from ampgrid.cli.main import main
from ampgrid.node.node import Node
listen = Node._listen
async def say_and_listen(node, core):
    core.storage._check_serving()
    print("serving", flush=True)
    return await listen(node, core)
Node._listen = say_and_listen
sys.argv = ["ampgrid", "-d", sys.argv[1], "run"]
main()
"""


#: A node that cannot start, and a reactor that stumbles, for a reason that quotes a cap.
STUMBLES_OVER_A_CAP = """
import runpy, sys
from twisted.python import log
from ampgrid.node.node import Node
def stumble():
    raise KeyError("URI:" + "DIR2:" + "quoted" * 3)
async def stumble_and_fail(node):
    node._reactor.callLater(0, stumble)
    try:
        stumble()
    except KeyError:
        log.err(None, "the older way")
        raise
Node.start = stumble_and_fail
sys.argv = ["twist", *sys.argv[1:]]
runpy.run_module("twisted", run_name="__main__")
"""


def catches(pid: int, number: int) -> bool:
    """Tell whether a process has a handler of its own for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (number - 1) & 1)


class RunCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.node = self.make("node")

    def make(self, name: str, *words: object) -> Path:
        made = ampgrid("create-node", self.root / name, "--listen", "127.0.0.1:0", *words)
        self.assertEqual(made.status, 0, made.err)
        return self.root / name

    def up(self) -> subprocess.Popen[bytes]:
        """Run the node; return once it is ready."""
        with held_for([self.node]):
            process = start("-d", self.node, "run")
            wait_for_line(process, "Ready:")
        return process


class RunTests(RunCase):
    def test_it_serves_before_anybody_can_connect(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", SAYS_WHETHER_IT_SERVES, self.node],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        wait_for_line(process, "serving")
        wait_for_line(process, "Ready:")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(finish(process).status, 0)

    def test_it_keeps_its_port_and_stops_in_peace(self) -> None:
        ports = set()
        for number, status in [(signal.SIGTERM, 0), (signal.SIGINT, 130)]:
            with held_for([self.node]):
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
        self.assertEqual(set(facts), {"node_id", "kind", "addresses", "web"})
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

    def test_a_signal_in_the_first_moments(self) -> None:
        for number, status in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
            for delay in (0.0, 0.1, 0.2):
                process = start("-d", self.node, "run")
                wait_until(lambda pid=process.pid: catches(pid, signal.SIGTERM))
                time.sleep(delay)
                process.send_signal(number)
                done = finish(process)
                self.assertNotIn("Traceback", done.err)
                self.assertEqual(done.status, status, delay)

    def test_a_store_that_is_not_mounted(self) -> None:
        process = self.up()
        process.terminate()
        self.assertEqual(finish(process).status, 0)
        shutil.rmtree(self.node / "storage")
        for _ in range(2):
            done = ampgrid("-d", self.node, "run", "--log-file", self.root / "log")
            self.assertEqual((done.status, done.out), (3, b""))
            self.assertIn("the store is missing", done.err)
            self.assertFalse((self.node / "storage").exists())
        subprocess.run(["/bin/sh", "-c", done_command(done.err)], check=True)
        process = self.up()
        process.terminate()
        self.assertEqual(finish(process).status, 0)

    def test_databases_that_are_broken(self) -> None:
        process = self.up()
        process.terminate()
        finish(process)
        for path in ("peers.sqlite", "kept.sqlite", "storage/store.db"):
            database = self.node / path
            kept = database.read_bytes()
            database.write_bytes(b"rubbish" * 2000)
            done = ampgrid("-d", self.node, "run", "--log-file", self.root / "log")
            self.assertEqual((done.status, done.out), (3, b""))
            self.assertIn(f"{database}: ", done.err)
            self.assertIn("-wal", done.err)
            database.write_bytes(kept)

    def test_an_introducer_uploads_nothing(self) -> None:
        made = ampgrid("create-introducer", self.root / "i", "--listen", "127.0.0.1:0")
        self.assertEqual(made.status, 0)
        process = start("-d", self.root / "i", "run")
        wait_for_line(process, "Ready:")
        done = ampgrid("-d", self.root / "i", "put", "-", stdin=b"x" * 1000)
        self.assertEqual((done.status, done.out), (2, b""))
        self.assertIn("this is an introducer", done.err)
        process.terminate()
        self.assertEqual(finish(process).status, 0)

    def test_a_stale_socket_and_pid_file_stop_nobody(self) -> None:
        process = self.up()
        process.kill()
        finish(process)
        self.assertTrue((self.node / "ampgrid.sock").exists())
        self.assertEqual(ampgrid("-d", self.node, "status").status, 4)
        process = self.up()
        self.assertEqual(ampgrid("-d", self.node, "status").status, 0)
        process.terminate()
        self.assertEqual(finish(process).status, 0)


class StoppingTests(RunCase):
    """Nothing that a user leaves lying keeps a node from stopping."""

    def test_a_terminal_that_hangs_up(self) -> None:
        process = self.up()
        process.send_signal(signal.SIGHUP)
        done = finish(process)
        self.assertEqual(done.status, 0)
        self.assertIn("stopping on SIGHUP", done.err)

    def test_a_socket_and_a_directory_that_have_gone(self) -> None:
        process = self.up()
        (self.node / "ampgrid.sock").unlink()
        process.terminate()
        self.assertEqual(finish(process).status, 0)
        process = self.up()
        shutil.rmtree(self.node)
        process.terminate()
        self.assertIn(finish(process).status, (0, 1))

    def test_an_upload_that_is_under_way(self) -> None:
        process = self.up()
        put = start("-d", self.node, "put", "-", "--shares", "1/1/1")
        assert put.stdin is not None
        put.stdin.write(b"x" * 1_000_000)
        put.stdin.flush()
        wait_until(lambda: bool(status_of(self.node)["operations"]))
        process.terminate()
        put.wait(60)
        done = finish(put)
        self.assertEqual((done.status, done.out), (4, b""))
        self.assertIn("stopped during the upload", done.err)
        self.assertEqual(finish(process).status, 0)

    def test_a_download_into_a_pipe_that_nobody_reads(self) -> None:
        file = self.root / "file"
        file.write_bytes(os.urandom(3_000_000))
        process = self.up()
        put = ampgrid("-d", self.node, "put", file, "--shares", "1/1/1")
        self.assertEqual(put.status, 0, put.err)
        stuck = [start("-d", self.node, "get", put.text, "-") for _ in range(2)]
        for each in stuck:
            assert each.stdout is not None
            # It is under way, and its pipe will be full.
            self.assertTrue(each.stdout.read(1))
        process.terminate()
        done = finish(process)
        self.assertEqual(done.status, 0)
        self.assertIn("stopping on SIGTERM", done.err)
        self.assertNotIn("threads did not end", done.err)
        for each in stuck:
            self.assertNotEqual(finish(each).status, 0)


class TwistTests(RunCase):
    def twist(self, *words: object, script: str = "") -> subprocess.Popen[bytes]:
        how = ["-c", script] if script else ["-m", "twisted"]
        return subprocess.Popen(
            [sys.executable, *how, *map(str, words)],
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

    def test_its_log_does_not_quote_what_unforeseen_errors_quote(self) -> None:
        for kind in ("text", "json"):
            words = ("--log-format", kind, "ampgrid", "--node-directory", self.node)
            done = finish(self.twist(*words, script=STUMBLES_OVER_A_CAP))
            self.assertEqual(done.status, 1)
            self.assertNotIn(b"quoted", done.out)
            self.assertNotIn("quoted", done.err)
            for part in (b"the node could not start", b"the older way", b"stumble", b"Unforeseen"):
                self.assertIn(part, done.out)

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
