"""Pages for people: the templates, and what they are given.

Every template is escaped by itself. A page says what to do with forms, so it works without any
script; what a script adds it adds to the same forms.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from attrs import frozen
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import escape

from ampgrid.immutable import FileNode
from ampgrid.node.sizes import format_size
from ampgrid.vdrive.dirnode import Child, DirectoryNode, Listing
from ampgrid.vdrive.figures import kind_of
from ampgrid.vdrive.paths import GridPath
from ampgrid.web.places import GLOBAL, URI, quoted, url_of
from ampgrid.web.tokens import FIELD, HEADER

if TYPE_CHECKING:
    from ampgrid.web.call import Call

#: Characters of a page that are sent at once.
_PIECE = 32 * 1024


@frozen
class Row:
    """A child of a directory, as its page shows it.

    Attributes:
        name: in the directory.
        kind: ``directory``, ``file`` or ``literal``.
        url: where it is.
        size: of a file, bytes; None of a directory.
        changed: when it was linked, seconds since 1970; None if nothing tells.
        cap: its best cap.
        type: content type of a file, as far as its name tells it.
    """

    name: str
    kind: str
    url: str
    size: int | None
    changed: float | None
    cap: str
    type: str


def row_of(child: Child, place: GridPath) -> Row:
    """Return a child as the page of its directory shows it.

    Args:
        child: of the directory.
        place: of the directory.
    """
    node, changed = child.node, child.metadata.get("changed")
    return Row(
        child.name,
        kind_of(node),
        url_of(place.child(child.name), directory=isinstance(node, DirectoryNode)),
        node.get_size() if isinstance(node, FileNode) else None,
        float(changed) if isinstance(changed, int | float) else None,
        node.get_uri(),
        str(child.metadata.get("type", "")),
    )


def _moment(seconds: float | None) -> str:
    """Return seconds since 1970 as ISO 8601 in UTC, empty for None."""
    if seconds is None:
        return ""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return ""


class Pages:
    """Makes pages.

    Args:
        nickname: what people call the node.
    """

    def __init__(self, nickname: str) -> None:
        self.environment = Environment(
            loader=PackageLoader("ampgrid.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.environment.filters["size"] = format_size
        self.environment.filters["moment"] = _moment
        self.environment.globals["nickname"] = nickname
        self.environment.globals["token_field"] = FIELD
        self.environment.globals["token_header"] = HEADER

    def made(self, template: str, call: Call | None = None, **facts: Any) -> str:
        """Return a page.

        Args:
            template: its name.
            call: what was asked; a page with forms needs it, for the token.
            facts: what the template is given.
        """
        return self.environment.get_template(template).render(self._facts(call, facts))

    def streamed(self, template: str, call: Call, **facts: Any) -> Iterator[str]:
        """Yield a long page in pieces."""
        piece: list[str] = []
        length = 0
        for part in self.environment.get_template(template).generate(self._facts(call, facts)):
            piece.append(part)
            length += len(part)
            if length >= _PIECE:
                yield "".join(piece)
                piece, length = [], 0
        yield "".join(piece)

    def _facts(self, call: Call | None, facts: dict[str, Any]) -> dict[str, Any]:
        return {"token": call.form_token if call is not None else "", **facts}

    def error(self, status: int, message: str) -> str:
        """Return the page of an error."""
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = "Error"
        return self.made("error.html", status=status, phrase=phrase, message=message)

    def manifest_row(self, path: str, cap: str) -> str:
        """Return one row of a manifest."""
        return (
            f"<tr><td>{escape(path)}</td>"
            f'<td><a href="/{URI}/{quoted(cap)}">{escape(cap)}</a></td></tr>\n'
        )

    def directory(
        self, call: Call, place: GridPath, node: DirectoryNode, listing: Listing
    ) -> Iterator[str]:
        """Yield the page of a directory in pieces."""
        return self.streamed(
            "directory.html",
            call,
            title=title_of(place),
            trail=trail_of(place),
            url=url_of(place, directory=True),
            # Made one by one: of a hundred thousand the reactor would wait for all.
            rows=(row_of(child, place) for child in listing.children.values()),
            problems=listing.problems,
            mutable=node.is_mutable(),
            read_cap=node.get_immutable_uri(),
            write_cap=node.get_uri() if node.is_mutable() else None,
        )


def title_of(place: GridPath) -> str:
    """Return what people call a place: its name, or that of its drive."""
    if place.names:
        return place.names[-1]
    if not isinstance(place.root, str):
        return "A directory by its cap"
    return {"public": GLOBAL}.get(place.root, place.root)


def trail_of(place: GridPath) -> Sequence[tuple[str, str]]:
    """Return (name, URL) of all directories on the way to a place, the root first."""
    steps = [GridPath(place.root, place.names[:count]) for count in range(len(place.names))]
    return [(title_of(step), url_of(step, directory=True)) for step in steps]


def with_arguments(url: str, **arguments: str) -> str:
    """Return a URL with arguments."""
    return f"{url}?{urlencode(arguments)}" if arguments else url


async def as_pieces(pieces: Iterator[str]) -> AsyncIterator[str]:
    """Yield pieces as what is streamed is given."""
    for piece in pieces:
        yield piece
