"""Tests that share something costly are run by one worker, so that it is made once.

What a test shares is known to the workers, which collect it; who distributes the tests reads it
from a file that they write. (The markers of xdist for this are lost on pytest 9.2.)
"""

from __future__ import annotations

import json
import unittest
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.hygiene_plugin import current

_FILE = "shared-by-tests"


def shared_by(item: Any) -> str | None:
    """Return a name for what a test shares with others, None if that is nothing.

    A class tells it as ``shared()``; else it is what ``setUpClass`` makes.
    """
    told = getattr(item.cls, "shared", None)
    if told is not None:
        return str(told())
    made = getattr(item.cls, "setUpClass", None)
    if made is None or made.__func__ is unittest.TestCase.setUpClass.__func__:
        return None
    return f"{item.module.__name__}.{item.cls.__name__}"


def _file_of_this_run() -> Path:
    run = current()
    assert run is not None
    return run.root / _FILE


# First: after it the worker tells that it has collected.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        shared = {item.nodeid: shared_by(item) for item in session.items}
        path = _file_of_this_run()
        # All workers write the same: whole, whenever it is read.
        own = path.with_name(f"{_FILE}-{session.config.workerinput['workerid']}")
        own.write_text(json.dumps(shared), "utf-8")
        own.replace(path)


class SharingScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """What shares something is one unit of work; each other test is one. Large units first."""

    @cached_property
    def _shared(self) -> dict[str, str | None]:
        path = _file_of_this_run()
        shared: dict[str, str | None] = json.loads(path.read_text("utf-8"))
        path.unlink()
        return shared

    def _split_scope(self, nodeid: str) -> str:
        return self._shared[nodeid] or nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute tests so, unless another way was asked for."""
    return SharingScheduling(config, log) if config.getvalue("dist") == "load" else None
