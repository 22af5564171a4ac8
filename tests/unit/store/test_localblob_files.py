"""The file of the local store of blobs, over both drivers: keys, damage, formats."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import BrokenStoreError, FormatError, InvalidBlobError
from ampgrid.formats.blobcipher import BlobCipher
from ampgrid.formats.blobname import BlobName
from ampgrid.formats.blobrows import Opener
from tests.drivers import OtherDriver
from tests.unit.store.localblob_case import KEY, NAME, PLAIN, SECRET, StoreCase, rows_of


class FileTests(StoreCase, SynchronousTestCase):
    def test_settings(self):
        def look(sql):
            return {
                name: sql.execute(f"PRAGMA {name}").fetchone()
                for name in (
                    "synchronous",
                    "journal_mode",
                    "cell_size_check",
                    "secure_delete",
                    "temp_store",
                )
            }

        expected = {
            "synchronous": (2,),
            "journal_mode": ("wal",),
            "cell_size_check": (1,),
            "secure_delete": (1,),
            # What is sorted would lie in clear in a file otherwise.
            "temp_store": (2,),
        }
        self.assertEqual(self.store.change(look), expected)

    def test_another_key_does_not_open_it(self):
        self.put(NAME, rows_of(1, 2))
        self.store.close()
        for key in (bytes(32), KEY[:-1] + b"x"):
            with self.assertRaises(FormatError) as caught:
                self.opened(key=key)
            self.assertIn("another key", str(caught.exception))
        self.store = self.opened()
        self.assertEqual(self.rows(NAME), rows_of(1, 2))

    def test_another_key_is_given(self):
        self.put(NAME, rows_of(1, 40, 5000))
        self.store.rekey(b"n" * 32)
        self.assertEqual(self.rows(NAME), rows_of(1, 40, 5000))
        self.put(BlobName.of("after"), rows_of(2, 2))
        self.store.close()
        with self.assertRaises(FormatError):
            self.opened()
        self.store = self.opened(key=b"n" * 32)
        self.assertEqual(self.rows(NAME), rows_of(1, 40, 5000))
        self.assertEqual(self.rows(BlobName.of("after")), rows_of(2, 2))

    def test_a_copy_under_another_key(self):
        self.put(NAME, rows_of(1, 40, 5000))
        copy = self.path.with_name("copy")
        self.store.copy_to(copy, b"c" * 32)
        self.put(BlobName.of("after"), rows_of(2, 2))
        self.assertEqual(copy.stat().st_mode & 0o777, 0o600)
        with self.assertRaises(FileExistsError):
            self.store.copy_to(copy, b"c" * 32)
        self.store.close()
        self.store = self.opened(copy, b"c" * 32)
        self.assertEqual(self.store.ids("default"), ["blob"])
        self.assertEqual(self.rows(NAME), rows_of(1, 40, 5000))
        self.put(BlobName.of("after"), rows_of(3, 2))

    def looks_damaged(self):
        """Open the file and look at all of it; what opens at all is what was put."""
        try:
            store = self.opened()
        except FormatError:
            return True
        try:
            for number in range(4):
                blob = store.find(BlobName.of(f"b{number}"))
                opener = Opener(SECRET, blob.name, blob.sealed_size)
                for row in opener.feed(b"".join(store.rows(blob, 0, blob.rows))):
                    self.assertEqual(row.plain or PLAIN, PLAIN)
            return store.check() != []
        except BrokenStoreError:
            # Then a look at all of it tells of that, whichever driver it is.
            self.assertNotEqual(store.check(), [])
            return True
        except InvalidBlobError:
            return True
        finally:
            store.close()

    def test_a_byte_that_rots_is_found(self):
        """Also where SQLCipher does not notice: it gives zeros for a long row's damaged page."""
        for number in range(4):
            name = BlobName.of(f"b{number}")
            cipher = BlobCipher.sealing(SECRET, name, len(PLAIN), os.urandom)
            self.put(name, [cipher.preamble.data, cipher.seal(0, PLAIN)])
        self.store.close()
        content = self.path.read_bytes()
        for at in range(len(content) // 3, len(content) - 1, len(content) // 11):
            self.path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            self.assertTrue(self.looks_damaged(), at)
        self.path.write_bytes(content)
        self.assertFalse(self.looks_damaged())

    def test_rows_that_are_missing_are_missed(self):
        self.put(NAME, rows_of(1, 5))
        blob = self.store.find(NAME)
        self.store.change(
            lambda sql: sql.execute("DELETE FROM chunks WHERE data = ?", (rows_of(1, 5)[2],))
        )
        with self.assertRaises(InvalidBlobError):
            self.store.rows(blob, 0, 5)

    def test_it_finds_nothing_wrong_with_itself(self):
        self.put(NAME, rows_of(1, 5))
        self.assertEqual(self.store.check(), [])


class UpgradeTests(StoreCase, SynchronousTestCase):
    def test_a_store_of_the_first_version_knows_which_blobs_are_of_other_schemes(self):
        other = BlobName.of("other")
        self.put(NAME, rows_of(1, 2))
        self.want(other)
        self.fetch(other, rows_of(2, 2))

        def back(sql):
            sql.execute("DROP INDEX blobs_external")
            sql.execute("ALTER TABLE blobs DROP COLUMN external")
            sql.execute("PRAGMA user_version=1")

        self.store.change(back)
        self.store.close()
        self.store = self.opened()
        self.assertEqual(self.rows(NAME), rows_of(1, 2))
        external = "SELECT blob_id FROM blobs WHERE external = 1"
        found = self.store.change(lambda sql: sql.execute(external).fetchall())
        self.assertEqual(found, [("other",)])


class OtherDriverFileTests(OtherDriver, FileTests):
    """The same over pysqlcipher3."""


class TwoFormatsTests(StoreCase, SynchronousTestCase):
    """What one driver wrote and the other one is to read."""

    skip = OtherDriver.skip

    def setUp(self):
        self.use("sqlcipher3")
        super().setUp()

    def use(self, driver):
        self.patch(os, "environ", {**os.environ, "AMPGRID_SQLCIPHER": driver})

    def test_the_error_says_what_to_do(self):
        self.put(NAME, rows_of(1, 2))
        self.store.close()
        self.use("pysqlcipher3")
        with self.assertRaises(FormatError) as caught:
            self.opened()
        self.assertIn("AMPGRID_SQLCIPHER=sqlcipher3", str(caught.exception))
        other = self.path.with_name("other")
        self.opened(other).close()
        self.use("sqlcipher3")
        with self.assertRaises(FormatError) as caught:
            self.opened(other)
        self.assertIn("AMPGRID_SQLCIPHER=pysqlcipher3", str(caught.exception))
        with self.assertRaises(FormatError) as caught:
            self.opened(other, bytes(32))
        self.assertNotIn("pysqlcipher3", str(caught.exception))

    def test_a_copy_in_the_format_of_the_other(self):
        self.put(NAME, rows_of(1, 40, 5000))
        other = self.path.with_name("other")
        self.store.copy_to(other, KEY, 3)
        self.store.close()
        self.use("pysqlcipher3")
        self.store = self.opened(other)
        self.assertEqual(self.rows(NAME), rows_of(1, 40, 5000))
