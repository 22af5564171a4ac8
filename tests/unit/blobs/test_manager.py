"""The blobs of a user: putting, getting, deleting, lists, flags, and what may go wrong."""

from __future__ import annotations

import io
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.blobs import (
    Blob,
    BlobAlreadyExistsError,
    BlobDeletedError,
    BlobDoc,
    BlobManager,
    BlobName,
    BlobNotFoundError,
    ExternalBlob,
    Flag,
    InvalidBlobError,
    InvalidFlagsError,
    Priority,
    SyncStatus,
)
from ampgrid.blobs.remotes import Account
from ampgrid.errors import (
    BadArgumentValueError,
    BlobQuotaError,
    ConfigError,
    RemoteUnavailableError,
)
from ampgrid.formats.blob import external_preamble
from ampgrid.formats.blobuser import account_of_user
from ampgrid.wire.threads import InlineThreads
from tests.contract.blob_remote_contract import BytesSource
from tests.unit.blobs.blob_world import KEY, SECRET, World, content


class ManagerCase(SynchronousTestCase):
    quota = None

    def setUp(self):
        self.world = World(Path(self.mktemp()), self.quota)
        self.addCleanup(self.world.close)
        self.remote = self.world.remote()
        self.blobs = self.world.manager(remote=self.remote)

    def fails(self, error, work):
        with self.assertRaises(error) as caught:
            self.world.run(work)
        return str(caught.exception)

    def put(self, blob_id, data=None, **how):
        return self.world.put(self.blobs, blob_id, data, **how)

    def putting(self, blob_id, data, **how):
        return self.blobs.put(BlobDoc(io.BytesIO(data), blob_id), **how)

    def get(self, blob_id, namespace=None):
        return self.world.get(self.blobs, blob_id, namespace)

    def run_one(self, work):
        return self.world.run(work)

    def status(self, blob_id, namespace=None):
        return self.run_one(self.blobs.status(blob_id, namespace))

    def restart(self, **how):
        """End as if killed: nothing is told to anybody, and the store is opened again."""
        self.run_one(self.blobs.close())
        self.remote = self.world.remote()
        self.blobs = self.world.manager(remote=self.remote, **how)

    def failing(self, *steps, times=1000):
        self.remote.weather.fails.update(dict.fromkeys(steps, times))

    def mend(self):
        self.remote.weather.fails.clear()

    def put_raw(self, blob_id, data):
        """Put bytes to the remote that no manager made."""
        self.run_one(self.world.remote().put(BlobName.of(blob_id), BytesSource(data)))


class PutAndGetTests(ManagerCase):
    def test_what_was_put_comes_back_from_here_and_from_there(self):
        other = self.world.manager("b")
        for size in (0, 1, 1000, 65_535, 65_536, 65_537, 1_048_576, 3_000_000):
            data = content(size, size)
            self.put(f"of-{size}", data)
            self.assertEqual(self.get(f"of-{size}"), data)
            self.assertEqual(self.status(f"of-{size}"), SyncStatus.SYNCED)
            self.assertEqual(self.world.get(other, f"of-{size}"), data)
            self.assertEqual(self.world.run(other.status(f"of-{size}")), SyncStatus.SYNCED)
        # The second time without the remote.
        steps = len(self.remote.weather.seen)
        self.assertEqual(self.get("of-1000"), content(1000, 1000))
        self.assertEqual(len(self.remote.weather.seen), steps)

    def test_what_is_not_there_is_none(self):
        self.assertIsNone(self.get("missing"))
        self.assertIsNone(self.status("missing"))
        self.assertEqual(self.run_one(self.blobs.sync_progress()), {})

    def test_the_remote_sees_no_plaintext(self):
        secret_words = b"words that are nobody's business " * 10
        self.put("words", secret_words)
        stored = self.run_one(self.read_raw("words"))
        for at in range(len(secret_words) - 16):
            self.assertNotIn(secret_words[at : at + 16], stored)

    async def read_raw(self, blob_id):
        stream = await self.remote.get(BlobName.of(blob_id))
        pieces = []
        while piece := await stream.read():
            pieces.append(piece)
        return b"".join(pieces)

    def test_the_same_id_in_two_namespaces_is_two_blobs(self):
        self.put("same", b"here")
        self.put("same", b"there", namespace="other")
        self.assertEqual((self.get("same"), self.get("same", "other")), (b"here", b"there"))
        fresh = self.world.manager("b")
        self.assertEqual(self.world.get(fresh, "same", "other"), b"there")
        self.assertEqual(self.world.get(fresh, "same"), b"here")
        self.run_one(self.blobs.set_priority("same", Priority.URGENT, "other"))
        self.run_one(self.blobs.delete("same"))
        self.assertIsNone(self.get("same"))
        self.assertEqual(self.get("same", "other"), b"there")
        self.assertEqual(self.run_one(self.blobs.count()), {"count": 0})
        self.assertEqual(self.run_one(self.blobs.count("other")), {"count": 1})
        self.assertEqual(self.run_one(self.blobs.local_list("other")), ["same"])

    def test_a_blob_of_one_name_is_not_taken_for_another(self):
        """The remote gives the bytes of one under the name of the other."""
        self.put("one", b"one")
        data = self.run_one(self.read_raw("one"))
        self.put_raw("two", data)
        fresh = self.world.manager("b")
        with self.assertRaises(InvalidBlobError):
            self.world.get(fresh, "two")

    def test_reading_in_parts_and_at_any_place(self):
        data = content("parts", 300_000)
        self.put("parts", data)
        for local in (True, False):
            manager = self.blobs if local else self.world.manager(local=False)
            blob = self.run_one(manager.get("parts"))
            self.assertIsInstance(blob, Blob)
            self.assertEqual((blob.size, blob.name), (300_000, BlobName.of("parts")))
            parts = []
            while part := self.run_one(blob.read(70_001)):
                parts.append(part)
            self.assertEqual(b"".join(parts), data)
            for at in (0, 1, 65_535, 65_536, 131_072, 262_144, 299_999, 300_000):
                for length in (0, 1, 65_536, 100_000, 300_000):
                    self.assertEqual(
                        self.run_one(blob.read_at(at, length)), data[at : at + length]
                    )
            for at in (-1, 300_001):
                self.fails(BadArgumentValueError, blob.seek(at))
            self.run_one(blob.seek(250_000))
            file = io.BytesIO()
            self.assertEqual(self.run_one(blob.save(file, InlineThreads())), 50_000)
            self.assertEqual(file.getvalue(), data[250_000:])
            self.run_one(blob.close())

    def test_without_a_local_store(self):
        manager = self.world.manager(local=False)
        self.world.put(manager, "past", content("past", 200_000))
        self.assertEqual(self.world.get(manager, "past"), content("past", 200_000))
        self.assertIsNone(self.world.get(manager, "missing"))
        self.assertEqual(self.get("past"), content("past", 200_000))
        self.fails(BlobAlreadyExistsError, manager.put(BlobDoc(io.BytesIO(b"x"), "past")))
        self.run_one(manager.delete("past"))
        self.fails(BlobNotFoundError, manager.delete("missing"))
        self.fails(BadArgumentValueError, manager.local_list())
        self.fails(BadArgumentValueError, manager.sync())
        doc = BlobDoc(io.BytesIO(b"x"), "x")
        self.fails(BadArgumentValueError, manager.put(doc, local_only=True))

    def test_without_a_remote(self):
        alone = self.world.manager("alone", remote=None)
        self.world.put(alone, "x", b"content")
        self.assertEqual(self.world.get(alone, "x"), b"content")
        self.assertIsNone(self.world.get(alone, "y"))
        for work in (alone.sync(), alone.count(), alone.get_flags("x"), alone.remote_list()):
            self.fails(BadArgumentValueError, work)
        self.run_one(alone.delete("x"))
        self.assertEqual(self.world.local(alone), [])

    def test_past_the_local_store(self):
        data = content("up", 500_000)
        self.run_one(self.blobs.upload(BlobDoc(io.BytesIO(data), "up")))
        self.assertEqual(self.world.local(self.blobs), [])
        blob = self.run_one(self.blobs.download("up"))
        self.assertEqual(self.run_one(blob.read()), data)
        self.run_one(blob.close())
        self.assertEqual(self.world.local(self.blobs), [])
        self.assertIsNone(self.run_one(self.blobs.download("missing")))


class RefusalTests(ManagerCase):
    def test_a_short_secret_is_refused(self):
        """The seed took any, and of one of 64 bytes or fewer made an empty key."""
        for secret in (b"", b"secret", b"s" * 31):
            with self.assertRaises(BadArgumentValueError) as caught:
                self.world.manager(secret=secret)
            self.assertIn("32", str(caught.exception))
            self.assertNotIn("secret of", str(caught.exception).replace("secret of blobs", ""))

    def test_secrets_are_not_shown(self):
        self.run_one(self.blobs.local_list())
        shown = [
            repr(self.blobs),
            repr(self.blobs._transfers(self.blobs._store)),
            repr(self.blobs._passing()),
            repr(self.blobs._syncing(self.blobs._store)),
            repr(Account("alice", "a token")),
        ]
        for text in shown:
            self.assertNotIn(repr(SECRET)[2:-1], text)
            self.assertNotIn("a token", text)

    def test_arguments_that_cannot_be(self):
        for how in (
            {"user": "../alice"},
            {"user": ""},
            {"user": "a" * 65},
            {"key": b""},
            {"key": None},
            {"transfers": 0},
            {"attempts": 0},
        ):
            with self.assertRaises(BadArgumentValueError):
                self.world.manager(**how)
        with self.assertRaises(BadArgumentValueError):
            BlobManager(None, "gopher://somewhere/", None, SECRET, "alice")
        short = self.world.manager("c", key=b"k" * 31)
        self.fails(BadArgumentValueError, short.local_list())

    def test_whoever_can_have_a_token_can_have_a_store(self):
        for user in ("alice@example.org", "x+y", "a.b", "_."):
            account_of_user(user)
            blobs = self.world.manager(remote=self.world.remote(user), user=user)
            self.world.put(blobs, "photo", b"x")
            self.assertEqual(self.world.get(blobs, "photo"), b"x")
            self.assertTrue((self.world.folder / "a" / f"{user}_blobs.db").exists())

    def test_names_that_cannot_be(self):
        for blob_id in ("", "a/b", "..", "a b", "ä", "x" * 256, "a'b"):
            for work in (
                lambda b=blob_id: self.putting(b, b"x"),
                lambda b=blob_id: self.blobs.get(b),
                lambda b=blob_id: self.blobs.delete(b),
                lambda b=blob_id: self.blobs.get_flags(b),
                lambda b=blob_id: self.blobs.set_flags(b, [Flag.PENDING]),
            ):
                self.fails(BadArgumentValueError, work())
        for namespace in ("a/b", "x" * 65, "."):
            self.fails(BadArgumentValueError, self.putting("x", b"x", namespace=namespace))
            self.fails(BadArgumentValueError, self.blobs.local_list(namespace))
            self.fails(BadArgumentValueError, self.blobs.remote_list(namespace))
        self.assertEqual(self.world.local(self.blobs), [])

    def test_content_of_another_size_leaves_nothing(self):
        for size in (0, 999, 1001, 70_000, 5_000_000):
            for local_only in (True, False):
                self.fails(
                    BadArgumentValueError,
                    self.putting("sized", content(1), size=size, local_only=local_only),
                )
                self.assertIsNone(self.status("sized"))
                self.assertIsNone(self.get("sized"))
        self.put("sized", content(1), size=1000)

    def test_a_file_whose_size_nobody_knows(self):
        class Stream(io.BytesIO):
            def seek(self, *_):
                raise io.UnsupportedOperation

            tell = seek

        self.fails(BadArgumentValueError, self.blobs.put(BlobDoc(Stream(b"abc"), "s")))
        self.run_one(self.blobs.put(BlobDoc(Stream(b"abc"), "s"), 3))
        self.assertEqual(self.get("s"), b"abc")

    def test_a_file_is_read_from_where_it_stands(self):
        file = io.BytesIO(b"before and after")
        file.seek(11)
        self.run_one(self.blobs.put(BlobDoc(file, "rest")))
        self.assertEqual(self.get("rest"), b"after")

    def test_a_file_that_fails_leaves_nothing(self):
        class Broken(io.BytesIO):
            def read(self, *_):
                raise OSError("the disk has a hole")

        self.fails(OSError, self.blobs.put(BlobDoc(Broken(b"abc"), "broken")))
        self.assertIsNone(self.status("broken"))
        self.fails(BadArgumentValueError, self.blobs.put(BlobDoc(io.StringIO("text"), "text"), 4))

    def test_a_name_is_taken_once(self):
        self.put("taken", b"first")
        self.fails(BlobAlreadyExistsError, self.putting("taken", b"second"))
        self.fails(BlobAlreadyExistsError, self.putting("taken", b"first"))
        self.assertEqual(self.get("taken"), b"first")

    def test_a_name_that_another_store_took(self):
        other = self.world.manager("b")
        self.world.put(other, "taken", b"first")
        self.fails(BlobAlreadyExistsError, self.putting("taken", b"second"))
        # Nothing is left that would block another try.
        self.assertIsNone(self.status("taken"))
        self.assertEqual(self.get("taken"), b"first")

    def test_the_same_content_that_another_store_put_is_the_same_blob(self):
        data = content("both", 100_000)
        self.world.put(self.world.manager("b"), "both", data)
        self.put("both", data)
        self.assertEqual(self.status("both"), SyncStatus.SYNCED)
        self.assertEqual(self.get("both"), data)

    def test_the_wrong_key(self):
        self.put("x", b"content")
        self.run_one(self.blobs.close())
        wrong = self.world.manager(key=bytes(32))
        self.fails(ConfigError, wrong.get("x"))

    def test_another_secret_opens_nothing(self):
        self.put("x", b"content")
        self.run_one(self.blobs.close())
        wrong = self.world.manager(secret=b"w" * 32)
        self.fails(InvalidBlobError, wrong.get("x"))
        elsewhere = self.world.manager("b", secret=b"w" * 32)
        self.fails(InvalidBlobError, elsewhere.get("x"))
        self.assertEqual(self.run_one(elsewhere.status("x")), SyncStatus.FAILED_DOWNLOAD)

    def test_after_the_end(self):
        self.put("x", b"content")
        self.run_one(self.blobs.close())
        self.run_one(self.blobs.close())
        self.fails(BadArgumentValueError, self.blobs.get("x"))


class QuotaTests(ManagerCase):
    quota = 100_000

    def test_a_remote_without_room(self):
        data = content("large", 200_000)
        self.fails(BlobQuotaError, self.putting("large", data))
        self.assertEqual(self.status("large"), SyncStatus.FAILED_UPLOAD)
        self.assertEqual(self.get("large"), data)
        # It is not tried again for ever, but when asked to.
        self.assertEqual(self.run_one(self.blobs.sync()).failed, [])
        self.assertEqual(self.run_one(self.blobs.ask_again()), 1)
        report = self.run_one(self.blobs.sync())
        self.assertEqual([name.blob_id for name, _ in report.failed], ["large"])
        self.world.server.quota = None
        self.fails(BlobAlreadyExistsError, self.putting("large", data[:-1]))
        self.put("large", data)
        self.assertEqual(self.status("large"), SyncStatus.SYNCED)


class LocalOnlyTests(ManagerCase):
    def test_the_remote_never_hears_of_it(self):
        self.put("mine", b"content", local_only=True)
        self.assertEqual(self.status("mine"), SyncStatus.LOCAL_ONLY)
        self.run_one(self.blobs.sync())
        self.run_one(self.blobs.send_missing())
        self.assertEqual(self.get("mine"), b"content")
        self.assertEqual(self.run_one(self.blobs.remote_list()), [])
        self.assertNotIn("mine", [blob_id for _step, blob_id in self.remote.weather.seen])
        self.run_one(self.blobs.delete("mine"))
        self.assertIsNone(self.get("mine"))
        self.assertNotIn("delete", [step for step, _ in self.remote.weather.seen])

    def test_it_is_not_dropped_for_what_the_remote_says(self):
        other = self.world.manager("b")
        self.put("mine", b"content", local_only=True)
        self.world.put(other, "mine", b"another")
        self.run_one(self.blobs.sync())
        self.assertEqual(self.get("mine"), b"content")
        self.run_one(other.delete("mine"))
        self.run_one(self.blobs.sync())
        self.assertEqual(self.get("mine"), b"content")


class DeleteTests(ManagerCase):
    def test_it_is_gone_here_and_there(self):
        self.put("gone", b"content")
        self.run_one(self.blobs.delete("gone"))
        self.assertIsNone(self.get("gone"))
        self.assertIsNone(self.status("gone"))
        self.assertEqual(self.run_one(self.blobs.remote_list()), [])
        self.assertEqual(self.run_one(self.blobs.remote_list(deleted=True)), ["gone"])
        self.assertIsNone(self.world.get(self.world.manager("b"), "gone"))

    def test_what_is_not_there(self):
        self.fails(BlobNotFoundError, self.blobs.delete("missing"))
        self.assertIsNone(self.status("missing"))

    def test_what_only_the_remote_has(self):
        self.world.put(self.world.manager("b"), "there", b"content")
        self.run_one(self.blobs.delete("there"))
        self.assertEqual(self.run_one(self.blobs.remote_list()), [])

    def test_a_remote_that_does_not_answer_is_told_later(self):
        """The seed looked at no answer, and had forgotten the blob by then."""
        self.put("gone", b"content")
        self.failing("delete")
        self.fails(RemoteUnavailableError, self.blobs.delete("gone"))
        self.assertIsNone(self.get("gone"))
        self.restart()
        self.assertEqual(self.status("gone"), SyncStatus.PENDING_DELETE)
        self.assertEqual(self.run_one(self.blobs.remote_list()), ["gone"])
        self.fails(BlobDeletedError, self.putting("gone", b"again"))
        report = self.run_one(self.blobs.sync())
        self.assertEqual(report.deleted_there, 1)
        self.assertEqual(self.run_one(self.blobs.remote_list()), [])
        self.assertIsNone(self.status("gone"))

    def test_an_answer_that_was_lost(self):
        self.put("gone", b"content")
        self.failing("delete-answer")
        self.fails(RemoteUnavailableError, self.blobs.delete("gone"))
        self.restart()
        self.assertEqual(self.run_one(self.blobs.sync()).failed, [])
        self.assertIsNone(self.status("gone"))

    def test_a_name_is_not_used_again_while_the_remote_remembers(self):
        self.put("gone", b"content")
        self.run_one(self.blobs.delete("gone"))
        self.fails(BlobDeletedError, self.putting("gone", b"again"))
        self.assertIsNone(self.status("gone"))
        self.world.clock.advance(91 * 86_400)
        self.put("gone", b"again")
        self.assertEqual(self.get("gone"), b"again")

    def test_while_it_is_being_sent(self):
        data = content("sent", 3_000_000)

        async def delete_soon():
            over = Deferred()
            self.world.clock.callLater(0.05, over.callback, None)
            await over
            await self.blobs.delete("sent")

        outcomes = self.world.together(self.putting("sent", data), delete_soon())
        self.assertIsNone(outcomes[1])
        self.assertIsNone(self.get("sent"))
        self.assertEqual(self.run_one(self.blobs.remote_list()), [])
        self.assertIsNone(self.status("sent"))


class FlagTests(ManagerCase):
    def test_flags(self):
        self.put("flagged")
        self.assertEqual(self.run_one(self.blobs.get_flags("flagged")), [])
        self.run_one(self.blobs.set_flags("flagged", ["PROCESSED", Flag.PENDING]))
        self.assertEqual(
            self.run_one(self.blobs.get_flags("flagged")), [Flag.PENDING, Flag.PROCESSED]
        )
        self.assertIsNone(self.run_one(self.blobs.get_flags("missing")))
        self.assertIsNone(self.run_one(self.blobs.get_flags("flagged", "other")))
        self.fails(BlobNotFoundError, self.blobs.set_flags("missing", [Flag.PENDING]))
        for flags in (["DONE"], [Flag.PENDING, ""], "PENDING"):
            self.fails(InvalidFlagsError, self.blobs.set_flags("flagged", flags))
        self.assertEqual(
            self.run_one(self.blobs.get_flags("flagged")), [Flag.PENDING, Flag.PROCESSED]
        )

    def test_lists(self):
        for blob_id in ("c", "a", "b"):
            self.put(blob_id)
            self.world.clock.advance(1)
        self.run_one(self.blobs.set_flags("a", [Flag.PROCESSING]))
        listed = lambda **how: self.run_one(self.blobs.remote_list(**how))  # noqa: E731
        self.assertEqual(listed(), ["a", "b", "c"])
        self.assertEqual(listed(order_by="date"), ["c", "a", "b"])
        self.assertEqual(listed(order_by="+date"), ["c", "a", "b"])
        self.assertEqual(listed(order_by="-date"), ["b", "a", "c"])
        self.assertEqual(listed(filter_flag="PROCESSING"), ["a"])
        self.assertEqual(listed(filter_flag=Flag.FAILED), [])
        self.assertEqual(self.run_one(self.blobs.count()), {"count": 3})
        self.assertEqual(self.run_one(self.blobs.count(filter_flag=Flag.PROCESSING)), {"count": 1})
        self.assertEqual(self.run_one(self.blobs.local_list()), ["c", "a", "b"])
        self.fails(InvalidFlagsError, self.blobs.remote_list(filter_flag="NONE"))
        self.fails(BadArgumentValueError, self.blobs.remote_list(order_by="size"))


class ExternalTests(ManagerCase):
    def test_a_blob_of_another_scheme_is_handed_over_as_it_is(self):
        raw = external_preamble(2, b"pgp") + content("mail", 150_000)
        self.put_raw("mail", raw)
        for manager in (self.blobs, self.world.manager(local=False), self.blobs):
            blob = self.run_one(manager.get("mail"))
            self.assertIsInstance(blob, ExternalBlob)
            self.assertFalse(hasattr(blob, "read"))
            self.assertEqual((blob.scheme, blob.size), (2, len(raw)))
            self.assertEqual(blob.preamble, external_preamble(2, b"pgp"))
            self.assertEqual(self.run_one(blob.read_raw(10)), raw[:10])
            self.assertEqual(self.run_one(blob.read_raw()), raw[10:])
            self.assertEqual(self.run_one(blob.read_raw(5)), b"")
            self.run_one(blob.close())
        blob = self.run_one(self.blobs.get("mail"))
        file = io.BytesIO()
        self.assertEqual(self.run_one(blob.save_raw(file, InlineThreads())), len(raw))
        self.assertEqual(file.getvalue(), raw)

    def test_it_is_synced_as_others_are(self):
        raw = external_preamble(7) + content("mail", 100)
        self.put_raw("mail", raw)
        self.assertEqual(self.run_one(self.blobs.sync()).fetched, 1)
        self.assertEqual(self.world.local(self.blobs), ["mail"])


class KeyTests(ManagerCase):
    def test_another_key_and_a_copy(self):
        self.put("x", b"content")
        self.run_one(self.blobs.rekey(b"n" * 32))
        self.put("y", b"more")
        self.run_one(self.blobs.export(self.world.folder / "copy" / "alice_blobs.db", KEY))
        self.assertEqual(self.run_one(self.blobs.check()), [])
        self.restart(key=b"n" * 32)
        self.assertEqual(self.get("x"), b"content")
        copy = self.world.manager("copy")
        self.assertEqual(self.world.local(copy), ["x", "y"])
        self.assertEqual(self.world.get(copy, "y"), b"more")
