"""Names of children: one spelling, and nothing that a path or a terminal would trip over."""

import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import BadNameError
from ampgrid.formats.names import MAX_NAME_BYTES, MAX_NAME_CHARACTERS, checked_name


def is_allowed(name):
    """Tell, by the rules of the specification alone, whether a composed text is a name."""
    return (
        1 <= len(name) <= 255
        and name not in (".", "..")
        and "/" not in name
        and not any(unicodedata.category(c) in ("Cc", "Cs") for c in name)
    )


class NamesTest(SynchronousTestCase):
    @given(st.one_of(st.text(), st.text("./a\0é\u0301\u200b\ud800", max_size=5)))
    @example("." * 3)
    @example("\u1fef")  # composes to a grave accent
    def test_any_text(self, text):
        composed = unicodedata.normalize("NFC", text)
        if not is_allowed(composed):
            self.assertRaises(BadNameError, checked_name, text)
            return
        name = checked_name(text)
        self.assertEqual(name, composed)
        self.assertEqual(checked_name(name), name)
        self.assertEqual(checked_name(unicodedata.normalize("NFD", text)), name)
        self.assertLessEqual(len(name.encode()), MAX_NAME_BYTES)

    def test_what_file_systems_allow(self):
        for name in (
            "a", "...", ".hidden", "a b", " a ", "~", "a\\b", "C:", "-rf", "*", "日本語",
            "e\u0301", "\u202ereversed", "\u2028", "\u200b", "\ue000", "👩\u200d🚀", "\u0378",
        ):  # fmt: skip
            self.assertEqual(checked_name(name), unicodedata.normalize("NFC", name))

    def test_every_control_character_and_every_surrogate_is_refused(self):
        for code in (*range(0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000)):
            self.assertRaises(BadNameError, checked_name, "a" + chr(code))
        for code in (0x20, 0x7E, 0xA0, 0xD7FF, 0xE000, 0x10FFFF):
            self.assertEqual(checked_name("a" + chr(code)), "a" + chr(code))

    def test_lengths(self):
        self.assertEqual(MAX_NAME_BYTES, 4 * MAX_NAME_CHARACTERS)
        for letter in ("a", "é", "e\u0301", "☂", "\U0001f600"):
            longest = checked_name(letter * 255)
            self.assertEqual(len(longest), 255)
            self.assertRaises(BadNameError, checked_name, letter * 256)
        self.assertRaises(BadNameError, checked_name, "a" * 10_000_000)

    def test_no_name_is_lost_to_the_bound_before_composing(self):
        """Any text longer than 1,020 characters composes to more than 255."""
        longest = max(
            len(unicodedata.normalize("NFD", chr(code)))
            for code in range(0x110000)
            if not 0xAC00 <= code < 0xD7A4
        )
        self.assertEqual(longest, 4)

    def test_the_message_does_not_repeat_the_name(self):
        for name in ("", ".", "secret/", "secret\n", "secret" * 50):
            error = self.assertRaises(BadNameError, checked_name, name)
            self.assertNotIn("secret", str(error))
