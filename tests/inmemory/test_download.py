"""Downloads from shelves of shares that are good, damaged, lying, slow or missing."""

import gc
from itertools import combinations, permutations, product

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import (
    AmpgridError,
    NotEnoughSharesError,
    OperationCancelledError,
    PeerError,
)
from ampgrid.immutable import Downloader, Operation, ToData
from ampgrid.immutable.pool import GRACE_SECONDS, SLOW_SECONDS
from ampgrid.placement import permute
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.shelves import Shelf
from ampgrid.wire import InlineThreads
from tests.material import make_shares, shelves_for, some_bytes


class DownloadCase(SynchronousTestCase):
    """What the tests here have in common."""

    def setUp(self):
        self.clock = HeapClock()

    def download(self, cap, shelves, offset=0, length=None, operation=None, within=30.0):
        """Download, failing if it takes longer than ``within`` seconds of the clock."""
        downloader = Downloader(lambda: shelves, InlineThreads(), self.clock)
        began = self.clock.seconds()
        try:
            return self.clock.run(
                downloader.download(cap, ToData(), operation, offset, length), within
            )
        finally:
            self.assertLessEqual(self.clock.seconds() - began, within)

    async def hang(self):
        """Never come back."""
        await Deferred()

    def answers_after(self, shelf, seconds):
        """Let a shelf think that long before every answer."""

        async def think():
            await deferLater(self.clock, seconds, lambda: None)

        shelf.before = think

    def hands_over_nothing(self, shelf):
        """Let a shelf tell what it has, and answer nothing after."""
        told = shelf.shares

        async def tell(*asked):
            sizes, _heads = await told(*asked)
            shelf.before = self.hang
            return sizes, {}

        shelf.shares = tell


class AnyKOfNTests(DownloadCase):
    """Any k of n shares give a file back."""

    def test_all_subsets_of_three_of_ten(self):
        data = some_bytes(5_000)
        cap, shares = make_shares(data, 3, 10, max_segment_size=2_000)
        tried = 0
        for subset in combinations(range(10), 3):
            shelves = shelves_for(cap, [(n, shares[n]) for n in subset])
            self.assertEqual(data, self.download(cap, shelves).result)
            tried += 1
        self.assertEqual(120, tried)

    def test_every_pair_is_too_few(self):
        cap, shares = make_shares(some_bytes(5_000), 3, 10)
        for subset in combinations(range(10), 2):
            shelves = shelves_for(cap, [(n, shares[n]) for n in subset])
            with self.assertRaises(NotEnoughSharesError) as caught:
                self.download(cap, shelves)
            self.assertEqual((2, 3), (caught.exception.found, caught.exception.needed))
            self.assertIn("found 2 of the 3 shares", str(caught.exception))

    def test_no_server_at_all(self):
        cap, _shares = make_shares(some_bytes(5_000), 3, 10)
        with self.assertRaises(NotEnoughSharesError) as caught:
            self.download(cap, [])
        self.assertEqual(0, caught.exception.found)

    def test_all_shares_on_one_server(self):
        data = some_bytes(70_000)
        cap, shares = make_shares(data, 3, 5)
        contents = {(cap.storage_index, n): share for n, share in enumerate(shares)}
        self.assertEqual(data, self.download(cap, [Shelf(b"x" * 20, contents)]).result)

    def test_one_share_twice_counts_once(self):
        cap, shares = make_shares(some_bytes(500), 2, 4)
        shelves = [Shelf(bytes([i]) * 20, {(cap.storage_index, 1): shares[1]}) for i in range(4)]
        with self.assertRaises(NotEnoughSharesError) as caught:
            self.download(cap, shelves)
        self.assertEqual(1, caught.exception.found)


class FirstServersTests(DownloadCase):
    """Of a small file the first servers of its order are asked first, and the others in time."""

    def setUp(self):
        super().setUp()
        self.data = some_bytes(900)
        self.cap, self.shares = make_shares(self.data, 3, 5)
        self.downloader = Downloader(lambda: self.shelves, InlineThreads(), self.clock)
        self.asked = []
        self.shelves = [self.shelf(bytes([number]) * 20) for number in range(7)]
        order = permute(self.cap.storage_index, {s.server_id: s for s in self.shelves})
        self.shelves.sort(key=lambda shelf: order.index(shelf.server_id))
        self.spread()

    def shelf(self, server_id):
        shelf = Shelf(server_id, {})

        async def before():
            self.asked.append(self.shelves.index(shelf))

        shelf.before = before
        return shelf

    def spread(self, first=0):
        """Give the shares to servers from the ``first`` one of the order on."""
        for shelf in self.shelves:
            shelf.contents.clear()
        for number, share in enumerate(self.shares):
            self.shelves[first + number].contents[self.cap.storage_index, number] = share

    def get(self, within):
        """Download; return which servers were asked."""
        self.asked.clear()
        began = self.clock.seconds()
        got = self.clock.run(self.downloader.download(self.cap, ToData()), 30.0)
        self.assertEqual(got.result, self.data)
        self.assertLessEqual(self.clock.seconds() - began, within)
        return sorted(set(self.asked))

    def test_as_many_as_are_needed_are_asked(self):
        self.assertEqual(self.get(0), [0, 1, 2])

    def test_all_are_asked_while_the_first_do_not_do(self):
        self.spread(first=2)
        self.assertEqual(self.get(0), list(range(7)))
        self.spread()
        # It is known from the answers to the next question that the first do again.
        self.assertEqual(self.get(0), list(range(7)))
        self.assertEqual(self.get(0), [0, 1, 2])

    def test_far_servers_cost_one_round(self):
        """Nobody waits for the others once the first have handed over what is needed."""
        for seconds in (GRACE_SECONDS / 2, GRACE_SECONDS + 0.01, 0.3, SLOW_SECONDS - 0.1):
            for shelf in self.shelves:
                self.answers_after(shelf, seconds)
            began = self.clock.seconds()
            got = self.clock.run(self.downloader.download(self.cap, ToData()), 30.0)
            self.assertEqual(got.result, self.data)
            self.assertAlmostEqual(self.clock.seconds() - began, seconds, msg=seconds)

    def test_any_trouble_with_any_of_the_first(self):
        """None of them holds up the others by more than a moment, but one that hides its share."""
        for troubles in product((None, "empty", "fails", "hangs", "damaged"), repeat=3):
            if sum(trouble is not None for trouble in troubles) > 2:
                continue
            self.setUp()
            for shelf, trouble in zip(self.shelves, troubles, strict=False):
                if trouble is not None:
                    getattr(self, trouble)(shelf)
            asked = self.get(within=3 * GRACE_SECONDS)
            later = [3, 4, 5, 6] if any(troubles) else []
            self.assertEqual([place for place in asked if place > 2], later, troubles)

    def empty(self, shelf):
        shelf.contents.clear()

    def fails(self, shelf):
        async def fail():
            raise PeerError("no")

        shelf.before = fail

    def hangs(self, shelf):
        async def hang():
            await Deferred()

        shelf.before = hang

    def damaged(self, shelf):
        for place, share in shelf.contents.items():
            shelf.contents[place] = share[:-40] + bytes(40)

    def test_a_damaged_share_is_noticed_while_the_others_still_think(self):
        self.damaged(self.shelves[0])
        for shelf in self.shelves[1:]:
            self.answers_after(shelf, GRACE_SECONDS / 4)
        # Asked only then, the others would take as long again.
        self.get(within=GRACE_SECONDS * 0.4)

    def test_a_fault_of_ours_is_logged_and_holds_nobody_up(self):
        async def broken(*_asked):
            raise ZeroDivisionError

        first, second = self.shelves[:2]
        first.shares = broken
        told = second.shares

        async def without_heads(*asked):
            sizes, _heads = await told(*asked)
            return sizes, {}

        second.shares, second.read = without_heads, broken
        self.get(within=SLOW_SECONDS)
        # They are told once nobody can handle them any more.
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_a_share_that_is_not_handed_over(self):
        shelf = self.shelves[1]
        told = shelf.shares

        async def hide(*asked):
            sizes, _heads = await told(*asked)
            shelf.before = Deferred
            return sizes, {}

        shelf.shares = hide
        self.assertEqual(self.get(within=SLOW_SECONDS + GRACE_SECONDS), list(range(7)))

    def test_a_block_is_damaged_and_what_is_found_next_is_not_handed_over(self):
        for shelf in self.shelves:
            shelf.contents.clear()
        share = self.shares[0]
        damaged = share[:40] + bytes([share[40] ^ 1]) + share[41:]
        held = ({0: damaged}, {1: None, 2: None}, dict.fromkeys(range(5)), {3: None, 4: None})
        for shelf, numbers in zip(self.shelves, held, strict=False):
            for number, other in numbers.items():
                shelf.contents[self.cap.storage_index, number] = other or self.shares[number]
        self.hands_over_nothing(self.shelves[2])
        self.get(within=2 * SLOW_SECONDS)


class DamageTests(DownloadCase):
    """A damaged share never gives wrong bytes, whichever byte of it is damaged."""

    def setUp(self):
        super().setUp()
        self.data = some_bytes(120)
        self.cap, self.shares = make_shares(self.data, 2, 3, max_segment_size=64)

    def check(self, bad):
        """Download with share 0 replaced, with and without a spare."""
        index = self.cap.storage_index
        with_spare = shelves_for(self.cap, [(0, bad), (1, self.shares[1]), (2, self.shares[2])])
        self.assertEqual(self.data, self.download(self.cap, with_spare).result)
        without = shelves_for(self.cap, [(0, bad), (1, self.shares[1])])
        try:
            result = self.download(self.cap, without).result
        except NotEnoughSharesError as error:
            self.assertEqual((1, 2), (error.found, error.needed))
            return False
        self.assertEqual(self.data, result)
        self.assertIn((index, 0), without[0].contents)
        return True

    def test_every_byte_flipped(self):
        survived = 0
        share = self.shares[0]
        for position in range(len(share)):
            bad = bytearray(share)
            bad[position] ^= 0xFF
            survived += self.check(bytes(bad))
        # What is not read (the room of the plaintext tree, inner nodes, a word of the header that
        # is not used) may be damaged; every other byte must be noticed.
        self.assertLess(survived, len(share) // 2)

    def test_every_bit_of_the_header_and_the_end(self):
        share = self.shares[0]
        for position in [*range(36), *range(len(share) - 360, len(share))]:
            for bit in range(8):
                bad = bytearray(share)
                bad[position] ^= 1 << bit
                self.check(bytes(bad))

    def test_every_truncation(self):
        for length in range(len(self.shares[0])):
            self.check(self.shares[0][:length])

    def test_slack_behind_a_share_is_tolerated(self):
        self.assertTrue(self.check(self.shares[0] + bytes(1_000)))

    def test_the_share_of_another_number(self):
        self.assertFalse(self.check(self.shares[1]))

    def test_the_share_of_another_file(self):
        _cap, others = make_shares(some_bytes(120, b"other"), 2, 3, max_segment_size=64)
        self.assertFalse(self.check(others[0]))

    def test_a_bad_share_is_named(self):
        bad = bytearray(self.shares[0])
        bad[40] ^= 1
        shelves = shelves_for(
            self.cap, [(0, bytes(bad)), (1, self.shares[1]), (2, self.shares[2])]
        )
        problems = self.download(self.cap, shelves).problems
        self.assertEqual(1, len(problems))
        self.assertIn("share 0 on server", problems[0])

    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def test_any_damage_to_any_shares(self, data):
        damaged = []
        for number, share in enumerate(self.shares):
            bad = bytearray(share)
            for _ in range(data.draw(st.integers(0, 3))):
                bad[data.draw(st.integers(0, len(bad) - 1))] ^= data.draw(st.integers(1, 255))
            damaged.append((number, bytes(bad)))
        try:
            result = self.download(self.cap, shelves_for(self.cap, damaged)).result
        except AmpgridError:
            return
        self.assertEqual(self.data, result)


class SlowAndLyingTests(DownloadCase):
    """Servers that hang, fail or lie about what they have cannot hold a download up for long."""

    def setUp(self):
        super().setUp()
        self.data = some_bytes(300_000)
        self.cap, self.shares = make_shares(self.data, 3, 6, max_segment_size=30_000)
        self.shelves = shelves_for(self.cap, list(enumerate(self.shares)))

    def test_hung_before_the_first_answer(self):
        for shelf in self.shelves[:3]:
            shelf.before = self.hang
        self.assertEqual(self.data, self.download(self.cap, self.shelves, within=5).result)

    def test_hung_after_some_reads(self):
        for shelf in self.shelves[:3]:
            self.hang_after(shelf, 30_000)
        downloaded = self.download(self.cap, self.shelves, within=20)
        self.assertEqual(self.data, downloaded.result)
        self.assertTrue(any("slow" in line for line in downloaded.problems), downloaded.problems)

    def hang_after(self, shelf, size):
        """Let a shelf answer until that many bytes were read."""

        async def maybe():
            if shelf.reads > size:
                await Deferred()

        shelf.before = maybe

    def test_failing_in_the_middle(self):
        def fail_after(shelf, size):
            async def maybe():
                if shelf.reads > size:
                    raise AmpgridError("gone")

            shelf.before = maybe

        for number, shelf in enumerate(self.shelves[:3]):
            fail_after(shelf, 20_000 * (number + 1))
        self.assertEqual(self.data, self.download(self.cap, self.shelves).result)

    def test_who_alone_has_all_and_is_slow_is_not_asked_for_all_at_once(self):
        reads = []
        cap, shares = make_shares(self.data, 3, 10, max_segment_size=30_000)
        contents = {(cap.storage_index, n): share for n, share in enumerate(shares)}
        shelf = Shelf(b"x" * 20, contents)
        self.answers_after(shelf, SLOW_SECONDS + 1)
        original = shelf.read

        async def read(index, number, *where):
            reads.append((self.clock.seconds(), number))
            return await original(index, number, *where)

        shelf.read = read
        self.assertEqual(self.download(cap, [shelf]).result, self.data)
        began = reads[0][0]
        first = {number for at, number in reads if at < began + 2 * SLOW_SECONDS}
        self.assertLessEqual(len(first), 2 * cap.needed, reads)

    def test_claims_of_shares_that_are_not_there(self):
        index = self.cap.storage_index
        liars = [
            Shelf(bytes([100 + n]) * 20, {(index, n): some_bytes(len(self.shares[0]), b"l")})
            for n in range(6)
        ]
        self.assertEqual(self.data, self.download(self.cap, [*liars, *self.shelves]).result)

    def test_impossible_share_numbers_and_sizes(self):
        index = self.cap.storage_index
        odd = Shelf(b"o" * 20, {(index, 200): b"", (index, 0): b"", (index, 1): bytes(10**6)})
        self.assertEqual(self.data, self.download(self.cap, [odd, *self.shelves]).result)

    def test_one_that_claims_all_and_hands_over_nothing(self):
        """Whoever is found first keeps nobody from the same shares elsewhere."""
        for size in (900, 300_000):
            data = some_bytes(size)
            cap, shares = make_shares(data, 3, 6, max_segment_size=30_000)
            shelves = shelves_for(cap, list(enumerate(shares)))
            names = (bytes([n]) * 20 for n in range(100, 256))
            known = [shelf.server_id for shelf in shelves]
            first = next(n for n in names if permute(cap.storage_index, [n, *known])[0] == n)
            liar = Shelf(first, {(cap.storage_index, n): share for n, share in enumerate(shares)})
            self.hands_over_nothing(liar)
            downloaded = self.download(cap, [liar, *shelves], within=2 * SLOW_SECONDS + 1)
            self.assertEqual(downloaded.result, data)

    def test_one_that_hands_over_hashes_and_then_nothing(self):
        """Whoever is ready, and late, keeps nobody from the same shares elsewhere."""
        first, *others = self.shelves[:3]
        twins = first, Shelf(b"t" * 20, dict(first.contents))
        for answers, (one, other) in product(range(1, 16), permutations(twins)):
            self.clock = HeapClock()
            one.before, other.before = self.for_answers(answers), None
            downloaded = self.download(self.cap, [*others, *twins], within=4 * SLOW_SECONDS)
            self.assertEqual(downloaded.result, self.data, answers)

    def for_answers(self, count):
        """Return what lets a shelf give so many answers and no more."""
        left = iter(range(count))

        async def maybe():
            if next(left, None) is None:
                await Deferred()

        return maybe

    def test_a_block_that_comes_of_two_shares_of_one_number_counts_once(self):
        first, second, *_others = self.shelves
        twin = Shelf(b"t" * 20, dict(first.contents))
        cap, shares = make_shares(self.data, 2, 2, max_segment_size=300_000)
        for shelf, number in ((first, 0), (twin, 0), (second, 1)):
            shelf.contents = {(cap.storage_index, number): shares[number]}
            shelf.read = self.reading_late(shelf, SLOW_SECONDS * (1.5 if number == 0 else 2.75))
        self.assertEqual(self.download(cap, [first, second, twin]).result, self.data)

    def reading_late(self, shelf, seconds):
        """Return what reads blocks of a shelf only after so many seconds."""
        original = shelf.read

        async def read(index, number, offset, length):
            if length > 100_000:
                await deferLater(self.clock, seconds, lambda: None)
            return await original(index, number, offset, length)

        return read

    def test_cancelled_while_it_waits(self):
        for shelf in self.shelves:
            shelf.before = self.hang
        operation = Operation()
        self.clock.callLater(5, operation.cancel)
        with self.assertRaises(OperationCancelledError):
            self.download(self.cap, self.shelves, operation=operation)


class RangeTests(DownloadCase):
    """Any range of a file, and no more of it than is needed."""

    @settings(max_examples=60, deadline=None)
    @given(st.integers(56, 900), st.integers(0, 1_000), st.integers(0, 1_000))
    def test_any_range(self, size, offset, length):
        data = some_bytes(size)
        cap, shares = make_shares(data, 2, 3, max_segment_size=100)
        shelves = shelves_for(cap, list(enumerate(shares)))
        if offset > size:
            with self.assertRaises(AmpgridError):
                self.download(cap, shelves, offset, length)
            return
        result = self.download(cap, shelves, offset, length).result
        self.assertEqual(data[offset : offset + length], result)

    def test_a_range_reads_only_its_segments(self):
        data = some_bytes(1_000_000)
        cap, shares = make_shares(data, 2, 3, max_segment_size=10_000)
        shelves = shelves_for(cap, list(enumerate(shares)))
        result = self.download(cap, shelves, 500_000, 5_000).result
        self.assertEqual(data[500_000:505_000], result)
        self.assertLess(sum(shelf.reads for shelf in shelves), 60_000)
