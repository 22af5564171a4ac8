"""The encoder: shares by its hand against shares by the definition."""

import random
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto import hashing as h
from ampgrid.crypto.cipher import decrypt_at, encrypt_at
from ampgrid.erasure import Codec
from ampgrid.formats.chk import cut
from ampgrid.formats.chkwriter import FileEncoder
from ampgrid.formats.hashtree import (
    check_tree,
    leaf_from_chain,
    leaves_of,
    root_from_chain,
    tree_root,
)
from ampgrid.formats.segments import segment_size_for
from ampgrid.formats.share import parse_header, unpack_share_hashes
from ampgrid.formats.ueb import UriExtension

KEY = bytes(range(16))


def encode(data, needed, total, most):
    """Return (encoder, tail, all shares)."""
    segment_size = segment_size_for(len(data), needed, most)
    encoder = FileEncoder(KEY, len(data), needed, total, segment_size)
    shares = [bytearray(encoder.layout.header()) for _ in range(total)]
    for index, segment in enumerate(cut([data], segment_size)):
        encoded = encoder.encode_segment(index, segment)
        encoder.absorb(encoded)
        for share, block in zip(shares, encoded.blocks, strict=True):
            share.extend(block)
    tail = encoder.finish()
    for number, share in enumerate(shares):
        share.extend(encoder.share_tail(tail, number))
    return encoder, tail, [bytes(share) for share in shares]


def read_share(share, number, cap):
    """Return the checked blocks of a share, the UEB and the crypttext segment hashes."""
    header = parse_header(share, len(share))
    start = header.offset_ueb + header.length_size
    ueb_bytes = share[start : start + header.ueb_length(share[header.offset_ueb :])]
    assert h.uri_extension_hash(ueb_bytes) == cap.ueb_hash
    ueb = UriExtension.unpack(ueb_bytes)
    ueb.check(cap.needed, cap.total, cap.size)
    chain = unpack_share_hashes(share[header.offset_share_hashes : header.offset_ueb])
    assert root_from_chain(chain, number, cap.total) == ueb.share_root_hash
    block_root = leaf_from_chain(chain, number, cap.total)
    block_tree = share[header.offset_block_hashes : header.offset_share_hashes]
    hashes = check_tree(block_tree, ueb.num_segments, block_root)
    tree = share[header.offset_crypttext_tree : header.offset_block_hashes]
    segment_hashes = check_tree(tree, ueb.num_segments, ueb.crypttext_root_hash)
    data = share[header.offset_data : header.offset_data + header.data_size]
    blocks = list(cut([data], header.block_size))
    assert [h.block_hash(block) for block in blocks] == hashes
    return blocks, ueb, segment_hashes


def decode(shares, cap):
    """Return the plaintext from {number: share}, ``needed`` of them."""
    read = {number: read_share(share, number, cap) for number, share in shares.items()}
    _, ueb, segment_hashes = next(iter(read.values()))
    plaintext = b""
    for index in range(ueb.num_segments):
        blocks = [read[number][0][index] for number in read]
        codec = Codec(len(blocks[0]) * cap.needed, cap.needed, cap.total)
        length = min(ueb.segment_size, cap.size - len(plaintext))
        crypttext = codec.decode(blocks, list(read))[:length]
        assert h.crypttext_segment_hash(crypttext) == segment_hashes[index]
        plaintext += decrypt_at(KEY, index * ueb.segment_size, crypttext)
    return plaintext


class EncoderTest(SynchronousTestCase):
    @settings(max_examples=60)
    @given(
        st.integers(1, 3000),
        st.tuples(st.integers(1, 12), st.integers(1, 20)).map(sorted),
        st.integers(20, 1500),
        st.randoms(use_true_random=False),
    )
    def test_any_needed_shares_give_the_file_back(self, size, code, most, source):
        needed, total = code
        data = source.randbytes(size)
        encoder, tail, shares = encode(data, needed, total, most)
        self.assertEqual({len(share) for share in shares}, {encoder.layout.share_size})
        numbers = source.sample(range(total), needed)
        self.assertEqual(decode({n: shares[n] for n in numbers}, tail.cap), data)

    def test_hashes_by_the_definition(self):
        data = random.Random(1).randbytes(1000)
        _, tail, _ = encode(data, 3, 5, 300)
        crypttext = encrypt_at(KEY, 0, data)
        whole = h.tagged_hash(h.TAG_CRYPTTEXT, crypttext)
        self.assertEqual(tail.ueb.crypttext_hash, whole)
        segments = [crypttext[i : i + 300] for i in range(0, 1000, 300)]
        leaves = [h.crypttext_segment_hash(segment) for segment in segments]
        self.assertEqual(leaves_of(tail.crypttext_tree, 4), leaves)
        self.assertEqual(tail.ueb.crypttext_root_hash, tree_root(leaves))
        roots = [tree[:32] for tree in tail.block_trees]
        self.assertEqual(tail.ueb.share_root_hash, tree_root(roots))
        self.assertEqual(tail.ueb_hash, h.uri_extension_hash(tail.ueb_bytes))
        self.assertEqual(tail.cap.ueb_hash, tail.ueb_hash)
        self.assertEqual((tail.cap.needed, tail.cap.total, tail.cap.size), (3, 5, 1000))

    def test_plaintext_tree_is_all_zeros(self):
        encoder, _, shares = encode(bytes(1000), 3, 5, 300)
        start, end = encoder.layout.offset_plaintext_tree, encoder.layout.offset_crypttext_tree
        self.assertEqual(end - start, 7 * 32)
        self.assertEqual({share[start:end] for share in shares}, {bytes(7 * 32)})

    def test_segments_may_be_encoded_in_threads_and_in_any_order(self):
        data = random.Random(2).randbytes(20_000)
        _, expected, _ = encode(data, 3, 5, 600)
        encoder = FileEncoder(KEY, len(data), 3, 5, 600)
        segments = list(enumerate(cut([data], 600)))
        random.Random(3).shuffle(segments)
        with ThreadPoolExecutor(4) as pool:
            encoded = pool.map(lambda item: encoder.encode_segment(*item), segments)
            for segment in sorted(encoded, key=lambda segment: segment.index):
                encoder.absorb(segment)
        self.assertEqual(encoder.finish().cap, expected.cap)

    def test_misuse_is_refused(self):
        encoder = FileEncoder(KEY, 1000, 3, 5, 300)
        for index, size in ((0, 299), (0, 301), (3, 300), (3, 99), (4, 0), (-1, 300)):
            self.assertRaises(ValueError, encoder.encode_segment, index, bytes(size))
        first, second = (encoder.encode_segment(i, bytes(300)) for i in range(2))
        self.assertRaises(ValueError, encoder.absorb, second)
        encoder.absorb(first)
        self.assertRaises(ValueError, encoder.absorb, first)
        self.assertRaises(ValueError, encoder.finish)

    def test_nothing_secret_is_shown(self):
        encoder, tail, _ = encode(b"secret plaintext" * 10, 3, 5, 300)
        encoded = encoder.encode_segment(0, b"secret plaintext" * 10)
        self.assertEqual(repr(encoded), "<EncodedSegment 0, 160 bytes>")
        self.assertEqual(repr(tail), "<FileTail of <ChkCap 3-of-5, 160 bytes>>")
