"""Pointers to snapshots."""

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import ChkCap, DirCap, LitCap
from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.errors import FormatError, IntegrityError
from ampgrid.formats.pointer import MAX_POINTER_BYTES, Pointer

KEYS = WriteKeys(b"w" * 16)
OTHERS = WriteKeys(b"o" * 16)
CAP = ChkCap(b"k" * 16, b"h" * 32, 3, 10, 12345)
POINTER = Pointer.make(KEYS, epoch=2, version=9, cap=CAP, entropy=lambda n: b"n" * n)


class PointerTest(SynchronousTestCase):
    @given(st.integers(0, 2**32 - 1), st.integers(1, 2**64 - 1))
    def test_read_back(self, epoch, version):
        pointer = Pointer.make(KEYS, epoch=epoch, version=version, cap=CAP)
        packed = pointer.pack()
        self.assertLessEqual(len(packed), MAX_POINTER_BYTES)
        again = Pointer.unpack(packed)
        self.assertEqual(again, pointer)
        self.assertEqual(again.order, (epoch, version))
        again.check(KEYS.fingerprint)
        self.assertEqual(again.open(KEYS.read), CAP)

    def test_small_files_too(self):
        pointer = Pointer.make(KEYS, epoch=0, version=1, cap=LitCap(b""))
        self.assertEqual(Pointer.unpack(pointer.pack()).open(KEYS.read), LitCap(b""))

    def test_later_by_epoch_then_by_version(self):
        orders = [
            Pointer.make(KEYS, epoch=epoch, version=version, cap=CAP).order
            for epoch, version in ((0, 9), (1, 1), (1, 2), (2, 1))
        ]
        self.assertEqual(orders, sorted(orders))

    def test_every_changed_bit_is_seen(self):
        packed = POINTER.pack()
        for position in range(8 * len(packed)):
            changed = bytearray(packed)
            changed[position // 8] ^= 1 << position % 8
            self.assertRaises(
                (FormatError, IntegrityError),
                lambda data: Pointer.unpack(data).check(KEYS.fingerprint),
                bytes(changed),
            )

    def test_every_other_length_is_refused(self):
        packed = POINTER.pack()
        for length in range(len(packed)):
            self.assertRaises(FormatError, Pointer.unpack, packed[:length])
        for tail in (b"\0", bytes(2000)):
            self.assertRaises(FormatError, Pointer.unpack, packed + tail)

    def test_another_directory(self):
        self.assertRaises(IntegrityError, POINTER.check, OTHERS.fingerprint)
        theirs = Pointer.make(OTHERS, epoch=2, version=9, cap=CAP)
        for forged in (
            evolve(POINTER, signature=theirs.signature),
            evolve(theirs, index=KEYS.fingerprint),
            evolve(theirs, verifying_key=KEYS.verifying_key, index=KEYS.fingerprint),
        ):
            self.assertRaises(IntegrityError, forged.check, KEYS.fingerprint)

    def test_only_readers_open_it_where_it_belongs(self):
        self.assertRaises(IntegrityError, POINTER.open, OTHERS.read)
        for moved in (
            evolve(POINTER, index=OTHERS.fingerprint),
            evolve(POINTER, epoch=3),
            evolve(POINTER, version=10),
            evolve(POINTER, sealed=POINTER.sealed[:-1] + b"\0"),
        ):
            self.assertRaises(IntegrityError, moved.open, KEYS.read)

    def test_what_is_no_cap_of_a_file(self):
        directory = DirCap.create()
        for text in (directory.to_string().encode(), b"nothing", "é".encode()):
            bound = b"ampgrid directory pointer 1" + KEYS.fingerprint + bytes([0, 0, 0, 2])
            bound += (9).to_bytes(8, "big")
            sealed = bytes(12) + KEYS.read.pointer_cipher.encrypt(bytes(12), text, bound)
            self.assertRaises(FormatError, evolve(POINTER, sealed=sealed).open, KEYS.read)

    def test_bounds(self):
        for changes in (
            {"index": bytes(31)},
            {"verifying_key": bytes(33)},
            {"epoch": -1},
            {"epoch": 2**32},
            {"version": 0},
            {"version": 2**64},
            {"sealed": bytes(28)},
            {"sealed": bytes(601)},
            {"signature": bytes(65)},
        ):
            self.assertRaises(FormatError, evolve, POINTER, **changes)

    def test_shown_in_short(self):
        self.assertEqual(
            repr(POINTER), f"Pointer(index={KEYS.fingerprint.hex()[:8]}, epoch=2, version=9)"
        )
