"""File systems for tests: one that counts its calls and fails some of them."""

from __future__ import annotations

import errno

from ampgrid.store import PosixFileSystem

#: Calls that change nothing; a fault in one of the others is a fault of writing.
READING = frozenset({"names", "open_read", "read_at", "read_at_once", "size_of", "free_bytes"})

OPERATIONS = frozenset(name for name in vars(PosixFileSystem) if not name.startswith("_"))


class FaultyFileSystem:
    """The real file system, failing as it is told.

    Attributes:
        calls: the names of all calls so far.
        fail_at: number of the call (from 0) from which it fails, or None.
        lasting: whether every later call of that name fails too.
        only: the names that can fail.
        error: the errno.
    """

    def __init__(self, only=OPERATIONS):
        self.real = PosixFileSystem()
        self.calls = []
        self.only = only
        self.fail_at = None
        self.lasting = False
        self.error = errno.EIO
        self.failed = None

    def __getattr__(self, name):
        if name not in OPERATIONS:
            raise AttributeError(name)
        real = getattr(self.real, name)

        def call(*arguments):
            if name in self.only:
                number = len(self.calls)
                self.calls.append(name)
                fresh = self.failed is None and number == self.fail_at
                if fresh or (self.lasting and name == self.failed):
                    self.failed = name
                    if name == "close":
                        real(*arguments)  # as Linux does: the descriptor is gone
                    raise OSError(self.error, "planned")
            return real(*arguments)

        return call

    def plan(self, fail_at, *, error=errno.EIO, lasting=False):
        """Count from 0 again, and fail the call of that number."""
        self.calls = []
        self.failed = None
        self.fail_at = fail_at
        self.error = error
        self.lasting = lasting

    def heal(self):
        """Fail no more."""
        self.plan(None)
