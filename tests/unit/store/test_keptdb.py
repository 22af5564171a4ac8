"""The database of kept files: what a restart finds, pages, the order of what is due."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import ChkVerifierCap
from ampgrid.errors import BrokenStoreError, ConfigError, FormatError
from ampgrid.store.keptdb import FilePut, KeptDatabase
from ampgrid.store.peerdb import PeerDatabase
from ampgrid.store.sql import Sql


def cap(number: int) -> ChkVerifierCap:
    return ChkVerifierCap(number.to_bytes(16, "big"), bytes([7]) * 32, 3, 10, 1000 + number)


def put(number: int, next_at: float = 100.0) -> FilePut:
    return FilePut(cap(number), 7, float(number), next_at)


class KeptDatabaseTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "kept.sqlite"
        self.open()
        self.addCleanup(self.close)

    def open(self) -> None:
        self.database = KeptDatabase(self.path)

    def close(self) -> None:
        self.database.close()

    def again(self) -> None:
        """Close it and open it again, as a restart does."""
        self.database.close()
        self.open()

    def test_a_file_is_there_after_a_restart(self) -> None:
        self.assertTrue(self.database.record(put(1)))
        self.again()
        file = self.database.find(cap(1))
        assert file is not None
        self.assertEqual((file.cap, file.happy), (cap(1), 7))
        self.assertEqual((file.put_at, file.next_at), (1.0, 100.0))
        self.assertEqual(self.database.get(file.number), file)
        self.assertEqual(self.database.page(0, 10), [file])
        self.assertIsNone(self.database.find(cap(2)))

    def test_a_file_put_again_keeps_its_place(self) -> None:
        self.database.record(put(1))
        [file] = self.database.page(0, 10)
        file = evolve(file, next_at=50.0, failures=3, problem="x", renewed_at=4.0, good=9)
        self.database.looked_at(file)
        self.assertFalse(self.database.record(FilePut(cap(1), 9, 2_000.0, 3_000.0)))
        self.assertEqual(self.database.find(cap(1)), evolve(file, happy=9))
        # Who puts it again and asks for less lowers nothing.
        self.assertFalse(self.database.record(FilePut(cap(1), 4, 2_000.0, 3_000.0)))
        self.assertEqual(self.database.find(cap(1)), evolve(file, happy=9))

    def test_caps_that_differ_in_a_number_alone_are_different(self) -> None:
        self.database.record(put(1))
        other = evolve(put(1), cap=evolve(cap(1), size=5))
        self.assertTrue(self.database.record(other))
        self.assertTrue(self.database.drop(cap(1)))
        self.assertIsNotNone(self.database.find(other.cap))

    def test_dropped(self) -> None:
        self.database.record(put(1))
        self.assertTrue(self.database.drop(cap(1)))
        self.assertFalse(self.database.drop(cap(1)))
        self.again()
        self.assertEqual(self.database.page(0, 10), [])

    def test_what_was_found_of_a_dropped_file_goes_nowhere(self) -> None:
        self.database.record(put(1))
        [file] = self.database.page(0, 10)
        self.database.drop(cap(1))
        self.database.record(put(1))
        self.assertFalse(self.database.looked_at(evolve(file, failures=1), {"m": "1"}))
        [new] = self.database.page(0, 10)
        self.assertGreater(new.number, file.number)
        self.assertEqual(new.failures, 0)
        self.assertEqual(self.database.marks(), {"m": "1"})

    def test_every_column_comes_back(self) -> None:
        self.database.record(put(1))
        [file] = self.database.page(0, 10)
        found = evolve(
            file,
            next_at=1.5,
            renewed_at=2.5,
            renewed_servers=3,
            checked_at=4.5,
            verified_at=5.5,
            unverified=6,
            good=7,
            servers_happy=8,
            bad=9,
            suspected_at=10.5,
            repaired_at=11.5,
            skips=12,
            failures=13,
            problem="a problem",
        )
        self.assertTrue(self.database.looked_at(found))
        self.again()
        self.assertEqual(self.database.page(0, 10), [found])

    def test_a_long_problem_is_cut(self) -> None:
        self.database.record(put(1))
        [file] = self.database.page(0, 10)
        self.database.looked_at(evolve(file, problem="x" * 10_000))
        [file] = self.database.page(0, 10)
        self.assertEqual(file.problem, "x" * 200)

    def test_pages_show_every_file_once_while_others_come_and_go(self) -> None:
        self.database.record_all([put(n) for n in range(1, 26)])
        seen = []
        after, turn = 0, 0
        while page := self.database.page(after, 4):
            seen += [file.cap.size - 1000 for file in page]
            after = page[-1].number
            turn += 1
            self.database.drop(cap(turn))
            self.database.record(put(100 + turn)) if turn < 4 else None
        self.assertEqual(seen, [*range(1, 26), 101, 102, 103])

    def test_what_is_due_comes_in_order_and_in_pages(self) -> None:
        random = Random(1)
        moments = {n: float(random.randrange(12)) for n in range(1, 60)}
        self.database.record_all([put(n, at) for n, at in moments.items()])
        found = []
        place = (float("-inf"), 0)
        while page := self.database.due(place, 7.0, 5):
            found += [(file.next_at, file.number) for file in page]
            place = found[-1]
        self.assertEqual(found, sorted((at, n) for n, at in moments.items() if at <= 7.0))
        self.assertEqual(self.database.next_due(), min(moments.values()))

    def test_nothing_is_due_where_nothing_is_kept(self) -> None:
        self.assertIsNone(self.database.next_due())
        self.assertEqual(self.database.due((float("-inf"), 0), float("inf"), 5), [])
        self.assertEqual(self.database.counts(0.0), (0, 0, 0))

    def test_counts(self) -> None:
        self.database.record_all([put(n) for n in range(1, 11)])
        file = self.database.page(3, 1)[0]
        self.database.looked_at(evolve(file, failures=2))
        self.assertEqual(self.database.counts(7.0), (10, 1, 3))

    def test_marks_and_a_file_are_written_together(self) -> None:
        self.database.record(put(1))
        [file] = self.database.page(0, 10)
        self.database.set_marks({"a": "1", "b": "2"})
        self.database.looked_at(evolve(file, good=4), {"b": "3"})
        self.again()
        self.assertEqual(self.database.marks(), {"a": "1", "b": "3"})
        self.assertEqual(self.database.page(0, 10)[0].good, 4)

    def test_every_way_to_a_file_has_an_index(self) -> None:
        """Millions of files are no burden: no question reads the whole table."""
        due = (
            "SELECT * FROM kept WHERE next_at >= ? AND next_at <= ? AND (next_at > ? OR"
            " number > ?) ORDER BY next_at, number LIMIT 9"
        )
        asked = [
            ("SELECT * FROM kept WHERE number > ? ORDER BY number LIMIT 9", 1),
            (due, 4),
            ("SELECT min(next_at) FROM kept", 0),
            ("SELECT count(*) FROM kept WHERE put_at > ?", 1),
            ("SELECT count(*) FROM kept WHERE failures > 0", 0),
            ("SELECT * FROM kept WHERE storage_index = ? AND ueb_hash = ?", 2),
        ]
        for question, count in asked:

            def explain(sql: Sql, question: str = question, count: int = count) -> list[str]:
                rows = sql.execute(f"EXPLAIN QUERY PLAN {question}", (0,) * count)
                return [row[3] for row in rows.fetchall()]

            plan = self.database._database.read(explain)
            self.assertNotIn("SCAN kept", plan, question)
            self.assertFalse([step for step in plan if "TEMP B-TREE" in step], question)

    def test_another_process_is_kept_out_and_another_database_refused(self) -> None:
        self.assertRaises(ConfigError, KeptDatabase, self.path)
        other = self.path.with_name("peers.sqlite")
        PeerDatabase(other).close()
        self.assertRaises(FormatError, KeptDatabase, other)

    def test_closed(self) -> None:
        self.database.close()
        self.assertRaises(BrokenStoreError, self.database.record, put(1))
