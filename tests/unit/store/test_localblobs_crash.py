"""The local store of blobs after a crash at any statement: it opens, with all it answered."""

from __future__ import annotations

import shutil
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.formats.blobname import BlobName
from ampgrid.store import blobwriting
from ampgrid.store.blobrecord import SyncStatus
from ampgrid.store.localblobs import LocalBlobStore
from tests.drivers import OtherDriver
from tests.unit.store.localblob_case import KEY, StoreCase, rows_of


class Watched:
    """A connection that calls a function after every statement, as a crash could come there."""

    def __init__(self, sql, after):
        self._sql = sql
        self._after = after

    def execute(self, *arguments):
        result = self._sql.execute(*arguments)
        self._after()
        return result

    def __getattr__(self, name):
        return getattr(self._sql, name)


class CrashTests(StoreCase, SynchronousTestCase):
    """What is on the disk after each statement is copied and opened."""

    def setUp(self):
        super().setUp()
        self.patch(blobwriting, "BATCH_BYTES", 300)
        self.states = 0
        self.seen = set()
        #: Name -> the rows that were answered to be there, and those that may be there as well.
        self.sure = {}
        self.maybe = {}
        database = self.store._database
        database._sql = Watched(database._sql, self.crash)

    def crash(self):
        """Open what a crash would leave now, and look at all of it."""
        files = list(self.path.parent.glob(self.path.name + "*"))
        content = tuple((path.name, path.read_bytes()) for path in sorted(files))
        if hash(content) in self.seen:
            return
        self.seen.add(hash(content))
        self.states += 1
        copy = Path(self.mktemp())
        copy.mkdir(parents=True)
        for name, data in content:
            (copy / name).write_bytes(data)
        store = LocalBlobStore(copy / self.path.name, KEY)
        try:
            self.look(store)
        finally:
            store.close()
            shutil.rmtree(copy)

    def look(self, store):
        here = {name: BlobName.of(name) for name in store.ids("default")}
        self.assertLessEqual(set(self.sure), set(here))
        self.assertLessEqual(set(here), set(self.sure) | set(self.maybe))
        for blob_id, name in here.items():
            blob = store.find(name)
            expected = self.sure.get(blob_id) or self.maybe[blob_id]
            self.assertEqual(store.rows(blob, 0, blob.rows), expected)
        while store.sweep():
            pass
        kept, counted = store.change(
            lambda sql: (
                sql.execute("SELECT count(*) FROM chunks").fetchone()[0],
                sql.execute("SELECT coalesce(sum(row_count), 0) FROM blobs").fetchone()[0],
            )
        )
        self.assertEqual(kept, counted, "rows that belong to nobody, or are missing")

    def test_putting_fetching_and_deleting(self):
        rows = {name: rows_of(name, 8) for name in ("put", "fetched")}
        self.maybe = dict(rows)
        self.put(BlobName.of("put"), rows["put"])
        self.sure["put"] = rows["put"]
        self.want(BlobName.of("fetched"))
        self.fetch(BlobName.of("fetched"), rows["fetched"], 5, finish=False)
        self.fetch(BlobName.of("fetched"), rows["fetched"])
        self.sure["fetched"] = rows["fetched"]
        self.store.set_status(BlobName.of("put"), SyncStatus.SYNCED)
        for name, delete in (("put", self.store.mark_deleted), ("fetched", self.store.drop)):
            del self.sure[name]
            delete(BlobName.of(name))
            del self.maybe[name]
        self.sweep_all()
        self.assertGreater(self.states, 10)


class OtherDriverCrashTests(OtherDriver, CrashTests):
    """The same over pysqlcipher3."""
