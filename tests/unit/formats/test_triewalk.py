"""Which nodes of one trie are in another, a few at a time."""

from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.formats import trie
from tests.unit.formats.tries import changes, dicts, plain_trie

steps = st.integers(1, 5)


def pairs_of_tries(entries, change):
    """Return two tries, the second the first after a change: (root, nodes) of each."""
    changed = {**entries, **change}
    return plain_trie(entries), plain_trie({s: e for s, e in changed.items() if e is not None})


class WalkTest(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(dicts, changes, steps)
    def test_what_is_not_shared_is_found_in_any_steps(self, entries, change, size):
        first, second = pairs_of_tries(entries, change)
        read = {**first[1], **second[1]}.get
        for (root, nodes), (other, others) in ((first, second), (second, first)):
            found, start = [], ""
            while True:
                step = list(islice(trie.unshared(root, other, read, start), size + 1))
                found += step[:size]
                if len(step) <= size:
                    break
                start = step[size][0]
            self.assertEqual(sorted(digest for _, digest in found), sorted(nodes.keys() - others))

    @settings(max_examples=100, deadline=None)
    @given(dicts, changes)
    def test_what_is_under_a_root(self, entries, change):
        first, second = pairs_of_tries(entries, change)
        read = {**first[1], **second[1]}.get
        for root, nodes in (first, second):
            for digest in {*first[1], *second[1]}:
                self.assertEqual(trie.is_under(root, digest, read), digest in nodes)

    @settings(max_examples=100, deadline=None)
    @given(dicts, changes, st.randoms(use_true_random=False))
    def test_what_is_gone_is_passed_by(self, entries, change, chance):
        first, second = pairs_of_tries(entries, change)
        only = sorted(first[1].keys() - second[1].keys())
        gone = set(chance.sample(only, len(only) // 2))
        read = {d: n for d, n in {**first[1], **second[1]}.items() if d not in gone}.get
        found = {digest for _, digest in trie.unshared(first[0], second[0], read)}
        self.assertLessEqual(found, set(only) - gone)
        for digest in gone:
            self.assertFalse(trie.is_under(second[0], digest, read))

    @settings(max_examples=100, deadline=None)
    @given(dicts, changes, steps)
    def test_a_comparison_in_steps(self, entries, change, size):
        first, second = pairs_of_tries(entries, change)
        read = {**first[1], **second[1]}.get
        whole = trie.diff(first[0], second[0], read, read)
        parts = trie.Comparison(first[0], second[0])
        while not parts.go_on(read, read, size):
            pass
        self.assertEqual(parts.change(), whole)
        growth = sum(len(second[1][d]) + 7 for d in whole.added)
        growth -= sum(len(first[1][d]) + 7 for d in whole.removed)
        self.assertEqual(parts.growth(7), growth)
