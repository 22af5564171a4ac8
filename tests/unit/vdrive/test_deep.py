"""Deep operations: walks that end, what they find, checks, repairs, leases."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import DirReadCap, LitCap
from ampgrid.errors import (
    IntegrityError,
    NotConnectedError,
    NotReachableError,
    OperationCancelledError,
)
from ampgrid.immutable import Data, FileNode, Operation
from ampgrid.testing.drive import MemoryDrive
from ampgrid.vdrive.deep import (
    DeepSize,
    DeepSummary,
    Finding,
    Wishes,
    deep_size,
    visit_json,
)
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.vdrive.streams import as_done
from ampgrid.vdrive.walking import Visit, walk

LARGER = bytes(range(256)) * 40


async def all_of(stream: AsyncIterator[Any]) -> list[Any]:
    return [thing async for thing in stream]


class DeepCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.drive = MemoryDrive(latency=0.01)
        self.run_one = self.drive.run
        self.root = self.run_one(self.drive.get_private_root())

    def make(self, *paths: str) -> None:
        for path in paths:
            self.run_one(self.drive.make_directories("~/" + path))

    def directory(self, path: str) -> DirectoryNode:
        return self.run_one(self.drive.get_directory_at_path("~/" + path))

    def visits(self, root: Any = None, **how: Any) -> list[Visit]:
        return self.run_one(all_of(walk(root or self.root, **how)))

    def examine(self, **wishes: bool) -> dict[str, Finding]:
        found = self.run_one(all_of(self.drive.examiner.examine(self.root, Wishes(**wishes))))
        self.assertEqual(len({finding.path for finding in found}), len(found))
        return {"/".join(finding.path): finding for finding in found}


class WalkTests(DeepCase):
    def test_in_the_order_of_a_tree(self) -> None:
        self.make("b/d", "a/z", "a/y/x", "c")
        self.run_one(self.directory("a").set_uri("yy", LitCap(b"1")))
        self.run_one(self.root.set_uri("bb", LitCap(b"2")))
        expected = ["", "a", "a/y", "a/y/x", "a/yy", "a/z", "b", "b/d", "bb", "c"]
        for at_once in (1, 2, 8):
            visits = self.visits(at_once=at_once)
            self.assertEqual(["/".join(visit.path) for visit in visits], expected)
            self.assertEqual([v.children for v in visits], [4, 3, 1, 0, 0, 0, 1, 0, 0, 0])

    def test_a_cycle_ends(self) -> None:
        self.make("a/b")
        self.run_one(self.directory("a/b").set_node("up", self.root))
        self.run_one(self.directory("a/b").set_uri("top", self.root.get_immutable_uri()))
        self.run_one(self.root.set_node("self", self.root))
        found = {"/".join(visit.path): visit.again for visit in self.visits()}
        again = {"a/b/top": True, "a/b/up": True, "self": True}
        self.assertEqual(found, {"": False, "a": False, "a/b": False, **again})

    def test_every_directory_is_read_once(self) -> None:
        self.make(*(f"d{n}/e" for n in range(30)))
        shared = self.run_one(self.drive.create_directory())
        for n in range(30):
            self.run_one(self.directory(f"d{n}").set_node("shared", shared))
        self.drive.tables.calls.clear()
        visits = self.visits()
        self.assertEqual(len(visits), 1 + 30 * 3)
        self.assertEqual(self.drive.tables.calls["entries"], 1 + 30 * 2 + 1)
        self.assertEqual(sum(visit.again for visit in visits), 29)

    def test_several_are_read_at_once_and_no_more(self) -> None:
        self.make(*(f"d{n}" for n in range(24)))

        def seconds(at_once: int) -> float:
            before = self.drive.clock.seconds()
            self.visits(at_once=at_once)
            return self.drive.clock.seconds() - before

        alone, together = seconds(1), seconds(8)
        self.assertLess(together, alone / 4)
        under_way: list[int] = []
        waiting = 0

        async def pause() -> None:
            nonlocal waiting
            waiting += 1
            under_way.append(waiting)
            answered: Deferred[None] = Deferred()
            self.drive.clock.callLater(0.01, answered.callback, None)
            await answered
            waiting -= 1

        self.drive.tables.pause = pause
        self.visits(at_once=8)
        self.assertEqual(max(under_way), 8)

    def test_what_cannot_be_read_is_told_and_passed_by(self) -> None:
        self.make("a/x", "b/y", "c/z")
        self.drive.tables.unreachable.add(self.directory("b").index)
        visits = {"/".join(visit.path): visit for visit in self.visits()}
        self.assertEqual(list(visits), ["", "a", "a/x", "b", "c", "c/z"])
        self.assertIsInstance(visits["b"].error, NotReachableError)
        with self.assertRaises(NotReachableError):
            self.run_one(self.root.build_manifest())

    def test_through_a_read_cap_everything_is_read_only(self) -> None:
        self.make("a/b/c", "d")
        # The same directories are read through the write cap at the same time.
        both = self.run_one(self.drive.create_directory())
        self.run_one(both.set_uri("1", self.root.get_immutable_uri()))
        self.run_one(both.set_node("2", self.root))
        self.run_one(both.set_node("0", self.directory("a")))
        for root in (self.root.read_only(), both.read_only()):
            for visit in self.visits(root):
                assert isinstance(visit.node, DirectoryNode)
                self.assertFalse(visit.node.is_mutable())
        for visit in self.visits(both):
            assert isinstance(visit.node, DirectoryNode)
            self.assertEqual(visit.node.is_mutable(), visit.path[:1] != ("1",))

    def test_what_was_read_ahead_through_a_write_cap_is_not_given_to_a_reader(self) -> None:
        self.make("a", "x/below")
        # The second child of the root is read ahead, and met through a read cap before.
        shared = self.directory("x")
        self.run_one(self.directory("a").set_node("x", shared.read_only()))
        for visit in self.visits():
            assert isinstance(visit.node, DirectoryNode)
            self.assertEqual(visit.node.is_mutable(), visit.path[:2] != ("a", "x"), visit.path)

    def test_spoilt_entries_are_told(self) -> None:
        self.make("a")
        cap = self.root.cap

        async def spoil(_lookup: object) -> dict[bytes, bytes | None]:
            return {b"s" * 32: b"rubbish"}

        self.run_one(self.drive.maker.table(cap).change(spoil))
        root, below = self.visits()
        self.assertEqual((len(root.problems), below.path), (1, ("a",)))
        self.assertEqual(self.run_one(deep_size(self.root)).to_json()["unopened"], 1)
        with self.assertRaises(IntegrityError):
            self.run_one(self.root.build_manifest())

    def test_a_link_with_a_wrong_key_hides_nothing(self) -> None:
        self.make("sub/deep")
        real = self.directory("sub")
        self.run_one(real.add_file("f", Data(LARGER)))
        self.run_one(self.root.set_uri("aaa", DirReadCap(bytes(16), real.cap.fingerprint)))
        for at_once in (1, 8):
            visits = {"/".join(visit.path): visit for visit in self.visits(at_once=at_once)}
            self.assertEqual(list(visits), ["", "aaa", "sub", "sub/deep", "sub/f"])
            self.assertEqual([path for path, visit in visits.items() if visit.again], [])
            self.assertTrue(visits["aaa"].problems or visits["aaa"].error)
            self.assertFalse(visits["sub"].problems)

    def test_it_can_be_cancelled_while_it_waits(self) -> None:
        self.make("a/b")
        for delay in (0.001, 0.011, 0.015, 0.025):
            operation = Operation()
            self.drive.clock.callLater(delay, operation.cancel)
            with self.assertRaises(OperationCancelledError):
                self.run_one(all_of(walk(self.root, operation)))
        self.drive.clock.advance(1)

    def test_it_can_be_left(self) -> None:
        self.make(*(f"d{n}" for n in range(10)))
        self.drive.tables.unreachable.add(self.directory("d3").index)

        async def look() -> None:
            async for visit in walk(self.root):
                if visit.path == ("d0",):
                    return

        self.run_one(look())
        self.drive.clock.advance(1)

    def test_it_counts_what_it_visits(self) -> None:
        self.make("a/b", "c")
        operation = Operation()
        self.visits(operation=operation)
        self.assertEqual((operation.phase, operation.done), ("walking", 4))

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20),
        st.sets(st.integers(1, 7), max_size=2),
    )
    def test_any_graph(self, edges: list[tuple[int, int]], broken: set[int]) -> None:
        drive = MemoryDrive()
        nodes = [drive.run(drive.create_directory()) for _ in range(8)]
        for number, (source, target) in enumerate(edges):
            drive.run(nodes[source].set_node(f"e{number:02}", nodes[target]))
        drive.tables.unreachable |= {nodes[n].index for n in broken}
        reached, waiting = {0}, [0]
        while waiting:
            at = waiting.pop()
            for source, target in edges:
                if source == at and at not in broken and target not in reached:
                    reached.add(target)
                    waiting.append(target)
        visits = drive.run(all_of(walk(nodes[0])))
        numbers = {node.index: number for number, node in enumerate(nodes)}
        first = [numbers[visit.node.index] for visit in visits if not visit.again]
        self.assertEqual(Counter(first), Counter(reached))
        self.assertEqual(
            reached & broken,
            {numbers[visit.node.index] for visit in visits if visit.error is not None},
        )
        # Every link out of what could be read is visited.
        links = sum(source in reached - broken for source, _target in edges)
        self.assertEqual(len(visits), 1 + links)


class ManifestTests(DeepCase):
    def test_the_manifest_has_what_keeps_everything_alive(self) -> None:
        self.make("a/b")
        file = self.run_one(self.directory("a").add_file("f", Data(LARGER)))
        self.run_one(self.root.set_node("again", file))
        self.run_one(self.root.add_file("lit", Data(b"x")))
        expected = {
            node.get_refresh_capability()
            for node in (self.root, self.directory("a"), self.directory("a/b"), file)
        }
        self.assertEqual(self.run_one(self.root.build_manifest()), expected)
        told = [visit_json(visit) for visit in self.visits()]
        self.assertEqual({t["verify_cap"] for t in told if t["verify_cap"]}, expected)
        self.assertEqual(
            [(t["path"], t["type"], t["again"]) for t in told],
            [
                ([], "directory", False),
                (["a"], "directory", False),
                (["a", "b"], "directory", False),
                (["a", "f"], "file", False),
                (["again"], "file", True),
                (["lit"], "literal", False),
            ],
        )


class SizeTests(DeepCase):
    def test_everything_is_counted_once(self) -> None:
        self.make("a/b", "gone")
        file = self.run_one(self.directory("a").add_file("f", Data(LARGER)))
        self.run_one(self.root.set_node("again", file))
        self.run_one(self.root.set_node("self", self.root))
        self.run_one(self.root.add_file("lit", Data(b"xyz")))
        self.drive.tables.unreachable.add(self.directory("gone").index)
        found = self.run_one(deep_size(self.root))
        expected = DeepSize(
            directories=3,
            unreadable=1,
            files=1,
            literals=1,
            again=2,
            bytes_files=len(LARGER),
            bytes_literals=3,
            largest_file=len(LARGER),
            largest_directory=5,
            classes={1000: 1, 100_000: 1},
        )
        self.assertEqual(found, expected)
        self.assertEqual(found.to_json()["sizes"], [[1000, 1], [100_000, 1]])


class ExamineTests(DeepCase):
    def setUp(self) -> None:
        super().setUp()
        self.make("a/b")
        self.file = self.run_one(self.directory("a").add_file("f", Data(LARGER)))
        self.run_one(self.root.set_node("again", self.file))
        self.run_one(self.root.set_node("self", self.root))
        self.run_one(self.root.add_file("lit", Data(b"xyz")))

    def test_all_is_well(self) -> None:
        found = self.examine()
        self.assertEqual(set(found), {"", "a", "a/b", "a/f", "again", "self", "lit"})
        for path, finding in found.items():
            self.assertEqual(finding.again, path in ("again", "self"), path)
            self.assertEqual(finding.healthy, None if finding.again else True, path)
            self.assertEqual(finding.problems, ())
        summary = DeepSummary()
        for finding in found.values():
            summary.add(finding)
        self.assertEqual(
            summary,
            DeepSummary(directories=3, files=1, literals=1, again=2, healthy=5),
        )
        self.assertEqual(found["a/f"].to_json()["report"]["shares_good"], 3)

    def test_a_missing_share_is_found_and_repaired(self) -> None:
        self.drive.shelves[1].contents.clear()
        found = self.examine()["a/f"]
        self.assertEqual((found.healthy, found.recoverable, found.repaired), (False, True, False))
        found = self.examine(repair=True)["a/f"]
        self.assertEqual((found.healthy, found.repaired), (True, True))
        self.assertEqual(found.to_json()["report"]["before"]["shares_good"], 2)
        self.assertIs(self.examine()["a/f"].healthy, True)

    def test_shares_on_too_few_servers_are_not_healthy(self) -> None:
        first, second, third = self.drive.shelves
        for shelf in (second, third):
            first.contents.update(shelf.contents)
            shelf.contents.clear()
        self.assertIs(self.examine()["a/f"].healthy, False)
        self.assertIs(self.examine(repair=True)["a/f"].healthy, True)

    def test_what_is_lost_ends_nothing(self) -> None:
        for shelf in self.drive.shelves[1:]:
            shelf.contents.clear()
        found = self.examine(repair=True, renew=True)
        self.assertEqual(len(found), 7)
        self.assertEqual(
            (found["a/f"].healthy, found["a/f"].recoverable, found["a/f"].repaired),
            (False, False, False),
        )

    def test_damage_is_seen_when_every_byte_is_read(self) -> None:
        ((place, share),) = self.drive.shelves[0].contents.items()
        spoilt = bytearray(share)
        spoilt[100] ^= 1
        self.drive.shelves[0].contents[place] = bytes(spoilt)
        self.assertIs(self.examine()["a/f"].healthy, True)
        self.assertIs(self.examine(verify=True)["a/f"].healthy, False)

    def test_directories_are_repaired(self) -> None:
        self.drive.tables.damaged.add(self.directory("a").index)
        self.assertIs(self.examine()["a"].healthy, False)
        found = self.examine(repair=True)["a"]
        self.assertEqual((found.healthy, found.repaired), (True, True))
        self.assertIs(self.examine()["a"].healthy, True)

    def test_a_directory_that_cannot_be_reached_is_a_finding(self) -> None:
        self.drive.tables.unreachable.add(self.directory("a/b").index)
        found = self.examine(repair=True, renew=True)
        self.assertEqual(len(found), 7)
        self.assertEqual(
            (found["a/b"].healthy, found["a/b"].recoverable, found["a/b"].renewed),
            (False, None, False),
        )
        self.assertEqual([path for path in found if found[path].unreachable], ["a/b"])
        (problem,) = found["a/b"].problems
        self.assertTrue(problem.startswith("cannot be read: "), problem)

    def test_leases_of_all_are_renewed_once(self) -> None:
        found = self.examine(check=False, renew=True)
        for path, finding in found.items():
            expected = path not in ("again", "self", "lit")
            self.assertEqual(finding.renewed, expected, path)
            self.assertIsNone(finding.report)
        for path in ("", "a", "a/b"):
            self.assertEqual(self.drive.tables.renewed[self.directory(path).index], 1)
        for shelf in self.drive.shelves:
            self.assertEqual(list(shelf.leases.values()), [1])
        for shelf in self.drive.shelves:
            shelf.contents.clear()
        found = self.examine(check=False, renew=True)
        self.assertEqual(
            (found["a/f"].renewed, found["a/f"].problems), (False, ("no server took a lease",))
        )

    def test_a_server_that_fails_ends_nothing(self) -> None:
        async def fail() -> None:
            raise NotConnectedError("gone")

        self.drive.shelves[0].before = fail
        found = self.examine(renew=True)
        self.assertEqual((found["a/f"].healthy, found["a/f"].renewed), (False, True))
        self.assertTrue(found["a/f"].problems)

    def test_progress_and_cancelling(self) -> None:
        operation = Operation()
        self.run_one(all_of(self.drive.examiner.examine(self.root, Wishes(), operation)))
        self.assertEqual((operation.phase, operation.done), ("checking", 7))
        hang: Deferred[None] = Deferred()

        async def never() -> None:
            await hang

        self.drive.shelves[0].before = never
        operation = Operation()
        self.drive.clock.callLater(1, operation.cancel)
        with self.assertRaises(OperationCancelledError):
            self.run_one(all_of(self.drive.examiner.examine(self.root, Wishes(), operation)))
        hang.callback(None)

    def test_nothing_goes_on_when_nobody_listens(self) -> None:
        self.make(*(f"d{n}" for n in range(100)))

        async def look_at_one() -> None:
            findings = self.drive.examiner.examine(self.root, Wishes())
            async with aclosing(findings):  # type: ignore[type-var]
                async for _finding in findings:
                    return

        self.run_one(look_at_one())
        self.drive.clock.advance(1)
        before = self.drive.tables.calls.copy()
        self.drive.clock.advance(100)
        self.assertEqual(self.drive.tables.calls, before)
        self.assertLess(before["check"], 30)


class AsDoneTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.waiting: dict[int, Deferred[int]] = {}
        self.got: list[int] = []
        self.ended: list[Any] = []

    async def source(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    async def work(self, number: int) -> int:
        self.waiting[number] = Deferred()
        return await self.waiting[number]

    def begin(self, count: int, at_once: int, operation: Operation | None = None) -> None:
        async def collect() -> None:
            stream = as_done(self.source(count), self.work, operation or Operation(), at_once)
            async for number in stream:
                self.got.append(number)

        Deferred.fromCoroutine(collect()).addBoth(self.ended.append)

    def test_results_come_as_they_are_done(self) -> None:
        self.begin(5, 3)
        self.assertEqual(sorted(self.waiting), [0, 1, 2])
        self.waiting[1].callback(10)
        self.assertEqual(self.got, [10])
        self.assertEqual(sorted(self.waiting), [0, 1, 2, 3])
        for number in (3, 0, 4, 2):
            self.waiting[number].callback(number)
        self.assertEqual(self.got, [10, 3, 0, 4, 2])
        self.assertEqual(self.ended, [None])

    def test_nothing_comes_of_nothing(self) -> None:
        self.begin(0, 3)
        self.assertEqual((self.got, self.ended), ([], [None]))

    def test_an_error_ends_it(self) -> None:
        self.begin(5, 2)
        self.waiting[0].errback(IntegrityError("x"))
        self.assertEqual(self.ended[0].type, IntegrityError)
        self.waiting[1].callback(1)

    def test_an_error_of_the_source_ends_it(self) -> None:
        async def failing(_count: int) -> AsyncIterator[int]:
            yield 0
            raise IntegrityError("x")

        self.source = failing  # type: ignore[method-assign]
        self.begin(5, 2)
        self.assertEqual(self.ended[0].type, IntegrityError)
        self.waiting[0].callback(0)

    def test_cancelling_ends_the_waiting(self) -> None:
        operation = Operation()
        self.begin(5, 2, operation)
        operation.cancel()
        self.assertEqual(self.ended[0].type, OperationCancelledError)
        for one in self.waiting.values():
            one.callback(0)

    def test_many_that_never_wait(self) -> None:
        async def at_once(number: int) -> int:
            return number

        self.work = at_once  # type: ignore[method-assign]
        self.begin(20_000, 8)
        self.assertEqual((len(self.got), self.ended), (20_000, [None]))


class FileWalkTests(DeepCase):
    def test_a_file_is_a_walk_of_one(self) -> None:
        node = self.run_one(self.drive.get_node(LitCap(b"x")))
        (visit,) = self.visits(node)
        self.assertIsInstance(visit.node, FileNode)
