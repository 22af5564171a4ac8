"""A share checked against itself: every changed byte but those that nobody can check."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import FormatError, IntegrityError
from ampgrid.formats import stored
from ampgrid.formats.hashtree import build_tree
from ampgrid.formats.share import parse_header
from ampgrid.formats.stored import PIECE_BYTES, verifying
from tests.material import make_shares, some_bytes
from tests.vectors.tahoe import stored_files


def reader(share):
    return lambda offset, length: bytes(share[offset : offset + length])


def verify(share, size, number):
    """Read and check all of a share of which ``size`` bytes are said to be there."""
    for _ in verifying(reader(share), size, number):
        pass


def holds(share, number):
    try:
        verify(share, len(share), number)
    except (IntegrityError, FormatError):
        return False
    return True


def blocks_of(share):
    header = parse_header(share, len(share))
    return share[header.offset_data : header.offset_plaintext_tree]


class GoodTests(SynchronousTestCase):
    @settings(max_examples=60, deadline=None)
    @given(
        size=st.integers(56, 5000),
        total=st.integers(1, 20),
        segment=st.integers(1, 2000),
        data=st.data(),
    )
    def test_every_share_that_is_made(self, size, total, segment, data):
        needed = data.draw(st.integers(1, total))
        _, shares = make_shares(some_bytes(size), needed, total, segment)
        for number, share in enumerate(shares):
            self.assertTrue(holds(share, number))
            other = (number + 1) % total
            # Shares whose blocks are alike cannot be told apart: all of one that is needed, and
            # those that hold nothing but padding.
            if blocks_of(share) != blocks_of(shares[other]):
                self.assertFalse(holds(share, other))

    def test_shares_of_a_tahoe_grid(self):
        checked = 0
        for file in stored_files():
            for number, share in file["shares"].items():
                verify(share, len(share), number)
                checked += 1
        self.assertGreater(checked, 5)

    def test_slack_behind_the_end_is_tolerated(self):
        _, shares = make_shares(some_bytes(500), 2, 3)
        self.assertTrue(holds(shares[1] + bytes(700), 1))

    def test_plaintext_hashes_of_old_programs_are_tolerated_if_they_hold_together(self):
        _, shares = make_shares(some_bytes(900), 2, 3, 100)
        share = bytearray(shares[0])
        header = parse_header(share, len(share))
        tree = build_tree([bytes([n]) * 32 for n in range(9)])
        start = header.offset_plaintext_tree
        share[start : start + len(tree)] = tree
        self.assertTrue(holds(share, 0))
        share[start + 40] ^= 1
        self.assertFalse(holds(share, 0))


class DamageTests(SynchronousTestCase):
    def test_every_byte(self):
        """All bytes matter but the 32 of the hash of the whole crypttext."""
        _, shares = make_shares(some_bytes(700), 3, 5, 200)
        share = bytearray(shares[2])
        start = bytes(share).index(b"crypttext_hash:32:") + len(b"crypttext_hash:32:")
        missed = []
        for at in range(len(share)):
            share[at] ^= 0x20
            if holds(share, 2):
                missed.append(at)
            share[at] ^= 0x20
        self.assertEqual(missed, list(range(start, start + 32)))

    def test_every_length(self):
        _, shares = make_shares(some_bytes(300), 2, 3, 100)
        share = shares[1]
        self.assertEqual([n for n in range(len(share)) if holds(share[:n], 1)], [])

    def test_a_share_that_shrinks_under_the_reader(self):
        _, shares = make_shares(some_bytes(300), 2, 3, 100)
        with self.assertRaises(IntegrityError):
            verify(shares[1][:120], len(shares[1]), 1)

    def test_padding_of_a_tree(self):
        """The leaves that pad a tree follow from nothing but their number."""
        _, shares = make_shares(some_bytes(900), 1, 1, 300)
        header = parse_header(shares[0], len(shares[0]))
        leaves = [shares[0][header.offset_block_hashes :][i * 32 : i * 32 + 32] for i in (3, 4, 5)]
        self.assertEqual(len(leaves), 3)
        forged = build_tree([*leaves, bytes(32)])
        with self.assertRaises(IntegrityError):
            list(stored._tree(reader(forged), 0, 3, forged[:32]))

    def test_garbage(self):
        for size in (0, 3, 35, 36, 1000):
            self.assertFalse(holds(some_bytes(size), 0))
            self.assertFalse(holds(bytes(size), 0))


class PieceTests(SynchronousTestCase):
    def test_pieces_are_small_and_come_often(self):
        """Whatever the size of blocks and trees, little is read between two steps."""
        for segment in (1000, 2**22):
            _, shares = make_shares(some_bytes(2**22), 1, 1, segment)
            share = shares[0]
            lengths = []

            def read(offset, length, share=share, lengths=lengths):
                lengths.append(length)
                return share[offset : offset + length]

            steps = list(verifying(read, len(share), 0))
            self.assertLessEqual(max(lengths), PIECE_BYTES)
            self.assertLessEqual(max(steps), 3 * PIECE_BYTES)
            self.assertGreaterEqual(sum(steps), len(share))

    def test_can_be_broken_off(self):
        _, shares = make_shares(some_bytes(2**20), 1, 1, 2**20)
        work = verifying(reader(shares[0]), len(shares[0]), 0)
        self.assertEqual(len(list(itertools.islice(work, 2))), 2)
        work.close()
