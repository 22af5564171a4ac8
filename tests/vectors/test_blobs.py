"""Sealed blobs, bit for bit, against vectors that never change."""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.formats.blob import Preamble, parse_preamble, preamble_length
from ampgrid.formats.blobcipher import BlobCipher
from ampgrid.formats.blobname import BlobName
from ampgrid.formats.blobrows import Opener, Sealer
from tests.vectors import blobs


def seal(vector):
    """Seal the content of a vector with its salt."""
    secret, salt = bytes.fromhex(vector["secret"]), bytes.fromhex(vector["salt"])
    name = BlobName(vector["namespace"], vector["blob_id"])
    cipher = BlobCipher.sealing(secret, name, vector["size"], lambda _count: salt)
    sealer = Sealer(cipher)
    rows = [cipher.preamble.data, *sealer.feed(blobs.plaintext(vector)), *sealer.end()]
    return b"".join(rows)


class VectorTests(SynchronousTestCase):
    def test_what_is_sealed_is_what_it_always_was(self):
        sizes = [vector["size"] for vector in blobs.VECTORS]
        self.assertEqual(sizes, [0, 1, 11, 1000, 65535, 65536, 65537, 200000])
        for vector in blobs.VECTORS:
            sealed = seal(vector)
            blobs.check(vector, sealed)
            preamble = parse_preamble(sealed[: preamble_length(sealed)])
            assert isinstance(preamble, Preamble)
            self.assertEqual(len(sealed), preamble.sealed_size)

    def test_both_decoders_read_them(self):
        for vector in blobs.VECTORS:
            secret = bytes.fromhex(vector["secret"])
            sealed = seal(vector)
            name = BlobName(vector["namespace"], vector["blob_id"])
            plain = blobs.decode(secret, name.namespace, name.blob_id, sealed)
            self.assertEqual(plain, blobs.plaintext(vector))
            opener = Opener(secret, name, len(sealed))
            rows = opener.feed(sealed)
            opener.end()
            self.assertEqual(b"".join(row.plain for row in rows), plain)

    def test_the_second_decoder_is_no_rubber_stamp(self):
        vector = blobs.VECTORS[3]
        sealed = seal(vector)
        secret = bytes.fromhex(vector["secret"])
        for at in range(len(sealed)):
            flipped = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
            with self.assertRaises((AssertionError, InvalidTag)):
                blobs.decode(secret, vector["namespace"], vector["blob_id"], flipped)

    def test_the_preamble_says_what_the_page_says(self):
        for vector in blobs.VECTORS:
            sealed = seal(vector)
            length = int.from_bytes(sealed[10:12], "big")
            preamble = parse_preamble(sealed[:length])
            assert isinstance(preamble, Preamble)
            self.assertEqual(
                (preamble.name.namespace, preamble.name.blob_id, preamble.size, preamble.salt),
                (
                    vector["namespace"],
                    vector["blob_id"],
                    vector["size"],
                    bytes.fromhex(vector["salt"]),
                ),
            )
