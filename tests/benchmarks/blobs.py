"""Time blobs over each remote, beside a plain SQLCipher insert and read of the same data.

    python tests/benchmarks/blobs.py --large 50M --small 1000
    python tests/benchmarks/blobs.py --memory 2G

Everything runs in one process and on one disk. A put is: seal, store in the local database, send,
and all of it durable on both sides; a get is: fetch into another local database, then read it.
Small blobs have 10,000 bytes, and sixteen are under way at once. The plain insert is what a
program without ampgrid would do: rows of 64 KiB in transactions of 2 MiB for a large blob, and
one transaction for a small one.

Each line tells wall-clock figures, and the processor seconds of this process, which say more
where the machine is shared. With ``--memory`` one blob of that size is put and got, and the peak
of the process's memory is told.
"""

import argparse
import io
import os
import resource
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from twisted.internet.defer import Deferred, gatherResults

from ampgrid.blobs import BlobDoc, BlobManager
from ampgrid.cli.reactor import run_with_reactor
from ampgrid.node.sizes import parse_size
from ampgrid.store.sql import find_driver
from tests.campaigns.blob_remotes import REMOTES

SMALL_BYTES = 10_000
AT_ONCE = 16
ROW = 64 * 1024
KEY, SECRET = b"k" * 32, b"s" * 32


class Zeros(io.RawIOBase):
    """A file of so many bytes that takes no room."""

    def __init__(self, size):
        self._left = size

    def read(self, length=-1):
        """Return zeros."""
        count = min(self._left, length)
        self._left -= count
        return bytes(count)


@contextmanager
def timed(what, amount, unit):
    """Print how fast something was."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what:<44} {amount / wall:10.1f} {unit:<7} {cpu:8.2f} CPU s", flush=True)


def plain(place, size, count):
    """Insert and read the same data without anything else."""
    connection = find_driver().connect(str(place / "plain.db"), isolation_level=None)
    connection.execute(f"PRAGMA key = \"x'{KEY.hex()}'\"")
    connection.execute("PRAGMA journal_mode=WAL").fetchone()
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, data BLOB)")
    data = os.urandom(ROW)
    rows = size // ROW
    with timed("plain SQLCipher: insert large", size / 1e6, "MB/s"):
        for begin in range(0, rows, 32):
            connection.execute("BEGIN")
            for number in range(begin, min(begin + 32, rows)):
                connection.execute("INSERT INTO rows VALUES (?, ?)", (number, data))
            connection.execute("COMMIT")
    with timed("plain SQLCipher: read large", size / 1e6, "MB/s"):
        for number in range(rows):
            connection.execute("SELECT data FROM rows WHERE number = ?", (number,)).fetchone()
    small = os.urandom(SMALL_BYTES)
    with timed("plain SQLCipher: insert small", count, "/s"):
        for number in range(count):
            connection.execute("INSERT INTO rows VALUES (?, ?)", (rows + number, small))
    with timed("plain SQLCipher: read small", count, "/s"):
        for number in range(count):
            place_ = rows + number
            connection.execute("SELECT data FROM rows WHERE number = ?", (place_,)).fetchone()
    connection.close()


class Bench:
    """Times one remote."""

    def __init__(self, reactor, place, name, remote_of):
        self.reactor = reactor
        self.place = place
        self.name = name
        self.remote_of = remote_of

    def manager(self, store):
        """Return a manager of a store."""
        return BlobManager(
            self.place / f"{self.name}-{store}",
            self.remote_of("alice"),
            KEY,
            SECRET,
            "alice",
            transfers=AT_ONCE,
            clock=self.reactor,
        )

    async def run(self, size, count):
        """Time large and small blobs, put and got."""
        here, there = self.manager("here"), self.manager("there")
        data = os.urandom(size)
        with timed(f"{self.name}: put large", size / 1e6, "MB/s"):
            await here.put(BlobDoc(io.BytesIO(data), "large"))
        with timed(f"{self.name}: get large", size / 1e6, "MB/s"):
            await self.drain(there, "large")
        with timed(f"{self.name}: read large, local", size / 1e6, "MB/s"):
            await self.drain(there, "large")
        small = os.urandom(SMALL_BYTES)
        names = [f"small-{number}" for number in range(count)]
        with timed(f"{self.name}: put small", count, "/s"):
            await self.many(names, lambda n: here.put(BlobDoc(io.BytesIO(small), n)))
        with timed(f"{self.name}: get small", count, "/s"):
            await self.many(names, lambda n: self.drain(there, n))
        with timed(f"{self.name}: read small, local", count, "/s"):
            await self.many(names, lambda n: self.drain(there, n))
        await here.close()
        await there.close()

    async def remember(self, size):
        """Put and get one large blob, and tell the memory that it took."""
        before = peak()
        here, there = self.manager("here"), self.manager("there")
        with timed(f"{self.name}: put {size / 1e9:.1f} GB", size / 1e6, "MB/s"):
            await here.put(BlobDoc(Zeros(size), "large"), size)
        await here.close()
        with timed(f"{self.name}: get {size / 1e9:.1f} GB", size / 1e6, "MB/s"):
            total = await self.drain(there, "large")
        assert total == size, total
        await there.close()
        print(f"{self.name}: peak {peak() / 1e6:.0f} MB, {before / 1e6:.0f} MB before it began")

    async def drain(self, blobs, name):
        """Read all of a blob; return the number of bytes."""
        blob = await blobs.get(name)
        total = 0
        while piece := await blob.read(1 << 20):
            total += len(piece)
        return total

    async def many(self, names, work):
        """Do something for each name, so many at once."""
        queue = list(names)

        async def worker():
            while queue:
                await work(queue.pop())

        await gatherResults([Deferred.fromCoroutine(worker()) for _ in range(AT_ONCE)])


def peak():
    """Return the most memory that this process ever had, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", type=parse_size, default=50_000_000, metavar="SIZE")
    parser.add_argument("--small", type=int, default=1000, metavar="COUNT")
    parser.add_argument("--memory", type=parse_size, metavar="SIZE", help="only this")
    parser.add_argument("--remote", choices=sorted(REMOTES), action="append")
    parser.add_argument("--work", help="a directory to work in")
    options = parser.parse_args()
    names = options.remote or [
        name for name in REMOTES if not (options.memory and name == "memory")
    ]

    async def everything(reactor, _stop):
        with tempfile.TemporaryDirectory(dir=options.work) as folder:
            for name in names:
                place = Path(folder) / name
                place.mkdir()
                async with REMOTES[name](reactor, place) as remote_of:
                    bench = Bench(reactor, place, name, remote_of)
                    if options.memory:
                        await bench.remember(options.memory)
                    else:
                        await bench.run(options.large, options.small)
            if not options.memory:
                plain(Path(folder), options.large, options.small)

    run_with_reactor(everything)


if __name__ == "__main__":
    main()
