"""What a disk and the databases on it take: shares made durable, rows committed, files.

Everything lies in a folder of the caller's choice, and is as durable as ampgrid makes it. What
waits for the disk takes time and no processor; both are told.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ampgrid.store import LeaseTerms, Request
from ampgrid.store.shares import ShareStore
from ampgrid.store.sql import find_driver
from tests.benchmarks.amounts import MB, Amount, timed

_PEER = bytes(20)
#: A share of a file of 100 MB of which 3 are needed, and of one of 3 kB.
LARGE_BYTES, SMALL_BYTES = 33_000_000, 1_000
#: A row of a directory's trie is about so large.
ROW_BYTES = 300
#: What is brought together to one commit.
TOGETHER = 16
_PIECE = 1_000_000


class _Shares:
    """A store of shares, and new shares for it."""

    def __init__(self, store: ShareStore) -> None:
        self._store = store
        self._numbers = itertools.count()

    def _request(self, size: int) -> Request:
        index = next(self._numbers).to_bytes(16, "big")
        lease = LeaseTerms.of(bytes(32), bytes(32), int(time.time()), _PEER)
        return Request(index, frozenset([0]), size, _PEER, lease)

    def put_large(self, data: bytes) -> None:
        """Store a large share."""
        request = self._request(LARGE_BYTES)
        task: Any = self._store.allocating(request, in_memory=False)
        (result,) = self._store.run_all([task])
        upload = result.get().accepted[0]
        for offset in range(0, LARGE_BYTES, len(data)):
            outcome = upload.write([(offset, data[: LARGE_BYTES - offset])])
            assert outcome == [None], outcome
        assert self._store.close_upload(upload)

    def put_small(self, data: bytes, count: int) -> None:
        """Store so many small shares in one commit."""
        tasks: Sequence[Any] = [
            self._store.putting(self._request(len(data)), data) for _ in range(count)
        ]
        for result in self._store.run_all(tasks):
            assert result.get().stored


@contextlib.contextmanager
def _shares(folder: Path) -> Iterator[_Shares]:
    store = ShareStore.open(folder, wall=time.time)
    try:
        yield _Shares(store)
    finally:
        store.close()


@contextlib.contextmanager
def _rows(path: Path) -> Iterator[Callable[[bytes, int], None]]:
    """Give what inserts so many rows and commits them, durable."""
    connection = find_driver().connect(str(path), isolation_level=None)
    connection.execute(f"PRAGMA key = \"x'{bytes(32).hex()}'\"")
    connection.execute("PRAGMA journal_mode=WAL").fetchone()
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE nodes (number INTEGER PRIMARY KEY, data BLOB)")

    def insert(data: bytes, count: int) -> None:
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO nodes (data) VALUES (?)", [(data,)] * count)
        connection.execute("COMMIT")

    try:
        yield insert
    finally:
        connection.close()


def _write_file(path: Path, data: bytes, *, durable: bool) -> None:
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(data), _PIECE):
            file.write(data[start : start + _PIECE])
        if durable:
            os.fsync(file.fileno())


def _read_file(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(_PIECE):
            pass


def measure(folder: Path, seconds: float) -> dict[str, Amount]:
    """Measure each for about so many seconds, in an existing folder."""
    large, small, row = os.urandom(_PIECE), os.urandom(SMALL_BYTES), os.urandom(ROW_BYTES)
    whole, path = os.urandom(LARGE_BYTES), folder / "file"
    found = {}

    def note(name: str, work: Callable[[], object], amount: float, unit: str) -> None:
        found[name] = timed(work, amount, unit, seconds)

    with _shares(folder / "store") as shares:
        note("shares stored, 33 MB", lambda: shares.put_large(large), LARGE_BYTES / MB, "MB")
        note("shares stored, 1 kB", lambda: shares.put_small(small, 1), 1, "shares")
        together = f"shares stored, 1 kB, {TOGETHER} a commit"
        note(together, lambda: shares.put_small(small, TOGETHER), TOGETHER, "shares")
    with _rows(folder / "rows.db") as insert:
        note("SQLCipher rows", lambda: insert(row, 1), 1, "rows")
        together = f"SQLCipher rows, {TOGETHER} a commit"
        note(together, lambda: insert(row, TOGETHER), TOGETHER, "rows")
    amount = LARGE_BYTES / MB
    note("file written", lambda: _write_file(path, whole, durable=False), amount, "MB")
    note("file written, durable", lambda: _write_file(path, whole, durable=True), amount, "MB")
    note("file read, cached", lambda: _read_file(path), amount, "MB")
    return found
