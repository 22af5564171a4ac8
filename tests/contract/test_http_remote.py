"""The remote of blobs over HTTP, with a node's gateway at its other end, under the contract."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from ampgrid.blobs.http import HttpRemote
from ampgrid.blobs.responder import BlobResponder
from ampgrid.blobs.service import BlobService
from ampgrid.crypto.identity import node_id_text
from ampgrid.store.servedblobs import Limits, ServedBlobStore
from ampgrid.testing.grid import MemoryGrid
from ampgrid.web.gateway import Gateway
from ampgrid.web.tokens import Tokens
from ampgrid.wire import InlineThreads
from tests.contract.blob_remote_contract import BlobRemoteContract


@implementer(IStreamClientEndpoint, IAgentEndpointFactory)
class MemoryEndpoint:
    """Dials one gateway in memory, whatever the address is."""

    def __init__(self, net, factory):
        self._net = net
        net.listen("gateway", 80, factory)

    def endpointForURI(self, uri):
        return self

    def connect(self, protocol_factory):
        return Deferred.fromCoroutine(self._net.connect("gateway", 80, protocol_factory))


class HttpRemoteTests(BlobRemoteContract, SynchronousTestCase):
    """A gateway over a service of blobs that is new for each test."""

    quota = 2_000_000
    part_bytes = 100_000

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = Path(tempfile.mkdtemp())
        cls.grid = MemoryGrid(cls.folder, 1, (1, 1, 1))
        cls.grid.start()
        cls.core = cls.node_of(cls.grid).core
        cls.gateway = Gateway(cls.core, Tokens(b"t" * 32))

    @classmethod
    def node_of(cls, grid):
        """Return the node whose gateway it is."""
        return grid.nodes[0]

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()
        cls.grid.stop()
        shutil.rmtree(cls.folder)
        super().tearDownClass()

    def setUp(self):
        store = ServedBlobStore.open(
            Path(tempfile.mkdtemp(dir=self.folder)) / "blobs",
            b"k" * 32,
            wall=self.grid.wall,
            limits=Limits(account_quota=self.quota),
        )
        service = BlobService(
            store,
            clock=self.grid.clock,
            wall=self.grid.wall,
            threads=InlineThreads(),
            entropy=self.grid.random.randbytes,
            monotonic=self.grid.wall,
        )
        self.run_one(service.start())
        self.core.blobs = service
        self.tokens = {}
        super().setUp()
        self.addCleanup(self.end)

    def end(self):
        self.run_one(self.core.blobs.stop())
        self.core.blobs = None

    def open_remote(self, user):
        if user not in self.tokens:
            self.tokens[user] = self.run_one(self.core.blobs.issue_token(user))
        return self.open_http("blobs", user, self.tokens[user])

    def open_http(self, where, user, token):
        pool = HTTPConnectionPool(self.grid.clock, persistent=True)
        self.addCleanup(pool.closeCachedConnections)
        endpoint = MemoryEndpoint(self.grid.net, self.gateway.factory)
        return HttpRemote(
            f"http://127.0.0.1:2/{where}",
            user,
            token,
            agent=Agent.usingEndpointFactory(self.grid.clock, endpoint, pool),
            clock=self.grid.clock,
            part_bytes=self.part_bytes,
        )

    def run_one(self, work):
        return self.grid.run(work)

    def pass_time(self, seconds):
        if seconds > 1000:
            self.grid.days_ahead += seconds / 86_400
        else:
            self.grid.clock.advance(seconds)


class WholeHttpRemoteTests(HttpRemoteTests):
    """The same, blobs going as a whole, as they do to a seed's server."""

    resumes = False
    part_bytes = 2**40


class ThroughGatewayTests(HttpRemoteTests):
    """A peer, as a program reaches it through the gateway of its own node."""

    resumes = False

    def open_remote(self, user):
        if user not in self.tokens:
            self.tokens[user] = self.run_one(self.core.blobs.issue_token(user))
        own = self.gateway.tokens.form
        peer = quote(f"amp:{node_id_text(self.core.node_id)}", safe="")
        return self.open_http(f"remote-blobs/{peer}", user, f"{own}.{self.tokens[user]}")

    def setUp(self):
        super().setUp()
        self.core.loopback.serve(BlobResponder(self.core.blobs, self.core.loopback))
        self.addCleanup(self.core.loopback._locators.pop)


class GridThroughGatewayTests(HttpRemoteTests):
    """A directory of the grid, as a program reaches it through the gateway of its own node."""

    resumes = False
    quota = None
    many = 9
    examples = 3
    number = 0

    @classmethod
    def node_of(cls, grid):
        return grid.client

    def setUp(self):
        GridThroughGatewayTests.number += 1
        super().setUp()

    def open_remote(self, user):
        path = quote(f"grid:private:test {self.number}/{user}", safe="")
        return self.open_http(f"remote-blobs/{path}", "me", self.gateway.tokens.form)
