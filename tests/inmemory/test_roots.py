"""Roots on a grid in memory: the private one, the public one, and who is believed about it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import DirCap
from ampgrid.commands import drive as commands
from ampgrid.commands import errors as e
from ampgrid.commands.introduction import SetPublicRoot
from ampgrid.commands.vdrive import GetPublicRoot
from ampgrid.node import public_root
from ampgrid.testing.grid import MemoryGrid, MemoryNode
from tests.inmemory.controlling import connect

OTHER = DirCap.create(lambda n: b"o" * n)


class RootCase(SynchronousTestCase):
    nodes = 5
    with_public_root = False

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.grid = MemoryGrid(Path(folder.name), self.nodes, (2, 3, 3))
        introducer = self.grid.introducer
        introducer.config = attrs.evolve(introducer.config, public_root=self.with_public_root)
        self.grid.start()
        self.addCleanup(self.grid.stop)
        self.restarted()

    def restarted(self) -> None:
        self.connection = connect(self.grid.clock, self.grid.client)

    def call(self, command: Any, **arguments: Any) -> dict[str, Any]:
        return self.grid.run(self.connection.call(command, deadline=10_000.0, **arguments))

    def restart(self, member: MemoryNode) -> None:
        member.stop()
        member.start()
        self.grid.run(self.grid.client.core.wait_for_peers(self.nodes, 600))

    def public_of(self, member: MemoryNode) -> DirCap | None:
        cap = member.core.drive.public.cap
        assert cap is None or isinstance(cap, DirCap)
        return cap


class PrivateRootTests(RootCase):
    def test_it_is_made_at_its_first_use_with_four_replicas(self) -> None:
        self.assertEqual(self.call(commands.GetRoots), {"private": "", "public": ""})
        self.assertEqual(self.call(commands.ListDirectory, path="private:")["children"], "[]")
        cap = self.call(commands.GetRoots)["private"]
        self.assertTrue(cap.startswith("URI:DIR:"))
        self.assertIn('"replicas": 4', self.call(commands.GetNodeInfo, path="private:")["info"])
        self.call(commands.MakeDirectory, path="private:kept")
        self.grid.client.stop()
        self.grid.client.start()
        self.restarted()
        # Just started: it waits until it has met who keeps directories.
        self.assertIn('"kept"', self.call(commands.ListDirectory, path="private:")["children"])
        self.assertEqual(self.call(commands.GetRoots, make=True)["private"], cap)

    def test_asked_for_by_many_at_once_there_is_one(self) -> None:
        core = self.grid.client.core

        async def ask() -> list[str]:
            from twisted.internet.defer import Deferred, gatherResults

            asking = [Deferred.fromCoroutine(core.drive.private_root()) for _ in range(8)]
            return [cap.to_string() for cap in await gatherResults(asking)]

        self.assertEqual(len(set(self.grid.run(ask()))), 1)

    def test_an_introducer_has_none(self) -> None:
        self.connection = connect(self.grid.clock, self.grid.introducer)
        self.assertRaises(e.BadArgumentError, self.call, commands.GetRoots, make=True)
        self.assertRaises(e.BadArgumentError, self.call, commands.ListDirectory, path="private:")
        self.assertEqual(self.call(commands.GetRoots)["private"], "")

    def test_without_anybody_who_keeps_directories(self) -> None:
        for node in self.grid.nodes:
            node.cut()
        self.grid.clock.advance(100)
        for _ in range(2):
            with self.assertRaises(e.NotEnoughPeersConnectedError):
                self.call(commands.GetRoots, make=True)
        drive = self.grid.client.core.status()["drive"]
        self.assertEqual((drive["vdrive_peers"], drive["private_root"]), (0, False))
        self.assertIn("lies", drive["problem"])


class PublicRootTests(RootCase):
    with_public_root = True

    def wait(self) -> None:
        self.grid.clock.advance(60)

    def test_the_introducer_makes_one_and_all_know_it(self) -> None:
        self.wait()
        caps = {self.public_of(member) for member in self.grid.members}
        self.assertEqual(len(caps), 1)
        self.assertNotIn(None, caps)
        self.call(commands.MakeDirectory, path="public:ours")
        other = connect(self.grid.clock, self.grid.nodes[0])
        listed = self.grid.run(other.call(commands.ListDirectory, path="public:"))
        self.assertIn('"ours"', listed["children"])

    def test_it_is_kept_and_told_to_newcomers(self) -> None:
        self.wait()
        cap = self.public_of(self.grid.introducer)
        self.restart(self.grid.introducer)
        self.restart(self.grid.nodes[0])
        newcomer = self.grid.add_nodes(1)[0]
        self.wait()
        for member in (self.grid.introducer, self.grid.nodes[0], newcomer):
            self.assertEqual(self.public_of(member), cap)

    def test_every_peer_answers_it(self) -> None:
        self.wait()
        expected = self.public_of(self.grid.introducer)
        assert expected is not None
        for peer in (self.grid.introducer, self.grid.nodes[0]):
            connection = self.grid.between(self.grid.client, peer)
            answer = self.grid.run(connection.call(GetPublicRoot))
            self.assertEqual(answer["uri"], expected.to_string())

    def test_another_one_is_refused_and_told_of(self) -> None:
        self.wait()
        node = self.grid.nodes[0]
        known = self.public_of(node)
        connection = self.grid.between(self.grid.introducer, node)
        with self.assertRaises(e.NotAllowedError):
            self.grid.run(connection.call(SetPublicRoot, uri=OTHER.to_string()))
        self.flushLoggedErrors()
        self.assertEqual(self.public_of(node), known)
        drive = node.core.status()["drive"]
        self.assertEqual(drive["public_root_refused"], 1)
        self.assertIn("refused", drive["problem"])

    def test_nobody_but_an_introducer_is_believed(self) -> None:
        connection = self.grid.between(self.grid.nodes[1], self.grid.nodes[0])
        with self.assertRaises(e.NotAllowedError):
            self.grid.run(connection.call(SetPublicRoot, uri=OTHER.to_string()))
        self.assertNotEqual(self.public_of(self.grid.nodes[0]), OTHER)

    def test_what_is_no_directory_is_refused(self) -> None:
        connection = self.grid.between(self.grid.introducer, self.grid.nodes[0])
        broken = DirCap(OTHER.write_key, b"x" * 32).to_string()
        for text in ["", "URI:LIT:", OTHER.get_verify_cap().to_string(), broken]:
            with self.assertRaises(e.BadArgumentError):
                self.grid.run(connection.call(SetPublicRoot, uri=text))


class DamagedAliasesTests(RootCase):
    def test_the_others_are_kept_alive(self) -> None:
        core = self.grid.client.core
        self.call(commands.ListDirectory, path="private:")
        path = self.aliases_path()
        path.write_text(f"broken line\nsound: {OTHER.to_string()}\n")
        path.chmod(0o600)
        self.grid.run(core.drive.aliases.start())
        names = [name for name, _ in core.drive.walked_roots()]
        self.assertEqual(names, ["private", "sound"])
        self.assertIn("line 1", core.drive.roots_problem())

    def aliases_path(self) -> Path:
        path = self.grid.client.core.drive.aliases._path
        assert path is not None
        return path


class FewPeersTests(RootCase):
    """With fewer than four it waits for more, then goes on with what there is."""

    nodes = 2
    with_public_root = True

    def test_it(self) -> None:
        self.grid.clock.advance(public_root.SETTLE_SECONDS / 2)
        self.assertIsNone(self.public_of(self.grid.introducer))
        self.grid.clock.advance(public_root.SETTLE_SECONDS)
        self.assertIsNotNone(self.public_of(self.grid.client))


class NoPublicRootTests(RootCase):
    nodes = 1

    def test_without_one_nobody_makes_it(self) -> None:
        self.grid.clock.advance(200)
        self.assertRaises(e.NoRootWireError, self.call, commands.ListDirectory, path="public:")
        connection = self.grid.between(self.grid.client, self.grid.introducer)
        with self.assertRaises(e.NoPublicRootError):
            self.grid.run(connection.call(GetPublicRoot))
