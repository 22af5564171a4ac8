"""Every liar of the zoo as one of four replicas: each must be survived, and named.

A directory is filled while all are honest; then one replica begins to lie. From then on two
writers change it, new readers look names up and list it, and all that they see is compared with
a plain dict. At the end the liar must have been named to somebody, and nobody else.

    python tests/campaigns/replica_zoo.py --count 3 --seed 1
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
from collections.abc import Callable
from typing import Any

from ampgrid.testing.liars import ZOO, Liar
from ampgrid.testing.replicaworld import ReplicaWorld
from ampgrid.vdrive.membership import CURRENT
from ampgrid.vdrive.nodes import NodeCache
from ampgrid.vdrive.table import Table


def slot_of(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


class Story:
    """One liar, one seed."""

    def __init__(self, liar: Callable[[bytes, bytes], Liar], seed: int) -> None:
        self.chance = random.Random(seed)
        place = self.chance.randrange(4)
        self.world = ReplicaWorld(4, seed, {place: liar})
        self.world.weather.most = 0.01
        self.keys = self.world.keys()
        self.liar: Any = self.world.replicas[place]
        self.model: dict[bytes, bytes] = {}
        self.tables: list[Table] = []
        self.wrong: list[str] = []

    def table(self, *, keys: bool, cached: bool = True) -> Table:
        client = self.world.client(cache=None if cached else NodeCache(0))
        table = client.tables.table(self.keys.fingerprint, self.keys if keys else None)
        self.tables.append(table)
        return table

    async def change(self, table: Table, most: int) -> None:
        changes: dict[bytes, bytes | None] = {}
        for _ in range(self.chance.randint(1, most)):
            slot = slot_of(self.chance.randrange(300))
            gone = self.chance.random() < 0.2
            changes[slot] = None if gone else self.chance.randbytes(self.chance.randint(1, 600))

        async def plan(_lookup: object) -> dict[bytes, bytes | None]:
            return changes

        await table.change(plan, list(changes)[:64])
        for slot, entry in changes.items():
            if entry is None:
                self.model.pop(slot, None)
            else:
                self.model[slot] = entry

    async def compare(self, table: Table) -> None:
        found: dict[bytes, bytes] = {}
        async for page in table.entries():
            found.update(page)
        if found != self.model:
            self.wrong.append("a listing is not what was written")
        for _ in range(4):
            slot = slot_of(self.chance.randrange(300))
            if await table.get(slot) != self.model.get(slot):
                self.wrong.append("an entry is not what was written")

    async def tell(self) -> None:
        writer = self.table(keys=True)
        await self.change(writer, 200)
        for _ in range(6):
            await self.change(writer, 3)
        await self.compare(writer)
        self.liar.begin()
        other = self.table(keys=True, cached=False)
        for turn in range(8):
            await self.change(writer if turn % 2 else other, 3 if turn else 150)
            await self.compare(self.table(keys=False, cached=False))
            await self.compare(writer)
            await self.compare(other)
        await self.judge(await writer.check())

    async def judge(self, report: Any) -> None:
        named = {one.replica_id.node_id for one in report.replicas if one.state != CURRENT}
        for table in self.tables:
            for replica in self.world.replicas:
                if table.ground.troubles.of(replica.node_id):
                    named.add(replica.node_id)
        met = self.liar.named and self.liar.has_lied
        if met and self.liar.node_id not in named:
            self.wrong.append("the liar was not named")
        if named - {self.liar.node_id}:
            self.wrong.append("an honest replica was named")


def run(liar: Callable[[bytes, bytes], Liar], seed: int) -> list[str]:
    """Tell one story; return what is wrong with it."""
    story = Story(liar, seed)
    story.world.run(story.world.client().tables.create(story.keys))
    story.world.run(story.tell())
    return story.wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=3, help="seeds for each liar")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    bad = 0
    for liar in ZOO:
        for seed in range(arguments.seed, arguments.seed + arguments.count):
            try:
                wrong = run(liar, seed)
            except Exception as error:
                wrong = [f"{type(error).__name__}: {error}"]
            for line in wrong:
                print(f"{liar.__name__}, seed {seed}: WRONG: {line}")
            bad += bool(wrong)
        print(f"{liar.__name__}: {arguments.count} stories")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
