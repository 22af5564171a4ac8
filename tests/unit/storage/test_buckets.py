"""Order, bounds and ends of buckets."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from ampgrid.commands import errors as e
from ampgrid.storage import service
from ampgrid.storage.buckets import IDLE_SECONDS, MOST_BUCKETS, MOST_MEMORY_BYTES, SLOWEST
from ampgrid.storage.service import LOOK_SECONDS
from tests.unit.storage.service_case import INDEX, LARGE, Client, ServiceCase


class OrderTests(ServiceCase):
    def test_nothing_waits_for_an_answer(self):
        """Allocate, writes and close arrive before anything was done: all are done, in order."""
        for size in (1000, LARGE):
            index = bytes([size % 256]) * 16
            self.threads.held = True
            answers = [self.client.allocate((0, 1), size, size, index)]
            for share in (0, 1):
                for offset in range(0, size, 500):
                    data = b"%d" % share * 500
                    answers.append(self.client.write(offset, data, share, size))
                answers.append(self.client.close(share, size))
            late = self.client.write(0, b"0", 0, size)
            for answer in answers:
                self.assertNoResult(answer)
            self.threads.release()
            for answer in answers:
                self.successResultOf(answer)
            self.client.failed(e.NoBucketError, late)
            self.assertEqual(self.client.sizes(index), {0: size, 1: size})
            self.assertEqual(self.client.read(1, 0, 9, index), b"1" * 9)

    def test_writes_that_wait_together_are_one_hop(self):
        self.successResultOf(self.client.allocate((0,), LARGE))
        self.threads.held = True
        hops = self.threads.hops
        # From its end to its beginning: what goes on in order is answered before.
        first = self.client.write(LARGE - 1000, b"a" * 1000)
        self.assertEqual(self.threads.hops, hops + 1)
        rest = [self.client.write(at, b"a" * 1000) for at in range(LARGE - 2000, 0, -1000)]
        self.threads.step()
        self.successResultOf(first)
        self.assertEqual(self.threads.hops, hops + 2)
        self.threads.release()
        for answer in rest:
            self.successResultOf(answer)
        self.assertEqual(self.threads.hops, hops + 2)

    def test_writes_behind_a_refused_allocation(self):
        self.start(quota=10)
        self.threads.held = True
        allocated = self.client.allocate((0,), 1000)
        answers = [self.client.write(0, b"x"), self.client.close()]
        aborted = self.client.abort()
        self.threads.release()
        self.assertEqual(self.successResultOf(allocated)["accepted"], frozenset())
        for answer in answers:
            self.client.failed(e.NoBucketError, answer)
        self.successResultOf(aborted)

    def test_buckets_do_not_wait_for_each_other(self):
        self.successResultOf(self.client.allocate((0, 1), LARGE))
        self.threads.held = True
        slow, quick = self.client.write(9, b"x", 0), self.client.write(9, b"x", 1)
        self.threads.step(1)
        self.successResultOf(quick)
        self.assertNoResult(slow)

    def test_a_refused_write_refuses_no_other(self):
        self.successResultOf(self.client.allocate((0,), LARGE))
        self.threads.held = True
        good = [self.client.write(0, b"aaa"), self.client.write(3, b"bbb")]
        bad = self.client.write(2, b"xxx")
        good.append(self.client.write(6, b"ccc"))
        self.threads.release()
        for answer in good:
            self.successResultOf(answer)
        self.client.failed(e.ConflictingWriteError, bad)

    def test_any_order_of_the_threads_gives_the_same(self):
        """Three shares sent without waiting, the threads answering in any order."""
        turn = iter(range(10**6))

        @settings(max_examples=30, deadline=None)
        @given(st.lists(st.integers(0, 50), max_size=60))
        def check(choices):
            index = next(turn).to_bytes(16, "big")
            self.threads.held = True
            answers = [self.client.allocate((0, 1, 2), LARGE, 1, index)]
            for offset in range(0, LARGE, 35_000):
                for share in range(3):
                    data = b"%d" % share * 35_000
                    answers.append(self.client.write(offset, data, share))
            answers += [self.client.close(share) for share in range(3)]
            for choice in choices:
                if len(self.threads):
                    self.threads.step(choice % len(self.threads))
            self.threads.release()
            for answer in answers:
                self.successResultOf(answer)
            for share in range(3):
                self.assertEqual(self.client.read(share, 34_999, 2, index), b"%d" % share * 2)

        check()


class EndTests(ServiceCase):
    def test_a_lost_connection_deletes_what_is_not_closed(self):
        self.successResultOf(self.client.allocate((0, 1, 2), LARGE))
        self.successResultOf(self.client.allocate((3,), 100, 2))
        self.successResultOf(self.client.write(9, b"x" * 50_000))
        self.successResultOf(self.client.write(50_009, b"x" * 1_000))
        self.assertEqual(len(self.leftovers()), 1)
        other = Client(self, b"q" * 20)
        self.successResultOf(other.allocate((0,), LARGE))
        self.client.connection.lose()
        self.assertEqual(self.leftovers(), [])
        self.assertEqual(self.service.status()["promised"], LARGE)
        self.assertEqual(self.service.status()["open_buckets"], 1)
        self.assertEqual(other.sizes(), {})
        other.connection.lose()

    def test_lost_at_any_moment(self):
        """However far the calls have come, nothing is left but what was closed whole."""
        for size in (1000, LARGE):
            for steps in range(12):
                index = bytes([size % 256, steps]) * 8
                client = Client(self)
                self.threads.held = True
                answers = [client.allocate((0, 1), size, 1, index)]
                for share in (0, 1):
                    answers.append(client.write(0, b"x" * (size // 2), share))
                    answers.append(client.write(size // 2, b"x" * (size - size // 2), share))
                answers += [client.close(0), client.close(1)]
                for _ in range(steps):
                    if len(self.threads):
                        self.threads.step()
                client.connection.lose()
                self.threads.release()
                for answer in answers:
                    answer.addErrback(lambda _: None)
                    self.successResultOf(answer)
                self.assertEqual(self.leftovers(), [])
                status = self.service.status()
                self.assertEqual((status["promised"], status["open_buckets"]), (0, 0))
                self.assertLessEqual(set(self.client.sizes(index).values()), {size})

    def test_what_came_too_late(self):
        self.client.connection.lose()
        self.client.failed(e.BusyError, self.client.allocate())
        gone = Client(self)
        gone.connection.lose()
        gone.failed(e.NoBucketError, gone.write(0, b"x"))

    def test_idle_for_half_an_hour(self):
        for bucket, size in ((1, 1000), (2, 200 * LARGE)):
            self.successResultOf(self.client.allocate((0,), size, bucket))
        looks = int(IDLE_SECONDS // 60)
        for _ in range(looks - 1):
            self.clock.advance(60)
        self.successResultOf(self.client.write(0, b"x", 0, 2))
        self.clock.advance(60)
        self.client.failed(e.NoBucketError, self.client.write(0, b"x", 0, 1))
        for _ in range(looks - 2):
            self.clock.advance(60)
        self.successResultOf(self.client.write(1, b"x", 0, 2))
        for _ in range(looks):
            self.clock.advance(60)
        self.client.failed(e.NoBucketError, self.client.write(2, b"x", 0, 2))
        self.assertEqual(self.client.space()["promised"], 0)
        self.assertEqual(self.leftovers(), [])

    def minutes(self, count):
        for _ in range(count):
            self.clock.advance(60)

    def test_only_new_bytes_keep_a_bucket(self):
        """What is empty, there already or refused is nothing new."""
        for bucket, size in ((1, 1000), (2, LARGE)):
            index = bytes([bucket]) * 16
            self.successResultOf(self.client.allocate((0,), size, bucket, index))
            self.successResultOf(self.client.write(0, b"abc", 0, bucket))
        for _ in range(int(IDLE_SECONDS // 600)):
            self.assertEqual(self.service.status()["open_buckets"], 2)
            for bucket in (1, 2):
                self.successResultOf(self.client.write(5, b"", 0, bucket))
                self.successResultOf(self.client.write(1, b"bc", 0, bucket))
                write = self.client.write(1, b"xx", 0, bucket)
                self.client.failed(e.ConflictingWriteError, write)
                write = self.client.write(2**40, b"x", 0, bucket)
                self.client.failed(e.OutsideShareError, write)
            self.minutes(10)
        for bucket in (1, 2):
            self.client.failed(e.NoBucketError, self.client.write(3, b"d", 0, bucket))
        self.assertEqual(self.client.space()["promised"], 0)
        self.assertEqual(self.leftovers(), [])

    def test_the_life_of_a_bucket_goes_with_its_size(self):
        """A byte now and then does not keep it for ever."""
        for bucket, size in ((1, 1000), (2, 16_000_000)):
            index = bytes([bucket]) * 16
            self.successResultOf(self.client.allocate((0,), size, bucket, index))
            life = int((IDLE_SECONDS + size / SLOWEST) // 60)
            for minute in range(life):
                self.successResultOf(self.client.write(minute, b"x", 0, bucket))
                self.minutes(1)
            self.assertEqual(self.service.status()["open_buckets"], 1)
            self.minutes(1)
            self.assertEqual(self.service.status()["open_buckets"], 0)
        self.assertEqual(self.client.space()["promised"], 0)

    def test_an_empty_share_is_refused(self):
        for more in ({}, {"data": b""}, {"data": b"", "close": True}):
            self.client.failed(e.BadArgumentError, self.client.allocate((0,), 0, **more))
        self.assertEqual(self.client.sizes(), {})

    def test_a_slow_disk_is_not_idleness(self):
        self.successResultOf(self.client.allocate((0,), LARGE))
        self.threads.held = True
        writing = self.client.write(9, b"x" * 60_000)
        for _ in range(40):
            self.clock.advance(60)
        self.threads.release()
        self.successResultOf(writing)

    def test_stop_waits_and_leaves_nothing(self):
        self.successResultOf(self.client.put(b"kept"))
        self.successResultOf(self.client.allocate((1, 2), LARGE))
        self.threads.held = True
        writing = self.client.write(9, b"x" * 1000, 1)
        stopping = Deferred.fromCoroutine(self.service.stop())
        self.assertNoResult(stopping)
        self.threads.release()
        self.successResultOf(stopping)
        self.assertIsNotNone(writing.addErrback(lambda _: None))
        self.assertEqual(self.leftovers(), [])
        self.client.failed(e.BusyError, self.client.put(b"late", 3))
        self.assertFalse(self.service.status()["accepts"])
        self.service = None
        self.start()
        self.assertEqual(self.client.sizes(), {0: 4})
        self.assertFalse(any(self.service.status()["recovery"].values()))


class BoundTests(ServiceCase):
    def test_open_buckets_of_a_connection(self):
        for bucket in range(MOST_BUCKETS // 128):
            self.successResultOf(self.client.allocate(range(128), 10, bucket))
        self.client.failed(e.BusyError, self.client.allocate((0,), 10, 99))
        self.successResultOf(self.client.abort(5, 0))
        self.successResultOf(self.client.allocate((0,), 10, 99))
        other = Client(self)
        self.successResultOf(other.allocate(range(128), 10))

    def test_open_buckets_of_all(self):
        self.patch(service, "MOST_OPEN_BUCKETS", 100)
        clients = [Client(self, bytes([n]) * 20) for n in range(3)]
        self.successResultOf(clients[0].allocate(range(90), 10))
        clients[1].failed(e.BusyError, clients[1].allocate(range(20), 10))
        self.successResultOf(clients[2].allocate(range(10), 10))
        self.assertEqual(self.service.status()["open_buckets"], 100)

    def test_beyond_its_memory_a_small_share_goes_through_a_file(self):
        size = 60_000
        fit = MOST_MEMORY_BYTES // size
        for number in range(fit + 3):
            self.successResultOf(self.client.allocate((number,), size, number))
            self.successResultOf(self.client.write(0, bytes([number]) * size, number, number))
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(len(self.leftovers()), 3)
        for number in range(fit + 3):
            self.successResultOf(self.client.close(number, number))
        self.assertEqual(self.leftovers(), [])
        for number in range(fit + 3):
            self.assertEqual(self.client.read(number, 9, 3), bytes([number]) * 3)
        # The memory is free again.
        self.successResultOf(self.client.allocate((100,), size))
        self.successResultOf(self.client.write(0, b"x", 100))
        self.assertEqual(self.leftovers(), [])

    def test_held_shares_count_for_nothing(self):
        self.successResultOf(self.client.put(b"data"))
        self.successResultOf(self.client.allocate((0,), 1000, index=INDEX))
        self.assertEqual(self.service.status()["open_buckets"], 0)
