"""Ranges against a set of offsets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.store.extents import Extents

ranges = st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda r: (r[0], r[0] + r[1]))


class ExtentsTests(SynchronousTestCase):
    @given(st.lists(ranges, max_size=15), ranges)
    def test_agree_with_a_set(self, added, asked):
        extents, model = Extents(), set()
        for start, end in added:
            extents.add(start, end)
            model |= set(range(start, end))
            self.assertEqual(extents.total, len(model))
        runs = sum(at - 1 not in model for at in model)
        self.assertEqual(len(extents), runs)
        window = set(range(*asked))
        overlaps = [set(range(*found)) for found in extents.overlaps(*asked)]
        gaps = [set(range(*found)) for found in extents.gaps(*asked)]
        self.assertEqual(set().union(*overlaps), model & window)
        self.assertEqual(set().union(*gaps), window - model)
        self.assertNotIn(set(), overlaps + gaps)

    def test_in_order_stays_one_range(self):
        extents = Extents()
        for at in range(0, 10_000, 10):
            extents.add(at, at + 10)
        self.assertEqual((len(extents), extents.total), (1, 10_000))
