"""Segments made of blocks, of which any number may be damaged anywhere."""

from __future__ import annotations

import random
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto import hashing
from ampgrid.errors import FormatError, IntegrityError
from ampgrid.formats.chkwriter import EncodedSegment, FileEncoder
from ampgrid.immutable.segment import SegmentDecoder

KEY = bytes(range(16))


@attrs.frozen(eq=False)
class Reader:
    """A share whose block hashes are known, as a checked one's are."""

    number: int
    hashes: list[bytes]

    def check_block(self, index: int, block: bytes) -> bool:
        return hashing.block_hash(block) == self.hashes[index]


class World:
    """A file, its segments encoded, and what decodes them."""

    def __init__(self, size: int, needed: int, total: int, segment_size: int) -> None:
        self.plaintext = random.Random(size).randbytes(size)
        encoder = FileEncoder(KEY, size, needed, total, segment_size)
        count = encoder.layout.num_segments
        self.pieces = [self.plaintext[i * segment_size :][:segment_size] for i in range(count)]
        self.segments: list[EncodedSegment] = []
        for index, piece in enumerate(self.pieces):
            self.segments.append(encoder.encode_segment(index, piece))
            encoder.absorb(self.segments[-1])
        self.extension = encoder.finish().ueb
        self.readers = [
            Reader(number, [segment.block_hashes[number] for segment in self.segments])
            for number in range(total)
        ]

    def decoder(self, **changes: Any) -> SegmentDecoder:
        hashes = changes.get("hashes", [s.crypttext_segment_hash for s in self.segments])
        return SegmentDecoder(KEY, self.extension, hashes)

    def blocks(self, index: int, numbers: list[int]) -> dict[Any, bytes]:
        found = self.segments[index].blocks
        return {self.readers[number]: bytes(found[number]) for number in numbers}


@st.composite
def worlds(draw: st.DrawFn) -> World:
    needed = draw(st.integers(1, 5))
    total = draw(st.integers(needed, needed + 4))
    segment_size = needed * draw(st.integers(1, 40))
    return World(draw(st.integers(1, 4 * segment_size)), needed, total, segment_size)


class SegmentDecoderTests(SynchronousTestCase):
    @given(worlds(), st.data())
    def test_any_blocks_of_which_any_are_damaged_anywhere(
        self, world: World, data: st.DataObject
    ) -> None:
        index = data.draw(st.integers(0, len(world.segments) - 1), "segment")
        order = data.draw(st.permutations(range(world.extension.total_shares)), "order")
        blocks = world.blocks(index, order[: world.extension.needed_shares])
        bad = set()
        for reader, block in blocks.items():
            place = data.draw(st.none() | st.integers(0, len(block) - 1), "damaged at")
            if place is not None:
                flip = data.draw(st.integers(1, 255), "by")
                rest = block[place + 1 :]
                blocks[reader] = block[:place] + bytes([block[place] ^ flip]) + rest
                bad.add(reader)
        plaintext, named = world.decoder().decode(index, blocks)
        if bad:
            self.assertIsNone(plaintext)
            self.assertEqual(set(named), bad)
        else:
            self.assertEqual((plaintext, named), (world.pieces[index], []))

    def test_damage_in_what_fills_up_the_last_segment_is_named(self) -> None:
        # Two bytes and four of filling: the third block is nothing else.
        world = World(2, 3, 5, 6)
        blocks = world.blocks(0, [0, 1, 2])
        self.assertEqual(blocks[world.readers[2]], b"\0")
        blocks[world.readers[2]] = b"\1"
        self.assertEqual(world.decoder().decode(0, blocks), (None, [world.readers[2]]))

    def test_a_file_whose_good_blocks_do_not_make_its_segment(self) -> None:
        world = World(100, 2, 3, 50)
        hashes = [bytes(32)] * len(world.segments)
        with self.assertRaises(IntegrityError):
            world.decoder(hashes=hashes).decode(0, world.blocks(0, [0, 2]))

    def test_a_block_of_another_length_is_never_decoded(self) -> None:
        world = World(100, 2, 3, 50)
        for wrong in (b"", bytes(24), bytes(26)):
            blocks = world.blocks(0, [0, 2])
            blocks[world.readers[2]] = wrong
            with self.assertRaises(FormatError):
                world.decoder().decode(0, blocks)

    def test_without_the_key_the_crypttext_comes_out(self) -> None:
        world = World(100, 2, 3, 50)
        hashes = [segment.crypttext_segment_hash for segment in world.segments]
        decoder = SegmentDecoder(None, world.extension, hashes)
        found = decoder.decode(1, world.blocks(1, [1, 2]))
        self.assertEqual(found, (bytes(world.segments[1].crypttext), []))
