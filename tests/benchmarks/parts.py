"""The limit of the parts, and how near the whole comes to it.

    python -m tests.benchmarks.parts
    python -m tests.benchmarks.parts --quick --json parts.json
    python -m tests.benchmarks.parts --write docs/performance

One run, one machine, so that ratios mean something: hashing, ciphering and coding
(`tests.benchmarks.kernels`); streams, calls and handshakes between two processes
(`tests.benchmarks.streams`); what a disk and its databases take (`tests.benchmarks.disks`). From
these the bounds of an upload and a download at 3-of-5 are computed as `tests.benchmarks.bound`
says: cores over the processor seconds a MB, summed over the client and all nodes; and the same
with the parts that cannot be spread. Then a grid of five nodes is started, a file is uploaded and
downloaded through the client's socket (`tests.benchmarks.transfer`), and the ratio of each to its
bound is told. Last the start of the command: ``ampgrid --version``, and ``ampgrid ls`` against
that grid.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table

from ampgrid.cli.reactor import run_with_reactor
from ampgrid.node.config import EncodingParameters
from ampgrid.node.local_grid import LocalGrid
from ampgrid.wire import connect_control
from tests.benchmarks import bound, disks, kernels, launches, pages, streams
from tests.benchmarks.amounts import MB, Amount
from tests.benchmarks.figures import Figures, Goal, Row, Verdict, goals_table, judge, short
from tests.benchmarks.transfer import Transfers

NODES = 5
SHARES = EncodingParameters(3, 5, 5)
_US = "ampgrid"
_PAGE = "parts.md"
GOALS = (
    Goal("WriteShare stream", 0.6, "least", to_name="tls stream"),
    Goal("encode 25-of-100, isal", 10, "least", to_name="encode 25-of-100, zfec"),
    Goal("decode 25-of-100, isal", 10, "least", to_name="decode 25-of-100, zfec"),
    Goal("upload", 0.8, "least", to_name="upload bound", asked=0.7),
    Goal("ampgrid --version, seconds", 0.15, "below"),
    Goal("ampgrid ls, seconds", 0.4, "below"),
)


@attrs.frozen
class Plan:
    """How much is measured.

    Attributes:
        kernel_seconds: for each kind of computing.
        disk_seconds: for each kind of storing.
        streams: see `streams.Sizes`.
        whole_mb: size of the file, in millions of bytes.
        runs: uploads and downloads that count.
        launches: runs of each command.
    """

    kernel_seconds: float = 0.5
    disk_seconds: float = 1.0
    streams: streams.Sizes = attrs.field(factory=streams.Sizes)
    whole_mb: int = 100
    runs: int = 5
    launches: int = launches.RUNS


QUICK = Plan(0.05, 0.1, streams.Sizes(40, 1, 1_000, 10), 20, 1, 2)


@attrs.frozen
class Measured:
    """All that was measured.

    Attributes:
        machine: see `pages.machine`.
        parts: by name.
        bounds: ``upload`` and ``download``.
        whole: the same, as a grid does them: MB/s, and the processor seconds of all nodes a MB.
    """

    machine: Mapping[str, str]
    parts: Mapping[str, Amount]
    bounds: Mapping[str, bound.Bound]
    whole: Mapping[str, Amount]

    def figures(self) -> Figures:
        """Return what goals are about."""
        figures = Figures()

        def add(name: str, unit: str, value: float) -> None:
            figures.add(Row(name, unit), _US, value)

        for name, part in self.parts.items():
            if part.unit == "runs":
                figures.add(Row(f"{name}, seconds", "s", "less"), _US, 1 / part.rate)
            else:
                add(name, f"{part.unit}/s", part.rate)
        for name, limit in self.bounds.items():
            add(f"{name} bound", "MB/s", limit.rate)
            add(f"{name} bound, serial parts", "MB/s", limit.serial_rate)
            add(name, "MB/s", self.whole[name].rate)
        return figures

    def verdicts(self) -> list[Verdict]:
        """Return the goals, and whether they hold."""
        return judge(GOALS, self.figures(), _US)

    def to_json(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {
            "machine": dict(self.machine),
            "parts": {name: part.to_json() for name, part in self.parts.items()},
            "bounds": {name: limit.to_json() for name, limit in self.bounds.items()},
            "whole": {name: whole.to_json() for name, whole in self.whole.items()},
            "goals": [verdict.to_json() for verdict in self.verdicts()],
        }


def _pieces_rows(limit: bound.Bound) -> list[list[Any]]:
    """Return a row for each piece, dearest first: what, who, times, and its part of it all."""
    pieces = sorted(limit.pieces, key=lambda piece: -piece.seconds)
    return [
        [piece.name, piece.where, piece.times, 1000 * piece.seconds, piece.seconds / limit.cpu]
        for piece in pieces
    ]


def _part_rows(measured: Measured) -> list[list[Any]]:
    return [
        [name, f"{short(part.rate)} {part.unit}/s", 1e6 * part.cpu]
        for name, part in measured.parts.items()
    ]


def _whole_rows(measured: Measured) -> list[list[Any]]:
    rows = []
    for name, limit in measured.bounds.items():
        whole = measured.whole[name]
        ratios = [whole.rate / limit.rate, whole.rate / limit.serial_rate]
        costs = [1000 * limit.cpu, 1000 * whole.cpu]
        rows.append(
            [name, whole.rate, limit.rate, ratios[0], limit.serial_rate, ratios[1], *costs]
        )
    return rows


_WHOLE = (
    "",
    "whole, MB/s",
    "bound, MB/s",
    "whole / bound",
    "bound, serial parts",
    "whole / that",
    "CPU ms a MB, parts",
    "CPU ms a MB, whole",
)
_PART = ("part", "rate", "CPU µs each")
_PIECE = ("", "who", "times", "CPU ms a MB", "of all")


def sections(measured: Measured) -> dict[str, str]:
    """Return what is written into the page."""
    goals = [
        [verdict.goal.what(), verdict.goal.line(verdict.number), verdict.word()]
        for verdict in measured.verdicts()
    ]
    return {
        "machine": pages.table(["", ""], list(measured.machine.items())),
        "parts": pages.table(_PART, _part_rows(measured)),
        "whole": pages.table(_WHOLE, _whole_rows(measured)),
        "upload": pages.table(_PIECE, _pieces_rows(measured.bounds["upload"])),
        "download": pages.table(_PIECE, _pieces_rows(measured.bounds["download"])),
        "goals": pages.table(["goal", "", "holds"], goals),
    }


def show(measured: Measured, console: Console) -> None:
    """Print all of it."""
    tables = [
        ("Parts", _PART, _part_rows(measured)),
        ("An upload at 3-of-5", _PIECE, _pieces_rows(measured.bounds["upload"])),
        ("A download at 3-of-5", _PIECE, _pieces_rows(measured.bounds["download"])),
        ("The whole", _WHOLE, _whole_rows(measured)),
    ]
    for title, heads, rows in tables:
        table = Table(title=title, title_justify="left")
        for number, head in enumerate(heads):
            table.add_column(head, justify="right" if number else "left")
        for row in rows:
            table.add_row(*(short(c) if isinstance(c, float | int) else str(c) for c in row))
        console.print(table)
    console.print(goals_table(measured.verdicts()))


def _amount(transfers: Transfers, what: str, size: int) -> Amount:
    """Return the medians of uploads or downloads, the client ``here`` and the nodes ``there``."""
    here, there = (
        statistics.median(transfers.cpu[what, who]) / size * MB for who in ("client", "nodes")
    )
    rate = size / MB / statistics.median(transfers.seconds[what])
    return Amount(rate, "MB", here + there, here, there)


async def _whole(
    reactor: Any, plan: Plan, folder: Path
) -> tuple[dict[str, Amount], dict[str, Amount]]:
    """Return uploads and downloads of a grid, and how long a command at it takes."""
    grid = LocalGrid(reactor, folder / "grid", NODES, SHARES, lambda _: None)
    ready = await grid.start()
    try:
        client = await connect_control(reactor, grid.client.socket_path)
        nodes = [node["pid"] for node in ready["nodes"]]
        size = int(plan.whole_mb * MB)
        groups = {"client": [ready["client"]["pid"]], "nodes": nodes}
        transfers = Transfers(client, groups, size)
        await transfers.run(plan.runs, folder)
        whole = {what: _amount(transfers, what, size) for what in transfers.seconds}
        words = ["-d", str(grid.client.path), "ls", "private:"]
        return whole, {"ampgrid ls": launches.measure(words, plan.launches)}
    finally:
        await grid.stop()


async def measure(reactor: Any, plan: Plan, folder: Path) -> Measured:
    """Measure all of it, in an existing folder."""
    machine = pages.machine()
    parts = kernels.measure(plan.kernel_seconds)
    parts.update(disks.measure(folder, plan.disk_seconds))
    parts.update(await streams.measure(reactor, plan.streams))
    parts["ampgrid --version"] = launches.measure(["--version"], plan.launches)
    whole, commands = await _whole(reactor, plan, folder)
    parts.update(commands)
    k, n = SHARES.needed, SHARES.total
    bounds = {
        "upload": bound.upload(parts, k, n, pages.cores()),
        "download": bound.download(parts, k, n, pages.cores()),
    }
    return Measured(machine, parts, bounds, whole)


def main(words: Sequence[str] | None = None) -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little of each, to try it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there")
    parser.add_argument("--write", type=Path, metavar="DIR", help=f"write tables into {_PAGE}")
    parser.add_argument("--work", help="a directory to work in")
    options = parser.parse_args(words)
    pages.check_places(parser, options.write and options.write / _PAGE, options.json)

    async def everything(reactor: Any, _stop: Any) -> Measured:
        with tempfile.TemporaryDirectory(dir=options.work) as folder:
            return await measure(reactor, QUICK if options.quick else Plan(), Path(folder))

    measured = run_with_reactor(everything)
    show(measured, Console())
    if options.json is not None:
        options.json.write_text(json.dumps(measured.to_json(), indent=2) + "\n")
    if options.write is not None:
        pages.put(options.write / _PAGE, sections(measured))


if __name__ == "__main__":
    main()
