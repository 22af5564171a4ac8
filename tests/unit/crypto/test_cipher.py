"""AES-128-CTR at any offset."""

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.cipher import decrypt_at, encrypt_at

KEY = bytes(range(16))
KEYSTREAM = encrypt_at(KEY, 0, bytes(5000))


class CipherTest(SynchronousTestCase):
    def test_known_answer(self):
        """FIPS 197 appendix C.1 gives AES of a block; the counter 0 block is its own case."""
        counter = int("00112233445566778899aabbccddeeff", 16)
        got = encrypt_at(KEY, counter * 16, bytes(16))
        self.assertEqual(got.hex(), "69c4e0d86a7b0430d8cdb78070b4c55a")

    @given(st.integers(0, 4000), st.binary(max_size=900))
    def test_any_offset_equals_the_same_part_of_one_shot(self, offset, data):
        expected = bytes(a ^ b for a, b in zip(data, KEYSTREAM[offset:], strict=False))
        self.assertEqual(encrypt_at(KEY, offset, memoryview(data)), expected)
        self.assertEqual(decrypt_at(KEY, offset, expected), data)

    def test_far_offsets(self):
        """Above 4 GiB and above 64 GiB the counter goes on."""
        for offset in (2**32 - 7, 2**36 - 1, 2**60 + 5):
            whole = encrypt_at(KEY, offset, bytes(64))
            for cut in range(64):
                parts = encrypt_at(KEY, offset, bytes(cut)) + encrypt_at(
                    KEY, offset + cut, bytes(64 - cut)
                )
                self.assertEqual(parts, whole)

    def test_threads_do_not_disturb_each_other(self):
        with ThreadPoolExecutor(4) as pool:
            parts = pool.map(lambda i: encrypt_at(KEY, i, bytes(100)), range(200))
            self.assertEqual(list(parts), [KEYSTREAM[i : i + 100] for i in range(200)])

    def test_key_of_another_length_is_refused(self):
        for length in (0, 15, 24, 32):
            self.assertRaises(ValueError, encrypt_at, bytes(length), 0, b"x")
