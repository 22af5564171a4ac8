"""The Commands on directories, over the control socket of a node in a grid in memory."""

from __future__ import annotations

import json
from typing import Any

from ampgrid.caps import MAX_INLINE_SIZE, DirCap, LitCap
from ampgrid.commands import control
from ampgrid.commands import drive as commands
from ampgrid.commands import errors as e
from ampgrid.node import deep, listings
from tests.inmemory.controlling import CallingCase, connect
from tests.material import some_bytes

LITERAL = "URI:LIT:krugkidcnf2hgidqnrqws3q"
OTHER = "URI:LIT:ojqw4zdpnu"


class DirectoryCase(CallingCase):
    nodes = 4

    def fails(self, error: type[Exception], command: Any, **arguments: Any) -> str:
        with self.assertRaises(error) as caught:
            self.call(command, **arguments)
        return str(caught.exception)

    def make(self, path: str) -> str:
        return str(self.call(commands.MakeDirectory, path=path, parents=True)["cap"])

    def link(self, path: str, cap: str = LITERAL, **arguments: Any) -> None:
        self.call(commands.LinkChild, path=path, cap=cap, **arguments)

    def put(self, path: str, data: bytes, **arguments: Any) -> dict[str, Any]:
        (self.place / "put").write_bytes(data)
        return self.call(control.Upload, path=str(self.place / "put"), grid_path=path, **arguments)

    def info(self, path: str) -> dict[str, Any]:
        return dict(json.loads(self.call(commands.GetNodeInfo, path=path)["info"]))

    def names(self, path: str) -> list[str]:
        return sorted(child["name"] for child in self.list(path))

    def list(self, path: str, most: int | None = None) -> list[dict[str, Any]]:
        children: list[dict[str, Any]] = []
        start = None
        while True:
            given = {} if most is None else {"most": most}
            if start is not None:
                given["start"] = start
            page = self.call(commands.ListDirectory, path=path, **given)
            self.assertEqual(page["problems"], "")
            children += json.loads(page["children"])
            start = page["next"]
            if not start:
                return children

    def walk(self, path: str, what: str, **flags: Any) -> tuple[list[Any], dict[str, Any]]:
        self.call(commands.StartDeep, path=path, what=what, number=7, **flags)
        found: list[Any] = []
        while True:
            page = self.call(commands.NextResults, number=7)
            found += json.loads(page["results"])
            if page["done"]:
                return found, json.loads(page["summary"])


class PathTests(DirectoryCase):
    def test_made_listed_and_told_of(self) -> None:
        cap = self.make("private:a/b")
        self.assertEqual(self.make("private:a/b"), cap)
        self.fails(e.ChildExistsWireError, commands.MakeDirectory, path="private:a/b")
        self.fails(e.ChildExistsWireError, commands.MakeDirectory, path="private:")
        self.fails(e.NoSuchChildWireError, commands.MakeDirectory, path="private:x/y")
        self.assertEqual(self.names("private:"), ["a"])
        info = self.info("private:a/b")
        self.assertEqual(
            [info[key] for key in ("name", "type", "cap", "mutable", "children", "replicas")],
            ["b", "directory", cap, True, 0, 4],
        )
        self.assertEqual(self.info(cap)["write_cap"], cap)
        unlinked = self.call(commands.MakeDirectory)["cap"]
        self.assertEqual(self.list(unlinked), [])

    def test_what_is_no_path(self) -> None:
        for path, error in [
            ("a/b", e.BadArgumentError),
            ("~/a", e.BadArgumentError),
            ("", e.BadArgumentError),
            ("nobody:a", e.NoRootWireError),
            ("public:a", e.NoRootWireError),
            ("private:../a", e.BadArgumentError),
            ("URI:DIR:abc", e.BadCapTextError),
            ("URI:DIR:abc/a", e.BadCapTextError),
            ("private:missing/a", e.NoSuchChildWireError),
        ]:
            self.fails(error, commands.ListDirectory, path=path)

    def test_a_read_cap_reads_all_the_way_down_and_changes_nothing(self) -> None:
        self.make("private:a/b")
        self.link("private:a/b/file")
        read = self.info("private:a")["read_cap"]
        (child,) = self.list(read)
        self.assertEqual((child["name"], child["mutable"]), ("b", False))
        self.assertTrue(child["cap"].startswith("URI:DIR-RO:"))
        below = self.info(f"{read}/b")
        self.assertEqual((below["write_cap"], below["mutable"]), (None, False))
        for command, arguments in [
            (commands.LinkChild, {"path": f"{read}/x", "cap": LITERAL}),
            (commands.MakeDirectory, {"path": f"{read}/b/x"}),
            (commands.UnlinkChild, {"path": f"{read}/b/file"}),
            (commands.MoveChild, {"source": f"{read}/b", "target": "private:c"}),
            (commands.LinkChildren, {"path": read, "children": _children("x")}),
            (commands.RecoverDirectory, {"path": read}),
        ]:
            self.fails(e.NotMutableWireError, command, **arguments)

    def test_a_verify_cap_reads_nothing(self) -> None:
        verify = DirCap.create(lambda n: b"v" * n).get_verify_cap().to_string()
        self.fails(e.BadCapTextError, commands.ListDirectory, path=verify)
        self.fails(e.BadCapTextError, commands.LinkChild, path="private:x", cap=verify)

    def test_too_few_replicas_is_no_absence(self) -> None:
        cap = self.make("private:a")
        for node in self.grid.nodes[:2]:
            node.cut()
        self.grid.clock.advance(100)
        for command, arguments in [
            (commands.ListDirectory, {"path": cap}),
            (commands.GetNodeInfo, {"path": cap}),
            (commands.LinkChild, {"path": f"{cap}/x", "cap": LITERAL}),
        ]:
            message = self.fails(e.NotReachableWireError, command, **arguments)
            self.assertIn("of 4", message)


class ChangeTests(DirectoryCase):
    def test_linked_moved_and_unlinked(self) -> None:
        self.link("private:one", metadata='{"colour": "red"}')
        self.make("private:d")
        self.call(commands.MoveChild, source="private:one", target="private:d/two")
        self.assertEqual(self.names("private:"), ["d"])
        (child,) = self.list("private:d")
        self.assertEqual((child["name"], child["cap"]), ("two", LITERAL))
        self.assertEqual(child["metadata"]["colour"], "red")
        answer = self.call(commands.UnlinkChild, path="private:d/two")
        self.assertEqual(answer["cap"], LITERAL)
        self.fails(e.NoSuchChildWireError, commands.UnlinkChild, path="private:d/two")
        self.assertEqual(self.list("private:d"), [])

    def test_what_is_there_is_replaced_unless_it_must_not_be(self) -> None:
        self.link("private:x")
        self.link("private:x", OTHER)
        self.assertEqual(self.info("private:x")["cap"], OTHER)
        self.fails(
            e.ChildExistsWireError,
            commands.LinkChild,
            path="private:x",
            cap=LITERAL,
            overwrite=False,
        )
        self.link("private:y")
        self.fails(
            e.ChildExistsWireError,
            commands.MoveChild,
            source="private:x",
            target="private:y",
            overwrite=False,
        )
        self.assertEqual(self.info("private:x")["cap"], OTHER)

    def test_several_at_once_or_none(self) -> None:
        self.make("private:")
        names = [f"n{n}" for n in range(300)]
        self.call(commands.LinkChildren, path="private:", children=_children(*names))
        self.assertEqual(self.names("private:"), sorted(names))
        self.fails(
            e.ChildExistsWireError,
            commands.LinkChildren,
            path="private:",
            children=_children("new", "n7"),
            overwrite=False,
        )
        self.assertEqual(self.names("private:"), sorted(names))

    def test_what_cannot_be_linked(self) -> None:
        self.make("private:")
        for children in ["", "{}", "[1]", '[{"name": "a"}]', '[{"name": 1, "cap": "x"}]', "[" * 9]:
            self.fails(
                e.BadArgumentError, commands.LinkChildren, path="private:", children=children
            )
        for given in ["[]", "1", "x", '{"a": null}', '{"a": [1]}', '{"a": NaN}']:
            self.fails(
                e.BadArgumentError,
                commands.LinkChild,
                path="private:a",
                cap=LITERAL,
                metadata=given,
            )
        self.fails(e.BadArgumentError, commands.LinkChild, path="private:", cap=LITERAL)
        self.assertEqual(self.list("private:"), [])

    def test_a_path_will_do_for_a_cap(self) -> None:
        self.make("private:a/b")
        self.link("private:c", "private:a/b")
        self.link("private:c/f")
        self.assertEqual(self.names("private:a/b"), ["f"])


class FileTests(DirectoryCase):
    DATA = some_bytes(70_000)

    def test_put_and_got_by_path(self) -> None:
        put = self.put("private:a/b/f.txt", self.DATA, parents=True, metadata='{"mtime": 7}')
        info = self.info("private:a/b/f.txt")
        self.assertEqual((info["cap"], info["size"]), (put["cap"], len(self.DATA)))
        self.assertEqual(info["metadata"]["mtime"], 7)
        self.assertEqual(info["metadata"]["type"], "text/plain")
        copy = self.place / "copy"
        self.call(control.Download, cap="private:a/b/f.txt", path=str(copy))
        self.assertEqual(copy.read_bytes(), self.DATA)
        report = json.loads(self.call(control.Check, cap="private:a/b/f.txt")["report"])
        self.assertTrue(report["healthy"])

    def stored(self) -> int:
        """Return how many shares the nodes have."""
        return sum(node.core.status()["storage"]["shares"] for node in self.grid.nodes)

    def test_a_small_file_is_held_by_its_entry(self) -> None:
        self.make("private:a")
        for size in (56, 1_000, MAX_INLINE_SIZE):
            data = some_bytes(size)
            put = self.put(f"private:a/{size}", data)
            self.assertEqual(put["cap"], LitCap(data).to_string())
            self.assertEqual(self.info(f"private:a/{size}")["type"], "literal")
            self.assertEqual(self.got(f"private:a/{size}"), data)
        self.assertEqual(self.stored(), 0)
        removed = self.call(commands.UnlinkChild, path="private:a/1024")["cap"]
        self.assertEqual(removed, put["cap"])

    def test_what_gets_shares_all_the_same(self) -> None:
        self.make("private:a")
        data = some_bytes(MAX_INLINE_SIZE)
        more = {"needed": 2, "happy": 3, "total": 3}
        caps = [
            self.put("private:a/larger", data + b"1")["cap"],
            # Who asks for shares gets them.
            self.put("private:a/wanted", data, **more)["cap"],
            # A cap that is linked nowhere is to be short.
            self.upload(data)["cap"],
            self.upload(data, inline=False)["cap"],
            self.upload(data, inline=True, **more)["cap"],
        ]
        self.assertEqual([cap[:8] for cap in caps], ["URI:CHK:"] * 5)
        self.assertEqual(self.upload(data, inline=True)["cap"], LitCap(data).to_string())
        # All but the first are the same file.
        self.assertEqual(self.stored(), 6)

    def upload(self, data: bytes, **arguments: Any) -> dict[str, Any]:
        (self.place / "put").write_bytes(data)
        return self.call(control.Upload, path=str(self.place / "put"), **arguments)

    def got(self, path: str) -> bytes:
        copy = self.place / "copy"
        self.call(control.Download, cap=path, path=str(copy))
        return copy.read_bytes()

    def test_many_of_the_longest_entries_are_listed_and_linked_together(self) -> None:
        self.make("private:a")
        data = some_bytes(MAX_INLINE_SIZE)
        children = {f"{'n' * 250}{n:05}": data[n:] + data[:n] for n in range(20)}
        metadata = {"note": "m" * 1_000}
        linked = [
            {"name": name, "cap": LitCap(held).to_string(), "metadata": metadata}
            for name, held in children.items()
        ]
        self.call(commands.LinkChildren, path="private:a", children=json.dumps(linked))
        found = {child["name"]: child["cap"] for child in self.list("private:a")}
        self.assertEqual(found, {n: LitCap(held).to_string() for n, held in children.items()})

    def test_what_can_be_refused_before_is_not_uploaded(self) -> None:
        self.link("private:f")
        for path, arguments, error in [
            ("private:f", {"overwrite": False}, e.ChildExistsWireError),
            ("private:x/f", {}, e.NoSuchChildWireError),
            ("private:f/f", {}, e.NotDirectoryWireError),
            ("private:", {}, e.BadArgumentError),
            ("f", {}, e.BadArgumentError),
        ]:
            with self.assertRaises(error):
                self.put(path, self.DATA, **arguments)
        self.assertEqual(self.stored(), 0)

    def test_a_directory_is_no_file(self) -> None:
        cap = self.make("private:a")
        for command in (control.Check, control.Verify, control.Repair):
            self.fails(e.NotDirectoryWireError, command, cap="private:a")
            self.fails(e.BadCapTextError, command, cap=cap)
        self.fails(
            e.NotDirectoryWireError, control.Download, cap="private:a", path=str(self.place / "x")
        )
        self.assertFalse((self.place / "x").exists())


class ListingTests(DirectoryCase):
    def test_pages_are_of_one_version(self) -> None:
        names = [f"n{n}" for n in range(500)]
        self.make("private:")
        self.call(commands.LinkChildren, path="private:", children=_children(*names))
        page = self.call(commands.ListDirectory, path="private:", most=50)
        self.assertEqual(len(json.loads(page["children"])), 50)
        self.link("private:new")
        children = json.loads(page["children"])
        while page["next"]:
            page = self.call(commands.ListDirectory, path="private:", start=page["next"])
            children += json.loads(page["children"])
        self.assertEqual(sorted(child["name"] for child in children), sorted(names))

    def test_a_listing_that_is_gone(self) -> None:
        self.make("private:")
        self.call(commands.LinkChildren, path="private:", children=_children("a", "b"))
        page = self.call(commands.ListDirectory, path="private:", most=1)
        self.grid.clock.advance(listings.IDLE_SECONDS + 1)
        self.fails(
            e.SnapshotGoneWireError, commands.ListDirectory, path="private:", start=page["next"]
        )
        self.fails(e.SnapshotGoneWireError, commands.ListDirectory, path="private:", start=99)

    def test_a_page_fits_whatever_the_children_are_called(self) -> None:
        self.make("private:")
        big = json.dumps({"note": "\u00fc" * 1_500})
        for n in range(30):
            self.link(f"private:{n}{'ü' * 200}", metadata=big)
        self.assertEqual(len(self.list("private:")), 30)

    def test_not_too_many_at_once(self) -> None:
        self.make("private:")
        self.call(commands.LinkChildren, path="private:", children=_children("a", "b"))
        for _ in range(listings.MOST_LISTINGS):
            self.call(commands.ListDirectory, path="private:", most=1)
        self.fails(e.BadArgumentError, commands.ListDirectory, path="private:", most=1)


class DeepTests(DirectoryCase):
    def tree(self) -> None:
        self.make("private:a/b")
        self.put("private:a/f", some_bytes(2_000))
        self.link("private:a/b/l")
        self.link("private:a/b/up", "private:a")

    def test_a_manifest_of_a_cycle_ends(self) -> None:
        self.tree()
        found, summary = self.walk("private:", "manifest")
        self.assertEqual(
            [("/".join(each["path"]), each["again"]) for each in found],
            [
                ("", False),
                ("a", False),
                ("a/b", False),
                ("a/b/l", False),
                ("a/b/up", True),
                ("a/f", False),
            ],
        )
        self.assertEqual((summary["directories"], summary["files"]), (3, 1))
        self.assertEqual(self.walk("private:", "size"), ([], summary))
        self.fails(e.NoSuchOperationError, commands.NextResults, number=7)

    def test_checked_repaired_and_renewed(self) -> None:
        self.tree()
        found, summary = self.walk("private:", "check", verify=True, repair=True, renew=True)
        self.assertEqual((summary["healthy"], summary["renewed"]), (5, 4))
        self.assertTrue(all(each["healthy"] for each in found if not each["again"]))
        _found, summary = self.walk("private:a", "renew")
        self.assertEqual(summary["renewed"], 3)

    def test_it_waits_for_a_slow_reader(self) -> None:
        self.patch(deep, "MOST_WAITING", 3)
        self.make("private:")
        self.call(commands.LinkChildren, path="private:", children=_children(*"abcdefghij"))
        self.call(commands.StartDeep, path="private:", what="manifest", number=7)
        self.grid.clock.advance(100)
        progress = self.call(control.Progress, number=7)
        self.assertLessEqual(progress["done"], 4)
        self.assertEqual(len(json.loads(self.call(commands.NextResults, number=7)["results"])), 3)

    def test_cancelled_idle_or_left_it_ends(self) -> None:
        self.patch(deep, "MOST_WAITING", 1)
        self.make("private:")
        self.call(commands.LinkChildren, path="private:", children=_children(*"abcdef"))
        for end in ("cancelled", "idle", "left"):
            self.call(commands.StartDeep, path="private:", what="manifest", number=7)
            self.fails(
                e.BadArgumentError, commands.StartDeep, path="private:", what="size", number=7
            )
            self.grid.clock.advance(1)
            if end == "cancelled":
                self.call(control.Cancel, number=7)
            elif end == "idle":
                self.grid.clock.advance(deep.IDLE_SECONDS + 1)
            else:
                self.connection.abort("enough")
                self.grid.clock.advance(1)
                self.connection = connect(self.grid.clock, self.grid.client)
            self.grid.clock.advance(1)
            self.assertEqual(self.grid.client.core.operations.all(), [])
            if end != "left":
                self.call(commands.NextResults, number=7)
                self.fails(e.CancelledError, commands.NextResults, number=7)

    def test_what_cannot_be_walked(self) -> None:
        self.link("private:f")
        for given, error in [
            ({"path": "private:f", "what": "size", "number": 1}, e.NotDirectoryWireError),
            ({"path": "private:", "what": "dance", "number": 1}, e.BadArgumentError),
            ({"path": "private:", "what": "size", "number": 0}, e.BadArgumentError),
        ]:
            self.fails(error, commands.StartDeep, **given)

    def test_an_unreadable_directory_is_told_of_and_passed_over(self) -> None:
        self.make("private:a")
        lost = DirCap.create(lambda n: b"q" * n).to_string()
        self.link("private:lost", lost)
        found, summary = self.walk("private:", "manifest")
        self.assertEqual(summary["unreadable"], 1)
        (told,) = [each for each in found if each["path"] == ["lost"]]
        self.assertIn("not reachable", told["error"])


class ReplicaTests(DirectoryCase):
    def report(self, command: Any, path: str) -> dict[str, Any]:
        return dict(json.loads(self.call(command, path=path)["report"]))

    def test_of_one_directory(self) -> None:
        cap = self.make("private:a")
        verify = self.info(cap)["verify_cap"]
        for path in ("private:a", cap, verify):
            self.assertTrue(self.report(commands.CheckDirectory, path)["healthy"])
        self.grid.nodes[0].cut()
        self.grid.clock.advance(100)
        report = self.report(commands.CheckDirectory, "private:a")
        self.assertEqual((report["healthy"], report["good"]), (False, 3))
        self.grid.add_nodes(1)
        self.grid.clock.advance(10)
        self.assertTrue(self.report(commands.RepairDirectory, "private:a")["healthy"])
        self.fails(e.NotDirectoryWireError, commands.CheckDirectory, path=LITERAL)


class AliasTests(DirectoryCase):
    def test_added_used_and_removed(self) -> None:
        cap = self.make("private:a")
        self.link("private:a/f")
        self.assertEqual(self.call(commands.AddAlias, name="mine", cap="private:a")["cap"], cap)
        self.call(commands.AddAlias, name="mine", cap=cap)
        self.assertEqual(self.names("mine:"), ["f"])
        self.link("mine:g")
        self.assertEqual(self.names("private:a"), ["f", "g"])
        fresh = self.call(commands.AddAlias, name="fresh")["cap"]
        self.assertEqual(self.list("fresh:"), [])
        listed = self.call(commands.ListAliases, start=0)
        self.assertEqual(
            json.loads(listed["aliases"]),
            [{"name": "fresh", "cap": fresh}, {"name": "mine", "cap": cap}],
        )
        self.assertEqual(listed["next"], 0)
        self.fails(e.ChildExistsWireError, commands.AddAlias, name="mine")
        self.fails(e.BadArgumentError, commands.AddAlias, name="private", cap=cap)
        self.fails(e.NotDirectoryWireError, commands.AddAlias, name="x", cap=LITERAL)
        self.assertEqual(self.call(commands.RemoveAlias, name="mine")["cap"], cap)
        self.fails(e.NoRootWireError, commands.RemoveAlias, name="mine")
        self.fails(e.NoRootWireError, commands.ListDirectory, path="mine:")


def _children(*names: str) -> str:
    return json.dumps([{"name": name, "cap": LITERAL} for name in names])
