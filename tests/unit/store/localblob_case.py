"""What tests of the local store of blobs share."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ampgrid.formats.blobname import BlobName
from ampgrid.store.blobrecord import Priority, SyncStatus
from ampgrid.store.blobwriting import Incoming
from ampgrid.store.localblobs import LocalBlobStore

KEY = bytes(range(32))
NOW = 1_800_000_000.0
NAME = BlobName.of("blob")
SECRET = b"s" * 32
PLAIN = b"what is in it " * 2000


def rows_of(seed: object, count: int, size: int = 100) -> list[bytes]:
    """Return rows that stand for a preamble and chunks; the store does not look into them."""
    return [
        hashlib.shake_128(repr((seed, number)).encode()).digest(size + number)
        for number in range(count)
    ]


class StoreCase:
    """Mix into a trial test case."""

    def setUp(self):
        super().setUp()
        self.path = Path(self.mktemp())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.store = self.opened()

    def opened(self, path=None, key=KEY):
        store = LocalBlobStore(path or self.path, key)
        self.addCleanup(store.close)
        return store

    def reopen(self):
        self.store.close()
        self.store = self.opened()

    def put(self, name, rows, *, status=SyncStatus.PENDING_UPLOAD, priority=Priority.MEDIUM):
        incoming = Incoming.putting(self.store, name, status=status, priority=priority, now=NOW)
        incoming.add(rows)
        incoming.finish(sum(map(len, rows)), 7)

    def want(self, *names):
        return self.store.want(names, NOW)

    def fetch(self, name, rows, upto=None, finish=True):
        sealed_size = sum(map(len, rows))
        incoming = Incoming.fetching(self.store, name, sealed_size, rows[-1][-16:])
        had = incoming.rows
        incoming.add(rows[had:upto])
        if finish:
            incoming.finish(sealed_size, None)
        else:
            incoming.flush()
        return had

    def rows(self, name):
        blob = self.store.find(name)
        return self.store.rows(blob, 0, blob.rows)

    def status(self, name):
        blob = self.store.find(name)
        return None if blob is None else blob.status

    def sweep_all(self):
        count = 0
        while self.store.sweep():
            count += 1
        return count

    def kept_rows(self):
        """Return the number of rows in the file, whosever they are."""
        return self.store.change(
            lambda sql: sql.execute("SELECT count(*) FROM chunks").fetchone()[0]
        )
