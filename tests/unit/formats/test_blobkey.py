"""Key files of local stores of blobs."""

from __future__ import annotations

import struct

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.sealed import Cost
from ampgrid.errors import BadArgumentValueError, FormatError
from ampgrid.formats.blobkey import KeyFile, key_of, new_slot

CHEAP = Cost(passes=1, memory_kib=64, lanes=1)
KEY = bytes(range(32))


def salts(count):
    return bytes(range(count))


class KeyFileTests(SynchronousTestCase):
    def test_a_key_is_taken_as_it_is(self):
        slot, key = new_slot(KEY, salts)
        self.assertEqual(key, KEY)
        self.assertEqual(key_of(slot, KEY), KEY)
        for other in (KEY[::-1], bytes(32), "passphrase"):
            self.assertIsNone(key_of(slot, other))
        self.assertNotIn(KEY, KeyFile(4, (slot,)).pack())

    def test_a_passphrase_is_stretched(self):
        slot, key = new_slot("caf\u00e9", salts, CHEAP)
        self.assertEqual(len(key), 32)
        self.assertEqual(key_of(slot, "cafe\u0301"), key)
        for other in ("cafe", "caf\u00e9 ", key):
            self.assertIsNone(key_of(slot, other))
        self.assertNotEqual(new_slot("caf\u00e9", bytes, CHEAP)[1], key)
        self.assertNotEqual(new_slot("caf\u00e9", salts, Cost(2, 64, 1))[1], key)

    def test_what_is_none_is_refused(self):
        for opener in (b"", b"k" * 31, b"k" * 33, "", "x" * 2000):
            self.assertRaises(BadArgumentValueError, new_slot, opener, salts, CHEAP)
        with self.assertRaises(BadArgumentValueError):
            new_slot("x", salts, Cost(1, 2**30, 1))

    def test_it_reads_back(self):
        slots = (new_slot("pass", salts, CHEAP)[0], new_slot(KEY, salts)[0])
        for file in (KeyFile(3, slots[:1]), KeyFile(4, slots[1:]), KeyFile(4, slots)):
            self.assertEqual(KeyFile.unpack(file.pack()), file)

    def test_what_is_malformed_is_refused(self):
        packed = KeyFile(4, (new_slot("pass", salts, CHEAP)[0],)).pack()
        for size in range(len(packed)):
            self.assertRaises(FormatError, KeyFile.unpack, packed[:size])
        self.assertRaises(FormatError, KeyFile.unpack, packed + b"x")
        for at in range(10):
            for value in range(256):
                changed = packed[:at] + bytes([value]) + packed[at + 1 :]
                if changed != packed and (at, value) != (8, 3):
                    self.assertRaises(FormatError, KeyFile.unpack, changed)

    def test_a_file_cannot_ask_for_more_than_can_be_paid(self):
        packed = KeyFile(4, (new_slot("pass", salts, CHEAP)[0],)).pack()
        for at, what in ((11, "B"), (12, ">L"), (16, ">L")):
            size = struct.calcsize(what)
            for value in (0, 2 ** (8 * size) - 1, 2 ** (8 * size - 1)):
                changed = packed[:at] + struct.pack(what, value) + packed[at + size :]
                self.assertRaises(FormatError, KeyFile.unpack, changed)
        self.assertRaises(FormatError, KeyFile.unpack, packed[:10] + b"\2" + packed[11:])
        # A key as it is, with a cost.
        self.assertRaises(FormatError, KeyFile.unpack, packed[:10] + b"\0" + packed[11:])
