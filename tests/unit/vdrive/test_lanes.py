"""What a replica costs that asks for what it cannot lack: one box for each change."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands import vdrive as commands
from ampgrid.formats.record import Record, ReplicaId
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.liars import Liar
from ampgrid.testing.replicaworld import ReplicaWorld
from ampgrid.vdrive import patience
from ampgrid.vdrive.patience import FIRST_SECONDS, MOST_ASIDE, MOST_SECONDS, Patience
from tests.unit.vdrive.test_table import Case


class HoldsNothing(Liar):
    """It says that it holds nothing, whatever it is given."""

    def judge(self, index: bytes, record: bytes, changes: Any) -> dict[str, Any]:
        """Lack everything."""
        if self.lying:
            return {"verdict": commands.MISSING, "missing": [Record.unpack(record).root]}
        return super().judge(index, record, changes)


class NeverHeldAnything(HoldsNothing):
    """It says so from the first day on."""

    def __init__(self, node_id: bytes, store_id: bytes) -> None:
        super().__init__(node_id, store_id)
        self.lying = True


class MakesNodesUp(Liar):
    """It shows what it holds, and lacks a node that there never was."""

    def judge(self, index: bytes, record: bytes, changes: Any) -> dict[str, Any]:
        """Lack something else each time."""
        if self.lying:
            held = self.kept[index].state.accepted
            assert held is not None
            missing = [self.chance.randbytes(32)]
            return {"verdict": commands.MISSING, "held": held.pack(), "missing": missing}
        return super().judge(index, record, changes)


class LeftAsideTests(Case):
    """A lone writer pays one box a change for a liar, in a directory of some size."""

    def begin(self, liar: Any) -> None:
        """Make a directory with 300 entries, one of whose four replicas begins to lie."""
        self.world = ReplicaWorld(4, 7, {1: liar})
        self.keys = self.world.keys()
        self.table = self.run_(self.world.client().tables.create(self.keys))
        self.put(*range(300))
        self.bad = self.world.replicas[1]
        self.bad.begin()  # type: ignore[attr-defined]
        self.before = self.counts()

    def counts(self) -> dict[str, int]:
        """Return how often each Command was called, at the liar and elsewhere."""
        found = {f"{name} of the liar": count for name, count in self.bad.calls.items()}
        found["GetNodes"] = self.calls("GetNodes")
        return found

    def grown(self) -> dict[str, int]:
        """Return what was called since it began to lie, or since the last time."""
        now = self.counts()
        grown = {
            name: count - self.before.get(name, 0)
            for name, count in now.items()
            if count != self.before.get(name, 0)
        }
        self.before = now
        return grown

    def change(self, count: int) -> None:
        """Make some changes, and let what goes on in the background end."""
        for number in range(count):
            self.put(1_000 + number)
        self.world.clock.advance(5.0)

    def test_who_says_it_holds_nothing_is_named_and_given_nothing(self) -> None:
        self.begin(HoldsNothing)
        self.change(10)
        self.assertEqual(self.grown(), {"SetChild of the liar": 10})
        [trouble] = self.table.ground.troubles.lines
        self.assertIn("shows an older version", trouble)

    def test_who_never_held_anything_is_given_all_once(self) -> None:
        self.begin(NeverHeldAnything)
        self.change(1)
        self.grown()
        self.change(10)
        self.assertEqual(self.grown(), {"SetChild of the liar": 10})
        self.world.clock.advance(FIRST_SECONDS)
        self.change(10)
        # It is tried once more, and left aside for longer.
        grown = self.grown()
        self.assertLessEqual(grown["SetChild of the liar"], 10)
        self.assertLessEqual(grown["Accept of the liar"], 2)
        self.world.clock.advance(FIRST_SECONDS)
        self.change(10)
        self.assertEqual(self.grown(), {"SetChild of the liar": 10})

    def test_who_makes_nodes_up_is_named_and_believed_once(self) -> None:
        self.begin(MakesNodesUp)
        self.change(1)
        self.assertIn("GetNodes", self.grown())
        self.change(10)
        self.assertEqual(self.grown(), {"SetChild of the liar": 10})
        lines = self.table.ground.troubles.lines
        self.assertTrue(any("not of the directory" in line for line in lines), lines)

    def test_a_large_change_is_one_box_too(self) -> None:
        self.begin(MakesNodesUp)
        self.change(1)
        self.grown()
        self.put(*range(2_000, 2_200))
        self.world.clock.advance(5.0)
        grown = self.grown()
        self.assertNotIn("StageNodes of the liar", grown)
        self.assertEqual(grown["Accept of the liar"], 1)

    def test_a_repair_brings_it_up_to_date(self) -> None:
        self.begin(MakesNodesUp)
        self.change(3)
        self.bad.lying = False  # type: ignore[attr-defined]
        self.run_(self.table.repair())
        report = self.run_(self.table.check())
        self.assertEqual(report.good, 4)

    def test_who_is_honest_again_takes_part_after_a_while(self) -> None:
        self.begin(MakesNodesUp)
        self.change(3)
        self.bad.lying = False  # type: ignore[attr-defined]
        self.world.clock.advance(FIRST_SECONDS)
        self.change(1)
        self.assertEqual(self.run_(self.table.check()).good, 4)


class PatienceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = HeapClock()
        self.patience = Patience(self.clock)

    def one(self, number: int) -> ReplicaId:
        return ReplicaId(number.to_bytes(20, "big"), bytes(16))

    def test_twice_as_long_each_time(self) -> None:
        seconds = FIRST_SECONDS
        self.assertFalse(self.patience.is_lost(self.one(1)))
        for _ in range(12):
            self.patience.lose(self.one(1))
            self.clock.advance(seconds - 1)
            self.assertTrue(self.patience.is_lost(self.one(1)))
            self.assertFalse(self.patience.is_lost(self.one(2)))
            self.clock.advance(1)
            self.assertFalse(self.patience.is_lost(self.one(1)))
            seconds = min(2 * seconds, MOST_SECONDS)

    def test_it_is_bounded(self) -> None:
        self.patch(patience, "MOST_ASIDE", 3)
        for number in range(5):
            self.patience.lose(self.one(number))
        lost = [self.patience.is_lost(self.one(number)) for number in range(5)]
        self.assertEqual(lost, [False, False, True, True, True])
        self.assertGreater(MOST_ASIDE, 100)
