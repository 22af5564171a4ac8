"""Check, verify and repair on a grid in memory, with the read cap and with the verify cap."""

import os
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import LitCap, parse_cap
from ampgrid.crypto.base32 import b2a
from ampgrid.errors import NotEnoughSharesError
from ampgrid.immutable import Checker, Repairer
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.grid import MemoryGrid
from ampgrid.testing.shelves import Shelf
from ampgrid.wire import InlineThreads
from tests.material import make_shares, shelves_for, some_bytes


class CheckTests(SynchronousTestCase):
    """What a check finds, on shelves."""

    def setUp(self):
        self.clock = HeapClock()
        self.cap, self.shares = make_shares(some_bytes(5_000), 3, 6, max_segment_size=1_000)

    def check(self, shelves, *, verify=False, cap=None):
        """Check with the verify cap."""
        checker = Checker(lambda: shelves, InlineThreads(), self.clock)
        return self.clock.run(checker.check(cap or self.cap.get_verify_cap(), verify=verify))

    def test_all_good(self):
        report = self.check(shelves_for(self.cap, list(enumerate(self.shares))), verify=True)
        self.assertTrue(report.healthy)
        self.assertEqual((6, 6, ()), (report.count_good, report.happy, report.bad))

    def test_missing_and_clumped(self):
        one = Shelf(b"1" * 20, {(self.cap.storage_index, n): self.shares[n] for n in range(3)})
        two = Shelf(b"2" * 20, {(self.cap.storage_index, 2): self.shares[2]})
        report = self.check([one, two, Shelf(b"3" * 20, {})])
        self.assertEqual(
            {0: (b"1" * 20,), 1: (b"1" * 20,), 2: (b"1" * 20, b"2" * 20)}, report.good
        )
        self.assertEqual(2, report.happy)
        self.assertTrue(report.recoverable)
        self.assertFalse(report.healthy)
        self.assertEqual((3, 3), (report.servers_asked, report.servers_answered))

    def test_a_flipped_byte_is_found_by_verify_and_named(self):
        share = self.shares[1]
        found = 0
        for position in range(0, len(share), 7):
            bad = bytearray(share)
            bad[position] ^= 1
            shelves = shelves_for(self.cap, [(0, self.shares[0]), (1, bytes(bad))])
            report = self.check(shelves, verify=True)
            if report.bad:
                found += 1
                self.assertEqual((1, b"\1" * 20), (report.bad[0].number, report.bad[0].server_id))
                self.assertEqual({0}, set(report.good))
        self.assertGreater(found, len(share) // 7 // 2)

    def test_a_check_alone_finds_foreign_shares(self):
        _cap, others = make_shares(some_bytes(5_000, b"o"), 3, 6, max_segment_size=1_000)
        shelves = shelves_for(self.cap, [(0, self.shares[0]), (1, others[1]), (2, b"junk" * 99)])
        report = self.check(shelves)
        self.assertEqual([1, 2], [bad.number for bad in report.bad])

    def test_a_literal_file_is_always_healthy(self):
        report = self.check([], cap=LitCap(b"abc"))
        self.assertTrue(report.healthy)
        self.assertTrue(report.recoverable)

    def test_the_report_is_json(self):
        report = self.check(shelves_for(self.cap, list(enumerate(self.shares))[:2])).to_json()
        self.assertEqual(
            (2, 6, False), (report["shares_good"], report["shares_total"], report["healthy"])
        )
        self.assertEqual(["0", "1"], list(report["good"]))


class RepairTests(SynchronousTestCase):
    """What a repair writes, on a grid."""

    def grid(self, **arguments):
        """Return a started grid."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        grid = MemoryGrid(self.folder, **arguments)
        grid.start()
        self.addCleanup(grid.stop)
        return grid

    def repair(self, grid, cap, *, verify=False):
        """Repair through the client with the verify cap."""
        repairer = Repairer(grid.client.core.servers, InlineThreads(), grid.clock)
        return grid.run(repairer.repair(parse_cap(cap).get_verify_cap(), verify=verify))

    def shares_of(self, grid, cap):
        """Return {number: share} of all nodes."""
        index = parse_cap(cap).storage_index
        found = {}
        for server in grid.client.core.servers():
            for number, size in grid.run(server.shares(index))[0].items():
                found[number] = grid.run(server.read(index, number, 0, size))
        return found

    def check_missing(self, size, lost):
        """Upload, lose some nodes, repair onto new ones; the shares are those of before."""
        grid = self.grid(nodes=8, shares=(2, 5, 5), max_segment_size=10_000)
        data = some_bytes(size)
        cap = grid.upload(data)
        before = self.shares_of(grid, cap)
        self.assertEqual(5, len(before))
        index = parse_cap(cap).storage_index
        holders = [n for n in grid.nodes if grid.run(self.holds(n, index))]
        for node in holders[:lost]:
            node.cut()
        grid.clock.advance(1)
        report = self.repair(grid, cap)
        self.assertEqual(5 - lost, report.before.count_good)
        self.assertEqual(5, report.after.count_good)
        self.assertEqual(5, report.after.happy)
        self.assertEqual(lost, len(report.written))
        self.assertEqual(before, self.shares_of(grid, cap))
        self.assertEqual(data, grid.download(cap))
        again = self.repair(grid, cap)
        self.assertEqual((), again.written)

    async def holds(self, node, index):
        """Tell whether a node holds shares of a file."""
        sizes, _heads = await node.core._servers[node.core.node_id].shares(index)
        return bool(sizes)

    def test_one_missing_share(self):
        self.check_missing(45_000, 1)

    def test_as_many_missing_as_can_be(self):
        self.check_missing(45_000, 3)

    def test_a_small_file(self):
        self.check_missing(500, 2)

    def paths(self, grid, cap):
        """Return the files of all shares of a file."""
        name = b2a(parse_cap(cap).storage_index)
        return sorted(self.folder.glob(f"**/shares/*/{name}/*"))

    def test_files_of_shares_that_were_deleted_while_they_were_open(self):
        grid = self.grid(nodes=3, shares=(1, 3, 3))
        cap = grid.upload(some_bytes(200_000))
        self.assertEqual(200_000, len(grid.download(cap)))
        paths = self.paths(grid, cap)
        paths[0].unlink()
        report = self.repair(grid, cap, verify=True)
        self.assertEqual((2, ()), (report.before.count_good, report.before.bad))
        self.assertEqual((), report.before.problems)
        self.assertEqual(3, report.after.count_good)
        self.assertEqual(1, len(report.written))

    def test_a_share_that_was_cut_off_is_bad_and_replaced(self):
        grid = self.grid(nodes=3, shares=(1, 3, 3))
        cap = grid.upload(some_bytes(200_000))
        paths = self.paths(grid, cap)
        os.truncate(paths[1], 70_000)
        report = self.repair(grid, cap)
        (bad,) = report.before.bad
        self.assertEqual(int(paths[1].name), bad.number)
        self.assertIn("shorter", bad.reason)
        self.assertEqual((), report.before.problems)
        self.assertTrue(report.after.healthy)
        self.assertEqual(paths, self.paths(grid, cap))
        self.assertEqual(paths[0].stat().st_size, paths[1].stat().st_size)

    def repair_rot(self, shelves):
        """Verify and repair what is on shelves, of which share 1 on the first has rotted."""
        share = bytearray(self.shares[1])
        share[60] ^= 1
        shelves[0].contents[self.cap.storage_index, 1] = bytes(share)
        clock = HeapClock()
        repairer = Repairer(lambda: shelves, InlineThreads(), clock)
        return clock.run(repairer.repair(self.cap.get_verify_cap(), verify=True))

    def test_a_rotten_block_that_a_server_keeps_is_still_told_of_after_the_repair(self):
        self.cap, self.shares = make_shares(some_bytes(5_000), 3, 6, max_segment_size=1_000)
        rest = [0, 2, 3, 4, 5]
        for spare in (0, 1):
            shelves = [
                Shelf(b"1" * 20, {}),
                *shelves_for(self.cap, [(n, self.shares[n]) for n in rest]),
            ]
            shelves += [Shelf(b"s" * 20, {})] * spare
            report = self.repair_rot(shelves)
            self.assertEqual([(1, b"1" * 20)], [(b.number, b.server_id) for b in report.after.bad])
            self.assertFalse(report.after.healthy)
            self.assertNotIn(b"1" * 20, report.after.good[1])
            self.assertEqual(6, report.after.count_good)

    def test_a_rotten_copy_that_its_server_sets_aside_is_no_longer_told_of(self):
        class Listens(Shelf):
            async def advise_corrupt(self, storage_index, number, reason):
                del self.contents[storage_index, number]

        self.cap, self.shares = make_shares(some_bytes(5_000), 3, 6, max_segment_size=1_000)
        shelves = [
            Listens(bytes([number]) * 20, {(self.cap.storage_index, number): share})
            for number, share in enumerate(self.shares)
        ]
        report = self.repair_rot(shelves)
        self.assertEqual(1, len(report.before.bad))
        self.assertEqual(((), ()), (report.written, report.after.bad))
        self.assertTrue(report.after.healthy)

    def test_too_few_left(self):
        grid = self.grid(nodes=5, shares=(3, 5, 5))
        cap = grid.upload(some_bytes(5_000))
        for node in grid.nodes[:3]:
            node.cut()
        grid.clock.advance(1)
        with self.assertRaises(NotEnoughSharesError):
            self.repair(grid, cap)

    def test_clumped_shares_are_spread(self):
        grid = self.grid(nodes=2, shares=(2, 2, 6))
        data = some_bytes(20_000)
        cap = grid.upload(data)
        late = grid.add_nodes(4)
        self.assertEqual(6, grid.run(grid.client.core.wait_for_peers(6, 600)))
        report = self.repair(grid, cap)
        self.assertEqual((6, 2), (report.before.count_good, report.before.happy))
        self.assertEqual(6, report.after.happy)
        self.assertEqual({n.identity.node_id for n in late}, {s for _n, s in report.written})
        self.assertEqual(data, grid.download(cap))
