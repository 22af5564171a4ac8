"""Capabilities: spelled, read back, and never shown by accident."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import (
    MAX_CAP_CHARACTERS,
    MAX_FILE_SIZE,
    MAX_INLINE_SIZE,
    ChkCap,
    ChkVerifierCap,
    DirCap,
    DirReadCap,
    DirVerifierCap,
    LitCap,
    parse_cap,
    parse_file_cap,
)
from ampgrid.crypto.base32 import b2a
from ampgrid.crypto.directory_keys import WriteKeys
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
sixteen = st.binary(min_size=16, max_size=16)
fingerprints = st.binary(min_size=32, max_size=32)
directory_caps = st.one_of(
    st.builds(DirCap, sixteen, fingerprints),
    st.builds(DirReadCap, sixteen, fingerprints),
    st.builds(DirVerifierCap, fingerprints),
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


class DirectoryCapsTest(SynchronousTestCase):
    @given(directory_caps, st.sampled_from(["", " ", "\r\n"]))
    def test_read_back(self, cap, around):
        text = cap.to_string()
        self.assertEqual(parse_cap(around + text + around), cap)
        self.assertEqual(parse_cap(text).to_string(), text)
        self.assertIs(type(parse_cap(text)), type(cap))
        self.assertEqual(cap.index, cap.fingerprint)
        self.assertTrue(cap.is_mutable())
        self.assertEqual(cap.get_verify_cap(), DirVerifierCap(cap.fingerprint))

    @given(sixteen)
    def test_what_is_left_of_each(self, write_key):
        cap, keys = DirCap.create(lambda n: write_key), WriteKeys(write_key)
        self.assertEqual(cap, DirCap(write_key, keys.fingerprint))
        read, verify = cap.get_readonly(), cap.get_verify_cap()
        self.assertEqual(read, DirReadCap(keys.read.read_key, keys.fingerprint))
        self.assertEqual((cap.is_readonly(), read.is_readonly()), (False, True))
        self.assertTrue(verify.is_readonly())
        self.assertIs(read.get_readonly(), read)
        self.assertIs(verify.get_readonly(), verify)
        self.assertIs(verify.get_verify_cap(), verify)
        self.assertEqual(read.get_verify_cap(), verify)
        self.assertEqual(cap.keys.verifying_key, keys.verifying_key)
        self.assertEqual(read.keys.read_slot_key, keys.read.read_slot_key)

    @given(sixteen)
    def test_a_cap_gives_no_higher_one(self, write_key):
        """No text of a lower cap holds what makes a higher one."""
        cap = DirCap.create(lambda n: write_key)
        read, verify = cap.get_readonly(), cap.get_verify_cap()
        self.assertNotIn(b2a(write_key), read.to_string() + verify.to_string())
        self.assertNotIn(b2a(read.read_key), verify.to_string())
        for lower in (read, verify):
            self.assertFalse(hasattr(lower, "write_key"))

    @given(sixteen, fingerprints)
    def test_parts_that_do_not_belong_together(self, write_key, fingerprint):
        """Seen when the keys are first wanted, since reading a cap makes no keys."""
        cap = parse_cap(DirCap(write_key, fingerprint).to_string())
        for _ in range(2):
            self.assertRaises(BadCapError, lambda: cap.keys)
            self.assertRaises(BadCapError, cap.get_readonly)
        self.assertEqual(cap.get_verify_cap().index, fingerprint)

    @given(directory_caps)
    def test_nothing_secret_is_shown(self, cap):
        shown = b2a(cap.fingerprint)[:8]
        self.assertEqual(repr(cap), f"<{type(cap).__name__} {shown}>")

    def test_where_a_file_is_wanted(self):
        self.assertEqual(parse_file_cap(PUBLISHED[0]), parse_cap(PUBLISHED[0]))
        self.assertEqual(parse_file_cap("URI:LIT:"), LitCap(b""))
        cap = DirCap.create()
        for text in (cap, cap.get_readonly(), cap.get_verify_cap()):
            error = self.assertRaises(BadCapError, parse_file_cap, text.to_string())
            self.assertIn("This is the cap of a directory", str(error))
        self.assertRaises(BadCapError, parse_file_cap, "nothing")

    def test_malformed(self):
        key, fingerprint = b2a(b"k" * 16), b2a(b"f" * 32)
        for text in (
            "URI:DIR",
            "URI:DIR:",
            f"URI:DIR:{key}",
            f"URI:DIR:{key}:",
            f"URI:DIR:{fingerprint}",
            f"URI:DIR:{key}:{fingerprint}:",
            f"URI:DIR:{key}:{fingerprint}:1",
            f"URI:DIR:{key[:-1]}:{fingerprint}",
            f"URI:DIR:{key}:{fingerprint}a",
            f"URI:DIR:{key.upper()}:{fingerprint}",
            f"URI:DIR:{key[:-1]}b:{fingerprint}",
            f"URI:DIR-RO:{key}:{fingerprint[:-1]}b",
            f"URI:DIR-RO:{fingerprint}",
            f"URI:DIR-Verifier:{key}:{fingerprint}",
            f"URI:DIR-Verifier:{key}",
            f"URI:DIR2:{key}:{fingerprint}",
            f"URI:DIR-IMM:{key}:{fingerprint}",
            f"URI:dir:{key}:{fingerprint}",
            f"URI:DIR: {key}:{fingerprint}",
        ):
            with self.subTest(text):
                error = self.assertRaises(BadCapError, parse_cap, text)
                self.assertNotIn(key, str(error))

    @given(directory_caps, st.data())
    def test_cut_or_changed_caps_never_raise_anything_else(self, cap, data):
        text = cap.to_string()
        position = data.draw(st.integers(0, len(text) - 1))
        changed = text[:position] + data.draw(st.text(max_size=2)) + text[position + 1 :]
        try:
            parsed = parse_cap(changed)
        except BadCapError:
            return
        self.assertEqual(parsed.to_string(), changed.strip())

    def test_constructors_check_too(self):
        for made, arguments in (
            (DirCap, (bytes(15), bytes(32))),
            (DirCap, (bytes(16), bytes(31))),
            (DirReadCap, (bytes(17), bytes(32))),
            (DirReadCap, (bytes(16), bytes(33))),
            (DirVerifierCap, (bytes(16),)),
        ):
            self.assertRaises(BadCapError, made, *arguments)


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
        longest = "URI:LIT:" + b2a(bytes(MAX_INLINE_SIZE))
        self.assertEqual(len(longest), MAX_CAP_CHARACTERS)
        self.assertEqual(parse_cap(longest), LitCap(bytes(1024)))
        self.assertEqual(parse_cap(longest).to_string(), longest)
        self.assertIn("too long", self.refused("URI:LIT:" + b2a(bytes(1025))))
        self.assertIn("too long", self.refused(longest + "a" * 10_000))

    def test_only_a_lit_may_be_as_long(self):
        for start in ("URI:CHK:", "URI:DIR:", "URI:DIR-RO:", "", "URI:lit:"):
            self.assertIn("too long", self.refused(start + "a" * (301 - len(start))), start)

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
        self.assertRaises(BadCapError, LitCap, bytes(1025))
