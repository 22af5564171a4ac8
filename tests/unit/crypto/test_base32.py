"""Base32: one spelling for each string of bytes."""

import base64
import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.base32 import a2b, b2a
from ampgrid.errors import FormatError
from tests.material import some_bytes

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


class Base32Test(SynchronousTestCase):
    @given(st.binary(max_size=70))
    def test_spells_as_rfc_4648_in_lower_case_without_padding(self, data):
        expected = base64.b32encode(data).decode().lower().replace("=", "")
        self.assertEqual(b2a(data), expected)
        self.assertEqual(a2b(expected), data)
        self.assertEqual(a2b(expected, len(data)), data)

    def test_every_length_of_a_small_file(self):
        """It is worked on in steps by its length, so each length is a case of its own."""
        for length in range(1_030):
            for data in (bytes(length), b"\xff" * length, some_bytes(length)):
                expected = base64.b32encode(data).decode().lower().rstrip("=")
                self.assertEqual(b2a(data), expected, length)
                self.assertEqual(a2b(expected), data, length)

    @given(st.text(ALPHABET, max_size=30))
    def test_what_is_read_is_spelled_the_same(self, text):
        """Anything accepted is canonical, so no two texts give the same bytes."""
        try:
            data = a2b(text)
        except FormatError:
            return
        self.assertEqual(b2a(data), text)

    @given(st.text(max_size=30))
    def test_arbitrary_text_raises_format_error_alone(self, text):
        with contextlib.suppress(FormatError):
            self.assertEqual(b2a(a2b(text)), text)

    def test_refuses_other_spellings(self):
        for text in (
            "MY",
            "My",
            "my======",
            "my ",
            " my",
            "mz",
            "m",
            "mya",
            "m1",
            "m8",
            "\u017fy",
            "m\n",
        ):
            with self.subTest(text):
                self.assertRaises(FormatError, a2b, text)

    def test_every_stray_bit_is_refused(self):
        """Of the last character of a 2-character text, 3 of 5 bits are given, 2 must be zero."""
        accepted = [a + b for a in ALPHABET for b in ALPHABET if self.reads(a + b)]
        self.assertEqual(len(accepted), 256)

    def reads(self, text):
        try:
            a2b(text)
        except FormatError:
            return False
        return True

    def test_wrong_length_is_refused(self):
        self.assertRaises(FormatError, a2b, b2a(bytes(16)), 15)
        self.assertRaises(FormatError, a2b, b2a(bytes(16)), 17)
        self.assertRaises(FormatError, a2b, "", 1)
