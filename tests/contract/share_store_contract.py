"""What every store of shares must do, whatever keeps the bytes (`ampgrid.store.port.Store`).

An adapter proves itself by a test case that mixes `ShareStoreContract` in and makes stores::

    class MyStoreTests(ShareStoreContract, SynchronousTestCase):
        def open_store(self, *, quota=None, reserve=0, read_only=False):
            return MyStore(...)        # the same contents each time, as after a restart

The suite closes what it opened. ``call`` may be replaced to bring the calls from elsewhere.
"""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from ampgrid.errors import (
    IncompleteError,
    NoRoomError,
    NotStoredError,
    OutOfRangeError,
    WriteConflictError,
)
from ampgrid.store import LEASE_SECONDS, SMALL_SHARE_BYTES, LeaseTerms, Request
from ampgrid.store.space import FREELY_PROMISED, LEASE_OVERHEAD, SHARE_OVERHEAD

NOW = 1_800_000_000
PEER = b"p" * 20
OTHER = b"q" * 20
INDEX = b"i" * 16
SMALL = 1000
LARGE = SMALL_SHARE_BYTES + 1000


def lease(number: int = 1, now: int = NOW) -> LeaseTerms:
    return LeaseTerms.of(bytes([number]) * 32, bytes([number + 100]) * 32, now)


def request(numbers=(0,), size=SMALL, *, index=INDEX, peer=PEER, terms=None) -> Request:
    return Request(index, frozenset(numbers), size, peer, terms or lease())


def pattern(size: int, salt: int = 0) -> bytes:
    """Return bytes that differ from place to place, and for every salt."""
    return ((b"%08d" % salt + bytes(range(251))) * (size // 259 + 1))[:size]


class ShareStoreContract:
    """Mix into a trial test case; see the module."""

    def setUp(self):
        self.stores = []
        self.store = self.opened()

    def tearDown(self):
        for store in self.stores:
            store.close()

    def opened(self, **how):
        store = self.open_store(**how)
        self.stores.append(store)
        return store

    def reopen(self, **how):
        """End in order and begin again."""
        self.stores.remove(self.store)
        self.store.close()
        self.store = self.opened(**how)

    def call(self, function, *arguments, **keywords):
        return function(*arguments, **keywords)

    # Shorter words for what the tests do.

    def run_one(self, task):
        return self.call(self.store.run_all, [task])[0].get()

    def allocate(self, *arguments, in_memory=True, **keywords):
        asked = request(*arguments, **keywords)
        return self.run_one(self.store.allocating(asked, in_memory=in_memory))

    def upload(self, *arguments, **keywords):
        (found,) = self.allocate(*arguments, **keywords).accepted.values()
        return found

    def write(self, upload, *writes):
        return self.call(upload.write, list(writes))

    def close(self, upload):
        return self.call(self.store.close_upload, upload)

    def put(self, data, number=0, **keywords):
        asked = request((number,), len(data), **keywords)
        return self.run_one(self.store.putting(asked, data))

    def keep(self, data, number=0, *, in_memory=True, **keywords):
        """Store a share the long way."""
        upload = self.upload((number,), len(data), in_memory=in_memory, **keywords)
        self.assertEqual(self.write(upload, (0, data)), [None])
        return self.close(upload)

    def read(self, number=0, offset=0, length=2**20, index=INDEX):
        return self.call(self.store.read, index, number, offset, length)

    def room(self):
        return self.call(self.store.room, fresh=True)

    def new_index(self):
        """Return a storage index that this store has not seen."""
        self.indexes = getattr(self, "indexes", 0) + 1
        return b"n" + self.indexes.to_bytes(15, "big")

    def each_kind(self):
        """Yield (storage index, size, in memory): small, small through a file, large."""
        yield b"1" * 16, SMALL, True
        yield b"2" * 16, SMALL, False
        yield b"3" * 16, LARGE, True

    # Keeping and reading.

    def test_keeps_what_was_written_also_after_a_restart(self):
        for index, size, in_memory in self.each_kind():
            self.assertTrue(self.keep(pattern(size), 7, index=index, in_memory=in_memory))
        for _ in range(2):
            for index, size, _ in self.each_kind():
                self.assertEqual(self.call(self.store.shares, index), {7: size})
                self.assertEqual(self.read(7, index=index), pattern(size))
            self.reopen()

    def test_nothing_is_seen_before_it_is_closed(self):
        for index, size, in_memory in self.each_kind():
            upload = self.upload((0,), size, index=index, in_memory=in_memory)
            self.write(upload, (0, pattern(size)))
            self.assertEqual(self.call(self.store.shares, index), {})
            with self.assertRaises(NotStoredError):
                self.read(index=index)
            self.close(upload)
            self.assertEqual(self.read(index=index), pattern(size))

    def test_reads_are_clamped(self):
        for index, size, in_memory in self.each_kind():
            data = pattern(size)
            self.keep(data, index=index, in_memory=in_memory)
            ends = (0, 1, size - 1, size, size + 1, 2**40, 2**63 - 1)
            for offset in ends:
                for length in (0, 1, size, 65_000):
                    expected = data[offset : offset + length]
                    self.assertEqual(self.read(0, offset, length, index), expected)
                    at_once = self.store.read_at_once(index, 0, offset, length)
                    self.assertIn(at_once, (None, expected))

    def test_there_is_no_other_share(self):
        self.keep(pattern(SMALL), 3)
        for index, number in ((INDEX, 2), (INDEX, 4), (b"j" * 16, 3)):
            with self.assertRaises(NotStoredError):
                self.read(number, index=index)

    def test_empty_share(self):
        for number, in_memory in ((0, True), (1, False)):
            upload = self.upload((number,), 0, in_memory=in_memory)
            self.assertTrue(self.close(upload))
            self.assertEqual(self.read(number), b"")
        self.assertTrue(self.put(b"", 2).stored)
        self.assertEqual(self.call(self.store.shares, INDEX), {0: 0, 1: 0, 2: 0})

    def test_sizes_around_the_bound_of_small_shares(self):
        for number, size in enumerate((SMALL_SHARE_BYTES - 1, SMALL_SHARE_BYTES)):
            self.keep(pattern(size), number)
        self.keep(pattern(SMALL_SHARE_BYTES + 1), 2)
        self.assertEqual(
            self.call(self.store.shares, INDEX),
            {0: SMALL_SHARE_BYTES - 1, 1: SMALL_SHARE_BYTES, 2: SMALL_SHARE_BYTES + 1},
        )
        for number in range(3):
            size = SMALL_SHARE_BYTES - 1 + number
            self.assertEqual(self.read(number), pattern(size))

    def test_heads_lowest_first_as_far_as_they_fit(self):
        for number in (1, 2, 5):
            self.keep(pattern(100, number), number)
        self.keep(pattern(LARGE, 9), 9)
        want = frozenset({2, 5, 7, 9})
        sizes, heads = self.call(self.store.heads, INDEX, want, 150, 10_000)
        self.assertEqual(sizes, {1: 100, 2: 100, 5: 100, 9: LARGE})
        self.assertEqual(
            heads, {2: pattern(100, 2), 5: pattern(100, 5), 9: pattern(LARGE, 9)[:150]}
        )
        _, heads = self.call(self.store.heads, INDEX, want, 150, 220)
        self.assertEqual(list(heads), [2, 5])
        self.assertEqual(self.call(self.store.heads, b"j" * 16, want, 9, 9), ({}, {}))

    def test_heads_at_once_are_the_same_or_none(self):
        for number in (1, 2, 5):
            self.keep(pattern(100, number), number)
        for most in (0, 99, 100, 220, 1000):
            for asked in ((INDEX, frozenset({2, 5, 7}), 150, most), (b"j" * 16, {1}, 9, most)):
                at_once = self.store.heads_at_once(*asked)
                self.assertIn(at_once, (None, self.call(self.store.heads, *asked)))

    # Writing.

    def test_writes_in_any_order(self):
        for index, size, in_memory in self.each_kind():
            data = pattern(size)
            upload = self.upload((0,), size, index=index, in_memory=in_memory)
            pieces = [(at, data[at : at + 97]) for at in range(0, size, 97)]
            pieces = pieces[1::2] + pieces[::-2] + pieces[::2]
            self.assertEqual(set(self.write(upload, *pieces)), {None})
            self.assertTrue(self.close(upload))
            self.assertEqual(self.read(index=index), data)

    def test_writes_agree_with_a_model(self):
        """A write is refused if it is outside or contradicts, and then changes nothing."""
        same = st.builds(bytes.__mul__, st.sampled_from([b"a", b"b"]), st.integers(0, 20))
        writes = st.lists(st.tuples(st.integers(0, 70), same), max_size=12)

        @settings(max_examples=60, deadline=None)
        @given(writes=writes, in_memory=st.booleans(), together=st.booleans())
        def check(writes, in_memory, together):
            self.check_writes(64, writes, in_memory=in_memory, together=together)

        check()

    def check_writes(self, size, writes, *, in_memory, together):
        model = {}
        expected = []
        for offset, data in writes:
            new = dict(enumerate(data, offset))
            if offset + len(data) > size:
                expected.append(OutOfRangeError)
            elif any(model.get(at, byte) != byte for at, byte in new.items()):
                expected.append(WriteConflictError)
            else:
                expected.append(type(None))
                model |= new
        index = self.new_index()
        upload = self.upload((0,), size, index=index, in_memory=in_memory)
        if together:
            outcomes = self.write(upload, *writes)
        else:
            outcomes = [self.write(upload, one)[0] for one in writes]
        self.assertEqual([type(outcome) for outcome in outcomes], expected)
        for at in range(size):
            if at not in model:
                self.assertEqual(self.write(upload, (at, b"?")), [None])
        self.close(upload)
        stored = bytes(model.get(at, ord("?")) for at in range(size))
        self.assertEqual(self.read(index=index), stored)

    def test_a_hole_at_close_discards_the_share(self):
        for index, size, in_memory in self.each_kind():
            for hole in (0, size // 2, size - 1):
                data = pattern(size)
                upload = self.upload((0,), size, index=index, in_memory=in_memory)
                self.write(upload, (0, data[:hole]), (hole + 1, data[hole + 1 :]))
                with self.assertRaises(IncompleteError):
                    self.close(upload)
                self.assertEqual(self.call(self.store.shares, index), {})
                self.assertEqual(self.room().promised, 0)

    def test_too_many_pieces_are_refused_but_writing_in_order_goes_on(self):
        upload = self.upload((0,), 10_000, in_memory=True)
        outcomes = self.write(upload, *[(at, b"x") for at in range(0, 4000, 2)])
        self.assertIn(NoRoomError, [type(outcome) for outcome in outcomes])
        self.call(upload.discard)

    def test_first_to_close_stays(self):
        for index, size, in_memory in self.each_kind():
            first = self.upload((0,), size, index=index, in_memory=in_memory)
            second = self.upload((0,), size, index=index, peer=OTHER, in_memory=in_memory)
            self.write(first, (0, pattern(size, 1)))
            self.write(second, (0, pattern(size, 2)))
            self.assertTrue(self.close(second))
            with self.assertRaises(WriteConflictError):
                self.close(first)
            self.assertEqual(self.read(index=index), pattern(size, 2))
        self.assertEqual(self.call(self.store.account, PEER), (0, 0))
        self.assertEqual(self.call(self.store.account, OTHER), (2 * SMALL + LARGE, 3))
        self.assertEqual(self.room().promised, 0)

    def test_the_same_share_again_is_a_success_and_any_other_is_not(self):
        """One byte of difference, or another size, is told; only the same adds its lease."""
        for index, size, in_memory in self.each_kind():
            data = pattern(size)
            others = [data[:at] + b"?" + data[at + 1 :] for at in (0, size // 2, size - 1)]
            others += [data[:-1], data + b"?", pattern(LARGE + 1), pattern(SMALL - 1)]
            uploads = []
            for number, other in enumerate([data, *others]):
                how = {"index": index, "in_memory": in_memory, "terms": lease(number + 2)}
                uploads.append(self.upload((0,), len(other), **how))
                self.assertEqual(self.write(uploads[-1], (0, other)), [None])
            self.keep(data, index=index, peer=OTHER, in_memory=in_memory)
            self.assertFalse(self.close(uploads[0]))
            for upload in uploads[1:]:
                with self.assertRaises(WriteConflictError):
                    self.close(upload)
            self.assertEqual(self.read(index=index), data)
            self.run_one(self.store.renewing_lease(index, lease(2).renew, NOW))
            for number in range(1, len(uploads)):
                with self.assertRaises(NotStoredError):
                    self.run_one(self.store.renewing_lease(index, lease(number + 2).renew, NOW))
        self.assertEqual(self.room().promised, 0)
        self.assertEqual(self.call(self.store.account, PEER), (0, 0))

    def test_discard_frees_and_forgets_and_may_be_repeated(self):
        for index, size, in_memory in self.each_kind():
            upload = self.upload((0,), size, index=index, in_memory=in_memory)
            self.write(upload, (0, pattern(size)))
            for _ in range(2):
                self.call(upload.discard)
            self.assertEqual(self.room().promised, 0)
            self.assertNotEqual(self.write(upload, (0, b"x")), [None])
            self.assertEqual(self.call(self.store.shares, index), {})

    # Allocation.

    def test_answers_all_that_is_held_and_accepts_the_rest(self):
        self.keep(pattern(SMALL), 1)
        self.keep(pattern(SMALL), 9)
        answer = self.allocate((1, 2, 3))
        self.assertEqual(answer.held, {1: SMALL, 9: SMALL})
        self.assertEqual(set(answer.accepted), {2, 3})
        for upload in answer.accepted.values():
            self.call(upload.discard)

    def test_put_stores_at_once_unless_held(self):
        first = self.put(b"first")
        self.assertEqual((first.held, first.stored), ({}, True))
        again = self.put(b"again")
        self.assertEqual((again.held, again.stored), ({0: 5}, False))
        self.assertEqual(self.read(), b"first")

    def test_quota_is_exact_to_the_byte(self):
        """A share counts its bytes and a fixed overhead, and so does a lease."""
        coming = SHARE_OVERHEAD + LEASE_OVERHEAD
        quota = 3000 + 4 * coming
        self.reopen(quota=quota)
        self.assertEqual(self.room().available, 3000 + 3 * coming)
        self.keep(pattern(SMALL), 0)
        self.assertEqual(self.room().overhead, coming)
        self.assertEqual(self.room().available, 2000 + 2 * coming)
        answer = self.allocate((0, 5, 2, 3), 700)
        self.assertEqual(set(answer.accepted), {2, 3})
        self.assertEqual(self.room().available, 600)
        self.assertEqual(set(self.allocate((5,), 601).accepted), set())
        self.assertFalse(self.put(bytes(601), 6).stored)
        self.assertTrue(self.put(bytes(600), 6).stored)
        self.assertEqual(self.room().available, 0)
        self.call(answer.accepted[2].discard)
        # The lease was there already, so what was kept for it is free again.
        self.assertEqual(self.room().available, 700 + LEASE_OVERHEAD)
        self.write(answer.accepted[3], (0, bytes(700)))
        self.close(answer.accepted[3])
        room = self.room()
        self.assertEqual((room.used, room.promised, room.shares), (2300, 0, 3))
        self.assertEqual(room.overhead, 3 * SHARE_OVERHEAD + LEASE_OVERHEAD)
        self.assertEqual(room.available, 700 + 2 * LEASE_OVERHEAD)
        self.reopen(quota=quota)
        again = self.room()
        self.assertEqual(again, attrs.evolve(room, free=again.free))

    def test_leases_count_and_need_room(self):
        """No new lease beyond quota or reserve, by whichever way; renewing takes no room."""
        self.put(b"data")
        self.reopen(quota=self.room().used + self.room().overhead + LEASE_OVERHEAD)
        self.run_one(self.store.adding_lease(INDEX, lease(2)))
        before = self.room().overhead
        self.assertEqual(before, SHARE_OVERHEAD + 2 * LEASE_OVERHEAD)
        for how in ({"quota": self.room().used + before}, {"reserve": self.room().free * 2}):
            self.reopen(**how)
            self.run_one(self.store.adding_lease(INDEX, lease(2)))
            self.run_one(self.store.renewing_lease(INDEX, lease(1).renew, NOW))
            self.assertEqual(self.allocate((0, 1), terms=lease(2)).accepted, {})
            for refused in (
                self.store.adding_lease(INDEX, lease(3)),
                self.store.allocating(request((0,), terms=lease(3)), in_memory=True),
                self.store.putting(request((0,), 4, terms=lease(3)), b"data"),
                self.store.putting(request((1,), 4, terms=lease(3)), b"data"),
            ):
                with self.assertRaises(NoRoomError):
                    self.run_one(refused)
            self.assertEqual(self.room().overhead, before)
        self.run_one(self.store.cancelling_lease(INDEX, lease(2).cancel))
        self.assertEqual(self.room().overhead, before - LEASE_OVERHEAD)

    def test_no_peer_has_more_promised_than_is_left(self):
        """But for some that everybody may have in any case; what is stored is another matter."""
        freely = FREELY_PROMISED
        self.reopen(quota=6 * freely + 2**20)
        mine = self.allocate((0,), 2 * freely).accepted
        self.assertEqual(set(mine), {0})
        self.assertEqual(self.allocate((1,), freely + 2**20).accepted, {})
        theirs = self.allocate((1, 2, 3), freely, peer=OTHER).accepted
        self.assertEqual(set(theirs), {1, 2})
        self.assertEqual(self.allocate((3,), 2**20).accepted, {})
        for upload in theirs.values():
            self.call(upload.discard)
        self.call(mine[0].discard)
        again = self.allocate(range(9), freely // 2).accepted
        self.assertEqual(len(again), 6)
        for upload in again.values():
            self.call(upload.discard)
        self.assertEqual(self.room().promised, 0)
        self.reopen(quota=freely)
        upload = self.upload((0,), freely - SHARE_OVERHEAD - LEASE_OVERHEAD)
        self.call(upload.discard)

    def test_quota_that_is_passed_already_accepts_nothing(self):
        self.keep(pattern(SMALL), 0)
        self.reopen(quota=10)
        self.assertEqual(self.room().available, 0)
        self.assertEqual(self.allocate((1,), 1).accepted, {})
        self.assertEqual(self.read(), pattern(SMALL))

    def test_reserve_is_kept_free(self):
        free = self.room().free
        self.reopen(reserve=free * 2)
        self.assertEqual(self.room().available, 0)
        self.assertEqual(self.allocate((0,), 1).accepted, {})
        self.assertFalse(self.put(b"x").stored)

    def test_more_than_the_disk_is_refused(self):
        for size in (2**62, 2**63 - 1):
            self.assertEqual(self.allocate((0, 1), size).accepted, {})
        self.assertEqual(self.room().promised, 0)

    def test_read_only_accepts_nothing_but_reads_and_leases(self):
        self.keep(pattern(SMALL), 0)
        self.reopen(read_only=True)
        self.assertFalse(self.room().accepts)
        answer = self.allocate((0, 1))
        self.assertEqual((answer.held, answer.accepted), ({0: SMALL}, {}))
        self.run_one(self.store.adding_lease(INDEX, lease(5)))
        self.assertEqual(self.read(), pattern(SMALL))

    def test_accounts_are_by_who_stored_first(self):
        self.put(bytes(10), 0)
        self.put(bytes(20), 1, peer=OTHER)
        self.put(bytes(20), 0, peer=OTHER)
        self.keep(pattern(LARGE), 3, peer=OTHER)
        self.assertEqual(self.call(self.store.account, PEER), (10, 1))
        self.assertEqual(self.call(self.store.account, OTHER), (20 + LARGE, 2))
        self.assertEqual(self.call(self.store.account, b"r" * 20), (0, 0))
        self.assertEqual(self.call(self.store.accounts), 2)
        self.assertEqual(self.room().used, 30 + LARGE)

    # Tasks.

    def test_a_failing_task_changes_nothing_and_harms_no_other(self):
        store = self.store
        tasks = [
            store.putting(request((0,), 3), b"one"),
            store.cancelling_lease(b"j" * 16, lease().cancel),
            store.putting(request((1,), 3), b"two"),
            store.advising(INDEX, 0, PEER, "reason", NOW),
            store.advising(INDEX, 7, PEER, "reason", NOW),
        ]
        results = self.call(store.run_all, tasks)
        self.assertTrue(results[0].get().stored)
        with self.assertRaises(NotStoredError):
            results[1].get()
        self.assertEqual(results[2].get().held, {0: 3})
        results[3].get()
        with self.assertRaises(NotStoredError):
            results[4].get()
        self.assertEqual(self.call(store.shares, INDEX), {0: 3, 1: 3})
        self.assertEqual(self.call(store.run_all, []), [])

    # Leases.

    def test_a_lease_comes_with_a_share_and_with_one_that_is_held(self):
        for index, size, in_memory in self.each_kind():
            self.keep(pattern(size), index=index, in_memory=in_memory, terms=lease(1))
            self.allocate((0,), size, index=index, terms=lease(2, NOW + 5))
            self.put(bytes(3), index=index, terms=lease(3, NOW + 9))
            for number in (1, 2, 3):
                self.run_one(self.store.renewing_lease(index, lease(number).renew, NOW))
            with self.assertRaises(NotStoredError):
                self.run_one(self.store.renewing_lease(index, lease(4).renew, NOW))

    def test_an_allocation_that_is_not_closed_leaves_no_lease(self):
        for index, size, in_memory in self.each_kind():
            upload = self.upload((0,), size, index=index, in_memory=in_memory)
            self.call(upload.discard)
            with self.assertRaises(NotStoredError):
                self.run_one(self.store.renewing_lease(index, lease().renew, NOW))

    def test_the_later_close_adds_its_lease(self):
        first = self.upload((0,), 5)
        self.put(b"12345", terms=lease(2))
        self.write(first, (0, b"12345"))
        self.assertFalse(self.close(first))
        self.run_one(self.store.renewing_lease(INDEX, lease(1).renew, NOW))

    def test_the_same_secrets_are_another_lease_elsewhere(self):
        self.put(b"here")
        self.put(b"there", index=b"j" * 16)
        self.run_one(self.store.cancelling_lease(INDEX, lease().cancel))
        with self.assertRaises(NotStoredError):
            self.run_one(self.store.renewing_lease(INDEX, lease().renew, NOW))
        self.run_one(self.store.renewing_lease(b"j" * 16, lease().renew, NOW))

    def test_cancel_takes_its_own_secret_and_no_share(self):
        self.put(b"kept")
        for wrong in (lease().renew, lease(2).cancel, bytes(32)):
            with self.assertRaises(NotStoredError):
                self.run_one(self.store.cancelling_lease(INDEX, wrong))
        self.run_one(self.store.cancelling_lease(INDEX, lease().cancel))
        with self.assertRaises(NotStoredError):
            self.run_one(self.store.cancelling_lease(INDEX, lease().cancel))
        self.assertEqual(self.read(), b"kept")
        self.reopen()
        self.assertEqual(self.read(), b"kept")

    def test_no_lease_without_a_share(self):
        with self.assertRaises(NotStoredError):
            self.run_one(self.store.adding_lease(INDEX, lease()))

    def test_leases_are_bounded_and_old_ones_make_room(self):
        self.put(b"data", terms=LeaseTerms(bytes(32), bytes(32), NOW))
        many = [
            self.store.adding_lease(INDEX, LeaseTerms(b"%032d" % n, b"%032d" % n, NOW))
            for n in range(999)
        ]
        for result in self.call(self.store.run_all, many):
            result.get()
        one_more = LeaseTerms(b"x" * 32, b"x" * 32, NOW)
        taken_over = LeaseTerms(b"y" * 32, b"y" * 32, NOW, until=NOW + 2 * LEASE_SECONDS)
        with self.assertRaises(NoRoomError):
            self.run_one(self.store.adding_lease(INDEX, taken_over))
        # Whoever filled it keeps nobody from keeping the file, nor from adding to it.
        self.run_one(self.store.adding_lease(INDEX, one_more))
        self.assertTrue(self.put(b"more", 1, terms=one_more).stored)
        self.keep(pattern(100_000), 2, terms=one_more)
        self.assertEqual(self.call(self.store.shares, INDEX), {0: 4, 1: 4, 2: 100_000})
        self.assertEqual(self.room().promised, 0)
        for missing in (one_more, taken_over):
            with self.assertRaises(NotStoredError):
                self.run_one(self.store.renewing_lease(INDEX, missing.renew, NOW))
        later = LeaseTerms(b"x" * 32, b"x" * 32, NOW + LEASE_SECONDS + 1)
        self.run_one(self.store.adding_lease(INDEX, later))
