"""The content of a recovery file: everything comes back, and nothing malformed comes in."""

from __future__ import annotations

import struct

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import ChkVerifierCap
from ampgrid.errors import BadArgumentValueError, FormatError
from ampgrid.formats.recovery import MAX_SETTINGS_BYTES, KeptFile, Recovery

LEAST = Recovery(exported_at=1_700_000_000, node_key=b"PEM", settings="version = 1\n")


def kept(number: int = 1, happy: int = 2) -> KeptFile:
    cap = ChkVerifierCap(bytes([number]) * 16, bytes([number]) * 32, 3, 10, 1000 * number)
    return KeptFile(cap, happy, 1_700_000_000 + number)


FULL = Recovery(
    exported_at=1_700_000_000,
    node_key=b"PEM",
    settings='nickname = "\u00fc"\n',
    grid_secret=bytes(range(16)),
    convergence=bytes(range(32)),
    lease_secret=bytes(range(32, 64)),
    listen_port=7420,
    advice=(3, 7, 10),
    announcements=(b"one", b"x" * 800),
    kept=(kept(1), kept(2, 10)),
    private_root="URI:DIR:a",
    public_root="URI:DIR:b",
    aliases=b"",
    others={"blob-indexes": b"later", "roots": b""},
)

#: LEAST.pack(), frozen.
VECTOR = (
    b"AMPRECO1"
    b"\x0bexported-at\0\0\0\0\0\0\0\x08\0\0\0\0\x65\x53\xf1\0"
    b"\x08node-key\0\0\0\0\0\0\0\x03PEM"
    b"\x08settings\0\0\0\0\0\0\0\x0cversion = 1\n"
    b"\x0dannouncements\0\0\0\0\0\0\0\0"
    b"\x0akept-files\0\0\0\0\0\0\0\x02\0\x46"
)


def section(name: bytes, content: bytes) -> bytes:
    return bytes([len(name)]) + name + struct.pack(">Q", len(content)) + content


def without(data: bytes, name: bytes, content: bytes) -> bytes:
    """Return a packed recovery with one section replaced by nothing."""
    cut = data.replace(section(name, content), b"")
    assert cut != data
    return cut


class RecoveryTests(SynchronousTestCase):
    def refused(self, data: bytes) -> str:
        return str(self.assertRaises(FormatError, Recovery.unpack, data))

    def test_the_vector(self) -> None:
        self.assertEqual(LEAST.pack(), VECTOR)
        self.assertEqual(Recovery.unpack(VECTOR), LEAST)

    def test_all_comes_back(self) -> None:
        self.assertEqual(Recovery.unpack(FULL.pack()), FULL)

    def test_the_layout_of_a_kept_file(self) -> None:
        record = b"\1" * 48 + struct.pack(">HHHQQ", 3, 10, 2, 1000, 1_700_000_001)
        self.assertIn(
            section(b"kept-files", b"\0\x46" + record), evolve(LEAST, kept=(kept(),)).pack()
        )

    def test_sections_of_later_versions_are_kept(self) -> None:
        read = Recovery.unpack(LEAST.pack() + section(b"blob-indexes", b"\1\2\3"))
        self.assertEqual(dict(read.others), {"blob-indexes": b"\1\2\3"})
        self.assertEqual(Recovery.unpack(read.pack()), read)

    def test_longer_records_of_kept_files(self) -> None:
        one = b"\1" * 48 + struct.pack(">HHHQQ", 3, 10, 2, 1000, 1_700_000_001)
        longer = section(b"kept-files", struct.pack(">H", 72) + (one + b"??") * 2)
        data = without(LEAST.pack(), b"kept-files", b"\0\x46") + longer
        self.assertEqual(Recovery.unpack(data).kept, (kept(1), kept(1)))

    def test_the_order_does_not_matter(self) -> None:
        data = without(VECTOR, b"node-key", b"PEM") + section(b"node-key", b"PEM")
        self.assertEqual(Recovery.unpack(data), LEAST)

    def test_what_no_node_can_do_without(self) -> None:
        for name, content in [
            (b"node-key", b"PEM"),
            (b"settings", b"version = 1\n"),
            (b"exported-at", struct.pack(">Q", LEAST.exported_at)),
        ]:
            self.assertIn(name.decode(), self.refused(without(VECTOR, name, content)))

    def test_what_cannot_be_is_refused(self) -> None:
        for extra in [
            section(b"node-key", b"PEM"),
            section(b"grid-secret", bytes(15)),
            section(b"convergence", bytes(33)),
            section(b"listen-port", b"\0\0"),
            section(b"listen-port", b"\0"),
            section(b"advice", struct.pack(">HHH", 3, 11, 10)),
            section(b"advice", struct.pack(">HHH", 0, 1, 10)),
            section(b"Aliases", b""),
            section(b"../x", b""),
            section(b"", b""),
            b"\x07aliases" + b"\xff" * 8,
            b"\xff",
        ]:
            self.refused(VECTOR + extra)
        many = b"".join(section(b"x%d" % number, b"") for number in range(64))
        self.refused(VECTOR + many)
        head = without(VECTOR, b"announcements", b"")
        for content in [b"\0", b"\0\0", b"\0\2x", struct.pack(">H", 801) + bytes(801)]:
            self.refused(head + section(b"announcements", content))
        head = without(VECTOR, b"kept-files", b"\0\x46")
        good = struct.pack(">16s32sHHHQQ", bytes(16), bytes(32), 3, 10, 2, 1000, 5)
        self.assertEqual(
            len(Recovery.unpack(head + section(b"kept-files", b"\0\x46" + good)).kept), 1
        )
        for numbers in [(0, 10, 2), (3, 2, 2), (3, 257, 2), (3, 10, 0), (3, 10, 11)]:
            bad = good[:48] + struct.pack(">HHH", *numbers) + good[54:]
            self.refused(head + section(b"kept-files", b"\0\x46" + bad))
        for content in [b"\0", b"\0\x45" + good[:69], b"\0\x46" + good[1:], b"\0\0"]:
            self.refused(head + section(b"kept-files", content))

    def test_what_could_not_be_read_back_is_not_written(self) -> None:
        for changes in [
            {"settings": ""},
            {"settings": "x" * (MAX_SETTINGS_BYTES + 1)},
            {"grid_secret": b"short"},
            {"announcements": (b"",)},
            {"announcements": (bytes(70_000),)},
            {"kept": (kept(1, 11),)},
            {"kept": (KeptFile(kept().cap, 70_000, 1),)},
            {"others": {"node-key": b""}},
            {"others": {"No Name": b""}},
            {"listen_port": 0},
            {"advice": (3, 7, 70_000)},
            {"advice": (3, 7, 2)},
        ]:
            self.assertRaises(BadArgumentValueError, evolve(LEAST, **changes).pack)

    def test_no_secret_shows(self) -> None:
        self.assertNotIn("PEM", repr(FULL))
        self.assertNotIn(repr(FULL.grid_secret), repr(FULL))

    @settings(deadline=None)
    @given(st.data())
    def test_a_damaged_one_is_read_or_refused(self, data: st.DataObject) -> None:
        packed = bytearray(FULL.pack())
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(packed) - 1))
            packed[at] = data.draw(st.integers(0, 255))
        end = data.draw(st.integers(0, len(packed)))
        try:
            read = Recovery.unpack(bytes(packed[: end or None]))
        except FormatError:
            return
        self.assertEqual(Recovery.unpack(read.pack()), read)
