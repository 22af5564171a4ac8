"""Pages of the database that have rotted: what is on others is looked at all the same."""

from __future__ import annotations

from ampgrid.errors import BrokenStoreError
from ampgrid.store import ShareStore
from tests.contract.share_store_contract import NOW
from tests.material import make_shares, some_bytes
from tests.unit.store.test_scrubbing import BIG, ScrubCase

PAGE = 4096


class RottenPageTests(ScrubCase):
    def setUp(self) -> None:
        super().setUp()
        self.small = []
        for number in range(40):
            cap, shares = make_shares(some_bytes(600, b"%d" % number), 2, 3, 10_000)
            self.store_share(cap.storage_index, 0, shares[0])
            self.small.append((cap.storage_index, shares[0]))
        self.large, _ = self.store_file(BIG, numbers=(1,))
        self.store.close()
        self.whole = (self.directory / "store.db").read_bytes()

    def pages_with_shares(self) -> list[int]:
        """Return the numbers of the pages on which small shares lie, in the order of storing."""
        # Where one lay before, its bytes may still stand on an earlier page.
        pages = [self.whole.rindex(share[-64:]) // PAGE for _, share in self.small]
        return list(dict.fromkeys(pages))

    def open_with(self, *rotten: int) -> None:
        """Open the store with some pages that are no pages."""
        damaged = bytearray(self.whole)
        for page in rotten:
            damaged[page * PAGE : page * PAGE + 8] = b"\xff" * 8
        (self.directory / "store.db").write_bytes(damaged)
        self.store = ShareStore.open(self.directory, wall=lambda: NOW)

    def readable(self) -> int:
        """Return how many of the shares can be read."""
        count = 0
        for index, number in (*((index, 0) for index, _ in self.small), (self.large, 1)):
            try:
                count += bool(self.store.read(index, number, 0, 100))
            except BrokenStoreError:
                continue
        return count

    def test_one_page_hides_what_is_on_it_alone(self) -> None:
        pages = self.pages_with_shares()
        self.assertGreater(len(pages), 5)
        for page in pages:
            self.open_with(page)
            self.assertFalse(self.store.upkeep.damaged)
            left = self.readable()
            self.assertTrue(self.store.upkeep.damaged)
            self.assertIn(left, range(30, 41))
            steps = self.scrub()
            self.assertEqual(sum(step.shares for step in steps), left)
            self.assertEqual(sum(step.skipped for step in steps), 1)
            self.assertEqual([step.bad for step in steps if step.bad], [])
            self.store.close()

    def test_a_large_share_behind_it_is_still_found_bad(self) -> None:
        self.open_with(*self.pages_with_shares()[1:-1])
        self.damage(self.large, 1, 500)
        self.assertEqual(self.bad(), [(self.large, 1)])

    def test_if_nothing_can_be_read_it_is_told(self) -> None:
        self.open_with(*self.pages_with_shares())
        self.assertRaises(BrokenStoreError, self.scrub)
