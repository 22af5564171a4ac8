"""The stores of directories that ship, under the suite that any of them must pass."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.store.directories import DirectoryStore
from tests.contract.directory_store_contract import NOW, DirectoryStoreContract
from tests.drivers import OtherDriver


class DirectoryStoreTests(DirectoryStoreContract, SynchronousTestCase):
    """The store on the disk."""

    def setUp(self):
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        self.path = folder / "directories.sqlite"
        super().setUp()

    def open_store(self, **how):
        return DirectoryStore.open(
            self.path, b"k" * 32, b"n" * 20, wall=lambda: NOW, entropy=os.urandom, **how
        )


class OtherDriverDirectoryStoreTests(OtherDriver, DirectoryStoreTests):
    """The same over pysqlcipher3."""
