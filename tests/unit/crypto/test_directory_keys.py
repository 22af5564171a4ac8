"""The keys of directories: derived one way, signatures under domains, nothing shown."""

import hmac
import unicodedata
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto import identity
from ampgrid.crypto.directory_keys import ReadKeys, WriteKeys, check_signature, fingerprint_of
from ampgrid.errors import BadNameError, IntegrityError

KEYS = WriteKeys(bytes(range(16)))
SIGNATURE = KEYS.sign(b"a domain", b"message")


def tagged(what, value, length=32):
    """Derive as the specification says, without our own code."""
    tag = f"ampgrid_directory_{what}_v1".encode()
    netstring = str(len(tag)).encode() + b":" + tag + b","
    return sha256(sha256(netstring + value).digest()).digest()[:length]


class DerivationTest(SynchronousTestCase):
    @given(st.binary(min_size=16, max_size=16))
    def test_all_keys_are_those_of_the_specification(self, write_key):
        keys = WriteKeys(write_key)
        self.assertEqual(keys.fingerprint, tagged("index", keys.verifying_key))
        self.assertEqual(keys.fingerprint, fingerprint_of(keys.verifying_key))
        self.assertEqual(keys.write_slot_key, tagged("write_slot_key", write_key))
        self.assertEqual(keys.read.read_key, tagged("read_key", write_key, 16))
        read = ReadKeys(keys.read.read_key)
        self.assertEqual(read.read_slot_key, tagged("read_slot_key", read.read_key))
        self.assertEqual(read.name_key, tagged("name_key", read.read_key))
        signer = identity.Ed25519PrivateKey.from_private_bytes(tagged("signing_seed", write_key))
        self.assertEqual(signer.public_key().public_bytes_raw(), keys.verifying_key)

    def test_all_are_different_and_made_once(self):
        read = KEYS.read
        made = [KEYS.write_key, KEYS.verifying_key, KEYS.fingerprint, KEYS.write_slot_key]
        made += [read.read_key, read.read_slot_key, read.name_key]
        self.assertEqual(len({key[:16] for key in made}), len(made))
        self.assertIs(KEYS.read, read)
        self.assertIs(KEYS.write_cipher, KEYS.write_cipher)
        self.assertIs(read.read_cipher, read.read_cipher)

    def test_lengths(self):
        for length in (0, 15, 17, 32):
            self.assertRaises(ValueError, WriteKeys, bytes(length))
            self.assertRaises(ValueError, ReadKeys, bytes(length))

    def test_nothing_is_shown(self):
        self.assertEqual(repr(KEYS), "<WriteKeys>")
        self.assertEqual(repr(KEYS.read), "<ReadKeys>")


class SlotTest(SynchronousTestCase):
    @given(st.text())
    def test_a_slot_is_a_keyed_hash_of_the_composed_name(self, name):
        spelled = unicodedata.normalize("NFC", name).encode()
        slot = KEYS.read.slot_of(name)
        self.assertEqual(slot, hmac.new(KEYS.read.name_key, spelled, "sha256").digest())
        self.assertEqual(slot, KEYS.read.slot_of(unicodedata.normalize("NFD", name)))

    def test_no_text(self):
        self.assertRaises(BadNameError, KEYS.read.slot_of, "\ud800")


class SignatureTest(SynchronousTestCase):
    def test_good(self):
        check_signature(KEYS.verifying_key, b"a domain", b"message", SIGNATURE)

    def test_every_changed_bit_is_seen(self):
        for position in range(64 * 8):
            changed = bytearray(SIGNATURE)
            changed[position // 8] ^= 1 << position % 8
            self.assertRaises(
                IntegrityError,
                check_signature,
                KEYS.verifying_key,
                b"a domain",
                b"message",
                bytes(changed),
            )

    def test_another_domain_message_length_or_key(self):
        for key, domain, message, signature in (
            (KEYS.verifying_key, b"a domai", b"nmessage", SIGNATURE),
            (KEYS.verifying_key, b"b domain", b"message", SIGNATURE),
            (KEYS.verifying_key, b"a domain", b"messagf", SIGNATURE),
            (KEYS.verifying_key, b"a domain", b"message", SIGNATURE[:-1]),
            (KEYS.verifying_key, b"a domain", b"message", b""),
            (WriteKeys(bytes(16)).verifying_key, b"a domain", b"message", SIGNATURE),
        ):
            self.assertRaises(IntegrityError, check_signature, key, domain, message, signature)

    def test_keys_for_which_signatures_can_be_forged(self):
        """Of small order, in all spellings, and those not in their one spelling."""
        prime = identity._FIELD_PRIME
        points = [*identity._SMALL_ORDER_Y, prime, prime + 1, 2**255 - 1]
        for y in points:
            for sign in (0, 1 << 255):
                raw = (y | sign).to_bytes(32, "little")
                # R is the neutral element, S is 0: holds for many such keys.
                forged = (1).to_bytes(32, "little") + bytes(32)
                self.assertRaises(IntegrityError, check_signature, raw, b"a", b"m", forged)

    def test_keys_of_another_length(self):
        for raw in (b"", KEYS.verifying_key[:-1], KEYS.verifying_key + b"\0", bytes(31)):
            self.assertRaises(IntegrityError, check_signature, raw, b"a", b"m", SIGNATURE)
