"""One large directory on a grid of processes: filling it, one change, a listing, small files.

    python tests/benchmarks/big_directory.py --children 100000 --files 300
    python tests/benchmarks/big_directory.py --children 100000 --child-bytes 1000

It starts a grid of five storage nodes, 3-of-5, and measures through the client's control socket:
how long it takes to link so many children (in large changes; files of ``--child-bytes``, which
their entries hold), then what one change costs in time and in bytes on the loopback (all replicas,
there and back, and what else the idle grid says), how long a listing takes, the client's memory,
and how many files of 1 kB a second are put into an empty directory one after the other. Such a
file is held by its entry; so the same is done with files that are put and linked nowhere, which
get shares, and with caps of these that are then linked. Each of the three is told in files a
second and in processor time a file, user and system, summed over all processes of the grid and
apart for the client: on a machine that others use too, that is what can be compared. The load of
the machine is printed with the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from ampgrid.caps import LitCap
from ampgrid.cli.reactor import run_with_reactor
from ampgrid.commands import drive
from ampgrid.commands.control import Upload
from ampgrid.node.config import EncodingParameters
from ampgrid.node.local_grid import LocalGrid
from ampgrid.wire.unixsocket import connect_control
from tests.benchmarks.measuring import cpu_seconds, peak_memory

_LOOPBACK = Path("/sys/class/net/lo/statistics/tx_bytes")
#: Children that are linked in one step at most, and bytes of JSON; a Command takes 62,000.
_MOST_STEP = 250
_STEP_BYTES = 60_000
_CHANGES = 20


def on_the_wire() -> int:
    """Return the bytes that went over the loopback since the machine was started."""
    return int(_LOOPBACK.read_text())


class Costs:
    """What one kind of work costs a file.

    Args:
        pids: of the grid's processes, by name.
    """

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids

    def _cpu(self) -> dict[str, float]:
        return {name: cpu_seconds([pid]) for name, pid in self._pids.items()}

    async def of(self, name: str, files: int, one: Callable[[int], Any]) -> dict[str, float]:
        """Do ``one`` for each number of a file in turn; returns the figures of ``name``."""
        before, began = self._cpu(), time.monotonic()
        for number in range(files):
            await one(number)
        took, after = time.monotonic() - began, self._cpu()
        spent = {process: (after[process] - before[process]) * 1000 / files for process in after}
        return {
            f"{name}_a_second": files / took,
            f"{name}_cpu_ms": sum(spent.values()),
            f"{name}_client_cpu_ms": spent["client"],
        }


async def measure_small(
    call: Any, pids: dict[str, int], files: int, folder: Path
) -> dict[str, float]:
    """Measure small files that are put into a directory, only put, and only linked."""
    costs = Costs(pids)
    for number in range(2 * files):
        (folder / str(number)).write_bytes(os.urandom(1000))
    both = (await call(drive.MakeDirectory))["cap"]
    links = (await call(drive.MakeDirectory))["cap"]
    caps: list[str] = []

    async def put_and_link(number: int) -> None:
        await call(Upload, path=str(folder / str(number)), grid_path=f"{both}/{number}")

    async def put(number: int) -> None:
        caps.append((await call(Upload, path=str(folder / str(files + number))))["cap"])

    async def link(number: int) -> None:
        await call(drive.LinkChild, path=f"{links}/{number}", cap=caps[number])

    return {
        **await costs.of("small_files", files, put_and_link),
        **await costs.of("small_puts", files, put),
        **await costs.of("links", files, link),
    }


async def fill(call: Any, directory: str, first: int, end: int, size: int = 6) -> float:
    """Link children of ``size`` bytes, numbered from ``first`` to before ``end``.

    Returns:
        The seconds it took.
    """
    began = time.monotonic()
    step = min(_MOST_STEP, _STEP_BYTES // (2 * size + 100))
    for start in range(first, end, step):
        batch = [
            {"name": f"child {number:06}", "cap": LitCap(b"%0*d" % (size, number)).to_string()}
            for number in range(start, min(start + step, end))
        ]
        await call(drive.LinkChildren, path=directory, children=json.dumps(batch))
    return time.monotonic() - began


async def change(call: Any, directory: str, count: int) -> tuple[list[float], list[int]]:
    """Link or replace one child so many times; returns seconds and bytes on the wire of each."""
    took, moved = [], []
    for number in range(count):
        before, began = on_the_wire(), time.monotonic()
        cap = LitCap(os.urandom(8)).to_string()
        await call(drive.LinkChild, path=f"{directory}/change {number}", cap=cap)
        took.append(time.monotonic() - began)
        moved.append(on_the_wire() - before)
    return took, moved


async def read(call: Any, directory: str) -> tuple[float, int]:
    """List all of a directory; returns the seconds it took and the number of children."""
    began, listed, more = time.monotonic(), 0, {}
    while True:
        page = await call(drive.ListDirectory, path=directory, **more)
        listed += len(json.loads(page["children"]))
        if not page["next"]:
            return time.monotonic() - began, listed
        more = {"start": page["next"]}


async def measure(
    call: Any, pids: dict[str, int], children: int, files: int, folder: Path, size: int
) -> dict[str, Any]:
    """Measure everything; returns the figures."""
    figures: dict[str, Any] = {"children": children}
    big = (await call(drive.MakeDirectory))["cap"]
    figures["fill_seconds"] = await fill(call, big, 0, children, size)
    took, moved = await change(call, big, _CHANGES)
    figures["change_seconds"] = statistics.median(took)
    figures["change_seconds_most"] = max(took)
    figures["change_bytes"] = statistics.median(moved)
    figures["change_bytes_most"] = max(moved)
    figures["list_seconds"], figures["listed"] = await read(call, big)
    figures["client_peak_bytes"] = peak_memory(pids["client"])
    figures.update(await measure_small(call, pids, files, folder))
    figures["load"] = os.getloadavg()[0]
    return figures


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--children", type=int, default=100_000)
    parser.add_argument("--child-bytes", type=int, default=6)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "files"
        folder.mkdir()

        async def everything(reactor: Any, _stop: Any) -> dict[str, Any]:
            shares = EncodingParameters(3, 5, 5)
            grid = LocalGrid(reactor, Path(place) / "grid", 5, shares, lambda _: None)
            await grid.start()
            try:
                connection = await connect_control(reactor, grid.client.socket_path)

                async def call(command: Any, **arguments: Any) -> dict[str, Any]:
                    answer = await connection.call(command, deadline=120.0, **arguments)
                    return dict(answer)

                pids = {name: process.pid for name, process in grid.processes.items()}
                return await measure(
                    call, pids, options.children, options.files, folder, options.child_bytes
                )
            finally:
                await grid.stop()

        figures = run_with_reactor(everything)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name}: {value:,.4g}" if isinstance(value, float) else f"{name}: {value:,}")


if __name__ == "__main__":
    main()
