"""ampgrid and Tahoe-LAFS side by side, in one run, doing the same work.

    python tests/benchmarks/compare.py                  # all of it: an hour
    python tests/benchmarks/compare.py --quick          # a try: minutes
    python tests/benchmarks/compare.py --only small --only directory --runs 3
    python tests/benchmarks/compare.py --slow           # through a link of 20 Mbit/s, 25 ms away

Each system is a grid of five storage nodes, an introducer and a client on the loopback, 3-of-5,
with the durability that it ships with. Both are used through their HTTP gateways by the same
client; ampgrid also through its control socket, and a second grid of it with `[storage]
durability = "none"`. Runs alternate: each work is done once by every system, and then again; the
first run warms up and counts for nothing. Told are medians with the smallest and the largest, the
ratio to Tahoe-LAFS, processor seconds, memory, and which goals hold.

Tahoe-LAFS is installed from PyPI into a virtual environment of its own, which is kept.
``docs/performance/README.md`` says what each row is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from attrs import evolve
from rich.console import Console
from twisted.internet.threads import deferToThread

from ampgrid import __version__
from ampgrid.cli.reactor import Stop, run_with_reactor
from ampgrid.errors import UsageError
from ampgrid.node.sizes import parse_size
from tests.benchmarks import pages
from tests.benchmarks.figures import (
    Goal,
    Verdict,
    figures_table,
    goals_table,
    judge,
)
from tests.benchmarks.grids import AmpgridGrid, Grid, GridError
from tests.benchmarks.slow_works import Link, slow_works
from tests.benchmarks.systems import BY_SOCKET, HASTY, OURS, SYSTEMS, TAHOE
from tests.benchmarks.tahoe import VERSION, TahoeGrid, default_home, install
from tests.benchmarks.ways import Gateway, Socket
from tests.benchmarks.works import Amounts, Meter, System, Work, all_works, note_peaks

_GB = 1_000_000_000
#: Columns of what is printed elsewhere than to a terminal.
_PAPER = 200
#: What shall be reached, by `OURS`, in speeds and in memory.
SPEED_GOALS = (
    Goal("upload 100 MB", 3, "least", TAHOE),
    Goal("download 100 MB", 5, "least", TAHOE),
    Goal("ranges of 64 kB in 100 MB", 5, "least", TAHOE),
    Goal("put 10 kB, one by one", 15, "least", TAHOE),
    Goal("get 10 kB, one by one", 15, "least", TAHOE),
    Goal("put 10 kB, 16 at once", 20, "least", TAHOE),
    Goal("get 10 kB, 16 at once", 20, "least", TAHOE),
    Goal("put 1 kB into a directory", 20, "least", TAHOE),
    Goal("put 10 kB, slow link", 3, "most"),
    Goal("get 10 kB, slow link", 2, "most"),
    Goal("upload 100 MB, slow link", 0.8, "least"),
    Goal("download 100 MB, slow link", 0.8, "least"),
    Goal("list beside the upload of 100 MB, longest", 0.5, "below"),
)
MEMORY_GOALS = (
    Goal("idle storage node: RSS", 0.75, "most", TAHOE),
    Goal("idle storage node: private", 0.5, "most", TAHOE),
    Goal("upload 100 MB: client's peak", 1, "below", TAHOE),
    Goal("download 100 MB: client's peak", 1, "below", TAHOE),
    # Flat: ten times the file, and no more than a tenth of the memory more.
    Goal("upload 1 GB: client's peak", 1.1, "most", to_name="upload 100 MB: client's peak"),
    Goal("download 1 GB: client's peak", 1.1, "most", to_name="download 100 MB: client's peak"),
)


class Progress:
    """Tells what is being done: in one line that changes, or in lines where no terminal is.

    Args:
        console: where it is told.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._status = console.status("")

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._status.stop()

    def step(self, words: str) -> None:
        """Tell of a small step; only a terminal shows it."""
        self._status.update(f"{self._passed()} {words}")

    def tell(self, words: str) -> None:
        """Tell of a large step."""
        self._console.print(f"{self._passed()} {words}", highlight=False)

    def _passed(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        return f"{minutes:3}:{seconds:02}"


class Comparison:
    """The systems, and what was measured of them.

    Args:
        reactor: it runs in another thread.
        place: an empty directory, for all files.
        wanted: names of the systems.
        progress: what is told meanwhile.
        stopped: tells whether the user wants it to end.
        link: the slow link that clients use, None for none.
    """

    def __init__(
        self,
        reactor: Any,
        place: Path,
        wanted: Sequence[str],
        progress: Progress,
        stopped: Callable[[], bool],
        link: Link | None,
    ) -> None:
        self._reactor = reactor
        self._place = place
        self._wanted = wanted
        self._progress = progress
        self._stopped = stopped
        self._slow = None if link is None else link.options()
        self._grids: list[Grid] = []
        self.systems: list[System] = []
        self.meter = Meter()

    def start(self, tahoe_home: Path) -> None:
        """Make and start the grids."""
        if TAHOE in self._wanted:
            self._progress.step(f"installing Tahoe-LAFS {VERSION} into {tahoe_home}")
            command = install(tahoe_home)
            grid: Grid = TahoeGrid(TAHOE, self._place / "tahoe", command, self._slow)
            self._add(TAHOE, grid, Gateway(grid))
        if OURS in self._wanted or BY_SOCKET in self._wanted:
            ours = AmpgridGrid(OURS, self._place / "full", self._reactor, self._slow)
            if OURS in self._wanted:
                self._add(OURS, ours, Gateway(ours))
            if BY_SOCKET in self._wanted:
                self._add(BY_SOCKET, ours, Socket(ours, self._place / "got"))
        if HASTY in self._wanted:
            settings = {"durability": "none"}
            hasty = AmpgridGrid(HASTY, self._place / "none", self._reactor, self._slow, **settings)
            self._add(HASTY, hasty, Gateway(hasty))
        for grid in self._grids:
            self._progress.step(f"starting the grid of {grid.name}")
            grid.start()
            self._progress.tell(f"the grid of {grid.name} is up")

    def _add(self, name: str, grid: Grid, way: Any) -> None:
        if grid not in self._grids:
            self._grids.append(grid)
        folder = self._place / f"files {len(self.systems)}"
        folder.mkdir()
        self.systems.append(System(name, grid, way, folder))

    def measure(self, work: Work, runs: int, warm_up: bool) -> None:
        """Do a work as often as it is asked for, by turns."""
        began = time.monotonic()
        for system in self.systems:
            self._progress.step(f"{work.name}: preparing, {system.name}")
            work.prepare(system)
        first = 0 if warm_up and not work.once else 1
        for run in range(first, 2 if work.once else runs + 1):
            for system in self._turn(work):
                which = f"run {run} of {runs}" if run else "warming up"
                if self._stopped():
                    raise KeyboardInterrupt
                self._progress.step(f"{work.name}: {which}, {system.name}")
                work.do(system, self.meter, run > 0)
        self._progress.tell(f"{work.name} ({time.monotonic() - began:.0f} s)")

    def _turn(self, work: Work) -> list[System]:
        """Return the systems that do a work: of a shared grid one, where it is about the grid."""
        if work.name not in {"idle", "start"}:
            return self.systems
        return [system for system in self.systems if system.name != BY_SOCKET]

    def stop(self) -> None:
        """Stop the grids."""
        for grid in self._grids:
            self._progress.step(f"stopping the grid of {grid.name}")
            grid.stop()


def machine() -> dict[str, Any]:
    """Return what it was measured on."""
    cores = len(os.sched_getaffinity(0))
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": cores,
        "memory_bytes": pages,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def verdicts_of(meter: Meter) -> list[Verdict]:
    """Return which goals hold."""
    return [
        *judge(SPEED_GOALS, meter.speed, OURS),
        *judge(MEMORY_GOALS, meter.memory, OURS),
    ]


def show(console: Console, meter: Meter, names: Sequence[str]) -> None:
    """Print everything."""
    tables = (
        ("Speed", meter.speed),
        ("Processor time of a run", meter.cpu),
        ("Memory", meter.memory),
    )
    for title, figures in tables:
        if figures.rows:
            console.print(figures_table(title, figures, names, TAHOE))
    verdicts = verdicts_of(meter)
    if verdicts:
        console.print(goals_table(verdicts))


def document(meter: Meter, options: argparse.Namespace, load: float) -> dict[str, Any]:
    """Return everything for JSON."""
    return {
        "versions": {OURS: __version__, TAHOE: VERSION},
        "machine": machine() | {"load_at_the_start": load},
        "runs": options.runs,
        "quick": options.quick,
        "slow": options.slow,
        "speed": meter.speed.to_json(),
        "cpu": meter.cpu.to_json(),
        "memory": meter.memory.to_json(),
        "goals": [verdict.to_json() for verdict in verdicts_of(meter)],
    }


def works_of(options: argparse.Namespace) -> list[Work]:
    """Return the works that are asked for.

    Raises:
        UsageError: one is asked for that there is not, or a size is none.
    """
    amounts = Amounts()
    if options.quick:
        amounts = Amounts((1_000_000, 10_000_000), 20, 10_000_000, 50, 20, 100)
    if options.large:
        amounts = evolve(amounts, sizes=(*amounts.sizes, _GB))
    if options.slow:
        link = Link(options.mbit, options.delay)
        works = slow_works(link, parse_size(options.slow_size), 5 if options.quick else 20)
    else:
        works = all_works(amounts)
    known = [work.name for work in works]
    for name in options.only:
        if name not in known:
            raise UsageError(f"there is no work {name!r} here; there are {', '.join(known)}")
    return [work for work in works if not options.only or work.name in options.only]


def compare(
    reactor: Any, stop: Stop, options: argparse.Namespace, works: Sequence[Work], console: Console
) -> tuple[Meter, list[str]]:
    """Measure; return what was measured, and what went wrong.

    A work that fails, and a user who wants no more, take nothing of what is there already.

    Raises:
        GridError: the grids did not come up.
    """
    link = Link(options.mbit, options.delay) if options.slow else None
    wanted = options.system or SYSTEMS
    problems: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="compare-", dir=options.folder) as place,
        Progress(console) as progress,
    ):
        comparison = Comparison(
            reactor, Path(place), wanted, progress, lambda: bool(stop.signal), link
        )
        try:
            comparison.start(options.tahoe_venv)
            for work in works:
                try:
                    comparison.measure(work, options.runs, not options.quick)
                except KeyboardInterrupt:
                    problems.append("interrupted")
                    break
                except Exception as error:
                    problems.append(f"{work.name}: {type(error).__name__}: {error}")
                    progress.tell(f"failed: {problems[-1]}")
            with suppress(GridError, OSError):
                # Of a process that has ended nothing can be told.
                note_peaks(comparison.systems, comparison.meter)
        finally:
            comparison.stop()
        return comparison.meter, problems


def arguments() -> argparse.ArgumentParser:
    """Return what may be said on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--runs", type=int, help="of each work, after one to warm up; default 5, --quick 1")
    add("--only", action="append", default=[], metavar="WORK", help="this work; may be repeated")
    add(
        "--system",
        action="append",
        choices=SYSTEMS,
        metavar="NAME",
        help=f"this one, of {', '.join(map(repr, SYSTEMS))}; may be repeated",
    )
    add("--quick", action="store_true", help="a try: little of each work, once")
    add("--large", action="store_true", help="also a file of 1 GB")
    add("--slow", action="store_true", help="through a slow link instead")
    add("--slow-size", default="100M", metavar="SIZE", help="of the file that goes through it")
    add("--mbit", type=float, default=20.0, help="of the slow link, a second each way")
    add("--delay", type=float, default=25.0, help="of the slow link, each way, milliseconds")
    add("--json", type=Path, metavar="FILE", help="write all figures there")
    add("--folder", help="where grids and files are made; default: the temporary directory")
    add(
        "--tahoe-venv",
        type=Path,
        default=default_home(),
        metavar="DIR",
        help="where Tahoe-LAFS is installed and kept (default: %(default)s)",
    )
    return parser


def read_arguments(words: Sequence[str] | None) -> tuple[argparse.Namespace, list[Work]]:
    """Return what was said on the command line, and the works that it asks for.

    Raises:
        SystemExit: it cannot be done; why was told, and the status is 2.
    """
    parser = arguments()
    options = parser.parse_args(words)
    if options.runs is None:
        options.runs = 1 if options.quick else 5
    if options.runs < 1 or options.mbit <= 0 or options.delay < 0:
        parser.error("--runs and --mbit are more than 0, and --delay not less")
    pages.check_places(parser, None, options.json)
    if options.folder is not None and not Path(options.folder).is_dir():
        parser.error(f"there is no directory {options.folder!r}; make it first")
    try:
        return options, works_of(options)
    except UsageError as error:
        parser.error(str(error))


def main(words: Sequence[str] | None = None) -> None:
    """Run it from the command line."""
    options, works = read_arguments(words)
    console = Console(stderr=True)
    load = os.getloadavg()[0]

    async def everything(reactor: Any, stop: Stop) -> tuple[Meter, list[str]]:
        done: tuple[Meter, list[str]] = await deferToThread(
            compare, reactor, stop, options, works, console
        )
        return done

    try:
        meter, problems = run_with_reactor(everything)
    except GridError as error:
        raise SystemExit(f"compare.py: {error}") from None
    screen = Console()
    if not screen.is_terminal:
        screen.width = _PAPER
    show(screen, meter, [name for name in SYSTEMS if name in (options.system or SYSTEMS)])
    if options.json is not None:
        told = document(meter, options, load) | {"problems": problems}
        options.json.write_text(json.dumps(told, indent=2) + "\n")
    if problems:
        raise SystemExit("compare.py: " + "; ".join(problems))


if __name__ == "__main__":
    main()
