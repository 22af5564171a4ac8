"""Whether a store keeps its promises: an audit against what it was given and what it answered.

A `Ledger` is kept by whoever uses a store: what was offered, what was acknowledged, what may go.
`check_open_store` holds a store to it, `check_store` opens a directory for that, as after a
crash, and closes it again::

    ledger.offer(index, number, data)          # before the store is asked
    ...
    ledger.acknowledge(index, number)          # after it has answered
    problems = check_store(directory, ledger)  # a list of sentences; empty is good
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

from ampgrid.crypto.base32 import b2a
from ampgrid.errors import AmpgridError
from ampgrid.store import LeaseTerms, ShareStore
from ampgrid.store.filesystem import FileSystem
from ampgrid.store.recovery import Places

#: (storage index, number of the share).
ShareKey = tuple[bytes, int]


@attrs.define
class Ledger:
    """What a store was given, and what it has said about that.

    Attributes:
        offered: {share: everything that was ever offered as it, whole}.
        kept: shares that were acknowledged and have to be there.
        gone: shares of which it was said that they are gone, and that must not come back.
        leases: {(storage index, digest of the renewal secret): the earliest end it may have}.
    """

    offered: dict[ShareKey, list[bytes]] = attrs.field(factory=dict)
    kept: set[ShareKey] = attrs.field(factory=set)
    gone: set[ShareKey] = attrs.field(factory=set)
    leases: dict[tuple[bytes, bytes], int] = attrs.field(factory=dict)

    def copy(self) -> Ledger:
        """Return another ledger with the same entries."""
        offered = {share: list(offers) for share, offers in self.offered.items()}
        return Ledger(offered, set(self.kept), set(self.gone), dict(self.leases))

    def offer(self, index: bytes, number: int, data: bytes) -> None:
        """Note that a share is about to be sent: from now on it may be there."""
        known = self.offered.setdefault((index, number), [])
        if data not in known:
            known.append(data)
        self.gone.discard((index, number))

    def acknowledge(self, index: bytes, number: int) -> None:
        """Note that the store says it has a share: from now on it must be there."""
        self.kept.add((index, number))

    def release(self, index: bytes, number: int) -> None:
        """Note that a share may go."""
        self.kept.discard((index, number))

    def drop(self, index: bytes, number: int) -> None:
        """Note that the store says a share is gone."""
        self.kept.discard((index, number))
        self.gone.add((index, number))

    def lease(self, index: bytes, terms: LeaseTerms) -> None:
        """Note that a lease was added or renewed."""
        key = (index, terms.renew)
        self.leases[key] = max(self.leases.get(key, 0), terms.expires_at)

    def release_leases(self, index: bytes) -> None:
        """Note that all leases of a file may go."""
        for key in [key for key in self.leases if key[0] == index]:
            del self.leases[key]

    def release_lease(self, index: bytes, renew: bytes) -> None:
        """Note that a lease may go."""
        self.leases.pop((index, renew), None)


def check_store(
    directory: Path, ledger: Ledger, *, now: int, files: FileSystem | None = None
) -> list[str]:
    """Open a store, check it and close it.

    Args:
        directory: of the store; nobody else has it open.
        ledger: what it has to keep.
        now: the time, seconds since 1970.
        files: the file system, the real one if it is not given.

    Returns:
        What is wrong, a sentence each.
    """
    try:
        store = ShareStore.open(directory, wall=lambda: now, files=files)
    except AmpgridError as error:
        return [f"the store does not open: {type(error).__name__}: {error}"]
    try:
        problems = check_open_store(store, directory, ledger)
    finally:
        store.close()
    return problems


def check_open_store(
    store: ShareStore, directory: Path, ledger: Ledger, *, tidy: bool = True
) -> list[str]:
    """Check a store into which nothing is on its way; see `check_store`.

    Args:
        store: the store.
        directory: where it is.
        ledger: what it has to keep.
        tidy: nothing is left behind. After a failure that is true from the next start on; until
            then a share that may go can be without its file, which is told to whoever reads it.
    """
    return [
        *_check_database(store),
        *_check_files(store, Places(directory), ledger, tidy=tidy),
        *_check_room(store),
        *_check_shares(store, ledger, tidy=tidy),
        *_check_leases(store, ledger),
    ]


def _name(index: bytes, number: int) -> str:
    return f"share {b2a(index)}/{number}"


def _check_database(store: ShareStore) -> Iterator[str]:
    for row in store.database.read(lambda sql: sql.execute("PRAGMA integrity_check").fetchall()):
        if row[0] != "ok":
            yield f"the database is damaged: {row[0]}"


def _rows(store: ShareStore) -> list[tuple[bytes, int, int, bool, int, bytes]]:
    """Return (storage index, number, size, in a file, bytes in the row, peer) of all shares."""
    rows = store.database.read(
        lambda sql: sql.execute(
            "SELECT storage_index, number, size, data IS NULL, coalesce(length(data), 0),"
            " node_id FROM shares JOIN peers ON peers.id = shares.peer"
        ).fetchall()
    )
    return [(bytes(r[0]), r[1], r[2], bool(r[3]), r[4], bytes(r[5])) for r in rows]


def _check_files(
    store: ShareStore, places: Places, ledger: Ledger, *, tidy: bool
) -> Iterator[str]:
    """Every row that has a file has one of its size; every file has a row, or is set aside."""
    expected = {}
    for index, number, size, in_file, length, _ in _rows(store):
        if in_file and (tidy or (index, number) in ledger.kept):
            expected[places.share(index, number)] = size
        elif not in_file and length != size:
            yield f"{_name(index, number)} has {length} bytes in its row and should have {size}"
    found = {p: p.stat().st_size for p in places.shares.rglob("*") if p.is_file()}
    for path in sorted(expected.keys() | found.keys() if tidy else expected.keys()):
        if expected.get(path) != found.get(path):
            name = path.relative_to(places.shares)
            yield f"{name}: {found.get(path)} bytes in its file, {expected.get(path)} by its row"
    for path in places.incoming.iterdir() if tidy else ():
        yield f"incoming/{path.name} was left behind"


def _check_room(store: ShareStore) -> Iterator[str]:
    """The accounts are the sums of the shares, to the byte."""
    rows = _rows(store)
    room = store.room(fresh=False)
    used = sum(row[2] for row in rows)
    if (room.used, room.shares, room.promised) != (used, len(rows), 0):
        yield (
            f"the accounts say {room.used} bytes in {room.shares} shares and {room.promised} "
            f"promised; there are {used} in {len(rows)}"
        )
    for peer in {row[5] for row in rows}:
        mine = [row[2] for row in rows if row[5] == peer]
        if store.account(peer) != (sum(mine), len(mine)):
            yield f"the account of a peer is {store.account(peer)}, not {sum(mine), len(mine)}"


def _check_shares(store: ShareStore, ledger: Ledger, *, tidy: bool) -> Iterator[str]:
    """What is served is what was offered, whole, and what was acknowledged is served."""
    served = {(index, number): size for index, number, size, *_ in _rows(store)}
    for index, number in sorted(ledger.kept - served.keys()):
        yield f"{_name(index, number)} was acknowledged and is not there"
    for index, number in sorted(ledger.gone & served.keys()):
        yield f"{_name(index, number)} was said to be gone and is there"
    for (index, number), size in served.items():
        try:
            data = store.read(index, number, 0, size + 1)
        except AmpgridError as error:
            if tidy or (index, number) in ledger.kept:
                yield f"{_name(index, number)} cannot be read: {error}"
            continue
        if data not in ledger.offered.get((index, number), []):
            yield f"{_name(index, number)} of {size} bytes is not what was offered"


def _check_leases(store: ShareStore, ledger: Ledger) -> Iterator[str]:
    rows = store.database.read(
        lambda sql: sql.execute("SELECT storage_index, renew, expires_at FROM leases").fetchall()
    )
    found = {(bytes(row[0]), bytes(row[1])): row[2] for row in rows}
    for key, expires_at in ledger.leases.items():
        if found.get(key, 0) < expires_at:
            yield (
                f"a lease on {b2a(key[0])} ends at {found.get(key)}, and was acknowledged "
                f"until {expires_at}"
            )
