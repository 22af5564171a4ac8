"""Names and flags of blobs."""

from __future__ import annotations

import string

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import BadArgumentValueError, InvalidFlagsError
from ampgrid.formats.blobname import BlobName, Flag, checked_flags

GOOD = string.ascii_letters + string.digits + "-_"


class NameTests(SynchronousTestCase):
    def test_every_character_is_allowed_or_not(self):
        for code in [*range(0x250), 0x430, 0x2028, 0xFF21, 0x1F600]:
            for place in ("{}x", "x{}", "x{}x", "{}"):
                text = place.format(chr(code))
                if chr(code) in GOOD:
                    self.assertEqual(BlobName.of(text, text).blob_id, text)
                    continue
                for name in (("default", text), (text, "x")):
                    with self.assertRaises(BadArgumentValueError):
                        BlobName(*name)

    def test_every_length_is_allowed_or_not(self):
        for length in range(300):
            for most, make in (
                (64, lambda t: BlobName(t, "x")),
                (255, lambda t: BlobName("x", t)),
            ):
                if 1 <= length <= most:
                    make("y" * length)
                else:
                    self.assertRaises(BadArgumentValueError, make, "y" * length)

    def test_no_namespace_is_the_default(self):
        for nothing in (None, ""):
            self.assertEqual(BlobName.of("x", nothing), BlobName("default", "x"))
        self.assertEqual(str(BlobName.of("x", "y")), "y/x")


class FlagTests(SynchronousTestCase):
    def test_flags_are_kept_once_and_in_order(self):
        self.assertEqual(
            checked_flags(["FAILED", Flag.PENDING, "FAILED"]), (Flag.PENDING, Flag.FAILED)
        )
        self.assertEqual(checked_flags(reversed(Flag)), tuple(Flag))
        self.assertEqual(checked_flags([]), ())

    def test_what_is_no_flag_is_refused(self):
        for flags in (
            ["pending"],
            [""],
            [None],
            [1],
            ["PENDING", "X"],
            "PENDING",
            "",
            [b"PENDING"],
        ):
            self.assertRaises(InvalidFlagsError, checked_flags, flags)
