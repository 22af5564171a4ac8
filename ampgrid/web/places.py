"""Paths of URLs, and the places in the grid that they name.

``/vdrive/global/a`` is in the public root, ``/vdrive/private/a`` in the node's own, and
``/uri/CAP/a`` in the directory of a cap.

Beside the two drives of seed 004 every alias of the node is one: ``/vdrive/ALIAS/a``.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from ampgrid.caps import parse_cap
from ampgrid.errors import BadNameError
from ampgrid.vdrive.paths import PRIVATE, PUBLIC, GridPath, checked_alias, split_names
from ampgrid.web.errors import NotFoundError

#: First words of paths.
URI = "uri"
VDRIVE = "vdrive"
#: What seed 004 calls the public root.
GLOBAL = "global"


def place_of(names: Sequence[str]) -> GridPath:
    """Return the place that the path of a URL names.

    Args:
        names: the parts of the path between slashes, decoded; a slash at the end of the path
            leaves an empty one at the end.

    Raises:
        NotFoundError: it names no drive.
        BadCapError: it begins with a cap that is none.
        BadNameError: one of its names cannot be a child's.
    """
    section, *inner = names
    root = ""
    while inner and not root:
        # Several slashes are one here too.
        root = inner.pop(0)
    as_directory = bool(inner) and inner[-1] == ""
    if section == URI:
        return GridPath(parse_cap(root), split_names(inner), as_directory)
    if root in {GLOBAL, PUBLIC}:
        return GridPath(PUBLIC, split_names(inner), as_directory)
    if root == PRIVATE:
        return GridPath(PRIVATE, split_names(inner), as_directory)
    try:
        alias = checked_alias(root)
    except BadNameError:
        raise NotFoundError("there is no such drive; there are global and private") from None
    return GridPath(alias, split_names(inner), as_directory)


def url_of(place: GridPath, *, directory: bool = False) -> str:
    """Return the path of the URL of a place; that of a directory ends with a slash."""
    if isinstance(place.root, str):
        parts = [VDRIVE, GLOBAL if place.root == PUBLIC else place.root]
    else:
        parts = [URI, place.root.to_string()]
    path = "".join("/" + quoted(part) for part in [*parts, *place.names])
    return path + "/" if directory else path


def quoted(name: str) -> str:
    """Return a part of a path as it stands in a URL.

    >>> quoted("URI:LIT:nbuq"), quoted("a b/ü?")
    ('URI:LIT:nbuq', 'a%20b%2F%C3%BC%3F')
    """
    return quote(name, safe=":")
