"""The rows of a directory's page: what is told of each child, and how it can be looked at."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from attrs import frozen

from ampgrid.vdrive.paths import GridPath
from ampgrid.web.glances import Glance
from ampgrid.web.headers import content_type
from ampgrid.web.paging import Sheet
from ampgrid.web.places import url_of

#: A directory with more children than this is shown in its own order.
MOST_SORTED = 20_000
#: Content types beside ``text/`` that are read as text.
_TEXTS = frozenset(
    {"application/json", "application/javascript", "application/xml", "application/toml"}
)
_ARCHIVES = frozenset(
    {
        "application/gzip",
        "application/zip",
        "application/x-tar",
        "application/x-bzip2",
        "application/x-xz",
        "application/x-7z-compressed",
    }
)


@frozen
class Row:
    """A child of a directory, as its page shows it.

    Attributes:
        name: in the directory.
        kind: ``directory`` or ``file``.
        url: where it is.
        size: of a file, bytes; None of a directory.
        changed: when it was linked, seconds since 1970; None if nothing tells.
        look: what it is at a glance: ``directory``, ``image``, ``audio``, ``video``, ``page``,
            ``text``, ``archive`` or ``file``.
    """

    name: str
    kind: str
    url: str
    size: int | None
    changed: float | None
    look: str

    @property
    def preview(self) -> str:
        """How its content can be shown beside the listing; empty if it cannot."""
        return self.look if self.look in {"image", "audio", "video", "page", "text"} else ""


def look_of(name: str) -> str:
    """Return what a file is at a glance, by the type that its name tells.

    The type is the one under which its content is sent, whatever its directory says of it.

    >>> look_of("tractors.jpg"), look_of("notes.md"), look_of("index.html"), look_of("README")
    ('image', 'text', 'page', 'file')
    """
    told = content_type(name).partition(";")[0]
    family = told.partition("/")[0]
    if told in {"text/html", "application/xhtml+xml"}:
        return "page"
    if family in {"image", "audio", "video", "text"}:
        return family
    if told in _TEXTS:
        return "text"
    return "archive" if told in _ARCHIVES else "file"


def row_of(child: Glance, place: GridPath) -> Row:
    """Return a child as the page of its directory shows it.

    Args:
        child: of the directory.
        place: of the directory.
    """
    return Row(
        child.name,
        "directory" if child.is_directory else "file",
        url_of(place.child(child.name), directory=child.is_directory),
        child.size,
        child.changed,
        "directory" if child.is_directory else look_of(child.name),
    )


def rows_of(children: Collection[Glance], place: GridPath, sheet: Sheet) -> Iterator[Row]:
    """Yield those children of a directory that a page shows.

    Directories come first, and upper and lower case are one. A large directory stays in its own
    order, by name: to sort a hundred thousand the reactor would have to wait.

    Args:
        children: all of them.
        place: of the directory.
        sheet: of the page.
    """
    ordered: Iterable[Glance] = children
    if len(children) <= MOST_SORTED:
        ordered = sorted(children, key=_order)
    # Made one by one, while the page is sent.
    return (row_of(child, place) for child in islice(ordered, sheet.start, sheet.end))


def names_of(children: Iterable[Glance], place: GridPath) -> Iterator[tuple[str, str]]:
    """Yield (name, URL) of the children of a directory, in its own order."""
    for child in children:
        name = f"{child.name}/" if child.is_directory else child.name
        yield name, url_of(place.child(child.name), directory=child.is_directory)


def _order(child: Glance) -> tuple[bool, str, str]:
    return not child.is_directory, child.name.casefold(), child.name


@frozen
class Sums:
    """What is in a directory: how many directories and files, and bytes of the files."""

    directories: int
    files: int
    size: int


def sums_of(children: Collection[Glance]) -> Sums | None:
    """Return what is in a directory; None of a large one, where counting takes its time."""
    if len(children) > MOST_SORTED:
        return None
    files = [each.size for each in children if each.size is not None]
    return Sums(len(children) - len(files), len(files), sum(files))
