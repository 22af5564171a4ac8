"""Marks by which two readings of a file are compared."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.sameness import FirstReading, Mark

KEY = bytes(range(16))


class MarkTests(SynchronousTestCase):
    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.binary(max_size=70), max_size=8))
    def test_it_is_gmac_whatever_the_pieces(self, pieces):
        mark = Mark(KEY)
        for piece in pieces:
            mark.update(memoryview(piece))
        expected = AESGCM(KEY).encrypt(bytes(12), b"", b"".join(pieces))
        self.assertEqual(mark.digest(), expected)


class ReadingTests(SynchronousTestCase):
    def same(self, first, second):
        reading = FirstReading()
        reading.update(first)
        again = reading.again()
        again.update(second)
        return again.is_same()

    def test_every_byte_and_every_length(self):
        data = bytes(range(200))
        self.assertTrue(self.same(data, data))
        for at in range(len(data)):
            changed = bytearray(data)
            changed[at] ^= 1
            self.assertFalse(self.same(data, changed))
            self.assertFalse(self.same(data, data[:at]))
        self.assertFalse(self.same(data, data + b"\0"))
        self.assertTrue(self.same(b"", b""))

    def test_again_and_again(self):
        reading = FirstReading()
        reading.update(b"some")
        reading.update(b"thing")
        for said, same in ((b"something", True), (b"somethinG", False), (b"something", True)):
            again = reading.again()
            again.update(said)
            self.assertEqual(again.is_same(), same)

    def test_each_file_has_a_key_of_its_own(self):
        made = iter((b"a" * 16, b"b" * 16))
        readings = [FirstReading(lambda size: next(made)[:size]) for _ in range(2)]
        self.assertNotEqual(*[reading._mark.digest() for reading in readings])
