"""Time uploads and downloads over HTTP beside those of the command line, on a running local grid.

    ampgrid grid DIR --nodes 4 --shares 2/3/4 &
    python -m tests.benchmarks.web DIR --size 200M --runs 3

Every run uploads fresh random bytes, with ``curl -T`` and with ``ampgrid put`` by turns, and
downloads them with ``curl`` and with ``ampgrid get``. Printed are the median of each with its
spread, the CPU time of the client node, and its peak memory since its start.
"""

import argparse
import filecmp
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ampgrid.node.sizes import parse_size
from tests.benchmarks.measuring import cpu_seconds, peak_memory, write_random
from tests.benchmarks.transfer import show


class Ways:
    """The two ways into one grid.

    Args:
        ready: what ``ready.json`` of the grid holds.
    """

    def __init__(self, ready):
        self.client = ready["client"]
        self.pid = self.client["pid"]

    def ampgrid(self, *words):
        """Run a command of the client node; returns what it printed."""
        said = [sys.executable, "-m", "ampgrid", "-d", self.client["dir"], *map(str, words)]
        return subprocess.run(said, check=True, capture_output=True, text=True).stdout.strip()

    def curl(self, *words):
        """Run curl; returns what it printed."""
        said = ["curl", "-sS", "--fail", *map(str, words)]
        return subprocess.run(said, check=True, capture_output=True, text=True).stdout.strip()

    def put_http(self, path):
        """Upload over HTTP; returns the cap."""
        return self.curl("-T", path, f"{self.client['web']}uri")

    def put(self, path):
        """Upload with the command; returns the cap."""
        return self.ampgrid("put", path)

    def get_http(self, cap, path):
        """Download over HTTP."""
        self.curl("-o", path, f"{self.client['web']}uri/{cap}")

    def get(self, cap, path):
        """Download with the command."""
        self.ampgrid("get", cap, path)


def timed(pid, work, *arguments):
    """Return what comes of some work, and the seconds and CPU seconds that it took."""
    before, began = cpu_seconds([pid]), time.perf_counter()
    result = work(*arguments)
    return result, time.perf_counter() - began, cpu_seconds([pid]) - before


def main(options):
    """Measure."""
    size = parse_size(options.size)
    ways = Ways(json.loads((options.grid / "ready.json").read_text()))
    pairs = {"http": (ways.put_http, ways.get_http), "command": (ways.put, ways.get)}
    found = {(what, way): [] for what in ("upload", "download") for way in pairs}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        original, copy = Path(folder) / "original", Path(folder) / "copy"
        for run in range(options.runs + 1):
            for way, (put, get) in pairs.items():
                write_random(original, size)
                cap, *up = timed(ways.pid, put, original)
                _, *down = timed(ways.pid, get, cap, copy)
                if not filecmp.cmp(original, copy, shallow=False):
                    raise SystemExit("the copy differs")
                copy.unlink()
                if run or not options.runs:  # the first is for warming up
                    found["upload", way].append(up)
                    found["download", way].append(down)
    for (what, way), measured in found.items():
        show(f"{what} {way}", size, [seconds for seconds, _ in measured])
        spent = statistics.median(cpu for _, cpu in measured)
        print(f"{'':<17} {spent:8.2f} CPU seconds of the client node")
    print(f"client peak       {peak_memory(ways.pid) / 1e6:8.1f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grid", type=Path)
    parser.add_argument("--size", default="200M")
    parser.add_argument("--runs", type=int, default=3, help="0: one, without warming up")
    parser.add_argument("--folder", help="where the files are made")
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).parents[2]))
    main(parser.parse_args())
