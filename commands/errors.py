"""The errors that a Command may answer: flat leaves, one code each.

A wire error is built from exactly one string, since one string is all that AMP carries. What
goes to a peer names no path, key, cap or secret. No class here has a subclass that is declared
by a Command: AMP would answer the parent's code for it.
"""

from __future__ import annotations

from typing import ClassVar

from ampgrid.errors import PeerError


class WireError(PeerError):
    """The root of what a peer may answer; never raised itself.

    Attributes:
        code: the bytes that stand for the error on the wire, ``UPPER_SNAKE``.
    """

    code: ClassVar[bytes] = b""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)


class InternalWireError(WireError):
    """The responder failed in a way it did not foresee; the message is a reference number."""

    code = b"INTERNAL"


class BadArgumentError(WireError):
    """An argument is malformed, out of its bounds, or contradicts another."""

    code = b"BAD_ARGUMENT"


class NotAllowedError(WireError):
    """This peer may not call this Command, or not yet."""

    code = b"NOT_ALLOWED"


class BusyError(WireError):
    """The responder has no room for more work of this kind now; later it may."""

    code = b"BUSY"


class WrongGridError(WireError):
    """The proof of the grid's secret does not hold: another grid, or no member."""

    code = b"WRONG_GRID"


class VersionMismatchError(WireError):
    """The two ends share no version of the protocol."""

    code = b"VERSION_MISMATCH"


class AlreadyConnectedError(WireError):
    """Another connection between these two nodes stands, and it stays."""

    code = b"ALREADY_CONNECTED"


class BadAnnouncementError(WireError):
    """An announcement is malformed, unsigned, or not of the peer that sent it."""

    code = b"BAD_ANNOUNCEMENT"


class NoBucketError(WireError):
    """No open bucket has this number on this connection."""

    code = b"NO_BUCKET"


class NoSuchShareError(WireError):
    """The store holds no such share."""

    code = b"NO_SUCH_SHARE"


class NoSuchLeaseError(WireError):
    """No lease of this storage index has this secret."""

    code = b"NO_SUCH_LEASE"


class NoSpaceError(WireError):
    """The store has no room for it: its quota, its reserve or its disk is reached."""

    code = b"NO_SPACE"


class OutsideShareError(WireError):
    """The offset or the length reaches outside the allocated size."""

    code = b"OUTSIDE_SHARE"


class ConflictingWriteError(WireError):
    """The write contradicts bytes that were written before."""

    code = b"CONFLICTING_WRITE"


class IncompleteShareError(WireError):
    """Not every byte of the share was written; the bucket was discarded."""

    code = b"INCOMPLETE_SHARE"


class StoreFailedError(WireError):
    """The disk of the responder failed; nothing was stored."""

    code = b"STORE_FAILED"


class BadCapTextError(WireError):
    """The text is no cap of a file."""

    code = b"BAD_CAP"


class FileFailedError(WireError):
    """The node could not read or write the local file."""

    code = b"FILE_FAILED"


class NotEnoughSharesFoundError(WireError):
    """Too few good shares were found; the message says how many were found and needed."""

    code = b"NOT_ENOUGH_SHARES"


class NotHappyEnoughError(WireError):
    """The shares could not be placed on enough servers; the message says how many took them."""

    code = b"NOT_HAPPY"


class NotEnoughPeersConnectedError(WireError):
    """Too few storage peers were connected before the deadline."""

    code = b"NOT_ENOUGH_PEERS"


class DamagedError(WireError):
    """What was found does not match its hashes."""

    code = b"DAMAGED"


class CancelledError(WireError):
    """The operation was cancelled."""

    code = b"CANCELLED"


class NoSuchOperationError(WireError):
    """No operation of this number is under way."""

    code = b"NO_SUCH_OPERATION"


class NoSuchDirectoryError(WireError):
    """No directory of this index is kept here."""

    code = b"NO_SUCH_DIRECTORY"


class BadRecordError(WireError):
    """A record or a prepare is malformed, or its signature does not hold."""

    code = b"BAD_RECORD"


class SnapshotGoneWireError(WireError):
    """That root is no longer kept here; begin again with the present record."""

    code = b"SNAPSHOT_GONE"


class NoPublicRootError(WireError):
    """This peer knows no public root."""

    code = b"NO_PUBLIC_ROOT"


class NoSuchChildWireError(WireError):
    """The directory has no child of that name."""

    code = b"NO_SUCH_CHILD"


class ChildExistsWireError(WireError):
    """There is something of that name, and it was not to be replaced."""

    code = b"CHILD_EXISTS"


class NotDirectoryWireError(WireError):
    """The path leads through what is no directory, or to what is of another kind than asked."""

    code = b"NOT_DIRECTORY"


class NoRootWireError(WireError):
    """The node knows no such root or alias."""

    code = b"NO_ROOT"


class NotMutableWireError(WireError):
    """The cap gives no right to change the directory."""

    code = b"NOT_MUTABLE"


class ConditionFailedWireError(WireError):
    """The directory is not as the change asks for, so nothing was changed."""

    code = b"CONDITION_FAILED"


class NotReachableWireError(WireError):
    """Too few replicas of a directory answered; whether it exists is not known."""

    code = b"NOT_REACHABLE"


class UndecidedWireError(WireError):
    """A change is under way that only a holder of the write cap can settle; try again."""

    code = b"UNDECIDED"


class UncertainWireError(WireError):
    """A change may or may not have been made."""

    code = b"UNCERTAIN"


class NoSuchBlobError(WireError):
    """There is no blob of that name."""

    code = b"NO_SUCH_BLOB"


class BlobExistsWireError(WireError):
    """There is another blob of that name; it stays."""

    code = b"BLOB_EXISTS"


class BlobDeletedWireError(WireError):
    """A blob of that name was deleted within the last 90 days."""

    code = b"BLOB_DELETED"


class BadBlobError(WireError):
    """The blob does not end as it was announced; what came of it was thrown away."""

    code = b"BAD_BLOB"


class NoSuchPutError(WireError):
    """No put of this number is under way on this connection."""

    code = b"NO_SUCH_PUT"


class BlobRefusedWireError(WireError):
    """No blobs are kept for this user, or the token is not the user's."""

    code = b"BLOB_REFUSED"
