"""Directory nodes: what is told of children, races, moves, and what a read cap gives."""

from __future__ import annotations

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import ChkVerifierCap, DirCap, DirVerifierCap, LitCap, parse_cap
from ampgrid.crypto.base32 import b2a
from ampgrid.errors import (
    AmpgridError,
    BadArgumentValueError,
    BadCapError,
    BadNameError,
    ChildExistsError,
    NoSuchChildError,
    NotDirectoryError,
    NotHappyError,
    NotMutableError,
    NotReachableError,
    SnapshotGoneError,
)
from ampgrid.immutable import Data, FileNode
from ampgrid.testing.drive import MemoryDrive
from ampgrid.testing.tables import MemoryTables
from ampgrid.vdrive.children import Link
from ampgrid.vdrive.dirnode import Child, DirectoryNode
from ampgrid.vdrive.maker import NodeMaker

LIT = LitCap(b"x")
LARGER = bytes(range(256)) * 5


class DirnodeCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.drive = MemoryDrive(latency=0.01)
        self.run_one = self.drive.run
        self.root = self.run_one(self.drive.get_private_root())

    def other_client(self) -> tuple[MemoryTables, DirectoryNode]:
        """Return the private root as another client sees it, and the tables of that one."""
        maker = self.drive.maker
        tables = self.drive.tables.another()
        other = NodeMaker(
            tables,
            downloader=maker.downloader,
            uploader=maker.uploader,
            encoding=maker.encoding,
            wall=maker.wall,
            entropy=maker.entropy,
            threads=maker.threads,
        )
        return tables, DirectoryNode(self.root.cap, other)

    def version(self) -> int:
        return self.drive.tables.kept[self.root.index].record.version


class CapTests(DirnodeCase):
    def test_what_the_cap_tells(self) -> None:
        root = self.root
        cap = parse_cap(root.get_uri())
        assert isinstance(cap, DirCap)
        self.assertEqual(root.get_immutable_uri(), cap.get_readonly().to_string())
        self.assertEqual(root.get_refresh_capability(), cap.get_verify_cap().to_string())
        self.assertTrue(root.is_mutable())
        reader = root.read_only()
        self.assertFalse(reader.is_mutable())
        self.assertEqual(reader.get_uri(), root.get_immutable_uri())
        self.assertEqual(reader.get_immutable_uri(), reader.get_uri())
        self.assertEqual(reader.get_refresh_capability(), root.get_refresh_capability())
        self.assertIs(reader.read_only(), reader)

    def test_repr_shows_no_key(self) -> None:
        cap = self.root.cap
        assert isinstance(cap, DirCap)
        for node in (self.root, self.root.read_only()):
            self.assertNotIn(b2a(cap.write_key)[:8], repr(node))
            self.assertNotIn(b2a(cap.get_readonly().read_key)[:8], repr(node))


class AddTests(DirnodeCase):
    def test_a_file_of_every_size_comes_back(self) -> None:
        for size in (0, 55, 56, 5000):
            node = self.run_one(self.root.add_file(f"{size}.bin", Data(bytes(size))))
            self.assertEqual(self.run_one(node.download_to_data()), bytes(size))
            found = self.run_one(self.root.get(f"{size}.bin"))
            assert isinstance(found, FileNode)
            self.assertEqual(found.get_uri(), node.get_uri())
            self.assertEqual(self.run_one(found.download_to_data()), bytes(size))

    def test_names_are_one_in_every_spelling(self) -> None:
        self.run_one(self.root.set_uri("cafe\u0301", LIT))
        self.assertTrue(self.run_one(self.root.has_child("caf\u00e9")))
        self.assertEqual(list(self.run_one(self.root.list())), ["caf\u00e9"])
        with self.assertRaises(BadArgumentValueError):
            self.run_one(self.root.set_children({"e\u0301": LIT, "\u00e9": LIT}))

    def test_names_that_no_child_can_have(self) -> None:
        root = self.root
        for name in ("", ".", "..", "a/b", "a\n", "x" * 256):
            for work in (
                root.has_child(name),
                root.get(name),
                root.set_uri(name, LIT),
                root.add_file(name, Data(b"")),
                root.create_empty_directory(name),
                root.create_empty_directory(name, overwrite=True),
                root.delete(name),
                root.move_child_to(name, root),
                root.move_child_to("a", root, name),
            ):
                with self.assertRaises(BadNameError):
                    self.run_one(work)
        self.assertEqual(self.version(), 1)

    def test_takes_only_what_can_be_read(self) -> None:
        verify = ChkVerifierCap(b"i" * 16, b"u" * 32, 3, 10, 1000)
        foreign = DirCap(b"w" * 16, b"f" * 32)
        for cap in (verify, DirVerifierCap(b"f" * 32), verify.to_string(), foreign, "URI:", ""):
            with self.assertRaises(BadCapError):
                self.run_one(self.root.set_uri("a", cap))
        self.assertEqual(self.version(), 1)

    def test_several_at_once_are_one_change(self) -> None:
        children = {f"n{i}": LitCap(b"%d" % i) for i in range(200)}
        self.run_one(self.root.set_children(children))
        self.assertEqual(self.version(), 2)
        found = self.run_one(self.root.list())
        self.assertEqual(
            {n: c.get_uri() for n, c in found.items()},
            {n: c.to_string() for n, c in children.items()},
        )
        self.assertEqual(list(found), sorted(children))
        self.assertEqual(self.run_one(self.root.count()), 200)
        with self.assertRaises(ChildExistsError):
            self.run_one(self.root.set_children({"new": LIT, "n7": LIT}, overwrite=False))
        self.assertFalse(self.run_one(self.root.has_child("new")))
        self.run_one(self.root.set_children({}))
        self.assertEqual(self.version(), 2)

    def test_a_file_that_cannot_be_placed_is_not_linked(self) -> None:
        self.drive.shelves.clear()
        with self.assertRaises(NotHappyError):
            self.run_one(self.root.add_file("a", Data(LARGER)))
        self.assertEqual(self.run_one(self.root.list()), {})

    def test_nothing_is_uploaded_for_a_name_that_is_taken(self) -> None:
        self.run_one(self.root.set_uri("a", LIT))
        with self.assertRaises(ChildExistsError):
            self.run_one(self.root.add_file("a", Data(LARGER), overwrite=False))
        self.assertEqual([shelf.contents for shelf in self.drive.shelves], [{}, {}, {}])

    def test_set_node_returns_the_child(self) -> None:
        made = self.run_one(self.drive.create_directory())
        self.assertIs(self.run_one(self.root.set_node("a", made)), made)
        self.assertEqual(self.run_one(self.root.get("a")).get_uri(), made.get_uri())

    def test_nothing_is_replaced_by_an_empty_directory_unasked(self) -> None:
        self.run_one(self.root.set_uri("a", LIT))
        before = len(self.drive.tables.kept)
        with self.assertRaises(ChildExistsError):
            self.run_one(self.root.create_empty_directory("a"))
        self.assertEqual(len(self.drive.tables.kept), before)
        made = self.run_one(self.root.create_empty_directory("a", overwrite=True))
        self.assertEqual(self.run_one(self.root.get("a")).get_uri(), made.get_uri())


class MetadataTests(DirnodeCase):
    def said(self, name: str) -> dict[str, object]:
        return dict(self.run_one(self.root.get_child(name)).metadata)

    def test_of_a_file_and_a_directory(self) -> None:
        now = self.drive.clock.seconds()
        self.run_one(self.root.add_file("a.txt", Data(b"abc")))
        self.run_one(self.root.create_empty_directory("d"))
        told = self.run_one(self.root.list_with_metadata())
        self.assertEqual(set(told["a.txt"].metadata), {"created", "changed", "size", "type"})
        self.assertEqual(told["a.txt"].metadata["size"], 3)
        self.assertEqual(told["a.txt"].metadata["type"], "text/plain")
        self.assertEqual(set(told["d"].metadata), {"created", "changed"})
        for child in told.values():
            created = child.metadata["created"]
            assert isinstance(created, float)
            self.assertLessEqual(now, created)
            self.assertLessEqual(created, self.drive.clock.seconds())

    def test_created_survives_and_what_is_given_is_kept(self) -> None:
        self.run_one(self.root.set_uri("a", LIT, {"mode": 0o644, "note": "x"}))
        first = self.said("a")
        self.drive.clock.advance(100)
        self.run_one(self.root.set_uri("a", LitCap(b"longer")))
        second = self.said("a")
        self.assertEqual(second["created"], first["created"])
        self.assertGreaterEqual(second["changed"], first["changed"] + 100)  # type: ignore[operator]
        self.assertEqual((second["mode"], second["note"], second["size"]), (0o644, "x", 6))
        self.run_one(self.root.set_children({"a": Link(LIT, {"created": 7, "note": "y"})}))
        third = self.said("a")
        self.assertEqual((third["created"], third["note"]), (7, "y"))
        self.assertNotIn("mode", third)

    def test_bad_metadata_are_refused_before_anything_is_done(self) -> None:
        for said in ({"": 1}, {"a": None}, {"a": float("inf")}):
            with self.assertRaises(BadArgumentValueError):
                self.run_one(self.root.add_file("a", Data(LARGER), said))  # type: ignore[arg-type]
        self.assertEqual(self.drive.shelves[0].contents, {})
        with self.assertRaises(BadArgumentValueError):
            self.run_one(self.root.set_uri("a", LIT, {"a": "x" * 5000}))
        self.assertEqual(self.version(), 1)


class RaceTests(DirnodeCase):
    def race(self, count: int, overwrite: bool) -> list[object]:
        """Let several clients set one name at once; return what became of each."""
        works = []
        for number in range(count):
            _tables, root = self.other_client()
            cap = LitCap(b"%d" % number)
            works.append(
                Deferred.fromCoroutine(root.set_uri("a", cap, overwrite=overwrite)).addErrback(
                    lambda failure: failure.value
                )
            )
        results: list[object] = self.drive.clock.run(gatherResults(works))
        return results

    def test_of_eight_exactly_one_wins(self) -> None:
        results = self.race(8, overwrite=False)
        self.assertEqual(results.count(None), 1)
        losers = [result for result in results if result is not None]
        self.assertTrue(all(isinstance(error, ChildExistsError) for error in losers))
        winner = LitCap(b"%d" % results.index(None))
        self.assertEqual(self.run_one(self.root.get("a")).get_uri(), winner.to_string())
        self.assertEqual(self.version(), 2)

    def test_with_overwriting_all_are_done(self) -> None:
        self.assertEqual(self.race(8, overwrite=True), [None] * 8)
        self.assertEqual(self.version(), 9)
        self.assertEqual(len(self.run_one(self.root.list())), 1)

    def test_a_name_that_appears_between_the_look_and_the_change(self) -> None:
        _tables, other = self.other_client()

        async def slip_in(index: bytes) -> None:
            self.drive.tables.before_accept = None
            await other.set_uri("a", LIT)

        self.drive.tables.before_accept = slip_in
        before = set(self.drive.tables.kept)
        with self.assertRaises(ChildExistsError):
            self.run_one(self.root.create_empty_directory("a"))
        # What was made for nothing is given up.
        self.assertEqual(self.drive.tables.cancelled, set(self.drive.tables.kept) - before)
        self.assertEqual(len(self.drive.tables.cancelled), 1)
        self.assertEqual(self.run_one(self.root.get("a")).get_uri(), LIT.to_string())

    def test_an_older_child_told_in_a_retry_is_the_one_replaced(self) -> None:
        _tables, other = self.other_client()

        async def slip_in(index: bytes) -> None:
            self.drive.tables.before_accept = None
            await other.set_uri("a", LIT, {"created": 3, "note": "theirs"})

        self.drive.tables.before_accept = slip_in
        self.run_one(self.root.set_uri("a", LitCap(b"mine")))
        child = self.run_one(self.root.get_child("a"))
        self.assertEqual((child.metadata["created"], child.metadata["note"]), (3, "theirs"))

    def test_what_may_be_replaced_is_asked_of_the_version_that_is_changed(self) -> None:
        _tables, other = self.other_client()
        asked: list[str | None] = []

        def allow(before: Child | None) -> None:
            asked.append(None if before is None else before.node.get_uri())
            if before is not None and isinstance(before.node, DirectoryNode):
                raise ChildExistsError("a directory")

        async def slip_in(index: bytes) -> None:
            self.drive.tables.before_accept = None
            await other.set_uri("a", there)

        for there in (LIT.to_string(), self.drive_uri()):
            self.drive.tables.before_accept = slip_in
            work = self.root.replace_child("a", LitCap(b"mine"), allow)
            if there == LIT.to_string():
                self.assertTrue(self.run_one(work))
                self.run_one(self.root.delete("a"))
            else:
                with self.assertRaisesRegex(ChildExistsError, "a directory"):
                    self.run_one(work)
            self.assertEqual(asked, [None, there])
            asked.clear()
        self.assertEqual(self.run_one(self.root.get("a")).get_uri(), there)
        self.assertFalse(self.run_one(self.root.replace_child("b", LIT, allow)))

    def test_what_is_damaged_is_not_replaced_by_who_asks_what_it_is(self) -> None:
        slot = self.root._sealer.slot_of("a")

        async def spoil(_lookup: object) -> dict[bytes, bytes | None]:
            return {slot: b"no entry"}

        self.run_one(self.root._table.change(spoil, [slot]))
        with self.assertRaises(AmpgridError):
            self.run_one(self.root.replace_child("a", LIT, lambda _before: None))
        self.run_one(self.root.set_uri("a", LIT))

    def drive_uri(self) -> str:
        """Return the cap of a new directory."""
        return self.run_one(self.drive.create_directory()).get_uri()

    def test_a_name_deleted_meanwhile(self) -> None:
        _tables, other = self.other_client()
        self.run_one(self.root.set_uri("a", LIT))

        async def slip_in(index: bytes) -> None:
            self.drive.tables.before_accept = None
            await other.delete("a")

        for work in (self.root.delete("a"), self.root.move_child_to("a", self.root, "b")):
            self.drive.tables.before_accept = slip_in
            with self.assertRaises(NoSuchChildError):
                self.run_one(work)
            self.run_one(self.root.set_uri("a", LIT))


class MoveTests(DirnodeCase):
    def setUp(self) -> None:
        super().setUp()
        self.there = self.run_one(self.root.create_empty_directory("there"))
        self.run_one(self.root.set_uri("a.txt", LIT, {"note": "x", "created": 5}))

    def test_a_rename_is_one_change(self) -> None:
        before, said = self.version(), self.run_one(self.root.get_child("a.txt")).metadata
        self.run_one(self.root.move_child_to("a.txt", self.root, "b.html"))
        self.assertEqual(self.version(), before + 1)
        self.assertEqual(list(self.run_one(self.root.list())), ["b.html", "there"])
        child = self.run_one(self.root.get_child("b.html"))
        self.assertEqual(child.metadata, {**said, "type": "text/html"})

    def test_a_rename_to_the_same_name_changes_nothing(self) -> None:
        before = self.version()
        self.run_one(self.root.move_child_to("a.txt", self.root))
        self.run_one(self.root.move_child_to("a.txt", self.root, "a.txt", overwrite=False))
        self.assertEqual(self.version(), before)
        with self.assertRaises(NoSuchChildError):
            self.run_one(self.root.move_child_to("b", self.root))

    def test_it_is_added_before_it_is_removed(self) -> None:
        said = self.run_one(self.root.get_child("a.txt")).metadata
        self.drive.tables.unreachable.add(self.there.index)
        with self.assertRaises(NotReachableError):
            self.run_one(self.root.move_child_to("a.txt", self.there))
        self.assertTrue(self.run_one(self.root.has_child("a.txt")))
        self.drive.tables.unreachable.clear()

        async def lose_the_source(index: bytes) -> None:
            if index == self.root.index:
                raise NotReachableError("gone")

        self.drive.tables.before_accept = lose_the_source
        with self.assertRaises(NotReachableError):
            self.run_one(self.root.move_child_to("a.txt", self.there))
        for directory in (self.root, self.there):
            self.assertTrue(self.run_one(directory.has_child("a.txt")))
        self.drive.tables.before_accept = None
        self.run_one(self.root.move_child_to("a.txt", self.there))
        self.assertFalse(self.run_one(self.root.has_child("a.txt")))
        self.assertEqual(self.run_one(self.there.get_child("a.txt")).metadata, said)

    def test_what_was_put_in_the_old_place_meanwhile_stays(self) -> None:
        _tables, other = self.other_client()
        newer = LitCap(b"newer")

        async def slip_in(index: bytes) -> None:
            if index == self.there.index:
                self.drive.tables.before_accept = None
                await other.set_uri("a.txt", newer)

        self.drive.tables.before_accept = slip_in
        self.run_one(self.root.move_child_to("a.txt", self.there))
        self.assertEqual(self.run_one(self.root.get("a.txt")).get_uri(), newer.to_string())
        self.assertEqual(self.run_one(self.there.get("a.txt")).get_uri(), LIT.to_string())

    def test_nothing_is_replaced_unasked(self) -> None:
        self.run_one(self.there.set_uri("a.txt", LitCap(b"theirs")))
        self.run_one(self.root.set_uri("b", LIT))
        for new_parent, name in ((self.there, "a.txt"), (self.root, "b")):
            moving = self.root.move_child_to("a.txt", new_parent, name, overwrite=False)
            with self.assertRaises(ChildExistsError):
                self.run_one(moving)
        self.assertTrue(self.run_one(self.root.has_child("a.txt")))

    def test_a_directory_does_not_go_into_itself(self) -> None:
        with self.assertRaises(BadArgumentValueError):
            self.run_one(self.root.move_child_to("there", self.there))
        self.assertTrue(self.run_one(self.root.has_child("there")))

    def test_a_writable_directory_stays_writable(self) -> None:
        below = self.run_one(self.root.create_empty_directory("below"))
        self.run_one(self.root.move_child_to("below", self.there, "b"))
        moved = self.run_one(self.there.get("b"))
        self.assertEqual(moved.get_uri(), below.get_uri())
        self.run_one(self.there.move_child_to("b", self.there, "c"))
        self.assertEqual(self.run_one(self.there.get("c")).get_uri(), below.get_uri())


class ReadOnlyTests(DirnodeCase):
    def test_changes_are_refused(self) -> None:
        self.run_one(self.root.set_uri("a", LIT))
        there = self.run_one(self.root.create_empty_directory("there"))
        reader = self.root.read_only()
        before = self.version()
        for work in (
            reader.set_uri("b", LIT),
            reader.set_node("b", there),
            reader.set_children({}),
            reader.add_file("b", Data(LARGER)),
            reader.create_empty_directory("b"),
            reader.delete("a"),
            reader.move_child_to("a", there),
            reader.move_child_to("a", reader, "b"),
            self.root.move_child_to("a", there.read_only()),
            self.root.move_child_to("a", reader, "b"),
            reader.move_child_to("a", self.root, "b"),
        ):
            with self.assertRaises(NotMutableError):
                self.run_one(work)
        self.assertEqual(self.version(), before)
        self.assertEqual(self.drive.shelves[0].contents, {})

    def test_at_any_depth_and_on_every_way_children_are_read_only(self) -> None:
        at = self.root
        for name in "abcdef":
            self.run_one(at.set_node("up", self.root))
            at = self.run_one(at.create_empty_directory(name))
        self.run_one(at.set_uri("file", LIT))
        reader = self.root.read_only()
        ways: list[DirectoryNode] = [reader]
        node = reader
        for depth, name in enumerate("abcdef"):
            found_there = [
                self.run_one(node.get(name)),
                self.run_one(node.list())[name],
                self.run_one(reader.get_child_at_path(["a", "up"] * depth + list("abcdef"[:1]))),
                self.run_one(reader.get_child_at_path("abcdef"[: depth + 1].replace("", "/"))),
                self.run_one(node.get("up")),
            ]
            for found in found_there:
                assert isinstance(found, DirectoryNode)
                ways.append(found)
            self.assertEqual(found_there[0].get_uri(), found_there[3].get_uri())
            node = ways[-5]
        for found in ways:
            self.assertFalse(found.is_mutable())
            self.assertTrue(found.get_uri().startswith("URI:DIR-RO:"))
            self.assertNotIsInstance(found.cap, DirCap)

    def test_a_writer_who_puts_a_write_cap_into_the_read_part_gives_none_away(self) -> None:
        cap = self.root.cap
        assert isinstance(cap, DirCap)
        below = self.run_one(self.drive.create_directory())
        slot = cap.keys.read.slot_of("below")
        parts = (b"below", below.get_uri().encode(), b"{}")
        plain = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
        bound = b"ampgrid directory entry 1" + cap.index + slot + b"read"
        part = bytes(12) + cap.keys.read.read_cipher.encrypt(bytes(12), plain, bound)
        sealed = b"\1" + len(part).to_bytes(2, "big") + part

        async def forge(_lookup: object) -> dict[bytes, bytes | None]:
            return {slot: sealed}

        self.run_one(self.drive.tables.table(cap.index, cap.keys).change(forge))
        for node in (self.root, self.root.read_only()):
            found = self.run_one(node.get("below"))
            assert isinstance(found, DirectoryNode)
            self.assertFalse(found.is_mutable())

    def test_read_only_links_stay_read_only_in_a_writable_directory(self) -> None:
        below = self.run_one(self.drive.create_directory())
        self.run_one(self.root.set_uri("below", below.get_immutable_uri()))
        found = self.run_one(self.root.get("below"))
        self.assertEqual(found.get_uri(), below.get_immutable_uri())


class PathTests(DirnodeCase):
    def test_text_and_list(self) -> None:
        a = self.run_one(self.root.create_empty_directory("a"))
        b = self.run_one(a.create_empty_directory("b"))
        self.run_one(b.set_uri("c", LIT))
        for path in ("a/b", "/a/b/", ["a", "b"]):
            self.assertEqual(
                self.run_one(self.root.get_child_at_path(path)).get_uri(), b.get_uri()
            )
        self.assertIs(self.run_one(self.root.get_child_at_path("")), self.root)
        for path in ("x", "a/x", "a/b/x", ["a", "x", "c"]):
            with self.assertRaises(NoSuchChildError):
                self.run_one(self.root.get_child_at_path(path))
            with self.assertRaises(IndexError):
                self.run_one(self.root.get_child_at_path(path))
        with self.assertRaises(NotDirectoryError):
            self.run_one(self.root.get_child_at_path("a/b/c/d"))


class DamageTests(DirnodeCase):
    def spoil(self, name: str) -> None:
        """Let a writer put rubbish at the slot of a name."""
        cap = self.root.cap
        assert isinstance(cap, DirCap)
        slot = cap.keys.read.slot_of(name)

        async def plan(_lookup: object) -> dict[bytes, bytes | None]:
            return {slot: b"rubbish"}

        self.run_one(self.drive.tables.table(cap.index, cap.keys).change(plan))

    def test_a_spoilt_entry_hides_no_other(self) -> None:
        self.run_one(self.root.set_children({"a": LIT, "b": LIT}))
        self.spoil("a")
        listing = self.run_one(self.root.read())
        self.assertEqual(list(listing.children), ["b"])
        self.assertEqual(len(listing.problems), 1)
        self.assertEqual(list(self.run_one(self.root.list())), ["b"])

    def test_a_spoilt_entry_can_be_replaced_and_deleted(self) -> None:
        self.spoil("a")
        with self.assertRaises(ChildExistsError):
            self.run_one(self.root.set_uri("a", LIT, overwrite=False))
        self.run_one(self.root.set_uri("a", LIT))
        self.assertTrue(self.run_one(self.root.has_child("a")))
        self.spoil("a")
        self.assertIsNone(self.run_one(self.root.delete("a")))
        self.assertFalse(self.run_one(self.root.has_child("a")))

    def test_a_listing_begins_again_when_its_version_is_gone(self) -> None:
        self.run_one(self.root.set_children({f"n{i}": LitCap(b"%d" % i) for i in range(1000)}))
        gone: list[int] = []

        async def vanish() -> None:
            if self.drive.tables.calls["entries"] == 2 + 5 * len(gone) and len(gone) < 2:
                gone.append(1)
                raise SnapshotGoneError("gone")

        self.drive.tables.pause = vanish
        self.assertEqual(len(self.run_one(self.root.list())), 1000)
        self.assertTrue(gone)

    def test_what_cannot_be_reached_is_never_called_absent(self) -> None:
        self.drive.tables.unreachable.add(self.root.index)
        for work in (
            self.root.has_child("a"),
            self.root.get("a"),
            self.root.list(),
            self.root.delete("a"),
            self.root.set_uri("a", LIT, overwrite=False),
        ):
            with self.assertRaises(NotReachableError):
                self.run_one(work)
