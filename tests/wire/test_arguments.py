"""Argument types: what they write they read, and they read nothing else."""

from __future__ import annotations

import struct

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands.arguments import (
    MAX_SHARES_PER_REQUEST,
    Blobs,
    Count,
    Exact,
    Flag,
    Octets,
    ShareHeads,
    ShareNumbers,
    ShareSizes,
    Text,
)

counts = st.integers(0, 2**63 - 1)
#: Text that may be shown: no control characters, and no halves of surrogate pairs.
texts = st.text(st.characters(blacklist_categories=("Cs", "Cc")))
numbers = st.integers(0, 255)


class RoundTripTest(SynchronousTestCase):
    """Any value comes back, and any bytes that are read are the ones that would be written."""

    def there_and_back(self, argument: amp.Argument, value: object) -> None:
        data = argument.toString(value)
        self.assertIsInstance(data, bytes)
        self.assertEqual(argument.fromString(data), value)

    def only_canonical(self, argument: amp.Argument, data: bytes) -> None:
        try:
            value = argument.fromString(data)
        except ValueError:
            return
        self.assertEqual(argument.toString(value), data)

    @given(counts)
    @example(0)
    @example(2**63 - 1)
    def test_count(self, value: int) -> None:
        self.there_and_back(Count(), value)

    @given(st.binary(max_size=300), st.text("0123456789+-_ xe.", max_size=21))
    @example(b"00", "01")
    @example(b" 1", "+1")
    @example(b"1\n", "1_0")
    @example("٣".encode(), "9223372036854775808")
    def test_count_canonical(self, data: bytes, digits: str) -> None:
        self.only_canonical(Count(), data)
        self.only_canonical(Count(), digits.encode())

    @given(st.binary(max_size=100))
    def test_octets(self, value: bytes) -> None:
        self.there_and_back(Octets(100), value)
        self.only_canonical(Octets(50, 10), value)

    def test_views_of_bytes(self) -> None:
        """They are not copied, and count their bytes."""
        view = memoryview(b"some bytes")[5:]
        self.assertIs(Octets(5).toString(view), view)
        for wrong in (view[:0], memoryview(b"four" * 3).cast("I"), memoryview(b"too long")):
            with self.assertRaises(ValueError):
                Octets(5, 1).toString(wrong)

    @given(texts, st.binary(max_size=40))
    @example("", b"\xed\xa0\x80")
    @example("", b"\xc0\x80")
    def test_text(self, value: str, data: bytes) -> None:
        self.there_and_back(Text(), value)
        self.only_canonical(Text(), data)

    @given(st.booleans(), st.binary(max_size=3))
    def test_flag(self, value: bool, data: bytes) -> None:
        self.there_and_back(Flag(), value)
        self.only_canonical(Flag(), data)

    @given(st.frozensets(numbers, max_size=MAX_SHARES_PER_REQUEST), st.binary(max_size=10))
    def test_share_numbers(self, value: frozenset[int], data: bytes) -> None:
        self.there_and_back(ShareNumbers(), value)
        self.there_and_back(ShareNumbers(256), value | frozenset(range(200, 256)))
        self.only_canonical(ShareNumbers(), data)

    @given(st.dictionaries(numbers, st.integers(0, 2**63 - 1)), st.binary(max_size=40))
    def test_share_sizes(self, value: dict[int, int], data: bytes) -> None:
        self.there_and_back(ShareSizes(), value)
        self.only_canonical(ShareSizes(), data)

    @given(st.dictionaries(numbers, st.binary(max_size=30)))
    def test_share_heads(self, value: dict[int, bytes]) -> None:
        self.there_and_back(ShareHeads(), value)

    @given(st.lists(st.binary(max_size=30), max_size=8), st.binary(max_size=60))
    def test_blobs(self, value: list[bytes], data: bytes) -> None:
        self.there_and_back(Blobs(8, 30), value)
        self.only_canonical(Blobs(8, 30), data)


class RefusalTest(SynchronousTestCase):
    """Whatever is out of bounds is a `ValueError`, in both directions."""

    def refused(self, argument: amp.Argument, *spellings: bytes) -> None:
        for spelling in spellings:
            with self.assertRaises(ValueError, msg=repr(spelling)):
                argument.fromString(spelling)

    def unsayable(self, argument: amp.Argument, *values: object) -> None:
        for value in values:
            with self.assertRaises(ValueError, msg=repr(value)):
                argument.toString(value)

    def test_count(self) -> None:
        wrong = "", "00", "01", "-1", "-0", "+1", " 1", "1 ", "1_0", "0x1", "1.0", "1e3", "\n1"
        self.refused(Count(), *(spelling.encode() for spelling in wrong))
        self.refused(Count(), b"9" * 19, b"9" * 4_300, str(2**63).encode(), "٣".encode())
        self.refused(Count(10), b"11")
        self.unsayable(Count(10), -1, 11)

    def test_octets(self) -> None:
        self.refused(Octets(3, 2), b"", b"1", b"1234")
        self.refused(Exact(16), b"", bytes(15), bytes(17))
        self.unsayable(Exact(2), b"1", b"123")

    def test_text(self) -> None:
        self.refused(Text(3), b"1234", "éé".encode())
        self.refused(Text(), b"\xff", b"a\0", b"a\x1b[2J", b"a\nb", b"\x7f", b"\xed\xa0\x80")
        self.refused(Text(lines=True), b"a\rb", b"a\tb")
        self.assertEqual(Text(lines=True).fromString(b"a\nb"), "a\nb")
        self.unsayable(Text(3), "1234", "éé", "a\n")

    def test_flag(self) -> None:
        self.refused(Flag(), b"", b"True", b"2", b"01", b"y")

    def test_share_numbers(self) -> None:
        self.refused(ShareNumbers(), b"\1\1", b"\2\1", bytes(range(MAX_SHARES_PER_REQUEST + 1)))
        self.unsayable(ShareNumbers(), range(MAX_SHARES_PER_REQUEST + 1), [256], [-1])
        self.unsayable(ShareNumbers(256), [256])

    def test_share_sizes(self) -> None:
        one, two = struct.pack(">BQ", 1, 5), struct.pack(">BQ", 2, 5)
        self.refused(ShareSizes(), one + one, two + one, one[:-1], one + b"\0")
        self.refused(ShareSizes(), struct.pack(">BQ", 1, 2**63))
        self.unsayable(ShareSizes(), {1: 2**63}, {1: -1})

    def test_share_heads(self) -> None:
        one = struct.pack(">BH", 1, 3) + b"abc"
        self.refused(ShareHeads(), one + one, one[:-1], one + b"\2", b"\1\0", b"\1")

    def test_share_heads_out_of_order(self) -> None:
        one, two = struct.pack(">BH", 1, 0), struct.pack(">BH", 2, 0)
        self.refused(ShareHeads(), two + one)

    def test_blobs(self) -> None:
        self.refused(Blobs(2, 3), b"\0\4abcd", b"\0", b"\0\3ab", b"\0\1a" * 3)
        self.unsayable(Blobs(2, 3), [b"abcd"], [b""] * 3)
