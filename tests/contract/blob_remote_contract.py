"""What every remote of blobs must do, wherever it keeps them (`ampgrid.blobs.port.Remote`).

A remote proves itself by a test case that mixes `BlobRemoteContract` in::

    class MyRemoteTests(BlobRemoteContract, SynchronousTestCase):
        def open_remote(self, user):
            return MyRemote(...)       # of the same server each time; the suite closes it

        def run_one(self, work):
            return ...                 # what a coroutine comes to; errors are raised

        def pass_time(self, seconds):
            ...                        # the server's clock goes on by so much

The server is new for each test and gives each user `quota` bytes, or as many as it likes where
that is None.
"""

from __future__ import annotations

import hashlib

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, gatherResults

from ampgrid.blobs.port import (
    MAX_PIECE_BYTES,
    ORDERS,
    TAG_SIZE,
    TOMBSTONE_SECONDS,
    Page,
    Query,
)
from ampgrid.errors import (
    BadArgumentValueError,
    BlobAlreadyExistsError,
    BlobDeletedError,
    BlobNotFoundError,
    BlobQuotaError,
    InvalidBlobError,
    InvalidFlagsError,
    RemoteUnavailableError,
)
from ampgrid.formats.blobname import BlobName, Flag


def sealed(seed: object, size: int = 1000) -> bytes:
    """Return bytes that stand for a sealed blob; a remote cannot tell them from one."""
    return hashlib.shake_128(repr(seed).encode()).digest(size)


class BytesSource:
    """A source (`ampgrid.blobs.port.SealedSource`) that may lie or fail.

    Args:
        data: what it gives.
        size: what it says of its length.
        tag: what it says of its end.
        fails_at: the first offset whose reading fails with ``error``.

    Attributes:
        given: bytes that were asked for and given.
    """

    def __init__(self, data, *, size=None, tag=None, fails_at=None, error=OSError):
        self.data = data
        self.size = len(data) if size is None else size
        self.tag = data[-TAG_SIZE:] if tag is None else tag
        self.fails_at = fails_at
        self.error = error
        self.given = 0

    async def read(self, offset, length):
        assert 0 < length <= MAX_PIECE_BYTES, length
        assert 0 <= offset <= self.size, offset
        if self.fails_at is not None and offset + length > self.fails_at:
            raise self.error("the source failed")
        piece = self.data[offset : offset + length]
        self.given += len(piece)
        return piece


class BlobRemoteContract:
    """Mix into a trial test case; see the module."""

    #: Bytes that a user may have, as `open_remote` sets it up; None if there is no bound.
    quota = None
    #: Blobs of a listing of many pages.
    many = 25
    #: Examples of the test against a dict, and steps of each.
    examples = 10
    #: Whether a put that failed goes on where it had come to.
    resumes = True

    def setUp(self):
        self.remote = self.opened("alice")
        self.name = BlobName.of("blob-1")

    def opened(self, user):
        remote = self.open_remote(user)
        self.addCleanup(lambda: self.run_one(remote.close()))
        return remote

    # Shorter words for what the tests do.

    def put(self, name, data, remote=None, **how):
        source = BytesSource(data, **how)
        self.run_one((remote or self.remote).put(name, source))
        return source

    def get(self, name, offset=0, remote=None):
        async def collect():
            stream = await (remote or self.remote).get(name, offset)
            pieces = []
            while piece := await stream.read():
                assert len(piece) <= MAX_PIECE_BYTES, len(piece)
                pieces.append(piece)
            assert await stream.read() == b""
            await stream.close()
            await stream.close()
            return stream.size, stream.tag, b"".join(pieces)

        return self.run_one(collect())

    def ids(self, query=None, order_by=None, most=1000, remote=None):
        """Return all ids of a listing, and assert that its pages are as they should be."""
        remote = remote or self.remote
        found, after = [], None
        while True:
            page = self.run_one(remote.page(query or Query(), order_by, after, most))
            self.assertIsInstance(page, Page)
            self.assertLessEqual(len(page.blob_ids), most)
            found += page.blob_ids
            after = page.after
            if after is None:
                return found
            self.assertTrue(page.blob_ids, "a page with nothing in it, and more behind it")
            self.assertLessEqual(len(after), 300)
            after.encode("ascii")

    def count(self, query=None, remote=None):
        return self.run_one((remote or self.remote).count(query or Query()))

    def flags(self, name):
        return self.run_one(self.remote.get_flags(name))

    def set_flags(self, name, *flags):
        self.run_one(self.remote.set_flags(name, flags))

    def delete(self, name, remote=None):
        self.run_one((remote or self.remote).delete(name))

    def fails(self, error, work):
        with self.assertRaises(error) as caught:
            self.run_one(work)
        return caught.exception

    def assert_nothing(self, name):
        """Assert that nobody sees anything of a blob."""
        self.fails(BlobNotFoundError, self.remote.get(name))
        self.fails(BlobNotFoundError, self.remote.stat(name))
        self.fails(BlobNotFoundError, self.remote.get_flags(name))
        self.fails(BlobNotFoundError, self.remote.set_flags(name, [Flag.PENDING]))
        self.assertNotIn(name.blob_id, self.ids(Query(name.namespace)))
        self.assertEqual(self.count(Query(name.namespace)), len(self.ids(Query(name.namespace))))

    # Bytes.

    def test_what_was_put_comes_back(self):
        for size in (16, 17, 1000, 65_535, 65_536, 65_537, 200_000):
            name, data = BlobName.of(f"of-{size}"), sealed(size, size)
            self.put(name, data)
            self.assertEqual(self.get(name), (size, data[-TAG_SIZE:], data))
            stat = self.run_one(self.remote.stat(name))
            self.assertEqual((stat.size, stat.tag, stat.flags), (size, data[-TAG_SIZE:], ()))

    def test_it_comes_from_any_offset_on(self):
        data = sealed("range", 150_000)
        self.put(self.name, data)
        for offset in (0, 1, 65_535, 65_536, 65_537, 131_072, 149_999, 150_000):
            self.assertEqual(
                self.get(self.name, offset), (len(data), data[-TAG_SIZE:], data[offset:])
            )
        for offset in (-1, 150_001, 2**40):
            self.fails(BadArgumentValueError, self.remote.get(self.name, offset))

    def test_what_is_not_there_is_not_found(self):
        self.assert_nothing(self.name)
        self.fails(BlobNotFoundError, self.remote.delete(self.name))

    def test_a_stream_can_be_left_in_the_middle(self):
        data = sealed("left", 300_000)
        self.put(self.name, data)

        async def leave():
            stream = await self.remote.get(self.name)
            first = await stream.read()
            await stream.close()
            return first

        first = self.run_one(leave())
        self.assertEqual(first, data[: len(first)])
        self.assertEqual(self.get(self.name)[2], data)

    def test_the_same_id_in_two_namespaces_is_two_blobs(self):
        here, there = BlobName.of("same"), BlobName.of("same", "elsewhere")
        self.put(here, sealed("here"))
        self.assert_nothing(there)
        self.put(there, sealed("there", 500))
        self.set_flags(there, Flag.FAILED)
        self.assertEqual(self.get(here)[2], sealed("here"))
        self.assertEqual(self.get(there)[2], sealed("there", 500))
        self.assertEqual(self.flags(here), ())
        self.assertEqual(self.ids(Query("elsewhere", Flag.FAILED)), ["same"])
        self.assertEqual(self.ids(Query(filter_flag=Flag.FAILED)), [])
        self.delete(here)
        self.assert_nothing(here)
        self.assertEqual(self.get(there)[2], sealed("there", 500))
        self.assertEqual(self.ids(Query("elsewhere", deleted=True)), [])
        self.assertEqual(self.run_one(self.remote.namespaces()), ["default", "elsewhere"])

    def test_names_may_be_as_long_as_they_may(self):
        for name in (BlobName.of("a"), BlobName("N" * 64, "_" + "z" * 254), BlobName("-", "-")):
            self.put(name, sealed(name))
            self.assertEqual(self.get(name)[2], sealed(name))
            self.assertEqual(self.ids(Query(name.namespace)), [name.blob_id])

    def test_users_see_their_own_alone(self):
        other = self.opened("bob")
        self.put(self.name, sealed("alice"))
        self.fails(BlobNotFoundError, other.get(self.name))
        self.assertEqual((self.ids(remote=other), self.count(remote=other)), ([], 0))
        self.fails(BlobNotFoundError, other.delete(self.name))
        self.put(self.name, sealed("bob"), other)
        self.delete(self.name, other)
        self.assertEqual(self.get(self.name)[2], sealed("alice"))
        self.assertEqual(self.ids(Query(deleted=True)), [])

    def test_two_remotes_of_one_user_see_the_same(self):
        other = self.opened("alice")
        self.put(self.name, sealed("both"))
        self.assertEqual(self.get(self.name, remote=other)[2], sealed("both"))
        self.delete(self.name, other)
        self.assert_nothing(self.name)

    # Putting.

    def test_the_same_may_be_put_again_and_another_not(self):
        self.put(self.name, sealed("first"))
        self.set_flags(self.name, Flag.PROCESSED)
        before = self.run_one(self.remote.stat(self.name))
        self.pass_time(10)
        self.put(self.name, sealed("first"))
        self.assertEqual(self.run_one(self.remote.stat(self.name)), before)
        for other in (sealed("other"), sealed("first")[:-1], sealed("x") + sealed("first")):
            self.fails(BlobAlreadyExistsError, self.remote.put(self.name, BytesSource(other)))
        self.assertEqual(self.get(self.name)[2], sealed("first"))
        self.assertEqual(self.count(), 1)

    def test_nothing_is_seen_of_a_blob_before_it_is_whole(self):
        data = sealed("slow", 300_000)
        looks = []

        class Watched(BytesSource):
            async def read(source, offset, length):  # noqa: N805
                looks.append((await self.remote.page(Query()), await self.remote.count(Query())))
                return await super().read(offset, length)

        self.run_one(self.remote.put(self.name, Watched(data)))
        self.assertTrue(looks)
        self.assertEqual({(page.blob_ids, count) for page, count in looks}, {((), 0)})
        self.assertEqual(self.ids(), [self.name.blob_id])

    def test_a_put_that_failed_left_nothing_and_goes_on(self):
        data = sealed("resumed", 500_000)
        broken = BytesSource(data, fails_at=400_000, error=RemoteUnavailableError)
        self.fails(RemoteUnavailableError, self.remote.put(self.name, broken))
        self.assert_nothing(self.name)
        again = self.put(self.name, data)
        self.assertEqual(self.get(self.name)[2], data)
        if self.resumes:
            self.assertLess(again.given, len(data))

    def test_an_error_of_the_source_is_passed_on(self):
        class OwnError(Exception):
            pass

        source = BytesSource(sealed("own", 200_000), fails_at=100_000, error=OwnError)
        self.fails(OwnError, self.remote.put(self.name, source))
        self.assert_nothing(self.name)

    def test_another_blob_does_not_go_on_where_the_first_had_come_to(self):
        first, second = sealed("first", 300_000), sealed("second", 300_000)
        broken = BytesSource(first, fails_at=200_000, error=RemoteUnavailableError)
        self.fails(RemoteUnavailableError, self.remote.put(self.name, broken))
        self.put(self.name, second)
        self.assertEqual(self.get(self.name)[2], second)

    def test_a_source_that_does_not_give_what_it_said_is_refused(self):
        data = sealed("wrong", 100_000)
        for how in (
            {"tag": b"t" * 16},
            {"size": len(data) + 1},
            {"size": len(data) + 100_000},
            {"size": 15, "tag": b"t" * 15},
            {"size": 0, "tag": b""},
        ):
            self.fails(InvalidBlobError, self.remote.put(self.name, BytesSource(data, **how)))
            self.assert_nothing(self.name)
        self.put(self.name, data)
        self.assertEqual(self.get(self.name)[2], data)

    def test_many_are_put_and_got_at_once(self):
        blobs = {BlobName.of(f"b{n}"): sealed(n, 40_000 * n + 16) for n in range(8)}

        async def there_and_back(name, data):
            await self.remote.put(name, BytesSource(data))
            stream = await self.remote.get(name)
            pieces = []
            while piece := await stream.read():
                pieces.append(piece)
            await stream.close()
            return b"".join(pieces) == data

        works = [Deferred.fromCoroutine(there_and_back(*item)) for item in blobs.items()]
        self.assertEqual(self.run_one(gatherResults(works)), [True] * len(blobs))
        self.assertEqual(self.ids(), sorted(name.blob_id for name in blobs))

    def test_of_two_that_put_one_name_one_wins(self):
        one, two = sealed("one", 200_000), sealed("two", 200_000)
        other = self.opened("alice")

        async def tried(remote, data):
            for _ in range(500):
                try:
                    await remote.put(self.name, BytesSource(data))
                except RemoteUnavailableError:
                    continue
                except BlobAlreadyExistsError:
                    return "refused"
                else:
                    return data
            return "never"

        works = [
            Deferred.fromCoroutine(tried(self.remote, one)),
            Deferred.fromCoroutine(tried(other, two)),
        ]
        outcomes = self.run_one(gatherResults(works))
        self.assertEqual(outcomes.count("refused"), 1)
        self.assertIn(self.get(self.name)[2], outcomes)

    def test_there_is_an_end_to_what_a_user_can_have(self):
        if self.quota is None:
            return
        small = sealed("small", 1000)
        self.put(self.name, small)
        too_much = BlobName.of("too-much")
        source = BytesSource(sealed("large", self.quota))
        self.fails(BlobQuotaError, self.remote.put(too_much, source))
        self.assert_nothing(too_much)
        self.put(BlobName.of("another"), small)
        self.assertEqual(self.count(), 2)
        other = self.opened("bob")
        self.put(self.name, sealed("bob", self.quota // 2), other)
        # What was deleted counts no more.
        self.delete(self.name, other)
        self.put(too_much, sealed("bob again", self.quota // 2), other)

    # Deleting.

    def test_deleting_wins_for_ninety_days(self):
        data = sealed("deleted")
        self.put(self.name, data)
        self.put(BlobName.of("stays"), data)
        self.set_flags(self.name, Flag.PENDING)
        self.delete(self.name)
        self.assert_nothing(self.name)
        self.delete(self.name)
        for seconds in (TOMBSTONE_SECONDS - 1000, 2000):
            self.assertEqual(self.ids(), ["stays"])
            self.assertEqual(self.ids(Query(deleted=True)), [self.name.blob_id])
            self.assertEqual(self.count(Query(deleted=True)), 1)
            self.fails(BlobDeletedError, self.remote.put(self.name, BytesSource(data)))
            self.fails(BlobDeletedError, self.remote.put(self.name, BytesSource(sealed(2))))
            self.pass_time(seconds)
        self.assertEqual(self.ids(Query(deleted=True)), [])
        self.assertEqual(self.count(Query(deleted=True)), 0)
        self.fails(BlobNotFoundError, self.remote.delete(self.name))
        self.put(self.name, sealed("new"))
        self.assertEqual(self.get(self.name)[2], sealed("new"))
        self.assertEqual(self.flags(self.name), ())

    def test_deleting_ends_a_put_that_was_broken_off(self):
        data = sealed("half", 300_000)
        broken = BytesSource(data, fails_at=200_000, error=RemoteUnavailableError)
        self.fails(RemoteUnavailableError, self.remote.put(self.name, broken))
        self.fails(BlobNotFoundError, self.remote.delete(self.name))
        self.assertEqual(self.put(self.name, data).given, len(data))

    # Flags.

    def test_flags_are_set_as_a_whole(self):
        self.put(self.name, sealed("flags"))
        for flags in (
            (Flag.PENDING,),
            (Flag.FAILED, Flag.PENDING, Flag.FAILED),
            tuple(Flag),
            ("PROCESSING",),
            (),
        ):
            self.set_flags(self.name, *flags)
            expected = tuple(flag for flag in Flag if flag in flags)
            self.assertEqual(self.flags(self.name), expected)
            self.assertEqual(self.run_one(self.remote.stat(self.name)).flags, expected)
            for flag in Flag:
                shown = [self.name.blob_id] if flag in flags else []
                self.assertEqual(self.ids(Query(filter_flag=flag)), shown)
                self.assertEqual(self.count(Query(filter_flag=flag)), len(shown))

    def test_other_flags_are_refused(self):
        self.put(self.name, sealed("flags"))
        self.set_flags(self.name, Flag.PENDING)
        for flags in (["OTHER"], [Flag.FAILED, "pending"], [""], ["PENDING "], [None], "FAILED"):
            self.fails(InvalidFlagsError, self.remote.set_flags(self.name, flags))
            self.assertEqual(self.flags(self.name), (Flag.PENDING,))

    # Listings.

    def test_listings_are_in_order_and_in_pages(self):
        # As they come, by id, and by what a sort by text makes of numbers all differ.
        ids = [f"b{n * 7 % self.many:03d}" for n in range(self.many)]
        for number, blob_id in enumerate(ids):
            name = BlobName.of(blob_id, "pages")
            self.put(name, sealed(blob_id, 16 + number))
            if number % 3 == 0:
                self.set_flags(name, Flag.PROCESSED)
            self.pass_time(0.25 if number % 2 else 0)
        orders = {None: sorted(ids), "date": ids, "+date": ids, "-date": ids[::-1]}
        self.assertEqual(set(orders), set(ORDERS))
        for order_by, expected in orders.items():
            flagged = [one for one in expected if ids.index(one) % 3 == 0]
            for most in (1, 4, self.many - 1, self.many, self.many + 1):
                self.assertEqual(self.ids(Query("pages"), order_by, most), expected)
                self.assertEqual(self.ids(Query("pages", Flag.PROCESSED), order_by, most), flagged)
        self.assertEqual(self.count(Query("pages")), self.many)
        for blob_id in ids[::2]:
            self.delete(BlobName.of(blob_id, "pages"))
        for order_by, expected in orders.items():
            gone = [one for one in expected if ids.index(one) % 2 == 0]
            left = [one for one in expected if ids.index(one) % 2]
            self.assertEqual(self.ids(Query("pages", deleted=True), order_by, 4), gone)
            self.assertEqual(self.ids(Query("pages"), order_by, 4), left)

    def test_a_listing_goes_on_while_blobs_come_and_go(self):
        for order_by in ORDERS:
            space = f"going{ORDERS.index(order_by)}"
            stay = [f"m{n}" for n in range(6)]
            for blob_id in [*stay[:3], "mgone", *stay[3:]]:
                self.put(BlobName(space, blob_id), sealed(blob_id))
            first = self.run_one(self.remote.page(Query(space), order_by, None, 2))
            self.delete(BlobName(space, "mgone"))
            for blob_id in ("a", "m2-between", "z"):
                self.put(BlobName(space, blob_id), sealed(blob_id))
            found, after = list(first.blob_ids), first.after
            while after is not None:
                page = self.run_one(self.remote.page(Query(space), order_by, after, 2))
                found += page.blob_ids
                after = page.after
            self.assertEqual(len(found), len(set(found)))
            self.assertEqual(sorted(set(found) & set(stay)), stay)

    def test_a_listing_that_cannot_be_is_refused(self):
        self.put(self.name, sealed("one"))
        for most in (0, -1, 1001):
            self.fails(BadArgumentValueError, self.remote.page(Query(), None, None, most))
        for order_by in ("size", "", "Date", "- date"):
            self.fails(BadArgumentValueError, self.remote.page(Query(), order_by))
        self.fails(BadArgumentValueError, self.remote.page(Query(), "date", "no such place"))

    def test_an_empty_remote_lists_nothing(self):
        for order_by in ORDERS:
            self.assertEqual(self.ids(order_by=order_by), [])
            self.assertEqual(self.ids(Query(deleted=True), order_by), [])
        self.assertEqual(self.count(), 0)
        self.assertEqual(list(self.run_one(self.remote.namespaces())), [])

    # Ending.

    def test_who_gives_up_is_told_nothing_of_the_remote(self):
        """A call that its caller cancels ends as cancelled: nobody is to try that again."""
        data = sealed("long", 300_000)
        self.put(self.name, data)
        works = {
            "put": lambda: self.remote.put(BlobName.of("other"), BytesSource(data)),
            "get": lambda: self.remote.get(self.name),
            "stat": lambda: self.remote.stat(self.name),
            "page": lambda: self.remote.page(Query()),
            "delete": lambda: self.remote.delete(self.name),
        }
        for what, work in works.items():
            ended = []
            given_up = Deferred.fromCoroutine(work())
            given_up.addBoth(ended.append)
            self.assertEqual(ended, [], what)
            given_up.cancel()
            self.assertEqual([each.type for each in ended], [CancelledError], what)
        # What was under way may have been done, or not; the remote is as good as before.
        self.put(BlobName.of("after"), data)
        self.assertEqual(self.get(BlobName.of("after"))[2], data)

    # Everything at once, against a dict.

    def test_any_calls_in_any_order(self):
        names = [BlobName(space, blob_id) for space in ("s", "t") for blob_id in ("a", "b")]
        users = iter(f"user{n}" for n in range(1000))
        step = st.tuples(
            st.sampled_from(["put", "other", "broken", "delete", "flags", "time"]),
            st.sampled_from(names),
            st.sampled_from(list(Flag)),
        )

        @given(st.lists(step, max_size=12))
        @settings(
            max_examples=self.examples,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        def check(steps):
            remote = self.opened(next(users))
            blobs, gone = {}, {}
            for what, name, flag in steps:
                data = sealed((what == "other", name), 70_000)
                if what == "time":
                    self.pass_time(TOMBSTONE_SECONDS // 2 + 100)
                    gone = {n: age + 1 for n, age in gone.items() if age == 0}
                elif what == "broken":
                    source = BytesSource(data, fails_at=66_000, error=RemoteUnavailableError)
                    self.attempt(remote.put(name, source))
                elif what in ("put", "other"):
                    error = self.attempt(remote.put(name, BytesSource(data)))
                    if name in gone:
                        self.assertIs(error, BlobDeletedError)
                    elif blobs.get(name, (data,))[0] != data:
                        self.assertIs(error, BlobAlreadyExistsError)
                    else:
                        self.assertIsNone(error)
                        blobs.setdefault(name, (data, ()))
                elif what == "delete":
                    error = self.attempt(remote.delete(name))
                    known = name in blobs or name in gone
                    self.assertIs(error, None if known else BlobNotFoundError)
                    if name in blobs:
                        del blobs[name]
                        gone[name] = 0
                else:
                    error = self.attempt(remote.set_flags(name, [flag]))
                    self.assertIs(error, None if name in blobs else BlobNotFoundError)
                    if name in blobs:
                        blobs[name] = (blobs[name][0], (flag,))
            self.assert_holds(remote, blobs, gone)

        check()

    def attempt(self, work):
        """Return the class of the error of a coroutine, None if it has none."""
        try:
            self.run_one(work)
        except Exception as error:
            return type(error)
        return None

    def assert_holds(self, remote, blobs, gone):
        for name, (data, flags) in blobs.items():
            self.assertEqual(self.get(name, remote=remote)[2], data)
            self.assertEqual(self.run_one(remote.get_flags(name)), flags)
        for space in ("s", "t"):
            here = sorted(name.blob_id for name in blobs if name.namespace == space)
            dead = sorted(name.blob_id for name in gone if name.namespace == space)
            self.assertEqual(self.ids(Query(space), remote=remote), here)
            self.assertEqual(self.ids(Query(space, deleted=True), remote=remote), dead)
            self.assertEqual(self.count(Query(space), remote), len(here))
        spaces = sorted({name.namespace for name in (*blobs, *gone)})
        self.assertEqual(list(self.run_one(remote.namespaces())), spaces)
