"""put, get and cap as a hostile or a clumsy user has them, against a grid of three nodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

from ampgrid.commands.control import GetMemoryUsage
from tests.hygiene import marked
from tests.integration.processes import (
    DATA,
    GridCase,
    ampgrid,
    ask,
    environment,
    finish,
    start,
    status_of,
    wait_until,
)

#: ``ampgrid``, waiting for an hour till what it has cancelled ends: only the user ends it before.
PATIENT = """
from ampgrid.cli import control
from ampgrid.cli.main import main
control._PATIENCE = 3_600.0
main()
"""
LARGE = 60_000_000
#: What a client may take at its peak for a file of any size, bytes.
MOST_MEMORY = 150_000_000


class PutAndGetTests(GridCase):
    @property
    def node(self) -> str:
        """The directory of the client."""
        return str(self.grid.ready["client"]["dir"])

    def storage(self) -> list[Any]:
        """What the storage nodes tell of their stores."""
        return [status_of(node["dir"])["storage"] for node in self.grid.ready["nodes"]]

    def check_nothing_promised(self) -> None:
        """Soon no room is kept for uploads that came to nothing."""
        wait_until(lambda: all(s["promised"] == s["open_buckets"] == 0 for s in self.storage()))

    # Names.

    def test_files_of_every_name(self) -> None:
        for name in [b"with space", "übergrößé".encode(), b"caf\xe9", b"new\nline", b"-x"]:
            content = name * 30
            file = os.fsdecode(name)
            (self.place / file).write_bytes(content)
            cap = self.grid.client("put", "--", file, cwd=self.place).text
            self.assertTrue(cap.startswith("URI:CHK:"), name)
            out = file + ".out"
            back = self.grid.client("get", cap, "--", out, cwd=self.place)
            self.assertEqual((back.status, back.err), (0, ""))
            self.assertEqual((self.place / out).read_bytes(), content)

    def test_a_dash_that_is_no_option_is_told(self) -> None:
        refused = self.grid.client("put", "-x", cwd=self.place)
        self.assertEqual(refused.status, 2)
        self.assertIn("--help", refused.err)

    def test_files_of_the_kernel_which_tell_no_size(self) -> None:
        with open("/proc/self/limits", "rb") as limits:
            content = limits.read()
        self.assertEqual(os.stat("/proc/self/limits").st_size, 0)
        (self.place / "copy").write_bytes(content)
        process = start("-d", self.node, "put", "/proc/self/limits")
        self.assertEqual(finish(process).text, self.client("put", self.place / "copy"))

    # Standard input and output.

    def test_caps_from_standard_input(self) -> None:
        cap = self.put().encode() + b"\n"
        out = self.place / "out"
        self.client("get", "-", out, stdin=b"  " + cap)
        self.assertEqual(out.read_bytes(), DATA)
        self.assertEqual(self.grid.client("get", "-", "-", stdin=cap).out, DATA)
        broken_by_a_mail = cap[:40] + b"\n  " + cap[40:]
        self.assertEqual(self.grid.client("get", "-", "-", stdin=broken_by_a_mail).out, DATA)
        for bad in [b"", b"\n", cap + cap, b"\xff" * 9, b"x" * 100_000]:
            refused = self.grid.client("get", "-", self.place / "no", stdin=bad)
            self.assertEqual((refused.status, refused.out), (9, b""), bad[:9])
            self.assertEqual(refused.err.count("\n"), 1)
        self.assertEqual(sorted(os.listdir(self.place)), ["file", "out"])

    def test_a_file_as_standard_input_counts_from_where_it_stands(self) -> None:
        with self.file.open("rb") as stdin:
            stdin.seek(100_000)
            process = start("-d", self.node, "put", "-", stdin=stdin)
            cap = finish(process).text
        self.assertEqual(self.grid.client("get", cap).out, DATA[100_000:])

    def test_no_room_on_the_standard_output(self) -> None:
        with open("/dev/full", "wb") as full:
            done = self.grid.client("get", self.put(), stdout=full)
        self.assertEqual(done.status, 8)
        self.assertRegex(
            done.err, r"\Aampgrid: the standard output: [^\n]*No space left[^\n]*\n\Z"
        )

    def test_ranges(self) -> None:
        cap, size = self.put(), len(DATA)
        for offset, length in [(0, 0), (0, 1), (131_071, 2), (size - 1, 9), (size, 1), (7, None)]:
            words = ["--offset", offset] + ([] if length is None else ["--length", length])
            got = self.grid.client("get", cap, *words)
            end = size if length is None else offset + length
            self.assertEqual((got.status, got.out), (0, DATA[offset:end]), (offset, length))
        beyond = self.grid.client("get", cap, "--offset", size + 1)
        self.assertEqual((beyond.status, beyond.out), (2, b""))
        self.assertIn(str(size), beyond.err)

    # Where it goes to.

    def test_the_output_is_replaced_as_a_whole_or_not_at_all(self) -> None:
        cap = self.put()
        out = self.place / "out"
        out.write_bytes(b"old")
        out.chmod(0o604)
        with out.open("rb") as reader:
            self.client("get", cap, out)
            self.assertEqual(reader.read(), b"old")
        self.assertEqual(out.read_bytes(), DATA)
        self.assertEqual(out.stat().st_mode & 0o777, 0o604)
        # The cap of a file that nobody has.
        nothing = f"URI:CHK:{'a' * 26}:{'a' * 52}:2:3:1000"
        self.assertEqual(self.grid.client("get", nothing, out).status, 5)
        self.assertEqual(out.read_bytes(), DATA)
        self.assertEqual(sorted(os.listdir(self.place)), ["file", "out"])

    def test_a_new_file_is_made_as_the_user_wants_it(self) -> None:
        self.grid.client("get", self.put(), self.place / "out", umask=0o027)
        self.assertEqual((self.place / "out").stat().st_mode & 0o777, 0o640)

    # Files that change, uploads that end early.

    def test_a_file_that_changes_is_refused(self) -> None:
        self.file.write_bytes(DATA * 70)

        def grow() -> None:
            with self.file.open("ab") as file:
                file.write(b"x")

        def shrink() -> None:
            os.truncate(self.file, self.file.stat().st_size - 1)

        for change in (grow, shrink):
            process = start("-d", self.node, "put", self.file)
            while process.poll() is None:
                change()
            refused = finish(process)
            self.assertEqual((refused.status, refused.out), (8, b""), change)
            self.assertRegex(refused.err, r"\Aampgrid: [^\n]*/file: the file [^\n]+\n\Z")
        self.check_nothing_promised()

    def slow_put(self) -> subprocess.Popen[bytes]:
        """Begin an upload that takes a while; return once the servers keep room for it."""
        os.truncate(self.file, 500_000_000)
        process = start("-d", self.node, "put", self.file, "--shares", "2/4/4")
        wait_until(lambda: all(storage["promised"] for storage in self.storage()))
        return process

    def test_ctrl_c_during_a_put(self) -> None:
        shares = [storage["shares"] for storage in self.storage()]
        process = self.slow_put()
        process.send_signal(signal.SIGINT)
        done = finish(process)
        self.assertEqual((done.status, done.out, done.err), (130, b"", "ampgrid: Interrupted.\n"))
        self.check_nothing_promised()
        self.assertEqual([storage["shares"] for storage in self.storage()], shares)
        self.assertEqual(status_of(self.node)["operations"], [])

    def test_the_end_of_the_command_ends_its_upload(self) -> None:
        process = self.slow_put()
        process.kill()
        finish(process)
        self.check_nothing_promised()
        wait_until(lambda: not status_of(self.node)["operations"])

    def test_a_second_ctrl_c_does_not_wait(self) -> None:
        """A storage node that hangs cannot hold the user."""
        hanging = self.grid.ready["nodes"][0]["pid"]
        os.kill(hanging, signal.SIGSTOP)
        try:
            # On all four, so also on that one.
            words = ["-d", self.node, "put", self.file, "--shares", "2/4/4"]
            process = subprocess.Popen(
                [sys.executable, "-c", PATIENT, *map(str, words)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(),
            )
            wait_until(lambda: bool(status_of(self.node)["operations"]))
            process.send_signal(signal.SIGINT)

            def ended_by_another() -> bool:
                process.send_signal(signal.SIGINT)
                return process.poll() is not None

            wait_until(ended_by_another)
            # One that comes while Python is ending finds no handler any more; shells say 130.
            self.assertIn(finish(process).status, (130, -signal.SIGINT))
        finally:
            os.kill(hanging, signal.SIGCONT)
        wait_until(lambda: not status_of(self.node)["operations"])
        self.check_nothing_promised()

    # Memory.

    def test_a_large_file_needs_little_memory(self) -> None:
        piece = marked(Random(6).randbytes(1_000_000))
        with self.file.open("wb") as file:
            for number in range(LARGE // len(piece)):
                file.write(number.to_bytes(8, "big") + piece[8:])
        cap = self.put()
        self.client("get", cap, self.place / "back")
        compared = subprocess.run(["cmp", self.file, self.place / "back"], check=False)
        self.assertEqual(compared.returncode, 0)
        with self.file.open("rb") as stdin:
            process = start("-d", self.node, "put", "-", stdin=subprocess.PIPE)
            self.assertEqual(finish(process, stdin.read()).text, cap)
        peak = ask(self.node, GetMemoryUsage)["vm_hwm"]
        self.assertGreater(peak, 20_000_000)
        self.assertLess(peak, MOST_MEMORY)

    # Without a node.

    def test_the_cap_without_a_node_is_that_of_the_upload(self) -> None:
        secret = Path(self.node) / "private" / "convergence"
        for size in (55, 56, 300_001):
            self.file.write_bytes(DATA[:size])
            for shares in ("1/1/1", "3/3/10"):
                needed, _happy, total = shares.split("/")
                words = ["--needed", needed, "--total", total, "--convergence-file", secret]
                computed = ampgrid("cap", self.file, *words, "--json").json()
                self.assertEqual(
                    computed["cap"], self.client("put", self.file, "--shares", shares)
                )
                self.assertEqual(computed["size"], size)


class JsonTests(GridCase):
    words = ("--nodes", 1, "--json")
    alone = True

    def test_every_command_has_it(self) -> None:
        introducer, node = self.place / "introducer", self.place / "node"
        made = ampgrid("create-introducer", introducer, "--listen", "127.0.0.1:7", "--json").json()
        self.assertEqual(set(made), {"dir", "node_id"})
        address = ampgrid("-d", introducer, "address", "--json").json()
        self.assertEqual(address["node_id"], made["node_id"])
        made = ampgrid(
            *("create-node", node, "--introducer", "-", "--json"),
            stdin=address["address"].encode(),
        ).json()
        self.assertEqual(made["dir"], str(node))
        put = json.loads(self.client("put", self.file, "--json"))
        got = self.grid.client("get", put["cap"], "--json")
        self.assertEqual(got.out, DATA)
        self.assertEqual(json.loads(got.err), {"size": len(DATA), "problems": [], "out": None})
        status = json.loads(self.client("status", "--json"))
        self.assertEqual([peer["state"] for peer in status["peers"]], ["connected"] * 2)
        for words in (["put", "/none"], ["nonsense"], ["get", "x"], ["put"]):
            error = self.grid.client(*words, "--json").err
            self.assertGreater(json.loads(error)["error"]["status"], 0, words)
