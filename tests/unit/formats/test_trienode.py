"""The nodes of the trie: one spelling each, and nothing malformed gets in."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands import vdrive
from ampgrid.errors import FormatError, IntegrityError
from ampgrid.formats import entry, trienode
from ampgrid.formats.trienode import (
    check_node,
    node_hash,
    pack_branch,
    pack_leaf,
    parse_node,
)
from tests.unit.formats.tries import plain_trie, slot_at

LEAF = pack_leaf([(slot_at("0"), b"first"), (slot_at("01"), b"second"), (slot_at("1"), b"3")])
BRANCH = pack_branch({0: b"a" * 32, 7: b"b" * 32, 15: b"c" * 32})


class NodesTest(SynchronousTestCase):
    def test_bytes(self):
        self.assertEqual(pack_leaf([(b"s" * 32, b"entry")]), b"\1" + b"s" * 32 + b"\0\5entry")
        self.assertEqual(BRANCH, b"\2\x80\x81" + b"a" * 32 + b"b" * 32 + b"c" * 32)
        self.assertEqual(parse_node(BRANCH), {0: b"a" * 32, 7: b"b" * 32, 15: b"c" * 32})
        self.assertEqual(
            [slot for slot, _ in parse_node(LEAF)], [slot_at(n) for n in ("0", "01", "1")]
        )

    @given(
        st.one_of(
            st.binary(max_size=300),
            st.binary(max_size=200).map(b"\1".__add__),
            st.binary(max_size=600).map(b"\2".__add__),
            st.lists(st.binary(max_size=40), max_size=6).map(
                lambda parts: b"\1" + b"".join(p.rjust(32, b"0") + b"\0\1x" for p in parts)
            ),
        )
    )
    def test_arbitrary_bytes(self, data):
        """What is accepted has one spelling."""
        with contextlib.suppress(FormatError):
            node = parse_node(data)
            again = pack_branch(node) if isinstance(node, dict) else pack_leaf(node)
            self.assertEqual(again, data)

    def test_every_changed_bit_every_cut_and_every_tail(self):
        for node in (LEAF, BRANCH):
            digest = node_hash(node)
            check_node(node, digest)
            for bit in range(8 * len(node)):
                changed = bytearray(node)
                changed[bit // 8] ^= 1 << bit % 8
                self.assertRaises(IntegrityError, check_node, bytes(changed), digest)
            for length in range(len(node)):
                self.assertRaises(IntegrityError, check_node, node[:length], digest)
            self.assertRaises(IntegrityError, check_node, node + b"\0", digest)
            self.assertRaises(IntegrityError, check_node, node, digest[:-1])

    def test_malformed(self):
        slot, other = slot_at("1"), slot_at("2")
        head = slot + b"\0\1a"
        for node in (
            b"",
            b"\0",
            b"\3" + head,
            b"\1",
            b"\1" + slot,
            b"\1" + slot + b"\0\0",
            b"\1" + slot + b"\0\2a",
            b"\1" + head + b"\0",
            b"\1" + head + head,
            b"\1" + other + b"\0\1a" + head,
            b"\1" + slot + b"\x20\x01" + b"a" * 8193,
            b"\1" + slot + b"\x10\x00" + b"a" * 4096 + other + b"\0\1a",
            b"\2",
            b"\2\0",
            b"\2\0\0",
            b"\2\0\1",
            b"\2\0\1" + b"h" * 31,
            b"\2\0\1" + b"h" * 33,
            b"\2\0\1" + b"h" * 64,
            b"\2\0\3" + b"h" * 32,
            b"\2\0\3" + b"h" * 64,
            b"\2\0\7" + b"h" * 32 + b"i" * 32 + b"h" * 32,
            b"\2\0\3" + b"h" * 32 + bytes(32),
            b"\1" + bytes(9000),
        ):
            self.assertRaises(FormatError, parse_node, node)
            self.assertRaises(IntegrityError, check_node, node, node_hash(node))

    def test_the_place_of_a_node(self):
        alone = pack_leaf([(slot_at("abc"), b"e")])
        for prefix in ("", "a", "ab", "abc", "abc0", slot_at("abc").hex()):
            self.assertEqual(parse_node(alone, prefix), [(slot_at("abc"), b"e")])
        for prefix in ("b", "ac", "abc1", "abd"):
            self.assertRaises(FormatError, parse_node, alone, prefix)
        self.assertRaises(FormatError, parse_node, LEAF, "0")
        self.assertEqual(len(parse_node(BRANCH, "0" * 63)), 3)
        self.assertRaises(FormatError, parse_node, BRANCH, "0" * 64)

    def test_hashes_are_those_of_nodes_alone(self):
        """A hash of the same bytes under another tag, or under none, addresses nothing."""
        root, nodes = plain_trie({slot_at("0"): b"e"})
        self.assertEqual({node_hash(node): node for node in nodes.values()}, nodes)
        self.assertIn(root, nodes)

    def test_the_bounds_of_the_wire_are_wide_enough(self):
        self.assertLessEqual(trienode.MAX_NODE_BYTES, vdrive.MAX_NODE_BYTES)
        self.assertEqual(entry.MAX_ENTRY_BYTES, vdrive.MAX_ENTRY_BYTES)
