"""The grid as a remote of blobs: who races, what is damaged, what is read ahead."""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.blobs.grid import GridRemote
from ampgrid.blobs.gridindex import COUNTER
from ampgrid.blobs.port import TOMBSTONE_SECONDS, Query
from ampgrid.caps import LitCap
from ampgrid.errors import (
    BlobAlreadyExistsError,
    BlobDeletedError,
    BlobNotFoundError,
    BlobRefusedError,
    InvalidBlobError,
    RemoteUnavailableError,
)
from ampgrid.formats.blobname import BlobName, Flag
from ampgrid.immutable import Spool
from ampgrid.testing.drive import MemoryDrive
from tests.contract.blob_remote_contract import BytesSource
from tests.unit.blobs.serving import sealed

NAME = BlobName.of("blob")
SIZE = 400_000


class GridCase(SynchronousTestCase):
    def setUp(self):
        self.drive = MemoryDrive(latency=0.001)
        self.maker = self.drive.maker
        self.root = self.drive.run(self.maker.create_directory())
        self.forgotten = []
        self.remote = self.open()

    def open(self, root=None):
        return GridRemote(root or self.root, self.maker, self.spool, self.forget)

    def spool(self):
        return Spool(Path(tempfile.gettempdir()), self.drive.random.randbytes)

    async def forget(self, cap):
        self.forgotten.append(cap)

    def run_(self, work):
        return self.drive.run(work)

    def put(self, name=NAME, data=None, remote=None):
        source = BytesSource(sealed("blob", SIZE) if data is None else data)
        self.run_((remote or self.remote).put(name, source))
        return source

    def outcome(self, work):
        try:
            self.run_(work)
        except Exception as error:
            return type(error)
        return None

    def index(self, namespace="default"):
        return self.run_(self.root.get(f"blobs-{namespace}"))


class RaceTests(GridCase):
    def test_two_clients_that_make_one_namespace_share_it(self):
        works = [
            Deferred.fromCoroutine(
                self.open().put(BlobName("new", f"b{n}"), BytesSource(sealed(n, 100)))
            )
            for n in range(5)
        ]
        self.run_(gatherResults(works))
        names = self.run_(self.root.list())
        self.assertEqual(list(names), ["blobs-new"])
        self.assertEqual(self.run_(self.remote.count(Query("new"))), 5)

    def test_a_blob_that_is_deleted_while_the_same_name_is_put_stays_deleted(self):
        other = self.open()

        class Slow(BytesSource):
            async def read(source, offset, length):  # noqa: N805
                if not offset:
                    await other.put(NAME, BytesSource(source.data))
                    await other.delete(NAME)
                return await super().read(offset, length)

        self.assertIs(self.outcome(self.remote.put(NAME, Slow(sealed(3, SIZE)))), BlobDeletedError)
        self.assertIs(self.outcome(self.remote.get(NAME)), BlobNotFoundError)

    def test_what_was_linked_while_it_was_uploaded_decides(self):
        other = self.open()
        mine, theirs = sealed("mine", SIZE), sealed("theirs", SIZE)
        for theirs_, expected in ((theirs, BlobAlreadyExistsError), (mine, None)):
            name = BlobName.of(f"b{expected is None}")

            class Slow(BytesSource):
                async def read(source, offset, length, name=name, data=theirs_):  # noqa: N805
                    if not offset:
                        await other.put(name, BytesSource(data))
                    return await super().read(offset, length)

            self.assertIs(self.outcome(self.remote.put(name, Slow(mine))), expected)
            # Of a file that nothing names nothing is kept.
            self.assertEqual(len(self.forgotten), 1)

    def test_places_are_given_once(self):
        works = [
            Deferred.fromCoroutine(
                self.open().put(BlobName.of(f"b{n}"), BytesSource(sealed(n, 99)))
            )
            for n in range(12)
        ]
        self.run_(gatherResults(works))
        found = []
        after = None
        while True:
            page = self.run_(self.remote.page(Query(), "date", after, 5))
            found += page.blob_ids
            after = page.after
            if after is None:
                break
        self.assertEqual(sorted(found), sorted(f"b{n}" for n in range(12)))


class DamageTests(GridCase):
    def test_a_file_whose_shares_are_gone_is_unavailable(self):
        self.put()
        stream = self.run_(self.remote.get(NAME))
        for shelf in self.drive.shelves:
            shelf.contents.clear()
        self.assertIs(self.outcome(stream.read()), RemoteUnavailableError)
        self.run_(stream.close())

    def test_children_that_are_no_blobs_are_not_shown(self):
        self.put(NAME, sealed(1, 100))
        index = self.index()
        lit = LitCap(b"x" * 20)
        good = {"blob": 1, "place": 7, "changed": 1.0, "size": 20, "tag": "00" * 16, "flags": 0}
        self.run_(index.set_uri("good", lit, good))
        for number, change in enumerate(
            [
                {"blob": 2},
                {"place": -1},
                {"place": "x"},
                {"place": True},
                {"changed": "x"},
                {"tag": "zz"},
                {"tag": "00" * 15},
                {"flags": 16},
                {"flags": -1},
            ]
        ):
            bad = f"bad{number}"
            self.run_(index.set_uri(bad, lit, {**good, **change}))
            self.assertIs(self.outcome(self.remote.stat(BlobName.of(bad))), InvalidBlobError, bad)
        self.run_(index.set_uri("not a name", lit, good))
        self.run_(index.create_empty_directory("directory"))
        page = self.run_(self.remote.page(Query()))
        self.assertEqual(page.blob_ids, ("blob", "good"))

    def test_a_counter_that_does_not_count_is_an_error(self):
        self.put(NAME, sealed(1, 100))
        self.run_(self.index().set_uri(COUNTER, LitCap(b""), {"blob": 1, "place": "many"}))
        work = self.remote.put(BlobName.of("next"), BytesSource(sealed(2, 100)))
        self.assertIs(self.outcome(work), InvalidBlobError)
        self.assertIs(self.outcome(self.remote.stat(BlobName.of("next"))), BlobNotFoundError)

    def test_an_index_that_is_a_file_is_an_error(self):
        self.run_(self.root.set_uri("blobs-file", LitCap(b"no directory")))
        self.assertIs(self.outcome(self.remote.count(Query("file"))), InvalidBlobError)

    def test_what_cannot_be_reached_is_unavailable(self):
        self.put(NAME, sealed(1, 100))
        self.drive.tables.unreachable.add(self.index().index)
        for work in (
            self.remote.stat(NAME),
            self.remote.get(NAME),
            self.remote.delete(NAME),
            self.remote.page(Query()),
            self.remote.namespaces(),
            self.remote.put(BlobName.of("b"), BytesSource(sealed(2, 100))),
            self.remote.set_flags(NAME, [Flag.FAILED]),
        ):
            self.assertIs(self.outcome(work), RemoteUnavailableError)


class GridTests(GridCase):
    def test_a_reader_reads_and_changes_nothing(self):
        self.put(NAME, sealed(1, 100))
        reader = self.open(self.root.read_only())
        self.assertEqual(self.run_(reader.stat(NAME)).size, 100)
        for work in (
            reader.put(BlobName.of("b"), BytesSource(sealed(2, 100))),
            reader.put(BlobName.of("b", "new"), BytesSource(sealed(2, 100))),
            reader.delete(NAME),
            reader.set_flags(NAME, [Flag.FAILED]),
        ):
            self.assertIs(self.outcome(work), BlobRefusedError)

    def test_the_file_of_a_deleted_blob_is_kept_no_longer(self):
        self.put()
        self.run_(self.remote.delete(NAME))
        self.run_(self.remote.delete(NAME))
        (cap,) = self.forgotten
        self.assertEqual(cap.get_size(), SIZE)

    def test_what_is_too_old_is_swept(self):
        for number in range(3):
            self.put(BlobName.of(f"b{number}"), sealed(number, 100))
        self.run_(self.remote.delete(BlobName.of("b0")))
        self.drive.clock.advance(TOMBSTONE_SECONDS / 2)
        self.run_(self.remote.delete(BlobName.of("b1")))
        self.assertEqual(self.run_(self.remote.sweep()), 0)
        self.drive.clock.advance(TOMBSTONE_SECONDS / 2 + 1)
        self.assertEqual(self.run_(self.remote.sweep()), 1)
        self.assertEqual(sorted(self.run_(self.index().list())), [COUNTER, "b1", "b2"])
        self.assertEqual(self.run_(self.open().page(Query(deleted=True))).blob_ids, ("b1",))

    def test_a_delete_takes_some_out_that_are_too_old(self):
        """In its own change, so that no index grows for ever and nobody need think of it."""
        for number in range(4):
            self.put(BlobName.of(f"b{number}"), sealed(number, 100))
        for number in range(2):
            self.run_(self.remote.delete(BlobName.of(f"b{number}")))
        self.drive.clock.advance(TOMBSTONE_SECONDS + 1)
        # Also by one that has not listed it before.
        self.run_(self.open().delete(BlobName.of("b2")))
        self.assertEqual(sorted(self.run_(self.index().list())), [COUNTER, "b2", "b3"])
        self.assertEqual(self.run_(self.remote.page(Query(deleted=True))).blob_ids, ("b2",))
        self.put(BlobName.of("b0"), sealed("again", 100))
        self.assertEqual(self.run_(self.remote.page(Query())).blob_ids, ("b0", "b3"))

    def test_a_listing_that_did_not_change_is_read_once(self):
        self.put(NAME, sealed(1, 100))
        self.run_(self.remote.count(Query()))
        before = self.drive.tables.calls["entries"]
        for _ in range(5):
            self.run_(self.remote.page(Query(), "date"))
        self.assertEqual(self.drive.tables.calls["entries"], before)
        self.put(BlobName.of("other"), sealed(2, 100), self.open())
        self.assertEqual(self.run_(self.remote.count(Query())), 2)

    def test_what_is_not_read_is_not_fetched(self):
        self.put(NAME, sealed("long", 8_000_000))
        stream = self.run_(self.remote.get(NAME))
        self.run_(stream.read())
        self.drive.clock.advance(100)
        held = sum(len(piece) for piece in stream._pipe.pieces)
        self.assertLess(held, 1_048_576)
        self.assertFalse(stream._ended)
        self.run_(stream.close())
        self.drive.clock.advance(1)
        self.assertTrue(stream._ended)

    def test_close_ends_what_is_under_way(self):
        class Slow(BytesSource):
            async def read(source, offset, length):  # noqa: N805
                if offset:
                    await self.remote.close()
                return await super().read(offset, length)

        self.assertIs(
            self.outcome(self.remote.put(NAME, Slow(sealed(1, SIZE)))), RemoteUnavailableError
        )
        self.assertIs(self.outcome(self.remote.count(Query())), RemoteUnavailableError)
        self.assertIs(self.outcome(self.open().stat(NAME)), BlobNotFoundError)
