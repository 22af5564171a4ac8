"""Commands that a peer answers which keeps sealed blobs for users.

Whose blobs they are is told by the connection (the node at its other end is the user), or by
``user`` and ``token`` in every call: a token is issued by whoever runs the peer. Two nodes that
show the token of one user see the same blobs.

A put is named by a number that the caller chooses for this connection, ``put``. What names one
put is done in the order of its arrival. Nobody sees anything of a blob before its `FinishBlob`
was answered; what came of one whose connection went is kept for two days, and `PutBlob` of the
same name, size and tag goes on there. Flags are a sum: 1 PENDING, 2 PROCESSING, 4 PROCESSED,
8 FAILED.
"""

from __future__ import annotations

from twisted.protocols import amp

from ampgrid.commands import errors as e
from ampgrid.commands.arguments import Blobs, Count, Exact, Flag, Octets, Text
from ampgrid.commands.base import GridCommand, error_map

#: The most bytes of a blob in one box. A blob no larger is put and got in one round trip.
MAX_PIECE_BYTES = 65_000
#: The largest sealed blob, bytes.
MAX_BLOB_BYTES = 2**42
#: The most ids in one answer of `ListBlobs`, and what they take with two bytes each for lengths.
MAX_PAGE_IDS = 1_000
MAX_PAGE_BYTES = 60_000
#: The longest place in a listing, bytes.
MAX_PLACE_BYTES = 300
#: The longest token, bytes.
MAX_TOKEN_BYTES = 64

_ACCOUNT: list[tuple[bytes, amp.Argument]] = [
    (b"user", Text(64, optional=True)),
    (b"token", Octets(MAX_TOKEN_BYTES, optional=True)),
]
_NAME: list[tuple[bytes, amp.Argument]] = [
    *_ACCOUNT,
    (b"namespace", Text(64)),
    (b"blob_id", Text(255)),
]
_PUT: list[tuple[bytes, amp.Argument]] = [(b"put", Count(2**32 - 1))]
_QUERY: list[tuple[bytes, amp.Argument]] = [
    *_ACCOUNT,
    (b"namespace", Text(64)),
    (b"flag", Count(8, optional=True)),
    (b"deleted", Flag(optional=True)),
]


class PutBlob(GridCommand):
    """Begin to put a blob, or go on with one that broke off.

    ``have`` is the number of its bytes that are there already and from which on `WriteBlob` goes
    on; if it is ``size`` and ``done`` is true, that very blob (size and tag) is there and nothing
    is to be done. With ``data``, which is all of a blob of at most 65,000 bytes, it is stored at
    once, and the answer comes after it is durable. A put of that name that is under way elsewhere
    is answered `BusyError`, unless nothing was heard of it for half a minute.

    :answered-by: peers that keep blobs
    :needs: Hello
    :bound: 66 KiB, answer 64 bytes
    :repeat: yes, under a new number
    :since: 1
    """

    arguments = [
        *_NAME,
        (b"size", Count(MAX_BLOB_BYTES)),
        (b"tag", Exact(16)),
        *_PUT,
        (b"data", Octets(MAX_PIECE_BYTES, optional=True)),
    ]
    response = [(b"have", Count(MAX_BLOB_BYTES)), (b"done", Flag())]
    errors = error_map(
        e.BlobExistsWireError,
        e.BlobDeletedWireError,
        e.BadBlobError,
        e.BlobRefusedWireError,
        e.NoSpaceError,
        e.StoreFailedError,
    )


class WriteBlob(GridCommand):
    """Write the next bytes of a blob: ``offset`` is where the last ones ended.

    :answered-by: peers that keep blobs
    :needs: PutBlob on this connection
    :bound: 65 KiB, answer 32 bytes
    :repeat: no; PutBlob tells how many bytes are there
    :since: 1
    """

    arguments = [*_PUT, (b"offset", Count(MAX_BLOB_BYTES)), (b"data", Octets(MAX_PIECE_BYTES))]
    errors = error_map(e.NoSuchPutError, e.NoSpaceError, e.StoreFailedError)


class FinishBlob(GridCommand):
    """Store the blob for good; the answer comes after it is durable.

    A blob whose last 16 bytes are not its tag is thrown away. The number of the put is free then,
    whatever the answer is.

    :answered-by: peers that keep blobs
    :needs: PutBlob on this connection
    :bound: 64 bytes, answer 32 bytes
    :repeat: no; PutBlob tells whether it is there
    :since: 1
    """

    arguments = _PUT
    errors = error_map(
        e.NoSuchPutError,
        e.BlobExistsWireError,
        e.BlobDeletedWireError,
        e.BadBlobError,
        e.NoSpaceError,
        e.StoreFailedError,
    )


class LeaveBlob(GridCommand):
    """End a put before its end; with ``keep``, what came of the blob can be gone on with.

    :answered-by: peers that keep blobs
    :needs: PutBlob on this connection
    :bound: 64 bytes, answer 32 bytes
    :repeat: yes
    :since: 1
    """

    arguments = [*_PUT, (b"keep", Flag())]
    errors = error_map(e.StoreFailedError)


class ReadBlob(GridCommand):
    """Read bytes of a blob; clamped to its size, so the answer may be shorter, or empty.

    :answered-by: peers that keep blobs
    :needs: Hello
    :bound: 1 KiB, answer 66 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [
        *_NAME,
        (b"offset", Count(MAX_BLOB_BYTES)),
        (b"length", Count(MAX_PIECE_BYTES)),
    ]
    response = [
        (b"size", Count(MAX_BLOB_BYTES)),
        (b"tag", Exact(16)),
        (b"data", Octets(MAX_PIECE_BYTES)),
    ]
    errors = error_map(e.NoSuchBlobError, e.BlobRefusedWireError, e.StoreFailedError)


class StatBlob(GridCommand):
    """Tell what is known of a blob. ``stored_at`` is in microseconds since 1970.

    :answered-by: peers that keep blobs
    :needs: Hello
    :bound: 1 KiB, answer 128 bytes
    :repeat: yes
    :since: 1
    """

    arguments = _NAME
    response = [
        (b"size", Count(MAX_BLOB_BYTES)),
        (b"tag", Exact(16)),
        (b"stored_at", Count()),
        (b"flags", Count(15)),
    ]
    errors = error_map(e.NoSuchBlobError, e.BlobRefusedWireError, e.StoreFailedError)


class DeleteBlob(GridCommand):
    """Delete a blob, and what came of one that is on its way; the answer comes after that.

    That it was deleted is remembered for 90 days.

    :answered-by: peers that keep blobs
    :needs: Hello
    :bound: 1 KiB, answer 32 bytes
    :repeat: yes
    :since: 1
    """

    arguments = _NAME
    errors = error_map(e.NoSuchBlobError, e.BlobRefusedWireError, e.StoreFailedError)


class SetBlobFlags(GridCommand):
    """Let a blob have these flags and no others.

    :answered-by: peers that keep blobs
    :needs: Hello
    :bound: 1 KiB, answer 32 bytes
    :repeat: yes
    :since: 1
    """

    arguments = [*_NAME, (b"flags", Count(15))]
    errors = error_map(e.NoSuchBlobError, e.BlobRefusedWireError, e.StoreFailedError)


class ListBlobs(GridCommand):
    """Tell a page of the ids in a namespace.

    ``order`` is 0 for the order of ids by byte, 1 for that of coming, 2 for the newest first;
    ``flag`` leaves out those without it; with ``deleted`` those are told that were deleted
    lately. ``after`` is the ``next`` of the page before; where that is missing there is no more.

    :answered-by: peers that keep blobs
    :needs: Hello
    :bound: 1 KiB, answer 60 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [
        *_QUERY,
        (b"order", Count(2)),
        (b"after", Text(MAX_PLACE_BYTES, optional=True)),
        (b"most", Count(MAX_PAGE_IDS)),
    ]
    response = [
        (b"blob_ids", Blobs(MAX_PAGE_IDS, 255, MAX_PAGE_BYTES)),
        (b"next", Text(MAX_PLACE_BYTES, optional=True)),
    ]
    errors = error_map(e.BlobRefusedWireError, e.StoreFailedError)


class CountBlobs(GridCommand):
    """Tell how many blobs a `ListBlobs` of the same arguments would name in all.

    :answered-by: peers that keep blobs
    :needs: Hello
    :bound: 512 bytes, answer 64 bytes
    :repeat: yes
    :since: 1
    """

    arguments = _QUERY
    response = [(b"count", Count())]
    errors = error_map(e.BlobRefusedWireError, e.StoreFailedError)


class ListNamespaces(GridCommand):
    """Tell a page of the namespaces that have a blob or a deleted one, sorted, after ``after``.

    The last page is the one that is empty.

    :answered-by: peers that keep blobs
    :needs: Hello
    :bound: 512 bytes, answer 60 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [*_ACCOUNT, (b"after", Text(64, optional=True))]
    response = [(b"namespaces", Blobs(MAX_PAGE_IDS, 64, MAX_PAGE_BYTES))]
    errors = error_map(e.BlobRefusedWireError, e.StoreFailedError)


class GetBlobSpace(GridCommand):
    """Tell the room of an account, in bytes: what it takes, and the most it may.

    :answered-by: peers that keep blobs
    :needs: Hello
    :bound: 256 bytes, answer 128 bytes
    :repeat: yes
    :since: 1
    """

    arguments = _ACCOUNT
    response = [(b"used", Count()), (b"quota", Count()), (b"accepts", Flag())]
    errors = error_map(e.BlobRefusedWireError, e.StoreFailedError)
