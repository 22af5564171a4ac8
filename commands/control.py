"""Commands that a node answers on its Unix socket, to its own user alone.

Paths are absolute paths of the node's machine; standard input and output travel as descriptors.
``operation`` is an integer that the caller chooses for a long Command, by which `Progress` and
`Cancel` on the same or another connection to the socket name it; 0 asks for none. Where a cap of
a file is asked for, a grid path to it will do as well (`ampgrid.commands.drive`).
"""

from __future__ import annotations

from twisted.protocols import amp

from ampgrid.caps import MAX_CAP_CHARACTERS
from ampgrid.commands import errors as e
from ampgrid.commands.arguments import Count, Exact, Flag, Text
from ampgrid.commands.base import GridCommand, error_map
from ampgrid.commands.drive import (
    CHANGE_ERRORS,
    MAX_GRID_PATH_BYTES,
    MAX_METADATA_BYTES,
    PATH_ERRORS,
)

_CAP_OR_PATH = (b"cap", Text(MAX_GRID_PATH_BYTES))
_OPERATION = (b"operation", Count(2**63 - 1, optional=True))


class WaitForPeers(GridCommand):
    """Answer as soon as the node is connected to ``count`` storage peers (itself included).

    Seed 001's wait_for_client_connections.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 128 bytes each way
    :repeat: yes
    :since: 1
    """

    arguments = [(b"count", Count(100_000)), (b"timeout_seconds", Count(86_400, optional=True))]
    response = [(b"connected", Count(100_000))]
    errors = error_map(e.NotEnoughPeersConnectedError)


class Upload(GridCommand):
    """Upload a file and answer its cap (seed 001's upload_from_file_to_uri).

    Exactly one of ``path`` and ``descriptor`` is given. ``needed``, ``happy`` and ``total`` go
    together and outrank the node's own setting.

    With ``grid_path`` the file is then linked there (seed 001's add_file), ``metadata``, a JSON
    object, with it; with ``parents`` missing directories on the way are made. A child of that
    name is replaced unless ``overwrite`` is false. If the file was uploaded and could not be
    linked, the error is that of linking, and doing it again costs no second upload.

    A file of at most 1,024 bytes that is linked with ``grid_path`` is held by its entry in the
    directory: its cap is a LIT cap, and no share is stored. So it is with ``inline`` where the
    caller links the cap. With ``needed`` it gets shares, unless it has at most 55 bytes.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 25 KiB, answer 2 KiB
    :repeat: yes, the same content gives the same cap
    :since: 1
    """

    arguments = [
        (b"path", Text(4_096, optional=True)),
        (b"descriptor", amp.Descriptor(optional=True)),
        (b"needed", Count(256, optional=True)),
        (b"happy", Count(256, optional=True)),
        (b"total", Count(256, optional=True)),
        (b"grid_path", Text(MAX_GRID_PATH_BYTES, optional=True)),
        (b"overwrite", Flag(optional=True)),
        (b"metadata", Text(MAX_METADATA_BYTES, optional=True)),
        (b"parents", Flag(optional=True)),
        (b"inline", Flag(optional=True)),
        _OPERATION,
    ]
    response = [
        (b"cap", Text(MAX_CAP_CHARACTERS)),
        (b"size", Count()),
        (b"shares_placed", Count(256)),
        (b"servers_happy", Count(256)),
        (b"shares_already_there", Count(256)),
    ]
    errors = error_map(*CHANGE_ERRORS, e.NotHappyEnoughError, e.CancelledError)


class Download(GridCommand):
    """Download a file, or a range of it (seed 001's download_from_uri_to_file).

    Exactly one of ``path`` and ``descriptor`` is given. A file at ``path`` is replaced only when
    all of the download is there. ``problems`` names what was bad or slow, one line each.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 13 KiB, answer 62 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [
        _CAP_OR_PATH,
        (b"path", Text(4_096, optional=True)),
        (b"descriptor", amp.Descriptor(optional=True)),
        (b"offset", Count(optional=True)),
        (b"length", Count(optional=True)),
        _OPERATION,
    ]
    response = [(b"size", Count()), (b"problems", Text(60_000, lines=True))]
    errors = error_map(
        *PATH_ERRORS,
        e.NotEnoughSharesFoundError,
        e.CancelledError,
    )


class Check(GridCommand):
    """Ask the servers which shares of a file they hold, and answer a report as JSON.

    The report's keys are in ``docs/reference/check.md``. A cap that can only verify will do.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 9 KiB, answer 62 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [_CAP_OR_PATH, _OPERATION]
    response = [(b"report", Text(62_000))]
    errors = error_map(*PATH_ERRORS, e.CancelledError)


class Verify(GridCommand):
    """Read and hash every share of a file, and answer a report as JSON, as `Check` does.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 9 KiB, answer 62 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [_CAP_OR_PATH, _OPERATION]
    response = [(b"report", Text(62_000))]
    errors = error_map(*PATH_ERRORS, e.CancelledError)


class Repair(GridCommand):
    """Check (with ``verify``, verify) a file, then write the missing shares and replace bad ones.

    The report is that of `Check` with what was done added.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 9 KiB, answer 62 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [_CAP_OR_PATH, (b"verify", Flag(optional=True)), _OPERATION]
    response = [(b"report", Text(62_000))]
    errors = error_map(
        *PATH_ERRORS,
        e.NotEnoughSharesFoundError,
        e.NotHappyEnoughError,
        e.CancelledError,
    )


class ListKept(GridCommand):
    """Tell the files that the keeper keeps, a page at a time, as a JSON list.

    ``start`` is 0 at first and then ``next`` of the page before; a ``next`` of 0 ends the list.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 64 bytes, answer 60 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [(b"start", Count())]
    response = [(b"kept", Text(60_000)), (b"next", Count())]


class DropKept(GridCommand):
    """Keep a file no longer: its leases are renewed no more. ``cap`` is its read or verify cap.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 2 KiB, answer 64 bytes
    :repeat: yes
    :since: 1
    """

    arguments = [(b"cap", Text(MAX_CAP_CHARACTERS))]
    response = [(b"dropped", Flag())]
    errors = error_map(e.BadCapTextError)


class RunKeeper(GridCommand):
    """Walk the kept files now, and then the directories: renew leases, check, repair.

    The answer is a report as JSON (``docs/reference/keeper.md``).

    Without ``now`` only what is due is walked. With ``dry_run`` nothing is written anywhere.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 128 bytes, answer 62 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [(b"now", Flag(optional=True)), (b"dry_run", Flag(optional=True)), _OPERATION]
    response = [(b"report", Text(62_000))]
    errors = error_map(e.CancelledError)


class RunScrub(GridCommand):
    """Re-hash every share of this node's store now; answer a report as JSON.

    :answered-by: nodes that keep shares, on their socket
    :needs: the socket
    :bound: 64 bytes, answer 62 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [_OPERATION]
    response = [(b"report", Text(62_000))]
    errors = error_map(e.StoreFailedError, e.CancelledError)


class ImportTahoe(GridCommand):
    """Take the shares of a Tahoe-LAFS storage directory into this node's store.

    What is here already is passed over, so that it can be repeated after an interruption. With
    ``dry_run`` nothing is changed, and the report tells what would be.

    :answered-by: nodes that keep shares, on their socket
    :needs: the socket
    :bound: 5 KiB, answer 62 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [(b"path", Text(4_096)), (b"dry_run", Flag(optional=True)), _OPERATION]
    response = [(b"report", Text(62_000))]
    errors = error_map(e.FileFailedError, e.NoSpaceError, e.StoreFailedError, e.CancelledError)


class ExportShare(GridCommand):
    """Write the bytes of a share of this node's store to a descriptor, which must be given.

    :answered-by: nodes that keep shares, on their socket
    :needs: the socket
    :bound: 128 bytes, answer 64 bytes
    :repeat: yes
    :since: 1
    """

    arguments = [
        (b"storage_index", Exact(16)),
        (b"share", Count(255)),
        (b"descriptor", amp.Descriptor(optional=True)),
    ]
    response = [(b"size", Count())]
    errors = error_map(e.NoSuchShareError, e.DamagedError, e.FileFailedError, e.StoreFailedError)


class Progress(GridCommand):
    """Tell how far a long Command is: a phase, and how much of how much is done.

    The unit is bytes of the file. ``total`` is 0 while it is not known.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 256 bytes each way
    :repeat: yes
    :since: 1
    """

    arguments = [(b"operation", Count())]
    response = [(b"phase", Text(100)), (b"done", Count()), (b"total", Count())]
    errors = error_map(e.NoSuchOperationError)


class Cancel(GridCommand):
    """Cancel a long Command; that Command then answers CANCELLED.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 128 bytes each way
    :repeat: yes
    :since: 1
    """

    arguments = [(b"operation", Count())]
    errors = error_map(e.NoSuchOperationError)


class Status(GridCommand):
    """Tell what the node is and how it fares, as a JSON object (`docs/reference/status.md`).

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 32 bytes, answer 60 KiB
    :repeat: yes
    :since: 1
    """

    response = [(b"status", Text(60_000))]


class ListPeers(GridCommand):
    """Tell the known peers, a page at a time, as a JSON list.

    ``start`` is 0 at first and then ``next`` of the page before; a ``next`` of 0 ends the list.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 64 bytes, answer 60 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [(b"start", Count())]
    response = [(b"peers", Text(60_000)), (b"next", Count())]


class GetMemoryUsage(GridCommand):
    """Tell the memory of the node's process, in bytes (seed 001's get_memory_usage).

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 32 bytes, answer 160 bytes
    :repeat: yes
    :since: 1
    """

    response = [
        (b"vm_peak", Count()),
        (b"vm_size", Count()),
        (b"vm_data", Count()),
        (b"vm_hwm", Count()),
        (b"vm_rss", Count()),
    ]
