"""Writers of one directory under bad weather, on a simulated clock; the history is checked.

Each writer adds names of its own, counts up a counter that all share, and races for names that
must not exist. Connections delay and lose boxes, replicas are killed and come back, or stand
still. At the end every acknowledged change must be there, no refused one, each value of the
counter acknowledged once, each contested name won once.

    python tests/campaigns/directory_writers.py --count 50 --seed 1
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from ampgrid.errors import (
    AmpgridError,
    ConditionFailedError,
    NotReachableError,
    UncertainChangeError,
    UndecidedError,
)
from ampgrid.testing.replicaworld import ReplicaWorld
from ampgrid.vdrive.table import Table

Lookup = Callable[[Sequence[bytes]], Awaitable[dict[bytes, bytes | None]]]

COUNTER = hashlib.sha256(b"counter").digest()


def slot_of(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


class History:
    """What the writers were told."""

    def __init__(self) -> None:
        self.added: set[str] = set()
        self.refused: set[str] = set()
        self.uncertain: set[str] = set()
        self.counted: list[int] = []
        self.maybe_counted = 0
        self.won: dict[str, list[int]] = {}
        self.maybe_won: dict[str, list[int]] = {}
        self.lost: list[tuple[str, int]] = []
        self.errors: dict[str, int] = {}


async def add(table: Table, history: History, name: str) -> None:
    async def plan(_lookup: Lookup) -> dict[bytes, bytes | None]:
        return {slot_of(name): name.encode()}

    try:
        await table.change(plan, [slot_of(name)])
    except UncertainChangeError:
        history.uncertain.add(name)
        raise
    except AmpgridError:
        history.refused.add(name)
        raise
    history.added.add(name)


async def count(table: Table, history: History) -> None:
    value = -1

    async def plan(lookup: Lookup) -> dict[bytes, bytes | None]:
        nonlocal value
        now = (await lookup([COUNTER]))[COUNTER]
        value = 1 if now is None else int(now) + 1
        return {COUNTER: b"%d" % value}

    try:
        await table.change(plan, [COUNTER])
    except UncertainChangeError:
        history.maybe_counted += 1
        raise
    history.counted.append(value)


async def contest(table: Table, history: History, name: str, me: int) -> None:
    slot = slot_of(name)

    async def plan(lookup: Lookup) -> dict[bytes, bytes | None]:
        if (await lookup([slot]))[slot] is not None:
            raise ConditionFailedError("there is such a name")
        return {slot: b"%d" % me}

    try:
        await table.change(plan, [slot])
    except ConditionFailedError:
        history.lost.append((name, me))
        return
    except UncertainChangeError:
        history.maybe_won.setdefault(name, []).append(me)
        raise
    history.won.setdefault(name, []).append(me)


async def write(world: ReplicaWorld, table: Table, history: History, me: int, names: int) -> None:
    for number in range(names):
        for work in (
            add(table, history, f"{me}-{number}"),
            count(table, history),
            contest(table, history, f"contested {number}", me),
        ):
            try:
                await work
            except (UncertainChangeError, NotReachableError, UndecidedError) as error:
                kind = type(error).__name__
                history.errors[kind] = history.errors.get(kind, 0) + 1
                await pause(world, 0.5)


async def pause(world: ReplicaWorld, seconds: float) -> None:
    waiting: Deferred[None] = Deferred()
    world.clock.callLater(seconds, waiting.callback, None)
    await waiting


def disturb(world: ReplicaWorld, chance: random.Random, replicas: int) -> None:
    """Kill and revive one replica at a time, now and then two; or let one stand still."""
    number = chance.randrange(replicas)
    kind = chance.randrange(3)
    world.clock.callLater(chance.uniform(0.1, 3), disturb, world, chance, replicas)
    if len(world.down) > chance.randrange(2):
        for down in range(replicas):
            world.revive(down)
    elif kind == 0:
        world.kill(number)
    elif kind == 1:
        world.freeze(number)
        world.clock.callLater(chance.uniform(0.1, 4), lambda: world.freeze(number, frozen=False))


async def operate(
    world: ReplicaWorld, table: Table, chance: random.Random, until: list[bool]
) -> None:
    """Change the replica set again and again: whatever is not connected just then is replaced."""
    while not until:
        await pause(world, chance.uniform(0.5, 4))
        try:
            await table.repair()
        except (UncertainChangeError, NotReachableError, UndecidedError):
            continue


async def verify(world: ReplicaWorld, table: Table, history: History) -> list[str]:
    """Compare what is there with what the writers were told."""
    there: dict[bytes, bytes] = {}
    async for page in table.entries():
        there.update(page)
    wrong = [
        f"{name} was acknowledged and is lost"
        for name in history.added
        if there.get(slot_of(name)) != name.encode()
    ]
    wrong += [
        f"{name} was refused and is there" for name in history.refused if slot_of(name) in there
    ]
    final = int(there.get(COUNTER, b"0"))
    if len(set(history.counted)) != len(history.counted):
        wrong.append("two writers were told the same count")
    if not len(history.counted) <= final <= len(history.counted) + history.maybe_counted:
        wrong.append(f"the counter is {final}, and {len(history.counted)} were acknowledged")
    for name, winners in history.won.items():
        if len(winners) > 1:
            wrong.append(f"{name} was won by several")
        if there.get(slot_of(name)) != b"%d" % winners[0]:
            wrong.append(f"{name} is not the winner's")
    for name, _me in history.lost:
        if slot_of(name) not in there:
            wrong.append(f"{name} was lost by somebody and won by nobody")
    return wrong


def check_disks(world: ReplicaWorld, index: bytes) -> list[str]:
    """Check that on all disks one ballot stands for one record."""
    by_ballot: dict[Any, set[bytes]] = {}
    for replica in world.replicas:
        kept = replica.kept.get(index)
        for record in () if kept is None else kept.history:
            by_ballot.setdefault(record.ballot, set()).add(record.content)
    several = [ballot for ballot, contents in by_ballot.items() if len(contents) > 1]
    return [f"{ballot} stands for several records" for ballot in several]


def run(
    seed: int, *, writers: int = 8, names: int = 5, replicas: int = 4, surgery: bool = False
) -> tuple[list[str], Any]:
    """Run one history; return what is wrong with it, and what happened."""
    world = ReplicaWorld(replicas, seed)
    chance = random.Random(seed)
    keys = world.keys()
    world.run(world.client().tables.create(keys))
    world.weather.most = chance.choice([0.002, 0.02, 0.2])
    world.weather.lost = chance.choice([0.0, 0.01, 0.05])
    if chance.random() < 0.8:
        disturb(world, chance, replicas)
    history = History()
    started = world.clock.seconds()
    work = [
        Deferred.fromCoroutine(
            write(world, world.client().tables.table(keys.fingerprint, keys), history, me, names)
        )
        for me in range(writers)
    ]
    ended: list[bool] = []
    surgeon = world.client().tables.table(keys.fingerprint, keys)
    operating = Deferred.fromCoroutine(operate(world, surgeon, chance, ended)) if surgery else None
    world.run(gatherResults(work, consumeErrors=True), within=20_000)
    ended.append(True)
    if operating is not None:
        world.run(operating)
    took = world.clock.seconds() - started
    world.weather.lost = 0.0
    world.weather.most = 0.001
    for number in range(replicas):
        world.revive(number)
    reader = world.client().tables.table(keys.fingerprint, keys)
    wrong = world.run(verify(world, reader, history))
    wrong += check_disks(world, keys.fingerprint)
    for client in world.clients:
        table = client.tables.table(keys.fingerprint, keys)
        lines = table.ground.troubles.lines
        wrong += [f"an honest replica was accused: {line}" for line in lines]
    return wrong, (took, len(history.added), history.errors)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--surgery", action="store_true", help="change the replica set meanwhile")
    arguments = parser.parse_args()
    bad = 0
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        replicas = 7 if arguments.surgery else 4
        wrong, told = run(seed, replicas=replicas, surgery=arguments.surgery)
        print(f"seed {seed}: {told[0]:.1f} s, {told[1]} names, errors {told[2]}")
        for line in wrong:
            print("  WRONG:", line)
        bad += bool(wrong)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
