"""Who has blobs at a peer or a server: accounts, the names of users, and their tokens.

An account is that of a node, known by its connection, or that of a user, known by a token. The
two never meet: their names begin with another word.

A token is drawn by the server, 32 random bytes as 52 characters of base32. The server keeps its
digest alone. It needs no stretching: nobody can try 2**256 of them.

Source: `docs/specs/blobs.md#users`.
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha256

from ampgrid.crypto import base32
from ampgrid.crypto.identity import node_id_text
from ampgrid.errors import BadArgumentValueError
from ampgrid.ports import Entropy

#: The longest name of a user, characters.
MAX_USER = 64
#: Random bytes in a token, and its characters.
TOKEN_BYTES = 32
TOKEN_CHARACTERS = 52

_USER = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.@+-]*")


def checked_user(text: str) -> str:
    """Return the name of a user.

    Raises:
        BadArgumentValueError: it is empty, too long, or has a character that it must not.
    """
    if not 1 <= len(text) <= MAX_USER or not _USER.fullmatch(text):
        raise BadArgumentValueError(
            f"A user of blobs has a name of 1 to {MAX_USER} characters: letters, digits, "
            "- _ . @ + of ASCII, the first none of . @ +."
        )
    return text


def account_of_user(user: str) -> str:
    """Return the name of a user's account; raises `BadArgumentValueError`."""
    return f"user:{checked_user(user)}"


def account_of_node(node_id: bytes) -> str:
    """Return the name of the account of a node, whose id has 20 bytes."""
    return f"node:{node_id_text(node_id)}"


def new_token(entropy: Entropy) -> str:
    """Draw a token."""
    return base32.b2a(entropy(TOKEN_BYTES))


def token_digest(token: str | bytes) -> bytes:
    """Return what a server keeps of a token, 32 bytes."""
    raw = token.encode("utf-8") if isinstance(token, str) else token
    return sha256(b"ampgrid_blob_token_v1:" + raw).digest()


def is_token(token: str | bytes, digest: bytes) -> bool:
    """Tell whether a token is the one with this digest, in constant time."""
    return hmac.compare_digest(token_digest(token), digest)
