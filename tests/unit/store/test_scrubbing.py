"""Stored shares looked at: every bad one found and set aside, no good one touched."""

from __future__ import annotations

import contextlib
import errno
import os
import random

from ampgrid.errors import BrokenStoreError, NotStoredError
from ampgrid.formats.segments import share_data_size
from ampgrid.store import SMALL_SHARE_BYTES, PosixFileSystem, ShareStore, quarantine
from ampgrid.store.catalog import MOST_FINDINGS, TAIL_BYTES, Finding, note_finding, tail_of
from ampgrid.store.scrubbing import COST_OF_A_SHARE, ScrubProgress
from ampgrid.store.space import LEASE_OVERHEAD, SHARE_OVERHEAD
from tests.contract.share_store_contract import NOW, PEER, lease, request
from tests.material import make_shares, some_bytes
from tests.unit.store.disks import FaultyFileSystem
from tests.unit.store.test_recovery import StoreCase

SMALL, BIG = 5_000, 3 * SMALL_SHARE_BYTES


class ScrubCase(StoreCase):
    def store_share(self, index, number, share, peer=PEER):
        asked = request((number,), len(share), index=index, terms=lease(), peer=peer)
        task = self.store.allocating(asked, in_memory=True)
        upload = self.store.run_all([task])[0].get().accepted[number]
        upload.write([(0, share)])
        self.assertTrue(self.store.close_upload(upload))

    def store_file(self, size=BIG, seed=b"s", numbers=(0, 1, 2)):
        """Store shares, and return (storage index, shares)."""
        cap, shares = make_shares(some_bytes(size, seed), 2, 3, 10_000)
        for number in numbers:
            self.store_share(cap.storage_index, number, shares[number])
        return cap.storage_index, shares

    def scrub(self, budget=2**40, walk=None):
        """Walk over all; return the steps."""
        walk = walk or self.store.upkeep.walk()
        steps = []
        while not steps or not steps[-1].ended:
            steps.append(walk.advance(budget, NOW + 7))
        walk.close()
        return steps

    def bad(self, **how):
        return [(f.storage_index, f.number) for step in self.scrub(**how) for f in step.bad]

    def damage(self, index, number, at, bit=1):
        """Flip a bit of a stored share, behind the store's back."""
        path = self.store.path_of(index, number)
        if path.exists():
            with path.open("r+b") as file:
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ bit]))
            return

        def change(sql):
            (data,) = sql.execute(
                "SELECT data FROM shares WHERE storage_index = ? AND number = ?", (index, number)
            ).fetchone()
            changed = bytearray(data)
            changed[at] ^= bit
            sql.execute(
                "UPDATE shares SET data = ? WHERE storage_index = ? AND number = ?",
                (bytes(changed), index, number),
            )

        self.store.database.call(change)

    def quarantined(self):
        return sorted(p.name for p in (self.directory / "quarantine").iterdir())


class GoodTests(ScrubCase):
    def test_all_are_looked_at_and_none_touched(self):
        for size in (SMALL, BIG):
            self.store_file(size, b"%d" % size)
        steps = self.scrub()
        total = sum(step.size for step in steps)
        self.assertEqual(total, self.store.room(fresh=True).used)
        self.assertEqual(sum(step.shares for step in steps), 6)
        self.assertGreaterEqual(sum(step.cost for step in steps), total + 6 * COST_OF_A_SHARE)
        self.assertEqual(self.bad(), [])
        self.assertEqual(self.quarantined(), [])

    def test_an_empty_store(self):
        (step,) = self.scrub()
        self.assertEqual((step.shares, step.position, step.ended), (0, 0, True))

    def test_stretches_are_bounded_and_go_on_anywhere(self):
        self.store_file(BIG)
        self.store_file(SMALL, b"other")
        self.assertGreater(share_data_size(BIG, 2), SMALL_SHARE_BYTES)
        steps = self.scrub(budget=50_000)
        self.assertGreater(len(steps), 3)
        self.assertLess(max(step.cost for step in steps), 50_000 + 2**18)
        position, seen = 0, 0
        while True:
            walk = self.store.upkeep.walk(position)
            step = walk.advance(1 if seen % 2 else 2**18, NOW)
            while not step.ended and step.position == position:
                step = walk.advance(1, NOW)
            walk.close()
            position = step.position
            seen += step.shares
            if step.ended:
                break
        self.assertEqual(seen, 6)

    def test_a_closed_walk_leaves_no_file_open(self):
        self.store_file(BIG)
        before = len(os.listdir("/proc/self/fd"))
        walk = self.store.upkeep.walk()
        walk.advance(COST_OF_A_SHARE + 10, NOW)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before + 1)
        walk.close()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_shares_that_come_and_go_on_the_way(self):
        index, shares = self.store_file(BIG, numbers=(0, 1))
        walk = self.store.upkeep.walk()
        walk.advance(1, NOW)
        self.store_share(index, 2, shares[2])
        self.store.database.call(lambda sql: sql.execute("DELETE FROM shares WHERE number = 1"))
        self.store.path_of(index, 1).unlink()
        steps = self.scrub(walk=walk)
        self.assertEqual(sum(step.shares for step in steps), 3)
        self.assertEqual([step.bad for step in steps], [[]])


class BadTests(ScrubCase):
    def test_each_part_of_small_and_large_shares(self):
        """A flipped bit anywhere, also where only the hash of the end can see it."""
        random_ = random.Random(5)
        for size in (SMALL, BIG):
            index, shares = self.store_file(size, b"%d" % size)
            length = len(shares[1])
            hidden = shares[1].index(b"crypttext_hash:32:") + 20
            for at in (0, 40, length - 1, hidden, *random_.sample(range(length), 10)):
                self.damage(index, 1, at, 1 << random_.randrange(8))
                self.assertEqual(self.bad(), [(index, 1)], at)
                self.assertEqual(self.store.shares(index).keys(), {0, 2})
                with self.assertRaises(NotStoredError):
                    self.store.read(index, 1, 0, 1)
                self.check_accounts()
                self.store_share(index, 1, shares[1])
                self.assertEqual(self.store.read(index, 1, 0, length), shares[1])
        self.assertEqual(self.bad(), [])

    def test_what_is_set_aside_is_whole_and_counted(self):
        for size in (SMALL, BIG):
            index, shares = self.store_file(size, b"%d" % size)
            for _ in range(2):
                self.damage(index, 0, 100)
                self.scrub()
                expected = bytearray(shares[0])
                expected[100] ^= 1
                contents = [
                    (self.directory / "quarantine" / name).read_bytes()
                    for name in self.quarantined()
                ]
                self.assertIn(bytes(expected), contents)
                self.store_share(index, 0, shares[0])
        # One copy of each: the second damage was that of the first over again.
        self.assertEqual(len(self.quarantined()), 2)
        room = self.store.room(fresh=True)
        size = sum((self.directory / "quarantine" / n).stat().st_size for n in self.quarantined())
        self.assertEqual((room.aside, room.aside_files), (size, 2))
        self.open()
        self.assertEqual(self.store.room(fresh=True).aside, size)
        for name in self.quarantined():
            (self.directory / "quarantine" / name).unlink()
        self.store.upkeep.count_aside(NOW)
        self.assertEqual(self.store.room(fresh=True).aside, 0)

    def test_the_quarantine_counts_for_the_quota(self):
        """Or bad shares could be sent and set aside until the disk is full."""
        index, shares = self.store_file(BIG, numbers=(0,))
        # Its lease is still here; and another share would come with its own.
        overhead = SHARE_OVERHEAD + 2 * LEASE_OVERHEAD
        self.open(quota=len(shares[0]) + overhead + 10)
        self.damage(index, 0, 50)
        self.scrub()
        room = self.store.room(fresh=True)
        self.assertEqual((room.used, room.available), (0, 10))

    def test_a_good_share_that_came_meanwhile_is_never_condemned(self):
        """A look at the bad one had found it bad once; its row's number must not come again."""
        for size in (SMALL, BIG):
            index, shares = self.store_file(size, b"m", numbers=(0,))
            self.damage(index, 0, len(shares[0]) // 2)
            for budget in range(1, 2 * len(shares[0]), 4096):
                walk = self.store.upkeep.walk()
                found = walk.advance(budget, NOW).bad
                advised = self.store.upkeep.walk_to(index, 0)
                found += advised.advance(2**40, NOW).bad
                advised.close()
                self.assertEqual([(f.storage_index, f.number) for f in found], [(index, 0)])
                self.store_share(index, 0, shares[0])
                self.assertEqual(self.bad(walk=walk), [])
                self.assertEqual(self.store.read(index, 0, 0, 2**20), shares[0])
                self.damage(index, 0, len(shares[0]) // 2)
            self.scrub()

    def test_a_new_share_comes_after_where_the_scrub_is(self):
        index, shares = self.store_file(SMALL)
        (step,) = self.scrub()
        self.store.database.call(lambda sql: sql.execute("DELETE FROM shares"))
        self.open()
        self.store_share(index, 0, shares[0])
        self.damage(index, 0, 300)
        walk = self.store.upkeep.walk(step.position)
        self.assertEqual(self.bad(walk=walk), [(index, 0)])

    def test_what_was_found_is_remembered(self):
        index, shares = self.store_file(SMALL)
        self.damage(index, 2, 400)
        (found,) = [f for step in self.scrub() for f in step.bad]
        self.assertEqual(
            (found.storage_index, found.number, found.size, found.peer, found.found_at),
            (index, 2, len(shares[2]), PEER, NOW + 7),
        )
        self.assertIn("not what was stored", found.reason)
        self.open()
        upkeep = self.store.upkeep
        self.assertEqual(upkeep.findings(5), [found])
        self.assertEqual((upkeep.count_findings(NOW + 7), upkeep.count_findings(NOW + 8)), (1, 0))

    def test_findings_are_bounded(self):
        def note(sql):
            for at in range(MOST_FINDINGS + 20):
                note_finding(sql, Finding(bytes(16), 0, 1, PEER, "x", at))

        self.store.database.call(note)
        found = self.store.upkeep.findings(10**6)
        self.assertEqual(len(found), MOST_FINDINGS)
        self.assertEqual(found[0].found_at, MOST_FINDINGS + 19)

    def test_a_share_of_another_number_or_no_share_at_all(self):
        cap, shares = make_shares(some_bytes(SMALL), 2, 3)
        self.store_share(cap.storage_index, 0, shares[1])
        self.store_share(cap.storage_index, 1, b"no share")
        self.store_share(cap.storage_index, 2, b"")
        self.assertEqual(self.bad(), [(cap.storage_index, n) for n in range(3)])

    def test_what_is_set_aside_counts_as_it_lies_there(self):
        index, shares = self.store_file(BIG)
        os.truncate(self.store.path_of(index, 0), 50_000)
        with self.store.path_of(index, 1).open("ab") as file:
            file.write(b"more")
        self.assertEqual(self.bad(), [(index, 0), (index, 1)])
        counted = 50_000 + len(shares[1]) + 4
        self.assertEqual(self.store.room(fresh=True).aside, counted)
        self.store.upkeep.count_aside(NOW)
        self.assertEqual(self.store.room(fresh=True).aside, counted)
        self.assertEqual(self.store.upkeep.account_aside(PEER), counted)

    def test_another_size_and_no_file_at_all(self):
        index, _ = self.store_file(BIG)
        with self.store.path_of(index, 0).open("ab") as file:
            file.write(b"more")
        away = self.directory / "away"
        path = self.store.path_of(index, 1)
        path.rename(away)
        self.assertEqual(self.bad(), [(index, 0), (index, 1)])
        self.assertEqual(self.store.shares(index).keys(), {2})
        self.check_accounts()
        # What is missing may come back: the next start looks, though this one ended in order.
        self.store.close()
        away.rename(path)
        self.assertEqual(self.open().restored, 1)
        self.assertEqual(self.bad(), [])

    def test_only_the_named_share_is_looked_at(self):
        index, _ = self.store_file(BIG)
        for number in (0, 1):
            self.damage(index, number, 700)
        walk = self.store.upkeep.walk_to(index, 1)
        self.assertEqual(self.bad(walk=walk), [(index, 1)])
        (step,) = self.scrub(walk=self.store.upkeep.walk_to(index, 200))
        self.assertEqual(step.shares, 0)

    def test_a_lease_survives_and_an_advisory_does_not(self):
        index, _ = self.store_file(SMALL, numbers=(0,))
        self.store.run_all([self.store.advising(index, 0, PEER, "bad", NOW)])
        self.damage(index, 0, 99)
        self.scrub()
        self.assertEqual(len(self.store.lease_expiries(index)), 1)
        self.assertEqual(self.store.advisories(), [])

    def test_the_end_of_an_adopted_share_is_learnt(self):
        index, shares = self.store_file(BIG, numbers=(0,))
        self.store.close()
        for path in self.directory.glob("store.db*"):
            path.unlink()
        self.open()
        self.assertEqual(self.bad(), [])
        self.damage(index, 0, shares[0].index(b"crypttext_hash:32:") + 20)
        self.assertEqual(self.bad(), [(index, 0)])

    def test_tails(self):
        for length in (0, 5, TAIL_BYTES, TAIL_BYTES + 9):
            data = some_bytes(length)
            self.assertEqual(tail_of(data), tail_of(data[-TAIL_BYTES:]))
            self.assertEqual(len(tail_of(data)), 16)


class FaultTests(ScrubCase):
    """A disk that fails while it is looked at."""

    def setUp(self):
        self.disk = FaultyFileSystem()
        super().setUp()

    def open(self, **how):
        return super().open(files=self.disk, **how)

    def test_one_bad_read_condemns_nothing(self):
        """Every call fails once: a good share is looked at again, or another time."""
        self.store_file(BIG)
        at = 0
        while True:
            for error in (errno.EIO, errno.EMFILE):
                self.disk.plan(at, error=error)
                steps = self.scrub()
                self.assertEqual([f for step in steps for f in step.bad], [], at)
                self.assertLessEqual(sum(step.skipped for step in steps), 1)
                failed = self.disk.failed
                self.disk.heal()
            if failed is None:
                break
            at += 1
        self.assertGreater(at, 9)
        self.assertEqual(self.bad(), [])

    def test_what_the_disk_never_gives_is_bad(self):
        index, _ = self.store_file(BIG)
        bad = self.store.path_of(index, 1).stat().st_ino

        class Scratched(PosixFileSystem):
            def read_at(self, descriptor, offset, length):
                if os.fstat(descriptor).st_ino == bad:
                    raise OSError(errno.EIO, "Input/output error")
                return super().read_at(descriptor, offset, length)

        self.disk = Scratched()
        self.open()
        self.assertEqual(self.bad(), [(index, 1)])
        self.assertIn("disk failed", self.store.upkeep.findings(1)[0].reason)

    def test_every_call_of_setting_aside_may_fail(self):
        """Then it is still stored, or gone to the quarantine; and the next walk ends it."""
        self.disk = FaultyFileSystem(
            {"rename", "open_new", "write_at", "fsync", "fsync_directory"}
        )
        self.open()
        for size in (SMALL, BIG):
            at = 0
            while True:
                cap, shares = make_shares(some_bytes(size, b"%d" % at), 2, 3, 10_000)
                index = cap.storage_index
                for number in range(2):
                    self.store_share(index, number, shares[number])
                self.damage(index, 0, 300)
                self.disk.plan(at)
                with contextlib.suppress(BrokenStoreError):
                    self.scrub()
                failed = self.disk.failed
                self.disk.heal()
                self.open()
                self.scrub()
                self.assertEqual(self.store.shares(index).keys(), {1})
                self.assertEqual(self.store.read(index, 1, 0, 2**20), shares[1])
                self.check_accounts()
                names = [n for n in self.quarantined() if n.startswith(self.name(index))]
                self.assertGreaterEqual(len(names), 1)
                if failed is None:
                    break
                at += 1
            self.assertGreater(at, 2)

    def name(self, index):
        return self.store.path_of(index, 0).parent.name

    def test_on_a_full_disk_a_bad_small_share_stays_for_now(self):
        self.disk = FaultyFileSystem({"write_at"})
        self.open()
        index, _ = self.store_file(SMALL, numbers=(0,))
        self.damage(index, 0, 300)
        self.disk.plan(0, error=errno.ENOSPC)
        (step,) = self.scrub()
        self.assertEqual((step.skipped, step.bad), (1, []))
        self.assertEqual(self.quarantined(), [])
        self.disk.heal()
        self.assertEqual(self.bad(), [(index, 0)])


class ProgressTests(ScrubCase):
    def test_it_is_written_down(self):
        self.assertEqual(self.store.upkeep.load_scrub(), ScrubProgress())
        progress = ScrubProgress(7, NOW, 3, 99, 1, 2, 0, NOW - 5, 4, 6)
        self.store.upkeep.save_scrub(progress)
        self.store.close()
        self.store = ShareStore.open(self.directory, wall=lambda: NOW)
        self.assertEqual(self.store.upkeep.load_scrub(), progress)


OTHER = b"o" * 20


class QuarantineTests(ScrubCase):
    """Bad shares are kept to be looked into, and never fill a store."""

    def send_bad(self, number=0, index=b"r" * 16, peer=PEER, size=SMALL, adviser=None, now=NOW):
        """Store rubbish, and have it called bad."""
        self.store_share(index, number, bytes([number]) * size, peer=peer)
        walk = self.store.upkeep.walk_to(index, number, adviser)
        (step,) = [walk.advance(2**40, now)]
        walk.close()
        self.assertEqual([f.number for f in step.bad], [number])

    def aside(self):
        room = self.store.room(fresh=True)
        names = self.quarantined()
        sizes = [(self.directory / "quarantine" / name).stat().st_size for name in names]
        self.assertEqual((room.aside, room.aside_files), (sum(sizes), len(names)))
        return len(names)

    def test_what_its_uploader_calls_bad_is_dropped(self):
        for size in (SMALL, BIG):
            for number in range(3):
                self.send_bad(number, size=size, adviser=PEER)
            self.send_bad(4, size=size, adviser=PEER)
        self.assertEqual((self.aside(), self.store.room(fresh=True).used), (0, 0))
        files = [p for p in (self.directory / "shares").rglob("*") if p.is_file()]
        self.assertEqual(files, [])
        self.assertEqual(len(self.store.upkeep.findings(100)), 8)
        self.open()
        self.assertEqual((self.store.recovery.adopted, self.store.recovery.lost), (0, 0))
        self.check_accounts()

    def test_a_drop_that_is_cut_short_is_done_at_the_next_start(self):
        self.disk = FaultyFileSystem({"unlink", "fsync_directory"})
        self.open()
        self.store_share(b"r" * 16, 0, bytes(BIG))
        for at in range(2):
            walk = self.store.upkeep.walk_to(b"r" * 16, 0, PEER)
            self.disk.plan(at)
            (step,) = [walk.advance(2**40, NOW)]
            walk.close()
            self.disk.heal()
            self.assertEqual(len(step.bad), 1)
            self.crash()
            self.open()
            self.assertEqual(self.store.shares(b"r" * 16), {})
            self.assertEqual(self.store.recovery.adopted, 0)
            self.check_accounts()
            self.store_share(b"r" * 16, 0, bytes(BIG))

    def test_one_copy_of_each_share_of_each_peer(self):
        for _ in range(3):
            for peer in (PEER, OTHER):
                self.send_bad(peer=peer, adviser=b"another peer, honest")
        self.assertEqual(self.aside(), 2)
        for peer in (PEER, OTHER):
            self.assertEqual(self.store.upkeep.account_aside(peer), SMALL)
            self.assertEqual(self.store.account(peer), (0, 0))

    def test_so_much_of_each_peer_the_latest_stay(self):
        self.patch(quarantine, "MOST_BYTES_A_PEER", 3 * SMALL)
        self.patch(quarantine, "MOST_FILES_A_PEER", 4)
        self.send_bad(99, peer=OTHER)
        for number in range(8):
            self.send_bad(number, now=NOW + number)
        self.assertEqual(self.aside(), 3 + 1)
        self.assertEqual([n.split(".")[1] for n in self.quarantined()], ["5", "6", "7", "99"])
        for number in range(8):
            self.send_bad(100 + number, size=10, now=NOW + 100 + number)
        self.assertEqual(self.aside(), 4 + 1)
        self.assertEqual(self.store.upkeep.account_aside(PEER), 4 * 10)

    def test_a_store_is_not_filled_with_it_by_however_many_peers(self):
        """Peers that work together, each of which has what another sent called bad."""
        quota = 100 * SMALL
        self.open(quota=quota)
        for n in range(60):
            self.send_bad(0, index=b"%016d" % n, peer=b"%020d" % n, adviser=OTHER, now=NOW + n)
        room = self.store.room(fresh=True)
        self.assertLessEqual(room.aside, quota // quarantine.PART_OF_ROOM)
        self.assertGreater(room.aside, quota // quarantine.PART_OF_ROOM - SMALL)
        self.aside()
        self.assertEqual(self.quarantined()[-1].split(".")[1], "0")

    def test_one_that_is_larger_than_all_bounds_is_kept_till_the_next(self):
        self.open(quota=5 * BIG)
        for number in range(3):
            self.send_bad(number, size=2 * BIG, now=NOW + number)
            self.assertEqual(self.aside(), 1)

    def test_it_goes_when_it_is_old(self):
        self.send_bad(0)
        self.send_bad(1, now=NOW + 100)
        end = NOW + quarantine.KEPT_SECONDS
        for now, left in ((end, 2), (end + 1, 1), (end + 100, 1), (end + 101, 0)):
            self.store.upkeep.count_aside(now)
            self.assertEqual(self.aside(), left)
        self.assertEqual(self.store.upkeep.account_aside(PEER), 0)

    def test_what_nobody_noted_is_put_down_to_nobody_and_ages_from_then_on(self):
        """Of an older version, or set aside at a start; what is no share is left alone."""
        folder = self.directory / "quarantine"
        name = self.store.path_of(b"r" * 16, 0).parent.name
        for each in (f"{name}.0", f"{name}.7.2", "notes.txt", f"{name[:-1]}b.0"):
            (folder / each).write_bytes(b"x" * 10)
        self.store.upkeep.count_aside(NOW)
        self.assertEqual(self.aside(), 4)
        self.assertEqual(self.store.upkeep.account_aside(bytes(20)), 20)
        self.store.upkeep.count_aside(NOW + quarantine.KEPT_SECONDS + 1)
        self.assertEqual(self.quarantined(), sorted(["notes.txt", f"{name[:-1]}b.0"]))

    def test_what_its_owner_removed_is_in_no_account(self):
        self.send_bad(0)
        (path,) = (self.directory / "quarantine").iterdir()
        path.unlink()
        self.store.upkeep.count_aside(NOW)
        self.assertEqual((self.aside(), self.store.upkeep.account_aside(PEER)), (0, 0))

    def name(self, index):
        return self.store.path_of(index, 0).parent.name
