"""The processes of this machine, as ``/proc`` shows them; where there is none, there are none."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from attrs import frozen

#: Whoever still runs after so long was left.
LEAVING_SECONDS = 5.0
_LOOK = 0.1
_PROC = Path("/proc")
#: What is told of a process that went away, or is another user's.
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


@frozen
class Process:
    """One process.

    Attributes:
        pid: its number.
    """

    pid: int

    def arguments(self) -> bytes:
        """Return its arguments, each ended by a zero; empty if it is gone."""
        return self._read("cmdline")

    def environment(self) -> bytes:
        """Return its environment as it was at its start, each entry ended by a zero."""
        return self._read("environ")

    @property
    def name(self) -> str:
        """How it is called, at most 15 characters."""
        return self._read("comm").decode("utf-8", "replace").strip()

    def is_running(self) -> bool:
        """Tell whether it runs; one that waits to be reaped does not."""
        return self._read("stat").rpartition(b")")[2].split()[:1] not in ([], [b"Z"])

    def _read(self, name: str) -> bytes:
        with suppress(*_GONE):
            return (_PROC / str(self.pid) / name).read_bytes()
        return b""

    def children(self) -> list[Process]:
        """Return those that it started and that have not ended."""
        found: list[Process] = []
        with suppress(*_GONE):
            for task in (_PROC / str(self.pid) / "task").iterdir():
                with suppress(*_GONE):
                    words = (task / "children").read_text().split()
                    found += [Process(int(word)) for word in words]
        return found

    def descendants(self) -> Iterator[Process]:
        """Yield its children, theirs, and so on."""
        for child in self.children():
            yield child
            yield from child.descendants()


def this_process() -> Process:
    """Return the one that asks."""
    return Process(os.getpid())


def staying_with(entry: bytes) -> list[Process]:
    """Return those of `running_with` that are not on their way out: they are still there later.

    On a busy machine a process, a worker of the tests among them, takes its time to end.

    Args:
        entry: ``NAME=value``.
    """
    deadline = time.monotonic() + LEAVING_SECONDS
    while (found := running_with(entry)) and time.monotonic() < deadline:
        time.sleep(_LOOK)
    return found


def running_with(entry: bytes) -> list[Process]:
    """Return the processes but this one that run and were given an entry of the environment.

    Args:
        entry: ``NAME=value``.
    """
    numbers = [int(path.name) for path in _PROC.glob("[0-9]*")]
    return [
        process
        for process in map(Process, sorted(numbers))
        if entry in process.environment().split(b"\0")
        and process != this_process()
        and process.is_running()
    ]
