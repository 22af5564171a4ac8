"""Secret files."""

import os
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.keyfile import read_secret_file, write_secret_file
from ampgrid.errors import ConfigError


class KeyFileTest(SynchronousTestCase):
    def setUp(self):
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = self.directory / "secret"

    def test_round_trip_leaves_one_private_file(self):
        write_secret_file(self.path, b"\0key")
        self.assertEqual(read_secret_file(self.path), b"\0key")
        self.assertEqual(self.path.stat().st_mode & 0o7777, 0o600)
        self.assertEqual(self.path.stat().st_nlink, 1)
        self.assertEqual(os.listdir(self.directory), ["secret"])

    def test_the_umask_does_not_matter(self):
        before = os.umask(0)
        try:
            write_secret_file(self.path, b"key")
        finally:
            os.umask(before)
        self.assertEqual(self.path.stat().st_mode & 0o7777, 0o600)

    def test_never_replaces(self):
        write_secret_file(self.path, b"first")
        error = self.assertRaises(ConfigError, write_secret_file, self.path, b"second")
        self.assertNotIn("second", str(error))
        self.assertEqual(read_secret_file(self.path), b"first")
        self.assertEqual(os.listdir(self.directory), ["secret"])

    def test_never_writes_through_a_dangling_link(self):
        self.path.symlink_to(self.directory / "elsewhere")
        self.assertRaises(ConfigError, write_secret_file, self.path, b"key")
        self.assertEqual(os.listdir(self.directory), ["secret"])

    def test_no_directory(self):
        self.assertRaises(ConfigError, write_secret_file, self.directory / "no" / "x", b"key")

    def test_open_to_others(self):
        write_secret_file(self.path, b"key")
        for mode in (0o640, 0o604, 0o620, 0o601, 0o666):
            self.path.chmod(mode)
            error = self.assertRaises(ConfigError, read_secret_file, self.path)
            self.assertIn("chmod 600", str(error))
        self.path.chmod(0o400)
        self.assertEqual(read_secret_file(self.path), b"key")

    def test_too_large(self):
        write_secret_file(self.path, b"12345")
        self.assertEqual(read_secret_file(self.path, most=5), b"12345")
        self.assertRaises(ConfigError, read_secret_file, self.path, most=4)

    def test_what_is_no_file(self):
        write_secret_file(self.path, b"key")
        link, pipe = self.directory / "link", self.directory / "pipe"
        link.symlink_to(self.path)
        os.mkfifo(pipe, 0o600)
        for path in (link, pipe, self.directory, self.directory / "absent"):
            self.assertRaises(ConfigError, read_secret_file, path)

    def test_of_another_user(self):
        if os.geteuid() != 0:
            self.skipTest("only root can give a file away")
        write_secret_file(self.path, b"key")
        os.chown(self.path, 12345, -1)
        error = self.assertRaises(ConfigError, read_secret_file, self.path)
        self.assertIn("another user", str(error))
