"""The real file system."""

from __future__ import annotations

import os
import stat
import unittest
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.store import filesystem
from ampgrid.store.filesystem import HastyFileSystem, PosixFileSystem


class PosixFileSystemTests(SynchronousTestCase):
    def setUp(self):
        self.files = PosixFileSystem()
        self.root = Path(self.mktemp())
        self.root.mkdir(parents=True)
        self.path = self.root / "file"

    def open(self):
        descriptor = self.files.open_new(self.path)
        self.addCleanup(self.files.close, descriptor)
        return descriptor

    def test_written_buffers_follow_each_other(self):
        descriptor = self.open()
        self.files.write_at(descriptor, 3, [b"one", b"", b"two"])
        self.files.write_at(descriptor, 0, [b"..."])
        self.assertEqual(self.files.read_at(descriptor, 0, 100), b"...onetwo")
        self.assertEqual(self.files.read_at(descriptor, 4, 2), b"ne")
        self.assertEqual(self.files.read_at(descriptor, 50, 2), b"")

    def test_more_buffers_than_one_call_takes(self):
        descriptor = self.open()
        buffers = [b"%04d" % n for n in range(3000)]
        self.files.write_at(descriptor, 0, buffers)
        self.assertEqual(self.files.read_at(descriptor, 0, 20_000), b"".join(buffers))

    def test_short_writes_are_continued(self):
        """The system may write any part; every split gives the same file."""
        real = os.pwritev
        descriptor = self.open()

        @settings(max_examples=60)
        @given(
            st.lists(st.binary(max_size=9), max_size=8),
            st.lists(st.integers(1, 7), min_size=1, max_size=5),
        )
        def check(buffers, takes):
            os.ftruncate(descriptor, 0)
            takes = takes * 100

            def stingy(file, waiting, offset):
                most = takes.pop()
                return real(file, [b"".join(bytes(part) for part in waiting)[:most]], offset)

            self.patch(filesystem.os, "pwritev", stingy)
            try:
                self.files.write_at(descriptor, 5, buffers)
            finally:
                self.patch(filesystem.os, "pwritev", real)
            self.assertEqual(self.files.read_at(descriptor, 5, 1000), b"".join(buffers))

        check()

    def test_read_at_once_is_all_or_nothing(self):
        descriptor = self.open()
        self.files.write_at(descriptor, 0, [b"0123456789"])
        found = self.files.read_at_once(descriptor, 2, 5)
        self.assertIn(found, (None, b"23456"))
        self.assertIsNone(self.files.read_at_once(descriptor, 8, 5))

    def test_new_files_are_new_and_private(self):
        self.open()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        with self.assertRaises(FileExistsError):
            self.files.open_new(self.path)

    def test_links_are_not_followed(self):
        self.path.symlink_to(self.root / "elsewhere")
        for call in (self.files.open_new, self.files.open_again, self.files.open_read):
            with self.assertRaises(OSError):
                call(self.path)
        self.assertIsNone(self.files.size_of(self.path))

    def test_directories(self):
        folder = self.root / "folder"
        for _ in range(2):
            self.files.make_directory(folder)
        self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o700)
        self.open()
        self.files.rename(self.path, folder / "b")
        self.files.fsync_directory(folder)
        self.assertEqual(self.files.names(folder), ["b"])
        self.assertEqual(self.files.size_of(folder / "b"), 0)
        self.assertIsNone(self.files.size_of(folder))
        for _ in range(2):
            self.files.unlink(folder / "b")
        self.assertEqual(self.files.names(self.root / "none"), [])
        self.assertEqual(self.files.names(folder), [])
        self.assertGreater(self.files.free_bytes(self.root), 0)

    def test_what_is_hasty_waits_for_no_disk(self):
        """And differs in nothing else."""
        waits = []
        self.patch(os, "fsync", waits.append)
        for files, waited in ((PosixFileSystem(), 2), (HastyFileSystem(), 0)):
            waits.clear()
            descriptor = files.open_new(self.root / f"{waited}")
            self.addCleanup(files.close, descriptor)
            files.write_at(descriptor, 0, [b"data"])
            files.fsync(descriptor)
            files.fsync_directory(self.root)
            self.assertEqual(len(waits), waited)
            self.assertEqual(files.durable, bool(waited))
            self.assertEqual(files.read_at(descriptor, 0, 9), b"data")
        own = set(vars(HastyFileSystem)) - {"__module__", "__doc__"}
        self.assertEqual(own, {"durable", "start_sync", "fsync", "fsync_directory"})

    def test_failures_are_told(self):
        if not Path("/dev/full").exists():
            raise unittest.SkipTest("no /dev/full here")
        descriptor = os.open("/dev/full", os.O_WRONLY)
        self.addCleanup(os.close, descriptor)
        with self.assertRaises(OSError):
            self.files.write_at(descriptor, 0, [b"x"])


class StartSyncTests(SynchronousTestCase):
    def test_it_changes_nothing_and_never_fails(self):
        for files in (PosixFileSystem(), HastyFileSystem()):
            path = Path(self.mktemp())
            descriptor = files.open_new(path)
            files.write_at(descriptor, 0, [b"some", b"thing"])
            files.start_sync(descriptor)
            self.assertEqual(files.read_at(descriptor, 0, 20), b"something")
            files.fsync(descriptor)
            files.close(descriptor)
            files.start_sync(descriptor)
            self.assertEqual(path.read_bytes(), b"something")
