"""The layout of shares."""

import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import FormatError
from ampgrid.formats.hashtree import tree_size
from ampgrid.formats.segments import segment_size_for
from ampgrid.formats.share import (
    MAX_HEADER_SIZE,
    ShareLayout,
    pack_share_hashes,
    parse_header,
    unpack_share_hashes,
)

SMALL = ShareLayout(300, 3, 300, 5)
#: The largest file of version 1 has UEB offsets just below 4 GiB.
LARGE = ShareLayout(13 * 2**30, 3, 1048578, 10)

layouts = st.builds(
    lambda size, code, most: ShareLayout(
        size, code[0], segment_size_for(size, code[0], most), code[1]
    ),
    st.integers(1, 2**50),
    st.tuples(st.integers(1, 256), st.integers(1, 256)).map(sorted),
    st.integers(1, 2**24),
)


class LayoutTest(SynchronousTestCase):
    def test_offsets_of_a_share_that_tahoe_wrote(self):
        header = struct.unpack(">9L", SMALL.header())
        self.assertEqual(header, (1, 100, 100, 36, 136, 168, 200, 232, 368))
        self.assertEqual(SMALL.share_size, 681)
        self.assertEqual(SMALL.ueb_size, 309)

    def test_version_2(self):
        header = struct.unpack(">L8Q", LARGE.header())
        self.assertEqual(header[0], 2)
        self.assertEqual(header[3], 0x44)
        tree = tree_size(LARGE.num_segments)
        data = -(-LARGE.size // 3)
        self.assertEqual(header[4:8], tuple(0x44 + data + i * tree for i in range(4)))
        self.assertEqual(header[8], 0x44 + data + 3 * tree + 5 * 34)
        self.assertEqual(LARGE.share_size, header[8] + 8 + LARGE.ueb_size)

    def test_version_1_up_to_the_last_offset_that_fits(self):
        """Searched for: the border of the file size is one byte wide (three, as k is 3)."""
        low, high = 2**30, 2**34
        while high - low > 1:
            middle = (low + high) // 2
            if ShareLayout(middle, 3, 1048578, 10).version == 1:
                low = middle
            else:
                high = middle
        below, above = (ShareLayout(size, 3, 1048578, 10) for size in (low, high))
        self.assertEqual((below.version, above.version), (1, 2))
        self.assertLess(below.offset_ueb, 2**32)
        self.assertLessEqual(2**32 - below.offset_ueb, 1)
        # The header and the length of the UEB are larger in version 2.
        self.assertEqual(above.offset_ueb - below.offset_ueb, 32 + 1)

    @given(layouts)
    def test_header_is_read_back(self, layout):
        header = parse_header(layout.header(), layout.share_size)
        self.assertEqual(header, layout.offsets)
        self.assertEqual(header.pack(), layout.header())
        for name in (
            "version", "block_size", "data_size", "offset_data", "offset_plaintext_tree",
            "offset_crypttext_tree", "offset_block_hashes", "offset_share_hashes", "offset_ueb",
        ):  # fmt: skip
            self.assertEqual(getattr(header, name), getattr(layout, name))
        header.check(layout)
        self.assertEqual(header.share_hashes_size, layout.chain_length * 34)
        ueb = bytes(layout.ueb_size)
        section = layout.pack_ueb(ueb)
        self.assertEqual(header.ueb_length(section), len(ueb))
        self.assertEqual(layout.offset_ueb + len(section), layout.share_size)

    @given(layouts)
    def test_blocks_fill_the_data(self, layout):
        last = layout.offset_data + (layout.num_segments - 1) * layout.block_size
        self.assertLess(last, layout.offset_plaintext_tree)
        self.assertGreaterEqual(last + layout.block_size, layout.offset_plaintext_tree)

    def test_impossible_layouts(self):
        for arguments in ((0, 3, 300, 5), (300, 0, 300, 5), (300, 6, 300, 5), (300, 3, 301, 5),
                          (300, 3, 0, 5)):  # fmt: skip
            self.assertRaises(ValueError, ShareLayout, *arguments)


class ParseTest(SynchronousTestCase):
    @given(st.binary(max_size=100), st.integers(0, 2**70))
    def test_arbitrary_bytes(self, head, size):
        self.assertRaises(FormatError, parse_header, head, size)

    @given(
        st.sampled_from([1, 2]),
        st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=8),
        st.booleans(),
        st.integers(0, 2**34),
    )
    def test_what_is_accepted_is_within_the_share(self, version, numbers, ordered, size):
        if ordered:
            numbers = numbers[:2] + sorted(numbers[2:])
        head = struct.pack(">9L" if version == 1 else ">L8Q", version, *numbers)
        try:
            header = parse_header(head, size)
        except FormatError:
            return
        self.assertGreaterEqual(header.offset_data, len(head))
        self.assertLessEqual(header.offset_data + header.data_size, header.offset_plaintext_tree)
        self.assertLessEqual(header.offset_ueb + header.length_size, size)
        self.assertGreaterEqual(header.share_hashes_size, 0)

    def test_every_cut(self):
        for layout in (SMALL, LARGE):
            head = layout.header()
            for end in range(len(head)):
                self.assertRaises(FormatError, parse_header, head[:end], layout.share_size)

    def test_every_offset_that_moves_back_or_out_is_seen(self):
        numbers = list(struct.unpack(">9L", SMALL.header()))
        for field in range(3, 9):
            for value in (numbers[field - 1] - 1 if field > 3 else 35, 2**32 - 1):
                changed = [*numbers[:field], value, *numbers[field + 1 :]]
                head = struct.pack(">9L", *changed)
                self.assertRaises(FormatError, parse_header, head, SMALL.share_size)

    def test_slack_is_tolerated_and_bytes_behind_the_header_too(self):
        head = SMALL.header() + bytes(50)
        self.assertLess(MAX_HEADER_SIZE, len(head))
        self.assertEqual(parse_header(head, SMALL.share_size + 1000), SMALL.offsets)
        self.assertEqual(parse_header(memoryview(head), SMALL.share_size), SMALL.offsets)

    def test_share_too_small_for_its_sections(self):
        self.assertRaises(FormatError, parse_header, SMALL.header(), SMALL.offset_ueb + 3)

    def test_unknown_versions(self):
        for version in (0, 3, 2**32 - 1):
            head = struct.pack(">L", version) + SMALL.header()[4:] + bytes(40)
            self.assertRaises(FormatError, parse_header, head, 10_000)

    def test_ueb_length(self):
        header = SMALL.offsets
        for length in (b"", b"\0\0\1", bytes(4), b"\xff" * 4, struct.pack(">L", 4097)):
            self.assertRaises(FormatError, header.ueb_length, length)

    def test_header_of_another_file(self):
        for other in (
            ShareLayout(303, 3, 303, 5),
            ShareLayout(300, 2, 300, 5),
            ShareLayout(300, 3, 30, 5),
        ):
            self.assertRaises(FormatError, other.offsets.check, SMALL)


class ShareHashesTest(SynchronousTestCase):
    @given(st.lists(st.tuples(st.integers(0, 65535), st.binary(min_size=32, max_size=32))))
    def test_round_trip(self, chain):
        packed = pack_share_hashes(chain)
        self.assertEqual(len(packed), 34 * len(chain))
        self.assertEqual(unpack_share_hashes(packed), chain)
        self.assertEqual(unpack_share_hashes(memoryview(packed)), chain)

    def test_cut(self):
        for length in (1, 33, 35, 67):
            self.assertRaises(FormatError, unpack_share_hashes, bytes(length))
