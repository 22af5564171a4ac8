"""Bit for bit what Tahoe-LAFS 1.20 makes: published caps, and shares that a Tahoe grid stored."""

import itertools

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import parse_cap
from ampgrid.crypto import hashing as h
from ampgrid.crypto.cipher import decrypt_at
from ampgrid.erasure import Codec, isal_engine, zfec_engine
from ampgrid.formats.chk import compute_cap, cut
from ampgrid.formats.chkwriter import FileEncoder
from ampgrid.formats.hashtree import check_tree, leaf_from_chain, root_from_chain
from ampgrid.formats.segments import DEFAULT_MAX_SEGMENT_SIZE, segment_size_for
from ampgrid.formats.share import ShareLayout, parse_header, unpack_share_hashes
from ampgrid.formats.ueb import UriExtension
from tests.vectors import tahoe


class PublishedCapsTest(SynchronousTestCase):
    def check(self, engine):
        cases = tahoe.chk_cases()
        self.assertEqual(len(cases), 60)
        for case in cases:
            data = tahoe.sample(case)
            cap = compute_cap(
                lambda data=data: [data],
                len(data),
                case["needed"],
                case["total"],
                case["max_segment_size"],
                case["secret"],
                engine=engine,
            )
            self.assertEqual(cap.to_string(), case["cap"])

    def test_all_with_zfec(self):
        self.check(zfec_engine())

    def test_all_with_isal(self):
        engine = isal_engine()
        if engine is None:
            self.skipTest("no libisal here")
        self.check(engine)


class StoredSharesTest(SynchronousTestCase):
    def setUp(self):
        self.files = tahoe.stored_files()
        self.assertEqual([len(file["shares"]) for file in self.files], [5, 5])

    def encode(self, file):
        """Return (encoder, the segments, the tail)."""
        cap, plaintext = parse_cap(file["cap"]), file["plaintext"]
        segment_size = segment_size_for(cap.size, cap.needed, DEFAULT_MAX_SEGMENT_SIZE)
        key = h.ConvergentKey(file["secret"], cap.needed, cap.total, segment_size)
        key.update(plaintext)
        encoder = FileEncoder(key.digest(), cap.size, cap.needed, cap.total, segment_size)
        segments = [
            encoder.encode_segment(i, part)
            for i, part in enumerate(cut([plaintext], segment_size))
        ]
        for segment in segments:
            encoder.absorb(segment)
        return encoder, segments, encoder.finish()

    def test_we_make_every_byte(self):
        for file in self.files:
            encoder, segments, tail = self.encode(file)
            self.assertEqual(tail.cap.to_string(), file["cap"])
            self.assertEqual(tail.cap.storage_index, file["storage_index"])
            for number, stored in file["shares"].items():
                made = b"".join(
                    [
                        encoder.layout.header(),
                        *(segment.blocks[number] for segment in segments),
                        encoder.share_tail(tail, number),
                    ]
                )
                self.assertEqual(len(made), encoder.layout.share_size)
                self.assertTrue(made == stored, f"share {number} differs")

    def test_we_compute_the_caps(self):
        for file in self.files:
            data = file["plaintext"]
            cap = compute_cap(
                lambda data=data: [data],
                len(data), 3, 5, DEFAULT_MAX_SEGMENT_SIZE, file["secret"],
            )  # fmt: skip
            self.assertEqual(cap.to_string(), file["cap"])

    def read(self, share, number, cap):
        """Return the UEB and the blocks of a stored share, everything checked."""
        header = parse_header(share[:68], len(share))
        start = header.offset_ueb + header.length_size
        ueb_bytes = share[start : start + header.ueb_length(share[header.offset_ueb : start])]
        self.assertEqual(h.uri_extension_hash(ueb_bytes), cap.ueb_hash)
        ueb = UriExtension.unpack(ueb_bytes)
        self.assertEqual(ueb.pack(), ueb_bytes)
        ueb.check(cap.needed, cap.total, cap.size)
        header.check(ShareLayout(cap.size, cap.needed, ueb.segment_size, cap.total))
        chain = unpack_share_hashes(share[header.offset_share_hashes : header.offset_ueb])
        self.assertEqual(root_from_chain(chain, number, cap.total), ueb.share_root_hash)
        hashes = check_tree(
            share[header.offset_block_hashes : header.offset_share_hashes],
            ueb.num_segments,
            leaf_from_chain(chain, number, cap.total),
        )
        data = share[header.offset_data : header.offset_data + header.data_size]
        blocks = list(cut([data], header.block_size))
        self.assertEqual([h.block_hash(block) for block in blocks], hashes)
        return ueb, blocks

    def test_any_three_give_the_plaintext(self):
        for file in self.files:
            cap = parse_cap(file["cap"])
            read = {n: self.read(share, n, cap) for n, share in file["shares"].items()}
            for numbers in itertools.permutations(sorted(read), 3):
                crypttext = b""
                for index in range(read[0][0].num_segments):
                    blocks = [read[n][1][index] for n in numbers]
                    codec = Codec(3 * len(blocks[0]), 3, 5)
                    crypttext += codec.decode(blocks, numbers)
                plaintext = decrypt_at(cap.key, 0, crypttext[: cap.size])
                self.assertEqual(plaintext, file["plaintext"])
