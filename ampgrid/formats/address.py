"""Addresses: ``amp://NODEID@HOST:PORT[,HOST:PORT...][/SECRET]``.

An address names a node by its key, says where it may be reached (hints: true or not, the key
decides) and, for an introducer, carries the secret of its grid. IPv6 hosts stand in brackets.

Source: `docs/specs/identity.md`.
"""

from __future__ import annotations

import ipaddress
import re

from attrs import frozen

from ampgrid.crypto.base32 import a2b, b2a
from ampgrid.crypto.identity import node_id_text, parse_node_id
from ampgrid.errors import BadAddressError, FormatError

#: A place to dial: (host, port). IPv6 without brackets.
Hint = tuple[str, int]

#: Length of the secret of a grid, bytes.
SECRET_SIZE = 16
#: The most places that one address or announcement names.
MAX_HINTS = 16

_SCHEME = "amp://"
_SECRET_TEXT_SIZE = 26
_MAX_ADDRESS_CHARACTERS = 4096
_MAX_HOST_CHARACTERS = 253
#: A DNS label; underscores are common in names of local networks.
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")


@frozen(repr=False)
class Address:
    """Where a node is and who it must prove to be.

    Attributes:
        node_id: 20 bytes.
        hints: one or more places to dial.
        secret: the secret of the grid, 16 bytes; an introducer's address alone has it.
    """

    node_id: bytes
    hints: tuple[Hint, ...]
    secret: bytes | None = None

    def to_string(self, with_secret: bool = True) -> str:
        """Spell the address.

        Args:
            with_secret: False leaves the secret out, for logs and displays.
        """
        places = ",".join(format_hint(hint) for hint in self.hints)
        text = f"{_SCHEME}{node_id_text(self.node_id)}@{places}"
        if with_secret and self.secret is not None:
            text += "/" + b2a(self.secret)
        return text

    def __repr__(self) -> str:
        hidden = "/(secret)" if self.secret is not None else ""
        return f"<Address {self.to_string(with_secret=False)}{hidden}>"


def _parse_host(host: str, bracketed: bool) -> str:
    """Return a host in its one spelling: a name in lower case, an IP address as usual."""
    try:
        if bracketed:
            if "%" in host:
                raise BadAddressError(
                    "A host in the address has a zone, which means nothing here."
                )
            return str(ipaddress.IPv6Address(host))
        if host and set(host) <= set("0123456789."):
            return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise BadAddressError("A host in the address is no valid IP address.") from None
    if not host.isascii() or len(host) > _MAX_HOST_CHARACTERS:
        raise BadAddressError("A host in the address is no valid host name.")
    name = host.lower()
    if not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise BadAddressError("A host in the address is no valid host name.")
    return name


def parse_hint(text: str, *, port_zero: bool = False) -> Hint:
    """Read ``HOST:PORT``, an IPv6 host in brackets.

    Args:
        text: what to read.
        port_zero: whether port 0 is taken (to listen on any free port).

    Returns:
        (host, port), the host in lower case and without brackets.

    Raises:
        BadAddressError: it is not of that form.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not _PORT.fullmatch(port):
        raise BadAddressError("A place to dial must be HOST:PORT, with [ ] around an IPv6 host.")
    number = int(port)
    if not (0 if port_zero else 1) <= number <= 65535:
        raise BadAddressError("A port in the address is not from 1 to 65535.")
    bracketed = host.startswith("[") and host.endswith("]")
    return _parse_host(host[1:-1] if bracketed else host, bracketed), number


def format_hint(hint: Hint) -> str:
    """Spell (host, port) as ``HOST:PORT``, an IPv6 host in brackets."""
    host, port = hint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str) -> Address:
    """Read an address; white space around it is ignored, nothing else is forgiven.

    Raises:
        BadAddressError: it is none. The message says what is wrong and never repeats the secret.
    """
    text = text.strip()
    if not text.startswith(_SCHEME):
        raise BadAddressError("An address begins with amp:// and the text does not.")
    if len(text) > _MAX_ADDRESS_CHARACTERS:
        raise BadAddressError("The text is too long for an address.")
    node, at, rest = text.removeprefix(_SCHEME).partition("@")
    if not at:
        raise BadAddressError("An address has the form amp://NODEID@HOST:PORT; the @ is missing.")
    try:
        node_id = parse_node_id(node)
    except FormatError:
        raise BadAddressError(
            "The node id before the @ is not 32 characters of a-z and 2-7; copy it again."
        ) from None
    places, slash, secret_text = rest.partition("/")
    secret = None
    if slash:
        try:
            secret = a2b(secret_text, SECRET_SIZE)
        except FormatError:
            raise BadAddressError(
                f"The secret after the / is not {_SECRET_TEXT_SIZE} characters of a-z and 2-7;"
                " copy it again, all of it."
            ) from None
    hints = tuple(parse_hint(place) for place in places.split(","))
    if len(hints) > MAX_HINTS:
        raise BadAddressError(f"The address names more than {MAX_HINTS} places to dial.")
    if len(set(hints)) != len(hints):
        raise BadAddressError("The address names one place to dial twice.")
    return Address(node_id, hints, secret)
