"""Leases: promises to keep the shares of a file for 31 days, renewable by who knows a secret.

The secrets themselves are never stored, only their digests, so a stolen disk renews and cancels
nothing. They are looked up by digest: what a stranger could learn from the time of a look-up is
about a hash, not about the secret. A lease belongs to a storage index: the same secrets under
another index are another lease.

The store has leases of its own, which nobody can renew or cancel (their digests are empty): for
files that were found without any, so that they have a full term too; and, already run out, in
the place of a last lease that was cancelled, so that whatever is without a lease is found by the
end of one.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from ampgrid.crypto.hashing import lease_secret_digest
from ampgrid.errors import NoRoomError, NotStoredError
from ampgrid.store import marks
from ampgrid.store.catalog import NOBODY
from ampgrid.store.peerrows import peer_row
from ampgrid.store.sql import Sql

#: How long a lease lasts, seconds. Source: Tahoe-LAFS, ``docs/garbage-collection.rst``.
LEASE_SECONDS = 31 * 24 * 60 * 60

#: What the store's own leases have for digests; no secret has such a one.
OWN = b""

#: The most leases on one storage index, and of one peer on it. Who asks for more is given the
#: store's own, which is as good but for that it cannot be cancelled.
MOST_LEASES = 1000
MOST_LEASES_A_PEER = 16


@attrs.frozen
class LeaseTerms:
    """A lease that somebody asks for.

    Attributes:
        renew: digest of the secret that renews it, 32 bytes.
        cancel: digest of the secret that cancels it, 32 bytes.
        now: the time, seconds since 1970.
        until: when it runs out, seconds since 1970, for a lease taken over from elsewhere; None
            for the full time from ``now``.
        peer: node id of who asks, 20 bytes; `NOBODY` for the store itself.
    """

    renew: bytes = attrs.field(repr=False)
    cancel: bytes = attrs.field(repr=False)
    now: int
    until: int | None = None
    peer: bytes = NOBODY

    @classmethod
    def of(
        cls, renew_secret: bytes, cancel_secret: bytes, now: int, peer: bytes = NOBODY
    ) -> LeaseTerms:
        """Return the terms for two secrets (32 bytes each)."""
        renew, cancel = lease_secret_digest(renew_secret), lease_secret_digest(cancel_secret)
        return cls(renew, cancel, now, peer=peer)

    @property
    def expires_at(self) -> int:
        """When the lease runs out, seconds since 1970."""
        return self.now + LEASE_SECONDS if self.until is None else self.until


def add_or_renew(
    sql: Sql,
    storage_index: bytes,
    terms: LeaseTerms,
    has_room: Callable[[Sql], bool] | None = None,
) -> None:
    """Add a lease, or renew the one that has this renewal secret.

    Where there are as many as there can be, the store keeps the file itself for that long: who
    fills a file with leases must not keep others from having theirs.

    Args:
        sql: the database.
        storage_index: of the file, 16 bytes.
        terms: of the lease.
        has_room: tells whether there is room for one more; None if it is reserved already.

    Raises:
        NoRoomError: there is no room; or, for a lease taken over from elsewhere, the storage
            index has `MOST_LEASES` leases that have not run out.
    """
    if _renew(sql, storage_index, terms.renew, terms.expires_at):
        return
    full = _is_full(sql, storage_index, terms)
    if full and terms.until is not None:
        raise NoRoomError("this file has as many leases as it can have")
    if full and _renew(sql, storage_index, OWN, terms.expires_at):
        return
    if has_room is not None and not has_room(sql):
        raise NoRoomError("there is no room for another lease")
    if full:
        _set_own(sql, storage_index, terms.expires_at)
        return
    peer = None if terms.peer == NOBODY else peer_row(sql, terms.peer)
    add_first(sql, storage_index, terms, peer)


def add_first(sql: Sql, storage_index: bytes, terms: LeaseTerms, peer: int | None) -> None:
    """Add a lease where it is known that there is room for it and none with its secret.

    Args:
        sql: the database.
        storage_index: of the file, 16 bytes.
        terms: of the lease.
        peer: the row of who asks; None for the store itself.
    """
    sql.execute(
        "INSERT INTO leases (storage_index, renew, cancel, expires_at, peer)"
        " VALUES (?, ?, ?, ?, ?)",
        (storage_index, terms.renew, terms.cancel, terms.expires_at, peer),
    )


def _is_full(sql: Sql, storage_index: bytes, terms: LeaseTerms) -> bool:
    """Tell whether a file, or a peer on it, has as many leases as it can have."""
    count = _count(sql, storage_index)
    if count < MOST_LEASES_A_PEER:
        return False
    if terms.peer != NOBODY:
        row = sql.execute(
            "SELECT count(*) FROM leases JOIN peers ON peers.id = leases.peer"
            " WHERE storage_index = ? AND node_id = ? AND expires_at >= ?",
            (storage_index, terms.peer, terms.now),
        ).fetchone()
        assert row is not None
        if row[0] >= MOST_LEASES_A_PEER:
            return True
    if count < MOST_LEASES:
        return False
    sql.execute(
        "DELETE FROM leases WHERE storage_index = ? AND expires_at < ? AND renew != ?",
        (storage_index, terms.now, OWN),
    )
    return _count(sql, storage_index) >= MOST_LEASES


def renew(sql: Sql, storage_index: bytes, digest: bytes, now: int) -> None:
    """Renew the lease whose renewal secret has this digest, for the full time from ``now``.

    Raises:
        NotStoredError: there is no such lease.
    """
    if not _renew(sql, storage_index, digest, now + LEASE_SECONDS):
        raise NotStoredError("there is no lease with this secret")


def cancel(sql: Sql, storage_index: bytes, digest: bytes) -> None:
    """Remove the leases whose cancel secret has this digest; the shares stay.

    Raises:
        NotStoredError: there is no such lease.
    """
    gone = sql.execute(
        "DELETE FROM leases WHERE storage_index = ? AND cancel = ?", (storage_index, digest)
    )
    if not gone.rowcount:
        raise NotStoredError("there is no lease with this secret")
    if last_end(sql, storage_index) is None:
        _set_own(sql, storage_index, 0)


def give_term(sql: Sql, storage_index: bytes, now: int) -> None:
    """Let a file that was found be kept for a full term from ``now``."""
    _set_own(sql, storage_index, now + LEASE_SECONDS)


def _set_own(sql: Sql, storage_index: bytes, expires_at: int) -> None:
    if not _renew(sql, storage_index, OWN, expires_at):
        sql.execute(
            "INSERT INTO leases (storage_index, renew, cancel, expires_at) VALUES (?, ?, ?, ?)",
            (storage_index, OWN, OWN, expires_at),
        )


def count_all(sql: Sql) -> int:
    """Return the number of all leases, which triggers keep."""
    return marks.read(sql, "leases") or 0


def last_end(sql: Sql, storage_index: bytes) -> int | None:
    """Return when the last lease of a file runs out, seconds since 1970; None without any."""
    row = sql.execute(
        "SELECT max(expires_at) FROM leases WHERE storage_index = ?", (storage_index,)
    ).fetchone()
    assert row is not None
    return None if row[0] is None else int(row[0])


def expiries(sql: Sql, storage_index: bytes) -> list[int]:
    """Return when the leases of peers on a file run out, seconds since 1970, rising."""
    rows = sql.execute(
        "SELECT expires_at FROM leases WHERE storage_index = ? AND renew != ? ORDER BY expires_at",
        (storage_index, OWN),
    )
    return [row[0] for row in rows]


def _renew(sql: Sql, storage_index: bytes, digest: bytes, expires_at: int) -> bool:
    # A clock that was set back shortens no lease.
    changed = sql.execute(
        "UPDATE leases SET expires_at = max(expires_at, ?) WHERE storage_index = ? AND renew = ?",
        (expires_at, storage_index, digest),
    )
    return bool(changed.rowcount)


def _count(sql: Sql, storage_index: bytes) -> int:
    row = sql.execute(
        "SELECT count(*) FROM leases WHERE storage_index = ? AND renew != ?", (storage_index, OWN)
    ).fetchone()
    assert row is not None
    return int(row[0])
