"""Time uploads and downloads of one size on a running local grid, through the control socket.

    ampgrid grid DIR --nodes 5 --shares 3/5/5 &
    python tests/benchmarks/transfer.py DIR --size 100M --runs 5

Every run uploads fresh random bytes from a file and downloads them to a file; the median is
printed, with the spread, and the peak memory of the client node and of the storage nodes.
"""

import argparse
import filecmp
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from twisted.internet.task import react

from ampgrid.commands.control import Download, GetMemoryUsage, Upload, WaitForPeers
from ampgrid.node.sizes import parse_size
from ampgrid.wire import connect_control


def write_random(path, size):
    """Write ``size`` random bytes."""
    with path.open("wb") as file:
        while size:
            piece = os.urandom(min(size, 1 << 20))
            file.write(piece)
            size -= len(piece)


def show(what, size, seconds):
    """Print the median speed and its spread."""
    speeds = sorted(size / 1e6 / s for s in seconds)
    median = statistics.median(speeds)
    print(f"{what:<9} {median:8.1f} MB/s   ({speeds[0]:.1f} to {speeds[-1]:.1f})")


def cpu_seconds(pids):
    """Return the CPU time that processes have used so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def main(reactor, options):
    """Measure."""
    size = parse_size(options.size)
    ready = json.loads((options.grid / "ready.json").read_text())
    client = await connect_control(reactor, options.grid / "client" / "ampgrid.sock")
    await client.call(WaitForPeers, count=len(ready["nodes"]))
    up, down = [], []
    groups = {"client": [ready["client"]["pid"]], "nodes": [n["pid"] for n in ready["nodes"]]}
    used = {(what, who): [] for what in ("upload", "download") for who in groups}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        original, copy = Path(folder) / "original", Path(folder) / "copy"
        for run in range(options.runs + 1):
            write_random(original, size)
            cpu = [{who: cpu_seconds(pids) for who, pids in groups.items()}]
            began = time.perf_counter()
            uploaded = await client.call(Upload, deadline=None, path=str(original))
            middle = time.perf_counter()
            cpu.append({who: cpu_seconds(pids) for who, pids in groups.items()})
            await client.call(Download, deadline=None, cap=uploaded["cap"], path=str(copy))
            ended = time.perf_counter()
            cpu.append({who: cpu_seconds(pids) for who, pids in groups.items()})
            if not filecmp.cmp(original, copy, shallow=False):
                raise SystemExit("the copy differs")
            if run or not options.runs:  # the first is for warming up
                up.append(middle - began)
                down.append(ended - middle)
                for step, what in enumerate(("upload", "download")):
                    for who in groups:
                        used[what, who].append(cpu[step + 1][who] - cpu[step][who])
    show("upload", size, up)
    show("download", size, down)
    for (what, who), seconds in used.items():
        print(f"{what:<9} {statistics.median(seconds):8.2f} CPU seconds of {who}")
    for name in ("client", "node1"):
        node = await connect_control(reactor, options.grid / name / "ampgrid.sock")
        memory = await node.call(GetMemoryUsage)
        peak, now = memory["vm_hwm"] / 1e6, memory["vm_rss"] / 1e6
        print(f"{name:<9} {peak:8.1f} MB at its peak, now {now:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grid", type=Path)
    parser.add_argument("--size", default="100M")
    parser.add_argument("--runs", type=int, default=5, help="0: one, without warming up")
    parser.add_argument("--folder", help="where the files are made")
    react(main, [parser.parse_args()])
