"""A disk that fails at any call: a blob is there whole, or not at all."""

from __future__ import annotations

import errno

from ampgrid.commands import blobs as commands
from ampgrid.commands import errors as e
from ampgrid.errors import AmpgridError
from ampgrid.store import servedblobs
from tests.unit.blobs.serving import LARGE, Caller, ServiceCase, sealed
from tests.unit.store.disks import WRITING, FaultyFileSystem


class FaultTests(ServiceCase):
    def test_every_call_of_a_put_may_fail_once(self):
        data = sealed("faulty", LARGE)
        for error in (errno.EIO, errno.ENOSPC):
            number = 0
            while self.put_with_fault(data, f"b{error}-{number}", number, error):
                number += 1
            # Opening, writing, and the synchronisation of a file and its directories at least.
            self.assertGreater(number, 4)

    def put_with_fault(self, data, blob_id, number, error):
        """Put a blob while one call to the disk fails; tell whether it did."""
        self.stop()
        self.files = FaultyFileSystem()
        self.start()
        self.caller = Caller(self)
        self.files.plan(number, error=error, only=WRITING)
        try:
            self.caller.put(data, blob_id)
            succeeded = True
        except (e.StoreFailedError, e.NoSpaceError):
            succeeded = False
        failed = self.files.failed is not None
        self.files.heal()
        if succeeded:
            self.assertEqual(self.caller.read(blob_id), data[:65_000])
        else:
            self.caller.fails(e.NoSuchBlobError, commands.StatBlob, **self.caller.name(blob_id))
            self.assertNotIn(blob_id, self.caller.ids())
            # Half a minute later the disk is asked again, and the put goes through.
            self.clock.advance(60)
            self.caller.connection.abort("again")
            self.caller = Caller(self)
            self.caller.put(data, blob_id)
            for offset in range(0, LARGE, 65_000):
                self.assertEqual(self.caller.read(blob_id, offset), data[offset : offset + 65_000])
        self.assertTrue(succeeded or failed)
        return failed

    def test_what_could_not_be_synchronised_comes_again(self):
        data = sealed("lost", LARGE)
        self.patch(servedblobs, "SYNC_BYTES", 50_000)
        for which in range(2):
            self.stop()
            self.files = FaultyFileSystem()
            self.start()
            self.caller = Caller(self)
            put, _have, _done = self.caller.begin(data, f"b{which}")
            if which:
                self.caller.write(put, data, 0, 65_000)
            self.files.plan(0, only=frozenset({"fsync"}))
            piece = data[65_000 * which : 65_000 * (which + 1)]
            self.caller.fails(
                e.StoreFailedError, commands.WriteBlob, put=put, offset=65_000 * which, data=piece
            )
            self.assertEqual(self.files.failed, "fsync")
            self.files.heal()
            # The system would now say that all is on the disk.
            self.caller.fails(e.StoreFailedError, commands.LeaveBlob, put=put, keep=True)
            self.clock.advance(60)
            self.assertEqual(self.caller.put(data, f"b{which}"), 65_000 * which)
            self.assertEqual(self.caller.read(f"b{which}"), data[:65_000])

    def test_nothing_of_the_disk_is_told_to_a_peer(self):
        self.files = FaultyFileSystem()
        self.stop()
        self.start()
        self.caller = Caller(self)
        self.files.plan(0, lasting=True, only=WRITING)
        try:
            self.caller.put(sealed("x", LARGE))
        except AmpgridError as error:
            self.assertRegex(str(error), r"\Athe store failed, [0-9a-f]{8}\Z")
        else:
            self.fail("a disk that takes nothing took a blob")
        self.files.heal()
        self.assertEqual(self.service.status()["accepts"], False)
        self.assertTrue(self.service.status()["alarm"])
