"""What every test gets: a directory of its own to work in."""

import pytest


@pytest.fixture(autouse=True)
def _own_directory(tmp_path, monkeypatch):
    """Trial's ``mktemp`` makes directories where the test runs: let that be a temporary one."""
    monkeypatch.chdir(tmp_path)
