"""Writes answered before they are in a file: what is gathered, its bounds, its failures."""

from __future__ import annotations

import errno
import tracemalloc
from typing import ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st

from ampgrid.commands import errors as e
from ampgrid.storage import service
from ampgrid.storage.allowance import Allowance
from ampgrid.storage.buckets import MOST_AHEAD_BYTES, STEP_BYTES, WRITE_BYTES
from ampgrid.storage.service import LOOK_SECONDS
from ampgrid.store import uploads
from ampgrid.store.filesystem import PosixFileSystem
from tests.unit.storage.service_case import LARGE, Client, ServiceCase
from tests.unit.store.disks import FaultyFileSystem

CHUNK = 65_000
SIZE = 40 * CHUNK
#: What such a write counts while it is ahead.
COST = CHUNK + WRITE_BYTES


class GatherTests(ServiceCase):
    def test_a_share_in_order_takes_few_hops(self):
        self.successResultOf(self.client.allocate((0,), SIZE))
        hops = self.threads.hops
        for offset in range(0, SIZE, CHUNK):
            self.successResultOf(self.client.write(offset, bytes([offset % 251]) * CHUNK))
        self.successResultOf(self.client.close())
        self.assertLessEqual(self.threads.hops - hops, SIZE // STEP_BYTES + 1)
        for offset in range(0, SIZE, CHUNK):
            self.assertEqual(self.client.read(0, offset, CHUNK), bytes([offset % 251]) * CHUNK)

    def test_the_disk_begins_before_the_end(self):
        """So that the close need not wait for all of a large share."""

        class Asked(PosixFileSystem):
            lengths: ClassVar[list[int]] = []

            def start_sync(self, descriptor):
                self.lengths.append(self.length_of(descriptor))
                super().start_sync(descriptor)

        self.patch(uploads, "START_SYNC_BYTES", 2**20)
        self.start(files=Asked())
        self.successResultOf(self.client.allocate((0,), SIZE))
        for offset in range(0, SIZE, CHUNK):
            self.successResultOf(self.client.write(offset, bytes([offset % 251]) * CHUNK))
        self.successResultOf(self.client.close())
        step = -(-(2**20) // STEP_BYTES) * STEP_BYTES
        self.assertEqual(Asked.lengths, list(range(step, SIZE + 1, step)))
        self.assertEqual(self.client.read(0, 0, CHUNK), bytes(CHUNK))

    def test_nothing_is_in_memory_alone_for_long(self):
        self.successResultOf(self.client.allocate((0,), LARGE))
        self.successResultOf(self.client.write(0, b"x" * 1000))
        self.assertEqual((self.service.ahead.held, self.leftovers()), (1000 + WRITE_BYTES, []))
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual((self.service.ahead.held, len(self.leftovers())), (0, 1))

    def test_each_write_is_answered_as_if_it_were_done_at_once(self):
        """In any order, overlapping, contradicting and outside; the threads lag behind."""
        turn = iter(range(10**6))
        step = 5_000
        write = st.tuples(
            st.sampled_from(["on", "anywhere"]), st.integers(0, 14), st.integers(0, 4)
        )
        choices = st.lists(st.tuples(write, st.integers(0, 1), st.integers(0, 3)), max_size=25)

        @settings(max_examples=60, deadline=None)
        @given(choices)
        def check(writes):
            index = next(turn).to_bytes(16, "big")
            self.successResultOf(self.client.allocate((0,), LARGE, 1, index))
            self.threads.held = True
            model, end, answers = {}, 0, []
            for (how, at, count), letter, steps in writes:
                first = end // step if how == "on" else at
                places = range(first, first + count)
                end = max(end, (first + count) * step)
                answer = self.client.write(first * step, b"ab"[letter : letter + 1] * step * count)
                expected = None
                if first * step + count * step > LARGE:
                    expected = e.OutsideShareError
                elif any(model.get(place, letter) != letter for place in places):
                    expected = e.ConflictingWriteError
                else:
                    model.update(dict.fromkeys(places, letter))
                answers.append((answer, expected))
                for _ in range(min(steps, len(self.threads))):
                    self.threads.step()
            closing = self.client.close()
            self.threads.release()
            for answer, expected in answers:
                if expected is None:
                    self.successResultOf(answer)
                else:
                    self.client.failed(expected, answer)
            if len(model) < LARGE // step:
                self.client.failed(e.IncompleteShareError, closing)
                return
            self.successResultOf(closing)
            for place, letter in model.items():
                data = self.client.read(0, place * step, step, index)
                self.assertEqual(data, b"ab"[letter : letter + 1] * step)

        check()


class BoundTests(ServiceCase):
    def write_all(self, client, share=0):
        return [client.write(offset, b"x" * CHUNK, share) for offset in range(0, SIZE, CHUNK)]

    def test_of_a_connection(self):
        self.successResultOf(self.client.allocate((0,), SIZE))
        self.threads.held = True
        answers = self.write_all(self.client)
        answered = sum(COST for answer in answers if answer.called)
        self.assertLessEqual(answered, MOST_AHEAD_BYTES)
        self.assertGreater(answered, MOST_AHEAD_BYTES - COST)
        self.assertEqual(self.service.ahead.held, answered)
        self.threads.release()
        for answer in answers:
            self.successResultOf(answer)
        self.assertEqual(self.service.ahead.held, 0)
        self.successResultOf(self.client.close())

    def test_of_many_small_writes(self):
        """A byte takes more than a byte: what is remembered of each write counts."""
        self.successResultOf(self.client.allocate((0,), SIZE))
        self.threads.held = True
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before, _ = tracemalloc.get_traced_memory()
        answered = 0
        while answered < MOST_AHEAD_BYTES // 100 and self.client.write(answered, b"x").called:
            answered += 1
        after, _ = tracemalloc.get_traced_memory()
        self.assertEqual(self.service.ahead.held, answered * (1 + WRITE_BYTES))
        self.assertLessEqual(self.service.ahead.held, MOST_AHEAD_BYTES)
        self.assertLessEqual(after - before, MOST_AHEAD_BYTES)
        self.threads.release()
        self.assertEqual(self.service.ahead.held, 0)

    def test_of_all_connections(self):
        self.patch(service, "MOST_AHEAD_BYTES", 10 * COST)
        self.start()
        clients = [Client(self, bytes([n]) * 20) for n in range(3)]
        for number, client in enumerate(clients):
            self.successResultOf(client.allocate((0,), SIZE, index=bytes([number]) * 16))
        self.threads.held = True
        answers = [self.write_all(client) for client in clients]
        called = sum(answer.called for several in answers for answer in several)
        self.assertEqual(called, 10)
        self.threads.release()
        for several in answers:
            for answer in several:
                self.successResultOf(answer)
        self.assertEqual(self.service.ahead.held, 0)

    def test_what_others_gather_holds_up_nobody(self):
        """Seven shares that stand still fill the allowance; the eighth gets room at once."""
        self.successResultOf(self.client.allocate(range(8), SIZE))
        share = 0
        while self.service.ahead.held + COST <= MOST_AHEAD_BYTES:
            share = (share + 1) % 7
            offset = self.service.ahead.held // (7 * COST) * CHUNK
            self.successResultOf(self.client.write(offset, b"x" * CHUNK, share))
        self.successResultOf(self.client.write(0, b"x" * CHUNK, 7))
        self.assertEqual(self.service.ahead.held, 0)
        self.successResultOf(self.client.write(CHUNK, b"x" * CHUNK, 7))
        self.assertEqual(self.service.ahead.held, COST)

    def test_an_end_gives_all_back(self):
        for end in ("abort", "lose"):
            client = Client(self)
            self.successResultOf(client.allocate((0, 1), SIZE))
            for share in (0, 1):
                self.successResultOf(client.write(0, b"x" * CHUNK, share))
            self.threads.held = True
            if end == "abort":
                ends = [client.abort(share) for share in (0, 1)]
                self.threads.release()
                for answer in ends:
                    self.successResultOf(answer)
            client.connection.lose()
            self.threads.release()
            self.assertEqual((self.service.ahead.held, self.leftovers()), (0, []))

    def test_an_allowance_within_another(self):
        outer = Allowance(10)
        one, two = Allowance(8, outer), Allowance(8, outer)
        self.assertEqual([one.take(8), one.take(1), two.take(3), two.take(2)], [1, 0, 0, 1])
        self.assertEqual((one.held, two.held, outer.held), (8, 2, 10))
        one.give_back(8)
        self.assertTrue(two.take(6))
        self.assertEqual((one.held, two.held, outer.held), (0, 8, 8))


class FailureTests(ServiceCase):
    """What was answered and could not be written shows at once after, and nothing is stored."""

    def setUp(self):
        self.disk = FaultyFileSystem({"write_at"})
        super().setUp()

    def start(self, **how):
        super().start(files=self.disk, **how)

    def gathered(self):
        """Write to a share until a step is on its way; returns where it ends."""
        self.successResultOf(self.client.allocate((0,), SIZE))
        self.threads.held = True
        offset = 0
        while not len(self.threads):
            self.successResultOf(self.client.write(offset, b"x" * CHUNK))
            offset += CHUNK
        return offset

    def check_failed(self, offset, closed):
        later = [self.client.write(at, b"x" * CHUNK) for at in (offset, offset + CHUNK, 0)]
        closing = self.client.close()
        self.threads.release()
        for answer in later:
            self.client.failed(e.StoreFailedError, answer)
        self.client.failed(closed, closing)
        self.assertEqual((self.client.sizes(), self.leftovers()), ({}, []))
        self.assertEqual(self.client.space()["promised"], 0)
        self.client.failed(e.NoBucketError, self.client.write(offset, b"x"))

    def test_a_full_disk(self):
        offset = self.gathered()
        self.disk.plan(0, error=errno.ENOSPC)
        self.threads.step()
        self.disk.heal()
        self.check_failed(offset, e.NoSpaceError)
        self.assertTrue(self.client.space()["accepts"])

    def test_a_broken_disk(self):
        offset = self.gathered()
        self.disk.plan(0, error=errno.EIO)
        self.threads.step()
        self.disk.heal()
        self.check_failed(offset, e.StoreFailedError)

    def test_the_last_step(self):
        """Everything was answered; the close is not."""
        self.successResultOf(self.client.allocate((0,), LARGE))
        self.successResultOf(self.client.write(0, b"x" * 60_000))
        self.successResultOf(self.client.write(60_000, b"x" * 10_000))
        self.disk.plan(0, error=errno.ENOSPC)
        self.client.failed(e.NoSpaceError, self.client.close())
        self.disk.heal()
        self.assertEqual((self.client.sizes(), self.leftovers()), ({}, []))

    def test_what_nobody_foresaw(self):
        self.gathered()
        self.threads.fail(MemoryError())
        closing = self.client.close()
        self.threads.release()
        failure = self.failureResultOf(closing)
        self.assertEqual((self.client.sizes(), self.leftovers()), ({}, []))
        self.assertIsInstance(failure.value, Exception)
        self.assertEqual(self.service.ahead.held, 0)

    def test_every_place_of_a_failure(self):
        """Whichever write to the disk fails, the share is not stored and the client is told."""
        for fail_at in range(20):
            self.disk.heal()
            client = Client(self)
            self.successResultOf(client.allocate((0,), SIZE))
            self.disk.plan(fail_at, error=errno.ENOSPC)
            for offset in range(0, SIZE, CHUNK):
                client.write(offset, b"x" * CHUNK).addErrback(lambda _: None)
            closing = client.close()
            if self.disk.failed is None:
                break
            client.failed(e.NoSpaceError, closing)
            self.assertEqual((client.sizes(), self.leftovers()), ({}, []))
            client.connection.lose()
        self.successResultOf(closing)
        self.assertEqual(client.sizes(), {0: SIZE})
        self.assertGreaterEqual(fail_at, SIZE // STEP_BYTES)
