"""Commands that a vdrive peer answers (seed 001's RIVirtualDriveServer, and what replicas need).

A directory is a table of sealed entries under a Merkle trie, whose root stands in a record that
its writer signed. Each of its replicas is an acceptor of a register that holds this record
(``docs/specs/register.md``). A replica that does not go along says so in ``verdict``, and shows
the signed record or prepare that stands in the way; errors are for what cannot be judged at all.

Nodes are addressed by their hash, so who asks checks each of them by itself.
"""

from __future__ import annotations

from twisted.protocols import amp

from ampgrid.commands import errors as e
from ampgrid.commands.arguments import Blobs, Exact, Octets, Text
from ampgrid.commands.base import GridCommand, error_map

#: The largest record, prepare, entry and node, bytes.
MAX_RECORD_BYTES = 3_072
MAX_PREPARE_BYTES = 256
MAX_ENTRY_BYTES = 8_192
MAX_NODE_BYTES = 8_320
#: The most bytes of nodes, or of entries, in one box, with two for the length of each.
MAX_NODES_BYTES = 56_000
#: The most nodes in one box, and the most that are asked for in one.
MAX_NODES = 1_024
#: The most entries that one box changes.
MAX_CHANGES = 64
#: The largest pointer to a snapshot, bytes.
MAX_POINTER_BYTES = 1_024

#: The replica did what was asked.
DONE = "done"
#: A higher prepare or record stands in the way; it comes along.
REFUSED = "refused"
#: Nodes under the root of the record are not here; ``missing`` names some of them, or the base
#: of the change is not the record that is here, which comes along.
MISSING = "missing"
#: Another record was accepted under the same ballot; it comes along.
CONFLICT = "conflict"
#: The store of this peer is not in the record's replica set; it votes nothing.
STRANGER = "stranger"

_INDEX = (b"index", Exact(32))
_RECORD = (b"record", Octets(MAX_RECORD_BYTES))
_NODES = (b"nodes", Blobs(MAX_NODES, MAX_NODE_BYTES, MAX_NODES_BYTES))
_HELD = (b"held", Octets(MAX_RECORD_BYTES, optional=True))
_PREPARED = (b"prepared", Octets(MAX_PREPARE_BYTES, optional=True))
_SLOTS = (b"slots", Blobs(MAX_CHANGES, 32, optional=True))
_VERDICT = (b"verdict", Text(16))

_CHANGED: list[tuple[bytes, amp.Argument]] = [
    _VERDICT,
    _HELD,
    _PREPARED,
    (b"missing", Blobs(MAX_NODES, 32, optional=True)),
]
_CHANGE_ERRORS = error_map(
    e.NoSuchDirectoryError, e.BadRecordError, e.NoSpaceError, e.StoreFailedError
)


class GetPublicRoot(GridCommand):
    """Answer the cap of the grid's public root (seed 001's get_public_root_uri).

    :answered-by: every peer
    :needs: Hello
    :bound: 64 bytes, answer 400 bytes
    :repeat: yes
    :since: 1
    """

    response = [(b"uri", Text(300))]
    errors = error_map(e.NoPublicRootError)


class GetReplica(GridCommand):
    """Answer the store id of this peer's directories, drawn when its database was made.

    A peer that lost its disk comes back with another one, so it is a stranger to the sets in
    which the lost store was.

    :answered-by: vdrive peers
    :needs: Hello
    :bound: 64 bytes each way
    :repeat: yes
    :since: 1
    """

    response = [(b"store", Exact(16))]
    errors = error_map(e.StoreFailedError)


class CreateDirectory(GridCommand):
    """Accept the first record of a directory of which nothing is kept here.

    The record has version 1 and an empty root. Where something is kept already it is treated as
    by `Accept`, so nothing is ever reset. The caller gets the first lease.

    :answered-by: vdrive peers
    :needs: Hello
    :bound: 4 KiB, answer 40 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [_INDEX, _RECORD]
    response = _CHANGED
    errors = error_map(e.BadRecordError, e.NoSpaceError, e.StoreFailedError)


class GetRecord(GridCommand):
    """Answer the record that is accepted here, and the highest promise.

    With ``slots`` come the nodes on the way to these slots, as far as one box takes them. A
    peer that knows nothing of the directory answers `NoSuchDirectoryError`, which proves
    nothing about others.

    :answered-by: vdrive peers
    :needs: Hello
    :bound: 3 KiB, answer 63 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [_INDEX, _SLOTS]
    response = [_HELD, _PREPARED, _NODES]
    errors = error_map(e.NoSuchDirectoryError, e.StoreFailedError)


class GetChild(GridCommand):
    """Answer the accepted record, and the proof of one slot under a root (seed 001's get).

    ``nodes`` are those from the root down to the leaf, or to where the slot is seen to be
    empty. Without ``root`` the root of the accepted record is meant.

    :answered-by: vdrive peers
    :needs: Hello
    :bound: 256 bytes, answer 63 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [_INDEX, (b"slot", Exact(32)), (b"root", Exact(32, optional=True))]
    response = [_HELD, _PREPARED, _NODES]
    errors = error_map(e.NoSuchDirectoryError, e.SnapshotGoneWireError, e.StoreFailedError)


class ListChildren(GridCommand):
    """Answer the accepted record and nodes of the trie under a root (seed 001's list).

    The nodes come in preorder, those of the slots before ``after`` left out, as many as fit
    into 56,000 bytes. Replaced nodes stay for an hour; later they are `SnapshotGoneWireError`.

    :answered-by: vdrive peers
    :needs: Hello
    :bound: 256 bytes, answer 63 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [
        _INDEX,
        (b"root", Exact(32, optional=True)),
        (b"after", Exact(32, optional=True)),
    ]
    response = [_HELD, _PREPARED, _NODES]
    errors = error_map(e.NoSuchDirectoryError, e.SnapshotGoneWireError, e.StoreFailedError)


class GetNodes(GridCommand):
    """Answer nodes by their hashes, in the order asked, as many as fit into 56,000 bytes.

    One that is not here ends the answer before it; if it is the first, `SnapshotGoneWireError`.

    :answered-by: vdrive peers
    :needs: Hello
    :bound: 35 KiB, answer 63 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [_INDEX, (b"hashes", Blobs(MAX_NODES, 32))]
    response = [_NODES]
    errors = error_map(e.NoSuchDirectoryError, e.SnapshotGoneWireError, e.StoreFailedError)


class Prepare(GridCommand):
    """Promise to accept no record of a lower ballot, and show the accepted record.

    ``prepare`` is signed with the directory's key. With ``slots`` come the nodes on the way to
    these slots under the accepted root.

    :answered-by: vdrive peers
    :needs: Hello
    :bound: 3 KiB, answer 63 KiB
    :repeat: yes; the second is refused and shows the first
    :since: 1
    """

    arguments = [_INDEX, (b"prepare", Octets(MAX_PREPARE_BYTES)), _SLOTS]
    response = [_VERDICT, _HELD, _PREPARED, _NODES]
    errors = error_map(e.NoSuchDirectoryError, e.BadRecordError, e.StoreFailedError)


class Accept(GridCommand):
    """Accept a record whose nodes are here already, whoever sends it.

    The following ballot that the record names is promised in the same transaction. A peer that
    knows nothing of the directory but is in the set begins to keep it.

    :answered-by: vdrive peers
    :needs: Hello
    :bound: 4 KiB, answer 40 KiB
    :repeat: yes, the same record is accepted again
    :since: 1
    """

    arguments = [_INDEX, _RECORD]
    response = _CHANGED
    errors = _CHANGE_ERRORS


class SetChild(GridCommand):
    """Accept a record that differs from the accepted one in one entry (seed 001's set).

    The replica puts the sealed entry into its own trie and compares the root.

    :answered-by: vdrive peers
    :needs: Hello
    :bound: 13 KiB, answer 40 KiB
    :repeat: yes, the same record is accepted again
    :since: 1
    """

    arguments = [
        _INDEX,
        _RECORD,
        (b"slot", Exact(32)),
        (b"entry", Octets(MAX_ENTRY_BYTES, 1)),
    ]
    response = _CHANGED
    errors = _CHANGE_ERRORS


class DeleteChild(GridCommand):
    """Accept a record that differs from the accepted one by one entry taken out.

    Seed 001's delete.

    :answered-by: vdrive peers
    :needs: Hello
    :bound: 4 KiB, answer 40 KiB
    :repeat: yes, the same record is accepted again
    :since: 1
    """

    arguments = [_INDEX, _RECORD, (b"slot", Exact(32))]
    response = _CHANGED
    errors = _CHANGE_ERRORS


class SetChildren(GridCommand):
    """Accept a record that differs from the accepted one in several entries, all at once.

    ``slots`` and ``entries`` go together; an empty entry takes the slot out.

    :answered-by: vdrive peers
    :needs: Hello
    :bound: 63 KiB, answer 40 KiB
    :repeat: yes, the same record is accepted again
    :since: 1
    """

    arguments = [
        _INDEX,
        _RECORD,
        (b"slots", Blobs(MAX_CHANGES, 32)),
        (b"entries", Blobs(MAX_CHANGES, MAX_ENTRY_BYTES, MAX_NODES_BYTES)),
    ]
    response = _CHANGED
    errors = _CHANGE_ERRORS


class StageNodes(GridCommand):
    """Keep nodes for a record that will follow; those not used are dropped after an hour.

    ``record`` shows a record or prepare of the directory if nothing of it is kept here yet.

    :answered-by: vdrive peers
    :needs: Hello
    :bound: 63 KiB, answer 64 bytes
    :repeat: yes
    :since: 1
    """

    arguments = [_INDEX, _NODES, (b"record", Octets(MAX_RECORD_BYTES, optional=True))]
    errors = error_map(
        e.NoSuchDirectoryError, e.BadRecordError, e.NoSpaceError, e.StoreFailedError
    )


class RenewDirectory(GridCommand):
    """Add or renew the caller's lease on a directory, 31 days from now.

    :answered-by: vdrive peers
    :needs: Hello
    :bound: 128 bytes, answer 32 bytes
    :repeat: yes
    :since: 1
    """

    arguments = [_INDEX]
    errors = error_map(e.NoSuchDirectoryError, e.NoSpaceError, e.StoreFailedError)


class CancelDirectory(GridCommand):
    """Cancel the caller's lease on a directory. Without any it is not deleted at once.

    :answered-by: vdrive peers
    :needs: Hello
    :bound: 128 bytes, answer 32 bytes
    :repeat: no; a second one finds no lease
    :since: 1
    """

    arguments = [_INDEX]
    errors = error_map(e.NoSuchDirectoryError, e.NoSuchLeaseError, e.StoreFailedError)


class PutSnapshot(GridCommand):
    """Keep the signed pointer to a sealed snapshot of a directory; a higher version stays.

    :answered-by: vdrive peers
    :needs: Hello
    :bound: 2 KiB, answer 32 bytes
    :repeat: yes
    :since: 1
    """

    arguments = [_INDEX, (b"pointer", Octets(MAX_POINTER_BYTES))]
    errors = error_map(e.BadRecordError, e.NoSpaceError, e.StoreFailedError)


class GetSnapshot(GridCommand):
    """Answer the pointer to the last snapshot of a directory that is known here.

    :answered-by: vdrive peers
    :needs: Hello
    :bound: 128 bytes, answer 2 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [_INDEX]
    response = [(b"pointer", Octets(MAX_POINTER_BYTES))]
    errors = error_map(e.NoSuchDirectoryError, e.StoreFailedError)
