"""What blobs of other schemes may take of a store, whatever a remote announces."""

from __future__ import annotations

from ampgrid.blobs import BlobName, InvalidBlobError, SyncStatus
from ampgrid.blobs.bounds import Bounds
from ampgrid.errors import BadArgumentValueError, BlobQuotaError
from ampgrid.formats.blob import MAX_SEALED_BYTES, external_preamble
from tests.contract.blob_remote_contract import BytesSource
from tests.unit.blobs.blob_world import content
from tests.unit.blobs.test_manager import ManagerCase


class BoundsTests(ManagerCase):
    """A remote that tells of ever more, and makes blobs of other schemes: they end somewhere."""

    def setUp(self):
        super().setUp()
        self.put("mine")
        self.raw = external_preamble(2) + content("mail", 100_000)

    def external(self, blob_id, raw=None):
        self.run_one(self.world.remote().put(BlobName.of(blob_id), BytesSource(raw or self.raw)))

    def test_blobs_of_other_schemes_take_no_more_than_they_may(self):
        for number in range(4):
            self.external(f"mail-{number}")
        other = self.world.manager("b", bounds=Bounds(external_bytes=2 * len(self.raw) + 20_000))
        report = self.run_one(other.sync())
        self.assertEqual(report.fetched, 3)
        self.assertEqual(len(report.failed), 2)
        for _name, why in report.failed:
            self.assertIn("schemes", why)
        left = [name.blob_id for name, _why in report.failed]
        self.assertEqual(self.run_one(other.status(left[0])), SyncStatus.FAILED_DOWNLOAD)
        self.assertEqual(self.world.get(other, "mine"), content("mine"))
        # Asked for by name it is refused as well, and says why.
        self.assertIn("ask", self.fails(InvalidBlobError, other.get(left[0])))
        self.assertEqual(self.run_one(other.sync()).failed, [])
        # Past the local store it comes.
        blob = self.run_one(other.download(left[0]))
        self.assertEqual(self.run_one(blob.read_raw()), self.raw)
        self.run_one(blob.close())
        # Where one goes another may come.
        (gone, *_rest) = [name for name in self.world.local(other) if name != "mine"]
        self.run_one(other.delete(gone))
        self.run_one(other.ask_again())
        self.assertEqual(self.run_one(other.sync()).fetched, 1)

    def test_what_is_announced_counts(self):
        """Several that come at once do not each find the room of all."""
        for number in range(6):
            self.external(f"mail-{number}")
        bounds = Bounds(external_bytes=len(self.raw) + 10_000)
        other = self.world.manager("b", bounds=bounds, transfers=6)
        self.assertEqual(self.run_one(other.sync()).fetched, 2)

    def test_the_smallest_count_too(self):
        for number in range(5):
            self.external(f"mail-{number}", external_preamble(3) + bytes(16))
        other = self.world.manager("b", bounds=Bounds(external_bytes=3 * 5000))
        self.assertEqual(len(self.run_one(other.sync()).failed), 2)

    def test_none_at_all(self):
        self.external("mail")
        other = self.world.manager("b", bounds=Bounds(external_bytes=0))
        self.assertEqual(self.run_one(other.sync()).fetched, 1)
        self.fails(BadArgumentValueError, self.bounded(-1))

    async def bounded(self, number):
        Bounds(external_bytes=number)

    def test_one_of_our_scheme_is_not_meant(self):
        data = content("large", 300_000)
        self.put("large", data)
        other = self.world.manager("b", bounds=Bounds(external_bytes=0))
        self.assertEqual(self.world.get(other, "large"), data)

    def test_one_larger_than_a_blob_can_be_is_none(self):
        """Its rows would run into those of the next content."""
        self.external("huge")
        get = self.remote.get

        async def lying(name, offset=0):
            stream = await get(name, offset)
            stream.size = MAX_SEALED_BYTES + 1
            return stream

        self.remote.get = lying
        other = self.world.manager(
            "b", remote=self.remote, bounds=Bounds(external_bytes=2**50), attempts=1
        )
        self.assertIn("larger", self.fails(InvalidBlobError, other.get("huge")))
        self.assertIn("larger", self.fails(InvalidBlobError, other.download("huge")))

    def test_no_more_are_wanted_than_fit(self):
        for number in range(6):
            self.put(f"b{number}")
        other = self.world.manager("b", bounds=Bounds(wanted=5))
        self.assertIn("wanted", self.fails(BlobQuotaError, other.sync()))
        self.assertLessEqual(len(self.run_one(other.local_statuses())), 5)
        self.world.close()
        other = self.world.manager("b", bounds=Bounds(wanted=7))
        self.assertEqual(self.run_one(other.sync()).fetched, 7)
