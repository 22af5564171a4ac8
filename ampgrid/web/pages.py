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

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ampgrid.node.sizes import format_count, format_size
from ampgrid.vdrive.paths import GridPath
from ampgrid.web.paging import sheet_of
from ampgrid.web.places import GLOBAL, URI, quoted, url_of
from ampgrid.web.tokens import FIELD, HEADER

if TYPE_CHECKING:
    from ampgrid.vdrive.dirnode import DirectoryNode
    from ampgrid.web.call import Call
    from ampgrid.web.glances import Glances

#: Characters of a page that are sent at once.
_PIECE = 32 * 1024


def _moment(seconds: float | None) -> Markup:
    """Return seconds since 1970 as an element: UTC, which a script turns into local time."""
    if seconds is None:
        return Markup("")
    try:
        told = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return Markup("")
    return Markup('<time datetime="{:%Y-%m-%dT%H:%M:%SZ}">{:%Y-%m-%d %H:%M} UTC</time>').format(
        told, told
    )


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
        self.environment.filters["counted"] = format_count
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
        self, call: Call, place: GridPath, node: DirectoryNode, glances: Glances
    ) -> Iterator[str]:
        """Yield the page of a directory in pieces.

        Raises:
            BadRequestError: ``page=`` is no number of a page.
        """
        from ampgrid.web.rows import rows_of, sums_of

        said, children = call.arg("page"), glances.children
        sheet = sheet_of(said, len(children))
        if said is None and sheet.pages > 1 and call.wants() != "html":
            return self._names(call, place, glances)
        url = url_of(place, directory=True)
        return self.streamed(
            "directory.html",
            call,
            title=title_of(place),
            trail=trail_of(place),
            url=url,
            here=url if sheet.number == 1 else with_arguments(url, page=str(sheet.number)),
            sheet=sheet,
            rows=rows_of(children, place, sheet),
            count=len(children),
            sums=sums_of(children),
            problems=glances.problems,
            mutable=node.is_mutable(),
        )

    def _names(self, call: Call, place: GridPath, glances: Glances) -> Iterator[str]:
        """Yield a page in pieces that has all names of a directory, and nothing else."""
        from ampgrid.web.rows import names_of

        return self.streamed(
            "names.html",
            call,
            title=title_of(place),
            names=names_of(glances.children, place),
            problems=glances.problems,
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
