"""Computing caps from streams."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import ChkCap, LitCap
from ampgrid.errors import BadArgumentValueError, FileChangedError
from ampgrid.formats.chk import compute_cap, cut


def parts_of(data, cuts):
    borders = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(borders)]


def cap_of(*readings, size, needed=3, total=5, most=100):
    remaining = list(readings)
    return compute_cap(lambda: remaining.pop(0), size, needed, total, most, b"secret")


class CutTest(SynchronousTestCase):
    @given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=9), st.integers(1, 90))
    def test_whatever_the_parts(self, data, cuts, segment_size):
        segments = list(cut(parts_of(data, cuts), segment_size))
        expected = [data[i : i + segment_size] for i in range(0, len(data), segment_size)]
        self.assertEqual([bytes(segment) for segment in segments], expected)

    def test_whole_segments_are_not_copied(self):
        data = bytes(100)
        for segment in cut([data], 50):
            self.assertIs(segment.obj, data)


class ComputeCapTest(SynchronousTestCase):
    @given(st.lists(st.integers(0, 777), max_size=9))
    def test_parts_do_not_matter(self, cuts):
        data = bytes(i % 251 for i in range(777))
        cap = cap_of(parts_of(data, cuts), [data], size=777)
        self.assertEqual(cap, cap_of([data], parts_of(data, cuts), size=777))
        self.assertIsInstance(cap, ChkCap)

    def test_small_files_are_their_own_cap(self):
        self.assertEqual(cap_of([], size=0), LitCap(b""))
        self.assertEqual(cap_of([b"a" * 50, b"b" * 5], size=55), LitCap(b"a" * 50 + b"b" * 5))
        self.assertIsInstance(cap_of([b"a" * 56], [b"a" * 56], size=56), ChkCap)

    def test_every_parameter_matters(self):
        data = b"a" * 777
        caps = [
            compute_cap(lambda: [data], 777, needed, total, most, secret)
            for needed, total, most, secret in (
                (3, 5, 100, b"s"),
                (3, 5, 100, b"t"),
                (2, 5, 100, b"s"),
                (3, 6, 100, b"s"),
                (3, 5, 105, b"s"),
            )
        ]
        self.assertEqual(len({cap.key for cap in caps}), 5)

    def test_a_file_that_changes_is_refused(self):
        a, b = b"a" * 777, b"a" * 776 + b"b"
        for first, second in ((a, b), (a, a[:-1]), (a, a + b"a"), (a[:-1], a), (a + b"a", a)):
            self.assertRaises(FileChangedError, cap_of, [first], [second], size=777)
        self.assertRaises(FileChangedError, cap_of, [b"abc"], size=2)
        self.assertRaises(FileChangedError, cap_of, [b"abc"], size=4)

    def test_numbers_out_of_bounds(self):
        data = b"a" * 100
        for needed, total, most in (
            (0, 5, 9),
            (6, 5, 9),
            (3, 257, 9),
            (3, 5, 0),
            (3, 5, 2**24 + 1),
        ):
            for size in (5, 100):
                with self.assertRaises(BadArgumentValueError):
                    cap_of([data], [data], size=size, needed=needed, total=total, most=most)
