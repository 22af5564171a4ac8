"""How many changes of directories one store takes a second, durable, signatures checked.

    python tests/benchmarks/directories.py --changes 2000 --callers 8

Each caller has a directory of its own with so many entries, and sends one change after the other:
a record with one new entry, which names its following ballot. Records are made before, so what
is measured is what a vdrive peer does for a SetChild: two signatures checked, the entry put into
its own trie, the root compared, nodes, record and promise written, one commit (shared with those
that wait at the same time).
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.formats import trie
from ampgrid.formats.ballot import Ballot
from ampgrid.formats.record import Record
from ampgrid.store.directories import Caller, DirectoryStore, Verdict
from ampgrid.vdrive.service import VdriveService
from ampgrid.wire.threads import PoolThreads


class Writer:
    """One directory, and the changes that its writer makes."""

    def __init__(self, store, entries, changes):
        self.store = store
        self.keys = WriteKeys(os.urandom(16))
        self.caller = Caller(os.urandom(20), 1_000_000)
        self.writer = os.urandom(8)
        self.nodes = {}
        record = Record.sign(
            self.keys, epoch=1, replicas=(store.me,), ballot=Ballot(1, 1, self.writer)
        )
        self.accept(record)
        first = {os.urandom(32): os.urandom(300) for _ in range(entries)}
        record = self.follow(record, first)
        store.run(store.staging(record.index, self.caller, list(self.nodes.values()), shown=True))
        self.accept(record)
        self.changes = []
        for _ in range(changes):
            change = {os.urandom(32): os.urandom(300)}
            record = self.follow(record, change)
            self.changes.append((record.pack(), change))

    def follow(self, record, change):
        """Return the record of a change."""
        made = trie.apply(record.root, change, self.nodes.get)
        self.nodes.update(made.added)
        return record.successor(
            self.keys,
            ballot=Ballot(1, record.version + 1, self.writer),
            following=Ballot(1, record.version + 2, self.writer),
            root=made.root,
            count=record.count + made.delta,
            operation=os.urandom(8),
        )

    def accept(self, record):
        """Have a record accepted."""
        job = self.store.accepting(self.keys.fingerprint, self.caller, record)
        judged = self.store.run(job)
        assert judged.verdict is Verdict.DONE, judged

    async def work(self, service):
        """Make the changes, one after the other."""
        for packed, change in self.changes:
            judged = await service.accept(self.keys.fingerprint, self.caller.peer, packed, change)
            assert judged.verdict is Verdict.DONE, judged


async def measure(reactor, callers, entries, changes):
    """Let so many callers change their directories, and print what it took."""
    pool = PoolThreads(reactor, 8, "disk")
    with tempfile.TemporaryDirectory() as folder:
        store = DirectoryStore.open(
            Path(folder) / "directories.sqlite",
            os.urandom(32),
            bytes(20),
            wall=time.time,
            entropy=os.urandom,
        )
        service = VdriveService(
            store, clock=reactor, wall=time.time, threads=pool, entropy=os.urandom
        )
        await service.start()
        writers = [Writer(store, entries, changes) for _ in range(callers)]
        commits = store.database.commits
        began, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        await gatherResults([Deferred.fromCoroutine(each.work(service)) for each in writers])
        took = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_SELF)
        commits = store.database.commits - commits
        await service.stop()
    await pool.stop(10)
    total = callers * changes
    seconds = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
    print(
        f"{callers} callers, {entries} entries each: {total / took:.0f} changes/s, "
        f"{total / commits:.1f} a commit, {seconds / total * 1e6:.0f} us of CPU each, "
        f"load {os.getloadavg()[0]:.1f}"
    )


async def run(reactor, options):
    """Measure alone and together."""
    await measure(reactor, 1, options.entries, options.changes)
    await measure(reactor, options.callers, options.entries, options.changes // options.callers)


def main():
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changes", type=int, default=2000)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--entries", type=int, default=1000)
    options = parser.parse_args()
    react(run, (options,))


if __name__ == "__main__":
    main()
