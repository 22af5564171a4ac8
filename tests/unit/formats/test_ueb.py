"""The URI extension block."""

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import FormatError, IntegrityError
from ampgrid.formats.segments import MAX_SEGMENT_SIZE, MAX_SEGMENTS, segment_size_for
from ampgrid.formats.ueb import MAX_UEB_BYTES, UriExtension, ueb_size

hashes = st.binary(min_size=32, max_size=32)


def make(size=300, needed=3, total=5, most=131072, hashes=(b"a" * 32, b"b" * 32, b"c" * 32)):
    return UriExtension.derive(
        size=size,
        needed=needed,
        total=total,
        segment_size=segment_size_for(size, needed, most),
        crypttext_hash=hashes[0],
        crypttext_root_hash=hashes[1],
        share_root_hash=hashes[2],
    )


GOOD = make()
PACKED = GOOD.pack()


class UriExtensionTest(SynchronousTestCase):
    @given(
        st.integers(1, 2**60),
        st.tuples(st.integers(1, 256), st.integers(1, 256)).map(sorted),
        st.integers(1, MAX_SEGMENT_SIZE),
        st.tuples(hashes, hashes, hashes),
    )
    def test_round_trip_and_length_known_beforehand(self, size, code, most, values):
        needed, total = code
        block = make(size, needed, total, most, values)
        packed = block.pack()
        self.assertEqual(UriExtension.unpack(packed), block)
        if block.num_segments <= MAX_SEGMENTS:
            block.check(needed, total, size)
        else:
            self.assertRaises(FormatError, block.check, needed, total, size)
        length = ueb_size(size=size, needed=needed, total=total, segment_size=block.segment_size)
        self.assertEqual(length, len(packed))

    def test_spelling(self):
        """As Tahoe writes it: keys in order, netstrings, decimal numbers."""
        expected = (
            b"codec_name:3:crs,codec_params:7:300-3-5,crypttext_hash:32:" + b"a" * 32 + b","
            b"crypttext_root_hash:32:" + b"b" * 32 + b",needed_shares:1:3,num_segments:1:1,"
            b"segment_size:3:300,share_root_hash:32:" + b"c" * 32 + b",size:3:300,"
            b"tail_codec_params:7:300-3-5,total_shares:1:5,"
        )
        self.assertEqual(PACKED, expected)

    def test_older_fields_are_passed_over(self):
        older = b"plaintext_hash:32:" + b"p" * 32 + b",plaintext_root_hash:32:" + b"q" * 32 + b","
        self.assertEqual(UriExtension.unpack(PACKED + older), GOOD)
        self.assertEqual(UriExtension.unpack(older + PACKED), GOOD)

    @given(st.binary(max_size=400))
    def test_arbitrary_bytes(self, data):
        self.assertRaises(FormatError, UriExtension.unpack, data)

    @given(st.integers(0, len(PACKED) - 1), st.binary(max_size=3))
    def test_changed_bytes_raise_nothing_else(self, position, put):
        try:
            block = UriExtension.unpack(PACKED[:position] + put + PACKED[position + 1 :])
            block.check(3, 5, 300)
        except (FormatError, IntegrityError):
            return
        self.assertEqual(attrs.evolve(block, **self.hashes_of(GOOD)), GOOD)

    def hashes_of(self, block):
        names = ("crypttext_hash", "crypttext_root_hash", "share_root_hash")
        return {name: getattr(block, name) for name in names}

    def test_every_cut_and_every_missing_field(self):
        for end in range(len(PACKED)):
            self.assertRaises(FormatError, UriExtension.unpack, PACKED[:end])
        for name in attrs.fields_dict(UriExtension):
            changed = PACKED.replace(name.encode() + b":", b"x" * len(name) + b":", 1)
            self.assertRaises(FormatError, UriExtension.unpack, changed)

    def test_malformed(self):
        for old, new in (
            (b"size:3:300,", b"size:4:0300,"),
            (b"size:3:300,", b"size:4:-300,"),
            (b"size:3:300,", b"size:4:+300,"),
            (b"size:3:300,", b"size:03:300,"),
            (b"size:3:300,", b"size:3:300;"),
            (b"size:3:300,", b"size:99999:300,"),
            (b"total_shares:1:5,", b"total_shares:1:5,total_shares:1:5,"),
            (b"total_shares:1:5,", b"total_shares:0:,"),
            (b"codec_name:3:crs", b"codec_name:3:c\xffs"),
            (b"share_root_hash:32:" + b"c" * 32, b"share_root_hash:31:" + b"c" * 31),
        ):
            self.assertIn(old, PACKED)
            self.assertRaises(FormatError, UriExtension.unpack, PACKED.replace(old, new))
        extra = b"x:%d:%b," % (MAX_UEB_BYTES - 400, bytes(MAX_UEB_BYTES - 400))
        self.assertEqual(UriExtension.unpack(PACKED + extra), GOOD)
        self.assertRaises(FormatError, UriExtension.unpack, PACKED + extra + extra)


class CheckTest(SynchronousTestCase):
    def test_against_the_cap(self):
        GOOD.check(3, 5, 300)
        for needed, total, size in ((2, 5, 300), (3, 6, 300), (3, 5, 301)):
            self.assertRaises(IntegrityError, GOOD.check, needed, total, size)

    def test_every_number_must_follow_from_the_others(self):
        for change in (
            {"codec_name": "rs"},
            {"codec_params": "300-3-6"},
            {"tail_codec_params": "303-3-5"},
            {"num_segments": 2},
            {"num_segments": 0},
            {"segment_size": 301},
            {"segment_size": 303},
            {"segment_size": 0},
            {"segment_size": 3 * MAX_SEGMENT_SIZE},
        ):
            with self.subTest(change):
                self.assertRaises(FormatError, attrs.evolve(GOOD, **change).check, 3, 5, 300)

    def test_consistent_but_out_of_bounds(self):
        for changes in (
            {"size": 2**61, "segment_size": 3},
            {"needed": 7, "total": 5, "segment_size": 301},
            {"total": 257, "segment_size": 300},
            {"size": 2**40, "segment_size": 3 * MAX_SEGMENT_SIZE},
        ):
            arguments = {"size": 300, "needed": 3, "total": 5, **changes}
            block = UriExtension.derive(**arguments)
            self.assertRaises(
                FormatError,
                block.check,
                arguments["needed"],
                arguments["total"],
                arguments["size"],
            )
