"""What a browser needs to change anything: a token, and what is derived of it.

The token is in ``private/web-token``. A script may send it as it is (``X-Ampgrid-Token``). What a
page holds, what the cookie holds and what stands in the link of ``ampgrid web`` are derived of it,
each under a word of its own, so that none can be had from another.
"""

from __future__ import annotations

import hashlib
import hmac

from ampgrid.crypto.base32 import b2a

#: The header in which a page's script, or any other, sends it.
HEADER = "X-Ampgrid-Token"
#: The field of a form.
FIELD = "token"


class Tokens:
    """The token of one gateway.

    Args:
        secret: 32 bytes.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        #: In pages and forms.
        self.form = self._derived(b"form")
        #: In the cookie of a browser that was opened by ``ampgrid web``.
        self.cookie = self._derived(b"cookie")
        #: In the link that ``ampgrid web`` opens.
        self.link = self._derived(b"link")

    def __repr__(self) -> str:
        return "<Tokens>"

    def _derived(self, word: bytes) -> str:
        made = hmac.new(self._secret, b"ampgrid web v1 " + word, hashlib.sha256)
        return b2a(made.digest())

    def allows(self, given: str) -> bool:
        """Tell whether this is the token, or that of a form; in constant time."""
        return _same(given, self.form) | _same(given, b2a(self._secret))

    def is_cookie(self, given: str) -> bool:
        """Tell whether this is what the cookie holds; in constant time."""
        return _same(given, self.cookie)

    def is_link(self, given: str) -> bool:
        """Tell whether this stands in the link of ``ampgrid web``; in constant time."""
        return _same(given, self.link)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())
