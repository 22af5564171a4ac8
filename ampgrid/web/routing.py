"""Which part of the gateway answers: a section for each first word of a path.

A section is asked for the route before the body of the request is taken, so it decides what is
made of the body; the route's action is called when all of it is there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, unquote_to_bytes

from attrs import field, frozen

from ampgrid.web.answers import Answer
from ampgrid.web.bodies import NOTHING, Want
from ampgrid.web.errors import BadRequestError, NotAllowedError, NotFoundError

if TYPE_CHECKING:
    from ampgrid.web.call import Call
    from ampgrid.web.request import GatewayRequest

#: Answers a request, or has answered it when it returns None.
Action = Callable[["Call"], Awaitable[Answer | None]]

MOST_ARGUMENTS = 100
_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"})


@frozen
class Target:
    """What the first line of a request asks for.

    Attributes:
        method: of HTTP, in capitals.
        path: as it was sent, without the arguments, beginning with one slash.
        names: the parts of the path between slashes, decoded.
        arguments: what stands behind the question mark; of a repeated one the first.
        content_type: of the body; empty if none is told.
    """

    method: str
    path: str = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    arguments: Mapping[str, str] = field(repr=False)
    content_type: str = ""

    @property
    def t(self) -> str:
        """What is done with what is at the path: the argument ``t``."""
        return self.arguments.get("t", "").strip()


@frozen
class Route:
    """How a request is answered.

    Attributes:
        act: answers it.
        body: what is made of its body.
        linkable: whether a link on somebody else's page may lead there.
        guards_itself: whether a browser without a token may send it (it is of no effect).
        always_token: whether whoever asks has to send the token.
        announces: whether ``ophandle=`` names what is done from the head of the request on.
        credentials: looks at credentials of its own before the body is taken, and raises if
            they are refused; None for the gateway's password, if it has one.
        most: returns how long the body may be at most, bytes (None for any length), and raises
            if it is told to be longer; looked at behind the credentials.
    """

    act: Action
    body: Want = NOTHING
    linkable: bool = False
    guards_itself: bool = False
    always_token: bool = False
    announces: bool = False
    credentials: Callable[[GatewayRequest], None] | None = None
    most: Callable[[GatewayRequest], int | None] | None = None


class Section(Protocol):
    """What answers below one first word."""

    def route(self, target: Target) -> Route:
        """Return how a request is answered.

        Raises:
            WebError: it is not.
        """
        ...


class Fixed:
    """One page, at the word itself.

    Args:
        routes: by method; a GET answers HEAD too.
    """

    def __init__(self, **routes: Route) -> None:
        self._routes = routes

    def route(self, target: Target) -> Route:
        """Return the route of the method."""
        if any(target.names[1:]):
            raise NotFoundError("there is no such page")
        return chosen(self._routes, target.method)


def chosen(routes: Mapping[str, Route], method: str) -> Route:
    """Return the route of a method.

    Raises:
        NotAllowedError: there is none.
    """
    found = routes.get("GET" if method == "HEAD" else method)
    if found is None:
        allowed = [*routes, *(["HEAD"] if "GET" in routes else [])]
        raise NotAllowedError(
            f"this page does not know {method[:10]}; it knows {', '.join(sorted(allowed))}",
            Allow=", ".join(sorted(allowed)),
        )
    return found


def read_target(method: bytes, uri: bytes, content_type: str = "") -> Target:
    """Read the first line of a request.

    Raises:
        BadRequestError: it is malformed, or no path of this gateway.
        NotAllowedError: the method is not known.
    """
    word = method.decode("ascii", "replace")
    if word not in _METHODS:
        raise NotAllowedError(f"the method {word[:10]!r} is not known here")
    path, _, query = uri.partition(b"?")
    if not path.startswith(b"/") or not uri.isascii():
        raise BadRequestError("the request names no path of this gateway")
    # What is put behind a URL that ends with a slash, as that in node.url, may begin with one.
    path = b"/" + path.lstrip(b"/")
    try:
        names = tuple(unquote_to_bytes(part).decode("utf-8") for part in path[1:].split(b"/"))
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MOST_ARGUMENTS,
        )
    except ValueError:
        raise BadRequestError("the path or its arguments are no UTF-8 text") from None
    arguments: dict[str, str] = {}
    for name, value in pairs:
        arguments.setdefault(name, value)
    return Target(word, path.decode("ascii"), names, arguments, content_type)


class Router:
    """Knows the sections.

    Args:
        sections: by the first word of their paths; ``""`` is the page at ``/``.
    """

    def __init__(self, sections: Mapping[str, Section]) -> None:
        self._sections = dict(sections)

    def add(self, word: str, section: Section) -> None:
        """Let a section answer below a word."""
        self._sections[word] = section

    def route(self, target: Target) -> Route:
        """Return how a request is answered.

        Raises:
            NotFoundError: nothing is there.
        """
        section = self._sections.get(target.names[0])
        if section is None:
            raise NotFoundError("there is no such page")
        return section.route(target)
