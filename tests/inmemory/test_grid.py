"""A whole grid in memory: introduction, upload, download, loss of servers, restart."""

import os
import random
import tempfile
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import parse_cap
from ampgrid.commands.errors import WireError
from ampgrid.erasure import isal_engine, zfec_engine
from ampgrid.errors import AmpgridError, FileChangedError, NotEnoughSharesError, NotHappyError
from ampgrid.immutable import Data, Encoding, OpenFile, Operation
from ampgrid.node.streams import source_of
from ampgrid.testing.grid import MemoryGrid
from tests.material import some_bytes
from tests.vectors import tahoe


class GridCase(SynchronousTestCase):
    """What the tests here have in common."""

    def grid(self, **arguments):
        """Return a started grid that is stopped at the end."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        grid = MemoryGrid(Path(folder.name), **arguments)
        grid.start()
        self.addCleanup(grid.stop)
        return grid


class FilesTests(GridCase):
    """Files of every kind of size go up and come back."""

    def test_sizes_around_every_border(self):
        grid = self.grid(max_segment_size=3_000)
        for size in (0, 1, 55, 56, 57, 2_999, 3_000, 3_001, 9_000, 9_001, 100_000, 400_000):
            data = some_bytes(size)
            cap = grid.upload(data)
            self.assertEqual(size, parse_cap(cap).get_size())
            self.assertEqual(data, grid.download(cap), size)

    def test_the_same_file_twice_is_stored_once(self):
        grid = self.grid()
        data = some_bytes(10_000)
        first = grid.put(data)
        self.assertEqual((5, 5, 0), self.counts(first))
        again = grid.put(data)
        self.assertEqual((5, 5, 5), self.counts(again))
        self.assertEqual(first.cap, again.cap)

    def counts(self, uploaded):
        """Return what an upload tells of its shares."""
        return uploaded.shares_placed, uploaded.servers_happy, uploaded.shares_already_there

    def test_a_large_file_twice_is_stored_once(self):
        grid = self.grid(max_segment_size=20_000)
        data = some_bytes(400_000)
        first = grid.put(data)
        self.assertEqual((5, 5, 0), self.counts(first))
        sent = self.sent(grid)
        again = grid.put(data)
        self.assertEqual((5, 5, 5), self.counts(again))
        self.assertLess(self.sent(grid) - sent, 50_000)

    def sent(self, grid):
        """Return the bytes that the client has sent so far."""
        return sum(end.sent_bytes for end in grid.ends["client"])

    def test_more_shares_than_servers(self):
        grid = self.grid(nodes=3, shares=(3, 3, 10))
        data = some_bytes(50_000)
        self.assertEqual((10, 3, 0), self.counts(grid.put(data)))
        self.assertEqual(data, grid.download(grid.upload(data)))

    def test_two_hundred_and_fifty_six_shares(self):
        grid = self.grid(nodes=2, shares=(101, 2, 256))
        data = some_bytes(20_000)
        self.assertEqual((256, 2, 0), self.counts(grid.put(data)))
        self.assertEqual(data, grid.download(grid.upload(data)))


class LossTests(GridCase):
    """Servers that vanish, freeze or refuse, at every moment."""

    def test_two_of_five_vanish(self):
        grid = self.grid()
        data = some_bytes(300_000)
        cap = grid.upload(data)
        for node in grid.nodes[1:3]:
            node.cut()
        self.assertEqual(data, grid.download(cap))

    def test_three_of_five_vanish(self):
        grid = self.grid()
        cap = grid.upload(some_bytes(300_000))
        for node in grid.nodes[:3]:
            node.cut()
        began = grid.clock.seconds()
        with self.assertRaises(NotEnoughSharesError) as caught:
            grid.download(cap)
        self.assertEqual((2, 3), (caught.exception.found, caught.exception.needed))
        self.assertLess(grid.clock.seconds() - began, 30)

    def test_two_of_five_freeze(self):
        grid = self.grid()
        data = some_bytes(300_000)
        cap = grid.upload(data)
        for node in grid.nodes[:2]:
            node.freeze()
        began = grid.clock.seconds()
        self.assertEqual(data, grid.download(cap))
        self.assertLess(grid.clock.seconds() - began, 30)

    def test_a_server_vanishes_during_an_upload(self):
        grid = self.grid(nodes=5, shares=(2, 3, 5), max_segment_size=50_000)
        data = some_bytes(3_000_000)
        self.cut_during(grid, 2)
        uploaded = grid.put(data)
        self.assertEqual(3, uploaded.servers_happy)
        self.assertEqual(2, len(uploaded.problems), uploaded.problems)
        self.assertEqual(data, grid.download(uploaded.cap.to_string()))

    def test_too_many_servers_vanish_during_an_upload(self):
        grid = self.grid(nodes=5, shares=(2, 4, 5), max_segment_size=50_000)
        self.cut_during(grid, 2)
        with self.assertRaises(NotHappyError) as caught:
            grid.put(some_bytes(3_000_000))
        self.assertIn("4 servers needed", str(caught.exception))
        grid.clock.advance(100)
        for node in grid.nodes[2:]:
            self.assertEqual(0, node.core.storage.status()["promised"])

    def cut_during(self, grid, count):
        """Cut so many nodes as soon as the client has sent half a megabyte."""

        def cut():
            for node in grid.nodes[:count]:
                node.cut()

        self.when_sent(grid, cut)

    def when_sent(self, grid, function):
        """Call ``function`` as soon as the client has sent half a megabyte."""
        before = sum(end.sent_bytes for end in grid.ends["client"])

        def look():
            if sum(end.sent_bytes for end in grid.ends["client"]) - before > 500_000:
                function()
            else:
                grid.clock.callLater(0.0005, look)

        grid.clock.callLater(0, look)

    def test_cancelled_in_the_middle(self):
        grid = self.grid(nodes=5, max_segment_size=50_000)
        operation = Operation()
        self.when_sent(grid, operation.cancel)
        with self.assertRaises(AmpgridError):
            grid.run(
                grid.client.core.uploader.upload(
                    Data(some_bytes(3_000_000)), grid.encoding, operation
                )
            )
        grid.clock.advance(100)
        for node in grid.nodes:
            self.assertEqual(0, node.core.storage.status()["promised"])
            self.assertEqual(0, node.core.storage.status()["shares"])

    def test_too_few_servers_from_the_beginning(self):
        grid = self.grid(nodes=3, shares=(2, 3, 5))
        with self.assertRaises(NotHappyError) as caught:
            grid.put(some_bytes(1_000), Encoding(2, 5, 5))
        self.assertIn("5 servers needed", str(caught.exception))


class ChangingTests(GridCase):
    """Files that somebody writes to after they were opened."""

    def test_half_of_a_file_is_never_taken_for_all_of_it(self):
        grid = self.grid(nodes=3, shares=(2, 3, 3))
        folder = Path(self.mktemp())
        folder.mkdir()
        for before, after in ((0, 700), (20, 30), (500, 900), (500, 400), (2_000, 2_001)):
            path = folder / f"{before}-{after}"
            path.write_bytes(some_bytes(before))
            source = OpenFile.at(path)
            self.addCleanup(source.close)
            path.write_bytes(some_bytes(after))
            linked = []

            async def link(cap, linked=linked):
                linked.append(cap)

            uploading = grid.client.core.uploader.upload(
                source, grid.encoding, Operation(), link, inline=True
            )
            with self.assertRaises(FileChangedError):
                grid.run(uploading)
            self.assertEqual(linked, [])

    def test_a_byte_that_changes_between_the_readings(self):
        """Also where neither size nor times tell of it."""
        grid, size = self.grid(nodes=3, shares=(2, 3, 3)), 3_000_000
        uploader = grid.client.core.uploader
        for at in (0, 1_500_000, size - 1, None):

            class Shifting(Data):
                asked = 0

                def is_steady(self):
                    return False

                def read_at(self, offset, length, at=at):
                    data = bytearray(super().read_at(offset, length))
                    self.asked += length
                    if at is not None and self.asked > size and offset <= at < offset + length:
                        data[at - offset] ^= 1
                    return bytes(data)

            source = Shifting(some_bytes(size))
            uploading = uploader.upload(source, grid.encoding, Operation())
            if at is None:
                grid.run(uploading)
                continue
            with self.assertRaises(FileChangedError):
                grid.run(uploading)

    def test_a_small_file_that_grows_while_it_is_opened(self):
        path = Path(self.mktemp())
        path.write_bytes(b"half of it")
        read = os.pread

        def read_late(*args):
            path.write_bytes(b"half of it and the other")
            return read(*args)

        self.patch(os, "pread", read_late)
        core = self.grid(nodes=3, shares=(2, 3, 3)).client.core
        opening = Deferred.fromCoroutine(
            source_of(core, str(path.absolute()), None, Operation(), core.encoding())
        )
        self.failureResultOf(opening, FileChangedError)


class MeetingTests(GridCase):
    """Peers know each other without their introducer."""

    def test_the_introducer_is_gone_and_everybody_restarts(self):
        grid = self.grid(nodes=3, shares=(2, 3, 3))
        data = some_bytes(5_000)
        cap = grid.upload(data)
        grid.clock.advance(30)
        grid.introducer.cut()
        for member in [*grid.nodes, grid.client]:
            member.stop()
        for member in [*grid.nodes, grid.client]:
            member.start()
        self.assertEqual(3, grid.run(grid.client.core.wait_for_peers(3, 600)))
        self.assertEqual(data, grid.download(cap))

    def settling(self, grid):
        """Return for how long a client that has just started waits before a directory."""
        grid.client.start()
        grid.run(grid.client.core.wait_for_peers(len(grid.nodes), 600))
        before = grid.clock.seconds()
        grid.run(grid.client.core.settle_directories(lambda: None))
        return grid.clock.seconds() - before

    def test_in_a_small_grid_nobody_waits_for_those_that_there_are_not(self):
        grid = self.grid(nodes=3, shares=(1, 2, 2))
        grid.client.stop()
        # An introducer may name more for a while after it is met; one that dialled at the same
        # moment is met two seconds later.
        self.assertTrue(2 < self.settling(grid) < 5.5)
        grid.client.stop()
        grid.client.config = attrs.evolve(
            grid.client.config,
            introducers=(),
            peers=tuple(node.address for node in grid.nodes),
        )
        grid.client.folder = grid.folder / "by-hand"
        grid.client.folder.mkdir()
        self.assertLess(self.settling(grid), 0.5)

    def test_who_is_known_and_away_is_waited_for(self):
        grid = self.grid(nodes=3, shares=(1, 2, 2))
        grid.client.stop()
        grid.nodes.pop().cut()
        self.assertGreater(self.settling(grid), 7)

    def test_the_advice_of_the_introducer_is_taken(self):
        grid = self.grid(nodes=2, shares=(1, 2, 2))
        grid.clock.advance(5)
        self.assertEqual(Encoding(1, 2, 2), grid.client.core.encoding())

    def test_a_server_that_comes_back_is_connected_again(self):
        grid = self.grid(nodes=2, shares=(1, 2, 2))
        grid.nodes[0].cut()
        grid.clock.advance(1)
        self.assertEqual(1, len(grid.client.core.servers()))
        node = grid.nodes[0]
        grid.net.listen(node.host, 1, node.core.network.listening_factory())
        self.assertEqual(2, grid.run(grid.client.core.wait_for_peers(2, 300)))

    def test_every_member_meets_every_other(self):
        grid = self.grid(nodes=5)
        grid.clock.advance(120)
        for node in grid.nodes:
            self.assertEqual(6, len(node.core.table.connections()), node.host)


class BothEngines:
    """Codes with zfec and with ISA-L, which have to give the same bytes.

    Attributes:
        agreed: blocks that were the same.
    """

    name = "both"

    def __init__(self, *engines):
        self._engines = engines
        self.agreed = 0

    def encode(self, *arguments):
        return self._same([engine.encode(*arguments) for engine in self._engines])

    def rebuild(self, *arguments):
        return self._same([engine.rebuild(*arguments) for engine in self._engines])

    def _same(self, results):
        one, other = ([bytes(block) for block in blocks] for blocks in results)
        if one != other:
            raise AssertionError("zfec and ISA-L do not agree")
        self.agreed += len(one)
        return one


class VectorTests(GridCase):
    """Caps and shares of Tahoe-LAFS, through real uploads and downloads."""

    def test_all_sixty_caps_with_both_engines(self):
        """Every published case is uploaded to its cap and comes back."""
        from ampgrid.erasure import codec

        self.assertIsNotNone(isal_engine(), "the test extra brings libisal on Linux")
        engine = BothEngines(zfec_engine(), isal_engine())
        self.patch(codec, "best_engine", lambda: engine)
        count = 0
        grid = self.grid(nodes=2)
        for case in tahoe.chk_cases():
            grid.client.core.uploader._convergence = case["secret"]
            grid.client.core.uploader._max_segment_size = case["max_segment_size"]
            encoding = Encoding(case["needed"], 1, case["total"])
            data = tahoe.sample(case)
            self.assertEqual(case["cap"], grid.upload(data, encoding))
            self.assertEqual(data, grid.download(case["cap"]))
            count += 1
        self.assertEqual(60, count)
        self.assertGreater(engine.agreed, 10_000)

    def test_shares_of_tahoe_are_downloaded_by_their_caps(self):
        grid = self.grid(nodes=5)
        for stored in tahoe.stored_files():
            cap = parse_cap(stored["cap"])
            for server, (number, share) in zip(
                grid.client.core.servers(), sorted(stored["shares"].items()), strict=True
            ):
                writers = grid.run(
                    server.allocate(cap.storage_index, [number], len(share))
                ).writers
                grid.run(writers[number].put(share))
                grid.run(writers[number].close())
            self.assertEqual(stored["plaintext"], grid.download(stored["cap"]))

    def test_our_shares_are_those_of_tahoe(self):
        for stored in tahoe.stored_files():
            grid = self.grid(nodes=5, convergence=stored["secret"])
            self.assertEqual(stored["cap"], grid.upload(stored["plaintext"], Encoding(3, 5, 5)))
            index = parse_cap(stored["cap"]).storage_index
            found = {}
            for server in grid.client.core.servers():
                for number, size in grid.run(server.shares(index))[0].items():
                    found[number] = grid.run(server.read(index, number, 0, size))
            self.assertEqual(stored["shares"], found)


class SquattingTests(GridCase):
    """Foreign shares under a file's storage index are not counted as its own."""

    def plant(self, grid, cap, share, count):
        """Put ``share`` under every number of a file on so many servers."""
        index = parse_cap(cap).storage_index
        for server in grid.client.core.servers()[:count]:
            writers = grid.run(server.allocate(index, range(5), len(share))).writers
            for writer in writers.values():
                grid.run(writer.put(share))
                grid.run(writer.close())

    def check(self, size):
        """Upload a file whose places are taken on two servers of seven."""
        data = some_bytes(size)
        cap = self.grid(nodes=5).upload(data)
        grid = self.grid(nodes=7, shares=(3, 5, 5))
        self.plant(grid, cap, random.Random(2).randbytes(2_000), 2)
        uploaded = grid.put(data)
        self.assertEqual(cap, uploaded.cap.to_string())
        self.assertEqual((5, 5, 0), FilesTests.counts(self, uploaded))
        self.assertEqual(data, grid.download(cap))

    def test_a_small_file(self):
        self.check(5_000)

    def test_a_large_file(self):
        self.check(500_000)

    def test_when_every_place_is_taken(self):
        data = some_bytes(5_000)
        cap = self.grid(nodes=5).upload(data)
        grid = self.grid(nodes=5)
        self.plant(grid, cap, random.Random(2).randbytes(2_000), 5)
        with self.assertRaises(NotHappyError):
            grid.put(data)
        with self.assertRaises((AmpgridError, WireError)):
            grid.download(cap)
