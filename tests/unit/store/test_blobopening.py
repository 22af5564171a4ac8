"""Opening a local store of blobs with a key or a passphrase, over both drivers."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import ampgrid.store
from ampgrid.crypto.sealed import Cost
from ampgrid.errors import BadArgumentValueError, ConfigError, FormatError, StoreError
from ampgrid.formats.blobname import BlobName
from ampgrid.store.blobopening import BlobStoreFiles
from ampgrid.store.blobrecord import Priority, SyncStatus
from ampgrid.store.blobwriting import Incoming
from ampgrid.store.filesystem import PosixFileSystem
from tests.drivers import OtherDriver

CHEAP = Cost(passes=1, memory_kib=64, lanes=1)
KEY = bytes(range(32))
NAME = BlobName.of("blob")


class PowerCutError(Exception):
    """What ends a process in the middle."""


class CutFiles(PosixFileSystem):
    """The disk, until the power goes before a certain rename."""

    renames_left = 0

    def rename(self, old, new):
        if not self.renames_left:
            raise PowerCutError
        self.renames_left -= 1
        super().rename(old, new)


class OpeningTests(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp()) / "deep"
        self.folder.parent.mkdir(parents=True)
        self.files = BlobStoreFiles.at(self.folder / "blobs.db")

    def open(self, opener, files=None):
        store = (files or self.files).open(opener, cost=CHEAP)
        self.addCleanup(store.close)
        return store

    def make(self, opener):
        """Make a store with a blob in it and close it."""
        store = self.open(opener)
        incoming = Incoming.putting(
            store, NAME, status=SyncStatus.LOCAL_ONLY, priority=Priority.LOW, now=1.0
        )
        incoming.add([b"row"])
        incoming.finish(3, 3)
        store.close()

    def assert_opens(self, opener, files=None):
        store = self.open(opener, files)
        self.assertEqual(store.rows(store.find(NAME), 0, 1), [b"row"])
        store.close()

    def assert_refused(self, opener, error=ConfigError):
        with self.assertRaises(error) as caught:
            self.open(opener)
        return str(caught.exception)

    def test_a_key_or_a_passphrase_opens_it(self):
        for opener, others in ((KEY, (bytes(32), "pass")), ("pass", ("Pass", KEY))):
            self.make(opener)
            self.assert_opens(opener)
            for other in others:
                self.assertIn("not the right one", self.assert_refused(other))
            for path in (self.files.path, self.files.key_path):
                self.assertEqual(path.stat().st_mode & 0o777, 0o600)
                path.unlink()

    def test_directories_are_made_or_it_is_said_why_not(self):
        deep = BlobStoreFiles.at(self.folder / "a" / "b" / "c" / "blobs.db")
        self.open(KEY, deep).close()
        self.assertEqual((self.folder / "a").stat().st_mode & 0o777, 0o700)
        (self.folder / "file").write_bytes(b"")
        for place in ("file/blobs.db", "file/deeper/blobs.db"):
            with self.assertRaises(ConfigError):
                self.open(KEY, BlobStoreFiles.at(self.folder / place))

    def test_what_is_no_key_is_refused_before_anything_is_made(self):
        for opener in (b"", b"A" * 31, ""):
            self.assert_refused(opener, BadArgumentValueError)
            self.assertFalse(self.files.path.exists())
            self.assertFalse(self.files.key_path.exists())

    def test_a_key_needs_no_key_file(self):
        self.make(KEY)
        self.files.key_path.unlink()
        self.assert_refused(bytes(32), FormatError)
        self.assert_opens(KEY)
        self.assertTrue(self.files.key_path.exists())

    def test_a_passphrase_without_its_key_file_says_so(self):
        self.make("pass")
        self.files.key_path.unlink()
        self.assertIn("put it back", self.assert_refused("pass"))

    def test_a_damaged_key_file_is_told_of(self):
        self.make("pass")
        for content in (b"", b"rubbish", bytes(300)):
            self.files.key_path.write_bytes(content)
            self.assert_refused("pass", FormatError)

    def test_a_store_that_was_never_finished_is_made_anew(self):
        """The process ended between the key file and the database."""
        self.make("pass")
        self.files.path.unlink()
        self.make("another")
        self.assert_opens("another")

    def test_a_database_that_was_away_opens_when_it_is_back(self):
        self.make("pass")
        away = self.files.path.with_name("away")
        self.files.path.rename(away)
        self.make("pass")
        away.rename(self.files.path)
        self.assert_opens("pass")

    def test_another_key_is_given(self):
        openers = [KEY, "pass", "another", bytes(32)]
        self.make(openers[0])
        for former, new in itertools.pairwise(openers):
            store = self.open(former)
            with self.assertRaises(ConfigError):
                self.files.rekey(store, "wrong", new, cost=CHEAP)
            self.files.rekey(store, former, new, cost=CHEAP)
            store.close()
            self.assertIn("not the right one", self.assert_refused(former))
            self.assert_opens(new)

    def test_a_power_cut_while_another_key_is_given(self):
        """Before the first rename, and before the second."""
        for cut, opens, other in ((0, "old", "new"), (1, "new", "old")):
            self.make("old")
            files = CutFiles()
            store = self.open("old", BlobStoreFiles(self.files.path, files))
            files.renames_left = cut
            with self.assertRaises(PowerCutError):
                BlobStoreFiles(self.files.path, files).rekey(store, "old", "new", cost=CHEAP)
            store.close()
            self.assert_refused(other)
            self.assert_opens(opens)
            # What was half done is over now.
            self.assertIn("not the right one", self.assert_refused(other))
            self.files.path.unlink()

    def test_a_database_that_could_not_be_given_another_key_opens_with_the_former(self):
        self.make("old")
        store = self.open("old")

        def fail(_key):
            raise StoreError("the disk is full")

        self.patch(store, "rekey", fail)
        with self.assertRaises(StoreError):
            self.files.rekey(store, "old", "new", cost=CHEAP)
        store.close()
        self.assertIn("cut short", self.assert_refused("new"))
        self.assert_opens("old")
        self.assertIn("not the right one", self.assert_refused("new"))

    def test_a_copy(self):
        self.make("old")
        store = self.open("old")
        copy = BlobStoreFiles.at(self.folder / "copies" / "copy.db")
        copy.export(store, KEY)
        with self.assertRaises(ConfigError):
            copy.export(store, KEY)
        store.close()
        self.assert_opens(KEY, copy)
        self.assert_opens("old")

    def test_one_process_at_a_time(self):
        self.make(KEY)
        store = self.open(KEY)
        program = (
            "import sys; from pathlib import Path\n"
            "from ampgrid.store.blobopening import BlobStoreFiles\n"
            "try: BlobStoreFiles.at(Path(sys.argv[1])).open(bytes(range(32)))\n"
            "except Exception as error: print(type(error).__name__, error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(self.files.path.absolute())],
            capture_output=True,
            text=True,
            check=True,
            env=dict(os.environ),
            cwd=Path(ampgrid.store.__file__).parents[2],
        )
        self.assertIn("ConfigError", done.stdout)
        self.assertIn("in use by another process", done.stdout)
        store.close()


class OtherDriverOpeningTests(OtherDriver, OpeningTests):
    """The same over pysqlcipher3."""


class TwoDriversTests(OpeningTests):
    """What one driver wrote and the other one is to read."""

    skip = OtherDriver.skip

    def use(self, driver):
        self.patch(os, "environ", {**os.environ, "AMPGRID_SQLCIPHER": driver})

    def test_the_error_says_what_to_do(self):
        for driver, other in (("sqlcipher3", "pysqlcipher3"), ("pysqlcipher3", "sqlcipher3")):
            self.use(driver)
            self.make("pass")
            self.use(other)
            self.assertIn(f"AMPGRID_SQLCIPHER={driver}", self.assert_refused("pass"))
            self.files.path.unlink()

    def test_a_copy_for_the_other_driver(self):
        self.use("sqlcipher3")
        self.make("pass")
        store = self.open("pass")
        copy = BlobStoreFiles.at(self.folder / "copy.db")
        copy.export(store, "other", 3, cost=CHEAP)
        store.close()
        self.use("pysqlcipher3")
        self.assert_opens("other", copy)
        store = self.open("other", copy)
        with self.assertRaises(BadArgumentValueError):
            BlobStoreFiles.at(self.folder / "no.db").export(store, KEY, 4)
        store.close()
