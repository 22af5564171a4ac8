"""One large directory on a grid of processes: filling it, one change, a listing, small files.

    python tests/benchmarks/big_directory.py --children 100000 --files 300

It starts a grid of five storage nodes, 3-of-5, and measures through the client's control socket:
how long it takes to link so many children (in large changes), then what one change costs in time
and in bytes on the loopback (all replicas, there and back, and what else the idle grid says), how
long a listing takes, the client's memory, and how many files of 1 kB a second are put into an
empty directory one after the other. The load of the machine is printed with the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
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

_LOOPBACK = Path("/sys/class/net/lo/statistics/tx_bytes")
_BATCH = 250
_CHANGES = 20


def peak_memory(pid: int) -> int:
    """Return the most memory that a process has had, bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def on_the_wire() -> int:
    """Return the bytes that went over the loopback since the machine was started."""
    return int(_LOOPBACK.read_text())


async def measure(call: Any, pid: int, children: int, files: int, folder: Path) -> dict[str, Any]:
    """Measure everything; returns the figures."""
    figures: dict[str, Any] = {"children": children}
    big = (await call(drive.MakeDirectory))["cap"]
    began = time.monotonic()
    for start in range(0, children, _BATCH):
        batch = [
            {"name": f"child {number:06}", "cap": LitCap(b"%d" % number).to_string()}
            for number in range(start, min(start + _BATCH, children))
        ]
        await call(drive.LinkChildren, path=big, children=json.dumps(batch))
    figures["fill_seconds"] = time.monotonic() - began
    took, moved = [], []
    for number in range(_CHANGES):
        before, began = on_the_wire(), time.monotonic()
        cap = LitCap(b"one more").to_string()
        await call(drive.LinkChild, path=f"{big}/change {number}", cap=cap)
        took.append(time.monotonic() - began)
        moved.append(on_the_wire() - before)
    figures["change_seconds"] = statistics.median(took)
    figures["change_seconds_most"] = max(took)
    figures["change_bytes"] = statistics.median(moved)
    figures["change_bytes_most"] = max(moved)
    began, listed, more = time.monotonic(), 0, {}
    while True:
        page = await call(drive.ListDirectory, path=big, **more)
        listed += len(json.loads(page["children"]))
        if not page["next"]:
            break
        more = {"start": page["next"]}
    figures["list_seconds"] = time.monotonic() - began
    figures["listed"] = listed
    figures["client_peak_bytes"] = peak_memory(pid)
    small = (await call(drive.MakeDirectory))["cap"]
    for number in range(files):
        (folder / str(number)).write_bytes(os.urandom(1000))
    began = time.monotonic()
    for number in range(files):
        await call(Upload, path=str(folder / str(number)), grid_path=f"{small}/{number}")
    figures["small_files_a_second"] = files / (time.monotonic() - began)
    figures["load"] = os.getloadavg()[0]
    return figures


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--children", type=int, default=100_000)
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

                pid = grid.processes["client"].pid
                return await measure(call, pid, options.children, options.files, folder)
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
