"""How cost grows: with the size of a file, the number of shares, of peers, and of children.

    python -m tests.benchmarks.scale
    python -m tests.benchmarks.scale --quick --only files --only shares
    python -m tests.benchmarks.scale --write docs/performance

Each is measured on a grid of its own, on this machine, through the client's control socket, and
told as a table; with ``--write`` tables and plots go into the page ``scale.md`` of that directory.

* ``files``: from 1 kB to 1 GB, at 3-of-5 on five nodes;
* ``shares``: 10 MB at 3-of-5, 3-of-10, 10-of-30 and 25-of-100, on 25 nodes in two processes;
* ``peers``: 5 to 100 storage nodes in five processes (`tests.benchmarks.crowd`), always 3-of-5;
* ``directories``: 10 to 100,000 children (`tests.benchmarks.big_directory`).

Times are the median of the runs, processor times the mean, over the client and all storage nodes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table
from twisted.internet.task import deferLater

from ampgrid.cli.reactor import run_with_reactor
from ampgrid.commands.drive import MakeDirectory
from ampgrid.node.config import EncodingParameters
from ampgrid.node.local_grid import LocalGrid
from ampgrid.wire import connect_control
from tests.benchmarks import big_directory, pages
from tests.benchmarks.amounts import MB
from tests.benchmarks.crowd import Crowd
from tests.benchmarks.figures import short
from tests.benchmarks.measuring import cpu_seconds, forget_peak, peak_memory, resident_memory
from tests.benchmarks.series import Panel, Series, draw
from tests.benchmarks.transfer import Transfers

SHARES = EncodingParameters(3, 5, 5)
_PAGE = "scale.md"


@attrs.frozen
class Plan:
    """How much is measured.

    Attributes:
        files: (size in bytes, runs that count) of each; 0 runs: one, without warming up.
        codes: the encodings.
        code_nodes: storage nodes that these are tried on, a number a process.
        code_mb: the file that they are tried with, MB.
        code_runs: runs of that.
        peers: numbers of storage nodes, rising.
        peer_runs: runs of a file of 1 kB and of one of 10 MB.
        children: numbers of children, rising.
        changes: changes of each directory.
    """

    files: Sequence[tuple[int, int]] = (
        (1_000, 40),
        (10_000, 40),
        (100_000, 20),
        (1_000_000, 10),
        (10_000_000, 5),
        (100_000_000, 3),
        (1_000_000_000, 0),
    )
    codes: Sequence[EncodingParameters] = (
        EncodingParameters(3, 5, 5),
        EncodingParameters(3, 7, 10),
        EncodingParameters(10, 20, 30),
        EncodingParameters(25, 25, 100),
    )
    code_nodes: Sequence[int] = (12, 13)
    code_mb: int = 10
    code_runs: int = 5
    peers: Sequence[int] = (5, 10, 25, 50, 100)
    peer_runs: tuple[int, int] = (20, 3)
    children: Sequence[int] = (10, 100, 1_000, 10_000, 100_000)
    changes: int = 20


QUICK = Plan(
    files=((1_000, 3), (100_000, 3), (10_000_000, 1)),
    code_nodes=(10,),
    codes=(EncodingParameters(3, 5, 5), EncodingParameters(25, 10, 100)),
    code_mb=2,
    code_runs=1,
    peers=(5, 10),
    peer_runs=(3, 1),
    children=(10, 100, 1_000),
    changes=5,
)


@asynccontextmanager
async def _small_grid(reactor: Any, folder: Path) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
    """Give a connection to the client of five nodes, and process ids by group."""
    grid = LocalGrid(reactor, folder / "grid", 5, SHARES, lambda _: None)
    ready = await grid.start()
    try:
        client = await connect_control(reactor, grid.client.socket_path)
        nodes = [node["pid"] for node in ready["nodes"]]
        yield client, {"client": [ready["client"]["pid"]], "nodes": nodes}
    finally:
        await grid.stop()


@asynccontextmanager
async def _crowd(reactor: Any, folder: Path) -> AsyncIterator[Crowd]:
    crowd = Crowd(reactor, folder)
    try:
        await crowd.start()
        yield crowd
    finally:
        await crowd.stop()


def _groups(crowd: Crowd) -> dict[str, list[int]]:
    return {"client": [crowd.client_pid], "nodes": crowd.server_pids}


def _encoding(shares: EncodingParameters) -> dict[str, int]:
    return {"needed": shares.needed, "happy": shares.happy, "total": shares.total}


class Columns:
    """Columns of a table, filled row by row."""

    def __init__(self) -> None:
        self.columns: dict[str, list[float]] = {}

    def add(self, **row: float) -> None:
        """Add a row; the names are those of the columns, with ``_`` for a blank."""
        for name, value in row.items():
            self.columns.setdefault(name, []).append(value)

    def named(self, names: Mapping[str, str]) -> dict[str, list[float]]:
        """Return the columns under the names that readers see, in their order."""
        return {title: self.columns[name] for name, title in names.items()}


def _costs(transfers: Transfers, size: int) -> dict[str, float]:
    """Return what up and down cost: seconds, MB/s, CPU seconds."""
    found: dict[str, float] = {}
    for what, short_name in (("upload", "up"), ("download", "down")):
        took = statistics.median(transfers.seconds[what])
        cpu = sum(statistics.mean(transfers.cpu[what, who]) for who in ("client", "nodes"))
        found[f"{short_name}_ms"] = 1000 * took
        found[f"{short_name}_rate"] = size / MB / took
        found[f"{short_name}_cpu"] = 1000 * cpu
    return found


async def files(reactor: Any, plan: Plan, folder: Path) -> Series:
    """Measure files of growing size."""
    columns = Columns()
    async with _small_grid(reactor, folder) as (client, groups):
        (pid,) = groups["client"]
        for size, runs in plan.files:
            forget_peak(pid)
            transfers = Transfers(client, groups, size)
            await transfers.run(runs, folder)
            costs = _costs(transfers, size)
            columns.add(**costs, peak=peak_memory(pid) / MB)
    titles = {
        "up_ms": "put, ms",
        "down_ms": "get, ms",
        "up_rate": "put, MB/s",
        "down_rate": "get, MB/s",
        "up_cpu": "put, CPU ms",
        "down_cpu": "get, CPU ms",
        "peak": "client's peak, MB",
    }
    panels = [
        Panel("ms", ["put, ms", "get, ms"], log=True),
        Panel("MB/s", ["put, MB/s", "get, MB/s"]),
        Panel("MB", ["client's peak, MB"]),
    ]
    sizes = [size for size, _ in plan.files]
    return Series("files", "size, bytes", sizes, columns.named(titles), panels)


async def shares(reactor: Any, plan: Plan, folder: Path) -> Series:
    """Measure one file at several encodings."""
    columns, size = Columns(), int(plan.code_mb * MB)
    async with _crowd(reactor, folder) as crowd:
        for count in plan.code_nodes:
            await crowd.grow(count)
        for code in plan.codes:
            transfers = Transfers(crowd.client, _groups(crowd), size, _encoding(code))
            await transfers.run(plan.code_runs, folder)
            costs = _costs(transfers, size)
            for name in ("up_cpu", "down_cpu"):
                costs[name] /= plan.code_mb
            columns.add(**costs)
    titles = {
        "up_rate": "put, MB/s",
        "down_rate": "get, MB/s",
        "up_cpu": "put, CPU ms a MB",
        "down_cpu": "get, CPU ms a MB",
    }
    panels = [
        Panel("MB/s", ["put, MB/s", "get, MB/s"]),
        Panel("CPU ms a MB", ["put, CPU ms a MB", "get, CPU ms a MB"]),
    ]
    codes = [f"{code.needed}-of-{code.total}" for code in plan.codes]
    return Series("shares", "encoding", codes, columns.named(titles), panels)


async def peers(reactor: Any, plan: Plan, folder: Path) -> Series:
    """Measure the same work on more and more storage nodes."""
    columns, before = Columns(), 0
    async with _crowd(reactor, folder) as crowd:
        for count in plan.peers:
            began = time.perf_counter()
            await crowd.grow(count - before)
            meeting, before = time.perf_counter() - began, count
            columns.add(meeting=meeting, **await _work(reactor, plan, crowd, folder))
    titles = {
        "small": "put 1 kB, ms",
        "small_get": "get 1 kB, ms",
        "up": "put 10 MB, MB/s",
        "down": "get 10 MB, MB/s",
        "memory": "client's memory, MB",
        "node_memory": "memory a node, MB",
        "idle": "idle CPU ms a second, all",
        "meeting": "all met after, s",
    }
    panels = [
        Panel("ms", ["put 1 kB, ms", "get 1 kB, ms"]),
        Panel("MB/s", ["put 10 MB, MB/s", "get 10 MB, MB/s"]),
        Panel("MB", ["client's memory, MB", "memory a node, MB"]),
    ]
    return Series("peers", "storage nodes", list(plan.peers), columns.named(titles), panels)


async def _work(reactor: Any, plan: Plan, crowd: Crowd, folder: Path) -> dict[str, float]:
    """Return what small and large files cost here, and what it costs to do nothing."""
    groups, found = _groups(crowd), []
    for size, runs in zip((1_000, 10_000_000), plan.peer_runs, strict=True):
        transfers = Transfers(crowd.client, groups, size, _encoding(SHARES))
        await transfers.run(runs, folder)
        found.append(_costs(transfers, size))
    pids = [pid for group in groups.values() for pid in group]
    before, began = cpu_seconds(pids), time.perf_counter()
    await deferLater(reactor, 3)
    idle = (cpu_seconds(pids) - before) / (time.perf_counter() - began)
    nodes = sum(resident_memory(pid)[0] for pid in crowd.server_pids)
    return {
        "small": found[0]["up_ms"],
        "small_get": found[0]["down_ms"],
        "up": found[1]["up_rate"],
        "down": found[1]["down_rate"],
        "memory": resident_memory(crowd.client_pid)[0] / MB,
        "node_memory": nodes / crowd.size / MB,
        "idle": 1000 * idle,
    }


async def directories(reactor: Any, plan: Plan, folder: Path) -> Series:
    """Measure one directory that grows."""
    columns, before = Columns(), 0
    async with _small_grid(reactor, folder) as (client, _):

        async def call(command: Any, **arguments: Any) -> dict[str, Any]:
            answer: dict[str, Any] = await client.call(command, deadline=120.0, **arguments)
            return answer

        directory = (await call(MakeDirectory))["cap"]
        for count in plan.children:
            filled = await big_directory.fill(call, directory, before, count)
            took, moved = await big_directory.change(call, directory, plan.changes)
            listing, _listed = await big_directory.read(call, directory)
            columns.add(
                change=1000 * statistics.median(took),
                moved=statistics.median(moved) / 1000,
                fill=(count - before) / filled,
                listing=listing,
            )
            before = count
    titles = {
        "change": "one change, ms",
        "moved": "one change, kB sent",
        "fill": "children linked a second",
        "listing": "whole listing, s",
    }
    panels = [
        Panel("ms", ["one change, ms"]),
        Panel("kB", ["one change, kB sent"]),
        Panel("s", ["whole listing, s"], log=True),
    ]
    return Series("directories", "children", list(plan.children), columns.named(titles), panels)


EXPERIMENTS: dict[str, Callable[[Any, Plan, Path], Awaitable[Series]]] = {
    "files": files,
    "shares": shares,
    "peers": peers,
    "directories": directories,
}


def show(series: Series, console: Console) -> None:
    """Print a table."""
    table = Table(title=series.name, title_justify="left")
    for head in (series.over, *series.columns):
        table.add_column(head, justify="right")
    for row in series.rows():
        table.add_row(*(short(cell) if isinstance(cell, float) else str(cell) for cell in row))
    console.print(table)


def write(found: Sequence[Series], machine: Mapping[str, str], folder: Path) -> None:
    """Write tables into the page of a directory, and plots beside it."""
    sections = {series.name: series.section() for series in found}
    sections["machine"] = pages.table(["", ""], list(machine.items()))
    pages.put(folder / _PAGE, sections)
    for series in found:
        draw(series, folder / series.file_name)


def main(words: Sequence[str] | None = None) -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little of each, to try it")
    parser.add_argument(
        "--only",
        action="append",
        choices=EXPERIMENTS,
        metavar="NAME",
        help=f"this one, of {', '.join(EXPERIMENTS)}; may be repeated",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there")
    parser.add_argument("--write", type=Path, metavar="DIR", help=f"write {_PAGE} and plots")
    parser.add_argument("--work", help="a directory to work in")
    options = parser.parse_args(words)
    pages.check_places(parser, options.write and options.write / _PAGE, options.json)
    if options.write and find_spec("matplotlib") is None:
        parser.error("--write draws plots with matplotlib; install ampgrid with [benchmarks]")
    plan, machine = QUICK if options.quick else Plan(), pages.machine()
    console, found = Console(), []

    async def everything(reactor: Any, _stop: Any) -> None:
        for name in options.only or EXPERIMENTS:
            with tempfile.TemporaryDirectory(dir=options.work) as folder:
                began = time.monotonic()
                found.append(await EXPERIMENTS[name](reactor, plan, Path(folder)))
            show(found[-1], console)
            sys.stderr.write(f"{name} took {time.monotonic() - began:.0f} s\n")

    run_with_reactor(everything)
    if options.json is not None:
        told = {"machine": machine, **{series.name: series.to_json() for series in found}}
        options.json.write_text(json.dumps(told, indent=2) + "\n")
    if options.write is not None:
        write(found, machine, options.write)


if __name__ == "__main__":
    main()
