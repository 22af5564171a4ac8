"""Whole nodes of a test, as far as peers go: introducers and the introduced, without a wire."""

from __future__ import annotations

import hashlib

from ampgrid.peers import (
    ConnectionTable,
    Introduced,
    IntroducedResponder,
    Introducer,
    IntroducerResponder,
    OwnAnnouncement,
    PeerBook,
)
from tests.unit.peers.fakes import InlineThreads, MemoryPeerStore, Wall, connect, identity, run


class Node:
    """A node over a database, which outlives it."""

    def __init__(self, case, clock, number, store=None, introducers=(), wall=None):
        self.case = case
        self.clock = clock
        self.number = number
        self.node_id = identity(number).node_id
        self.store = store or MemoryPeerStore()
        self.services = ("storage",)
        self.threads = InlineThreads()
        self.wall = wall or Wall()
        self.table = ConnectionTable(self.node_id, clock=clock)
        self.book = PeerBook(self.store, own_id=self.node_id, threads=self.threads, wall=self.wall)
        self.outrun = []
        self.own = OwnAnnouncement(
            identity(number), self.store, threads=self.threads, wall=self.wall
        )
        self.introduced = Introduced(
            self.book,
            self.table,
            self.store,
            introducers=[identity(n).node_id for n in introducers],
            clock=clock,
            threads=self.threads,
            uniform=lambda low, high: high,
            outrun=self.outrun.append,
        )
        self.introducer = None

    def get(self, coroutine):
        return self.case.successResultOf(run(coroutine))

    def start(self, **settings):
        self.get(self.book.start())
        self.get(self.introduced.start())
        self.announce(**settings)
        return self

    def announce(self, **settings):
        addresses = settings.pop("addresses", (f"192.0.2.{self.number}:4000",))
        packed = self.get(
            self.own.make(
                nickname=f"node {self.number}",
                services=self.services,
                addresses=addresses,
                **settings,
            )
        )
        self.introduced.set_announcement(packed, self.own.sequence)
        return packed

    def locators(self, connection):
        found = [IntroducedResponder(self.introduced, connection)]
        if self.introducer is not None:
            found.append(IntroducerResponder(self.introducer, connection))
        return found

    def known(self):
        """Return the numbers of the nodes in its book."""
        numbers = {identity(n).node_id: n for n in range(40)}
        return {numbers[peer.announcement.node_id] for peer in self.book.peers()}

    def connect(self, other):
        """Dial another node; returns this end and the other."""
        here, there = connect(
            self.node_id,
            other.node_id,
            dialler_services=self.services,
            listener_services=other.services,
            clock=self.clock,
        )
        here.locators = [*self.locators(here), *here.locators]
        there.locators = [*other.locators(there), *there.locators]
        other.table.add(there)
        self.table.add(here)
        return here, there

    def stop(self):
        self.introduced.stop()
        if self.introducer is not None:
            self.introducer.stop()
        self.table.close()


class IntroducerNode(Node):
    """A node that is an introducer and nothing else."""

    def __init__(self, case, clock, number, store=None, parameters=None, introducers=()):
        super().__init__(case, clock, number, store, introducers)
        self.services = ("introducer",)
        self.introducer = Introducer(
            self.book,
            self.store,
            clock=clock,
            threads=self.threads,
            entropy=lambda size: hashlib.sha256(b"%d" % number).digest()[:size],
            parameters=parameters,
        )

    def start(self):
        self.get(self.book.start())
        self.get(self.introduced.start())
        self.get(self.introducer.start())
        return self
