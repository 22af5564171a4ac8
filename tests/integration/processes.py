"""Starting ``ampgrid`` as processes of their own, and waiting for them."""

from __future__ import annotations

import io
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, BinaryIO, ClassVar

from attrs import frozen
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands.control import ListPeers, Status
from tests.hygiene import marked
from tests.hygiene_plugin import at_end, know_grid, look_at_processes, look_at_text
from tests.integration.ports import held_for
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
#: The file of most tests: large enough to be streamed in several chunks.
DATA = marked(Random(1).randbytes(300_001))


def environment(**more: str) -> dict[str, str]:
    """Return an environment in which the ampgrid of this tree is found, and no user's own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AMPGRID_")}
    return kept | {"PYTHONPATH": str(ROOT), "HOME": "/nonexistent"} | more


def start(*words: object, **options: Any) -> subprocess.Popen[bytes]:
    """Start ``ampgrid``; all three streams are pipes unless ``options`` say otherwise."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(
        [sys.executable, "-m", "ampgrid", *map(str, words)],
        **{"env": environment(), **pipes, **options},
    )


@frozen
class Outcome:
    """How one command ended."""

    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode().strip()

    def json(self) -> Any:
        return json.loads(self.out)


def finish(process: subprocess.Popen[bytes], stdin: bytes | None = None) -> Outcome:
    """Wait for the end of a process and take what it printed."""
    out, err = process.communicate(stdin, timeout=PATIENCE)
    look_at_text((err or b"").decode("utf-8", "replace"), "what ampgrid printed as errors")
    return Outcome(process.returncode, out, err.decode() if err else "")


def ampgrid(*words: object, stdin: bytes = b"", **options: Any) -> Outcome:
    """Run ``ampgrid`` to its end."""
    return finish(start(*words, **options), stdin)


def wait_for_line(process: subprocess.Popen[bytes], start_of_line: str) -> str:
    """Wait for a line of the standard output."""
    assert process.stdout is not None
    deadline = time.monotonic() + PATIENCE
    data = b""
    while time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 0.5)[0]:
            piece = os.read(process.stdout.fileno(), 1)
            if not piece:
                break
            data += piece
            if piece == b"\n":
                line, data = data.decode(), b""
                if line.startswith(start_of_line):
                    return line
    process.kill()
    raise AssertionError(f"no {start_of_line!r}: {data!r} {finish(process).err}")


def is_alive(pid: int) -> bool:
    """Tell whether a process runs (one that waits to be reaped does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until_gone(pids: list[int]) -> None:
    """Wait until none of the processes runs any more."""
    deadline = time.monotonic() + PATIENCE
    while any(map(is_alive, pids)):
        if time.monotonic() > deadline:
            raise AssertionError(f"still there: {[pid for pid in pids if is_alive(pid)]}")
        select.select([], [], [], 0.05)


class Grid:
    """``ampgrid grid`` as a process.

    Args:
        root: its directory.
        words: options.
    """

    def __init__(self, root: Path, *words: object) -> None:
        self.root = root
        self.process = start("grid", root, *words)
        self.ready_line = wait_for_line(self.process, "{" if "--json" in words else "Ready:")
        self.ready = json.loads((root / "ready.json").read_text())
        know_grid(root)

    @property
    def pids(self) -> list[int]:
        """Of all the nodes."""
        nodes = [self.ready["introducer"], *self.ready["nodes"], self.ready["client"]]
        return [node["pid"] for node in nodes]

    def client(self, *words: object, **options: Any) -> Outcome:
        """Run a command of the client node."""
        return ampgrid("-d", self.ready["client"]["dir"], *words, **options)

    def end(self, number: int = signal.SIGTERM) -> Outcome:
        """Send the grid a signal and wait for its end."""
        if self.process.returncode is not None:
            return Outcome(self.process.returncode, b"", "")
        look_at_processes()
        self.process.send_signal(number)
        return finish(self.process)


def again(grid: Grid) -> Grid:
    """Start a grid that has ended once more, on the same ports."""
    members = [grid.ready["introducer"], *grid.ready["nodes"]]
    with held_for([member["dir"] for member in members]):
        return Grid(grid.root)


#: The grids that classes share. With fewer than four storage nodes a new grid waits for more,
#: half a minute in all, before it makes directories.
TWO_OF_THREE = ("--nodes", 4, "--shares", "2/3/3", "--public-root")
TWO_OF_FOUR = ("--nodes", 4, "--shares", "2/3/4", "--public-root")


@cache
def shared_grid(*words: object) -> Grid:
    """Return the grid of all tests of this process that want one of these options."""
    root = Path(tempfile.mkdtemp())

    def end() -> None:
        if root.exists():
            grid.end()
            shutil.rmtree(root)

    try:
        grid = Grid(root / "grid", *words)
    except BaseException:
        shutil.rmtree(root)
        raise
    at_end(end)
    return grid


class GridCase(SynchronousTestCase):
    """Tests with a grid of processes, which classes that want the same options share.

    A test leaves the nodes as they were, with more files and directories in them. A class that
    does not, or counts what is there, has a grid `alone`.

    Attributes:
        words: options of ``ampgrid grid``.
        alone: whether the class has a grid of its own.
        root: a directory for the class.
        place: a directory for a test.
        file: has `DATA` in it.
    """

    words: ClassVar[tuple[object, ...]] = TWO_OF_THREE
    alone: ClassVar[bool] = False
    root: ClassVar[Path]
    grid: ClassVar[Grid]

    @classmethod
    def shared(cls) -> str:
        """Return a name for the grid; tests with the same one run in one worker."""
        name = "-".join(map(str, cls.words)).replace("/", "-of-")
        return f"{cls.__module__}.{cls.__qualname__}" if cls.alone else f"grid{name}"

    @classmethod
    def setUpClass(cls) -> None:
        cls.root = Path(tempfile.mkdtemp())
        try:
            cls.grid = (
                Grid(cls.root / "grid", *cls.words) if cls.alone else shared_grid(*cls.words)
            )
        except BaseException:
            shutil.rmtree(cls.root)
            raise

    @classmethod
    def tearDownClass(cls) -> None:
        if cls.alone:
            cls.grid.end()
        shutil.rmtree(cls.root)

    def setUp(self) -> None:
        self.place = Path(tempfile.mkdtemp(dir=self.root))
        self.file = self.place / "file"
        self.file.write_bytes(DATA)

    def client(self, *words: object, stdin: bytes = b"") -> str:
        """Run a command that must succeed in silence; returns its output as text."""
        outcome = self.grid.client(*words, stdin=stdin)
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        return outcome.text

    def put(self) -> str:
        return self.client("put", self.file)


def ask(directory: Path | str, command: Any, **arguments: Any) -> dict[str, Any]:
    """Call one control Command, as any AMP program could, and return its answer.

    Raises:
        RuntimeError: the node answers an error; the message begins with its code.
    """
    box = command.makeArguments(arguments, None)
    box[amp.ASK], box[amp.COMMAND] = b"1", command.commandName
    with socket.socket(socket.AF_UNIX) as node:
        node.settimeout(PATIENCE)
        node.connect(str(Path(directory) / "ampgrid.sock"))
        node.sendall(box.serialize())
        with node.makefile("rb") as stream:
            (answer,) = amp.parse(_one_box(stream))
    if amp.ERROR in answer:
        raise RuntimeError(f"{answer[amp.ERROR_CODE]!r} {answer[amp.ERROR_DESCRIPTION]!r}")
    return dict(command.parseResponse(answer, None))


def _one_box(stream: BinaryIO) -> BinaryIO:
    data = b""
    while length := stream.read(2):
        data += length
        if length == b"\0\0":
            return io.BytesIO(data)
        data += stream.read(int.from_bytes(length, "big"))
    raise RuntimeError("the node went away")


def status_of(directory: Path | str) -> Any:
    """Return what a node tells of itself."""
    return json.loads(ask(directory, Status)["status"])


def peers_of(directory: Path | str) -> list[dict[str, Any]]:
    """Return what a node tells of its first peers, as many as go into one answer."""
    found: list[dict[str, Any]] = json.loads(ask(directory, ListPeers, start=0)["peers"])
    return found


def wait_until(what: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > deadline:
            raise AssertionError("it never came about")
        select.select([], [], [], 0.02)
