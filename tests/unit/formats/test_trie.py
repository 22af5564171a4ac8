"""The trie: a dict with one root, whatever became of it in which order."""

import random

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import FormatError, IntegrityError, MissingNodesError
from ampgrid.formats import trie
from ampgrid.formats.trienode import parse_node
from tests.unit.formats.tries import (
    Table,
    changes,
    dicts,
    near_slots,
    plain_trie,
    slot_at,
)

EMPTY = trie.EMPTY_ROOT


def many(number, seed=1, size=200):
    """Return a dict of entries at random slots."""
    rnd = random.Random(seed)
    return {rnd.randbytes(32): rnd.randbytes(rnd.randint(1, size)) for _ in range(number)}


BIG = many(600)
BIG_CHANGE = trie.apply(EMPTY, BIG, {}.get)
BIG_ROOT, BIG_NODES = BIG_CHANGE.root, BIG_CHANGE.added


class DictTest(SynchronousTestCase):
    @settings(max_examples=150)
    @given(st.lists(changes, max_size=6))
    def test_any_changes_in_any_order(self, steps):
        """Root, nodes kept, count, look-ups and listing are those of the plain dict."""
        table = Table()
        for step in steps:
            count = len(table.expected)
            change = table.apply(step)
            root, nodes = plain_trie(table.expected)
            self.assertEqual(table.root, root)
            self.assertEqual(table.nodes, nodes)
            self.assertEqual(change.delta, len(table.expected) - count)
        read = table.nodes.get
        self.assertEqual(list(trie.entries(table.root, read)), sorted(table.expected.items()))
        for slot in {*table.expected, *(slot for step in steps for slot in step)}:
            self.assertEqual(trie.find(table.root, slot, read), table.expected.get(slot))

    def test_one_grows_beyond_a_leaf_while_the_last_beside_it_goes(self):
        """One entry is a leaf however large it is, so nothing of the branch stays."""
        table = Table()
        grows, goes = slot_at("a"), slot_at("af")
        table.apply({grows: b"e" * 4061, goes: b"e"})
        table.apply({grows: b"e" * 8192, goes: None})
        self.assertEqual((table.root, table.nodes), plain_trie(table.expected))

    @settings(max_examples=60)
    @given(dicts, st.randoms(use_true_random=False))
    def test_one_by_one_or_all_at_once(self, wanted, rnd):
        alone, whole = Table(), Table()
        order = list(wanted.items())
        rnd.shuffle(order)
        for slot, entry in order:
            alone.apply({slot: entry})
        whole.apply(wanted)
        self.assertEqual((alone.root, alone.nodes), (whole.root, whole.nodes))
        rnd.shuffle(order)
        for slot, _ in order:
            alone.apply({slot: None})
        self.assertEqual((alone.root, alone.nodes), (EMPTY, {}))
        whole.apply(dict.fromkeys(wanted))
        self.assertEqual((whole.root, whole.nodes), (EMPTY, {}))

    def test_random_slots(self):
        self.assertEqual((BIG_ROOT, BIG_NODES), plain_trie(BIG))
        table, rnd = Table(), random.Random(2)
        left = dict(BIG)
        table.apply(BIG)
        while left:
            step = dict.fromkeys(rnd.sample(sorted(left), min(len(left), 100)))
            for slot in step:
                del left[slot]
            step |= dict.fromkeys(rnd.sample(sorted(left), min(len(left), 10)), b"new")
            left |= {slot: entry for slot, entry in step.items() if entry}
            table.apply(step)
            self.assertEqual((table.root, table.nodes), plain_trie(left))

    @given(dicts, changes)
    def test_what_changes_nothing(self, entries, changes):
        table = Table()
        table.apply(entries)
        before = dict(table.nodes)
        same = {slot: entries.get(slot) for slot in changes}
        change = table.apply({**same, **entries})
        self.assertEqual((change.root, change.delta), (table.root, 0))
        self.assertEqual((change.added, change.removed), ({}, frozenset()))
        self.assertEqual(table.nodes, before)

    def test_one_entry_at_each_limit(self):
        """A leaf of 4,096 bytes is one; a byte more makes it a branch, unless it is one entry."""
        one, two = slot_at("0"), slot_at("1")
        for sizes, nodes in (
            ((2013, 2014), 1),
            ((2014, 2014), 3),
            ((1, 4026), 1),
            ((1, 4027), 3),
        ):
            change = trie.apply(EMPTY, {one: b"a" * sizes[0], two: b"b" * sizes[1]}, {}.get)
            self.assertEqual(len(change.added), nodes)
        for size in (1, 4061, 4062, 8192):
            self.assertEqual(len(trie.apply(EMPTY, {one: b"a" * size}, {}.get).added), 1)

    def test_a_branch_becomes_a_leaf_with_the_last_byte_too_many(self):
        one, two = slot_at("0"), slot_at("1")
        table = Table()
        table.apply({one: b"a" * 2014, two: b"b" * 2014})
        for size, nodes in ((2013, 1), (2014, 3), (1, 1)):
            table.apply({two: b"b" * size})
            self.assertEqual(len(table.nodes), nodes)
            self.assertEqual((table.root, table.nodes), plain_trie(table.expected))

    def test_slots_that_differ_at_the_end_alone(self):
        slots = [bytes(31) + bytes([n]) for n in (0, 1, 16)]
        table = Table()
        table.apply(dict.fromkeys(slots, b"e" * 8192))
        self.assertEqual(len(table.nodes), 3 + 64)
        self.assertEqual(len(trie.path(table.root, slots[0], table.nodes.get)), 65)
        size = sum(map(len, trie.path(table.root, slots[0], table.nodes.get)))
        self.assertLess(size, 56_000)
        for slot in slots:
            self.assertEqual(trie.find(table.root, slot, table.nodes.get), b"e" * 8192)
        table.apply(dict.fromkeys(slots[:2]))
        self.assertEqual(len(table.nodes), 1)

    def test_bounds(self):
        for malformed in (
            {bytes(31): b"e"},
            {bytes(33): None},
            {bytes(32): b""},
            {bytes(32): bytes(8193)},
        ):
            self.assertRaises(FormatError, trie.apply, EMPTY, malformed, {}.get)
        for slot in (b"", bytes(31), bytes(33)):
            self.assertRaises(FormatError, trie.find, EMPTY, slot, {}.get)


class ProofTest(SynchronousTestCase):
    @given(dicts, near_slots)
    def test_of_presence_and_of_absence(self, entries, other):
        root, nodes = plain_trie(entries)
        for slot in {*entries, other}:
            proof = trie.path(root, slot, nodes.get)
            self.assertEqual(trie.prove(root, slot, proof), entries.get(slot))

    def proofs(self):
        """Yield slots, some of them empty, with the proof and the entry."""
        rnd = random.Random(3)
        present = rnd.sample(sorted(BIG), 12)
        absent = [rnd.randbytes(32) for _ in range(12)]
        near = [slot[:31] + bytes([slot[31] ^ 1]) for slot in present[:6]]
        for slot in present + absent + near:
            yield slot, trie.path(BIG_ROOT, slot, BIG_NODES.get), BIG.get(slot)

    def refused(self, slot, nodes, root=BIG_ROOT):
        self.assertRaises(IntegrityError, trie.prove, root, slot, nodes)

    def test_forged(self):
        for slot, proof, entry in self.proofs():
            self.assertEqual(trie.prove(BIG_ROOT, slot, proof), entry)
            for at in range(len(proof)):
                self.refused(slot, proof[:at])
                self.refused(slot, proof[:at] + proof[at + 1 :])
                self.refused(slot, [*proof[:at], proof[at], *proof[at:]])
                for bit in range(0, 8 * len(proof[at]), 61):
                    changed = bytearray(proof[at])
                    changed[bit // 8] ^= 1 << bit % 8
                    self.refused(slot, [*proof[:at], bytes(changed), *proof[at + 1 :]])
                for other in (b"", b"\1", b"\2\0\0", bytes(9000)):
                    self.refused(slot, [*proof[:at], other, *proof[at + 1 :]])
            self.refused(slot, [*proof, proof[-1]])
            self.refused(slot, proof[::-1])
            self.refused(slot, proof, EMPTY)
            self.refused(slot, proof, bytes(31) + b"\1")

    def test_the_proof_of_one_slot_says_nothing_of_most_others(self):
        proofs = list(self.proofs())
        for _, proof, _ in proofs:
            for other, others_proof, entry in proofs:
                if others_proof == proof:
                    self.assertEqual(trie.prove(BIG_ROOT, other, proof), entry)
                else:
                    self.refused(other, proof)

    def test_that_all_is_absent_needs_no_nodes(self):
        self.assertIsNone(trie.prove(EMPTY, bytes(32), []))
        self.refused(bytes(32), [], BIG_ROOT)

    def test_a_writer_cannot_hide_an_entry_where_its_slot_does_not_lead(self):
        leaf = b"\1" + slot_at("1") + b"\0\1a"
        big = b"\1" + slot_at("2") + (5000).to_bytes(2, "big") + b"b" * 5000
        for nibbles in ((0, 2), (1, 3)):
            hashes = [trie.node_hash(leaf), trie.node_hash(big)]
            branch = b"\2" + sum(1 << n for n in nibbles).to_bytes(2, "big") + b"".join(hashes)
            nodes = {trie.node_hash(node): node for node in (leaf, big, branch)}
            root = trie.node_hash(branch)
            self.assertRaises(FormatError, list, trie.entries(root, nodes.get))
            self.assertRaises(FormatError, trie.diff, EMPTY, root, {}.get, nodes.get)
            wrong = nibbles[0] if nibbles[0] == 0 else nibbles[1]
            self.refused(slot_at(f"{wrong:x}"), [branch, leaf if wrong == 0 else big], root)


class ListingTest(SynchronousTestCase):
    def test_pages(self):
        slots = sorted(BIG)
        rnd = random.Random(4)
        cuts = [bytes(32), b"\xff" * 32, slots[0], slots[-1], *rnd.sample(slots, 20)]
        cuts += [rnd.randbytes(32) for _ in range(20)]
        for after in cuts:
            expected = [(slot, BIG[slot]) for slot in slots if slot > after]
            self.assertEqual(list(trie.entries(BIG_ROOT, BIG_NODES.get, after)), expected)

    @given(dicts, near_slots)
    def test_pages_of_near_slots(self, entries, after):
        root, nodes = plain_trie(entries)
        expected = sorted((slot, entry) for slot, entry in entries.items() if slot > after)
        self.assertEqual(list(trie.entries(root, nodes.get, after)), expected)

    @given(dicts)
    def test_preorder(self, entries):
        root, nodes = plain_trie(entries)
        listed = list(trie.preorder(root, nodes.get))
        self.assertEqual(dict(listed), nodes)
        self.assertEqual(len(listed), len(nodes))
        if listed:
            self.assertEqual(listed[0][0], root)
        seen = {root}
        for digest, node in listed:
            self.assertIn(digest, seen)
            parsed = parse_node(node) if node[0] == 2 else {}
            seen.update(parsed.values())

    def test_preorder_in_pages_gives_every_entry_once(self):
        """As a replica answers: so many nodes, then those behind the last slot that was seen."""
        got, after, rounds = {}, None, 0
        while True:
            page = list(trie.preorder(BIG_ROOT, BIG_NODES.get, after))[:20]
            leaves = [parse_node(node) for _, node in page if node[0] == 1]
            slots = [slot for leaf in leaves for slot, _ in leaf]
            if not slots or slots[-1] == after:
                break
            for leaf in leaves:
                got |= dict(leaf)
            after, rounds = slots[-1], rounds + 1
        self.assertEqual(got, BIG)
        self.assertGreater(rounds, 5)

    def test_preorder_leaves_out_what_is_before(self):
        last = max(BIG)
        nodes = [node for _, node in trie.preorder(BIG_ROOT, BIG_NODES.get, last)]
        self.assertEqual(nodes, trie.path(BIG_ROOT, last, BIG_NODES.get))


class MissingTest(SynchronousTestCase):
    """Nodes that lack are named a level at a time, so that few rounds fetch all."""

    def fetched(self, work, all_nodes):
        """Run ``work(read)`` until nothing lacks.

        Returns:
            What it gave, how many rounds it took, and the nodes that it asked for.
        """
        here, rounds = {}, 0
        while True:
            try:
                return work(here.get), rounds, here
            except MissingNodesError as error:
                self.assertTrue(error.hashes)
                self.assertEqual(len(set(error.hashes)), len(error.hashes))
                self.assertFalse(here.keys() & set(error.hashes))
                here |= {digest: all_nodes[digest] for digest in error.hashes}
                rounds += 1

    def depth(self, nodes):
        return max(len(trie.path(BIG_ROOT, slot, nodes.get)) for slot in BIG)

    def test_a_change(self):
        depth = self.depth(BIG_NODES)
        for entry in (b"new", None):
            step = dict.fromkeys(random.Random(5).sample(sorted(BIG), 5), entry)
            change, rounds, here = self.fetched(
                lambda read, step=step: trie.apply(BIG_ROOT, step, read), BIG_NODES
            )
            self.assertEqual(change, trie.apply(BIG_ROOT, step, BIG_NODES.get))
            # Small leaves may have to be joined with those beside them, at each level once more.
            self.assertLessEqual(rounds, depth + (depth if entry is None else 1))
            self.assertLess(len(here), len(BIG_NODES) // 2)

    def test_an_addition_asks_for_the_way_alone(self):
        for _ in range(20):
            slot = random.Random(6).randbytes(32)
            change, rounds, here = self.fetched(
                lambda read, slot=slot: trie.apply(BIG_ROOT, {slot: b"e"}, read), BIG_NODES
            )
            way = trie.path(BIG_ROOT, slot, BIG_NODES.get)
            self.assertEqual((rounds, len(here)), (len(way), len(way)))
            self.assertEqual(change.delta, 1)

    @given(dicts, changes)
    def test_any_change(self, entries, changes):
        root, nodes = plain_trie(entries)
        change, _, _ = self.fetched(lambda read: trie.apply(root, changes, read), nodes)
        self.assertEqual(change, trie.apply(root, changes, nodes.get))

    def test_a_look_up(self):
        slot = next(iter(BIG))
        _, rounds, here = self.fetched(lambda read: trie.find(BIG_ROOT, slot, read), BIG_NODES)
        self.assertEqual(rounds, len(here))

    def test_a_listing(self):
        """The branches above are asked for one by one; what is below one, all at once."""
        listed, rounds, here = self.fetched(
            lambda read: list(trie.entries(BIG_ROOT, read)), BIG_NODES
        )
        self.assertEqual(listed, sorted(BIG.items()))
        self.assertEqual(here, BIG_NODES)
        branches = sum(node[0] == 2 for node in BIG_NODES.values())
        self.assertLessEqual(rounds, branches + 1)

    def test_all_that_lacks(self):
        here, rounds = {}, 0
        while lacking := trie.wanted(BIG_ROOT, here.get):
            here |= {digest: BIG_NODES[digest] for digest in lacking}
            rounds += 1
        self.assertEqual(here, BIG_NODES)
        self.assertEqual(rounds, self.depth(BIG_NODES))
        order = [digest for digest, _ in trie.preorder(BIG_ROOT, BIG_NODES.get)]
        for _ in range(5):
            gone = set(random.Random(7).sample(order, 30))
            lacking = trie.wanted(
                BIG_ROOT, lambda d, gone=gone: None if d in gone else BIG_NODES[d]
            )
            self.assertEqual(lacking, [d for d in order if d in lacking])
            self.assertLessEqual(set(lacking), gone)
        self.assertEqual(trie.wanted(EMPTY, {}.get), [])

    def test_a_new_root(self):
        old = {slot: entry for slot, entry in BIG.items() if slot[0] != 7}
        old_root, old_nodes = plain_trie(old)
        change, rounds, here = self.fetched(
            lambda read: trie.diff(old_root, BIG_ROOT, old_nodes.get, read), BIG_NODES
        )
        self.assertLessEqual(rounds, self.depth(BIG_NODES) + 1)
        self.assertEqual(change.added.keys(), BIG_NODES.keys() - old_nodes.keys())
        self.assertEqual(here.keys(), change.added.keys())


class DiffTest(SynchronousTestCase):
    @settings(max_examples=150)
    @given(dicts, changes)
    @example({}, {})
    def test_says_what_apply_says(self, entries, changes):
        table = Table()
        table.apply(entries)
        old_root, old_nodes = table.root, dict(table.nodes)
        change = table.apply(changes)
        new_nodes = table.nodes
        self.assertEqual(trie.diff(old_root, change.root, old_nodes.get, new_nodes.get), change)
        back = trie.diff(change.root, old_root, new_nodes.get, old_nodes.get)
        self.assertEqual(back.delta, -change.delta)
        self.assertEqual(back.added.keys(), change.removed)
        self.assertEqual(back.removed, change.added.keys())

    @given(dicts, dicts)
    def test_between_any_two(self, old, new):
        (old_root, old_nodes), (new_root, new_nodes) = plain_trie(old), plain_trie(new)
        change = trie.diff(old_root, new_root, old_nodes.get, new_nodes.get)
        self.assertEqual(change.root, new_root)
        self.assertEqual(change.delta, len(new) - len(old))
        self.assertEqual(change.added, {d: n for d, n in new_nodes.items() if d not in old_nodes})
        self.assertEqual(change.removed, old_nodes.keys() - new_nodes.keys())

    def test_only_what_differs_is_read(self):
        change = trie.apply(BIG_ROOT, {bytes(32): b"e"}, BIG_NODES.get)
        new_nodes = {**BIG_NODES, **change.added}
        read = []
        trie.diff(
            BIG_ROOT, change.root, lambda d: (read.append(d), BIG_NODES[d])[1], new_nodes.get
        )
        self.assertEqual(set(read), change.removed)

    def test_old_nodes_that_lack_are_named_last(self):
        error = self.assertRaises(
            MissingNodesError, trie.diff, BIG_ROOT, b"n" * 32, {}.get, {}.get
        )
        self.assertEqual(error.hashes, (b"n" * 32,))
        error = self.assertRaises(MissingNodesError, trie.diff, BIG_ROOT, EMPTY, {}.get, {}.get)
        self.assertEqual(error.hashes, (BIG_ROOT,))

    def test_not_more_nodes_than_allowed(self):
        self.assertEqual(
            trie.diff(EMPTY, BIG_ROOT, {}.get, BIG_NODES.get, len(BIG_NODES)).delta, len(BIG)
        )
        for most in (0, 1, len(BIG_NODES) - 1):
            self.assertRaises(FormatError, trie.diff, EMPTY, BIG_ROOT, {}.get, BIG_NODES.get, most)


def leaf(*pairs):
    return b"\1" + b"".join(slot + len(e).to_bytes(2, "big") + e for slot, e in pairs)


def branch(children):
    """Return a branch of {nibble: node}."""
    bitmap = sum(1 << nibble for nibble in children)
    hashes = (trie.node_hash(node) for _, node in sorted(children.items()))
    return b"\2" + bitmap.to_bytes(2, "big") + b"".join(hashes)


class NotCanonicalTest(SynchronousTestCase):
    """A root that a writer signs may be of another shape; whoever compares sees it."""

    def refused(self, root, *nodes, old=()):
        here = {trie.node_hash(node): node for node in (root, *nodes)}
        old_nodes = {trie.node_hash(node): node for node in old}
        old_root = trie.node_hash(old[0]) if old else EMPTY
        self.assertRaises(
            FormatError, trie.diff, old_root, trie.node_hash(root), old_nodes.get, here.get
        )

    def test_a_branch_of_what_a_leaf_could_hold(self):
        one, two = leaf((slot_at("0"), b"a")), leaf((slot_at("1"), b"b"))
        self.refused(branch({0: one, 1: two}), one, two)
        self.refused(branch({0: one, 1: two}), one, two, old=(one,))

    def test_a_branch_of_one_leaf(self):
        small, large = leaf((slot_at("0"), b"a")), leaf((slot_at("0"), b"a" * 8000))
        self.refused(branch({0: small}), small)
        self.refused(branch({0: large}), large)

    def test_below_a_good_branch(self):
        large = leaf((slot_at("1"), b"a" * 8000))
        one, two = leaf((slot_at("00"), b"a")), leaf((slot_at("01"), b"b"))
        below = branch({0: one, 1: two})
        self.refused(branch({0: below, 1: large}), below, large, one, two)

    def test_with_leaves_that_were_there_before(self):
        """They have the same hash at the same place, so only their sizes are looked at."""
        one = leaf((slot_at("0"), b"a" * 100))
        two = leaf((slot_at("1"), b"b" * 4000))
        smaller = leaf((slot_at("1"), b"b"))
        old = branch({0: one, 1: two})
        self.refused(branch({0: one, 1: smaller}), smaller, one, old=(old, one, two))
        self.refused(branch({0: one, 1: smaller}), smaller, old=(old, one, two))

    def test_deeper_than_slots_are(self):
        slot = bytes(32)
        node = leaf((slot, b"a" * 8000))
        nodes = []
        for _ in range(66):
            nodes.append(node)
            node = branch({0: node})
        self.refused(node, *nodes)
        here = {trie.node_hash(each): each for each in (node, *nodes)}
        root = trie.node_hash(node)
        for work in (
            lambda: trie.find(root, slot, here.get),
            lambda: list(trie.entries(root, here.get)),
            lambda: trie.wanted(root, here.get),
            lambda: trie.apply(root, {slot: b"e"}, here.get),
        ):
            self.assertRaises(FormatError, work)

    def test_the_same_leaf_twice(self):
        one = leaf((slot_at("0"), b"a" * 4000))
        self.refused(branch({0: one, 1: one}), one)

    def test_one_node_at_many_places(self):
        """Followed as often as it occurs, it would be looked for 2 ** 30 times, or 16 ** 30."""
        small = leaf((slot_at("0"), b"a"))
        for nibbles, apart in ((range(16), False), (range(2), True)):
            node, here = small, {trie.node_hash(small): small}
            for _ in range(30):
                if apart:  # Two children that differ, and have the same child.
                    parts = [branch({0: node}), branch({1: node})]
                    node = branch(dict(enumerate(parts)))
                    nodes = (*parts, node)
                else:
                    node = branch(dict.fromkeys(nibbles, node))
                    nodes = (node,)
                here |= {trie.node_hash(each): each for each in nodes}
            self.not_followed(trie.node_hash(node), here)

    def not_followed(self, root, here):
        reads = []

        def read(digest):
            reads.append(digest)
            self.assertLess(len(reads), 1_000)
            return here.get(digest)

        for work in (
            lambda: trie.wanted(root, read),
            lambda: list(trie.preorder(root, read)),
            lambda: list(trie.entries(root, read)),
            lambda: trie.diff(EMPTY, root, {}.get, read),
            lambda: trie.diff(BIG_ROOT, root, BIG_NODES.get, read),
        ):
            reads.clear()
            self.assertRaises(FormatError, work)

    def test_what_lacks_at_many_places(self):
        parts = [bytes.fromhex("020001") + b"h" * 32, bytes.fromhex("020002") + b"h" * 32]
        root = branch(dict(enumerate(parts)))
        here = {trie.node_hash(node): node for node in (root, *parts)}
        self.assertRaises(FormatError, trie.wanted, trie.node_hash(root), here.get)
        self.assertRaises(FormatError, trie.diff, EMPTY, trie.node_hash(root), {}.get, here.get)

    def test_what_lacks_counts_as_looked_at(self):
        root = b"\2\xff\xff" + b"".join(bytes([n]) * 32 for n in range(1, 17))
        digest, here = trie.node_hash(root), {trie.node_hash(root): root}
        error = self.assertRaises(
            MissingNodesError, trie.diff, EMPTY, digest, {}.get, here.get, 17
        )
        self.assertEqual(len(error.hashes), 16)
        self.assertRaises(FormatError, trie.diff, EMPTY, digest, {}.get, here.get, 16)

    def test_changes_of_it_are_the_same_for_all(self):
        """A replica and a client that apply a change to it agree at least with each other."""
        one, two = leaf((slot_at("0"), b"a")), leaf((slot_at("1"), b"b"))
        root = branch({0: one, 1: two})
        nodes = {trie.node_hash(node): node for node in (root, one, two)}
        step = {slot_at("2"): b"c"}
        whole = trie.apply(trie.node_hash(root), step, nodes.get)
        part = {trie.node_hash(root): root}
        self.assertEqual(trie.apply(trie.node_hash(root), step, part.get), whole)
