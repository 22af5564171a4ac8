"""The remote of blobs that is the grid, under the contract: real files and directories."""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.blobs.grid import GridRemote
from ampgrid.immutable import Spool
from ampgrid.testing.drive import MemoryDrive
from tests.contract.blob_remote_contract import BlobRemoteContract


class GridRemoteTests(BlobRemoteContract, SynchronousTestCase):
    """A virtual drive in memory; each user has a root of its own."""

    resumes = False
    many = 13

    def setUp(self):
        self.drive = MemoryDrive(latency=0.001)
        self.roots = {}
        self.forgotten = []
        super().setUp()

    def open_remote(self, user):
        maker = self.drive.maker
        if user not in self.roots:
            self.roots[user] = self.drive.run(maker.create_directory()).cap
        return GridRemote(maker.node(self.roots[user]), maker, self.make_spool, self.forget)

    def make_spool(self):
        return Spool(Path(tempfile.gettempdir()), self.drive.random.randbytes)

    async def forget(self, cap):
        self.forgotten.append(cap)

    def run_one(self, work):
        return self.drive.run(work)

    def pass_time(self, seconds):
        self.drive.clock.advance(seconds)
