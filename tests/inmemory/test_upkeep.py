"""Time and decay in a whole grid: months of leases, a scrub on demand, advice from a client."""

from __future__ import annotations

import json
import os
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import ChkCap, parse_cap
from ampgrid.cli.summary import summary
from ampgrid.commands import control
from ampgrid.commands.errors import BadArgumentError
from ampgrid.testing.grid import MemoryGrid
from tests.inmemory.controlling import connect
from tests.material import some_bytes


class GridCase(SynchronousTestCase):
    def start(self, nodes=5, **config):
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        self.grid = MemoryGrid(folder, nodes=nodes, shares=(3, 5, 5))
        for node in self.grid.nodes:
            node.config = attrs.evolve(node.config, **config)
        client = self.grid.client
        client.config = attrs.evolve(client.config, keeper_enabled=False)
        self.grid.start()
        self.addCleanup(self.grid.stop)

    def index_of(self, cap):
        parsed = parse_cap(cap)
        assert isinstance(parsed, ChkCap)
        return parsed.storage_index

    def held(self, cap):
        """Return which node holds which shares of a file."""
        index = self.index_of(cap)
        found = {node.host: set(node.store.shares(index)) for node in self.grid.nodes}
        return {host: numbers for host, numbers in found.items() if numbers}

    def damage(self, node, cap):
        (number,) = node.store.shares(self.index_of(cap))
        path = node.store.path_of(self.index_of(cap), number)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 8
        path.write_bytes(data)
        return number


class DurabilityTests(GridCase):
    def put(self, durability):
        """Put a file; return how often a node waited for its disk, and what it tells of that."""
        self.start(durability=durability)
        waits = []
        self.patch(os, "fsync", waits.append)
        data = some_bytes(600_000)
        cap = self.grid.upload(data)
        count = len(waits)
        self.assertEqual(self.grid.download(cap), data)
        facts = self.grid.nodes[0].core.status() | {"peers": []}
        self.assertEqual(facts["durability"], durability)
        return count, dict(summary(facts))

    def test_full_waits_for_the_disk(self):
        waits, told = self.put("full")
        # A file and the two directories above it, of each share.
        self.assertGreaterEqual(waits, 15)
        self.assertNotIn("durability", told)

    def test_none_waits_for_nothing_and_says_so(self):
        waits, told = self.put("none")
        self.assertEqual(waits, 0)
        self.assertIn("power cut", told["durability"])

    def test_blobs_and_directories(self):
        """Blobs follow the setting; a replica of directories keeps its promises in any case."""
        for durability, blobs in (("full", 2), ("none", 1)):
            self.start(durability=durability, blobs_enabled=True)
            node = self.grid.nodes[0].core

            def synchronous(sql):
                return sql.execute("PRAGMA synchronous").fetchone()[0]

            stores = (node.blobs.store, blobs), (self.grid.nodes[0].store, blobs)
            for store, level in (*stores, (node.vdrive._store, 2)):
                self.assertEqual(store.database.read(synchronous), level)


class MonthsTests(GridCase):
    def test_120_days_with_expiry_on(self):
        """What is renewed every week is all there, what is not is gone and its room free."""
        self.start(expire=True, expire_grace_days=1)
        grid = self.grid
        files = {}
        for number in range(8):
            data = some_bytes(600 if number % 2 else 300_000, b"%d" % number)
            files[grid.upload(data)] = data
        kept = dict(list(files.items())[:4])
        dropped = dict(list(files.items())[4:])
        shares = {cap: len(self.held(cap)) for cap in files}
        self.assertEqual(set(shares.values()), {5})
        for day in range(120):
            if day % 7 == 0:
                for cap in kept:
                    self.renew(cap)
            if day == 31:
                self.assertEqual({len(self.held(cap)) for cap in files}, {5})
            grid.days_ahead += 1
            grid.clock.advance(61)
        for cap, data in kept.items():
            self.assertEqual(len(self.held(cap)), 5)
            self.assertEqual(grid.download(cap), data)
        for cap in dropped:
            self.assertEqual(self.held(cap), {})
        for node in grid.nodes:
            self.check_freed(node, kept, dropped)

    def renew(self, cap):
        for server in self.grid.client.core.servers():
            self.grid.run(server.add_lease(self.index_of(cap)))

    def check_freed(self, node, kept, dropped):
        status = node.core.storage.status()
        sizes = [size for cap in kept for size in node.store.shares(self.index_of(cap)).values()]
        self.assertEqual(status["used"], sum(sizes))
        self.assertEqual(status["expiry"]["expired_files"], len(dropped))
        self.assertEqual((status["expiry"]["marked"], status["time"]["jumps"]), (0, 0))
        large = sorted(size for size in sizes if size > 2**16)
        self.assertEqual(len(large), 2)
        shares = node.store.path_of(b"i" * 16, 0).parents[2]
        files = [path for path in shares.rglob("*") if path.is_file()]
        self.assertEqual(sorted(path.stat().st_size for path in files), large)

    def test_off_nothing_is_lost_though_nobody_renews(self):
        self.start(nodes=3)
        data = some_bytes(90_000)
        cap = self.grid.upload(data, attrs.evolve(self.grid.encoding, happy=3))
        self.grid.days_ahead += 400
        self.grid.clock.advance(7200)
        self.assertEqual(self.grid.download(cap), data)


class ScrubTests(GridCase):
    def call(self, node, command, **arguments):
        return self.grid.run(connect(self.grid.clock, node).call(command, **arguments))

    def test_on_demand_over_the_control_socket(self):
        self.start()
        data = some_bytes(400_000)
        cap = self.grid.upload(data)
        node = self.grid.nodes[0]
        number = self.damage(node, cap)
        report = json.loads(self.call(node, control.RunScrub)["report"])
        self.assertEqual((report["shares"], report["bad"]), (1, 1))
        (bad,) = report["bad_shares"]
        self.assertEqual(bad["share"], number)
        self.assertEqual(len(self.held(cap)), 4)
        self.assertEqual(self.grid.download(cap), data)
        status = json.loads(self.call(node, control.Status)["status"])["storage"]
        self.assertEqual(status["quarantine"]["files"], 1)
        self.assertEqual(status["accounts"]["bytes"], 0)
        other = json.loads(self.call(self.grid.nodes[1], control.RunScrub)["report"])
        self.assertEqual((other["shares"], other["bad"]), (1, 0))

    def test_a_node_without_shares_has_none_to_scrub(self):
        self.start(nodes=3)
        asked = Deferred.fromCoroutine(
            connect(self.grid.clock, self.grid.client).call(control.RunScrub)
        )
        self.grid.clock.advance(5)
        self.failureResultOf(asked, BadArgumentError)

    def test_by_itself_within_its_days(self):
        self.start(scrub_days=2)
        cap = self.grid.upload(some_bytes(400_000))
        for node in self.grid.nodes[:2]:
            self.damage(node, cap)
        for _ in range(24):
            self.grid.days_ahead += 1 / 12
            self.grid.clock.advance(61)
        self.assertEqual(len(self.held(cap)), 3)
        for node in self.grid.nodes:
            self.assertGreaterEqual(node.core.storage.status()["scrub"]["cycles"], 1)


class AdviceTests(GridCase):
    def scrub_line(self, node):
        """Return what the status of a node shows of its scrub."""
        told = self.grid.run(connect(self.grid.clock, node).call(control.Status))["status"]
        return dict(summary({**json.loads(told), "peers": []}))["scrub"]

    def test_a_bad_share_is_replaced_on_the_same_server(self):
        self.start()
        data = some_bytes(400_000)
        cap = self.grid.upload(data)
        node = self.grid.nodes[2]
        number = self.damage(node, cap)
        (server,) = [
            s for s in self.grid.client.core.servers() if s.server_id == node.core.node_id
        ]
        self.assertNotIn("latest bad", self.scrub_line(node))
        self.grid.run(server.advise_corrupt(self.index_of(cap), number, "a block is bad"))
        self.assertIn("0 bad shares found so far; latest bad share", self.scrub_line(node))
        self.assertEqual(len(self.held(cap)), 4)
        self.assertEqual(self.grid.upload(data), cap)
        self.assertEqual(self.held(cap)[node.host], {number})
        self.assertEqual(self.grid.download(cap), data)
