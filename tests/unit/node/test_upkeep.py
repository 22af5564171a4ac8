"""The keys of a node's databases: what they are today, since another key opens none of them."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.identity import Identity
from ampgrid.node.upkeep import directories_key, local_blobs_key, served_blobs_key

SPECS = Path(__file__).parents[3] / "docs" / "specs"


class KeyTests(SynchronousTestCase):
    def test_each_is_a_hash_of_the_private_key_under_a_tag_that_the_pages_name(self):
        seed = bytes(range(32))
        identity = Identity.create(lambda count: seed[:count])
        for key_of, tag, page in (
            (directories_key, "ampgrid_node_directory_store_key_v1", "store.md"),
            (served_blobs_key, "ampgrid_node_blob_store_key_v1", "store.md"),
            (local_blobs_key, "ampgrid_node_local_blobs_key_v1", "blobs.md"),
        ):
            hashed = sha256(f"{len(tag)}:{tag},".encode() + seed).digest()
            self.assertEqual(key_of(identity), sha256(hashed).digest(), tag)
            self.assertIn(f"`{tag}`", (SPECS / page).read_text("utf-8"))
