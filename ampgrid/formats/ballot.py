"""Ballots, and the signed request to promise one.

A ballot is 20 bytes, integers big-endian::

    4   epoch
    8   counter
    8   writer: random, drawn anew at each start of it

A prepare is 152 bytes::

    4   magic "AGP1"
    32  index of the directory
    32  its verifying key
    20  ballot
    64  signature over all before it

Without the write key nobody can make a prepare, so nobody else can block a directory.

Source: `docs/specs/directories.md#ballot-and-prepare`.
"""

from __future__ import annotations

import hmac
import struct

from attrs import field, frozen

from ampgrid.crypto.directory_keys import (
    FINGERPRINT_SIZE,
    VERIFYING_KEY_SIZE,
    WriteKeys,
    check_signature,
    fingerprint_of,
)
from ampgrid.crypto.identity import SIGNATURE_SIZE
from ampgrid.errors import FormatError, IntegrityError

#: Length of the writer's part of a ballot, bytes.
WRITER_SIZE = 8
#: The highest epoch and the highest counter.
MAX_EPOCH = 2**32 - 1
MAX_COUNTER = 2**64 - 1

_BALLOT = struct.Struct(f">LQ{WRITER_SIZE}s")
#: Length of a packed ballot, bytes.
BALLOT_SIZE = _BALLOT.size

_DOMAIN = b"directory prepare"
_MAGIC = b"AGP1"
_PREPARE = struct.Struct(
    f">4s{FINGERPRINT_SIZE}s{VERIFYING_KEY_SIZE}s{BALLOT_SIZE}s{SIGNATURE_SIZE}s"
)
#: Length of a packed prepare, bytes.
PREPARE_SIZE = _PREPARE.size


@frozen
class Ballot:
    """A place in the order of all attempts to change a directory.

    Attributes:
        epoch: of the record for which it is, at most 2**32 - 1; counts first.
        counter: at most 2**64 - 1.
        writer: 8 bytes that are the writer's alone; they count last.
    """

    epoch: int
    counter: int
    writer: bytes

    def __attrs_post_init__(self) -> None:
        if not (0 <= self.epoch <= MAX_EPOCH and 0 <= self.counter <= MAX_COUNTER):
            raise FormatError("The epoch or the counter of the ballot is out of bounds.")
        if len(self.writer) != WRITER_SIZE:
            raise FormatError(f"The writer in the ballot is not of {WRITER_SIZE} bytes.")

    # attrs would make these too, and gather the fields anew at each comparison: some a change.

    def __lt__(self, other: Ballot) -> bool:
        return self._key < other._key if isinstance(other, Ballot) else NotImplemented

    def __le__(self, other: Ballot) -> bool:
        return self._key <= other._key if isinstance(other, Ballot) else NotImplemented

    def __gt__(self, other: Ballot) -> bool:
        return self._key > other._key if isinstance(other, Ballot) else NotImplemented

    def __ge__(self, other: Ballot) -> bool:
        return self._key >= other._key if isinstance(other, Ballot) else NotImplemented

    @property
    def _key(self) -> tuple[int, int, bytes]:
        return (self.epoch, self.counter, self.writer)

    def pack(self) -> bytes:
        """Return the 20 bytes that `unpack` reads."""
        return _BALLOT.pack(self.epoch, self.counter, self.writer)

    @classmethod
    def unpack(cls, packed: bytes) -> Ballot:
        """Read a ballot.

        Raises:
            FormatError: it is not of 20 bytes.
        """
        if len(packed) != BALLOT_SIZE:
            raise FormatError(f"The ballot is not of {BALLOT_SIZE} bytes.")
        return cls(*_BALLOT.unpack(packed))


@frozen
class Prepare:
    """The wish of somebody with the write key that a ballot be promised.

    Attributes:
        index: of the directory, 32 bytes.
        verifying_key: of the directory, 32 bytes.
        ballot: that is to be promised.
        signature: 64 bytes; nothing is known of it before `check`.
    """

    index: bytes = field(repr=lambda index: index.hex()[:8])
    verifying_key: bytes = field(repr=False)
    ballot: Ballot
    signature: bytes = field(repr=False)

    def __attrs_post_init__(self) -> None:
        if not (
            len(self.index) == FINGERPRINT_SIZE
            and len(self.verifying_key) == VERIFYING_KEY_SIZE
            and len(self.signature) == SIGNATURE_SIZE
        ):
            raise FormatError("A part of the prepare is of another length than it must be.")

    @classmethod
    def make(cls, keys: WriteKeys, ballot: Ballot) -> Prepare:
        """Ask for ``ballot`` in the name of the directory whose keys these are."""
        message = _prepare_message(keys.fingerprint, keys.verifying_key, ballot)
        return cls(keys.fingerprint, keys.verifying_key, ballot, keys.sign(_DOMAIN, message))

    def pack(self) -> bytes:
        """Return the 152 bytes that `unpack` reads."""
        return _prepare_message(self.index, self.verifying_key, self.ballot) + self.signature

    @classmethod
    def unpack(cls, packed: bytes) -> Prepare:
        """Read a prepare, without checking its signature.

        Raises:
            FormatError: it is malformed.
        """
        if len(packed) != PREPARE_SIZE:
            raise FormatError(f"The prepare is not of {PREPARE_SIZE} bytes.")
        magic, index, verifying_key, ballot, signature = _PREPARE.unpack(packed)
        if magic != _MAGIC:
            raise FormatError("The prepare is of an unknown form.")
        return cls(index, verifying_key, Ballot.unpack(ballot), signature)

    def check(self, index: bytes) -> None:
        """Check that who holds the write key of the directory ``index`` signed this.

        Raises:
            IntegrityError: it is of another directory, or the signature does not hold.
        """
        check_ownership(self.index, self.verifying_key, index)
        message = _prepare_message(self.index, self.verifying_key, self.ballot)
        check_signature(self.verifying_key, _DOMAIN, message, self.signature)


def check_ownership(claimed: bytes, verifying_key: bytes, index: bytes) -> None:
    """Check that something signed with ``verifying_key`` can be about the directory ``index``.

    Args:
        claimed: the index that stands in it, 32 bytes.
        verifying_key: the key that stands in it, 32 bytes.
        index: of the directory of which it shall be, 32 bytes.

    Raises:
        IntegrityError: it is about another directory, or the key is not that directory's.
    """
    if not hmac.compare_digest(claimed, index):
        raise IntegrityError("What was shown belongs to another directory.")
    if not hmac.compare_digest(fingerprint_of(verifying_key), index):
        raise IntegrityError("The verifying key is not that of the directory.")


def _prepare_message(index: bytes, verifying_key: bytes, ballot: Ballot) -> bytes:
    return b"".join((_MAGIC, index, verifying_key, ballot.pack()))
