"""Who may come in: a look at the head of a request, before anything else of it is looked at.

Three callers are told apart. A script (curl) on this machine sends none of the headers that a
browser cannot leave out; it may do everything. A browser showing a page of this gateway may
change things with the token. A browser showing anybody else's page may do nothing but follow a
link to a cap: whatever that page asks for, by form, script, image or frame, is refused, and a
name that was bent to this machine (DNS rebinding) is no name of this gateway.

Source: Fetch Standard (Origin), Fetch Metadata Request Headers (Sec-Fetch-*), RFC 9110 (Host).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection

from attrs import frozen

from ampgrid.web.errors import BadRequestError, ForbiddenError, WrongTokenError
from ampgrid.web.tokens import HEADER, Tokens

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
#: Headers that only browsers send, as far as what matters here goes.
_OF_BROWSERS = ("Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Referer", "Cookie")

#: Returns the values of a header.
Values = Callable[[str], Collection[str]]


@frozen
class Head:
    """What the gate looks at.

    Attributes:
        method: of HTTP, in capitals.
        values: gives the values of a header.
        local: the address and the port that the client has connected to.
        secure: whether it came over TLS.
        linkable: whether a link on somebody else's page may lead there.
    """

    method: str
    values: Values
    local: tuple[str, int]
    secure: bool = False
    linkable: bool = False

    def one(self, name: str) -> str:
        """Return the value of a header, empty without it.

        Raises:
            BadRequestError: it stands there more than once.
        """
        values = list(self.values(name))
        if len(values) > 1:
            raise BadRequestError(f"the header {name} stands there more than once")
        return values[0] if values else ""


@frozen
class Admission:
    """How a request was let in.

    Attributes:
        origin: of this gateway, as the client calls it: ``http://127.0.0.1:8011``.
        browser: whether a browser sent it.
        needs_token: whether the form in its body has to hold the token.
        has_token: whether it came with the token in a header.
        port: that the client has connected to.
    """

    origin: str
    browser: bool
    needs_token: bool
    has_token: bool
    port: int


class Gate:
    """Lets requests in.

    Args:
        tokens: of this gateway.
        hosts: names (``HOST`` or ``HOST:PORT``) of this gateway beside those of the loopback.
    """

    def __init__(self, tokens: Tokens, hosts: Collection[str] = ()) -> None:
        self._tokens = tokens
        self._hosts = frozenset(hosts)

    def admit(self, head: Head, *, form: bool) -> Admission:
        """Let a request in.

        Args:
            head: of the request.
            form: whether its body is a form, in which the token may stand.

        Raises:
            BadRequestError: it is malformed.
            ForbiddenError: it is not let in; the message says why.
        """
        origin = f"{'https' if head.secure else 'http'}://{self._checked_host(head)}"
        browser = any(head.values(name) for name in _OF_BROWSERS) or head.one(
            "User-Agent"
        ).startswith("Mozilla/")
        self._check_origin(head, origin)
        token = head.one(HEADER)
        if token and not self._tokens.allows(token):
            raise WrongTokenError("the token is not this gateway's; open it again: ampgrid web")
        needed = browser and head.method not in SAFE_METHODS and not token
        if needed and not form:
            raise ForbiddenError(
                f"a browser changes things with a token (the header {HEADER}); "
                "open the gateway with: ampgrid web"
            )
        return Admission(origin, browser, needed, bool(token), head.local[1])

    def _checked_host(self, head: Head) -> str:
        host = head.one("Host").lower()
        name, port = _split(host)
        number = int(port) if port else (443 if head.secure else 80)
        known = host in self._hosts or name in self._hosts
        if not known and number == head.local[1]:
            known = name in _LOOPBACK or _is_address(name, head.local[0])
        if not known:
            raise ForbiddenError(
                "this gateway is not called so; if it should be, list the name in node.toml: "
                "[web] hosts"
            )
        return host

    def _check_origin(self, head: Head, own: str) -> None:
        site, said = head.one("Sec-Fetch-Site"), head.one("Origin").lower()
        if site not in {"", "same-origin", "none"} and not self._is_link(head):
            raise ForbiddenError("another site's page may not do this")
        if said in {"", own} or (said == "null" and site == "same-origin"):
            return
        raise ForbiddenError("another site's page may not do this")

    def _is_link(self, head: Head) -> bool:
        """Tell whether somebody followed a link, in a window of its own, to where it may lead."""
        return (
            head.linkable
            and head.method == "GET"
            and head.one("Sec-Fetch-Mode") == "navigate"
            and head.one("Sec-Fetch-Dest") == "document"
        )


def _split(host: str) -> tuple[str, str]:
    """Split ``HOST:PORT`` or ``[IPv6]:PORT``.

    Raises:
        BadRequestError: it is neither.
    """
    name, colon, port = host.rpartition(":")
    if host.endswith("]") or not colon:
        name, port = host, ""
    if not name or (port and not (port.isascii() and port.isdigit() and len(port) <= 5)):
        raise BadRequestError("the header Host is missing or malformed")
    return name, port


def _is_address(name: str, local: str) -> bool:
    """Tell whether a name is the very address that was connected to: no name can be bent to it."""
    try:
        return ipaddress.ip_address(name.strip("[]")) == ipaddress.ip_address(local)
    except ValueError:
        return False
