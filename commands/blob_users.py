"""Commands about the users of its blobs that a node answers on its Unix socket, to its operator.

A user has a token, with which any node of the grid, and anybody over HTTP, puts and gets the
user's blobs at this node. What the Commands for these are is in `ampgrid.commands.blobs`.
"""

from __future__ import annotations

from twisted.protocols import amp

from ampgrid.commands import errors as e
from ampgrid.commands.arguments import Flag, Text
from ampgrid.commands.base import GridCommand, error_map

_USER: list[tuple[bytes, amp.Argument]] = [(b"user", Text(64))]


class IssueBlobToken(GridCommand):
    """Give a user a new token, in the place of the one there was, and answer it.

    The node keeps no copy of it, so nobody can ask for it again. Blobs of the user stay.

    :answered-by: nodes that keep blobs, on their socket
    :needs: the socket
    :bound: 128 bytes, answer 128 bytes
    :repeat: yes; the last one counts
    :since: 1
    """

    arguments = _USER
    response = [(b"token", Text(64))]
    errors = error_map(e.BlobRefusedWireError, e.StoreFailedError)


class RevokeBlobToken(GridCommand):
    """Let a user have no token; ``had`` tells whether there was one. The blobs stay.

    :answered-by: nodes that keep blobs, on their socket
    :needs: the socket
    :bound: 128 bytes, answer 32 bytes
    :repeat: yes
    :since: 1
    """

    arguments = _USER
    response = [(b"had", Flag())]
    errors = error_map(e.BlobRefusedWireError, e.StoreFailedError)


class ListBlobUsers(GridCommand):
    """Tell who has a token: a page of a JSON list, sorted by name, of those after ``after``.

    Each has ``user``, ``issued_at`` (seconds since 1970) and ``used`` (what counts for the
    quota, bytes). The last page is the one that is empty.

    :answered-by: nodes that keep blobs, on their socket
    :needs: the socket
    :bound: 128 bytes, answer 61 KiB
    :repeat: yes
    :since: 1
    """

    arguments = [(b"after", Text(64, optional=True))]
    response = [(b"users", Text(62_000))]
    errors = error_map(e.BlobRefusedWireError, e.StoreFailedError)
