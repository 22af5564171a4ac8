"""Erasure coding: both engines, the same bytes, every subset."""

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.erasure import Codec, best_engine, isal_engine, zfec_engine
from ampgrid.erasure.isal import IsalEngine, agrees_with_zfec
from ampgrid.errors import ConfigError, FormatError

ISAL = isal_engine()
ENGINES = [zfec_engine()] + ([ISAL] if ISAL else [])

codes = st.tuples(st.integers(1, 40), st.integers(1, 60)).map(sorted)


def sample(size):
    return bytes((i * 31 + i // 256 * 17 + 5) % 256 for i in range(size))


class CodecTest(SynchronousTestCase):
    def test_all_120_subsets_of_three_of_ten(self):
        segment = sample(3 * 101)
        for engine in ENGINES:
            codec = Codec(len(segment), 3, 10, engine)
            blocks = codec.encode(segment)
            subsets = list(itertools.combinations(range(10), 3))
            self.assertEqual(len(subsets), 120)
            for numbers in subsets:
                for order in (numbers, numbers[::-1]):
                    given_blocks = [blocks[i] for i in order]
                    self.assertEqual(codec.decode(given_blocks, order), segment)

    def test_known_answer(self):
        """Frozen from zfec 1.6, so that a change of its matrix is seen."""
        for engine in ENGINES:
            blocks = Codec(24, 3, 5, engine).encode(b"\x01" * 8 + b"\x02" * 8 + b"\x03" * 8)
            self.assertEqual([bytes(b[:1]).hex() for b in blocks[:3]], ["01", "02", "03"])
            self.assertEqual([bytes(b).hex() for b in blocks[3:]], ["15" * 8, "69" * 8])

    @given(codes, st.integers(1, 300), st.randoms(use_true_random=False))
    def test_engines_agree_and_give_the_segment_back(self, code, size, random):
        needed, total = code
        segment = random.randbytes(needed * size)
        zfec = Codec(len(segment), needed, total, ENGINES[0])
        reference = [bytes(b) for b in zfec.encode(segment)]
        numbers = random.sample(range(total), needed)
        for engine in ENGINES:
            codec = Codec(len(segment), needed, total, engine)
            self.assertEqual([bytes(b) for b in codec.encode(segment)], reference)
            self.assertEqual(codec.decode([reference[i] for i in numbers], numbers), segment)

    def test_the_largest_codes(self):
        for needed, total in ((1, 256), (255, 256), (256, 256), (100, 256)):
            segment = sample(needed * 35)
            reference = None
            for engine in ENGINES:
                codec = Codec(len(segment), needed, total, engine)
                blocks = [bytes(b) for b in codec.encode(segment)]
                reference = reference or blocks
                self.assertEqual(blocks, reference)
                numbers = list(range(total - 1, total - 1 - needed, -1))
                self.assertEqual(codec.decode([blocks[i] for i in numbers], numbers), segment)

    @given(
        st.lists(st.integers(0, 9), max_size=10, unique=True),
        st.sampled_from([bytes, bytearray, memoryview]),
    )
    def test_wanted_blocks_in_the_wanted_order(self, wanted, kind):
        segment = sample(3 * 50)
        for engine in ENGINES:
            codec = Codec(len(segment), 3, 10, engine)
            blocks = codec.encode(segment)
            self.assertEqual(codec.encode(kind(segment), wanted), [blocks[i] for i in wanted])

    def test_primary_blocks_are_not_copied_and_cannot_be_changed(self):
        segment = bytearray(sample(12))
        block = Codec(12, 3, 5).encode(segment)[1]
        segment[4] ^= 0xFF
        self.assertEqual(block[0], segment[4])
        self.assertTrue(block.readonly)

    def test_buffers_are_let_go(self):
        """A pinned buffer could not be resized."""
        for engine in ENGINES:
            codec = Codec(12, 3, 5, engine)
            segment = bytearray(sample(12))
            blocks = [bytearray(block) for block in codec.encode(segment)]
            self.assertEqual(codec.decode([blocks[i] for i in (4, 1, 3)], (4, 1, 3)), segment)
            segment.append(0)
            for block in blocks:
                block.append(0)

    def test_non_contiguous_blocks_are_no_blocks(self):
        if ISAL is None:
            self.skipTest("no libisal here")
        codec = Codec(12, 3, 5, ISAL)
        self.assertRaises(BufferError, codec.encode, memoryview(sample(24))[::2])

    def test_threads(self):
        for engine in ENGINES:
            codec = Codec(3 * 5000, 3, 10, engine)
            segments = [bytes([i]) * 14000 + sample(1000) for i in range(20)]

            def there_and_back(segment, codec=codec):
                blocks = codec.encode(segment)
                return codec.decode([blocks[i] for i in (9, 0, 5)], (9, 0, 5))

            with ThreadPoolExecutor(4) as pool:
                self.assertEqual(list(pool.map(there_and_back, segments)), segments)

    def test_params(self):
        self.assertEqual(Codec(131073, 3, 10).params(), b"131073-3-10")
        self.assertEqual(Codec(131073, 3, 10).block_size, 43691)


class RefusalTest(SynchronousTestCase):
    def test_impossible_codes(self):
        for arguments in (
            (3, 0, 5),
            (3, 6, 5),
            (300, 1, 257),
            (0, 1, 2),
            (10, 3, 5),
            (-3, 3, 5),
            (3 << 31, 3, 5),
        ):
            self.assertRaises(FormatError, Codec, *arguments)

    def test_encode(self):
        codec = Codec(12, 3, 5)
        for segment in (b"", bytes(11), bytes(13)):
            self.assertRaises(ValueError, codec.encode, segment)
        for wanted in ([5], [-1], [0, 256], [4, 4], [0, 0]):
            self.assertRaises(ValueError, codec.encode, bytes(12), wanted)

    def test_decode(self):
        codec = Codec(12, 3, 5)
        good = [bytes(4)] * 3
        for blocks, numbers in (
            (good[:2], [0, 1]),
            (good + good[:1], [0, 1, 2, 3]),
            (good, [0, 1]),
            (good, [0, 1, 1]),
            (good, [0, 1, 5]),
            (good, [0, 1, -1]),
            ([*good[:2], bytes(3)], [0, 1, 2]),
            ([*good[:2], bytes(5)], [0, 1, 2]),
            ([], []),
        ):
            self.assertRaises(FormatError, codec.decode, blocks, numbers)


class EngineChoiceTest(SynchronousTestCase):
    def best(self, **environment):
        with mock.patch.dict(os.environ):
            os.environ.pop("AMPGRID_ERASURE", None)
            os.environ.update(environment)
            return best_engine()

    def test_zfec_can_be_forced(self):
        self.assertEqual(self.best(AMPGRID_ERASURE="zfec").name, "zfec")

    def test_isal_is_preferred_where_it_is(self):
        self.assertIs(self.best(), ISAL or zfec_engine())

    def test_isal_can_be_demanded(self):
        if ISAL is None:
            self.assertRaises(ConfigError, self.best, AMPGRID_ERASURE="isal")
        else:
            self.assertIs(self.best(AMPGRID_ERASURE="isal"), ISAL)

    def test_nonsense_is_refused(self):
        self.assertRaises(ConfigError, self.best, AMPGRID_ERASURE="fast")

    def test_an_engine_that_errs_is_found_out(self):
        if ISAL is None:
            self.skipTest("no libisal here")

        class WrongEncoder(IsalEngine):
            def __init__(self):
                self.name = "wrong"

            def encode(self, needed, total, segment, wanted):
                made = ISAL.encode(needed, total, segment, wanted)
                return [*made[:-1], bytes(len(made[-1]))] if needed == 10 else made

            def rebuild(self, *arguments):
                return ISAL.rebuild(*arguments)

        class WrongDecoder(WrongEncoder):
            def encode(self, *arguments):
                return ISAL.encode(*arguments)

            def rebuild(self, *arguments):
                return ISAL.rebuild(*arguments)[::-1]

        self.assertTrue(agrees_with_zfec(ISAL))
        self.assertFalse(agrees_with_zfec(WrongEncoder()))
        self.assertFalse(agrees_with_zfec(WrongDecoder()))
