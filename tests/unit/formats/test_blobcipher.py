"""Sealing and opening blobs: everything that may be done to the bytes on their way."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import BadArgumentValueError, InvalidBlobError
from ampgrid.formats.blob import (
    CHUNK_BYTES,
    MAX_BLOB_BYTES,
    SEALED_CHUNK_BYTES,
    ExternalPreamble,
    Preamble,
    external_preamble,
    make_preamble,
    parse_preamble,
)
from ampgrid.formats.blobcipher import BlobCipher, checked_secret
from ampgrid.formats.blobname import BlobName
from ampgrid.formats.blobrows import Opener, Sealer, row_offset

SECRET = bytes(range(32))
NAME = BlobName.of("blob-id", "space")


def content(size, seed=0):
    return hashlib.shake_128(b"content %d" % seed).digest(size)


def seal(plain, name=NAME, secret=SECRET, salt=b"s" * 32, pieces=(None,)):
    """Return the rows of a sealed blob; ``pieces`` are where the plaintext is cut."""
    cipher = BlobCipher.sealing(secret, name, len(plain), lambda _count: salt)
    sealer = Sealer(cipher)
    rows, begin = [cipher.preamble.data], 0
    for end in pieces:
        rows += sealer.feed(plain[begin:end])
        begin = end
    return rows + sealer.end()


def opened(sealed, name=NAME, secret=SECRET, size=None, step=None):
    """Return (plaintext that was given out, whether it opened)."""
    opener = Opener(secret, name, len(sealed) if size is None else size)
    plain = b""
    try:
        for at in range(0, len(sealed), step or max(1, len(sealed))):
            for row in opener.feed(sealed[at : at + (step or len(sealed))]):
                plain += row.plain
        opener.end()
    except InvalidBlobError:
        return plain, False
    return plain, True


def opens(sealed, **how):
    return opened(sealed, **how)[1]


class RoundTripTests(SynchronousTestCase):
    def test_any_size_in_any_pieces(self):
        edges = [0, 1, 16, 65535, 65536, 65537, 131071, 131072, 131073, 300_000]
        for size in edges:
            plain = content(size)
            rows = seal(plain)
            sealed = b"".join(rows)
            self.assertEqual(len(sealed), parse_preamble(rows[0]).sealed_size)
            for step in (None, 65536, 7919, 65552):
                self.assertEqual(opened(sealed, step=step), (plain, True))
            for at in {0, 1, size // 2, max(0, size - 1), min(size, 65536), size}:
                self.assertEqual(seal(plain, pieces=(at, None)), rows)

    @given(st.integers(0, 200_000), st.lists(st.integers(1, 70_000), min_size=1, max_size=8))
    @settings(max_examples=20, deadline=None)
    def test_it_matters_not_how_bytes_come(self, size, steps):
        plain = content(size)
        sealed = b"".join(seal(plain))
        opener = Opener(SECRET, NAME, len(sealed))
        found, at, number = b"", 0, 0
        while at < len(sealed):
            step = steps[number % len(steps)]
            found += b"".join(row.plain for row in opener.feed(sealed[at : at + step]))
            at, number = at + step, number + 1
        opener.end()
        self.assertEqual(found, plain)

    def test_byte_for_byte(self):
        for size in (0, 1, 100):
            sealed = b"".join(seal(content(size)))
            self.assertEqual(opened(sealed, step=1), (content(size), True))

    def test_rows_begin_where_they_are_said_to(self):
        rows = seal(content(200_000))
        for number in range(len(rows) + 1):
            before = sum(len(row) for row in rows[:number])
            if number <= len(rows) - 1:
                self.assertEqual(row_offset(len(rows[0]), number), before)

    def test_opening_goes_on_behind_rows_that_were_opened_before(self):
        plain = content(200_000)
        rows = seal(plain)
        sealed = b"".join(rows)
        for number in range(1, len(rows) + 1):
            opener = Opener(SECRET, NAME, len(sealed))
            opener.skip_to(rows[0], number)
            self.assertEqual(opener.offset, sum(map(len, rows[:number])))
            rest = b"".join(row.plain for row in opener.feed(sealed[opener.offset :]))
            opener.end()
            self.assertEqual(rest, plain[(number - 1) * CHUNK_BYTES :])
            # The same rows at another place.
            if 1 < number < len(rows) - 1:
                opener = Opener(SECRET, NAME, len(sealed))
                opener.skip_to(rows[0], number + 1)
                with self.assertRaises(InvalidBlobError):
                    opener.feed(rows[number])


class DamageTests(SynchronousTestCase):
    """Whatever is done to the bytes: an error, and nothing that was not checked."""

    def assert_refused(self, sealed, plain, **how):
        given_out, whole = opened(sealed, **how)
        self.assertFalse(whole)
        self.assertEqual(plain[: len(given_out)], given_out)
        self.assertEqual(len(given_out) % CHUNK_BYTES, 0, "part of a chunk came out")
        return given_out

    def test_every_byte_flipped(self):
        plain = content(300)
        sealed = b"".join(seal(plain))
        for at in range(len(sealed)):
            for mask in (1, 0x80, 0xFF):
                flipped = sealed[:at] + bytes([sealed[at] ^ mask]) + sealed[at + 1 :]
                self.assertEqual(self.assert_refused(flipped, plain), b"")

    def test_every_bit_of_the_preamble_and_of_the_tag(self):
        plain = content(20)
        sealed = b"".join(seal(plain))
        for at in [*range(16 * 8, len(sealed) * 8), *range(16 * 8)]:
            flipped = bytearray(sealed)
            flipped[at // 8] ^= 1 << at % 8
            self.assertEqual(self.assert_refused(bytes(flipped), plain), b"")

    def test_bytes_flipped_in_a_later_chunk(self):
        plain = content(CHUNK_BYTES + 50)
        rows = seal(plain)
        sealed = b"".join(rows)
        second = len(rows[0]) + len(rows[1])
        for at in range(second, len(sealed)):
            flipped = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
            given_out = self.assert_refused(flipped, plain, step=50)
            self.assertEqual(given_out, plain[:CHUNK_BYTES])
        for at in range(len(rows[0]), second, 97):
            flipped = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
            self.assertEqual(self.assert_refused(flipped, plain), b"")

    def test_every_truncation(self):
        plain = content(300)
        sealed = b"".join(seal(plain))
        for size in range(len(sealed)):
            for said in (len(sealed), size):
                self.assertEqual(self.assert_refused(sealed[:size], plain, size=said), b"")

    def test_truncation_between_chunks(self):
        plain = content(3 * CHUNK_BYTES)
        rows = seal(plain)
        for count in range(len(rows)):
            cut = b"".join(rows[:count])
            for said in (len(cut), sum(map(len, rows))):
                self.assert_refused(cut, plain, size=said)

    def test_everything_that_may_follow(self):
        plain = content(100)
        rows = seal(plain)
        sealed = b"".join(rows)
        for more in (b"\0", b"x" * 16, rows[1], sealed, b"y" * SEALED_CHUNK_BYTES):
            for said in (len(sealed), len(sealed + more)):
                self.assert_refused(sealed + more, plain, size=said)

    def test_chunks_swapped_dropped_and_repeated(self):
        plain = content(4 * CHUNK_BYTES)
        preamble, *chunks = seal(plain)
        for first in range(4):
            for second in range(4):
                if first != second:
                    swapped = list(chunks)
                    swapped[first], swapped[second] = chunks[second], chunks[first]
                    self.assert_refused(b"".join([preamble, *swapped]), plain)
                    replaced = list(chunks)
                    replaced[first] = chunks[second]
                    self.assert_refused(b"".join([preamble, *replaced]), plain)
            dropped = chunks[:first] + chunks[first + 1 :]
            repeated = [*chunks[: first + 1], *chunks[first:]]
            for others in (dropped, repeated):
                for said in (None, len(preamble) + 4 * SEALED_CHUNK_BYTES):
                    self.assert_refused(b"".join([preamble, *others]), plain, size=said)

    def test_a_shorter_blob_is_not_made_of_a_longer_one(self):
        """The preamble is rewritten to fit, as only who has no key would have to."""
        preamble, *chunks = seal(content(4 * CHUNK_BYTES))
        whole = parse_preamble(preamble)
        for count in range(1, 4):
            shorter = make_preamble(NAME, count * CHUNK_BYTES, whole.salt, whole.commitment)
            self.assert_refused(b"".join([shorter.data, *chunks[:count]]), b"")

    def test_another_blob_under_this_name(self):
        plain = content(100)
        for other in (BlobName.of("blob-ie", "space"), BlobName.of("blob-id", "spacf")):
            sealed = b"".join(seal(plain, other))
            self.assert_refused(sealed, plain)
            # Renamed by who has no key.
            was = parse_preamble(sealed[:-116])
            renamed = make_preamble(NAME, 100, was.salt, was.commitment).data + sealed[-116:]
            self.assert_refused(renamed, plain)

    def test_names_that_only_look_alike_when_joined(self):
        plain = content(10)
        one, two = BlobName("ab", "c"), BlobName("a", "bc")
        sealed = b"".join(seal(plain, one))
        was = parse_preamble(sealed[:-26])
        renamed = make_preamble(two, 10, was.salt, was.commitment).data + sealed[-26:]
        self.assert_refused(renamed, plain, name=two)

    def test_an_old_preamble(self):
        """What the blob of this name was before it was deleted and put again."""
        old, new = seal(content(100, 1), salt=b"o" * 32), seal(content(100, 2), salt=b"n" * 32)
        self.assert_refused(old[0] + new[1], content(100, 2))
        self.assert_refused(new[0] + old[1], content(100, 1))
        longer = seal(content(CHUNK_BYTES + 1, 3), salt=b"o" * 32)
        self.assert_refused(b"".join([old[0], *longer[1:]]), b"")
        self.assert_refused(longer[0] + old[1], b"")

    def test_another_secret(self):
        sealed = b"".join(seal(content(100)))
        for secret in (SECRET[:-1] + b"x", SECRET + b"\0", b"\0" * 32):
            self.assertEqual(opened(sealed, secret=secret), (b"", False))

    def test_one_blob_does_not_open_under_two_secrets(self):
        """The commitment of one secret in the place of the other's."""
        preamble, chunk = seal(content(100))
        was = parse_preamble(preamble)
        other = parse_preamble(seal(content(100), secret=b"x" * 32)[0])
        mixed = make_preamble(NAME, 100, was.salt, other.commitment).data
        for secret in (SECRET, b"x" * 32):
            self.assertEqual(opened(mixed + chunk, secret=secret), (b"", False))

    @given(st.binary(max_size=300))
    @settings(max_examples=200)
    def test_rubbish(self, data):
        self.assertFalse(opens(data))
        self.assertFalse(opens(b"AMPBLOB1" + data))


class ExternalTests(SynchronousTestCase):
    def test_a_blob_of_another_scheme_comes_as_it_is(self):
        for scheme in (0, 2, 255, 65535):
            for body in (b"", b"PGP", b"b" * 4080):
                for size in (16, 100, 65552, 200_000):
                    preamble = external_preamble(scheme, body)
                    sealed = preamble + content(size)
                    opener = Opener(SECRET, NAME, len(sealed))
                    rows = opener.feed(sealed)
                    opener.end()
                    self.assertEqual(opener.preamble, ExternalPreamble(scheme, preamble))
                    self.assertIsNone(opener.cipher)
                    self.assertEqual(b"".join(row.sealed for row in rows), sealed)
                    # Nothing in it passes for plaintext.
                    self.assertEqual({row.plain for row in rows}, {b""})

    def test_damage_makes_no_blob_of_one_and_none_of_the_other(self):
        for data in (external_preamble(2, b"x"), seal(content(10))[0]):
            for at in range(len(data)):
                for mask in range(1, 256):
                    flipped = data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
                    self.assertRaises(InvalidBlobError, parse_preamble, flipped)

    def test_one_that_is_cut_short(self):
        sealed = external_preamble(2, b"x") + content(16)
        for size in range(len(sealed)):
            self.assertFalse(opens(sealed[:size]))
        self.assertTrue(opens(sealed))

    def test_what_cannot_be_one_is_refused(self):
        for scheme in (1, -1, 65536):
            self.assertRaises(BadArgumentValueError, external_preamble, scheme)
        self.assertRaises(BadArgumentValueError, external_preamble, 2, b"b" * 4081)


class BoundsTests(SynchronousTestCase):
    def test_a_short_secret_is_refused_everywhere(self):
        preamble = parse_preamble(seal(b"")[0])
        assert isinstance(preamble, Preamble)
        for length in (0, 1, 6, 31, 4097):
            secret = b"s" * length
            for work in (
                lambda secret=secret: checked_secret(secret),
                lambda secret=secret: BlobCipher.sealing(secret, NAME, 1, bytes),
                lambda secret=secret: BlobCipher.opening(secret, NAME, preamble),
            ):
                self.assertRaises(BadArgumentValueError, work)
        for length in (32, 64, 65, 4096):
            plain = content(10)
            secret = b"s" * length
            sealed = b"".join(seal(plain, secret=secret))
            self.assertEqual(opened(sealed, secret=secret), (plain, True))
            self.assertFalse(opens(sealed, secret=secret[:-1] + b"t"))

    def test_content_of_another_size_than_was_said(self):
        for said in (0, 1, 65536, 65537, 131072):
            for size in {0, 1, said - 1, said + 1, said + 65536, said + 200_000} - {said, -1}:
                cipher = BlobCipher.sealing(SECRET, NAME, said, bytes)

                def work(cipher=cipher, size=size):
                    sealer = Sealer(cipher)
                    sealer.feed(content(size))
                    sealer.end()

                self.assertRaises(BadArgumentValueError, work)

    def test_chunks_that_are_not_there(self):
        cipher = BlobCipher.sealing(SECRET, NAME, CHUNK_BYTES, bytes)
        for index in (-1, 1, 2, 2**88):
            self.assertRaises(BadArgumentValueError, cipher.seal, index, b"")
            self.assertRaises(InvalidBlobError, cipher.open, index, b"t" * 16)

    def test_sizes_at_the_bounds(self):
        for size in (2**30, 2**31, 2**32, MAX_BLOB_BYTES):
            cipher = BlobCipher.sealing(SECRET, NAME, size, bytes)
            self.assertEqual(parse_preamble(cipher.preamble.data), cipher.preamble)
            last = cipher.preamble.chunks - 1
            plain = content(cipher.preamble.plain_size_of(last))
            self.assertEqual(cipher.open(last, cipher.seal(last, plain)), plain)
            sealed_size = len(cipher.preamble.data) + size + 16 * -(-size // 65536)
            self.assertEqual(cipher.preamble.sealed_size, sealed_size)
        for size in (-1, MAX_BLOB_BYTES + 1, 2**64):
            self.assertRaises(BadArgumentValueError, BlobCipher.sealing, SECRET, NAME, size, bytes)

    def test_two_blobs_never_share_a_key(self):
        """Not with another salt, name or secret; the crypttext of nothing but zeros tells."""
        plain = bytes(32)
        chunks = {seal(plain)[1]}
        chunks.add(seal(plain, salt=b"t" * 32)[1])
        chunks.add(seal(plain, BlobName.of("blob-id", "spacf"))[1])
        chunks.add(seal(plain, BlobName.of("blob-ie", "space"))[1])
        chunks.add(seal(plain, secret=SECRET[::-1])[1])
        chunks.add(seal(plain, secret=SECRET + SECRET)[1])
        self.assertEqual(len(chunks), 6)
        self.assertEqual(len({chunk[:32] for chunk in chunks}), 6)

    def test_secrets_longer_than_a_hash_block_are_not_cut(self):
        """The seed took what lies behind the 64th byte alone, and nothing of a shorter one."""
        plain = bytes(32)
        made = {seal(plain, secret=b"a" * n + b"b" * (100 - n))[1] for n in range(0, 101, 10)}
        self.assertEqual(len(made), 11)
