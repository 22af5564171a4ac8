"""Whole command lines on directories, against a node of a grid in memory.

The command speaks with the real responders over a connection whose pipe is in memory, and time
moves only as far as it has to: so peers that vanish and users who interrupt cost no waiting.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.cli import control
from ampgrid.cli.console import ProgressBar
from ampgrid.cli.copying import Wishes, upload
from ampgrid.cli.problems import Problems
from ampgrid.cli.reactor import Stop
from ampgrid.commands import drive as commands
from ampgrid.commands.control import Cancel, Upload
from ampgrid.commands.errors import NotHappyEnoughError
from ampgrid.node.creation import create_node
from ampgrid.ports import Connection
from ampgrid.testing.grid import MemoryGrid
from ampgrid.vdrive.paths import parse_grid_path
from tests.inmemory.controlling import connect
from tests.material import some_bytes
from tests.unit.cli.command_line import Outcome, run


class Counted:
    """A connection that counts what is called, and lets a test step in before a call.

    Attributes:
        calls: how often each Command was called.
        before: called with the Command and its arguments before it is sent.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.calls: Counter[Any] = Counter()
        self.before: Callable[[Any, dict[str, Any]], None] = lambda _command, _arguments: None

    async def call(self, command: Any, /, **arguments: Any) -> dict[str, Any]:
        self.calls[command] += 1
        self.before(command, arguments)
        return await self._connection.call(command, **arguments)


class CommandCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.place = Path(folder.name) / "place"
        self.place.mkdir()
        create_node(self.place / "node")
        self.grid = MemoryGrid(Path(folder.name), 4, (2, 3, 4))
        self.grid.start()
        self.addCleanup(self.grid.stop)
        self.connection = Counted(connect(self.grid.clock, self.grid.client))
        self.stop = Stop()

        async def connected(_reactor: Any, _session: Any) -> Any:
            return self.connection

        def run_here(function: Any) -> Any:
            return self.grid.run(function(self.grid.clock, self.stop))

        self.patch(control, "connect", connected)
        self.patch(control, "run_with_reactor", run_here)
        self.file = self.place / "file"
        self.file.write_bytes(some_bytes(5_000))

    def run_line(self, *words: object) -> Outcome:
        return run(["-d", str(self.place / "node"), *map(str, words)])

    def done(self, *words: object) -> str:
        outcome = self.run_line(*words)
        self.assertEqual((outcome.status, outcome.err), (0, ""), words)
        return outcome.out

    def json(self, *words: object) -> Any:
        return json.loads(self.done(*words, "--json"))

    def refused(self, status: int, *words: object) -> str:
        outcome = self.run_line(*words)
        self.assertEqual((outcome.status, outcome.out), (status, ""), (words, outcome.err))
        self.assertEqual(outcome.err.count("\n"), 1)
        return outcome.err

    def names(self, path: str) -> list[str]:
        return self.done("ls", path).splitlines()

    def tree(self, *names: str) -> Path:
        for name in names:
            file = self.place / "tree" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(name.encode() * 20)
        return self.place / "tree"


class CopyTests(CommandCase):
    def test_a_directory_of_many_files_is_linked_in_few_steps(self) -> None:
        tree = self.tree(*(f"{n:04}" for n in range(250)), *(f"sub{n}/x" for n in range(5)))
        told = self.json("cp", "-r", tree, "private:")
        self.assertEqual((told["files"], told["directories"]), (255, 6))
        # Of it the six directories take one step at least, two of which hold directories.
        self.assertLessEqual(self.connection.calls[commands.LinkChildren], 10)
        self.assertEqual(len(self.names("private:tree")), 255)
        self.connection.calls.clear()
        told = self.json("cp", "-r", tree, "private:")
        self.assertEqual((told["unchanged"], told["directories"]), (255, 0))
        # Nothing of it was copied.
        self.assertEqual((told["files"], told["bytes"]), (0, 0))
        self.assertEqual(self.connection.calls[commands.LinkChildren], 0)
        self.assertEqual(self.connection.calls[commands.MakeDirectory], 0)

    def test_only_what_was_copied_is_counted_as_copied(self) -> None:
        tree = self.tree(*(f"{n:04}" for n in range(20)))
        self.done("cp", "-rT", tree, "private:one")
        (tree / "0003").write_bytes(b"new")
        told = self.json("cp", "-rT", tree, "private:one")
        self.assertEqual((told["files"], told["bytes"], told["unchanged"]), (1, 3, 19))
        self.assertIn("Copied 20 files", self.done("cp", "-rT", "private:one", "private:two"))
        again = self.done("cp", "-rT", "private:one", "private:two")
        self.assertIn("Copied 0 files, 0 B, ", again)
        self.assertIn("there already: 20 files", again)

    def test_never_more_than_eight_files_at_once(self) -> None:
        tree = self.tree(*(f"{n:02}" for n in range(40)))
        running = most = 0
        real = self.connection.call

        async def call(command: Any, /, **arguments: Any) -> dict[str, Any]:
            nonlocal running, most
            running += command is Upload
            most = max(most, running)
            try:
                return await real(command, **arguments)
            finally:
                running -= command is Upload

        self.patch(self.connection, "call", call)
        self.done("cp", "-r", tree, "private:x")
        self.assertEqual(most, 8)

    def test_two_who_copy_at_once_end_in_the_same_directories(self) -> None:
        tree = self.tree("a/b/one", "a/two", "three")

        async def copy() -> Any:
            link = connect(self.grid.clock, self.grid.client)
            bar = ProgressBar(shown=False)
            node = control.Conversation(self.grid.clock, link, self.stop, bar)
            place = parse_grid_path("private:tree")
            problems = Problems(as_json=True)
            wishes = Wishes(deep=True, as_named=True)
            copied = await upload(node, problems, [str(tree)], place, wishes)
            # What one has linked is there already for the other.
            return copied.files + copied.unchanged, problems.to_json()

        self.done("ls")
        both = gatherResults([Deferred.fromCoroutine(copy()) for _ in range(2)])

        async def wait() -> Any:
            return await both

        self.assertEqual(self.grid.run(wait()), [(3, []), (3, [])])
        self.assertEqual(self.names("private:tree"), ["a/", "three"])
        self.assertEqual(self.names("private:tree/a/b"), ["one"])

    def test_what_fails_is_named_and_the_rest_goes_on(self) -> None:
        tree = self.tree("a/1", "a/2", "b/3", "4")

        def fail(command: Any, arguments: dict[str, Any]) -> None:
            if command is Upload and os.pread(arguments["descriptor"], 3, 0) == b"a/2":
                raise NotHappyEnoughError("placed on 1 server")

        self.connection.before = fail
        outcome = self.run_line("cp", "-r", tree, "private:t")
        self.assertEqual(outcome.status, 6)
        self.assertEqual(outcome.err, f"ampgrid: {tree}/a/2: placed on 1 server\n")
        self.assertIn("Copied 3 files", outcome.out)
        self.assertEqual(self.names("private:t/a"), ["1"])
        self.connection.before = lambda _command, _arguments: None
        self.done("cp", "-rT", tree, "private:t")
        self.assertEqual(self.names("private:t/a"), ["1", "2"])

    def test_an_interruption_cancels_what_is_under_way(self) -> None:
        tree = self.tree(*(f"{n:02}" for n in range(30)))
        before = self.names("private:")

        def interrupt(command: Any, _arguments: dict[str, Any]) -> None:
            if command is Upload and self.connection.calls[Upload] == 12:
                self.stop.came(signal.SIGINT)

        self.connection.before = interrupt
        outcome = self.run_line("cp", "-r", tree, "private:t")
        self.assertEqual((outcome.status, outcome.err), (130, "ampgrid: Interrupted.\n"))
        self.assertEqual(before, [])
        self.assertLessEqual(self.connection.calls[Upload], 20)
        self.stop = Stop()
        self.connection.before = lambda _command, _arguments: None
        self.done("cp", "-rT", tree, "private:t")
        self.assertEqual(len(self.names("private:t")), 30)


class DeepTests(CommandCase):
    def test_an_interruption_ends_the_walk(self) -> None:
        self.done("cp", "-r", self.tree(*(f"{n}/x" for n in range(20))), "private:t")

        def interrupt(command: Any, _arguments: dict[str, Any]) -> None:
            if command is commands.NextResults:
                self.stop.came(signal.SIGINT)

        self.connection.before = interrupt
        outcome = self.run_line("deep-check", "private:t")
        self.assertEqual((outcome.status, outcome.err), (130, "ampgrid: Interrupted.\n"))
        self.assertEqual(self.connection.calls[Cancel], 1)
        self.grid.clock.advance(30)
        self.assertEqual(self.grid.client.core.operations.all(), [])

    def test_a_loss_is_found_and_repaired(self) -> None:
        self.done("cp", "-r", self.tree("a/1", "2"), "private:t")
        self.done("put", self.file, "private:t/file")
        self.grid.nodes.pop().stop()
        self.grid.clock.advance(200)
        found = self.run_line("deep-check", "private:t")
        self.assertEqual((found.status, found.err), (10, ""))
        self.assertIn("file: not healthy, 3 of 4 shares on 3 servers", found.out)
        self.assertEqual(self.run_line("check", "private:t").status, 10)
        self.assertEqual(self.run_line("check", "private:t/file").status, 10)
        self.grid.add_nodes(1)
        self.grid.clock.advance(60)
        mended = self.run_line("deep-check", "private:t", "--repair", "--renew")
        self.assertEqual((mended.status, mended.err), (0, ""), mended.out)
        self.assertRegex(mended.out, r"Repaired: [1-9]")


class UnreachableTests(CommandCase):
    def test_with_too_few_replicas_everything_says_so(self) -> None:
        self.done("put", "-p", self.file, "private:a/file")
        for node in self.grid.nodes[:2]:
            node.cut()
        self.grid.clock.advance(200)
        for words in (
            ["ls", "private:a"],
            ["put", self.file, "private:a/other"],
            ["get", "private:a/file", self.place / "out"],
            ["cp", self.file, "private:a"],
            ["mv", "private:a/file", "private:b"],
            ["rm", "private:a/file"],
            ["ln", "private:a/file", "private:b"],
            ["deep-check", "private:a"],
            ["check", "private:a"],
        ):
            outcome = self.run_line(*words)
            self.assertIn(outcome.status, (6, 10, 11, 13), (words, outcome))
            self.assertNotIn("Unexpected", outcome.err)
        self.assertIn("private:a: ", self.refused(13, "ls", "private:a"))
        # Nothing says that it is gone, and the reason is told once.
        deep = self.run_line("deep-check", "private:a", "--repair", "--renew")
        self.assertEqual(deep.status, 13, deep)
        told = deep.out + deep.err
        self.assertNotIn("NOT RECOVERABLE", told)
        self.assertEqual(told.count("of 4 replicas"), 1, told)
        # The name of a root ends with a colon already.
        for words in (["ls", "private:"], ["ls", "nosuch:"], ["cp", self.file, "private:"]):
            said = self.run_line(*words).err
            self.assertIn(f"{words[-1]} ", said)
            self.assertNotIn("::", said)
        self.assertFalse((self.place / "out").exists())
