"""Merkle trees against a tree made by the definition."""

import hashlib
import random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.hashing import tagged_hash, tagged_pair_hash
from ampgrid.errors import FormatError, IntegrityError
from ampgrid.formats import hashtree as t

hashes = st.binary(min_size=32, max_size=32)
rows = st.lists(hashes, min_size=1, max_size=70)


def naive_tree(leaves):
    """Return the flat tree as a list, by recursion over the definition."""
    padded = list(leaves)
    while len(padded) & (len(padded) - 1):
        padded.append(tagged_hash(b"Merkle tree empty leaf", str(len(padded)).encode()))
    first = len(padded) - 1

    def node(i):
        if i >= first:
            return padded[i - first]
        return tagged_pair_hash(b"Merkle tree internal node", node(2 * i + 1), node(2 * i + 2))

    return [node(i) for i in range(2 * len(padded) - 1)]


class TreeTest(SynchronousTestCase):
    @given(rows)
    def test_agrees_with_the_definition(self, leaves):
        nodes = naive_tree(leaves)
        flat = t.build_tree(leaves)
        self.assertEqual(flat, b"".join(nodes))
        self.assertEqual(len(flat), t.tree_size(len(leaves)))
        self.assertEqual(t.tree_root(leaves), nodes[0])
        self.assertEqual(t.leaves_of(flat, len(leaves)), leaves)
        self.assertEqual(t.check_tree(flat, len(leaves), nodes[0]), leaves)
        self.assertEqual(t.split_hashes(flat), nodes)

    def test_padded_counts(self):
        expected = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 8: 8, 9: 16, 2**20: 2**20, 2**20 + 1: 2**21}
        for count, padded in expected.items():
            self.assertEqual(t.padded_count(count), padded)

    def test_no_leaves(self):
        self.assertRaises(ValueError, t.build_tree, [])
        self.assertRaises(FormatError, t.leaves_of, b"", 0)

    def test_wrong_sizes(self):
        flat = t.build_tree([bytes(32)] * 5)
        for data, count in ((flat[:-1], 5), (flat + bytes(32), 5), (flat, 4), (flat, 9), (b"", 1)):
            self.assertRaises(FormatError, t.leaves_of, data, count)
        self.assertRaises(FormatError, t.split_hashes, bytes(33))

    def test_a_changed_leaf_is_seen_and_inner_nodes_do_not_matter(self):
        leaves = [bytes([i]) * 32 for i in range(5)]
        flat = t.build_tree(leaves)
        for node in range(15):
            changed = bytearray(flat)
            changed[node * 32 + 7] ^= 1
            if 7 <= node < 12:
                self.assertRaises(IntegrityError, t.check_tree, bytes(changed), 5, flat[:32])
            else:
                self.assertEqual(t.check_tree(bytes(changed), 5, flat[:32]), leaves)


class ChainTest(SynchronousTestCase):
    @given(rows, st.data())
    def test_every_chain_leads_to_the_root(self, leaves, data):
        count = len(leaves)
        flat = t.build_tree(leaves)
        i = data.draw(st.integers(0, count - 1))
        chain = t.chain_for(flat, i, count)
        self.assertEqual(len(chain), t.padded_count(count).bit_length())
        shuffled = data.draw(st.permutations(chain))
        self.assertEqual(t.root_from_chain(shuffled, i, count), flat[:32])
        self.assertEqual(t.leaf_from_chain(chain, i, count), leaves[i])
        nodes = naive_tree(leaves)
        self.assertEqual(chain, [(node, nodes[node]) for node, _ in chain])

    @given(rows, st.data())
    def test_a_chain_that_lacks_or_changes_a_hash_is_seen(self, leaves, data):
        count = len(leaves)
        flat = t.build_tree(leaves)
        i = data.draw(st.integers(0, count - 1))
        chain = t.chain_for(flat, i, count)
        for position, (node, value) in enumerate(chain):
            lacking = chain[:position] + chain[position + 1 :]
            self.assertRaises(IntegrityError, t.root_from_chain, lacking, i, count)
            changed = bytes([value[0] ^ 1]) + value[1:]
            swapped = [*lacking, (node, changed)]
            self.assertNotEqual(t.root_from_chain(swapped, i, count), flat[:32])
            self.assertRaises(
                IntegrityError, t.root_from_chain, [*chain, (node, changed)], i, count
            )
        self.assertRaises(IntegrityError, t.leaf_from_chain, [], i, count)

    def test_superfluous_hashes_do_not_matter(self):
        flat = t.build_tree([bytes([i]) * 32 for i in range(8)])
        everything = list(enumerate(t.split_hashes(flat)))
        for i in range(8):
            self.assertEqual(t.root_from_chain(everything, i, 8), flat[:32])

    def test_hash_of_another_length(self):
        flat = t.build_tree([bytes(32)] * 2)
        chain = t.chain_for(flat, 0, 2)
        self.assertRaises(IntegrityError, t.root_from_chain, [*chain, (9, b"short")], 0, 2)

    def test_no_such_leaf(self):
        for i in (-1, 5, 8):
            self.assertRaises(ValueError, t.chain_nodes, i, 5)

    def test_order_is_that_of_tahoe(self):
        """Seen in share files of a 3-of-5 file: shares 0 to 4."""
        seen = [(8, 2, 4, 7), (8, 2, 4, 7), (2, 9, 10, 3), (10, 9, 2, 3), (1, 11, 12, 6)]
        self.assertEqual([t.chain_nodes(i, 5) for i in range(5)], seen)

    def test_order_is_that_of_a_set_of_cpython(self):
        """The rule that makes it; also where a table grows or numbers collide."""
        source = random.Random(7)
        for _ in range(3000):
            numbers = source.sample(range(source.choice([8, 20, 100, 600])), source.randrange(8))
            built = set()
            for number in numbers:
                built.add(number)
            self.assertEqual(t._set_order(numbers), list(built))
        for total in (1, 2, 3, 5, 10, 16, 100, 255, 256):
            for i in range(total):
                here = t.padded_count(total) - 1 + i
                siblings, node = [], here
                while node:
                    siblings.append(((node - 1) ^ 1) + 1)
                    node = (node - 1) // 2
                expected = set(siblings)
                expected.add(here)
                self.assertEqual(t.chain_nodes(i, total), tuple(expected))


class KnownTreeTest(SynchronousTestCase):
    def test_frozen_root(self):
        """Of five leaves that are SHA-256 of one digit each; frozen, so that no tag can change."""
        leaves = [hashlib.sha256(b"%d" % i).digest() for i in range(5)]
        self.assertEqual(t.tree_root(leaves), naive_tree(leaves)[0])
        self.assertEqual(
            t.tree_root(leaves).hex(),
            "711ec11622018a06e637852d410a316ddcea891ae996a90b1629d13af89b9eb4",
        )
