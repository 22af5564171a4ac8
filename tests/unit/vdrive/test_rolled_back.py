"""A writer believes no replicas that show less than it has seen committed."""

from __future__ import annotations

import copy

from ampgrid.errors import RolledBackError
from tests.unit.vdrive.test_table import Case, setting, slot_of


class RolledBackTests(Case):
    def test_nothing_is_signed_on_a_base_below_what_was_committed(self) -> None:
        self.put(1)
        kept = [copy.deepcopy(replica.kept) for replica in self.world.replicas]
        for number in range(2, 7):
            self.put(number)
        for replica, old in zip(self.world.replicas, kept, strict=True):
            replica.kept = old
        again = self.world.client(remembered=self.writer.remembered)
        table = again.tables.table(self.table.index, self.keys)
        for plan in (setting({slot_of(9): b"x"}), setting({})):
            self.assertRaises(RolledBackError, self.run_, table.change(plan, [slot_of(9)]))
        for replica in self.world.replicas:
            (directory,) = replica.kept.values()
            self.assertEqual(directory.state.accepted.version, 2)

    def test_a_read_of_what_another_wrote_meanwhile_does_no_harm(self) -> None:
        self.put(1)
        other = self.world.client().tables.table(self.table.index, self.keys)
        self.put(2, table=other)
        self.run_(self.writer.tables.table(self.table.index, None).record())
        self.put(3)
        self.assertEqual(len(self.list_(self.table)), 3)
