"""Time uploads and downloads of one size on a running local grid, through the control socket.

    ampgrid grid DIR --nodes 5 --shares 3/5/5 &
    python tests/benchmarks/transfer.py DIR --size 100M --runs 5

Every run uploads fresh random bytes from a file and downloads them to a file; the median is
printed, with the spread, and the peak memory of the client node and of the storage nodes.
"""

import argparse
import filecmp
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from twisted.internet.task import react

from ampgrid.commands.control import Download, GetMemoryUsage, Upload, WaitForPeers
from ampgrid.node.sizes import parse_size
from ampgrid.wire import connect_control
from tests.benchmarks.measuring import cpu_seconds, write_random


def show(what, size, seconds):
    """Print the median speed and its spread."""
    speeds = sorted(size / 1e6 / s for s in seconds)
    median = statistics.median(speeds)
    print(f"{what:<9} {median:8.1f} MB/s   ({speeds[0]:.1f} to {speeds[-1]:.1f})")


class Transfers:
    """Uploads and downloads of one size, and what they took, one number a run.

    Args:
        client: a connection to the client's control socket.
        groups: process ids by who they are, ``client`` and ``nodes``.
        size: of the file, bytes.
        encoding: arguments of `Upload` beside the path; nothing for what the grid advises.

    Attributes:
        seconds: of each run, by ``upload`` and ``download``.
        cpu: processor seconds of each run, by (``upload`` or ``download``, group).
    """

    def __init__(self, client, groups, size, encoding=None):
        self._client = client
        self._groups = groups
        self._size = size
        self._encoding = encoding or {}
        self.seconds = {"upload": [], "download": []}
        self.cpu = {(what, who): [] for what in self.seconds for who in groups}

    def _used(self):
        return {who: cpu_seconds(pids) for who, pids in self._groups.items()}

    async def _one(self, what, note, command, **arguments):
        before, began = self._used(), time.perf_counter()
        answer = await self._client.call(command, deadline=None, **arguments)
        took, after = time.perf_counter() - began, self._used()
        if note:
            self.seconds[what].append(took)
            for who, used in after.items():
                self.cpu[what, who].append(used - before[who])
        return answer

    async def run(self, runs, folder):
        """Upload and download so many times, after one to warm up; with 0 just that one."""
        original, copy = Path(folder) / "original", Path(folder) / "copy"
        for run in range(runs + 1):
            note = bool(run or not runs)
            write_random(original, self._size)
            uploaded = await self._one(
                "upload", note, Upload, path=str(original), **self._encoding
            )
            arguments = {"cap": uploaded["cap"], "path": str(copy)}
            await self._one("download", note, Download, **arguments)
            if not filecmp.cmp(original, copy, shallow=False):
                raise SystemExit("the copy differs")


async def main(reactor, options):
    """Measure."""
    size = parse_size(options.size)
    ready = json.loads((options.grid / "ready.json").read_text())
    client = await connect_control(reactor, options.grid / "client" / "ampgrid.sock")
    await client.call(WaitForPeers, count=len(ready["nodes"]))
    groups = {"client": [ready["client"]["pid"]], "nodes": [n["pid"] for n in ready["nodes"]]}
    transfers = Transfers(client, groups, size)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        await transfers.run(options.runs, folder)
    for what, seconds in transfers.seconds.items():
        show(what, size, seconds)
    for (what, who), seconds in transfers.cpu.items():
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
