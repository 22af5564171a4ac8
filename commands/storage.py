"""Commands that a storage peer answers (seed 001's RIStorageServer and its buckets).

A bucket is named by two integers: ``bucket``, chosen by the caller for one allocation on this
connection, and the number of the share. When the connection goes, unclosed buckets are deleted.
Calls that name one bucket are served in the order of their arrival, so a caller sends
`AllocateBuckets`, `WriteShare` and `CloseBucket` without waiting between them.
"""

from __future__ import annotations

from twisted.protocols import amp

from ampgrid.commands import errors as e
from ampgrid.commands.arguments import (
    MAX_SHARES,
    Count,
    Exact,
    Flag,
    Octets,
    ShareHeads,
    ShareNumbers,
    ShareSizes,
    Text,
)
from ampgrid.commands.base import GridCommand, error_map

#: The most share bytes in one box: what is left of 65,535 is for later arguments, not needed.
MAX_CHUNK_BYTES = 65_000

#: The most bytes that all heads in one answer of `GetBuckets` take together.
MAX_HEADS_BYTES = 60_000

_INDEX = (b"storage_index", Exact(16))
_BUCKET: list[tuple[bytes, amp.Argument]] = [(b"bucket", Count(2**32 - 1)), (b"share", Count(255))]


class AllocateBuckets(GridCommand):
    """Ask room for shares of one file and renew or add the lease on those already there.

    The answer tells which share numbers of this file the server holds already (all of them,
    asked for or not) and which of the asked it accepts; buckets are open for the accepted ones.
    A share that was asked for and stands in neither was refused for want of room. Leases are
    added for both. With ``data``, exactly one share is asked for and its first bytes come along;
    with ``close`` too, they are all of it, and the answer comes after it is durable; if a share
    of that number is held it stays, whatever its bytes are, and the number is not in
    ``accepted``. `NoSpaceError` means that there was no room for a lease on what is held.
    A share has at least one byte.

    :answered-by: storage peers
    :needs: Hello
    :bound: 65 KiB, answer 600 bytes
    :repeat: yes, under a new bucket number
    :since: 1
    """

    arguments = [
        _INDEX,
        (b"renew_secret", Exact(32)),
        (b"cancel_secret", Exact(32)),
        (b"shares", ShareNumbers()),
        (b"allocated_size", Count()),
        (b"bucket", Count(2**32 - 1)),
        (b"data", Octets(MAX_CHUNK_BYTES, optional=True)),
        (b"close", Flag(optional=True)),
    ]
    response = [
        (b"already_got", ShareNumbers(MAX_SHARES)),
        (b"accepted", ShareNumbers(MAX_SHARES)),
    ]
    errors = error_map(e.NoSpaceError, e.StoreFailedError)


class WriteShare(GridCommand):
    """Write bytes of a share at an offset inside its allocated size.

    The answer makes room for the next write; the bytes may be on their way to the disk yet. If
    the disk then refuses them, later writes to the bucket and its close answer that.

    :answered-by: storage peers
    :needs: AllocateBuckets on this connection
    :bound: 65 KiB, answer 32 bytes
    :repeat: yes, the same bytes may be written again
    :since: 1
    """

    arguments = [*_BUCKET, (b"offset", Count()), (b"data", Octets(MAX_CHUNK_BYTES))]
    errors = error_map(
        e.NoBucketError, e.OutsideShareError, e.ConflictingWriteError, e.StoreFailedError
    )


class CloseBucket(GridCommand):
    """Store the share for good; the answer comes after it is durable.

    A share of which any byte is missing is thrown away. If a share of its number was stored
    meanwhile that one stays: the same bytes are a success, others `ConflictingWriteError`.

    :answered-by: storage peers
    :needs: AllocateBuckets on this connection
    :bound: 128 bytes, answer 32 bytes
    :repeat: no; AllocateBuckets tells whether it is there
    :since: 1
    """

    arguments = _BUCKET
    errors = error_map(
        e.NoBucketError,
        e.IncompleteShareError,
        e.ConflictingWriteError,
        e.NoSpaceError,
        e.StoreFailedError,
    )


class AbortBucket(GridCommand):
    """Throw an unfinished share away and free what was reserved for it.

    :answered-by: storage peers
    :needs: AllocateBuckets on this connection
    :bound: 128 bytes, answer 32 bytes
    :repeat: yes
    :since: 1
    """

    arguments = _BUCKET


class GetBuckets(GridCommand):
    """Tell which shares of a file are here, and the first bytes of some.

    ``want`` names the shares whose first ``head`` bytes shall come along, lowest number first,
    as far as they all fit into 60,000 bytes; a share smaller than ``head`` comes whole.

    :answered-by: storage peers
    :needs: Hello
    :bound: 512 bytes, answer 63 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [
        _INDEX,
        (b"want", ShareNumbers(optional=True)),
        (b"head", Count(MAX_HEADS_BYTES, optional=True)),
    ]
    response = [(b"sizes", ShareSizes()), (b"heads", ShareHeads())]
    errors = error_map(e.StoreFailedError)


class ReadShare(GridCommand):
    """Read bytes of a share; clamped to its size, so the answer may be shorter, or empty.

    :answered-by: storage peers
    :needs: Hello
    :bound: 256 bytes, answer 65 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [
        _INDEX,
        (b"share", Count(255)),
        (b"offset", Count()),
        (b"length", Count(MAX_CHUNK_BYTES)),
    ]
    response = [(b"data", Octets(MAX_CHUNK_BYTES))]
    errors = error_map(e.NoSuchShareError, e.StoreFailedError)


class AddLease(GridCommand):
    """Add a lease to the shares of a file here, or renew it if the secret is known.

    :answered-by: storage peers
    :needs: Hello
    :bound: 256 bytes, answer 32 bytes
    :repeat: yes
    :since: 1
    """

    arguments = [_INDEX, (b"renew_secret", Exact(32)), (b"cancel_secret", Exact(32))]
    errors = error_map(e.NoSuchShareError, e.NoSpaceError, e.StoreFailedError)


class RenewLease(GridCommand):
    """Renew a lease for the full time.

    :answered-by: storage peers
    :needs: Hello
    :bound: 256 bytes, answer 32 bytes
    :repeat: yes
    :since: 1
    """

    arguments = [_INDEX, (b"renew_secret", Exact(32))]
    errors = error_map(e.NoSuchLeaseError, e.StoreFailedError)


class CancelLease(GridCommand):
    """Cancel a lease. Shares without any lease are not deleted at once.

    :answered-by: storage peers
    :needs: Hello
    :bound: 256 bytes, answer 32 bytes
    :repeat: no; a second one finds no lease
    :since: 1
    """

    arguments = [_INDEX, (b"cancel_secret", Exact(32))]
    errors = error_map(e.NoSuchLeaseError, e.StoreFailedError)


class AdviseCorruptShare(GridCommand):
    """Tell the server that a share it holds is bad; it looks for itself.

    :answered-by: storage peers
    :needs: Hello
    :bound: 512 bytes, answer 32 bytes
    :repeat: yes
    :since: 1
    """

    arguments = [_INDEX, (b"share", Count(255)), (b"reason", Text(200))]
    errors = error_map(e.NoSuchShareError, e.StoreFailedError)


class GetSpace(GridCommand):
    """Tell how much room there is, in bytes.

    ``available`` is what the server would still accept (its quota, its reserve and its disk all
    considered), ``used`` what the shares take, ``yours`` the part of it that the caller put.

    :answered-by: storage peers
    :needs: Hello
    :bound: 32 bytes, answer 256 bytes
    :repeat: yes
    :since: 1
    """

    response = [
        (b"available", Count()),
        (b"used", Count()),
        (b"promised", Count()),
        (b"yours", Count()),
        (b"shares", Count()),
        (b"accepts", Flag()),
    ]
    errors = error_map(e.StoreFailedError)
