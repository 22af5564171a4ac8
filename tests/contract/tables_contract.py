"""What the tables of directories must do, wherever they are (`ampgrid.vdrive.ports.Tables`).

Tables prove themselves by a test case that mixes `TablesContract` in and makes clients of them::

    class MyTablesTests(TablesContract, SynchronousTestCase):
        def open_clients(self, count):
            return [...]           # each an `ampgrid.vdrive.ports.Tables` of the same tables

        def run_one(self, work):
            return ...             # what a coroutine or a Deferred comes to
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, gatherResults

from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.errors import (
    ConditionFailedError,
    GridError,
    NotMutableError,
    NotReachableError,
)
from ampgrid.formats.record import EMPTY_ROOT


def slot(number: int) -> bytes:
    """Return a slot; that of each number lies elsewhere."""
    return hashlib.sha256(b"slot %d" % number).digest()


def entry(number: int, size: int = 100) -> bytes:
    """Return bytes to stand at a slot."""
    return hashlib.shake_128(b"entry %d" % number).digest(size)


class TablesContract:
    """Mix into a trial test case; see the module."""

    #: Clients that race, and names that each of them adds.
    racers = 4
    names = 10
    #: Entries of a table that is called large.
    many = 2000
    #: Examples of the test against a dict.
    examples = 15

    def setUp(self):
        self.clients = self.open_clients(self.racers)
        self.made = 0
        self.keys, self.table = self.new_table()

    def new_table(self):
        """Return the keys of a new table, and the table as the first client sees it."""
        self.made += 1
        keys = WriteKeys(hashlib.sha256(b"key %d" % self.made).digest()[:16])
        return keys, self.run_one(self.clients[0].create(keys))

    def all_views(self):
        """Return the table as every client sees it."""
        return [client.table(self.keys.fingerprint, self.keys) for client in self.clients]

    def together(self, works):
        """Run coroutines at once; return what became of each, errors too."""
        begun = [
            Deferred.fromCoroutine(work).addErrback(lambda failure: failure.value)
            for work in works
        ]
        return self.run_one(gatherResults(begun))

    def set(self, changes: Mapping[bytes, bytes | None], table=None):
        async def plan(_lookup):
            return changes

        return self.run_one((table or self.table).change(plan, list(changes)))

    def contents(self, table=None):
        """Return all entries by listing."""

        async def collect():
            pages = [page async for page in (table or self.table).entries()]
            return [pair for page in pages for pair in page]

        return self.run_one(collect())

    # One client.

    def test_a_new_table_is_empty(self):
        record = self.run_one(self.table.record())
        record.check(self.keys.fingerprint)
        self.assertEqual((record.version, record.count, record.root), (1, 0, EMPTY_ROOT))
        self.assertIsNone(self.run_one(self.table.get(slot(1))))
        self.assertEqual(self.contents(), [])

    def test_creating_again_resets_nothing(self):
        before = self.run_one(self.table.record())
        # Who is not sure whether it was made makes it again.
        again = self.run_one(self.clients[0].create(self.keys))
        self.assertEqual(self.run_one(again.record()).content, before.content)
        self.set({slot(1): entry(1)})
        for client in self.clients[:2]:
            with suppress(GridError):
                self.run_one(client.create(self.keys))
            self.assertEqual(self.run_one(self.table.get(slot(1))), entry(1))
        self.assertEqual(self.run_one(self.table.record()).version, 2)

    def test_what_was_never_made_is_not_called_absent(self):
        keys = WriteKeys(b"never made......")
        table = self.clients[0].table(keys.fingerprint, keys)

        async def plan(_lookup):
            return {slot(1): entry(1)}

        async def listing():
            return [page async for page in table.entries()]

        for work in (
            table.record(),
            table.get(slot(1)),
            table.get_many([slot(1)]),
            table.change(plan, [slot(1)]),
            listing(),
        ):
            with self.assertRaises(NotReachableError):
                self.run_one(work)

    def test_sets_replaces_and_takes_out(self):
        first = self.run_one(self.table.record())
        second = self.set({slot(1): entry(1), slot(2): entry(2)})
        self.assertEqual((second.version, second.count), (2, 2))
        self.assertEqual(second.previous, first.content)
        third = self.set({slot(1): entry(3), slot(2): None, slot(3): entry(4)})
        self.assertEqual((third.version, third.count), (3, 2))
        self.assertEqual(third.previous, second.content)
        self.assertEqual(self.run_one(self.table.record()).content, third.content)
        found = self.run_one(self.table.get_many([slot(n) for n in (1, 2, 3)]))
        self.assertEqual(dict(found), {slot(1): entry(3), slot(2): None, slot(3): entry(4)})
        last = self.set({slot(1): None, slot(3): None})
        self.assertEqual((last.version, last.count, last.root), (4, 0, EMPTY_ROOT))

    def test_nothing_is_changed_by_nothing(self):
        before = self.set({slot(1): entry(1)})
        self.assertEqual(self.set({}).content, before.content)
        self.assertEqual(self.run_one(self.table.record()).content, before.content)

    def test_a_plan_sees_its_base(self):
        self.set({slot(1): entry(1)})
        seen = []

        async def plan(lookup):
            seen.append(dict(await lookup([slot(1), slot(2)])))
            seen.append(dict(await lookup([slot(3)])))
            return {slot(3): entry(3)}

        # What a plan looks up need not have been said before.
        for said in ([slot(1), slot(2)], []):
            self.run_one(self.table.change(plan, said))
        self.assertEqual(seen[-2:], [{slot(1): entry(1), slot(2): None}, {slot(3): entry(3)}])
        self.assertIsNone(seen[1][slot(3)])

    def test_a_plan_that_declines_changes_nothing(self):
        before = self.set({slot(1): entry(1)})

        class OwnError(ConditionFailedError):
            pass

        error = OwnError("not like this")

        async def plan(lookup):
            await lookup([slot(1)])
            raise error

        with self.assertRaises(OwnError) as caught:
            self.run_one(self.table.change(plan, [slot(1)]))
        self.assertIs(caught.exception, error)
        self.assertEqual(self.run_one(self.table.record()).content, before.content)
        self.set({slot(2): entry(2)})

    def test_a_plan_that_fails_changes_nothing(self):
        before = self.set({slot(1): entry(1)})

        async def plan(_lookup):
            raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            self.run_one(self.table.change(plan, [slot(1)]))
        self.assertEqual(self.run_one(self.table.record()).content, before.content)
        self.set({slot(2): entry(2)})

    def test_who_has_no_key_reads_alone(self):
        self.set({slot(1): entry(1)})
        reader = self.clients[1].table(self.keys.fingerprint, None)
        self.assertEqual(self.run_one(reader.get(slot(1))), entry(1))
        self.assertEqual(self.contents(reader), [(slot(1), entry(1))])

        async def plan(_lookup):
            raise AssertionError("it is not asked")

        with self.assertRaises(NotMutableError):
            self.run_one(reader.change(plan, []))

    def test_a_large_table(self):
        everything = {slot(n): entry(n) for n in range(self.many)}
        record = self.set(everything)
        self.assertEqual((record.version, record.count), (2, self.many))
        for table in (self.table, self.all_views()[1]):
            self.assertEqual(self.contents(table), sorted(everything.items()))
        wanted = [slot(n) for n in (0, 7, self.many - 1, self.many)]
        found = self.run_one(self.all_views()[1].get_many(wanted))
        self.assertEqual(dict(found), {s: everything.get(s) for s in wanted})

    def test_large_entries(self):
        everything = {slot(n): entry(n, 5_700) for n in range(40)}
        self.set(everything)
        self.assertEqual(self.contents(), sorted(everything.items()))

    def test_a_listing_is_of_one_moment(self):
        everything = {slot(n): entry(n) for n in range(self.many)}
        self.set(everything)

        async def list_and_change():
            pages = []
            async for page in self.table.entries():
                pages += page
                number = len(pages)

                async def plan(_lookup, number=number):
                    return {slot(number): None, slot(self.many + number): entry(number)}

                await self.table.change(plan, [slot(number), slot(self.many + number)])
            return pages

        self.assertEqual(self.run_one(list_and_change()), sorted(everything.items()))
        self.assertNotEqual(self.contents(), sorted(everything.items()))

    def test_looking_after_it(self):
        self.set({slot(1): entry(1)})
        replicas = len(self.run_one(self.table.record()).replicas)
        self.assertEqual(self.run_one(self.table.renew()), replicas)
        for report in (self.run_one(self.table.check()), self.run_one(self.table.repair())):
            self.assertTrue(report.healthy)
            self.assertEqual((tuple(report.repaired), tuple(report.problems)), ((), ()))
            self.assertIsInstance(report.to_json(), dict)
        reader = self.clients[1].table(self.keys.fingerprint, None)
        self.assertTrue(self.run_one(reader.check()).healthy)
        self.assertEqual(self.run_one(reader.renew()), replicas)
        # Without a lease nothing is dropped at once.
        self.assertEqual(self.run_one(self.table.cancel()), replicas)
        self.assertEqual(self.run_one(self.table.get(slot(1))), entry(1))

    # Several clients, and several changes at once.

    def test_of_many_who_set_one_slot_exactly_one_wins(self):
        async def claim(table, number):
            async def plan(lookup):
                if (await lookup([slot(1)]))[slot(1)] is not None:
                    raise ConditionFailedError("it is taken")
                return {slot(1): entry(number)}

            await table.change(plan, [slot(1)])
            return number

        views = self.all_views()
        works = [claim(views[n % len(views)], n) for n in range(2 * len(views))]
        outcomes = self.together(works)
        (winner,) = [outcome for outcome in outcomes if isinstance(outcome, int)]
        losers = [outcome for outcome in outcomes if isinstance(outcome, ConditionFailedError)]
        self.assertEqual(len(losers), len(works) - 1)
        for table in views:
            self.assertEqual(self.run_one(table.get(slot(1))), entry(winner))

    def test_no_change_is_lost(self):
        async def add_all(table, first):
            for number in range(first, first + self.names):

                async def plan(_lookup, number=number):
                    return {slot(number): entry(number)}

                await table.change(plan, [slot(number)])

        views = self.all_views()
        outcomes = self.together([add_all(table, n * self.names) for n, table in enumerate(views)])
        self.assertEqual(outcomes, [None] * len(views))
        expected = {slot(n): entry(n) for n in range(len(views) * self.names)}
        for table in views:
            self.assertEqual(self.contents(table), sorted(expected.items()))
        self.assertEqual(self.run_one(self.table.record()).count, len(expected))

    def test_what_depends_on_what_was_is_counted_right(self):
        async def count_up(table):
            async def plan(lookup):
                before = (await lookup([slot(1)]))[slot(1)] or b"0"
                return {slot(1): b"%d" % (int(before) + 1)}

            await table.change(plan, [slot(1)])

        works = [count_up(table) for table in self.all_views() for _ in range(self.names)]
        self.assertEqual(self.together(works), [None] * len(works))
        self.assertEqual(self.run_one(self.table.get(slot(1))), b"%d" % len(works))

    def test_changes_at_once_of_one_client(self):
        def adding(number):
            async def plan(_lookup):
                if number % 5 == 4:
                    raise ConditionFailedError("every fifth")
                return {slot(number): entry(number)}

            return self.table.change(plan, [slot(number)])

        outcomes = self.together([adding(n) for n in range(40)])
        declined = [n for n, o in enumerate(outcomes) if isinstance(o, ConditionFailedError)]
        self.assertEqual(declined, [n for n in range(40) if n % 5 == 4])
        expected = {slot(n): entry(n) for n in range(40) if n % 5 != 4}
        self.assertEqual(self.contents(), sorted(expected.items()))

    # Against a dict.

    def test_any_changes_by_anybody(self):
        numbers = st.integers(0, 12)
        changes = st.dictionaries(numbers, st.none() | numbers, max_size=5)

        @settings(
            max_examples=self.examples,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(st.lists(st.tuples(st.integers(0, self.racers - 1), changes), max_size=8))
        def check(steps: Sequence[tuple[int, dict[int, int | None]]]) -> None:
            self.keys, self.table = self.new_table()
            views = self.all_views()
            expected: dict[bytes, bytes] = {}
            for client, step in steps:
                made = {slot(k): None if v is None else entry(v) for k, v in step.items()}
                record = self.set(made, views[client])
                for key, value in made.items():
                    expected.pop(key, None)
                    if value is not None:
                        expected[key] = value
                self.assertEqual(record.count, len(expected))
                reader = views[(client + 1) % len(views)]
                self.assertEqual(self.contents(reader), sorted(expected.items()))
                found = self.run_one(reader.get_many([slot(n) for n in range(13)]))
                self.assertEqual(dict(found), {slot(n): expected.get(slot(n)) for n in range(13)})

        check()
