"""Directories are kept alive, stored as snapshots, and brought back, on a grid in memory."""

from __future__ import annotations

import json
from typing import Any

from ampgrid.caps import parse_file_cap
from ampgrid.commands import drive as commands
from ampgrid.commands import errors as e
from ampgrid.immutable import Operation
from tests.inmemory.test_directory_control import LITERAL, DirectoryCase, _children
from tests.material import some_bytes


class KeeperCase(DirectoryCase):
    def walk(self, **given: bool) -> dict[str, Any]:
        wanted = {"full": True, "snapshots": True, **given}
        return self.grid.run(self.grid.client.core.drive_keeper.run(Operation(), **wanted))

    def recover(self, path: str, **given: Any) -> dict[str, Any]:
        answer = self.call(commands.RecoverDirectory, path=path, **given)
        return dict(json.loads(answer["report"]))

    def kept(self) -> int:
        return self.grid.client.core.kept.count


class WalkTests(KeeperCase):
    def test_leases_are_renewed_and_changed_directories_stored(self) -> None:
        self.make("private:a/b")
        self.put("private:a/f", some_bytes(3_000))
        told = self.walk()
        self.assertEqual(
            [told[key] for key in ("complete", "directories", "renewed", "snapshots", "failed")],
            [True, 3, 3, 3, 0],
        )
        # The file itself and three snapshots are kept by the keeper of files.
        self.assertEqual((told["files"], self.kept()), (0, 4))
        self.assertEqual(self.walk()["snapshots"], 0)
        self.link("private:a/new")
        self.assertEqual(self.walk()["snapshots"], 1)
        self.assertEqual(self.kept(), 4)

    def test_a_file_that_another_has_put_is_looked_after(self) -> None:
        cap = self.grid.upload(some_bytes(3_000))
        self.grid.run(self.grid.client.core.kept.drop(parse_file_cap(cap)))
        self.link("private:theirs", cap)
        told = self.walk(snapshots=False)
        self.assertEqual((told["files"], told["renewed"], told["failed"]), (1, 2, 0))

    def test_replicas_that_are_gone_are_replaced_at_the_second_look(self) -> None:
        self.make("private:a")
        self.grid.add_nodes(1)
        self.grid.nodes[0].cut()
        self.grid.clock.advance(200)
        first = self.walk(snapshots=False)
        self.assertEqual(first["repaired"], 0)
        self.assertEqual((first["unhealthy"], first["waiting"]), (2, 2))
        # It looks again by itself.
        self.grid.clock.advance(3 * 3_600)
        last = self.grid.client.core.drive_keeper.status()["last_walk"]
        self.assertEqual((last["unhealthy"], last["repaired"], last["waiting"]), (2, 2, 0))
        report = json.loads(self.call(commands.CheckDirectory, path="private:a")["report"])
        self.assertTrue(report["healthy"])

    def test_the_status_tells(self) -> None:
        self.make("private:a")
        self.walk()
        drive = self.grid.client.core.status()["drive"]
        self.assertEqual(drive["problem"], "")
        self.assertEqual(drive["keeper"]["last_walk"]["directories"], 2)


class RecoverTests(KeeperCase):
    def test_nothing_is_done_where_nothing_has_to_be(self) -> None:
        self.make("private:a")
        report = self.recover("private:a")
        self.assertEqual((report["healthy"], report["recovered"]), (True, False))

    def test_of_one_replica_that_is_left(self) -> None:
        cap = self.make("private:a")
        self.call(commands.LinkChildren, path=cap, children=_children("x", "y"))
        self.grid.add_nodes(3)
        self.grid.run(self.grid.client.core.wait_for_peers(7, 600))
        for node in self.grid.nodes[:3]:
            node.cut()
        self.grid.clock.advance(200)
        self.fails(e.NotReachableWireError, commands.ListDirectory, path=cap)
        told = self.recover(cap, dry_run=True)
        self.assertEqual(
            (told["source"], told["holders"], told["recovered"]), ("replica", 1, False)
        )
        self.assertTrue(told["warnings"])
        # Something else was confirmed than what is found now.
        other = self.recover(cap, confirmed="0" * 64)
        self.assertEqual((other["recovered"], other["mark"]), (False, told["mark"]))
        self.fails(e.NotReachableWireError, commands.ListDirectory, path=cap)
        self.assertTrue(self.recover(cap, confirmed=told["mark"])["recovered"])
        self.assertEqual(self.names(cap), ["x", "y"])
        self.link(f"{cap}/z")
        self.assertEqual(self.names(cap), ["x", "y", "z"])

    def test_of_a_snapshot_alone(self) -> None:
        self.grid.add_nodes(4)
        self.grid.run(self.grid.client.core.wait_for_peers(8, 600))
        cap = self.make("private:a")
        self.link(f"{cap}/x")
        self.walk()
        info = json.loads(self.call(commands.CheckDirectory, path=cap)["report"])
        holders = {replica["node_id"] for replica in info["replicas"]}
        # Their directories are gone, and their shares are still there.
        bereft = [n for n in self.grid.nodes if n.core.status()["node_id"] in holders]
        for node in bereft:
            node.stop()
            for path in (node.folder / "storage").glob("directories.sqlite*"):
                path.unlink()
        self.grid.clock.advance(200)
        for node in bereft:
            node.start()
        self.grid.run(self.grid.client.core.wait_for_peers(8, 600))
        self.fails(e.NotReachableWireError, commands.ListDirectory, path=cap)
        self.assertEqual(self.recover(cap)["source"], "snapshot")
        self.assertEqual(self.names(cap), ["x"])
        self.assertEqual(self.list(cap)[0]["cap"], LITERAL)
