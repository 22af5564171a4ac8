"""The drivers of SQLCipher under which the suites of databases run."""

from __future__ import annotations

import importlib.util
import os

#: Set where both drivers must be there, as in `.ci/run`: nothing is skipped then, it fails.
BOTH = "AMPGRID_TEST_BOTH_DRIVERS"


def skip_without_other_driver() -> str | None:
    """Return why suites over pysqlcipher3 are skipped, None if they are run."""
    if importlib.util.find_spec("pysqlcipher3") is not None or os.environ.get(BOTH):
        return None
    return "pysqlcipher3 is not installed"


class OtherDriver:
    """Mix into a test case, first of all: it runs over pysqlcipher3."""

    skip = skip_without_other_driver()

    def setUp(self):
        self.patch(os, "environ", {**os.environ, "AMPGRID_SQLCIPHER": "pysqlcipher3"})
        super().setUp()
