"""Every script in examples/ is run as its reader would run it, and does what it says."""

from __future__ import annotations

import ast
import signal
import socket
import subprocess
import sys
from pathlib import Path

from ampgrid.formats.address import parse_address
from tests.integration.processes import (
    DATA,
    ROOT,
    TWO_OF_FOUR,
    GridCase,
    Outcome,
    environment,
    finish,
    status_of,
    wait_for_line,
)

EXAMPLES = ROOT / "examples"


def run(name: str, *words: object, place: Path) -> subprocess.Popen[bytes]:
    """Start an example in ``place``."""
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *map(str, words)],
        cwd=place,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


class ExampleTests(GridCase):
    words = TWO_OF_FOUR

    def run_example(self, name: str, *words: object) -> Outcome:
        return finish(run(name, *words, place=self.place))

    def test_none_goes_unmentioned_here(self) -> None:
        self.assertEqual(
            sorted(path.name for path in EXAMPLES.glob("*.py")),
            ["ampclient.py", "directories.py", "embed_storage.py"],
        )

    def test_without_arguments_each_says_how_it_is_used(self) -> None:
        for path in EXAMPLES.glob("*.py"):
            done = self.run_example(path.name)
            self.assertEqual((done.status, done.out), (1, b""))
            self.assertIn(f"python examples/{path.name}", done.err)

    def test_ampclient_up_and_down(self) -> None:
        client = self.grid.ready["client"]["dir"]
        done = self.run_example("ampclient.py", client, "file")
        self.assertEqual((done.status, done.err), (0, ""))
        waited, uploaded, cap, compared, status = done.text.splitlines()
        self.assertEqual(waited, "4 storage peers are connected")
        self.assertEqual(uploaded, f"{len(DATA)} bytes on 4 servers")
        self.assertEqual(self.grid.client("get", cap).out, DATA)
        self.assertEqual(compared, "the copy is the same")
        self.assertIn(status_of(client)["software"], status)

    def test_ampclient_says_in_a_line_what_is_missing(self) -> None:
        client = self.grid.ready["client"]["dir"]
        for words, told in [
            ((self.place, "file"), f"the node in {self.place} does not run\n"),
            ((client, "missing"), "missing is no file\n"),
        ]:
            done = self.run_example("ampclient.py", *words)
            self.assertEqual((done.status, done.out, done.err), (1, b"", told))

    def test_clients_need_nothing_but_twisted_and_the_commands(self) -> None:
        for name in ("ampclient.py", "directories.py"):
            nodes = list(ast.walk(ast.parse((EXAMPLES / name).read_text("utf-8"))))
            modules = [n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)]
            modules += [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
            foreign = {m for m in modules if m.partition(".")[0] not in sys.stdlib_module_names}
            self.assertTrue(foreign)
            self.assertEqual(
                {m for m in foreign if not m.startswith(("twisted.", "ampgrid.commands"))}, set()
            )

    def test_directories_are_filled_listed_and_walked(self) -> None:
        client = self.grid.ready["client"]["dir"]
        (self.place / "small").write_bytes(b"a few bytes")
        for _ in range(2):
            done = self.run_example("directories.py", client, "private:a/b", "file", "small")
            self.assertEqual((done.status, done.err), (0, ""))
            self.assertEqual(
                done.text.splitlines(),
                [
                    f"put file, {len(DATA)} bytes",
                    "put small, 11 bytes",
                    "file file",
                    "literal small",
                    f"3 things can be reached from here, with {len(DATA) + 11} bytes",
                    "the copy is the same",
                ],
            )

    def test_directories_says_in_a_line_what_is_missing(self) -> None:
        client = self.grid.ready["client"]["dir"]
        for words, told in [
            ((self.place, "private:a", "file"), f"the node in {self.place} does not run\n"),
            ((client, "private:a", "missing"), "missing is no file\n"),
        ]:
            done = self.run_example("directories.py", *words)
            self.assertEqual((done.status, done.out, done.err), (1, b"", told))

    def test_embed_storage_tries_itself(self) -> None:
        done = self.run_example("embed_storage.py", self.place / "shares", "--try")
        self.assertEqual((done.status, done.err), (0, ""))
        address, told = done.text.splitlines()
        self.assertEqual(parse_address(address).hints[0][0], "127.0.0.1")
        self.assertEqual(told, "3 words; 0 shares kept")
        # What it keeps is still there when it comes again.
        self.assertTrue((self.place / "shares").is_dir())
        self.assertEqual(self.run_example("embed_storage.py", "shares", "--try").status, 0)

    def test_embed_storage_serves_until_ctrl_c(self) -> None:
        process = run("embed_storage.py", "shares", place=self.place)
        address = parse_address(wait_for_line(process, "amp://").strip())
        with socket.create_connection(address.hints[0]):
            process.send_signal(signal.SIGINT)
            done = finish(process)
        self.assertEqual((done.out, done.err), (b"", ""))
