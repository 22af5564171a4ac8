"""Signed announcements."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.identity import Identity
from ampgrid.errors import BadArgumentValueError, FormatError, IntegrityError
from ampgrid.formats.announcement import MAX_ANNOUNCEMENT_BYTES, sign, unpack

NODE = Identity.create(lambda n: b"\x07" * n)
WHOLE = sign(
    NODE,
    sequence=9,
    nickname="Anna's garage ☂",
    services=["storage", "introducer"],
    software="ampgrid/0.1",
    version=1,
    addresses=["grid.example:7070", "[2001:db8::1]:7070"],
)


def resigned(body):
    """Sign a body as an announcement, whatever it is."""
    return body + NODE.sign(b"announcement", body)


class AnnouncementTest(SynchronousTestCase):
    def test_read_back(self):
        made = unpack(WHOLE)
        self.assertEqual(made.spki, NODE.spki)
        self.assertEqual(made.node_id, NODE.node_id)
        self.assertEqual(made.sequence, 9)
        self.assertEqual(made.nickname, "Anna's garage ☂")
        self.assertEqual(made.services, ("storage", "introducer"))
        self.assertEqual(made.software, "ampgrid/0.1")
        self.assertEqual(made.version, 1)
        self.assertEqual(made.addresses, ("grid.example:7070", "[2001:db8::1]:7070"))

    @given(
        st.integers(0, 2**63 - 1),
        st.text("abc äß☂", max_size=30),
        st.lists(st.from_regex(r"\A[a-z][a-z0-9-]{0,31}\Z"), max_size=5, unique=True),
        st.integers(1, 65535),
        st.lists(st.integers(1, 65535).map("host.example:{}".format), max_size=10, unique=True),
    )
    def test_round_trip(self, sequence, nickname, services, version, addresses):
        packed = sign(
            NODE,
            sequence=sequence,
            nickname=nickname,
            services=services,
            version=version,
            addresses=addresses,
        )
        self.assertLessEqual(len(packed), MAX_ANNOUNCEMENT_BYTES)
        made = unpack(packed)
        self.assertEqual(
            (made.sequence, made.nickname, made.services, made.version, made.addresses),
            (sequence, nickname, tuple(services), version, tuple(addresses)),
        )

    def test_every_flipped_bit_and_every_cut_is_seen(self):
        for position in range(len(WHOLE)):
            changed = bytearray(WHOLE)
            changed[position] ^= 1 << position % 8
            self.assertRaises((FormatError, IntegrityError), unpack, bytes(changed))
            self.assertRaises((FormatError, IntegrityError), unpack, WHOLE[:position])
        self.assertRaises((FormatError, IntegrityError), unpack, WHOLE + b"\0")

    @given(st.binary(max_size=900))
    def test_arbitrary_bytes(self, data):
        self.assertRaises((FormatError, IntegrityError), unpack, data)

    @given(st.binary(max_size=200))
    def test_arbitrary_signed_bodies(self, rest):
        """A member may sign nonsense; what is accepted is within all bounds."""
        try:
            made = unpack(resigned(WHOLE[:58] + rest))
        except FormatError:
            return
        self.assertLessEqual(len(made.addresses), 16)
        self.assertLessEqual(len(made.nickname.encode()), 100)

    def test_fields_of_later_versions_are_left_alone(self):
        self.assertEqual(unpack(resigned(WHOLE[:-64] + b"more")), unpack(WHOLE))

    def test_signature_is_for_announcements_alone(self):
        body = WHOLE[:-64]
        self.assertRaises(IntegrityError, unpack, body + NODE.sign(b"record", body))

    def test_unacceptable_arguments(self):
        for arguments in (
            {"nickname": "a" * 101},
            {"nickname": "\x1b[2J"},
            {"nickname": "two\nlines"},
            {"nickname": "\u202egnp.exe"},
            {"nickname": "\ud800"},
            {"software": "x" * 65},
            {"services": ["storage", "storage"]},
            {"services": ["Storage"]},
            {"services": [""]},
            {"services": [f"s{i}" for i in range(17)]},
            {"addresses": ["nowhere"]},
            {"addresses": ["h:1", "h:1"]},
            {"addresses": [f"h:{i}" for i in range(1, 18)]},
            {"addresses": [f"{'a' * 60}.example:{i}" for i in range(1, 12)]},
            {"sequence": -1},
            {"sequence": 2**63},
            {"version": 0},
            {"version": 65536},
        ):
            with self.subTest(arguments):
                self.assertRaises(
                    BadArgumentValueError, sign, NODE, **{"sequence": 1, **arguments}
                )

    def test_signed_but_out_of_bounds(self):
        head = WHOLE[:58]
        for rest in (
            b"",
            b"\x65" + b"a" * 101 + b"\0\0\0",
            b"\x01\x1b\0\0\0",
            b"\x01\xff\0\0\0",
            b"\0\0\x11" + b"".join(b"\x02a" + bytes([97 + i]) for i in range(17)) + b"\0",
            b"\0\0\x02\x01a\x01a\0",
            b"\0\0\0\x01\x03h:0",
            b"\0\0\0\x02\x03h:1",
        ):
            with self.subTest(rest):
                self.assertRaises(FormatError, unpack, resigned(head + rest))
