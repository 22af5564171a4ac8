"""The keeper of directories: what it walks, when, and what it does about what it finds."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import ChkCap, ChkVerifierCap, DirCap
from ampgrid.errors import NotReachableError, OperationCancelledError
from ampgrid.immutable import KeptFiles, Operation, Schedule
from ampgrid.immutable.schedule import SECOND_LOOK_SECONDS
from ampgrid.immutable.uploader import Encoding
from ampgrid.node.drive_keeper import DriveKeeper, FileLook, Tools
from ampgrid.store.keptdb import KeptDatabase
from ampgrid.testing.drive import MemoryDrive
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.wire import InlineThreads

DAY = 86_400.0
FILE = ChkCap(b"k" * 16, b"u" * 32, 2, 3, 5_000)
OWN = ChkCap(b"o" * 16, b"u" * 32, 2, 3, 5_000)


class Files:
    """Looks at files, in the place of the grid."""

    def __init__(self) -> None:
        self.looked: list[tuple[ChkVerifierCap, bool]] = []
        self.well = True

    async def look(self, cap: ChkVerifierCap, operation: Operation, *, repair: bool) -> FileLook:
        self.looked.append((cap, repair))
        operation.check()
        if repair:
            return FileLook(well=True, renewed=True, repaired=True)
        return FileLook(well=self.well, renewed=True)


class Snapshots:
    """Notes which directories are to be kept."""

    def __init__(self) -> None:
        self.kept: list[DirCap] = []
        self.fail = False

    async def keep(self, cap: DirCap, operation: Operation) -> bool:
        del operation
        if self.fail:
            raise NotReachableError("nobody")
        self.kept.append(cap)
        return True


class KeeperCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.drive = MemoryDrive()
        self.clock = self.drive.clock
        self.database = KeptDatabase(Path(folder.name) / "kept.sqlite")
        self.addCleanup(self.database.close)
        self.files, self.snapshots = Files(), Snapshots()
        self.aliases: list[tuple[str, Any]] = []
        self.peers = 4
        self.roots_problem = ""
        self.root = self.run_(self.drive.get_private_root())
        self.below = self.run_(self.root.create_empty_directory("below"))
        self.run_(self.below.set_uri("file", FILE))
        self.run_(self.below.set_uri("up", self.root.get_uri()))
        self.keeper = self.make()

    def make(self, *, enabled: bool = True) -> DriveKeeper:
        schedule = Schedule(7 * DAY, self.drive.random.uniform)
        self.kept = KeptFiles(self.database, InlineThreads(), self.wall, schedule)
        return DriveKeeper(
            lambda: [("private", self.root.cap), *self.aliases],
            lambda: Tools(self.drive.maker, self.files, self.snapshots),
            self.kept,
            connected=lambda: self.peers,
            period=7 * DAY,
            uniform=self.drive.random.uniform,
            clock=self.clock,
            wall=self.wall,
            enabled=enabled,
            roots_problem=lambda: self.roots_problem,
        )

    def wall(self) -> float:
        return 1_700_000_000.0 + self.clock.seconds()

    def run_(self, work: Any) -> Any:
        return self.drive.run(work)

    def walk(self, *, full: bool = True, snapshots: bool = False) -> dict[str, Any]:
        walking = self.keeper.run(Operation(), full=full, snapshots=snapshots)
        return dict(self.run_(walking))

    def renewed(self, node: DirectoryNode) -> int:
        return self.drive.tables.renewed[node.index]


class WalkTests(KeeperCase):
    def test_roots_that_cannot_be_read_are_told_of(self) -> None:
        self.assertEqual(self.walk()["problems"], [])
        self.roots_problem = "aliases, line 1: no cap."
        told = self.walk()
        self.assertEqual((told["complete"], told["directories"], told["failed"]), (True, 2, 1))
        self.assertEqual(told["problems"], ["the roots: aliases, line 1: no cap."])

    def test_everything_is_renewed_and_checked_once(self) -> None:
        self.aliases = [("again", self.below.cap), ("read", self.root.read_only().cap)]
        told = self.walk()
        self.assertEqual(
            [told[key] for key in ("complete", "directories", "files", "renewed", "failed")],
            [True, 2, 1, 3, 0],
        )
        self.assertEqual((self.renewed(self.root), self.renewed(self.below)), (1, 1))
        self.assertEqual(self.files.looked, [(FILE.get_verify_cap(), False)])
        self.assertEqual(self.snapshots.kept, [])

    def test_files_of_its_own_are_the_other_keepers(self) -> None:
        self.run_(self.kept.remember(OWN.get_verify_cap(), Encoding(2, 3, 3)))
        self.run_(self.root.set_uri("own", OWN))
        self.walk()
        self.assertEqual([cap for cap, _ in self.files.looked], [FILE.get_verify_cap()])

    def test_damage_is_repaired_at_the_second_look(self) -> None:
        self.drive.tables.damaged.add(self.below.index)
        self.files.well = False
        told = self.walk()
        self.assertEqual((told["unhealthy"], told["repaired"], told["waiting"]), (1, 0, 2))
        self.clock.advance(60)
        self.assertEqual(self.walk()["repaired"], 0)
        self.clock.advance(SECOND_LOOK_SECONDS)
        told = self.walk()
        self.assertEqual((told["repaired"], told["waiting"], told["failed"]), (2, 0, 0))
        self.assertEqual(self.drive.tables.damaged, set())

    def test_told_to_it_repairs_without_a_second_look(self) -> None:
        self.drive.tables.damaged.add(self.below.index)
        walking = self.keeper.run(Operation(), full=True, snapshots=False, at_once=True)
        self.assertEqual(self.run_(walking)["waiting"], 0)
        self.assertEqual(self.drive.tables.damaged, set())
        self.assertIn((FILE.get_verify_cap(), True), self.files.looked)

    def test_what_is_unlinked_meanwhile_is_forgotten(self) -> None:
        self.drive.tables.damaged.add(self.below.index)
        self.assertEqual(self.walk()["waiting"], 1)
        self.run_(self.root.delete("below"))
        self.assertEqual(self.walk()["waiting"], 0)

    def test_an_unreachable_directory_is_told_of_and_the_rest_kept(self) -> None:
        self.drive.tables.unreachable.add(self.below.index)
        told = self.walk()
        self.assertEqual((told["unreadable"], told["failed"]), (1, 1))
        self.assertIn("private:below", told["problems"][0])
        self.assertEqual(self.renewed(self.root), 1)

    def test_snapshots_are_of_what_can_be_changed(self) -> None:
        other = self.run_(self.drive.create_directory())
        self.aliases = [("read", other.read_only().cap)]
        told = self.walk(full=False, snapshots=True)
        self.assertEqual(told["snapshots"], 2)
        self.assertEqual(
            {cap.index for cap in self.snapshots.kept}, {self.root.index, self.below.index}
        )
        self.assertEqual((self.files.looked, self.renewed(self.root)), ([], 0))
        self.snapshots.fail = True
        self.assertEqual(self.walk(full=False, snapshots=True)["failed"], 2)

    def test_it_can_be_cancelled(self) -> None:
        operation = Operation()
        operation.cancel()
        with self.assertRaises(OperationCancelledError):
            self.run_(self.keeper.run(operation, full=True, snapshots=True))
        self.assertFalse(self.keeper.status()["running"])


class ByItselfTests(KeeperCase):
    def start(self, **given: Any) -> None:
        self.keeper = self.make(**given)
        self.run_(self.keeper.start())
        self.addCleanup(lambda: self.run_(self.keeper.stop()))

    def test_leases_weekly_and_snapshots_daily(self) -> None:
        self.start()
        for _ in range(7 * 24 * 4):
            self.clock.advance(3600)
        self.assertIn(self.renewed(self.root), (4, 5))
        self.assertIn(len(self.snapshots.kept) // 2, range(28, 34))

    def test_a_restart_begins_nothing_anew(self) -> None:
        self.start()
        self.clock.advance(DAY / 2)
        self.assertEqual(self.renewed(self.root), 1)
        last = self.keeper.status()["last_walk"]
        self.run_(self.keeper.stop())
        self.start()
        self.assertEqual(self.keeper.status()["last_walk"], last)
        self.clock.advance(DAY / 4)
        self.assertEqual(self.renewed(self.root), 1)

    def test_what_was_noted_by_another_version_is_begun_anew(self) -> None:
        for noted in ["x", "[]", "{}", json.dumps({"walked_at": None})]:
            self.database.set_marks({"drive": noted})
            self.start()
            self.assertIsNone(self.keeper.status()["last_walk"])

    def test_without_peers_it_waits(self) -> None:
        self.peers = 0
        self.start()
        self.clock.advance(DAY)
        self.assertEqual(self.renewed(self.root), 0)
        self.peers = 4
        self.clock.advance(DAY)
        self.assertEqual(self.renewed(self.root), 1)

    def test_disabled_it_does_nothing(self) -> None:
        self.start(enabled=False)
        self.clock.advance(30 * DAY)
        self.assertEqual(self.renewed(self.root), 0)
