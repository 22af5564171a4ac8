"""Ballots and prepares."""

import contextlib
import itertools

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.errors import FormatError, IntegrityError
from ampgrid.formats.ballot import BALLOT_SIZE, PREPARE_SIZE, Ballot, Prepare

KEYS = WriteKeys(b"w" * 16)
OTHERS = WriteKeys(b"o" * 16)
BALLOT = Ballot(3, 2**40 + 5, b"writer 1")
PREPARE = Prepare.make(KEYS, BALLOT)

ballots = st.builds(
    Ballot,
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=8, max_size=8),
)


class BallotTest(SynchronousTestCase):
    @given(ballots, ballots)
    def test_packed_ballots_read_back_and_are_in_the_same_order(self, one, other):
        self.assertEqual(len(one.pack()), BALLOT_SIZE)
        self.assertEqual(Ballot.unpack(one.pack()), one)
        self.assertEqual(one < other, one.pack() < other.pack())
        self.assertEqual(one == other, one.pack() == other.pack())

    def test_epoch_then_counter_then_writer(self):
        rising = [
            Ballot(0, 0, b"\0" * 8),
            Ballot(0, 0, b"\xff" * 8),
            Ballot(0, 1, b"\0" * 8),
            Ballot(0, 2**64 - 1, b"\xff" * 8),
            Ballot(1, 0, b"\0" * 8),
        ]
        for lower, higher in itertools.pairwise(rising):
            self.assertLess(lower, higher)

    def test_bounds(self):
        for arguments in (
            (-1, 0, bytes(8)),
            (2**32, 0, bytes(8)),
            (0, -1, bytes(8)),
            (0, 2**64, bytes(8)),
            (0, 0, bytes(7)),
            (0, 0, bytes(9)),
        ):
            self.assertRaises(FormatError, Ballot, *arguments)
        for length in (*range(BALLOT_SIZE), BALLOT_SIZE + 1):
            self.assertRaises(FormatError, Ballot.unpack, bytes(length))


class PrepareTest(SynchronousTestCase):
    def test_read_back(self):
        packed = PREPARE.pack()
        self.assertEqual(len(packed), PREPARE_SIZE)
        again = Prepare.unpack(packed)
        self.assertEqual(again, PREPARE)
        self.assertEqual((again.index, again.ballot), (KEYS.fingerprint, BALLOT))
        again.check(KEYS.fingerprint)

    def test_every_changed_bit_is_seen(self):
        packed = PREPARE.pack()
        for position in range(8 * len(packed)):
            changed = bytearray(packed)
            changed[position // 8] ^= 1 << position % 8
            self.assertRaises(
                (FormatError, IntegrityError),
                lambda data: Prepare.unpack(data).check(KEYS.fingerprint),
                bytes(changed),
            )

    def test_every_other_length_is_refused(self):
        packed = PREPARE.pack()
        for length in range(len(packed)):
            self.assertRaises(FormatError, Prepare.unpack, packed[:length])
        self.assertRaises(FormatError, Prepare.unpack, packed + b"\0")

    @given(st.binary(min_size=PREPARE_SIZE - 4, max_size=PREPARE_SIZE - 4))
    def test_arbitrary_bytes_are_never_a_good_one(self, data):
        with contextlib.suppress(FormatError):
            prepare = Prepare.unpack(b"AGP1" + data)
            self.assertRaises(IntegrityError, prepare.check, prepare.index)

    def test_another_directory(self):
        self.assertRaises(IntegrityError, PREPARE.check, OTHERS.fingerprint)

    def test_signed_with_the_key_of_another_directory(self):
        theirs = Prepare.make(OTHERS, BALLOT)
        for forged in (
            Prepare(KEYS.fingerprint, OTHERS.verifying_key, BALLOT, theirs.signature),
            Prepare(KEYS.fingerprint, KEYS.verifying_key, BALLOT, theirs.signature),
        ):
            self.assertRaises(IntegrityError, forged.check, KEYS.fingerprint)

    def test_lengths_of_the_parts(self):
        good = (PREPARE.index, PREPARE.verifying_key, BALLOT, PREPARE.signature)
        for place in (0, 1, 3):
            parts = list(good)
            parts[place] = parts[place][:-1]
            self.assertRaises(FormatError, Prepare, *parts)

    def test_shown_in_short(self):
        shown = repr(PREPARE)
        self.assertTrue(shown.startswith(f"Prepare(index={KEYS.fingerprint.hex()[:8]}, ballot="))
        self.assertLess(len(shown), 150)
