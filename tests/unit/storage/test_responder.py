"""Every storage Command, through its boxes."""

from __future__ import annotations

import errno
import inspect

from ampgrid.commands import errors as e
from ampgrid.commands import storage as commands
from ampgrid.commands.base import GridCommand
from ampgrid.store.leases import MOST_LEASES_A_PEER
from tests.material import make_shares, some_bytes
from tests.unit.storage.service_case import CANCEL, INDEX, LARGE, NOW, RENEW, Client, ServiceCase
from tests.unit.store.disks import FaultyFileSystem


class CommandsTests(ServiceCase):
    def test_every_storage_command_is_answered(self):
        found = [
            command
            for _, command in inspect.getmembers(commands, inspect.isclass)
            if issubclass(command, GridCommand) and command is not GridCommand
        ]
        self.assertEqual(len(found), 11)
        for command in found:
            self.assertIsNotNone(self.client.responder.locateResponder(command.commandName))


class UploadTests(ServiceCase):
    def test_allocate_write_close_read(self):
        for index, size in ((b"s" * 16, 1000), (b"l" * 16, LARGE)):
            data = bytes(range(250)) * (size // 250)
            answer = self.successResultOf(self.client.allocate((3, 5), size, index=index))
            self.assertEqual(answer, {"already_got": frozenset(), "accepted": {3, 5}})
            for offset in range(0, size, 500):
                piece = data[offset : offset + 500]
                self.assertEqual(self.successResultOf(self.client.write(offset, piece, 3)), {})
            self.assertEqual(self.client.sizes(index), {})
            self.assertEqual(self.successResultOf(self.client.close(3)), {})
            self.assertEqual(self.client.sizes(index), {3: size})
            self.assertEqual(self.client.read(3, 7, 90, index), data[7:97])
            self.successResultOf(self.client.abort(5))
            answer = self.successResultOf(self.client.allocate((3, 5), size, 2, index))
            self.assertEqual(answer, {"already_got": {3}, "accepted": {5}})
            self.successResultOf(self.client.abort(5, 2))

    def test_first_bytes_come_with_the_request(self):
        for size in (1000, LARGE):
            bucket = size
            self.client.allocate((0,), size, bucket, bytes([size % 256]) * 16, data=b"a" * 600)
            self.client.write(600, b"b" * (size - 600 if size == 1000 else 50_000), 0, bucket)
            if size == LARGE:
                self.client.write(50_600, b"c" * (size - 50_600), 0, bucket)
            self.successResultOf(self.client.close(0, bucket))
            data = self.client.read(0, 598, 4, bytes([size % 256]) * 16)
            self.assertEqual(data, b"aabb")

    def test_a_small_share_in_one_call_is_one_hop_and_one_commit(self):
        hops, commits = self.threads.hops, self.store.database.commits
        answer = self.successResultOf(self.client.put(b"small"))
        self.assertEqual(answer, {"already_got": frozenset(), "accepted": {0}})
        self.assertEqual(self.threads.hops, hops + 1)
        self.assertEqual(self.store.database.commits, commits + 1)
        self.assertEqual(self.client.read(), b"small")
        answer = self.successResultOf(self.client.put(b"other"))
        self.assertEqual(answer, {"already_got": {0}, "accepted": frozenset()})
        self.assertEqual(self.client.read(), b"small")

    def test_sixteen_small_shares_at_once_are_two_commits(self):
        commits, hops = self.store.database.commits, self.threads.hops
        self.threads.held = True
        answers = [self.client.put(b"small", number) for number in range(16)]
        self.threads.release()
        for answer in answers:
            self.successResultOf(answer)
        self.assertLessEqual(self.store.database.commits, commits + 2)
        self.assertLessEqual(self.threads.hops, hops + 2)

    def test_arguments_that_contradict_each_other(self):
        for more in (
            {"numbers": (0, 1), "size": 4, "data": b"data"},
            {"numbers": (), "size": 4, "data": b"data"},
            {"size": 3, "data": b"data"},
            {"size": 5, "data": b"data", "close": True},
            {"size": 5, "close": True},
        ):
            self.client.failed(e.BadArgumentError, self.client.allocate(**more))
        self.assertEqual(self.client.space()["promised"], 0)

    def test_a_bucket_number_is_used_once_at_a_time(self):
        self.successResultOf(self.client.allocate((0, 1)))
        self.client.failed(e.BadArgumentError, self.client.allocate((1, 2)))
        self.successResultOf(self.client.abort(1))
        self.successResultOf(self.client.allocate((1, 2)))

    def test_refused_writes(self):
        for index, size in ((b"s" * 16, 1000), (b"l" * 16, LARGE)):
            self.successResultOf(self.client.allocate((0,), size, size, index))
            write = self.client.write
            self.successResultOf(write(10, b"0123456789", 0, size))
            self.successResultOf(write(15, b"56789", 0, size))
            self.client.failed(e.ConflictingWriteError, write(18, b"8x", 0, size))
            self.client.failed(e.OutsideShareError, write(size - 1, b"xx", 0, size))
            self.client.failed(e.OutsideShareError, write(2**63 - 1, b"x", 0, size))
            self.client.failed(e.IncompleteShareError, self.client.close(0, size))
            self.client.failed(e.NoBucketError, write(0, b"x", 0, size))
            self.assertEqual(self.client.sizes(index), {})
        self.assertEqual(self.leftovers(), [])
        self.assertEqual(self.client.space()["promised"], 0)

    def test_what_was_refused_has_no_bucket(self):
        # Each share counts 1024 bytes more, of which 512 are the lease that comes with it.
        self.start(quota=2500 + 2 * 1024)
        answer = self.successResultOf(self.client.allocate((4, 5, 6), 1000))
        self.assertEqual(answer["accepted"], {4, 5})
        self.client.failed(e.NoBucketError, self.client.write(0, b"x", 6))
        self.client.failed(e.NoBucketError, self.client.close(6))
        self.assertEqual(self.successResultOf(self.client.abort(6)), {})
        self.client.failed(e.NoBucketError, self.client.write(0, b"x", 4, bucket=2))
        answer = self.successResultOf(self.client.put(b"x"))
        self.assertEqual(answer, {"already_got": frozenset(), "accepted": frozenset()})

    def test_the_later_close_succeeds_only_with_the_same_bytes(self):
        other = Client(self, b"q" * 20)
        for index, size in ((b"s" * 16, 10), (b"l" * 16, LARGE)):
            for client, byte in ((self.client, b"a"), (other, b"b")):
                for bucket, data in ((size, byte * size), (size + 1, b"b" * size)):
                    self.successResultOf(client.allocate((0,), size, bucket, index))
                    for offset in range(0, size, 50_000):
                        written = client.write(offset, data[offset:][:50_000], 0, bucket)
                        self.successResultOf(written)
            self.successResultOf(other.close(0, size))
            self.client.failed(e.ConflictingWriteError, self.client.close(0, size))
            self.client.failed(e.NoBucketError, self.client.close(0, size))
            self.successResultOf(self.client.close(0, size + 1))
            self.successResultOf(other.close(0, size + 1))
            self.assertEqual(self.client.sizes(index), {0: size})
            self.assertEqual(self.client.read(index=index, length=10), b"b" * 10)
        self.assertEqual((self.client.space()["yours"], other.space()["yours"]), (0, 10 + LARGE))
        self.assertEqual(self.client.space()["promised"], 0)
        self.assertEqual(self.leftovers(), [])


class ReadTests(ServiceCase):
    def test_reads_are_clamped(self):
        self.successResultOf(self.client.put(b"0123456789"))
        for offset, length in ((0, 10), (3, 4), (8, 9), (10, 1), (2**63 - 1, 65_000), (0, 0)):
            expected = b"0123456789"[offset : offset + length]
            self.assertEqual(self.client.read(0, offset, length), expected)

    def test_no_such_share(self):
        self.client.fails(
            e.NoSuchShareError,
            commands.ReadShare,
            storage_index=INDEX,
            share=0,
            offset=0,
            length=1,
        )

    def test_a_small_share_comes_with_its_size(self):
        for number in range(4):
            self.successResultOf(self.client.put(b"%d" % number * 25_000, number))
        answer = self.client.ask(
            commands.GetBuckets,
            storage_index=INDEX,
            want=frozenset({1, 2, 3, 200}),
            head=60_000,
        )
        self.assertEqual(answer["sizes"], dict.fromkeys(range(4), 25_000))
        self.assertEqual(answer["heads"], {1: b"1" * 25_000, 2: b"2" * 25_000})
        answer = self.client.ask(
            commands.GetBuckets, storage_index=INDEX, want=frozenset({0, 3}), head=7
        )
        self.assertEqual(answer["heads"], {0: b"0" * 7, 3: b"3" * 7})

    def test_a_small_share_is_told_of_without_a_hop(self):
        self.successResultOf(self.client.put(b"small"))
        hops = self.threads.hops
        ask = {"storage_index": INDEX, "want": frozenset({0}), "head": 9}
        answer = self.client.ask(commands.GetBuckets, **ask)
        self.assertEqual((answer["sizes"], answer["heads"]), ({0: 5}, {0: b"small"}))
        self.assertEqual(self.threads.hops, hops)

    def test_a_large_share_is_told_of_in_a_thread(self):
        self.client.allocate((0,), LARGE)
        self.client.write(0, b"x" * 60_000)
        self.client.write(60_000, b"y" * 10_000)
        self.successResultOf(self.client.close())
        self.threads.held = True
        asked = self.client.send(
            commands.GetBuckets, storage_index=INDEX, want=frozenset({0}), head=9
        )
        behind = self.client.send(commands.GetBuckets, storage_index=b"j" * 16)
        self.assertNoResult(asked)
        # Who asks while others wait for the disk waits too.
        self.assertNoResult(behind)
        self.threads.release()
        self.assertEqual(self.successResultOf(asked)["heads"], {0: b"x" * 9})
        self.assertEqual(self.successResultOf(behind)["sizes"], {})

    def test_no_more_is_done_without_a_hop_once_that_was_slow(self):
        self.successResultOf(self.client.put(b"small"))
        looked = self.store.heads_at_once

        def slowly(*asked):
            self.clock.advance(1)
            return looked(*asked)

        self.store.heads_at_once = slowly
        hops = self.threads.hops
        self.assertEqual(self.client.sizes(), {0: 5})
        self.assertEqual(self.threads.hops, hops)
        self.assertEqual(self.client.sizes(), {0: 5})
        self.assertEqual(self.threads.hops, hops + 1)

    def test_a_warm_read_needs_no_hop_where_the_system_can_tell(self):
        self.client.allocate((0,), LARGE)
        self.client.write(0, b"x" * 60_000)
        self.client.write(60_000, b"y" * 10_000)
        self.successResultOf(self.client.close())
        self.client.read(0, 0, 10)
        hops = self.threads.hops
        self.assertEqual(self.client.read(0, 59_999, 2), b"xy")
        self.assertLessEqual(self.threads.hops, hops + 1)


class LeaseTests(ServiceCase):
    secrets = {"storage_index": INDEX, "renew_secret": RENEW}

    def test_life_of_a_lease(self):
        self.client.fails(
            e.NoSuchShareError, commands.AddLease, **self.secrets, cancel_secret=CANCEL
        )
        self.client.fails(e.NoSuchLeaseError, commands.RenewLease, **self.secrets)
        self.successResultOf(self.client.put(b"data"))
        month = 31 * 24 * 3600
        first = int(NOW) + month
        self.assertEqual(self.store.lease_expiries(INDEX), [first])
        self.clock.advance(1000)
        self.client.ask(commands.RenewLease, **self.secrets)
        self.assertEqual(self.store.lease_expiries(INDEX), [first + 1000])
        other = {"storage_index": INDEX, "renew_secret": b"x" * 32}
        self.client.ask(commands.AddLease, **other, cancel_secret=b"y" * 32)
        self.assertEqual(len(self.store.lease_expiries(INDEX)), 2)
        self.client.ask(commands.CancelLease, storage_index=INDEX, cancel_secret=CANCEL)
        self.client.fails(
            e.NoSuchLeaseError, commands.CancelLease, storage_index=INDEX, cancel_secret=CANCEL
        )
        self.client.fails(e.NoSuchLeaseError, commands.RenewLease, **self.secrets)
        self.assertEqual(self.client.read(), b"data")

    def test_leases_for_what_is_held_and_for_what_is_stored(self):
        self.successResultOf(self.client.put(b"data"))
        self.successResultOf(self.client.allocate((0, 1), 4, renew=b"2" * 32))
        self.assertEqual(len(self.store.lease_expiries(INDEX)), 2)
        self.successResultOf(self.client.allocate((1,), 4, 2, b"j" * 16, renew=b"3" * 32))
        self.assertEqual(self.store.lease_expiries(b"j" * 16), [])
        self.client.write(0, b"more", 1, 2)
        self.successResultOf(self.client.close(1, 2))
        self.assertEqual(len(self.store.lease_expiries(b"j" * 16)), 1)

    def test_too_many(self):
        """Of one peer; the store then keeps the file itself, and others have theirs."""
        self.successResultOf(self.client.put(b"data"))
        secret = (b"%032d" % n for n in range(2000))
        for _ in range(200):
            self.client.ask(
                commands.AddLease,
                storage_index=INDEX,
                renew_secret=next(secret),
                cancel_secret=CANCEL,
            )
        self.assertEqual(len(self.store.lease_expiries(INDEX)), MOST_LEASES_A_PEER)
        self.successResultOf(self.client.put(b"x", 1, renew=next(secret)))
        mine = next(secret)
        Client(self, b"q" * 20).ask(
            commands.AddLease, storage_index=INDEX, renew_secret=mine, cancel_secret=CANCEL
        )
        self.client.ask(commands.RenewLease, storage_index=INDEX, renew_secret=mine)
        self.assertEqual(len(self.flushLoggedErrors()), 0)


class AdvisoryTests(ServiceCase):
    def advise(self, share, reason="bad hash"):
        return self.client.send(
            commands.AdviseCorruptShare, storage_index=INDEX, share=share, reason=reason
        )

    def test_only_for_held_shares_and_one_each(self):
        """Advice on a share that is good is kept, the last word of it."""
        self.client.failed(e.NoSuchShareError, self.advise(0))
        _, shares = make_shares(some_bytes(500), 1, 2)
        self.successResultOf(self.client.put(shares[0]))
        for reason in ("first", "second"):
            self.successResultOf(self.advise(0, reason))
        self.client.failed(e.NoSuchShareError, self.advise(1))
        self.assertEqual(self.store.advisories(), [(INDEX, 0, b"p" * 20, "second")])
        self.assertEqual(self.client.sizes(), {0: len(shares[0])})

    def test_what_is_bad_indeed_is_gone_and_its_number_free(self):
        self.successResultOf(self.client.put(b"no share"))
        self.successResultOf(self.advise(0))
        self.assertEqual(self.client.sizes(), {})
        self.client.failed(e.NoSuchShareError, self.advise(0))
        answer = self.successResultOf(self.client.put(b"another"))
        self.assertEqual(answer, {"already_got": frozenset(), "accepted": frozenset({0})})


class SpaceTests(ServiceCase):
    def test_accounts(self):
        self.start(quota=10_000)
        self.successResultOf(self.client.put(b"x" * 100))
        self.successResultOf(Client(self, b"q" * 20).put(b"x" * 50, 1))
        self.successResultOf(self.client.allocate((7,), 2000))
        # Of 10,000: less 512 for each of two shares and for their lease, 1024 for what comes with
        # the share on its way in, and 1024 for what would come with another.
        self.assertEqual(
            self.client.space(),
            {
                "available": 4266,
                "used": 150,
                "promised": 2000,
                "yours": 100,
                "shares": 2,
                "accepts": True,
            },
        )
        self.clock.advance(60)
        status = self.service.status()
        for name, value in {
            "used": 150,
            "overhead": 3 * 512,
            "promised": 2000,
            "available": 4266,
            "shares": 2,
            "peers": 2,
            "quota": 10_000,
            "reserve": 0,
            "open_buckets": 1,
            "accepts": True,
        }.items():
            self.assertEqual(status[name], value, name)

    def test_a_failed_disk_is_told_without_its_words(self):
        disk = FaultyFileSystem({"fsync"})
        self.start(files=disk)
        self.client.allocate((0,), LARGE)
        self.client.write(0, b"x" * 60_000)
        self.client.write(60_000, b"x" * 10_000)
        disk.plan(0, error=errno.EIO, lasting=True)
        error = self.client.failed(e.StoreFailedError, self.client.close())
        self.assertNotIn("planned", error.description)
        self.assertNotIn("/", error.description)
        self.assertFalse(self.client.space()["accepts"])
        self.client.failed(e.StoreFailedError, self.client.put(b"data"))
        disk.heal()
        self.client.failed(e.StoreFailedError, self.client.put(b"data"))
        self.clock.advance(30)
        self.successResultOf(self.client.put(b"data"))
        self.assertTrue(self.client.space()["accepts"])

    def test_a_full_disk(self):
        disk = FaultyFileSystem({"write_at"})
        self.start(files=disk)
        self.client.allocate((0,), LARGE)
        disk.plan(0, error=errno.ENOSPC)
        self.client.failed(e.StoreFailedError, self.client.write(1, b"x" * 60_000))
        disk.heal()
        self.client.failed(e.NoSpaceError, self.client.close())
        self.assertEqual(self.leftovers(), [])
        self.assertTrue(self.client.space()["accepts"])
