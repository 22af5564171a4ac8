"""The keeper's list: what is put on it, and when."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from ampgrid.caps import LitCap
from ampgrid.errors import FileError, NotHappyError
from tests.material import some_bytes
from tests.unit.immutable.keeping import DATA, DAY, KeeperCase


class RecordTests(KeeperCase):
    """Every put is on the list before its cap is given away."""

    def test_a_put_is_recorded_with_what_it_asked_for(self) -> None:
        world = self.make()
        cap = world.put(DATA)
        file = world.file()
        self.assertEqual(file.cap, cap.get_verify_cap())
        self.assertEqual((file.happy, file.put_at), (4, world.wall()))
        self.assertTrue(world.wall() < file.next_at <= world.wall() + 7 * DAY)
        self.assertEqual(world.keeper.status()["kept"], 1)

    def test_large_files_too_and_the_same_file_once(self) -> None:
        world = self.make()
        for _ in range(2):
            world.put(some_bytes(50_000))
        self.assertEqual(world.keeper.status()["kept"], 1)
        self.assertEqual(world.file().cap.size, 50_000)

    def test_a_file_within_its_cap_is_not_recorded(self) -> None:
        world = self.make()
        uploaded = world.clock.run(world.uploader.upload_data(b"x" * 55, world.encoding))
        self.assertIsInstance(uploaded.cap, LitCap)
        self.assertEqual(world.database.page(0, 10), [])

    def test_a_put_that_fails_is_not_recorded(self) -> None:
        world = self.make(shelves=2)
        self.assertRaises(NotHappyError, world.put, DATA)
        self.assertEqual(world.database.page(0, 10), [])

    def test_no_cap_without_a_record(self) -> None:
        """A crash, or a full disk, between put and record: nobody was told a cap."""
        world = self.make()
        world.database.close()
        error = self.assertRaises(FileError, world.put, DATA)
        self.assertIn("put it again", str(error))
        world.start(enabled=False)
        self.assertEqual(world.database.page(0, 10), [])
        shares = sum(len(shelf.contents) for shelf in world.shelves)
        self.assertEqual(shares, 5)
        world.put(DATA)
        self.assertEqual(world.keeper.status()["kept"], 1)
        self.assertEqual(sum(len(shelf.contents) for shelf in world.shelves), shares)

    def test_the_record_is_there_before_the_answer(self) -> None:
        """Whenever the process is killed: a cap that was answered is on the disk."""
        world = self.make()
        held: list[tuple[Deferred[Any], Any, tuple[Any, ...]]] = []

        class Held:
            def run(self, function: Any, /, *args: Any) -> Deferred[Any]:
                held.append((Deferred(), function, args))
                return held[-1][0]

        world.kept._groups._threads = Held()
        putting = Deferred.fromCoroutine(world.uploader.upload_data(DATA, world.encoding))
        world.clock.advance(100)
        self.assertNoResult(putting)
        [(answer, function, args)] = held
        results = function(*args)
        self.assertNoResult(putting)
        self.assertEqual(len(world.database.page(0, 10)), 1)
        answer.callback(results)
        self.successResultOf(putting)

    def test_many_at_once_share_a_commit(self) -> None:
        world = self.make()
        waiting: list[Deferred[Any]] = []
        inner = world.kept._threads

        class Slow:
            def run(self, function: Any, /, *args: Any) -> Deferred[Any]:
                result: Deferred[Any] = Deferred()
                world.clock.callLater(1, lambda: inner.run(function, *args).chainDeferred(result))
                return result

        world.kept._groups._threads = Slow()
        before = world.database._database.commits
        for n in range(50):
            data = some_bytes(500, b"%d" % n)
            work = world.uploader.upload_data(data, world.encoding)
            waiting.append(Deferred.fromCoroutine(work))
        world.clock.advance(10)
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(world.keeper.status()["kept"], 50)
        self.assertLessEqual(world.database._database.commits - before, 3)

    def test_dropped_by_either_cap(self) -> None:
        world = self.make()
        caps = [world.put(some_bytes(500, b"%d" % n)) for n in range(2)]
        drop = world.kept.drop
        self.assertTrue(world.clock.run(drop(caps[0])))
        verify = caps[1].get_verify_cap()
        self.assertTrue(world.clock.run(drop(verify)))
        self.assertFalse(world.clock.run(drop(verify)))
        self.assertFalse(world.clock.run(drop(LitCap(b"x"))))
        self.assertEqual(world.keeper.status()["kept"], 0)

    def test_what_was_put_since_a_moment(self) -> None:
        world = self.make()
        world.put(some_bytes(500, b"1"))
        world.pass_days(1)
        moment = world.wall() - 1
        world.kept.added_since(moment)
        self.assertEqual(world.kept.added_since(moment), 0)
        world.put(some_bytes(500, b"2"))
        world.put(some_bytes(500, b"1"))
        self.assertEqual(world.kept.added_since(moment), 1)
        world.restart()
        world.kept.added_since(moment)
        self.assertEqual(world.kept.added_since(moment), 1)
