"""What a peer does with blobs, and with who sends them: bounds, time, strangers."""

from __future__ import annotations

import os

from ampgrid.blobs.port import (
    MAX_NAMESPACES,
    MAX_PAGE_IDS,
    MOST_BLOB_BYTES,
    TAG_SIZE,
    TOMBSTONE_SECONDS,
)
from ampgrid.blobs.receiving import IDLE_SECONDS, STALE_SECONDS
from ampgrid.commands import blobs as commands
from ampgrid.commands import errors as e
from ampgrid.errors import BadArgumentValueError, BlobRefusedError
from ampgrid.formats.blobuser import TOKEN_CHARACTERS, account_of_node, checked_user
from ampgrid.store import servedblob_files, servedblob_rows
from ampgrid.store.servedblob_schema import ROW_BYTES
from ampgrid.store.servedblobs import SMALL_BYTES
from tests.unit.blobs.serving import LARGE, Caller, ServiceCase, sealed


class NumberTests(ServiceCase):
    def test_the_store_and_the_port_mean_the_same(self):
        self.assertEqual(servedblob_rows.TOMBSTONE_SECONDS, TOMBSTONE_SECONDS)
        self.assertEqual(servedblob_rows.MOST_NAMESPACES, MAX_NAMESPACES)
        self.assertEqual(servedblob_files.TAG_SIZE, TAG_SIZE)
        self.assertEqual(commands.MAX_PAGE_IDS, MAX_PAGE_IDS)
        self.assertEqual(commands.MAX_BLOB_BYTES, MOST_BLOB_BYTES)
        self.assertEqual(commands.MAX_PIECE_BYTES, SMALL_BYTES)


class SeedDefectTests(ServiceCase):
    """What the seed's server did wrong, and this one does not."""

    def test_a_partly_written_blob_is_not_seen_and_does_not_count_as_there(self):
        for size in (1000, LARGE):
            data, blob_id = sealed(size, size), f"of-{size}"
            put, _have, _done = self.caller.begin(data, blob_id)
            self.caller.write(put, data, 0, size - 16)
            other = Caller(self)
            name = other.name(blob_id)
            other.fails(e.NoSuchBlobError, commands.StatBlob, **name)
            other.fails(e.NoSuchBlobError, commands.ReadBlob, **name, offset=0, length=10)
            other.fails(e.NoSuchBlobError, commands.SetBlobFlags, **name, flags=1)
            self.assertEqual((other.ids(), other.count()), ([], 0))
            self.assertNotIn(blob_id, other.ids(deleted=True))
            # What came of it, left behind, is no blob of that name in anybody's way.
            self.caller.ask(commands.LeaveBlob, put=put, keep=True)
            another = sealed("another", size)
            other.put(another, blob_id)
            self.assertEqual(other.read(blob_id), another[:65_000])
            other.delete(blob_id)

    def test_no_name_leads_out_of_the_store(self):
        bad = [
            "..",
            "../x",
            "a/b",
            "/etc/passwd",
            "a\\b",
            ".",
            "",
            "x" * 256,
            "a b",
            "ä",
            "a.lock",
        ]
        for blob_id in bad:
            for command, more in (
                (commands.PutBlob, {"size": 20, "tag": b"t" * 16, "put": 1}),
                (commands.ReadBlob, {"offset": 0, "length": 1}),
                (commands.StatBlob, {}),
                (commands.DeleteBlob, {}),
                (commands.SetBlobFlags, {"flags": 1}),
            ):
                # Too long for its type, some are refused before they are sent.
                for name in (
                    {"blob_id": blob_id, "namespace": "n"},
                    {"blob_id": "b", "namespace": blob_id},
                ):
                    with self.assertRaises((e.BadArgumentError, ValueError)):
                        self.caller.ask(command, **name, **more)
        for namespace in bad:
            with self.assertRaises((e.BadArgumentError, ValueError)):
                self.caller.ask(commands.CountBlobs, namespace=namespace)
        self.caller.put(sealed("large", LARGE), "x" * 255)
        self.assertEqual(len(self.large_files()), 1)
        for path in self.large_files():
            self.assertRegex(
                str(path.relative_to(self.folder)), r"\Ablobs/large/[0-9a-f]{2}/\d+\Z"
            )

    def test_every_way_to_put_knows_the_quota_and_what_is_there(self):
        for put in (self.caller.put, self.caller.put_at_once):
            for size in (20, SMALL_BYTES):
                first, other = sealed("first", size), sealed("other", size)
                put(first)
                put(first)
                with self.assertRaises(e.BlobExistsWireError):
                    put(other)
                self.caller.delete()
                with self.assertRaises(e.BlobDeletedWireError):
                    put(first)
                self.ahead += TOMBSTONE_SECONDS
        self.caller.put(sealed("first", LARGE))
        with self.assertRaises(e.BlobExistsWireError):
            self.caller.put(sealed("other", LARGE))
        with self.assertRaises(e.BlobExistsWireError):
            self.caller.put_at_once(sealed("other", 20))
        # Room for no more than what is there.
        self.stop()
        self.start(account_quota=LARGE + ROW_BYTES)
        self.caller = Caller(self)
        for put, size in (
            (self.caller.put, 20),
            (self.caller.put, LARGE),
            (self.caller.put_at_once, 20),
        ):
            with self.assertRaises(e.NoSpaceError):
                put(sealed("more", size), "more")
        self.assertEqual((self.caller.ids(), self.caller.used()), (["blob"], LARGE + ROW_BYTES))

    def test_a_count_has_no_tombstones_and_nothing_that_is_on_its_way(self):
        for number in range(3):
            self.caller.put(sealed(number, 100), f"b{number}")
        self.caller.delete("b1")
        data = sealed("coming", LARGE)
        put, _have, _done = self.caller.begin(data, "coming")
        self.caller.write(put, data, 0, 65_000)
        self.assertEqual(self.caller.count(), 2)
        self.assertEqual(self.caller.count(deleted=True), 1)
        self.assertEqual(self.service.store.room().blobs, 2)

    def test_a_range_has_the_bytes_that_it_says(self):
        for size in (20, LARGE):
            data, blob_id = sealed(size, size), f"of-{size}"
            self.caller.put(data, blob_id)
            for offset in (0, 1, size - 17, size - 16, size - 1, size, size + 1, 2**42):
                for length in (0, 1, 16, 17, 65_000):
                    found = self.caller.read(blob_id, offset, length)
                    self.assertEqual(found, data[offset : offset + length])

    def test_the_order_of_dates_is_that_of_coming_whatever_clocks_and_files_say(self):
        for number, blob_id in enumerate(["c", "a", "b"]):
            self.ahead -= 100_000
            self.caller.put(sealed(number, LARGE), blob_id)
        for age, path in enumerate(self.large_files()):
            os.utime(path, (age, age))
        self.assertEqual(self.caller.ids(order=1), ["c", "a", "b"])
        self.assertEqual(self.caller.ids(order=2), ["b", "a", "c"])
        self.caller.ask(commands.SetBlobFlags, **self.caller.name("c"), flags=3)
        self.crash()
        self.assertEqual(self.caller.ids(order=1), ["c", "a", "b"])

    def test_a_blob_may_have_more_than_a_gibibyte(self):
        size, end = 2**30 + 5, sealed("end", 1000)
        self.stop()
        self.start(account_quota=2**31)
        self.caller = Caller(self)
        put, have, _done = self.caller.begin(end, size=size)
        self.assertEqual(have, 0)
        first = sealed("first", 1000)
        self.caller.ask(commands.WriteBlob, put=put, offset=0, data=first)
        # What lies between is a hole here: a test has no time for a gibibyte.
        receiving = next(iter(self.service._puts.values()))
        os.truncate(self.large_files()[0], size - 1000)
        receiving.incoming.written = receiving.have = size - 1000
        self.caller.ask(commands.WriteBlob, put=put, offset=size - 1000, data=end)
        self.caller.ask(commands.FinishBlob, put=put)
        self.assertEqual(self.caller.stat()["size"], size)
        self.assertEqual(self.caller.read(offset=size - 1010), bytes(10) + end)
        self.assertEqual(self.caller.read(length=1001), first + b"\0")
        self.assertEqual(self.caller.used(), size + ROW_BYTES)


class PutTests(ServiceCase):
    def test_bytes_come_in_order_and_no_more_than_announced(self):
        for size in (1000, LARGE):
            data = sealed(size, size)
            put, _have, _done = self.caller.begin(data, f"of-{size}")
            wrong = [(1, b"x"), (0, b""), (size, b"x"), (2**42, b"x")]
            for offset, piece in wrong:
                if piece:
                    self.caller.fails(
                        e.BadArgumentError, commands.WriteBlob, put=put, offset=offset, data=piece
                    )
            self.caller.write(put, data)
            self.caller.fails(
                e.BadArgumentError, commands.WriteBlob, put=put, offset=size, data=b"x"
            )
            self.caller.ask(commands.FinishBlob, put=put)
            self.assertEqual(self.caller.read(f"of-{size}"), data[:65_000])
            self.caller.fails(e.NoSuchPutError, commands.WriteBlob, put=put, offset=size, data=b"")

    def test_numbers_of_puts_that_there_are_not(self):
        self.caller.fails(e.NoSuchPutError, commands.WriteBlob, put=7, offset=0, data=b"x")
        self.caller.fails(e.NoSuchPutError, commands.FinishBlob, put=7)
        self.caller.ask(commands.LeaveBlob, put=7, keep=False)
        data = sealed("two", LARGE)
        put, _have, _done = self.caller.begin(data)
        self.caller.puts -= 1
        with self.assertRaises(e.BadArgumentError):
            self.caller.begin(data, "other")
        Caller(self).fails(e.NoSuchPutError, commands.WriteBlob, put=put, offset=0, data=b"x")

    def test_a_blob_that_does_not_end_as_announced_is_thrown_away(self):
        for size in (1000, LARGE):
            data = sealed(size, size)
            for cut, wrong in ((size, data[:-1] + b"\0"), (size - 1, data)):
                put, have, _done = self.caller.begin(data)
                self.assertEqual(have, 0)
                self.caller.write(put, wrong, 0, cut)
                self.caller.fails(e.BadBlobError, commands.FinishBlob, put=put)
                self.assertEqual((self.caller.used(), self.large_files()), (0, []))
        for data in (b"", b"x" * 15):
            with self.assertRaises((e.BadBlobError, ValueError)):
                self.caller.put_at_once(data)
            self.caller.fails(
                e.BadBlobError,
                commands.PutBlob,
                **self.caller.name(),
                size=len(data),
                tag=b"t" * 16,
                put=99,
            )
        self.caller.fails(
            e.BadBlobError,
            commands.PutBlob,
            **self.caller.name(),
            size=9,
            tag=b"t" * 16,
            put=9,
            data=b"d" * 20,
        )

    def test_it_goes_on_on_another_connection(self):
        data = sealed("goes on", LARGE)
        put, _have, _done = self.caller.begin(data)
        self.caller.write(put, data, 0, 130_000)
        self.caller.connection.abort("gone")
        self.caller = Caller(self)
        self.assertEqual(self.caller.put(data), 130_000)
        self.assertEqual(self.caller.read(offset=100_000), data[100_000:])

    def test_two_puts_of_one_name_do_not_mix(self):
        one, two = sealed("one", LARGE), sealed("two", LARGE)
        put, _have, _done = self.caller.begin(one)
        self.caller.write(put, one, 0, 65_000)
        other = Caller(self)
        with self.assertRaises(e.BusyError):
            other.begin(two)
        with self.assertRaises(e.BusyError):
            other.begin(one[:100], data=one[:100])
        # Another user's is another blob.
        Caller(self, b"q" * 20).put(two)
        self.clock.advance(STALE_SECONDS - 1)
        with self.assertRaises(e.BusyError):
            other.begin(two)
        # Nothing was heard of the first for too long.
        self.clock.advance(2)
        self.assertEqual(other.put(two), 0)
        self.caller.fails(e.NoSuchPutError, commands.WriteBlob, put=put, offset=65_000, data=b"x")
        self.caller.fails(e.NoSuchPutError, commands.FinishBlob, put=put)
        self.assertEqual(other.read(), two[:65_000])

    def test_a_put_of_which_nothing_is_heard_ends(self):
        data = sealed("silent", LARGE)
        self.caller.begin(data)
        self.caller.begin(data[:1000], "small")
        self.assertEqual(self.service.status()["puts"], 2)
        self.clock.advance(IDLE_SECONDS + 100)
        self.assertEqual(self.service.status()["puts"], 0)

    def test_deleting_ends_a_put(self):
        data = sealed("ended", LARGE)
        put, _have, _done = self.caller.begin(data)
        self.caller.write(put, data, 0, 65_000)
        other = Caller(self)
        other.fails(e.NoSuchBlobError, commands.DeleteBlob, **other.name())
        self.caller.fails(e.NoSuchPutError, commands.WriteBlob, put=put, offset=65_000, data=b"x")
        self.assertEqual((self.caller.used(), self.large_files()), (0, []))

    def test_there_are_bounds_to_what_is_under_way(self):
        data = sealed("many", 1000)
        for number in range(64):
            self.caller.begin(data, f"b{number}")
        with self.assertRaises(e.BusyError):
            self.caller.begin(data, "one-more")
        Caller(self, b"q" * 20).begin(data)


class AccountTests(ServiceCase):
    def issue(self, user):
        return self.clock.run(self.service.issue_token(user))

    def test_a_token_lets_a_user_in_from_any_node_and_nobody_else(self):
        token = self.issue("alice")
        self.assertEqual(len(token), TOKEN_CHARACTERS)
        shown = {"user": "alice", "token": token.encode()}
        self.caller.put_at_once(sealed("a", 100), **shown)
        other = Caller(self, b"q" * 20)
        self.assertEqual(other.read(**shown), sealed("a", 100))
        self.assertEqual(self.caller.ids(), [])
        for user, shown_token in (
            ("alice", token[:-1].encode()),
            ("alice", b""),
            ("alice", None),
            ("bob", token.encode()),
            ("", token.encode()),
            (None, token.encode()),
            (account_of_node(b"p" * 20), None),
            (account_of_node(b"p" * 20)[5:], None),
            ("bob", bytes(32)),
        ):
            self.caller.fails(
                e.BlobRefusedWireError, commands.GetBlobSpace, user=user, token=shown_token
            )

    def test_a_new_token_ends_the_old_one_and_taking_it_away_keeps_the_blobs(self):
        old = self.issue("alice")
        self.caller.put_at_once(sealed("a", 100), user="alice", token=old.encode())
        new = self.issue("alice")
        refused = {"user": "alice", "token": old.encode()}
        self.caller.fails(e.BlobRefusedWireError, commands.GetBlobSpace, **refused)
        self.crash()
        self.assertEqual(self.caller.read(user="alice", token=new.encode()), sealed("a", 100))
        self.assertTrue(self.clock.run(self.service.revoke_token("alice")))
        self.assertFalse(self.clock.run(self.service.revoke_token("alice")))
        self.caller.fails(
            e.BlobRefusedWireError, commands.GetBlobSpace, user="alice", token=new.encode()
        )
        again = self.issue("alice")
        (user,) = self.clock.run(self.service.users())
        self.assertEqual((user.name, user.used), ("alice", 100 + ROW_BYTES))
        self.assertNotIn(again, repr(user))
        self.assertEqual(self.caller.read(user="alice", token=again.encode()), sealed("a", 100))

    def test_nodes_may_be_kept_out(self):
        self.service._settings = type(self.service._settings)(members=False)
        self.caller.fails(e.BlobRefusedWireError, commands.GetBlobSpace)
        with self.assertRaises(BlobRefusedError):
            self.service.account(b"p" * 20, None, None)
        token = self.issue("alice")
        self.assertEqual(self.service.account(None, "alice", token), "user:alice")

    def test_names_of_users(self):
        for user in ("a", "a" * 64, "alice@example.org", "x+y", "-", "_."):
            self.assertEqual(checked_user(user), user)
        for user in ("", "a" * 65, ".", "..", "a:b", "a/b", "@a", "ä", "a b", "a\n"):
            self.assertRaises(BadArgumentValueError, checked_user, user)
            with self.assertRaises(BadArgumentValueError):
                self.issue(user)

    def test_the_quota_counts_what_is_announced(self):
        data = sealed("half", 6_000_000)
        self.caller.begin(data, "first")
        with self.assertRaises(e.NoSpaceError):
            self.caller.begin(data, "second")
        Caller(self, b"q" * 20).begin(data, "second")
        self.assertEqual(self.caller.used(), 6_000_000 + ROW_BYTES)

    def test_all_users_together_have_a_quota_and_the_disk_a_reserve(self):
        self.stop()
        self.start(quota=LARGE + 10_000, account_quota=None)
        self.caller = Caller(self)
        self.caller.put(sealed("first", LARGE))
        with self.assertRaises(e.NoSpaceError):
            Caller(self, b"q" * 20).put(sealed("second", LARGE))
        self.stop()
        self.start(reserve=2**60)
        self.caller = Caller(self)
        with self.assertRaises(e.NoSpaceError):
            self.caller.put_at_once(sealed("third", 20), "third")
        # Whoever wants to make room can.
        self.caller.delete()
        self.assertEqual(self.large_files(), [])

    def test_there_is_an_end_to_namespaces(self):
        self.patch(servedblob_rows, "MOST_NAMESPACES", 3)
        put = {"size": 20, "tag": sealed(0, 20)[-16:], "data": sealed(0, 20), "blob_id": "b"}
        for number in range(3):
            self.caller.ask(commands.PutBlob, namespace=f"n{number}", put=number, **put)
        self.caller.fails(e.NoSpaceError, commands.PutBlob, namespace="n3", put=3, **put)
        self.caller.ask(commands.PutBlob, namespace="n1", put=4, **{**put, "blob_id": "c"})


class TimeTests(ServiceCase):
    def test_an_earlier_time_is_not_written_over_a_later_one(self):
        """Two threads may come to the store in another order than the times that they bring."""
        now = self.service.time.now()
        self.store.keep_time(now + 77)
        self.store.keep_time(now + 5)
        self.crash()
        self.assertEqual(self.store.beginning.now, now + 77)

    def test_what_came_of_a_blob_is_kept_for_two_days(self):
        data = sealed("half", LARGE)
        put, _have, _done = self.caller.begin(data)
        self.caller.write(put, data, 0, 130_000)
        self.caller.ask(commands.LeaveBlob, put=put, keep=True)
        self.ahead += 86_400 * 1.9
        self.clock.run(self.service.sweep())
        self.assertEqual(self.caller.begin(data)[1], 130_000)
        self.caller.ask(commands.LeaveBlob, put=self.caller.puts, keep=True)
        self.ahead += 86_400 * 2
        self.assertEqual(self.clock.run(self.service.sweep()), 1)
        self.assertEqual((self.caller.used(), self.large_files()), (0, []))

    def test_what_is_coming_is_not_swept(self):
        data = sealed("slow", LARGE)
        put, _have, _done = self.caller.begin(data)
        self.ahead += 86_400 * 3
        self.assertEqual(self.clock.run(self.service.sweep()), 0)
        self.caller.write(put, data)
        self.caller.ask(commands.FinishBlob, put=put)

    def test_tombstones_are_swept_after_ninety_days_in_which_the_node_ran(self):
        self.caller.put(sealed("gone", 100))
        self.caller.delete()
        self.assertEqual(self.caller.used(), ROW_BYTES)
        self.ahead += TOMBSTONE_SECONDS - 100_000
        self.assertEqual(self.clock.run(self.service.sweep()), 0)
        self.stop()
        # Days in which it is off do not count.
        self.ahead += TOMBSTONE_SECONDS
        self.start()
        self.caller = Caller(self)
        self.assertEqual(self.clock.run(self.service.sweep()), 0)
        self.assertEqual(self.caller.ids(deleted=True), ["blob"])
        self.ahead += 110_000
        self.assertEqual(self.clock.run(self.service.sweep()), 1)
        self.assertEqual(self.caller.used(), 0)
