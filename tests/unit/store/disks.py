"""Disks for tests that fail in one way at one place, over `ampgrid.testing.faults`."""

from __future__ import annotations

import errno

from ampgrid.testing.faults import READING, WRITING, FailingFileSystem, Fault, FaultPlan

__all__ = ["READING", "WRITING", "FaultyFileSystem"]


class FaultyFileSystem(FailingFileSystem):
    """The real file system, failing as it is told.

    Attributes:
        calls: the names of all calls so far.
        failed: the name of the call that failed first, or None.
    """

    def __init__(self, only=READING | WRITING):
        super().__init__(FaultPlan(frozenset(only)))

    @property
    def calls(self):
        return self.faults.calls

    @property
    def failed(self):
        return self.faults.failed

    def plan(self, fail_at, *, error=errno.EIO, lasting=False, only=READING | WRITING):
        """Count from 0 again, and fail the call of that number (and, if lasting, all after)."""
        fault = Fault("planned", error, frozenset(only))
        self.faults.set(fail_at, fault, lasting=lasting)

    def heal(self):
        """Fail no more."""
        self.plan(None)
