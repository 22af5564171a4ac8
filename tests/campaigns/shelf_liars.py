"""Storage servers that lie and stall: what each of them makes of a share, or of a call."""

import struct

from twisted.internet.task import deferLater

from ampgrid.commands.errors import InternalWireError, NoSuchShareError, StoreFailedError
from ampgrid.errors import CallTimeoutError, NotConnectedError
from ampgrid.formats.share import parse_header
from ampgrid.storage.client import ASK_SECONDS, CLOSE_SECONDS, MOVE_SECONDS, Allocation
from ampgrid.testing.shelves import Shelf
from tests.material import make_shares, some_bytes

#: How the files of the zoo are spread.
NEEDED, TOTAL = 3, 6

# What a liar makes of a share before it hands it out: (random, share, header) -> share.


def flip(share, rng, start, end):
    """Return the share with a byte between two places changed."""
    bad = bytearray(share)
    bad[rng.randrange(start, end)] ^= rng.randrange(1, 256)
    return bytes(bad)


def put_word(share, word, value):
    """Return the share with one word of its header replaced."""
    return share[: 4 * word] + struct.pack(">L", value % 2**32) + share[4 * word + 4 :]


def word_changer(word):
    """Return a mutation that changes one word of the header to something likely to hurt."""

    def change(share, rng, _header):
        old = struct.unpack_from(">L", share, 4 * word)[0]
        value = rng.choice(
            [0, 1, old + 1, old - 1, 2**31, 2**32 - 1, len(share), rng.getrandbits(32)]
        )
        return put_word(share, word, value if value != old else old + 2)

    return change


def other_file(seed):
    """Return a whole share of another file of the same size."""
    return make_shares(some_bytes(20_000, b"other%d" % seed), NEEDED, TOTAL, 4_000)[1][0]


MUTATIONS = {
    "a byte of a block": lambda s, r, h: flip(s, r, h.offset_data, h.offset_plaintext_tree),
    "every byte of the blocks": lambda s, r, h: (
        s[: h.offset_data] + r.randbytes(h.data_size) + s[h.offset_plaintext_tree :]
    ),
    "block 0 in the place of every block": lambda s, r, h: (
        s[: h.offset_data]
        + (s[h.offset_data : h.offset_data + h.block_size] * 99)[: h.data_size]
        + s[h.offset_plaintext_tree :]
    ),
    "two blocks swapped": lambda s, r, h: (
        s[: h.offset_data]
        + s[h.offset_data + h.block_size : h.offset_data + 2 * h.block_size]
        + s[h.offset_data : h.offset_data + h.block_size]
        + s[h.offset_data + 2 * h.block_size :]
    ),
    "the version": word_changer(0),
    "the block size": word_changer(1),
    "the data size": word_changer(2),
    "the offset of the data": word_changer(3),
    "the offset of the plaintext tree": word_changer(4),
    "the offset of the crypttext tree": word_changer(5),
    "the offset of the block hashes": word_changer(6),
    "the offset of the share hashes": word_changer(7),
    "the offset of the URI extension": word_changer(8),
    "a crypttext hash": lambda s, r, h: flip(s, r, h.offset_crypttext_tree, h.offset_block_hashes),
    "a block hash": lambda s, r, h: flip(s, r, h.offset_share_hashes - 160, h.offset_share_hashes),
    "a share hash": lambda s, r, h: flip(s, r, h.offset_share_hashes, h.offset_ueb),
    "the length of the URI extension": lambda s, r, h: flip(s, r, h.offset_ueb, h.offset_ueb + 4),
    "the URI extension": lambda s, r, h: flip(s, r, h.offset_ueb + 4, len(s)),
    "any one byte": lambda s, r, h: flip(s, r, 0, len(s)),
    "a share of another file": lambda s, r, h: other_file(r.randrange(3)),
    "its URI extension from another file": lambda s, r, h: (
        s[: h.offset_ueb] + other_file(0)[h.offset_ueb :]
    ),
    "cut in the middle": lambda s, r, h: s[: r.randrange(1, len(s))],
    "cut by one byte": lambda s, r, h: s[:-1],
    "nothing at all": lambda s, r, h: b"",
    "a million bytes behind it": lambda s, r, h: s + bytes(1_000_000),
    "all zeros": lambda s, r, h: bytes(len(s)),
    "noise": lambda s, r, h: r.randbytes(len(s)),
    "version 2 with offsets beyond everything": lambda s, r, h: (
        struct.pack(">L8Q", 2, *(r.getrandbits(62) for _ in range(8))) + s[68:]
    ),
}


class Liar(Shelf):
    """A shelf that misbehaves in the way of its class."""

    def __init__(self, server_id, contents, clock, rng):
        super().__init__(server_id, contents)
        self.clock = clock
        self.rng = rng

    async def stall(self):
        """Answer nothing, until the client's own patience ends."""
        await deferLater(self.clock, MOVE_SECONDS, lambda: None)
        raise CallTimeoutError("the peer did not answer in time")


class StallsBeforeTheFirstByte(Liar):
    async def answering(self):
        await deferLater(self.clock, ASK_SECONDS, lambda: None)
        raise CallTimeoutError("the peer did not answer in time")


class StallsAfterTheFirstAnswer(Liar):
    answers = 0

    async def answering(self):
        self.answers += 1
        if self.answers > 1:
            await self.stall()


class StallsInTheMiddle(Liar):
    answers = 0

    async def answering(self):
        self.answers += 1
        if self.answers > 4:
            await self.stall()


class OneByteASecond(Liar):
    async def read(self, storage_index, number, offset, length):
        if length > MOVE_SECONDS:
            await self.stall()
        await deferLater(self.clock, length, lambda: None)
        return await super().read(storage_index, number, offset, length)


class TenSecondsAnAnswer(Liar):
    async def answering(self):
        await deferLater(self.clock, 10, lambda: None)


class ClaimsAllAndTakesItsTime(Liar):
    """Claims every share and answers each question just before the client's patience ends."""

    async def linger(self, seconds):
        await deferLater(self.clock, seconds, lambda: None)

    async def shares(self, storage_index, want=(), head=0):
        await self.linger(ASK_SECONDS - 1)
        return dict.fromkeys(range(TOTAL), 20_000), {}

    async def read(self, storage_index, number, offset, length):
        await self.linger(MOVE_SECONDS - 1)
        return self.rng.randbytes(length)

    async def advise_corrupt(self, storage_index, number, reason):
        await self.linger(ASK_SECONDS - 1)

    async def allocate(self, storage_index, numbers, size):
        await self.linger(ASK_SECONDS - 1)
        return await super().allocate(storage_index, numbers, size)


class HasAllAndTakesItsTime(ClaimsAllAndTakesItsTime):
    """The same, with shares that are good indeed."""

    async def shares(self, storage_index, want=(), head=0):
        self.contents |= {(self.cap.storage_index, n): s for n, s in enumerate(self.all_shares)}
        await self.linger(ASK_SECONDS - 1)
        return {n: len(share) for n, share in enumerate(self.all_shares)}, {}

    async def read(self, storage_index, number, offset, length):
        await self.linger(MOVE_SECONDS - 1)
        return await Liar.read(self, storage_index, number, offset, length)


class DawdlesWithOneReadAtATime(Liar):
    """Answers at once for half of the check, then each read a little later than the one before."""

    answers = 0

    async def shares(self, storage_index, want=(), head=0):
        sizes, _heads = await super().shares(storage_index, want, head)
        return sizes and dict.fromkeys(range(TOTAL), max(sizes.values())), {}

    async def answering(self):
        self.answers += 1
        await deferLater(self.clock, min(self.answers, MOVE_SECONDS - 1), lambda: None)


class WritesSlowly(Liar):
    """Is honest as long as it is asked, and takes its time with the end of what it is given."""

    async def allocate(self, storage_index, numbers, size):
        allocation = await super().allocate(storage_index, numbers, size)
        for writer in allocation.writers.values():
            writer.close = self.slowly(writer.close)
        return allocation

    def slowly(self, close):
        async def close_later():
            await deferLater(self.clock, CLOSE_SECONDS - 1, lambda: None)
            await close()

        return close_later

    async def store(self, storage_index, number, data):
        await deferLater(self.clock, CLOSE_SECONDS - 1, lambda: None)
        return await super().store(storage_index, number, data)


class ListensSlowly(Liar):
    """Is bad at once, and takes its time with all that a repair asks of it."""

    async def shares(self, storage_index, want=(), head=0):
        return dict.fromkeys(range(TOTAL), 5_000), {}

    async def read(self, storage_index, number, offset, length):
        return bytes(length)

    async def advise_corrupt(self, storage_index, number, reason):
        await deferLater(self.clock, ASK_SECONDS - 1, lambda: None)

    async def allocate(self, storage_index, numbers, size):
        await deferLater(self.clock, ASK_SECONDS - 1, lambda: None)
        return await super().allocate(storage_index, numbers, size)


class AnswersMoreThanAsked(Liar):
    async def read(self, storage_index, number, offset, length):
        return await super().read(storage_index, number, offset, length + 1_000)


class AnswersNothing(Liar):
    async def read(self, storage_index, number, offset, length):
        return b""


class ClaimsWhatItLacks(Liar):
    async def shares(self, storage_index, want=(), head=0):
        return dict.fromkeys(range(256), 20000), {}

    async def read(self, storage_index, number, offset, length):
        raise NoSuchShareError("no such share")


class ClaimsImpossibleSizes(Liar):
    async def shares(self, storage_index, want=(), head=0):
        return dict.fromkeys(range(TOTAL), 2**63 - 1), {}


class ClaimsNumbersThatFitNoInteger(Liar):
    async def shares(self, storage_index, want=(), head=0):
        return dict.fromkeys(range(TOTAL), 2**64 - 1), {}

    async def read(self, storage_index, number, offset, length):
        if offset + length >= 2**63:
            raise AssertionError("asked for what no integer of the wire can say")
        far = 2**63 + 10
        offsets = (far, far, far, far + 64, far + 200)
        return struct.pack(">LQQQQQQQQ", 2, 1, 1, 84, *offsets)[:length]

    async def allocate(self, storage_index, numbers, size):
        return Allocation(frozenset(range(TOTAL)), {}, frozenset())

    async def store(self, storage_index, number, data):
        return Allocation(frozenset(range(TOTAL)), {}, frozenset())


class ClaimsAnEndlessTree(Liar):
    asked = 0

    async def shares(self, storage_index, want=(), head=0):
        return dict.fromkeys(range(TOTAL), 2**40), {}

    async def read(self, storage_index, number, offset, length):
        self.asked += length
        if self.asked > 2_000_000:
            raise AssertionError("reads for ever what nobody vouches for")
        end = 2**39
        words = (2, 1, self.rng.choice([100, 1_000, 6_667]), 68, 10_000, 10_000, 20_000, end)
        return (struct.pack(">L8Q", *words, end + 340) + bytes(length))[offset : offset + length]


class RotatesForeignClaims(Liar):
    tries = 0

    async def allocate(self, storage_index, numbers, size):
        type(self).tries += 1
        return Allocation(frozenset((type(self).tries % TOTAL,)), {}, frozenset())

    async def store(self, storage_index, number, data):
        return await self.allocate(storage_index, (), 0)

    async def shares(self, storage_index, want=(), head=0):
        share = other_file(0)
        return {number: len(share) for number in range(TOTAL)}, {}

    async def read(self, storage_index, number, offset, length):
        return make_shares(some_bytes(20_000, b"other0"), NEEDED, TOTAL, 4_000)[1][number][
            offset : offset + length
        ]


class StallsTheHashes(Liar):
    async def read(self, storage_index, number, offset, length):
        if length % 32 == 0 and length >= 32:
            await self.stall()
        return await super().read(storage_index, number, offset, length)


class DeniesWhatItHas(Liar):
    async def shares(self, storage_index, want=(), head=0):
        return {}, {}


class FailsEveryTime(Liar):
    async def answering(self):
        raise InternalWireError("reference 00000000")


class GoesAwayInTheMiddle(Liar):
    answers = 0

    async def answering(self):
        self.answers += 1
        if self.answers > 3:
            raise NotConnectedError("the connection was lost")


class ChangesItsMind(Liar):
    """Tells the truth about hashes and lies about blocks, now and then."""

    async def read(self, storage_index, number, offset, length):
        data = await super().read(storage_index, number, offset, length)
        if length > 1_000 and self.rng.random() < 0.5 and data:
            return flip(data, self.rng, 0, len(data))
        return data


class HeadsAndReadsDisagree(Liar):
    async def shares(self, storage_index, want=(), head=0):
        sizes, heads = await super().shares(storage_index, want, head)
        return sizes, {n: self.rng.randbytes(len(h)) for n, h in heads.items()}


class HandsOutTheWrongNumber(Liar):
    async def shares(self, storage_index, want=(), head=0):
        sizes, _heads = await super().shares(storage_index, want, head)
        return {(n + 1) % TOTAL: size for n, size in sizes.items()}, {}

    async def read(self, storage_index, number, offset, length):
        return await super().read(storage_index, (number - 1) % TOTAL, offset, length)


class AcceptsAndDrops(Liar):
    async def store(self, storage_index, number, data):
        return Allocation(frozenset(), {}, frozenset((number,)))

    async def allocate(self, storage_index, numbers, size):
        allocation = await super().allocate(storage_index, numbers, size)
        for writer in allocation.writers.values():
            writer._index = b"nowhere"
        return allocation


class SaysItHasItAll(Liar):
    async def store(self, storage_index, number, data):
        return Allocation(frozenset(range(TOTAL)), {}, frozenset())

    async def allocate(self, storage_index, numbers, size):
        return Allocation(frozenset(range(TOTAL)), {}, frozenset())

    async def shares(self, storage_index, want=(), head=0):
        return dict.fromkeys(range(TOTAL), 5000), {}

    async def read(self, storage_index, number, offset, length):
        return self.rng.randbytes(length)


class AcceptsWhatWasNotAsked(Liar):
    async def allocate(self, storage_index, numbers, size):
        return await super().allocate(storage_index, range(TOTAL), size)


class RefusesEverything(Liar):
    async def store(self, storage_index, number, data):
        return Allocation(frozenset(), {}, frozenset())

    async def allocate(self, storage_index, numbers, size):
        return Allocation(frozenset(), {}, frozenset())


class FailsToStore(Liar):
    async def store(self, storage_index, number, data):
        raise StoreFailedError("reference 00000000")

    async def allocate(self, storage_index, numbers, size):
        raise StoreFailedError("reference 00000000")


def mutated(mutation):
    """Return what makes a shelf whose shares are damaged by ``mutation``."""

    def make(server_id, contents, _clock, rng):
        return Shelf(
            server_id,
            {
                place: mutation(share, rng, parse_header(share, len(share)))
                for place, share in contents.items()
            },
        )

    return make


#: Every way to misbehave in a call.
BEHAVIOURS = list(Liar.__subclasses__())
