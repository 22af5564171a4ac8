"""What an idle storage node has in memory, layer by layer.

    python -m tests.benchmarks.layers
    python -m tests.benchmarks.layers --seconds 10 --write docs/performance/README.md

Each layer is a process that has loaded what the one above it has, and a little more: bare
Python, what Twisted, TLS and the databases bring, the command line, and the modules of a storage
node. The last are the storage nodes of a grid (`tests.benchmarks.grids`) that have nothing to do,
and one of them after its user has put a file, which loads the client's half.
What is private is what no other process shares; so each layer is loaded twice at once, and the
libraries that a node shares with others are not counted as its own.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from twisted.internet.threads import deferToThread

from ampgrid.cli.reactor import Stop, run_with_reactor
from tests.benchmarks import pages
from tests.benchmarks.figures import short
from tests.benchmarks.grids import AmpgridGrid
from tests.benchmarks.measuring import environment, resident_memory, write_random

ROOT = Path(__file__).resolve().parents[2]
#: As the command does it: what Twisted imports for others waits until it is used.
_BEFORE = "from ampgrid.lazily import postpone; postpone('http', 'cookiejar')"
#: What is loaded one after the other.
LAYERS = (
    ("Python", ""),
    ("and attrs, Twisted, TLS", f"{_BEFORE}; import attrs; from twisted.internet import reactor"),
    ("and AMP", "import twisted.protocols.amp"),
    ("and SQLCipher", "import sqlcipher3.dbapi2"),
    ("and click", "import click"),
    ("and ampgrid's modules", "import ampgrid.cli.run, ampgrid.cli.reactor, ampgrid.node.node"),
)
_SECTION = "idle-layers"


def load(statements: str) -> tuple[int, int]:
    """Return what a process has that executed statements, in bytes: resident, and private."""
    program = f"{statements}\nprint(flush=True)\ninput()"
    words = [sys.executable, "-P", "-c", program]
    running = [
        subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(PYTHONPATH=str(ROOT)),
        )
        for _ in range(2)
    ]
    try:
        for each in running:
            assert each.stdout is not None
            if not each.stdout.readline():
                raise SystemExit(f"this could not be loaded: {statements}")
        return resident_memory(running[0].pid)
    finally:
        for each in running:
            each.communicate(b"\n")


def layers() -> Iterator[tuple[str, int, int]]:
    """Yield (layer, resident, private) of processes that load more and more, bytes."""
    statements = ""
    for name, more in LAYERS:
        statements += f"{more}\n"
        yield name, *load(statements)


def nodes(reactor: Any, seconds: float) -> Iterator[tuple[str, int, int]]:
    """Yield what storage nodes of a grid have: the median of all, and one that was asked."""
    with tempfile.TemporaryDirectory() as folder:
        grid = AmpgridGrid("idle", Path(folder) / "grid", reactor)
        try:
            grid.start()
            time.sleep(seconds)
            resident, private = zip(*map(resident_memory, grid.node_pids), strict=True)
            medians = round(statistics.median(resident)), round(statistics.median(private))
            yield "and running, idle", *medians
            _ask(grid, grid.node_names[0])
            yield "a node whose user has put a file", *resident_memory(grid.node_pids[0])
        finally:
            grid.stop()


def _ask(grid: AmpgridGrid, name: str) -> None:
    """Let a storage node put a file into a directory for its user, and list that."""
    words = grid.command(name)[: -len(["run", "--until-stdin-closes"])]
    file = grid.root / "file"
    write_random(file, 100_000)
    for asked in (["put", str(file), "private:file"], ["ls", "private:"]):
        subprocess.run(
            [*words, *asked], check=True, stdout=subprocess.DEVNULL, env=grid.environment()
        )


def rows(reactor: Any, seconds: float) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield the rows of the table: a layer, what it has, and what that is more, in MB."""
    before = (0, 0)
    for name, *found in chain(layers(), nodes(reactor, seconds)):
        more = [new - old for new, old in zip(found, before, strict=True)]
        before = (found[0], found[1])
        cells = [short(each / 1e6) for pair in zip(found, more, strict=True) for each in pair]
        yield name, cells[0], cells[1], cells[2], cells[3]


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="for which the grid is idle")
    parser.add_argument("--write", metavar="PAGE", type=Path, help="put the table into a page")
    options = parser.parse_args(words)
    pages.check_places(parser, options.write, None)

    async def work(reactor: Any, _stop: Stop) -> list[tuple[str, str, str, str, str]]:
        return await deferToThread(lambda: list(rows(reactor, options.seconds)))

    found = run_with_reactor(work)
    heads = ("layer", "RSS, MB", "more", "private, MB", "more")
    table = Table(title="An idle storage node")
    for head in heads:
        table.add_column(head, justify="left" if head == "layer" else "right")
    for row in found:
        table.add_row(*row)
    Console().print(table)
    if options.write is not None:
        pages.put(options.write, {_SECTION: pages.table(heads, found)})


if __name__ == "__main__":
    main()
