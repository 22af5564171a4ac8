"""Commands on directories that a node answers on its Unix socket, to its own user alone.

``path`` is a grid path: ``private:a/b`` (the node's own root), ``public:a/b`` (the grid's),
``ALIAS:a/b``, or a cap with names behind it, ``URI:DIR:.../a/b``. The node finds the way. What
is answered as JSON has its keys in ``docs/reference/drive.md``. ``operation`` is as in
`ampgrid.commands.control`.

A change is in force, at a quorum of the replicas, when it is answered. ``overwrite`` left out
means that a child of that name is replaced.
"""

from __future__ import annotations

from ampgrid.caps import MAX_CAP_CHARACTERS, MAX_KEY_CAP_CHARACTERS
from ampgrid.commands import errors as e
from ampgrid.commands.arguments import Count, Flag, Text
from ampgrid.commands.base import GridCommand, error_map

#: The longest grid path, or cap with or without one, bytes.
MAX_GRID_PATH_BYTES = 8_192
#: The longest metadata of one child as JSON in ASCII, bytes: three times what an entry takes.
MAX_METADATA_BYTES = 12_288
#: The longest name of an alias, bytes.
MAX_ALIAS_BYTES = 64

_OPERATION = (b"operation", Count(2**63 - 1, optional=True))
_PATH = (b"path", Text(MAX_GRID_PATH_BYTES))
_OVERWRITE = (b"overwrite", Flag(optional=True))
_METADATA = (b"metadata", Text(MAX_METADATA_BYTES, optional=True))
_CAP = (b"cap", Text(MAX_KEY_CAP_CHARACTERS))
_REPORT = (b"report", Text(62_000))

#: What following a grid path may end with.
PATH_ERRORS = (
    e.BadCapTextError,
    e.FileFailedError,
    e.NoRootWireError,
    e.NoSuchChildWireError,
    e.NotDirectoryWireError,
    e.NotReachableWireError,
    e.UndecidedWireError,
    e.SnapshotGoneWireError,
    e.DamagedError,
    e.StoreFailedError,
    # The private root is made where it is first met.
    e.NotEnoughPeersConnectedError,
    e.NoSpaceError,
    e.UncertainWireError,
)
#: What a change may end with beside.
CHANGE_ERRORS = (
    *PATH_ERRORS,
    e.ChildExistsWireError,
    e.ConditionFailedWireError,
    e.NotMutableWireError,
)


#: Digits of the mark of what a recovery would bring back.
MARK_DIGITS = 64


class MakeDirectory(GridCommand):
    """Make an empty directory and answer its write cap (seed 001's create_empty_directory).

    Without ``path`` it is linked nowhere, and whoever has the cap has to keep it. With
    ``parents`` missing directories on the way are made too, and one that is there already at
    the end of the path is answered instead of `CHILD_EXISTS`.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 9 KiB, answer 512 bytes
    :repeat: yes with ``parents``; without, the second finds the first
    :since: 1
    """

    arguments = [
        (b"path", Text(MAX_GRID_PATH_BYTES, optional=True)),
        (b"parents", Flag(optional=True)),
    ]
    response = [_CAP]
    errors = error_map(*CHANGE_ERRORS)


class GetNodeInfo(GridCommand):
    """Tell what is at a path, as a JSON object: type, caps, size, metadata.

    It answers seed 001's get, get_child_at_path, has_child, get_uri, get_immutable_uri,
    get_refresh_capability and is_mutable.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 9 KiB, answer 30 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [_PATH]
    response = [(b"info", Text(30_000))]
    errors = error_map(*PATH_ERRORS)


class ListDirectory(GridCommand):
    """Tell the children of a directory, a page at a time, as a JSON list (seed 001's list).

    ``start`` is left out at first and then ``next`` of the page before, over the same
    connection; a ``next`` of 0 ends the list. All pages are of one version of the directory.
    The children come in no particular order, at most ``most`` on a page. ``problems`` has a line
    for each entry that cannot be read. A list that is not asked for more within ten minutes is
    dropped: `SNAPSHOT_GONE`.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 9 KiB, answer 61 KiB
    :repeat: yes the first page; a later one is gone once it was answered
    :since: 1
    """

    arguments = [_PATH, (b"start", Count(optional=True)), (b"most", Count(optional=True))]
    response = [
        (b"children", Text(56_000)),
        (b"problems", Text(6_000, lines=True)),
        (b"next", Count()),
    ]
    errors = error_map(*PATH_ERRORS)


class LinkChild(GridCommand):
    """Link a cap under a name in a directory (seed 001's set_uri and set_node).

    ``cap`` is a cap of a file or a directory, or a grid path to one. ``metadata`` is a JSON
    object of texts, numbers and truth values, to be kept with the name.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 29 KiB, answer 32 bytes
    :repeat: yes with ``overwrite``; without, the second finds the first
    :since: 1
    """

    arguments = [_PATH, (b"cap", Text(MAX_GRID_PATH_BYTES)), _OVERWRITE, _METADATA]
    errors = error_map(*CHANGE_ERRORS)


class LinkChildren(GridCommand):
    """Link several caps in one directory: all of them or none.

    ``children`` is a JSON list of objects with ``name``, ``cap`` and, if wanted, ``metadata``.
    Without ``overwrite`` none of the names may exist.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 69 KiB, answer 32 bytes
    :repeat: yes with ``overwrite``; without, the second finds the first
    :since: 1
    """

    arguments = [_PATH, (b"children", Text(62_000)), _OVERWRITE]
    errors = error_map(*CHANGE_ERRORS)


class UnlinkChild(GridCommand):
    """Take a name out of its directory (seed 001's delete) and answer the cap it stood for.

    What the cap names is not deleted: others may have it, and its space returns when no lease
    keeps it any more.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 9 KiB, answer 2 KiB
    :repeat: no; the second finds no such child
    :since: 1
    """

    arguments = [_PATH]
    response = [(b"cap", Text(MAX_CAP_CHARACTERS))]
    errors = error_map(*CHANGE_ERRORS)


class MoveChild(GridCommand):
    """Move a child to another name or directory (seed 001's move_child_to).

    ``target`` is the whole new path. The child is linked there before it is unlinked here, so
    it may for a moment, or after a failure, be in both places, and is never in none.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 17 KiB, answer 32 bytes
    :repeat: no; the second finds no such child
    :since: 1
    """

    arguments = [
        (b"source", Text(MAX_GRID_PATH_BYTES)),
        (b"target", Text(MAX_GRID_PATH_BYTES)),
        _OVERWRITE,
    ]
    errors = error_map(*CHANGE_ERRORS)


class StartDeep(GridCommand):
    """Begin to walk a directory and all that it leads to; `NextResults` gives what is found.

    ``what`` is ``manifest`` (everything that can be reached; seed 001's build_manifest),
    ``size`` (statistics of sizes alone), ``check`` (with ``verify``, every share is read; with
    ``repair``, what is not healthy is repaired; with ``renew``, leases are renewed as well) or
    ``renew``. Whatever is reached on several ways, or round a cycle, is visited once.
    ``operation`` must be given. The walk waits for a reader who is slow, and ends with the
    connection.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 9 KiB, answer 32 bytes
    :repeat: no; the number is in use
    :since: 1
    """

    arguments = [
        _PATH,
        (b"what", Text(16)),
        (b"verify", Flag(optional=True)),
        (b"repair", Flag(optional=True)),
        (b"renew", Flag(optional=True)),
        (b"operation", Count()),
    ]
    errors = error_map(*PATH_ERRORS)


class NextResults(GridCommand):
    """Answer what a walk found since the last call, as a JSON list, and whether it has ended.

    Over the connection that began it. The answer comes as soon as there is something to tell,
    after a few seconds in any case. With ``done`` comes ``summary``, a JSON object, and the
    number of the operation is free again. If the walk failed, its error is answered once.

    :answered-by: nodes, on their socket
    :needs: StartDeep
    :bound: 64 bytes, answer 68 KiB
    :repeat: no; what was answered is not told again
    :since: 1
    """

    arguments = [(b"operation", Count())]
    response = [
        (b"results", Text(60_000)),
        (b"done", Flag()),
        (b"summary", Text(8_000)),
    ]
    errors = error_map(*PATH_ERRORS, e.NoSuchOperationError, e.CancelledError)


class CheckDirectory(GridCommand):
    """Ask the replicas of one directory how they fare, and answer a report as JSON.

    A cap that can only verify will do.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 9 KiB, answer 62 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [_PATH, _OPERATION]
    response = [_REPORT]
    errors = error_map(*PATH_ERRORS, e.CancelledError)


class RepairDirectory(GridCommand):
    """Bring the replicas of one directory up to date, and answer a report as JSON.

    With a write cap, replicas that are gone are replaced by others.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 9 KiB, answer 62 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [_PATH, _OPERATION]
    response = [_REPORT]
    errors = error_map(*CHANGE_ERRORS, e.CancelledError)


class RecoverDirectory(GridCommand):
    """Bring a directory back of which too few replicas are left, and answer a report as JSON.

    The best signed version is taken that a replica or a snapshot has, so later changes may be
    lost; the report tells what it is. It needs the write cap. With ``dry_run`` it is only told,
    and so it is where ``confirmed`` is not the ``mark`` of what is found now.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 9 KiB, answer 62 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [
        _PATH,
        (b"dry_run", Flag(optional=True)),
        (b"confirmed", Text(MARK_DIGITS, optional=True)),
        _OPERATION,
    ]
    response = [_REPORT]
    errors = error_map(*CHANGE_ERRORS, e.NotEnoughSharesFoundError, e.CancelledError)


class GetRoots(GridCommand):
    """Answer the write caps of the node's private root and of the grid's public root.

    Seed 001's have_private_root, get_private_root, have_public_root and get_public_root. A root
    that is not known is empty; with ``make`` the private root is made if there is none.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 32 bytes, answer 1 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [(b"make", Flag(optional=True))]
    response = [
        (b"private", Text(MAX_KEY_CAP_CHARACTERS)),
        (b"public", Text(MAX_KEY_CAP_CHARACTERS)),
    ]
    errors = error_map(*PATH_ERRORS)


class AddAlias(GridCommand):
    """Give a directory a name of this node's own, so that ``ALIAS:a/b`` is a path.

    ``cap`` is a cap of a directory or a grid path to one; left out, an empty directory is made.
    A name that stands for another directory is `CHILD_EXISTS`.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 9 KiB, answer 512 bytes
    :repeat: yes with ``cap``
    :since: 1
    """

    arguments = [
        (b"name", Text(MAX_ALIAS_BYTES)),
        (b"cap", Text(MAX_GRID_PATH_BYTES, optional=True)),
    ]
    response = [_CAP]
    errors = error_map(*CHANGE_ERRORS)


class ListAliases(GridCommand):
    """Tell the aliases, a page at a time, as a JSON list of objects with ``name`` and ``cap``.

    ``start`` is 0 at first and then ``next`` of the page before; a ``next`` of 0 ends the list.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 64 bytes, answer 60 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [(b"start", Count())]
    response = [(b"aliases", Text(60_000)), (b"next", Count())]
    errors = error_map(e.FileFailedError)


class RemoveAlias(GridCommand):
    """Forget an alias and answer the cap that it stood for; the directory stays.

    :answered-by: nodes, on their socket
    :needs: the socket
    :bound: 128 bytes, answer 512 bytes
    :repeat: no; the second finds none
    :since: 1
    """

    arguments = [(b"name", Text(MAX_ALIAS_BYTES))]
    response = [_CAP]
    errors = error_map(e.NoRootWireError, e.FileFailedError)
