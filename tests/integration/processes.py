"""Starting ``ampgrid`` as processes of their own, and waiting for them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from attrs import frozen

ROOT = Path(__file__).parents[2]
#: Seconds after which a test gives up; far more than anything here takes.
PATIENCE = 60.0


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
        self.ready_line = wait_for_line(self.process, "Ready:")
        self.ready = json.loads((root / "ready.json").read_text())

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
        self.process.send_signal(number)
        return finish(self.process)
