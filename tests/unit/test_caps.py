"""Capabilities: spelled, read back, and never shown by accident."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import MAX_FILE_SIZE, ChkCap, ChkVerifierCap, LitCap, parse_cap
from ampgrid.crypto.base32 import b2a
from ampgrid.errors import BadCapError

#: Published by Tahoe-LAFS (its capability vectors), with the storage index of a file of its own.
PUBLISHED = (
    "URI:CHK:v67vidxazci2zaj2lkyewlww3y:yazflo6y4car7kw5wcabkfx25phr7rohoau5m6fukfgnsb6cuqjq:3:5:300",
    "3lcirvwcthgssk37dh6ycyd4v4",
)

shares = st.tuples(st.integers(1, 256), st.integers(1, 256)).map(sorted)
sizes = st.integers(1, MAX_FILE_SIZE)
chk_caps = st.builds(
    lambda key, ueb_hash, numbers, size: ChkCap(key, ueb_hash, *numbers, size),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=32, max_size=32),
    shares,
    sizes,
)
caps = st.one_of(
    chk_caps, chk_caps.map(ChkCap.get_verify_cap), st.builds(LitCap, st.binary(max_size=55))
)


class RoundTripTest(SynchronousTestCase):
    @given(caps, st.sampled_from(["", " ", "\n", "\t\r\n "]))
    def test_read_back(self, cap, around):
        text = cap.to_string()
        self.assertEqual(parse_cap(around + text + around), cap)
        self.assertEqual(parse_cap(text).to_string(), text)
        self.assertIs(type(parse_cap(text)), type(cap))

    @given(caps)
    def test_the_interface_of_every_cap(self, cap):
        self.assertTrue(cap.is_readonly())
        self.assertFalse(cap.is_mutable())
        self.assertIs(cap.get_readonly(), cap)
        if isinstance(cap, LitCap):
            self.assertIsNone(cap.get_verify_cap())
            self.assertEqual(cap.get_size(), len(cap.data))
        else:
            verifier = cap.get_verify_cap()
            self.assertIsInstance(verifier, ChkVerifierCap)
            self.assertEqual(verifier.storage_index, cap.storage_index)
            self.assertEqual(cap.get_size(), verifier.get_size())
            self.assertIs(verifier.get_verify_cap(), verifier)

    @given(caps)
    def test_nothing_secret_is_shown(self, cap):
        secret = cap.data if isinstance(cap, LitCap) else getattr(cap, "key", None)
        for shown in (repr(cap), str(cap), f"{cap}", repr([cap])):
            self.assertRegex(shown, r"^\[?<[A-Za-z]+Cap (\d+-of-\d+, )?\d+ bytes>\]?$")
            if secret and len(secret) > 3:
                self.assertNotIn(b2a(secret), shown)

    def test_published_cap(self):
        text, storage_index = PUBLISHED
        cap = parse_cap(text)
        self.assertEqual((cap.needed, cap.total, cap.size), (3, 5, 300))
        self.assertEqual(b2a(cap.storage_index), storage_index)
        verifier = cap.get_verify_cap().to_string()
        self.assertTrue(verifier.startswith(f"URI:CHK-Verifier:{storage_index}:yazflo6y4car"))

    def test_empty_file(self):
        self.assertEqual(parse_cap("URI:LIT:"), LitCap(b""))


class MalformedTest(SynchronousTestCase):
    def refused(self, text):
        error = self.assertRaises(BadCapError, parse_cap, text)
        return str(error)

    @given(st.text(max_size=120).filter(lambda text: text.strip() != "URI:LIT:"))
    def test_arbitrary_text(self, text):
        self.refused(text)

    @given(st.text("URI:CHKLTVerifia27-0159 \n", max_size=130).map("URI:CHK:".__add__))
    def test_text_that_begins_like_a_cap(self, text):
        self.refused(text)

    @given(caps, st.data())
    def test_cut_or_changed_caps_never_raise_anything_else(self, cap, data):
        text = cap.to_string()
        position = data.draw(st.integers(0, len(text) - 1))
        put = data.draw(st.text(max_size=2))
        changed = text[:position] + put + text[position + 1 :]
        try:
            parsed = parse_cap(changed)
        except BadCapError:
            return
        self.assertEqual(parsed.to_string(), changed.strip())

    def test_numbers(self):
        start = PUBLISHED[0].removesuffix("3:5:300")
        for numbers in (
            "0:5:300", "6:5:300", "3:257:300", "3:5:0", "03:5:300", "3:5:0300", "+3:5:300",
            "3:5:-1", "3:5:", "3:5", "3:5:300:1", "3:5:3_0", "3: 5:300", "3:5:٣", "3:5:1e3",
            f"3:5:{MAX_FILE_SIZE + 1}", f"3:5:{'9' * 19}", f"3:5:{'9' * 4000}", "999:999:300",
        ):  # fmt: skip
            with self.subTest(numbers):
                self.refused(start + numbers)
        self.assertEqual(parse_cap(f"{start}3:5:{MAX_FILE_SIZE}").size, MAX_FILE_SIZE)

    def test_messages_never_repeat_the_text(self):
        for text in (PUBLISHED[0][:-3], PUBLISHED[0].upper(), "URI:DIR2:" + "a" * 26, "x" * 5000):
            message = self.refused(text)
            self.assertNotIn("v67vidxa", message.lower())
            self.assertLess(len(message), 120)

    def test_stray_bits(self):
        """Another last character would give the same key: two spellings of one cap."""
        text, _ = PUBLISHED
        self.assertIn("lww3y:", text)
        self.refused(text.replace("lww3y:", "lww3z:"))

    def test_lit_too_long(self):
        self.assertEqual(parse_cap("URI:LIT:" + b2a(bytes(55))), LitCap(bytes(55)))
        self.refused("URI:LIT:" + b2a(bytes(56)))

    def test_constructors_check_too(self):
        for arguments in (
            (bytes(15), bytes(32), 3, 5, 1),
            (bytes(16), bytes(31), 3, 5, 1),
            (bytes(16), bytes(32), 0, 5, 1),
            (bytes(16), bytes(32), 6, 5, 1),
            (bytes(16), bytes(32), 3, 257, 1),
            (bytes(16), bytes(32), 3, 5, 0),
        ):
            self.assertRaises(BadCapError, ChkCap, *arguments)
            self.assertRaises(BadCapError, ChkVerifierCap, *arguments)
        self.assertRaises(BadCapError, LitCap, bytes(56))
