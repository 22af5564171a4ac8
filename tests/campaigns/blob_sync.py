"""SIGKILL: two stores of blobs synced over a remote, killed at random moments, and resumed.

    python tests/campaigns/blob_sync.py --count 100 --seed 1 --small 1000 --large 10

One process at a time works for one of the two stores: it puts what the store does not have yet
of its half of the blobs, deletes some that have been synced, and syncs, again and again. It is
killed at a random moment, and with it the remote where that lives in the same process. What was
acknowledged stands in a ledger by then. In the end both stores are synced in peace, and compared
with each other, with the remote and with the ledgers: every blob whose putting was acknowledged
and whose deletion never began is on all sides, with its content; what was deleted is nowhere;
there is nothing else, nothing twice, and no row of what did not come to its end.

Every few seconds a line tells how far it is. SIGINT ends it early: it says what was done by then.

Exit status 1 if anything was wrong, 2 if nothing was and it did not come to its end.
"""

import argparse
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from ampgrid.blobs import BlobDoc, BlobManager, SyncStatus
from ampgrid.cli.reactor import run_with_reactor
from ampgrid.errors import BlobAlreadyExistsError, BlobDeletedError, BlobNotFoundError
from ampgrid.store.blobopening import BlobStoreFiles
from tests.campaigns.bench import workplace
from tests.campaigns.blob_remotes import REMOTES

STORES = ("a", "b")
#: One blob in so many is deleted again.
DOOMED = 10
#: Blobs that are put between two syncs.
BATCH = 40
#: The least time between two lines of progress, seconds.
PROGRESS_SECONDS = 5.0
KEY = b"k" * 32
#: The exit status of a campaign that was stopped early.
INCOMPLETE = 2


def content(name, size):
    """Return the content of a blob."""
    return random.Random(name).randbytes(size)


def plan_of(options):
    """Return {blob id: size} of all blobs."""
    sizes = {f"small-{n}": options.small_bytes for n in range(options.small)}
    sizes.update({f"large-{n}": options.large_bytes for n in range(options.large)})
    return sizes


def is_doomed(name):
    """Tell whether a blob is deleted again."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % DOOMED == 0


class Ledger:
    """What was begun and what was acknowledged, written before anything else is done."""

    def __init__(self, path):
        self._file = path.open("a")

    def note(self, *words):
        """Write a line; the kernel has it when this returns."""
        self._file.write(" ".join(words) + "\n")
        self._file.flush()

    @staticmethod
    def read(path):
        """Return {what: names}."""
        found = {"put": set(), "deleting": set(), "deleted": set()}
        for line in path.read_text().splitlines() if path.exists() else ():
            what, name = line.split()
            found[what].add(name)
        return found


class Worker:
    """Works for one store, in a process of its own."""

    def __init__(self, blobs, ledger, sizes, mine, rng):
        self.blobs = blobs
        self.ledger = ledger
        self.sizes = sizes
        self.mine = mine
        self.rng = rng

    async def run(self):
        """Put, delete and sync until nothing is left to do."""
        here = set(await self.blobs.local_list())
        missing = [name for name in self.mine if name not in here]
        self.rng.shuffle(missing)
        for begin in range(0, len(missing) + 1, BATCH):
            for name in missing[begin : begin + BATCH]:
                await self.put(name)
            await self.blobs.sync()
            await self.delete_some()
        await self.blobs.sync()

    async def put(self, name):
        """Put a blob of one's own, unless it was deleted."""
        try:
            data = content(name, self.sizes[name])
            await self.blobs.put(BlobDoc(io.BytesIO(data), name))
        except (BlobAlreadyExistsError, BlobDeletedError):
            return
        self.ledger.note("put", name)

    async def delete_some(self):
        """Delete what is to be deleted of the other's blobs and has come here."""
        for name in await self.blobs.local_list_status(SyncStatus.SYNCED):
            if is_doomed(name) and name not in self.mine:
                self.ledger.note("deleting", name)
                try:
                    await self.blobs.delete(name)
                except BlobNotFoundError:
                    continue
                self.ledger.note("deleted", name)

    async def look(self):
        """Return what there is, for a comparison."""
        local = {}
        for name in await self.blobs.local_list():
            blob = await self.blobs.get(name)
            hasher = hashlib.sha256()
            while piece := await blob.read(1 << 20):
                hasher.update(piece)
            local[name] = hasher.hexdigest()
        store = self.blobs._store
        while store.sweep():
            pass
        rows, expected = store.change(
            lambda sql: (
                sql.execute("SELECT count(*) FROM chunks").fetchone()[0],
                sql.execute("SELECT coalesce(sum(row_count), 0) FROM blobs").fetchone()[0],
            )
        )
        return {
            "local": local,
            "remote": await self.blobs.remote_list(),
            "deleted": await self.blobs.remote_list(deleted=True),
            "progress": await self.blobs.sync_progress(),
            "problems": await self.blobs.check(),
            "stray rows": rows - expected,
        }


def run_child(options):
    """Be the process of one store."""
    place, sizes = Path(options.work), plan_of(options)
    mine = {name for n, name in enumerate(sizes) if STORES[n % 2] == options.child}

    async def work(reactor, _stop):
        async with REMOTES[options.remote](reactor, place) as remote_of:
            blobs = BlobManager(
                place / options.child,
                remote_of("alice"),
                KEY,
                b"s" * 32,
                "alice",
                clock=reactor,
            )
            ledger = Ledger(place / f"ledger-{options.child}")
            worker = Worker(blobs, ledger, sizes, mine, random.Random(options.seed))
            try:
                print("ready", flush=True)
                if options.look:
                    print(json.dumps(await worker.look()), flush=True)
                else:
                    await worker.run()
                    print("done", flush=True)
            finally:
                await blobs.close()

    run_with_reactor(work)


class Campaign:
    """Kills one process after the other, and compares in the end."""

    def __init__(self, options, work, tell):
        self.options = options
        self.work = work
        self.tell = tell
        self.rng = random.Random(options.seed)
        self.violations = 0
        self.kills = 0
        self.ended = 0
        self.process = None
        self.began = self.told_at = time.monotonic()

    def start(self, store, *words):
        """Start a process for a store."""
        o = self.options
        self.process = subprocess.Popen(
            [
                sys.executable,
                __file__,
                *("--child", store, "--work", str(self.work), "--remote", o.remote),
                *("--small", str(o.small), "--small-bytes", str(o.small_bytes)),
                *("--large", str(o.large), "--large-bytes", str(o.large_bytes)),
                *("--seed", str(self.rng.randrange(2**31)), *words),
            ],
            stdout=subprocess.PIPE,
            text=True,
            # A Ctrl-C is for this process, which ends that one itself.
            start_new_session=True,
        )
        return self.process

    def kill_one(self):
        """Let a process work for a while, and kill it."""
        process = self.start(self.rng.choice(STORES))
        assert process.stdout is not None
        line = process.stdout.readline()
        time.sleep(self.rng.uniform(0, self.options.life))
        ended = process.poll()
        if ended is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        if line != "ready\n" or ended not in (None, 0):
            self.violation(f"a process ended with {ended} and printed {line!r}")
        self.kills += 1
        self.ended += ended == 0

    def in_peace(self, store, *words):
        """Let a process come to its end; return the last line that it prints."""
        process = self.start(store, *words)
        while True:
            try:
                out, _ = process.communicate(timeout=PROGRESS_SECONDS)
                break
            except subprocess.TimeoutExpired:
                self.progress(f"store {store} comes to its end")
        if process.returncode:
            self.violation(f"a process in peace ended with {process.returncode}")
        return out.splitlines()[-1]

    def progress(self, what):
        """Tell how far it is, if that was not told just now."""
        if time.monotonic() - self.told_at >= PROGRESS_SECONDS:
            self.told_at = time.monotonic()
            self.tell(f"{self.told_at - self.began:.0f} s: {what}; {self.so_far()}")

    def so_far(self):
        """Return what was acknowledged and what is equal by now."""
        ledgers = [Ledger.read(self.work / f"ledger-{store}") for store in STORES]
        put, deleted = (sum(len(one[what]) for one in ledgers) for what in ("put", "deleted"))
        is_free = self.process is None or self.process.poll() is not None
        equal = f", {len(self.equal())} in sync and equal in both stores" if is_free else ""
        return f"{put} blobs put, {deleted} deleted{equal}"

    def equal(self):
        """Return {(blob id, tag)} of what both stores have in sync; nobody may have them open."""
        looks = []
        for store in STORES:
            path = self.work / store / "alice_blobs.db"
            if not path.exists():
                return set()
            opened = BlobStoreFiles.at(path).open(KEY)
            statement = "SELECT blob_id, tag FROM blobs WHERE usable = 1 AND status = ?"
            values = (int(SyncStatus.SYNCED),)
            rows = opened.change(lambda sql: sql.execute(statement, values).fetchall())  # noqa: B023
            opened.close()
            looks.append({(name, bytes(tag)) for name, tag in rows})
        return set.intersection(*looks)

    def run(self):
        """Run it all; return the exit status."""
        try:
            self.run_to_end()
        except KeyboardInterrupt:
            return self.stopped()
        return 1 if self.violations else 0

    def run_to_end(self):
        """Kill, sync in peace, compare."""
        o = self.options
        while self.kills < o.count:
            self.kill_one()
            self.progress(f"{self.kills} of {o.count} kills ({self.ended} came too late)")
        for store in STORES * 2:
            self.in_peace(store)
        looks = [json.loads(self.in_peace(store, "--look")) for store in STORES]
        self.compare(*looks)
        self.tell(
            f"{self.kills} kills ({self.ended} came too late) in {self.seconds()} s, seed "
            f"{o.seed}, remote {o.remote}: {len(looks[0]['local'])} blobs "
            f"equal on all sides, {len(looks[0]['deleted'])} deleted; {self.violations} violations"
        )

    def stopped(self):
        """End early: tell what was done by now; return the exit status."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        o = self.options
        self.tell(
            f"INCOMPLETE: {self.kills} of {o.count} kills ({self.ended} came too late) in "
            f"{self.seconds()} s, seed {o.seed}, remote {o.remote}: {self.so_far()}, of "
            f"{len(plan_of(o))}; nothing was compared; {self.violations} violations"
        )
        return 1 if self.violations else INCOMPLETE

    def seconds(self):
        """Return for how long it has run."""
        return round(time.monotonic() - self.began)

    def compare(self, one, two):
        """Compare both stores, the remote and the ledgers."""
        sizes = plan_of(self.options)
        ledgers = [Ledger.read(self.work / f"ledger-{store}") for store in STORES]
        put = set.union(*(ledger["put"] for ledger in ledgers))
        deleting = set.union(*(ledger["deleting"] for ledger in ledgers))
        deleted = set.union(*(ledger["deleted"] for ledger in ledgers))
        if one["local"] != two["local"]:
            self.violation(f"the stores differ: {set(one['local']) ^ set(two['local'])}")
        for look in (one, two):
            if sorted(look["local"]) != sorted(look["remote"]):
                self.violation(f"remote: {set(look['local']) ^ set(look['remote'])}")
            if len(set(look["remote"])) != len(look["remote"]):
                self.violation("a blob is listed twice")
            if look["problems"] or look["stray rows"]:
                self.violation(f"{look['problems']}, {look['stray rows']} stray rows")
            if set(look["progress"]) - {"SYNCED"}:
                self.violation(f"not all is in sync: {look['progress']}")
        here = set(one["local"])
        if lost := put - deleting - here:
            self.violation(f"lost: {sorted(lost)}")
        if risen := deleted & here:
            self.violation(f"deleted and there again: {sorted(risen)}")
        if strange := here - set(sizes):
            self.violation(f"never put: {sorted(strange)}")
        for name, digest in one["local"].items():
            if hashlib.sha256(content(name, sizes[name])).hexdigest() != digest:
                self.violation(f"{name} has another content")

    def violation(self, text):
        """Tell of something wrong."""
        self.violations += 1
        self.tell(f"VIOLATION: {text} (seed {self.options.seed})")


def main():
    """Run the campaign from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--remote", choices=sorted(REMOTES), default="loopback")
    parser.add_argument("--small", type=int, default=1000, help="small blobs")
    parser.add_argument("--small-bytes", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=10, help="large blobs")
    parser.add_argument("--large-bytes", type=int, default=50_000_000)
    parser.add_argument(
        "--life", type=float, default=1.5, help="the longest that a process works, seconds"
    )
    parser.add_argument("--work", help="a directory to work in; in memory if not given")
    parser.add_argument("--child", choices=STORES, help=argparse.SUPPRESS)
    parser.add_argument("--look", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_child(options)
        return
    # A shell starts what runs behind it with this signal ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with workplace("blobs", options.work) as work:
        sys.exit(Campaign(options, work, tell).run())


def tell(text):
    """Print a line, at once also into a file."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
