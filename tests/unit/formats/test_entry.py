"""Sealed entries: nobody reads, moves or changes them without the keys, and a read cap reads."""

import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import ChkCap, DirCap, LitCap
from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.errors import (
    BadArgumentValueError,
    BadCapError,
    BadNameError,
    FormatError,
    IntegrityError,
)
from ampgrid.formats.entry import (
    MAX_ENTRY_BYTES,
    MAX_METADATA_BYTES,
    Entry,
    open_entry,
    pack_metadata,
    seal,
)

KEYS = WriteKeys(b"w" * 16)
OTHERS = WriteKeys(b"o" * 16)
INDEX = KEYS.fingerprint
READ = KEYS.read
CHILD = DirCap.create(lambda n: b"c" * n)
STRANGER = DirCap.create(lambda n: b"s" * n)
FILE = ChkCap(b"k" * 16, b"h" * 32, 3, 10, 12345)
DOMAIN = b"ampgrid directory entry 1"

DIRECTORY = Entry(
    "photos", CHILD.get_readonly().to_string(), CHILD.to_string(), {"created": 1.5, "n": 3}
)


def nonces():
    """Return an entropy that never repeats."""
    numbers = iter(range(10**6))
    return lambda n: next(numbers).to_bytes(n, "big")


def sealed_by_hand(slot, *, name, read, metadata=b"{}", write=b"", lengths=None, tail=b""):
    """Seal whatever somebody with the keys may put into an entry."""
    parts = (name, read, metadata)
    lengths = lengths or [len(part) for part in parts]
    plain = b"".join(
        struct.pack(">H", length) + part for length, part in zip(lengths, parts, strict=True)
    )
    bound = DOMAIN + INDEX + slot
    nonce = b"n" * 12
    read_part = nonce + READ.read_cipher.encrypt(nonce, plain + tail, bound + b"read")
    write_part = b""
    if write:
        write_part = nonce + KEYS.write_cipher.encrypt(nonce, write, bound + b"write")
    return struct.pack(">BH", 1, len(read_part)) + read_part + write_part


def opened_by_hand(name=b"photos", read=None, keys=None, **more):
    slot = READ.slot_of(name.decode("utf-8", "replace"))
    read = CHILD.get_readonly().to_string().encode() if read is None else read
    return open_entry(sealed_by_hand(slot, name=name, read=read, **more), slot, READ, INDEX, keys)


values = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)
metadata = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10), values, max_size=6
)
names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/."),
    min_size=1,
    max_size=60,
)
files = st.sampled_from([FILE, FILE.get_verify_cap(), LitCap(b""), LitCap(b"x" * 55)])


class RoundTripTest(SynchronousTestCase):
    @given(names, files, metadata)
    def test_files(self, name, cap, metadata):
        entry = Entry(name, cap.to_string(), "", metadata)
        sealed = seal(entry, READ, KEYS, INDEX)
        opened = open_entry(sealed, READ.slot_of(name), READ, INDEX, KEYS)
        self.assertEqual(READ.slot_of(opened.name), READ.slot_of(name))
        self.assertEqual((opened.read, opened.write, opened.suspect), (cap.to_string(), "", False))
        self.assertEqual(opened.metadata, metadata)
        for key, value in metadata.items():
            self.assertIs(type(opened.metadata[key]), type(value))

    def test_directories(self):
        sealed = seal(DIRECTORY, READ, KEYS, INDEX)
        slot = READ.slot_of("photos")
        self.assertEqual(open_entry(sealed, slot, READ, INDEX, KEYS), DIRECTORY)

    def test_who_can_only_read_gets_no_write_cap(self):
        sealed = seal(DIRECTORY, READ, KEYS, INDEX)
        opened = open_entry(sealed, READ.slot_of("photos"), READ, INDEX)
        self.assertEqual(opened, Entry("photos", DIRECTORY.read, "", DIRECTORY.metadata))

    def test_verify_caps_and_directories_to_read_only(self):
        for cap in (CHILD.get_verify_cap(), CHILD.get_readonly()):
            entry = Entry("x", cap.to_string())
            for keys in (KEYS, None):
                sealed = seal(entry, READ, keys, INDEX)
                self.assertEqual(open_entry(sealed, READ.slot_of("x"), READ, INDEX, KEYS), entry)

    def test_the_name_is_composed(self):
        sealed = seal(Entry("e\u0301", FILE.to_string()), READ, KEYS, INDEX)
        opened = open_entry(sealed, READ.slot_of("é"), READ, INDEX)
        self.assertEqual(opened.name, "é")

    def test_the_largest(self):
        text = "x" * (MAX_METADATA_BYTES - len('{"m":""}'))
        entry = Entry("\U0001f600" * 255, DIRECTORY.read, DIRECTORY.write, {"m": text})
        sealed = seal(entry, READ, KEYS, INDEX)
        self.assertLess(len(sealed), MAX_ENTRY_BYTES)
        self.assertEqual(open_entry(sealed, READ.slot_of(entry.name), READ, INDEX, KEYS), entry)

    def test_two_seals_have_nothing_in_common(self):
        entropy = nonces()
        one, two = (seal(DIRECTORY, READ, KEYS, INDEX, entropy) for _ in range(2))
        self.assertEqual(len(one), len(two))
        same = sum(a == b for a, b in zip(one[3:], two[3:], strict=True))
        self.assertLess(same, len(one) // 8)

    def test_nothing_secret_is_shown(self):
        shown = repr(Entry("secret", DIRECTORY.read, DIRECTORY.write, {"secret": 1}))
        self.assertEqual(shown, "Entry(suspect=False)")


class SealTest(SynchronousTestCase):
    def test_a_cap_that_can_write_never_gets_into_the_read_part(self):
        entry = Entry("x", CHILD.to_string())
        self.assertRaises(BadCapError, seal, entry, READ, KEYS, INDEX)

    def test_write_caps_that_do_not_belong_to_the_read_cap(self):
        for read, write in (
            (CHILD.get_readonly(), STRANGER),
            (CHILD.get_readonly(), CHILD.get_readonly()),
            (CHILD.get_readonly(), DirCap(CHILD.write_key, STRANGER.fingerprint)),
            (CHILD.get_readonly(), DirCap(STRANGER.write_key, CHILD.fingerprint)),
            (CHILD.get_verify_cap(), CHILD),
            (FILE, FILE),
            (FILE, CHILD),
        ):
            entry = Entry("x", read.to_string(), write.to_string())
            self.assertRaises(BadCapError, seal, entry, READ, KEYS, INDEX)
        self.assertRaises(BadCapError, seal, DIRECTORY, READ, None, INDEX)

    def test_no_cap_and_no_name(self):
        self.assertRaises(BadCapError, seal, Entry("x", "URI:nothing"), READ, KEYS, INDEX)
        self.assertRaises(BadCapError, seal, Entry("x", ""), READ, KEYS, INDEX)
        for name in ("", "..", "a/b", "\0"):
            entry = Entry(name, FILE.to_string())
            self.assertRaises(BadNameError, seal, entry, READ, KEYS, INDEX)

    def test_metadata_that_cannot_be(self):
        for bad in (
            {"a": None},
            {"a": [1]},
            {"a": {}},
            {"a": b"bytes"},
            {1: "a"},
            {"a": float("nan")},
            {"a": float("inf")},
            {"a": "\ud800"},
            {"\udfff": 1},
            {"a": "x" * MAX_METADATA_BYTES},
            {"a": 10**5000},
        ):
            self.assertRaises(BadArgumentValueError, pack_metadata, bad)

    def test_metadata_are_canonical(self):
        packed = pack_metadata({"b": True, "a": "é\n", "aa": 1.0, "": 10**20, "z": -1})
        self.assertEqual(
            packed, '{"":100000000000000000000,"a":"é\\n","aa":1.0,"b":true,"z":-1}'.encode()
        )
        self.assertEqual(pack_metadata({}), b"{}")


class HostileReplicaTest(SynchronousTestCase):
    """Who has no keys can change nothing without its being seen."""

    def setUp(self):
        self.sealed = seal(DIRECTORY, READ, KEYS, INDEX)
        self.slot = READ.slot_of("photos")

    def refused(self, sealed, slot=None, keys=KEYS, index=INDEX):
        slot = self.slot if slot is None else slot
        self.assertRaises(
            (FormatError, IntegrityError), open_entry, sealed, slot, keys.read, index, keys
        )

    def test_every_changed_bit_is_seen(self):
        for position in range(8 * len(self.sealed)):
            changed = bytearray(self.sealed)
            changed[position // 8] ^= 1 << position % 8
            self.refused(bytes(changed))

    def test_every_cut_and_every_tail_is_seen(self):
        (length,) = struct.unpack(">H", self.sealed[1:3])
        for end in range(len(self.sealed)):
            if end != 3 + length:
                self.refused(self.sealed[:end])
        for tail in (b"\0", bytes(28), bytes(29), bytes(9000)):
            self.refused(self.sealed + tail)

    def test_the_write_part_taken_off(self):
        """It opens as read-only; that it was taken off shows at the root, which is signed."""
        (length,) = struct.unpack(">H", self.sealed[1:3])
        opened = open_entry(self.sealed[: 3 + length], self.slot, READ, INDEX, KEYS)
        self.assertEqual((opened.read, opened.write), (DIRECTORY.read, ""))

    def test_another_slot_directory_or_key(self):
        self.refused(self.sealed, slot=READ.slot_of("photo"))
        self.refused(self.sealed, index=OTHERS.fingerprint)
        self.refused(self.sealed, keys=OTHERS)

    def test_parts_exchanged(self):
        """Both parts under one key would open; being read or written is bound to them."""
        (length,) = struct.unpack(">H", self.sealed[1:3])
        read, write = self.sealed[3 : 3 + length], self.sealed[3 + length :]
        self.refused(struct.pack(">BH", 1, len(write)) + write + read)
        self.refused(struct.pack(">BH", 1, len(read)) + read + read)
        other = seal(Entry("photo", STRANGER.get_readonly().to_string(), STRANGER.to_string()),
                     READ, KEYS, INDEX)  # fmt: skip
        self.refused(struct.pack(">BH", 1, len(read)) + read + other[-len(write) :])

    @given(st.binary(max_size=200))
    def test_arbitrary_bytes(self, data):
        self.refused(data)
        self.refused(b"\1" + data)


class HostileWriterTest(SynchronousTestCase):
    """Who has the keys may put nonsense into an entry; it never gives more than it may."""

    def test_made_by_hand_it_opens(self):
        opened = opened_by_hand(write=CHILD.to_string().encode(), keys=KEYS)
        self.assertEqual(opened, Entry("photos", DIRECTORY.read, DIRECTORY.write))

    def test_a_write_cap_in_the_read_part_gives_the_read_cap(self):
        for keys in (None, KEYS):
            opened = opened_by_hand(read=CHILD.to_string().encode(), keys=keys)
            self.assertEqual((opened.read, opened.write), (DIRECTORY.read, ""))
            self.assertTrue(opened.suspect)
        both = CHILD.to_string().encode()
        opened = opened_by_hand(read=both, write=both, keys=KEYS)
        self.assertEqual((opened.read, opened.write), (DIRECTORY.read, DIRECTORY.write))
        self.assertTrue(opened.suspect)

    def test_a_write_cap_of_something_else_is_ignored(self):
        for write in (
            STRANGER,
            CHILD.get_readonly(),
            FILE,
            DirCap(CHILD.write_key, STRANGER.fingerprint),
            DirCap(STRANGER.write_key, CHILD.fingerprint),
        ):
            opened = opened_by_hand(write=write.to_string().encode(), keys=KEYS)
            self.assertEqual((opened.read, opened.write), (DIRECTORY.read, ""))
            self.assertTrue(opened.suspect)
            self.assertFalse(opened_by_hand(write=write.to_string().encode()).suspect)

    def test_malformed(self):
        good = CHILD.get_readonly().to_string().encode()
        for case in (
            {"name": b""},
            {"name": b".."},
            {"name": b"a/b"},
            {"name": b"a\0"},
            {"name": "e\u0301".encode()},
            {"name": b"a" * 256},
            {"read": b""},
            {"read": b"URI:FUTURE:aaaa"},
            {"read": b" " + good},
            {"read": good + b"\n"},
            {"read": "URI:LIT:é".encode()},
            {"read": DirCap(CHILD.write_key, STRANGER.fingerprint).to_string().encode()},
            {"write": b"URI:FUTURE:aaaa", "keys": KEYS},
            {"write": CHILD.to_string().encode() + b" ", "keys": KEYS},
            {"lengths": [7, len(good), 2]},
            {"lengths": [6, len(good), 3]},
            {"lengths": [6, len(good), 1]},
            {"lengths": [65535, 0, 0]},
            {"tail": b"\0"},
            {"tail": b"{}"},
        ):
            with self.subTest(case):
                self.assertRaises(FormatError, opened_by_hand, **case)
        self.assertRaises((FormatError, IntegrityError), opened_by_hand, name=b"\xff")

    def test_malformed_metadata(self):
        for text in (
            b"", b"[]", b"null", b"1", b'"a"', b"{", b"{ }", b'{"a": 1}', b'{"b":1,"a":2}',
            b'{"a":1,"a":1}', b'{"a":null}', b'{"a":[]}', b'{"a":{}}', b'{"a":NaN}',
            b'{"a":Infinity}', b'{"a":1e999}', b'{"a":1E5}', b'{"a":-0}', b'{"a":01}',
            b'{"a":"\\ud800"}', b'{"a":"\\u0061"}', b'{"a":"\xff"}', b"\xff\xfe{\0}\0",
            b"[" * 4000, b'{"a":' * 800, b'{"a":' + b"1" * 4080 + b"0" * 400 + b"}",
            b'{"a":"' + b"x" * MAX_METADATA_BYTES + b'"}',
        ):  # fmt: skip
            with self.subTest(text[:20]):
                self.assertRaises(FormatError, opened_by_hand, metadata=text)

    @given(metadata)
    def test_metadata_have_one_spelling(self, metadata):
        packed = pack_metadata(metadata)
        self.assertEqual(opened_by_hand(metadata=packed).metadata, metadata)
        for other in (b" " + packed, packed + b"\n", packed.replace(b"{", b"{ ", 1)):
            self.assertRaises(FormatError, opened_by_hand, metadata=other)

    def test_at_the_slot_of_another_name(self):
        slot = READ.slot_of("other")
        sealed = sealed_by_hand(slot, name=b"photos", read=DIRECTORY.read.encode())
        self.assertRaises(IntegrityError, open_entry, sealed, slot, READ, INDEX)

    @given(st.binary(max_size=100))
    def test_arbitrary_insides(self, plain):
        slot = READ.slot_of("x")
        part = b"n" * 12 + READ.read_cipher.encrypt(
            b"n" * 12, plain, DOMAIN + INDEX + slot + b"read"
        )
        sealed = struct.pack(">BH", 1, len(part)) + part
        self.assertRaises((FormatError, IntegrityError), open_entry, sealed, slot, READ, INDEX)
