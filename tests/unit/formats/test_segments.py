"""Segment arithmetic against a file that is really cut."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.formats import segments as s


class SegmentsTest(SynchronousTestCase):
    @given(st.integers(1, 5000), st.integers(1, 30), st.integers(1, 6000))
    def test_agrees_with_a_file_that_is_cut(self, size, needed, most):
        segment_size = s.segment_size_for(size, needed, most)
        self.assertEqual(segment_size % needed, 0)
        self.assertTrue(0 <= segment_size - min(size, most) < needed)

        cut = [bytes(size)[start : start + segment_size] for start in range(0, size, segment_size)]
        self.assertEqual(s.num_segments(size, segment_size), len(cut))
        self.assertEqual(s.tail_size(size, segment_size), len(cut[-1]))
        lengths = [s.segment_length(i, size, segment_size) for i in range(len(cut))]
        self.assertEqual(lengths, [len(segment) for segment in cut])

        padded = [segment + bytes(-len(segment) % needed) for segment in cut]
        self.assertEqual(s.padded_tail_size(size, segment_size, needed), len(padded[-1]))
        blocks = [s.block_length(i, size, segment_size, needed) for i in range(len(cut))]
        self.assertEqual(blocks, [len(segment) // needed for segment in padded])
        self.assertEqual(s.share_data_size(size, needed), sum(blocks))

    def test_sizes_beyond_floating_point(self):
        size = 2**60 - 1
        segment_size = s.segment_size_for(size, 3, s.DEFAULT_MAX_SEGMENT_SIZE)
        self.assertEqual(segment_size, 1048578)
        count = s.num_segments(size, segment_size)
        self.assertEqual((count - 1) * segment_size + s.tail_size(size, segment_size), size)
        self.assertEqual(s.share_data_size(size, 3), 2**60 // 3)
