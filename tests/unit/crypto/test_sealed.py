"""Sealing: a frozen vector read by a second decoder, and one error for whatever does not open."""

from __future__ import annotations

import struct

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.sealed import (
    DEFAULT_COST,
    HEADER_SIZE,
    MAX_PASSPHRASE_BYTES,
    OVERHEAD,
    Cost,
    open_sealed,
    seal,
)
from ampgrid.errors import BadArgumentValueError, IntegrityError

CHEAP = Cost(passes=1, memory_kib=64, lanes=2)

#: seal(b"hello", "pass", b"x") with CHEAP and the salt 00 01 02 ... 0f.
VECTOR = bytes.fromhex(
    "414d505345414c31" "01" "02" "00000001" "00000040"
    "000102030405060708090a0b0c0d0e0f" "0000000000000005"
    "039702d9ae088ff8fd88006b42fae5cc788412c5aee4f5fb432b772c74cd8a08"
    "1cb0408341a376979a53e6a2d7ea129143c70e5a97"
)  # fmt: skip


def second_decoder(sealed: bytes, passphrase: bytes, purpose: bytes) -> bytes:
    """Read the layout of `docs/specs/recovery.md` with nothing of ampgrid's."""
    assert sealed[:9] == b"AMPSEAL1\x01"
    lanes, passes, memory, length = sealed[9], *struct.unpack(">LL16xQ", sealed[10:42])
    stretched = Argon2id(
        salt=sealed[18:34], length=32, iterations=passes, lanes=lanes, memory_cost=memory
    ).derive(passphrase)

    def mac(key: bytes, data: bytes) -> bytes:
        context = hmac.HMAC(key, hashes.SHA256())
        context.update(data)
        return context.finalize()

    # HKDF of RFC 5869, by hand: extract without a salt, expand twice.
    secret = mac(bytes(32), stretched)
    info = b"ampgrid sealed 1: " + purpose
    key = mac(secret, info + b"\x01")
    assert mac(secret, key + info + b"\x02") == sealed[42:74]
    mode = modes.GCM(bytes(12), sealed[-16:])
    context = Cipher(algorithms.AES(key), mode).decryptor()
    context.authenticate_additional_data(sealed[:74])
    data = context.update(sealed[74:-16]) + context.finalize()
    assert len(data) == length
    return data


class SealedTests(SynchronousTestCase):
    def refused(self, sealed: bytes, passphrase: str = "pass", purpose: bytes = b"x") -> str:
        error = self.assertRaises(IntegrityError, open_sealed, sealed, passphrase, purpose)
        self.assertTrue(error.__suppress_context__ or error.__context__ is None)
        return str(error)

    def test_the_vector(self) -> None:
        made = seal(b"hello", "pass", b"x", entropy=lambda n: bytes(range(n)), cost=CHEAP)
        self.assertEqual(made, VECTOR)
        self.assertEqual(open_sealed(VECTOR, "pass", b"x"), b"hello")
        self.assertEqual(second_decoder(VECTOR, b"pass", b"x"), b"hello")

    def test_what_it_costs_by_default(self) -> None:
        self.assertEqual(DEFAULT_COST, Cost(passes=3, memory_kib=65_536, lanes=4))
        made = seal(b"data", "a passphrase", b"x")
        self.assertEqual(struct.unpack(">BLL", made[9:18]), (4, 3, 65_536))
        self.assertEqual(open_sealed(made, "a passphrase", b"x"), b"data")
        self.assertEqual(second_decoder(made, b"a passphrase", b"x"), b"data")

    @settings(max_examples=30, deadline=None)
    @given(st.binary(max_size=300), st.text(min_size=1, max_size=40).filter(str.isprintable))
    def test_all_comes_back(self, data: bytes, passphrase: str) -> None:
        made = seal(data, passphrase, b"x", cost=CHEAP)
        self.assertEqual(len(made), len(data) + OVERHEAD)
        self.assertEqual(open_sealed(made, passphrase, b"x"), data)

    def test_nothing_is_alike(self) -> None:
        one, two = (seal(bytes(100), "pass", b"x", cost=CHEAP) for _ in range(2))
        self.assertNotEqual(one[HEADER_SIZE:], two[HEADER_SIZE:])

    def test_every_byte_counts_and_every_failure_is_alike(self) -> None:
        told = {self.refused(VECTOR, "Pass"), self.refused(VECTOR, purpose=b"y")}
        told |= {self.refused(VECTOR, ""), self.refused(VECTOR, "x" * 2000)}
        told |= {self.refused(VECTOR, "\ud800")}
        for position in range(len(VECTOR)):
            for flip in (1, 0x80):
                changed = bytearray(VECTOR)
                changed[position] ^= flip
                told.add(self.refused(bytes(changed)))
        for length in range(len(VECTOR)):
            told.add(self.refused(VECTOR[:length]))
        told.add(self.refused(VECTOR + b"x"))
        self.assertEqual(len(told), 1, told)

    def test_the_cost_is_bounded_when_read(self) -> None:
        for lanes, passes, memory in [
            (0, 1, 64),
            (17, 1, 1024),
            (1, 0, 64),
            (1, 17, 64),
            (1, 2**32 - 1, 64),
            (2, 1, 15),
            (1, 1, 2 * 1024 * 1024 + 1),
            (1, 1, 2**32 - 1),
        ]:
            head = VECTOR[:9] + struct.pack(">BLL", lanes, passes, memory) + VECTOR[18:]
            self.refused(head)
            cost = Cost(passes, memory, lanes)
            self.assertRaises(BadArgumentValueError, seal, b"", "pass", b"x", cost=cost)

    def test_one_key_opens_one_plaintext(self) -> None:
        """The commitment is checked before the tag, so no second key gets as far as the tag."""
        other = seal(b"hello", "word", b"x", entropy=lambda n: bytes(range(n)), cost=CHEAP)
        mixed = VECTOR[:42] + other[42:74] + VECTOR[74:]
        self.refused(mixed)
        self.refused(mixed, "word")

    def test_one_passphrase_in_two_spellings(self) -> None:
        made = seal(b"data", "caf\u00e9", b"x", cost=CHEAP)
        self.assertEqual(open_sealed(made, "cafe\u0301", b"x"), b"data")

    def test_passphrases_that_are_none(self) -> None:
        for passphrase in ["", "x" * (MAX_PASSPHRASE_BYTES + 1), "\ud800"]:
            self.assertRaises(BadArgumentValueError, seal, b"", passphrase, b"x", cost=CHEAP)
