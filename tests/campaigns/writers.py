"""Eight writers of one directory, through different nodes, while replicas come and go.

    python tests/campaigns/writers.py --count 200 --seed 1
    sudo python tests/campaigns/writers.py --count 200 --seed 1 --split

Five storage nodes and three clients, each a process of its own; each of eight writers uses
another node. All add ``--count`` names to one directory of the grid's public root; at the same
time they race for names that must not exist yet, and for making one path of directories. All
the while replicas are killed and started again, or stopped and let go on, at random, so that
sometimes there is no quorum. With ``--split`` the network is parted in two halves instead (each
node has a network namespace of its own, which takes root), both with clients, and joined again.

Then every node lists the directory, and the history is checked (`tests.campaigns.history`):
every acknowledged name is there, none twice, one winner a race, one directory a path.

Exit status 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from ampgrid.caps import LitCap
from ampgrid.cli.reactor import run_with_reactor
from ampgrid.commands import drive
from ampgrid.commands.control import WaitForPeers
from ampgrid.commands.errors import ChildExistsWireError
from ampgrid.errors import AmpgridError
from tests.campaigns.bench import workplace
from tests.campaigns.history import ACKNOWLEDGED, REFUSED, UNKNOWN, Attempt, contradictions
from tests.campaigns.machines import Machine, Switchboard, make_grid, names_of

STORAGE = 5
CLIENTS = 3
DIRECTORY = "public:shared"
#: Of how many names each one is raced for by all writers.
RACE_EVERY = 20
#: Seconds between two mishaps, and how long one lasts, each at most.
PAUSE_SECONDS = 2.0
MISHAP_SECONDS = 3.0
#: Seconds after which a writer gives up on one name.
GIVE_UP_SECONDS = 240.0
#: Seconds that the two halves are kept apart.
SPLIT_SECONDS = 20.0
_AGAIN = 0.2


class Writer:
    """Somebody who adds names through one node.

    Args:
        number: who it is.
        machine: its node.
        reactor: Twisted's.
    """

    def __init__(self, number: int, machine: Machine, reactor: Any) -> None:
        self.number = number
        self.machine = machine
        self.attempts: list[Attempt] = []
        self.slowest = 0.0
        self._reactor = reactor
        self._connection: Any = None

    async def call(self, command: Any, **arguments: Any) -> dict[str, Any]:
        """Call a Command of its node, connecting first if need be."""
        if self._connection is None or not self._connection.connected:
            self._connection = await self.machine.connect(self._reactor)
        answer: dict[str, Any] = await self._connection.call(command, deadline=60.0, **arguments)
        return answer

    async def link(self, name: str, *, exclusive: bool) -> None:
        """Link a cap of its own under a name, however often that takes, and note the outcome."""
        cap = LitCap(f"{self.number} {name}".encode()).to_string()
        began, doubt = self._reactor.seconds(), False
        while True:
            try:
                await self.call(
                    drive.LinkChild, path=f"{DIRECTORY}/{name}", cap=cap, overwrite=not exclusive
                )
                outcome = ACKNOWLEDGED
                break
            except ChildExistsWireError:
                # After a try whose answer never came, this may be our own.
                outcome = UNKNOWN if doubt else REFUSED
                break
            except AmpgridError:
                doubt = True
            if self._reactor.seconds() > began + GIVE_UP_SECONDS:
                outcome = UNKNOWN
                break
            await deferLater(self._reactor, _AGAIN)
        self.slowest = max(self.slowest, self._reactor.seconds() - began)
        self.attempts.append(Attempt(self.number, name, cap, exclusive, outcome))

    async def until_done(self, command: Any, **arguments: Any) -> dict[str, Any]:
        """Repeat a Command that may be repeated until it is answered."""
        deadline = self._reactor.seconds() + GIVE_UP_SECONDS
        while True:
            try:
                return await self.call(command, **arguments)
            except AmpgridError:
                if self._reactor.seconds() > deadline:
                    raise
            await deferLater(self._reactor, _AGAIN)

    async def add(self, count: int) -> list[str]:
        """Add all its names, and take part in every race; returns the caps of raced paths."""
        caps = []
        for number in range(count):
            await self.link(f"w{self.number}-{number}", exclusive=False)
            if number % RACE_EVERY == 0:
                await self.link(f"race-{number}", exclusive=True)
                path = f"public:paths/{number}/deep"
                answer = await self.until_done(drive.MakeDirectory, path=path, parents=True)
                caps.append(answer["cap"])
        return caps

    async def listing(self) -> list[tuple[str, str]]:
        """List the directory through its node."""
        found: list[tuple[str, str]] = []
        more: dict[str, int] = {}
        while True:
            page = await self.call(drive.ListDirectory, path=DIRECTORY, **more)
            children = json.loads(page["children"])
            found.extend((child["name"], child["cap"]) for child in children)
            if not page["next"]:
                return found
            more = {"start": page["next"]}


class Mishaps:
    """Kills, stops and revives storage nodes, at most two at a time.

    Args:
        nodes: the storage nodes.
        rng: chooses.
        reactor: Twisted's.
    """

    def __init__(self, nodes: list[Machine], rng: random.Random, reactor: Any) -> None:
        self.counts: Counter[str] = Counter()
        self._nodes = nodes
        self._rng = rng
        self._reactor = reactor
        self._over = False

    async def run(self) -> None:
        """Go on until `end`."""
        while not self._over:
            await deferLater(self._reactor, self._rng.uniform(0.2, PAUSE_SECONDS))
            chosen = self._rng.sample(self._nodes, self._rng.choice((1, 1, 1, 2)))
            kinds = [self._rng.choice(("killed", "stopped")) for _ in chosen]
            for node, kind in zip(chosen, kinds, strict=True):
                self.counts[kind] += 1
                if kind == "killed":
                    node.kill()
                else:
                    node.signal(signal.SIGSTOP)
            await deferLater(self._reactor, self._rng.uniform(0.1, MISHAP_SECONDS))
            for node in chosen:
                node.signal(signal.SIGCONT)
                node.start()

    def end(self) -> None:
        """Let all be well from now on."""
        self._over = True


async def _split(
    switchboard: Switchboard, machines: list[Machine], rng: random.Random, reactor: Any
) -> None:
    """Part the network once, both halves with clients, and join it again."""
    await deferLater(reactor, 1.0)
    storage = [machine.name for machine in machines if machine.name.startswith("node")]
    others = [machine.name for machine in machines if not machine.name.startswith("node")]
    away = rng.sample(storage, len(storage) // 2) + rng.sample(others, len(others) // 2 + 1)
    switchboard.part(away)
    await deferLater(reactor, SPLIT_SECONDS)
    switchboard.join()


async def run(
    reactor: Any, work: Path, count: int, seed: int, *, split: bool, tell: Any = print
) -> int:
    """Run the campaign; returns the number of violations."""
    rng = random.Random(seed)
    began = time.monotonic()
    names = ["introducer", *names_of(STORAGE, CLIENTS)]
    with Switchboard(names) if split else nullcontext() as switchboard:
        introducer, storage, clients = make_grid(work, STORAGE, CLIENTS, switchboard)
        machines = [*storage, *clients]
        try:
            return await _campaign(
                reactor, machines, storage, switchboard, count, rng, tell, began, seed
            )
        finally:
            for machine in [introducer, *machines]:
                machine.signal(signal.SIGCONT)
                machine.kill()


async def _campaign(
    reactor: Any,
    machines: list[Machine],
    storage: list[Machine],
    switchboard: Switchboard | None,
    count: int,
    rng: random.Random,
    tell: Any,
    began: float,
    seed: int,
) -> int:
    writers = [Writer(number, machine, reactor) for number, machine in enumerate(machines)]
    for writer in writers:
        await writer.until_done(WaitForPeers, count=STORAGE, timeout_seconds=60)
    first = writers[-1]
    await first.until_done(drive.MakeDirectory, path=DIRECTORY, parents=True)
    mishaps = Mishaps(storage, rng, reactor)
    if switchboard is None:
        trouble = Deferred.fromCoroutine(mishaps.run())
    else:
        trouble = Deferred.fromCoroutine(_split(switchboard, machines, rng, reactor))
    working = time.monotonic()
    caps = await gatherResults([Deferred.fromCoroutine(each.add(count)) for each in writers])
    worked = time.monotonic() - working
    mishaps.end()
    await trouble
    violations = []
    for step in range(len(caps[0])):
        made = {own[step] for own in caps}
        if len(made) > 1:
            violations.append(f"a path that all made led to {len(made)} directories")
    attempts = [attempt for writer in writers for attempt in writer.attempts]
    listings = []
    for writer in writers:
        await writer.until_done(WaitForPeers, count=STORAGE, timeout_seconds=120)
        listings.append(await writer.listing())
        violations += [
            f"through {writer.machine.name}: {line}"
            for line in contradictions(attempts, listings[-1])
        ]
    if any(sorted(listing) != sorted(listings[0]) for listing in listings):
        violations.append("the nodes do not list the same")
    for line in violations[:20]:
        tell(f"VIOLATION: {line}")
    outcomes = Counter(attempt.outcome for attempt in attempts)
    what = "one split of the network" if switchboard is not None else f"{dict(mishaps.counts)}"
    slowest = max(writer.slowest for writer in writers)
    tell(
        f"{len(attempts)} links by {len(writers)} writers in {worked:.0f} s "
        f"({len(attempts) / worked:.0f} a second, the slowest {slowest:.1f} s), {what}; "
        f"{dict(outcomes)}; seed {seed}, {time.monotonic() - began:.0f} s in all; "
        f"{len(violations)} violations"
    )
    return len(violations)


def main() -> None:
    """Run the campaign from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="names a writer")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--split", action="store_true", help="part the network instead")
    parser.add_argument("--work", help="a directory to work in; in memory if not given")
    options = parser.parse_args()
    with workplace("writers", options.work) as work:

        async def everything(reactor: Any, _stop: Any) -> int:
            return await run(reactor, work, options.count, options.seed, split=options.split)

        sys.exit(1 if run_with_reactor(everything) else 0)


if __name__ == "__main__":
    main()
