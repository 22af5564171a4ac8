"""The stores of shares that ship, under the suite that any store must pass."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.store import ShareStore
from tests.contract.share_store_contract import NOW, ShareStoreContract
from tests.drivers import OtherDriver


class ShareStoreTests(ShareStoreContract, SynchronousTestCase):
    """The store on the disk, called in one thread."""

    def setUp(self):
        self.directory = Path(self.mktemp())
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        super().setUp()

    def open_store(self, **how):
        return ShareStore.open(self.directory, wall=lambda: NOW, **how)


class ThreadedShareStoreTests(ShareStoreTests):
    """The same, every call in whichever thread of four is free."""

    def setUp(self):
        self.pool = ThreadPoolExecutor(4)
        super().setUp()

    def tearDown(self):
        super().tearDown()
        self.pool.shutdown()

    def call(self, function, *arguments, **keywords):
        return self.pool.submit(function, *arguments, **keywords).result()


class OtherDriverShareStoreTests(OtherDriver, ShareStoreTests):
    """The same over pysqlcipher3, which may bring as old an SQLite as 3.15."""
