"""Who may keep blobs here by a token: names and digests, in the database of the blobs.

All calls block and may come from any thread.

Spec: ``docs/specs/blobs.md#users``.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from ampgrid.formats.blobuser import account_of_user
from ampgrid.store import servedblob_rows as rows
from ampgrid.store.sql import Database, Sql


@attrs.frozen
class User:
    """Somebody with a token.

    Attributes:
        name: the user.
        digest: of the token (`ampgrid.formats.blobuser.token_digest`), 32 bytes.
        issued_at: when, seconds since 1970.
        used: what the account takes, bytes.
    """

    name: str
    digest: bytes = attrs.field(repr=False)
    issued_at: int
    used: int


class BlobUsers:
    """The users of a store.

    Args:
        database: returns the store's, or raises `BrokenStoreError`.
    """

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database

    def all(self) -> list[User]:
        """Return all who have a token, by name."""

        def look(sql: Sql) -> list[User]:
            found = sql.execute("SELECT user, digest, issued_at FROM tokens ORDER BY user")
            return [
                User(str(name), bytes(digest), int(issued_at), _used(sql, str(name)))
                for name, digest, issued_at in found.fetchall()
            ]

        return self._database().read(look)

    def set_token(self, user: str, digest: bytes, issued_at: int) -> None:
        """Let a user have this token, in the place of any other."""
        self._database().call(
            lambda sql: sql.execute(
                "INSERT OR REPLACE INTO tokens (user, digest, issued_at) VALUES (?, ?, ?)",
                (user, digest, issued_at),
            )
        )

    def drop_token(self, user: str) -> bool:
        """Let a user have no token; False if there was none. The blobs stay."""

        def drop(sql: Sql) -> bool:
            return sql.execute("DELETE FROM tokens WHERE user = ?", (user,)).rowcount == 1

        return self._database().call(drop, vital=True)


def _used(sql: Sql, name: str) -> int:
    number = rows.find_account(sql, account_of_user(name))
    return 0 if number is None else rows.used_by(sql, number)
