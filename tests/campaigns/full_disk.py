"""A disk of 20 MB that fills up under load, and is freed again.

    sudo python tests/campaigns/full_disk.py --count 4 --seed 1

A real storage node runs on an ext4 file system of 20 MB (a loop device; that takes root), of
which somebody else has a part. A client puts over real StartTLS while that other takes all that
is left, to the last byte, and lets go of it again. Then the client fills the disk until
everything is refused: up to the node's own reserve, and on a second disk with no reserve. Then
the other takes what was left. All the while every refusal must be a clean one; what was
acknowledged is read and compared, leases are renewed and cancelled; and the node is killed and
started again on the full disk. Once there is room again, the node must accept again. In the end
the directory is audited.

Each round takes another seed. Without the right to mount it says so and does nothing, with
exit status 0. Exit status 1 if anything was wrong.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from ampgrid.cli.reactor import run_with_reactor
from ampgrid.commands.errors import NoSpaceError, WireError
from ampgrid.errors import AmpgridError
from ampgrid.store.health import PROBE_SECONDS
from ampgrid.testing.storecheck import check_store
from tests.campaigns.bench import workplace
from tests.campaigns.client import Client, Load, Nursery, WrongError, make_node

DISK_BYTES = 20 * 1024 * 1024
#: What somebody else has on it from the beginning, bytes.
OTHERS_BYTES = 3_200_000
#: What shares may still take while the rest of the disk fills suddenly, bytes.
LEFT_BYTES = 512 * 1024
#: Refusals after which the disk counts as full.
ENOUGH_REFUSALS = 60
#: Lease operations on the full disk.
LEASES = 300


@contextmanager
def small_disk(work):
    """Mount an ext4 file system of 20 MB; yields None where that cannot be done."""
    image, place = work / "disk.img", work / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    steps = (["mkfs.ext4", "-q", "-m", "0", image], ["mount", "-o", "loop", image, place])
    for step in steps:
        try:
            done = subprocess.run(step, capture_output=True, check=False)
        except FileNotFoundError:
            yield None
            return
        if done.returncode:
            yield None
            return
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(path):
    """Take all that is left of a disk."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
        os.fsync(file.fileno())


class Filler:
    """Fills the disk of one node."""

    def __init__(self, reactor, nursery, disk, seed, reserve, tell):
        self.reactor = reactor
        self.nursery = nursery
        self.disk = disk
        self.tell = tell
        self.violations = 0
        self.unclear = self.puts = 0
        self.others = [disk / "others"]
        self.others[0].write_bytes(bytes(OTHERS_BYTES))
        self.node = make_node(disk / "node", reserve=reserve)
        rng = random.Random(seed)
        self.load = Load(Client(reactor, self.node, rng), rng, large=(66_000, 300_000))
        self.pid = nursery.run(self.node.path)

    async def run(self):
        """Fill, look, free, look."""
        load = self.load
        server = await load.client.connect()
        await self.step("a disk that fills under writes", self.surprise(server))
        await self.step("fill", self.fill_up(server))
        filled = load.acknowledged
        await self.step("use, filled by shares", self.use(server))
        self.others.append(self.disk / "hog")
        fill(self.others[1])
        await self.step("use, filled by another", self.use(server))
        server = await self.restart()
        await self.step("use, after a start on a full disk", self.use(server))
        for path in self.others:
            path.unlink()
        took = await self.step("accept again", self.until_accepted(server))
        self.nursery.kill(self.pid)
        for problem in check_store(self.node.storage, load.ledger, now=int(time.time())):
            self.violation("the audit", problem)
        self.tell(
            f"{filled} shares until it was full, {load.refused} refusals, {self.unclear} of them "
            f"without a reason; accepted again after {took or 0:.1f} s; "
            f"{load.counts['leases']} leases, {load.counts['reads']} reads"
        )

    async def step(self, name, work):
        """Do something; tell if it was wrong."""
        try:
            return await work
        except (WrongError, AmpgridError) as error:
            self.violation(name, f"{type(error).__name__}: {error}")
            return None

    def violation(self, name, text):
        """Tell of something wrong."""
        self.violations += 1
        self.tell(f"VIOLATION: {name}: {text}")

    async def surprise(self, server):
        """Let somebody else take all that is left while much is being written."""
        for _ in range(8):
            await self.put(server)
        hogs = self.disk / "early", self.disk / "sudden"
        # The most before, or on a machine with much to do the shares were there first, and
        # there would be no room once this is gone.
        room = (await server.space())["available"]
        hogs[0].write_bytes(bytes(max(0, room - LEFT_BYTES)))
        filling = deferToThread(fill, hogs[1])
        await self.fill_up(server)
        await filling
        await self.use(server)
        for hog in hogs:
            hog.unlink()
        await self.until_accepted(server)

    async def fill_up(self, server):
        """Put until nearly everything is refused."""
        enough = self.load.refused + ENOUGH_REFUSALS

        async def work():
            while self.load.refused < enough:
                await self.put(server)

        working = [Deferred.fromCoroutine(work()) for _ in range(6)]
        try:
            await gatherResults(working, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()

    async def put(self, server):
        """Put something; tell whether it was accepted."""
        self.puts += 1
        put = self.load.put_small if self.puts % 4 else self.load.put_large
        try:
            return await put(server)
        except NoSpaceError:
            self.load.refused += 1
        except WireError:
            # Refused by a node that could not say why: it has met the full disk in a write.
            self.load.refused += 1
            self.unclear += 1
        return False

    async def use(self, server):
        """What must work on a full disk: reads, leases, clean refusals."""
        await self.load.compare_all(server)
        for _ in range(LEASES):
            await self.load.renew(server)
        for _ in range(20):
            await self.load.cancel(server)
            await self.load.read(server)
            await self.put(server)

    async def restart(self):
        """Kill the node and start it on the full disk."""
        self.nursery.kill(self.pid)
        self.pid = self.nursery.run(self.node.path)
        return await self.load.client.connect()

    async def until_accepted(self, server):
        """Put until it is accepted; returns how long that took."""
        began = time.monotonic()
        while time.monotonic() - began < PROBE_SECONDS + 10:
            if await self.put(server):
                for _ in range(8):
                    if not await self.put(server):
                        raise WrongError("accepts one, and refuses the next")
                return time.monotonic() - began
            await deferLater(self.reactor, 0.2)
        raise WrongError("refuses although there is room")


async def run_all(reactor, work, count, seed, tell):
    """Run so many rounds; returns the number of violations."""
    began = time.monotonic()
    violations = 0
    for one in range(seed, seed + count):
        for reserve in (1_500_000, 0):
            place = work / f"{one}-{reserve}"
            place.mkdir()
            nursery = Nursery()
            with small_disk(place) as disk:
                if disk is None:
                    nursery.close()
                    tell("SKIPPED: a file system of 20 MB could not be mounted; it takes root")
                    return 0
                filler = Filler(reactor, nursery, disk, one, reserve, tell)
                try:
                    await filler.run()
                finally:
                    nursery.close()
                violations += filler.violations
    took = time.monotonic() - began
    tell(f"{2 * count} disks filled and freed in {took:.0f} s, {violations} violations")
    return violations


def main():
    """Run the campaign from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1, help="rounds, of two disks each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", help="a directory to work in; in memory if not given")
    options = parser.parse_args()
    with workplace("full", options.work) as work:

        async def everything(reactor, _stop):
            return await run_all(reactor, work, options.count, options.seed, print)

        sys.exit(1 if run_with_reactor(everything) else 0)


if __name__ == "__main__":
    main()
