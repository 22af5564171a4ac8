"""The ``webpassword``: HTTP digest authentication for everything, and Basic over TLS.

The file holds one line, ``NAME:PASSWORD``. Challenges are made and looked at by Twisted
(`twisted.cred.credentials`). What it leaves out is done here: the answer has to be for this very
URI, counts once, and what is secret is compared in constant time.

Source: RFC 7616 (digest), RFC 7617 (Basic).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.cred.credentials import DigestCredentialFactory
from twisted.cred.error import LoginFailed

from ampgrid.crypto.keyfile import read_secret_file
from ampgrid.errors import ConfigError
from ampgrid.web.errors import WebError

if TYPE_CHECKING:
    from ampgrid.web.request import GatewayRequest

REALM = b"ampgrid"
_MOST_BYTES = 1_024
#: Nonces whose counts are remembered; Twisted lets each live for 15 minutes.
_MOST_NONCES = 20_000
#: Counts may come out of order by so many: browsers ask over several connections.
WINDOW = 1_024
_COUNT = re.compile(rb"[0-9a-fA-F]{8}")
#: The longest answer to a challenge that is parsed, bytes beside the URI and the name; browsers
#: need some 400. Twisted's parser takes the square of the length, of whoever asks.
_MOST_ANSWER = 1_024
#: Stands in an answer for the URI, once that is known to be the one of the request.
_THIS_URI = b"/"


class UnauthorizedError(WebError):
    """The password is missing or wrong."""

    status = 401


class Counts:
    """Which counts of which nonces were used: who listens may not send an answer again.

    Args:
        most: nonces that are remembered; the one that was used longest ago is forgotten first.
    """

    def __init__(self, most: int = _MOST_NONCES) -> None:
        self._most = most
        #: (highest count, one bit for each of the counts below it), by nonce.
        self._used: OrderedDict[bytes, tuple[int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._used)

    def take(self, nonce: bytes, count: bytes) -> bool:
        """Use a count of a nonce; False if it was used, is too old, or is none."""
        number = int(count, 16) if _COUNT.fullmatch(count) else 0
        highest, bits = self._used.get(nonce, (0, 0))
        behind = highest - number
        if not number or behind >= WINDOW or (behind >= 0 and bits >> behind & 1):
            return False
        if behind < 0:
            highest, bits, behind = number, bits << min(-behind, WINDOW), 0
        self._used[nonce] = highest, (bits | 1 << behind) & ((1 << WINDOW) - 1)
        self._used.move_to_end(nonce)
        while len(self._used) > self._most:
            self._used.popitem(last=False)
        return True


class Password:
    """What the gateway asks for.

    Args:
        name: of the user.
        password: of the user.
    """

    def __init__(self, name: bytes, password: bytes) -> None:
        self._name = name
        self._password = password
        self._digests = DigestCredentialFactory(b"md5", REALM)
        self._counts = Counts()

    @classmethod
    def read(cls, path: Path) -> Password | None:
        """Read the file ``webpassword``; None if there is none.

        Raises:
            ConfigError: others can read it, or it holds no NAME:PASSWORD.
        """
        if not path.exists():
            return None
        name, colon, password = read_secret_file(path, _MOST_BYTES).strip().partition(b":")
        if not name or not colon or not password or b'"' in name:
            raise ConfigError(f"{path} does not hold NAME:PASSWORD.")
        return cls(name, password)

    def check(self, request: GatewayRequest, method: str, uri: bytes) -> None:
        """Let a request in that knows the password.

        Raises:
            UnauthorizedError: it does not; the answer asks for it.
        """
        said = (request.getHeader("Authorization") or "").encode("utf-8", "replace")
        scheme, _, rest = said.partition(b" ")
        peer = getattr(request.getClientAddress(), "host", "").encode("ascii", "replace")
        known: bool | None = None
        if scheme.lower() == b"basic" and request.isSecure():
            known = self._is_basic(rest.strip())
        elif scheme.lower() == b"digest":
            known = self._is_digest(rest, method, uri, peer)
        if known:
            return
        refused = self._asking(peer, scheme.lower(), secure=request.isSecure())
        refused.guessed = known is False
        raise refused

    # Both tell whether it is the password; None of what says nothing of it, right or wrong.

    def _is_basic(self, given: bytes) -> bool | None:
        try:
            said = b64decode(given, validate=True)
        except ValueError:
            return None
        return hmac.compare_digest(said, self._name + b":" + self._password)

    def _is_digest(self, given: bytes, method: str, uri: bytes, peer: bytes) -> bool | None:
        given = given.replace(b'uri="%s"' % uri, b'uri="%s"' % _THIS_URI, 1)
        if len(given) > _MOST_ANSWER + len(self._name):
            return None
        try:
            # Looks at the nonce: made here, for this address, and not long ago.
            fields = self._digests.decode(given, method.encode("ascii"), peer).fields
        except (LoginFailed, ValueError):
            # Browsers answer to a challenge that has become too old, and then to a new one.
            return None
        told = [fields.get(name, b"") for name in ("username", "uri", "algorithm", "qop")]
        if told[1] != _THIS_URI or told[2].lower() not in {b"", b"md5"}:
            return None
        if told[3].lower() != b"auth":
            return None
        expected = self._response(fields, method.encode("ascii"), uri)
        known = hmac.compare_digest(expected, fields.get("response", b"").lower())
        if not known or not hmac.compare_digest(told[0], self._name):
            return False
        fresh = self._counts.take(fields.get("nonce", b""), fields.get("nc", b""))
        return True if fresh else None

    def _response(self, fields: Mapping[str, bytes], method: bytes, uri: bytes) -> bytes:
        """Return what who knows the password answers (RFC 7616, 3.4.1)."""
        nonce, count, own = (fields.get(name, b"") for name in ("nonce", "nc", "cnonce"))
        first = _hashed(self._name, REALM, self._password)
        return _hashed(first, nonce, count, own, b"auth", _hashed(method, uri))

    def _asking(self, peer: bytes, scheme: bytes, *, secure: bool) -> UnauthorizedError:
        told = self._digests.getChallenge(peer)
        told["algorithm"] = b"MD5"
        values = {key: value.decode("ascii") for key, value in told.items()}
        challenges = ["Digest " + ", ".join(f'{key}="{value}"' for key, value in values.items())]
        if secure:
            challenges.append('Basic realm="ampgrid", charset="UTF-8"')
        why = "this gateway asks for a name and a password (the file webpassword)"
        if scheme == b"basic" and not secure:
            why += "; without TLS it takes them by digest alone, not by Basic (curl --digest)"
        return UnauthorizedError(why, WWW_Authenticate="\n".join(challenges))


def _hashed(*parts: bytes) -> bytes:
    # The hash that all clients know; over a network, what counts is TLS.
    return hashlib.md5(b":".join(parts), usedforsecurity=False).hexdigest().encode("ascii")
