"""SIGKILL: storage nodes killed at random moments under load, restarted, compared.

    python tests/campaigns/kills.py --count 1000 --seed 1

Real node processes on real directories, two at a time, each with a client over real StartTLS
that puts small and large shares, adds, renews and cancels leases, and reads, eight things at
once. Some 0 to 0.2 seconds after the connection is up (one time in ten: after the process was
started, so in the middle of its recovery) the node is killed and started again. Then every share
that was acknowledged is read whole and compared, and whatever else the node has must be a share
that was sent, whole. After every forty kills the directory of the node is audited (files, rows,
accounts, leases), and a new one begun, so that there is never too much to compare.

A kill loses nothing that the kernel has; what a power cut does is the business of
``crash_states.py``.

Exit status 1 if anything was wrong.
"""

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from ampgrid.cli.reactor import run_with_reactor
from ampgrid.testing.storecheck import check_store
from tests.campaigns.bench import workplace
from tests.campaigns.client import Client, Load, Nursery, WrongError, make_node

#: Kills of one node directory.
KILLS_A_NODE = 40
#: Things under way at once on one node.
WORKERS = 8
#: The longest that a node lives after it is connected (and after it was started), seconds.
LIFE_SECONDS = 0.2
#: One node in so many is killed while it starts.
EARLY = 10


class Killer:
    """Kills one node after the other."""

    def __init__(self, reactor, nursery, work, seed, tell):
        self.reactor = reactor
        self.nursery = nursery
        self.work = work
        self.tell = tell
        self.rng = random.Random(seed)
        self.kills = self.early = self.shares = self.compared = self.violations = 0
        self.counts = {}

    async def run(self, count):
        """Kill so many."""
        while self.kills < count:
            await self.one_node(min(KILLS_A_NODE, count - self.kills))

    async def one_node(self, count):
        """Kill one node so many times, and audit what is left."""
        node = make_node(self.work / f"node{self.kills}", reserve=0)
        load = Load(Client(self.reactor, node, self.rng), self.rng)
        pid = self.nursery.run(node.path)
        for _ in range(count):
            try:
                await self.one_life(load, pid)
            except WrongError as error:
                self.violation(f"after {self.kills} kills: {error}")
            self.nursery.kill(pid)
            self.kills += 1
            pid = self.nursery.run(node.path)
        try:
            server = await load.client.connect()
            self.compared += await load.compare_all(server)
        except WrongError as error:
            self.violation(f"after {self.kills} kills: {error}")
        self.nursery.kill(pid)
        for problem in check_store(node.storage, load.ledger, now=int(time.time())):
            self.violation(f"the directory after {self.kills} kills: {problem}")
        self.shares += load.acknowledged
        for name, number in load.counts.items():
            self.counts[name] = self.counts.get(name, 0) + number

    async def one_life(self, load, pid):
        """Compare everything, and put load on the node until shortly before its end."""
        if self.rng.randrange(EARLY) == 0:
            self.early += 1
            await deferLater(self.reactor, self.rng.uniform(0, LIFE_SECONDS))
            return
        server = await load.client.connect()
        self.compared += await load.compare_all(server)
        working = Deferred.fromCoroutine(load.run(server, WORKERS))
        await deferLater(self.reactor, self.rng.uniform(0, LIFE_SECONDS))
        self.kill_now(pid)
        await working

    def kill_now(self, pid):
        """Kill the node in the middle of it all; the nursery is told later."""
        os.kill(pid, signal.SIGKILL)

    def violation(self, text):
        """Tell of something wrong."""
        self.violations += 1
        self.tell(f"VIOLATION: {text}")


async def run_all(reactor, work, count, seed, tell):
    """Run two killers beside each other; returns the number of violations."""
    began = time.monotonic()
    nursery = Nursery()
    killers = []
    for number, part in enumerate((count - count // 2, count // 2)):
        place = work / str(number)
        place.mkdir()
        killers.append((Killer(reactor, nursery, place, seed * 2 + number, tell), part))
    try:
        await gatherResults([Deferred.fromCoroutine(killer.run(part)) for killer, part in killers])
    finally:
        nursery.close()
    took = time.monotonic() - began
    total = {name: 0 for killer, _ in killers for name in killer.counts}
    for killer, _ in killers:
        for name, number in killer.counts.items():
            total[name] += number
    done = ", ".join(f"{number} {name}" for name, number in total.items())
    kills = sum(killer.kills for killer, _ in killers)
    early = sum(killer.early for killer, _ in killers)
    compared = sum(killer.compared for killer, _ in killers)
    violations = sum(killer.violations for killer, _ in killers)
    tell(
        f"{kills} kills ({early} of them during a start) in {took:.0f} s, seed {seed}; "
        f"acknowledged: {done}; compared {compared / 1e6:.0f} MB; {violations} violations"
    )
    return violations


def main():
    """Run the campaign from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", help="a directory to work in; in memory if not given")
    options = parser.parse_args()
    with workplace("kills", options.work) as work:

        async def everything(reactor, _stop):
            return await run_all(reactor, work, options.count, options.seed, print)

        sys.exit(1 if run_with_reactor(everything) else 0)


if __name__ == "__main__":
    main()
