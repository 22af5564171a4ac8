"""Let every run of pytest fail that leaves a secret, or anything at all, where it should not be.

A run has a directory for temporary files of its own, which its workers and all processes that
its tests start share. Looked at are:

* the logs and the nodes in each directory there, when a test removes it, and in all that is left
  when the run has ended, which should be nothing;
* what Twisted and Python log while tests run, and what tests and the processes of
  `tests.integration.processes` print as errors;
* the environment that processes are given, and the arguments and the environment of those that
  run when a test ends. Arguments that a test itself gives are its own: a user may write a cap
  there.

The findings of all workers are lines of one file; the process that was started last reads it.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from twisted.logger import eventAsText, globalLogPublisher

from tests.diskscan import Secrets
from tests.hygiene import Finding, Needles, is_log, search_file, search_tree
from tests.processtable import staying_with, this_process

_FINDINGS = "findings"
#: A file system in memory, where campaigns work.
_MEMORY = Path("/dev/shm")
#: So much of it, and of memory, makes room for all that tests ever hold at once, bytes.
_MEMORY_BYTES = 4 * 2**30
_MEMINFO = Path("/proc/meminfo")
#: Of pytest's own: directories that it keeps between tests, and a link to the last.
_PYTEST = "pytest-of-*"


@define(eq=False)
class Run:
    """A run of the tests, as one of its processes sees it.

    Attributes:
        root: the directory for temporary files.
        known: what is looked for everywhere.
        grids: by the directory of a grid of processes, what its nodes keep in ``private/``.
        began: whether this process has made ``root``.
    """

    root: Path
    began: bool
    known: Needles = field(factory=Needles.known)
    grids: dict[Path, Needles] = field(factory=dict)

    @property
    def findings_path(self) -> Path:
        return self.root / _FINDINGS

    def report(self, findings: list[Finding], test: str = "") -> None:
        """Note what was found, and in which test (this one); also from a forked child."""
        if not findings:
            return
        test = test or os.environ.get("PYTEST_CURRENT_TEST", "no test").partition(" (")[0]
        lines = "".join(f"{finding}, by {test}\n" for finding in findings)
        with self.findings_path.open("a", encoding="utf-8") as file:
            file.write(lines)

    def found(self) -> list[str]:
        """Return what was noted by all processes of this run."""
        if not self.findings_path.exists():
            return []
        return sorted(set(self.findings_path.read_text(encoding="utf-8").splitlines()))

    def look_at(self, data: bytes, place: str, test: str = "") -> None:
        """Look into what was printed or logged."""
        kinds = set(self.known.kinds_in(data))
        for needles in self.grids.values():
            kinds |= set(needles.kinds_in(data))
        self.report([Finding(kind, place) for kind in sorted(kinds)], test)

    # Directories.

    def is_ours(self, path: object) -> bool:
        """Tell whether a path lies where tests make their directories (campaigns: in memory)."""
        if not isinstance(path, str | os.PathLike):
            return False
        return not {self.root, _MEMORY}.isdisjoint(Path(path).absolute().parents)

    def look_before_removal(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Look into a directory or a log that a test is about to remove (an audit hook)."""
        if event == "shutil.rmtree" and self.is_ours(arguments[0]):
            root = Path(arguments[0]).absolute()
            self.report(search_tree(root, self.known))
            for grid in [grid for grid in self.grids if root in [grid, *grid.parents]]:
                del self.grids[grid]
        elif event == "os.remove" and arguments[1] == -1 and self.is_ours(arguments[0]):
            path = Path(arguments[0])
            if is_log(path) and path.is_file():
                self.report(list(search_file(path, path.name, self.known)))
        elif event == "subprocess.Popen":
            entries = arguments[3] if arguments[3] is not None else os.environ
            given = b"\0".join(
                os.fsencode(name) + b"=" + os.fsencode(value) for name, value in entries.items()
            )
            self.look_at(given, f"the environment given to {Path(str(arguments[0])).name}")

    def left(self) -> list[Finding]:
        """Return what is in the directory though it should be empty, and what still runs."""
        kept = [self.findings_path, *self.root.glob(_PYTEST)]
        found = [
            Finding("something left", path.name)
            for path in sorted(self.root.iterdir())
            if path not in kept
        ]
        entry = b"TMPDIR=" + os.fsencode(self.root)
        return found + [
            Finding("something left", f"the process list: {process.name}")
            for process in staying_with(entry)
        ]

    # Processes.

    def know(self, grid: Path) -> None:
        """Look for what the nodes of a grid of processes keep in ``private/``, too."""
        needles = self.grids[grid] = Needles(Secrets())
        for folder in (path for path in grid.iterdir() if path.is_dir()):
            needles.add_node(folder)

    def look_at_processes(self) -> None:
        """Look at all processes that this one has started, and those that they have."""
        children = this_process().children()
        for process in this_process().descendants():
            if process not in children:
                self.look_at(process.arguments(), f"the arguments of {process.name}")
            self.look_at(process.environment(), f"the environment of {process.name}")


#: The run that this process is part of.
_runs: list[Run] = []
#: What its tests share, and is ended with it.
_ends: list[Callable[[], object]] = []


def current() -> Run | None:
    """Return the run that this process is part of; None in a program that is no test."""
    return _runs[-1] if _runs else None


def know_grid(grid: Path) -> None:
    """Look for what the nodes of a grid of processes keep in ``private/``, too."""
    run = current()
    if run is not None:
        run.know(grid)


def look_at_processes() -> None:
    """Look at all processes that this one has started, and those that they have."""
    run = current()
    if run is not None:
        run.look_at_processes()


class _Handler(logging.Handler):
    """Looks at what Python's logging is given."""

    def emit(self, record: logging.LogRecord) -> None:
        look_at_text(self.format(record), "a log record of Python")


def look_at_text(text: str, place: str, test: str = "") -> None:
    """Look into what was printed or logged; nothing is done outside a run."""
    run = current()
    if run is not None:
        run.look_at(text.encode("utf-8", "surrogatepass"), place, test)


def _look_at_event(event: Any) -> None:
    look_at_text(eventAsText(event), "a log event of Twisted")


def at_end(end: Callable[[], object]) -> None:
    """Let something be ended before the run is: what many tests of one process share."""
    _ends.append(end)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in {"shutil.rmtree", "os.remove", "subprocess.Popen"}:
        run = current()
        if run is not None:
            run.look_before_removal(event, arguments)


_handler = _Handler()


def _place() -> Path | None:
    """Return where the directory for temporary files is made, None for the usual place.

    In memory, if there is room: stores wait for a disk at every commit until it is durable, and
    no test can tell whether it is. Whoever sets ``TMPDIR`` has it there.
    """
    if "TMPDIR" in os.environ or not os.access(_MEMORY, os.W_OK):
        return None
    try:
        (told,) = re.findall(r"^MemAvailable: +(\d+) kB$", _MEMINFO.read_text(), re.MULTILINE)
    except (OSError, ValueError):
        return None
    room = min(shutil.disk_usage(_MEMORY).free, int(told) * 1024)
    return _MEMORY if room >= _MEMORY_BYTES else None


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    worker = getattr(config, "workerinput", None)
    if worker is None:
        root = Path(tempfile.mkdtemp(prefix="ampgrid-tests-", dir=_place())).resolve()
        # Some tests go through it as another user.
        root.chmod(0o711)
    else:
        root = Path(worker["ampgrid_tests"])
    os.environ["TMPDIR"] = tempfile.tempdir = str(root)
    _runs.append(Run(root, began=worker is None))
    sys.addaudithook(_audit)
    globalLogPublisher.addObserver(_look_at_event)
    logging.getLogger().addHandler(_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    run = current()
    assert run is not None
    node.workerinput["ampgrid_tests"] = str(run.root)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    if report.when == "teardown":
        for title, text in report.sections:
            look_at_text(text, title.lower(), item.nodeid)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_teardown() -> Iterator[None]:
    look_at_processes()
    yield


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Say in the end what was found: after all workers have ended, and pytest has tidied up."""
    while _ends:
        _ends.pop()()
    yield
    run = current()
    if run is None or not run.began:
        return
    run.report(search_tree(run.root, run.known))
    if session.exitstatus == pytest.ExitCode.OK:
        # What fails or is stopped may leave something, also on purpose, to be looked at.
        run.report(run.left())
    found = run.found()
    if found:
        _tell(session, found)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _tell(session: pytest.Session, found: list[str]) -> None:
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    reporter.section("hygiene", red=True, bold=True)
    for line in found:
        reporter.write_line(line)


def pytest_unconfigure() -> None:
    globalLogPublisher.removeObserver(_look_at_event)
    logging.getLogger().removeHandler(_handler)
    run = _runs[-1]
    if run.began:
        _runs.pop()
        # What pytest keeps there is of tests that failed.
        if not any(path.is_file() for top in run.root.glob(_PYTEST) for path in top.rglob("*")):
            shutil.rmtree(run.root, ignore_errors=True)
