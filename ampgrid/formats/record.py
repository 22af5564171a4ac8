"""The record of a directory: what its replicas agree on, signed with its key.

Layout, integers big-endian::

    4    magic "AGR2"
    32   index of the directory
    32   its verifying key
    4    epoch
    1    flags: bit 0 is set if the record was recovered; the others are clear
    8    version: 1 for the first record
    32   previous: content hash of the record that this one follows; zero for the first
    32   root of the trie; zero if it is empty
    8    number of entries
    1    number of replicas, then each: node id (20), store id (16)
    1    number of previous replicas, then each likewise; not 0 only if the set changes
    1    number of operation ids, then each (8), oldest first
    20   ballot
    20   following ballot, above that and of its epoch; zero if there is none
    64   signature over all before it

The content of a record is all before its ballot. Two records of one content say the same, though
who re-proposes one signs it anew under ballots of its own.

Source: `docs/specs/directories.md#record`, `docs/specs/register.md`.
"""

from __future__ import annotations

import struct
from functools import cached_property

from attrs import evolve, field, frozen

from ampgrid.crypto.directory_keys import (
    FINGERPRINT_SIZE,
    VERIFYING_KEY_SIZE,
    WriteKeys,
    check_signature,
)
from ampgrid.crypto.hashing import HASH_SIZE, tagged_hash
from ampgrid.crypto.identity import NODE_ID_SIZE, SIGNATURE_SIZE
from ampgrid.errors import FormatError
from ampgrid.formats.ballot import BALLOT_SIZE, MAX_EPOCH, Ballot, check_ownership

#: The root of a trie without entries.
EMPTY_ROOT = bytes(HASH_SIZE)
#: Length of the id of a store, bytes.
STORE_ID_SIZE = 16
#: The most replicas of a directory.
MAX_REPLICAS = 16
#: The most operation ids that a record remembers, and the length of one, bytes.
MAX_OPERATIONS = 64
OPERATION_SIZE = 8

_ONE_SIZE = frozenset({OPERATION_SIZE})

_DOMAIN = b"directory record"
_MAGIC = b"AGR2"
_TAG_CONTENT = b"ampgrid_directory_record_content_v1"
_RECOVERED = 1
_NO_BASE = bytes(HASH_SIZE)
_MAX_NUMBER = 2**64 - 1
_HEAD = struct.Struct(f">4s{FINGERPRINT_SIZE}s{VERIFYING_KEY_SIZE}sLBQ{HASH_SIZE}s{HASH_SIZE}sQ")
_REPLICA_SIZE = NODE_ID_SIZE + STORE_ID_SIZE
_NO_BALLOT = bytes(BALLOT_SIZE)
_TAIL_SIZE = 2 * BALLOT_SIZE + SIGNATURE_SIZE
#: The shortest and the longest record, bytes.
MIN_RECORD_BYTES = _HEAD.size + 3 + _REPLICA_SIZE + _TAIL_SIZE
MAX_RECORD_BYTES = (
    _HEAD.size
    + 3
    + 2 * MAX_REPLICAS * _REPLICA_SIZE
    + MAX_OPERATIONS * OPERATION_SIZE
    + _TAIL_SIZE
)


@frozen(order=True, repr=False)
class ReplicaId:
    """A peer's store of directories. A peer that lost its disk comes back as another replica.

    Attributes:
        node_id: of the peer, 20 bytes.
        store_id: drawn when the store was made, 16 bytes.
    """

    node_id: bytes
    store_id: bytes

    def __attrs_post_init__(self) -> None:
        if len(self.node_id) != NODE_ID_SIZE or len(self.store_id) != STORE_ID_SIZE:
            raise FormatError("The id of a replica is of another length than it must be.")

    def __repr__(self) -> str:
        return f"<ReplicaId {self.node_id.hex()[:8]} {self.store_id.hex()[:8]}>"


# With a __dict__, for what is derived once.
@frozen(repr=False, slots=False)
class Record:
    """One version of a directory, or the proposal of one: which it is the replicas decide.

    Attributes:
        index: of the directory, 32 bytes.
        verifying_key: of the directory, 32 bytes.
        epoch: rises with each change of the replica set; that of the ballot is the same.
        replicas: 1 to 16, of distinct nodes.
        previous_replicas: the set before, in the record that changes it; else none.
        ballot: under which it was proposed.
        version: 1 for the first record, and one more with each change.
        previous: `content` of the record that it follows, 32 bytes; zero for the first.
        root: of the trie of its entries, 32 bytes; `EMPTY_ROOT` if it has none.
        count: of its entries.
        operations: ids of the last changes, at most 64 of 8 bytes, oldest first.
        recovered: whether it was put in the place of lost ones.
        following: the writer's next ballot, which whoever accepts the record promises with it;
            None if it names none.
        signature: 64 bytes; nothing is known of it before `check`.
    """

    index: bytes
    verifying_key: bytes
    epoch: int
    replicas: tuple[ReplicaId, ...]
    previous_replicas: tuple[ReplicaId, ...]
    ballot: Ballot
    version: int
    previous: bytes
    root: bytes
    count: int
    operations: tuple[bytes, ...]
    recovered: bool
    following: Ballot | None = None
    signature: bytes = field(default=bytes(SIGNATURE_SIZE))

    def __attrs_post_init__(self) -> None:
        _check(self)

    @cached_property
    def _body(self) -> bytes:
        """All before the ballot."""
        parts = [
            _HEAD.pack(
                _MAGIC,
                self.index,
                self.verifying_key,
                self.epoch,
                _RECOVERED if self.recovered else 0,
                self.version,
                self.previous,
                self.root,
                self.count,
            )
        ]
        for replicas in (self.replicas, self.previous_replicas):
            parts.append(bytes([len(replicas)]))
            for replica in replicas:
                parts += (replica.node_id, replica.store_id)
        parts.append(bytes([len(self.operations)]))
        parts += self.operations
        return b"".join(parts)

    @cached_property
    def content(self) -> bytes:
        """Hash of everything but the ballots and the signature, 32 bytes."""
        return tagged_hash(_TAG_CONTENT, self._body)

    @property
    def quorum(self) -> int:
        """How many of the replicas decide."""
        return len(self.replicas) // 2 + 1

    def pack(self) -> bytes:
        """Return what `unpack` reads, at most `MAX_RECORD_BYTES` bytes."""
        return self._signed_bytes + self.signature

    @classmethod
    def unpack(cls, packed: bytes) -> Record:
        """Read a record, without checking its signature.

        Raises:
            FormatError: it is malformed or contradicts itself.
        """
        if not MIN_RECORD_BYTES <= len(packed) <= MAX_RECORD_BYTES:
            raise FormatError("The record is too short or too long.")
        magic, index, key, epoch, flags, version, previous, root, count = _HEAD.unpack_from(packed)
        if magic != _MAGIC or flags not in (0, _RECOVERED):
            raise FormatError("The record is of an unknown form.")
        position = _HEAD.size
        replicas, position = _take(packed, position, _REPLICA_SIZE)
        previous_replicas, position = _take(packed, position, _REPLICA_SIZE)
        operations, position = _take(packed, position, OPERATION_SIZE)
        if len(packed) != position + _TAIL_SIZE:
            raise FormatError("The record is cut short, or too long for what is in it.")
        middle, end = position + BALLOT_SIZE, position + 2 * BALLOT_SIZE
        following = packed[middle:end]
        return cls(
            index,
            key,
            epoch,
            _replica_ids(replicas),
            _replica_ids(previous_replicas),
            Ballot.unpack(packed[position:middle]),
            version,
            previous,
            root,
            count,
            tuple(operations),
            flags == _RECOVERED,
            None if following == _NO_BALLOT else Ballot.unpack(following),
            packed[end:],
        )

    def check(self, index: bytes) -> None:
        """Check that who holds the write key of the directory ``index`` signed this.

        Raises:
            IntegrityError: it is of another directory, or the signature does not hold.
        """
        check_ownership(self.index, self.verifying_key, index)
        check_signature(self.verifying_key, _DOMAIN, self._signed_bytes, self.signature)

    @classmethod
    def sign(
        cls,
        keys: WriteKeys,
        *,
        epoch: int,
        replicas: tuple[ReplicaId, ...],
        ballot: Ballot,
        previous_replicas: tuple[ReplicaId, ...] = (),
        version: int = 1,
        previous: bytes = _NO_BASE,
        root: bytes = EMPTY_ROOT,
        count: int = 0,
        operations: tuple[bytes, ...] = (),
        recovered: bool = False,
        following: Ballot | None = None,
    ) -> Record:
        """Make and sign a record; without the last arguments the first one of a directory.

        Raises:
            FormatError: the arguments contradict each other or are out of bounds.
        """
        return cls(
            keys.fingerprint,
            keys.verifying_key,
            epoch,
            replicas,
            previous_replicas,
            ballot,
            version,
            previous,
            root,
            count,
            operations,
            recovered,
            following,
        ).signed(keys)

    def signed(self, keys: WriteKeys) -> Record:
        """Return the same record with a good signature."""
        return evolve(self, signature=keys.sign(_DOMAIN, self._signed_bytes))

    def successor(
        self,
        keys: WriteKeys,
        *,
        ballot: Ballot,
        root: bytes,
        count: int,
        operation: bytes | tuple[bytes, ...],
        following: Ballot | None = None,
    ) -> Record:
        """Return the record of a change to this one, in the same replica set, signed.

        Args:
            keys: of the directory.
            ballot: of this record's epoch.
            root: of the trie after the change, 32 bytes.
            count: of the entries after it.
            operation: id of the change, 8 bytes; of several changes made at once, all ids.
            following: the ballot of the writer's next change, if it is to be promised along.
        """
        new = (operation,) if isinstance(operation, bytes) else operation
        return evolve(
            self,
            previous_replicas=(),
            ballot=ballot,
            version=self.version + 1,
            previous=self.content,
            root=root,
            count=count,
            operations=(self.operations + new)[-MAX_OPERATIONS:],
            recovered=False,
            following=following,
        ).signed(keys)

    def reproposed(
        self, keys: WriteKeys, ballot: Ballot, following: Ballot | None = None
    ) -> Record:
        """Return a record of the same content under other ballots of its epoch, signed."""
        return evolve(self, ballot=ballot, following=following).signed(keys)

    def new_epoch(
        self,
        keys: WriteKeys,
        ballot: Ballot,
        replicas: tuple[ReplicaId, ...],
        *,
        operation: bytes | None = None,
        following: Ballot | None = None,
        recovered: bool = False,
    ) -> Record:
        """Return the record that gives the directory another replica set, signed.

        Args:
            keys: of the directory.
            ballot: of a later epoch, which becomes that of the record.
            replicas: the new set.
            operation: id of the change, 8 bytes, None if it has none.
            following: as in `successor`.
            recovered: whether the old set is given up, and has no say in it.

        Raises:
            FormatError: the epoch is not a later one, or the set is malformed or the same.
        """
        if ballot.epoch <= self.epoch:
            raise FormatError("A new replica set needs a later epoch.")
        new = () if operation is None else (operation,)
        return evolve(
            self,
            epoch=ballot.epoch,
            replicas=replicas,
            previous_replicas=() if recovered else self.replicas,
            ballot=ballot,
            version=self.version + 1,
            previous=self.content,
            operations=(self.operations + new)[-MAX_OPERATIONS:],
            recovered=recovered,
            following=following,
        ).signed(keys)

    @property
    def _signed_bytes(self) -> bytes:
        following = _NO_BALLOT if self.following is None else self.following.pack()
        return self._body + self.ballot.pack() + following

    def __repr__(self) -> str:
        return (
            f"<Record {self.index.hex()[:8]} version {self.version}, {self.count} entries,"
            f" epoch {self.epoch}, {len(self.replicas)} replicas>"
        )


def _take(packed: bytes, position: int, size: int) -> tuple[list[bytes], int]:
    """Take a list of parts of ``size`` bytes; returns it and the position behind it."""
    start = position + 1
    # One byte of count always stands before the tail of any record that is not cut short.
    end = start + packed[position] * size if position < len(packed) else len(packed) + 1
    if end > len(packed):
        raise FormatError("The record is cut short.")
    return [packed[at : at + size] for at in range(start, end, size)], end


def _replica_ids(parts: list[bytes]) -> tuple[ReplicaId, ...]:
    return tuple(ReplicaId(part[:NODE_ID_SIZE], part[NODE_ID_SIZE:]) for part in parts)


def _check(record: Record) -> None:
    """Check everything but the signature.

    Raises:
        FormatError: something is out of bounds, or contradicts something else.
    """
    fixed = (
        (record.index, FINGERPRINT_SIZE),
        (record.verifying_key, VERIFYING_KEY_SIZE),
        (record.previous, HASH_SIZE),
        (record.root, HASH_SIZE),
        (record.signature, SIGNATURE_SIZE),
    )
    if any(len(part) != size for part, size in fixed):
        raise FormatError("A part of the record is of another length than it must be.")
    # A ballot may be of a later epoch: whoever met an unfinished change of the replica set has
    # gone above its ballot, and may find that the base is the record before it.
    if not 0 <= record.epoch <= record.ballot.epoch <= MAX_EPOCH:
        raise FormatError("The epoch of the record is above that of its ballot.")
    following = record.following
    if following is not None and not (
        record.ballot < following and following.epoch == record.ballot.epoch
    ):
        raise FormatError("The following ballot of the record does not follow its ballot.")
    if not 1 <= record.version <= _MAX_NUMBER or not 0 <= record.count <= _MAX_NUMBER:
        raise FormatError("The version of the record or its count is out of bounds.")
    if (record.version == 1) != (record.previous == _NO_BASE):
        raise FormatError("A record follows another one unless it is the first.")
    if (record.count == 0) != (record.root == EMPTY_ROOT):
        raise FormatError("The count of the record does not fit its root.")
    # There are as many as there can be as a rule: their lengths are looked at all at once.
    if len(record.operations) > MAX_OPERATIONS or not _ONE_SIZE.issuperset(
        map(len, record.operations)
    ):
        raise FormatError("The record names too many operations, or malformed ones.")
    _check_replicas(record)


def _check_replicas(record: Record) -> None:
    now, before = record.replicas, record.previous_replicas
    for replicas in (now, before):
        if len({replica.node_id for replica in replicas}) != len(replicas):
            raise FormatError("The record names a replica twice.")
    if not 1 <= len(now) <= MAX_REPLICAS or len(before) > MAX_REPLICAS:
        raise FormatError("The record names no replica, or too many.")
    if before and (record.version == 1 or record.recovered or set(before) == set(now)):
        raise FormatError("The record names an earlier replica set without changing it.")
