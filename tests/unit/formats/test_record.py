"""Records: read back exactly, refused when malformed, and linked as the register needs them."""

import contextlib

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.errors import FormatError, IntegrityError
from ampgrid.formats.ballot import Ballot
from ampgrid.formats.record import (
    EMPTY_ROOT,
    MAX_OPERATIONS,
    MAX_RECORD_BYTES,
    MIN_RECORD_BYTES,
    Record,
    ReplicaId,
)

KEYS = WriteKeys(b"w" * 16)
OTHERS = WriteKeys(b"o" * 16)
REPLICAS = tuple(ReplicaId(bytes([n]) * 20, bytes([n]) * 16) for n in range(1, 6))


def ballot(counter, epoch=1):
    return Ballot(epoch, counter, b"writer 1")


FIRST = Record.sign(KEYS, epoch=1, replicas=REPLICAS[:4], ballot=ballot(1))
SECOND = FIRST.successor(KEYS, ballot=ballot(2), root=b"r" * 32, count=7, operation=b"change 1")
MOVED = SECOND.new_epoch(KEYS, ballot(1, 2), REPLICAS[1:])

numbers = st.integers(0, 2**64 - 1)
replica_sets = st.lists(
    st.builds(ReplicaId, st.binary(min_size=20, max_size=20), st.binary(min_size=16, max_size=16)),
    min_size=1,
    max_size=16,
    unique_by=lambda replica: replica.node_id,
).map(tuple)


def followings(mine):
    """Return any following ballot of ``mine``, or none."""
    writers = st.binary(min_size=8, max_size=8)
    theirs = st.builds(Ballot, st.just(mine.epoch), st.integers(mine.counter, 2**64 - 1), writers)
    return st.none() | theirs.filter(lambda ballot: ballot > mine)


@st.composite
def records(draw):
    """Any record that is well-formed; the signature is good."""
    epoch, count = draw(st.integers(0, 2**32 - 1)), draw(numbers)
    version = draw(st.integers(1, 2**64 - 1))
    now, before = draw(replica_sets), draw(replica_sets)
    recovered = draw(st.booleans())
    moved = version > 1 and not recovered and set(now) != set(before) and draw(st.booleans())
    mine = Ballot(epoch, draw(numbers), draw(st.binary(min_size=8, max_size=8)))
    return Record.sign(
        KEYS,
        epoch=epoch,
        replicas=now,
        previous_replicas=before if moved else (),
        ballot=mine,
        version=version,
        previous=bytes(32) if version == 1 else b"\1" + draw(st.binary(min_size=31, max_size=31)),
        root=EMPTY_ROOT if count == 0 else b"\1" + draw(st.binary(min_size=31, max_size=31)),
        count=count,
        operations=tuple(draw(st.lists(st.binary(min_size=8, max_size=8), max_size=64))),
        recovered=recovered,
        following=draw(followings(mine)),
    )


class FormTest(SynchronousTestCase):
    @given(records())
    def test_read_back(self, record):
        packed = record.pack()
        self.assertTrue(MIN_RECORD_BYTES <= len(packed) <= MAX_RECORD_BYTES)
        again = Record.unpack(packed)
        self.assertEqual(again, record)
        self.assertEqual(again.pack(), packed)
        self.assertEqual(again.content, record.content)
        again.check(KEYS.fingerprint)

    def test_the_shortest_and_the_longest(self):
        self.assertLess(MAX_RECORD_BYTES, 3 * 1024)
        full = tuple(ReplicaId(bytes([n]) * 20, bytes(16)) for n in range(16))
        other = tuple(ReplicaId(bytes([n]) * 20, bytes(16)) for n in range(16, 32))
        one = Record.sign(KEYS, epoch=0, replicas=full[:1], ballot=ballot(0, 0))
        self.assertEqual(len(one.pack()), MIN_RECORD_BYTES)
        grown = Record.sign(KEYS, epoch=0, replicas=full, ballot=ballot(0, 0))
        many = tuple(b"%08d" % n for n in range(MAX_OPERATIONS))
        grown = grown.successor(
            KEYS, ballot=ballot(1, 0), root=b"r" * 32, count=1, operation=many
        ).new_epoch(KEYS, ballot(0), other)
        self.assertEqual(len(grown.pack()), MAX_RECORD_BYTES)
        self.assertEqual(Record.unpack(grown.pack()), grown)

    def test_every_changed_bit_is_seen(self):
        for record in (FIRST, MOVED):
            packed = record.pack()
            for position in range(8 * len(packed)):
                changed = bytearray(packed)
                changed[position // 8] ^= 1 << position % 8
                self.assertRaises(
                    (FormatError, IntegrityError),
                    lambda data: Record.unpack(data).check(KEYS.fingerprint),
                    bytes(changed),
                )

    def test_every_cut_and_every_tail_is_refused(self):
        for record in (FIRST, SECOND, MOVED):
            packed = record.pack()
            for length in range(len(packed)):
                self.assertRaises(FormatError, Record.unpack, packed[:length])
            for tail in (b"\0", bytes(8), bytes(36), bytes(4000)):
                self.assertRaises(FormatError, Record.unpack, packed + tail)

    @given(st.binary(max_size=600), st.integers(0, 121))
    def test_arbitrary_bytes_raise_format_error_alone(self, data, kept):
        with contextlib.suppress(FormatError):
            record = Record.unpack(MOVED.pack()[:kept] + data)
            self.assertEqual(record.pack(), MOVED.pack()[:kept] + data)

    def test_unknown_flags(self):
        packed = bytearray(FIRST.pack())
        for flags in range(2, 256):
            packed[72] = flags
            self.assertRaises(FormatError, Record.unpack, bytes(packed))

    def test_what_contradicts_itself(self):
        twice = (REPLICAS[0], ReplicaId(REPLICAS[0].node_id, b"another store id"))
        for changes in (
            {"replicas": ()},
            {"replicas": REPLICAS[:1] * 2},
            {"replicas": twice},
            {"replicas": tuple(ReplicaId(bytes([n]) * 20, bytes(16)) for n in range(17))},
            {"previous_replicas": tuple(ReplicaId(bytes([n]) * 20, bytes(16)) for n in range(17))},
            {"previous_replicas": twice},
            {"previous_replicas": SECOND.replicas},
            {"previous_replicas": SECOND.replicas[::-1]},
            {"previous_replicas": REPLICAS[1:], "recovered": True},
            {"version": 0},
            {"version": 1},
            {"version": 2**64},
            {"previous": bytes(32)},
            {"count": 0},
            {"count": -1},
            {"count": 2**64},
            {"root": EMPTY_ROOT},
            {"root": b"r" * 31},
            {"index": b"i" * 31},
            {"verifying_key": b"k" * 33},
            {"previous": b"p" * 33},
            {"signature": b"s" * 63},
            {"epoch": 2},
            {"ballot": ballot(1, 0)},
            {"following": ballot(1)},
            {"following": ballot(2)},
            {"following": Ballot(1, 2, b"writer 0")},
            {"following": ballot(3, 0)},
            {"following": ballot(3, 2)},
            {"operations": (b"short",)},
            {"operations": (b"change 1",) * 65},
        ):
            with self.subTest(changes):
                self.assertRaises(FormatError, evolve, SECOND, **changes)
        for changes in (
            {"version": 2},
            {"previous": b"p" * 32},
            {"count": 1},
            {"root": b"r" * 32},
            {"previous_replicas": REPLICAS[1:]},
        ):
            with self.subTest(changes):
                self.assertRaises(FormatError, evolve, FIRST, **changes)

    def test_replica_ids(self):
        for node_id, store_id in ((bytes(19), bytes(16)), (bytes(20), bytes(17))):
            self.assertRaises(FormatError, ReplicaId, node_id, store_id)
        self.assertEqual(sorted((REPLICAS[1], REPLICAS[0])), list(REPLICAS[:2]))
        self.assertEqual(repr(REPLICAS[0]), "<ReplicaId 01010101 01010101>")


class SignatureTest(SynchronousTestCase):
    def test_another_directory_or_another_key(self):
        self.assertRaises(IntegrityError, FIRST.check, OTHERS.fingerprint)
        for forged in (
            evolve(FIRST, index=OTHERS.fingerprint),
            evolve(FIRST, verifying_key=OTHERS.verifying_key),
            evolve(FIRST, verifying_key=OTHERS.verifying_key).signed(OTHERS),
            evolve(FIRST).signed(OTHERS),
            evolve(FIRST, signature=bytes(64)),
        ):
            self.assertRaises(IntegrityError, forged.check, KEYS.fingerprint)
            self.assertRaises(IntegrityError, forged.check, OTHERS.fingerprint)

    def test_a_ballot_cannot_be_put_under_a_record(self):
        """Or anybody could let an old record outrank a new one, or stand in writers' way."""
        for forged in (evolve(FIRST, ballot=ballot(9)), evolve(FIRST, following=ballot(9))):
            self.assertRaises(IntegrityError, forged.check, KEYS.fingerprint)

    def test_the_following_ballot_is_no_part_of_the_content(self):
        named = evolve(SECOND, following=ballot(3)).signed(KEYS)
        self.assertEqual(self.read_back(named).following, ballot(3))
        self.assertEqual(named.content, SECOND.content)
        again = named.reproposed(KEYS, ballot(5))
        self.assertIs(self.read_back(again).following, None)
        again = named.reproposed(KEYS, ballot(5), ballot(8))
        self.assertEqual(self.read_back(again).following, ballot(8))

    @staticmethod
    def read_back(record):
        again = Record.unpack(record.pack())
        again.check(KEYS.fingerprint)
        return again

    def test_a_prepare_signs_no_record(self):
        message = FIRST.pack()[:-64]
        forged = evolve(FIRST, signature=KEYS.sign(b"directory prepare", message))
        self.assertRaises(IntegrityError, forged.check, KEYS.fingerprint)
        good = evolve(FIRST, signature=KEYS.sign(b"directory record", message))
        good.check(KEYS.fingerprint)


class SuccessionTest(SynchronousTestCase):
    def checked(self, record):
        record.check(KEYS.fingerprint)
        self.assertEqual(Record.unpack(record.pack()), record)
        return record

    def test_the_first(self):
        first = self.checked(FIRST)
        self.assertEqual((first.version, first.previous), (1, bytes(32)))
        self.assertEqual((first.root, first.count, first.operations), (EMPTY_ROOT, 0, ()))
        self.assertEqual(first.index, KEYS.fingerprint)
        self.assertFalse(first.recovered)

    def test_a_change(self):
        second = self.checked(SECOND)
        self.assertEqual((second.version, second.previous), (2, FIRST.content))
        self.assertEqual((second.root, second.count), (b"r" * 32, 7))
        self.assertEqual(second.operations, (b"change 1",))
        self.assertEqual((second.epoch, second.replicas), (1, FIRST.replicas))

    def test_the_last_64_operations_are_remembered(self):
        record = FIRST
        names = [b"op%06d" % n for n in range(70)]
        for number, name in enumerate(names[:66]):
            record = record.successor(
                KEYS, ballot=ballot(number), root=b"r" * 32, count=1, operation=name
            )
        self.assertEqual(record.operations, tuple(names[2:66]))
        record = record.successor(
            KEYS, ballot=ballot(99), root=b"r" * 32, count=1, operation=tuple(names[66:])
        )
        self.assertEqual(self.checked(record).operations, tuple(names[6:]))
        self.assertEqual(record.version, 68)

    def test_content_is_everything_but_ballot_and_signature(self):
        again = self.checked(MOVED.reproposed(KEYS, ballot(77, 2)))
        self.assertEqual(again.content, MOVED.content)
        self.assertNotEqual(again, MOVED)
        self.assertEqual(evolve(again, ballot=MOVED.ballot, signature=MOVED.signature), MOVED)
        for changes in (
            {"index": b"i" * 32},
            {"verifying_key": b"k" * 32},
            {"replicas": MOVED.replicas[1:]},
            {"replicas": MOVED.replicas[::-1]},
            {"previous_replicas": ()},
            {"previous_replicas": (), "replicas": MOVED.replicas + MOVED.previous_replicas[:1]},
            {"previous_replicas": (), "recovered": True},
            {"version": 4},
            {"previous": b"p" * 32},
            {"root": b"s" * 32},
            {"count": 8},
            {"operations": ()},
            {"epoch": 3, "ballot": ballot(1, 3)},
        ):
            self.assertNotEqual(evolve(MOVED, **changes).content, MOVED.content, changes)

    def test_a_change_of_the_replica_set(self):
        moved = self.checked(MOVED)
        self.assertEqual((moved.epoch, moved.replicas), (2, REPLICAS[1:]))
        self.assertEqual(moved.previous_replicas, REPLICAS[:4])
        self.assertEqual((moved.version, moved.previous), (3, SECOND.content))
        self.assertEqual((moved.root, moved.count), (SECOND.root, SECOND.count))
        after = moved.successor(
            KEYS, ballot=ballot(2, 2), root=EMPTY_ROOT, count=0, operation=b"change 2"
        )
        self.assertEqual(self.checked(after).previous_replicas, ())
        self.assertRaises(FormatError, SECOND.new_epoch, KEYS, ballot(3), REPLICAS[1:])
        # Under the ballot of a change of the set that was left, the base may be the one before.
        late = SECOND.successor(
            KEYS, ballot=ballot(2, 2), root=EMPTY_ROOT, count=0, operation=b"change 2"
        )
        self.assertEqual((self.checked(late).epoch, late.ballot.epoch), (1, 2))
        self.assertRaises(FormatError, SECOND.new_epoch, KEYS, ballot(3, 2), SECOND.replicas)

    def test_a_recovered_record(self):
        for replicas in (REPLICAS[1:], SECOND.replicas):
            recovered = SECOND.new_epoch(KEYS, ballot(1, 5), replicas, recovered=True)
            self.checked(recovered)
            self.assertTrue(recovered.recovered)
            self.assertEqual((recovered.epoch, recovered.previous_replicas), (5, ()))
            after = recovered.successor(
                KEYS, ballot=ballot(2, 5), root=b"s" * 32, count=8, operation=b"change 3"
            )
            self.assertFalse(self.checked(after).recovered)

    def test_quorums(self):
        wanted = {1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 16: 9}
        for number, quorum in wanted.items():
            replicas = tuple(ReplicaId(bytes([n]) * 20, bytes(16)) for n in range(number))
            self.assertEqual(evolve(FIRST, replicas=replicas).quorum, quorum)

    def test_shown_without_keys(self):
        self.assertEqual(
            repr(SECOND),
            f"<Record {KEYS.fingerprint.hex()[:8]} version 2, 7 entries, epoch 1, 4 replicas>",
        )
