"""Blobs at the peers of a grid in memory: real connections, formats and stores."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.blobs.peer import Credentials
from ampgrid.blobs.port import Query
from ampgrid.errors import BlobNotFoundError, BlobRefusedError, RemoteUnavailableError
from ampgrid.formats.blobname import BlobName
from ampgrid.node.blobs import grid_blobs
from ampgrid.testing.grid import MemoryGrid
from tests.contract.blob_remote_contract import BytesSource, sealed

NAME = BlobName.of("blob")


class PeerBlobTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        self.grid = MemoryGrid(folder, nodes=2, shares=(1, 1, 2), blobs=True)
        self.grid.start()
        self.addCleanup(self.grid.stop)
        self.node = self.grid.nodes[0]
        self.remote = self.grid.client.core.blob_peers.remote(self.node.identity.node_id)

    def collect(self, name: BlobName, remote=None) -> bytes:
        async def collect() -> bytes:
            stream = await (remote or self.remote).get(name)
            pieces = []
            while piece := await stream.read():
                pieces.append(piece)
            return b"".join(pieces)

        return self.grid.run(collect())

    def test_a_blob_goes_to_a_peer_and_comes_back(self) -> None:
        for size in (20, 65_000, 3_000_000):
            name, data = BlobName.of(f"b{size}"), sealed(size, size)
            self.grid.run(self.remote.put(name, BytesSource(data)))
            self.assertEqual(self.collect(name), data)
        self.assertEqual(self.grid.run(self.remote.count(Query())), 3)
        self.grid.clock.advance(61)
        status = self.node.core.status()["blobs"]
        self.assertEqual((status["blobs"], status["puts"], status["accepts"]), (3, 0, True))
        self.assertIn("blobs", self.node.core.services)
        self.assertNotIn("blobs", self.grid.client.core.services)

    def test_a_put_whose_connection_goes_is_gone_on_with(self) -> None:
        data = sealed("cut", 3_000_000)
        cut: list[int] = []

        class Cutting(BytesSource):
            async def read(source, offset, length):  # noqa: N805
                if offset > 2_000_000 and not cut:
                    cut.append(offset)
                    for end in self.grid.ends[self.node.host]:
                        end.abortConnection()
                pause: Deferred[None] = Deferred()
                self.grid.clock.callLater(0.01, pause.callback, None)
                await pause
                return await super().read(offset, length)

        with self.assertRaises(RemoteUnavailableError):
            self.grid.run(self.remote.put(NAME, Cutting(data)))
        with self.assertRaises((BlobNotFoundError, RemoteUnavailableError)):
            self.grid.run(self.remote.stat(NAME))
        self.grid.run(self.grid.client.core.wait_for_peers(2, 600))
        again = BytesSource(data)
        self.grid.run(self.remote.put(NAME, again))
        self.assertLess(again.given, 1_500_000)
        self.assertEqual(self.collect(NAME), data)

    def test_two_nodes_with_one_token_share_their_blobs(self) -> None:
        assert self.node.core.blobs is not None
        token = self.grid.run(self.node.core.blobs.issue_token("alice"))
        alice = Credentials("alice", token)
        ids = self.node.identity.node_id
        first, second = (
            member.core.blob_peers.remote(ids, alice) for member in (self.grid.client, self.node)
        )
        self.grid.run(first.put(NAME, BytesSource(sealed("a", 100))))
        self.assertEqual(self.collect(NAME, second), sealed("a", 100))
        with self.assertRaises(BlobNotFoundError):
            self.grid.run(self.remote.stat(NAME))

    def test_who_keeps_no_blobs_refuses(self) -> None:
        remote = self.grid.nodes[1].core.blob_peers.remote(self.grid.client.identity.node_id)
        with self.assertRaises(BlobRefusedError):
            self.grid.run(remote.count(Query()))


class GridBlobTests(SynchronousTestCase):
    """The grid as a remote: files and directories at real nodes."""

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        self.grid = MemoryGrid(folder, nodes=4, shares=(2, 3, 4))
        self.grid.start()
        self.addCleanup(self.grid.stop)

    def test_blobs_outlive_a_peer_and_are_kept(self) -> None:
        core = self.grid.client.core
        remote = self.grid.run(grid_blobs(core, "private:blobs"))
        data = sealed("grid", 500_000)
        self.grid.run(remote.put(NAME, BytesSource(data)))
        self.grid.run(remote.put(BlobName.of("other"), BytesSource(sealed("o", 1000))))
        self.grid.nodes[0].cut()
        again = self.grid.run(grid_blobs(core, "private:blobs"))
        self.assertEqual(self.grid.run(again.page(Query())).blob_ids, ("blob", "other"))

        async def collect() -> bytes:
            stream = await again.get(NAME)
            pieces = []
            while piece := await stream.read():
                pieces.append(piece)
            return b"".join(pieces)

        self.assertEqual(self.grid.run(collect()), data)
        self.assertEqual(core.kept.count, 2)
        self.grid.run(again.delete(NAME))
        self.assertEqual(core.kept.count, 1)
