"""Announcements: what a node says of itself, signed, so that anybody may pass it on.

Layout, integers big-endian, a *text* being one byte of length and then so many bytes::

    4   magic "AGA1"
    44  public key (SPKI, DER)
    8   sequence number: of two announcements of one node the higher counts
    2   highest version of the protocol that it speaks
        text nickname (UTF-8), text software
    1   number of services, then each as a text
    1   number of addresses, then each as a text "HOST:PORT"
        whatever later versions add
    64  signature over all before it

Source: `docs/specs/identity.md`.
"""

from __future__ import annotations

import re
import struct
import unicodedata
from collections.abc import Iterable

from attrs import field, frozen

from ampgrid.crypto.identity import SIGNATURE_SIZE, SPKI_SIZE, Identity, node_id_of, verify
from ampgrid.errors import BadAddressError, BadArgumentValueError, FormatError
from ampgrid.formats.address import MAX_HINTS, parse_hint

#: The largest announcement, bytes.
MAX_ANNOUNCEMENT_BYTES = 800
#: The longest nickname, bytes of UTF-8, and the longest name of a software or a service.
MAX_NICKNAME_BYTES = 100
MAX_SOFTWARE_BYTES = 64
MAX_SERVICES = 16

_DOMAIN = b"announcement"
_MAGIC = b"AGA1"
_HEAD = struct.Struct(f">4s{SPKI_SIZE}sQH")
_MAX_SEQUENCE = 2**63 - 1
_SERVICE = re.compile(r"[a-z][a-z0-9-]{0,31}")
#: Control characters, surrogates, line and paragraph ends; and what turns the writing around.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@frozen
class Announcement:
    """What a node says of itself.

    Attributes:
        spki: its public key in DER, 44 bytes.
        sequence: rises with each announcement of the node.
        nickname: what its operator calls it; at most 100 bytes of UTF-8, may be empty.
        services: names such as ``storage`` and ``introducer``, each once.
        software: name and version of the program.
        version: the highest version of the protocol that it speaks.
        addresses: places to dial, ``HOST:PORT``; none for a node that only dials.
        node_id: 20 bytes, from the key.
    """

    spki: bytes = field(repr=False)
    sequence: int
    nickname: str
    services: tuple[str, ...]
    software: str
    version: int
    addresses: tuple[str, ...]

    @property
    def node_id(self) -> bytes:
        """The node id, 20 bytes."""
        return node_id_of(self.spki)


def _check_text(text: str, most: int, what: str) -> None:
    if len(text.encode("utf-8", "surrogatepass")) > most:
        raise FormatError(f"The {what} is longer than {most} bytes.")
    if any(unicodedata.category(c) in _FORBIDDEN_CATEGORIES or c in _BIDI for c in text):
        raise FormatError(f"The {what} holds a character that cannot be displayed.")


def check_nickname(text: str) -> None:
    """Check that a text can be the nickname in an announcement.

    Raises:
        FormatError: it is too long, or holds what cannot be displayed.
    """
    _check_text(text, MAX_NICKNAME_BYTES, "nickname")


def _check(announcement: Announcement) -> None:
    """Check everything but the signature.

    Raises:
        FormatError: something is out of bounds or malformed.
    """
    check_nickname(announcement.nickname)
    _check_text(announcement.software, MAX_SOFTWARE_BYTES, "name of the software")
    if not 0 <= announcement.sequence <= _MAX_SEQUENCE:
        raise FormatError("The sequence number of the announcement is out of bounds.")
    if not 1 <= announcement.version <= 65535:
        raise FormatError("The protocol version in the announcement is out of bounds.")
    services, addresses = announcement.services, announcement.addresses
    if len(services) > MAX_SERVICES or len(set(services)) != len(services):
        raise FormatError("The announcement names too many services, or one twice.")
    if not all(_SERVICE.fullmatch(service) for service in services):
        raise FormatError("The announcement names a malformed service.")
    if len(addresses) > MAX_HINTS or len(set(addresses)) != len(addresses):
        raise FormatError("The announcement names too many addresses, or one twice.")
    for address in addresses:
        # Not compared with its canonical spelling: versions of Python differ about IPv6.
        try:
            parse_hint(address)
        except BadAddressError:
            raise FormatError("The announcement names a malformed address.") from None
        if len(address) > 255:
            raise FormatError("The announcement names a malformed address.")


def _pack_texts(texts: Iterable[str]) -> bytes:
    parts = [text.encode("utf-8") for text in texts]
    return b"".join(bytes([len(part)]) + part for part in parts)


def sign(
    identity: Identity,
    *,
    sequence: int,
    nickname: str = "",
    services: Iterable[str] = (),
    software: str = "",
    version: int = 1,
    addresses: Iterable[str] = (),
) -> bytes:
    """Make and sign an announcement; the arguments are the attributes of `Announcement`.

    Returns:
        At most 800 bytes.

    Raises:
        BadArgumentValueError: an argument is malformed, or all together are too long.
    """
    made = Announcement(
        identity.spki, sequence, nickname, tuple(services), software, version, tuple(addresses)
    )
    try:
        _check(made)
    except FormatError as error:
        raise BadArgumentValueError(str(error)) from None
    body = b"".join(
        (
            _HEAD.pack(_MAGIC, made.spki, sequence, version),
            _pack_texts((nickname, software)),
            bytes([len(made.services)]),
            _pack_texts(made.services),
            bytes([len(made.addresses)]),
            _pack_texts(made.addresses),
        )
    )
    if len(body) + SIGNATURE_SIZE > MAX_ANNOUNCEMENT_BYTES:
        raise BadArgumentValueError(
            "The announcement is longer than 800 bytes; shorten the nickname or list fewer"
            " addresses."
        )
    return body + identity.sign(_DOMAIN, body)


class _Reader:
    """Takes texts off the front of a body."""

    def __init__(self, body: bytes, position: int) -> None:
        self.body = body
        self.position = position

    def byte(self) -> int:
        """Take a byte; raises `FormatError`."""
        if self.position >= len(self.body):
            raise FormatError("The announcement is cut short.")
        self.position += 1
        return self.body[self.position - 1]

    def text(self) -> str:
        """Take a text, one byte of length before it; raises `FormatError`."""
        length = self.byte()
        part = self.body[self.position : self.position + length]
        self.position += length
        if len(part) != length:
            raise FormatError("The announcement is cut short.")
        try:
            return part.decode("utf-8")
        except UnicodeDecodeError:
            raise FormatError("The announcement holds text that is not UTF-8.") from None


def unpack(packed: bytes) -> Announcement:
    """Read an announcement and check its signature.

    Raises:
        FormatError: it is malformed or out of bounds.
        IntegrityError: the key is unacceptable or the signature does not hold.
    """
    if not _HEAD.size + SIGNATURE_SIZE <= len(packed) <= MAX_ANNOUNCEMENT_BYTES:
        raise FormatError("The announcement is too short or too long.")
    body, signature = packed[:-SIGNATURE_SIZE], packed[-SIGNATURE_SIZE:]
    magic, spki, sequence, version = _HEAD.unpack_from(body)
    if magic != _MAGIC:
        raise FormatError("The announcement is of an unknown form.")
    verify(spki, _DOMAIN, body, signature)
    reader = _Reader(body, _HEAD.size)
    nickname, software = reader.text(), reader.text()
    services = tuple(reader.text() for _ in range(reader.byte()))
    addresses = tuple(reader.text() for _ in range(reader.byte()))
    made = Announcement(spki, sequence, nickname, services, software, version, addresses)
    _check(made)
    return made
